// SPDX-License-Identifier: Apache-2.0
// Device kernels against their CPU twins, bit for bit. Skips itself where no device answers.
#include <bit>
#include <cstdint>
#include <vector>

#include <cuda_runtime_api.h>
#include <gtest/gtest.h>

#include "core/kernels/bf16.h"
#include "core/kernels/group_norm_silu.h"
#include "core/kernels/noise.h"

namespace kinema::kernels {
namespace {

/// Device memory for one test.
template <class T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(const std::vector<T>& host) : size_(host.size() * sizeof(T)) {
    EXPECT_EQ(cudaMalloc(&data_, size_), cudaSuccess);
    EXPECT_EQ(cudaMemcpy(data_, host.data(), size_, cudaMemcpyHostToDevice), cudaSuccess);
  }
  ~DeviceBuffer() { cudaFree(data_); }
  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;

  [[nodiscard]] T* get() const { return static_cast<T*>(data_); }
  [[nodiscard]] std::vector<T> read() const {
    std::vector<T> host(size_ / sizeof(T));
    EXPECT_EQ(cudaMemcpy(host.data(), data_, size_, cudaMemcpyDeviceToHost), cudaSuccess);
    return host;
  }

 private:
  void* data_ = nullptr;
  std::size_t size_;
};

class CudaTest : public testing::Test {
 protected:
  void SetUp() override {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) {
      GTEST_SKIP() << "no CUDA device";
    }
  }
};

template <class T>
void expect_same_bits(const std::vector<T>& got, const std::vector<T>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(want[i])) << i;
  }
}

TEST(CudaBuildTest, SaysThatItHasKernels) {
  EXPECT_TRUE(cuda_built());
}

TEST(CudaBuildTest, WithoutADeviceALaunchSaysWhatIsWrong) {
  int devices = 0;
  if (cudaGetDeviceCount(&devices) == cudaSuccess && devices > 0) {
    GTEST_SKIP() << "there is a CUDA device";
  }
  NoiseRegion region;
  region.num_frames = region.num_channels = region.num_rows = region.num_columns = 1;
  const CudaStatus status = fill_normal_cuda(nullptr, region, nullptr);
  EXPECT_EQ(status.code, CudaCode::kDeviceError);
  EXPECT_NE(status.device_error, 0);
  EXPECT_STRNE(status.message, "");
}

TEST_F(CudaTest, RegionsEqualTheCpu) {
  for (const std::uint32_t first_column : {0U, 3U, 0xFFFFFFFFU - 300U}) {
    for (const std::int64_t column_stride : {1, 2}) {
      NoiseRegion region;
      region.key = noise_key(5, "latents", Draw::kNormal, Addressing::kGrid);
      region.first_frame = 9;
      region.first_column = first_column;
      region.num_frames = 3;
      region.num_channels = 16;
      region.num_rows = 70;
      region.num_columns = 131;
      region.column_stride = column_stride;
      region.row_stride = 131 * column_stride;
      region.channel_stride = region.row_stride * 70;
      region.frame_stride = region.channel_stride * 16;
      std::vector<float> want(static_cast<std::size_t>(region.frame_stride * 3), -7.0F);
      const DeviceBuffer<float> device(want);
      fill_normal(want.data(), region);
      ASSERT_EQ(fill_normal_cuda(device.get(), region, nullptr).code, CudaCode::kOk);
      expect_same_bits(device.read(), want);
    }
  }
}

TEST_F(CudaTest, FlatStreamsEqualTheCpu) {
  const NoiseKey key = noise_key(5, "latents", Draw::kNormal, Addressing::kFlat);
  constexpr std::size_t kCount = 4000001;
  for (const std::uint64_t first : {std::uint64_t{0},
                                    std::uint64_t{6},
                                    (std::uint64_t{1} << 34U) - 1001,
                                    UINT64_MAX - kCount + 1}) {
    std::vector<float> want(kCount, -7.0F);
    const DeviceBuffer<float> device(want);
    fill_normal_flat(want.data(), key, first, kCount);
    ASSERT_EQ(fill_normal_flat_cuda(device.get(), key, first, kCount, nullptr).code, CudaCode::kOk);
    expect_same_bits(device.read(), want);
  }
}

