// Products of long binary polynomials by additive Fourier transforms over GF(2^32).
//
// A polynomial of fewer than 2^24 bits is evaluated at the 2^24 points v_24 + V_24 of a Cantor basis (V_j is spanned by v_0 ... v_(j - 1)). Its coefficients are
// bits, so values at conjugate points are conjugate: 2^19 points, one of each orbit of the Frobenius map, say everything, and a
// transform is as long as its input. Products of values are the product of polynomials modulo s(x) + 1 with
// s(x) = x^(2^24) + x^(2^16) + x^(2^8) + x; what wraps around lands less than 2^16 + 1 above where it would land modulo x^(2^24) + 1.
// There is no rounding and no table or branch that depends on data.
//
// Sources: D. Cantor (1989); S. Gao and T. Mateer, IEEE Trans. Inf. Theory 56 (2010); S.-J. Lin, T. Al-Naffouri, Y. Han and W.-H. Chung, Novel polynomial
// basis, IEEE Trans. Inf. Theory 62 (2016); W.-D. Li, M.-S. Chen, P.-C. Kuo, C.-M. Cheng and B.-Y. Yang, Frobenius additive FFT, ISSAC 2018.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    ADDITIVE_FFT_BITS = 1 << 24,
    /// Bits of the middle part of a product that are right, plus those of the shorter factor: see `additive_fft_store`.
    ADDITIVE_FFT_USABLE = (1 << 24) - (1 << 16) - 64,
    /// Bytes of a buffer, bits or values; the caller aligns it to 64 bytes.
    ADDITIVE_FFT_BYTES = 2115584,
};

/// The same products by different instructions; the order of values differs, so values of different kinds do not mix.
typedef enum { ADDITIVE_FFT_PORTABLE = 0, ADDITIVE_FFT_AVX2 = 1, ADDITIVE_FFT_GFNI = 2 } additive_fft_kind;

bool additive_fft_available(additive_fft_kind kind);
additive_fft_kind additive_fft_best(void);

/// Fills a buffer with `count` bits of a string from bit `start` on, zeros elsewhere; bits of the string outside 0 ..< `bits` are 0. `start` may be negative.
void additive_fft_load(uint8_t *_Nonnull buffer, const uint8_t *_Nonnull string, int64_t bits, int64_t start, int64_t count);

/// Copies `count` bits of a buffer from bit `start` on to `bytes`; surplus bits of the last byte are 0.
///
/// With x of at most L bits and t of at most L + m - 1, bits L - 1 ..< L - 1 + m of their product are right where L + m <= ADDITIVE_FFT_USABLE.
void additive_fft_store(uint8_t *_Nonnull bytes, const uint8_t *_Nonnull buffer, int64_t start, int64_t count);

/// `values` from `bits`, which are used up.
void additive_fft_forward(additive_fft_kind kind, uint8_t *_Nonnull values, uint8_t *_Nonnull bits);

/// sum += a b, value by value.
void additive_fft_multiply_add(additive_fft_kind kind, uint8_t *_Nonnull sum, const uint8_t *_Nonnull a, const uint8_t *_Nonnull b);

/// `bits` from `values`, which are used up.
void additive_fft_inverse(additive_fft_kind kind, uint8_t *_Nonnull bits, uint8_t *_Nonnull values);

#ifdef __cplusplus
}
#endif
