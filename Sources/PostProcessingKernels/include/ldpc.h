// Low-rate multi-edge-type LDPC codes and their decoder.
//
// A code has a lift group Z_64 x Z_B. Its word is an array of 64-bit words: word (c B + b) holds column c, block b, one bit per lane
// (lane l is bit l). Columns 0 ..< core_columns are the core; column core_columns + r carries the one bit per check that only LDGM row
// r sees. The word therefore has 64 B (core_columns + ldgm_rows) bits and its first 64 B core_columns are the core bits. The check
// (i, l) of a row adds, for each edge (c, a, b) of the row, lane (l + a) mod 64 of column c, block (i + b) mod B. A syndrome
// is the array of these sums: word (r B + i), lane l is bit l; core rows first.
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "levels.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct ldpc_code ldpc_code;
typedef struct ldpc_decoder ldpc_decoder;

/// How many codes are built in.
int ldpc_code_count(void);
/// Steps of rate above built-in code `index`: each leaves one more part in 400 of the LDGM rows out, the last ones first.
int ldpc_code_steps(int index);
/// Expands and checks built-in code `index`, `step` steps up. NULL when there is no such code, memory is short or the table is damaged.
ldpc_code *ldpc_code_open(int index, int step);
/// Efficiency at which about one frame in a hundred (N = 2e5: in thirty, below rate .07) needs more than its syndrome; measured.
double ldpc_code_efficiency(int index);
/// Expands and checks a table of the same form as the built-in ones (see ldpc_tables.c).
ldpc_code *ldpc_code_parse(const char *id, int core_columns, int degree2_columns, int core_rows, int ldgm_rows, int blocks,
                           int posterior_step, const uint8_t *table, size_t table_bytes);
void ldpc_code_close(ldpc_code *code);

const char *ldpc_code_id(const ldpc_code *code);
/// Bits of the word, of the core and of the syndrome.
size_t ldpc_code_bits(const ldpc_code *code);
size_t ldpc_core_bits(const ldpc_code *code);
size_t ldpc_syndrome_bits(const ldpc_code *code);
int ldpc_core_columns(const ldpc_code *code);
int ldpc_core_rows(const ldpc_code *code);
int ldpc_rows(const ldpc_code *code);
int ldpc_blocks(const ldpc_code *code);
/// Number of edges of a row (a row's LDGM bit is not counted), and the edges as triples (column, lane shift, block shift).
int ldpc_row_degree(const ldpc_code *code, int row);
void ldpc_row_edge(const ldpc_code *code, int row, int edge, int triple[3]);

/// The fixed interleaver: `order[p]` (p < code bits / 64) is the word of the code whose 64 bits travel as plane p of the rotations.
const uint32_t *ldpc_plane_order(const ldpc_code *code);

/// Syndrome of a word (code bits / 64 words in, syndrome bits / 64 words out).
void ldpc_syndrome(const ldpc_code *code, const uint64_t *word, uint64_t *syndrome);

/// Fills in the bits after the core from core and syndrome. Whether the core meets its own checks.
bool ldpc_complete(const ldpc_code *code, const uint64_t *syndrome, uint64_t *word);

/// A decoder with buffers of its own (locked out of core dumps, zeroised on close), for one thread at a time. The code must outlive it.
/// NULL when memory is short or the level is not available.
ldpc_decoder *ldpc_decoder_open(const ldpc_code *code, kernel_level level);
void ldpc_decoder_close(ldpc_decoder *decoder);

typedef struct {
    int maximum_passes;
    int stall_passes;  ///< give up after so many passes without fewer failing core checks (once below 2 %); 0: the default
    int patience;        ///< give up when so many passes in a row leave 98 % of the failing checks or more; 0: never
} ldpc_limits;

typedef struct {
    bool converged;      ///< every core check holds (and with them, by construction, every check)
    int passes;          ///< passes over all rows
    int failing_checks;  ///< core checks that fail in the end
} ldpc_result;

/// Decodes. `llr` has one value per code bit in plane order (plane p, lane l at 64 p + l), natural logarithm of P(0)/P(1); values that are
/// not finite count as 0. When the result is converged, `word` (code bits / 64 words) is the only word with this syndrome and the decoded
/// core; otherwise it is zero. Scratch memory is zeroised before return.
ldpc_result ldpc_decode(ldpc_decoder *decoder, const float *llr, const uint64_t *syndrome, ldpc_limits limits, uint64_t *word);

/// The same step by step, for frames that need more than their syndrome: begin, continue until converged, with bits revealed between; then
/// take the word, and forget. A decoder holds one frame at a time.
void ldpc_begin(ldpc_decoder *decoder, const float *llr, const uint64_t *syndrome);
/// Runs on from the present messages for at most `maximum_passes` more passes; `passes` counts those of this call.
ldpc_result ldpc_continue(ldpc_decoder *decoder, ldpc_limits limits);
/// The core bits that the posteriors stand for now (core bits / 64 words), converged or not.
void ldpc_decisions(const ldpc_decoder *decoder, uint64_t *core);
/// Fixes core bits: bit k of `bits` (lowest bit of a byte first) is core bit `position[k]`.
void ldpc_reveal(ldpc_decoder *decoder, const uint32_t *position, size_t count, const uint8_t *bits);
/// The word that the decisions stand for: the frame's, when it has converged.
void ldpc_word(const ldpc_decoder *decoder, const uint64_t *syndrome, uint64_t *word);
/// Zeroises scratch memory.
void ldpc_forget(ldpc_decoder *decoder);

/// The order in which core bits of frames that fail are disclosed, a permutation of all of them: fixed, known to anybody. First a fiftieth of
/// the core in columns of degree 3, which help most; then columns of degree 2, in which frames hang that so much does not help.
const uint32_t *ldpc_disclosure_order(const ldpc_code *code);

#ifdef __cplusplus
}
#endif
