// Shared by the ldpc_*.c files only.
#pragma once
#include "ldpc.h"

#define LANES 64
/// At most; fewer with many posterior steps per LLR (`ldpc_core_degree_limit`).
#define MAX_CORE_DEGREE 17
#define MAX_LDGM_DEGREE 4

/// A code as data; see ldpc_tables.c.
struct ldpc_design {
    const char *id;
    int core_columns, degree2_columns, core_rows, ldgm_rows, blocks;
    int posterior_step;  ///< posterior steps per unit of LLR
    int tail_rows;       ///< LDGM rows that steps of rate may leave out
    double efficiency;
    const uint8_t *table;
    size_t table_bytes;
};

extern const struct ldpc_design ldpc_designs[];
extern const int ldpc_design_count;

typedef struct {
    uint16_t column;
    uint8_t lane;   ///< lane shift
    uint16_t block; ///< block shift
} ldpc_edge;

struct ldpc_code {
    char id[32];
    int core_columns, degree2_columns, core_rows, ldgm_rows, rows, blocks, edges;
    int posterior_step;
    uint32_t *row_start;    ///< rows + 1 entries into edge
    ldpc_edge *edge;
    uint32_t *plane_order;  ///< (core_columns + ldgm_rows) * blocks entries
    uint32_t *disclosure_order;  ///< as many as core bits
};

/// Lookup tables of the check nodes, 128 entries each; phi(x) = -ln tanh(x/2), which is its own inverse up to scale.
typedef struct {
    uint8_t phi[128];         ///< index |posterior - message| >> 2 -> phi in 7 bits
    uint8_t inverse[128];     ///< half a sum of 7-bit phi, rounded up -> LDGM message
    uint8_t phi_low[128];     ///< the same index -> 16-bit phi for core rows, low byte
    uint8_t phi_high[128];    ///< and high byte
    uint8_t fine[128];        ///< 16-bit phi below 128 -> core message
    uint8_t fine_sure[128];   ///< the same with a bolder entry 0, used when a frame stalls
    uint8_t coarse[128];      ///< 16-bit phi >> 4 -> core message
} ldpc_lookup;

/// Shift from posterior minus message to the index of phi; shift of the coarse table; weight of a core message in posterior steps.
#define INDEX_SHIFT 2
#define COARSE_SHIFT 4
#define CORE_WEIGHT 4

struct ldpc_kernel;

struct ldpc_decoder {
    const ldpc_code *code;
    const struct ldpc_kernel *kernel;
    ldpc_lookup lookup;
    uint8_t channel_table[128];  ///< size of a channel value, in sixteenths of octaves -> phi
    bool sure;                 ///< use fine_sure
    size_t arena_bytes;
    void *arena;               ///< everything below lives here
    int16_t *posterior;        ///< core_columns * blocks * 64, lanes in the kernel's order
    int8_t *message;           ///< edges * blocks * 64, edge-major inside a block of a row (kernel's own lane order)
    int8_t *channel_phi;       ///< ldgm_rows * blocks * 64: phi of the channel value of the row's own bit
    uint64_t *channel_sign;    ///< ldgm_rows * blocks: its sign, with the syndrome bit added
    uint64_t *core_syndrome;   ///< core_rows * blocks
};

/// One implementation of the row passes.
struct ldpc_kernel {
    const uint8_t *lane_position;  ///< position of lane l inside a block of 64 posteriors
    void (*load)(ldpc_decoder *, const float *llr, const uint64_t *syndrome);  ///< posteriors, channel_phi and channel_sign
    void (*ldgm_row)(ldpc_decoder *, int row);
    int (*core_row)(ldpc_decoder *, int row);         ///< returns failing checks as the row was met
    int (*core_parity)(const ldpc_decoder *, int row);  ///< failing checks of the hard decisions now
    unsigned (*message_place)(unsigned shift, unsigned lane);  ///< where an edge of this lane shift keeps the column lane's message
};

/// 0, 1, ... 63: posteriors in lane order.
extern const uint8_t ldpc_lanes[LANES];

extern const struct ldpc_kernel ldpc_portable;
#if defined(__x86_64__)
extern const struct ldpc_kernel ldpc_avx2;
extern const struct ldpc_kernel ldpc_avx512;
#endif

/// Edges of a core row for which the sum of 16-bit phi stays below 2^15.
int ldpc_core_degree_limit(int posterior_step);

void ldpc_make_channel_table(uint8_t table[128], double phi_scale);
void ldpc_load_portable(ldpc_decoder *d, const float *llr, const uint64_t *syndrome);
void ldpc_load_avx2(ldpc_decoder *d, const float *llr, const uint64_t *syndrome);
void ldpc_load_avx512(ldpc_decoder *d, const float *llr, const uint64_t *syndrome);

/// Decodes the core alone once more, with large magnitudes. Whether every core check holds now; otherwise nothing changes.
bool ldpc_polish(ldpc_decoder *d);

/// Zeroes memory in a way that the compiler keeps.
void ldpc_wipe(void *memory, size_t bytes);
