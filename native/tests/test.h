/* The harness: counts what failed and goes on. */
#ifndef DYNOFA_TESTS_TEST_H
#define DYNOFA_TESTS_TEST_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

static int test_failures, test_checks;

#define CHECK(condition)                                                                           \
    (test_checks++, (condition) ? (void)0                                                          \
                                : (void)(test_failures++, printf("%s:%d: failed: %s\n", __FILE__,  \
                                                                 __LINE__, #condition)))

#define CHECK_IS(call, expected)                                                                   \
    do {                                                                                           \
        dynofa_status got_ = (call);                                                               \
        test_checks++;                                                                             \
        if (got_ != (expected)) {                                                                  \
            test_failures++;                                                                       \
            printf("%s:%d: %s is %s, expected %s (%s)\n", __FILE__, __LINE__, #call,               \
                   dynofa_status_name(got_), #expected, dynofa_error());                           \
        }                                                                                          \
    } while (0)

#define CHECK_OK(call) CHECK_IS(call, DYNOFA_OK)

/* A file in memory; size 0 if it cannot be read. */
typedef struct bytes {
    unsigned char *at;
    size_t size;
} bytes;

static inline bytes read_file(const char *path) {
    bytes b = {NULL, 0};
    FILE *f = fopen(path, "rb");
    if (f == NULL)
        return b;
    fseek(f, 0, SEEK_END);
    b.size = (size_t)ftell(f);
    rewind(f);
    b.at = malloc(b.size > 0 ? b.size : 1);
    if (fread(b.at, 1, b.size, f) != b.size)
        b.size = 0;
    fclose(f);
    return b;
}

static int test_result(void) {
    printf("%d checks, %d failed\n", test_checks, test_failures);
    return test_failures > 0;
}

#endif
