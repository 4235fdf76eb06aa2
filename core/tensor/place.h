// SPDX-License-Identifier: Apache-2.0
// Where and in which precision a model computes.
//
//   const Place place = parse_place("auto", "auto");   // the values of --device and --dtype
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include <c10/core/Device.h>
#include <c10/core/ScalarType.h>

namespace kinema::tensor {

/// Device and dtype of activations and matrix products. Weights may be narrower in memory.
struct Place {
  c10::Device device = c10::Device(c10::kCPU);
  c10::ScalarType dtype = c10::kFloat;
  bool operator==(const Place&) const = default;
};

/// "auto", "cpu" or "cuda:N" ("cuda" is "cuda:0"). "auto" is the first GPU when there is one.
/// Throws kInvalidArgument [device.name] for other words, kUnsupported [device.unavailable] for a
/// GPU that this build or machine does not have.
[[nodiscard]] c10::Device parse_device(std::string_view text);

/// "fp32", "bf16", "fp16"; "auto" gives nothing. Also the torch names "float32", "bfloat16",
/// "float16". Throws kInvalidArgument [dtype.name].
[[nodiscard]] std::optional<c10::ScalarType> parse_dtype(std::string_view text);

/// The dtype with the fastest matrix products on `device`: bf16 on GPUs and on CPUs with AMX-bf16
/// or AVX512-bf16 instructions, else fp32 (bf16 is emulated there, several times slower).
[[nodiscard]] c10::ScalarType fastest_dtype(c10::Device device);

/// Both options of the command line together; "auto" for the dtype means fastest_dtype().
[[nodiscard]] Place parse_place(std::string_view device, std::string_view dtype);

/// "fp32", "bf16", "fp16", else the torch name.
[[nodiscard]] std::string dtype_name(c10::ScalarType dtype);
/// "cpu bf16".
[[nodiscard]] std::string to_string(const Place& place);

}  // namespace kinema::tensor
