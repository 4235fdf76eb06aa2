// SPDX-License-Identifier: Apache-2.0
#include "core/diffusion/sampler.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::diffusion {
namespace {

constexpr const char* kPlace = "diffusion.sampler";

Error sampler_error(std::string code, std::string subject, std::string expected, std::string got) {
  return Error(ErrorKind::kInvalidArgument,
               {.code = std::move(code),
                .place = kPlace,
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got)});
}

Tensor to_compute_type(const Tensor& sample) {
  return sample.scalar_type() == at::kDouble ? sample : sample.to(at::kFloat);
}

bool same_axes(const Tensor& a, const Tensor& b) {
  if (a.dim() != b.dim()) {
    return false;
  }
  for (std::int64_t axis = 0; axis < a.dim(); ++axis) {
    if (axis != 1 && a.size(axis) != b.size(axis)) {
      return false;
    }
  }
  return true;
}

}  // namespace

ScheduleRequest ScheduleRequest::from_json(const Json& json) {
  ScheduleRequest request;
  JsonReader reader(json, {.place = kPlace, .subject = "schedule request"});
  reader.optional("num_steps", request.num_steps);
  reader.optional("timesteps", request.timesteps);
  reader.optional("sigmas", request.sigmas);
  reader.optional("mu", request.mu);
  reader.optional("height", request.height);
  reader.optional("width", request.width);
  reader.optional("num_frames", request.num_frames);
  reader.optional("eta", request.eta);
  reader.optional("use_clipped_model_output", request.use_clipped_model_output);
  reader.optional("churn", request.churn);
  reader.optional("churn_min_sigma", request.churn_min_sigma);
  reader.optional("churn_max_sigma", request.churn_max_sigma);
  reader.optional("churn_noise", request.churn_noise);
  reader.finish();
  return request;
}

Json ScheduleRequest::to_json() const {
  Json json = {{"num_steps", num_steps},
               {"timesteps", timesteps},
               {"sigmas", sigmas},
               {"height", height},
               {"width", width},
               {"num_frames", num_frames},
               {"eta", eta},
               {"use_clipped_model_output", use_clipped_model_output},
               {"churn", churn},
               {"churn_min_sigma", churn_min_sigma},
               {"churn_max_sigma", churn_max_sigma},
               {"churn_noise", churn_noise}};
  json["mu"] = mu ? Json(*mu) : Json();
  return json;
}

Error Sampler::request_error(std::string subject, std::string expected, std::string got) const {
  return sampler_error("sampler.request",
                       std::string(to_string(kind())) + " " + std::move(subject),
                       std::move(expected),
                       std::move(got));
}

void Sampler::accept_only(std::initializer_list<std::string_view> fields) const {
  const ScheduleRequest defaults;
  const ScheduleRequest& r = request_;
  const std::map<std::string_view, bool> given = {
      {"timesteps", !r.timesteps.empty()},
      {"sigmas", !r.sigmas.empty()},
      {"mu", r.mu.has_value()},
      {"eta", r.eta != 0.0},
      {"use_clipped_model_output", r.use_clipped_model_output},
      {"churn", r.churn != 0.0},
  };
  for (const auto& [name, is_given] : given) {
    if (is_given && std::ranges::find(fields, name) == fields.end()) {
      throw request_error(std::string(name), "not to be given", "a value");
    }
  }
}

std::int64_t Sampler::requested_steps(std::int64_t limit) const {
  if (request_.num_steps < 1 || request_.num_steps > limit) {
    throw request_error(
        "num_steps", "1 .. " + std::to_string(limit), std::to_string(request_.num_steps));
  }
  return request_.num_steps;
}

void Sampler::set_timesteps(const ScheduleRequest& request) {
  for (const auto* values : {&request.timesteps, &request.sigmas}) {
    for (std::size_t i = 0; i < values->size(); ++i) {
      if (!std::isfinite((*values)[i]) || (i > 0 && (*values)[i] >= (*values)[i - 1])) {
        throw request_error(values == &request.timesteps ? "timesteps" : "sigmas",
                            "falling finite values",
                            std::to_string((*values)[i]) + " at " + std::to_string(i));
      }
    }
  }
  request_ = request;
  timesteps_.clear();
  reset();
  try {
    build();
  } catch (...) {
    timesteps_.clear();
    throw;
  }
}

Tensor Sampler::scale_model_input(const Tensor& sample, std::int64_t /*index*/) const {
  return sample;
}

bool Sampler::needs_noise(std::int64_t /*index*/) const {
  return false;
}

void Sampler::reset() {
  next_index_.reset();
  clear_history();
}

void Sampler::check_step(const Tensor& model_output,
                         std::int64_t index,
                         const Tensor& sample) const {
  if (index < 0 || index >= num_steps()) {
    throw sampler_error(
        "sampler.index",
        "step index",
        timesteps_.empty() ? "set_timesteps() first" : "0 .. " + std::to_string(num_steps() - 1),
        std::to_string(index));
  }
  const bool fits =
      sample.dim() >= 2 && same_axes(model_output, sample) &&
      (model_output.size(1) == sample.size(1) || model_output.size(1) == 2 * sample.size(1));
  if (!fits) {
    throw Error(ErrorKind::kShapeMismatch,
                {.code = "sampler.shape",
                 .place = kPlace,
                 .subject = "model_output",
                 .expected = tensor::shape_text(sample) + " or twice the channels",
                 .got = tensor::shape_text(model_output)});
  }
}

