// One source for all instruction sets: the bodies below are inlined into one function per level, and the compiler
// vectorises each for its own width. No intrinsics, so there is nothing that could differ between the levels.
#include "CQuantumOptics.h"

#include <math.h>
#include <string.h>

#pragma STDC FP_CONTRACT OFF

#define INLINE static inline __attribute__((always_inline))

enum { CHUNK = 64, HALF = 32, BATCH = 1024, MEMORY = 8 };

// MARK: - Words

INLINE void philox(uint32_t k0, uint32_t k1, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d) {
    uint32_t c0 = *a, c1 = *b, c2 = *c, c3 = *d;
#pragma clang loop unroll(full)
    for (int round = 0; round < 10; round++) {
        uint64_t m0 = (uint64_t)0xD2511F53u * c0, m1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(m1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(m0 >> 32) ^ c3 ^ k1;
        c0 = n0, c1 = (uint32_t)m1, c2 = n2, c3 = (uint32_t)m0;
        k0 += 0x9E3779B9u, k1 += 0xBB67AE85u;
    }
    *a = c0, *b = c1, *c = c2, *d = c3;
}

INLINE float from_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

INLINE uint32_t to_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    return bits;
}

// MARK: - Elementary functions (polynomials of the classic single-precision kind, errors near 1e-7)

/// sqrt(-2 ln u) for the uniform u = (word / 2 + 1/2) / 2^31.
INLINE float radius(uint32_t word) {
    float u = ((float)(int32_t)(word >> 1) + 0.5f) * 0x1p-31f;
    uint32_t bits = to_bits(u);
    int32_t exponent = (int32_t)(bits - 0x3F3504F3u) >> 23;
    float t = from_bits(bits - ((uint32_t)exponent << 23)) - 1.0f, tt = t * t, e = (float)exponent;
    float s = 7.0376836292e-2f;
    s = s * t - 1.1514610310e-1f;
    s = s * t + 1.1676998740e-1f;
    s = s * t - 1.2420140846e-1f;
    s = s * t + 1.4249322787e-1f;
    s = s * t - 1.6668057665e-1f;
    s = s * t + 2.0000714765e-1f;
    s = s * t - 2.4999993993e-1f;
    s = s * t + 3.3333331174e-1f;
    s = s * t * tt - 2.12194440e-4f * e - 0.5f * tt + t + 0.693359375f * e;
    float square = -2.0f * s;
    return __builtin_sqrtf(square > 0.0f ? square : 0.0f);
}

/// Cosine and sine of `turns` / 2^32 turns.
INLINE void circle(uint32_t turns, float *cosine, float *sine) {
    uint32_t quadrant = (turns + 0x20000000u) >> 30;
    float t = (float)(int32_t)(turns - (quadrant << 30)) * 1.46291807926715968e-9f, z = t * t;
    float s = ((-1.9515295891e-4f * z + 8.3321608736e-3f) * z - 1.6666654611e-1f) * z * t + t;
    float c = ((2.443315711809948e-5f * z - 1.388731625493765e-3f) * z + 4.166664568298827e-2f) * z * z - 0.5f * z + 1.0f;
    uint32_t swap = 0u - (quadrant & 1u), sb = to_bits(s), cb = to_bits(c);
    uint32_t cosine_bits = (cb & ~swap) | (sb & swap), sine_bits = (sb & ~swap) | (cb & swap);
    *cosine = from_bits(cosine_bits ^ (((quadrant + 1u) & 2u) << 30));
    *sine = from_bits(sine_bits ^ ((quadrant & 2u) << 30));
}

/// Rounds to nearest, ties to even, after clamping to +-limit.
INLINE int32_t rounded(float value, float limit) {
    float low = value < -limit ? -limit : value, clamped = low > limit ? limit : low;
    return (int32_t)to_bits(clamped + 12582912.0f) - 0x4B400000;
}

// MARK: - Runs of normal deviates

