// The additive transforms on planes of bits, for any processor: 256 elements at a time, bit k of them in the k-th of a set of vectors. Included by
// additive_fft_sliced.c once per instruction set; SLICED(name) names what is made.
//
// Nothing is moved but within vectors: bits stay where the polynomial has them, and index bits 23, 22, 20, 16 and 8 number the planes of an element.

/// Bits 64 k ... of a string of words moved up by `shift` bits.
SLICED_INLINE uint64_t SLICED(moved)(const uint64_t *word, int shift) { return *word << shift | word[-1] >> (64 - shift); }

/// Divides h x^D + l of 2 D bits by x^D + x^s (or takes that back); D is `words` words.
SLICED_INLINE void SLICED(divide)(uint64_t *restrict low, uint64_t *restrict high, size_t words, size_t shift, bool inverse) {
    const size_t whole = shift / 64;
    for (int phase = 0; phase < 2; phase++) {
        if ((phase == 0) == inverse) {
            if (whole > 0)
                for (size_t i = whole; i < words; i++) low[i] ^= high[i - whole];
            else {
                low[0] ^= high[0] << shift;
                for (size_t i = 1; i < words; i++) low[i] ^= high[i] << shift | high[i - 1] >> (64 - shift);
            }
        } else if (whole > 0)
            for (size_t i = 0; i < whole; i++) high[i] ^= high[words - whole + i];
        else high[0] ^= high[words - 1] >> (64 - shift);
    }
}

/// The same inside every word: D + D bits at 2 D bits' distance.
SLICED_INLINE void SLICED(divide_in_words)(uint64_t *row, int D, int shift, bool inverse) {
    uint64_t head = ((((uint64_t)1 << shift) - 1) << D), low = (((uint64_t)1 << D) - 1) & ~(((uint64_t)1 << shift) - 1);
    for (int width = 2 * D; width < 64; width *= 2) head |= head << width, low |= low << width;
    const uint64_t first = inverse ? low : head, second = inverse ? head : low;
    const int down = D - shift;
    for (size_t i = 0; i < ROW_BYTES / 8; i++) {
        uint64_t v = row[i];
        v ^= v >> down & first;
        v ^= v >> down & second;
        row[i] = v;
    }
}

SLICED_TARGET static void SLICED(convert_row)(uint64_t *row, bool inverse) {
    for (int k = 0; k < ROW_STEPS; k++) {
        const int step = inverse ? ROW_STEPS - 1 - k : k, log = row_steps[step][0], shift = row_steps[step][1];
        if (log < 6) {
            SLICED(divide_in_words)(row, 1 << log, 1 << shift, inverse);
            continue;
        }
        const size_t words = (size_t)1 << (log - 6);
        for (size_t g = 0; g < ROW_BYTES / 8; g += 2 * words) SLICED(divide)(row + g, row + g + words, words, (size_t)1 << shift, inverse);
    }
}

/// Divides two halves of `rows` rows each; shifts are one bit per row, at most 128.
SLICED_TARGET static void SLICED(divide_rows)(uint8_t *bits, size_t first, size_t rows, bool inverse) {
    const size_t shift = rows, words = ROW_BYTES / 8, count = rows < 64 ? 1 : rows / 64;
    uint64_t *head = words_at(bits, first + rows), *tail = words_at(bits, first + 2 * rows - 1) + words - count;
    for (int phase = 0; phase < 2; phase++) {
        if ((phase == 0) != inverse) {
            for (size_t i = 0; i < count; i++) head[i] ^= shift < 64 ? tail[i] >> (64 - shift) : tail[i];
            continue;
        }
        for (size_t r = 0; r < rows; r++) {
            uint64_t *restrict low = words_at(bits, first + r);
            const uint64_t *restrict high = words_at(bits, first + rows + r), *before = r ? words_at(bits, first + rows + r - 1) + words - count : NULL;
            for (size_t i = 0; i < count; i++) {
                const uint64_t carried = before ? before[i] : 0;
                low[i] ^= shift < 64 ? high[0] << shift | carried >> (64 - shift) : carried;
            }
            if (shift < 64)
                for (size_t i = 1; i < words; i++) low[i] ^= high[i] << shift | high[i - 1] >> (64 - shift);
            else
                for (size_t i = count; i < words; i++) low[i] ^= high[i - count];
        }
    }
}

SLICED_TARGET static void SLICED(convert_column)(vec *column, bool inverse) {
    for (int k = 0; k < COLUMN_STEPS; k++) {
        const int step = inverse ? COLUMN_STEPS - 1 - k : k, D = 1 << column_steps[step][0], shift = 1 << column_steps[step][1];
        for (int g = 0; g < ROWS; g += 2 * D) {
            vec *restrict low = column + g, *restrict high = column + g + D;
            for (int phase = 0; phase < 2; phase++)
                if ((phase == 0) == inverse)
                    for (int i = 0; i < D - shift; i++) low[shift + i] ^= high[i];
                else
                    for (int i = 0; i < shift; i++) high[i] ^= high[D - shift + i];
        }
    }
}

