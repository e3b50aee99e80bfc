// The decoder around its row kernels: memory, lookup tables, loading, schedule, and the word that comes out.
//
// Layered sum-product decoding in integers. A posterior is an int16, floor(posterior_step LLR): it stands for the value half a
// step above, so that a sign change is an exact complement. A message is an int8. At a check, magnitudes go through
// phi(x) = -ln tanh(x/2), are added, and come back through its inverse; both are 128-entry tables. LDGM rows, which carry weak information,
// work with a 7-bit phi; core rows with a 16-bit phi and an inverse in two scales. A row's own LDGM bit has degree 1: it needs no
// posterior, only the phi of its channel value, and the decoder's work is 2.9 edges per code bit at rate .10.
//
// Schedule: core rows, then LDGM rows; when fewer than a quarter of the core checks fail, core rows twice per pass. A frame that
// makes no progress below 2 % failing checks gives up after some passes; before that, the core rows' most certain table entry becomes
// bolder, which frees frames that hang in short open chains of degree-2 columns.

#define _GNU_SOURCE
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ldpc_internal.h"

enum { CHANNEL_ENTRIES = 4096, CHANNEL_SCALE = 512, POSTERIOR_LIMIT = 8191, DEFAULT_STALL = 14, SURE_AFTER = 5 };

static const double PHI_SCALE = 28, CORE_PHI_SCALE = 512;

void ldpc_wipe(void *memory, size_t bytes) {
    memset(memory, 0, bytes);
    __asm__ volatile("" : : "r"(memory) : "memory");
}

// MARK: Levels

static const struct ldpc_kernel *kernel_of(kernel_level level) {
#if defined(__x86_64__)
    if (level == KERNEL_AVX512) return &ldpc_avx512;
    if (level == KERNEL_AVX2) return &ldpc_avx2;
#endif
    (void)level;
    return &ldpc_portable;
}

// MARK: Tables

static double phi(double x) { return -log(tanh(x / 2)); }

/// What message stands for z = exp(-phi), in `step` units per LLR.
static uint8_t message(double z, double step) {
    const double steps = 2 * atanh(z) * step;
    return (uint8_t)(steps > 127 ? 127 : floor(steps + .5));
}

static void make_lookup(ldpc_lookup *t, double step) {
    const double width = (1 << INDEX_SHIFT) / step;  // LLR per index
    for (int k = 0; k < 128; k++) {
        const double f = phi((k == 0 ? .35 : k + .5) * width);
        const bool certain = k == 127;  // saturated: no doubt is passed on
        const int wide = certain ? 0 : (int)floor(f * CORE_PHI_SCALE + .5);
        t->phi[k] = (uint8_t)(certain ? 0 : fmin(127, floor(f * PHI_SCALE + .5)));
        t->phi_low[k] = (uint8_t)wide;
        t->phi_high[k] = (uint8_t)(wide >> 8);
        const bool doubtful = k == 127;  // saturated phi: nothing is known
        t->inverse[k] = doubtful ? 0 : message(exp(-(k == 0 ? .25 : k) / PHI_SCALE), step);
        t->fine[k] = message(exp(-(k == 0 ? .05 : k) / CORE_PHI_SCALE), step / CORE_WEIGHT);
        t->fine_sure[k] = k == 0 ? message(exp(-.005 / CORE_PHI_SCALE), step / CORE_WEIGHT) : t->fine[k];
        t->coarse[k] = doubtful ? 0 : message(exp(-(k + .5) * (1 << COARSE_SHIFT) / CORE_PHI_SCALE), step / CORE_WEIGHT);
    }
}

static void make_channel_table(uint8_t *table) {
    for (int k = 0; k < CHANNEL_ENTRIES; k++) table[k] = (uint8_t)fmin(127, floor(phi((k + .5) / CHANNEL_SCALE) * PHI_SCALE + .5));
}

// MARK: Memory

static size_t padded(size_t bytes) { return (bytes + 63) / 64 * 64; }

