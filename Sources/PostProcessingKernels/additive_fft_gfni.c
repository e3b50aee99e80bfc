// The additive transforms with GFNI and AVX-512: bytes are elements of the field of AES, larger elements are planes of bytes.
//
// forward:  bits -> rows are converted below index bit 16 -> columns of 256 rows: converted above, index bits become element bytes, layers 23 ... 16
//           -> each of 16 blocks of two planes: layers 15 ... 9 on elements of GF(2^16) -> 512 elements at a time: layer 8, then layers 7 ... 0 on
//           elements of GF(2^32) (four planes in the place of two).
// A layer i is a += t b for all pairs whose index differs in bit i, then b += a. Where bit i is 23, 22, 20, 16 or 8, conjugates of b's place are met
// elsewhere: b itself becomes the upper half of an element of the next larger field, at no cost.

#include "additive_fft_internal.h"

#if defined(__x86_64__)
#include <immintrin.h>
#include <pthread.h>
#include <string.h>

#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2,gfni"))), apply_to = function)
#include "additive_fft_convert.h"

INLINE V mul(V a, V b) { return _mm512_gf2p8mul_epi8(a, b); }
INLINE V all8(int v) { return _mm512_set1_epi8((char)v); }

/// A factor in GF(2^16): c0, v_7 c1, c0 + c1.
typedef struct {
    V c[3];
} factor16;

/// In GF(2^32): lower half, v_15 (upper half), their sum.
typedef struct {
    V c[9];
} factor32;

static struct {
    convert_tables convert;
    V encode[2][2];             // [bit 21 of the output][bit 21 of the input], matrices
    V decode[2][2];
    V units, bytes_turned, reversed, transposed;  // transpositions of bits and of bytes
    uint8_t top[2][15];         // layers 19 ... 16 by bit 21
    field_constant low_unit[9][128];  // layers 8 ... 0 by index bits 9 ... 15
    field_constant low_block[9][16];  // and by block
    V lane[2][6];               // what a lane adds to the factor of layers 5 ... 0, with and without bit 7
    V swap_low[6], swap_high[6];
} tables;

// -- tables

static uint64_t matrix(const uint8_t column[8]) {
    uint64_t m = 0;
    for (int row = 0; row < 8; row++)
        for (int k = 0; k < 8; k++) m |= (uint64_t)(column[k] >> row & 1) << (8 * (7 - row) + k);
    return m;
}

/// Inverse of a map of 16 bits given by its columns.
static void invert16(const uint16_t column[16], uint16_t inverse[16]) {
    uint32_t row[16];
    for (int i = 0; i < 16; i++) {
        row[i] = (uint32_t)1 << (16 + i);
        for (int k = 0; k < 16; k++) row[i] |= (uint32_t)(column[k] >> i & 1) << k;
    }
    for (int c = 0; c < 16; c++) {
        int p = c;
        while (p < 15 && !(row[p] >> c & 1)) p++;
        const uint32_t taken = row[p];
        row[p] = row[c];
        row[c] = taken;
        for (int i = 0; i < 16; i++)
            if (i != c && (row[i] >> c & 1)) row[i] ^= taken;
    }
    for (int k = 0; k < 16; k++) {
        inverse[k] = 0;
        for (int i = 0; i < 16; i++) inverse[k] |= (uint16_t)((row[i] >> (16 + k) & 1) << i);
    }
}

static void set_matrices(V m[2][2], const uint16_t column[16]) {
    for (int out = 0; out < 2; out++)
        for (int in = 0; in < 2; in++) {
            uint8_t part[8];
            for (int k = 0; k < 8; k++) part[k] = (uint8_t)(column[8 * in + k] >> 8 * out);
            m[out][in] = all64(matrix(part));
        }
}

