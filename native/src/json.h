/* A pull parser for the JSON of a bundle: bounded, without allocation, never reading past its end.
 * Failures are sticky: after one, every function returns false and changes nothing. */
#ifndef DYNOFA_JSON_H
#define DYNOFA_JSON_H

#include "internal.h"

/* Text between quotes as it stands in the file, with its escapes, which are well-formed. */
typedef struct span {
    const char *at;
    size_t size;
} span;

/* The keys of an object so far, for json_field. Starts as zero. */
typedef struct json_fields {
    bool later; /* than the first */
    uint32_t count;
    span key[32];
} json_fields;

typedef struct json {
    const char *start, *at, *end;
    const char *wrong; /* what was expected where parsing stopped, NULL while all is well */
} json;

json json_of(const char *text, size_t size);

/* Objects: json_open(j, '{'), then while (json_key(j, &key)) read or skip its value. Lists:
 * json_open(j, '['), then while (json_item(j)) read or skip the item. Both loops end after the
 * closing bracket or at a failure. `first` starts as true. */
bool json_open(json *j, char bracket);
bool json_key(json *j, bool *first, span *key);
bool json_item(json *j, bool *first);
/* json_key for an object of at most 32 keys, which must differ and have no escapes: two readers of
 * one file then cannot read different things. */
bool json_field(json *j, json_fields *seen, span *key);

bool json_string(json *j, span *out);
bool json_integer(json *j, int64_t *out); /* digits with an optional sign, no fraction */
bool json_number(json *j, double *out);
bool json_bool(json *j, bool *out);
bool json_skip(json *j);
bool json_null(json *j); /* true and past it if a null comes next */
bool json_end(json *j);  /* only white space and zero bytes are left */

bool span_is(span s, const char *text);

/* Turns the escapes of a string into UTF-8; out has room for s.size bytes. Returns the length. */
size_t span_decode(span s, char *out);

#endif
