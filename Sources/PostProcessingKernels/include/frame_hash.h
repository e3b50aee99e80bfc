// The short universal hash that says whether a frame was decoded to the right word.
//
// Two stages over binary fields, keyed by 64 uniform bits: the message as a polynomial of 40-bit symbols (5 bytes each, little-endian, the last
// one padded with zeros) evaluated at key bits 0 ..< 40 in GF(2^40) = GF(2)[z]/(z^40 + z^5 + z^4 + z^3 + 1), then, with the value's upper 16
// bits u, its lower 24 bits v and key bits 40 ..< 64 as k, the hash u k + v in GF(2^24) = GF(2)[z]/(z^24 + z^4 + z^3 + z + 1). Two different
// messages of n symbols collide for at most a share 2^-24 + n 2^-40 of the keys. Messages hashed under one key have one length.
#pragma once
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/// - Returns: 24 bits.
uint32_t frame_hash(uint64_t key, const uint8_t *message, size_t bytes);

/// The two fields' products, for tests. Constant time.
uint64_t frame_hash_product40(uint64_t a, uint64_t b);
uint32_t frame_hash_product24(uint32_t a, uint32_t b);

#ifdef __cplusplus
}
#endif
