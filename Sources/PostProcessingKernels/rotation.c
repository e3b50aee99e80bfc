// Octonion arithmetic on 16 groups at a time. Vectors are compiler vectors: the same operations in the same order whatever the processor
// offers, so every level gives the same bits; clang splits them to the width at hand.

#include "rotation.h"

#include <stdbool.h>

// Wide vectors never cross a call: everything below is inlined into one of the few functions at the end.
#pragma clang diagnostic ignored "-Wpsabi"

enum { WIDTH = 16 };
typedef float vector __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef int32_t integers __attribute__((vector_size(4 * WIDTH), aligned(4)));
typedef int8_t bytes __attribute__((vector_size(WIDTH), aligned(1)));

#define INLINE __attribute__((always_inline)) static inline

/// sign[i][j] of e_i e_j = sign e_(i xor j), by Cayley-Dickson doubling (a, b)(c, d) = (a c - conj(d) b, d a + b conj(c)).
static const int8_t sign[8][8] = {
    {+1, +1, +1, +1, +1, +1, +1, +1}, {+1, -1, +1, -1, +1, -1, -1, +1}, {+1, -1, -1, +1, +1, +1, -1, -1}, {+1, +1, -1, -1, +1, -1, +1, -1},
    {+1, -1, -1, -1, -1, +1, +1, +1}, {+1, +1, -1, +1, -1, -1, -1, +1}, {+1, +1, +1, -1, -1, +1, -1, -1}, {+1, -1, +1, +1, -1, -1, +1, -1},
};

static const float ROOT8 = 2.8284271247461903f;

/// c = a b, or conj(a) b, or a conj(b): `left` and `right` say what is conjugated.
INLINE void multiply(const vector *a, const vector *b, bool left, bool right, vector *c) {
#pragma clang loop unroll(full)
    for (int k = 0; k < 8; k++) {
        vector sum = {0};
#pragma clang loop unroll(full)
        for (int i = 0; i < 8; i++) {
            const int j = i ^ k;
            const bool minus = (sign[i][j] < 0) ^ (left && i) ^ (right && j);
            const vector term = a[i] * b[j];
            sum = minus ? sum - term : sum + term;
        }
        c[k] = sum;
    }
}

INLINE vector squares(const vector *a) {
    vector sum = a[0] * a[0];
#pragma clang loop unroll(full)
    for (int k = 1; k < 8; k++) sum += a[k] * a[k];
    return sum;
}

INLINE vector constant(float value) { return (vector){} + value; }
INLINE vector choose(integers mask, vector yes, vector no) { return (vector)(((integers)yes & mask) | ((integers)no & ~mask)); }

/// To the nearest integer, ties to even, for |v| < 2^22 (a library call per lane otherwise, where the processor has no instruction).
INLINE vector rounded(vector v) { return (v + 12582912.0f) - 12582912.0f; }

/// 1 / sqrt(v), and 0 where v is 0.
INLINE vector inverse_root(vector v) {
    const integers some = v > 0;
    const vector root = __builtin_elementwise_sqrt(choose(some, v, constant(1)));
    return (vector)((integers)(1 / root) & some);
}

/// +-value by bit (1: minus), lanes first ..< first + 16 of a plane's word.
INLINE vector signed_by(uint64_t bits, int first, vector value) {
    integers lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    const integers mask = (((integers){} + (int32_t)(bits >> first & 0xffff)) >> lane) << 31;
    return (vector)((integers)value ^ mask);
}

INLINE vector get(const float *p) { return *(const vector *)p; }
INLINE void put(float *p, vector v) { *(vector *)p = v; }
INLINE vector widened(const int8_t *p) { return __builtin_convertvector(*(const bytes *)p, vector); }

INLINE void encode_part(const float *y, const uint64_t *bits, int first, int8_t *alpha, float *norm) {
    vector group[8], word[8], product[8];
    for (int k = 0; k < 8; k++) group[k] = get(y + 64 * k + first);
    const vector square = squares(group);
    const vector unit = inverse_root(square) * (127 / ROOT8);
    for (int k = 0; k < 8; k++) word[k] = signed_by(bits[k], first, unit);
    multiply(word, group, false, true, product);
    const integers empty = square == 0;
    product[0] = choose(empty, constant(127), product[0]);
    for (int k = 0; k < 8; k++)
        *(bytes *)(alpha + 64 * k + first) = __builtin_convertvector(rounded(product[k]), bytes);
    put(norm + first, __builtin_elementwise_sqrt(square));
}

INLINE void llr_part(const float *x, const int8_t *alpha, const float *norm, float scale, int first, float *llr) {
    vector rotation[8], group[8], product[8];
    for (int k = 0; k < 8; k++) rotation[k] = widened(alpha + 64 * k + first);
    for (int k = 0; k < 8; k++) group[k] = get(x + 64 * k + first);
    const vector factor = get(norm + first) * inverse_root(squares(rotation)) * scale;
    multiply(rotation, group, false, false, product);
    for (int k = 0; k < 8; k++) put(llr + 64 * k + first, product[k] * factor);
}

