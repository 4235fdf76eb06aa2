// SPDX-License-Identifier: Apache-2.0
#include "tests/golden_runner/golden_case.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>
#include <stdexcept>

#include <ATen/ops/equal.h>
#include <ATen/ops/isfinite.h>

#include "core/tensor/from_view.h"
#include "core/tensor/shape_check.h"

namespace kinema::golden {

namespace fs = std::filesystem;

std::string Case::file(std::string_view file_name) const {
  return (fs::path(folder) / file_name).string();
}

bool Case::has_file(std::string_view file_name) const {
  return fs::exists(file(file_name));
}

std::string Case::weights() const {
  return file(has_file("weights.safetensors") ? "weights.safetensors"
                                              : "model.safetensors.index.json");
}

TensorMap Case::io() const {
  return tensor::load_tensors(file("io.safetensors"));
}

std::optional<double> Case::tolerance(std::string_view key) const {
  const auto found = json.at("tolerance").find(key);
  if (found == json.at("tolerance").end() || !found->is_number()) {
    return std::nullopt;
  }
  return found->get<double>();
}

Allowed Allowed::from(const Case& golden) {
  const auto limit = golden.tolerance("max_abs");
  const std::string unit = golden.json.at("tolerance").at("relative_to").get<std::string>();
  if (!limit.has_value()) {
    throw std::runtime_error("tolerance.max_abs is not a number");
  }
  if (unit.starts_with("exact")) {
    return {*limit, Unit::kExact};
  }
  if (unit.starts_with("std of output")) {
    return {*limit, Unit::kStd};
  }
  if (unit.starts_with("absolute")) {
    return {*limit, Unit::kAbsolute};
  }
  throw std::runtime_error("tolerance.relative_to is not understood: " + unit);
}

void Report::compare(const TensorMap& io,
                     const std::string& name,
                     const Tensor& ours,
                     const Allowed& allowed,
                     const Tensor& rows_BM) {
  seen_.insert(name);
  const auto found = io.find(name);
  if (found == io.end()) {
    fail(name + ": not in io.safetensors");
    return;
  }
  if (ours.sizes() != found->second.sizes()) {
    fail(name + ": expected shape " + tensor::shape_text(found->second) + ", got " +
         tensor::shape_text(ours));
    return;
  }
  Tensor expected = found->second;
  Tensor got = ours.to(at::kCPU);
  if (rows_BM.defined()) {
    const Tensor rows = rows_BM.to(at::kBool);
    expected = expected.index({rows});
    got = got.index({rows});
  }
  num_compared_ += 1;
  if (allowed.unit == Allowed::Unit::kExact) {
    if (!at::equal(expected, got.to(expected.scalar_type()))) {
      const auto count = expected.ne(got).sum().item<std::int64_t>();
      worst_ = std::numeric_limits<double>::infinity();
      fail(name + ": " + std::to_string(count) + " of " + std::to_string(expected.numel()) +
           " values differ");
    }
    return;
  }
  expected = expected.to(at::kDouble);
  const double difference = (got.to(at::kDouble) - expected).abs().max().item<double>();
  const double scale =
      allowed.unit == Allowed::Unit::kStd ? expected.std(/*unbiased=*/false).item<double>() : 1.0;
  const double relative = difference / scale;
  worst_ = std::isfinite(relative) ? std::max(worst_, relative)
                                   : std::numeric_limits<double>::infinity();
  note(name + ": worst " + std::to_string(relative / std::max(allowed.limit, 1e-300)) +
       " of the limit");
  // Written so that a NaN fails too.
  if (!(relative <= allowed.limit)) {
    char text[160];
    std::snprintf(text,
                  sizeof(text),
                  ": difference %.3g (unit %.3g), allowed %.3g",
                  relative,
                  scale,
                  allowed.limit);
    fail(name + text);
  }
}

void Report::check_complete(const TensorMap& io) {
  for (const auto& [name, tensor] : io) {
    if (name.starts_with("out.") && !seen_.contains(name)) {
      fail(name + ": not compared");
    }
  }
}

}  // namespace kinema::golden
