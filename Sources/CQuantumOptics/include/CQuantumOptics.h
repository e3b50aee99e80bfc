// Seeded sampling of modulation, noise and detection, the same on every machine.
//
// Every number is a function of (seed, stream, index): there is no state, so blocks may be made in any order and
// on any thread. Only integer operations and single IEEE 754 operations (+ - * / sqrt) are used, without
// contraction, so that the portable and the SIMD paths agree bit for bit.
//
// Generator: Philox4x32-10 (Salmon et al., SC 2011). Normal deviates: Box-Muller on 31 + 32 bits, tails to 6.6 sigma.
#ifndef CQUANTUMOPTICS_H
#define CQUANTUMOPTICS_H

#include <stddef.h>
#include <stdint.h>

/// Instruction sets, in rising order; 0 is the portable path.
enum { QO_PORTABLE = 0, QO_AVX2 = 1, QO_AVX512 = 2 };

/// The best level that this processor has.
int qo_best_level(void);

/// One Philox4x32-10 block: counter {block, stream}, key seed. For tests against published vectors.
void qo_philox(uint64_t seed, uint64_t stream, uint64_t block, uint32_t out[4]);

/// Fills `x` and `p` with the normal deviates of the symbols `first` ..< `first + count`.
void qo_gaussians(int level, uint64_t seed, uint64_t stream, uint64_t first, size_t count, float *x, float *p);

/// A transmitter's modulation: levels of its converter, normal with `sigma` LSB, rounded, clamped to +-`limit`.
/// `out` receives interleaved pairs (x, p).
void qo_modulate(int level, uint64_t seed, uint64_t stream, uint64_t first, size_t count, float sigma, int32_t limit,
                 int16_t *out);

/// One receiver's view of a run of symbols during which nothing changes.
typedef struct {
    uint64_t modulation_seed, modulation_stream;
    float modulation_sigma;
    int32_t modulation_limit;
    uint64_t delay;           ///< symbols that the light is on its way: symbol n is the transmitter's n - delay
    float signal_gain;        ///< receiver LSB per transmitter LSB; 0 sees no signal
    uint64_t noise_seed, noise_stream;
    float noise_sigma;        ///< LSB per quadrature, of all noise together
    uint32_t phase;           ///< turns * 2^32 between transmitter and receiver
    uint32_t phase_step;      ///< turns * 2^32 gained per group of 64 symbols: 0 when locked
    float phase_sigma;        ///< rad, of the residual phase noise
    float offset_x, offset_p; ///< LSB
    int32_t limit;            ///< full scale in LSB: samples at or beyond it are saturated
} qo_reception;

/// Fills `out` with interleaved pairs (x, p) for symbols `first` ..< `first + count`; returns the number of saturated samples.
uint32_t qo_receive(int level, const qo_reception *reception, uint64_t first, size_t count, int16_t *out);

#endif
