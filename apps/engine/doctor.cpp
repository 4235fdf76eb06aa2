// SPDX-License-Identifier: Apache-2.0
#include <chrono>
#include <functional>
#include <string>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <fmt/format.h>
#include <torch/version.h>

#include "apps/engine/commands.h"
#include "core/base/version.h"
#include "core/tensor/place.h"

namespace kinema::engine {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_of(const std::function<void()>& call) {
  const auto start = Clock::now();
  call();
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Best seconds of one call that follows a first one; slow calls are not repeated.
double best_seconds(const std::function<void()>& call) {
  double best = seconds_of(call);
  double sum = best;
  for (int i = 0; i < 20 && sum < 0.5; ++i) {
    const double seconds = seconds_of(call);
    best = std::min(best, seconds);
    sum += seconds;
  }
  return best;
}

struct Rate {
  std::int64_t size = 0;  ///< rows of the square matrices
  double gflops = 0;
};

// GFLOP/s of a square matrix product, as large as is quick here: some processors emulate bf16, a
// thousand times slower than fp32.
Rate matmul_rate(c10::ScalarType dtype) {
  const auto options = at::TensorOptions().dtype(dtype);
  Rate rate;
  for (std::int64_t size = 128; size <= 2048; size *= 2) {
    const at::Tensor a = at::full({size, size}, 0.5, options);
    const at::Tensor b = at::full({size, size}, 0.25, options);
    const double seconds = best_seconds([&] { static_cast<void>(at::mm(a, b)); });
    rate = {size, 2e-9 * static_cast<double>(size * size * size) / seconds};
    if (seconds > 0.1) {
      break;
    }
  }
  return rate;
}

// GB/s of reading one large tensor and writing another.
double copy_rate() {
  constexpr std::int64_t kElements = 64 << 20;
  const at::Tensor from = at::zeros({kElements});
  at::Tensor to = at::empty({kElements});
  const double seconds = best_seconds([&] { to.copy_(from); });
  return 2e-9 * 4 * static_cast<double>(kElements) / seconds;
}

}  // namespace

void doctor(const cli::CommonOptions& common, cli::Console& console) {
  const at::InferenceMode inference;
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  ProgressObserver& progress = console.progress();
  progress.on_stage("measure", 3, "rate");
  const Rate fp32 = matmul_rate(at::kFloat);
  progress.on_step(1, {{"fp32 GFLOP/s", fp32.gflops}});
  check_cancelled(progress, "engine.doctor");
  const Rate bf16 = matmul_rate(at::kBFloat16);
  progress.on_step(2, {{"bf16 GFLOP/s", bf16.gflops}});
  check_cancelled(progress, "engine.doctor");
  const double copy = copy_rate();
  progress.on_step(3, {});
  progress.on_stage_end();

  const OrderedJson result = {{"version", version()},
                              {"build", build_options()},
                              {"torch", TORCH_VERSION},
                              {"cpu_capability", at::get_cpu_capability()},
                              {"threads", at::get_num_threads()},
                              {"auto", tensor::to_string(place)},
                              {"matmul_fp32_gflops", fp32.gflops},
                              {"matmul_bf16_gflops", bf16.gflops},
                              {"copy_gb_per_second", copy}};
  console.finish(
      result,
      fmt::format("kinema     {} ({})\n"
                  "LibTorch   {}, kernels for {}, {} threads\n"
                  "auto       {}\n"
                  "matrices   fp32 {:.3g} GFLOP/s, bf16 {:.3g} GFLOP/s (square, {} and {} rows)\n"
                  "memory     {:.1f} GB/s read and written\n",
                  version(),
                  build_options(),
                  TORCH_VERSION,
                  at::get_cpu_capability(),
                  at::get_num_threads(),
                  tensor::to_string(place),
                  fp32.gflops,
                  bf16.gflops,
                  fp32.size,
                  bf16.size,
                  copy));
}

}  // namespace kinema::engine
