// Row passes in plain C: what every other kernel must reproduce bit for bit.

#include <string.h>

#include "ldpc_internal.h"

const uint8_t ldpc_lanes[LANES] = {
    0,  1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31,
    32, 33, 34, 35, 36, 37, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 62, 63,
};

/// to[l] = from[(l + lane) mod 64]. Copies of fixed length, which compile to a few moves.
static inline void rotate_in(int16_t *to, const int16_t *from, unsigned lane) {
    int16_t twice[2 * LANES];
    memcpy(twice, from, LANES * sizeof *to);
    memcpy(twice + LANES, from, LANES * sizeof *to);
    memcpy(to, twice + lane, LANES * sizeof *to);
}

/// to[(l + lane) mod 64] = from[l].
static inline void rotate_out(int16_t *to, const int16_t *from, unsigned lane) { rotate_in(to, from, (LANES - lane) % LANES); }

static inline int16_t *block_of(const ldpc_decoder *d, ldpc_edge e, int i) {
    const int blocks = d->code->blocks;
    const int b = i + e.block < blocks ? i + e.block : i + e.block - blocks;
    return d->posterior + ((size_t)e.column * (size_t)blocks + (size_t)b) * LANES;
}

/// Posterior without this edge's message, its sign mask (0 or -1), and the index of its magnitude.
static inline void take_out(int16_t *value, const int8_t *message, int weight, int8_t *sign, uint8_t *index) {
    for (int l = 0; l < LANES; l++) {
        value[l] = (int16_t)(value[l] - weight * message[l]);
        int16_t k = (int16_t)(value[l] >> INDEX_SHIFT);
        const int16_t s = (int16_t)(k >> 15);
        k = (int16_t)(k ^ s);
        index[l] = (uint8_t)(k > 127 ? 127 : k);
        sign[l] = (int8_t)s;
    }
}

static inline void look_up(const uint8_t *table, const uint8_t *restrict index, uint8_t *restrict entry) {
    for (int l = 0; l < LANES; l++) entry[l] = table[index[l]];
}

/// Half the sum of the channel's phi and those of all edges but one, rounded up; all terms but the last one saturate at 127.
static inline void half_sum_of_others(const int8_t *restrict own, uint8_t phi[][LANES], int degree, int but, uint8_t *restrict half) {
    const int last = but == degree - 1 ? degree - 2 : degree - 1;
    uint16_t wide[LANES];
    for (int l = 0; l < LANES; l++) wide[l] = (uint16_t)own[l];
    for (int k = 0; k < last; k++)
        if (k != but)
            for (int l = 0; l < LANES; l++) wide[l] = (uint16_t)(wide[l] + phi[k][l]);
    for (int l = 0; l < LANES; l++) half[l] = (uint8_t)(((wide[l] > 127 ? 127 : wide[l]) + phi[last][l] + 1) >> 1);
}

static inline void put_back(int16_t *value, int8_t *message, const uint8_t *magnitude, const int8_t *sign, const int8_t *total, int weight) {
    for (int l = 0; l < LANES; l++) {
        const int8_t s = (int8_t)(sign[l] ^ total[l]);
        message[l] = (int8_t)((int8_t)(magnitude[l] ^ s) - s);
        value[l] = (int16_t)(value[l] + weight * message[l]);
    }
}

static inline void spread(uint64_t bits, int8_t *mask) {
    for (int l = 0; l < LANES; l++) mask[l] = (int8_t) - (int8_t)(bits >> l & 1);
}

