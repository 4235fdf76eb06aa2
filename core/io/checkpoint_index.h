// SPDX-License-Identifier: Apache-2.0
// The index of a sharded checkpoint ("*.safetensors.index.json"):
//   {"metadata": {"total_size": 123}, "weight_map": {"tensor name": "shard file name", ...}}
// Parsing and checking are apart from opening files, so that they can be tested and fuzzed alone.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kinema::io {

struct CheckpointIndex {
  std::map<std::string, std::string, std::less<>> weight_map;  ///< tensor name to shard file name
  /// Bytes of all tensors as the writer counted them. Informative: tools disagree about tensors
  /// that share memory, so it is not compared.
  std::optional<std::uint64_t> total_size;

  /// Shard file names, each once, sorted.
  [[nodiscard]] std::vector<std::string> shards() const;
};

inline constexpr std::size_t kMaxIndexBytes = 100'000'000;

/// Parses an index. `subject` names the file in messages. Throws kBadCheckpoint json.{syntax,
/// depth, duplicate_key, too_large}, config.{missing, type, range}, and [checkpoint.empty_index]
/// for a weight_map without tensors. Other keys are read past, as other readers do.
[[nodiscard]] CheckpointIndex parse_checkpoint_index(std::string_view text,
                                                     std::string_view subject);

/// Names of the tensors that each shard holds, by shard file name.
using ShardContents = std::map<std::string, std::vector<std::string>, std::less<>>;

/// Checks that the shards hold exactly what the index promises. Throws kBadCheckpoint
/// checkpoint.{index_missing_shard, duplicate_tensor, index_wrong_shard, index_extra_tensor,
/// index_missing_tensor}.
void check_checkpoint_index(const CheckpointIndex& index,
                            const ShardContents& contents,
                            std::string_view subject);

}  // namespace kinema::io
