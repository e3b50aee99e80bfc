// Codes: expanding and checking their tables, syndromes, and the fixed interleaver.

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ldpc_internal.h"

int ldpc_code_count(void) { return ldpc_design_count; }

static bool exists(int index) { return index >= 0 && index < ldpc_design_count; }

/// Rows that one step leaves out: frames stay whole numbers of 512 bits.
static int rows_per_step(const struct ldpc_design *d) { return d->blocks % 8 == 0 ? 1 : 2; }

int ldpc_code_steps(int index) { return exists(index) ? ldpc_designs[index].tail_rows / rows_per_step(&ldpc_designs[index]) : 0; }
double ldpc_code_efficiency(int index) { return exists(index) ? ldpc_designs[index].efficiency : 0; }

ldpc_code *ldpc_code_open(int index, int step) {
    if (!exists(index) || step < 0 || step > ldpc_code_steps(index)) return NULL;
    const struct ldpc_design *d = &ldpc_designs[index];
    const int rows = d->core_rows + d->ldgm_rows, kept = rows - step * rows_per_step(d);
    size_t bytes = 0;
    for (int row = 0; row < kept && bytes < d->table_bytes; row++) bytes += 1 + 3 * (size_t)d->table[bytes];
    char id[sizeof((ldpc_code *)0)->id];
    snprintf(id, sizeof id, step ? "%s+%d" : "%s", d->id, step);
    return ldpc_code_parse(id, d->core_columns, d->degree2_columns, d->core_rows, kept - d->core_rows, d->blocks, d->posterior_step,
                           d->table, kept == rows ? d->table_bytes : bytes);
}

/// Reads one row's edges; false when the row breaks a rule of the form.
static bool parse_row(ldpc_code *code, int row, const uint8_t **cursor, const uint8_t *end) {
    if (*cursor == end) return false;
    const int degree = *(*cursor)++;
    const bool core = row < code->core_rows;
    if (degree < 2 || degree > (core ? ldpc_core_degree_limit(code->posterior_step) : MAX_LDGM_DEGREE)) return false;
    if (end - *cursor < 3 * degree) return false;
    for (int j = 0; j < degree; j++, *cursor += 3) {
        const ldpc_edge edge = {.column = (*cursor)[0], .lane = (*cursor)[1], .block = (*cursor)[2]};
        if (edge.column >= code->core_columns || edge.lane >= LANES || edge.block >= code->blocks) return false;
        // Normal form of an LDGM row: its first edge has no lane shift (its check elements may be renumbered freely).
        if (!core && j == 0 && edge.lane != 0) return false;
        for (int k = 0; k < j; k++)
            if (code->edge[code->edges - k - 1].column == edge.column) return false;
        code->edge[code->edges++] = edge;
    }
    code->row_start[row + 1] = (uint32_t)code->edges;
    return true;
}

/// Core columns have core degree 2 (the first ones) or 3, nothing else: the error floor depends on it.
static bool core_degrees_hold(const ldpc_code *code) {
    int degree[256] = {0};
    for (uint32_t e = 0; e < code->row_start[code->core_rows]; e++) degree[code->edge[e].column]++;
    for (int c = 0; c < code->core_columns; c++)
        if (degree[c] != (c < code->degree2_columns ? 2 : 3)) return false;
    return true;
}

