// SPDX-License-Identifier: Apache-2.0
// vae_bench: time and peak memory of the autoencoders at full size with random weights, as JSON.
//
//   vae_bench --make DIR [--size N]      writes an SD autoencoder (config.json, weights) and inputs
//   vae_bench --model DIR --op decode|encode [--runs N] [--output FILE]
//   vae_bench --vidvae --op decode|encode --rows R --columns C --latents T [--base N] [--compact]
//             [--state-mb N] [--folder DIR]    one latent at a time; --base 128 is full size
//   vae_bench --rate                     convolution rate of LibTorch on this machine
//
// bench/rivals/vae.py measures diffusers on the folder that --make wrote. One process measures one
// thing, because the peak is that of the process.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <map>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/conv2d.h>
#include <ATen/ops/randn.h>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "vae/autoencoder.h"
#include "vae/memory_plan.h"
#include "vae/sd_vae.h"
#include "vae/vid_vae.h"

namespace kinema::vae {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

rusage resource_usage() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return usage;
}

double peak_resident_gb() {
  return static_cast<double>(resource_usage().ru_maxrss) * 1024.0 / 1e9;
}

/// Time of all threads on a processor, which other work on the machine changes less than the clock.
double processor_seconds() {
  const rusage usage = resource_usage();
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

/// Options "--name value" and flags "--name".
class Arguments {
 public:
  Arguments(int argc, char** argv) {
    for (int i = 1; i < argc; ++i) {
      const std::string name = argv[i];
      const bool has_value = i + 1 < argc && std::strncmp(argv[i + 1], "--", 2) != 0;
      values_[name] = has_value ? argv[++i] : "";
    }
  }
  [[nodiscard]] bool has(const std::string& name) const { return values_.contains(name); }
  [[nodiscard]] std::string text(const std::string& name, const std::string& fallback = "") const {
    const auto found = values_.find(name);
    return found == values_.end() ? fallback : found->second;
  }
  [[nodiscard]] std::int64_t number(const std::string& name, std::int64_t fallback) const {
    return has(name) ? std::stoll(values_.at(name)) : fallback;
  }

 private:
  std::map<std::string, std::string> values_;
};

/// Billions of operations per second of LibTorch's convolutions, best of three, at the shapes of a
/// decoder. The best of both memory layouts.
Json convolution_rate() {
  const at::NoGradGuard no_grad;
  Json rates = Json::object();
  struct Shape {
    std::int64_t channels, edge;
  };
  for (const Shape shape : {Shape{512, 64}, Shape{256, 256}, Shape{128, 512}}) {
    double best = 0.0;
    for (const auto layout : {at::MemoryFormat::Contiguous, at::MemoryFormat::ChannelsLast}) {
      const Tensor x = at::randn({1, shape.channels, shape.edge, shape.edge}).contiguous(layout);
      const Tensor w = at::randn({shape.channels, shape.channels, 3, 3}).contiguous(layout);
      for (int run = 0; run < 4; ++run) {
        const auto start = Clock::now();
        static_cast<void>(at::conv2d(x, w, {}, 1, 1));
        const double operations = 2.0 * 9.0 * static_cast<double>(shape.channels) *
                                  static_cast<double>(shape.channels) *
                                  static_cast<double>(shape.edge) * static_cast<double>(shape.edge);
        best = std::max(best, operations / seconds_since(start) / 1e9);
      }
    }
    rates[std::to_string(shape.channels) + "x" + std::to_string(shape.edge)] = best;
  }
  return rates;
}

/// Random weights that keep activations near unit size.
void randomise(torch::nn::Module& module) {
  const at::NoGradGuard no_grad;
  for (auto& item : module.named_parameters()) {
    Tensor& p = item.value();
    const bool is_norm_weight = item.key().find("norm") != std::string::npos && p.dim() == 1 &&
                                item.key().ends_with("weight");
    const double fan_in = p.dim() > 1 ? static_cast<double>(p[0].numel()) : 400.0;
    p.copy_(at::randn(p.sizes()) / std::sqrt(fan_in) + (is_norm_weight ? 1.0 : 0.0));
  }
}

void make_folder(const std::string& folder, std::int64_t edge) {
  std::filesystem::create_directories(folder);
  const Json config = {{"_class_name", "AutoencoderKL"},
                       {"act_fn", "silu"},
                       {"block_out_channels", {128, 256, 512, 512}},
                       {"down_block_types", std::vector<std::string>(4, "DownEncoderBlock2D")},
                       {"up_block_types", std::vector<std::string>(4, "UpDecoderBlock2D")},
                       {"in_channels", 3},
                       {"out_channels", 3},
                       {"latent_channels", 4},
                       {"layers_per_block", 2},
                       {"norm_num_groups", 32},
                       {"sample_size", 512},
                       {"scaling_factor", 0.18215}};
  std::ofstream(folder + "/config.json") << config.dump(1);
  at::manual_seed(1);
  SdVae network(SdVaeConfig::from_json(config, "config", null_logger()));
  randomise(*network);
  TensorMap weights;
  for (const auto& item : network->named_parameters()) {
    weights[item.key()] = item.value().detach();
  }
  tensor::save_tensors(folder + "/diffusion_pytorch_model.safetensors", weights);
  std::filesystem::create_directories(folder + "/inputs");
  tensor::save_tensors(folder + "/inputs/inputs.safetensors",
                       {{"image", at::rand({1, 3, edge, edge}) * 2 - 1},
                        {"latents", at::randn({1, 4, edge / 8, edge / 8})}});
}

Json measure_image(const Arguments& arguments) {
  const std::string folder = arguments.text("--model");
  const bool decodes = arguments.text("--op", "decode") == "decode";
  const auto start = Clock::now();
  const auto vae = Autoencoder::load(folder, {});
  const double load_seconds = seconds_since(start);
  const TensorMap inputs = tensor::load_tensors(folder + "/inputs/inputs.safetensors");
  std::vector<double> seconds;
  std::vector<double> processor;
  Tensor output;
  for (std::int64_t run = 0; run < arguments.number("--runs", 1); ++run) {
    output = Tensor();
    const auto begin = Clock::now();
    const double processor_begin = processor_seconds();
    output = decodes ? vae->decode(inputs.at("latents").unsqueeze(2))
                     : vae->encode(inputs.at("image").unsqueeze(2)).mode();
    seconds.push_back(seconds_since(begin));
    processor.push_back(processor_seconds() - processor_begin);
  }
  if (arguments.has("--output")) {
    tensor::save_tensors(arguments.text("--output"), {{"output", output.squeeze(2)}});
  }
  return {{"program", "kinema vae_bench"},
          {"model", "AutoencoderKL"},
          {"op", decodes ? "decode" : "encode"},
          {"shape", inputs.at("image").sizes().vec()},
          {"load_seconds", load_seconds},
          {"seconds", seconds},
          {"best_seconds", *std::min_element(seconds.begin(), seconds.end())},
          {"best_processor_seconds", *std::min_element(processor.begin(), processor.end())}};
}

/// Streams a clip, one latent at a time, and throws the results away as they come.
Json measure_video(const Arguments& arguments) {
  const bool decodes = arguments.text("--op", "decode") == "decode";
  const std::int64_t rows = arguments.number("--rows", 720);
  const std::int64_t columns = arguments.number("--columns", 1280);
  const std::int64_t latents = arguments.number("--latents", 3);
  const bool compact = arguments.has("--compact");
  StateMemory memory;
  memory.max_bytes = arguments.number("--state-mb", memory.max_bytes >> 20) << 20;
  memory.folder = arguments.text("--folder");
  VidVaeConfig config;
  config.base = arguments.number("--base", config.base);
  config.groups = std::min(config.groups, config.base);
  at::manual_seed(2);
  VidVae network(config);
  randomise(*network);
  const Autoencoder vae(make_vid_vae_codec(std::move(network), {}));
  const MemoryPlan plan =
      plan_memory(vae,
                  {.direction = decodes ? Direction::kDecode : Direction::kEncode,
                   .frames = vae.video_frames(latents),
                   .rows = rows,
                   .columns = columns,
                   .compact_state = compact,
                   .state_memory = memory});
  const std::int64_t frames = vae.video_frames(latents);
  const auto start = Clock::now();
  const double processor_begin = processor_seconds();
  std::int64_t made = 0;
  // About sixteen marks, the last one at the end.
  const std::int64_t interval = std::max<std::int64_t>(1, latents / 16);
  Json marks = Json::array();
  const auto mark = [&](std::int64_t t) {
    if ((t + 1) % interval == 0 || t + 1 == latents) {
      marks.push_back({{"frames", made},
                       {"seconds", seconds_since(start)},
                       {"peak_resident_gb", peak_resident_gb()}});
      std::cerr << marks.back().dump() << "\n";
    }
  };
  std::int64_t state_bytes = 0;
  if (decodes) {
    const auto stream = vae.decode_stream({.compact_state = compact, .state_memory = memory});
    for (std::int64_t t = 0; t < latents; ++t) {
      const auto part = stream->push(at::randn({1, 4, 1, rows / 8, columns / 8}));
      made += part.has_value() ? part->size(2) : 0;
      mark(t);
    }
    state_bytes = stream->state_bytes();
  } else {
    const auto stream = vae.encode_stream({.compact_state = compact, .state_memory = memory});
    for (std::int64_t t = 0; t < latents; ++t) {
      const std::int64_t fresh = t == 0 ? 1 : 4;
      const auto part = stream->push(at::rand({1, 3, fresh, rows, columns}) * 2 - 1);
      made += part.has_value() ? fresh : 0;
      mark(t);
    }
    state_bytes = stream->state_bytes();
  }
  return {{"program", "kinema vae_bench"},
          {"model", "VidVAE"},
          {"parameters", vae.info().num_parameters},
          {"op", decodes ? "decode" : "encode"},
          {"rows", rows},
          {"columns", columns},
          {"frames", frames},
          {"compact_state", compact},
          {"state_gb", static_cast<double>(state_bytes) / 1e9},
          {"planned_peak_gb", static_cast<double>(plan.peak_bytes) / 1e9},
          {"planned_file_gb", static_cast<double>(plan.file_bytes) / 1e9},
          {"tera_operations", plan.flops / 1e12},
          {"marks", marks},
          {"seconds_per_frame", seconds_since(start) / static_cast<double>(frames)},
          {"processor_seconds", processor_seconds() - processor_begin}};
}

int run(const Arguments& arguments) {
  if (arguments.has("--threads")) {
    at::set_num_threads(static_cast<int>(arguments.number("--threads", 2)));
  }
  Json result;
  if (arguments.has("--make")) {
    make_folder(arguments.text("--make"), arguments.number("--size", 512));
    return 0;
  }
  if (arguments.has("--rate")) {
    result = {{"convolution_gflops", convolution_rate()}};
  } else if (arguments.has("--vidvae")) {
    result = measure_video(arguments);
  } else if (arguments.has("--model")) {
    result = measure_image(arguments);
  } else {
    std::cerr << "usage: vae_bench --make DIR | --model DIR --op decode|encode | --vidvae --op "
                 "decode|encode | --rate\n";
    return 2;
  }
  result["threads"] = at::get_num_threads();
  result["peak_resident_gb"] = peak_resident_gb();
  std::cout << result.dump(1) << "\n";
  return 0;
}

}  // namespace
}  // namespace kinema::vae

int main(int argc, char** argv) {
  try {
    return kinema::vae::run(kinema::vae::Arguments(argc, argv));
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 1;
  }
}
