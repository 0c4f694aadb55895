/* PTX as it is run: between ptx_read.c and ptx_run.c. */
#ifndef PTX_CODE_H
#define PTX_CODE_H

#include "ptx.h"

/* Instructions that compute: as an identifier; the width of the result; the name; the widths of
 * all operands, l, w and h for 64, 32 and 16 bits, the result first; and the result, of operands A,
 * B and C that are words, AL, BL and CL that are longs, AF, BF and CF that are floats. */
#define COMPUTATIONS(OP)                                                                           \
    OP(mov_u32, w, "mov.u32", "ww", A)                                                             \
    OP(mov_b32, w, "mov.b32", "ww", A)                                                             \
    OP(mov_f32, w, "mov.f32", "ww", A)                                                             \
    OP(mov_u64, l, "mov.u64", "ll", AL)                                                            \
    OP(mov_b64, l, "mov.b64", "ll", AL)                                                            \
    OP(cvta_to_global_u64, l, "cvta.to.global.u64", "ll", AL)                                      \
    OP(cvta_global_u64, l, "cvta.global.u64", "ll", AL)                                            \
    OP(cvt_u64_u32, l, "cvt.u64.u32", "lw", TO_LONGS(A))                                           \
    OP(cvt_u32_u64, w, "cvt.u32.u64", "wl", TO_WORDS(AL))                                          \
    OP(cvt_u32_u16, w, "cvt.u32.u16", "wh", A)                                                     \
    OP(cvt_u16_u32, w, "cvt.u16.u32", "hw", A & 0xFFFF)                                            \
    OP(cvt_rn_f32_u32, w, "cvt.rn.f32.u32", "ww", LANES(floats, (float)A[l]))                      \
    OP(cvt_rna_tf32_f32, w, "cvt.rna.tf32.f32", "ww", LANES(words, emulator_tf32(AF[l])))          \
    OP(cvt_rn_f16x2_f32, w, "cvt.rn.f16x2.f32", "www",                                             \
       LANES(words, emulator_fp16(AF[l]) << 16 | emulator_fp16(BF[l])))                            \
    OP(add_s16, w, "add.s16", "hhh", (A + B) & 0xFFFF)                                             \
    OP(sub_s16, w, "sub.s16", "hhh", (A - B) & 0xFFFF)                                             \
    OP(mul_lo_s16, w, "mul.lo.s16", "hhh", A *B & 0xFFFF)                                          \
    OP(mul_hi_u16, w, "mul.hi.u16", "hhh", A *B >> 16)                                             \
    OP(mul_wide_u16, w, "mul.wide.u16", "whh", A *B)                                               \
    OP(or_b16, w, "or.b16", "hhh", A | B)                                                          \
    OP(and_b16, w, "and.b16", "hhh", A &B)                                                         \
    OP(shl_b16, w, "shl.b16", "hhw", (words)(B < 16) & (A << (B & 31)) & 0xFFFF)                   \
    OP(shr_u16, w, "shr.u16", "hhw", (words)(B < 16) & (A >> (B & 31)))                            \
    OP(add_s32, w, "add.s32", "www", A + B)                                                        \
    OP(sub_s32, w, "sub.s32", "www", A - B)                                                        \
    OP(neg_s32, w, "neg.s32", "ww", -A)                                                            \
    OP(mul_lo_s32, w, "mul.lo.s32", "www", A *B)                                                   \
    OP(mul_hi_u32, w, "mul.hi.u32", "www", TO_WORDS(TO_LONGS(A) * TO_LONGS(B) >> 32))              \
    OP(mul_wide_u32, l, "mul.wide.u32", "lww", TO_LONGS(A) * TO_LONGS(B))                          \
    OP(mad_lo_s32, w, "mad.lo.s32", "wwww", A *B + C)                                              \
    OP(div_u32, w, "div.u32", "www", LANES(words, B[l] == 0 ? UINT32_MAX : A[l] / B[l]))           \
    OP(rem_u32, w, "rem.u32", "www", LANES(words, B[l] == 0 ? A[l] : A[l] % B[l]))                 \
    OP(max_u32, w, "max.u32", "www", CHOOSE((words)(A > B), A, B))                                 \
    OP(min_u32, w, "min.u32", "www", CHOOSE((words)(A < B), A, B))                                 \
    OP(and_b32, w, "and.b32", "www", A &B)                                                         \
    OP(or_b32, w, "or.b32", "www", A | B)                                                          \
    OP(xor_b32, w, "xor.b32", "www", A ^ B)                                                        \
    OP(shl_b32, w, "shl.b32", "www", (words)(B < 32) & (A << (B & 31)))                            \
    OP(shr_u32, w, "shr.u32", "www", (words)(B < 32) & (A >> (B & 31)))                            \
    OP(bfe_u32, w, "bfe.u32", "wwww",                                                              \
       LANES(words,                                                                                \
             (uint32_t)((uint64_t)A[l] >> (B[l] & 63)) & (uint32_t)((1ULL << (C[l] & 63)) - 1)))   \
    OP(and_pred, w, "and.pred", "www", A &B)                                                       \
    OP(or_pred, w, "or.pred", "www", A | B)                                                        \
    OP(setp_eq_s32, w, "setp.eq.s32", "www", A == B)                                               \
    OP(setp_ne_s32, w, "setp.ne.s32", "www", A != B)                                               \
    OP(setp_lt_u32, w, "setp.lt.u32", "www", A < B)                                                \
    OP(setp_le_u32, w, "setp.le.u32", "www", A <= B)                                               \
    OP(setp_gt_u32, w, "setp.gt.u32", "www", A > B)                                                \
    OP(setp_ge_u32, w, "setp.ge.u32", "www", A >= B)                                               \
    OP(setp_eq_s64, w, "setp.eq.s64", "wll", __builtin_convertvector(AL == BL, signed_words))      \
    OP(setp_ne_s64, w, "setp.ne.s64", "wll", __builtin_convertvector(AL != BL, signed_words))      \
    OP(setp_lt_f32, w, "setp.lt.f32", "www", AF < BF)                                              \
    OP(setp_gt_f32, w, "setp.gt.f32", "www", AF > BF)                                              \
    OP(selp_b32, w, "selp.b32", "wwww", CHOOSE(C, A, B))                                           \
    OP(selp_f32, w, "selp.f32", "wwww", CHOOSE(C, A, B))                                           \
    OP(selp_b64, l, "selp.b64", "lllw", CHOOSE(MASK_LONGS(C), AL, BL))                             \
    OP(add_s64, l, "add.s64", "lll", AL + BL)                                                      \
    OP(mul_lo_s64, l, "mul.lo.s64", "lll", AL *BL)                                                 \
    OP(mad_lo_s64, l, "mad.lo.s64", "llll", AL *BL + CL)                                           \
    OP(and_b64, l, "and.b64", "lll", AL &BL)                                                       \
    OP(or_b64, l, "or.b64", "lll", AL | BL)                                                        \
    OP(shl_b64, l, "shl.b64", "llw", MASK_LONGS(B < 64) & (AL << TO_LONGS(B & 63)))                \
    OP(shr_u64, l, "shr.u64", "llw", MASK_LONGS(B < 64) & (AL >> TO_LONGS(B & 63)))                \
    OP(add_rn_f32, w, "add.rn.f32", "www", AF + BF)                                                \
    OP(mul_rn_f32, w, "mul.rn.f32", "www", AF *BF)                                                 \
    OP(div_rn_f32, w, "div.rn.f32", "www", AF / BF)                                                \
    OP(fma_rn_f32, w, "fma.rn.f32", "wwww", LANES(floats, __builtin_fmaf(AF[l], BF[l], CF[l])))

