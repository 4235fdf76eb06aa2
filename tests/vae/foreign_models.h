// SPDX-License-Identifier: Apache-2.0
// Small CogVideoX, Wan and Open-Sora autoencoders with random weights, and the live bytes of
// tensors.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <memory>
#include <new>
#include <vector>

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include "tests/vae/tiny_models.h"
#include "vae/cogvideox_vae.h"
#include "vae/open_sora_vae.h"
#include "vae/wan_vae.h"

namespace kinema::vae::testing {

inline CogVideoXVaeConfig tiny_cogvideox_config() {
  CogVideoXVaeConfig config;
  config.block_out_channels = {8, 8, 12, 16};
  config.latent_channels = 4;
  config.layers_per_block = 1;
  config.norm_num_groups = 4;
  config.sample_height = 96;
  config.sample_width = 80;
  return config;
}

inline WanVaeConfig tiny_wan_config() {
  WanVaeConfig config;
  config.base_dim = 6;
  config.z_dim = 4;
  config.dim_mult = {1, 2, 2, 2};
  config.num_res_blocks = 1;
  config.latents_mean = {-0.7571, -0.7089, 0.9113, 0.1075};
  config.latents_std = {2.8184, 1.4541, 2.3275, 0.6558};
  return config;
}

inline OpenSoraVaeConfig tiny_open_sora_config() {
  OpenSoraVaeConfig config;
  config.spatial = tiny_image_config();
  config.temporal.filters = 6;
  config.temporal.num_res_blocks = 1;
  config.temporal.channel_multipliers = {1, 2, 2, 3};
  config.temporal.num_groups = 3;
  return config;
}

template <typename Network, typename Config>
Network random_network(const Config& config, std::uint64_t seed = 7) {
  at::manual_seed(seed);
  Network network(config);
  randomise(*network);
  return network;
}

inline std::unique_ptr<Autoencoder> tiny_cogvideox(
    const CogVideoXVaeConfig& config = tiny_cogvideox_config()) {
  return std::make_unique<Autoencoder>(
      make_cogvideox_codec(config, random_network<CogVideoXVae>(config), {}));
}

inline std::unique_ptr<Autoencoder> tiny_wan(const WanVaeConfig& config = tiny_wan_config()) {
  return std::make_unique<Autoencoder>(make_wan_codec(config, random_network<WanVae>(config), {}));
}

inline std::unique_ptr<Autoencoder> tiny_open_sora(
    const OpenSoraVaeConfig& config = tiny_open_sora_config()) {
  OpenSoraVae network = random_network<OpenSoraVae>(config);
  network->scale.copy_(at::tensor(config.scale).view(network->scale.sizes()));
  network->shift.copy_(at::tensor(config.shift).view(network->shift.sizes()));
  return std::make_unique<Autoencoder>(make_open_sora_codec(network, {}));
}

/// Pushes x in pieces of random size.
template <typename Stream, typename Push>
void push_in_pieces(Stream& stream, const Tensor& x, unsigned seed, const Push& on_result) {
  std::uint64_t state = seed * 2654435761ULL + 1;
  std::int64_t begin = 0;
  while (begin < x.size(2)) {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    const std::int64_t wanted = 1 + static_cast<std::int64_t>((state >> 33) % 6);
    const std::int64_t size = std::min(wanted, x.size(2) - begin);
    on_result(stream.push(x.narrow(2, begin, size)));
    begin += size;
  }
  on_result(stream.finish());
}

/// The posterior of a clip that was pushed piece by piece.
inline Posterior encode_streamed(const Autoencoder& vae, const Tensor& x, unsigned seed) {
  std::vector<Tensor> means;
  std::vector<Tensor> logvars;
  const auto stream = vae.encode_stream({}, x.size(2));
  push_in_pieces(*stream, x, seed, [&](const std::optional<Posterior>& part) {
    if (part.has_value()) {
      means.push_back(part->mean_BCTHW);
      logvars.push_back(part->logvar_BCTHW);
    }
  });
  return {at::cat(means, 2), at::cat(logvars, 2)};
}

inline Tensor decode_streamed(const Autoencoder& vae,
                              const Tensor& z,
                              unsigned seed,
                              const DecodeOptions& options = {}) {
  std::vector<Tensor> parts;
  const auto stream = vae.decode_stream(options, z.size(2));
  push_in_pieces(*stream, z, seed, [&](const std::optional<Tensor>& part) {
    if (part.has_value()) {
      parts.push_back(*part);
    }
  });
  return at::cat(parts, 2);
}

/// Counts the bytes of CPU tensors while it lives. Memory may outlive it.
class CountingAllocator final : public c10::Allocator {
 public:
  CountingAllocator() : inner_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, 100); }
  ~CountingAllocator() override { c10::SetCPUAllocator(inner_, 100); }
  CountingAllocator(const CountingAllocator&) = delete;
  CountingAllocator& operator=(const CountingAllocator&) = delete;

  c10::DataPtr allocate(std::size_t size) override {
    void* raw = nullptr;
    if (posix_memalign(&raw, kHeader, size + kHeader) != 0) {
      throw std::bad_alloc();
    }
    new (raw) Header{size, counts_};
    counts_->add(size);
    void* data = static_cast<char*>(raw) + kHeader;
    return {data, data, &release, c10::Device(c10::kCPU)};
  }
  [[nodiscard]] c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t size) const override {
    default_copy_data(to, from, size);
  }

  [[nodiscard]] std::size_t peak_bytes() const { return counts_->peak.load(); }

 private:
  struct Counts {
    std::atomic<std::size_t> live{0};
    std::atomic<std::size_t> peak{0};

    void add(std::size_t size) {
      const std::size_t now = live.fetch_add(size) + size;
      std::size_t seen = peak.load();
      while (now > seen && !peak.compare_exchange_weak(seen, now)) {
      }
    }
  };
  /// Stands before every block.
  struct Header {
    std::size_t size;
    std::shared_ptr<Counts> counts;
  };
  static constexpr std::size_t kHeader = 64;

  static void release(void* data) {
    auto* const header = reinterpret_cast<Header*>(static_cast<char*>(data) - kHeader);
    header->counts->live.fetch_sub(header->size);
    header->~Header();
    std::free(header);
  }

  c10::Allocator* inner_;
  std::shared_ptr<Counts> counts_ = std::make_shared<Counts>();
};

}  // namespace kinema::vae::testing
