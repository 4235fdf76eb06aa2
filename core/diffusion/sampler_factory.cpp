// SPDX-License-Identifier: Apache-2.0
// From configurations to samplers: names, file reading, and the translation of one class's keys
// into another's.
#include <algorithm>
#include <array>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/diffusion/ddim.h"
#include "core/diffusion/ddpm.h"
#include "core/diffusion/dpmpp.h"
#include "core/diffusion/euler.h"
#include "core/diffusion/flow_euler.h"
#include "core/diffusion/iddpm.h"
#include "core/diffusion/rflow.h"
#include "core/diffusion/sampler.h"
#include "core/diffusion/unipc.h"

namespace kinema::diffusion {
namespace {

struct KindNames {
  SamplerKind kind;
  std::string_view name;
  std::string_view class_name;
};
constexpr std::array<KindNames, 8> kKinds = {{
    {SamplerKind::kRflow, "rflow", "RFLOW"},
    {SamplerKind::kDdpm, "ddpm", "DDPMScheduler"},
    {SamplerKind::kIddpm, "iddpm", "IDDPM"},
    {SamplerKind::kDdim, "ddim", "DDIMScheduler"},
    {SamplerKind::kDpmpp, "dpmpp", "DPMSolverMultistepScheduler"},
    {SamplerKind::kUnipc, "unipc", "UniPCMultistepScheduler"},
    {SamplerKind::kEuler, "euler", "EulerDiscreteScheduler"},
    {SamplerKind::kFlowEuler, "flow-euler", "FlowMatchEulerDiscreteScheduler"},
}};

const KindNames& names_of(SamplerKind kind) {
  return *std::ranges::find(kKinds, kind, &KindNames::kind);
}

constexpr std::size_t kMaxConfigBytes = 16UL * 1024 * 1024;

std::unique_ptr<Sampler> build_sampler(SamplerKind kind, const Json& json) {
  switch (kind) {
    case SamplerKind::kRflow:
      return std::make_unique<RflowSampler>(RflowConfig::from_json(json));
    case SamplerKind::kDdpm:
      return std::make_unique<DdpmSampler>(DdpmConfig::from_json(json));
    case SamplerKind::kIddpm:
      return std::make_unique<IddpmSampler>(IddpmConfig::from_json(json));
    case SamplerKind::kDdim:
      return std::make_unique<DdimSampler>(DdimConfig::from_json(json));
    case SamplerKind::kDpmpp:
      return std::make_unique<DpmppSampler>(DpmppConfig::from_json(json));
    case SamplerKind::kUnipc:
      return std::make_unique<UnipcSampler>(UnipcConfig::from_json(json));
    case SamplerKind::kEuler:
      return std::make_unique<EulerSampler>(EulerConfig::from_json(json));
    case SamplerKind::kFlowEuler:
      break;
  }
  return std::make_unique<FlowEulerSampler>(FlowEulerConfig::from_json(json));
}

bool is_flow(PredictionType type) {
  return type == PredictionType::kFlow || type == PredictionType::kReverseFlow;
}

/// What must survive a change of sampler.
struct ModelTraits {
  PredictionType prediction = PredictionType::kEpsilon;
  std::int64_t num_train_timesteps = 1000;
  double flow_shift = 1.0;
  bool shifts_by_size = false;
  bool learned_range = false;
};

ModelTraits traits_of(SamplerKind kind, const Json& own) {
  const auto sampler = build_sampler(kind, own);
  const Json json = sampler->config_json();
  ModelTraits traits;
  traits.prediction = sampler->prediction_type();
  traits.num_train_timesteps =
      json.at(kind == SamplerKind::kRflow ? "num_timesteps" : "num_train_timesteps")
          .get<std::int64_t>();
  if (kind == SamplerKind::kRflow) {
    traits.shifts_by_size = json.at("use_timestep_transform").get<bool>();
  } else if (is_flow(traits.prediction)) {
    traits.shifts_by_size = json.at("use_dynamic_shifting").get<bool>();
    traits.flow_shift =
        json.at(kind == SamplerKind::kFlowEuler ? "shift" : "flow_shift").get<double>();
  }
  const auto variance = json.find("variance_type");
  traits.learned_range = variance != json.end() && *variance == "learned_range";
  return traits;
}

[[noreturn]] void refuse(SamplerKind kind, PredictionType prediction) {
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "sampler.prediction",
               .place = "diffusion.sampler",
               .subject = std::string(to_string(kind)),
               .expected = "a model that this sampler can serve",
               .got = "a model with " + std::string(to_string(prediction)),
               .hint = is_flow(prediction) ? "use rflow, flow-euler, dpmpp or unipc"
                                           : "use ddim, ddpm, iddpm, dpmpp, unipc or euler"});
}

void carry_flow(SamplerKind to, const ModelTraits& traits, Json& json) {
  if (to == SamplerKind::kRflow) {
    if (traits.prediction != PredictionType::kReverseFlow) {
      refuse(to, traits.prediction);
    }
    json["num_timesteps"] = traits.num_train_timesteps;
    json["use_timestep_transform"] = traits.shifts_by_size;
    return;
  }
  if (to != SamplerKind::kFlowEuler && to != SamplerKind::kDpmpp && to != SamplerKind::kUnipc) {
    refuse(to, traits.prediction);
  }
  json["prediction_type"] = std::string(to_string(traits.prediction));
  json["num_train_timesteps"] = traits.num_train_timesteps;
  // The shift by size comes with the request: mu = ln(rflow_shift_ratio(size)).
  json["use_dynamic_shifting"] = traits.shifts_by_size;
  if (to == SamplerKind::kFlowEuler) {
    json["shift"] = traits.flow_shift;
  } else {
    json["use_flow_sigmas"] = true;
    json["flow_shift"] = traits.flow_shift;
  }
}

