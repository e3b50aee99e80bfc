// What a processor offers. Every level of a kernel gives the same result bit for bit; the portable one always exists.
#pragma once
#include <stdbool.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { KERNEL_PORTABLE = 0, KERNEL_AVX2 = 1, KERNEL_AVX512 = 2 } kernel_level;

/// The best level of this processor that this build has.
kernel_level kernel_best_level(void);
bool kernel_level_available(kernel_level level);

#ifdef __cplusplus
}
#endif
