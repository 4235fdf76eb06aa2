// SPDX-License-Identifier: Apache-2.0
// Turns what LibTorch throws into kinema::Error, at the facades.
//
//   return with_torch_errors("text.t5", [&] { return impl_->forward(input_ids_BM); });
#pragma once

#include <exception>
#include <string_view>
#include <utility>

namespace kinema::tensor {

/// Rethrows the exception being handled: kinema::Error as it is; out of memory as kOutOfMemory
/// [memory.exhausted]; any other c10::Error as kInternal [torch.error] with its text and no
/// backtrace. Call it only inside a catch block.
[[noreturn]] void rethrow_torch_error(std::string_view place);

template <typename Function>
decltype(auto) with_torch_errors(std::string_view place, Function&& function) {
  try {
    return std::forward<Function>(function)();
  } catch (const std::exception&) {
    rethrow_torch_error(place);
  }
}

}  // namespace kinema::tensor
