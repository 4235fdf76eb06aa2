// SPDX-License-Identifier: Apache-2.0
// Writes a text-to-video model of the sizes of Open-Sora 1.2 with random weights, to compare what
// `kinema generate --dry-run` says with what a run takes: STDiT3-XL/2 (1.2 billion parameters, fp32
// 4.8 GB), the autoencoder (0.4 billion, 1.6 GB) and the scheduler. T5 v1.1 XXL comes from
// t5_xxl_bench, a tokenizer from the tests:
//
//   make_full_size /tmp/full
//   t5_xxl_bench --make /tmp/full/text_encoder
//   cp -r tests/golden/text/tokenizer_t5 /tmp/full/tokenizer
//   kinema generate "..." --model /tmp/full --size 256x144 --frames 17 --steps 2 -o out.mp4 --json
#include <cmath>
#include <cstdio>
#include <exception>
#include <filesystem>
#include <string>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "dit/vdit.h"
#include "vae/open_sora_vae.h"

namespace kinema {
namespace {

void write_json(const std::string& path, const Json& json) {
  write_file(path, json.dump(2) + "\n");
}

/// Weights that keep activations at a sensible size: norms of one, products of unit gain.
void make_autoencoder(const std::string& folder) {
  std::filesystem::create_directories(folder);
  write_json(folder + "/config.json",
             {{"architectures", {"VideoAutoencoderPipeline"}},
              {"model_type", "VideoAutoencoderPipeline"},
              {"micro_frame_size", 17},
              {"scale", {3.85, 2.32, 2.33, 3.06}},
              {"shift", {-0.10, 0.34, 0.27, 0.98}},
              {"vae_2d", {{"type", "VideoAutoencoderKL"}, {"micro_batch_size", 4}}},
              {"vae_temporal", {{"type", "VAE_Temporal_SD"}}}});
  const vae::OpenSoraVae network(vae::OpenSoraVaeConfig{});
  auto generator = at::make_generator<at::CPUGeneratorImpl>(7);
  TensorMap tensors;
  for (const auto& item : network->named_parameters()) {
    const Tensor& like = item.value();
    Tensor value = at::zeros(like.sizes());
    if (like.dim() > 1) {
      const double fan_in = static_cast<double>(like.numel() / like.size(0));
      value.normal_(0.0, 1.0 / std::sqrt(fan_in), generator);
    } else if (item.key().ends_with("weight")) {
      value.fill_(1.0);
    }
    tensors.emplace(item.key(), value);
  }
  const auto numbers = [](std::initializer_list<float> values) {
    return at::tensor(values).view({1, 4, 1, 1, 1});
  };
  tensors.emplace("scale", numbers({3.85F, 2.32F, 2.33F, 3.06F}));
  tensors.emplace("shift", numbers({-0.10F, 0.34F, 0.27F, 0.98F}));
  tensor::save_tensors(folder + "/model.safetensors", tensors);
}

void make_model(const std::string& folder) {
  std::filesystem::create_directories(folder + "/scheduler");
  write_json(folder + "/model_index.json",
             {{"_class_name", "KinemaTextToVideo"},
              {"transformer", {"kinema", "VDiT"}},
              {"vae", {"opensora", "VideoAutoencoderPipeline"}},
              {"text_encoder", {"transformers", "T5EncoderModel"}},
              {"tokenizer", {"transformers", "T5Tokenizer"}},
              {"scheduler", {"opensora", "RFLOW"}}});
  write_json(folder + "/generation.json",
             {{"width", 256},
              {"height", 144},
              {"frames", 17},
              {"fps", 24},
              {"steps", 30},
              {"guidance", 7.0},
              {"max_length", 300}});
  write_json(folder + "/scheduler/scheduler_config.json",
             {{"_class_name", "RFLOW"}, {"use_timestep_transform", true}});
  make_autoencoder(folder + "/vae");
  std::fprintf(stderr, "wrote %s/vae\n", folder.c_str());
  dit::VideoDit::create(dit::VDitConfig{}, 1)->save(folder + "/transformer");
  std::fprintf(stderr, "wrote %s/transformer\n", folder.c_str());
}

}  // namespace
}  // namespace kinema

int main(int argc, char** argv) {
  if (argc != 2 || argv[1][0] == '-') {
    std::fprintf(stderr, "usage: make_full_size FOLDER\n");
    return 2;
  }
  try {
    kinema::make_model(argv[1]);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
