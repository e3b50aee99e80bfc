#include "CKeyMaterial.h"
