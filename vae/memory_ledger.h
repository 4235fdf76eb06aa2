// SPDX-License-Identifier: Apache-2.0
// Internal: books what a network allocates and computes, without computing. Booking functions
// mirror the forward functions of the layers, with a Live in the place of every tensor.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "vae/autoencoder.h"

namespace kinema::vae {

/// The size of a tensor [B, C, T, H, W].
struct Sheet {
  std::int64_t batch = 1;
  std::int64_t channels = 0;
  std::int64_t frames = 1;
  std::int64_t rows = 0;
  std::int64_t columns = 0;

  [[nodiscard]] std::int64_t positions() const { return batch * frames * rows * columns; }
  [[nodiscard]] std::int64_t elements() const { return positions() * channels; }
  [[nodiscard]] Sheet with_channels(std::int64_t count) const;
  [[nodiscard]] Sheet with_frames(std::int64_t count) const;
  /// Rows and columns times or, rounding down, divided by 2.
  [[nodiscard]] Sheet doubled() const;
  [[nodiscard]] Sheet halved() const;
};

class Ledger;

/// A tensor as far as memory goes; leaves the ledger when it dies.
class Live {
 public:
  Live() = default;
  Live(Ledger& ledger, const Sheet& sheet, std::int64_t bytes);
  ~Live() { drop(); }
  Live(Live&& other) noexcept { *this = std::move(other); }
  Live& operator=(Live&& other) noexcept;
  Live(const Live&) = delete;
  Live& operator=(const Live&) = delete;

  [[nodiscard]] const Sheet& sheet() const noexcept { return sheet_; }
  void drop() noexcept;

 private:
  Ledger* ledger_ = nullptr;
  Sheet sheet_{};
  std::int64_t bytes_ = 0;
};

struct LedgerOptions {
  std::int64_t element_bytes = 4;
  bool filters_minimally = true;  ///< fp32 on the CPU
  bool compact_state = false;
  StateMemory state_memory{};
  std::int64_t threads = 1;
};

class Ledger {
 public:
  explicit Ledger(LedgerOptions options) : options_(std::move(options)) {}

  [[nodiscard]] Live make(const Sheet& sheet);
  /// A part of a tensor that is booked elsewhere.
  [[nodiscard]] Live view(const Sheet& sheet) { return {*this, sheet, 0}; }
  /// Memory that comes and goes at once.
  void pass(std::int64_t bytes);
  void spend(double flops) { flops_ += flops * factor_; }
  /// Books `work` once and counts its operations `times` times: parts of a clip that go one by one.
  template <typename Work>
  auto repeat(std::int64_t times, const Work& work) {
    const double outer = std::exchange(factor_, factor_ * static_cast<double>(times));
    auto result = work();
    factor_ = outer;
    return result;
  }

  /// A frame by frame convolution with an edge of 1 or 3; `stride` 2 pads and halves.
  [[nodiscard]] Live conv2d(const Live& x,
                            std::int64_t out_channels,
                            std::int64_t kernel,
                            std::int64_t stride = 1);
  /// conv2d() of pixels repeated 2 x 2.
  [[nodiscard]] Live conv2d_doubled(const Live& x, std::int64_t out_channels);
  /// The same as large as x, added to `addend` in place where that is possible.
  [[nodiscard]] Live conv2d_add(const Live& x, Live addend);

  /// A causal convolution 3x3x3; with `streams` it keeps its past.
  [[nodiscard]] Live causal3d(const Live& x, std::int64_t out_channels, bool streams);
  [[nodiscard]] Live causal3d_add(const Live& x, Live addend, bool streams);
  /// A convolution 3x1x1 or 3x3x3 with stride 2 in time of `extended` frames to `frames`.
  [[nodiscard]] Live time_conv(const Live& extended,
                               std::int64_t out_channels,
                               std::int64_t frames,
                               std::int64_t kernel_area,
                               std::int64_t taps = 3);
  /// A cache [B, C, n, H, W] that stays.
  void remember(const Sheet& sheet);

  /// Starts a step of which the caches exist already; peaks and operations go on.
  void next_step();

  [[nodiscard]] std::int64_t element_bytes() const noexcept { return options_.element_bytes; }
  [[nodiscard]] std::int64_t peak_bytes() const noexcept { return peak_; }
  /// Caches in memory; part of the peak.
  [[nodiscard]] std::int64_t state_bytes() const noexcept { return memory_used_; }
  [[nodiscard]] std::int64_t file_bytes() const noexcept { return file_; }
  [[nodiscard]] double flops() const noexcept { return flops_; }

 private:
  friend class Live;
  struct Convolution;

  void hold(std::int64_t bytes);
  void release(std::int64_t bytes) noexcept { now_ -= bytes; }
  [[nodiscard]] Live convolve(const Live& x, const Convolution& convolution, Live addend);

  /// What the cache of the next layer takes while it is read from the file.
  [[nodiscard]] std::int64_t file_bytes_of_next(bool streams) const;

  struct Cache {
    std::int64_t bytes = 0;
    bool in_file = false;
  };

  LedgerOptions options_;
  std::vector<Cache> caches_;  ///< in call order
  std::size_t position_ = 0;
  std::int64_t now_ = 0;
  std::int64_t peak_ = 0;
  std::int64_t memory_used_ = 0;
  std::int64_t file_ = 0;
  double factor_ = 1.0;
  double flops_ = 0.0;
};

}  // namespace kinema::vae
