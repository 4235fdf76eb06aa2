// SPDX-License-Identifier: Apache-2.0
#include "dit/foreign_weights.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "core/tensor/keymap.h"

namespace kinema::dit {
namespace {

using tensor::KeyMap;

void add_block_rules(KeyMap& keymap, const std::string& from, const std::string& to) {
  for (const auto& [theirs, ours] : {std::pair("attn1.to_out.0.*", "attn.proj.*"),
                                     std::pair("attn2.to_out.0.*", "cross_attn.proj.*"),
                                     std::pair("attn2.to_q.*", "cross_attn.q_linear.*"),
                                     std::pair("attn1.to_*", "attn.to_*"),
                                     std::pair("attn2.to_*", "cross_attn.to_*"),
                                     std::pair("ff.net.0.proj.*", "mlp.fc1.*"),
                                     std::pair("ff.net.2.*", "mlp.fc2.*")}) {
    keymap.add(KeyMap::rename(from + theirs, to + ours));
  }
}

KeyMap diffusers_keymap(bool has_temporal_blocks) {
  KeyMap keymap = {
      KeyMap::rename("pos_embed.proj.*", "x_embedder.proj.*"),
      KeyMap::ignore("pos_embed.pos_embed"),
      KeyMap::ignore("temp_pos_embed"),
      KeyMap::rename("adaln_single.linear.*", "t_block.1.*"),
      KeyMap::rename("caption_projection.linear_1.*", "y_embedder.y_proj.fc1.*"),
      KeyMap::rename("caption_projection.linear_2.*", "y_embedder.y_proj.fc2.*"),
      KeyMap::rename("proj_out.*", "final_layer.linear.*"),
      KeyMap::rename("scale_shift_table", "final_layer.scale_shift_table"),
  };
  for (const auto& [theirs, ours] : {std::pair("timestep_embedder", "t_embedder"),
                                     std::pair("resolution_embedder", "csize_embedder"),
                                     std::pair("aspect_ratio_embedder", "ar_embedder")}) {
    const std::string from = std::string("adaln_single.emb.") + theirs;
    keymap.add(KeyMap::rename(from + ".linear_1.*", std::string(ours) + ".mlp.0.*"));
    keymap.add(KeyMap::rename(from + ".linear_2.*", std::string(ours) + ".mlp.2.*"));
  }
  const std::string spatial = has_temporal_blocks ? "spatial_blocks.{}." : "blocks.{}.";
  add_block_rules(keymap, "transformer_blocks.{}.", spatial);
  keymap.add(KeyMap::rename("transformer_blocks.{}.*", spatial + "*"));
  add_block_rules(keymap, "temporal_transformer_blocks.{}.", "temporal_blocks.{}.");
  keymap.add(KeyMap::rename("temporal_transformer_blocks.{}.*", "temporal_blocks.{}.*"));
  return keymap;
}

io::TensorViews renamed(const io::TensorViews& tensors, const KeyMap& keymap) {
  io::TensorViews result;
  for (const auto& [name, view] : tensors) {
    KeyMap::Mapped mapped = keymap.map(name);
    if (mapped.action == KeyMap::Action::kIgnore) {
      continue;
    }
    if (!result.emplace(std::move(mapped.name), view).second) {
      throw Error(ErrorKind::kBadCheckpoint,
                  {.code = "dit.duplicate_tensor",
                   .place = "dit.weights",
                   .subject = view.file,
                   .expected = "one tensor for each parameter",
                   .got = "'" + name + "' and another that means the same"});
    }
  }
  return result;
}

/// One tensor of the rows of all parts.
io::TensorView stacked(const std::vector<const io::TensorView*>& parts) {
  io::TensorView result = *parts.front();
  std::size_t size = 0;
  result.shape[0] = 0;
  for (const io::TensorView* part : parts) {
    size += part->bytes.size();
    result.shape[0] += part->shape[0];
  }
  const auto bytes = std::make_shared<std::vector<std::byte>>(size);
  std::byte* to = bytes->data();
  for (const io::TensorView* part : parts) {
    to = std::copy(part->bytes.begin(), part->bytes.end(), to);
  }
  result.bytes = *bytes;
  result.owner = bytes;
  return result;
}

bool stackable(const std::vector<const io::TensorView*>& parts) {
  const io::TensorView& first = *parts.front();
  return !first.shape.empty() && std::all_of(parts.begin(), parts.end(), [&](const auto* part) {
    return part->dtype == first.dtype && part->shape == first.shape;
  });
}

/// Replaces <stem>.<parts>.<kind> by <stem>.<joined>.<kind> wherever all parts are there and fit.
void join_projections(io::TensorViews& tensors,
                      const std::vector<std::string>& parts,
                      const std::string& joined) {
  const std::string lead = "." + parts.front() + ".";
  std::vector<std::string> names;
  for (const auto& [name, view] : tensors) {
    if (("." + name).find(lead) != std::string::npos) {
      names.push_back(name);
    }
  }
  for (const std::string& name : names) {
    const std::size_t at = ("." + name).find(lead);
    const std::string stem = name.substr(0, at);
    const std::string kind = name.substr(at + parts.front().size());
    std::vector<const io::TensorView*> views;
    for (const std::string& part : parts) {
      const auto found = tensors.find(stem + part + kind);
      if (found != tensors.end()) {
        views.push_back(&found->second);
      }
    }
    if (views.size() != parts.size() || !stackable(views) ||
        tensors.contains(stem + joined + kind)) {
      continue;
    }
    io::TensorView whole = stacked(views);
    for (const std::string& part : parts) {
      tensors.erase(stem + part + kind);
    }
    tensors.emplace(stem + joined + kind, std::move(whole));
  }
}

void join_all(io::TensorViews& tensors) {
  join_projections(tensors, {"to_q", "to_k", "to_v"}, "qkv");
  join_projections(tensors, {"to_k", "to_v"}, "kv_linear");
}

}  // namespace

KeyMap own_names(const io::TensorViews& tensors) {
  if (!tensors.contains("adaln_single.linear.weight")) {
    return {KeyMap::ignore("pos_embed"), KeyMap::ignore("pos_embed_temporal")};
  }
  const bool has_temporal_blocks = tensors.lower_bound("temporal_transformer_blocks.") !=
                                   tensors.lower_bound("temporal_transformer_blocks/");
  return diffusers_keymap(has_temporal_blocks);
}

io::TensorViews with_own_names(const io::TensorViews& tensors) {
  io::TensorViews result = renamed(tensors, own_names(tensors));
  if (tensors.contains("adaln_single.linear.weight")) {
    join_all(result);
  }
  const auto patch = result.find("x_embedder.proj.weight");
  if (patch != result.end() && patch->second.shape.size() == 4) {
    patch->second.shape.insert(patch->second.shape.begin() + 2, 1);
  }
  return result;
}

io::TensorViews block_with_own_names(const io::TensorViews& tensors) {
  KeyMap keymap;
  add_block_rules(keymap, "", "");
  io::TensorViews result = renamed(tensors, keymap);
  join_all(result);
  return result;
}

}  // namespace kinema::dit
