// SPDX-License-Identifier: Apache-2.0
#include "training/clip_source.h"

#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/stack.h>

#include "world/caption.h"
#include "world/random.h"
#include "world/render.h"

namespace kinema::training {

WorldClips::WorldClips(const world::WorldConfig& config, std::uint64_t seed)
    : config_(config), seed_(seed) {
  config_.validate();
}

world::Scene WorldClips::scene(std::int64_t index) const {
  return world::make_scene(config_, seed_, index);
}

Clip WorldClips::clip(std::int64_t index, std::int64_t frames) const {
  const world::Scene drawn = scene(index);
  world::Random random(seed_, "training/clip", static_cast<std::uint64_t>(index));
  const std::int64_t first = random.below(drawn.frames - frames + 1);
  const Tensor video = world::render(drawn, first, frames);
  return {video.mul(255).round_().to(at::kByte), world::caption(drawn, index)};
}

Tensor batch_of(const ClipSource& source,
                std::int64_t first,
                std::int64_t count,
                std::int64_t frames) {
  std::vector<Tensor> clips;
  for (std::int64_t i = 0; i < count; ++i) {
    clips.push_back(source.clip(first + i, frames).video_CFHW);
  }
  return at::stack(clips);
}

Tensor to_network_range(const Tensor& pixels) {
  return pixels.to(at::kFloat).div_(127.5).sub_(1);
}

BatchQueue::BatchQueue(Make make, std::int64_t first, std::size_t depth)
    : make_(std::move(make)), depth_(depth), worker_([this, first] { work(first); }) {}

BatchQueue::~BatchQueue() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
  }
  changed_.notify_all();
  worker_.join();
}

Tensor BatchQueue::next() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return !ready_.empty() || failure_ != nullptr; });
  if (ready_.empty()) {
    std::rethrow_exception(failure_);
  }
  Tensor batch = std::move(ready_.front());
  ready_.pop_front();
  changed_.notify_all();
  return batch;
}

void BatchQueue::work(std::int64_t number) {
  const at::NoGradGuard no_grad;
  for (;; ++number) {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopped_ || ready_.size() < depth_; });
      if (stopped_) {
        return;
      }
    }
    Tensor batch;
    std::exception_ptr failure;
    try {
      batch = make_(number);
    } catch (...) {
      failure = std::current_exception();
    }
    const std::lock_guard lock(mutex_);
    if (failure != nullptr) {
      failure_ = failure;
      changed_.notify_all();
      return;
    }
    ready_.push_back(std::move(batch));
    changed_.notify_all();
  }
}

}  // namespace kinema::training
