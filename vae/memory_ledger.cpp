// SPDX-License-Identifier: Apache-2.0
#include "vae/memory_ledger.h"

#include <algorithm>
#include <optional>

#include "core/nn/image_conv.h"

namespace kinema::vae {

Sheet Sheet::with_channels(std::int64_t count) const {
  Sheet sheet = *this;
  sheet.channels = count;
  return sheet;
}

Sheet Sheet::with_frames(std::int64_t count) const {
  Sheet sheet = *this;
  sheet.frames = count;
  return sheet;
}

Sheet Sheet::doubled() const {
  Sheet sheet = *this;
  sheet.rows *= 2;
  sheet.columns *= 2;
  return sheet;
}

Sheet Sheet::halved() const {
  Sheet sheet = *this;
  sheet.rows /= 2;
  sheet.columns /= 2;
  return sheet;
}

Live::Live(Ledger& ledger, const Sheet& sheet, std::int64_t bytes)
    : ledger_(&ledger), sheet_(sheet), bytes_(bytes) {
  ledger.hold(bytes);
}

Live& Live::operator=(Live&& other) noexcept {
  if (this != &other) {
    drop();
    ledger_ = std::exchange(other.ledger_, nullptr);
    sheet_ = other.sheet_;
    bytes_ = other.bytes_;
  }
  return *this;
}

void Live::drop() noexcept {
  if (ledger_ != nullptr) {
    std::exchange(ledger_, nullptr)->release(bytes_);
  }
}

struct Ledger::Convolution {
  std::int64_t out_channels = 0;
  std::int64_t kernel = 3;
  std::int64_t taps = 1;
  std::int64_t stride = 1;
  bool doubled = false;
  bool streams = false;
};

void Ledger::hold(std::int64_t bytes) {
  now_ += bytes;
  peak_ = std::max(peak_, now_);
}

Live Ledger::make(const Sheet& sheet) {
  return {*this, sheet, sheet.elements() * options_.element_bytes};
}

void Ledger::pass(std::int64_t bytes) {
  hold(bytes);
  release(bytes);
}

void Ledger::remember(const Sheet& sheet) {
  const bool narrows = options_.compact_state && options_.element_bytes == 4;
  const std::int64_t bytes = sheet.elements() * (narrows ? 2 : options_.element_bytes);
  if (position_ == caches_.size()) {
    const bool in_file = memory_used_ + bytes > options_.state_memory.max_bytes;
    caches_.push_back({bytes, in_file});
    (in_file ? file_ : memory_used_) += bytes;
    if (!in_file) {
      hold(bytes);
    }
  }
  if (caches_[position_].in_file) {
    pass(bytes);
  }
  ++position_;
}

void Ledger::next_step() {
  position_ = 0;
}

Live Ledger::convolve(const Live& x, const Convolution& c, Live addend) {
  const Sheet in = x.sheet();
  Sheet out = in.with_channels(c.out_channels);
  if (c.doubled) {
    out = out.doubled();
  }
  if (c.stride == 2) {
    out = out.halved();
  }
  const std::int64_t weights = c.out_channels * in.channels * c.taps * c.kernel * c.kernel;
  spend(2.0 * static_cast<double>(weights) * static_cast<double>(out.positions()));
  const std::int64_t past = c.taps - 1;
  const bool as_products =
      c.taps > 1 && c.taps * c.out_channels <= in.channels && options_.element_bytes == 4;
  if (as_products) {
    const Live products = make(out.with_channels(c.taps * c.out_channels));
    const Live all = make(products.sheet().with_frames(in.frames + past));
    Live y = make(out);
    if (c.streams) {
      remember(products.sheet().with_frames(past));
    }
    return y;
  }
  const bool minimal =
      options_.filters_minimally && c.kernel == 3 && c.stride == 1 &&
      nn::is_filtered_minimally({in.channels, c.out_channels, c.taps, out.rows, out.columns});
  Live y;
  if (minimal) {
    y = addend.sheet().channels > 0 ? std::move(addend) : make(out);
    pass(file_bytes_of_next(c.streams) +
         nn::filter_workspace_bytes({in.channels, c.out_channels, c.taps, out.rows, out.columns},
                                    options_.threads));
  } else {
    // LibTorch joins the past, repeats pixels and pads in tensors, and reorders the weights.
    Live joined;
    Live stacked;
    if (past > 0) {
      joined = make(in.with_frames(in.frames + past));
      if (c.taps * in.channels <= c.out_channels) {
        stacked = make(in.with_channels(c.taps * in.channels));
      }
    } else if (c.doubled) {
      joined = make(in.doubled());
    } else if (c.stride == 2) {
      Sheet padded = in;
      padded.rows += 1;
      padded.columns += 1;
      joined = make(padded);
    }
    y = make(out);
    pass(weights * options_.element_bytes + file_bytes_of_next(c.streams));
  }
  if (c.streams) {
    remember(in.with_frames(past));
  }
  return y;
}

std::int64_t Ledger::file_bytes_of_next(bool streams) const {
  const bool reads = streams && position_ < caches_.size() && caches_[position_].in_file;
  return reads ? caches_[position_].bytes : 0;
}

Live Ledger::conv2d(const Live& x,
                    std::int64_t out_channels,
                    std::int64_t kernel,
                    std::int64_t stride) {
  return convolve(x, {.out_channels = out_channels, .kernel = kernel, .stride = stride}, {});
}

Live Ledger::conv2d_doubled(const Live& x, std::int64_t out_channels) {
  return convolve(x, {.out_channels = out_channels, .doubled = true}, {});
}

Live Ledger::conv2d_add(const Live& x, Live addend) {
  const std::int64_t channels = addend.sheet().channels;
  return convolve(x, {.out_channels = channels}, std::move(addend));
}

Live Ledger::causal3d(const Live& x, std::int64_t out_channels, bool streams) {
  return convolve(x, {.out_channels = out_channels, .taps = 3, .streams = streams}, {});
}

Live Ledger::causal3d_add(const Live& x, Live addend, bool streams) {
  const std::int64_t channels = addend.sheet().channels;
  return convolve(x, {.out_channels = channels, .taps = 3, .streams = streams}, std::move(addend));
}

Live Ledger::time_conv(const Live& extended,
                       std::int64_t out_channels,
                       std::int64_t frames,
                       std::int64_t kernel_area,
                       std::int64_t taps) {
  const Sheet in = extended.sheet();
  const Sheet out = in.with_channels(out_channels).with_frames(frames);
  const std::int64_t weights = out_channels * in.channels * taps * kernel_area;
  spend(2.0 * static_cast<double>(weights) * static_cast<double>(out.positions()));
  Live y = make(out);
  pass(weights * options_.element_bytes);
  return y;
}

}  // namespace kinema::vae
