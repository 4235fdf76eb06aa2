// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/place.h"

#include <charconv>

#include <ATen/Context.h>
#include <ATen/cpu/Utils.h>
#include <ATen/detail/CUDAHooksInterface.h>

#include "core/base/error.h"

namespace kinema::tensor {
namespace {

int num_gpus() {
  return at::hasCUDA() ? at::detail::getCUDAHooks().deviceCount() : 0;
}

[[noreturn]] void refuse_device(std::string_view text) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "device.name",
               .place = "device",
               .subject = "--device",
               .expected = "auto, cpu or cuda:N",
               .got = "'" + std::string(text) + "'"});
}

}  // namespace

c10::Device parse_device(std::string_view text) {
  if (text == "cpu") {
    return c10::Device(c10::kCPU);
  }
  if (text == "auto") {
    return num_gpus() > 0 ? c10::Device(c10::kCUDA, 0) : c10::Device(c10::kCPU);
  }
  int index = 0;
  if (text != "cuda") {
    if (!text.starts_with("cuda:") || text.size() == 5) {
      refuse_device(text);
    }
    const char* end = text.data() + text.size();
    const auto [stop, problem] = std::from_chars(text.data() + 5, end, index);
    if (problem != std::errc() || stop != end || index < 0 || index > 127) {
      refuse_device(text);
    }
  }
  const int count = num_gpus();
  if (index >= count) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "device.unavailable",
                 .place = "device",
                 .subject = "--device " + std::string(text),
                 .expected = "a GPU that LibTorch can use",
                 .got = std::to_string(count) + " of them",
                 .hint = "use --device cpu, or a build and a driver with CUDA"});
  }
  return {c10::kCUDA, static_cast<c10::DeviceIndex>(index)};
}

std::optional<c10::ScalarType> parse_dtype(std::string_view text) {
  if (text == "auto") {
    return std::nullopt;
  }
  if (text == "fp32" || text == "float32") {
    return c10::kFloat;
  }
  if (text == "bf16" || text == "bfloat16") {
    return c10::kBFloat16;
  }
  if (text == "fp16" || text == "float16") {
    return c10::kHalf;
  }
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "dtype.name",
               .place = "dtype",
               .subject = "--dtype",
               .expected = "auto, fp32, bf16 or fp16",
               .got = "'" + std::string(text) + "'"});
}

c10::ScalarType fastest_dtype(c10::Device device) {
  if (!device.is_cpu()) {
    return c10::kBFloat16;
  }
  const auto capabilities = at::cpu::get_cpu_capabilities();
  const auto has = [&capabilities](const char* name) {
    const auto found = capabilities.find(name);
    return found != capabilities.end() && found->second.isBool() && found->second.toBool();
  };
  return has("amx_bf16") || has("avx512_bf16") ? c10::kBFloat16 : c10::kFloat;
}

Place parse_place(std::string_view device, std::string_view dtype) {
  const c10::Device parsed = parse_device(device);
  return {parsed, parse_dtype(dtype).value_or(fastest_dtype(parsed))};
}

std::string dtype_name(c10::ScalarType dtype) {
  switch (dtype) {
    case c10::kFloat:
      return "fp32";
    case c10::kBFloat16:
      return "bf16";
    case c10::kHalf:
      return "fp16";
    default:
      return c10::toString(dtype);
  }
}

std::string to_string(const Place& place) {
  return place.device.str() + " " + dtype_name(place.dtype);
}

}  // namespace kinema::tensor
