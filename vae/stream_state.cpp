// SPDX-License-Identifier: Apache-2.0
#include "vae/stream_state.h"

#include <cstddef>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>

#include "core/base/scratch_memory.h"

namespace kinema::vae {

void StateStore::allocate(TimeState& state,
                          at::IntArrayRef shape,
                          const at::TensorOptions& options) {
  const auto bytes =
      c10::multiply_integers(shape) * static_cast<std::int64_t>(options.dtype().itemsize());
  if (!options.device().is_cpu() || memory_bytes_ + bytes <= memory_.max_bytes) {
    memory_bytes_ += bytes;
    state.pages.reset();
    state.cache = at::empty(shape, options, c10::MemoryFormat::ChannelsLast3d);
    return;
  }
  state.pages = map_scratch(memory_.folder, static_cast<std::size_t>(bytes));
  // Memory order B, T, H, W, C.
  state.cache = at::from_blob(
                    state.pages.get(),
                    {shape[0], shape[2], shape[3], shape[4], shape[1]},
                    [pages = state.pages](void* /*data*/) {},
                    options)
                    .permute({0, 4, 1, 2, 3});
}

void TimeState::put_away() const {
  if (pages != nullptr) {
    drop_scratch(pages.get(), cache.nbytes());
  }
}

TimeState& StreamState::next() {
  if (position_ == layers_.size()) {
    TimeState& layer = layers_.emplace_back();
    layer.compact = compact_;
    layer.store = store_;
  }
  return layers_[position_++];
}

void StreamState::reset() {
  layers_.clear();
  position_ = 0;
  store_ = std::make_shared<StateStore>(store_->memory());
}

std::int64_t StreamState::num_bytes() const {
  std::int64_t total = 0;
  for (const TimeState& layer : layers_) {
    total += layer.cache.defined() ? static_cast<std::int64_t>(layer.cache.nbytes()) : 0;
  }
  return total;
}

}  // namespace kinema::vae
