// SPDX-License-Identifier: Apache-2.0
// Where training clips come from, and a queue that prepares batches while the network computes.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/tensor/tensor.h"
#include "world/scene.h"

namespace kinema::training {

struct Clip {
  Tensor video_CFHW;    ///< uint8 [3, F, H, W]
  std::string caption;  ///< empty where the source has none
};

/// Clips by number. The same number gives the same clip, on any thread.
class ClipSource {
 public:
  virtual ~ClipSource() = default;
  /// @param index  0 or more; sources with an end start over.
  /// @param frames  taken from a place in the clip that depends on the index alone.
  [[nodiscard]] virtual Clip clip(std::int64_t index, std::int64_t frames) const = 0;
};

/// Clips of the synthetic world, rendered when they are asked for.
class WorldClips final : public ClipSource {
 public:
  WorldClips(const world::WorldConfig& config, std::uint64_t seed);
  [[nodiscard]] Clip clip(std::int64_t index, std::int64_t frames) const override;
  [[nodiscard]] world::Scene scene(std::int64_t index) const;

 private:
  world::WorldConfig config_;
  std::uint64_t seed_;
};

/// Numbers from here on are for validation, measuring and starting; training counts from 0.
inline constexpr std::int64_t kFirstValidationClip = std::int64_t{1} << 40;
inline constexpr std::int64_t kFirstMeasuringClip = std::int64_t{1} << 41;

/// Clips first .. first + count - 1 as uint8 [B, 3, F, H, W].
[[nodiscard]] Tensor batch_of(const ClipSource& source,
                              std::int64_t first,
                              std::int64_t count,
                              std::int64_t frames);

/// uint8 0 .. 255 as float32 -1 .. 1.
[[nodiscard]] Tensor to_network_range(const Tensor& pixels);

/// Batches 'first', first + 1, ... made by one thread of its own, at most `depth` ahead.
class BatchQueue {
 public:
  using Make = std::function<Tensor(std::int64_t number)>;
  BatchQueue(Make make, std::int64_t first, std::size_t depth);
  ~BatchQueue();
  BatchQueue(const BatchQueue&) = delete;
  BatchQueue& operator=(const BatchQueue&) = delete;

  /// The next one. Throws what making it threw.
  [[nodiscard]] Tensor next();

 private:
  void work(std::int64_t number);

  Make make_;
  std::size_t depth_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Tensor> ready_;
  std::exception_ptr failure_;
  bool stopped_ = false;
  std::thread worker_;
};

}  // namespace kinema::training