StepResult Sampler::step(const Tensor& model_output,
                         std::int64_t index,
                         const Tensor& sample,
                         const Tensor& noise) {
  check_step(model_output, index, sample);
  if (is_multistep() && next_index_ && *next_index_ != index) {
    throw sampler_error("sampler.order",
                        "step index",
                        std::to_string(*next_index_) + ", or reset() before another one",
                        std::to_string(index));
  }
  const Tensor x = to_compute_type(sample);
  Tensor n;
  if (needs_noise(index)) {
    if (!noise.defined() || noise.sizes() != sample.sizes()) {
      throw sampler_error("sampler.noise",
                          "noise of step " + std::to_string(index),
                          tensor::shape_text(sample),
                          noise.defined() ? tensor::shape_text(noise) : "nothing");
    }
    n = noise.to(x.options());
  }
  StepResult result = advance(model_output.to(x.options()), index, x, n);
  next_index_ = index + 1;
  return result;
}

StepResult Sampler::step_frames(const Tensor& model_output,
                                std::span<const std::int64_t> frame_indices,
                                const Tensor& sample,
                                const Tensor& noise) {
  if (is_multistep()) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "sampler.per_frame",
                 .place = kPlace,
                 .subject = std::string(to_string(kind())),
                 .expected = "a sampler without history for times per frame",
                 .got = "a multistep solver",
                 .hint = "use rflow, flow-euler, ddim, ddpm, iddpm or euler"});
  }
  const auto num_frames = static_cast<std::int64_t>(frame_indices.size());
  tensor::check_shape(sample,
                      {tensor::kAny, tensor::kAny, num_frames, tensor::kAny, tensor::kAny},
                      kPlace,
                      "sample");
  StepResult result{.sample = to_compute_type(sample).clone(),
                    .x0 = to_compute_type(sample).clone()};
  std::map<std::int64_t, std::vector<std::int64_t>> frames_of_index;
  for (std::int64_t frame = 0; frame < num_frames; ++frame) {
    frames_of_index[frame_indices[static_cast<std::size_t>(frame)]].push_back(frame);
  }
  for (const auto& [index, frames] : frames_of_index) {
    if (index == num_steps() && index > 0) {
      continue;
    }
    const Tensor where = at::tensor(frames, at::kLong).to(sample.device());
    const auto pick = [&](const Tensor& all) {
      return all.defined() ? all.index_select(2, where) : all;
    };
    const StepResult part = step(pick(model_output), index, pick(sample), pick(noise));
    result.sample.index_copy_(2, where, part.sample);
    result.x0.index_copy_(2, where, part.x0);
  }
  return result;
}

Tensor Sampler::add_noise(const Tensor& x0, const Tensor& noise, std::int64_t index) const {
  if (index < 0 || index > num_steps()) {
    throw sampler_error("sampler.index",
                        "noise level",
                        "0 .. " + std::to_string(num_steps()),
                        std::to_string(index));
  }
  const NoiseLevel at = level(index);
  const Tensor x = to_compute_type(x0);
  return at.alpha * x + at.sigma * noise.to(x.options());
}

SamplerState Sampler::save_state() const {
  SamplerState state;
  state.json = {{"format", 1},
                {"kind", std::string(to_string(kind()))},
                {"config", config_json()},
                {"request", request_.to_json()},
                {"scheduled", !timesteps_.empty()},
                {"next_index", next_index_ ? Json(*next_index_) : Json()}};
  save_history(state);
  return state;
}

std::unique_ptr<Sampler> load_sampler(const SamplerState& state) {
  JsonReader reader(state.json, {.place = kPlace, .subject = "sampler state"});
  std::int64_t format = 0;
  std::string kind;
  bool scheduled = false;
  std::optional<std::int64_t> next_index;
  reader.required("format", format);
  reader.required("kind", kind);
  reader.required("scheduled", scheduled);
  reader.optional("next_index", next_index);
  const Json* config = reader.find("config");
  const Json* request = reader.find("request");
  reader.ignore({"history", "last_order"});
  reader.finish();
  if (format != 1 || config == nullptr || request == nullptr) {
    throw reader.error(
        "config.value", "format", "1, with config and request", std::to_string(format));
  }
  auto sampler = make_sampler(*config);
  if (to_string(sampler->kind()) != kind) {
    throw reader.error("config.value", "kind", std::string(to_string(sampler->kind())), kind);
  }
  if (scheduled) {
    sampler->set_timesteps(ScheduleRequest::from_json(*request));
    sampler->load_history(state);
    sampler->next_index_ = next_index;
  }
  return sampler;
}

}  // namespace kinema::diffusion
