// SPDX-License-Identifier: Apache-2.0
// One guided denoising step of a transformer of the size of STDiT3-XL/2 (Open-Sora 1.2), with
// random weights made in memory: time, share of the measured matrix product rate, and peak memory.
// bench/rivals/stdit3.py runs the same step in plain PyTorch; --output and --weights let it compare
// results.
//
//   dit_bench [--layers 28] [--frames 15] [--rows 30] [--columns 53] [--runs 2] [--threads 2]
//             [--storage fp32|bf16] [--output FILE] [--weights FILE]
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <string>
#include <sys/resource.h>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>

#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "dit/modules/vdit_model.h"
#include "dit/vdit.h"

namespace kinema {
namespace {

using diffusion::Conditioning;
using dit::VideoDit;

struct Options {
  std::int64_t layers = 28;
  std::int64_t frames = 15;  ///< 51 frames at 240p: 15 x 30 x 53 latents
  std::int64_t rows = 30;
  std::int64_t columns = 53;
  std::int64_t tokens = 300;  ///< of the prompt
  int runs = 2;
  int threads = 2;
  std::string storage = "fp32";
  std::string output;
  std::string weights;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// Seconds that all threads of this process have computed: steadier than the clock on a machine
/// that others use.
double cpu_seconds() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double peak_resident_gb() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == "VmHWM:") {
      double kilobytes = 0.0;
      status >> kilobytes;
      return kilobytes * 1024.0 / 1e9;
    }
  }
  return 0.0;
}

struct Rate {
  double by_clock = 0.0;  ///< GFLOP/s
  double by_cpu = 0.0;    ///< GFLOP for each second of one thread
};

/// The model's commonest product, best of three.
Rate gemm_rate(std::int64_t tokens) {
  const Tensor x = at::randn({tokens, 1152}, at::kFloat);
  const Tensor weight = at::randn({4608, 1152}, at::kFloat);
  const double gflop = 2.0 * static_cast<double>(tokens) * 1152.0 * 4608.0 / 1e9;
  Rate rate;
  for (int run = 0; run < 3; ++run) {
    const double cpu = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    const Tensor y = at::linear(x, weight);
    rate.by_clock = std::max(rate.by_clock, gflop / seconds_since(start));
    rate.by_cpu = std::max(rate.by_cpu, gflop / (cpu_seconds() - cpu));
  }
  return rate;
}

/// Multiplications and additions of matrix products, attention included, prompt keys and values
/// not: they are computed once per prompt.
double step_gflop(const dit::VDitConfig& config, const Options& options) {
  const double width = static_cast<double>(config.width);
  const double frames = static_cast<double>(options.frames);
  const double positions =
      static_cast<double>((options.rows + 1) / 2 * ((options.columns + 1) / 2));
  const double tokens = 2.0 * frames * positions;
  const double linear = 2.0 * tokens * width * width * (3.0 + 1.0 + 2.0 + 8.0);
  const double prompt = 4.0 * tokens * static_cast<double>(options.tokens) * width;
  const double spatial = 4.0 * tokens * positions * width;
  const double temporal = 4.0 * tokens * frames * width;
  return static_cast<double>(config.num_layers) * (2.0 * (linear + prompt) + spatial + temporal) /
         1e9;
}

std::unique_ptr<VideoDit> make_model(const Options& options) {
  dit::VDitConfig config;  // STDiT3-XL/2
  config.num_layers = options.layers;
  const c10::ScalarType storage = options.storage == "bf16" ? c10::kBFloat16 : c10::kFloat;
  auto model = VideoDit::create(config, 1);
  at::NoGradGuard no_grad;
  // Parts that start at zero would make the comparison blind.
  auto generator = at::make_generator<at::CPUGeneratorImpl>(2);
  for (Tensor& parameter : model->module()->parameters()) {
    parameter.add_(at::randn(parameter.sizes(), generator, at::kFloat), 0.01);
    parameter.set_data(parameter.to(storage));
  }
  return model;
}

void save_weights(const VideoDit& model, const std::string& path) {
  TensorMap tensors;
  for (const auto& item : model.module()->named_parameters()) {
    tensors.emplace(item.key(), item.value().detach());
  }
  for (const auto& item : model.module()->named_buffers()) {
    tensors.emplace(item.key(), item.value());
  }
  tensor::save_tensors(path, tensors);
}

