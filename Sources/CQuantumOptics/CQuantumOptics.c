#include "CQuantumOptics.h"
