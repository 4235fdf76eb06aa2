// SPDX-License-Identifier: Apache-2.0
// Internal: the loops of winograd.h, compiled once per instruction set. winograd_<isa>.cpp includes
// this inside an unnamed namespace after defining kLanes, so nothing here has linkage.
//
// A panel is 2 * kLanes output channels: the micro kernel keeps 6 tiles x 1 panel in registers.
// Filter: [36][panels][taps * I][panel]. Transformed input: [slot][36][tiles][I], one slot per tap.
// Products: [36][tiles][O].
#pragma once

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));

/// Filters are transformed in double, once.
typedef double Wide __attribute__((vector_size(kLanes * sizeof(double))));
typedef std::uint16_t HalfVec __attribute__((vector_size(kLanes * sizeof(std::uint16_t))));
typedef std::uint32_t WordVec __attribute__((vector_size(kLanes * sizeof(std::uint32_t))));

constexpr std::int64_t kPanel = 2 * kLanes;
constexpr std::int64_t kPoints = 36;
constexpr std::int64_t kTileRows = 6;             ///< tiles per micro kernel
constexpr std::int64_t kRun = kWinogradChannels;  ///< products summed at a stretch
constexpr std::int64_t kGroup = 4 * kRun;

inline Vec load(const float* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

/// bfloat16 widens to float by a shift.
inline Vec load(const std::uint16_t* from) {
  HalfVec half;
  __builtin_memcpy(&half, from, sizeof(half));
  const WordVec bits = __builtin_convertvector(half, WordVec) << 16;
  Vec v;
  __builtin_memcpy(&v, &bits, sizeof(v));
  return v;
}

inline void store(float* to, Vec v) {
  __builtin_memcpy(to, &v, sizeof(v));
}

inline Vec splat(float value) {
  return value - Vec{};  // exact, so it is only a broadcast
}

/// B^T d: six samples to six points.
inline void transform_input(const Vec d[6], Vec out[6]) {
  const Vec even = d[4] - 2.25F * d[2];
  const Vec odd = 0.75F * d[3] - 1.6875F * d[1];
  const Vec even2 = d[4] - 0.5625F * d[2];
  const Vec odd2 = 1.5F * d[3] - 0.84375F * d[1];
  out[0] = 1.265625F * d[0] - 2.8125F * d[2] + d[4];
  out[1] = even + odd;
  out[2] = even - odd;
  out[3] = even2 + odd2;
  out[4] = even2 - odd2;
  out[5] = 1.265625F * d[1] - 2.8125F * d[3] + d[5];
}

/// G g: three taps to six points.
inline void transform_filter(const Wide g[3], Wide out[6]) {
  const Wide even = -0.52674897119341563786 * g[0] - 0.29629629629629629630 * g[2];
  const Wide odd = 0.39506172839506172840 * g[1];
  const Wide even2 = 0.13168724279835390947 * g[0] + 0.29629629629629629630 * g[2];
  const Wide odd2 = 0.19753086419753086420 * g[1];
  out[0] = 0.79012345679012345679 * g[0];
  out[1] = even - odd;
  out[2] = even + odd;
  out[3] = even2 + odd2;
  out[4] = even2 - odd2;
  out[5] = g[2];
}

/// A^T m: six points to four results.
inline void transform_output(const Vec m[6], Vec out[4]) {
  const Vec sum = m[1] + m[2];
  const Vec difference = m[1] - m[2];
  const Vec sum2 = m[3] + m[4];
  const Vec difference2 = m[3] - m[4];
  out[0] = m[0] + sum + sum2;
  out[1] = 0.75F * difference + 1.5F * difference2;
  out[2] = 0.5625F * sum + 2.25F * sum2;
  out[3] = 0.421875F * difference + 3.375F * difference2 + m[5];
}

/// Panels [first, last) of the filter. weight [O, taps, 3, 3, I].
void filter_panels(const WinogradConv& conv,
                   const float* weight,
                   float* filter,
                   std::int64_t first,
                   std::int64_t last) {
  const std::int64_t in = conv.in_channels;
  const std::int64_t depth = conv.taps * in;
  const std::int64_t panels = conv.out_channels / kPanel;
  Vec columns[kPoints][kPanel];
  for (std::int64_t panel = first; panel < last; ++panel) {
    for (std::int64_t tc = 0; tc < depth; tc += kLanes) {
      const std::int64_t t = tc / in;
      const std::int64_t c = tc % in;
      for (std::int64_t o = 0; o < kPanel; ++o) {
        const float* source = weight + (((panel * kPanel + o) * conv.taps + t) * 9) * in + c;
        Wide half[6][3];
        for (int j = 0; j < 3; ++j) {
          Wide g[3];
          for (int k = 0; k < 3; ++k) {
            g[k] = __builtin_convertvector(load(source + (3 * k + j) * in), Wide);
          }
          Wide points[6];
          transform_filter(g, points);
          for (int i = 0; i < 6; ++i) {
            half[i][j] = points[i];
          }
        }
        for (int i = 0; i < 6; ++i) {
          Wide points[6];
          transform_filter(half[i], points);
          for (int j = 0; j < 6; ++j) {
            columns[6 * i + j][o] = __builtin_convertvector(points[j], Vec);
          }
        }
      }
      for (std::int64_t xi = 0; xi < kPoints; ++xi) {
        float* to = filter + ((xi * panels + panel) * depth + tc) * kPanel;
        for (std::int64_t lane = 0; lane < kLanes; ++lane) {
          for (std::int64_t o = 0; o < kPanel; ++o) {
            to[lane * kPanel + o] = columns[xi][o][lane];
          }
        }
      }
    }
  }
}

/// Where the tiles of a block lie.
struct Block {
  std::int64_t first = 0;  ///< tile, row-major over the picture
  std::int64_t count = 0;
  std::int64_t stored = 0;  ///< count rounded up to the micro kernel

  /// Floats between two points: not a power of two, or all points would share cache sets.
  [[nodiscard]] std::int64_t plane(std::int64_t channels) const {
    return stored * channels + kWinogradPlanePadding;
  }
};

/// B^T d B of all tiles of a block, one picture of floats or bfloat16.
template <typename Element>
void transform_picture(const WinogradConv& conv,
                       const Block& block,
                       const Element* picture,
                       const Element* zeros,
                       float* out) {
  const std::int64_t in = conv.in_channels;
  const std::int64_t tile_columns = (conv.columns + 3) / 4;
  const int shift = conv.doubled ? 1 : 0;
  const std::int64_t row_pixels = conv.columns >> shift;
  const std::int64_t plane = block.plane(in);
  const Element* pixels[36];
  for (std::int64_t tile = 0; tile < block.count; ++tile) {
    const std::int64_t top = (block.first + tile) / tile_columns * 4 - 1;
    const std::int64_t left = (block.first + tile) % tile_columns * 4 - 1;
    for (std::int64_t i = 0; i < 36; ++i) {
      const std::int64_t row = top + i / 6;
      const std::int64_t column = left + i % 6;
      const bool inside = row >= 0 && row < conv.rows && column >= 0 && column < conv.columns;
      pixels[i] = inside ? picture + ((row >> shift) * row_pixels + (column >> shift)) * in : zeros;
    }
    float* target = out + tile * in;
    for (std::int64_t c = 0; c < in; c += kLanes) {
      Vec half[6][6];
      for (int j = 0; j < 6; ++j) {
        Vec d[6];
        for (int i = 0; i < 6; ++i) {
          d[i] = load(pixels[6 * i + j] + c);
        }
        Vec points[6];
        transform_input(d, points);
        for (int i = 0; i < 6; ++i) {
          half[i][j] = points[i];
        }
      }
      for (int i = 0; i < 6; ++i) {
        Vec points[6];
        transform_input(half[i], points);
        for (int j = 0; j < 6; ++j) {
          store(target + (6 * i + j) * plane + c, points[j]);
        }
      }
    }
  }
}

/// products[6 tiles][panel] of one point: sum over taps and channels. Runs of kRun products are
/// added up in groups, and the groups to the result: one long sum would lose several times as many
/// digits.
inline void micro_kernel(const float* const* inputs,  // one per tap, 6 rows of I
                         std::int64_t taps,
                         std::int64_t in,
                         const float* filter,
                         float* products,
                         std::int64_t out) {
  const std::int64_t depth = taps * in;
  for (std::int64_t group = 0; group < depth; group += kGroup) {
    const std::int64_t end = group + kGroup < depth ? group + kGroup : depth;
    Vec total[kTileRows][2] = {};
    for (std::int64_t run = group; run < end; run += kRun) {
      const float* const source = inputs[run / in] + run % in;
      Vec sum[kTileRows][2] = {};
      for (std::int64_t c = 0; c < kRun; ++c, filter += kPanel) {
        const Vec b0 = load(filter);
        const Vec b1 = load(filter + kLanes);
        for (int r = 0; r < kTileRows; ++r) {
          const Vec x = splat(source[r * in + c]);
          sum[r][0] += x * b0;
          sum[r][1] += x * b1;
        }
      }
      for (int r = 0; r < kTileRows; ++r) {
        total[r][0] += sum[r][0];
        total[r][1] += sum[r][1];
      }
    }
    for (int r = 0; r < kTileRows; ++r) {
      float* const to = products + r * out;
      store(to, group == 0 ? total[r][0] : total[r][0] + load(to));
      store(to + kLanes, group == 0 ? total[r][1] : total[r][1] + load(to + kLanes));
    }
  }
}

/// All products of a block. slots: transformed pictures of the taps.
void multiply(const WinogradConv& conv,
              const Block& block,
              const float* const* slots,
              const float* filter,
              float* products) {
  const std::int64_t in = conv.in_channels;
  const std::int64_t out = conv.out_channels;
  const std::int64_t panels = out / kPanel;
  const std::int64_t depth = conv.taps * in;
  const float* inputs[8];
  for (std::int64_t xi = 0; xi < kPoints; ++xi) {
    for (std::int64_t panel = 0; panel < panels; ++panel) {
      const float* columns = filter + (xi * panels + panel) * depth * kPanel;
      for (std::int64_t row = 0; row < block.stored; row += kTileRows) {
        for (std::int64_t t = 0; t < conv.taps; ++t) {
          inputs[t] = slots[t] + xi * block.plane(in) + row * in;
        }
        micro_kernel(inputs,
                     conv.taps,
                     in,
                     columns,
                     products + xi * block.plane(out) + row * out + panel * kPanel,
                     out);
      }
    }
  }
}

/// A^T m A of all tiles of a block, plus bias and addend, into one picture.
void write_picture(const WinogradConv& conv,
                   const Block& block,
                   const float* products,
                   const float* bias,
                   const float* addend,
                   float* picture) {
  const std::int64_t out = conv.out_channels;
  const std::int64_t tile_columns = (conv.columns + 3) / 4;
  const std::int64_t plane = block.plane(out);
  for (std::int64_t tile = 0; tile < block.count; ++tile) {
    const std::int64_t top = (block.first + tile) / tile_columns * 4;
    const std::int64_t left = (block.first + tile) % tile_columns * 4;
    const std::int64_t num_rows = conv.rows - top < 4 ? conv.rows - top : 4;
    const std::int64_t num_columns = conv.columns - left < 4 ? conv.columns - left : 4;
    const float* source = products + tile * out;
    for (std::int64_t o = 0; o < out; o += kLanes) {
      Vec half[4][6];
      for (int j = 0; j < 6; ++j) {
        Vec m[6];
        for (int i = 0; i < 6; ++i) {
          m[i] = load(source + (6 * i + j) * plane + o);
        }
        Vec results[4];
        transform_output(m, results);
        for (int i = 0; i < 4; ++i) {
          half[i][j] = results[i];
        }
      }
      const Vec offset = bias == nullptr ? Vec{} : load(bias + o);
      for (std::int64_t i = 0; i < num_rows; ++i) {
        Vec results[4];
        transform_output(half[i], results);
        const std::int64_t at = ((top + i) * conv.columns + left) * out + o;
        for (std::int64_t j = 0; j < num_columns; ++j) {
          const Vec extra = addend == nullptr ? offset : offset + load(addend + at + j * out);
          store(picture + at + j * out, results[j] + extra);
        }
      }
    }
  }
}

void run_block(const WinogradConv& conv,
               const WinogradPicture* frames,
               const float* filter,
               const float* bias,
               const float* const* addends,
               float* const* out,
               const Block& block,
               float* scratch) {
  const std::int64_t slot_floats = kPoints * block.plane(conv.in_channels);
  float* const zeros = scratch;
  float* const slots = zeros + conv.in_channels;
  float* const products = slots + conv.taps * slot_floats;
  for (std::int64_t c = 0; c < conv.in_channels; ++c) {
    zeros[c] = 0.0F;
  }
  // Rows that only fill up the micro kernel must hold finite numbers.
  for (std::int64_t plane = 0; plane < conv.taps * kPoints; ++plane) {
    float* const rest =
        slots + plane * block.plane(conv.in_channels) + block.count * conv.in_channels;
    __builtin_memset(
        rest,
        0,
        static_cast<std::size_t>((block.stored - block.count) * conv.in_channels) * sizeof(float));
  }
  const float* order[8];
  for (std::int64_t f = 0; f < conv.taps - 1 + conv.num_frames; ++f) {
    float* const slot = slots + f % conv.taps * slot_floats;
    if (frames[f].is_bf16) {
      transform_picture(conv,
                        block,
                        static_cast<const std::uint16_t*>(frames[f].data),
                        reinterpret_cast<const std::uint16_t*>(zeros),
                        slot);
    } else {
      transform_picture(conv, block, static_cast<const float*>(frames[f].data), zeros, slot);
    }
    const std::int64_t t = f - (conv.taps - 1);
    if (t < 0) {
      continue;
    }
    for (std::int64_t k = 0; k < conv.taps; ++k) {
      order[k] = slots + (t + k) % conv.taps * slot_floats;
    }
    multiply(conv, block, order, filter, products);
    write_picture(conv, block, products, bias, addends == nullptr ? nullptr : addends[t], out[t]);
  }
}
