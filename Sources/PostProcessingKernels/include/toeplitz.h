// Exact binary Toeplitz hashing as a sum of carry-less products, in constant time with respect to the data.
//
// y_i = sum_j t_(n - 1 + i - j) x_j over GF(2): output i is coefficient n - 1 + i of the product of the polynomials t (seed, n + m - 1 bits) and x
// (input, n bits). Bit u of a string is bit u mod 8 of byte u / 8. Input and seed are cut into tiles of P bits on one grid, so that output tile b
// is the upper half of R_b plus the lower half of R_(b+1), where R_a = sum_k (seed tile a - k - 1) (input tile k); seed tile q
// starts at bit n - 1 + q P. The caller keeps the R_a; a tile product is Karatsuba's down to a few words.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum { TOEPLITZ_PORTABLE = 0, TOEPLITZ_PCLMULQDQ = 1, TOEPLITZ_VPCLMULQDQ = 2 };

/// The best kernel of this processor.
int toeplitz_kernel(void);

/// Words of 64 bits of scratch that `toeplitz_multiply_add` needs for tiles of `words`.
size_t toeplitz_scratch(size_t words);

/// sum (2 `words`) += a b. `words` is a power of two, at least 8.
void toeplitz_multiply_add(uint64_t *_Nonnull sum, const uint64_t *_Nonnull a, const uint64_t *_Nonnull b, size_t words,
                           uint64_t *_Nonnull scratch, int kernel);

/// Copies `words` words of a bit string from bit `start` on; bits outside 0 ..< `bits` are 0. `start` may be negative.
void toeplitz_window(uint64_t *_Nonnull out, size_t words, const uint8_t *_Nonnull string, int64_t bits, int64_t start);

#ifdef __cplusplus
}
#endif
