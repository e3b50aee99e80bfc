// libsystemd: readiness, watchdog, journal.
#pragma once
#include <stdint.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-journal.h>

/// Which file a descriptor is, as JOURNAL_STREAM says it. Returns 0, or -1 where it is none.
static inline int sdqkd_descriptor(int descriptor, uint64_t *device, uint64_t *inode) {
    struct stat facts;
    if (fstat(descriptor, &facts) != 0) return -1;
    *device = facts.st_dev;
    *inode = facts.st_ino;
    return 0;
}
