// What enters the decoder: values of the channel to posteriors, to phi and to signs. One body, compiled for each level.

#include <math.h>
#include <string.h>

#include "ldpc_internal.h"

enum {
    POSTERIOR_LIMIT = 8191,
    /// |LLR| is told apart by its exponent and four bits of its mantissa, from 2^-5.5 (nothing is known) to 2^2.5 (no doubt is left).
    MANTISSA_BITS = 19,
    FIRST_OCTAVE = 1944,
    INFINITE = 0x7f800000,
};

#define INLINE __attribute__((always_inline)) static inline

void ldpc_make_channel_table(uint8_t table[128], double phi_scale) {
    for (int k = 0; k < 128; k++) {
        const uint32_t middle = (uint32_t)(FIRST_OCTAVE + k) << MANTISSA_BITS | 1u << (MANTISSA_BITS - 1);
        float value;
        memcpy(&value, &middle, sizeof value);
        const double phi = k == 0 ? 127 : floor(-log(tanh(value / 2)) * phi_scale + .5);
        table[k] = (uint8_t)(phi > 127 ? 127 : phi);
    }
}

/// Posterior steps, rounded down; values that are not finite count as 0.
INLINE void posteriors_of(const float *llr, float step, int16_t *restrict steps) {
    for (int l = 0; l < LANES; l++) {
        float value = llr[l] - llr[l] == 0 ? llr[l] * step : 0;
        value = value < -POSTERIOR_LIMIT ? -POSTERIOR_LIMIT : value;
        value = value > POSTERIOR_LIMIT ? POSTERIOR_LIMIT : value;
        const int32_t whole = (int32_t)value;
        steps[l] = (int16_t)(whole - (value < (float)whole));
    }
}

/// Indices into the channel's table, and bytes that are 1 where the value is negative.
INLINE void channel_of(const float *llr, uint8_t *restrict index, uint8_t *restrict negative) {
    int32_t pattern[LANES];
    memcpy(pattern, llr, sizeof pattern);
    for (int l = 0; l < LANES; l++) {
        const int32_t magnitude = pattern[l] & INT32_MAX;
        int32_t k = (magnitude < INFINITE ? magnitude >> MANTISSA_BITS : 0) - FIRST_OCTAVE;
        k = k < 0 ? 0 : k;
        index[l] = (uint8_t)(k > 127 ? 127 : k);
        negative[l] = (uint8_t)((pattern[l] < 0) & (magnitude < INFINITE));
    }
}

/// Bits from 64 bytes that are 0 or 1: a multiplication brings eight of them together.
INLINE uint64_t bits_of(const uint8_t *bytes) {
    uint64_t bits = 0;
    for (int k = 0; k < 8; k++) {
        uint64_t eight;
        memcpy(&eight, bytes + 8 * k, 8);
        bits |= (eight * 0x0102040810204080ull >> 56) << (8 * k);
    }
    return bits;
}

typedef void entries_of(const uint8_t table[128], const uint8_t *index, int8_t *entry);

INLINE void load_all(ldpc_decoder *d, const float *llr, const uint64_t *syndrome, entries_of *const entries) {
    const ldpc_code *c = d->code;
    const size_t core = (size_t)c->core_columns * (size_t)c->blocks, all = core + (size_t)c->ldgm_rows * (size_t)c->blocks;
    const uint64_t *own = syndrome + (size_t)c->core_rows * (size_t)c->blocks;
    const uint8_t *position = d->kernel->lane_position;
    const float step = (float)c->posterior_step;
    union {
        int16_t steps[LANES];
        struct {
            uint8_t index[LANES], negative[LANES];
        } channel;
    } part;
    for (size_t plane = 0; plane < all; plane++, llr += LANES) {
        const size_t word = c->plane_order[plane];
        if (word < core) {
            int16_t *block = d->posterior + word * LANES;
            posteriors_of(llr, step, part.steps);
            for (int l = 0; l < LANES; l++) block[position[l]] = part.steps[l];
        } else {
            channel_of(llr, part.channel.index, part.channel.negative);
            entries(d->channel_table, part.channel.index, d->channel_phi + (word - core) * LANES);
            // The row's own bit is known through the channel, its sum with the core bits through the syndrome.
            d->channel_sign[word - core] = bits_of(part.channel.negative) ^ own[word - core];
        }
    }
    ldpc_wipe(&part, sizeof part);
}

INLINE void plain_entries(const uint8_t table[128], const uint8_t *index, int8_t *entry) {
    for (int l = 0; l < LANES; l++) entry[l] = (int8_t)table[index[l]];
}

void ldpc_load_portable(ldpc_decoder *d, const float *llr, const uint64_t *syndrome) { load_all(d, llr, syndrome, plain_entries); }

#if defined(__x86_64__)
#include <immintrin.h>

__attribute__((target("avx2"))) void ldpc_load_avx2(ldpc_decoder *d, const float *llr, const uint64_t *syndrome) {
    load_all(d, llr, syndrome, plain_entries);
}

#define AVX512 __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")))

AVX512 INLINE void permuted_entries(const uint8_t table[128], const uint8_t *index, int8_t *entry) {
    const __m512i low = _mm512_loadu_si512(table), high = _mm512_loadu_si512(table + 64);
    _mm512_storeu_si512(entry, _mm512_permutex2var_epi8(low, _mm512_loadu_si512(index), high));
}

AVX512 void ldpc_load_avx512(ldpc_decoder *d, const float *llr, const uint64_t *syndrome) {
    load_all(d, llr, syndrome, permuted_entries);
}
#endif