// -- arithmetic of planes

SLICED_INLINE void SLICED(product2)(vec r[2], const vec a[2], const vec b[2]) {
    const vec low = a[0] & b[0], high = a[1] & b[1];
    r[0] = low ^ high;
    r[1] = ((a[0] ^ a[1]) & (b[0] ^ b[1])) ^ low;
}

SLICED_INLINE void SLICED(product4)(vec r[4], const vec a[4], const vec b[4]) {
    vec low[2], high[2], middle[2];
    const vec x[2] = {a[0] ^ a[2], a[1] ^ a[3]}, y[2] = {b[0] ^ b[2], b[1] ^ b[3]};
    SLICED(product2)(low, a, b);
    SLICED(product2)(high, a + 2, b + 2);
    SLICED(product2)(middle, x, y);
    r[0] = low[0] ^ high[1];
    r[1] = low[1] ^ high[0] ^ high[1];
    r[2] = middle[0] ^ low[0];
    r[3] = middle[1] ^ low[1];
}

/// r += a b
SLICED_TARGET __attribute__((noinline)) static void SLICED(add8)(vec r[8], const vec a[8], const vec b[8]) {
    vec low[4], high[4], middle[4], x[4], y[4];
    for (int k = 0; k < 4; k++) x[k] = a[k] ^ a[4 + k], y[k] = b[k] ^ b[4 + k];
    SLICED(product4)(low, a, b);
    SLICED(product4)(high, a + 4, b + 4);
    SLICED(product4)(middle, x, y);
    const vec h01 = high[0] ^ high[1], h12 = high[1] ^ high[2];  // high times v_3
    r[0] ^= low[0] ^ h12 ^ high[3];
    r[1] ^= low[1] ^ high[0] ^ h12;
    r[2] ^= low[2] ^ high[1];
    r[3] ^= low[3] ^ h01;
    for (int k = 0; k < 4; k++) r[4 + k] ^= middle[k] ^ low[k];
}

SLICED_INLINE void SLICED(sum8)(vec r[8], const vec a[8], const vec b[8]) {
    for (int k = 0; k < 8; k++) r[k] = a[k] ^ b[k];
}

/// r += t b in GF(2^16) with t as `prepared` has it.
SLICED_TARGET static void SLICED(add16)(vec r[16], const vec b[16], const vec *t) {
    vec low[8] = {0}, sum[8];
    SLICED(add8)(low, b, t);
    SLICED(sum8)(sum, b, b + 8);
    SLICED(add8)(r, b + 8, t + 8);
    SLICED(add8)(r + 8, sum, t + 16);
    SLICED(sum8)(r, r, low);
    SLICED(sum8)(r + 8, r + 8, low);
}

SLICED_TARGET static void SLICED(add32)(vec r[32], const vec b[32], const vec *t) {
    vec low[16] = {0}, sum[16];
    SLICED(add16)(low, b, t);
    for (int k = 0; k < 16; k++) sum[k] = b[k] ^ b[16 + k];
    SLICED(add16)(r, b + 16, t + 24);
    SLICED(add16)(r + 16, sum, t + 48);
    for (int k = 0; k < 16; k++) r[k] ^= low[k], r[16 + k] ^= low[k];
}

/// A factor for all lanes: 8, 24 or 72 planes.
SLICED_INLINE void SLICED(spread)(vec *t, uint32_t factor, int planes) {
    if (planes == 8) {
        for (int k = 0; k < 8; k++) t[k] = (vec){} - (factor >> k & 1);
        return;
    }
    const field_constant c = tower_prepare(factor);
    for (int k = 0; k < planes; k++) t[k] = (vec){} - (uint64_t)(c.byte[k / 8] >> k % 8 & 1);
}

// -- layers 21 ... 16: columns of rows

/// a (first row `a`) += t b; `planes` index bits of rows number the planes.
SLICED_INLINE void SLICED(add_rows)(vec *column, int a, int b, int planes, uint32_t factor, bool full, bool inverse) {
    vec x[8], y[8], t[8], r[4];
    for (int k = 0; k < planes; k++) x[k] = column[a | plane_row(k)], y[k] = column[b | plane_row(k)];
    if (full && inverse) for (int k = 0; k < planes; k++) y[k] ^= x[k];
    SLICED(spread)(t, factor, 8);
    if (planes == 8) SLICED(add8)(x, y, t);
    else {
        SLICED(product4)(r, y, t);
        for (int k = 0; k < 4; k++) x[k] ^= r[k];
    }
    if (full && !inverse) for (int k = 0; k < planes; k++) y[k] ^= x[k];
    for (int k = 0; k < planes; k++) column[a | plane_row(k)] = x[k], column[b | plane_row(k)] = y[k];
}

