"""Looks at what `qkdctl devices --json` has printed. Usage: listing.py lines|watch < OUTPUT"""
import json
import sys


def expect(condition, what):
    if not condition:
        sys.exit(f"wrong: {what}")


def lines(text):
    rows = {row["address"]: row for row in json.loads(text)}
    expect(set(rows) == {"usb:USB-RX-1", "serial:ACM-TX-1", "serial:FTDI-RX-1", "serial:SITE-RX-1"}, f"listed are {sorted(rows)}")
    for address, role, port, node in (
        ("serial:ACM-TX-1", "transmitter", "1-10", "/dev/ttyACM0"), ("serial:FTDI-RX-1", "receiver", "1-11", "/dev/ttyUSB0"),
        ("serial:SITE-RX-1", "receiver", "1-12", "/dev/ttyUSB1"),
    ):
        row = rows[address]
        expect((row["transport"], row["serial"]) == tuple(address.split(":")), row)
        expect((row["role"], row["port"], row["node"]) == (role, port, node), row)


def watch(text):
    rows = [json.loads(line) for line in text.splitlines()]
    events = [row["event"] for row in rows]
    # What udev learns of a device after its plug is a change.
    expect(events[:3] == ["present", "unplugged", "plugged"] and set(events[3:]) <= {"changed"}, f"events are {events}")
    expect(all(row["address"] == "usb:USB-RX-1" for row in rows) and rows[1]["state"] == "GONE", rows)
    expect(rows[0]["node"] != rows[2]["node"] and rows[0]["port"] == rows[2]["port"], "a plug has a new node at the old port")


{"lines": lines, "watch": watch}[sys.argv[1]](sys.stdin.read())
