#include <pthread.h>
#include <string.h>

#include "additive_fft_internal.h"

// Elements are written over products of v_1, v_2, v_4, v_8 and v_16: bit k of an element is the coordinate of the product of those whose number's bit is set in
// k. A step of the tower is GF(q^2) = GF(q)[y] / (y^2 + y + v_(w - 1)) with y = v_w and q = 2^w; v_i^2 + v_i = v_(i - 1).
static const uint32_t tower_basis[32] = {
    0x00000001, 0x00000002, 0x00000004, 0x0000000a, 0x00000010, 0x00000028, 0x0000004a, 0x000000ac, 0x00000100, 0x00000280, 0x000004aa,
    0x00000ac2, 0x000010a6, 0x000028f4, 0x00004a90, 0x0000acc8, 0x00010000, 0x000280e4, 0x0004aa06, 0x000ac266, 0x0010a664, 0x0028f486,
    0x004a90ac, 0x00acc8c2, 0x0100aca2, 0x02801018, 0x04aa3b4a, 0x0ac284e2, 0x10a60a8a, 0x28f427c2, 0x4a90ab4e, 0xacc8241e,
};

/// Product in the field of 2^`width` elements.
static uint32_t tower_product(uint32_t a, uint32_t b, int width) {
    if (width == 1) return a & b;
    const int half = width / 2;
    const uint32_t mask = ((uint32_t)1 << half) - 1, a0 = a & mask, a1 = a >> half, b0 = b & mask, b1 = b >> half;
    const uint32_t low = tower_product(a0, b0, half), high = tower_product(a1, b1, half), middle = tower_product(a0 ^ a1, b0 ^ b1, half);
    return (low ^ tower_product(high, tower_basis[half - 1], half)) | (middle ^ low) << half;
}

static uint32_t tower_sums[4][256];
static uint8_t by_v7[256];
static uint16_t by_v15[2][256];
/// What lanes add to the planes of the factor of layers 7 ... 0.
static uint64_t lane_planes[8][72][4];

static inline uint32_t tower_sum(uint32_t bits) {
    return tower_sums[0][bits & 255] ^ tower_sums[1][bits >> 8 & 255] ^ tower_sums[2][bits >> 16 & 255] ^ tower_sums[3][bits >> 24];
}

static inline uint32_t tower_twiddle(int layer, uint32_t index) { return tower_sum(((uint32_t)1 << LOG | index) >> layer); }

/// As `field_prepare`, in this tower.
static inline field_constant tower_prepare(uint32_t t) {
    const uint16_t low = (uint16_t)t, high = t >> 16, c[3] = {low, by_v15[0][high & 255] ^ by_v15[1][high >> 8], low ^ high};
    field_constant result = {{0}};
    for (int k = 0; k < 3; k++) {
        const uint8_t c0 = (uint8_t)c[k], c1 = c[k] >> 8;
        result.byte[3 * k] = c0;
        result.byte[3 * k + 1] = by_v7[c1];
        result.byte[3 * k + 2] = c0 ^ c1;
    }
    return result;
}

static void make(void) {
    for (int k = 0; k < 4; k++)
        for (int bits = 1; bits < 256; bits++)
            tower_sums[k][bits] = tower_sums[k][bits & (bits - 1)] ^ tower_basis[8 * k + __builtin_ctz((unsigned)bits)];
    for (uint32_t b = 0; b < 256; b++) {
        by_v7[b] = (uint8_t)tower_product(b, tower_basis[7], 8);
        by_v15[0][b] = (uint16_t)tower_product(b, tower_basis[15], 16);
        by_v15[1][b] = (uint16_t)tower_product(b << 8, tower_basis[15], 16);
    }
    for (int layer = 0; layer < 8; layer++)
        for (uint32_t lane = 0; lane < 256; lane++) {
            // Once it was exchanged, lane bit j holds index bit j + 1, the highest one index bit 9. Bits below the layer do not count.
            const uint32_t above = lane >> layer << layer, index = (above & 0x7f) << 1 | (above & 0x80) << 2;
            const field_constant c = tower_prepare(tower_sum(index >> layer));
            for (int k = 0; k < 72; k++) lane_planes[layer][k][lane / 64] |= (uint64_t)(c.byte[k / 8] >> k % 8 & 1) << lane % 64;
        }
}

static void tower_get(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make);
}

/// Logarithms of D and s, in order: index bits 0 ... 15 of a row, and 16 ... 23 of the rows.
enum { ROW_STEPS = 32, COLUMN_STEPS = 12 };
static const int8_t row_steps[ROW_STEPS][2] = {
    {15, 7}, {14, 6}, {13, 5}, {12, 4}, {11, 3}, {10, 2}, {9, 1}, {8, 0},                                        // by s_8
    {15, 11}, {14, 10}, {13, 9}, {12, 8}, {11, 9}, {10, 8}, {9, 8}, {11, 10}, {15, 13}, {14, 12}, {13, 12}, {15, 14},  // its powers
    {7, 3}, {6, 2}, {5, 1}, {4, 0}, {3, 1}, {2, 0}, {1, 0}, {3, 2}, {7, 5}, {6, 4}, {5, 4}, {7, 6},                  // below
};
static const int8_t column_steps[COLUMN_STEPS][2] = {
    {7, 3}, {6, 2}, {5, 1}, {4, 0}, {3, 1}, {2, 0}, {1, 0}, {3, 2}, {7, 5}, {6, 4}, {5, 4}, {7, 6},
};

static inline uint64_t *words_at(uint8_t *bits, size_t row) { return (uint64_t *)(bits + row * ROW_STRIDE); }

/// Row of the k-th plane: bits of k are index bits 23, 22, 20 and 16.
static inline int plane_row(int k) { return (k & 1) << 7 | (k >> 1 & 1) << 6 | (k >> 2 & 1) << 4 | (k >> 3 & 1); }

typedef uint64_t vec __attribute__((vector_size(32), aligned(8)));

#pragma clang diagnostic ignored "-Wpsabi"
#define SLICED(name) portable_##name
#define SLICED_TARGET
#define SLICED_INLINE static inline __attribute__((always_inline))
#include "additive_fft_sliced.h"
#undef SLICED
#undef SLICED_TARGET
#undef SLICED_INLINE

#if defined(__x86_64__)
#define SLICED(name) avx2_##name
#define SLICED_TARGET __attribute__((target("avx2")))
#define SLICED_INLINE __attribute__((target("avx2"), always_inline)) static inline
#include "additive_fft_sliced.h"
#else
void avx2_forward(uint8_t *bits) { portable_forward(bits); }
void avx2_inverse(uint8_t *bits) { portable_inverse(bits); }
void avx2_multiply_add(uint8_t *sum, const uint8_t *a, const uint8_t *b) { portable_multiply_add(sum, a, b); }
#endif
