"""A lab's own client over USB: PyVISA with pyvisa-py, the transport USB/IP.

Usage: usbip_visa.py HOST PORT SERIAL...
Finds each device by its serial number, asks for answers of every size around packets, and fetches blocks of up to 4 MiB.
Exit status 0 when all is well.
"""

import sys
import time
import warnings

from usbip_attach import PRODUCT, VENDOR, attach, hang_up, message_of_size

import pyvisa

warnings.simplefilter("error")


def open_device(manager, serial):
    device = manager.open_resource(f"USB0::{VENDOR:#06x}::{PRODUCT:#06x}::{serial}::0::INSTR")
    device.timeout = 10000
    device.write_termination = device.read_termination = "\n"
    return device


def answers_of_every_size(device, packet):
    device.write("*CLS;*ESE 10;*SRE 0")
    edges = [k * packet - 12 + d for k in (1, 2) for d in range(-6, 19)]
    for size in [s for s in edges if 2 <= s <= 1300]:
        answer = device.query(message_of_size(size))
        assert len(answer) == size - 1, (size, len(answer))
    return len(edges)


def blocks(device):
    """Frames by number, up to 4 MiB in one answer; then the same again in one piece."""
    deadline = time.time() + 20
    while device.query("SYSTem:STATe?") != "IDLE":
        assert time.time() < deadline, "never idle"
        time.sleep(0.02)
    size = int(device.query("SYSTem:CAPability:BLOCk?").split(",")[0])
    length, count = 72 + 4 * size, (4 << 20) // (72 + 4 * size)
    device.write(f"CALibration:STARt SHOT,{count * size}")
    assert device.query("*OPC?") == "1"
    first, end = map(int, device.query("ACQuire:AVAilable?").split(","))
    assert end - first == count, (first, end, count)
    whole = b""
    started = time.time()
    whole = device.query_binary_values(f"FETCh:SYMBols? {first},{count}", datatype="B", container=bytes)
    rate = len(whole) / 1e6 / (time.time() - started)
    assert len(whole) == count * length
    assert whole[: 4] == whole[length : length + 4] == b"QSYM"
    for some in (1, 2, 3, 7, 100):
        part = device.query_binary_values(f"FETCh:SYMBols? {first},{some}", datatype="B", container=bytes)
        assert part == whole[: some * length], some
    device.write(f"ACQuire:RELease {end - 1}")
    return len(whole), rate


def main(host, port, serials):
    backend = attach(host, port)
    manager = pyvisa.ResourceManager("@py")
    for serial in serials:
        device = open_device(manager, serial)
        identity = device.query("*IDN?")
        assert identity.split(",")[2] == serial, identity
        sizes = answers_of_every_size(device, 512)
        text = f"{identity}: {sizes} sizes"
        if "RX" in serial:
            length, rate = blocks(device)
            text += f", {length} bytes in a block, {rate:.0f} MB/s"
        assert device.query("SYSTem:ERRor?") == '0,"No error"'
        device.close()
        print(text)
    hang_up(backend)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
