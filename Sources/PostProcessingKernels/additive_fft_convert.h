// From monomials to the Lin-Chung-Han basis and back, on bits: repeated division by s_16, s_8, ... whose terms are few. AVX-512 with VBMI2.
//
// With s_k(x) = x^(2^k) + x, a polynomial h x^D + l of 2 D bits is divided by s_k^(D / 2^k) = x^D + x^s: the first s bits of h take up its last s
// bits, then l takes up h << s. Included by additive_fft_gfni.c under its target attribute.
#pragma once
#include <immintrin.h>

#include "additive_fft_internal.h"

typedef __m512i V;
#define INLINE static inline __attribute__((always_inline))
#define UNROLLED _Pragma("clang loop unroll(full)")

INLINE V load(const void *p) { return _mm512_loadu_si512(p); }
INLINE void store(void *p, V v) { _mm512_storeu_si512(p, v); }
INLINE V xor2(V a, V b) { return _mm512_xor_si512(a, b); }
INLINE V xor3(V a, V b, V c) { return _mm512_ternarylogic_epi64(a, b, c, 0x96); }
/// a + (b where mask is set)
INLINE V xor_masked(V a, V b, V mask) { return _mm512_ternarylogic_epi64(a, b, mask, 0x78); }
INLINE V all16(int v) { return _mm512_set1_epi16((short)v); }
INLINE V all32(int v) { return _mm512_set1_epi32(v); }
INLINE V all64(uint64_t v) { return _mm512_set1_epi64((long long)v); }

/// The string ... previous, current moved up by `shift` bits (1 ... 64, 128 or 256).
INLINE V moved(V current, V previous, const int shift) {
    if (shift == 256) return _mm512_alignr_epi64(current, previous, 4);
    if (shift == 128) return _mm512_alignr_epi64(current, previous, 6);
    const V above = _mm512_alignr_epi64(current, previous, 7);
    return shift == 64 ? above : _mm512_shldv_epi64(current, above, all64((uint64_t)shift));
}

/// The first `shift` bits of `head` take up the last ones of `tail`.
INLINE V headed(V head, V tail, const int shift) {
    const V zero = _mm512_setzero_si512();
    return xor2(head, moved(zero, tail, shift));
}

/// One division of two halves of `count` vectors; `step` is the distance of the vectors at hand.
INLINE void divide(V *low, V *high, int count, const int shift, const int inverse) {
    if (!inverse) high[0] = headed(high[0], high[count - 1], shift);
    V previous = _mm512_setzero_si512();
    for (int i = 0; i < count; i++) {
        const V current = high[i];
        low[i] = xor2(low[i], moved(current, previous, shift));
        previous = current;
    }
    if (inverse) high[0] = headed(high[0], high[count - 1], shift);
}

/// The same with a shift by whole vectors.
INLINE void divide_whole(V *low, V *high, int count, int shift, const int inverse) {
    if (!inverse)
        for (int i = 0; i < shift; i++) high[i] = xor2(high[i], high[count - shift + i]);
    for (int i = 0; i < count - shift; i++) low[shift + i] = xor2(low[shift + i], high[i]);
    if (inverse)
        for (int i = 0; i < shift; i++) high[i] = xor2(high[i], high[count - shift + i]);
}

/// Four index bits at once: sixteen vectors (or what they stand for), in registers.
INLINE void convert16(V v[16], const int inverse) {
#define DIVIDE_AT(g, D, s)                                              \
    {                                                                   \
        if (!inverse)                                                   \
            UNROLLED for (int i = 0; i < s; i++) v[g + D + i] = xor2(v[g + D + i], v[g + 2 * D - s + i]); \
        UNROLLED for (int i = 0; i < D - s; i++) v[g + s + i] = xor2(v[g + s + i], v[g + D + i]); \
        if (inverse)                                                    \
            UNROLLED for (int i = 0; i < s; i++) v[g + D + i] = xor2(v[g + D + i], v[g + 2 * D - s + i]); \
    }
    if (!inverse) {
        DIVIDE_AT(0, 8, 2)
        UNROLLED for (int g = 0; g < 16; g += 8) DIVIDE_AT(g, 4, 1)
        UNROLLED for (int g = 0; g < 16; g += 4) DIVIDE_AT(g, 2, 1)
        DIVIDE_AT(0, 8, 4)
    } else {
        DIVIDE_AT(0, 8, 4)
        UNROLLED for (int g = 0; g < 16; g += 4) DIVIDE_AT(g, 2, 1)
        UNROLLED for (int g = 0; g < 16; g += 8) DIVIDE_AT(g, 4, 1)
        DIVIDE_AT(0, 8, 2)
    }
}

