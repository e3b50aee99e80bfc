// Polynomial hash over GF(2^128), in constant time with respect to key and message.
// Four blocks share one reduction: ((s + b0) k^4 + b1 k^3 + b2 k^2 + b3 k).
#include "CKeyMaterial.h"
#include <string.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

typedef struct { uint64_t w[4]; } product;  // 256 bits, not yet reduced

// -- portable carry-less multiplication: ordinary products of operands with holes, so that carries fall into the holes

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

static inline void multiply_add_portable(product *sum, const uint64_t a[2], const uint64_t b[2]) {
    uint64_t x[3] = {a[0], a[1], a[0] ^ a[1]}, y[3] = {b[0], b[1], b[0] ^ b[1]}, low[3], high[3];
    for (int i = 0; i < 3; i++) {
        low[i] = low_product(x[i], y[i]);
        high[i] = reversed(low_product(reversed(x[i]), reversed(y[i]))) >> 1;
    }
    sum->w[0] ^= low[0];
    sum->w[1] ^= high[0] ^ low[0] ^ low[1] ^ low[2];
    sum->w[2] ^= low[1] ^ high[0] ^ high[1] ^ high[2];
    sum->w[3] ^= high[1];
}

// -- reduction: x^128 = x^7 + x^2 + x + 1

static inline void reduce(const product *p, uint64_t out[2]) {
    uint64_t h0 = p->w[2], h1 = p->w[3];
    uint64_t over = (h1 >> 63) ^ (h1 >> 62) ^ (h1 >> 57);
    h0 ^= over;
    out[0] = p->w[0] ^ h0 ^ (h0 << 1) ^ (h0 << 2) ^ (h0 << 7);
    out[1] = p->w[1] ^ h1 ^ (h1 << 1 | h0 >> 63) ^ (h1 << 2 | h0 >> 62) ^ (h1 << 7 | h0 >> 57);
    // The bits of `over` folded into h0 stand at x^128: they have been taken down with h0 above.
}

static inline void load(uint64_t block[2], const uint8_t *bytes) { memcpy(block, bytes, 16); }

static void blocks_portable(struct ckm_hash *hash, const uint8_t *bytes, size_t blocks) {
    for (; blocks > 0; blocks--, bytes += 16) {
        uint64_t block[2];
        load(block, bytes);
        block[0] ^= hash->state[0];
        block[1] ^= hash->state[1];
        product p = {{0}};
        multiply_add_portable(&p, block, hash->powers[0]);
        reduce(&p, hash->state);
    }
}

#if defined(__x86_64__)
__attribute__((target("pclmul,sse4.1"))) static inline void multiply_add_clmul(__m128i sum[3], __m128i a, __m128i b) {
    sum[0] = _mm_xor_si128(sum[0], _mm_clmulepi64_si128(a, b, 0x00));
    sum[2] = _mm_xor_si128(sum[2], _mm_clmulepi64_si128(a, b, 0x11));
    sum[1] = _mm_xor_si128(sum[1], _mm_xor_si128(_mm_clmulepi64_si128(a, b, 0x01), _mm_clmulepi64_si128(a, b, 0x10)));
}

__attribute__((target("pclmul,sse4.1"))) static void blocks_clmul(struct ckm_hash *hash, const uint8_t *bytes, size_t blocks) {
    while (blocks > 0) {
        size_t now = blocks < 4 ? blocks : 4;
        __m128i sum[3] = {_mm_setzero_si128(), _mm_setzero_si128(), _mm_setzero_si128()};
        for (size_t i = 0; i < now; i++) {
            __m128i block = _mm_loadu_si128((const __m128i *)(bytes + 16 * i));
            if (i == 0) block = _mm_xor_si128(block, _mm_loadu_si128((const __m128i *)hash->state));
            multiply_add_clmul(sum, block, _mm_loadu_si128((const __m128i *)hash->powers[now - 1 - i]));
        }
        product p;
        _mm_storeu_si128((__m128i *)p.w, _mm_xor_si128(sum[0], _mm_slli_si128(sum[1], 8)));
        _mm_storeu_si128((__m128i *)(p.w + 2), _mm_xor_si128(sum[2], _mm_srli_si128(sum[1], 8)));
        reduce(&p, hash->state);
        bytes += 16 * now;
        blocks -= now;
    }
}
#endif

int ckm_kernel(void) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("pclmul") && __builtin_cpu_supports("sse4.1")) return CKM_PCLMULQDQ;
#endif
    return CKM_PORTABLE;
}

void ckm_hash_blocks(struct ckm_hash *hash, const uint8_t *bytes, size_t blocks, int kernel) {
#if defined(__x86_64__)
    if (kernel == CKM_PCLMULQDQ) {
        blocks_clmul(hash, bytes, blocks);
        return;
    }
#endif
    (void)kernel;
    blocks_portable(hash, bytes, blocks);
}

void ckm_hash_begin(struct ckm_hash *hash, const uint8_t *key, int kernel) {
    static const uint8_t none[16] = {0};
    ckm_zero(hash, sizeof *hash);
    load(hash->powers[0], key);
    memcpy(hash->state, hash->powers[0], 16);
    for (int i = 1; i < 4; i++) {  // (key^i + 0) key
        ckm_hash_blocks(hash, none, 1, kernel);
        memcpy(hash->powers[i], hash->state, 16);
    }
    ckm_hash_restart(hash);
}

void ckm_hash_restart(struct ckm_hash *hash) {
    ckm_zero(hash->state, sizeof hash->state);
    ckm_zero(hash->rest, sizeof hash->rest);
    hash->length = 0;
}

void ckm_hash_update(struct ckm_hash *hash, const uint8_t *bytes, size_t count, int kernel) {
    size_t held = hash->length % 16;
    hash->length += count;
    if (held > 0) {
        size_t part = count < 16 - held ? count : 16 - held;
        memcpy(hash->rest + held, bytes, part);
        if (held + part < 16) return;
        ckm_hash_blocks(hash, hash->rest, 1, kernel);
        bytes += part;
        count -= part;
    }
    size_t blocks = count / 16;
    if (blocks > 0) ckm_hash_blocks(hash, bytes, blocks, kernel);
    if (count % 16 > 0) memcpy(hash->rest, bytes + 16 * blocks, count % 16);
}

void ckm_hash_value(const struct ckm_hash *hash, uint8_t *out, int kernel) {
    struct ckm_hash last = *hash;
    size_t held = last.length % 16;
    if (held > 0) {
        memset(last.rest + held, 0, 16 - held);
        ckm_hash_blocks(&last, last.rest, 1, kernel);
    }
    uint64_t length[2] = {last.length * 8, 0};
    ckm_hash_blocks(&last, (const uint8_t *)length, 1, kernel);
    memcpy(out, last.state, 16);
    ckm_zero(&last, sizeof last);
}
