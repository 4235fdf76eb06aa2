// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint_index.h"

#include <set>
#include <utility>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/io/message_text.h"

namespace kinema::io {
namespace {

Error index_error(std::string_view code,
                  std::string_view subject,
                  std::string expected,
                  std::string got) {
  return Error(
      ErrorKind::kBadCheckpoint,
      {.code = "checkpoint." + std::string(code),
       .place = "io.checkpoint",
       .subject = std::string(subject),
       .expected = std::move(expected),
       .got = std::move(got),
       .hint = "index and shards come from different downloads, or a download is damaged"});
}

std::string with_tensor(std::string_view subject, std::string_view tensor) {
  return std::string(subject) + ": tensor '" + printable(tensor) + "'";
}

}  // namespace

std::vector<std::string> CheckpointIndex::shards() const {
  std::set<std::string> names;
  for (const auto& [tensor, shard] : weight_map) {
    names.insert(shard);
  }
  return {names.begin(), names.end()};
}

CheckpointIndex parse_checkpoint_index(std::string_view text, std::string_view subject) {
  const JsonContext context{
      .place = "io.checkpoint", .subject = std::string(subject), .max_bytes = kMaxIndexBytes};
  const Json json = parse_json(text, context);
  CheckpointIndex index;
  JsonReader reader(json, context);
  if (const Json* metadata = reader.find("metadata")) {
    JsonReader fields(*metadata, context, "metadata");
    double total_size = 0;  // some writers put a float here
    if (fields.optional("total_size", total_size)) {
      if (!(total_size >= 0 && total_size < 9.2e18)) {
        throw fields.error(
            "config.range", "total_size", "a byte count", std::to_string(total_size));
      }
      index.total_size = metadata->at("total_size").get<std::uint64_t>();
    }
  }
  const Json* map = reader.find("weight_map");
  if (map == nullptr) {
    throw reader.error("config.missing", "weight_map", "an object", "nothing");
  }
  if (!map->is_object()) {
    throw reader.error("config.type", "weight_map", "an object", map->type_name());
  }
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string()) {
      throw reader.error(
          "config.type", "weight_map." + printable(tensor), "a file name", shard.type_name());
    }
    index.weight_map.emplace_hint(
        index.weight_map.end(), tensor, shard.get_ref<const std::string&>());
  }
  if (index.weight_map.empty()) {
    throw index_error("empty_index", subject, "tensors in weight_map", "none");
  }
  return index;
}

void check_checkpoint_index(const CheckpointIndex& index,
                            const ShardContents& contents,
                            std::string_view subject) {
  std::map<std::string_view, std::string_view> found;  // tensor to shard
  for (const auto& [shard, tensors] : contents) {
    for (const auto& tensor : tensors) {
      const auto [at, is_new] = found.try_emplace(tensor, shard);
      if (!is_new) {
        throw index_error("duplicate_tensor",
                          with_tensor(subject, tensor),
                          "it in one shard",
                          "it in '" + printable(at->second) + "' and '" + printable(shard) + "'");
      }
    }
  }
  for (const auto& [tensor, shard] : index.weight_map) {
    if (!contents.contains(shard)) {
      throw index_error("index_missing_shard",
                        with_tensor(subject, tensor),
                        "the shard '" + printable(shard) + "'",
                        "no such file");
    }
    const auto at = found.find(tensor);
    if (at == found.end()) {
      throw index_error("index_missing_tensor",
                        with_tensor(subject, tensor),
                        "it in '" + printable(shard) + "'",
                        "it in no shard");
    }
    if (at->second != shard) {
      throw index_error("index_wrong_shard",
                        with_tensor(subject, tensor),
                        "it in '" + printable(shard) + "'",
                        "it in '" + printable(at->second) + "'");
    }
  }
  for (const auto& [tensor, shard] : found) {
    if (!index.weight_map.contains(tensor)) {
      throw index_error("index_extra_tensor",
                        with_tensor(subject, tensor),
                        "only tensors that the index lists",
                        "it in '" + printable(shard) + "' and not in the index");
    }
  }
}

}  // namespace kinema::io
