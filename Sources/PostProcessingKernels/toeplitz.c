#include "toeplitz.h"

#include <stdbool.h>
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

enum { BASE = 8 };  // words of the smallest product of a SIMD kernel

// -- portable: products of operands with holes, in which carries die (no table, no branch on data)

static inline uint64_t low_product(uint64_t a, uint64_t b) {
    const uint64_t m0 = 0x1111111111111111u, m1 = m0 << 1, m2 = m0 << 2, m3 = m0 << 3;
    uint64_t a0 = a & m0, a1 = a & m1, a2 = a & m2, a3 = a & m3;
    uint64_t b0 = b & m0, b1 = b & m1, b2 = b & m2, b3 = b & m3;
    return (((a0 * b0) ^ (a1 * b3) ^ (a2 * b2) ^ (a3 * b1)) & m0) | (((a0 * b1) ^ (a1 * b0) ^ (a2 * b3) ^ (a3 * b2)) & m1)
         | (((a0 * b2) ^ (a1 * b1) ^ (a2 * b0) ^ (a3 * b3)) & m2) | (((a0 * b3) ^ (a1 * b2) ^ (a2 * b1) ^ (a3 * b0)) & m3);
}

static inline uint64_t reversed(uint64_t v) {
    v = ((v >> 1) & 0x5555555555555555u) | ((v & 0x5555555555555555u) << 1);
    v = ((v >> 2) & 0x3333333333333333u) | ((v & 0x3333333333333333u) << 2);
    v = ((v >> 4) & 0x0F0F0F0F0F0F0F0Fu) | ((v & 0x0F0F0F0F0F0F0F0Fu) << 4);
    return __builtin_bswap64(v);
}

static inline void product_portable_1(uint64_t out[2], uint64_t a, uint64_t b) {
    out[0] = low_product(a, b);
    out[1] = reversed(low_product(reversed(a), reversed(b))) >> 1;
}

// out = a b for 2, 4 or 8 words, Karatsuba down to one.
#define PORTABLE_LEVEL(n, half)                                                                              \
    static void product_portable_##n(uint64_t out[2 * n], const uint64_t a[n], const uint64_t b[n]) {        \
        uint64_t x[half], y[half], middle[n];                                                                \
        for (int i = 0; i < half; i++) x[i] = a[i] ^ a[half + i], y[i] = b[i] ^ b[half + i];                 \
        PRODUCT(half)(out, a, b);                                                                            \
        PRODUCT(half)(out + n, a + half, b + half);                                                          \
        PRODUCT(half)(middle, x, y);                                                                         \
        for (int i = 0; i < n; i++) middle[i] ^= out[i] ^ out[n + i];                                        \
        for (int i = 0; i < n; i++) out[half + i] ^= middle[i];                                              \
    }
#define PRODUCT(half) product_portable_##half##_
static inline void product_portable_1_(uint64_t out[2], const uint64_t *a, const uint64_t *b) { product_portable_1(out, *a, *b); }
PORTABLE_LEVEL(2, 1)
#define product_portable_2_ product_portable_2
PORTABLE_LEVEL(4, 2)
#define product_portable_4_ product_portable_4
PORTABLE_LEVEL(8, 4)

static void base_portable(uint64_t *sum, const uint64_t *a, const uint64_t *b) {
    uint64_t out[2 * BASE];
    product_portable_8(out, a, b);
    for (int i = 0; i < 2 * BASE; i++) sum[i] ^= out[i];
}

#if defined(__x86_64__)
// -- PCLMULQDQ: 128 x 128 bits in three products, 512 x 512 bits by Karatsuba over four of these

#define CLMUL __attribute__((target("pclmul,sse4.1"), always_inline)) static inline

CLMUL void product_128(__m128i out[2], __m128i a, __m128i b) {
    __m128i low = _mm_clmulepi64_si128(a, b, 0x00), high = _mm_clmulepi64_si128(a, b, 0x11);
    __m128i x = _mm_xor_si128(a, _mm_shuffle_epi32(a, 0x4E)), y = _mm_xor_si128(b, _mm_shuffle_epi32(b, 0x4E));
    __m128i middle = _mm_xor_si128(_mm_clmulepi64_si128(x, y, 0x00), _mm_xor_si128(low, high));
    out[0] = _mm_xor_si128(low, _mm_slli_si128(middle, 8));
    out[1] = _mm_xor_si128(high, _mm_srli_si128(middle, 8));
}