/// Layers 23 ... 20: bit k of an input byte is the bit at index bits (23, 22, 20) = (k0, k1, k2).
static void make_encoding(const field_tables *f) {
    uint16_t column[16], inverse[16];
    for (int in = 0; in < 16; in++) {
        const int bit21 = in >> 3;
        column[in] = 0;
        for (int out = 0; out < 2; out++) {
            uint8_t value = 1;
            if (in & 1) value = f->product[value][f->basis[1]];
            if (in & 2) value = f->product[value][f->basis[2]];
            if (bit21) value = f->product[value][f->basis[3] ^ (uint32_t)out];
            if (in & 4) value = f->product[value][f->basis[4] ^ (out ? f->basis[1] : 0)];
            column[in] |= (uint16_t)(value << 8 * out);
        }
    }
    invert16(column, inverse);
    set_matrices(tables.encode, column);
    set_matrices(tables.decode, inverse);
}

static void make_conversion(void) {
    uint8_t head128[64], low128[64], head32[64], low32[64], column[8], turned[8];
    for (int i = 0; i < 64; i++) {
        const int odd = i >> 4 & 1, j = i & 15;
        head128[i] = odd && j == 0 ? 15 : 0x80;
        low128[i] = !odd && j >= 1 ? (uint8_t)(j - 1) : 0x80;
        head32[i] = odd && j < 4 ? (uint8_t)(12 + j) : 0x80;
        low32[i] = !odd && j >= 4 ? (uint8_t)(j - 4) : 0x80;
    }
    tables.convert.head128 = load(head128);
    tables.convert.low128 = load(low128);
    tables.convert.head32 = load(head32);
    tables.convert.low32 = load(low32);
    tables.convert.end256 = _mm512_setr_epi64(0, 4, 5, 6, 0, 0, 0, 0);
    for (int k = 0; k < 8; k++) {
        uint8_t v = (uint8_t)(1 << k);
        v ^= v >> 3 & 0x10, v ^= v >> 3 & 0x0E, v ^= v >> 1 & 0x44, v ^= v >> 1 & 0x22;
        column[k] = v;
        v = (uint8_t)(1 << k);
        v ^= v >> 1 & 0x22, v ^= v >> 1 & 0x44, v ^= v >> 3 & 0x0E, v ^= v >> 3 & 0x10;
        turned[k] = v;
    }
    tables.convert.bytes = all64(matrix(column));
    tables.convert.bytes_inverse = all64(matrix(turned));
}

static void make_lanes(const field_tables *f) {
    for (int layer = 0; layer < 6; layer++) {
        uint8_t lane[2][64], low[64], high[64];
        for (int x = 0; x < 64; x++) {
            // A lane's bit j holds index bit j + 1 once it was exchanged.
            lane[0][x] = (uint8_t)field_sum(f, (uint32_t)(x >> layer) << 1);
            lane[1][x] = (uint8_t)(lane[0][x] ^ f->basis[7 - layer]);
            const int other = x ^ 1 << layer, set = x >> layer & 1;
            low[x] = (uint8_t)(set ? other | 64 : x);
            high[x] = (uint8_t)(set ? x | 64 : other);
        }
        tables.lane[0][layer] = load(lane[0]);
        tables.lane[1][layer] = load(lane[1]);
        tables.swap_low[layer] = load(low);
        tables.swap_high[layer] = load(high);
    }
}

static void make(void) {
    const field_tables *f = field_get();
    make_encoding(f);
    make_conversion();
    make_lanes(f);
    uint8_t turned[64], reversed[64], transposed[64];
    for (int b = 0; b < 8; b++)
        for (int k = 0; k < 8; k++) {
            turned[8 * b + 7 - k] = transposed[8 * b + k] = (uint8_t)(8 * k + b);
            reversed[8 * b + k] = (uint8_t)((b & 1) * 8 + 7 - k);
        }
    tables.bytes_turned = load(turned);
    tables.reversed = load(reversed);
    tables.transposed = load(transposed);
    tables.units = all64(0x8040201008040201);
    for (uint32_t x = 0; x < 2; x++)
        for (int layer = 19; layer >= 16; layer--)
            for (uint32_t k = 0; k < (uint32_t)1 << (19 - layer); k++)
                tables.top[x][(1 << (19 - layer)) - 1 + (int)k] = (uint8_t)twiddle(f, layer, x << 21 | k << (layer + 1));
    for (int layer = 0; layer < 9; layer++) {
        for (uint32_t u = 0; u < 128; u++) tables.low_unit[layer][u] = field_prepare(f, field_sum(f, u << 9 >> layer));
        for (uint32_t b = 0; b < 16; b++) tables.low_block[layer][b] = field_prepare(f, twiddle(f, layer, block_index(b)));
    }
}

