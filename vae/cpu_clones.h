// SPDX-License-Identifier: Apache-2.0
// Internal: KINEMA_VAE_CLONES compiles a function twice, for AVX2 and for any x86-64, and lets the
// loader choose. For inner loops whose arithmetic is the same in both.
#pragma once

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define KINEMA_VAE_SANITIZED  // the choice runs before the sanitizer is ready
#endif
#endif

#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(KINEMA_VAE_SANITIZED)
#define KINEMA_VAE_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define KINEMA_VAE_CLONES
#endif
