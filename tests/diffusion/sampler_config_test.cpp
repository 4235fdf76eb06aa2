// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <fstream>

#include <gmock/gmock.h>

#include "core/diffusion/dpmpp.h"
#include "core/diffusion/euler.h"
#include "core/diffusion/rflow.h"
#include "core/diffusion/unipc.h"
#include "tests/diffusion/diffusion_test_data.h"
#include "tests/support/temp_folder.h"

namespace kinema::diffusion::test {
namespace {

using kinema::test::TempFolder;
using ::testing::HasSubstr;

TEST(SamplerConfig, EveryClassReadsWhatItWrites) {
  for (const NamedSampler& named : all_samplers(4)) {
    const auto sampler = make_sampler(named.config);
    const Json written = sampler->config_json();
    EXPECT_EQ(make_sampler(written)->config_json(), written) << named.name;
    // Also through text: no number loses a bit.
    const Json read_again = parse_scheduler_config(written.dump(), "text");
    EXPECT_EQ(make_sampler(read_again)->config_json(), written) << named.name;
  }
}

TEST(SamplerConfig, UnknownKeysAreAllNamed) {
  for (const NamedSampler& named : all_samplers(4)) {
    Json config = named.config;
    config["solver_oder"] = 2;
    config["zebra"] = 1;
    try {
      (void)make_sampler(config);
      FAIL() << named.name;
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), "config.unknown_key");
      EXPECT_THAT(error.what(), HasSubstr("solver_oder"));
      EXPECT_THAT(error.what(), HasSubstr("zebra"));
    }
  }
}

TEST(SamplerConfig, RefusesValuesThatCannotWork) {
  const auto code = [](const char* name, Json config) {
    config["_class_name"] = name;
    return error_code([&] { (void)make_sampler(config); });
  };
  const char* dpm = "DPMSolverMultistepScheduler";
  const char* unipc = "UniPCMultistepScheduler";
  const char* flow = "FlowMatchEulerDiscreteScheduler";
  EXPECT_EQ(code(dpm, {{"solver_order", 4}}), "config.range");
  EXPECT_EQ(code(dpm, {{"solver_type", "rk4"}}), "config.value");
  EXPECT_EQ(code(dpm, {{"algorithm_type", "dpmsolver"}}), "config.value");  // final sigma zero
  EXPECT_EQ(code(dpm, {{"lambda_min_clipped", "low"}}), "config.type");
  EXPECT_EQ(code(dpm, {{"use_flow_sigmas", true}, {"use_karras_sigmas", true}}), "config.value");
  EXPECT_EQ(code(dpm, {{"use_beta_sigmas", true}, {"use_karras_sigmas", true}}), "config.value");
  EXPECT_EQ(code(dpm, {{"flow_shift", 0.0}}), "config.range");
  EXPECT_EQ(code(unipc, {{"solver_p", {{"a", 1}}}}), "config.value");
  EXPECT_EQ(code(unipc, {{"lower_order_final", false}}), "config.value");
  EXPECT_EQ(code(unipc, {{"predict_x0", false}}), "config.value");
  EXPECT_EQ(code(unipc, {{"shift_terminal", 0.1}}), "config.value");
  EXPECT_EQ(code(flow, {{"shift", -1.0}}), "config.range");
  EXPECT_EQ(code(flow, {{"shift_terminal", 1.0}}), "config.range");
  EXPECT_EQ(code(flow, {{"prediction_type", "epsilon"}}), "config.value");
  EXPECT_EQ(code("DDIMScheduler", {{"num_train_timesteps", 1}}), "config.range");
  EXPECT_EQ(code("DDIMScheduler", {{"num_train_timesteps", 1LL << 60}}), "config.range");
  EXPECT_EQ(code("DDIMScheduler", {{"beta_end", 1.5}}), "config.range");
  EXPECT_EQ(code("DDIMScheduler", {{"trained_betas", {0.1, 0.2}}}), "config.range");
  EXPECT_EQ(code("DDIMScheduler", {{"prediction_type", "flow_prediction"}}), "config.value");
  EXPECT_EQ(code("DDPMScheduler", {{"clip_sample_range", 0}}), "config.range");
  EXPECT_EQ(code("DDPMScheduler", {{"steps_offset", -1}}), "config.range");
  EXPECT_EQ(code("EulerDiscreteScheduler", {{"sigma_min", 3.0}, {"sigma_max", 2.0}}),
            "config.range");
  EXPECT_EQ(code("PNDMScheduler", Json::object()), "config.value");
  EXPECT_EQ(error_code([] { (void)make_sampler(Json::object()); }), "config.missing");
}

