// Row passes for AVX2: 64 checks at a time in halves of 32.
//
// Posteriors lie in lane order, 16 to a vector (a chunk). A lane shift a is a rotation by a / 16 chunks, which costs nothing
// (chunks are loaded from there), and one by a % 16 lanes, which works on bytes: two in-lane shuffles of neighbouring chunks. Messages are
// kept in the order of the loaded chunks. A table's 128 entries are 64 different ones (ldpc_decoder.c), found by folding the index,
// and these are four shuffles: shuffle j gets index - 16 j, gives zero while that is negative, and holds the difference (exclusive
// or) to the entries 16 below, so that all of them add up to the entry.

#include "ldpc_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>

#pragma clang attribute push(__attribute__((target("avx2"))), apply_to = function)

#define INLINE __attribute__((always_inline)) static inline

/// 64 bytes or the halves of 64 int16 values.
typedef struct {
    __m256i part[2];
} pair;

typedef struct {
    __m256i chunk[4];
} quad;

typedef struct {
    __m128i step[4];
} folded;

INLINE __m256i load(const void *p) { return _mm256_loadu_si256(p); }
INLINE void store(void *p, __m256i v) { _mm256_storeu_si256(p, v); }
INLINE pair load_pair(const void *p) { return (pair){{load(p), load((const char *)p + 32)}}; }
INLINE void store_pair(void *p, pair v) {
    store(p, v.part[0]);
    store((char *)p + 32, v.part[1]);
}

INLINE folded differences(const uint8_t different[64]) {
    folded t;
    __m128i below = _mm_setzero_si128();
    for (int j = 0; j < 4; j++) {
        const __m128i here = _mm_loadu_si128((const void *)(different + 16 * j));
        t.step[j] = _mm_xor_si128(here, below);
        below = here;
    }
    return t;
}

/// Tables of core rows and of LDGM rows (their phi).
INLINE folded make_table(const uint8_t *entries) {
    uint8_t different[64];
    for (int k = 0; k < 32; k++) different[k] = entries[k];
    for (int k = 0; k < 16; k++) different[32 + k] = entries[32 + 2 * k];
    for (int k = 0; k < 16; k++) different[48 + k] = entries[64 + 4 * k];
    return differences(different);
}

/// Index 0 ..< 128 to 0 ..< 64: k, 16 + k / 2 or 32 + k / 4, whichever is least.
INLINE pair fold(pair k) {
    for (int h = 0; h < 2; h++) {
        const __m256i half = _mm256_avg_epu8(k.part[h], _mm256_set1_epi8(31)), quarter = _mm256_avg_epu8(half, _mm256_set1_epi8(47));
        k.part[h] = _mm256_min_epu8(k.part[h], _mm256_min_epu8(half, quarter));
    }
    return k;
}

/// Index 0 ..< 128 to 0 ..< 48: k, 16 + k / 2 or 47, whichever is least.
INLINE pair fold48(pair k) {
    for (int h = 0; h < 2; h++) {
        const __m256i half = _mm256_avg_epu8(k.part[h], _mm256_set1_epi8(31));
        k.part[h] = _mm256_min_epu8(_mm256_min_epu8(k.part[h], half), _mm256_set1_epi8(47));
    }
    return k;
}

/// Entries at folded indices, of a table whose entries from 16 `steps` on are not asked for, or zero from 16 (`steps` - 1) on.
INLINE pair look_up(const folded *t, pair index, const int steps) {
    pair sum;
#pragma clang loop unroll(full)
    for (int h = 0; h < 2; h++) {
        sum.part[h] = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t->step[0]), index.part[h]);
#pragma clang loop unroll(full)
        for (int j = 1; j < steps; j++) {
            const __m256i rest = _mm256_sub_epi8(index.part[h], _mm256_set1_epi8((char)(16 * j)));
            sum.part[h] = _mm256_xor_si256(sum.part[h], _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(t->step[j]), rest));
        }
    }
    return sum;
}

// MARK: Lane shifts

/// Sixteen "nothing", 0 ..< 16, sixteen "nothing": a window of it is a shuffle by some bytes.
static const uint8_t window[48] = {
    0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0,    1,    2,    3,    4,    5,    6,    7,
    8,    9,    10,   11,   12,   13,   14,   15,   0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
};

INLINE __m256i shuffle_by(int start) { return _mm256_broadcastsi128_si256(_mm_loadu_si128((const void *)(window + start))); }

/// An edge of a row while its blocks are walked.
typedef struct {
    int16_t *column;
    int block, chunk, shift;
} cursor;

