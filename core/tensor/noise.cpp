// SPDX-License-Identifier: Apache-2.0
// Splits the drawing over threads and hands the result over as a tensor.
//
// at::parallel_for is a header template that runs in sequence unless its includer is compiled with
// LibTorch's own OpenMP, which clang cannot do; so threads are started here, once per large draw.
#include "core/tensor/noise.h"

#include <algorithm>
#include <array>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include "core/base/checked_math.h"
#include "core/base/error.h"
#include "core/kernels/noise.h"
#include "core/tensor/torch_error.h"

namespace kinema::tensor {
namespace {

constexpr std::string_view kPlace = "tensor.noise";
constexpr std::uint64_t kGridLimit = std::uint64_t{1} << 32U;
/// Below this many numbers per thread, starting one costs more than it saves.
constexpr std::uint64_t kNumbersPerThread = std::uint64_t{1} << 17U;

[[noreturn]] void refuse_size(std::string subject, std::string expected, std::string got) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "noise.size",
               .place = std::string(kPlace),
               .subject = std::move(subject),
               .expected = std::move(expected),
               .got = std::move(got)});
}

std::uint32_t checked_axis(const char* axis, std::int64_t first, std::int64_t size) {
  const auto limit = static_cast<std::int64_t>(kGridLimit);
  if (first < 0 || size < 0 || first > limit || size > limit - first || size >= limit) {
    refuse_size(axis,
                "0 <= first, 0 <= size < 2^32 and first + size <= 2^32",
                "first " + std::to_string(first) + ", size " + std::to_string(size));
  }
  return static_cast<std::uint32_t>(size);
}

/// Number of elements and bytes must fit the index type of tensors.
std::int64_t checked_count(std::span<const std::int64_t> sizes) {
  const auto count = checked_product(sizes);
  const bool negative = std::ranges::any_of(sizes, [](std::int64_t size) { return size < 0; });
  if (negative || !count || !checked_mul(*count, std::int64_t{sizeof(float)})) {
    std::string got;
    for (const std::int64_t size : sizes) {
      got += (got.empty() ? "[" : ", ") + std::to_string(size);
    }
    refuse_size("sizes", "sizes >= 0 with less than 2^61 numbers", got + "]");
  }
  return *count;
}

/// The region of `window` for a contiguous [C, T, H, W] output. Checks all sizes.
kernels::NoiseRegion make_region(const NoiseStream& stream,
                                 const NoiseSize& size,
                                 const NoiseWindow& window) {
  kernels::NoiseRegion region;
  region.key = kernels::noise_key(
      stream.seed, stream.name, kernels::Draw::kNormal, kernels::Addressing::kGrid);
  region.num_channels = checked_axis("channels", window.first_channel, size.channels);
  region.num_frames = checked_axis("frames", window.first_frame, size.frames);
  region.num_rows = checked_axis("height", window.first_row, size.height);
  region.num_columns = checked_axis("width", window.first_column, size.width);
  region.first_channel = static_cast<std::uint32_t>(window.first_channel);
  region.first_frame = static_cast<std::uint32_t>(window.first_frame);
  region.first_row = static_cast<std::uint32_t>(window.first_row);
  region.first_column = static_cast<std::uint32_t>(window.first_column);
  checked_count(std::array{size.channels, size.frames, size.height, size.width});
  // Wraps only if an axis is empty, and then no stride is used.
  region.row_stride = size.width;
  region.frame_stride = static_cast<std::int64_t>(static_cast<std::uint64_t>(size.width) *
                                                  static_cast<std::uint64_t>(size.height));
  region.channel_stride = static_cast<std::int64_t>(
      static_cast<std::uint64_t>(region.frame_stride) * static_cast<std::uint64_t>(size.frames));
  return region;
}

/// Calls draw(begin, end) on parts of [0, items), each of `numbers_per_item` numbers.
template <class Draw>
void draw_in_parts(std::uint64_t items, std::uint64_t numbers_per_item, const Draw& draw) {
  const std::uint64_t wanted =
      std::max<std::uint64_t>(1, items * numbers_per_item / kNumbersPerThread);
  const std::uint64_t allowed =
      at::in_parallel_region() ? 1 : static_cast<std::uint64_t>(at::get_num_threads());
  const std::uint64_t parts = std::min({wanted, allowed, std::max<std::uint64_t>(1, items)});
  const std::uint64_t step = (items + parts - 1) / parts;
  std::vector<std::jthread> threads;
  threads.reserve(parts - 1);
  std::uint64_t done = 0;
  try {
    while (threads.size() + 1 < parts) {
      threads.emplace_back(draw, done, std::min(done + step, items));
      done = std::min(done + step, items);
    }
  } catch (const std::system_error&) {
    // No more threads to be had: this one draws all that is left, with the same numbers.
  }
  draw(done, items);
}

