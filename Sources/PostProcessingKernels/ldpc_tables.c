// The built-in codes. A table holds row after row, each as its number of edges and, for every edge, column, lane shift (modulo 64)
// and block shift (modulo the number of blocks). ldpc_code.c says what they mean and checks them when a code is opened.
//
// How they were made: by ldpc_designer.c from these recipes; a test makes them again. Seed 1, 8 sweeps; base columns P, degree-2 and degree-3
// core columns, core rows, edges of the LDGM rows, mean LDGM rows at a degree-2 column, walk limit, SNR, tail rows, of these lower
// degree. Blocks are code bits / 64 P.
//   r02: 800 18 10 12 1728 61 10 .0302 268 225
//   r03: 800 20 17 13 1830 48.5 10 .0457 320 206
//   r05: 800 31 25 16 1976 37 9 .0775 240 100
//   r07: 400 20 17 9 1016 29 9 .11 125 26
//   r10: 400 27 23 10 1030 22.5 9 .16 134 20
//   r15: 400 43 30 13 1027 15.5 8 .25 100 100
//   r20: 400 63 34 17 967 10.8 7 .345 40 40
// Degree distributions and the reasons for them, and what the codes do: docs/reconciliation.md.

#include "ldpc_tables.h"

#include "ldpc_internal.h"

#define CODE(rate, bits, base, two, three, core, step, tail, operating)                                                             \
    {                                                                                                                               \
        .id = #rate "-n" #bits, .core_columns = two + three, .degree2_columns = two, .core_rows = core,                             \
        .ldgm_rows = base - two - three, .blocks = bits / 64 / base, .posterior_step = step, .tail_rows = tail,                     \
        .efficiency = operating, .table = ldpc_##rate##_n##bits, .table_bytes = sizeof ldpc_##rate##_n##bits,                       \
    }

const struct ldpc_design ldpc_designs[] = {
    CODE(r02, 204800, 800, 18, 10, 12, 64, 268, 0.88),
    CODE(r03, 204800, 800, 20, 17, 13, 60, 320, 0.89),
    CODE(r05, 204800, 800, 31, 25, 16, 56, 240, 0.91),
    CODE(r07, 204800, 400, 20, 17, 9, 48, 125, 0.92),
    CODE(r10, 204800, 400, 27, 23, 10, 40, 134, 0.92),
    CODE(r15, 204800, 400, 43, 30, 13, 34, 100, 0.915),
    CODE(r20, 204800, 400, 63, 34, 17, 30, 40, 0.895),
    CODE(r02, 1024000, 800, 18, 10, 12, 64, 268, 0.93),
    CODE(r03, 1024000, 800, 20, 17, 13, 60, 320, 0.93),
    CODE(r05, 1024000, 800, 31, 25, 16, 56, 240, 0.94),
    CODE(r07, 1024000, 400, 20, 17, 9, 48, 125, 0.94),
    CODE(r10, 1024000, 400, 27, 23, 10, 40, 134, 0.945),
    CODE(r15, 1024000, 400, 43, 30, 13, 34, 100, 0.935),
    CODE(r20, 1024000, 400, 63, 34, 17, 30, 40, 0.91),
};

const int ldpc_design_count = (int)(sizeof ldpc_designs / sizeof ldpc_designs[0]);