/// A step inside a register: `first` makes what the high part takes up from its own end, `second` what the low part takes up from it.
#define STEP(first, second) \
    {                       \
        if (!inverse) {     \
            first;          \
            second;         \
        } else {            \
            second;         \
            first;          \
        }                   \
    }

typedef struct {
    V end256, head128, low128, head32, low32, bytes, bytes_inverse;
} convert_tables;

/// By s_8 within a register.
INLINE V divide_vector(V v, const convert_tables *t, const int inverse) {
    STEP(v = xor2(v, _mm512_maskz_srli_epi64(0x10, _mm512_permutex_epi64(v, 0xFF), 63)),
         v = xor2(v, _mm512_shldi_epi64(_mm512_maskz_shuffle_i64x2(0x0F, v, v, 0x4E), _mm512_maskz_permutexvar_epi64(0x0E, t->end256, v), 1)))
    return v;
}

/// Divisions by powers of s_8 within eight vectors: D from 4 vectors down to half a one.
INLINE void divide_low(V *v, const convert_tables *t, const int inverse) {
    if (!inverse) {
        divide(v, v + 4, 4, 8, 0);
        UNROLLED for (int g = 0; g < 8; g += 4) divide(v + g, v + g + 2, 2, 4, 0);
        UNROLLED for (int g = 0; g < 8; g += 2) divide(v + g, v + g + 1, 1, 2, 0);
        UNROLLED for (int i = 0; i < 8; i++) v[i] = divide_vector(v[i], t, 0);
    } else {
        UNROLLED for (int i = 0; i < 8; i++) v[i] = divide_vector(v[i], t, 1);
        UNROLLED for (int g = 0; g < 8; g += 2) divide(v + g, v + g + 1, 1, 2, 1);
        UNROLLED for (int g = 0; g < 8; g += 4) divide(v + g, v + g + 2, 2, 4, 1);
        divide(v, v + 4, 4, 8, 1);
    }
}

/// Index bits 0 ... 7 of the two strings of 256 bits in a register.
INLINE V convert_low(V v, const convert_tables *t, const int inverse) {
#define D128                                                                                                                          \
    STEP(v = xor2(v, _mm512_shuffle_epi8(v, t->head128)), v = xor2(v, _mm512_shuffle_epi8(_mm512_permutex_epi64(v, 0x4E), t->low128)))
#define D64                                                                                       \
    STEP(v = xor2(v, _mm512_maskz_srli_epi64(0xAA, v, 60)),                                       \
         v = xor2(v, _mm512_maskz_slli_epi64(0x55, _mm512_shuffle_epi32(v, 0x4E), 4)))
#define D32                                                                             \
    STEP(v = xor_masked(v, _mm512_srli_epi64(v, 30), all64(0x300000000)), v = xor_masked(v, _mm512_srli_epi64(v, 30), all64(0xFFFFFFFC)))
#define D16 STEP(v = xor_masked(v, _mm512_srli_epi32(v, 15), all32(0x10000)), v = xor_masked(v, _mm512_srli_epi32(v, 15), all32(0xFFFE)))
#define D8 STEP(v = xor_masked(v, _mm512_srli_epi16(v, 6), all16(0x0300)), v = xor_masked(v, _mm512_srli_epi16(v, 6), all16(0x00FC)))
#define D8_4 STEP(v = xor_masked(v, _mm512_srli_epi16(v, 4), all16(0x0F00)), v = xor_masked(v, _mm512_srli_epi16(v, 4), all16(0x00F0)))
#define D128_32 \
    STEP(v = xor2(v, _mm512_shuffle_epi8(v, t->head32)), v = xor2(v, _mm512_shuffle_epi8(_mm512_permutex_epi64(v, 0x4E), t->low32)))
#define D64_16                                                                                    \
    STEP(v = xor2(v, _mm512_maskz_srli_epi64(0xAA, v, 48)),                                       \
         v = xor2(v, _mm512_maskz_slli_epi64(0x55, _mm512_shuffle_epi32(v, 0x4E), 16)))
#define D32_16                                                                                                  \
    STEP(v = xor_masked(v, _mm512_srli_epi64(v, 16), all64(0x0000FFFF00000000)), v = xor_masked(v, _mm512_srli_epi64(v, 16), all64(0xFFFF0000)))
#define D128_64                                                                                   \
    STEP(v = xor2(v, _mm512_maskz_shuffle_epi32(0x3030, v, 0x4E)), v = xor2(v, _mm512_maskz_permutex_epi64(0x22, v, 0x08)))
    if (!inverse) {
        D128 D64 D32 D16 D8
        v = _mm512_gf2p8affine_epi64_epi8(v, t->bytes, 0);
        D8_4 D128_32 D64_16 D32_16 D128_64
    } else {
        D128_64 D32_16 D64_16 D128_32 D8_4
        v = _mm512_gf2p8affine_epi64_epi8(v, t->bytes_inverse, 0);
        D8 D16 D32 D64 D128
    }
    return v;
}

