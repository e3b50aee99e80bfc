// The last step for frames that nearly decoded.
//
// Above some 8 units of LLR the row kernels do not tell magnitudes apart, and core rows answer "very sure" with the largest message there is.
// Now and then (a few frames in a thousand) this keeps a handful of wrong degree-2 columns alive, by each other, that full precision would
// put right. Such frames stall with few failing checks. Their LDGM rows have said what they can; so the core alone is decoded once more from what
// the LDGM rows and the channel say about each core bit, with magnitudes of 32 bits. Among sure bits a check's answer is that of
// its least sure one: min-sum, in integers, the same on every machine. It is run for stalled frames only.

#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>

#include "ldpc_internal.h"

enum { SWEEPS = 30, POSTERIOR_LIMIT = 8191 };

typedef struct {
    const ldpc_code *code;
    int32_t *belief;   ///< of each core bit: evidence and messages
    int32_t *message;  ///< of each core edge, 64 lanes in check order for each block
    size_t bytes;
} core_graph;

static size_t first_bit(const ldpc_code *c, ldpc_edge e, int i) {
    const int b = i + e.block < c->blocks ? i + e.block : i + e.block - c->blocks;
    return ((size_t)e.column * (size_t)c->blocks + (size_t)b) * LANES;
}

static bool open_graph(core_graph *g, const ldpc_code *c) {
    const size_t bits = ldpc_core_bits(c), messages = (size_t)c->row_start[c->core_rows] * (size_t)c->blocks * LANES;
    g->code = c;
    g->bytes = (bits + messages) * sizeof *g->belief;
    g->belief = mmap(NULL, g->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (g->belief == MAP_FAILED) return false;
#ifdef MADV_DONTDUMP
    madvise(g->belief, g->bytes, MADV_DONTDUMP);
#endif
    g->message = g->belief + bits;
    return true;
}

static void close_graph(core_graph *g) {
    ldpc_wipe(g->belief, g->bytes);
    munmap(g->belief, g->bytes);
}

/// Posteriors without what core rows had to say.
static void take_evidence(core_graph *g, const ldpc_decoder *d) {
    const ldpc_code *c = g->code;
    for (size_t bit = 0; bit < ldpc_core_bits(c); bit++)
        g->belief[bit] = d->posterior[bit / LANES * LANES + d->kernel->lane_position[bit % LANES]];
    for (int row = 0; row < c->core_rows; row++) {
        const uint32_t first = c->row_start[row], degree = c->row_start[row + 1] - first;
        const int8_t *message = d->message + (size_t)first * (size_t)c->blocks * LANES;
        for (int i = 0; i < c->blocks; i++)
            for (uint32_t j = 0; j < degree; j++, message += LANES) {
                int32_t *belief = g->belief + first_bit(c, c->edge[first + j], i);
                for (unsigned t = 0; t < LANES; t++)
                    belief[t] -= CORE_WEIGHT * message[d->kernel->message_place(c->edge[first + j].lane, t)];
            }
    }
}

/// One block of a row's checks: every edge gets the least magnitude of the others, with the sign that the check asks for.
static void update(core_graph *g, const ldpc_edge *edge, int degree, int i, uint64_t syndrome, int32_t *message) {
    int32_t least[LANES], second[LANES], value[MAX_CORE_DEGREE][LANES];
    uint8_t negative[LANES], where[LANES];
    for (int l = 0; l < LANES; l++) {
        least[l] = second[l] = INT32_MAX;
        negative[l] = syndrome >> l & 1;
        where[l] = 0;
    }
    for (int j = 0; j < degree; j++) {
        const int32_t *belief = g->belief + first_bit(g->code, edge[j], i);
        for (int l = 0; l < LANES; l++) {
            const int32_t v = belief[(l + edge[j].lane) % LANES] - message[j * LANES + l], size = v < 0 ? ~v : v;
            value[j][l] = v;
            negative[l] ^= v < 0;
            second[l] = size < least[l] ? least[l] : size < second[l] ? size : second[l];
            where[l] = size < least[l] ? (uint8_t)j : where[l];
            least[l] = size < least[l] ? size : least[l];
        }
    }
    for (int j = 0; j < degree; j++) {
        int32_t *belief = g->belief + first_bit(g->code, edge[j], i);
        for (int l = 0; l < LANES; l++) {
            const int32_t size = where[l] == j ? second[l] : least[l], m = negative[l] ^ (value[j][l] < 0) ? ~size : size;
            message[j * LANES + l] = m;
            belief[(l + edge[j].lane) % LANES] = value[j][l] + m;
        }
    }
    ldpc_wipe(value, sizeof value);
}

static bool all_checks_hold(const core_graph *g, const uint64_t *syndrome) {
    const ldpc_code *c = g->code;
    for (int row = 0; row < c->core_rows; row++)
        for (int i = 0; i < c->blocks; i++) {
            uint64_t odd = *syndrome++;
            for (uint32_t e = c->row_start[row]; e < c->row_start[row + 1]; e++) {
                const int32_t *belief = g->belief + first_bit(c, c->edge[e], i);
                for (unsigned l = 0; l < LANES; l++) odd ^= (uint64_t)(belief[(l + c->edge[e].lane) % LANES] < 0) << l;
            }
            if (odd) return false;
        }
    return true;
}

static void put_beliefs(const core_graph *g, ldpc_decoder *d) {
    for (size_t bit = 0; bit < ldpc_core_bits(g->code); bit++) {
        const int32_t b = g->belief[bit];
        d->posterior[bit / LANES * LANES + d->kernel->lane_position[bit % LANES]] =
            (int16_t)(b > POSTERIOR_LIMIT ? POSTERIOR_LIMIT : b < -POSTERIOR_LIMIT ? -POSTERIOR_LIMIT : b);
    }
}

bool ldpc_polish(ldpc_decoder *d) {
    const ldpc_code *c = d->code;
    core_graph g;
    if (!open_graph(&g, c)) return false;
    take_evidence(&g, d);
    bool sound = false;
    for (int sweep = 0; sweep < SWEEPS && !sound; sweep++) {
        for (int row = 0; row < c->core_rows; row++) {
            const uint32_t first = c->row_start[row];
            const int degree = (int)(c->row_start[row + 1] - first);
            int32_t *message = g.message + (size_t)first * (size_t)c->blocks * LANES;
            for (int i = 0; i < c->blocks; i++, message += degree * LANES)
                update(&g, c->edge + first, degree, i, d->core_syndrome[row * c->blocks + i], message);
        }
        sound = all_checks_hold(&g, d->core_syndrome);
    }
    if (sound) put_beliefs(&g, d);
    close_graph(&g);
    return sound;
}
