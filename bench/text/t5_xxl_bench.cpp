// SPDX-License-Identifier: Apache-2.0
// Time and memory of a T5 encoder of any size, by default the full T5-XXL shape with random bf16
// weights (4,762,310,656 parameters, 9.5 GB). bench/rivals/t5.py runs transformers on the same
// folder and ids.
//
//   t5_xxl_bench --make /tmp/xxl                 writes config.json and sharded safetensors
//   t5_xxl_bench --model /tmp/xxl --tokens 300   prints one JSON object
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <ctime>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "core/tensor/place.h"
#include "text/t5_config.h"
#include "text/text_encoder.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string make;
  std::string model;
  std::string output;
  std::string dtype = "auto";
  std::int64_t layers = 24;
  std::int64_t tokens = 300;
  int runs = 3;
  int threads = 2;
};

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

double process_cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

/// Shape and standard deviation of every tensor of one block (block 0 also holds the bias table),
/// so that activations keep a sensible size through all layers.
struct Spec {
  std::string name;
  std::vector<std::int64_t> shape;
  double deviation;  ///< 0: all ones
};

std::vector<Spec> block_specs(const text::T5Config& config, std::int64_t block) {
  const std::string prefix = "encoder.block." + std::to_string(block) + ".layer.";
  const std::string attention = prefix + "0.SelfAttention.";
  const std::string dense = prefix + "1.DenseReluDense.";
  const std::int64_t inner = config.num_heads * config.d_kv;
  const auto root = [](std::int64_t size) { return 1.0 / std::sqrt(static_cast<double>(size)); };
  const double from_model = root(config.d_model);
  std::vector<Spec> specs = {
      {attention + "q.weight", {inner, config.d_model}, from_model * root(config.d_kv)},
      {attention + "k.weight", {inner, config.d_model}, from_model},
      {attention + "v.weight", {inner, config.d_model}, from_model},
      {attention + "o.weight", {config.d_model, inner}, root(inner)},
      {prefix + "0.layer_norm.weight", {config.d_model}, 0.0},
      {dense + "wi_0.weight", {config.d_ff, config.d_model}, from_model},
      {dense + "wi_1.weight", {config.d_ff, config.d_model}, from_model},
      {dense + "wo.weight", {config.d_model, config.d_ff}, root(config.d_ff)},
      {prefix + "1.layer_norm.weight", {config.d_model}, 0.0}};
  if (block == 0) {
    specs.push_back({attention + "relative_attention_bias.weight",
                     {config.relative_attention_num_buckets, config.num_heads},
                     1.0});
  }
  return specs;
}

void make_model(const Options& options) {
  text::T5Config config;
  config.num_layers = options.layers;
  const fs::path folder = options.make;
  fs::create_directories(folder);
  write_file((folder / "config.json").string(), config.to_json().dump(1));
  constexpr std::int64_t kBlocksPerShard = 5;
  const std::int64_t num_shards = (config.num_layers + kBlocksPerShard - 1) / kBlocksPerShard;
  auto generator = at::make_generator<at::CPUGeneratorImpl>(1234);
  Json weight_map;
  for (std::int64_t shard = 0; shard < num_shards; ++shard) {
    std::vector<Spec> specs;
    if (shard == 0) {
      specs = {{"shared.weight", {config.vocab_size, config.d_model}, 1.0},
               {"encoder.final_layer_norm.weight", {config.d_model}, 0.0}};
    }
    for (std::int64_t i = shard * kBlocksPerShard;
         i < std::min(config.num_layers, (shard + 1) * kBlocksPerShard);
         ++i) {
      const auto block = block_specs(config, i);
      specs.insert(specs.end(), block.begin(), block.end());
    }
    char name[64];
    std::snprintf(name,
                  sizeof(name),
                  "model-%05d-of-%05d.safetensors",
                  static_cast<int>(shard + 1),
                  static_cast<int>(num_shards));
    TensorMap tensors;
    for (const Spec& spec : specs) {
      Tensor values = at::ones(spec.shape, at::kFloat);
      if (spec.deviation > 0.0) {
        values.normal_(0.0, spec.deviation, generator);
      }
      tensors.emplace(spec.name, values.to(at::kBFloat16));
      weight_map[spec.name] = name;
    }
    tensor::save_tensors((folder / name).string(), tensors);
    std::fprintf(stderr, "wrote %s\n", name);
  }
  const Json index = {{"metadata", Json::object()}, {"weight_map", weight_map}};
  write_file((folder / "model.safetensors.index.json").string(), index.dump(1));
}