Json translate(SamplerKind from, const Json& own, SamplerKind to) {
  const ModelTraits traits = traits_of(from, own);
  // All keys that the wanted class knows, with its defaults.
  const Json known = build_sampler(to, Json::object())->config_json();
  constexpr std::array kChoices = {"prediction_type", "variance_type", "time_shift_type"};
  Json json = Json::object();
  for (const auto& [key, value] : known.items()) {
    const auto found = own.find(key);
    if (found != own.end() && !found->is_null() &&
        std::ranges::find(kChoices, key) == kChoices.end()) {
      json[key] = *found;
    }
  }
  json["_class_name"] = std::string(scheduler_class_name(to));
  if (is_flow(traits.prediction)) {
    carry_flow(to, traits, json);
    return json;
  }
  if (to == SamplerKind::kRflow || to == SamplerKind::kFlowEuler) {
    refuse(to, traits.prediction);
  }
  if (to == SamplerKind::kIddpm) {
    if (traits.prediction != PredictionType::kEpsilon) {
      refuse(to, traits.prediction);
    }
    json["variance_type"] = traits.learned_range ? "learned_range" : "fixed_small";
    return json;
  }
  json["prediction_type"] = std::string(to_string(traits.prediction));
  if (to == SamplerKind::kDdpm) {
    json["variance_type"] = traits.learned_range ? "learned_range" : "fixed_small";
  }
  // Latents are not limited to [-1, 1]; only a file that says so clips.
  if (known.contains("clip_sample") && !own.contains("clip_sample")) {
    json["clip_sample"] = false;
  }
  return json;
}

/// Quotes the bare tokens Infinity and -Infinity outside of strings.
std::string quote_infinities(std::string_view text) {
  constexpr std::string_view kToken = "Infinity";
  std::string result;
  bool in_string = false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string && c == '\\' && i + 1 < text.size()) {
      result += c;
      result += text[++i];
      continue;
    }
    if (c == '"') {
      in_string = !in_string;
    }
    const std::size_t sign = !in_string && c == '-' ? 1 : 0;
    if (!in_string && text.substr(i + sign).starts_with(kToken)) {
      result += '"';
      result += text.substr(i, sign + kToken.size());
      result += '"';
      i += sign + kToken.size() - 1;
      continue;
    }
    result += c;
  }
  return result;
}

}  // namespace

std::string_view to_string(SamplerKind kind) {
  return names_of(kind).name;
}
std::string_view scheduler_class_name(SamplerKind kind) {
  return names_of(kind).class_name;
}

SamplerKind parse_sampler_kind(std::string_view name) {
  std::string known;
  for (const auto& entry : kKinds) {
    if (entry.name == name) {
      return entry.kind;
    }
    known += (known.empty() ? "" : ", ") + std::string(entry.name);
  }
  throw Error(ErrorKind::kInvalidArgument,
              {.code = "sampler.name",
               .place = "diffusion.sampler",
               .subject = "sampler",
               .expected = known,
               .got = std::string(name.substr(0, 100))});
}

SamplerKind sampler_kind_of(const Json& scheduler_config) {
  JsonReader reader(scheduler_config,
                    {.place = "diffusion.sampler", .subject = "scheduler_config.json"});
  std::string name;
  std::string known;
  if (!reader.optional("_class_name", name)) {
    reader.required("type", name);
  }
  for (const auto& entry : kKinds) {
    if (entry.class_name == name || entry.name == name) {
      return entry.kind;
    }
    known += (known.empty() ? "" : ", ") + std::string(entry.class_name);
  }
  throw reader.error("config.value", "_class_name", known, name.substr(0, 100));
}

Json parse_scheduler_config(std::string_view text, const std::string& subject) {
  const JsonContext context{
      .place = "diffusion.sampler", .subject = subject, .max_bytes = kMaxConfigBytes};
  if (text.size() > kMaxConfigBytes) {
    return parse_json(text, context);  // says that it is too long
  }
  return parse_json(quote_infinities(text), context);
}

Json read_scheduler_config(const std::string& path) {
  return parse_scheduler_config(read_file(path, kMaxConfigBytes, "diffusion.sampler"), path);
}

std::unique_ptr<Sampler> make_sampler(const Json& scheduler_config) {
  return build_sampler(sampler_kind_of(scheduler_config), scheduler_config);
}

std::unique_ptr<Sampler> make_sampler(SamplerKind kind, const Json& scheduler_config) {
  const SamplerKind own = sampler_kind_of(scheduler_config);
  return own == kind ? build_sampler(kind, scheduler_config)
                     : build_sampler(kind, translate(own, scheduler_config, kind));
}

std::unique_ptr<Sampler> make_sampler(SamplerKind kind) {
  return build_sampler(kind, Json::object());
}

}  // namespace kinema::diffusion
