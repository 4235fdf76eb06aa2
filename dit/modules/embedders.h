// SPDX-License-Identifier: Apache-2.0
// What a VDiT turns into vectors before the first block: patches, positions, times and other
// numbers, text features. Parameter names are those of Open-Sora checkpoints.
//
// Letters: B batch, T frames, S positions of a frame (rows x columns), both in patches, D width,
// M text tokens, C channels.
#pragma once

#include <array>
#include <cstdint>

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "core/nn/conv.h"
#include "core/nn/linear.h"
#include "core/nn/parameter.h"
#include "core/tensor/tensor.h"

namespace kinema::dit {

/// Size of a video in patches.
struct Grid {
  std::int64_t batch = 0;
  std::int64_t frames = 0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  [[nodiscard]] std::int64_t positions() const noexcept { return rows * columns; }
  [[nodiscard]] std::int64_t tokens() const noexcept { return frames * positions(); }
};

/// "proj": a convolution whose kernel is its stride.
class PatchEmbedImpl final : public torch::nn::Module {
 public:
  PatchEmbedImpl(std::int64_t channels,
                 std::array<std::int64_t, 3> patch,
                 std::int64_t width,
                 const nn::ParameterOptions& options = {});

  /// The grid of latents [B, C, T, H, W], which are padded at the end to whole patches.
  [[nodiscard]] Grid grid_of(const Tensor& latents_BCTHW) const;
  /// @return [B, T, S, D].
  [[nodiscard]] Tensor forward(const Tensor& latents_BCTHW) const;

  nn::Conv3d proj{nullptr};

 private:
  std::array<std::int64_t, 3> patch_;
};
TORCH_MODULE(PatchEmbed);

/// Puts patches back: [B, T, S, patch * C] -> [B, C, T, H, W] cut to the size of `like_BCTHW`.
[[nodiscard]] Tensor unpatchify(const Tensor& patches_BTSE,
                                const Grid& grid,
                                std::array<std::int64_t, 3> patch,
                                c10::IntArrayRef like_BCTHW);

/// "fc1", GELU (tanh), "fc2".
class MlpImpl final : public torch::nn::Module {
 public:
  MlpImpl(std::int64_t in,
          std::int64_t hidden,
          std::int64_t out,
          const nn::ParameterOptions& options = {});
  [[nodiscard]] Tensor forward(const Tensor& x) const;
  nn::Linear fc1{nullptr};
  nn::Linear fc2{nullptr};
};
TORCH_MODULE(Mlp);

/// [cos(v f_k), sin(v f_k)], f_k = 10000^(-k/128), k < 128. float32 [...] -> [..., 256].
/// Everything is computed in float32, as the reference does.
[[nodiscard]] Tensor sinusoid(const Tensor& values);

/// A number (time, frames per second, edge, ...) to a vector: sinusoid, "mlp.0", SiLU, "mlp.2".
class ScalarEmbedderImpl final : public torch::nn::Module {
 public:
  explicit ScalarEmbedderImpl(std::int64_t width, const nn::ParameterOptions& options = {});
  /// @param values  [...].  @return [..., width], of `dtype`.
  [[nodiscard]] Tensor forward(const Tensor& values, c10::ScalarType dtype) const;
  nn::Linear first{nullptr};
  nn::Linear second{nullptr};
};
TORCH_MODULE(ScalarEmbedder);

/// SiLU and linear layer "1".
class ModulationProjectionImpl final : public torch::nn::Module {
 public:
  ModulationProjectionImpl(std::int64_t width,
                           std::int64_t num_vectors,
                           const nn::ParameterOptions& options = {});
  /// @param condition_RD  @return [R, num_vectors, D].
  [[nodiscard]] Tensor forward(const Tensor& condition_RD) const;
  nn::Linear linear{nullptr};

 private:
  std::int64_t num_vectors_;
};
TORCH_MODULE(ModulationProjection);

/// "y_proj.{fc1,fc2}", and with a null caption "y_embedding" [M, C].
class CaptionEmbedderImpl final : public torch::nn::Module {
 public:
  CaptionEmbedderImpl(std::int64_t channels,
                      std::int64_t width,
                      std::int64_t null_tokens,
                      const nn::ParameterOptions& options = {});
  /// @param context [..., C].  @return [..., D].
  [[nodiscard]] Tensor forward(const Tensor& context) const { return y_proj->forward(context); }
  Mlp y_proj{nullptr};
  Tensor y_embedding;  ///< undefined without a null caption
};
TORCH_MODULE(CaptionEmbedder);

/// float32 [S, D]: the first half of the channels encodes the column, the second the row, each as
/// sines, then cosines, of i (base / n) / scale 10000^(-4 k / D).
[[nodiscard]] Tensor position_table_2d(
    std::int64_t rows, std::int64_t columns, std::int64_t width, double base, double scale);

/// float32 [T, D]: sines, then cosines, of t 10000^(-2 k / D).
[[nodiscard]] Tensor position_table_1d(std::int64_t length, std::int64_t width);

}  // namespace kinema::dit
