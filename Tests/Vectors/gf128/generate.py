#!/usr/bin/env python3
"""Vectors for the polynomial hash over GF(2^128), computed with Python's big integers, independently of the kernels.

python3 generate.py > hash.json
"""
import json
import random

POLY = (1 << 128) | 0x87


def multiply(a, b):
    p = 0
    while b:
        if b & 1:
            p ^= a
        a <<= 1
        b >>= 1
    for i in range(p.bit_length() - 1, 127, -1):
        if p >> i & 1:
            p ^= POLY << (i - 128)
    return p


def polynomial(key, blocks):
    k, s = int.from_bytes(key, "little"), 0
    for block in blocks:
        s = multiply(s ^ int.from_bytes(block, "little"), k)
    return s.to_bytes(16, "little")


def value(key, message):
    padded = message + bytes(-len(message) % 16)
    blocks = [padded[i : i + 16] for i in range(0, len(padded), 16)]
    return polynomial(key, blocks + [(8 * len(message)).to_bytes(16, "little")])


def mirrored(b):
    return bytes(int(f"{x:08b}"[::-1], 2) for x in b)


# GHASH writes the bits of each byte the other way round. Published values hold the generator to the standard:
# McGrew and Viega, The Galois/Counter Mode of operation, test case 2; RFC 8452, appendix A.
for key, blocks, expected in [
    ("66e94bd4ef8a2c3b884cfa59ca342b2e", ["0388dace60b6a392f328c2b971b2fe78", "00000000000000000000000000000080"],
     "f38cbb1ad69223dcc3457ae5b6b0f885"),
    ("25629347589242761d31f826ba4b757b", ["4f4f95668c83dfb6401762bb2d01a262", "d1a24ddd2721d006bbe45f20d3c9f362"],
     "bd9b3997046731fb96251b91f9c99d7a"),
]:
    got = mirrored(polynomial(mirrored(bytes.fromhex(key)), [mirrored(bytes.fromhex(b)) for b in blocks]))
    assert got.hex() == expected, (got.hex(), expected)

random.seed(128)
out = []
for length in list(range(0, 36)) + [47, 48, 63, 64, 65, 80, 127, 128, 129, 255, 1000, 4099]:
    key, message = random.randbytes(16), random.randbytes(length)
    out.append({"key": key.hex(), "message": message.hex(), "value": value(key, message).hex()})
for key in [bytes(16), b"\x01" + bytes(15), bytes(15) + b"\x80", b"\xff" * 16]:
    message = b"\xff" * 77
    out.append({"key": key.hex(), "message": message.hex(), "value": value(key, message).hex()})
print(json.dumps(out, indent=0))
