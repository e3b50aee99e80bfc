#include "levels.h"

bool kernel_level_available(kernel_level level) {
#if defined(__x86_64__)
    if (level == KERNEL_AVX2) return __builtin_cpu_supports("avx2");
    if (level == KERNEL_AVX512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
               __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vbmi");
#endif
    return level == KERNEL_PORTABLE;
}

kernel_level kernel_best_level(void) {
    if (kernel_level_available(KERNEL_AVX512)) return KERNEL_AVX512;
    return kernel_level_available(KERNEL_AVX2) ? KERNEL_AVX2 : KERNEL_PORTABLE;
}
