// SPDX-License-Identifier: Apache-2.0
#include "vae/stream_state.h"

#include <algorithm>
#include <cstddef>
#include <utility>

#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <c10/util/accumulate.h>

#include "core/base/scratch_memory.h"

namespace kinema::vae {

Tensor StateStore::allocate(at::IntArrayRef shape, const at::TensorOptions& options) {
  const auto bytes =
      c10::multiply_integers(shape) * static_cast<std::int64_t>(options.dtype().itemsize());
  if (!options.device().is_cpu() || memory_bytes_ + bytes <= memory_.max_bytes) {
    memory_bytes_ += bytes;
    return at::empty(shape, options, c10::MemoryFormat::ChannelsLast3d);
  }
  const auto pages = map_scratch(memory_.folder, static_cast<std::size_t>(bytes));
  file_bytes_ += bytes;
  in_file_.push_back(pages.get());
  // Memory order B, T, H, W, C.
  return at::from_blob(
             pages.get(),
             {shape[0], shape[2], shape[3], shape[4], shape[1]},
             [pages](void* /*data*/) {},
             options)
      .permute({0, 4, 1, 2, 3});
}

void StateStore::put_away(const Tensor& cache) const {
  void* const data = cache.defined() ? cache.mutable_data_ptr() : nullptr;
  if (std::find(in_file_.begin(), in_file_.end(), data) != in_file_.end()) {
    drop_scratch(static_cast<std::byte*>(data), cache.nbytes());
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
