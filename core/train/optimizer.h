// SPDX-License-Identifier: Apache-2.0
// AdamW (arXiv 1711.05101, algorithm 2, decoupled weight decay) and Muon (Jordan et al., "Muon: An
// optimizer for hidden layers in neural networks", 2024: momentum made orthogonal by five
// Newton-Schulz iterations) over one list of named parameters.
//
//   Optimizer optimizer(group_parameters(*model, config), config);
//   loss.backward();
//   const double norm = clip_gradients(optimizer.parameters(), 1.0);
//   optimizer.step(schedule.factor(step));
//   optimizer.zero_grad();
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/tensor/tensor.h"

namespace torch::nn {
class Module;
}  // namespace torch::nn

namespace kinema::train {

enum class Method { kAdamW, kMuon };
inline constexpr std::array<std::string_view, 2> kMethodNames = {"adamw", "muon"};

struct OptimizerConfig {
  Method method = Method::kMuon;
  double lr = 1e-3;       ///< of AdamW
  double muon_lr = 0.02;  ///< of Muon
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double momentum = 0.95;      ///< of Muon
  double weight_decay = 0.01;  ///< of matrices and kernels; never of norms and biases
};

/// One parameter and how it is trained.
struct TrainedParameter {
  std::string name;
  Tensor value;
  Method method = Method::kAdamW;
  double lr = 0;
  double weight_decay = 0;
};

/// Says per parameter: its multiple of the learning rate (0: not trained), and whether Muon may
/// have it (embeddings, first and last layers are better left to AdamW).
struct ParameterRule {
  double lr_scale = 1;
  bool muon = true;
};
using ParameterRules = std::function<ParameterRule(const std::string& name, const Tensor& value)>;

/// All parameters of a module in its order. Muon gets those with two or more axes that the rules
/// allow; AdamW the rest. Parameters with one axis have no weight decay. Parameters with lr_scale 0
/// are left out and lose requires_grad.
[[nodiscard]] std::vector<TrainedParameter> group_parameters(torch::nn::Module& module,
                                                             const OptimizerConfig& config,
                                                             const ParameterRules& rules = {});

class Optimizer {
 public:
  Optimizer(std::vector<TrainedParameter> parameters, const OptimizerConfig& config);

  /// One update from the gradients; parameters without one stay. @param lr_factor  of the schedule.
  void step(double lr_factor);
  void zero_grad();

  [[nodiscard]] const std::vector<TrainedParameter>& parameters() const noexcept {
    return parameters_;
  }
  [[nodiscard]] std::int64_t steps() const noexcept { return steps_; }

  /// "NAME.exp_avg", "NAME.exp_avg_sq", "NAME.momentum", and "steps".
  [[nodiscard]] TensorMap state() const;
  /// Throws kBadCheckpoint [train.state] that names what is missing or of another shape.
  void load_state(const TensorMap& state);

 private:
  struct Moments {
    Tensor first;   ///< exp_avg, or Muon's momentum
    Tensor second;  ///< exp_avg_sq; undefined for Muon
  };
  void step_adamw(const TrainedParameter& parameter, Moments& moments, double lr) const;
  void step_muon(const TrainedParameter& parameter, Moments& moments, double lr) const;

  OptimizerConfig config_;
  std::vector<TrainedParameter> parameters_;
  std::vector<Moments> moments_;
  std::int64_t steps_ = 0;
};

/// An approximation of U V^T of the matrix U S V^T: five Newton-Schulz iterations with the quintic
/// 3.4445 x - 4.7750 x^3 + 2.0315 x^5; singular values end between about 0.7 and 1.2.
/// @param matrix_RC  float32.
[[nodiscard]] Tensor orthogonalise(const Tensor& matrix_RC);

/// Norm of all gradients together, in double precision; infinity or NaN if one element is.
[[nodiscard]] double gradient_norm(const std::vector<TrainedParameter>& parameters);
/// Scales all gradients so that their norm is at most `limit`. @return the norm before.
double clip_gradients(const std::vector<TrainedParameter>& parameters, double limit);
/// Name of the first parameter whose gradient is not finite; empty if all are.
[[nodiscard]] std::string name_not_finite(const std::vector<TrainedParameter>& parameters);

}  // namespace kinema::train
