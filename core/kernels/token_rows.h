// SPDX-License-Identifier: Apache-2.0
// Elementwise work of diffusion transformers, fused per token: LayerNorm with modulation, gated
// residual, query/key norm with rotary embedding, and attention over a few frames.
//
// Tokens lie in a slab of `outer` groups (frames) of `inner` tokens; a group may be part of a
// larger tensor, so groups have a stride. All strides count elements. Calls take a range of rows
// (outer x inner, flattened) or of items, so that callers can spread them over threads. The CPU
// functions add up in 16 interleaved lanes whatever the instruction set: equal bits everywhere.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/kernels/cuda_status.h"

namespace kinema::kernels {

struct TokenSlab {
  std::int64_t outer = 0;
  std::int64_t inner = 0;
  [[nodiscard]] std::int64_t rows() const noexcept { return outer * inner; }
};

/// One vector for each run of `outer_per_vector` groups; group o takes vector
/// (first_outer + o) / outer_per_vector.
struct GroupVectors {
  std::int64_t stride = 0;
  std::int64_t outer_per_vector = 1;
  std::int64_t first_outer = 0;
};

/// out = norm(x) (1 + scale) + shift, where norm is a LayerNorm without weights.
template <typename T>
struct ModulateRows {
  TokenSlab slab{};
  std::int64_t width = 0;
  const T* x = nullptr;
  std::int64_t x_stride = 0;  ///< between groups
  T* out = nullptr;           ///< contiguous
  const T* shift = nullptr;
  const T* scale = nullptr;
  GroupVectors vectors{};
  float eps = 1e-6F;
};
void modulate_rows(const ModulateRows<float>& work, std::int64_t begin, std::int64_t end) noexcept;

/// x = x + gate y, or x + y without gate.
template <typename T>
struct AddGatedRows {
  TokenSlab slab{};
  std::int64_t width = 0;
  T* x = nullptr;
  std::int64_t x_stride = 0;
  const T* y = nullptr;     ///< contiguous
  const T* gate = nullptr;  ///< or null
  GroupVectors vectors{};
};
void add_gated_rows(const AddGatedRows<float>& work, std::int64_t begin, std::int64_t end) noexcept;

/// In place on the queries and keys of contiguous rows [3, heads, head_width]: root mean square
/// norm over the head (when there are weights) and rotation of pairs (2 j, 2 j + 1) (when there is
/// a table). Row r has position (r / rows_per_position) % num_positions.
template <typename T>
struct NormRotateRows {
  std::int64_t rows = 0;
  std::int64_t heads = 0;
  std::int64_t head_width = 0;
  T* qkv = nullptr;
  const T* query_weight = nullptr;  ///< [head_width] or null
  const T* key_weight = nullptr;
  float eps = 1e-6F;
  const float* cosine = nullptr;  ///< [num_positions, head_width / 2] or null
  const float* sine = nullptr;
  std::int64_t rows_per_position = 1;
  std::int64_t num_positions = 1;
  bool rotate_first = false;  ///< rotation before the norm
};
void norm_rotate_rows(const NormRotateRows<float>& work,
                      std::int64_t begin,
                      std::int64_t end) noexcept;

/// Attention among the frames of each position: qkv is [batch, frames, positions, 3, heads,
/// head_width], out [batch, frames, positions, heads, head_width], both contiguous. An item is one
/// position of one sample; there are batch * positions.
template <typename T>
struct FrameAttention {
  std::int64_t batch = 0;
  std::int64_t frames = 0;
  std::int64_t positions = 0;
  std::int64_t heads = 0;
  std::int64_t head_width = 0;
  const T* qkv = nullptr;
  T* out = nullptr;
  float scale = 1.0F;
};
inline constexpr std::int64_t kMaxFrameAttention = 128;  ///< frames
/// Floats that each thread needs for itself.
[[nodiscard]] std::size_t frame_attention_scratch(const FrameAttention<float>& work) noexcept;
void attend_frames(const FrameAttention<float>& work,
                   float* scratch,
                   std::int64_t begin,
                   std::int64_t end) noexcept;

/// The same on the device, all rows. `stream` is a cudaStream_t. T is float or std::uint16_t, the
/// bits of bfloat16; arithmetic is in float32.
template <typename T>
CudaStatus modulate_rows_cuda(const ModulateRows<T>& work, void* stream) noexcept;
template <typename T>
CudaStatus add_gated_rows_cuda(const AddGatedRows<T>& work, void* stream) noexcept;
template <typename T>
CudaStatus norm_rotate_rows_cuda(const NormRotateRows<T>& work, void* stream) noexcept;
template <typename T>
CudaStatus attend_frames_cuda(const FrameAttention<T>& work, void* stream) noexcept;

}  // namespace kinema::kernels
