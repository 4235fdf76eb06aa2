// SPDX-License-Identifier: Apache-2.0
// Samplers: the walk from noise to clean latents, one step per network call.
//
// A sampler is a value: built from a configuration, copied with clone(), reset with reset(). It has
// no parameters, no generator and no global state; noise comes in as an argument. Schedules are
// computed in double; latents stay in float32 (double latents stay double, narrower ones become
// float32).
//
//   auto sampler = make_sampler(read_scheduler_config(folder + "/scheduler_config.json"));
//   sampler->set_timesteps({.num_steps = 30});
//   Tensor x = noise * sampler->init_noise_sigma();
//   for (int64_t i = 0; i < sampler->num_steps(); ++i) {
//     const Tensor out = predict(sampler->scale_model_input(x, i), sampler->timesteps()[i]);
//     x = sampler->step(out, i, x, sampler->needs_noise(i) ? draw(i) : Tensor()).sample;
//   }
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/diffusion/prediction.h"
#include "core/tensor/tensor.h"

namespace kinema::diffusion {

enum class SamplerKind {
  kRflow,      ///< "rflow": rectified flow of Open-Sora
  kDdpm,       ///< "ddpm": ancestral sampling
  kIddpm,      ///< "iddpm": ancestral sampling of Open-Sora, respaced, learned variance
  kDdim,       ///< "ddim"
  kDpmpp,      ///< "dpmpp": DPM-Solver(++) multistep
  kUnipc,      ///< "unipc"
  kEuler,      ///< "euler": Euler on sigmas, k-diffusion style
  kFlowEuler,  ///< "flow-euler": rectified flow of diffusers
};

[[nodiscard]] std::string_view to_string(SamplerKind kind);
/// Throws kInvalidArgument [sampler.name] that lists the names.
[[nodiscard]] SamplerKind parse_sampler_kind(std::string_view name);

/// What one run asks of a schedule. A field that the sampler has no use for is an error.
struct ScheduleRequest {
  std::int64_t num_steps = 0;       ///< 0: the length of `timesteps` or `sigmas`
  std::vector<double> timesteps{};  ///< falling, in the unit of timesteps()
  std::vector<double> sigmas{};     ///< falling; for euler with the final one
  std::optional<double> mu{};       ///< dynamic shift, for samplers with use_dynamic_shifting

  std::int64_t height = 0;      ///< pixels; rflow with use_timestep_transform needs these three
  std::int64_t width = 0;       ///< pixels
  std::int64_t num_frames = 0;  ///< pixel frames, 1 for an image

  double eta = 0.0;                       ///< ddim: 0 deterministic .. 1 ancestral
  bool use_clipped_model_output = false;  ///< ddim: derive eps again from the clipped x0
  double churn = 0.0;                     ///< euler: s_churn of arXiv 2206.00364 algorithm 2
  double churn_min_sigma = 0.0;           ///< euler: s_tmin
  double churn_max_sigma = 1e300;         ///< euler: s_tmax
  double churn_noise = 1.0;               ///< euler: s_noise

  [[nodiscard]] static ScheduleRequest from_json(const Json& json);
  [[nodiscard]] Json to_json() const;
  bool operator==(const ScheduleRequest&) const = default;
};

struct StepResult {
  Tensor sample;  ///< latents for the next step
  Tensor x0;      ///< the clean latents that this step believes in: a preview
};

/// A sampler in the middle of a run, for a journal.
struct SamplerState {
  Json json;          ///< kind, configuration, request and counters
  TensorMap tensors;  ///< history of multistep solvers, names "history.N"
};

class Sampler {
 public:
  virtual ~Sampler() = default;

  [[nodiscard]] virtual SamplerKind kind() const = 0;
  [[nodiscard]] virtual std::unique_ptr<Sampler> clone() const = 0;
  /// The keys of a scheduler_config.json, with "_class_name".
  [[nodiscard]] virtual Json config_json() const = 0;
  [[nodiscard]] virtual PredictionType prediction_type() const = 0;

  /// Builds the schedule of a run and forgets the history.
  /// Throws kInvalidArgument [sampler.request] for what this sampler cannot do; there is no
  /// schedule then (num_steps() is 0).
  void set_timesteps(const ScheduleRequest& request);
  [[nodiscard]] const ScheduleRequest& request() const noexcept { return request_; }
  [[nodiscard]] std::int64_t num_steps() const noexcept {
    return static_cast<std::int64_t>(timesteps_.size());
  }
  /// What the network is told at each step, falling from about 1000 to 0.
  [[nodiscard]] const std::vector<double>& timesteps() const noexcept { return timesteps_; }
  /// Signal and noise of the latents before step `index`; index num_steps(): at the end.
  [[nodiscard]] virtual NoiseLevel level(std::int64_t index) const = 0;
  /// What standard normal noise is multiplied by at the start.
  [[nodiscard]] virtual double init_noise_sigma() const { return 1.0; }
  /// Latents as the network wants them.
  [[nodiscard]] virtual Tensor scale_model_input(const Tensor& sample, std::int64_t index) const;
  [[nodiscard]] virtual bool needs_noise(std::int64_t index) const;
  /// Steps use the outputs of earlier steps, so they come in order and have no times per frame.
  [[nodiscard]] virtual bool is_multistep() const { return false; }

