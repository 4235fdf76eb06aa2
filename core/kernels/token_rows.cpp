// SPDX-License-Identifier: Apache-2.0
#include "core/kernels/token_rows.h"

#include <algorithm>
#include <cmath>
#include <limits>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define KINEMA_SANITIZED  // the choice of a clone runs before the sanitizer is ready
#endif
#endif
#if defined(__x86_64__) && defined(__linux__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(KINEMA_SANITIZED)
#define KINEMA_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define KINEMA_CLONES
#endif
#define KINEMA_INLINE inline __attribute__((always_inline))

namespace kinema::kernels {
namespace {

constexpr std::int64_t kLanes = 16;

/// Sum of term(i) for i < count: lane i % 16 takes every 16th, then lanes are added in pairs.
template <typename Term>
KINEMA_INLINE float lane_sum(std::int64_t count, const Term& term) {
  float lanes[kLanes] = {};
  std::int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) {
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      lanes[lane] += term(i + lane);
    }
  }
  for (std::int64_t lane = 0; i < count; ++i, ++lane) {
    lanes[lane] += term(i);
  }
  for (std::int64_t half = kLanes / 2; half > 0; half /= 2) {
    for (std::int64_t lane = 0; lane < half; ++lane) {
      lanes[lane] += lanes[lane + half];
    }
  }
  return lanes[0];
}

KINEMA_INLINE std::int64_t vector_of(const GroupVectors& vectors, std::int64_t outer) {
  return (vectors.first_outer + outer) / vectors.outer_per_vector * vectors.stride;
}

KINEMA_INLINE void norm_head(float* head, const float* weight, std::int64_t width, float eps) {
  const float squares = lane_sum(width, [&](std::int64_t i) { return head[i] * head[i]; });
  const float factor = 1.0F / std::sqrt(squares / static_cast<float>(width) + eps);
  for (std::int64_t i = 0; i < width; ++i) {
    head[i] = head[i] * factor * weight[i];
  }
}

KINEMA_INLINE void rotate_head(float* head,
                               const float* cosine,
                               const float* sine,
                               std::int64_t pairs) {
  for (std::int64_t j = 0; j < pairs; ++j) {
    const float a = head[2 * j];
    const float b = head[2 * j + 1];
    head[2 * j] = a * cosine[j] - b * sine[j];
    head[2 * j + 1] = b * cosine[j] + a * sine[j];
  }
}

/// Keys of one head as [head_width, padded frames], and its values where they are.
struct FrameHead {
  const float* query;
  const float* value;
  std::int64_t stride;  ///< between frames, of queries and values
  float* out;
  std::int64_t out_stride;
};

std::int64_t padded(std::int64_t frames) {
  return (frames + kLanes - 1) / kLanes * kLanes;
}

/// weights[j] = softmax_j(scale q k_j).
KINEMA_INLINE void frame_weights(const float* query,
                                 const float* keys,
                                 float* weights,
                                 std::int64_t frames,
                                 std::int64_t width,
                                 float scale) {
  const std::int64_t stride = padded(frames);
  for (std::int64_t block = 0; block < stride; block += kLanes) {
    float sums[kLanes] = {};
    for (std::int64_t k = 0; k < width; ++k) {
      const float q = query[k];
      const float* key = keys + k * stride + block;
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        sums[lane] += q * key[lane];
      }
    }
    for (std::int64_t lane = 0; lane < kLanes; ++lane) {
      weights[block + lane] = sums[lane] * scale;
    }
  }
  float largest = -std::numeric_limits<float>::infinity();
  for (std::int64_t j = 0; j < frames; ++j) {
    largest = std::max(largest, weights[j]);
  }
  float total = 0.0F;
  for (std::int64_t j = 0; j < frames; ++j) {
    weights[j] = std::exp(weights[j] - largest);
    total += weights[j];
  }
  for (std::int64_t j = 0; j < frames; ++j) {
    weights[j] /= total;
  }
}

KINEMA_INLINE void attend_head(const FrameHead& head,
                               const float* keys,
                               float* weights,
                               std::int64_t frames,
                               std::int64_t width,
                               float scale) {
  for (std::int64_t i = 0; i < frames; ++i) {
    frame_weights(head.query + i * head.stride, keys, weights, frames, width, scale);
    float* out = head.out + i * head.out_stride;
    std::fill(out, out + width, 0.0F);
    for (std::int64_t j = 0; j < frames; ++j) {
      const float weight = weights[j];
      const float* value = head.value + j * head.stride;
      for (std::int64_t k = 0; k < width; ++k) {
        out[k] += weight * value[k];
      }
    }
  }
}

}  // namespace