void draw_region(float* out, const kernels::NoiseRegion& region) {
  draw_in_parts(kernels::count_rows(region),
                region.num_columns,
                [out, &region](std::uint64_t begin, std::uint64_t end) {
                  kernels::fill_normal(out, region, {.begin = begin, .end = end});
                });
}

template <class Fill>
Tensor draw_flat(c10::IntArrayRef sizes,
                 std::uint64_t first,
                 c10::Device device,
                 const Fill& fill) {
  const auto count = static_cast<std::uint64_t>(checked_count(sizes));
  if (count > 0 && first > UINT64_MAX - (count - 1)) {
    refuse_size("first", "first + count <= 2^64", std::to_string(first));
  }
  return with_torch_errors(kPlace, [&] {
    Tensor out = at::empty(sizes, at::kFloat);
    float* const data = out.mutable_data_ptr<float>();
    draw_in_parts(count, 1, [&](std::uint64_t begin, std::uint64_t end) {
      fill(data + begin, first + begin, end - begin);
    });
    return out.to(device);
  });
}

/// What the kernels said, as an exception.
void check_status(const kernels::CudaStatus& status) {
  if (status.code == kernels::CudaCode::kOk) {
    return;
  }
  const bool not_built = status.code == kernels::CudaCode::kNotBuilt;
  throw Error(not_built ? ErrorKind::kUnsupported : ErrorKind::kInternal,
              {.code = not_built ? "cuda.not_built" : "cuda.launch",
               .place = std::string(kPlace),
               .subject = "the noise kernel of the GPU did not run",
               .got = status.message,
               .hint = not_built ? "draw on the CPU, the numbers are the same" : ""});
}

}  // namespace

Tensor normal_noise(const NoiseStream& stream,
                    const NoiseSize& size,
                    const NoiseWindow& window,
                    c10::Device device) {
  return normal_noise(std::span(&stream, 1), size, window, device).squeeze(0);
}

Tensor normal_noise(std::span<const NoiseStream> streams,
                    const NoiseSize& size,
                    const NoiseWindow& window,
                    c10::Device device) {
  const std::array sizes{static_cast<std::int64_t>(streams.size()),
                         size.channels,
                         size.frames,
                         size.height,
                         size.width};
  make_region({}, size, window);
  checked_count(sizes);
  return with_torch_errors(kPlace, [&] {
    Tensor noise_BCTHW = at::empty(sizes, at::kFloat);
    float* data = noise_BCTHW.mutable_data_ptr<float>();
    for (const NoiseStream& stream : streams) {
      draw_region(data, make_region(stream, size, window));
      data += noise_BCTHW.numel() / noise_BCTHW.size(0);
    }
    return noise_BCTHW.to(device);
  });
}

Tensor normal_noise_on_device(const NoiseStream& stream,
                              const NoiseSize& size,
                              const NoiseWindow& window,
                              c10::Device device) {
  const kernels::NoiseRegion region = make_region(stream, size, window);
  if (!kernels::cuda_built()) {
    check_status(kernels::fill_normal_cuda(nullptr, region, nullptr));
  }
  if (!device.is_cuda()) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "cuda.device",
                 .place = std::string(kPlace),
                 .subject = "device",
                 .expected = "a CUDA device",
                 .got = device.str()});
  }
  return with_torch_errors(kPlace, [&] {
    const c10::DeviceGuard guard(device);
    Tensor noise_CTHW = at::empty({size.channels, size.frames, size.height, size.width},
                                  at::TensorOptions(at::kFloat).device(device));
    const c10::Stream stream_of_device =
        c10::impl::VirtualGuardImpl(device.type()).getStream(noise_CTHW.device());
    check_status(kernels::fill_normal_cuda(
        noise_CTHW.mutable_data_ptr<float>(), region, stream_of_device.native_handle()));
    return noise_CTHW;
  });
}

Tensor normal_noise_flat(const NoiseStream& stream,
                         c10::IntArrayRef sizes,
                         std::uint64_t first,
                         c10::Device device) {
  const kernels::NoiseKey key = kernels::noise_key(
      stream.seed, stream.name, kernels::Draw::kNormal, kernels::Addressing::kFlat);
  return draw_flat(
      sizes, first, device, [key](float* out, std::uint64_t begin, std::uint64_t count) {
        kernels::fill_normal_flat(out, key, begin, count);
      });
}

Tensor uniform_noise_flat(const NoiseStream& stream,
                          c10::IntArrayRef sizes,
                          std::uint64_t first,
                          c10::Device device) {
  const kernels::NoiseKey key = kernels::noise_key(
      stream.seed, stream.name, kernels::Draw::kUniform, kernels::Addressing::kFlat);
  return draw_flat(
      sizes, first, device, [key](float* out, std::uint64_t begin, std::uint64_t count) {
        kernels::fill_uniform_flat(out, key, begin, count);
      });
}

}  // namespace kinema::tensor
