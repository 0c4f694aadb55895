#include "json.h"

#include <math.h>
#include <string.h>

enum { MAX_NESTING = 64 };

json json_of(const char *text, size_t size) {
    return (json){text, text, text + size, NULL};
}

static bool wrong(json *j, const char *expected) {
    if (j->wrong == NULL)
        j->wrong = expected;
    return false;
}

static void spaces(json *j) {
    while (j->at < j->end && (*j->at == ' ' || *j->at == '\t' || *j->at == '\n' || *j->at == '\r'))
        j->at++;
}

/* The next character after white space, 0 at the end. */
static char peek(json *j) {
    spaces(j);
    return j->at < j->end ? *j->at : '\0';
}

static bool literal(json *j, const char *text) {
    size_t n = strlen(text);
    if (j->wrong != NULL || peek(j) != text[0] || (size_t)(j->end - j->at) < n ||
        memcmp(j->at, text, n) != 0)
        return false;
    j->at += n;
    return true;
}

bool json_open(json *j, char bracket) {
    if (j->wrong != NULL)
        return false;
    if (peek(j) != bracket)
        return wrong(j, bracket == '{' ? "an object" : "a list");
    j->at++;
    return true;
}

/* Steps over the comma before an element, or over the closing bracket. */
static bool next(json *j, bool *first, char bracket) {
    if (j->wrong != NULL)
        return false;
    char c = peek(j);
    if (c == bracket) {
        j->at++;
        return false;
    }
    if (*first) {
        *first = false;
        return true;
    }
    if (c != ',')
        return wrong(j, bracket == '}' ? "a comma or }" : "a comma or ]");
    j->at++;
    return true;
}

bool json_key(json *j, bool *first, span *key) {
    if (!next(j, first, '}') || !json_string(j, key))
        return false;
    if (peek(j) != ':')
        return wrong(j, "a colon");
    j->at++;
    return true;
}

bool json_field(json *j, json_fields *seen, span *key) {
    bool first = !seen->later;
    if (!json_key(j, &first, key))
        return false;
    seen->later = true;
    if (memchr(key->at, '\\', key->size) != NULL)
        return wrong(j, "a key without escapes");
    for (uint32_t i = 0; i < seen->count; i++)
        if (seen->key[i].size == key->size && memcmp(seen->key[i].at, key->at, key->size) == 0)
            return wrong(j, "no key twice");
    if (seen->count == sizeof seen->key / sizeof seen->key[0])
        return wrong(j, "at most 32 keys");
    seen->key[seen->count++] = *key;
    return true;
}

bool json_item(json *j, bool *first) {
    return next(j, first, ']');
}

static bool hex4(const char *p, const char *end, unsigned *out) {
    if (end - p < 4)
        return false;
    *out = 0;
    for (int i = 0; i < 4; i++) {
        char c = p[i];
        unsigned d = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                     : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A') + 10
                                            : 16;
        if (d > 15)
            return false;
        *out = *out * 16 + d;
    }
    return true;
}

static const char escapes[] = "\"\\/bfnrt";

/* The last character of an escape that begins with the backslash at p, NULL if it is malformed. */
static const char *escape_end(const char *p, const char *end) {
    unsigned code;
    if (++p == end || *p == '\0')
        return NULL;
    if (*p == 'u')
        return hex4(p + 1, end, &code) ? p + 4 : NULL;
    return strchr(escapes, *p) != NULL ? p : NULL;
}

bool json_string(json *j, span *out) {
    if (j->wrong != NULL)
        return false;
    if (peek(j) != '"')
        return wrong(j, "a string");
    const char *p = j->at + 1;
    for (; p < j->end && *p != '"'; p++) {
        if ((unsigned char)*p < 0x20)
            return wrong(j, "a string without control characters");
        if (*p == '\\') {
            p = escape_end(p, j->end);
            if (p == NULL)
                return wrong(j, "a string without malformed escapes");
        }
    }
    if (p == j->end)
        return wrong(j, "the end of a string");
    *out = (span){j->at + 1, (size_t)(p - j->at - 1)};
    j->at = p + 1;
    return true;
}

static bool digit(const json *j) {
    return j->at < j->end && *j->at >= '0' && *j->at <= '9';
}

static bool leading_zero(const json *j) {
    return *j->at == '0' && j->end - j->at > 1 && j->at[1] >= '0' && j->at[1] <= '9';
}

bool json_integer(json *j, int64_t *out) {
    if (j->wrong != NULL)
        return false;
    bool negative = peek(j) == '-';
    if (negative)
        j->at++;
    if (!digit(j))
        return wrong(j, "an integer");
    if (leading_zero(j))
        return wrong(j, "an integer without leading zeros");
    int64_t v = 0;
    for (; digit(j); j->at++) {
        if (v > (INT64_MAX - 9) / 10)
            return wrong(j, "an integer below 2^63");
        v = v * 10 + (*j->at - '0');
    }
    if (j->at < j->end && (*j->at == '.' || *j->at == 'e' || *j->at == 'E'))
        return wrong(j, "an integer without a fraction");
    *out = negative ? -v : v;
    return true;
}

