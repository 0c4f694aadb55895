#include "fibre.h"

#include <stdint.h>
#include <string.h>

#ifdef FIBRE_OWN

/* Saves what a function has to preserve, and the stack pointer. */
void fibre_exchange(void **from, void *to);
#if defined(__x86_64__)
enum { SAVED = 6, ENTRY = 6, TOP = 2 };
__asm__(".text\n"
        ".globl fibre_exchange\n"
        ".hidden fibre_exchange\n"
        ".type fibre_exchange, @function\n"
        "fibre_exchange:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size fibre_exchange, .-fibre_exchange\n");
#else
enum { SAVED = 20, ENTRY = 11, TOP = 0 };
__asm__(".text\n"
        ".globl fibre_exchange\n"
        ".hidden fibre_exchange\n"
        ".type fibre_exchange, %function\n"
        "fibre_exchange:\n"
        "    sub sp, sp, #160\n"
        "    stp x19, x20, [sp, #0]\n"
        "    stp x21, x22, [sp, #16]\n"
        "    stp x23, x24, [sp, #32]\n"
        "    stp x25, x26, [sp, #48]\n"
        "    stp x27, x28, [sp, #64]\n"
        "    stp x29, x30, [sp, #80]\n"
        "    stp d8, d9, [sp, #96]\n"
        "    stp d10, d11, [sp, #112]\n"
        "    stp d12, d13, [sp, #128]\n"
        "    stp d14, d15, [sp, #144]\n"
        "    mov x9, sp\n"
        "    str x9, [x0]\n"
        "    mov sp, x1\n"
        "    ldp x19, x20, [sp, #0]\n"
        "    ldp x21, x22, [sp, #16]\n"
        "    ldp x23, x24, [sp, #32]\n"
        "    ldp x25, x26, [sp, #48]\n"
        "    ldp x27, x28, [sp, #64]\n"
        "    ldp x29, x30, [sp, #80]\n"
        "    ldp d8, d9, [sp, #96]\n"
        "    ldp d10, d11, [sp, #112]\n"
        "    ldp d12, d13, [sp, #128]\n"
        "    ldp d14, d15, [sp, #144]\n"
        "    add sp, sp, #160\n"
        "    ret\n"
        ".size fibre_exchange, .-fibre_exchange\n");
#endif

/* The stack as fibre_exchange would have left it, about to return into body; on x86-64 TOP words
 * above that make the stack as aligned as behind a call. */
void fibre_make(fibre *f, void *stack, size_t bytes, void (*body)(void)) {
    uintptr_t *sp = (uintptr_t *)stack + bytes / sizeof(uintptr_t) - SAVED - TOP;
    memset(sp, 0, (SAVED + TOP) * sizeof *sp);
    sp[ENTRY] = (uintptr_t)body;
    *f = sp;
}

void fibre_switch(fibre *from, const fibre *to) {
    fibre_exchange(from, *to);
}

#else

void fibre_make(fibre *f, void *stack, size_t bytes, void (*body)(void)) {
    getcontext(f);
    f->uc_stack.ss_sp = stack;
    f->uc_stack.ss_size = bytes;
    f->uc_link = NULL;
    makecontext(f, body, 0);
}

void fibre_switch(fibre *from, const fibre *to) {
    swapcontext(from, to);
}

#endif
