#define _GNU_SOURCE
#include "CFirmwareSim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>

// MARK: - CRC-32C

static uint32_t table[8][256];

__attribute__((constructor)) static void fill_table(void) {
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t value = i;
        for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (0x82F63B78u & (0u - (value & 1u)));
        table[0][i] = value;
    }
    for (int k = 1; k < 8; k++)
        for (int i = 0; i < 256; i++) table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 255];
}

static uint32_t by_tables(uint32_t crc, const uint8_t *bytes, size_t count) {
    for (; count >= 8; bytes += 8, count -= 8) {
        crc ^= (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
        crc = table[7][crc & 255] ^ table[6][crc >> 8 & 255] ^ table[5][crc >> 16 & 255] ^ table[4][crc >> 24] ^ table[3][bytes[4]] ^
              table[2][bytes[5]] ^ table[1][bytes[6]] ^ table[0][bytes[7]];
    }
    for (; count > 0; bytes++, count--) crc = crc >> 8 ^ table[0][(crc ^ *bytes) & 255];
    return crc;
}

uint32_t fs_crc32c_portable(const void *bytes, size_t count) { return ~by_tables(~0u, bytes, count); }

#if defined(__x86_64__)
__attribute__((target("sse4.2"))) static uint32_t by_instruction(uint32_t crc, const uint8_t *bytes, size_t count) {
    uint64_t wide = crc;
    for (; count >= 8; bytes += 8, count -= 8) {
        uint64_t word;
        memcpy(&word, bytes, 8);
        wide = __builtin_ia32_crc32di(wide, word);
    }
    crc = (uint32_t)wide;
    for (; count > 0; bytes++, count--) crc = __builtin_ia32_crc32qi(crc, *bytes);
    return crc;
}
#endif

uint32_t fs_crc32c(const void *bytes, size_t count) {
#if defined(__x86_64__)
    if (__builtin_cpu_supports("sse4.2")) return ~by_instruction(~0u, bytes, count);
#endif
    return fs_crc32c_portable(bytes, count);
}

// MARK: - Pseudo-terminals

int fs_open_pty(int *master, int *slave, char *path, size_t capacity) {
    int m = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (m < 0) return errno;
    int s = -1;
    if (grantpt(m) != 0 || unlockpt(m) != 0 || ptsname_r(m, path, capacity) != 0) goto failed;
    s = open(path, O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (s < 0) goto failed;
    struct termios settings;
    if (tcgetattr(s, &settings) != 0) goto failed;
    cfmakeraw(&settings);
    if (tcsetattr(s, TCSANOW, &settings) != 0) goto failed;
    *master = m, *slave = s;
    return 0;
failed:;
    int error = errno ? errno : EIO;
    if (s >= 0) close(s);
    close(m);
    return error;
}