static uint64_t splitmix(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

/// Fisher-Yates from the top down, index = SplitMix64 (from `state` on) modulo the number of items left.
static void shuffle(uint32_t *order, uint32_t count, uint64_t state) {
    for (uint32_t p = 0; p < count; p++) order[p] = p;
    for (uint32_t p = count - 1; p > 0; p--) {
        const uint32_t q = (uint32_t)(splitmix(&state) % (p + 1));
        const uint32_t held = order[p];
        order[p] = order[q];
        order[q] = held;
    }
}

/// The eight bits of one rotation share one norm; shuffling the planes puts them into unrelated places of the graph.
enum { PLANE_STATE = 0x73647163, DISCLOSURE_STATE = 0x64697363 };

/// A shuffle of the core bits, then sorted: 2 % of the core in columns of degree 3, columns of degree 2, the rest.
static bool order_disclosures(ldpc_code *code) {
    const uint32_t bits = (uint32_t)ldpc_core_bits(code), lead = bits / 50;
    const uint32_t degree2 = (uint32_t)(code->degree2_columns * code->blocks * LANES);
    uint32_t *shuffled = calloc(bits, sizeof *shuffled);
    if (!shuffled) return false;
    shuffle(shuffled, bits, DISCLOSURE_STATE);
    const uint32_t first = lead < bits - degree2 ? lead : bits - degree2;
    uint32_t threes = 0, twos = first, rest = first + degree2;
    for (uint32_t k = 0; k < bits; k++) {
        const bool two = shuffled[k] < degree2;
        code->disclosure_order[two ? twos++ : threes < first ? threes++ : rest++] = shuffled[k];
    }
    free(shuffled);
    return true;
}

ldpc_code *ldpc_code_parse(const char *id, int core_columns, int degree2_columns, int core_rows, int ldgm_rows, int blocks,
                           int posterior_step, const uint8_t *table, size_t table_bytes) {
    if (core_columns < 1 || core_columns > 256 || degree2_columns < 0 || degree2_columns > core_columns || core_rows < 1 ||
        ldgm_rows < 1 || blocks < 1 || blocks > 256 || core_rows > 4096 || ldgm_rows > 4096 || (core_columns + ldgm_rows) * blocks % 8 != 0 ||
        posterior_step < 8 || posterior_step > 64)
        return NULL;
    ldpc_code *code = calloc(1, sizeof *code);
    if (!code) return NULL;
    strncpy(code->id, id, sizeof code->id - 1);
    code->core_columns = core_columns;
    code->degree2_columns = degree2_columns;
    code->core_rows = core_rows;
    code->ldgm_rows = ldgm_rows;
    code->rows = core_rows + ldgm_rows;
    code->blocks = blocks;
    code->posterior_step = posterior_step;
    code->row_start = calloc((size_t)code->rows + 1, sizeof *code->row_start);
    code->edge = calloc(table_bytes / 3 + 1, sizeof *code->edge);
    code->plane_order = calloc((size_t)(core_columns + ldgm_rows) * (size_t)blocks, sizeof *code->plane_order);
    code->disclosure_order = calloc(ldpc_core_bits(code), sizeof *code->disclosure_order);
    bool sound = code->row_start && code->edge && code->plane_order && code->disclosure_order;
    const uint8_t *cursor = table, *end = table + table_bytes;
    for (int row = 0; sound && row < code->rows; row++) sound = parse_row(code, row, &cursor, end);
    if (!sound || cursor != end || !core_degrees_hold(code)) {
        ldpc_code_close(code);
        return NULL;
    }
    shuffle(code->plane_order, (uint32_t)((core_columns + ldgm_rows) * blocks), PLANE_STATE);
    if (!order_disclosures(code)) {
        ldpc_code_close(code);
        return NULL;
    }
    return code;
}

void ldpc_code_close(ldpc_code *code) {
    if (!code) return;
    free(code->row_start);
    free(code->edge);
    free(code->plane_order);
    free(code->disclosure_order);
    free(code);
}

const char *ldpc_code_id(const ldpc_code *code) { return code->id; }
size_t ldpc_code_bits(const ldpc_code *code) { return (size_t)(code->core_columns + code->ldgm_rows) * (size_t)code->blocks * LANES; }
size_t ldpc_core_bits(const ldpc_code *code) { return (size_t)code->core_columns * (size_t)code->blocks * LANES; }
size_t ldpc_syndrome_bits(const ldpc_code *code) { return (size_t)code->rows * (size_t)code->blocks * LANES; }
int ldpc_core_columns(const ldpc_code *code) { return code->core_columns; }
int ldpc_core_rows(const ldpc_code *code) { return code->core_rows; }
int ldpc_rows(const ldpc_code *code) { return code->rows; }
int ldpc_blocks(const ldpc_code *code) { return code->blocks; }
const uint32_t *ldpc_plane_order(const ldpc_code *code) { return code->plane_order; }
const uint32_t *ldpc_disclosure_order(const ldpc_code *code) { return code->disclosure_order; }

int ldpc_row_degree(const ldpc_code *code, int row) { return (int)(code->row_start[row + 1] - code->row_start[row]); }

void ldpc_row_edge(const ldpc_code *code, int row, int edge, int triple[3]) {
    const ldpc_edge *e = &code->edge[code->row_start[row] + (uint32_t)edge];
    triple[0] = e->column;
    triple[1] = e->lane;
    triple[2] = e->block;
}

static inline uint64_t rotate_right(uint64_t word, unsigned count) { return count ? word >> count | word << (64 - count) : word; }

/// Adds the core bits that the row's checks meet to `sum` (blocks words).
static void row_sum(const ldpc_code *code, int row, const uint64_t *word, uint64_t *sum) {
    const int blocks = code->blocks;
    for (uint32_t e = code->row_start[row]; e < code->row_start[row + 1]; e++) {
        const ldpc_edge edge = code->edge[e];
        const uint64_t *column = word + (size_t)edge.column * (size_t)blocks;
        for (int i = 0, k = edge.block; i < blocks; i++, k = k + 1 == blocks ? 0 : k + 1) sum[i] ^= rotate_right(column[k], edge.lane);
    }
}

void ldpc_syndrome(const ldpc_code *code, const uint64_t *word, uint64_t *syndrome) {
    const size_t core_checks = (size_t)code->core_rows * (size_t)code->blocks, own = (size_t)code->core_columns * (size_t)code->blocks;
    memset(syndrome, 0, core_checks * sizeof *syndrome);
    memcpy(syndrome + core_checks, word + own, (size_t)code->ldgm_rows * (size_t)code->blocks * sizeof *word);
    for (int row = 0; row < code->rows; row++) row_sum(code, row, word, syndrome + (size_t)row * (size_t)code->blocks);
}

bool ldpc_complete(const ldpc_code *code, const uint64_t *syndrome, uint64_t *word) {
    const size_t blocks = (size_t)code->blocks, core_checks = (size_t)code->core_rows * blocks, core = (size_t)code->core_columns * blocks;
    uint64_t wrong = 0;
    for (int row = 0; row < code->core_rows; row++) {
        uint64_t sum[256];
        memcpy(sum, syndrome + (size_t)row * blocks, blocks * sizeof *sum);
        row_sum(code, row, word, sum);
        for (size_t i = 0; i < blocks; i++) wrong |= sum[i];
    }
    // An LDGM row's own bit is what its sum lacks to the syndrome.
    memcpy(word + core, syndrome + core_checks, (size_t)code->ldgm_rows * blocks * sizeof *word);
    for (int row = code->core_rows; row < code->rows; row++)
        row_sum(code, row, word, word + core + (size_t)(row - code->core_rows) * blocks);
    return wrong == 0;
}
