// SPDX-License-Identifier: Apache-2.0
// Spreads chunks of work over the threads of LibTorch.
//
// at::parallel_for is a template that is serial unless its caller is compiled with the OpenMP
// runtime of LibTorch, so chunks go to LibTorch's inter-op pool instead.
#pragma once

#include <cstdint>
#include <functional>

namespace kinema::nn {

/// Calls chunk(i) once for every i in [0, count), on at most at::get_num_threads() threads
/// including the caller, in any order. Returns when all calls have. `chunk` must not throw.
void parallel_chunks(std::int64_t count, const std::function<void(std::int64_t)>& chunk);

}  // namespace kinema::nn
