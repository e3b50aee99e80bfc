"""PyUSB over USB/IP, for clients that know only PyUSB: no kernel, no rights, no hardware."""

import usb.backend.libusb1
import usb.core
from usbip_backend import get_backend

VENDOR, PRODUCT = 0x1209, 0x0001


def attach(host, port, timeout=10.0):
    """Makes PyUSB find the devices that a USB/IP server exports; returns the backend."""
    backend = get_backend(host, int(port), timeout)
    plain = backend.get_device_descriptor

    # The backend knows the numbers of USB/IP's list only; which strings there are stands in the device's own descriptor.
    def descriptor(device):
        known = plain(device)
        raw = backend._get_device_descriptor_raw(device)
        known.bcdUSB, known.bMaxPacketSize0 = raw[2] | raw[3] << 8, raw[7]
        known.iManufacturer, known.iProduct, known.iSerialNumber = raw[14], raw[15], raw[16]
        return known

    backend.get_device_descriptor = descriptor
    usb.backend.libusb1.get_backend = lambda *_, **__: backend
    active = usb.core.Device.get_active_configuration

    # A Linux kernel configures every new device; here nobody has.
    def configuration(self):
        try:
            return active(self)
        except usb.core.USBError:
            self.set_configuration()
            return active(self)

    usb.core.Device.get_active_configuration = configuration
    return backend


def hang_up(backend):
    """Gives all devices back."""
    for connection in backend._conns.values():
        connection.close()
    backend._conns.clear()


def message_of_size(size):
    """A message of queries whose answer has this many bytes, NL included; needs `*ESE 10` and `*SRE 0`; size 2 to 1300."""
    tens = size % 2  # "10;" has three bytes, "0;" two
    return ";".join(["*ESE?"] * tens + ["*SRE?"] * ((size - 3 * tens) // 2))