/// Rate of one matrix product of the model's own shape, GFLOP/s.
double gemm_rate(c10::ScalarType dtype, std::int64_t tokens) {
  const Tensor x = at::randn({tokens, 4096}, at::kFloat).to(dtype);
  const Tensor weight = at::randn({4096, 4096}, at::kFloat).to(dtype);
  double best = 1e9;
  for (int run = 0; run < 3; ++run) {
    const auto start = std::chrono::steady_clock::now();
    const Tensor y = at::linear(x, weight);
    best = std::min(best, seconds_since(start));
  }
  return 2.0 * static_cast<double>(tokens) * 4096.0 * 4096.0 / best / 1e9;
}

/// Highest resident memory of this process so far, bytes.
std::int64_t peak_resident_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == "VmHWM:") {
      std::int64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  }
  return 0;
}

/// Anonymous (heap) memory of this process now, bytes; mapped weights are not in it.
std::int64_t anonymous_bytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == "RssAnon:") {
      std::int64_t kilobytes = 0;
      status >> kilobytes;
      return kilobytes * 1024;
    }
  }
  return 0;
}

void run_model(const Options& options) {
  at::set_num_threads(options.threads);
  const tensor::Place place = tensor::parse_place("cpu", options.dtype);
  auto start = std::chrono::steady_clock::now();
  const auto encoder = text::TextEncoder::load(options.model, place);
  const double load_seconds = seconds_since(start);
  Tensor ids_BM = (at::arange(options.tokens, at::kLong) * 7919 + 13)
                      .remainder(encoder->info().vocab_size)
                      .unsqueeze(0);
  std::vector<double> seconds;
  std::vector<double> cpu_seconds;  // of all threads; says more than seconds on a shared machine
  Tensor context_BMD;
  for (int run = 0; run < options.runs; ++run) {
    const double cpu_start = process_cpu_seconds();
    start = std::chrono::steady_clock::now();
    context_BMD = encoder->encode(ids_BM).context_BMD;
    seconds.push_back(seconds_since(start));
    cpu_seconds.push_back(process_cpu_seconds() - cpu_start);
    std::fprintf(stderr, "run %d: %.2f s\n", run + 1, seconds.back());
  }
  if (!options.output.empty()) {
    tensor::save_tensors(options.output,
                         {{"context", context_BMD.to(at::kFloat)}, {"ids", ids_BM}});
  }
  const double peak = static_cast<double>(peak_resident_bytes()) / 1e9;
  const double anonymous = static_cast<double>(anonymous_bytes()) / 1e9;
  const Json result = {{"program", "kinema t5_xxl_bench"},
                       {"place", tensor::to_string(place)},
                       {"threads", options.threads},
                       {"tokens", options.tokens},
                       {"parameters", encoder->info().num_parameters},
                       {"weight_gb", static_cast<double>(encoder->info().num_weight_bytes) / 1e9},
                       {"load_seconds", load_seconds},
                       {"seconds", seconds},
                       {"cpu_seconds", cpu_seconds},
                       {"best_seconds", *std::min_element(seconds.begin(), seconds.end())},
                       {"peak_resident_gb", peak},
                       {"heap_gb", anonymous},
                       {"gemm_fp32_gflops", gemm_rate(at::kFloat, options.tokens)},
                       {"gemm_bf16_gflops", gemm_rate(at::kBFloat16, options.tokens)}};
  std::printf("%s\n", result.dump(1).c_str());
}

int run(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const std::string value = argv[i + 1];
    if (name == "--make") {
      options.make = value;
    } else if (name == "--model") {
      options.model = value;
    } else if (name == "--output") {
      options.output = value;
    } else if (name == "--dtype") {
      options.dtype = value;
    } else if (name == "--layers") {
      options.layers = std::stoll(value);
    } else if (name == "--tokens") {
      options.tokens = std::stoll(value);
    } else if (name == "--runs") {
      options.runs = std::max(1, std::stoi(value));
    } else if (name == "--threads") {
      options.threads = std::stoi(value);
    } else {
      options.make.clear();
      options.model.clear();
      break;
    }
  }
  if (options.make.empty() && options.model.empty()) {
    std::fprintf(stderr,
                 "usage: t5_xxl_bench --make DIR [--layers N]\n"
                 "       t5_xxl_bench --model DIR [--tokens N] [--runs N] [--dtype auto|fp32|bf16] "
                 "[--threads N] [--output FILE.safetensors]\n");
    return 2;
  }
  if (!options.make.empty()) {
    make_model(options);
  }
  if (!options.model.empty()) {
    run_model(options);
  }
  return 0;
}

}  // namespace
}  // namespace kinema

int main(int argc, char** argv) {
  try {
    return kinema::run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
