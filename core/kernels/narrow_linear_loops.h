// SPDX-License-Identifier: Apache-2.0
// Internal: the loops of narrow_linear.h as templates over a set of lanes, instantiated by
// narrow_linear_<isa>.cpp in unnamed namespaces.
//
// x is packed as [input block][panel of tokens][input][token of the panel], so that one load brings
// the same input of all tokens of a panel. A tile keeps kTileOutputs x panel sums in registers; the
// weight of an output is broadcast over the tokens. Sums of a range of outputs stay in scratch as
// [output][token] and are turned round at the end.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/kernels/narrow_linear.h"

namespace kinema::kernels {

/// The functions of one instruction set.
struct NarrowLinearKernels {
  std::int64_t panel_tokens;  ///< tokens are padded to a multiple of this
  void (*pack)(const NarrowLinear&, float* packed, std::int64_t begin, std::int64_t end);
  void (*outputs)(const NarrowLinear&,
                  const float* packed,
                  float* scratch,
                  std::int64_t begin,
                  std::int64_t end);
};

#if defined(__x86_64__)
[[nodiscard]] const NarrowLinearKernels& avx2_narrow_linear() noexcept;
[[nodiscard]] const NarrowLinearKernels& avx512_narrow_linear() noexcept;
#endif

/// Row distance of widened weights in scratch: not a power of two, so that the rows of a tile do
/// not fall on the same cache lines.
inline constexpr std::int64_t kWideStride = kSumBlock + 16;
inline constexpr std::int64_t kSumPadding = 16;  ///< the same for the rows of sums

namespace {  // each instruction set has its own copies; none may be linked into another file

template <typename Lanes>
struct NarrowLinearLoops {
  using F = typename Lanes::F;
  static constexpr std::int64_t kPanel = Lanes::kLanes * Lanes::kPanelVectors;

  static std::int64_t padded(std::int64_t tokens) {
    return (tokens + kPanel - 1) / kPanel * kPanel;
  }

  static void pack(const NarrowLinear& p, float* packed, std::int64_t begin, std::int64_t end) {
    const std::int64_t all = padded(p.tokens);
    for (std::int64_t panel = begin; panel < end; ++panel) {
      const std::int64_t first = panel * kPanel;
      const std::int64_t count = std::min(kPanel, p.tokens - first);
      for (std::int64_t block = 0; block < p.in; block += kSumBlock) {
        const std::int64_t length = std::min(kSumBlock, p.in - block);
        float* to = packed + block * all + first * length;
        if (count < kPanel) {
          std::fill(to, to + kPanel * length, 0.0F);
        }
        for (std::int64_t token = 0; token < count; ++token) {
          const float* from = p.x + (first + token) * p.in + block;
          for (std::int64_t k = 0; k < length; ++k) {
            to[k * kPanel + token] = from[k];
          }
        }
      }
    }
  }

  /// Rows [row, row + rows) of the weight, inputs [block, block + length), as fp32 with
  /// kWideStride.
  static void widen(const NarrowLinear& p,
                    float* wide,
                    std::int64_t row,
                    std::int64_t rows,
                    std::int64_t block,
                    std::int64_t length) {
    for (std::int64_t i = 0; i < rows; ++i) {
      float* to = wide + i * kWideStride;
      const std::int64_t offset = (row + i) * p.in + block;
      switch (p.type) {
        case WeightType::kF32:
          std::copy_n(static_cast<const float*>(p.weight) + offset, length, to);
          break;
        case WeightType::kBF16:
          Lanes::widen_bf16(to, static_cast<const std::uint16_t*>(p.weight) + offset, length);
          break;
        case WeightType::kF16:
          Lanes::widen_f16(to, static_cast<const std::uint16_t*>(p.weight) + offset, length);
          break;
      }
    }
  }

  /// Sums of kOutputs outputs and one panel of tokens over one input block.
  template <int kOutputs>
  static void tile(float* sums,
                   std::int64_t stride,
                   const float* wide,
                   const float* panel,
                   std::int64_t length,
                   bool first) {
    constexpr int kVectors = Lanes::kPanelVectors;
    F sum[kOutputs][kVectors];
    for (int o = 0; o < kOutputs; ++o) {
      for (int v = 0; v < kVectors; ++v) {
        sum[o][v] = Lanes::zero();
      }
    }
    for (std::int64_t k = 0; k < length; ++k) {
      F x[kVectors];
      for (int v = 0; v < kVectors; ++v) {
        x[v] = Lanes::load(panel + k * kPanel + v * Lanes::kLanes);
      }
      for (int o = 0; o < kOutputs; ++o) {
        const F w = Lanes::broadcast(wide + o * kWideStride + k);
        for (int v = 0; v < kVectors; ++v) {
          sum[o][v] = Lanes::multiply_add(w, x[v], sum[o][v]);
        }
      }
    }
    for (int o = 0; o < kOutputs; ++o) {
      for (int v = 0; v < kVectors; ++v) {
        float* to = sums + o * stride + v * Lanes::kLanes;
        Lanes::store(to, first ? sum[o][v] : Lanes::add(Lanes::load(to), sum[o][v]));
      }
    }
  }