  /// One step. @param model_output [B, C or 2 C, ...], @param sample [B, C, ...], @param noise like
  /// sample where needs_noise(index), else ignored. Multistep solvers want steps in order; any
  /// first index is fine. Throws kInvalidArgument [sampler.index], [sampler.order],
  /// [sampler.noise], kShapeMismatch [sampler.shape].
  [[nodiscard]] StepResult step(const Tensor& model_output,
                                std::int64_t index,
                                const Tensor& sample,
                                const Tensor& noise = {});

  /// Frame t of [B, C, T, H, W] takes step frame_indices[t]; an index of num_steps() leaves its
  /// frame alone. Equal indices give the bits of step(). Throws kUnsupported [sampler.per_frame]
  /// for multistep solvers.
  [[nodiscard]] StepResult step_frames(const Tensor& model_output,
                                       std::span<const std::int64_t> frame_indices,
                                       const Tensor& sample,
                                       const Tensor& noise = {});

  /// alpha x0 + sigma noise of level(index).
  [[nodiscard]] Tensor add_noise(const Tensor& x0, const Tensor& noise, std::int64_t index) const;

  /// Forgets the history; the schedule stays.
  void reset();
  [[nodiscard]] SamplerState save_state() const;

 protected:
  Sampler() = default;
  Sampler(const Sampler&) = default;
  Sampler& operator=(const Sampler&) = default;

  /// Fills timesteps_ for request_.
  virtual void build() = 0;
  /// step() after all checks; tensors are of one float type.
  virtual StepResult advance(const Tensor& model_output,
                             std::int64_t index,
                             const Tensor& sample,
                             const Tensor& noise) = 0;
  virtual void clear_history() {}
  virtual void save_history(SamplerState&) const {}
  virtual void load_history(const SamplerState&) {}

  [[nodiscard]] Error request_error(std::string subject,
                                    std::string expected,
                                    std::string got) const;
  /// Throws request_error for a field of the request that is set but not listed here.
  void accept_only(std::initializer_list<std::string_view> fields) const;
  /// num_steps of the request, checked to be 1 .. `limit`.
  [[nodiscard]] std::int64_t requested_steps(std::int64_t limit) const;

  ScheduleRequest request_;
  std::vector<double> timesteps_;

 private:
  friend std::unique_ptr<Sampler> load_sampler(const SamplerState& state);
  void check_step(const Tensor& model_output, std::int64_t index, const Tensor& sample) const;

  std::optional<std::int64_t> next_index_;  ///< multistep: the only index allowed now
};

/// Name of the class in a scheduler_config.json, "DDIMScheduler"; ours are "RFLOW" and "IDDPM".
[[nodiscard]] std::string_view scheduler_class_name(SamplerKind kind);
/// The kind that a configuration asks for. Throws kBadCheckpoint [config.value] for other classes.
[[nodiscard]] SamplerKind sampler_kind_of(const Json& scheduler_config);

/// Parses a scheduler_config.json. Takes the bare tokens Infinity and -Infinity, which published
/// files hold and JSON does not know, as the strings "Infinity" and "-Infinity".
[[nodiscard]] Json parse_scheduler_config(std::string_view text, const std::string& subject);
[[nodiscard]] Json read_scheduler_config(const std::string& path);

/// The sampler that a configuration describes. Unknown keys throw [config.unknown_key].
[[nodiscard]] std::unique_ptr<Sampler> make_sampler(const Json& scheduler_config);
/// Another sampler for the same model: keys that both classes know are carried over, flow models
/// stay flow models with their shift. Throws kInvalidArgument [sampler.prediction] for a sampler
/// that cannot serve the model's prediction type.
[[nodiscard]] std::unique_ptr<Sampler> make_sampler(SamplerKind kind, const Json& scheduler_config);
/// A sampler with default settings.
[[nodiscard]] std::unique_ptr<Sampler> make_sampler(SamplerKind kind);
/// The sampler as it was when its state was saved: further steps give the same bits.
[[nodiscard]] std::unique_ptr<Sampler> load_sampler(const SamplerState& state);

}  // namespace kinema::diffusion
