// SPDX-License-Identifier: Apache-2.0
// Internal: the loops of group_norm_silu.h, compiled once per instruction set. Included inside an
// unnamed namespace after kLanes is defined, so nothing here has linkage.
#pragma once

typedef float Vec __attribute__((vector_size(kLanes * sizeof(float))));
typedef std::int32_t IntVec __attribute__((vector_size(kLanes * sizeof(std::int32_t))));

inline Vec load(const float* from) {
  Vec v;
  __builtin_memcpy(&v, from, sizeof(v));
  return v;
}

inline void store(float* to, Vec v) {
  __builtin_memcpy(to, &v, sizeof(v));
}

/// exp(x) for x <= 88; 0 below -87. 2^n times a polynomial on [-ln 2 / 2, ln 2 / 2].
inline Vec exponential(Vec x) {
  constexpr float kRound = 12582912.0F;  // 1.5 * 2^23: adding it rounds to an integer
  const Vec low = Vec{} - 87.0F;
  const Vec high = Vec{} + 88.0F;
  const Vec y = x < low ? low : (x > high ? high : x);
  const Vec shifted = y * 1.44269504088896341F + kRound;
  const Vec n = shifted - kRound;
  const Vec r = y - n * 0.693359375F + n * 2.12194440e-4F;
  Vec p = r * 1.9875691500e-4F + 1.3981999507e-3F;
  p = p * r + 8.3334519073e-3F;
  p = p * r + 4.1665795894e-2F;
  p = p * r + 1.6666665459e-1F;
  p = p * r + 5.0000001201e-1F;
  p = p * (r * r) + r + 1.0F;
  IntVec exponent;
  __builtin_memcpy(&exponent, &shifted, sizeof(exponent));
  IntVec bits;
  __builtin_memcpy(&bits, &p, sizeof(bits));
  bits += exponent << 23;
  Vec result;
  __builtin_memcpy(&result, &bits, sizeof(result));
  return result;
}

inline Vec silu_of(Vec v) {
  return v / (1.0F + exponential(-v));
}

void sums(const float* x,
          std::int64_t num_positions,
          std::int64_t channels,
          std::int64_t num_groups,
          const float* pivots,
          double* sum,
          double* squares,
          float* buffer) {
  constexpr std::int64_t kRun = 64;
  const std::int64_t per_group = channels / num_groups;
  float* const pivot = buffer;
  for (std::int64_t c = 0; c < channels; ++c) {
    pivot[c] = pivots[c / per_group];
  }
  for (std::int64_t g = 0; g < num_groups; ++g) {
    sum[g] = 0.0;
    squares[g] = 0.0;
  }
  for (std::int64_t begin = 0; begin < num_positions; begin += kRun) {
    const std::int64_t count = num_positions - begin < kRun ? num_positions - begin : kRun;
    const float* const run = x + begin * channels;
    std::int64_t c = 0;
    for (; c + kLanes <= channels; c += kLanes) {
      const Vec center = load(pivot + c);
      Vec s = {};
      Vec q = {};
      for (std::int64_t i = 0; i < count; ++i) {
        const Vec d = load(run + i * channels + c) - center;
        s += d;
        q += d * d;
      }
      for (std::int64_t lane = 0; lane < kLanes; ++lane) {
        sum[(c + lane) / per_group] += static_cast<double>(s[lane]);
        squares[(c + lane) / per_group] += static_cast<double>(q[lane]);
      }
    }
    for (; c < channels; ++c) {
      for (std::int64_t i = 0; i < count; ++i) {
        const double d = static_cast<double>(run[i * channels + c]) - static_cast<double>(pivot[c]);
        sum[c / per_group] += d;
        squares[c / per_group] += d * d;
      }
    }
  }
}

template <bool kSilu>
void apply_all(float* out,
               const float* x,
               std::int64_t num_positions,
               std::int64_t channels,
               const float* scale,
               const float* shift) {
  const std::int64_t whole = channels / kLanes * kLanes;
  for (std::int64_t i = 0; i < num_positions; ++i) {
    for (std::int64_t c = 0; c < whole; c += kLanes) {
      const Vec v = load(x + c) * load(scale + c) + load(shift + c);
      store(out + c, kSilu ? silu_of(v) : v);
    }
    for (std::int64_t c = whole; c < channels; ++c) {
      Vec v = {};
      v[0] = x[c] * scale[c] + shift[c];
      out[c] = kSilu ? silu_of(v)[0] : v[0];
    }
    x += channels;
    out += channels;
  }
}

void apply(float* out,
           const float* x,
           std::int64_t num_positions,
           std::int64_t channels,
           const float* scale,
           const float* shift,
           bool silu) {
  if (silu) {
    apply_all<true>(out, x, num_positions, channels, scale, shift);
  } else {
    apply_all<false>(out, x, num_positions, channels, scale, shift);
  }
}
