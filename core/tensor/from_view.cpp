// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/from_view.h"

#include <cstdint>
#include <cstring>
#include <vector>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>

#include "core/base/error.h"

namespace kinema::tensor {

c10::ScalarType to_scalar_type(io::DType dtype) noexcept {
  switch (dtype) {
    case io::DType::kBool:
      return c10::kBool;
    case io::DType::kU8:
      return c10::kByte;
    case io::DType::kI8:
      return c10::kChar;
    case io::DType::kF8E4M3:
      return c10::kFloat8_e4m3fn;
    case io::DType::kF8E5M2:
      return c10::kFloat8_e5m2;
    case io::DType::kI16:
      return c10::kShort;
    case io::DType::kU16:
      return c10::kUInt16;
    case io::DType::kF16:
      return c10::kHalf;
    case io::DType::kBF16:
      return c10::kBFloat16;
    case io::DType::kI32:
      return c10::kInt;
    case io::DType::kU32:
      return c10::kUInt32;
    case io::DType::kF32:
      return c10::kFloat;
    case io::DType::kI64:
      return c10::kLong;
    case io::DType::kU64:
      return c10::kUInt64;
    case io::DType::kF64:
      return c10::kDouble;
    case io::DType::kC64:
      return c10::kComplexFloat;
  }
  return c10::ScalarType::Undefined;
}

std::optional<io::DType> to_io_dtype(c10::ScalarType dtype) noexcept {
  using enum io::DType;
  for (const io::DType candidate : {kBool,
                                    kU8,
                                    kI8,
                                    kF8E4M3,
                                    kF8E5M2,
                                    kI16,
                                    kU16,
                                    kF16,
                                    kBF16,
                                    kI32,
                                    kU32,
                                    kF32,
                                    kI64,
                                    kU64,
                                    kF64,
                                    kC64}) {
    if (to_scalar_type(candidate) == dtype) {
      return candidate;
    }
  }
  return std::nullopt;
}

Tensor tensor_from_view(const io::TensorView& view) {
  const auto options = at::TensorOptions().dtype(to_scalar_type(view.dtype));
  if (view.bytes.empty()) {
    return at::empty(view.shape, options);
  }
  if (reinterpret_cast<std::uintptr_t>(view.bytes.data()) % io::size_of(view.dtype) != 0) {
    Tensor copy = at::empty(view.shape, options);
    std::memcpy(copy.mutable_data_ptr(), view.bytes.data(), view.bytes.size());
    return copy;
  }
  void* data = const_cast<std::byte*>(view.bytes.data());
  return at::from_blob(data, view.shape, [owner = view.owner](void*) {}, options);
}

TensorMap load_tensors(const std::string& path) {
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  TensorMap tensors;
  for (const auto& [name, view] : file.tensors()) {
    tensors.emplace(name, tensor_from_view(view));
  }
  return tensors;
}

void save_tensors(const std::string& path,
                  const TensorMap& tensors,
                  const std::map<std::string, std::string>& metadata) {
  std::vector<Tensor> kept;  // row-major CPU copies, alive until the file is written
  std::vector<io::TensorToWrite> to_write;
  kept.reserve(tensors.size());
  to_write.reserve(tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const auto dtype = to_io_dtype(tensor.scalar_type());
    if (!dtype.has_value()) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "tensor.dtype",
                   .place = "tensor.save",
                   .subject = name,
                   .expected = "a dtype that safetensors knows",
                   .got = c10::toString(tensor.scalar_type())});
    }
    kept.push_back(tensor.detach().cpu().contiguous());
    const auto* data = static_cast<const std::byte*>(kept.back().const_data_ptr());
    to_write.push_back({.name = name,
                        .dtype = *dtype,
                        .shape = tensor.sizes().vec(),
                        .bytes = {data, static_cast<std::size_t>(kept.back().nbytes())}});
  }
  io::write_safetensors(path, to_write, metadata);
}

}  // namespace kinema::tensor
