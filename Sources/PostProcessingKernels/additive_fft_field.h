// GF(2^32) as the additive transforms see it: a tower over the field of AES, and a Cantor basis in it.
#pragma once
#include <stdint.h>

/// v_0 = 1, v_i^2 + v_i = v_(i - 1). GF(2^16) = GF(2^8)[y] / (y^2 + y + v_7) with y = v_8, GF(2^32) = GF(2^16)[z] / (z^2 + z + v_15) with z = v_16;
/// bytes of an element are its coordinates over GF(2^8), the lowest first.
typedef struct {
    uint32_t basis[32];
    uint8_t product[256][256];  // of GF(2^8)
    uint32_t sum[4][256];       // combinations of v_0 ..., v_8 ..., v_16 ..., v_24 ...
} field_tables;

const field_tables *field_get(void);

uint16_t field_product16(const field_tables *field, uint16_t a, uint16_t b);
uint32_t field_product32(const field_tables *field, uint32_t a, uint32_t b);

/// Sum of the basis elements whose bits are set.
static inline uint32_t field_sum(const field_tables *field, uint32_t bits) {
    return field->sum[0][bits & 255] ^ field->sum[1][bits >> 8 & 255] ^ field->sum[2][bits >> 16 & 255] ^ field->sum[3][bits >> 24];
}

/// What a product by t needs, ready to be multiplied bytewise: c0, v_7 c1 and c0 + c1 for c = low half of t, v_15 (upper half), sum of both halves.
/// All are linear in t.
typedef struct {
    uint8_t byte[16];
} field_constant;

field_constant field_prepare(const field_tables *field, uint32_t t);
