// SPDX-License-Identifier: Apache-2.0
#include "vae/stream_state.h"

namespace kinema::vae {

TimeState& StreamState::next() {
  if (position_ == layers_.size()) {
    layers_.emplace_back().compact = compact_;
  }
  return layers_[position_++];
}

void StreamState::reset() noexcept {
  layers_.clear();
  position_ = 0;
}

std::int64_t StreamState::num_bytes() const {
  std::int64_t total = 0;
  for (const TimeState& layer : layers_) {
    total += layer.cache.defined() ? static_cast<std::int64_t>(layer.cache.nbytes()) : 0;
  }
  return total;
}

}  // namespace kinema::vae
