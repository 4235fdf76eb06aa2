// SPDX-License-Identifier: Apache-2.0
// Overlapping pieces in time or space: where they lie, with which weights they merge, and the tile
// blend of public libraries. Planning is pure integer code.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "core/tensor/tensor.h"

namespace kinema::vae {

/// A half-open interval of positions.
struct Span {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  [[nodiscard]] std::int64_t size() const noexcept { return end - begin; }
  bool operator==(const Span&) const = default;
};

/// Pieces of `size` that start every size - overlap and cover [0, total); the last one may be
/// shorter. One piece when total <= size. Needs 0 <= overlap < size.
[[nodiscard]] std::vector<Span> overlapping_spans(std::int64_t total,
                                                  std::int64_t size,
                                                  std::int64_t overlap);

/// Merge weight of the elements of a piece: min(1, (i+1)/(O+1), (S-i)/(O+1)), no ramp at an outer
/// edge. @return fp32 [size].
[[nodiscard]] Tensor ramp_weights(std::int64_t size,
                                  std::int64_t overlap,
                                  bool is_first,
                                  bool is_last);

/// sum(w z) / sum(w) of pieces along one axis; spans[k] is where pieces[k] lies.
[[nodiscard]] Tensor merge_spans(const std::vector<Tensor>& pieces,
                                 const std::vector<Span>& spans,
                                 std::int64_t total,
                                 std::int64_t overlap,
                                 std::int64_t axis);

/// One step of the public tile blend, in place on b along `axis`:
/// b[y] = a[-e+y] (1 - y/e) + b[y] (y/e) with e = min(lengths of a and b, extent).
void blend_pair_(const Tensor& a, Tensor& b, std::int64_t extent, std::int64_t axis);

/// How tiles of pixels or latents become one output.
enum class TileBlend {
  kSeparable,  ///< weighted merge, separable in rows and columns
  kPairwise,   ///< in place with the tile above, then the left one, as the public libraries do
};

/// Tiles along one spatial axis, in input units, and what becomes of each in output units.
/// kPairwise: input tiles start every `step`, the blend is `extent` output elements long and each
/// tile contributes its first `keep` output elements.
/// kSeparable: the overlap in output units is extent.
struct TileAxis {
  std::int64_t tile = 0;    ///< input elements per tile
  std::int64_t step = 0;    ///< input elements between tile starts
  std::int64_t extent = 0;  ///< output elements that are blended
  std::int64_t keep = 0;    ///< output elements kept of each tile
};

/// Runs `run` on every tile and joins the results.
/// @param x_BCTHW  input.  @param run  maps a tile (and its number, row-major) to its output tile.
/// @param out_rows, out_columns  size of the result; a larger pairwise result is cropped to it.
/// Throws kInvalidArgument [vae.tiling] when the pieces do not add up to that size.
[[nodiscard]] Tensor run_tiles(const Tensor& x_BCTHW,
                               const TileAxis& rows,
                               const TileAxis& columns,
                               std::int64_t out_rows,
                               std::int64_t out_columns,
                               TileBlend blend,
                               const std::function<Tensor(const Tensor&, std::int64_t)>& run);

/// Where the tiles that run_tiles() makes of one axis lie in the input.
[[nodiscard]] std::vector<Span> tile_spans(std::int64_t total,
                                           const TileAxis& axis,
                                           TileBlend blend);
/// Their number.
[[nodiscard]] std::int64_t num_tiles(std::int64_t size, const TileAxis& axis, TileBlend blend);

}  // namespace kinema::vae
