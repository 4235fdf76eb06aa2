// SPDX-License-Identifier: Apache-2.0
#include "vae/tiling.h"

#include <algorithm>
#include <string>

#include <ATen/ops/arange.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "core/base/error.h"

namespace kinema::vae {
namespace {

/// Pairwise tiles start every `step` up to the end, even where an earlier tile already reaches it.
std::vector<Span> pairwise_spans(std::int64_t total, const TileAxis& axis) {
  std::vector<Span> spans;
  for (std::int64_t begin = 0; begin < total; begin += axis.step) {
    spans.push_back({begin, std::min(begin + axis.tile, total)});
  }
  return spans;
}

/// Weights of the pieces divided by their sum at each position, so that merging is a plain sum.
std::vector<Tensor> normalised_weights(const std::vector<Span>& spans,
                                       std::int64_t total,
                                       std::int64_t overlap) {
  Tensor sum = at::zeros({total});
  std::vector<Tensor> weights;
  for (std::size_t k = 0; k < spans.size(); ++k) {
    weights.push_back(ramp_weights(spans[k].size(), overlap, k == 0, k + 1 == spans.size()));
    sum.narrow(0, spans[k].begin, spans[k].size()).add_(weights.back());
  }
  for (std::size_t k = 0; k < spans.size(); ++k) {
    weights[k] = weights[k] / sum.narrow(0, spans[k].begin, spans[k].size());
  }
  return weights;
}

[[noreturn]] void throw_sizes(std::int64_t expected_rows,
                              std::int64_t expected_columns,
                              std::int64_t rows,
                              std::int64_t columns) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "vae.tiling",
               .place = "vae.tiling",
               .subject = "tiles",
               .expected = "pieces that add up to " + std::to_string(expected_rows) + " x " +
                           std::to_string(expected_columns),
               .got = std::to_string(rows) + " x " + std::to_string(columns),
               .hint = "choose another tile size or overlap"});
}

class TileGrid {
 public:
  TileGrid(const Tensor& x, const TileAxis& rows, const TileAxis& columns, TileBlend blend)
      : x_(x),
        row_spans_(tile_spans(x.size(3), rows, blend)),
        column_spans_(tile_spans(x.size(4), columns, blend)) {}

  [[nodiscard]] std::int64_t num_rows() const { return std::ssize(row_spans_); }
  [[nodiscard]] std::int64_t num_columns() const { return std::ssize(column_spans_); }

  [[nodiscard]] Tensor tile(std::int64_t row, std::int64_t column) const {
    const Span& r = row_spans_[static_cast<std::size_t>(row)];
    const Span& c = column_spans_[static_cast<std::size_t>(column)];
    return x_.narrow(3, r.begin, r.size()).narrow(4, c.begin, c.size());
  }

 private:
  Tensor x_;
  std::vector<Span> row_spans_;
  std::vector<Span> column_spans_;
};

using RunTile = std::function<Tensor(const Tensor&, std::int64_t)>;

Tensor run_pairwise(const TileGrid& grid,
                    const TileAxis& rows,
                    const TileAxis& columns,
                    const RunTile& run) {
  std::vector<Tensor> above;
  std::vector<Tensor> joined_rows;
  for (std::int64_t i = 0; i < grid.num_rows(); ++i) {
    std::vector<Tensor> tiles;
    for (std::int64_t j = 0; j < grid.num_columns(); ++j) {
      tiles.push_back(run(grid.tile(i, j), i * grid.num_columns() + j));
    }
    std::vector<Tensor> kept;
    for (std::size_t j = 0; j < tiles.size(); ++j) {
      if (i > 0) {
        blend_pair_(above[j], tiles[j], rows.extent, 3);
      }
      if (j > 0) {
        blend_pair_(tiles[j - 1], tiles[j], columns.extent, 4);
      }
      const Tensor& tile = tiles[j];
      kept.push_back(tile.narrow(3, 0, std::min(rows.keep, tile.size(3)))
                         .narrow(4, 0, std::min(columns.keep, tile.size(4))));
    }
    joined_rows.push_back(at::cat(kept, 4));
    above = std::move(tiles);
  }
  return at::cat(joined_rows, 3);
}

/// Where the tiles lie in the output: every `keep`, up to the end.
std::vector<Span> output_spans(std::int64_t count, const TileAxis& axis, std::int64_t total) {
  std::vector<Span> spans;
  for (std::int64_t k = 0; k < count; ++k) {
    const std::int64_t begin = k * axis.keep;
    spans.push_back({begin, std::min(begin + axis.keep + axis.extent, total)});
  }
  spans.back().end = total;
  return spans;
}

