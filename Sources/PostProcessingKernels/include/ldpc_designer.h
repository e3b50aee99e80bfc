// The designer of the built-in codes: the same recipe gives the same table, byte for byte.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// What a code is made from. Limits: 24 edges per row, 64 degree-2 columns per core row, blocks up to 256.
typedef struct {
    uint64_t seed;
    int base_columns;  ///< core columns plus LDGM rows
    int degree2, degree3;  ///< core columns with 2 and 3 core checks
    int core_rows;
    int ldgm_edges;  ///< of the base graph
    double ldgm_degree_of_degree2;  ///< mean number of LDGM rows at a degree-2 column; degree-3 columns get the rest
    int blocks;  ///< the lift group is Z_64 x Z_blocks
    int walk_limit;  ///< length of the longest closed walk that shifts are conditioned on
    int sweeps;  ///< most sweeps of the descent over degree-2 shifts
    double snr;  ///< per quadrature, where cycles are weighed
    int tail_rows, tail_lower;  ///< LDGM rows that finer rates may leave out, the last ones; of these, rows of the lower degree
} ldpc_recipe;

/// Designs a code and writes its table (see ldpc_tables.c). Takes seconds.
/// - Returns: bytes of the table; 0 when the recipe cannot be met, memory is short or `capacity` is too small.
size_t ldpc_design_table(const ldpc_recipe *recipe, uint8_t *table, size_t capacity);

#ifdef __cplusplus
}
#endif
