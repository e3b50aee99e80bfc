#include "symbols.h"

#include <string.h>

// The loops are plain C that the compiler vectorises; each is built once for AVX2 and once for the baseline.
#if defined(__x86_64__)
#define TWICE(name, parameters, arguments)                                                             \
    __attribute__((target("avx2"))) static void name##_avx2 parameters { name##_body arguments; }      \
    static void name##_plain parameters { name##_body arguments; }                                     \
    void name parameters {                                                                             \
        if (__builtin_cpu_supports("avx2")) name##_avx2 arguments;                                     \
        else name##_plain arguments;                                                                   \
    }
#else
#define TWICE(name, parameters, arguments) \
    void name parameters { name##_body arguments; }
#endif
#define BODY __attribute__((always_inline)) static inline void

BODY symbols_moments_body(const int16_t *samples, size_t symbols, int64_t *sums) {
    int64_t x = 0, p = 0, xx = 0, pp = 0;
    for (size_t i = 0; i < symbols; i++) {
        const int32_t a = samples[2 * i], b = samples[2 * i + 1];
        x += a;
        p += b;
        xx += a * a;
        pp += b * b;
    }
    sums[0] += x;
    sums[1] += p;
    sums[2] += xx;
    sums[3] += pp;
}
TWICE(symbols_moments, (const int16_t *samples, size_t symbols, int64_t *sums), (samples, symbols, sums))

enum { LANES = 8 };

// Eight running sums each, so that neither latency nor rounding piles up in one.
BODY symbols_correlations_body(const float *x, const float *y, size_t count, double *sums) {
    double s[5][LANES] = {{0}};
    size_t i = 0;
    for (; i + LANES <= count; i += LANES)
        for (int k = 0; k < LANES; k++) {
            const double a = x[i + k], b = y[i + k];
            s[0][k] += a;
            s[1][k] += b;
            s[2][k] += a * a;
            s[3][k] += a * b;
            s[4][k] += b * b;
        }
    for (; i < count; i++) {
        const double a = x[i], b = y[i];
        s[0][0] += a;
        s[1][0] += b;
        s[2][0] += a * a;
        s[3][0] += a * b;
        s[4][0] += b * b;
    }
    for (int q = 0; q < 5; q++)
        for (int k = 0; k < LANES; k++) sums[q] += s[q][k];
}
TWICE(symbols_correlations, (const float *x, const float *y, size_t count, double *sums), (x, y, count, sums))

BODY symbols_convert_body(const int16_t *samples, size_t symbols, float offset_x, float offset_p, float scale, float cosine,
                          float sine, float *out) {
    const float c = scale * cosine, s = scale * sine;
    for (size_t i = 0; i < symbols; i++) {
        const float x = (float)samples[2 * i] - offset_x, p = (float)samples[2 * i + 1] - offset_p;
        out[2 * i] = c * x + s * p;
        out[2 * i + 1] = c * p - s * x;
    }
}
TWICE(symbols_convert,
      (const int16_t *samples, size_t symbols, float offset_x, float offset_p, float scale, float cosine, float sine, float *out),
      (samples, symbols, offset_x, offset_p, scale, cosine, sine, out))

enum { TILE = 2048 };  // offsets whose sums stay in the first cache while all positions pass

BODY symbols_correlate_body(const float *rx, const float *rp, const uint32_t *positions, const float *ax, const float *ap,
                            size_t count, size_t window, float *re, float *im) {
    for (size_t start = 0; start < window; start += TILE) {
        const size_t width = window - start < TILE ? window - start : TILE;
        float sum_re[TILE] = {0}, sum_im[TILE] = {0};
        for (size_t k = 0; k < count; k++) {
            const float *restrict x = rx + positions[k] + start, *restrict p = rp + positions[k] + start;
            const float a = ax[k], b = ap[k];
            for (size_t d = 0; d < width; d++) {
                sum_re[d] += a * x[d] + b * p[d];
                sum_im[d] += a * p[d] - b * x[d];
            }
        }
        memcpy(re + start, sum_re, width * sizeof *re);
        memcpy(im + start, sum_im, width * sizeof *im);
    }
}
TWICE(symbols_correlate,
      (const float *rx, const float *rp, const uint32_t *positions, const float *ax, const float *ap, size_t count, size_t window,
       float *re, float *im),
      (rx, rp, positions, ax, ap, count, window, re, im))
