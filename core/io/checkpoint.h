// SPDX-License-Identifier: Apache-2.0
// The weights of one model component, wherever they lie: a single safetensors file, a sharded set
// with its "*.safetensors.index.json", or a Hugging Face folder that holds either.
//
// In a folder the first that exists is taken: model.safetensors.index.json,
// diffusion_pytorch_model.safetensors.index.json, model.safetensors,
// diffusion_pytorch_model.safetensors, then the only *.safetensors file. Several candidates without
// an index, or only pickle files (*.bin, *.pt, *.ckpt), are an error that says what was found:
// pickle files can run code and are not read.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/io/safetensors.h"

namespace kinema::io {

struct Checkpoint {
  TensorViews tensors;  ///< of all shards together
  std::map<std::string, std::string, std::less<>>
      metadata;                    ///< of the single file (empty when sharded)
  std::vector<std::string> files;  ///< paths, in the order opened
  std::string path;                ///< what was asked for, for messages

  /// Opens a file, an index or a folder. Throws kIo when there is nothing, kBadCheckpoint
  /// otherwise: checkpoint.{none, ambiguous, pickle, index_missing_shard, index_missing_tensor,
  /// index_wrong_shard, index_extra_tensor, duplicate_tensor}, index JSON: json.* and config.*,
  /// a shard named outside the folder: io.outside_folder.
  static Checkpoint open(const std::string& path);

  [[nodiscard]] std::uint64_t num_bytes() const noexcept;
};

}  // namespace kinema::io
