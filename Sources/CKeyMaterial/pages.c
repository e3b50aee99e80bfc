#define _GNU_SOURCE
#include "CKeyMaterial.h"
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static size_t whole_pages(size_t count) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return count == 0 ? page : (count + page - 1) / page * page;
}

void *ckm_pages_make(size_t count, bool *locked) {
    size_t length = whole_pages(count);
    *locked = false;
    if (length < count) return NULL;
    void *pages = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) return NULL;
    *locked = mlock(pages, length) == 0;
    madvise(pages, length, MADV_DONTDUMP);
#ifdef MADV_WIPEONFORK
    madvise(pages, length, MADV_WIPEONFORK);
#endif
    return pages;
}

void ckm_pages_drop(void *pages, size_t count) {
    size_t length = whole_pages(count);
    ckm_zero(pages, length);
    munmap(pages, length);  // unlocks too
}

void ckm_zero(void *bytes, size_t count) {
    memset(bytes, 0, count);
    __asm__ __volatile__("" : : "r"(bytes) : "memory");
}

bool ckm_equal(const void *a, const void *b, size_t count) {
    const volatile uint8_t *x = a, *y = b;
    uint8_t difference = 0;
    for (size_t i = 0; i < count; i++) difference |= x[i] ^ y[i];
    return difference == 0;
}