/// The 64 symbols of one chunk: block j gives symbol j and symbol 32 + j.
INLINE void chunk(uint64_t seed, uint64_t stream, uint64_t index, float *restrict x, float *restrict p) {
    uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32), s0 = (uint32_t)stream, s1 = (uint32_t)(stream >> 32);
    uint64_t block = index * HALF;
    uint32_t low = (uint32_t)block, high = (uint32_t)(block >> 32);
    for (uint32_t j = 0; j < HALF; j++) {
        uint32_t a = low + j, b = high, c = s0, d = s1;
        philox(k0, k1, &a, &b, &c, &d);
        float r = radius(a), q = radius(c), cosine, sine;
        circle(b, &cosine, &sine);
        x[j] = r * cosine, p[j] = r * sine;
        circle(d, &cosine, &sine);
        x[HALF + j] = q * cosine, p[HALF + j] = q * sine;
    }
}

INLINE void gaussians(uint64_t seed, uint64_t stream, uint64_t first, size_t count, float *x, float *p) {
    while (count > 0) {
        size_t skip = first % CHUNK, part = CHUNK - skip < count ? CHUNK - skip : count;
        if (part == CHUNK) {
            chunk(seed, stream, first / CHUNK, x, p);
        } else {
            float cx[CHUNK], cp[CHUNK];
            chunk(seed, stream, first / CHUNK, cx, cp);
            memcpy(x, cx + skip, part * sizeof(float));
            memcpy(p, cp + skip, part * sizeof(float));
        }
        first += part, x += part, p += part, count -= part;
    }
}

// MARK: - Modulation

INLINE void modulate(uint64_t seed, uint64_t stream, uint64_t first, size_t count, float sigma, int32_t limit, int16_t *out) {
    float x[BATCH], p[BATCH], bound = (float)limit;
    while (count > 0) {
        size_t part = count < BATCH ? count : BATCH;
        gaussians(seed, stream, first, part, x, p);
        for (size_t i = 0; i < part; i++) {
            out[2 * i] = (int16_t)rounded(x[i] * sigma, bound);
            out[2 * i + 1] = (int16_t)rounded(p[i] * sigma, bound);
        }
        first += part, out += 2 * part, count -= part;
    }
}

// MARK: - Reception

/// The phase of each symbol as cosine and sine: one value per group of 64, smoothed over the last groups.
INLINE void phases(const qo_reception *r, uint64_t first, size_t count, float *restrict cosine, float *restrict sine) {
    float x[BATCH / CHUNK + 1 + MEMORY], p[BATCH / CHUNK + 1 + MEMORY];
    uint64_t group = first / CHUNK;
    size_t groups = (size_t)((first + count - 1) / CHUNK - group) + 1;
    gaussians(r->noise_seed, ~r->noise_stream, group, groups + MEMORY - 1, x, p);
    // sqrt(2^32 / (2 pi) squared / MEMORY): the sum of MEMORY deviates in turns * 2^32
    float scale = r->phase_sigma * 683565275.6f / __builtin_sqrtf((float)MEMORY);
    size_t at = 0;
    for (size_t g = 0; g < groups; g++) {
        float sum = 0.0f;
        for (int k = 0; k < MEMORY; k++) sum += x[g + (size_t)k];
        uint32_t turns = r->phase + (uint32_t)(group + g) * r->phase_step + (uint32_t)(int64_t)(sum * scale);
        float c, s;
        circle(turns, &c, &s);
        size_t end = (size_t)((group + g + 1) * CHUNK - first);
        for (; at < end && at < count; at++) cosine[at] = c, sine[at] = s;
    }
}

