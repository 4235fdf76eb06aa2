// SPDX-License-Identifier: Apache-2.0
// Exponential moving average of a module's parameters, kept in float32.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/tensor/tensor.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace kinema::train {

class Ema {
 public:
  /// Starts as a copy of the parameters.
  explicit Ema(torch::nn::Module& module);

  /// average = decay average + (1 - decay) parameter. See ema_decay() for the warm-up.
  void update(double decay);
  /// Exchanges averages and parameters; call it again to exchange them back.
  void swap();

  /// By the names of the parameters.
  [[nodiscard]] TensorMap state() const;
  /// Throws kBadCheckpoint [train.state].
  void load_state(const TensorMap& state);

 private:
  struct Entry {
    std::string name;
    Tensor parameter;
    Tensor average;
  };
  std::vector<Entry> entries_;
};

/// Parameters are the averages for as long as it lives.
class EmaScope {
 public:
  explicit EmaScope(Ema& ema) : ema_(ema) { ema_.swap(); }
  ~EmaScope() { ema_.swap(); }
  EmaScope(const EmaScope&) = delete;
  EmaScope& operator=(const EmaScope&) = delete;

 private:
  Ema& ema_;
};

}  // namespace kinema::train
