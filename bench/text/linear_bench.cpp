// SPDX-License-Identifier: Apache-2.0
// Matrix products of the text encoders: bf16 weights widened inside the product, against LibTorch
// with weights already in fp32 and against widening them first. Names: BM_x/tokens/in/out.
#include <ATen/core/grad_mode.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <benchmark/benchmark.h>

#include "core/nn/linear.h"

namespace kinema {
namespace {

struct Inputs {
  explicit Inputs(const benchmark::State& state)
      : x(at::randn({state.range(0), state.range(1)})),
        weight(at::randn({state.range(2), state.range(1)})),
        narrow(weight.to(at::kBFloat16)) {}

  at::NoGradGuard no_grad;
  Tensor x;
  Tensor weight;
  Tensor narrow;
};

template <typename Product>
void run(benchmark::State& state, const Product& product) {
  for (auto _ : state) {
    benchmark::DoNotOptimize(product());
  }
  const double flops = 2.0 * static_cast<double>(state.range(0) * state.range(1) * state.range(2));
  state.counters["GFLOP/s"] = benchmark::Counter(
      flops * static_cast<double>(state.iterations()) / 1e9, benchmark::Counter::kIsRate);
}

void BM_TorchFp32(benchmark::State& state) {
  const Inputs in(state);
  run(state, [&] { return at::linear(in.x, in.weight); });
}

void BM_WidenFirst(benchmark::State& state) {
  const Inputs in(state);
  run(state, [&] { return nn::linear_reference(in.x, in.narrow); });
}

void BM_WidenInside(benchmark::State& state) {
  const Inputs in(state);
  run(state, [&] { return nn::linear(in.x, in.narrow); });
}

void shapes(benchmark::internal::Benchmark* bench) {
  for (const std::int64_t tokens : {1, 8, 16, 77, 300, 512}) {
    bench->Args({tokens, 4096, 4096});
  }
  bench->Args({300, 4096, 10240})
      ->Args({300, 10240, 4096})
      ->UseRealTime()
      ->Unit(benchmark::kMillisecond);
}

BENCHMARK(BM_TorchFp32)->Apply(shapes);
BENCHMARK(BM_WidenFirst)->Apply(shapes);
BENCHMARK(BM_WidenInside)->Apply(shapes);

}  // namespace
}  // namespace kinema

BENCHMARK_MAIN();
