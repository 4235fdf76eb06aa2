// SPDX-License-Identifier: Apache-2.0
#include "dit/initialise.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string_view>
#include <utility>

#include <ATen/core/grad_mode.h>

#include "core/base/error.h"
#include "core/tensor/noise.h"

namespace kinema::dit {
namespace {

constexpr double kEmbedderDeviation = 0.02;

/// How one parameter starts.
enum class Start { kZero, kOne, kXavier, kNormal, kTable };

bool has(std::string_view name, std::string_view part) {
  return name.find(part) != std::string_view::npos;
}

bool has_any(std::string_view name, std::initializer_list<std::string_view> parts) {
  return std::any_of(
      parts.begin(), parts.end(), [&](std::string_view part) { return has(name, part); });
}

Start stdit3_weight(std::string_view name) {
  if (has(name, "fps_embedder.")) {
    return has(name, "mlp.0.") ? Start::kNormal : Start::kZero;
  }
  const bool closes_branch = has_any(name, {"attn.proj.", "mlp.fc2."});
  return name.starts_with("temporal_blocks.") && closes_branch ? Start::kZero : Start::kXavier;
}

Start pixart_weight(std::string_view name) {
  if (name.starts_with("final_layer.") || has_any(name, {"cross_attn.proj.", "attn_temp.proj."}) ||
      (name.starts_with("temporal_blocks.") && has(name, ".attn.proj."))) {
    return Start::kZero;
  }
  const bool is_embedder = has_any(name,
                                   {"t_embedder.",
                                    "csize_embedder.",
                                    "ar_embedder.",
                                    "fl_embedder.",
                                    "fps_embedder.",
                                    "pooled_embedder.",
                                    "y_proj."}) ||
                           name.starts_with("t_block");
  return is_embedder ? Start::kNormal : Start::kXavier;
}

Start start_of(std::string_view name, Layout layout) {
  if (has(name, "scale_shift_table") || name.ends_with("y_embedding")) {
    return Start::kTable;
  }
  if (name.ends_with("_norm.weight")) {
    return Start::kOne;
  }
  if (name.ends_with(".bias")) {
    return Start::kZero;
  }
  return layout == Layout::kStdit3 ? stdit3_weight(name) : pixart_weight(name);
}

Tensor drawn(const std::string& name, const Tensor& parameter, Start start, std::uint64_t seed) {
  const std::string stream_name = "dit/init/" + name;
  const tensor::NoiseStream stream = {.seed = seed, .name = stream_name};
  const auto sizes = parameter.sizes();
  if (start == Start::kXavier) {
    const Tensor flat = parameter.flatten(1);
    const double bound = std::sqrt(6.0 / static_cast<double>(flat.size(0) + flat.size(1)));
    return (tensor::uniform_noise_flat(stream, sizes) * 2.0 - 1.0) * bound;
  }
  const double deviation = start == Start::kNormal
                               ? kEmbedderDeviation
                               : 1.0 / std::sqrt(static_cast<double>(sizes.back()));
  return tensor::normal_noise_flat(stream, sizes) * deviation;
}

[[noreturn]] void bad_pair(std::string expected, std::string got) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "dit.pixart",
               .place = "dit.initialise",
               .subject = "initialisation from PixArt",
               .expected = std::move(expected),
               .got = std::move(got)});
}

void check_pair(const VDitConfig& target, const VDitConfig& pixart) {
  if (pixart.layout != Layout::kPixart) {
    bad_pair("an image model of layout pixart", std::string(to_string(pixart.layout)));
  }
  if (target.layout != Layout::kStdit2 && target.layout != Layout::kStdit3) {
    bad_pair("a target of layout stdit2 or stdit3", std::string(to_string(target.layout)));
  }
  const auto sizes = [](const VDitConfig& config) {
    return "width " + std::to_string(config.width) + ", " + std::to_string(config.num_heads) +
           " heads, " + std::to_string(config.num_layers) + " layers, MLP " +
           std::to_string(config.mlp_width);
  };
  if (sizes(target) != sizes(pixart)) {
    bad_pair(sizes(pixart), sizes(target));
  }
}

/// The null caption may have another length: its last row is repeated, or its end cut.
Tensor fitted_rows(const Tensor& rows, std::int64_t count) {
  if (rows.size(0) >= count) {
    return rows.narrow(0, 0, count);
  }
  const Tensor last = rows.narrow(0, rows.size(0) - 1, 1);
  return at::cat({rows, last.expand({count - rows.size(0), -1})}, 0);
}

/// A parameter without a counterpart must not change the image model's result.
bool must_vanish(std::string_view name) {
  const bool opens_condition = has_any(
      name,
      {"fps_embedder.mlp.2.", "fl_embedder.mlp.2.", "csize_embedder.mlp.2.", "ar_embedder.mlp.2."});
  const bool closes_branch =
      has(name, "attn_temp.proj.") ||
      (name.starts_with("temporal_blocks.") && has_any(name, {"attn.proj.", "mlp.fc2."}));
  return opens_condition || closes_branch;
}

}  // namespace

void init_weights(VDiTImpl& model, std::uint64_t seed) {
  at::NoGradGuard no_grad;
  for (const auto& item : model.named_parameters()) {
    Tensor parameter = item.value();
    const Start start = start_of(item.key(), model.config().layout);
    if (start == Start::kZero || start == Start::kOne) {
      parameter.fill_(start == Start::kOne ? 1.0 : 0.0);
    } else {
      parameter.copy_(drawn(item.key(), parameter, start, seed));
    }
  }
}

PixartReport initialise_from_pixart(VDiTImpl& target, const VDiTImpl& pixart) {
  check_pair(target.config(), pixart.config());
  at::NoGradGuard no_grad;
  const auto source = pixart.named_parameters();
  const std::string blocks =
      target.config().layout == Layout::kStdit3 ? "spatial_blocks." : "blocks.";
  PixartReport report;
  for (const auto& item : target.named_parameters()) {
    const std::string& name = item.key();
    Tensor parameter = item.value();
    const std::string theirs =
        name.starts_with(blocks) ? "blocks." + name.substr(blocks.size()) : name;
    const Tensor* found = source.find(theirs);
    Tensor value = found == nullptr ? Tensor() : *found;
    if (value.defined() && name.ends_with("y_embedding") && value.size(1) == parameter.size(1)) {
      value = fitted_rows(value, parameter.size(0));
    }
    if (value.defined() && value.sizes() == parameter.sizes()) {
      parameter.copy_(value);
      report.num_copied += 1;
      continue;
    }
    report.kept.push_back(name);
    if (must_vanish(name)) {
      parameter.zero_();
    }
  }
  return report;
}

}  // namespace kinema::dit