SLICED_TARGET static void SLICED(column_layer)(vec *column, int layer, bool inverse) {
    const int bit = 1 << (layer - 16), planes = layer >= 20 ? 4 : 8, number = planes == 4 ? plane_row(3) : plane_row(7);
    const bool full = layer != 20 && layer != 16;
    for (int a = 0; a < ROWS; a++) {
        if (a & (bit | number)) continue;
        const uint32_t above = (uint32_t)(a & ~(2 * bit - 1)) << 16, factor = tower_twiddle(layer, above);
        // Where the layer only joins halves, the new generator itself is no factor.
        SLICED(add_rows)(column, a, a | bit, planes, full ? factor : factor ^ (uint32_t)1 << (LOG - layer), full, inverse);
    }
}

SLICED_TARGET static void SLICED(columns)(uint8_t *bits, bool inverse) {
    vec column[ROWS];
    for (size_t c = 0; c < ROW_BYTES / sizeof(vec); c++) {
        for (size_t r = 0; r < ROWS; r++) column[r] = ((const vec *)words_at(bits, r))[c];
        if (!inverse) SLICED(convert_column)(column, false);
        for (int k = 0; k < 6; k++) SLICED(column_layer)(column, inverse ? 16 + k : 21 - k, inverse);
        if (inverse) SLICED(convert_column)(column, true);
        for (size_t r = 0; r < ROWS; r++) ((vec *)words_at(bits, r))[c] = column[r];
    }
    explicit_bzero(column, sizeof column);
}

// -- layers 15 ... 8: elements of GF(2^16), sixteen rows

SLICED_TARGET static void SLICED(layer16)(vec *row[16], int layer, uint32_t index, bool inverse) {
    const size_t bit = (size_t)1 << (layer - 8), count = ROW_BYTES / sizeof(vec);
    const bool full = layer != 8;
    for (size_t g = 0; g < count; g += 2 * bit) {
        vec t[24];
        const uint32_t factor = tower_twiddle(layer, index | (uint32_t)g << 8);
        SLICED(spread)(t, full ? factor : factor ^ 0x10000, 24);
        for (size_t a = g; a < g + bit; a++) {
            vec x[16], y[16];
            for (int k = 0; k < 16; k++) x[k] = row[k][a], y[k] = row[k][a + bit];
            if (full && inverse) for (int k = 0; k < 16; k++) y[k] ^= x[k];
            SLICED(add16)(x, y, t);
            if (full && !inverse) for (int k = 0; k < 16; k++) y[k] ^= x[k];
            for (int k = 0; k < 16; k++) row[k][a] = x[k];
            if (full) for (int k = 0; k < 16; k++) row[k][a + bit] = y[k];
        }
    }
}

// -- layers 7 ... 0: elements of GF(2^32), within vectors

/// Exchanges lane bit `layer` with the number of the vector.
SLICED_INLINE void SLICED(exchange)(vec *a, vec *b, int layer) {
    const vec x = *a, y = *b;
    if (layer == 7) {
        *a = __builtin_shufflevector(x, y, 0, 1, 4, 5), *b = __builtin_shufflevector(x, y, 2, 3, 6, 7);
    } else if (layer == 6) {
        *a = __builtin_shufflevector(x, y, 0, 4, 2, 6), *b = __builtin_shufflevector(x, y, 1, 5, 3, 7);
    } else {
        const uint64_t mask = ~(uint64_t)0 / (((uint64_t)1 << (1 << layer)) + 1);
        const vec swapped = ((x >> (1 << layer)) ^ y) & mask;
        *a = x ^ swapped << (1 << layer), *b = y ^ swapped;
    }
}

SLICED_TARGET static void SLICED(layer32)(vec a[32], vec b[32], int layer, uint32_t index, bool inverse) {
    vec t[72];
    const field_constant c = tower_prepare(tower_twiddle(layer, index));
    for (int k = 0; k < 72; k++) t[k] = *(const vec *)lane_planes[layer][k] ^ ((vec){} - (uint64_t)(c.byte[k / 8] >> k % 8 & 1));
    if (!inverse) for (int k = 0; k < 32; k++) SLICED(exchange)(a + k, b + k, layer);
    if (inverse) for (int k = 0; k < 32; k++) b[k] ^= a[k];
    SLICED(add32)(a, b, t);
    if (!inverse) for (int k = 0; k < 32; k++) b[k] ^= a[k];
    if (inverse) for (int k = 0; k < 32; k++) SLICED(exchange)(a + k, b + k, layer);
}

