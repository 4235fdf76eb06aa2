// SPDX-License-Identifier: Apache-2.0
// Noise tensors: windows, batches, threads and parts never change a bit.
#include "core/tensor/noise.h"

#include <cstdint>
#include <limits>
#include <random>

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/rand.h>
#include <ATen/ops/stack.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/kernels/noise.h"

namespace kinema::tensor {
namespace {

using testing::HasSubstr;

const NoiseStream kStream{.seed = 7, .name = "latents"};
constexpr NoiseSize kSize{.channels = 4, .frames = 5, .height = 9, .width = 22};

class NoiseTensorTest : public testing::Test {
 protected:
  void TearDown() override { at::set_num_threads(threads_before_); }
  int threads_before_ = at::get_num_threads();
};

template <class Call>
void expect_error(const Call& call, ErrorKind kind, const char* code, const char* text) {
  try {
    static_cast<void>(call());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind);
    EXPECT_EQ(error.code(), code);
    EXPECT_THAT(error.what(), HasSubstr(text));
  }
}

TEST_F(NoiseTensorTest, EveryNumberIsTheKernelsNumberAtItsAddress) {
  const Tensor noise_CTHW = normal_noise(
      kStream, kSize, {.first_channel = 3, .first_frame = 100, .first_row = 11, .first_column = 6});
  ASSERT_EQ(noise_CTHW.sizes(), (c10::IntArrayRef{4, 5, 9, 22}));
  ASSERT_EQ(noise_CTHW.scalar_type(), at::kFloat);
  ASSERT_TRUE(noise_CTHW.is_contiguous());
  const kernels::NoiseKey key =
      kernels::noise_key(7, "latents", kernels::Draw::kNormal, kernels::Addressing::kGrid);
  const float* number = noise_CTHW.data_ptr<float>();
  for (std::uint32_t c = 0; c < 4; ++c) {
    for (std::uint32_t t = 0; t < 5; ++t) {
      for (std::uint32_t y = 0; y < 9; ++y) {
        for (std::uint32_t x = 0; x < 22; ++x) {
          ASSERT_EQ(*number++, kernels::reference::normal_at(key, t + 100, c + 3, y + 11, x + 6));
        }
      }
    }
  }
}

TEST_F(NoiseTensorTest, AnyWindowIsTheCropOfTheWhole) {
  const Tensor whole_CTHW = normal_noise(kStream, kSize);
  std::mt19937 random(3);
  for (int round = 0; round < 200; ++round) {
    const auto cut = [&](std::int64_t size) {
      const auto first = static_cast<std::int64_t>(random()) % size;
      return std::pair(first, 1 + (static_cast<std::int64_t>(random()) % (size - first)));
    };
    const auto [c, num_c] = cut(kSize.channels);
    const auto [t, num_t] = cut(kSize.frames);
    const auto [y, num_y] = cut(kSize.height);
    const auto [x, num_x] = cut(kSize.width);
    const Tensor window_CTHW =
        normal_noise(kStream,
                     {.channels = num_c, .frames = num_t, .height = num_y, .width = num_x},
                     {.first_channel = c, .first_frame = t, .first_row = y, .first_column = x});
    const Tensor crop_CTHW =
        whole_CTHW.narrow(0, c, num_c).narrow(1, t, num_t).narrow(2, y, num_y).narrow(3, x, num_x);
    ASSERT_TRUE(at::equal(window_CTHW, crop_CTHW)) << round;
  }
}

TEST_F(NoiseTensorTest, ThreadCountsChangeNothing) {
  // Large enough that every thread gets a part.
  const NoiseSize size{.channels = 16, .frames = 9, .height = 75, .width = 101};
  at::set_num_threads(1);
  const Tensor grid_CTHW = normal_noise(kStream, size);
  const Tensor flat = normal_noise_flat(kStream, {1000003}, 5);
  for (const int threads : {2, 3, 5, 8}) {
    at::set_num_threads(threads);
    EXPECT_TRUE(at::equal(normal_noise(kStream, size), grid_CTHW)) << threads;
    EXPECT_TRUE(at::equal(normal_noise_flat(kStream, {1000003}, 5), flat)) << threads;
  }
}

TEST_F(NoiseTensorTest, ABatchStacksItsStreams) {
  const NoiseStream streams[] = {
      {.seed = 1, .name = "latents"}, {.seed = 2, .name = "latents"}, {.seed = 1, .name = "other"}};
  const Tensor batch_BCTHW = normal_noise(streams, kSize, {.first_frame = 2});
  ASSERT_EQ(batch_BCTHW.sizes(), (c10::IntArrayRef{3, 4, 5, 9, 22}));
  for (int b = 0; b < 3; ++b) {
    EXPECT_TRUE(at::equal(batch_BCTHW[b], normal_noise(streams[b], kSize, {.first_frame = 2})));
    EXPECT_FALSE(at::equal(batch_BCTHW[b], batch_BCTHW[(b + 1) % 3]));
  }
}

TEST_F(NoiseTensorTest, FlatPartsJoinToTheWhole) {
  const Tensor whole = normal_noise_flat(kStream, {3, 50});
  const Tensor parts = at::cat({normal_noise_flat(kStream, {37}),
                                normal_noise_flat(kStream, {1}, 37),
                                normal_noise_flat(kStream, {112}, 38)});
  EXPECT_TRUE(at::equal(whole.flatten(), parts));
  const Tensor uniform = uniform_noise_flat(kStream, {3, 50});
  EXPECT_TRUE(at::equal(uniform.flatten().slice(0, 37), uniform_noise_flat(kStream, {113}, 37)));
  EXPECT_GE(uniform.min().item<float>(), 0.0F);
  EXPECT_LT(uniform.max().item<float>(), 1.0F);
}

TEST_F(NoiseTensorTest, TheGlobalGeneratorIsNotTouched) {
  at::manual_seed(123);
  const Tensor want = at::rand({8});
  at::manual_seed(123);
  static_cast<void>(normal_noise(kStream, kSize));
  static_cast<void>(normal_noise_flat(kStream, {100}));
  EXPECT_TRUE(at::equal(at::rand({8}), want));
}

TEST_F(NoiseTensorTest, EmptySizesGiveEmptyTensors) {
  for (int axis = 0; axis < 4; ++axis) {
    NoiseSize size = kSize;
    (axis == 0   ? size.channels
     : axis == 1 ? size.frames
     : axis == 2 ? size.height
                 : size.width) = 0;
    EXPECT_EQ(normal_noise(kStream, size).numel(), 0);
  }
  EXPECT_EQ(normal_noise(std::span<const NoiseStream>(), kSize).sizes(),
            (c10::IntArrayRef{0, 4, 5, 9, 22}));
  EXPECT_EQ(normal_noise_flat(kStream, {2, 0}).numel(), 0);
}

TEST_F(NoiseTensorTest, TheLastAddressesCanBeReached) {
  constexpr std::int64_t kLast = 0xFFFFFFFF;
  const Tensor corner_CTHW = normal_noise(
      kStream,
      {.channels = 1, .frames = 1, .height = 1, .width = 1},
      {.first_channel = kLast, .first_frame = kLast, .first_row = kLast, .first_column = kLast});
  const kernels::NoiseKey key =
      kernels::noise_key(7, "latents", kernels::Draw::kNormal, kernels::Addressing::kGrid);
  EXPECT_EQ(corner_CTHW.item<float>(),
            kernels::reference::normal_at(key, 0xFFFFFFFFU, 0xFFFFFFFFU, 0xFFFFFFFFU, 0xFFFFFFFFU));
  constexpr std::uint64_t kLastIndex = std::numeric_limits<std::uint64_t>::max();
  const kernels::NoiseKey flat_key =
      kernels::noise_key(7, "latents", kernels::Draw::kNormal, kernels::Addressing::kFlat);
  EXPECT_EQ(normal_noise_flat(kStream, {1}, kLastIndex).item<float>(),
            kernels::reference::normal_at(flat_key, kLastIndex));
}

TEST_F(NoiseTensorTest, BadSizesAreRefused) {
  constexpr std::int64_t kHuge = std::int64_t{1} << 31;
  expect_error([] { return normal_noise(kStream, {.channels = -1}); },
               ErrorKind::kInvalidArgument,
               "noise.size",
               "channels");
  expect_error([] { return normal_noise(kStream, kSize, {.first_frame = -2}); },
               ErrorKind::kInvalidArgument,
               "noise.size",
               "first -2");
  expect_error([] { return normal_noise(kStream, kSize, {.first_row = 0xFFFFFFFF}); },
               ErrorKind::kInvalidArgument,
               "noise.size",
               "height");
  expect_error(
      [] {
        return normal_noise(kStream,
                            {.channels = kHuge, .frames = kHuge, .height = kHuge, .width = kHuge});
      },
      ErrorKind::kInvalidArgument,
      "noise.size",
      "2147483648");
  expect_error([] { return normal_noise_flat(kStream, {3, -1}); },
               ErrorKind::kInvalidArgument,
               "noise.size",
               "[3, -1]");
  expect_error([] { return normal_noise_flat(kStream, {2}, ~std::uint64_t{0}); },
               ErrorKind::kInvalidArgument,
               "noise.size",
               "first");
}

TEST_F(NoiseTensorTest, DrawingOnADeviceEqualsTheCpuOrSaysWhyNot) {
  if (!kernels::cuda_built()) {
    expect_error(
        [] { return normal_noise_on_device(kStream, kSize, {}, c10::Device(c10::kCUDA, 0)); },
        ErrorKind::kUnsupported,
        "cuda.not_built",
        "draw on the CPU");
    return;
  }
  expect_error([] { return normal_noise_on_device(kStream, kSize, {}, c10::Device(c10::kCPU)); },
               ErrorKind::kUnsupported,
               "cuda.device",
               "a CUDA device");
  if (!at::hasCUDA()) {
    GTEST_SKIP() << "no CUDA device";
  }
  const NoiseWindow window{.first_frame = 3, .first_column = 5};
  EXPECT_TRUE(
      at::equal(normal_noise_on_device(kStream, kSize, window, c10::Device(c10::kCUDA, 0)).cpu(),
                normal_noise(kStream, kSize, window)));
}

}  // namespace
}  // namespace kinema::tensor
