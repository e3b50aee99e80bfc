#!/usr/bin/env python3
"""The PyPI package information-reconciliation (E. E. Cil, L. Schmalen, 2024) on the same problem as ours: its decoder on frames of an ideal
Gaussian channel with 8-D rotations, LLRs by the exact law, random words. Prints one JSON object. Only its decoder's time
counts; making LLRs and syndromes is left out, in its favour."""

import argparse
import json
import math
import os
import sys
import time


def likelihoods(numpy, random, bits, snr, word):
    """LLRs of a word over the virtual channel of the rotations: amplitude |y|, each group of eight its own."""
    rho = math.sqrt(snr / (1 + snr))
    norm = numpy.sqrt((random.standard_normal((bits // 8, 8)) ** 2).sum(1, keepdims=True))
    signs = 1 - 2 * word.reshape(-1, 8)
    amplitude = rho * norm / math.sqrt(8)
    value = amplitude * signs + random.standard_normal((bits // 8, 8)) / math.sqrt(1 + snr)
    return (2 * amplitude * value * (1 + snr)).reshape(-1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=0.1)
    parser.add_argument("--efficiency", type=float, default=0.92)
    parser.add_argument("--bits", type=int, default=204_800)
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()

    # One thread, like ours; its progress lines go nowhere.
    os.environ["OMP_NUM_THREADS"] = "1"
    answer = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    import information_reconciliation
    import numpy

    def decoder(lifting):
        made = information_reconciliation.Decoder(lifting_factor=lifting)
        made.set_rate(arguments.rate)
        return made

    per_lift = decoder(100).get_N() / 100
    code = decoder(max(1, round(arguments.bits / per_lift)))
    bits = code.get_N() // 8 * 8
    if bits != code.get_N():
        sys.exit("frame size is no multiple of eight: choose other --bits")
    snr = 2 ** (2 * code.get_rate() / arguments.efficiency) - 1
    random = numpy.random.default_rng(arguments.seed)
    seconds, errors, others, passes = 0.0, 0, 0, 0
    information = round(bits * code.get_rate())
    for _ in range(arguments.frames):
        word = random.integers(0, 2, bits)
        llr = likelihoods(numpy, random, bits, snr, word).tolist()
        syndrome = code.get_syndrome(word.tolist())
        start = time.process_time()
        decoded, iterations, _ = code.SPA_decoder(llr, syndrome)
        seconds += time.process_time() - start
        passes += iterations
        # In its favour again: only the information bits count; elsewhere it returns other words with the same syndrome.
        errors += decoded[:information] != word[:information].tolist()
        others += decoded != word.tolist()
    result = {
        "bits": bits, "rate": code.get_rate(), "snr": snr, "frames": arguments.frames, "frameErrors": errors,
        "otherWords": others,
        "bitsPerSecond": bits * arguments.frames / seconds, "meanPasses": passes / arguments.frames,
    }
    os.write(answer, (json.dumps(result) + "\n").encode())


if __name__ == "__main__":
    main()
