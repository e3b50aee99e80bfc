#include "additive_fft_field.h"

#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>

static field_tables tables;

static uint8_t aes_product(uint8_t a, uint8_t b) {
    uint8_t sum = 0;
    for (int i = 0; i < 8; i++) {
        if (b >> i & 1) sum ^= a;
        a = (uint8_t)(a << 1 ^ (a & 0x80 ? 0x1b : 0));
    }
    return sum;
}

uint16_t field_product16(const field_tables *f, uint16_t a, uint16_t b) {
    const uint8_t a0 = (uint8_t)a, a1 = a >> 8, b0 = (uint8_t)b, b1 = b >> 8, high = f->product[a1][b1], low = f->product[a0][b0];
    const uint8_t r0 = low ^ f->product[f->basis[7]][high], r1 = f->product[a0 ^ a1][b0 ^ b1] ^ low;
    return (uint16_t)(r0 | r1 << 8);
}

uint32_t field_product32(const field_tables *f, uint32_t a, uint32_t b) {
    const uint16_t a0 = (uint16_t)a, a1 = a >> 16, b0 = (uint16_t)b, b1 = b >> 16;
    const uint16_t high = field_product16(f, a1, b1), low = field_product16(f, a0, b0);
    const uint16_t r0 = low ^ field_product16(f, (uint16_t)f->basis[15], high), r1 = field_product16(f, a0 ^ a1, b0 ^ b1) ^ low;
    return r0 | (uint32_t)r1 << 16;
}

/// x of x^2 + x = c in GF(2^16); the other solution is x + 1.
static bool solve16(const field_tables *f, uint16_t c, uint16_t *x) {
    for (uint32_t trial = 0; trial < 0x10000; trial += 2)
        if ((field_product16(f, (uint16_t)trial, (uint16_t)trial) ^ trial) == c) {
            *x = (uint16_t)trial;
            return true;
        }
    return false;
}

/// x = x0 + x1 z: x^2 + x = (x0^2 + x0 + v_15 x1^2) + (x1^2 + x1) z.
static bool solve32(const field_tables *f, uint32_t c, uint32_t *x) {
    uint16_t x0, x1;
    if (!solve16(f, c >> 16, &x1)) return false;
    for (int k = 0; k < 2; k++, x1 ^= 1) {
        const uint16_t shift = field_product16(f, (uint16_t)f->basis[15], field_product16(f, x1, x1));
        if (solve16(f, (uint16_t)c ^ shift, &x0)) {
            *x = x0 | (uint32_t)x1 << 16;
            return true;
        }
    }
    return false;
}

static void make(void) {
    field_tables *f = &tables;
    for (int a = 0; a < 256; a++)
        for (int b = 0; b < 256; b++) f->product[a][b] = aes_product((uint8_t)a, (uint8_t)b);
    bool sound = true;
    f->basis[0] = 1;
    for (int i = 1; i < 32; i++) {
        uint16_t x = 0;
        if (i == 8 || i == 16) f->basis[i] = (uint32_t)1 << i;
        else if (i < 8) {
            int trial = 0;
            while (trial < 256 && (f->product[trial][trial] ^ trial) != (int)f->basis[i - 1]) trial += 2;
            sound &= trial < 256;
            f->basis[i] = (uint32_t)trial;
        } else if (i < 16) {
            sound &= solve16(f, (uint16_t)f->basis[i - 1], &x);
            f->basis[i] = x;
        } else sound &= solve32(f, f->basis[i - 1], &f->basis[i]);
    }
    if (!sound) abort();  // not on any machine: these are constants of mathematics
    for (int k = 0; k < 4; k++)
        for (int bits = 1; bits < 256; bits++)
            f->sum[k][bits] = f->sum[k][bits & (bits - 1)] ^ f->basis[8 * k + __builtin_ctz((unsigned)bits)];
}

const field_tables *field_get(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make);
    return &tables;
}

field_constant field_prepare(const field_tables *f, uint32_t t) {
    const uint16_t low = (uint16_t)t, high = t >> 16;
    const uint16_t c[3] = {low, field_product16(f, (uint16_t)f->basis[15], high), low ^ high};
    field_constant result = {{0}};
    for (int k = 0; k < 3; k++) {
        const uint8_t c0 = (uint8_t)c[k], c1 = c[k] >> 8;
        result.byte[3 * k] = c0;
        result.byte[3 * k + 1] = f->product[f->basis[7]][c1];
        result.byte[3 * k + 2] = c0 ^ c1;
    }
    return result;
}
