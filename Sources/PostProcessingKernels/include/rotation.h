// Eight-dimensional rotations for reverse reconciliation, on planes.
//
// A set is 512 quadratures in the order of the frame: eight planes of 64 lanes. Group l of a set (l = 0 ..< 64) is the vector of the eight
// values at lane l of its planes. Vectors are octonions; rotations are left multiplications by unit octonions.
//
// The receiver's end has a group y and eight random bits; u = (+-1)^8 / sqrt(8), bit 0 giving +. It sends the norm |y| and alpha with
//     alpha (y / |y|) = u,   that is   alpha = u conj(y) / |y|,
// in components of 1/127. For a y of any direction alpha takes each direction equally often whatever u is: it says nothing of u.
// A group of norm zero gets alpha = 1, which does not depend on u, and counts as erased.
// The transmitter's end has x and forms alpha x: a noisy u, with |y| known an exact Gaussian channel per bit.
#pragma once
#include <stddef.h>
#include <stdint.h>

#include "levels.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { ROTATION_SET = 512, ROTATION_PLANES = 8, ROTATION_LANES = 64 };

/// Receiver's end. y: 512 `sets` values; bits: one 64-bit word per plane, 8 `sets`; alpha: 512 `sets`; norm: 64 `sets`.
void rotation_encode(kernel_level level, const float *y, const uint64_t *bits, size_t sets, int8_t *alpha, float *norm);

/// Transmitter's end. llr[i] = scale norm (alpha x)_i / |alpha|; 512 `sets` values in plane order. A group without rotation gives 0.
void rotation_llr(kernel_level level, const float *x, const int8_t *alpha, const float *norm, float scale, size_t sets, float *llr);

/// Transmitter's end, after decoding: y = norm conj(alpha) u / |alpha|.
void rotation_reconstruct(kernel_level level, const int8_t *alpha, const float *norm, const uint64_t *bits, size_t sets, float *y);

/// Mean of the squares, in double precision and a fixed order.
double rotation_mean_square(const float *values, size_t count);

/// Octonion product c = a b in the convention of this file (basis products e_i e_j = +-e_(i xor j), Cayley-Dickson).
void rotation_product(const float a[8], const float b[8], float c[8]);

#ifdef __cplusplus
}
#endif