INLINE uint32_t receive(const qo_reception *r, uint64_t first, size_t count, int16_t *out) {
    float x[BATCH], p[BATCH], nx[BATCH], np[BATCH], cosine[BATCH], sine[BATCH];
    float bound = (float)r->limit, level_bound = (float)r->modulation_limit, gain = r->signal_gain, sigma = r->noise_sigma;
    float level_sigma = r->modulation_sigma, ox = r->offset_x, op = r->offset_p;
    uint32_t saturated = 0;
    while (count > 0) {
        size_t part = count < BATCH ? count : BATCH;
        gaussians(r->noise_seed, r->noise_stream, first, part, nx, np);
        if (gain != 0.0f) {
            gaussians(r->modulation_seed, r->modulation_stream, first - r->delay, part, x, p);
            phases(r, first, part, cosine, sine);
            for (size_t i = 0; i < part; i++) {
                float lx = (float)rounded(x[i] * level_sigma, level_bound), lp = (float)rounded(p[i] * level_sigma, level_bound);
                nx[i] = gain * (lx * cosine[i] - lp * sine[i]) + (nx[i] * sigma + ox);
                np[i] = gain * (lx * sine[i] + lp * cosine[i]) + (np[i] * sigma + op);
            }
        } else {
            for (size_t i = 0; i < part; i++) nx[i] = nx[i] * sigma + ox, np[i] = np[i] * sigma + op;
        }
        for (size_t i = 0; i < part; i++) {
            int32_t vx = rounded(nx[i], bound), vp = rounded(np[i], bound);
            saturated += (uint32_t)(vx >= r->limit) + (uint32_t)(vx <= -r->limit);
            saturated += (uint32_t)(vp >= r->limit) + (uint32_t)(vp <= -r->limit);
            out[2 * i] = (int16_t)vx, out[2 * i + 1] = (int16_t)vp;
        }
        first += part, out += 2 * part, count -= part;
    }
    return saturated;
}

// MARK: - Levels

#define LEVEL(name, attribute)                                                                                                  \
    attribute static void gaussians_##name(uint64_t seed, uint64_t stream, uint64_t first, size_t count, float *x, float *p) {  \
        gaussians(seed, stream, first, count, x, p);                                                                            \
    }                                                                                                                           \
    attribute static void modulate_##name(uint64_t seed, uint64_t stream, uint64_t first, size_t count, float sigma,            \
                                          int32_t limit, int16_t *out) {                                                        \
        modulate(seed, stream, first, count, sigma, limit, out);                                                                \
    }                                                                                                                           \
    attribute static uint32_t receive_##name(const qo_reception *r, uint64_t first, size_t count, int16_t *out) {               \
        return receive(r, first, count, out);                                                                                   \
    }

LEVEL(portable, )
#if defined(__x86_64__)
LEVEL(avx2, __attribute__((target("avx2"))))
LEVEL(avx512, __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))))
#define CALL(function, ...)                                                                                                     \
    (level >= QO_AVX512 ? function##_avx512(__VA_ARGS__)                                                                        \
                        : level == QO_AVX2 ? function##_avx2(__VA_ARGS__) : function##_portable(__VA_ARGS__))
#else
#define CALL(function, ...) ((void)level, function##_portable(__VA_ARGS__))
#endif

int qo_best_level(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return QO_AVX512;
    if (__builtin_cpu_supports("avx2")) return QO_AVX2;
#endif
    return QO_PORTABLE;
}

void qo_philox(uint64_t seed, uint64_t stream, uint64_t block, uint32_t out[4]) {
    out[0] = (uint32_t)block, out[1] = (uint32_t)(block >> 32), out[2] = (uint32_t)stream, out[3] = (uint32_t)(stream >> 32);
    philox((uint32_t)seed, (uint32_t)(seed >> 32), out, out + 1, out + 2, out + 3);
}

void qo_gaussians(int level, uint64_t seed, uint64_t stream, uint64_t first, size_t count, float *x, float *p) {
    CALL(gaussians, seed, stream, first, count, x, p);
}

void qo_modulate(int level, uint64_t seed, uint64_t stream, uint64_t first, size_t count, float sigma, int32_t limit, int16_t *out) {
    CALL(modulate, seed, stream, first, count, sigma, limit, out);
}

uint32_t qo_receive(int level, const qo_reception *reception, uint64_t first, size_t count, int16_t *out) {
    return CALL(receive, reception, first, count, out);
}