INLINE cursor start(const ldpc_decoder *d, ldpc_edge e) {
    return (cursor){d->posterior + (size_t)e.column * (size_t)d->code->blocks * LANES, e.block, e.lane / 16, e.lane % 16};
}

INLINE int16_t *next_block(cursor *c, int blocks) {
    int16_t *block = c->column + c->block * LANES;
    c->block = c->block + 1 == blocks ? 0 : c->block + 1;
    return block;
}

/// Chunks 1, 2 and 3, 0 of bytes in chunks 0, 1 and 2, 3.
INLINE pair next_chunks(pair v) {
    return (pair){{_mm256_permute2x128_si256(v.part[0], v.part[1], 0x21), _mm256_permute2x128_si256(v.part[1], v.part[0], 0x21)}};
}

/// Byte l of the result is byte (l + shift) mod 64.
INLINE pair gather(pair v, int shift) {
    const __m256i near = shuffle_by(16 + shift), far = shuffle_by(shift);
    const pair next = next_chunks(v);
    for (int h = 0; h < 2; h++)
        v.part[h] = _mm256_or_si256(_mm256_shuffle_epi8(v.part[h], near), _mm256_shuffle_epi8(next.part[h], far));
    return v;
}

/// Byte l of the result is byte (l - shift) mod 64.
INLINE pair scatter(pair v, int shift) {
    const __m256i near = shuffle_by(16 - shift), far = shuffle_by(32 - shift);
    const pair next = next_chunks(v);
    const pair previous = {{next.part[1], next.part[0]}};
    for (int h = 0; h < 2; h++)
        v.part[h] = _mm256_or_si256(_mm256_shuffle_epi8(v.part[h], near), _mm256_shuffle_epi8(previous.part[h], far));
    return v;
}

INLINE int16_t *chunk_of(int16_t *block, const cursor *c, int i) { return block + 16 * ((c->chunk + i) & 3); }

INLINE quad load_block(int16_t *block, const cursor *c) {
    quad v;
    for (int i = 0; i < 4; i++) v.chunk[i] = load(chunk_of(block, c, i));
    return v;
}

INLINE void store_block(int16_t *block, const cursor *c, quad v) {
    for (int i = 0; i < 4; i++) store(chunk_of(block, c, i), v.chunk[i]);
}

// MARK: Values and messages

/// 16 messages at a time, widened from memory (a message that was just stored comes back from the store queue).
INLINE __m256i widened(const int8_t *m, int i, int weight) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128((const void *)(m + 16 * i)));
    return weight == CORE_WEIGHT ? _mm256_slli_epi16(wide, 2) : wide;
}

INLINE quad take_out(quad v, const int8_t *m, int weight) {
    for (int i = 0; i < 4; i++) v.chunk[i] = _mm256_sub_epi16(v.chunk[i], widened(m, i, weight));
    return v;
}

INLINE quad put_back(quad v, const int8_t *m, int weight) {
    for (int i = 0; i < 4; i++) v.chunk[i] = _mm256_add_epi16(v.chunk[i], widened(m, i, weight));
    return v;
}

/// Values, shifted right and saturated to bytes, in the order of the loaded chunks.
INLINE pair narrowed(quad v, int right) {
    for (int i = 0; i < 4; i++) v.chunk[i] = _mm256_srai_epi16(v.chunk[i], right);
    pair k;
    for (int h = 0; h < 2; h++)
        k.part[h] = _mm256_permute4x64_epi64(_mm256_packs_epi16(v.chunk[2 * h], v.chunk[2 * h + 1]), 0xd8);
    return k;
}

/// The same in check order.
INLINE pair packed(quad v, int right, int shift) { return gather(narrowed(v, right), shift); }

INLINE pair magnitude(pair k) {
    for (int h = 0; h < 2; h++) k.part[h] = _mm256_xor_si256(k.part[h], _mm256_cmpgt_epi8(_mm256_setzero_si256(), k.part[h]));
    return k;
}

INLINE pair xored(pair a, pair b) {
    for (int h = 0; h < 2; h++) a.part[h] = _mm256_xor_si256(a.part[h], b.part[h]);
    return a;
}

INLINE pair added(pair a, pair b) {
    for (int h = 0; h < 2; h++) a.part[h] = _mm256_adds_epi8(a.part[h], b.part[h]);
    return a;
}

INLINE pair averaged(pair a, pair b) {
    for (int h = 0; h < 2; h++) a.part[h] = _mm256_avg_epu8(a.part[h], b.part[h]);
    return a;
}

/// 63 from 63 on.
INLINE pair bounded(pair a) {
    for (int h = 0; h < 2; h++) a.part[h] = _mm256_min_epu8(a.part[h], _mm256_set1_epi8(63));
    return a;
}