CLMUL void product_256(__m128i out[4], const __m128i a[2], const __m128i b[2]) {
    __m128i middle[2];
    product_128(out, a[0], b[0]);
    product_128(out + 2, a[1], b[1]);
    product_128(middle, _mm_xor_si128(a[0], a[1]), _mm_xor_si128(b[0], b[1]));
    middle[0] = _mm_xor_si128(middle[0], _mm_xor_si128(out[0], out[2]));
    middle[1] = _mm_xor_si128(middle[1], _mm_xor_si128(out[1], out[3]));
    out[1] = _mm_xor_si128(out[1], middle[0]);
    out[2] = _mm_xor_si128(out[2], middle[1]);
}

__attribute__((target("pclmul,sse4.1"))) static void base_pclmul(uint64_t *sum, const uint64_t *a, const uint64_t *b) {
    __m128i x[4], y[4], u[2], v[2], low[4], high[4], middle[4];
    for (int i = 0; i < 4; i++) {
        x[i] = _mm_loadu_si128((const __m128i *)a + i);
        y[i] = _mm_loadu_si128((const __m128i *)b + i);
    }
    for (int i = 0; i < 2; i++) {
        u[i] = _mm_xor_si128(x[i], x[i + 2]);
        v[i] = _mm_xor_si128(y[i], y[i + 2]);
    }
    product_256(low, x, y);
    product_256(high, x + 2, y + 2);
    product_256(middle, u, v);
    for (int i = 0; i < 4; i++) middle[i] = _mm_xor_si128(middle[i], _mm_xor_si128(low[i], high[i]));
    __m128i out[8] = {low[0], low[1], _mm_xor_si128(low[2], middle[0]), _mm_xor_si128(low[3], middle[1]),
                      _mm_xor_si128(high[0], middle[2]), _mm_xor_si128(high[1], middle[3]), high[2], high[3]};
    for (int i = 0; i < 8; i++) {
        __m128i *place = (__m128i *)sum + i;
        _mm_storeu_si128(place, _mm_xor_si128(_mm_loadu_si128(place), out[i]));
    }
}

// -- VPCLMULQDQ: all of a at once against each word of b

#define WIDE __attribute__((target("avx512f,avx512vl,avx512dq,vpclmulqdq"), always_inline)) static inline

// Adds a product of four 128-bit lanes, moved up by `lanes` lanes, to a sum of eight lanes.
WIDE void add_shifted(__m512i sum[2], __m512i product, const int lanes) {
    const __m512i zero = _mm512_setzero_si512();
    switch (lanes) {
        case 0: sum[0] = _mm512_xor_si512(sum[0], product); break;
        case 1:
            sum[0] = _mm512_xor_si512(sum[0], _mm512_alignr_epi64(product, zero, 6));
            sum[1] = _mm512_xor_si512(sum[1], _mm512_alignr_epi64(zero, product, 6));
            break;
        case 2:
            sum[0] = _mm512_xor_si512(sum[0], _mm512_alignr_epi64(product, zero, 4));
            sum[1] = _mm512_xor_si512(sum[1], _mm512_alignr_epi64(zero, product, 4));
            break;
        case 3:
            sum[0] = _mm512_xor_si512(sum[0], _mm512_alignr_epi64(product, zero, 2));
            sum[1] = _mm512_xor_si512(sum[1], _mm512_alignr_epi64(zero, product, 2));
            break;
        default: sum[1] = _mm512_xor_si512(sum[1], product); break;
    }
}

__attribute__((target("avx512f,avx512vl,avx512dq,vpclmulqdq"))) static void base_vpclmul(uint64_t *sum, const uint64_t *a,
                                                                                            const uint64_t *b) {
    const __m512i x = _mm512_loadu_si512(a);
    __m512i even[2] = {_mm512_loadu_si512(sum), _mm512_loadu_si512(sum + 8)};  // lanes at even words, at the outset the sum itself
    __m512i odd[2] = {_mm512_setzero_si512(), _mm512_setzero_si512()};         // lanes one word further up
#define PAIR(s)                                                                                                            \
    {                                                                                                                      \
        const __m512i y = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)b + s));                                 \
        add_shifted(even, _mm512_clmulepi64_epi128(x, y, 0x00), s);                                                        \
        add_shifted(even, _mm512_clmulepi64_epi128(x, y, 0x11), s + 1);                                                    \
        add_shifted(odd, _mm512_xor_si512(_mm512_clmulepi64_epi128(x, y, 0x01), _mm512_clmulepi64_epi128(x, y, 0x10)), s); \
    }
    PAIR(0) PAIR(1) PAIR(2) PAIR(3)
