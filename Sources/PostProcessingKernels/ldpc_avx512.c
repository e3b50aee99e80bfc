// Row passes for AVX-512 with VBMI: 64 checks at a time.
//
// A block of 64 posteriors is two vectors: even lanes, then odd lanes. So the two int16 vectors pack into one byte vector and a byte
// vector of messages widens again by one multiply-add each, without shuffles; one byte permutation per direction then does both
// the lane shift and the packing order. Messages are kept in lane order of the *column*. A table of 128 bytes is one two-source
// byte permutation.

#include "ldpc_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vbmi"))), apply_to = function)

/// Even lanes at 0 ..< 32, odd lanes at 32 ..< 64.
static const uint8_t lane_position[LANES] = {
    0, 32, 1, 33, 2,  34, 3,  35, 4,  36, 5,  37, 6,  38, 7,  39, 8,  40, 9,  41, 10, 42, 11, 43, 12, 44, 13, 45, 14, 46, 15, 47,
    16, 48, 17, 49, 18, 50, 19, 51, 20, 52, 21, 53, 22, 54, 23, 55, 24, 56, 25, 57, 26, 58, 27, 59, 28, 60, 29, 61, 30, 62, 31, 63,
};

typedef struct {
    __m512i low, high;
} table128;

static inline __m512i load(const void *p) { return _mm512_loadu_si512(p); }
static inline void store(void *p, __m512i v) { _mm512_storeu_si512(p, v); }
static inline table128 load_table(const uint8_t *p) { return (table128){load(p), load(p + 64)}; }
static inline __m512i look_up(table128 t, __m512i index) { return _mm512_permutex2var_epi8(t.low, index, t.high); }

/// Packing two int16 vectors works in 16-byte parts, even lanes before odd ones: lane t sits at 16 (t / 16) + 8 (t % 2) + (t % 16) / 2.
/// A permutation brings packed bytes into check order for lane shift a: check l takes lane (l + a) mod 64. Window a of two turns of
/// these places is that permutation, and window 64 - a of two turns of 0 ... 63 leads back: column lane t takes check (t - a) mod 64.
#define PACKED_PLACES                                                                                                              \
    0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15, 16, 24, 17, 25, 18, 26, 19, 27, 20, 28, 21, 29, 22, 30, 23, 31, 32, 40, \
        33, 41, 34, 42, 35, 43, 36, 44, 37, 45, 38, 46, 39, 47, 48, 56, 49, 57, 50, 58, 51, 59, 52, 60, 53, 61, 54, 62, 55, 63
#define LANE_PLACES                                                                                                                \
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33,  \
        34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63

static const uint8_t packed_places[2 * LANES] = {PACKED_PLACES, PACKED_PLACES}, lane_places[2 * LANES] = {LANE_PLACES, LANE_PLACES};

static inline __m512i gather_order(int a) { return load(packed_places + a); }
static inline __m512i scatter_order(int a) { return load(lane_places + LANES - a); }

/// An edge of a row while its blocks are walked.
typedef struct {
    __m512i gather, scatter;
    int16_t *column;
    int block;
} cursor;

static inline cursor start(const ldpc_decoder *d, ldpc_edge e) {
    return (cursor){gather_order(e.lane), scatter_order(e.lane), d->posterior + (size_t)e.column * (size_t)d->code->blocks * LANES,
                    e.block};
}

static inline int16_t *next_block(cursor *c, int blocks) {
    int16_t *block = c->column + c->block * LANES;
    c->block = c->block + 1 == blocks ? 0 : c->block + 1;
    return block;
}

/// Index of the magnitude's phi from two vectors of values, in check order; the sign's mask apart.
static inline __m512i index_of(__m512i even, __m512i odd, __m512i gather, __mmask64 *sign) {
    const __m512i packed = _mm512_packs_epi16(_mm512_srai_epi16(even, INDEX_SHIFT), _mm512_srai_epi16(odd, INDEX_SHIFT));
    const __m512i k = _mm512_permutexvar_epi8(gather, packed);
    *sign = _mm512_movepi8_mask(k);
    return _mm512_mask_sub_epi8(k, *sign, _mm512_set1_epi8(-1), k);  // ~k where negative
}