/// `m`, negated where the sign bytes are negative.
INLINE pair signed_by(pair m, pair sign) {
    for (int h = 0; h < 2; h++) m.part[h] = _mm256_sign_epi8(m.part[h], _mm256_or_si256(sign.part[h], _mm256_set1_epi8(1)));
    return m;
}

/// Bytes 0 or -1 from bits.
INLINE pair spread(uint64_t bits) {
    const __m256i spots = _mm256_setr_epi64x(0, 0x0101010101010101, 0x0202020202020202, 0x0303030303030303);
    const __m256i bit = _mm256_set1_epi64x((long long)0x8040201008040201);
    pair mask;
    for (int h = 0; h < 2; h++) {
        const __m256i bytes = _mm256_shuffle_epi8(_mm256_set1_epi32((int)(bits >> (32 * h))), spots);
        mask.part[h] = _mm256_cmpeq_epi8(_mm256_and_si256(bytes, bit), bit);
    }
    return mask;
}

INLINE int negative(pair v) {
    return __builtin_popcount((unsigned)_mm256_movemask_epi8(v.part[0])) + __builtin_popcount((unsigned)_mm256_movemask_epi8(v.part[1]));
}

// MARK: Rows

/// The upper byte of 16-bit phi is zero from index 32 on for every posterior step up to 64.
enum { HIGH_STEPS = 3, LDGM_PHI_STEPS = 3, ALL_STEPS = 4 };