static bool make_arena(ldpc_decoder *d) {
    const ldpc_code *c = d->code;
    const size_t z = (size_t)c->blocks * LANES;
    const size_t posterior = padded(2 * z * (size_t)c->core_columns), messages = padded(z * (size_t)c->edges),
                 channel = padded(z * (size_t)c->ldgm_rows), sign = padded(channel / 8), core = padded(z / 8 * (size_t)c->core_rows);
    d->arena_bytes = posterior + messages + channel + sign + core;
    d->arena = mmap(NULL, d->arena_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (d->arena == MAP_FAILED) return false;
#ifdef MADV_DONTDUMP
    madvise(d->arena, d->arena_bytes, MADV_DONTDUMP);
#endif
    char *next = d->arena;
    d->posterior = (int16_t *)next;
    d->message = (int8_t *)(next += posterior);
    d->channel_phi = (int8_t *)(next += messages);
    d->channel_sign = (uint64_t *)(next += channel);
    d->core_syndrome = (uint64_t *)(next += sign);
    return true;
}

ldpc_decoder *ldpc_decoder_open(const ldpc_code *code, kernel_level level) {
    if (!kernel_level_available(level)) return NULL;
    ldpc_decoder *d = aligned_alloc(64, padded(sizeof *d));
    if (!d) return NULL;
    memset(d, 0, sizeof *d);
    d->code = code;
    d->kernel = kernel_of(level);
    d->channel_table = malloc(CHANNEL_ENTRIES);
    if (!d->channel_table || !make_arena(d)) {
        free(d->channel_table);
        free(d);
        return NULL;
    }
    make_lookup(&d->lookup, code->posterior_step);
    make_channel_table(d->channel_table);
    return d;
}

void ldpc_decoder_close(ldpc_decoder *d) {
    if (!d) return;
    ldpc_wipe(d->arena, d->arena_bytes);
    munmap(d->arena, d->arena_bytes);
    free(d->channel_table);
    free(d);
}

// MARK: Loading

static inline float sane(float llr) { return llr - llr == 0 ? llr : 0; }

static void load_posteriors(ldpc_decoder *d, const float *llr, int16_t *block) {
    const float step = (float)d->code->posterior_step;
    int16_t steps[LANES];
    for (int l = 0; l < LANES; l++) {
        float value = sane(llr[l]) * step;
        value = value < -POSTERIOR_LIMIT ? -POSTERIOR_LIMIT : value;
        value = value > POSTERIOR_LIMIT ? POSTERIOR_LIMIT : value;
        const int32_t whole = (int32_t)value;
        steps[l] = (int16_t)(whole - (value < (float)whole));  // floor
    }
    const uint8_t *position = d->kernel->lane_position;
    for (int l = 0; l < LANES; l++) block[position[l]] = steps[l];
    ldpc_wipe(steps, sizeof steps);
}

/// Bits from 64 bytes that are 0 or 1: a multiplication brings eight of them together.
static uint64_t bits_of(const uint8_t *bytes) {
    uint64_t bits = 0;
    for (int k = 0; k < 8; k++) {
        uint64_t eight;
        memcpy(&eight, bytes + 8 * k, 8);
        bits |= (eight * 0x0102040810204080ull >> 56) << (8 * k);
    }
    return bits;
}

/// The row's own bit is known through the channel, and its sum with the core bits through the syndrome: sign = channel + syndrome.
static void load_channel(ldpc_decoder *d, const float *llr, uint64_t syndrome, size_t block) {
    int8_t *restrict magnitude = d->channel_phi + block * LANES;
    const uint8_t *restrict table = d->channel_table;
    int32_t index[LANES];
    uint8_t negative[LANES];
    for (int l = 0; l < LANES; l++) {
        const float scaled = fabsf(sane(llr[l])) * CHANNEL_SCALE;
        index[l] = (int32_t)(scaled < CHANNEL_ENTRIES - 1 ? scaled : CHANNEL_ENTRIES - 1);
    }
    for (int l = 0; l < LANES; l++) negative[l] = sane(llr[l]) < 0;
    for (int l = 0; l < LANES; l++) magnitude[l] = (int8_t)table[index[l]];
    d->channel_sign[block] = bits_of(negative) ^ syndrome;
}

static void load(ldpc_decoder *d, const float *llr, const uint64_t *syndrome) {
    const ldpc_code *c = d->code;
    const size_t core = (size_t)c->core_columns * (size_t)c->blocks, all = core + (size_t)c->ldgm_rows * (size_t)c->blocks;
    const size_t core_checks = (size_t)c->core_rows * (size_t)c->blocks;
    memcpy(d->core_syndrome, syndrome, core_checks * sizeof *syndrome);
    for (size_t plane = 0; plane < all; plane++) {
        const size_t word = c->plane_order[plane];
        const float *values = llr + plane * LANES;
        if (word < core)
            load_posteriors(d, values, d->posterior + word * LANES);
        else
            load_channel(d, values, syndrome[core_checks + word - core], word - core);
    }
}

// MARK: Schedule

static void ldgm_rows(ldpc_decoder *d, int from, int to) {
    for (int row = from; row < to; row++) d->kernel->ldgm_row(d, row);
}

static int core_rows(ldpc_decoder *d) {
    int failing = 0;
    for (int row = 0; row < d->code->core_rows; row++) failing += d->kernel->core_row(d, row);
    return failing;
}

static int core_parity(const ldpc_decoder *d) {
    int failing = 0;
    for (int row = 0; row < d->code->core_rows; row++) failing += d->kernel->core_parity(d, row);
    return failing;
}

static ldpc_result run(ldpc_decoder *d, ldpc_limits limits) {
    const ldpc_code *c = d->code;
    const int checks = c->core_rows * c->blocks * LANES;
    const int stall_limit = limits.stall_passes > 0 ? limits.stall_passes : DEFAULT_STALL;
    int best = checks + 1, last = checks, stalled = 0;
    ldpc_result result = {.failing_checks = checks};
    d->sure = false;
    while (result.passes < limits.maximum_passes) {
        const int parts = last * 4 < checks ? 2 : 1;
        for (int part = 0; part < parts; part++) {
            const int failing = core_rows(d);
            if (part == 0) last = failing;
            // Parity was taken row by row while posteriors moved; look again when it seems clean.
            if (part == 0 && failing == 0 && core_parity(d) == 0) {
                result.converged = true;
                result.failing_checks = 0;
                return result;
            }
            ldgm_rows(d, c->core_rows + c->ldgm_rows * part / parts, c->core_rows + c->ldgm_rows * (part + 1) / parts);
        }
        result.passes++;
        result.failing_checks = last;
        if (last < best) {
            best = last;
            stalled = 0;
        } else if (last * 50 < checks) {
            stalled++;
        }
        d->sure = stalled >= SURE_AFTER;
        if (stalled >= stall_limit) break;
    }
    return result;
}

// MARK: The word

static void read_core(const ldpc_decoder *d, uint64_t *word) {
    const size_t core = (size_t)d->code->core_columns * (size_t)d->code->blocks;
    const uint8_t *position = d->kernel->lane_position;
    for (size_t block = 0; block < core; block++) {
        const int16_t *values = d->posterior + block * LANES;
        uint64_t bits = 0;
        for (int l = 0; l < LANES; l++) bits |= (uint64_t)(values[position[l]] < 0) << l;
        word[block] = bits;
    }
}

ldpc_result ldpc_decode(ldpc_decoder *d, const float *llr, const uint64_t *syndrome, ldpc_limits limits, uint64_t *word) {
    load(d, llr, syndrome);
    const ldpc_result result = run(d, limits);
    memset(word, 0, ldpc_code_bits(d->code) / 8);
    if (result.converged) {
        read_core(d, word);
        ldpc_complete(d->code, syndrome, word);
    }
    ldpc_wipe(d->arena, d->arena_bytes);
    return result;
}
