// Where things lie in the buffers of the additive transforms.
#pragma once
#include "additive_fft.h"
#include "additive_fft_field.h"

enum {
    LOG = 24,
    ROWS = 256,
    ROW_BYTES = 8192,          // 2^16 bits
    ROW_STRIDE = 8192 + 64,    // rows are read in columns: neighbours must not share a set of the cache
    BLOCKS = 16,
    PLANE_BYTES = 65536,
    PLANE_STRIDE = 65536 + 576,
    BLOCK_STRIDE = 2 * PLANE_STRIDE,
};

/// Factor of the butterflies of layer `layer` at an index whose bits above it are given: s_layer(v_24 + sum of index's basis elements).
static inline uint32_t twiddle(const field_tables *field, int layer, uint32_t index) {
    return field_sum(field, ((uint32_t)1 << LOG | index) >> layer);
}

/// Free bits of the index of one of the 16 blocks: 21, 19, 18 and 17, the first the highest of the block's number.
static inline uint32_t block_index(uint32_t block) {
    return (block >> 3 & 1) << 21 | (block >> 2 & 1) << 19 | (block >> 1 & 1) << 18 | (block & 1) << 17;
}

void gfni_forward(uint8_t *values, uint8_t *bits);
void gfni_inverse(uint8_t *bits, uint8_t *values);
void gfni_multiply_add(uint8_t *sum, const uint8_t *a, const uint8_t *b);

// On planes of bits, in place.
void portable_forward(uint8_t *bits);
void portable_inverse(uint8_t *bits);
void portable_multiply_add(uint8_t *sum, const uint8_t *a, const uint8_t *b);
void avx2_forward(uint8_t *bits);
void avx2_inverse(uint8_t *bits);
void avx2_multiply_add(uint8_t *sum, const uint8_t *a, const uint8_t *b);