static inline __m512i negate(__m512i magnitude, __mmask64 sign) {
    return _mm512_mask_sub_epi8(magnitude, sign, _mm512_setzero_si512(), magnitude);
}

/// Widened messages of even and odd lanes, times `weight`.
static inline __m512i even_of(__m512i message, int weight) { return _mm512_maddubs_epi16(_mm512_set1_epi16((short)weight), message); }
static inline __m512i odd_of(__m512i message, int weight) { return _mm512_maddubs_epi16(_mm512_set1_epi16((short)(weight << 8)), message); }

__attribute__((always_inline)) static inline void ldgm_row_of(ldpc_decoder *d, int row, const int degree) {
    const ldpc_code *c = d->code;
    const int blocks = c->blocks;
    const uint32_t first_edge = c->row_start[row];
    const table128 phi_table = load_table(d->lookup.phi), inverse = load_table(d->lookup.inverse);
    const size_t first = (size_t)(row - c->core_rows) * (size_t)blocks;
    const int8_t *own = d->channel_phi + first * LANES;
    int8_t *message = d->message + (size_t)first_edge * (size_t)blocks * LANES;
    cursor edge[MAX_LDGM_DEGREE];
    for (int j = 0; j < degree; j++) edge[j] = start(d, c->edge[first_edge + (uint32_t)j]);
    for (int i = 0; i < blocks; i++, message += LANES * degree) {
        int16_t *block[MAX_LDGM_DEGREE];
        __m512i even[MAX_LDGM_DEGREE], odd[MAX_LDGM_DEGREE], phi[MAX_LDGM_DEGREE];
        __mmask64 sign[MAX_LDGM_DEGREE], total = d->channel_sign[first + (size_t)i];
#pragma clang loop unroll(full)
        for (int j = 0; j < degree; j++) {
            block[j] = next_block(&edge[j], blocks);
            const __m512i m = load(message + LANES * j);
            even[j] = _mm512_sub_epi16(load(block[j]), even_of(m, 1));
            odd[j] = _mm512_sub_epi16(load(block[j] + 32), odd_of(m, 1));
            phi[j] = look_up(phi_table, index_of(even[j], odd[j], edge[j].gather, &sign[j]));
            total ^= sign[j];
        }
        const __m512i channel = load(own + LANES * i);
#pragma clang loop unroll(full)
        for (int j = 0; j < degree; j++) {
            const int last = j == degree - 1 ? degree - 2 : degree - 1;
            __m512i sum = channel;
#pragma clang loop unroll(full)
            for (int k = 0; k < last; k++)
                if (k != j) sum = _mm512_adds_epi8(sum, phi[k]);
            __m512i m = negate(look_up(inverse, _mm512_avg_epu8(sum, phi[last])), total ^ sign[j]);
            if (j) m = _mm512_permutexvar_epi8(edge[j].scatter, m);  // the first edge has no lane shift
            store(message + LANES * j, m);
            store(block[j], _mm512_add_epi16(even[j], even_of(m, 1)));
            store(block[j] + 32, _mm512_add_epi16(odd[j], odd_of(m, 1)));
        }
    }
}

static void ldgm_row(ldpc_decoder *d, int row) {
    switch (d->code->row_start[row + 1] - d->code->row_start[row]) {
        case 2: ldgm_row_of(d, row, 2); break;
        case 3: ldgm_row_of(d, row, 3); break;
        default: ldgm_row_of(d, row, 4); break;
    }
}

/// Core message magnitudes from 16-bit phi sums, given as unpacked halves.
static inline __m512i core_inverse(__m512i low, __m512i high, table128 fine, table128 coarse) {
    const __m512i exact = _mm512_packus_epi16(low, high);
    const __m512i rough = _mm512_packus_epi16(_mm512_srli_epi16(low, COARSE_SHIFT), _mm512_srli_epi16(high, COARSE_SHIFT));
    const __m512i bounded = _mm512_min_epu8(rough, _mm512_set1_epi8(127));
    return _mm512_mask_mov_epi8(look_up(fine, exact), _mm512_movepi8_mask(exact), look_up(coarse, bounded));
}

