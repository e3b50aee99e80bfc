// ttys and ptys: calls that are macros, variadic or absent in Swift's Glibc overlay.
#define _GNU_SOURCE
#include "CTransport.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

int transport_tty_claim(int fd) {
    // flock is for us and for well-behaved tools; TIOCEXCL makes open(2) fail for the others (root excepted).
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) return errno;
    if (ioctl(fd, TIOCEXCL) != 0 && errno != ENOTTY && errno != EINVAL) return errno;
    return 0;
}

void transport_tty_unclaim(int fd) {
    ioctl(fd, TIOCNXCL);
    flock(fd, LOCK_UN);
}

static const struct { int baud; speed_t speed; } speeds[] = {
    {9600, B9600}, {19200, B19200}, {38400, B38400}, {57600, B57600}, {115200, B115200}, {230400, B230400},
    {460800, B460800}, {500000, B500000}, {576000, B576000}, {921600, B921600}, {1000000, B1000000},
    {1152000, B1152000}, {1500000, B1500000}, {2000000, B2000000}, {2500000, B2500000}, {3000000, B3000000},
    {3500000, B3500000}, {4000000, B4000000},
};

int transport_tty_raw(int fd, int baud, int hardware_flow_control) {
    struct termios settings;
    if (tcgetattr(fd, &settings) != 0) return errno;
    cfmakeraw(&settings);
    settings.c_cflag |= CLOCAL | CREAD;
    settings.c_cflag &= ~(tcflag_t)(CSTOPB | PARENB | CRTSCTS);
    settings.c_iflag &= ~(tcflag_t)(IXON | IXOFF | IXANY);
    if (hardware_flow_control) settings.c_cflag |= CRTSCTS;
    settings.c_cc[VMIN] = 1;
    settings.c_cc[VTIME] = 0;
    speed_t speed = 0;
    for (size_t i = 0; i < sizeof speeds / sizeof *speeds; i++)
        if (speeds[i].baud == baud) speed = speeds[i].speed;
    if (speed == 0 || cfsetispeed(&settings, speed) != 0 || cfsetospeed(&settings, speed) != 0) return EINVAL;
    if (tcsetattr(fd, TCSANOW, &settings) != 0) return errno;
    // tcsetattr succeeds when any one setting took: see whether ours did.
    struct termios now;
    if (tcgetattr(fd, &now) != 0) return errno;
    if (cfgetospeed(&now) != speed || (now.c_lflag & ICANON)) return EINVAL;
    if (hardware_flow_control && !(now.c_cflag & CRTSCTS)) return ENOTSUP;
    return 0;
}

int transport_tty_break(int fd) { return tcsendbreak(fd, 0) == 0 ? 0 : errno; }

int transport_tty_flush(int fd) { return tcflush(fd, TCIOFLUSH) == 0 ? 0 : errno; }

int transport_tty_flush_input(int fd) { return tcflush(fd, TCIFLUSH) == 0 ? 0 : errno; }

int transport_pty_open(char *name, size_t capacity) {
    int fd = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    if (fd < 0) return -errno;
    struct termios settings;
    if (grantpt(fd) == 0 && unlockpt(fd) == 0 && ptsname_r(fd, name, capacity) == 0 && tcgetattr(fd, &settings) == 0) {
        cfmakeraw(&settings);
        if (tcsetattr(fd, TCSANOW, &settings) == 0) return fd;
    }
    int reason = errno;
    close(fd);
    return -reason;
}

int transport_wake_up(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }
