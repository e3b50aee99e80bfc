// CRC-32C, twice: eight tables of 256 (slicing by eight), and SSE4.2's instruction on eight bytes at a time.
#include "CTransport.h"
#include <pthread.h>
#include <string.h>

static uint32_t tables[8][256];
static pthread_once_t tables_once = PTHREAD_ONCE_INIT;

static void make_tables(void) {
    for (uint32_t byte = 0; byte < 256; byte++) {
        uint32_t crc = byte;
        for (int bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ ((crc & 1) ? 0x82F63B78u : 0);
        tables[0][byte] = crc;
    }
    for (uint32_t byte = 0; byte < 256; byte++)
        for (int row = 1; row < 8; row++)
            tables[row][byte] = (tables[row - 1][byte] >> 8) ^ tables[0][tables[row - 1][byte] & 0xFF];
}

uint32_t transport_crc32c_portable(uint32_t crc, const void *bytes, size_t count) {
    pthread_once(&tables_once, make_tables);
    const uint8_t *p = bytes;
    crc = ~crc;
    for (; count >= 8; p += 8, count -= 8) {
        uint32_t low = ((uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24) ^ crc;
        crc = tables[7][low & 0xFF] ^ tables[6][(low >> 8) & 0xFF] ^ tables[5][(low >> 16) & 0xFF] ^ tables[4][low >> 24]
            ^ tables[3][p[4]] ^ tables[2][p[5]] ^ tables[1][p[6]] ^ tables[0][p[7]];
    }
    for (; count > 0; p++, count--) crc = (crc >> 8) ^ tables[0][(crc ^ *p) & 0xFF];
    return ~crc;
}

#if defined(__x86_64__)
#include <nmmintrin.h>

__attribute__((target("sse4.2"))) static uint32_t crc32c_sse42(uint32_t crc, const void *bytes, size_t count) {
    const uint8_t *p = bytes;
    uint64_t state = ~crc;
    for (; count >= 8; p += 8, count -= 8) {
        uint64_t word;
        memcpy(&word, p, 8);
        state = _mm_crc32_u64(state, word);
    }
    uint32_t rest = (uint32_t)state;
    for (; count > 0; p++, count--) rest = _mm_crc32_u8(rest, *p);
    return ~rest;
}

int transport_crc32c_is_hardware(void) { return __builtin_cpu_supports("sse4.2") != 0; }

uint32_t transport_crc32c(uint32_t crc, const void *bytes, size_t count) {
    if (transport_crc32c_is_hardware()) return crc32c_sse42(crc, bytes, count);
    return transport_crc32c_portable(crc, bytes, count);
}
#else
int transport_crc32c_is_hardware(void) { return 0; }

uint32_t transport_crc32c(uint32_t crc, const void *bytes, size_t count) {
    return transport_crc32c_portable(crc, bytes, count);
}
#endif
