// SPDX-License-Identifier: Apache-2.0
// Internal: the part of a codec that hands steps to a network with encode(x, state) and decode(z,
// state), the same for all causal networks.
#pragma once

#include <utility>

#include "vae/codec.h"
#include "vae/config_checks.h"

namespace kinema::vae {

template <typename Network>
class NetworkCodec : public Codec {
 public:
  NetworkCodec(Network network, const tensor::Place& place) : network_(std::move(network)) {
    info_.num_parameters = count_parameters(*network_);
    info_.place = place;
  }

  [[nodiscard]] const AutoencoderInfo& info() const noexcept override { return info_; }
  [[nodiscard]] const torch::nn::Module& network() const noexcept override { return *network_; }

  [[nodiscard]] Tensor encode_step(const Tensor& x_BCFHW,
                                   StreamState& state,
                                   const StepContext& /*step*/) const override {
    return network_->encode(x_BCFHW, stream_of(state));
  }
  [[nodiscard]] Tensor decode_step(const Tensor& z_BCTHW,
                                   StreamState& state,
                                   const StepContext& /*step*/) const override {
    return network_->decode(z_BCTHW, stream_of(state));
  }

 protected:
  Network network_;
  AutoencoderInfo info_;

 private:
  /// A whole clip needs no caches.
  [[nodiscard]] StreamState* stream_of(StreamState& state) const {
    return info_.time_mode == TimeMode::kWhole ? nullptr : &state;
  }
};

}  // namespace kinema::vae
