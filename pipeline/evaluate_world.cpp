// SPDX-License-Identifier: Apache-2.0
#include "pipeline/evaluate_world.h"

#include <array>
#include <filesystem>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/image.h"
#include "core/tensor/from_view.h"
#include "core/tensor/pictures.h"
#include "world/caption.h"
#include "world/evaluation.h"
#include "world/judge.h"
#include "world/render.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSettingsFile = "evaluation.json";
constexpr std::int64_t kSheetColumns = 9;

std::string latents_path(const std::string& folder, std::int64_t index) {
  return (fs::path(folder) / fmt::format("latents/{:06}.safetensors", index)).string();
}

// Makes the folder, or checks that it is an unfinished evaluation of the same settings.
void claim(const std::string& folder, const OrderedJson& settings) {
  const std::string text = settings.dump(2) + "\n";
  const std::string path = (fs::path(folder) / kSettingsFile).string();
  std::error_code ignored;
  const bool other = fs::exists(path, ignored)
                         ? read_file(path, 1U << 20U, "eval world") != text
                         : fs::exists(folder, ignored) && (!fs::is_directory(folder, ignored) ||
                                                           !fs::is_empty(folder, ignored));
  if (other) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "world.other_evaluation",
                 .place = "eval world",
                 .subject = folder,
                 .expected = "a new folder, or an evaluation of the same settings and model",
                 .got = "something else is in it"});
  }
  fs::create_directories(fs::path(folder) / "latents", ignored);
  write_file(path, text);
}

world::WorldConfig world_of(const VideoRequest& request, world::Split split) {
  world::WorldConfig config;
  config.width = request.width;
  config.height = request.height;
  config.frames = request.frames;
  config.fps = request.fps;
  config.split = split;
  config.validate();
  return config;
}

// [3, F, H, W] in 0..1, as the bytes of a lossless file would give it.
Tensor decoded(TextToVideo& pipe, const VideoRequest& request, const Tensor& latents_BCTHW) {
  std::vector<Tensor> frames;
  pipe.decode(
      request,
      latents_BCTHW,
      [&](const Tensor& frame_HWC) { frames.push_back(frame_HWC.clone()); },
      null_progress());
  return at::stack(frames).permute({3, 0, 1, 2}).to(at::kFloat).div(255);
}

Tensor encoded(TextToVideo& pipe, const Tensor& video_CFHW) {
  const vae::Autoencoder& vae = pipe.autoencoder();
  const Tensor pixels_BCFHW = video_CFHW.unsqueeze(0).mul(2).sub(1).to(pipe.place().device);
  return vae.to_model_space(vae.encode(pixels_BCFHW, {.pad_frames = true}).mode());
}

// Mean and change over time of every latent channel on a grid of two by two.
Tensor latent_features(const Tensor& latents_BCTHW) {
  const Tensor grid_BCTHW =
      at::adaptive_avg_pool3d(latents_BCTHW.to(at::kCPU, at::kFloat), {2, 2, 2});
  const Tensor change_BCHW = grid_BCTHW.select(2, 1) - grid_BCTHW.select(2, 0);
  return at::cat({grid_BCTHW.flatten(1), change_BCHW.flatten(1)}, 1);
}

OrderedJson verdict_json(const world::Verdict& verdict) {
  const auto name = [](const auto& names, auto value) {
    return std::string(names[static_cast<std::size_t>(value)]);
  };
  return {{"seen", verdict.seen},
          {"colour", name(world::kColourNames, verdict.colour)},
          {"shape", name(world::kShapeNames, verdict.shape)},
          {"size", name(world::kSizeNames, verdict.size)},
          {"motion", name(world::kMotionNames, verdict.motion)},
          {"background", name(world::kBackgroundNames, verdict.background)},
          {"background_colour", name(world::kColourNames, verdict.background_colour)}};
}

// Statistics of one kind of features: made videos, truth, and two halves of the truth.
struct Distances {
  world::FeatureStatistics made;
  world::FeatureStatistics truth;
  std::array<world::FeatureStatistics, 2> halves;

  void add(std::int64_t index, const Tensor& made_ND, const Tensor& truth_ND) {
    made.add(made_ND);
    truth.add(truth_ND);
    halves[static_cast<std::size_t>(index % 2)].add(truth_ND);
  }
  [[nodiscard]] OrderedJson to_json() const {
    OrderedJson json = {{"distance", world::frechet_distance(made, truth)}};
    if (halves[0].count() >= 2 && halves[1].count() >= 2) {
      json["floor"] = world::frechet_distance(halves[0], halves[1]);
    }
    return json;
  }
};

