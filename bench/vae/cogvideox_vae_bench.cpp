// SPDX-License-Identifier: Apache-2.0
// Time and peak memory of the full-size CogVideoX autoencoder, to set beside diffusers
// (bench/rivals/cogvideox_vae.py) on the same weights and inputs.
//
//   cogvideox_vae_bench --make DIR                       writes config.json and random weights
//   cogvideox_vae_bench --model DIR --mode encode|decode [--frames N] [--size N] [--runs N]
//                       [--dtype fp32|bf16] [--output FILE.safetensors]
//
// Prints one JSON object; --output keeps the result for the rival's --compare.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <sys/resource.h>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/matmul.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/sin.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "vae/autoencoder.h"
#include "vae/cogvideox_vae.h"

namespace kinema {
namespace {

struct Options {
  std::string make, model, output, mode = "decode", dtype = "fp32";
  std::int64_t frames = 9;
  std::int64_t size = 256;
  int runs = 1;
};

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void make_model(const std::string& folder) {
  const at::NoGradGuard no_grad;
  const vae::CogVideoXVaeConfig config;
  const vae::CogVideoXVae network(config);
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1);
  TensorMap weights;
  for (const auto& item : network->named_parameters()) {
    const Tensor& p = item.value();
    const bool is_scale = p.dim() == 1 && item.key().find("norm") != std::string::npos &&
                          item.key().ends_with("weight");
    const double fan_in = p.dim() > 1 ? static_cast<double>(p[0].numel()) : 100.0;
    weights[item.key()] =
        at::randn(p.sizes(), generator) / std::sqrt(fan_in) + (is_scale ? 1.0 : 0.0);
  }
  std::filesystem::create_directories(folder);
  write_file(folder + "/config.json", config.to_json().dump(2));
  tensor::save_tensors(folder + "/diffusion_pytorch_model.safetensors", weights);
}

/// The same numbers in both programs: sin(0.1 i) of the flat index.
Tensor make_input(at::IntArrayRef shape) {
  return at::sin(at::arange(c10::multiply_integers(shape), at::kDouble) * 0.1)
      .to(at::kFloat)
      .view(shape);
}

double gemm_rate() {
  const Tensor a = at::randn({2048, 2048});
  double best = 1e30;
  for (int i = 0; i < 3; ++i) {
    const auto start = Clock::now();
    static_cast<void>(at::matmul(a, a));
    best = std::min(best, seconds_since(start));
  }
  return 2.0 * 2048 * 2048 * 2048 / best / 1e9;
}

/// Time of all threads on a processor, which other work on the machine changes less than the clock.
double processor_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double peak_megabytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

void measure(const Options& options) {
  const auto place = tensor::parse_place("cpu", options.dtype);
  const auto autoencoder = vae::Autoencoder::load(options.model, place);
  const std::int64_t ratio = autoencoder->info().spatial_ratio;
  const bool encoding = options.mode == "encode";
  const Tensor input = encoding ? make_input({1, 3, options.frames, options.size, options.size})
                                : make_input({1,
                                              autoencoder->info().latent_channels,
                                              autoencoder->latent_frames(options.frames),
                                              options.size / ratio,
                                              options.size / ratio});
  Tensor result;
  double best = 1e30;
  double best_processor = 1e30;
  for (int run = 0; run < options.runs; ++run) {
    result = Tensor();
    const auto start = Clock::now();
    const double processor_start = processor_seconds();
    result = encoding ? autoencoder->encode(input).mode() : autoencoder->decode(input);
    best = std::min(best, seconds_since(start));
    best_processor = std::min(best_processor, processor_seconds() - processor_start);
  }
  const double peak = peak_megabytes();
  if (!options.output.empty()) {
    tensor::save_tensors(options.output, {{"result", result.to(at::kFloat).contiguous()}});
  }
  const Json report = {{"program", "kinema"},
                       {"mode", options.mode},
                       {"frames", options.frames},
                       {"size", options.size},
                       {"dtype", options.dtype},
                       {"threads", at::get_num_threads()},
                       {"seconds", best},
                       {"processor_seconds", best_processor},
                       {"peak_rss_mb", peak},
                       {"gemm_gflops", gemm_rate()}};
  std::printf("%s\n", report.dump().c_str());
}

Options parse(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--make") {
      options.make = value;
    } else if (name == "--model") {
      options.model = value;
    } else if (name == "--mode") {
      options.mode = value;
    } else if (name == "--frames") {
      options.frames = std::stoll(value);
    } else if (name == "--size") {
      options.size = std::stoll(value);
    } else if (name == "--runs") {
      options.runs = std::stoi(value);
    } else if (name == "--dtype") {
      options.dtype = value;
    } else if (name == "--output") {
      options.output = value;
    } else {
      std::fprintf(stderr, "unknown option %s\n", name.c_str());
      std::exit(2);
    }
  }
  return options;
}

}  // namespace
}  // namespace kinema

int main(int argc, char** argv) {
  try {
    const kinema::Options options = kinema::parse(argc, argv);
    if (!options.make.empty()) {
      kinema::make_model(options.make);
    } else if (!options.model.empty()) {
      kinema::measure(options);
    } else {
      std::fprintf(stderr, "give --make DIR or --model DIR\n");
      return 2;
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
