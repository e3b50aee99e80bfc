#include "PostProcessingKernels.h"
