// libusb-1.0: devices on the bus, from user space.
#pragma once
#include <libusb.h>
