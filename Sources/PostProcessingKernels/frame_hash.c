#include "frame_hash.h"

/// a b modulo z^bits + low, bit by bit from b's top, without branches on the operands.
static inline uint64_t product(uint64_t a, uint64_t b, int bits, uint64_t low) {
    const uint64_t mask = (1ull << bits) - 1;
    uint64_t sum = 0;
    for (int i = bits - 1; i >= 0; i--) {
        sum = ((sum << 1) & mask) ^ (low & -(sum >> (bits - 1) & 1));
        sum ^= a & -(b >> i & 1);
    }
    return sum;
}

uint64_t frame_hash_product40(uint64_t a, uint64_t b) { return product(a, b, 40, 0x39); }
uint32_t frame_hash_product24(uint32_t a, uint32_t b) { return (uint32_t)product(a, b, 24, 0x1b); }

uint32_t frame_hash(uint64_t key, const uint8_t *message, size_t bytes) {
    const uint64_t point = key & 0xffffffffff;
    uint64_t value = 0;
    for (size_t i = 0; i < bytes; i += 5) {
        uint64_t symbol = 0;
        for (size_t k = 0; k < 5 && i + k < bytes; k++) symbol |= (uint64_t)message[i + k] << (8 * k);
        value = frame_hash_product40(value ^ symbol, point);
    }
    return frame_hash_product24((uint32_t)(value >> 24), (uint32_t)(key >> 40)) ^ (uint32_t)(value & 0xffffff);
}
