// SPDX-License-Identifier: Apache-2.0
// Marks functions that one header gives to the CPU and to CUDA.
#pragma once

#ifdef __CUDACC__
#define KINEMA_HOST_DEVICE __host__ __device__
#else
#define KINEMA_HOST_DEVICE
#endif

/// For templates that are called in the innermost loop: constants must be hoisted out of it.
#define KINEMA_ALWAYS_INLINE KINEMA_HOST_DEVICE inline __attribute__((always_inline))
