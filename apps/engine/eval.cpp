// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "core/tensor/place.h"
#include "pipeline/evaluate_world.h"
#include "world/evaluation.h"

namespace kinema::engine {
namespace {

std::string percent(const OrderedJson& rate) {
  return fmt::format("{:5.1f} % [{:.1f}, {:.1f}]",
                     100 * rate["rate"].get<double>(),
                     100 * rate["low"].get<double>(),
                     100 * rate["high"].get<double>());
}

std::string table(const OrderedJson& report) {
  std::string text = fmt::format("{:<20}{:<26}{:<26}{:<26}{}\n",
                                 "right",
                                 "model",
                                 "truth through autoencoder",
                                 "judge on truth",
                                 "chance");
  for (const auto attribute : world::kAttributeNames) {
    const std::string name(attribute);
    text += fmt::format("{:<20}{:<26}{:<26}{:<26}{}\n",
                        name,
                        percent(report["model"][name]),
                        percent(report["ceiling"][name]),
                        percent(report["judge"][name]),
                        percent(report["chance"][name]));
  }
  const OrderedJson& frechet = report["frechet"];
  text += fmt::format("Fréchet distance to the truth: pixels {:.4g}, latents {:.4g}\n",
                      frechet["pixels"]["distance"].get<double>(),
                      frechet["latents"]["distance"].get<double>());
  return text;
}

}  // namespace

void eval_world(const cli::EvalWorldOptions& options,
                const cli::CommonOptions& common,
                cli::Console& console) {
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  pipeline::TextToVideo pipe(pipeline::ModelFolder::open(options.model), place, console.logger());
  pipeline::WorldEvaluation settings;
  settings.prompts = options.prompts;
  settings.split =
      static_cast<world::Split>(world::index_of(world::kSplitNames, options.split).value());
  settings.seed = static_cast<std::uint64_t>(options.seed);
  settings.steps = options.steps;
  settings.guidance = options.guidance;
  settings.sampler = options.sampler;
  settings.sheet_rows = options.sheet_rows;
  const OrderedJson report =
      pipeline::evaluate_world(pipe, settings, options.output, console.progress());
  console.finish(report, table(report) + options.output + "\n");
}

}  // namespace kinema::engine
