// Pages for secrets and arithmetic in GF(2^128): what Swift cannot promise (zeroing that is not optimised away,
// memory that is not dumped or swapped) or cannot do quickly (carry-less multiplication).
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

// -- pages

/// Zeroed private pages for `count` bytes, out of core dumps and wiped in a forked child; locked into memory where the
/// limit allows, which `*locked` tells. NULL where the system has no memory.
void *_Nullable ckm_pages_make(size_t count, bool *_Nonnull locked);

/// Overwrites and returns what `ckm_pages_make(count, ...)` gave.
void ckm_pages_drop(void *_Nonnull pages, size_t count);

/// Overwrites `count` bytes with zeros, also where the compiler thinks nobody looks.
void ckm_zero(void *_Nonnull bytes, size_t count);

/// Whether two strings of `count` bytes are equal, in a time that does not depend on them.
bool ckm_equal(const void *_Nonnull a, const void *_Nonnull b, size_t count);

// -- polynomial hash over GF(2^128) = GF(2)[x] / (x^128 + x^7 + x^2 + x + 1)
// Bit i of byte j of a 16-byte block is the coefficient of x^(8 j + i).

enum { CKM_PORTABLE = 0, CKM_PCLMULQDQ = 1 };

/// The best kernel of this processor.
int ckm_kernel(void);

struct ckm_hash {
    uint64_t powers[4][2];  // key, key^2, key^3, key^4
    uint64_t state[2];
    uint8_t rest[16];       // bytes that do not fill a block yet
    uint64_t length;        // bytes so far
};

/// Starts a hash with a 16-byte key.
void ckm_hash_begin(struct ckm_hash *_Nonnull hash, const uint8_t *_Nonnull key, int kernel);
/// Takes in `count` bytes.
void ckm_hash_update(struct ckm_hash *_Nonnull hash, const uint8_t *_Nullable bytes, size_t count, int kernel);
/// Pads with zeros, takes in one block with the length in bits, and writes 16 bytes. The hash itself is not changed.
void ckm_hash_value(const struct ckm_hash *_Nonnull hash, uint8_t *_Nonnull out, int kernel);
/// Back to the empty message under the same key.
void ckm_hash_restart(struct ckm_hash *_Nonnull hash);
/// state = (state + block) * key for each whole block: the bare polynomial, for outside vectors.
void ckm_hash_blocks(struct ckm_hash *_Nonnull hash, const uint8_t *_Nonnull bytes, size_t blocks, int kernel);