static void prepare(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make);
}

// -- conversion of whole buffers

INLINE V *row_at(uint8_t *bits, int row) { return (V *)(bits + (size_t)row * ROW_STRIDE); }

/// Divides two halves of `rows` rows each.
INLINE void divide_rows(uint8_t *bits, int first, int rows, const int shift, const int inverse) {
    V *head = row_at(bits, first + rows), *tail = row_at(bits, first + 2 * rows - 1) + 127;
    if (!inverse) *head = headed(*head, *tail, shift);
    V previous = _mm512_setzero_si512();
    for (int r = 0; r < rows; r++) {
        V *low = row_at(bits, first + r), *high = row_at(bits, first + rows + r);
        for (int i = 0; i < 128; i++) {
            const V current = high[i];
            low[i] = xor2(low[i], moved(current, previous, shift));
            previous = current;
        }
    }
    if (inverse) *head = headed(*head, *tail, shift);
}

#define DIVIDE_ROW(vectors, shift) \
    for (int g = 0; g < 128; g += 2 * vectors) divide(row + g, row + g + vectors, vectors, shift, inverse);
#define DIVIDE_ROW_WHOLE(vectors, shift) \
    for (int g = 0; g < 128; g += 2 * vectors) divide_whole(row + g, row + g + vectors, vectors, shift, inverse);

INLINE void convert_row(V *row, const int inverse) {
    if (!inverse) {
        DIVIDE_ROW(64, 128) DIVIDE_ROW(32, 64) DIVIDE_ROW(16, 32) DIVIDE_ROW(8, 16)
        divide_row_low(row, &tables.convert, 0);
        DIVIDE_ROW_WHOLE(64, 4) DIVIDE_ROW_WHOLE(32, 2) DIVIDE_ROW_WHOLE(16, 1) DIVIDE_ROW(8, 256)
        convert_row_high(row, 0);
        convert_row_low(row, &tables.convert, 0);
    } else {
        convert_row_low(row, &tables.convert, 1);
        convert_row_high(row, 1);
        DIVIDE_ROW(8, 256) DIVIDE_ROW_WHOLE(16, 1) DIVIDE_ROW_WHOLE(32, 2) DIVIDE_ROW_WHOLE(64, 4)
        divide_row_low(row, &tables.convert, 1);
        DIVIDE_ROW(8, 16) DIVIDE_ROW(16, 32) DIVIDE_ROW(32, 64) DIVIDE_ROW(64, 128)
    }
}

#define DIVIDE_ROWS(rows, shift) \
    for (int g = 0; g < ROWS; g += 2 * rows) divide_rows(bits, g, rows, shift, inverse);

INLINE void convert_rows(uint8_t *bits, const int inverse) {
    if (!inverse) {
        DIVIDE_ROWS(128, 128) DIVIDE_ROWS(64, 64) DIVIDE_ROWS(32, 32) DIVIDE_ROWS(16, 16)
        for (int g = 0; g < ROWS; g += 16) {
            for (int k = g; k < g + 16; k += 16) divide_rows(bits, k, 8, 8, 0);
            for (int k = g; k < g + 16; k += 8) divide_rows(bits, k, 4, 4, 0);
            for (int k = g; k < g + 16; k += 4) divide_rows(bits, k, 2, 2, 0);
            for (int k = g; k < g + 16; k += 2) divide_rows(bits, k, 1, 1, 0);
            for (int k = g; k < g + 16; k++) convert_row(row_at(bits, k), 0);
        }
    } else {
        for (int g = 0; g < ROWS; g += 16) {
            for (int k = g; k < g + 16; k++) convert_row(row_at(bits, k), 1);
            for (int k = g; k < g + 16; k += 2) divide_rows(bits, k, 1, 1, 1);
            for (int k = g; k < g + 16; k += 4) divide_rows(bits, k, 2, 2, 1);
            for (int k = g; k < g + 16; k += 8) divide_rows(bits, k, 4, 4, 1);
            for (int k = g; k < g + 16; k += 16) divide_rows(bits, k, 8, 8, 1);
        }
        DIVIDE_ROWS(16, 16) DIVIDE_ROWS(32, 32) DIVIDE_ROWS(64, 64) DIVIDE_ROWS(128, 128)
    }
}

