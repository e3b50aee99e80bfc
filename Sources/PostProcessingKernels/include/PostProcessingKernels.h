// What Swift sees of the kernels.
#pragma once
#include "additive_fft.h"
#include "frame_hash.h"
#include "ldpc.h"
#include "ldpc_designer.h"
#include "levels.h"
#include "rotation.h"
#include "symbols.h"
#include "toeplitz.h"
