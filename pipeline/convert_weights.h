// SPDX-License-Identifier: Apache-2.0
// Internal to convert_model: what one safetensors file without a config holds, and the config that
// its shapes imply.
#pragma once

#include <optional>
#include <string>

#include "core/base/json.h"
#include "core/io/safetensors.h"
#include "core/tensor/keymap.h"

namespace kinema::pipeline {

enum class SingleFile { kUnknown, kImageAutoencoder, kPixart };

/// By the names of tensors.
[[nodiscard]] SingleFile kind_of_file(const io::TensorViews& tensors);

/// An image autoencoder inside a file.
struct ImageAutoencoderFile {
  Json config;              ///< of AutoencoderKL
  io::TensorViews tensors;  ///< its own, under diffusers' names
  tensor::KeyMap names;     ///< the table from `stripped` names to those
  std::string prefix;       ///< that its tensors have in the file
};
/// Throws kBadCheckpoint [convert.shape] for tensors that make no autoencoder, kInvalidArgument
/// [convert.option] when the scaling factor cannot be known.
[[nodiscard]] ImageAutoencoderFile image_autoencoder_in(const io::TensorViews& tensors,
                                                        std::optional<double> scaling_factor,
                                                        const std::string& subject);

/// The config, in kinema's own form, of a PixArt transformer under its authors' names.
/// @param image_size  edge of its training pictures in pixels; nothing: from its position table.
/// Throws kBadCheckpoint [convert.shape], kInvalidArgument [convert.option].
[[nodiscard]] Json pixart_config(const io::TensorViews& tensors,
                                 std::optional<std::int64_t> image_size,
                                 const std::string& subject);

}  // namespace kinema::pipeline
