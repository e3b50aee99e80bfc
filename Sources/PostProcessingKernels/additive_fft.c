#include "additive_fft.h"

#include <string.h>

#include "additive_fft_internal.h"

bool additive_fft_available(additive_fft_kind kind) {
#if defined(__x86_64__)
    if (kind == ADDITIVE_FFT_AVX2) return __builtin_cpu_supports("avx2");
    if (kind == ADDITIVE_FFT_GFNI)
        return __builtin_cpu_supports("gfni") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vbmi2");
#endif
    return kind == ADDITIVE_FFT_PORTABLE;
}

additive_fft_kind additive_fft_best(void) {
    for (int kind = ADDITIVE_FFT_GFNI; kind > ADDITIVE_FFT_PORTABLE; kind--)
        if (additive_fft_available((additive_fft_kind)kind)) return (additive_fft_kind)kind;
    return ADDITIVE_FFT_PORTABLE;
}

/// Eight bytes of a string from one that may lie outside of it.
static uint64_t word_at(const uint8_t *string, int64_t bytes, int64_t byte) {
    uint64_t word = 0;
    if (byte >= 0 && byte + 8 <= bytes) {
        memcpy(&word, string + byte, 8);
        return word;
    }
    for (int i = 0; i < 8; i++)
        if (byte + i >= 0 && byte + i < bytes) word |= (uint64_t)string[byte + i] << 8 * i;
    return word;
}

/// Words of a string from bit `start` on, which the string holds with a byte to spare.
static void load_inside(uint64_t *restrict out, size_t words, const uint8_t *restrict string, int64_t start) {
    const uint8_t *from = string + start / 8;
    const int shift = (int)(start % 8);
    for (size_t w = 0; w < words; w++) {
        uint64_t low, high;
        memcpy(&low, from + 8 * w, 8);
        memcpy(&high, from + 8 * w + 1, 8);
        out[w] = low >> shift | high >> 56 << 1 << (63 - shift);
    }
}

/// Ones for the bits of word `word` (its first bit is `first`) that lie in from ..< to.
static uint64_t kept(int64_t first, int64_t from, int64_t to) {
    if (to <= first || from >= first + 64) return 0;
    uint64_t mask = ~(uint64_t)0;
    if (from > first) mask &= ~(uint64_t)0 << (from - first);
    if (to < first + 64) mask &= ~(uint64_t)0 >> (first + 64 - to);
    return mask;
}

enum { ROW_WORDS = ROW_BYTES / 8 };

void additive_fft_load(uint8_t *buffer, const uint8_t *string, int64_t bits, int64_t start, int64_t count) {
    const int64_t bytes = (bits + 7) / 8, from = start < 0 ? -start : 0, to = count < bits - start ? count : bits - start;
    for (int64_t row = 0; row < ROWS; row++) {
        uint64_t *out = (uint64_t *)(buffer + row * ROW_STRIDE);
        const int64_t first = row * ROW_BYTES * 8, end = first + ROW_BYTES * 8;
        if (first >= from && end <= to && (start + end) / 8 + 1 < bytes) {
            load_inside(out, ROW_WORDS, string, start + first);
            continue;
        }
        if (end <= from || first >= to) {
            memset(out, 0, ROW_BYTES);
            continue;
        }
        for (int64_t w = 0; w < ROW_WORDS; w++) {
            const int64_t at = first + 64 * w;
            const uint64_t mask = kept(at, from, to);
            const int64_t bit = start + at, byte = bit >= 0 ? bit / 8 : -((7 - bit) / 8);
            const int shift = (int)(bit - 8 * byte);
            const uint64_t low = mask ? word_at(string, bytes, byte) : 0, high = mask ? word_at(string, bytes, byte + 8) & 255 : 0;
            out[w] = (low >> shift | high << 1 << (63 - shift)) & mask;
        }
    }
}

void additive_fft_store(uint8_t *bytes, const uint8_t *buffer, int64_t start, int64_t count) {
    const int shift = (int)(start % 64);
    for (int64_t w = 0; 64 * w < count; w++) {
        uint64_t part[2];
        for (int k = 0; k < 2; k++) {
            const int64_t word = start / 64 + w + k;
            part[k] = word < ROWS * ROW_WORDS ? ((const uint64_t *)(buffer + word / ROW_WORDS * ROW_STRIDE))[word % ROW_WORDS] : 0;
        }
        uint64_t value = (part[0] >> shift | part[1] << 1 << (63 - shift)) & kept(64 * w, 0, count);
        for (int64_t k = 0; k < 8 && 64 * w + 8 * k < count; k++) bytes[8 * w + k] = (uint8_t)(value >> 8 * k);
    }
}

void additive_fft_forward(additive_fft_kind kind, uint8_t *values, uint8_t *bits) {
    if (kind == ADDITIVE_FFT_GFNI) {
        gfni_forward(values, bits);
        return;
    }
    memcpy(values, bits, ADDITIVE_FFT_BYTES);
    if (kind == ADDITIVE_FFT_AVX2) avx2_forward(values);
    else portable_forward(values);
}

void additive_fft_multiply_add(additive_fft_kind kind, uint8_t *sum, const uint8_t *a, const uint8_t *b) {
    if (kind == ADDITIVE_FFT_GFNI) gfni_multiply_add(sum, a, b);
    else if (kind == ADDITIVE_FFT_AVX2) avx2_multiply_add(sum, a, b);
    else portable_multiply_add(sum, a, b);
}

void additive_fft_inverse(additive_fft_kind kind, uint8_t *bits, uint8_t *values) {
    if (kind == ADDITIVE_FFT_GFNI) {
        gfni_inverse(bits, values);
        return;
    }
    memcpy(bits, values, ADDITIVE_FFT_BYTES);
    if (kind == ADDITIVE_FFT_AVX2) avx2_inverse(bits);
    else portable_inverse(bits);
}