void run(const Options& options) {
  at::set_num_threads(options.threads);
  const auto model = make_model(options);
  if (!options.weights.empty()) {
    save_weights(*model, options.weights);
  }
  const double weights_gb = peak_resident_gb();
  auto generator = at::make_generator<at::CPUGeneratorImpl>(3);
  const Tensor latents =
      at::randn({1, 4, options.frames, options.rows, options.columns}, generator, at::kFloat);
  const auto two = [](double value) { return at::full({2}, value, at::kFloat); };
  Conditioning conditioning;
  conditioning.context_BMD = at::randn({2, options.tokens, 4096}, generator, at::kFloat) * 0.2;
  conditioning.fps_B = two(24.0);
  conditioning.height_B = two(static_cast<double>(options.rows) * 8.0);
  conditioning.width_B = two(static_cast<double>(options.columns) * 8.0);
  const Tensor batch = at::cat({latents, latents});
  const Tensor times = two(700.0);
  std::vector<double> seconds;
  std::vector<double> cpu;
  Tensor output;
  for (int i = 0; i < options.runs; ++i) {
    const double cpu_start = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    output = model->predict(batch, times, conditioning);
    seconds.push_back(seconds_since(start));
    cpu.push_back(cpu_seconds() - cpu_start);
    std::fprintf(stderr, "step %d: %.2f s\n", i + 1, seconds.back());
  }
  const double peak_gb = peak_resident_gb();
  if (!options.output.empty()) {
    tensor::save_tensors(
        options.output,
        {{"latents", latents}, {"context", conditioning.context_BMD}, {"output", output}});
  }
  const double best = *std::min_element(seconds.begin(), seconds.end());
  const double gflop = step_gflop(model->config(), options);
  const double best_cpu = *std::min_element(cpu.begin(), cpu.end());
  const Rate rate = gemm_rate(12150);
  const Json result = {{"program", "kinema dit_bench"},
                       {"storage", options.storage},
                       {"layers", options.layers},
                       {"latents", {options.frames, options.rows, options.columns}},
                       {"threads", options.threads},
                       {"parameters", model->info().num_parameters},
                       {"seconds", seconds},
                       {"best_seconds", best},
                       {"cpu_seconds", cpu},
                       {"best_cpu_seconds", best_cpu},
                       {"gflop", gflop},
                       {"gflops", gflop / best},
                       {"gemm_fp32_gflops", rate.by_clock},
                       {"share_of_gemm_rate", gflop / best / rate.by_clock},
                       {"gemm_fp32_gflop_per_cpu_second", rate.by_cpu},
                       {"share_of_gemm_rate_by_cpu", gflop / best_cpu / rate.by_cpu},
                       {"peak_before_step_gb", weights_gb},
                       {"peak_resident_gb", peak_gb},
                       {"prompt_cache_gb", static_cast<double>(model->prompt_cache_bytes()) / 1e9}};
  std::printf("%s\n", result.dump(1).c_str());
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--layers") {
      options.layers = std::stoll(value);
    } else if (name == "--frames") {
      options.frames = std::stoll(value);
    } else if (name == "--rows") {
      options.rows = std::stoll(value);
    } else if (name == "--columns") {
      options.columns = std::stoll(value);
    } else if (name == "--runs") {
      options.runs = std::max(1, std::stoi(value));
    } else if (name == "--threads") {
      options.threads = std::stoi(value);
    } else if (name == "--storage") {
      options.storage = value;
    } else if (name == "--output") {
      options.output = value;
    } else if (name == "--weights") {
      options.weights = value;
    } else {
      return false;
    }
  }
  return argc % 2 == 1 && (options.storage == "fp32" || options.storage == "bf16");
}

}  // namespace
}  // namespace kinema

int main(int argc, char** argv) {
  try {
    kinema::Options options;
    if (!kinema::parse(argc, argv, options)) {
      std::fprintf(stderr, "usage: see the head of bench/dit/dit_bench.cpp\n");
      return 2;
    }
    kinema::run(options);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
