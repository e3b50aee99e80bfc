#!/usr/bin/env python3
"""Estimates a CV-QKD link from capture files, and its asymptotic key rate by two packages of other people.

Needs numpy, qosst-skr and qkd (scripts/requirements.txt). Shares no code with the project: the files are read as
docs/wire/capture-file.md says, the estimate is written from the definitions in the shot-noise unit convention of
Fossier et al. (2009), the key rates are the packages' own.

    estimate_from_capture.py --transmitter tx.qcap --receiver rx.qcap --dark dark.qcap --shot shot.qcap [--beta .92]
                             [--qkdctl PATH]

Prints one JSON object; with --qkdctl it also compares with `qkdctl keyrate` and ends with status 1 where they differ by
more than 1e-9.
"""

import argparse
import json
import subprocess
import sys

import numpy as np


class Capture:
    """One capture file: metadata, frame headers and complex symbols in steps of the converter."""

    HEADER = np.dtype(
        [
            ("magic", "S4"), ("version", "<u2"), ("header_bytes", "<u2"), ("payload_bytes", "<u4"), ("count", "<u4"),
            ("number", "<u8"), ("first_symbol", "<u8"), ("device_time", "<u8"), ("utc", "<u8"), ("kind", "<u4"),
            ("flags", "<u4"), ("scale", "<f4"), ("saturated", "<u4"), ("payload_crc", "<u4"), ("header_crc", "<u4"),
        ]
    )

    def __init__(self, path):
        raw = np.memmap(path, dtype=np.uint8, mode="r")
        if bytes(raw[:8]) != b"SDQKDCAP":
            sys.exit(f"{path}: no capture file")
        start = int(raw[12:16].view("<u4")[0])
        self.meta = json.loads(bytes(raw[16:start]))
        frame = np.dtype([("header", self.HEADER), ("xp", "<i2", (self.meta["symbols_per_frame"], 2))])
        frames = raw[start : start + (len(raw) - start) // frame.itemsize * frame.itemsize].view(frame)
        if len(frames) == 0:
            sys.exit(f"{path}: no whole frame")
        # A gap ends what can be aligned at one offset; frames without pilot (flag bits 2 and 3) have no phase.
        usable = (frames["header"]["flags"] & 0b1100) == 0
        follows = np.diff(frames["header"]["number"].astype(np.int64)) == 1
        begin, end = longest_run(usable, follows)
        if end == begin:
            sys.exit(f"{path}: the pilot was never locked")
        self.frames = frames[begin:end]
        self.utc = int(self.frames["header"]["utc"][0])

    def symbols(self):
        pairs = self.frames["xp"].reshape(-1, 2).astype(np.float32)
        return pairs[:, 0] + 1j * pairs[:, 1]

    def variance(self):
        """Of one quadrature, mean of both, LSB^2; offsets of the converter taken out."""
        pairs = self.frames["xp"].reshape(-1, 2).astype(np.float64)
        return float(pairs.var(axis=0).mean()), 2 * len(pairs)


def longest_run(usable, follows):
    """The longest range of usable frames that follow each other."""
    best, begin = (0, 0), 0
    for index in range(len(usable)):
        if index and not follows[index - 1]:
            begin = index
        if not usable[index]:
            begin = index + 1
        elif index + 1 - begin > best[1] - best[0]:
            best = (begin, index + 1)
    return best


def align(sent, received, expected, reach):
    """Index into `sent` that belongs to received[0], searched within `reach` of `expected`; and how clear it is."""
    middle = max(0, -expected + reach)
    length = min(len(received) - middle, 1 << 20)
    begin = expected + middle - reach
    begin = max(0, begin)
    window = sent[begin : begin + length + 2 * reach]
    part = received[middle : middle + max(0, length)]
    if min(len(window), len(part)) < 4096:
        sys.exit("the two captures share too few symbols: start the receiver's first and let it run longer")
    size = 1 << int(np.ceil(np.log2(len(window) + len(part))))
    spectrum = np.fft.fft(part, size) * np.conj(np.fft.fft(window, size))
    strength = np.abs(np.fft.ifft(spectrum))
    lag = int(np.argmax(strength))
    if lag > size // 2:
        lag -= size
    # part[k] goes with window[k - lag]
    floor = np.median(strength)
    peak = float(strength.max() / floor) if floor > 0 else 0.0
    return begin - lag - middle, peak


def estimate(sent, received, n0, v_el, efficiency, block=1 << 15):
    """T and xi at the channel's input from aligned symbols; the phase is taken out in blocks."""
    count = min(len(sent), len(received)) // block * block
    if count == 0:
        sys.exit(f"the two captures share fewer than {block} symbols: start the receiver's first and let it run longer")
    sent = sent[:count].astype(np.complex128).reshape(-1, block)
    received = (received[:count].astype(np.complex128) / np.sqrt(n0)).reshape(-1, block)
    received = received - received.mean()
    overlap = (received * np.conj(sent)).mean(axis=1)
    phase = np.exp(-1j * np.angle(overlap))
    # One quadrature: half of the complex products.
    variance = float((np.abs(sent) ** 2).mean() / 2)
    covariance = float((overlap * phase).real.mean() / 2)
    total = float((np.abs(received) ** 2).mean() / 2)
    gain = covariance / variance
    transmittance = 2 * gain**2 / efficiency
    excess = 2 * (total - 1 - v_el - gain**2 * variance) / (efficiency * transmittance)
    noise = total - gain**2 * variance
    return {
        "symbols": count,
        "variance": variance,
        "transmittance": transmittance,
        "transmittance_error": 2 * transmittance * np.sqrt(noise / variance / (2 * count)) / gain,
        "excess_noise": excess,
        "excess_noise_error": 2 * noise * np.sqrt(2 / (2 * count)) / (efficiency * transmittance),
        "snr": gain**2 * variance / noise,
    }


def usable_noise(result):
    """What the packages' formulas take: a link without noise, or below it by a fluctuation, is a logarithm of zero to one."""
    return max(1e-4, result["excess_noise"])


def rates(result, efficiency, beta):
    from qkd import _core as qkd
    from qosst_skr.gaussian_trusted_heterodyne_asymptotic import GaussianTrustedHeterodyneAsymptotic as Fossier

    va, t, xi = result["variance"], result["transmittance"], usable_noise(result)
    v_el = result["electronic_noise"]
    i_ab, chi_be, key = qkd.cv_rate(va, t, xi, efficiency, v_el, beta, False, True)
    return {
        "beta": beta,
        "qkd": {"i_ab": i_ab, "chi_be": chi_be, "key": key},
        "qosst_skr": {
            "i_ab": Fossier._iab(va, t, xi, efficiency, v_el, 1.0),
            "chi_be": Fossier._holevo_bound(va, t, xi, efficiency, v_el),
            "key": Fossier.skr(Va=va, T=t, xi=xi, eta=efficiency, Vel=v_el, beta=beta),
        },
    }


def compare(program, result, efficiency):
    """`qkdctl keyrate` on the same estimates; the largest difference from either package."""
    command = [
        program, "keyrate", "--json", "--trusted",
        "--variance", repr(result["variance"]), "--transmittance", repr(result["transmittance"]),
        "--excess-noise", repr(usable_noise(result)), "--efficiency", repr(efficiency),
        "--electronic-noise", repr(result["electronic_noise"]), "--beta", repr(result["rates"]["beta"]),
    ]
    ours = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    differences = [abs(ours[name] - result["rates"][other][name]) for other in ("qkd", "qosst_skr") for name in ("i_ab", "chi_be")]
    differences.append(abs(ours["key"] - result["rates"]["qkd"]["key"]))
    if ours["key"] > 0:
        differences.append(abs(ours["key"] - result["rates"]["qosst_skr"]["key"]))
    return max(differences)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name in ("transmitter", "receiver", "dark", "shot"):
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--beta", type=float, default=0.92)
    parser.add_argument("--qkdctl", help="compare with this program's keyrate")
    arguments = parser.parse_args()

    transmitter, receiver = Capture(arguments.transmitter), Capture(arguments.receiver)
    (dark, dark_count), (shot, shot_count) = Capture(arguments.dark).variance(), Capture(arguments.shot).variance()
    n0 = shot - dark
    if n0 <= 0:
        sys.exit("the shot capture is not noisier than the dark one: are they the right way round?")
    v_el = dark / n0
    efficiency = receiver.meta["efficiency"]
    sent = transmitter.symbols() * np.float32(transmitter.meta["scale"])
    received = receiver.symbols()

    rate = receiver.meta["symbol_rate_hz"]
    expected = round((receiver.utc - transmitter.utc) * 1e-9 * rate)
    ahead, behind = expected - len(sent), -expected - len(received)
    if max(ahead, behind) > 0.010 * rate:
        late, by = ("receiver", ahead) if ahead > 0 else ("transmitter", behind)
        sys.exit(
            f"the two captures do not overlap: the {late}'s begins {by / rate:.3f} s of device time after the other has ended; "
            "start the receiver's first, let it run longer, and run emulators with --speed 1 (docs/wire/capture-file.md)"
        )
    # The devices keep UTC within 5 ms of each other; twice that is searched.
    offset, peak = align(sent, received, expected, int(0.010 * rate) + 4096)
    if peak < 8:
        sys.exit(f"the two captures do not belong together: the correlation peak is only {peak:.1f} times the floor")
    first, begin = (offset, 0) if offset >= 0 else (0, -offset)
    result = estimate(sent[first:], received[begin:], n0, v_el, efficiency)
    result |= {
        "offset": offset,
        "peak": peak,
        "n0_lsb2": n0,
        "electronic_noise": v_el,
        "efficiency": efficiency,
        # The share of xi's uncertainty that the calibration has.
        "excess_noise_calibration_error": 2 * (shot / n0) * np.sqrt(2 / shot_count) / (efficiency * result["transmittance"]),
    }
    result["rates"] = rates(result, efficiency, arguments.beta)
    if arguments.qkdctl:
        result["difference"] = compare(arguments.qkdctl, result, efficiency)
    print(json.dumps(result, indent=1, default=float))
    if result.get("difference", 0) > 1e-9:
        sys.exit(1)


if __name__ == "__main__":
    main()