/* Exact, hence correctly rounded, for up to 15 digits and 22 powers of ten; else within a few units
 * in the last place. strtod would want a terminated text and the right locale. */
bool json_number(json *j, double *out) {
    if (j->wrong != NULL)
        return false;
    bool negative = peek(j) == '-';
    if (negative)
        j->at++;
    if (!digit(j))
        return wrong(j, "a number");
    if (leading_zero(j))
        return wrong(j, "a number without leading zeros");
    double v = 0;
    int scale = 0, digits = 0;
    bool fraction = false;
    for (; j->at < j->end && (digit(j) || (*j->at == '.' && !fraction)); j->at++) {
        if (*j->at == '.') {
            fraction = true;
            if (j->end - j->at < 2 || j->at[1] < '0' || j->at[1] > '9')
                return wrong(j, "a digit after the point");
            continue;
        }
        if (digits < 17) {
            v = v * 10 + (*j->at - '0');
            digits += v > 0;
            scale -= fraction;
        } else {
            scale += !fraction;
        }
        if (scale < -100000 || scale > 100000)
            return wrong(j, "a number of fewer digits");
    }
    if (j->at < j->end && (*j->at == 'e' || *j->at == 'E')) {
        j->at++;
        bool down = j->at < j->end && *j->at == '-';
        if (j->at < j->end && (*j->at == '-' || *j->at == '+'))
            j->at++;
        if (!digit(j))
            return wrong(j, "an exponent");
        int e = 0;
        for (; digit(j); j->at++)
            e = e > 9999 ? e : e * 10 + (*j->at - '0');
        scale += down ? -e : e;
    }
    v = scale < 0 ? v / pow(10, -scale) : v * pow(10, scale);
    *out = negative ? -v : v;
    return true;
}

bool json_bool(json *j, bool *out) {
    if (literal(j, "true"))
        *out = true;
    else if (literal(j, "false"))
        *out = false;
    else
        return wrong(j, "true or false");
    return true;
}

bool json_null(json *j) {
    return literal(j, "null");
}

static bool scalar(json *j) {
    span text;
    double number;
    switch (peek(j)) {
    case '"':
        return json_string(j, &text);
    case 't':
    case 'f':
    case 'n':
        return literal(j, "true") || literal(j, "false") || literal(j, "null") ||
               wrong(j, "a value");
    default:
        return json_number(j, &number) || wrong(j, "a value");
    }
}

/* Without recursion: the kinds of the open brackets lie on a small stack. */
bool json_skip(json *j) {
    bool object[MAX_NESTING], first[MAX_NESTING];
    int depth = 0;
    do {
        if (depth > 0) {
            span key;
            int d = depth - 1;
            bool more = object[d] ? json_key(j, &first[d], &key) : json_item(j, &first[d]);
            if (!more) {
                depth--;
                continue;
            }
        }
        char c = peek(j);
        if (c == '{' || c == '[') {
            if (depth == MAX_NESTING)
                return wrong(j, "at most 64 nested brackets");
            object[depth] = c == '{';
            first[depth++] = true;
            j->at++;
        } else if (j->wrong == NULL) {
            scalar(j);
        }
    } while (depth > 0 && j->wrong == NULL);
    return j->wrong == NULL;
}

bool json_end(json *j) {
    if (j->wrong != NULL)
        return false;
    while (j->at < j->end && (peek(j) == '\0') && j->at < j->end)
        j->at++;
    return j->at >= j->end || wrong(j, "nothing more");
}

bool span_is(span s, const char *text) {
    return s.size == strlen(text) && memcmp(s.at, text, s.size) == 0;
}

/* An escape \uXXXX is six bytes and at most three of UTF-8, so the result never grows. */
static size_t put_utf8(char *out, unsigned c) {
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    out[0] = (char)(0xe0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3f));
    out[2] = (char)(0x80 | (c & 0x3f));
    return 3;
}

size_t span_decode(span s, char *out) {
    static const char to[] = "\"\\/\b\f\n\r\t";
    const char *end = s.at + s.size;
    size_t n = 0;
    for (const char *p = s.at; p < end; p++) {
        unsigned code;
        if (*p != '\\') {
            out[n++] = *p;
        } else if (*++p != 'u') {
            out[n++] = to[strchr(escapes, *p) - escapes];
        } else if (hex4(p + 1, end, &code)) {
            /* Halves of surrogate pairs come out as three bytes each: labels and notes are not
             * looked at, and no key has one. */
            n += put_utf8(out + n, code);
            p += 4;
        }
    }
    return n;
}