TEST(SamplerConfig, TakesTheBareInfinityOfPublishedFiles) {
  const char* text = R"({"_class_name": "DPMSolverMultistepScheduler",
                         "lambda_min_clipped": -Infinity, "solver_order": 3})";
  const auto sampler = make_sampler(parse_scheduler_config(text, "scheduler_config.json"));
  EXPECT_EQ(sampler->config_json().at("lambda_min_clipped"), "-Infinity");
  // Not inside a string, not as any other value.
  const Json json = parse_scheduler_config(R"({"a": "x \" -Infinity", "b": [Infinity]})", "f");
  EXPECT_EQ(json.at("a"), "x \" -Infinity");
  EXPECT_EQ(json.at("b").at(0), "Infinity");
  EXPECT_EQ(error_code([] { (void)parse_scheduler_config(R"({"a": -Infinit})", "f"); }),
            "json.syntax");
  EXPECT_EQ(error_code([] { (void)parse_scheduler_config(R"({"a": NaN})", "f"); }), "json.syntax");
}

TEST(SamplerConfig, ReadsFiles) {
  const TempFolder folder;
  const std::string path = folder / "scheduler_config.json";
  std::ofstream(path) << R"({"_class_name": "UniPCMultistepScheduler", "solver_order": 3})";
  EXPECT_EQ(make_sampler(read_scheduler_config(path))->kind(), SamplerKind::kUnipc);
  EXPECT_EQ(error_code([&] { (void)read_scheduler_config(folder / "missing.json"); }), "io.open");
}

TEST(SamplerConfig, NamesAreKnown) {
  for (const char* name :
       {"rflow", "ddpm", "iddpm", "ddim", "dpmpp", "unipc", "euler", "flow-euler"}) {
    const SamplerKind kind = parse_sampler_kind(name);
    EXPECT_EQ(to_string(kind), name);
    const auto sampler = make_sampler(kind);
    EXPECT_EQ(sampler->kind(), kind);
    EXPECT_EQ(sampler_kind_of(sampler->config_json()), kind);
  }
  EXPECT_EQ(error_code([] { (void)parse_sampler_kind("plms"); }), "sampler.name");
  EXPECT_EQ(sampler_kind_of(Json{{"type", "rflow"}}), SamplerKind::kRflow);
}

TEST(SamplerConfig, AnotherSamplerKeepsTheSchedule) {
  const Json stable_diffusion = {{"_class_name", "DDIMScheduler"},
                                 {"beta_start", 0.00085},
                                 {"beta_end", 0.012},
                                 {"beta_schedule", "scaled_linear"},
                                 {"prediction_type", "v_prediction"},
                                 {"timestep_spacing", "trailing"},
                                 {"set_alpha_to_one", false}};
  for (const SamplerKind kind : {SamplerKind::kDpmpp,
                                 SamplerKind::kUnipc,
                                 SamplerKind::kEuler,
                                 SamplerKind::kDdpm,
                                 SamplerKind::kDdim}) {
    const Json json = make_sampler(kind, stable_diffusion)->config_json();
    for (const char* key :
         {"beta_start", "beta_end", "beta_schedule", "prediction_type", "timestep_spacing"}) {
      EXPECT_EQ(json.at(key), stable_diffusion.at(key)) << key;
    }
  }
  for (const SamplerKind kind :
       {SamplerKind::kRflow, SamplerKind::kFlowEuler, SamplerKind::kIddpm}) {
    EXPECT_EQ(error_code([&] { (void)make_sampler(kind, stable_diffusion); }),
              "sampler.prediction");
  }
}

TEST(SamplerConfig, FlowModelsStayFlowModels) {
  const Json flow = {{"_class_name", "FlowMatchEulerDiscreteScheduler"}, {"shift", 5.0}};
  for (const SamplerKind kind : {SamplerKind::kDpmpp, SamplerKind::kUnipc}) {
    const Json json = make_sampler(kind, flow)->config_json();
    EXPECT_EQ(json.at("prediction_type"), "flow_prediction");
    EXPECT_EQ(json.at("use_flow_sigmas"), true);
    EXPECT_EQ(json.at("flow_shift"), 5.0);
    // And back.
    EXPECT_EQ(make_sampler(SamplerKind::kFlowEuler, json)->config_json().at("shift"), 5.0);
  }
  EXPECT_EQ(error_code([&] { (void)make_sampler(SamplerKind::kDdim, flow); }),
            "sampler.prediction");
  EXPECT_EQ(error_code([&] { (void)make_sampler(SamplerKind::kRflow, flow); }),
            "sampler.prediction");
}