static int core_row(ldpc_decoder *d, int row) {
    const ldpc_code *c = d->code;
    const int blocks = c->blocks, degree = (int)(c->row_start[row + 1] - c->row_start[row]);
    const uint32_t first_edge = c->row_start[row];
    const table128 low_table = load_table(d->lookup.phi_low), high_table = load_table(d->lookup.phi_high);
    const table128 fine = load_table(d->sure ? d->lookup.fine_sure : d->lookup.fine), coarse = load_table(d->lookup.coarse);
    int8_t *message = d->message + (size_t)first_edge * (size_t)blocks * LANES;
    cursor edge[MAX_CORE_DEGREE];
    for (int j = 0; j < degree; j++) edge[j] = start(d, c->edge[first_edge + (uint32_t)j]);
    int bad = 0;
    for (int i = 0; i < blocks; i++, message += LANES * degree) {
        const uint64_t syndrome = d->core_syndrome[(size_t)row * (size_t)blocks + (size_t)i];
        __m512i low[MAX_CORE_DEGREE], high[MAX_CORE_DEGREE];
        __m512i low_sum = _mm512_setzero_si512(), high_sum = low_sum, parity = low_sum;
        __mmask64 sign[MAX_CORE_DEGREE], total = syndrome;
        int16_t *block[MAX_CORE_DEGREE];
        for (int j = 0; j < degree; j++) {
            block[j] = next_block(&edge[j], blocks);
            const __m512i m = load(message + LANES * j);
            __m512i even = load(block[j]), odd = load(block[j] + 32);
            parity = _mm512_xor_si512(parity, _mm512_permutexvar_epi8(edge[j].gather, _mm512_packs_epi16(even, odd)));
            even = _mm512_sub_epi16(even, even_of(m, CORE_WEIGHT));
            odd = _mm512_sub_epi16(odd, odd_of(m, CORE_WEIGHT));
            store(block[j], even);
            store(block[j] + 32, odd);
            const __m512i k = index_of(even, odd, edge[j].gather, &sign[j]);
            total ^= sign[j];
            const __m512i low_bytes = look_up(low_table, k), high_bytes = look_up(high_table, k);
            low[j] = _mm512_unpacklo_epi8(low_bytes, high_bytes);
            high[j] = _mm512_unpackhi_epi8(low_bytes, high_bytes);
            low_sum = _mm512_add_epi16(low_sum, low[j]);
            high_sum = _mm512_add_epi16(high_sum, high[j]);
        }
        bad += __builtin_popcountll(_mm512_movepi8_mask(parity) ^ syndrome);
        for (int j = 0; j < degree; j++) {
            const __m512i magnitude =
                core_inverse(_mm512_sub_epi16(low_sum, low[j]), _mm512_sub_epi16(high_sum, high[j]), fine, coarse);
            const __m512i m = _mm512_permutexvar_epi8(edge[j].scatter, negate(magnitude, total ^ sign[j]));
            store(message + LANES * j, m);
            store(block[j], _mm512_add_epi16(load(block[j]), even_of(m, CORE_WEIGHT)));
            store(block[j] + 32, _mm512_add_epi16(load(block[j] + 32), odd_of(m, CORE_WEIGHT)));
        }
    }
    return bad;
}

static int core_parity(const ldpc_decoder *d, int row) {
    const ldpc_code *c = d->code;
    int bad = 0;
    for (int i = 0; i < c->blocks; i++) {
        __m512i parity = _mm512_setzero_si512();
        for (uint32_t e = c->row_start[row]; e < c->row_start[row + 1]; e++) {
            const int b = (i + c->edge[e].block) % c->blocks;
            const int16_t *block = d->posterior + ((size_t)c->edge[e].column * (size_t)c->blocks + (size_t)b) * LANES;
            const __m512i packed = _mm512_packs_epi16(load(block), load(block + 32));
            parity = _mm512_xor_si512(parity, _mm512_permutexvar_epi8(gather_order(c->edge[e].lane), packed));
        }
        bad += __builtin_popcountll(_mm512_movepi8_mask(parity) ^ d->core_syndrome[(size_t)row * (size_t)c->blocks + (size_t)i]);
    }
    return bad;
}

static unsigned message_place(unsigned shift, unsigned lane) {
    (void)shift;
    return lane;
}

#pragma clang attribute pop

const struct ldpc_kernel ldpc_avx512 = {lane_position, ldpc_load_avx512, ldgm_row, core_row, core_parity, message_place};
#endif