typedef enum code {
    CODE_BRANCH,
    CODE_RETURN,
    CODE_BARRIER,
    CODE_MMA,
    CODE_LOAD,
    CODE_STORE,
    FIRST_COMPUTATION,
    BEFORE_COMPUTATIONS = FIRST_COMPUTATION - 1,
#define OP(id, width, name, operands, value) CODE_##id,
    COMPUTATIONS(OP)
#undef OP
} code;

enum { MOST_OPERANDS = 14, NAME = 64, NO_GUARD = 0xFFFF };

typedef enum space { SPACE_PARAM, SPACE_GLOBAL, SPACE_SHARED } space;

typedef struct instruction {
    uint16_t code;
    uint16_t guard; /* a predicate that the branch depends on, or NO_GUARD */
    uint8_t negate, space, size, count, halves;
    uint8_t wide; /* a load's register has 64 bits */
    uint16_t slot[MOST_OPERANDS];
    uint32_t target, line;
    int64_t offset;
} instruction;

/* Slots, of words and of longs, are registers, then constants. */
enum { SLOT_THREAD, SLOT_BLOCK_X, SLOT_BLOCK_Y, SLOT_BLOCK_Z, SPECIAL_SLOTS };

struct ptx_entry {
    struct ptx_entry *next;
    char name[NAME], parameter[NAME];
    size_t parameters;
    uint32_t most_threads, count;
    instruction *code;
    uint32_t words, longs;
    uint64_t *word_start, *long_start; /* what a slot holds when a block begins */
};

#endif