// -- columns: index bits 16 ... 23

INLINE void convert_column_ends(V *column, const int inverse) {
    for (int g = 0; g < 256; g += 16) convert16(column + g, inverse);
    for (int c = 0; c < 16; c++) {
        V v[16];
        UNROLLED for (int i = 0; i < 16; i++) v[i] = column[16 * i + c];
        convert16(v, inverse);
        UNROLLED for (int i = 0; i < 16; i++) column[16 * i + c] = v[i];
    }
}

#define DIVIDE_COLUMN(vectors, shift) \
    for (int g = 0; g < 256; g += 2 * vectors) divide_whole(column + g, column + g + vectors, vectors, shift, inverse);

INLINE void convert_column(V *column, const int inverse) {
    if (!inverse) {
        DIVIDE_COLUMN(128, 8) DIVIDE_COLUMN(64, 4) DIVIDE_COLUMN(32, 2) DIVIDE_COLUMN(16, 1)
        convert_column_ends(column, 0);
    } else {
        convert_column_ends(column, 1);
        DIVIDE_COLUMN(16, 1) DIVIDE_COLUMN(32, 2) DIVIDE_COLUMN(64, 4) DIVIDE_COLUMN(128, 8)
    }
}

/// Qword j of vector i goes to qword i of vector j.
INLINE void transpose_qwords(V v[8]) {
    V a[8], b[8];
    UNROLLED for (int i = 0; i < 8; i += 2) {
        a[i] = _mm512_unpacklo_epi64(v[i], v[i + 1]);
        a[i + 1] = _mm512_unpackhi_epi64(v[i], v[i + 1]);
    }
    UNROLLED for (int i = 0; i < 2; i++) {
        b[i] = _mm512_shuffle_i64x2(a[i], a[i + 2], 0x88);
        b[i + 2] = _mm512_shuffle_i64x2(a[i], a[i + 2], 0xDD);
        b[i + 4] = _mm512_shuffle_i64x2(a[i + 4], a[i + 6], 0x88);
        b[i + 6] = _mm512_shuffle_i64x2(a[i + 4], a[i + 6], 0xDD);
    }
    UNROLLED for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i64x2(b[i], b[i + 4], 0x88);
        v[i + 4] = _mm512_shuffle_i64x2(b[i], b[i + 4], 0xDD);
    }
}

/// Eight planes of bits to 512 bytes whose bit k is from plane k, and back.
INLINE void gather_bits(V v[8]) {
    transpose_qwords(v);
    UNROLLED for (int i = 0; i < 8; i++)
        v[i] = _mm512_gf2p8affine_epi64_epi8(tables.units, _mm512_permutexvar_epi8(tables.bytes_turned, v[i]), 0);
}

INLINE void scatter_bits(V v[8]) {
    UNROLLED for (int i = 0; i < 8; i++) {
        const V planes = _mm512_gf2p8affine_epi64_epi8(tables.units, _mm512_shuffle_epi8(v[i], tables.reversed), 0);
        v[i] = _mm512_permutexvar_epi8(tables.transposed, planes);
    }
    transpose_qwords(v);
}

INLINE V encoded(V low, V high, const V m[2]) {
    return xor2(_mm512_gf2p8affine_epi64_epi8(low, m[0], 0), _mm512_gf2p8affine_epi64_epi8(high, m[1], 0));
}

