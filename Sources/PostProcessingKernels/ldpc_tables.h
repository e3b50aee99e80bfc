// The tables of the built-in codes; ldpc_tables.c says what they are.
#pragma once
#include <stdint.h>

extern const uint8_t ldpc_r02_n204800[6166];
extern const uint8_t ldpc_r03_n204800[6539];
extern const uint8_t ldpc_r05_n204800[7099];
extern const uint8_t ldpc_r07_n204800[3693];
extern const uint8_t ldpc_r10_n204800[3819];
extern const uint8_t ldpc_r15_n204800[3949];
extern const uint8_t ldpc_r20_n204800[3905];
extern const uint8_t ldpc_r02_n1024000[6166];
extern const uint8_t ldpc_r03_n1024000[6539];
extern const uint8_t ldpc_r05_n1024000[7099];
extern const uint8_t ldpc_r07_n1024000[3693];
extern const uint8_t ldpc_r10_n1024000[3819];
extern const uint8_t ldpc_r15_n1024000[3949];
extern const uint8_t ldpc_r20_n1024000[3905];