TEST_F(CudaTest, ConversionsEqualTheCpu) {
  std::vector<std::uint16_t> narrow;
  std::vector<float> wide;
  for (std::uint32_t head = 0; head < 65536; ++head) {
    narrow.push_back(static_cast<std::uint16_t>(head));
    for (const std::uint32_t low : {0U, 1U, 0x7FFFU, 0x8000U, 0x8001U, 0xFFFFU}) {
      wide.push_back(std::bit_cast<float>((head << 16U) | low));
    }
  }
  const DeviceBuffer<std::uint16_t> narrow_in(narrow);
  const DeviceBuffer<float> wide_in(wide);
  std::vector<float> widened(narrow.size());
  std::vector<std::uint16_t> narrowed(wide.size());
  const DeviceBuffer<float> wide_out(widened);
  const DeviceBuffer<std::uint16_t> narrow_out(narrowed);
  widen_bf16(widened.data(), narrow.data(), narrow.size());
  narrow_bf16(narrowed.data(), wide.data(), wide.size());
  ASSERT_EQ(widen_bf16_cuda(wide_out.get(), narrow_in.get(), narrow.size(), nullptr).code,
            CudaCode::kOk);
  ASSERT_EQ(narrow_bf16_cuda(narrow_out.get(), wide_in.get(), wide.size(), nullptr).code,
            CudaCode::kOk);
  expect_same_bits(wide_out.read(), widened);
  EXPECT_EQ(narrow_out.read(), narrowed);
}

TEST_F(CudaTest, GroupNormEqualsTheDefinition) {
  for (const bool silu : {false, true}) {
    for (const std::int64_t positions : {1, 700}) {
      constexpr std::int64_t kSamples = 3;
      constexpr std::int64_t kChannels = 24;
      constexpr std::int64_t kGroups = 8;
      std::vector<float> x(static_cast<std::size_t>(kSamples * positions * kChannels));
      fill_normal_flat(x.data(), noise_key(3, "x", Draw::kNormal, Addressing::kFlat), 0, x.size());
      std::vector<float> weight(kChannels);
      std::vector<float> bias(kChannels);
      for (std::size_t c = 0; c < kChannels; ++c) {
        weight[c] = 0.5F + 0.1F * static_cast<float>(c);
        bias[c] = 0.3F - 0.05F * static_cast<float>(c);
      }
      std::vector<float> want(x.size());
      for (std::int64_t sample = 0; sample < kSamples; ++sample) {
        const std::int64_t at = sample * positions * kChannels;
        reference::group_norm_silu(want.data() + at,
                                   x.data() + at,
                                   positions,
                                   kChannels,
                                   kGroups,
                                   1e-6,
                                   weight.data(),
                                   bias.data(),
                                   silu);
      }
      const DeviceBuffer<float> data(x);
      const DeviceBuffer<float> scale(weight);
      const DeviceBuffer<float> shift(bias);
      // In place, as the layers use it.
      ASSERT_EQ(group_norm_silu_cuda(data.get(),
                                     data.get(),
                                     kSamples,
                                     positions,
                                     kChannels,
                                     kGroups,
                                     1e-6,
                                     scale.get(),
                                     shift.get(),
                                     silu,
                                     nullptr)
                    .code,
                CudaCode::kOk);
      const std::vector<float> got = data.read();
      for (std::size_t i = 0; i < got.size(); ++i) {
        ASSERT_NEAR(got[i], want[i], 1e-5) << i;
      }
    }
  }
}

}  // namespace
}  // namespace kinema::kernels
