// SPDX-License-Identifier: Apache-2.0
// Public checkpoints into a model folder of kinema: model_index.json and one folder per component,
// every component loaded once to prove that it fits.
//
//   const ConvertReport report = convert_model({.source = "OpenSora-STDiT-v3", .output =
//   "opensora",
//                                               .vae = "OpenSora-VAE-v1.2"}, logger);
//
// A source is a diffusers folder with model_index.json, the folder of one component (config.json),
// or one safetensors file: an image autoencoder (CompVis or diffusers names, also inside a Stable
// Diffusion checkpoint) or a PixArt transformer.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/json.h"
#include "core/base/log.h"

namespace kinema::pipeline {

struct ConvertRequest {
  std::string source;
  std::string output{};  ///< folder that is new or empty
  // Components from elsewhere, each a folder or file like a source; empty: what the source has.
  std::string vae{};
  std::string text_encoder{};
  std::string tokenizer{};
  std::string scheduler{};
  /// Only this component of a source that has more ("vae" of a Stable Diffusion checkpoint).
  std::string only{};
  /// Of an autoencoder in one file, which cannot say it; nothing: 0.18215 for four channels.
  std::optional<double> scaling_factor{};
  /// Edge in pixels of a PixArt file's training pictures, where it holds no position table.
  std::optional<std::int64_t> image_size{};
};

/// What became of one component.
struct ConvertedComponent {
  std::string name;    ///< "transformer"
  std::string kind;    ///< class, "VDiT"
  std::string source;  ///< file or folder
  std::string action;  ///< "converted", "as it is"
  std::int64_t tensors_read = 0;
  std::int64_t tensors_written = 0;
  std::int64_t parameters = 0;
  std::uint64_t bytes = 0;  ///< of its files
  /// Patterns of names before and after, with their number of tensors; names that stayed are not
  /// listed.
  std::vector<std::pair<std::string, std::string>> renamed{};
  std::vector<std::string> left_out{};  ///< tensors that the model computes or has no use for
  [[nodiscard]] OrderedJson to_json() const;
};

struct ConvertReport {
  std::string output;
  std::vector<ConvertedComponent> components;
  std::vector<std::string> missing;  ///< components that `kinema generate` still needs
  [[nodiscard]] OrderedJson to_json() const;
  [[nodiscard]] std::string to_text() const;
};

/// The folder appears when everything is in it. Throws kIo [io.open], kOutput [output.not_empty],
/// kBadCheckpoint [convert.unknown, convert.left_over, weights.mismatch and what the loaders
/// throw], kInvalidArgument [convert.option].
[[nodiscard]] ConvertReport convert_model(const ConvertRequest& request, Logger& logger);

}  // namespace kinema::pipeline
