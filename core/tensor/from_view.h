// SPDX-License-Identifier: Apache-2.0
// Tensors from checkpoint files and back.
//
// A tensor made from a view points into the memory map of the file: it costs no heap and is READ
// ONLY (writing to it is a fault); clone it before changing it. It keeps the map alive.
#pragma once

#include <map>
#include <optional>
#include <string>

#include <c10/core/ScalarType.h>

#include "core/io/dtype.h"
#include "core/io/safetensors.h"
#include "core/tensor/tensor.h"

namespace kinema::tensor {

[[nodiscard]] c10::ScalarType to_scalar_type(io::DType dtype) noexcept;
/// Nothing for types that safetensors has no name for.
[[nodiscard]] std::optional<io::DType> to_io_dtype(c10::ScalarType dtype) noexcept;

/// Zero copy, unless the bytes are not aligned to the element size (legal in a file, not in
/// memory).
[[nodiscard]] Tensor tensor_from_view(const io::TensorView& view);

/// All tensors of a safetensors file, as views of its map.
[[nodiscard]] TensorMap load_tensors(const std::string& path);

/// Writes tensors (any device, any strides) as one safetensors file, atomically.
/// Throws kInvalidArgument [tensor.dtype] for a type the format lacks, else what
/// io::write_safetensors throws.
void save_tensors(const std::string& path,
                  const TensorMap& tensors,
                  const std::map<std::string, std::string>& metadata = {});

}  // namespace kinema::tensor
