// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/torch_error.h"

#include <new>
#include <string>

#include <c10/util/Exception.h>

#include "core/base/error.h"

namespace kinema::tensor {
namespace {

[[noreturn]] void throw_out_of_memory(std::string_view place, std::string got) {
  throw Error(ErrorKind::kOutOfMemory,
              {.code = "memory.exhausted",
               .place = std::string(place),
               .subject = "not enough memory",
               .got = std::move(got),
               .hint = "use a smaller size, a shorter length or a narrower dtype"});
}

}  // namespace

void rethrow_torch_error(std::string_view place) {
  try {
    throw;
  } catch (const Error&) {
    throw;
  } catch (const c10::OutOfMemoryError& error) {
    throw_out_of_memory(place, error.what_without_backtrace());
  } catch (const c10::Error& error) {
    std::string text = error.what_without_backtrace();
    // The CPU allocator reports a plain c10::Error.
    if (text.find("can't allocate memory") != std::string::npos) {
      throw_out_of_memory(place, std::move(text));
    }
    throw Error(ErrorKind::kInternal,
                {.code = "torch.error",
                 .place = std::string(place),
                 .subject = "LibTorch refused an operation",
                 .got = std::move(text)});
  } catch (const std::bad_alloc&) {
    throw_out_of_memory(place, {});
  }
}

}  // namespace kinema::tensor
