// SPDX-License-Identifier: Apache-2.0
// The writing half of core/io/safetensors.h.
#include <algorithm>
#include <array>
#include <limits>
#include <optional>
#include <utility>

#include "core/base/checked_math.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/io/message_text.h"
#include "core/io/safetensors.h"

namespace kinema::io {
namespace {

Error argument_error(std::string code, std::string subject, std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = "safetensors." + std::move(code),
                .place = "io.safetensors",
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got)});
}

/// Place of a dtype in the data section; the order that the reference writes.
int rank_of(DType dtype) {
  static constexpr std::array kOrder = {DType::kU64,
                                        DType::kI64,
                                        DType::kF64,
                                        DType::kC64,
                                        DType::kF32,
                                        DType::kU32,
                                        DType::kI32,
                                        DType::kBF16,
                                        DType::kF16,
                                        DType::kU16,
                                        DType::kI16,
                                        DType::kF8E4M3,
                                        DType::kF8E5M2,
                                        DType::kI8,
                                        DType::kU8,
                                        DType::kBool};
  return static_cast<int>(std::find(kOrder.begin(), kOrder.end(), dtype) - kOrder.begin());
}

/// Bytes that a tensor must have; checks its name and shape.
std::uint64_t expected_bytes(const TensorSpec& tensor) {
  const auto subject = "tensor '" + printable(tensor.name) + "'";
  if (tensor.name == "__metadata__") {
    throw argument_error("name", subject, "another name", "the one that the format reserves");
  }
  std::int64_t product = static_cast<std::int64_t>(size_of(tensor.dtype));
  bool empty = false;
  for (const std::int64_t size : tensor.shape) {
    if (size < 0) {
      throw argument_error("shape", subject, "sizes from 0 up", std::to_string(size));
    }
    empty = empty || size == 0;
    const auto next = checked_mul(product, std::max<std::int64_t>(size, 1));
    if (!next) {
      throw argument_error("overflow", subject, "a byte count below 2^63", "a larger shape");
    }
    product = *next;
  }
  return empty ? 0 : static_cast<std::uint64_t>(product);
}

std::vector<const TensorToWrite*> in_file_order(std::span<const TensorToWrite> tensors) {
  std::vector<const TensorToWrite*> order;
  order.reserve(tensors.size());
  for (const auto& tensor : tensors) {
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const TensorToWrite* a, const TensorToWrite* b) {
    return std::pair(rank_of(a->dtype), std::string_view(a->name)) <
           std::pair(rank_of(b->dtype), std::string_view(b->name));
  });
  return order;
}

void check_names(std::span<const TensorSpec> tensors) {
  std::vector<std::string_view> names;
  names.reserve(tensors.size());
  for (const auto& tensor : tensors) {
    names.push_back(tensor.name);
  }
  std::sort(names.begin(), names.end());
  const auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) {
    throw argument_error(
        "duplicate_name", "tensor '" + printable(*twice) + "'", "each name once", "it twice");
  }
}

std::string header_json(std::span<const TensorSpec> order,
                        const std::map<std::string, std::string>& metadata) {
  const auto quoted = [](const std::string& text) {
    try {
      return Json(text).dump();
    } catch (const nlohmann::detail::exception&) {
      throw argument_error("utf8", "'" + printable(text) + "'", "UTF-8", "other bytes");
    }
  };
  std::string json = "{";
  if (!metadata.empty()) {
    json += "\"__metadata__\":{";
    for (const auto& [key, value] : metadata) {
      json += (json.back() == '{' ? "" : ",") + quoted(key) + ":" + quoted(value);
    }
    json += "}";
  }
  std::uint64_t offset = 0;
  for (const TensorSpec& tensor : order) {
    json += (json.size() == 1 ? "" : ",") + quoted(tensor.name) + ":{\"dtype\":\"";
    json += to_string(tensor.dtype);
    json += "\",\"shape\":[";
    for (std::size_t i = 0; i < tensor.shape.size(); ++i) {
      json += (i == 0 ? "" : ",") + std::to_string(tensor.shape[i]);
    }
    const std::uint64_t end = offset + expected_bytes(tensor);
    json += "],\"data_offsets\":[" + std::to_string(offset) + "," + std::to_string(end) + "]}";
    offset = end;
  }
  json += "}";
  json.resize((json.size() + 7) / 8 * 8, ' ');
  return json;
}

}  // namespace

SafetensorsStream::SafetensorsStream(const std::string& path,
                                     std::span<const TensorSpec> tensors,
                                     const std::map<std::string, std::string>& metadata)
    : path_(path), file_(path) {
  check_names(tensors);
  const std::string header = header_json(tensors, metadata);
  if (header.size() > kMaxSafetensorsHeader) {
    throw argument_error("header_too_large",
                         path,
                         "a header of at most " + format_bytes(kMaxSafetensorsHeader),
                         format_bytes(header.size()));
  }
  const std::uint64_t length = header.size();
  file_.write(std::as_bytes(std::span(&length, 1)));
  file_.write(header);
  end_ = file_.bytes_written();
  for (const auto& tensor : tensors) {
    const auto end = checked_add(end_, expected_bytes(tensor));
    if (!end) {
      throw argument_error("overflow", path, "a byte count below 2^64", "a larger sum");
    }
    end_ = *end;
  }
}

void SafetensorsStream::append(std::span<const std::byte> bytes) {
  if (bytes.size() > end_ - file_.bytes_written()) {
    throw argument_error("size_mismatch",
                         path_,
                         std::to_string(end_ - file_.bytes_written()) + " more bytes",
                         std::to_string(bytes.size()));
  }
  file_.write(bytes);
}

void SafetensorsStream::commit() {
  if (file_.bytes_written() != end_) {
    throw argument_error("size_mismatch",
                         path_,
                         std::to_string(end_ - file_.bytes_written()) + " more bytes",
                         "the end");
  }
  file_.commit();
}

void write_safetensors(const std::string& path,
                       std::span<const TensorToWrite> tensors,
                       const std::map<std::string, std::string>& metadata) {
  const auto order = in_file_order(tensors);
  std::vector<TensorSpec> specs;
  specs.reserve(order.size());
  for (const TensorToWrite* tensor : order) {
    specs.push_back({tensor->name, tensor->dtype, tensor->shape});
    const auto bytes = expected_bytes(specs.back());
    if (bytes != tensor->bytes.size()) {
      throw argument_error("size_mismatch",
                           "tensor '" + printable(tensor->name) + "'",
                           std::to_string(bytes) + " bytes",
                           std::to_string(tensor->bytes.size()));
    }
  }
  SafetensorsStream stream(path, specs, metadata);
  for (const TensorToWrite* tensor : order) {
    stream.append(tensor->bytes);
  }
  stream.commit();
}

}  // namespace kinema::io
