/* Fibres: stacks that are switched between by hand. */
#ifndef FIBRE_H
#define FIBRE_H

#include <stddef.h>

/* FIBRE_PORTABLE: also where there is a switch of our own, for the tests. */
#if (defined(__x86_64__) || defined(__aarch64__)) && !defined(FIBRE_PORTABLE)
#define FIBRE_OWN 1
typedef void *fibre; /* its stack pointer, while it does not run */
#else
#include <ucontext.h>
typedef ucontext_t fibre;
#endif

/* Makes a fibre that runs body() on the stack when it is first switched to; body never returns. */
void fibre_make(fibre *f, void *stack, size_t bytes, void (*body)(void));

/* Keeps the running fibre in `from` and goes on with `to`. */
void fibre_switch(fibre *from, const fibre *to);

#endif
