// SPDX-License-Identifier: Apache-2.0
#include "pipeline/stage_cost.h"

#include <algorithm>
#include <string>
#include <string_view>

#include "core/base/json.h"
#include "core/io/checkpoint.h"
#include "vae/memory_plan.h"

namespace kinema::pipeline {
namespace {

constexpr std::int64_t kFloatBytes = 4;

std::int64_t ceil_divide(std::int64_t a, std::int64_t b) {
  return (a + b - 1) / b;
}

std::int64_t bytes_of(c10::ScalarType dtype) {
  return static_cast<std::int64_t>(c10::elementSize(dtype));
}

/// Tables that are looked up and not multiplied, and towers that a text encoder leaves alone.
bool is_text_product(const std::string& name, const io::TensorView& view) {
  for (const std::string_view part :
       {"shared", "embed", "relative_attention_bias", "decoder.", "lm_head", "visual"}) {
    if (name.find(part) != std::string::npos) {
      return false;
    }
  }
  return view.shape.size() == 2;
}

bool stays_in_file(const io::TensorView& view, const tensor::Place& place) {
  return static_cast<std::int64_t>(io::size_of(view.dtype)) <= bytes_of(place.dtype) &&
         place.device.is_cpu();
}

/// Weights as they are kept: in their file where they are no wider than wanted, else converted.
void add_weights(StageCost& cost, const io::TensorViews& tensors, const tensor::Place& place) {
  const std::int64_t wanted = bytes_of(place.dtype);
  for (const auto& [name, view] : tensors) {
    const auto bytes = static_cast<std::int64_t>(view.bytes.size());
    if (stays_in_file(view, place)) {
      cost.mapped_bytes += bytes;
    } else {
      cost.working_bytes += bytes / static_cast<std::int64_t>(io::size_of(view.dtype)) * wanted;
    }
  }
}

}  // namespace

OrderedJson StageCost::to_json() const {
  OrderedJson json = {{"name", name},
                      {"gflop", gflop},
                      {"mapped_bytes", mapped_bytes},
                      {"working_bytes", working_bytes},
                      {"peak_bytes", peak_bytes()}};
  if (seconds) {
    json["seconds"] = *seconds;
    json["cpu_seconds"] = cpu_seconds.value_or(0.0);
  }
  return json;
}

dit::VDitConfig read_transformer_config(const std::string& folder) {
  const std::string path = folder + "/config.json";
  std::vector<std::string> unknown;
  return dit::VDitConfig::from_json(
      read_json_file(path, {.place = "pipeline", .subject = path}), path, unknown);
}

double forward_gflop(const dit::VDitConfig& config,
                     std::int64_t batch,
                     std::int64_t frames,
                     std::int64_t positions,
                     double temporal_span,
                     std::int64_t prompt_tokens) {
  const auto width = static_cast<double>(config.width);
  const auto mlp = static_cast<double>(config.mlp_width);
  const auto tokens = static_cast<double>(batch * frames * positions);
  const double self_linear = 8 * width * width;
  const double prompt = 4 * width * width + 4 * static_cast<double>(prompt_tokens) * width;
  const double mlp_linear = 4 * width * mlp;
  const double spatial = 4 * static_cast<double>(positions) * width;
  const double temporal = 4 * temporal_span * width;
  double layer = 0;
  switch (config.layout) {
    case dit::Layout::kStdit2:
      layer = 2 * self_linear + spatial + temporal + prompt + mlp_linear;
      break;
    case dit::Layout::kStdit3:
      layer = 2 * (self_linear + prompt + mlp_linear) + spatial + temporal;
      break;
    case dit::Layout::kLatte:
      layer = 2 * (self_linear + mlp_linear) + prompt + spatial + temporal;
      break;
    case dit::Layout::kPixart:
      layer = self_linear + prompt + mlp_linear + spatial;
      break;
    case dit::Layout::kFull:
      layer =
          self_linear + prompt + mlp_linear + 4 * static_cast<double>(frames * positions) * width;
      break;
  }
  const double patches = static_cast<double>(config.patch_volume()) *
                         static_cast<double>(config.latent_channels + config.out_channels());
  return 1e-9 * tokens * (static_cast<double>(config.num_layers) * layer + 2 * width * patches);
}

StageCost text_cost(const ModelFolder& model, const CostInput& input, const tensor::Place& place) {
  StageCost cost{.name = "text", .program_bytes = input.program_bytes};
  const io::Checkpoint checkpoint = io::Checkpoint::open(model.text_encoder);
  io::TensorViews used;
  double products = 0;
  std::int64_t widest = 0;
  std::int64_t sum_widths = 0;
  for (const auto& [name, view] : checkpoint.tensors) {
    const bool other = name.starts_with("decoder.") || name.starts_with("lm_head") ||
                       name.starts_with("vision") || name.starts_with("visual");
    if (other) {
      continue;
    }
    const bool product = is_text_product(name, view);
    if (product || view.shape.size() != 2 || !stays_in_file(view, place)) {
      used.emplace(name, view);  // of a table in its file only some rows are read
    }
    if (product) {
      products += static_cast<double>(view.shape[0]) * static_cast<double>(view.shape[1]);
      widest = std::max(widest, view.shape[0]);
      sum_widths = std::max(sum_widths, view.shape[0] + view.shape[1]);
    }
  }
  add_weights(cost, used, place);
  std::int64_t most = 0;
  for (const std::int64_t tokens : input.text_tokens) {
    cost.gflop += 2e-9 * products * static_cast<double>(tokens);
    most = std::max(most, tokens);
  }
  // The stream, queries, keys and values, the gated pair of the widest layer, packed inputs, and
  // the features of every prompt.
  const std::int64_t width = sum_widths - widest;
  cost.working_bytes +=
      kFloatBytes * most * (6 * width + 4 * widest) +
      kFloatBytes * input.max_length * width * static_cast<std::int64_t>(input.text_tokens.size());
  return cost;
}

StageCost denoise_cost(const ModelFolder& model,
                       const CostInput& input,
                       const tensor::Place& place) {
  StageCost cost{.name = "denoise", .program_bytes = input.program_bytes};
  const dit::VDitConfig config = read_transformer_config(model.transformer);
  const io::Checkpoint checkpoint = io::Checkpoint::open(model.transformer);
  add_weights(cost, checkpoint.tensors, place);
  const std::int64_t batch = input.guided ? 2 : 1;
  const bool one_pass = input.plan.mode == LongMode::kFreeNoise;
  const std::int64_t frames =
      ceil_divide(one_pass ? input.latent_frames : input.plan.window, config.patch[0]);
  const std::int64_t positions = ceil_divide(input.latent_height, config.patch[1]) *
                                 ceil_divide(input.latent_width, config.patch[2]);
  double span = static_cast<double>(frames);
  if (one_pass) {
    std::int64_t seen = 0;
    for (const diffusion::Window& window : input.plan.windows) {
      seen += window.length * window.length;
    }
    span = static_cast<double>(seen) / static_cast<double>(frames);
  }
  const std::int64_t prompt = input.text_tokens.empty() ? input.max_length : input.text_tokens[0];
  cost.gflop = forward_gflop(config, batch, frames, positions, span, prompt) *
               static_cast<double>(window_passes(input.plan, input.latent_frames, input.steps));

  const std::int64_t width = config.width;
  const std::int64_t element = bytes_of(place.dtype);
  const std::int64_t residual = batch * frames * positions * width * element;
  const std::int64_t part =
      std::min(batch * frames * positions, std::max<std::int64_t>(2048, positions));
  const std::int64_t full = config.layout == dit::Layout::kFull ? 4 * residual : 0;
  const std::int64_t blocks = config.num_layers * (config.layout == dit::Layout::kStdit3 ? 2 : 1);
  const std::int64_t cached = input.num_scenes + 1;
  const std::int64_t prompt_keys = cached * batch * blocks * prompt * 2 * width * element;
  const std::int64_t texts =
      (2 + 2 * cached) * batch * input.max_length * config.caption_channels * element;
  const std::int64_t latents = input.latent_frames * input.latent_height * input.latent_width *
                               config.latent_channels * kFloatBytes;
  cost.working_bytes += 2 * residual + full + part * (6 * width + 2 * config.mlp_width) * element +
                        prompt_keys + texts + 10 * latents;
  return cost;
}

StageCost decode_cost(const vae::Autoencoder& vae,
                      const CostInput& input,
                      const tensor::Place& place) {
  StageCost cost{.name = "decode", .program_bytes = input.program_bytes};
  const std::int64_t rows = input.latent_height * vae.info().spatial_ratio;
  const std::int64_t columns = input.latent_width * vae.info().spatial_ratio;
  const vae::MemoryPlan plan = plan_memory(vae,
                                           {.direction = vae::Direction::kDecode,
                                            .frames = input.num_frames,
                                            .rows = rows,
                                            .columns = columns,
                                            .place = place});
  cost.gflop = 1e-9 * plan.flops;
  cost.mapped_bytes = plan.weight_bytes;
  // An H.264 encoder looks some 40 frames ahead and keeps several planes of each.
  constexpr std::int64_t kEncoderFrames = 60;
  constexpr std::int64_t kEncoderBytesPerPixel = 4;
  cost.working_bytes =
      plan.state_bytes + plan.activation_bytes + plan.clip_bytes +
      std::min(input.num_frames, kEncoderFrames) * kEncoderBytesPerPixel * rows * columns;
  return cost;
}

}  // namespace kinema::pipeline
