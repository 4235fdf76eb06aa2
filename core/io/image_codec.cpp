// SPDX-License-Identifier: Apache-2.0
#include "core/io/image_codec.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <memory>

#include <malloc.h>

namespace kinema::io {
namespace {

// What the decoder may still allocate on this thread; its allocation hooks take no argument.
struct Budget {
  std::size_t left = 0;
  bool exceeded = false;
};
thread_local Budget budget;

bool draw(std::size_t size) {
  if (size > budget.left) {
    budget.exceeded = true;
    return false;
  }
  budget.left -= size;
  return true;
}

void* budget_malloc(std::size_t size) {
  if (!draw(size)) {
    return nullptr;
  }
  // Zeroed: the decoder leaves gaps when data is missing, and they must not show old memory.
  void* p = std::calloc(1, size);
  budget.left += size;
  if (p != nullptr) {
    budget.left -= std::min(budget.left, ::malloc_usable_size(p));
  }
  return p;
}

void budget_free(void* p) {
  if (p != nullptr) {
    budget.left += ::malloc_usable_size(p);
    std::free(p);
  }
}

void* budget_realloc(void* old, std::size_t size) {
  const std::size_t old_size = old == nullptr ? 0 : ::malloc_usable_size(old);
  if (!draw(size)) {
    return nullptr;
  }
  void* p = std::realloc(old, size);
  budget.left += size;
  if (p != nullptr) {
    budget.left += old_size;
    budget.left -= std::min(budget.left, ::malloc_usable_size(p));
  }
  return p;
}

}  // namespace
}  // namespace kinema::io

#define STBI_MALLOC(size) ::kinema::io::budget_malloc(size)
#define STBI_REALLOC(p, size) ::kinema::io::budget_realloc(p, size)
#define STBI_FREE(p) ::kinema::io::budget_free(p)
#define STBI_ASSERT(x) static_cast<void>(0)
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_PNG
#define STBI_ONLY_JPEG
#define STBI_ONLY_BMP
#define STBI_ONLY_GIF
#define STBI_NO_STDIO
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#define STBI_WRITE_NO_STDIO
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb/stb_image.h>
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

namespace kinema::io {
namespace {

const stbi_uc* data_of(std::span<const std::byte> bytes) {
  return reinterpret_cast<const stbi_uc*>(bytes.data());
}

bool fits_int(std::size_t size) {
  return size <= std::numeric_limits<int>::max();
}

/// Grey to RGB (1 to 3, 2 to 4); other counts stay.
void expand_channels(const stbi_uc* from, int channels, std::vector<std::uint8_t>& to) {
  const bool grey = channels < 3;
  if (!grey) {
    std::memcpy(to.data(), from, to.size());
    return;
  }
  std::uint8_t* out = to.data();
  const std::uint8_t* const end = out + to.size();
  while (out != end) {
    *out++ = from[0];
    *out++ = from[0];
    *out++ = from[0];
    if (channels == 2) {
      *out++ = from[1];
    }
    from += channels;
  }
}

}  // namespace

std::optional<ImageHeader> decode_image_header(std::span<const std::byte> bytes) {
  int width = 0;
  int height = 0;
  int channels = 0;
  budget = {.left = 1U << 20U};
  if (!fits_int(bytes.size()) ||
      stbi_info_from_memory(
          data_of(bytes), static_cast<int>(bytes.size()), &width, &height, &channels) == 0) {
    return std::nullopt;
  }
  // A BMP whose rows run from the top has a negative height.
  return ImageHeader{width, std::abs(std::int64_t{height})};
}

DecodedImage decode_image(std::span<const std::byte> bytes, std::size_t memory_budget) {
  DecodedImage image;
  if (!fits_int(bytes.size())) {
    image.reason = "file too large";
    return image;
  }
  budget = {.left = memory_budget};
  int width = 0;
  int height = 0;
  int channels = 0;
  const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
      stbi_load_from_memory(
          data_of(bytes), static_cast<int>(bytes.size()), &width, &height, &channels, 0),
      stbi_image_free);
  if (pixels == nullptr) {
    image.out_of_budget = budget.exceeded;
    image.reason = stbi_failure_reason();
    return image;
  }
  image.width = width;
  image.height = height;
  image.channels = channels < 3 ? channels + 2 : channels;
  image.pixels.resize(static_cast<std::size_t>(width) * static_cast<std::size_t>(height) *
                      static_cast<std::size_t>(image.channels));
  expand_channels(pixels.get(), channels, image.pixels);
  return image;
}

std::string encode_png(std::int64_t width,
                       std::int64_t height,
                       int channels,
                       std::span<const std::uint8_t> pixels) {
  int size = 0;
  const std::unique_ptr<unsigned char, void (*)(void*)> png(
      stbi_write_png_to_mem(pixels.data(),
                            static_cast<int>(width) * channels,
                            static_cast<int>(width),
                            static_cast<int>(height),
                            channels,
                            &size),
      std::free);
  if (png == nullptr) {
    return {};
  }
  return {reinterpret_cast<const char*>(png.get()), static_cast<std::size_t>(size)};
}

}  // namespace kinema::io
