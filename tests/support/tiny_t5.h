// SPDX-License-Identifier: Apache-2.0
// A T5 encoder of one small block with fixed weights, as the files of a Hugging Face folder.
#pragma once

#include <cmath>
#include <filesystem>
#include <map>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/io/safetensors.h"

namespace kinema::test {

class TinyT5 {
 public:
  static constexpr std::int64_t kWidth = 16;

  TinyT5() {
    const std::string block = "encoder.block.0.layer.";
    add("shared.weight", {720, kWidth});
    for (const char* name : {"q", "k", "v"}) {
      add(block + "0.SelfAttention." + name + ".weight", {12, kWidth});
    }
    add(block + "0.SelfAttention.o.weight", {kWidth, 12});
    add(block + "0.SelfAttention.relative_attention_bias.weight", {32, 3});
    add(block + "0.layer_norm.weight", {kWidth});
    add(block + "1.DenseReluDense.wi_0.weight", {24, kWidth});
    add(block + "1.DenseReluDense.wi_1.weight", {24, kWidth});
    add(block + "1.DenseReluDense.wo.weight", {kWidth, 24});
    add(block + "1.layer_norm.weight", {kWidth});
    add("encoder.final_layer_norm.weight", {kWidth});
  }

  void add(const std::string& name, io::Shape shape) {
    std::size_t count = 1;
    for (const auto size : shape) {
      count *= static_cast<std::size_t>(size);
    }
    std::vector<float> values(count);
    for (std::size_t i = 0; i < count; ++i) {
      values[i] = 0.3F * std::sin(static_cast<float>(i * 7 + tensors_.size() * 13));
    }
    tensors_[name] = {std::move(shape), std::move(values)};
  }

  void remove(const std::string& name) { tensors_.erase(name); }

  /// Writes config.json and model.safetensors.
  void save(const std::string& folder) const {
    std::filesystem::create_directories(folder);
    write_file(
        folder + "/config.json",
        R"({"architectures":["T5EncoderModel"],"model_type":"t5","d_model":16,"d_kv":4,"d_ff":24,)"
        R"("num_layers":1,"num_heads":3,"vocab_size":720,"feed_forward_proj":"gated-gelu",)"
        R"("layer_norm_epsilon":1e-6,"relative_attention_num_buckets":32,)"
        R"("relative_attention_max_distance":128})");
    std::vector<io::TensorToWrite> list;
    for (const auto& [name, tensor] : tensors_) {
      list.push_back(
          {name, io::DType::kF32, tensor.first, std::as_bytes(std::span(tensor.second))});
    }
    io::write_safetensors(folder + "/model.safetensors", list);
  }

 private:
  std::map<std::string, std::pair<io::Shape, std::vector<float>>> tensors_;
};

}  // namespace kinema::test