SLICED_TARGET static void SLICED(low_layers)(vec *row[16], uint32_t index, bool inverse) {
    for (size_t g = 0; g < ROW_BYTES / sizeof(vec); g += 4) {
        vec a[32], b[32];
        for (int k = 0; k < 32; k++) a[k] = row[k & 15][g + (size_t)(k >> 4)], b[k] = row[k & 15][g + 2 + (size_t)(k >> 4)];
        for (int k = 0; k < 8; k++) SLICED(layer32)(a, b, inverse ? k : 7 - k, index | (uint32_t)g << 8, inverse);
        for (int k = 0; k < 32; k++) row[k & 15][g + (size_t)(k >> 4)] = a[k], row[k & 15][g + 2 + (size_t)(k >> 4)] = b[k];
    }
}

// -- what the dispatcher calls; in place

SLICED_TARGET void SLICED(forward)(uint8_t *bits) {
    tower_get();
    for (size_t rows = 128; rows > 0; rows /= 2)
        for (size_t g = 0; g < ROWS; g += 2 * rows) SLICED(divide_rows)(bits, g, rows, false);
    for (size_t r = 0; r < ROWS; r++) SLICED(convert_row)(words_at(bits, r), false);
    SLICED(columns)(bits, false);
    for (uint32_t block = 0; block < BLOCKS; block++) {
        vec *row[16];
        for (int k = 0; k < 16; k++) row[k] = (vec *)words_at(bits, block_index(block) >> 16 | (uint32_t)plane_row(k));
        for (int layer = 15; layer >= 8; layer--) SLICED(layer16)(row, layer, block_index(block), false);
        SLICED(low_layers)(row, block_index(block), false);
    }
}

SLICED_TARGET void SLICED(inverse)(uint8_t *bits) {
    tower_get();
    for (uint32_t block = 0; block < BLOCKS; block++) {
        vec *row[16];
        for (int k = 0; k < 16; k++) row[k] = (vec *)words_at(bits, block_index(block) >> 16 | (uint32_t)plane_row(k));
        SLICED(low_layers)(row, block_index(block), true);
        for (int layer = 8; layer < 16; layer++) SLICED(layer16)(row, layer, block_index(block), true);
    }
    SLICED(columns)(bits, true);
    for (size_t r = 0; r < ROWS; r++) SLICED(convert_row)(words_at(bits, r), true);
    for (size_t rows = 1; rows <= 128; rows *= 2)
        for (size_t g = 0; g < ROWS; g += 2 * rows) SLICED(divide_rows)(bits, g, rows, true);
}

/// r = a b in GF(2^16), both of any value.
SLICED_TARGET static void SLICED(product16)(vec r[16], const vec a[16], const vec b[16], const vec v7[8]) {
    vec low[8] = {0}, high[8] = {0}, x[8], y[8];
    SLICED(add8)(low, a, b);
    SLICED(add8)(high, a + 8, b + 8);
    SLICED(sum8)(x, a, a + 8);
    SLICED(sum8)(y, b, b + 8);
    for (int k = 0; k < 8; k++) r[k] = r[8 + k] = low[k];
    SLICED(add8)(r, high, v7);
    SLICED(add8)(r + 8, x, y);
}

SLICED_TARGET void SLICED(multiply_add)(uint8_t *sum, const uint8_t *a, const uint8_t *b) {
    tower_get();
    vec v7[8], v15[24];
    SLICED(spread)(v7, tower_sum((uint32_t)1 << 7), 8);
    SLICED(spread)(v15, tower_sum((uint32_t)1 << 15), 24);
    for (uint32_t block = 0; block < BLOCKS; block++)
        for (size_t g = 0; g < ROW_BYTES / sizeof(vec); g += 2) {
            vec x[32], y[32], u[16], v[16], s[32], low[16], high[16], middle[16];
            vec *place[32];
            for (int k = 0; k < 32; k++) {
                const size_t row = block_index(block) >> 16 | (uint32_t)plane_row(k & 15), at = g + (size_t)(k >> 4);
                place[k] = (vec *)words_at(sum, row) + at;
                x[k] = ((const vec *)words_at((uint8_t *)a, row))[at], y[k] = ((const vec *)words_at((uint8_t *)b, row))[at], s[k] = *place[k];
            }
            for (int k = 0; k < 16; k++) u[k] = x[k] ^ x[16 + k], v[k] = y[k] ^ y[16 + k];
            SLICED(product16)(low, x, y, v7);
            SLICED(product16)(high, x + 16, y + 16, v7);
            SLICED(product16)(middle, u, v, v7);
            for (int k = 0; k < 16; k++) s[k] ^= low[k], s[16 + k] ^= middle[k] ^ low[k];
            SLICED(add16)(s, high, v15);
            for (int k = 0; k < 32; k++) *place[k] = s[k];
        }
}