// Open-Sora's shift by size equals the dynamic shift with mu = ln r.
TEST(SamplerConfig, OpenSoraModelsKeepTheirShift) {
  const Json rflow = {{"_class_name", "RFLOW"}, {"use_timestep_transform", true}};
  const auto original = make_sampler(rflow);
  original->set_timesteps({.num_steps = 10, .height = 480, .width = 854, .num_frames = 102});
  const auto other = make_sampler(SamplerKind::kFlowEuler, rflow);
  EXPECT_EQ(other->prediction_type(), PredictionType::kReverseFlow);
  EXPECT_EQ(error_code([&] { other->set_timesteps({.num_steps = 10}); }), "sampler.request");
  std::vector<double> plain;
  for (int i = 0; i < 10; ++i) {
    plain.push_back(1.0 - i / 10.0);
  }
  const double ratio = rflow_shift_ratio({.height = 480, .width = 854, .num_frames = 102});
  other->set_timesteps({.sigmas = plain, .mu = std::log(ratio)});
  for (std::int64_t i = 0; i < 10; ++i) {
    EXPECT_NEAR(other->timesteps()[static_cast<std::size_t>(i)],
                original->timesteps()[static_cast<std::size_t>(i)],
                1e-3);
  }
}

TEST(ScheduleRequestTest, FieldsWithoutUseAreErrors) {
  const auto code = [](const char* name, const ScheduleRequest& request) {
    return error_code([&] { make_sampler(parse_sampler_kind(name))->set_timesteps(request); });
  };
  EXPECT_EQ(code("ddim", {.num_steps = 0}), "sampler.request");
  EXPECT_EQ(code("ddim", {.num_steps = 1001}), "sampler.request");
  EXPECT_EQ(code("ddim", {.num_steps = -3}), "sampler.request");
  EXPECT_EQ(code("dpmpp", {.num_steps = 10, .eta = 0.5}), "sampler.request");
  EXPECT_EQ(code("ddim", {.num_steps = 10, .mu = 0.5}), "sampler.request");
  EXPECT_EQ(code("ddim", {.num_steps = 10, .churn = 0.5}), "sampler.request");
  EXPECT_EQ(code("unipc", {.sigmas = {1.0, 0.5}}), "sampler.request");
  EXPECT_EQ(code("ddim", {.timesteps = {10.0, 20.0}}), "sampler.request");
  EXPECT_EQ(code("ddim", {.timesteps = {1000.0, 20.0}}), "sampler.request");
  EXPECT_EQ(code("ddpm", {.timesteps = {20.5}}), "sampler.request");
  EXPECT_EQ(code("flow-euler", {.sigmas = {1.5, 0.5}}), "sampler.request");
  EXPECT_EQ(code("flow-euler", {.num_steps = 3, .sigmas = {1.0, 0.5}}), "sampler.request");
  EXPECT_EQ(code("euler", {.timesteps = {9.0}, .sigmas = {1.0, 0.0}}), "sampler.request");
  EXPECT_EQ(code("flow-euler", {.num_steps = 4, .mu = 1.0}), "sampler.request");
  const auto rflow = make_sampler(Json{{"_class_name", "RFLOW"}, {"use_timestep_transform", true}});
  EXPECT_EQ(error_code([&] { rflow->set_timesteps({.num_steps = 4}); }), "sampler.request");
  EXPECT_EQ(rflow->num_steps(), 0);
}

TEST(ScheduleRequestTest, ReadsWhatItWrites) {
  const ScheduleRequest request{.num_steps = 7,
                                .timesteps = {999.5, 1.0 / 3.0},
                                .sigmas = {0.1 + 0.2},
                                .mu = 1.15,
                                .height = 720,
                                .eta = 0.3,
                                .use_clipped_model_output = true,
                                .churn_noise = 1.003};
  EXPECT_EQ(ScheduleRequest::from_json(parse_json(request.to_json().dump(), {})), request);
  EXPECT_EQ(error_code([] { (void)ScheduleRequest::from_json({{"steps", 3}}); }),
            "config.unknown_key");
}

}  // namespace
}  // namespace kinema::diffusion::test
