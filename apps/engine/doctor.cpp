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

// Best seconds of one call, over at least three calls and half a second.
double best_seconds(const std::function<void()>& call) {
  call();
  double best = 1e9;
  double sum = 0;
  for (int i = 0; i < 3 || sum < 0.5; ++i) {
    const auto start = Clock::now();
    call();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    sum += seconds;
  }
  return best;
}

// GFLOP/s of a square matrix product.
double matmul_rate(c10::ScalarType dtype, std::int64_t size) {
  const auto options = at::TensorOptions().dtype(dtype);
  const at::Tensor a = at::full({size, size}, 0.5, options);
  const at::Tensor b = at::full({size, size}, 0.25, options);
  const double seconds = best_seconds([&] { at::mm(a, b); });
  return 2e-9 * static_cast<double>(size * size * size) / seconds;
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
  const double fp32 = matmul_rate(at::kFloat, 2048);
  progress.on_step(1, {{"fp32 GFLOP/s", fp32}});
  check_cancelled(progress, "engine.doctor");
  const double bf16 = matmul_rate(at::kBFloat16, 2048);
  progress.on_step(2, {{"bf16 GFLOP/s", bf16}});
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
                              {"matmul_fp32_gflops", fp32},
                              {"matmul_bf16_gflops", bf16},
                              {"copy_gb_per_second", copy}};
  console.finish(result,
                 fmt::format("kinema     {} ({})\n"
                             "LibTorch   {}, kernels for {}, {} threads\n"
                             "auto       {}\n"
                             "matrices   fp32 {:.0f} GFLOP/s, bf16 {:.0f} GFLOP/s (2048 x 2048)\n"
                             "memory     {:.1f} GB/s read and written\n",
                             version(),
                             build_options(),
                             TORCH_VERSION,
                             at::get_cpu_capability(),
                             at::get_num_threads(),
                             tensor::to_string(place),
                             fp32,
                             bf16,
                             copy));
}

}  // namespace kinema::engine
