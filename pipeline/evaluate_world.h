// SPDX-License-Identifier: Apache-2.0
// Does a text-to-video model of the synthetic world show what its prompts say? Makes videos for
// many prompts and lets the rules of world::Judge answer, beside three lines that tell what the
// numbers mean: the judge on rendered truth, the truth through the autoencoder (the ceiling), and
// the videos against other prompts (chance).
#pragma once

#include <cstdint>
#include <string>

#include "core/base/json.h"
#include "core/base/progress.h"
#include "pipeline/text_to_video.h"
#include "world/scene.h"

namespace kinema::pipeline {

struct WorldEvaluation {
  std::int64_t prompts = 500;
  world::Split split = world::Split::kHeldOut;
  std::uint64_t seed = 0;        ///< of the scenes; video i has the noise of seed + i
  std::int64_t steps = 0;        ///< 0: the model's
  double guidance = -1;          ///< below 0: the model's
  std::string sampler;           ///< empty: the model's
  std::int64_t sheet_rows = 12;  ///< videos on the contact sheet; 0: none

  [[nodiscard]] OrderedJson to_json(const ModelFolder& model) const;
};

/// Writes into `folder`: latents/ (one file per video: a killed evaluation goes on with what is
/// there), results.jsonl (prompt, truth, verdict per video), sheet.png, report.json.
/// @return the report: accuracies with 95 % intervals of "model", "judge", "ceiling" and "chance",
///   and "frechet" distances to rendered truth on pixel and latent statistics, where "floor" is the
///   distance of one half of the truth to the other.
/// Throws kInvalidArgument [world.other_evaluation] for a folder that holds something else, and
/// what TextToVideo throws.
OrderedJson evaluate_world(TextToVideo& pipe,
                           const WorldEvaluation& settings,
                           const std::string& folder,
                           ProgressObserver& progress);

}  // namespace kinema::pipeline
