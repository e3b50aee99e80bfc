// The least that can read symbols over libusb: several bulk transfers in flight, what comes is counted and dropped.
//   bare_reader TOKEN SECONDS FIRST [SERIAL]     token in hexadecimal, number of the first frame; prints megabytes per second
// Build: cc bare_reader.c $(pkg-config --cflags --libs libusb-1.0)
#include <libusb.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { FRAME = 72 + 4 * 65536, ROOM = (FRAME / 1024 + 2) * 1024, FLYING = 16, CREDIT = 1, RELEASE = 2 };
static libusb_device_handle *device;
static uint64_t total, released, first;
static double begin, end, seconds;
static int flying;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void must(int code, const char *what) {
    if (code >= 0) return;
    fprintf(stderr, "bare_reader: %s: %s\n", what, libusb_strerror(code));
    exit(1);
}

static void put(uint32_t kind, uint32_t count, uint64_t frame, struct libusb_transfer *transfer) {
    unsigned char *message = malloc(16);
    memcpy(message, &kind, 4), memcpy(message + 4, &count, 4), memcpy(message + 8, &frame, 8);
    libusb_fill_bulk_transfer(transfer, device, 3, message, 16, NULL, NULL, 0);
    transfer->flags = LIBUSB_TRANSFER_FREE_BUFFER | LIBUSB_TRANSFER_FREE_TRANSFER;
    must(libusb_submit_transfer(transfer), "message");
}

static void landed(struct libusb_transfer *transfer) {
    flying--;
    if (transfer->status != LIBUSB_TRANSFER_COMPLETED) { end = now(); return; }
    if (begin == 0) begin = now();
    else total += transfer->actual_length;
    for (; total / FRAME > released + 15; released += 16) {
        put(RELEASE, 0, first + released + 15, libusb_alloc_transfer(0));
        put(CREDIT, 16, 0, libusb_alloc_transfer(0));
    }
    end = now();
    if (end - begin > seconds) return;
    must(libusb_submit_transfer(transfer), "submit");
    flying++;
}

/// The first of our devices, or the one with this serial number.
static void find(const char *serial) {
    libusb_device **all;
    ssize_t count = libusb_get_device_list(NULL, &all);
    for (ssize_t i = 0; i < count && !device; i++) {
        struct libusb_device_descriptor of;
        unsigned char text[64] = "";
        if (libusb_get_device_descriptor(all[i], &of) < 0 || of.idVendor != 0x1209 || of.idProduct != 1 || libusb_open(all[i], &device) < 0) continue;
        if (serial) libusb_get_string_descriptor_ascii(device, of.iSerialNumber, text, sizeof text);
        if (serial && strcmp(serial, (char *)text)) libusb_close(device), device = NULL;
    }
    libusb_free_device_list(all, 1);
    if (!device) must(LIBUSB_ERROR_NO_DEVICE, "open");
}

int main(int count, char **words) {
    if (count < 4 || count > 5 || strlen(words[1]) != 32) return 64;
    unsigned char hello[24] = {'Q', 'D', 'A', 'T', 1, 0, 0, 0}, welcome[1024];
    for (int i = 0; i < 16; i++) { unsigned byte; sscanf(words[1] + 2 * i, "%2x", &byte); hello[8 + i] = byte; }
    seconds = atof(words[2]), first = strtoull(words[3], NULL, 10);
    must(libusb_init(NULL), "libusb");
    find(count == 5 ? words[4] : NULL);
    must(libusb_claim_interface(device, 1), "claim");
    must(libusb_set_interface_alt_setting(device, 1, 0), "setting");
    int moved = 0;
    must(libusb_bulk_transfer(device, 3, hello, sizeof hello, &moved, 2000), "hello");
    must(libusb_bulk_transfer(device, 0x83, welcome, sizeof welcome, &moved, 2000), "welcome");
    if (moved != 1 || welcome[0] != 0) must(LIBUSB_ERROR_ACCESS, "welcome");
    put(CREDIT, 64, 0, libusb_alloc_transfer(0));
    for (int i = 0; i < FLYING; i++, flying++) {
        struct libusb_transfer *transfer = libusb_alloc_transfer(0);
        libusb_fill_bulk_transfer(transfer, device, 0x83, malloc(ROOM), ROOM, landed, NULL, 0);
        must(libusb_submit_transfer(transfer), "submit");
    }
    printf("reading\n");
    fflush(stdout);
    while (begin == 0 || end - begin <= seconds) must(libusb_handle_events(NULL), "events");
    printf("megabytes_per_second %f\n", total / 1e6 / (end - begin));
    fflush(stdout);
    _Exit(0);
}