static void ldgm_row(ldpc_decoder *d, int row) {
    const ldpc_code *c = d->code;
    const ldpc_edge *edge = c->edge + c->row_start[row];
    const int degree = (int)(c->row_start[row + 1] - c->row_start[row]);
    const size_t first = (size_t)(row - c->core_rows) * (size_t)c->blocks;
    int8_t *message = d->message + (size_t)c->row_start[row] * (size_t)c->blocks * LANES;
    for (int i = 0; i < c->blocks; i++, message += LANES * degree) {
        int16_t value[MAX_LDGM_DEGREE][LANES];
        int8_t sign[MAX_LDGM_DEGREE][LANES], total[LANES];
        uint8_t phi[MAX_LDGM_DEGREE][LANES], index[LANES], out[LANES];
        spread(d->channel_sign[first + (size_t)i], total);
        for (int j = 0; j < degree; j++) {
            rotate_in(value[j], block_of(d, edge[j], i), edge[j].lane);
            take_out(value[j], message + LANES * j, 1, sign[j], index);
            look_up(d->lookup.phi, index, phi[j]);
            for (int l = 0; l < LANES; l++) total[l] ^= sign[j][l];
        }
        const int8_t *own = d->channel_phi + (first + (size_t)i) * LANES;
        for (int j = 0; j < degree; j++) {
            half_sum_of_others(own, phi, degree, j, index);
            look_up(d->lookup.inverse, index, out);
            put_back(value[j], message + LANES * j, out, sign[j], total, 1);
            rotate_out(block_of(d, edge[j], i), value[j], edge[j].lane);
        }
    }
}

static int failing(const int8_t *mask) {
    int count = 0;
    for (int l = 0; l < LANES; l++) count -= mask[l];
    return count;
}

static int core_row(ldpc_decoder *d, int row) {
    const ldpc_code *c = d->code;
    const ldpc_edge *edge = c->edge + c->row_start[row];
    const int degree = (int)(c->row_start[row + 1] - c->row_start[row]);
    int8_t *message = d->message + (size_t)c->row_start[row] * (size_t)c->blocks * LANES;
    const uint8_t *fine = d->sure ? d->lookup.fine_sure : d->lookup.fine;
    int bad = 0;
    for (int i = 0; i < c->blocks; i++, message += LANES * degree) {
        int16_t value[MAX_CORE_DEGREE][LANES];
        int8_t sign[MAX_CORE_DEGREE][LANES], total[LANES], parity[LANES];
        uint8_t out[LANES];
        uint16_t phi[MAX_CORE_DEGREE][LANES], sum[LANES] = {0};
        spread(d->core_syndrome[(size_t)row * (size_t)c->blocks + (size_t)i], total);
        memcpy(parity, total, sizeof parity);
        for (int j = 0; j < degree; j++) {
            uint8_t index[LANES];
            rotate_in(value[j], block_of(d, edge[j], i), edge[j].lane);
            for (int l = 0; l < LANES; l++) parity[l] ^= (int8_t)(value[j][l] >> 15);
            take_out(value[j], message + LANES * j, CORE_WEIGHT, sign[j], index);
            for (int l = 0; l < LANES; l++) phi[j][l] = (uint16_t)(d->lookup.phi_low[index[l]] | d->lookup.phi_high[index[l]] << 8);
            for (int l = 0; l < LANES; l++) sum[l] = (uint16_t)(sum[l] + phi[j][l]);
            for (int l = 0; l < LANES; l++) total[l] ^= sign[j][l];
        }
        bad += failing(parity);
        for (int j = 0; j < degree; j++) {
            for (int l = 0; l < LANES; l++) {
                const unsigned rest = (uint16_t)(sum[l] - phi[j][l]), high = rest >> COARSE_SHIFT;
                out[l] = (uint8_t)(rest < 128 ? fine[rest] : d->lookup.coarse[high > 127 ? 127 : high]);
            }
            put_back(value[j], message + LANES * j, out, sign[j], total, CORE_WEIGHT);
            rotate_out(block_of(d, edge[j], i), value[j], edge[j].lane);
        }
    }
    return bad;
}

static int core_parity(const ldpc_decoder *d, int row) {
    const ldpc_code *c = d->code;
    int bad = 0;
    for (int i = 0; i < c->blocks; i++) {
        int8_t parity[LANES];
        spread(d->core_syndrome[(size_t)row * (size_t)c->blocks + (size_t)i], parity);
        for (uint32_t e = c->row_start[row]; e < c->row_start[row + 1]; e++) {
            int16_t value[LANES];
            rotate_in(value, block_of(d, c->edge[e], i), c->edge[e].lane);
            for (int l = 0; l < LANES; l++) parity[l] ^= (int8_t)(value[l] >> 15);
        }
        bad += failing(parity);
    }
    return bad;
}

static unsigned message_place(unsigned shift, unsigned lane) { return (lane - shift) % LANES; }

const struct ldpc_kernel ldpc_portable = {ldpc_lanes, ldpc_load_portable, ldgm_row, core_row, core_parity, message_place};