class Evaluator {
 public:
  Evaluator(TextToVideo& pipe, const WorldEvaluation& settings, std::string folder)
      : pipe_(pipe), settings_(settings), folder_(std::move(folder)) {
    const VideoRequest defaults = VideoRequest::with_defaults(pipe.model());
    const world::WorldConfig config = world_of(defaults, settings.split);
    for (std::int64_t i = 0; i < settings.prompts; ++i) {
      scenes_.push_back(world::make_scene(config, settings.seed, i));
      VideoRequest request = defaults;
      request.prompt = world::caption(scenes_.back(), 0, /*name_sizes=*/true);
      request.seed = static_cast<std::int64_t>(settings.seed) + i;
      request.sampler = settings.sampler;
      if (settings.steps > 0) {
        request.steps = settings.steps;
      }
      if (settings.guidance >= 0) {
        request.guidance = settings.guidance;
      }
      requests_.push_back(pipe.resolve(request));
    }
    static_cast<void>(pipe.plan(requests_.front()));
  }

  // The slow part; what is on disk already is kept.
  void make_latents(ProgressObserver& progress) {
    pipe_.encode_prompts(requests_, progress);
    progress.on_stage("make videos", settings_.prompts, "video");
    for (std::int64_t i = 0; i < settings_.prompts; ++i) {
      check_cancelled(progress, "eval world");
      const std::string path = latents_path(folder_, i);
      if (!fs::exists(path)) {
        const Tensor latents =
            pipe_.sample(requests_[static_cast<std::size_t>(i)], {}, null_progress());
        tensor::save_tensors(path, {{"latents_BCTHW", latents}});
      }
      progress.on_step(i + 1, {});
    }
    progress.on_stage_end();
  }

  OrderedJson judge_all(ProgressObserver& progress) {
    AtomicFile results((fs::path(folder_) / "results.jsonl").string());
    progress.on_stage("judge", settings_.prompts, "video");
    for (std::int64_t i = 0; i < settings_.prompts; ++i) {
      check_cancelled(progress, "eval world");
      results.write(judge_one(i).dump() + "\n");
      progress.on_step(i + 1, {});
    }
    progress.on_stage_end();
    results.commit();
    if (!sheet_.empty()) {
      io::write_png((fs::path(folder_) / "sheet.png").string(),
                    tensor::contact_sheet(sheet_, kSheetColumns));
    }
    return {{"format", "kinema-world-evaluation-1"},
            {"settings", settings_.to_json(pipe_.model())},
            {"request", requests_.front().to_json()},
            {"model", model_.to_json()},
            {"judge", judge_on_truth_.to_json()},
            {"ceiling", ceiling_.to_json()},
            {"chance", chance_.to_json()},
            {"frechet", {{"pixels", pixels_.to_json()}, {"latents", latents_.to_json()}}}};
  }

 private:
  OrderedJson judge_one(std::int64_t index) {
    const auto at = static_cast<std::size_t>(index);
    const world::Scene& scene = scenes_[at];
    const VideoRequest& request = requests_[at];
    const Tensor latents =
        tensor::load_tensors(latents_path(folder_, index)).at("latents_BCTHW").clone();
    const Tensor video = decoded(pipe_, request, latents);
    const Tensor truth = world::render(scene);
    const Tensor truth_latents = encoded(pipe_, truth);

    const world::Verdict verdict = judge_(video);
    const world::Score score = world::score(verdict, scene);
    model_.add(score);
    judge_on_truth_.add(world::score(judge_(truth), scene));
    ceiling_.add(world::score(judge_(decoded(pipe_, request, truth_latents)), scene));
    chance_.add(world::score(verdict, scenes_[(at + 1) % scenes_.size()]));
    pixels_.add(index, world::pixel_features(video), world::pixel_features(truth));
    latents_.add(index, latent_features(latents), latent_features(truth_latents));
    if (index < settings_.sheet_rows) {
      sheet_.push_back(video);
    }
    return {{"index", index},
            {"prompt", request.prompt},
            {"seed", request.seed},
            {"all_right", score.all()},
            {"verdict", verdict_json(verdict)},
            {"truth", scene.to_json()}};
  }

  TextToVideo& pipe_;
  WorldEvaluation settings_;
  std::string folder_;
  std::vector<world::Scene> scenes_;
  std::vector<VideoRequest> requests_;
  world::Judge judge_;
  world::Accuracy model_;
  world::Accuracy judge_on_truth_;
  world::Accuracy ceiling_;
  world::Accuracy chance_;
  Distances pixels_;
  Distances latents_;
  std::vector<Tensor> sheet_;
};

}  // namespace

OrderedJson WorldEvaluation::to_json(const ModelFolder& model) const {
  return {{"model", model.path},
          {"split", world::kSplitNames[static_cast<std::size_t>(split)]},
          {"prompts", prompts},
          {"seed", seed},
          {"steps", steps},
          {"guidance", guidance},
          {"sampler", sampler}};
}

OrderedJson evaluate_world(TextToVideo& pipe,
                           const WorldEvaluation& settings,
                           const std::string& folder,
                           ProgressObserver& progress) {
  const at::InferenceMode inference;
  Evaluator evaluator(pipe, settings, folder);
  claim(folder, settings.to_json(pipe.model()));
  evaluator.make_latents(progress);
  OrderedJson report = evaluator.judge_all(progress);
  write_file((fs::path(folder) / "report.json").string(), report.dump(2) + "\n");
  return report;
}

}  // namespace kinema::pipeline