INLINE void reconstruct_part(const int8_t *alpha, const float *norm, const uint64_t *bits, int first, float *y) {
    vector rotation[8], word[8], product[8];
    for (int k = 0; k < 8; k++) rotation[k] = widened(alpha + 64 * k + first);
    const vector length = get(norm + first) * inverse_root(squares(rotation)) * (1 / ROOT8);
    for (int k = 0; k < 8; k++) word[k] = signed_by(bits[k], first, length);
    multiply(rotation, word, true, false, product);
    for (int k = 0; k < 8; k++) put(y + 64 * k + first, product[k]);
}

INLINE void encode_all(const float *y, const uint64_t *bits, size_t sets, int8_t *alpha, float *norm) {
    for (size_t s = 0; s < sets; s++)
        for (int first = 0; first < 64; first += WIDTH) encode_part(y + 512 * s, bits + 8 * s, first, alpha + 512 * s, norm + 64 * s);
}

INLINE void llr_all(const float *x, const int8_t *alpha, const float *norm, float scale, size_t sets, float *llr) {
    for (size_t s = 0; s < sets; s++)
        for (int first = 0; first < 64; first += WIDTH) llr_part(x + 512 * s, alpha + 512 * s, norm + 64 * s, scale, first, llr + 512 * s);
}

INLINE void reconstruct_all(const int8_t *alpha, const float *norm, const uint64_t *bits, size_t sets, float *y) {
    for (size_t s = 0; s < sets; s++)
        for (int first = 0; first < 64; first += WIDTH) reconstruct_part(alpha + 512 * s, norm + 64 * s, bits + 8 * s, first, y + 512 * s);
}

// MARK: One body, compiled for each level

typedef struct {
    void (*encode)(const float *, const uint64_t *, size_t, int8_t *, float *);
    void (*llr)(const float *, const int8_t *, const float *, float, size_t, float *);
    void (*reconstruct)(const int8_t *, const float *, const uint64_t *, size_t, float *);
} kernel;

#define KERNEL(name, target)                                                                                                   \
    target static void encode_##name(const float *y, const uint64_t *bits, size_t sets, int8_t *alpha, float *norm) {          \
        encode_all(y, bits, sets, alpha, norm);                                                                                \
    }                                                                                                                          \
    target static void llr_##name(const float *x, const int8_t *alpha, const float *norm, float scale, size_t sets, float *o) { \
        llr_all(x, alpha, norm, scale, sets, o);                                                                               \
    }                                                                                                                          \
    target static void reconstruct_##name(const int8_t *alpha, const float *norm, const uint64_t *bits, size_t sets, float *y) { \
        reconstruct_all(alpha, norm, bits, sets, y);                                                                           \
    }                                                                                                                          \
    static const kernel name = {encode_##name, llr_##name, reconstruct_##name};

KERNEL(portable, )
#if defined(__x86_64__)
KERNEL(avx2, __attribute__((target("avx2"))))
KERNEL(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#endif

static kernel kernel_of(kernel_level level) {
#if defined(__x86_64__)
    if (level == KERNEL_AVX512 && kernel_level_available(level)) return avx512;
    if (level >= KERNEL_AVX2 && kernel_level_available(KERNEL_AVX2)) return avx2;
#endif
    (void)level;
    return portable;
}

void rotation_encode(kernel_level level, const float *y, const uint64_t *bits, size_t sets, int8_t *alpha, float *norm) {
    kernel_of(level).encode(y, bits, sets, alpha, norm);
}

void rotation_llr(kernel_level level, const float *x, const int8_t *alpha, const float *norm, float scale, size_t sets, float *llr) {
    kernel_of(level).llr(x, alpha, norm, scale, sets, llr);
}

void rotation_reconstruct(kernel_level level, const int8_t *alpha, const float *norm, const uint64_t *bits, size_t sets, float *y) {
    kernel_of(level).reconstruct(alpha, norm, bits, sets, y);
}

double rotation_mean_square(const float *values, size_t count) {
    typedef float four __attribute__((vector_size(16), aligned(4)));
    typedef double wide __attribute__((vector_size(32)));
    wide part[2] = {{0}, {0}};
    const size_t whole = count / 8 * 8;
    for (size_t i = 0; i < whole; i += 8) {
        const wide a = __builtin_convertvector(*(const four *)(values + i), wide);
        const wide b = __builtin_convertvector(*(const four *)(values + i + 4), wide);
        part[0] += a * a;
        part[1] += b * b;
    }
    double sum = 0;
    for (int k = 0; k < 4; k++) sum += part[0][k] + part[1][k];
    for (size_t i = whole; i < count; i++) sum += (double)values[i] * (double)values[i];
    return count ? sum / (double)count : 0;
}

void rotation_product(const float a[8], const float b[8], float c[8]) {
    for (int k = 0; k < 8; k++) {
        c[k] = 0;
        for (int i = 0; i < 8; i++) c[k] += (float)sign[i][i ^ k] * a[i] * b[i ^ k];
    }
}
