/* What the algorithms need of the compiler. Internal. */
#ifndef DYNK_COMPILER_H
#define DYNK_COMPILER_H

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(undefined_behavior_sanitizer)
#define DYNK_SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define DYNK_SANITIZED
#endif

/* Tiles are constants, so everything is inlined, and accumulators live in arrays, whose loops must
 * be unrolled (the count is more than any of them has) for the arrays to become registers. Outer
 * loops must not be: that only spills; but the innermost of a tile are better doubled by gcc, whose
 * jump costs a cycle in some of them. Under a sanitizer the algorithms stay functions with loops,
 * which checks the same index arithmetic on a thousandth of the code; builds that only have to be
 * there ask for that themselves. */
#ifdef DYNK_SANITIZED
#define DYNK_FLATTEN
#define DYNK_UNROLL
#define DYNK_ROLLED
#define DYNK_TWICE
#elif defined(__clang__)
#define DYNK_FLATTEN __attribute__((always_inline))
#define DYNK_UNROLL  _Pragma("clang loop unroll(full)")
#define DYNK_ROLLED  _Pragma("clang loop unroll(disable)")
#define DYNK_TWICE
#else
#define DYNK_FLATTEN __attribute__((always_inline))
#define DYNK_UNROLL  _Pragma("GCC unroll 32")
#define DYNK_ROLLED  _Pragma("GCC unroll 1")
#define DYNK_TWICE   _Pragma("GCC unroll 2")
#endif

/* Keeps the compiler from deriving an integer's value from others. */
#define DYNK_OPAQUE(integer) __asm__("" : "+r"(integer))

#endif