Tensor run_separable(const TileGrid& grid,
                     const TileAxis& rows,
                     const TileAxis& columns,
                     std::int64_t out_rows,
                     std::int64_t out_columns,
                     const RunTile& run) {
  const auto row_spans = output_spans(grid.num_rows(), rows, out_rows);
  const auto column_spans = output_spans(grid.num_columns(), columns, out_columns);
  const auto row_weights = normalised_weights(row_spans, out_rows, rows.extent);
  const auto column_weights = normalised_weights(column_spans, out_columns, columns.extent);
  Tensor merged;
  for (std::size_t i = 0; i < row_spans.size(); ++i) {
    for (std::size_t j = 0; j < column_spans.size(); ++j) {
      const auto number = static_cast<std::int64_t>(i * column_spans.size() + j);
      const Tensor tile =
          run(grid.tile(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j)), number);
      if (tile.size(3) != row_spans[i].size() || tile.size(4) != column_spans[j].size()) {
        throw_sizes(row_spans[i].size(), column_spans[j].size(), tile.size(3), tile.size(4));
      }
      if (!merged.defined()) {
        const auto s = tile.sizes();
        merged = at::zeros({s[0], s[1], s[2], out_rows, out_columns}, tile.options());
      }
      const Tensor weights = (row_weights[i].unsqueeze(1) * column_weights[j]).to(tile.options());
      merged.narrow(3, row_spans[i].begin, row_spans[i].size())
          .narrow(4, column_spans[j].begin, column_spans[j].size())
          .addcmul_(tile, weights);
    }
  }
  return merged;
}

}  // namespace

std::vector<Span> overlapping_spans(std::int64_t total, std::int64_t size, std::int64_t overlap) {
  KINEMA_DCHECK(total > 0 && overlap >= 0 && overlap < size);
  std::vector<Span> spans;
  std::int64_t begin = 0;
  for (; begin + size < total; begin += size - overlap) {
    spans.push_back({begin, begin + size});
  }
  spans.push_back({begin, total});
  return spans;
}

Tensor ramp_weights(std::int64_t size, std::int64_t overlap, bool is_first, bool is_last) {
  Tensor weights = at::ones({size});
  const auto ramp = at::arange(1, size + 1, at::kFloat) / static_cast<double>(overlap + 1);
  if (!is_first) {
    weights = at::minimum(weights, ramp);
  }
  if (!is_last) {
    weights = at::minimum(weights, ramp.flip(0));
  }
  return weights;
}

Tensor merge_spans(const std::vector<Tensor>& pieces,
                   const std::vector<Span>& spans,
                   std::int64_t total,
                   std::int64_t overlap,
                   std::int64_t axis) {
  const auto weights = normalised_weights(spans, total, overlap);
  auto shape = pieces.front().sizes().vec();
  shape[static_cast<std::size_t>(axis)] = total;
  Tensor merged = at::zeros(shape, pieces.front().options());
  std::vector<std::int64_t> along(shape.size(), 1);
  for (std::size_t k = 0; k < pieces.size(); ++k) {
    along[static_cast<std::size_t>(axis)] = spans[k].size();
    merged.narrow(axis, spans[k].begin, spans[k].size())
        .addcmul_(pieces[k], weights[k].to(merged.options()).view(along));
  }
  return merged;
}

void blend_pair_(const Tensor& a, Tensor& b, std::int64_t extent, std::int64_t axis) {
  const std::int64_t e = std::min({a.size(axis), b.size(axis), extent});
  if (e <= 0) {
    return;
  }
  std::vector<std::int64_t> along(static_cast<std::size_t>(b.dim()), 1);
  along[static_cast<std::size_t>(axis)] = e;
  const Tensor t =
      (at::arange(0, e, at::kFloat) / static_cast<double>(e)).to(b.options()).view(along);
  Tensor target = b.narrow(axis, 0, e);
  target.copy_(a.narrow(axis, a.size(axis) - e, e) * (1 - t) + target * t);
}

Tensor run_tiles(const Tensor& x_BCTHW,
                 const TileAxis& rows,
                 const TileAxis& columns,
                 std::int64_t out_rows,
                 std::int64_t out_columns,
                 TileBlend blend,
                 const RunTile& run) {
  const TileGrid grid(x_BCTHW, rows, columns, blend);
  if (blend == TileBlend::kSeparable) {
    return run_separable(grid, rows, columns, out_rows, out_columns, run);
  }
  Tensor joined = run_pairwise(grid, rows, columns, run);
  if (joined.size(3) < out_rows || joined.size(4) < out_columns) {
    throw_sizes(out_rows, out_columns, joined.size(3), joined.size(4));
  }
  return joined.narrow(3, 0, out_rows).narrow(4, 0, out_columns);
}

std::vector<Span> tile_spans(std::int64_t total, const TileAxis& axis, TileBlend blend) {
  return blend == TileBlend::kPairwise ? pairwise_spans(total, axis)
                                       : overlapping_spans(total, axis.tile, axis.tile - axis.step);
}

std::int64_t num_tiles(std::int64_t size, const TileAxis& axis, TileBlend blend) {
  return std::ssize(tile_spans(size, axis, blend));
}

}  // namespace kinema::vae
