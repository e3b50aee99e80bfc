// What Swift cannot say about lines: CRC-32C at the speed of memory, and the tty calls that Glibc's overlay lacks.
#pragma once
#include <stddef.h>
#include <stdint.h>

// CRC-32C (Castagnoli, reflected polynomial 0x82F63B78, initial and final inversion): RFC 3720 B.4 has vectors.
// `crc` is 0 or the value of what came before. The first chooses at run time, the second is the portable path.
uint32_t transport_crc32c(uint32_t crc, const void *bytes, size_t count);
uint32_t transport_crc32c_portable(uint32_t crc, const void *bytes, size_t count);
// 1 where transport_crc32c runs on the processor's own instruction.
int transport_crc32c_is_hardware(void);

// Takes a tty for us alone (TIOCEXCL and flock); 0, or an errno value; EWOULDBLOCK where another process has it.
int transport_tty_claim(int fd);
void transport_tty_unclaim(int fd);
// Raw mode, 8N1, no XON/XOFF, the given baud, CRTSCTS if wanted; 0, or an errno value; EINVAL for an unknown baud.
int transport_tty_raw(int fd, int baud, int hardware_flow_control);
// A BREAK of about a quarter of a second.
int transport_tty_break(int fd);
// Drops what is queued in both directions, or what came in only.
int transport_tty_flush(int fd);
int transport_tty_flush_input(int fd);

// Opens a pseudo-terminal pair, raw at both ends: master's descriptor, or -errno; the other end's name goes into `name`.
int transport_pty_open(char *name, size_t capacity);

// A non-blocking eventfd, or -1 with errno.
int transport_wake_up(void);