/// Layers 19 ... 16 of sixteen vectors, the number's bits being index bits 19 ... 16; the last layer only makes upper halves.
INLINE void top16(V v[16], const uint8_t factor[15], const int inverse) {
    if (!inverse) {
        UNROLLED for (int s = 3; s >= 0; s--) {
            UNROLLED for (int i = 0; i < 16; i++) {
                if (i >> s & 1) continue;
                const V t = all8(factor[(8 >> s) - 1 + (i >> (s + 1))]);
                v[i] = xor2(v[i], mul(v[i | 1 << s], t));
                if (s > 0) v[i | 1 << s] = xor2(v[i | 1 << s], v[i]);
            }
        }
    } else {
        UNROLLED for (int s = 0; s < 4; s++) {
            UNROLLED for (int i = 0; i < 16; i++) {
                if (i >> s & 1) continue;
                const V t = all8(factor[(8 >> s) - 1 + (i >> (s + 1))]);
                if (s > 0) v[i | 1 << s] = xor2(v[i | 1 << s], v[i]);
                v[i] = xor2(v[i], mul(v[i | 1 << s], t));
            }
        }
    }
}

INLINE uint8_t *plane_at(uint8_t *values, int x, int q) {
    return values + (size_t)(x * 8 + (q >> 1)) * BLOCK_STRIDE + (size_t)(q & 1) * PLANE_STRIDE;
}

static void columns_forward(uint8_t *values, uint8_t *bits) {
    V column[256], bytes[2][8][16];
    for (int c = 0; c < 128; c++) {
        for (int r = 0; r < ROWS; r++) column[r] = row_at(bits, r)[c];
        convert_column(column, 0);
        for (int q = 0; q < 16; q++) {
            V half[2][8];
            for (int h = 0; h < 2; h++) {
                // Rows by index bits 23 ... 16: planes are 23, 22 and 20, h is 21, q the rest.
                UNROLLED for (int k = 0; k < 8; k++) half[h][k] = column[(k & 1) << 7 | (k >> 1 & 1) << 6 | h << 5 | (k >> 2) << 4 | q];
                gather_bits(half[h]);
            }
            UNROLLED for (int w = 0; w < 8; w++)
                for (int x = 0; x < 2; x++) bytes[x][w][q] = encoded(half[0][w], half[1][w], tables.encode[x]);
        }
        for (int x = 0; x < 2; x++)
            for (int w = 0; w < 8; w++) {
                V v[16];
                UNROLLED for (int q = 0; q < 16; q++) v[q] = bytes[x][w][q];
                top16(v, tables.top[x], 0);
                UNROLLED for (int q = 0; q < 16; q++) store(plane_at(values, x, q) + 512 * c + 64 * w, v[q]);
            }
    }
    explicit_bzero(column, sizeof column);
    explicit_bzero(bytes, sizeof bytes);
}

static void columns_inverse(uint8_t *bits, uint8_t *values) {
    V column[256], bytes[2][8][16];
    for (int c = 0; c < 128; c++) {
        for (int x = 0; x < 2; x++)
            for (int w = 0; w < 8; w++) {
                V v[16];
                UNROLLED for (int q = 0; q < 16; q++) v[q] = load(plane_at(values, x, q) + 512 * c + 64 * w);
                top16(v, tables.top[x], 1);
                UNROLLED for (int q = 0; q < 16; q++) bytes[x][w][q] = v[q];
            }
        for (int q = 0; q < 16; q++)
            for (int h = 0; h < 2; h++) {
                V half[8];
                UNROLLED for (int w = 0; w < 8; w++) half[w] = encoded(bytes[0][w][q], bytes[1][w][q], tables.decode[h]);
                scatter_bits(half);
                UNROLLED for (int k = 0; k < 8; k++) column[(k & 1) << 7 | (k >> 1 & 1) << 6 | h << 5 | (k >> 2) << 4 | q] = half[k];
            }
        convert_column(column, 1);
        for (int r = 0; r < ROWS; r++) row_at(bits, r)[c] = column[r];
    }
    explicit_bzero(column, sizeof column);
    explicit_bzero(bytes, sizeof bytes);
}

// -- layers 15 ... 9: elements of GF(2^16), a plane of lower and one of upper bytes

static factor16 scalar16(uint32_t t) {
    const field_constant c = field_prepare(field_get(), t);
    return (factor16){{all8(c.byte[0]), all8(c.byte[1]), all8(c.byte[2])}};
}

