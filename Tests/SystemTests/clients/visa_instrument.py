"""A lab's own client against a device: PyVISA with pyvisa-py over TCP or a serial line.

Usage: visa_instrument.py tcp:HOST:PORT | serial:PATH
Identifies the device, calibrates shot noise, fetches symbols and a spectrum as blocks and checks both; exit status 0 when all is well.
"""

import math
import struct
import sys
import time

import pyvisa


def resource(uri):
    kind, _, rest = uri.partition(":")
    if kind == "tcp":
        host, port = rest.split(":")
        return f"TCPIP::{host}::{port}::SOCKET"
    return f"ASRL{rest}::INSTR"


def variance(payload):
    samples = struct.unpack(f"<{len(payload) // 2}h", payload)
    mean = sum(samples) / len(samples)
    return sum((sample - mean) ** 2 for sample in samples) / len(samples)


def main(uri):
    device = pyvisa.ResourceManager("@py").open_resource(resource(uri))
    device.read_termination = device.write_termination = "\n"
    device.timeout = 20000
    maker, model, serial, firmware = device.query("*IDN?").split(",")
    assert device.query("SYSTem:VERSion?") == "1999.0"
    deadline = time.time() + 20
    while device.query("SYSTem:STATe?") != "IDLE":
        assert time.time() < deadline, "never idle"
        time.sleep(0.02)
    size = int(device.query("SYSTem:CAPability:BLOCk?").split(",")[0])
    device.write(f"CALibration:STARt SHOT,{2 * size}")
    assert device.query("*OPC?") == "1"
    first, end = map(int, device.query("ACQuire:AVAilable?").split(","))
    assert end - first == 2, (first, end)
    for attempt in range(2):
        block = bytes(device.query_binary_values(f"FETCh:SYMBols? {first},2", datatype="B"))
        assert len(block) == 2 * (72 + 4 * size), len(block)
        for start in (0, len(block) // 2):
            magic, version, header, length, count, number = struct.unpack_from("<4sHHIIQ", block, start)
            assert (magic, version, header, count, number) == (b"QSYM", 1, 72, size, first + (start > 0))
            assert struct.unpack_from("<I", block, start + 48)[0] == 2, "not SHOT"
            measured = variance(block[start + 72 : start + 72 + length])
            assert abs(measured / 23625 - 1) < 6 / math.sqrt(size), measured
    device.write(f"ACQuire:RELease {end - 1}")
    spectrum = device.query_binary_values("DIAGnostic:OSA? 1538,1558,2001", datatype="f")
    assert len(spectrum) == 2001 and max(spectrum) > -25 > -70 > min(spectrum)
    device.write("FETCh:SYMBols? 0,1")
    assert device.query("SYSTem:ERRor?").startswith("-222,")
    assert device.query("SYSTem:ERRor?") == '0,"No error"'
    device.close()
    print(f"{maker} {model} {serial} {firmware}: {len(block)} bytes in a block, twice the same size, spectrum of {len(spectrum)} points")


if __name__ == "__main__":
    main(sys.argv[1])