  template <int kOutputs>
  static void tile_of(int outputs,
                      float* sums,
                      std::int64_t stride,
                      const float* wide,
                      const float* panel,
                      std::int64_t length,
                      bool first) {
    if (outputs == kOutputs) {
      tile<kOutputs>(sums, stride, wide, panel, length, first);
    } else if constexpr (kOutputs > 1) {
      tile_of<kOutputs - 1>(outputs, sums, stride, wide, panel, length, first);
    }
  }

  /// Asks for a part of the next panel, which comes from the outer caches. `part` of `parts`.
  static void prefetch_panel(const float* panel,
                             std::int64_t floats,
                             std::int64_t part,
                             std::int64_t parts) {
    constexpr std::int64_t kLineFloats = 16;
    const std::int64_t lines = floats / kLineFloats;
    for (std::int64_t i = lines * part / parts; i < lines * (part + 1) / parts; ++i) {
      __builtin_prefetch(panel + i * kLineFloats, 0, 2);
    }
  }

  /// Asks for a part of the next piece of the weight: its rows are too short for the hardware to
  /// see the pattern. `part` of `parts` equal parts of rows [row, row + rows) from input `block`
  /// on.
  static void prefetch_weight(const NarrowLinear& p,
                              std::int64_t row,
                              std::int64_t rows,
                              std::int64_t block,
                              std::int64_t part,
                              std::int64_t parts) {
    constexpr std::int64_t kLine = 64;
    const std::int64_t size = p.type == WeightType::kF32 ? 4 : 2;
    const std::int64_t length = std::min(kSumBlock, p.in - block);
    const std::int64_t lines = (length * size + kLine - 1) / kLine;
    const char* from = static_cast<const char*>(p.weight) + (row * p.in + block) * size;
    for (std::int64_t i = rows * lines * part / parts; i < rows * lines * (part + 1) / parts; ++i) {
      __builtin_prefetch(from + (i / lines) * p.in * size + (i % lines) * kLine, 0, 2);
    }
  }

  /// At most kOutputBlock outputs.
  static void block_outputs(const NarrowLinear& p,
                            const float* packed,
                            float* scratch,
                            std::int64_t begin,
                            std::int64_t count) {
    const std::int64_t all = padded(p.tokens);
    const std::int64_t stride = all + kSumPadding;
    float* wide = scratch;
    float* sums = scratch + kOutputBlock * kWideStride;
    for (std::int64_t block = 0; block < p.in; block += kSumBlock) {
      const std::int64_t length = std::min(kSumBlock, p.in - block);
      widen(p, wide, begin, count, block, length);
      for (std::int64_t first = 0; first < all; first += kPanel) {
        if (block + kSumBlock < p.in) {
          prefetch_weight(p, begin, count, block + kSumBlock, first / kPanel, all / kPanel);
        }
        const float* panel = packed + block * all + first * length;
        const std::int64_t tiles = (count + Lanes::kTileOutputs - 1) / Lanes::kTileOutputs;
        for (std::int64_t o = 0; o < count; o += Lanes::kTileOutputs) {
          if (first + kPanel < all) {
            prefetch_panel(
                panel + kPanel * length, kPanel * length, o / Lanes::kTileOutputs, tiles);
          }
          const int outputs =
              static_cast<int>(std::min<std::int64_t>(Lanes::kTileOutputs, count - o));
          tile_of<Lanes::kTileOutputs>(outputs,
                                       sums + o * stride + first,
                                       stride,
                                       wide + o * kWideStride,
                                       panel,
                                       length,
                                       block == 0);
        }
      }
    }
    for (std::int64_t token = 0; token < p.tokens; ++token) {
      float* to = p.y + token * p.out + begin;
      for (std::int64_t o = 0; o < count; ++o) {
        to[o] = sums[o * stride + token] + (p.bias == nullptr ? 0.0F : p.bias[begin + o]);
      }
    }
  }

  static void outputs(const NarrowLinear& p,
                      const float* packed,
                      float* scratch,
                      std::int64_t begin,
                      std::int64_t end) {
    for (std::int64_t o = begin; o < end; o += kOutputBlock) {
      block_outputs(p, packed, scratch, o, std::min(kOutputBlock, end - o));
    }
  }
};

}  // namespace

}  // namespace kinema::kernels