/// a += t b
INLINE void add16(V a[2], const V b[2], const V c[3]) {
    const V m = mul(b[0], c[0]), n = mul(b[1], c[1]), k = mul(xor2(b[0], b[1]), c[2]);
    a[0] = xor3(a[0], m, n);
    a[1] = xor3(a[1], k, m);
}

INLINE void butterfly16(V a[2], V b[2], const V c[3], const int inverse) {
    if (inverse) b[0] = xor2(b[0], a[0]), b[1] = xor2(b[1], a[1]);
    add16(a, b, c);
    if (!inverse) b[0] = xor2(b[0], a[0]), b[1] = xor2(b[1], a[1]);
}

/// `levels` layers on 1 << levels places `distance` bytes apart; factors are numbered from the top layer on.
INLINE void radix(uint8_t *low, uint8_t *high, size_t distance, const factor16 *factor, const int levels, const int inverse) {
    const int n = 1 << levels;
    for (size_t o = 0; o < distance; o += 64) {
        V v[8][2];
        UNROLLED for (int k = 0; k < n; k++) v[k][0] = load(low + o + (size_t)k * distance), v[k][1] = load(high + o + (size_t)k * distance);
        UNROLLED for (int l = 0; l < levels; l++) {
            const int s = inverse ? l : levels - 1 - l;
            UNROLLED for (int k = 0; k < n; k++)
                if (!(k >> s & 1)) butterfly16(v[k], v[k | 1 << s], factor[(1 << (levels - 1 - s)) - 1 + (k >> (s + 1))].c, inverse);
        }
        UNROLLED for (int k = 0; k < n; k++) store(low + o + (size_t)k * distance, v[k][0]), store(high + o + (size_t)k * distance, v[k][1]);
    }
}

/// All groups of layers `bottom` ... `bottom + levels - 1` of a block.
INLINE void layers16(uint8_t *low, uint8_t *high, uint32_t index, const int bottom, const int levels, const int inverse) {
    const field_tables *f = field_get();
    const size_t distance = (size_t)1 << bottom, group = distance << levels;
    for (size_t g = 0; g < PLANE_BYTES; g += group) {
        factor16 factor[7];
        for (int l = 0; l < levels; l++)
            for (uint32_t k = 0; k < (uint32_t)1 << l; k++) {
                const int layer = bottom + levels - 1 - l;
                factor[(1 << l) - 1 + (int)k] = scalar16(twiddle(f, layer, index | (uint32_t)g | k << (layer + 1)));
            }
        radix(low + g, high + g, distance, factor, levels, inverse);
    }
}

// -- layers 8 ... 0: 512 elements in sixteen registers

typedef struct {
    V p[4][4];  // [byte of the element][index bits 7 and 6, or what was exchanged for 6]
} quarter;

INLINE __m128i constant_at(int layer, uint32_t unit, uint32_t block) {
    return _mm_xor_si128(_mm_loadu_si128((const __m128i *)&tables.low_unit[layer][unit]), _mm_loadu_si128((const __m128i *)&tables.low_block[layer][block]));
}

INLINE factor32 factor_of(__m128i constant) {
    const V c = _mm512_broadcast_i32x4(constant);
    factor32 t;
    UNROLLED for (int k = 0; k < 9; k++) t.c[k] = _mm512_shuffle_epi8(c, all8(k));
    return t;
}

/// The factor with something added to its lowest byte.
INLINE factor32 plus(factor32 t, V byte) {
    t.c[0] = xor2(t.c[0], byte), t.c[2] = xor2(t.c[2], byte), t.c[6] = xor2(t.c[6], byte), t.c[8] = xor2(t.c[8], byte);
    return t;
}