INLINE void ldgm_row_of(ldpc_decoder *d, int row, const int degree) {
    const ldpc_code *c = d->code;
    const int blocks = c->blocks;
    const uint32_t first_edge = c->row_start[row];
    const folded phi_table = make_table(d->lookup.phi), inverse = differences(d->lookup.inverse);
    const size_t first = (size_t)(row - c->core_rows) * (size_t)blocks;
    int8_t *message = d->message + (size_t)first_edge * (size_t)blocks * LANES;
    cursor edge[MAX_LDGM_DEGREE];
    for (int j = 0; j < degree; j++) edge[j] = start(d, c->edge[first_edge + (uint32_t)j]);
    for (int i = 0; i < blocks; i++, message += LANES * degree) {
        int16_t *block[MAX_LDGM_DEGREE];
        quad value[MAX_LDGM_DEGREE];
        pair sign[MAX_LDGM_DEGREE], phi[MAX_LDGM_DEGREE], total = spread(d->channel_sign[first + (size_t)i]);
#pragma clang loop unroll(full)
        for (int j = 0; j < degree; j++) {
            block[j] = next_block(&edge[j], blocks);
            value[j] = take_out(load_block(block[j], &edge[j]), message + LANES * j, 1);
            sign[j] = narrowed(value[j], INDEX_SHIFT);
            if (j) sign[j] = gather(sign[j], edge[j].shift);  // the first edge has no lane shift
            phi[j] = look_up(&phi_table, fold48(magnitude(sign[j])), LDGM_PHI_STEPS);
            total = xored(total, sign[j]);
        }
        const pair channel = load_pair(d->channel_phi + (first + (size_t)i) * LANES);
#pragma clang loop unroll(full)
        for (int j = 0; j < degree; j++) {
            const int last = j == degree - 1 ? degree - 2 : degree - 1;
            pair sum = channel;
#pragma clang loop unroll(full)
            for (int k = 0; k < last; k++)
                if (k != j) sum = added(sum, phi[k]);
            const pair half_sum = averaged(sum, phi[last]);
            const pair out = signed_by(look_up(&inverse, bounded(half_sum), ALL_STEPS), xored(total, sign[j]));
            const pair m = j ? scatter(out, edge[j].shift) : out;
            store_pair(message + LANES * j, m);
            store_block(block[j], &edge[j], put_back(value[j], message + LANES * j, 1));
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

/// 16-bit phi, low halves of the 128-bit lanes in `low` and high halves in `high`, as unpacking leaves them.
typedef struct {
    pair low, high;
} phi16;

INLINE phi16 wide_phi(const folded *low, const folded *high, pair index) {
    const pair l = look_up(low, index, ALL_STEPS), h = look_up(high, index, HIGH_STEPS);
    phi16 f;
    for (int i = 0; i < 2; i++) {
        f.low.part[i] = _mm256_unpacklo_epi8(l.part[i], h.part[i]);
        f.high.part[i] = _mm256_unpackhi_epi8(l.part[i], h.part[i]);
    }
    return f;
}

INLINE phi16 plus(phi16 a, phi16 b) {
    for (int i = 0; i < 2; i++) {
        a.low.part[i] = _mm256_add_epi16(a.low.part[i], b.low.part[i]);
        a.high.part[i] = _mm256_add_epi16(a.high.part[i], b.high.part[i]);
    }
    return a;
}

/// Core message magnitudes from the sum of all phi without one of them.
INLINE pair core_inverse(phi16 total, phi16 own, const folded *fine, const folded *coarse) {
    pair exact, rough;
    for (int i = 0; i < 2; i++) {
        const __m256i low = _mm256_sub_epi16(total.low.part[i], own.low.part[i]);
        const __m256i high = _mm256_sub_epi16(total.high.part[i], own.high.part[i]);
        exact.part[i] = _mm256_packus_epi16(low, high);
        const __m256i bytes = _mm256_packus_epi16(_mm256_srli_epi16(low, COARSE_SHIFT), _mm256_srli_epi16(high, COARSE_SHIFT));
        rough.part[i] = _mm256_min_epu8(bytes, _mm256_set1_epi8(127));
    }
    const pair f = look_up(fine, fold(magnitude(exact)), ALL_STEPS), r = look_up(coarse, fold(rough), ALL_STEPS);
    pair result;
    for (int i = 0; i < 2; i++) result.part[i] = _mm256_blendv_epi8(f.part[i], r.part[i], exact.part[i]);
    return result;
}

static int core_row(ldpc_decoder *d, int row) {
    const ldpc_code *c = d->code;
    const int blocks = c->blocks, degree = (int)(c->row_start[row + 1] - c->row_start[row]);
    const uint32_t first_edge = c->row_start[row];
    const folded low_table = make_table(d->lookup.phi_low), high_table = make_table(d->lookup.phi_high);
    const folded fine = make_table(d->sure ? d->lookup.fine_sure : d->lookup.fine), coarse = make_table(d->lookup.coarse);
    int8_t *message = d->message + (size_t)first_edge * (size_t)blocks * LANES;
    cursor edge[MAX_CORE_DEGREE];
    for (int j = 0; j < degree; j++) edge[j] = start(d, c->edge[first_edge + (uint32_t)j]);
    int bad = 0;
    for (int i = 0; i < blocks; i++, message += LANES * degree) {
        const pair syndrome = spread(d->core_syndrome[(size_t)row * (size_t)blocks + (size_t)i]);
        pair sign[MAX_CORE_DEGREE], total = syndrome, parity = syndrome;
        phi16 phi[MAX_CORE_DEGREE], sum = {0};
        int16_t *block[MAX_CORE_DEGREE];
        for (int j = 0; j < degree; j++) {
            block[j] = next_block(&edge[j], blocks);
            const quad now = load_block(block[j], &edge[j]);
            parity = xored(parity, packed(now, 0, edge[j].shift));
            const quad value = take_out(now, message + LANES * j, CORE_WEIGHT);
            store_block(block[j], &edge[j], value);
            sign[j] = packed(value, INDEX_SHIFT, edge[j].shift);
            total = xored(total, sign[j]);
            phi[j] = wide_phi(&low_table, &high_table, fold(magnitude(sign[j])));
            sum = plus(sum, phi[j]);
        }
        bad += negative(parity);
        for (int j = 0; j < degree; j++) {
            const pair out = signed_by(core_inverse(sum, phi[j], &fine, &coarse), xored(total, sign[j]));
            const pair m = scatter(out, edge[j].shift);
            store_pair(message + LANES * j, m);
            store_block(block[j], &edge[j], put_back(load_block(block[j], &edge[j]), message + LANES * j, CORE_WEIGHT));
        }
    }
    return bad;
}

static int core_parity(const ldpc_decoder *d, int row) {
    const ldpc_code *c = d->code;
    int bad = 0;
    for (int i = 0; i < c->blocks; i++) {
        pair parity = spread(d->core_syndrome[(size_t)row * (size_t)c->blocks + (size_t)i]);
        for (uint32_t e = c->row_start[row]; e < c->row_start[row + 1]; e++) {
            cursor edge = start(d, c->edge[e]);
            edge.block = (edge.block + i) % c->blocks;
            parity = xored(parity, packed(load_block(next_block(&edge, c->blocks), &edge), 0, edge.shift));
        }
        bad += negative(parity);
    }
    return bad;
}

static unsigned message_place(unsigned shift, unsigned lane) { return (lane - shift / 16 * 16) % LANES; }

#pragma clang attribute pop

const struct ldpc_kernel ldpc_avx2 = {ldpc_lanes, ldpc_load_avx2, ldgm_row, core_row, core_parity, message_place};
#endif
