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
// bolder, which frees frames that hang in short open chains of degree-2 columns, and what hangs even then is polished (ldpc_polish.c).

#define _GNU_SOURCE
#include <limits.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "ldpc_internal.h"

/// A revealed bit's posterior: beyond what all messages of a column can take from the channel's value, and half of int16's range.
enum { DEFAULT_STALL = 14, SURE_AFTER = 5, REVEALED = 16000 };

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

/// Tables are finer where they are steep, so that a processor without wide byte permutations needs to hold only 64 entries or 48.
/// Core rows: entries 32 ..< 64 are equal in pairs, 64 ..< 128 in fours.
static double core_middle(int k) { return k < 32 ? k : k < 64 ? (k & ~1) + .5 : (k & ~3) + 1.5; }

/// LDGM rows: entries 32 ..< 62 are equal in pairs, 62 ..< 128 all.
static double ldgm_middle(int k) { return k < 32 ? k : k < 62 ? (k & ~1) + .5 : 72; }

/// 16-bit phi of the smallest magnitude.
static int largest_phi(double step) { return (int)floor(phi(.35 * (1 << INDEX_SHIFT) / step) * CORE_PHI_SCALE + .5); }

int ldpc_core_degree_limit(int posterior_step) {
    const int limit = INT16_MAX / largest_phi(posterior_step);
    return limit < MAX_CORE_DEGREE ? limit : MAX_CORE_DEGREE;
}

static void make_lookup(ldpc_lookup *t, double step) {
    const double width = (1 << INDEX_SHIFT) / step;  // LLR per index
    for (int k = 0; k < 128; k++) {
        const double here = core_middle(k), first = .35 * width, coarse = (here + .5) * (1 << COARSE_SHIFT) / CORE_PHI_SCALE;
        const bool last = k >= 124;  // saturated: as an LLR without doubt, as a sum of phi without knowledge
        const int wide = last ? 0 : (int)floor(phi(k == 0 ? first : (here + .5) * width) * CORE_PHI_SCALE + .5);
        t->phi[k] = (uint8_t)fmin(127, floor(phi(k == 0 ? first : (ldgm_middle(k) + .5) * width) * PHI_SCALE + .5));
        t->phi_low[k] = (uint8_t)wide;
        t->phi_high[k] = (uint8_t)(wide >> 8);
        t->inverse[k] = k >= 63 ? 0 : message(exp(-(k == 0 ? .25 : 2 * k - .5) / PHI_SCALE), step);
        t->fine[k] = message(exp(-(k == 0 ? .05 : here) / CORE_PHI_SCALE), step / CORE_WEIGHT);
        t->fine_sure[k] = k == 0 ? message(exp(-.005 / CORE_PHI_SCALE), step / CORE_WEIGHT) : t->fine[k];
        t->coarse[k] = last ? 0 : message(exp(-coarse), step / CORE_WEIGHT);
    }
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
    if (!make_arena(d)) {
        free(d);
        return NULL;
    }
    make_lookup(&d->lookup, code->posterior_step);
    ldpc_make_channel_table(d->channel_table, PHI_SCALE);
    return d;
}

void ldpc_decoder_close(ldpc_decoder *d) {
    if (!d) return;
    ldpc_wipe(d->arena, d->arena_bytes);
    munmap(d->arena, d->arena_bytes);
    free(d);
}

// MARK: Loading

static void load(ldpc_decoder *d, const float *llr, const uint64_t *syndrome) {
    memcpy(d->core_syndrome, syndrome, (size_t)d->code->core_rows * (size_t)d->code->blocks * sizeof *syndrome);
    d->kernel->load(d, llr, syndrome);
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
    int best = checks + 1, last = checks, stalled = 0, mark = INT_MAX;
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
        if (stalled >= stall_limit) {
            result.converged = ldpc_polish(d);
            if (result.converged) result.failing_checks = 0;
            break;
        }
        if (limits.patience > 0 && result.passes % limits.patience == 0) {
            if (last > mark / 50 * 49) break;
            mark = last;
        }
    }
    return result;
}

// MARK: The word

void ldpc_decisions(const ldpc_decoder *d, uint64_t *word) {
    const size_t core = (size_t)d->code->core_columns * (size_t)d->code->blocks;
    const uint8_t *position = d->kernel->lane_position;
    for (size_t block = 0; block < core; block++) {
        const int16_t *values = d->posterior + block * LANES;
        uint64_t bits = 0;
        for (int l = 0; l < LANES; l++) bits |= (uint64_t)(values[position[l]] < 0) << l;
        word[block] = bits;
    }
}

void ldpc_begin(ldpc_decoder *d, const float *llr, const uint64_t *syndrome) { load(d, llr, syndrome); }

ldpc_result ldpc_continue(ldpc_decoder *d, ldpc_limits limits) { return run(d, limits); }

void ldpc_reveal(ldpc_decoder *d, const uint32_t *position, size_t count, const uint8_t *bits) {
    for (size_t k = 0; k < count; k++) {
        const int16_t certain = bits[k / 8] >> (k % 8) & 1 ? -REVEALED : REVEALED;
        d->posterior[position[k] / LANES * LANES + d->kernel->lane_position[position[k] % LANES]] = certain;
    }
}

void ldpc_word(const ldpc_decoder *d, const uint64_t *syndrome, uint64_t *word) {
    ldpc_decisions(d, word);
    ldpc_complete(d->code, syndrome, word);
}

void ldpc_forget(ldpc_decoder *d) { ldpc_wipe(d->arena, d->arena_bytes); }

ldpc_result ldpc_decode(ldpc_decoder *d, const float *llr, const uint64_t *syndrome, ldpc_limits limits, uint64_t *word) {
    ldpc_begin(d, llr, syndrome);
    const ldpc_result result = ldpc_continue(d, limits);
    if (result.converged)
        ldpc_word(d, syndrome, word);
    else
        memset(word, 0, ldpc_code_bits(d->code) / 8);
    ldpc_forget(d);
    return result;
}
