// libudev: what the kernel knows of devices, and news of it.
#pragma once
#include <libudev.h>