/// One butterfly between vectors a and b of each plane.
INLINE void butterfly32(quarter *x, const int a, const int b, const factor32 *t, const int inverse) {
    if (inverse) UNROLLED for (int k = 0; k < 4; k++) x->p[k][b] = xor2(x->p[k][b], x->p[k][a]);
    const V b0 = x->p[0][b], b1 = x->p[1][b], b2 = x->p[2][b], b3 = x->p[3][b], s0 = xor2(b0, b2), s1 = xor2(b1, b3);
    const V l0 = mul(b0, t->c[0]), l1 = mul(b1, t->c[1]), l2 = mul(xor2(b0, b1), t->c[2]);
    const V h0 = mul(b2, t->c[3]), h1 = mul(b3, t->c[4]), h2 = mul(xor2(b2, b3), t->c[5]);
    const V m0 = mul(s0, t->c[6]), m1 = mul(s1, t->c[7]), m2 = mul(xor2(s0, s1), t->c[8]);
    const V low0 = xor2(l0, l1), low1 = xor2(l2, l0);
    x->p[0][a] = xor3(x->p[0][a], low0, xor2(h0, h1));
    x->p[1][a] = xor3(x->p[1][a], low1, xor2(h2, h0));
    x->p[2][a] = xor3(x->p[2][a], low0, xor2(m0, m1));
    x->p[3][a] = xor3(x->p[3][a], low1, xor2(m2, m0));
    if (!inverse) UNROLLED for (int k = 0; k < 4; k++) x->p[k][b] = xor2(x->p[k][b], x->p[k][a]);
}

/// Exchanges the lowest bit of the vectors' numbers with bit `layer` of the lanes' numbers.
INLINE void exchange(quarter *x, const int layer) {
    UNROLLED for (int k = 0; k < 4; k++)
        UNROLLED for (int g = 0; g < 4; g += 2) {
            const V a = x->p[k][g], b = x->p[k][g + 1];
            x->p[k][g] = _mm512_permutex2var_epi8(a, tables.swap_low[layer], b);
            x->p[k][g + 1] = _mm512_permutex2var_epi8(a, tables.swap_high[layer], b);
        }
}

INLINE void layer_in_lanes(quarter *x, const int layer, uint32_t unit, uint32_t block, const int inverse) {
    const factor32 t = factor_of(constant_at(layer, unit, block));
    if (!inverse) exchange(x, layer);
    UNROLLED for (int g = 0; g < 2; g++) {
        const factor32 here = plus(t, tables.lane[g][layer]);
        butterfly32(x, 2 * g, 2 * g + 1, &here, inverse);
    }
    if (inverse) exchange(x, layer);
}

INLINE void layer_between(quarter *x, const int layer, uint32_t unit, uint32_t block, const int inverse) {
    const factor32 t = factor_of(constant_at(layer, unit, block));
    if (layer == 7) {
        butterfly32(x, 0, 2, &t, inverse);
        butterfly32(x, 1, 3, &t, inverse);
    } else {
        const factor32 other = plus(t, all8((char)field_get()->basis[1]));
        butterfly32(x, 0, 1, &t, inverse);
        butterfly32(x, 2, 3, &other, inverse);
    }
}

/// Layer 8 makes elements of GF(2^32): what was at odd places is their upper half.
INLINE void layer8(quarter *x, uint32_t unit, uint32_t block) {
    const V c = _mm512_broadcast_i32x4(constant_at(8, unit, block));
    const V factor[3] = {_mm512_shuffle_epi8(c, all8(0)), _mm512_shuffle_epi8(c, all8(1)), _mm512_shuffle_epi8(c, all8(2))};
    UNROLLED for (int w = 0; w < 4; w++) {
        V a[2] = {x->p[0][w], x->p[1][w]};
        const V b[2] = {x->p[2][w], x->p[3][w]};
        add16(a, b, factor);
        x->p[0][w] = a[0], x->p[1][w] = a[1];
    }
}

INLINE void low_layers(uint8_t *low, uint8_t *high, uint32_t block, const int inverse) {
    for (uint32_t unit = 0; unit < 128; unit++) {
        quarter x;
        UNROLLED for (int k = 0; k < 4; k++)
            UNROLLED for (int w = 0; w < 4; w++) x.p[k][w] = load((k & 1 ? high : low) + 512 * unit + (k >> 1) * 256 + 64 * w);
        if (!inverse) {
            layer8(&x, unit, block);
            layer_between(&x, 7, unit, block, 0);
            layer_between(&x, 6, unit, block, 0);
            UNROLLED for (int layer = 5; layer >= 0; layer--) layer_in_lanes(&x, layer, unit, block, 0);
        } else {
            UNROLLED for (int layer = 0; layer < 6; layer++) layer_in_lanes(&x, layer, unit, block, 1);
            layer_between(&x, 6, unit, block, 1);
            layer_between(&x, 7, unit, block, 1);
            layer8(&x, unit, block);
        }
        UNROLLED for (int k = 0; k < 4; k++)
            UNROLLED for (int w = 0; w < 4; w++) store((k & 1 ? high : low) + 512 * unit + (k >> 1) * 256 + 64 * w, x.p[k][w]);
    }
}