/// Index bits 8 ... 11, of strings of 256 bits: eight vectors.
INLINE void convert_middle(V v[8], const int inverse) {
    const V zero = _mm512_setzero_si512();
#define M8_2                                                         \
    STEP(v[4] = xor2(v[4], v[7]),                                    \
         UNROLLED for (int i = 0; i < 3; i++) v[1 + i] = xor2(v[1 + i], v[4 + i]))
#define M4_1                                                                                                   \
    UNROLLED for (int g = 0; g < 8; g += 4)                                                                    \
        STEP(v[g + 2] = headed(v[g + 2], v[g + 3], 256),                                                       \
             (v[g] = xor2(v[g], moved(v[g + 2], zero, 256)), v[g + 1] = xor2(v[g + 1], moved(v[g + 3], v[g + 2], 256))))
#define M2_1                                                                                                   \
    UNROLLED for (int g = 0; g < 8; g += 2)                                                                    \
        STEP(v[g + 1] = headed(v[g + 1], v[g + 1], 256), v[g] = xor2(v[g], moved(v[g + 1], zero, 256)))
#define M8_4                                                                                                   \
    STEP(UNROLLED for (int i = 0; i < 2; i++) v[4 + i] = xor2(v[4 + i], v[6 + i]),                             \
         UNROLLED for (int i = 0; i < 2; i++) v[2 + i] = xor2(v[2 + i], v[4 + i]))
    if (!inverse) {
        M8_2 M4_1 M2_1 M8_4
    } else {
        M8_4 M2_1 M4_1 M8_2
    }
}

INLINE void divide_row_low(V *row, const convert_tables *t, const int inverse) {
    for (int g = 0; g < 128; g += 8) {
        V v[8];
        UNROLLED for (int i = 0; i < 8; i++) v[i] = row[g + i];
        divide_low(v, t, inverse);
        UNROLLED for (int i = 0; i < 8; i++) row[g + i] = v[i];
    }
}

INLINE void convert_row_low(V *row, const convert_tables *t, const int inverse) {
    for (int g = 0; g < 128; g += 8) {
        V v[8];
        UNROLLED for (int i = 0; i < 8; i++) v[i] = row[g + i];
        if (!inverse) {
            UNROLLED for (int i = 0; i < 8; i++) v[i] = convert_low(v[i], t, 0);
            convert_middle(v, 0);
        } else {
            convert_middle(v, 1);
            UNROLLED for (int i = 0; i < 8; i++) v[i] = convert_low(v[i], t, 1);
        }
        UNROLLED for (int i = 0; i < 8; i++) row[g + i] = v[i];
    }
}

INLINE void convert_row_high(V *row, const int inverse) {
    for (int c = 0; c < 8; c++) {
        V v[16];
        UNROLLED for (int i = 0; i < 16; i++) v[i] = row[8 * i + c];
        convert16(v, inverse);
        UNROLLED for (int i = 0; i < 16; i++) row[8 * i + c] = v[i];
    }
}