#undef PAIR
    even[0] = _mm512_xor_si512(even[0], _mm512_alignr_epi64(odd[0], _mm512_setzero_si512(), 7));
    even[1] = _mm512_xor_si512(even[1], _mm512_alignr_epi64(odd[1], odd[0], 7));
    _mm512_storeu_si512(sum, even[0]);
    _mm512_storeu_si512(sum + 8, even[1]);
}
#endif

int toeplitz_kernel(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("vpclmulqdq") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl")
        && __builtin_cpu_supports("avx512dq"))
        return TOEPLITZ_VPCLMULQDQ;
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) return TOEPLITZ_PCLMULQDQ;
#endif
    return TOEPLITZ_PORTABLE;
}

static inline void base(uint64_t *sum, const uint64_t *a, const uint64_t *b, int kernel) {
#if defined(__x86_64__)
    if (kernel == TOEPLITZ_VPCLMULQDQ) {
        base_vpclmul(sum, a, b);
        return;
    }
    if (kernel == TOEPLITZ_PCLMULQDQ) {
        base_pclmul(sum, a, b);
        return;
    }
#endif
    (void)kernel;
    base_portable(sum, a, b);
}

// Scratch of one level: the sums of halves (2 half) and one product (2 half), then the levels below.
size_t toeplitz_scratch(size_t words) { return 4 * words + 64; }

// sum += a b with a b = low + (middle + low + high) z^half + high z^(2 half). Each of the three products is made once, in scratch.
void toeplitz_multiply_add(uint64_t *sum, const uint64_t *a, const uint64_t *b, size_t words, uint64_t *scratch, int kernel) {
    if (words <= BASE) {
        base(sum, a, b, kernel);
        return;
    }
    size_t half = words / 2;
    uint64_t *x = scratch, *y = scratch + half, *product = scratch + words, *below = scratch + 2 * words;
    memset(product, 0, words * sizeof *product);
    toeplitz_multiply_add(product, a, b, half, below, kernel);
    for (size_t i = 0; i < words; i++) sum[i] ^= product[i];
    for (size_t i = 0; i < words; i++) sum[half + i] ^= product[i];
    memset(product, 0, words * sizeof *product);
    toeplitz_multiply_add(product, a + half, b + half, half, below, kernel);
    for (size_t i = 0; i < words; i++) sum[words + i] ^= product[i];
    for (size_t i = 0; i < words; i++) sum[half + i] ^= product[i];
    for (size_t i = 0; i < half; i++) x[i] = a[i] ^ a[half + i], y[i] = b[i] ^ b[half + i];
    toeplitz_multiply_add(sum + half, x, y, half, below, kernel);
}

void toeplitz_window(uint64_t *out, size_t words, const uint8_t *string, int64_t bits, int64_t start) {
    const int64_t bytes = (bits + 7) / 8;
    for (size_t w = 0; w < words; w++) {
        const int64_t first = start + 64 * (int64_t)w;  // bit
        if (first >= bits || first + 64 <= 0) {
            out[w] = 0;
            continue;
        }
        const int64_t byte = first >= 0 ? first / 8 : -((-first + 7) / 8);
        const int shift = (int)(first - 8 * byte);
        uint64_t low = 0, high = 0;
        if (byte >= 0 && byte + 9 <= bytes) {
            memcpy(&low, string + byte, 8);
            high = string[byte + 8];
        } else {
            for (int i = 0; i < 9; i++) {
                const uint64_t value = byte + i >= 0 && byte + i < bytes ? string[byte + i] : 0;
                if (i < 8) low |= value << 8 * i;
                else high = value;
            }
        }
        uint64_t word = shift == 0 ? low : (low >> shift | high << (64 - shift));
        if (bits - first < 64) word &= (((uint64_t)1 << (bits - first)) - 1);
        out[w] = word;
    }
}
