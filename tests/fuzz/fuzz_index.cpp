// SPDX-License-Identifier: Apache-2.0
// The index of a sharded checkpoint, against shards that hold what a mutated copy of it says.
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "core/base/error.h"
#include "core/io/checkpoint_index.h"

namespace {

bool accepted(const kinema::io::CheckpointIndex& index, const kinema::io::ShardContents& contents) {
  try {
    kinema::io::check_checkpoint_index(index, contents, "fuzz.safetensors.index.json");
    return true;
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadCheckpoint) {
      std::abort();
    }
    return false;
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  kinema::io::CheckpointIndex index;
  try {
    index = kinema::io::parse_checkpoint_index(text, "fuzz.safetensors.index.json");
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadCheckpoint) {
      std::abort();
    }
    return 0;
  }
  kinema::io::ShardContents contents;
  for (const auto& [tensor, shard] : index.weight_map) {
    contents[shard].push_back(tensor);
  }
  if (!accepted(index, contents)) {
    std::abort();
  }
  contents.begin()->second.push_back(size % 2 == 0 ? "extra" : index.weight_map.rbegin()->first);
  const bool extra_is_listed = size % 2 == 0 && index.weight_map.contains("extra");
  if (accepted(index, contents) && !extra_is_listed) {
    std::abort();
  }
  contents.begin()->second.clear();
  if (accepted(index, contents)) {
    std::abort();
  }
  return 0;
}
