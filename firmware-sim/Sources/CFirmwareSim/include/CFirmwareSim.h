// What the emulator needs from C: the frames' check sum and pseudo-terminals.
#ifndef CFIRMWARESIM_H
#define CFIRMWARESIM_H

#include <stddef.h>
#include <stdint.h>

/// CRC-32C (Castagnoli) of `count` bytes.
uint32_t fs_crc32c(const void *bytes, size_t count);
/// The same by tables, for processors without the instruction (and for its test).
uint32_t fs_crc32c_portable(const void *bytes, size_t count);

/// Opens a raw pseudo-terminal. Returns 0 and both descriptors (close-on-exec) and the slave's path, or errno.
int fs_open_pty(int *master, int *slave, char *path, size_t capacity);

#endif
