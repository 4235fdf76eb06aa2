// SPDX-License-Identifier: Apache-2.0
// Normal numbers per second on one thread: each instruction set, the plain oracle, LibTorch's CPU
// generator and the standard library, in one run. `items_per_second` is numbers per second.
// The buffer is a latent of 16 x 21 x 60 x 104 (832 x 480, 81 frames) unless the name says else.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <benchmark/benchmark.h>

#include "core/kernels/bf16.h"
#include "core/kernels/noise.h"

namespace kinema::kernels {
namespace {

constexpr std::uint32_t kChannels = 16;
constexpr std::uint32_t kFrames = 21;
constexpr std::uint32_t kRows = 60;

NoiseRegion latents(std::uint32_t columns) {
  NoiseRegion region;
  region.key = noise_key(1, "latents", Draw::kNormal, Addressing::kGrid);
  region.num_frames = kFrames;
  region.num_channels = kChannels;
  region.num_rows = kRows;
  region.num_columns = columns;
  region.row_stride = columns;
  region.frame_stride = region.row_stride * kRows;
  region.channel_stride = region.frame_stride * kFrames;
  return region;
}

std::size_t count(const NoiseRegion& region) {
  return count_rows(region) * region.num_columns;
}

void report(benchmark::State& state, std::size_t numbers) {
  const auto total = static_cast<std::int64_t>(numbers) * state.iterations();
  state.SetItemsProcessed(total);
  state.SetBytesProcessed(total * static_cast<std::int64_t>(sizeof(float)));
}

void fill_normal_isa(benchmark::State& state, Isa isa) {
  const NoiseRegion region = latents(static_cast<std::uint32_t>(state.range(0)));
  std::vector<float> out(count(region));
  for (auto _ : state) {
    fill_normal(out.data(), region, {}, isa);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  report(state, out.size());
}

void fill_uniform_isa(benchmark::State& state, Isa isa) {
  const NoiseRegion region = latents(104);
  std::vector<float> out(count(region));
  for (auto _ : state) {
    fill_uniform(out.data(), region, {}, isa);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  report(state, out.size());
}

void narrow_isa(benchmark::State& state, Isa isa) {
  const std::vector<float> in(std::size_t{1} << 20U, 0.7F);
  std::vector<std::uint16_t> out(in.size());
  for (auto _ : state) {
    narrow_bf16(out.data(), in.data(), in.size(), isa);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  report(state, out.size());
}

void BM_NormalReference(benchmark::State& state) {
  const NoiseRegion region = latents(104);
  std::vector<float> out(count(region));
  for (auto _ : state) {
    reference::fill_normal(out.data(), region);
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  report(state, out.size());
}
BENCHMARK(BM_NormalReference)->Unit(benchmark::kMillisecond);

/// LibTorch's own CPU generator into memory that is already there, as at::randn does inside.
void BM_NormalTorch(benchmark::State& state) {
  at::set_num_threads(1);
  at::Tensor out = at::empty({static_cast<std::int64_t>(count(latents(104)))}, at::kFloat);
  for (auto _ : state) {
    out.normal_();
    benchmark::DoNotOptimize(out.data_ptr());
    benchmark::ClobberMemory();
  }
  report(state, static_cast<std::size_t>(out.numel()));
}
BENCHMARK(BM_NormalTorch)->Unit(benchmark::kMillisecond);

void BM_NormalStandardLibrary(benchmark::State& state) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<float> out(count(latents(104)));
  for (auto _ : state) {
    std::ranges::generate(out, [&] { return normal(random); });
    benchmark::DoNotOptimize(out.data());
    benchmark::ClobberMemory();
  }
  report(state, out.size());
}
BENCHMARK(BM_NormalStandardLibrary)->Unit(benchmark::kMillisecond);

void register_isas() {
  for (const Isa isa : {Isa::kBaseline, Isa::kAvx2, Isa::kAvx512}) {
    if (!is_supported(isa)) {
      continue;
    }
    const std::string name(to_string(isa));
    // Widths of a latent row: 832 x 480, 1280 x 720, and one that leaves lanes idle.
    benchmark::RegisterBenchmark(("BM_Normal/" + name).c_str(), fill_normal_isa, isa)
        ->ArgName("columns")
        ->Arg(104)
        ->Arg(160)
        ->Arg(37)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("BM_Uniform/" + name).c_str(), fill_uniform_isa, isa)
        ->Unit(benchmark::kMillisecond);
    benchmark::RegisterBenchmark(("BM_NarrowBf16/" + name).c_str(), narrow_isa, isa)
        ->Unit(benchmark::kMillisecond);
  }
}

}  // namespace
}  // namespace kinema::kernels

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) {
    return 2;
  }
  kinema::kernels::register_isas();
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
