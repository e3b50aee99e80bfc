"""A second client that knows nothing of the first: python-usbtmc, the transport USB/IP.

Usage: usbip_tmc.py HOST PORT SERIAL...
Besides answers it asks for what PyVISA's driver leaves out: requests of every size, status byte, service requests, device clear,
transfers aborted half-way, halts. Exit status 0 when all is well.
"""

import struct
import sys
import time

from usbip_attach import PRODUCT, VENDOR, attach, hang_up, message_of_size

import usb.core
import usbtmc


def expect(condition, what):
    assert condition, what


def sizes(device):
    """Answers of every size around a packet, and one answer in requests of every size."""
    device.write("*CLS;*ESE 10;*SRE 0")
    for size in [k * 512 - 12 + d for k in (1, 2) for d in range(-6, 19)]:
        expect(len(device.ask_raw(message_of_size(size).encode())) == size, size)
    whole = device.ask_raw(message_of_size(1300).encode())
    for request in [2, 3, 51, 52, 53, 499, 500, 501, 511, 512, 513, 1011, 1012, 1013, 1299]:
        device.write_raw(message_of_size(1300).encode())
        got = b""
        while len(got) < 1300:
            got += device.read_raw(min(request, 1300 - len(got)))
        expect(got == whole, request)


def messages(device):
    """Program messages of every length around a packet; each ends by END, not by NL."""
    for length in [k * 512 - 12 + d for k in (1, 2) for d in range(-6, 19)]:
        head = b"*ESE?"
        expect(device.ask_raw(b" " * (length - len(head)) + head) == b"10\n", length)
    # One message in several transfers.
    device.max_transfer_size = 7
    device.write_raw(b"*ESE 12;*SRE 0;*ESE?")
    device.max_transfer_size = 1 << 20
    expect(device.read_raw() == b"12\n", "message in pieces")
    device.write("*ESE 10")


def status(device):
    device.write("*CLS;*ESE 32;*SRE 0")
    expect(device.read_stb() == 0, "status at rest")
    device.write("*IDN?")
    expect(device.read_stb() & 0x10, "message available")
    device.read()
    expect(device.read_stb() == 0, "message read")
    device.write("*SRE 32")
    device.write("NONSENSE")
    notice = device.interrupt_in_ep.read(2, timeout=3000)
    expect(notice[0] == 0x81 and notice[1] & 0x60 == 0x60, list(notice))
    first, second = device.read_stb(), device.read_stb()
    expect(first & 0x60 == 0x60 and second & 0x60 == 0x20, (first, second))
    expect(device.ask("SYSTem:ERRor?").startswith("-113,"), "undefined header")
    device.write("*CLS;*ESE 10;*SRE 0")


def begun_message(device):
    """One whole packet of a message whose rest never comes."""
    return device.pack_dev_dep_msg_out_header(4000) + b" " * (device.bulk_out_ep.wMaxPacketSize - 12)


def clear(device):
    device.write("*IDN?")
    device.clear()
    expect(device.read_stb() == 0, "clear empties the output")
    device.bulk_out_ep.write(begun_message(device))
    device.clear()
    expect(device.ask("*SRE?") == "0", "clear empties the input")
    device.write("*IDN?")
    expect(device.ask("*ESE?") == "10", "an unread answer is overtaken")
    expect(device.ask("SYSTem:ERRor?").startswith("-410,"), "overtaken")


def aborts(device):
    query = message_of_size(1300).encode()
    for packets in (0, 1):
        device.write_raw(query)
        device.bulk_out_ep.write(device.pack_dev_dep_msg_in_header(1300))
        if packets:
            # Whole packets only; a smaller buffer would overflow.
            device.bulk_in_ep.read(packets * device.bulk_in_ep.wMaxPacketSize, timeout=3000)
        device._abort_bulk_in()
        expect(device.ask("*ESE?") == "10", f"after an abort with {packets} packets read")
        device.write("*CLS")
    # The far end of a message never comes.
    device.bulk_out_ep.write(begun_message(device))
    device._abort_bulk_out()
    expect(device.ask("*ESE?") == "10", "after an aborted message")
    # Nothing under way: refused, and nothing breaks.
    device._abort_bulk_in(77)
    device._abort_bulk_out(77)
    expect(device.ask("*ESE?") == "10", "after refused aborts")


def halts(device):
    for wrong in (b"\x01\x05\x05" + bytes(9), b"\x63\x05\xfa" + bytes(9), b"short", struct.pack("<BBBxLBxxx", 1, 5, 0xFA, 100, 1) + b"x"):
        for _ in range(2):
            try:
                device.bulk_out_ep.write(wrong)
                raise AssertionError(f"not stalled: {wrong}")
            except usb.core.USBError as error:
                expect(error.errno == 32, error)
        device.bulk_out_ep.clear_halt()
        expect(device.ask("*ESE?") == "10", "after a halt")


def stream(device):
    """Symbols by the vendor interface: hello with a token, credits, frames, release."""
    dev = device.device
    dev.set_interface_altsetting(1, 0)
    deadline = time.time() + 20
    while device.ask("SYSTem:STATe?") != "IDLE":
        expect(time.time() < deadline, "never idle")
    size = int(device.ask("SYSTem:CAPability:BLOCk?").split(",")[0])
    dev.write(0x03, b"QDAT\x01\0\0\0" + bytes.fromhex(device.ask("DATA:TOKen?")))
    expect(bytes(dev.read(0x83, 512)) == b"\0", "welcome")
    receiver = device.ask("SYSTem:ROLE?") == "RECEIVER"
    device.write(f"CALibration:STARt SHOT,{8 * size}" if receiver else "ACQuire:STARt 8")
    dev.write(0x03, struct.pack("<IIQ", 1, 8, 0))
    numbers = []
    for _ in range(8):
        frame = bytes(dev.read(0x83, 1 << 20, timeout=5000))
        magic, version, header, length, count, number = struct.unpack_from("<4sHHIIQ", frame)
        expect((magic, version, header, count, len(frame)) == (b"QSYM", 1, 72, size, 72 + 4 * size), frame[:72])
        numbers.append(number)
        dev.write(0x03, struct.pack("<IIQ", 2, 0, number))
    expect(numbers == list(range(numbers[0], numbers[0] + 8)), numbers)
    dev.set_interface_altsetting(1, 0)
    dev.write(0x03, b"QDAT\x01\0\0\0" + bytes(16))
    expect(bytes(dev.read(0x83, 512)) == b"\1", "a wrong token is refused")
    dev.set_interface_altsetting(1, 0)


def main(host, port, serials):
    backend = attach(host, port)
    for serial in serials:
        device = usbtmc.Instrument(VENDOR, PRODUCT, serial)
        device.timeout = 10
        expect(device.ask("*IDN?").split(",")[2] == serial, "selection by serial number")
        expect(device.support_term_char and device.support_pulse and device.bcdUSBTMC == 0x0100, "capabilities")
        steps = [sizes, messages, status, clear, aborts, halts, stream]
        for step in steps:
            step(device)
        device.write("*CLS")
        expect(device.ask("SYSTem:ERRor?") == '0,"No error"', "no error")
        print(f"{serial}: {', '.join(step.__name__ for step in steps)}")
    hang_up(backend)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3:])