KINEMA_CLONES void modulate_rows(const ModulateRows<float>& work,
                                 std::int64_t begin,
                                 std::int64_t end) noexcept {
  const std::int64_t width = work.width;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t outer = row / work.slab.inner;
    const std::int64_t inner = row % work.slab.inner;
    const float* x = work.x + outer * work.x_stride + inner * width;
    float* out = work.out + row * width;
    const float* shift = work.shift + vector_of(work.vectors, outer);
    const float* scale = work.scale + vector_of(work.vectors, outer);
    const float count = static_cast<float>(width);
    const float mean = lane_sum(width, [&](std::int64_t i) { return x[i]; }) / count;
    const float variance = lane_sum(width,
                                    [&](std::int64_t i) {
                                      const float d = x[i] - mean;
                                      return d * d;
                                    }) /
                           count;
    const float factor = 1.0F / std::sqrt(variance + work.eps);
    for (std::int64_t i = 0; i < width; ++i) {
      out[i] = (x[i] - mean) * factor * (1.0F + scale[i]) + shift[i];
    }
  }
}

KINEMA_CLONES void add_gated_rows(const AddGatedRows<float>& work,
                                  std::int64_t begin,
                                  std::int64_t end) noexcept {
  const std::int64_t width = work.width;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t outer = row / work.slab.inner;
    float* x = work.x + outer * work.x_stride + row % work.slab.inner * width;
    const float* y = work.y + row * width;
    if (work.gate == nullptr) {
      for (std::int64_t i = 0; i < width; ++i) {
        x[i] += y[i];
      }
    } else {
      const float* gate = work.gate + vector_of(work.vectors, outer);
      for (std::int64_t i = 0; i < width; ++i) {
        x[i] += gate[i] * y[i];
      }
    }
  }
}

KINEMA_CLONES void norm_rotate_rows(const NormRotateRows<float>& work,
                                    std::int64_t begin,
                                    std::int64_t end) noexcept {
  const std::int64_t width = work.head_width;
  const std::int64_t pairs = width / 2;
  for (std::int64_t row = begin; row < end; ++row) {
    const std::int64_t position = row / work.rows_per_position % work.num_positions;
    for (std::int64_t part = 0; part < 2; ++part) {
      const float* weight = part == 0 ? work.query_weight : work.key_weight;
      float* heads = work.qkv + (row * 3 + part) * work.heads * width;
      for (std::int64_t n = 0; n < work.heads; ++n) {
        float* head = heads + n * width;
        if (weight != nullptr && !work.rotate_first) {
          norm_head(head, weight, width, work.eps);
        }
        if (work.cosine != nullptr) {
          rotate_head(head, work.cosine + position * pairs, work.sine + position * pairs, pairs);
        }
        if (weight != nullptr && work.rotate_first) {
          norm_head(head, weight, width, work.eps);
        }
      }
    }
  }
}

std::size_t frame_attention_scratch(const FrameAttention<float>& work) noexcept {
  return static_cast<std::size_t>(padded(work.frames) * (work.head_width + 1));
}

KINEMA_CLONES void attend_frames(const FrameAttention<float>& work,
                                 float* scratch,
                                 std::int64_t begin,
                                 std::int64_t end) noexcept {
  const std::int64_t width = work.head_width;
  const std::int64_t out_row = work.heads * width;
  const std::int64_t row = 3 * out_row;
  const std::int64_t stride = padded(work.frames);
  float* keys = scratch;
  float* weights = scratch + stride * width;
  std::fill(keys, keys + stride * width, 0.0F);
  for (std::int64_t item = begin; item < end; ++item) {
    const std::int64_t first =
        item / work.positions * work.frames * work.positions + item % work.positions;
    for (std::int64_t n = 0; n < work.heads; ++n) {
      const float* base = work.qkv + first * row + n * width;
      for (std::int64_t t = 0; t < work.frames; ++t) {
        const float* key = base + t * work.positions * row + out_row;
        for (std::int64_t k = 0; k < width; ++k) {
          keys[k * stride + t] = key[k];
        }
      }
      const FrameHead head = {.query = base,
                              .value = base + 2 * out_row,
                              .stride = work.positions * row,
                              .out = work.out + first * out_row + n * width,
                              .out_stride = work.positions * out_row};
      attend_head(head, keys, weights, work.frames, width, work.scale);
    }
  }
}

}  // namespace kinema::kernels
