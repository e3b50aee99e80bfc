#include "CFirmwareSim.h"
