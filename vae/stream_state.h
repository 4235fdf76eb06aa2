// SPDX-License-Identifier: Apache-2.0
// What a causal network remembers between two chunks of one clip: one TimeState per temporal layer,
// in call order. A network owns no state, so one instance can serve several clips at once.
//
//   StreamState state;
//   for (const Tensor& chunk : chunks) {
//     state.begin_chunk();                       // once per pass through the network
//     outputs.push_back(network.forward(chunk, &state));
//   }
//
// Every temporal layer calls next() exactly once per pass, also when it has nothing to do in that
// pass; then call order identifies the layer. A null StreamState* means one shot: every layer sees
// the start of a clip and remembers nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <utility>
#include <vector>

#include "core/tensor/tensor.h"
#include "vae/autoencoder.h"

namespace kinema::vae {

struct TimeState;

/// Memory of the caches of one stream: tensors up to a limit, beyond it pages of a temporary file
/// (CPU only; caches on a GPU stay there).
class StateStore {
 public:
  explicit StateStore(StateMemory memory = {}) : memory_(std::move(memory)) {}

  /// Gives `state` an uninitialised channels-last cache [B, C, n, H, W]. Throws kOutput
  /// [output.unwritable], kDiskFull [disk_full].
  void allocate(TimeState& state, at::IntArrayRef shape, const at::TensorOptions& options);

  [[nodiscard]] const StateMemory& memory() const noexcept { return memory_; }

 private:
  StateMemory memory_;
  std::int64_t memory_bytes_ = 0;
};

struct TimeState {
  Tensor cache;             ///< [B, C, n, H, W] last inputs, owned (never a view of a chunk)
  std::int64_t chunks = 0;  ///< passes this layer has finished
  bool compact = false;     ///< keep fp32 inputs as bf16
  std::shared_ptr<StateStore> store = std::make_shared<StateStore>();
  std::shared_ptr<std::byte> pages{};  ///< of a cache in the file

  [[nodiscard]] bool started() const noexcept { return chunks > 0; }
  /// Takes a cache in the file out of memory until it is needed.
  void put_away() const;
};

class StreamState {
 public:
  /// @param compact  caches keep fp32 inputs as bf16: half the memory, and past frames reach later
  ///                 ones with 8 bits of mantissa, so chunks are no longer exactly the one shot.
  /// @param store    null: all in memory.
  explicit StreamState(bool compact = false, std::shared_ptr<StateStore> store = nullptr)
      : compact_(compact), store_(store ? std::move(store) : std::make_shared<StateStore>()) {}

  /// Starts a pass: next() begins with the first layer again.
  void begin_chunk() noexcept { position_ = 0; }
  /// The state of the next temporal layer. The reference stays valid until reset().
  [[nodiscard]] TimeState& next();
  /// Which layer next() gives. With rewind() a network runs some of its layers several times per
  /// pass, on one part of the chunk after the other.
  [[nodiscard]] std::size_t position() const noexcept { return position_; }
  void rewind(std::size_t position) noexcept { position_ = position; }
  /// Forgets everything: the next chunk starts a new clip.
  void reset();

  [[nodiscard]] std::size_t num_layers() const noexcept { return layers_.size(); }
  /// Size of the caches, wherever they are.
  [[nodiscard]] std::int64_t num_bytes() const;

 private:
  std::deque<TimeState> layers_;
  std::size_t position_ = 0;
  bool compact_;
  std::shared_ptr<StateStore> store_;
};

/// The state of the next layer, or null for one shot.
[[nodiscard]] inline TimeState* next_state(StreamState* stream) {
  return stream == nullptr ? nullptr : &stream->next();
}

}  // namespace kinema::vae
