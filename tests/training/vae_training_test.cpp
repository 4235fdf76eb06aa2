// SPDX-License-Identifier: Apache-2.0
// `kinema train vae` on very small clips: the linear start, learning, kill -9 and resume, what
// comes out, and mistakes.
#include "training/vae_training.h"

#include <algorithm>
#include <chrono>
#include <csignal>
#include <filesystem>
#include <sys/wait.h>
#include <thread>

#include <ATen/ATen.h>
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "core/train/checkpoint.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"
#include "vae/autoencoder.h"

namespace kinema::training {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

constexpr const char* kNetwork =
    R"({"_class_name":"VidVAE","latent_channels":4,"base":8,"mult":[1,1],"res_blocks":1,"groups":4,)"
    R"("conv3d_levels_enc":[false,true],"space_down":["causal"],"time_down":["pool","pool"],)"
    R"("time_up":["repeat","repeat"],"patch":4,"linear_shortcut":true})";

std::vector<std::string> command(const test::TempFolder& folder,
                                 const std::string& run,
                                 std::vector<std::string> more = {}) {
  const std::string network = folder / "network.json";
  write_file(network, kNetwork);
  std::vector<std::string> arguments = {KINEMA_BINARY_DIR "/apps/kinema",
                                        "train",
                                        "vae",
                                        "-o",
                                        folder / run,
                                        "--network",
                                        network,
                                        "--threads",
                                        "1",
                                        "--size",
                                        "16",
                                        "--batch",
                                        "2",
                                        "--steps",
                                        "8",
                                        "--warmup",
                                        "2",
                                        "--save-every",
                                        "4",
                                        "--validate-every",
                                        "0",
                                        "--validation-clips",
                                        "4",
                                        "--measured-clips",
                                        "8",
                                        "--json"};
  for (std::size_t i = 0; i < more.size(); ++i) {
    const auto given = std::find(arguments.begin(), arguments.end(), more[i]);
    if (more[i].starts_with("--") && given != arguments.end() && i + 1 < more.size()) {
      *(given + 1) = more[++i];  // an option of its own instead of the one above
    } else {
      arguments.push_back(more[i]);
    }
  }
  return arguments;
}

/// Starts the command, waits until it has saved a further checkpoint, sends the signal. @return the
/// exit code, 128 + signal when it died of one.
int stop_after_checkpoint(const std::vector<std::string>& arguments,
                          const std::string& checkpoints,
                          int signal) {
  const auto before = train::latest_checkpoint(checkpoints);
  const pid_t child = ::fork();
  if (child == 0) {
    std::vector<char*> pointers;
    for (const auto& argument : arguments) {
      pointers.push_back(const_cast<char*>(argument.c_str()));
    }
    pointers.push_back(nullptr);
    const int nowhere = ::open("/dev/null", O_WRONLY);
    ::dup2(nowhere, 1);
    ::dup2(nowhere, 2);
    ::execv(pointers[0], pointers.data());
    ::_exit(127);
  }
  int status = 0;
  while (train::latest_checkpoint(checkpoints) == before) {
    if (::waitpid(child, &status, WNOHANG) == child) {
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  ::kill(child, signal);
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

TEST(TrainVae, KilledAndResumedEqualsNoInterruption) {
  const test::TempFolder folder;
  const std::vector<std::string> longer = {"--steps", "60"};
  const auto whole = test::run_process(command(folder, "whole", longer));
  ASSERT_EQ(whole.exit_code, 0) << whole.err;
  const std::string checkpoints = folder / "parts/checkpoints";
  const auto resumed = command(folder, "parts", {"--steps", "60", "--resume"});
  ASSERT_EQ(stop_after_checkpoint(resumed, checkpoints, SIGKILL), 128 + SIGKILL);
  ASSERT_EQ(stop_after_checkpoint(resumed, checkpoints, SIGTERM), 130);
  const auto rest = test::run_process(resumed);
  ASSERT_EQ(rest.exit_code, 0) << rest.err;
  for (const char* file : {"/vae/diffusion_pytorch_model.safetensors", "/vae/config.json"}) {
    EXPECT_EQ(read_file(folder / "whole" + file, 1 << 26, "test"),
              read_file(folder / "parts" + file, 1 << 26, "test"))
        << file;
  }
  EXPECT_EQ(Json::parse(whole.out)["psnr_db"], Json::parse(rest.out)["psnr_db"]);
}

TEST(TrainVae, StartsAtTheLinearMapAndImproves) {
  const test::TempFolder folder;
  write_file(folder / "network.json", kNetwork);
  const auto trained = [&](const std::string& name, std::int64_t steps) {
    VaeTraining training(
        {.folder = folder / name,
         .network = folder / "network.json",
         .size = 16,
         .batch = 8,
         .lengths = {5},
         .length_weights = {1},
         .validation_clips = 16,
         .measured_clips = 8,
         .optimizer = {.method = train::Method::kAdamW, .lr = 3e-3},
         .run = {.schedule = {.kind = train::ScheduleKind::kConstant, .warmup = 2, .steps = steps},
                 .ema = 0.95}},
        null_logger());
    return training.run(false, null_progress());
  };
  const double start = trained("start", 1).psnr_db;
  EXPECT_GT(start, 16.0);  // random networks reconstruct at 5 to 10 dB
  EXPECT_GT(trained("longer", 120).psnr_db, start + 0.1);
}

TEST(TrainVae, ResultLoadsStreamsAndHasUnitLatents) {
  const test::TempFolder folder;
  const auto run = test::run_process(command(folder, "run", {"--export-dtype", "fp32"}));
  ASSERT_EQ(run.exit_code, 0) << run.err;
  const auto vae = vae::Autoencoder::load(folder / "run/vae", {});
  EXPECT_TRUE(vae->info().streams_exactly());
  EXPECT_EQ(vae->info().spatial_ratio, 8);
  const WorldClips clips({.width = 16, .height = 16, .frames = 17}, 0);
  const Tensor video = to_network_range(batch_of(clips, kFirstMeasuringClip, 8, 17));
  const Tensor latents = vae->to_model_space(vae->encode(video).mode());
  EXPECT_LE((latents.mean({0, 2, 3, 4})).abs().max().item<double>(), 1e-3);
  EXPECT_LE((latents.transpose(0, 1).flatten(1).std(1) - 1).abs().max().item<double>(), 1e-3);
  // Streamed latents and frames equal one shot.
  const Tensor whole = vae->encode(video, {.frames_per_step = 0}).mode();
  EXPECT_LE((vae->encode(video).mode() - whole).abs().max().item<double>(), 1e-4);
  EXPECT_LE(
      (vae->decode(whole) - vae->decode(whole, {.latents_per_step = 0})).abs().max().item<double>(),
      1e-4);
  EXPECT_TRUE(fs::exists(folder / "run/samples/step-8.png"));
}

TEST(TrainVae, FrozenEncoderStaysWhatItIs) {
  const test::TempFolder folder;
  ASSERT_EQ(test::run_process(command(folder, "first", {"--export-dtype", "fp32"})).exit_code, 0);
  const auto second = test::run_process(
      command(folder,
              "second",
              {"--export-dtype", "fp32", "--start", folder / "first/vae", "--freeze-encoder"}));
  ASSERT_EQ(second.exit_code, 0) << second.err;
  const std::string file = "/vae/diffusion_pytorch_model.safetensors";
  const TensorMap a = tensor::load_tensors(folder / "first" + file);
  const TensorMap b = tensor::load_tensors(folder / "second" + file);
  for (const auto& [name, tensor] : a) {
    const bool is_encoder = name.starts_with("encoder.") || name.starts_with("quant_conv.") ||
                            name.starts_with("linear_shortcut.encoder.");
    EXPECT_EQ(tensor.equal(b.at(name)), is_encoder) << name;
  }
}

TEST(TrainVae, MistakesAreTold) {
  const test::TempFolder folder;
  const auto lengths = test::run_process(command(
      folder, "run", {"--lengths=1", "--lengths=4", "--length-weights=1", "--length-weights=1"}));
  EXPECT_EQ(lengths.exit_code, 2);
  EXPECT_THAT(lengths.err, HasSubstr("1 + k 4 frames"));
  const auto word = test::run_process(command(folder, "run", {"--optimizer", "sgd"}));
  EXPECT_EQ(word.exit_code, 2);
  EXPECT_THAT(word.err, HasSubstr("muon or adamw"));
  ASSERT_EQ(test::run_process(command(folder, "run", {"--steps", "2"})).exit_code, 0);
  const auto again = test::run_process(command(folder, "run"));
  EXPECT_EQ(again.exit_code, 2);
  EXPECT_THAT(again.err, HasSubstr("--resume"));
}

TEST(TrainVae, ConfigFileHasEveryOption) {
  const test::TempFolder folder;
  const auto arguments = command(folder, "run");
  std::string toml = "seed = 3\n[train.vae]\n";
  write_file(folder / "vae.toml",
             toml + "steps = 3\nlengths = [1, 5]\nlength-weights = [1.0, 1]\n");
  const auto run = test::run_process({arguments[0],
                                      "train",
                                      "vae",
                                      "--config",
                                      folder / "vae.toml",
                                      "-o",
                                      folder / "run",
                                      "--network",
                                      folder / "network.json",
                                      "--size",
                                      "16",
                                      "--validation-clips",
                                      "2",
                                      "--measured-clips",
                                      "2",
                                      "--json"});
  ASSERT_EQ(run.exit_code, 0) << run.err;
  EXPECT_EQ(Json::parse(run.out)["steps"], 3);
  write_file(folder / "vae.toml", toml + "stepz = 3\n");
  const auto wrong = test::run_process(
      {arguments[0], "train", "vae", "--config", folder / "vae.toml", "-o", folder / "other"});
  EXPECT_EQ(wrong.exit_code, 2);
  EXPECT_THAT(wrong.err, HasSubstr("train.vae.stepz"));
}

}  // namespace
}  // namespace kinema::training
