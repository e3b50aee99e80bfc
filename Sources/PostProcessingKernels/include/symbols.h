// Passes over whole blocks of symbols: conversion, sums, correlation of disclosed positions. Symbols are interleaved pairs (x, p).
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// Adds to sums[0 ... 3] the sum of x, of p, of x^2, of p^2 over `symbols` pairs. Exact.
void symbols_moments(const int16_t *_Nonnull samples, size_t symbols, int64_t *_Nonnull sums);

/// Adds to sums[0 ... 4] the sums of x, y, x x, x y, y y over `count` values, in double precision.
void symbols_correlations(const float *_Nonnull x, const float *_Nonnull y, size_t count, double *_Nonnull sums);

/// out = scale * rotation by -angle of (samples - offset); cosine and sine are of the angle.
void symbols_convert(const int16_t *_Nonnull samples, size_t symbols, float offset_x, float offset_p, float scale, float cosine,
                     float sine, float *_Nonnull out);

/// For each of `window` offsets d: (re, im)[d] = sum over k of conj(a_k) r[position_k + d], a_k = (ax[k], ap[k]), r = (rx, rp).
/// rx and rp hold at least max(position) + window values.
void symbols_correlate(const float *_Nonnull rx, const float *_Nonnull rp, const uint32_t *_Nonnull positions,
                       const float *_Nonnull ax, const float *_Nonnull ap, size_t count, size_t window, float *_Nonnull re,
                       float *_Nonnull im);

#ifdef __cplusplus
}
#endif