// -- what the dispatcher calls

static uint8_t *block_at(uint8_t *values, uint32_t block) { return values + block * (size_t)BLOCK_STRIDE; }

void gfni_forward(uint8_t *values, uint8_t *bits) {
    prepare();
    convert_rows(bits, 0);
    columns_forward(values, bits);
    for (uint32_t b = 0; b < BLOCKS; b++) {
        uint8_t *low = block_at(values, b), *high = low + PLANE_STRIDE;
        layers16(low, high, block_index(b), 13, 3, 0);
        layers16(low, high, block_index(b), 11, 2, 0);
        layers16(low, high, block_index(b), 9, 2, 0);
        low_layers(low, high, b, 0);
    }
}

void gfni_inverse(uint8_t *bits, uint8_t *values) {
    prepare();
    for (uint32_t b = 0; b < BLOCKS; b++) {
        uint8_t *low = block_at(values, b), *high = low + PLANE_STRIDE;
        low_layers(low, high, b, 1);
        layers16(low, high, block_index(b), 9, 2, 1);
        layers16(low, high, block_index(b), 11, 2, 1);
        layers16(low, high, block_index(b), 13, 3, 1);
    }
    columns_inverse(bits, values);
    convert_rows(bits, 1);
}

/// Products in GF(2^16), not yet reduced by v_7.
INLINE void product16(V r[2], V a0, V a1, V b0, V b1, V v7) {
    const V low = mul(a0, b0);
    r[0] = xor2(low, mul(mul(a1, b1), v7));
    r[1] = xor2(mul(xor2(a0, a1), xor2(b0, b1)), low);
}

void gfni_multiply_add(uint8_t *sum, const uint8_t *a, const uint8_t *b) {
    prepare();
    const field_tables *f = field_get();
    const V v7 = all8((char)f->basis[7]);
    const factor16 v15 = scalar16(f->basis[15]);
    for (int block = 0; block < BLOCKS; block++)
        for (size_t o = 0; o < PLANE_BYTES; o += 512)
            for (size_t w = 0; w < 256; w += 64) {
                const size_t at = (size_t)block * BLOCK_STRIDE + o + w, place[4] = {at, at + PLANE_STRIDE, at + 256, at + PLANE_STRIDE + 256};
                V x[4], y[4], low[2], high[2], middle[2], s[4];
                UNROLLED for (int k = 0; k < 4; k++) x[k] = load(a + place[k]), y[k] = load(b + place[k]), s[k] = load(sum + place[k]);
                product16(low, x[0], x[1], y[0], y[1], v7);
                product16(high, x[2], x[3], y[2], y[3], v7);
                product16(middle, xor2(x[0], x[2]), xor2(x[1], x[3]), xor2(y[0], y[2]), xor2(y[1], y[3]), v7);
                s[2] = xor3(s[2], middle[0], low[0]);
                s[3] = xor3(s[3], middle[1], low[1]);
                s[0] = xor2(s[0], low[0]), s[1] = xor2(s[1], low[1]);
                add16(s, high, v15.c);
                UNROLLED for (int k = 0; k < 4; k++) store(sum + place[k], s[k]);
            }
}
#pragma clang attribute pop

#else
void gfni_forward(uint8_t *values, uint8_t *bits) { (void)values, (void)bits; }
void gfni_inverse(uint8_t *bits, uint8_t *values) { (void)values, (void)bits; }
void gfni_multiply_add(uint8_t *sum, const uint8_t *a, const uint8_t *b) { (void)sum, (void)a, (void)b; }
#endif
