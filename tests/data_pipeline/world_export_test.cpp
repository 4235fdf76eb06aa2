// SPDX-License-Identifier: Apache-2.0
#include "data_pipeline/world_export.h"

#include <filesystem>
#include <map>

#include <ATen/ATen.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/tensor/pictures.h"
#include "media/video_reader.h"
#include "tests/support/temp_folder.h"
#include "world/caption.h"
#include "world/judge.h"
#include "world/render.h"

namespace kinema::data_pipeline {
namespace {

namespace fs = std::filesystem;

WorldExport small() {
  WorldExport settings;
  settings.world.width = 32;
  settings.world.height = 32;
  settings.world.frames = 5;
  settings.seed = 3;
  settings.count = 6;
  settings.captions = 2;
  return settings;
}

// Every file below a folder with its bytes.
std::map<std::string, std::string> tree(const std::string& folder) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    if (entry.is_regular_file()) {
      files[fs::relative(entry.path(), folder).string()] =
          read_file(entry.path().string(), 1U << 26U, "test");
    }
  }
  return files;
}

// Cancels once `limit` steps were told.
class Stopper : public ProgressObserver {
 public:
  explicit Stopper(std::int64_t limit) : limit_(limit) {}
  void on_stage(std::string_view, std::int64_t, std::string_view) override {}
  void on_step(std::int64_t done, const Metrics&) override { stop_ = done >= limit_; }
  void on_stage_end() override {}
  [[nodiscard]] bool cancelled() const override { return stop_; }

 private:
  std::int64_t limit_;
  bool stop_ = false;
};

TEST(WorldExport, FilesHoldWhatTheManifestSays) {
  const test::TempFolder folder;
  const std::string out = folder / "data";
  const auto report = export_world(small(), out, null_progress());
  EXPECT_EQ(report.clips, 6);
  EXPECT_EQ(report.rendered, 6);
  const std::string manifest = read_file(out + "/manifest.jsonl", 1U << 20U, "test");
  std::int64_t index = 0;
  std::size_t start = 0;
  while (start < manifest.size()) {
    const std::size_t end = manifest.find('\n', start);
    const Json row = parse_json(manifest.substr(start, end - start), {});
    start = end + 1;
    const auto scene = world::make_scene(small().world, 3, index);
    EXPECT_EQ(row.at("caption"), world::caption(scene, 0));
    EXPECT_EQ(row.at("captions").size(), 2U);
    EXPECT_EQ(row.at("truth").at("objects").size(), 1U);
    auto reader = media::VideoReader::open(out + "/" + row.at("path").get<std::string>());
    EXPECT_EQ(reader.info().width, 32);
    std::int64_t frames = 0;
    while (reader.next()) {
      ++frames;
    }
    EXPECT_EQ(frames, 5);
    ++index;
  }
  EXPECT_EQ(index, 6);
}

class BothLayouts : public ::testing::TestWithParam<WorldLayout> {};

TEST_P(BothLayouts, InterruptionsAndWorkersLeaveNoTrace) {
  const test::TempFolder folder;
  WorldExport settings = small();
  settings.layout = GetParam();
  settings.shard_clips = 2;
  settings.workers = 3;
  export_world(settings, folder / "whole", null_progress());
  settings.workers = 1;
  for (int stop = 0; stop < 2; ++stop) {
    Stopper stopper(1);
    EXPECT_THROW(export_world(settings, folder / "parts", stopper), Error);
  }
  const auto report = export_world(settings, folder / "parts", null_progress());
  EXPECT_LT(report.rendered, 6);
  EXPECT_EQ(tree(folder / "parts"), tree(folder / "whole"));
}

INSTANTIATE_TEST_SUITE_P(Layouts,
                         BothLayouts,
                         ::testing::Values(WorldLayout::kFiles, WorldLayout::kWebDataset));

TEST(WorldExport, OtherFoldersAreLeftAlone) {
  const test::TempFolder folder;
  write_file(folder / "mine.txt", "precious");
  WorldExport settings = small();
  const auto code = [&](const std::string& path) {
    try {
      export_world(settings, path, null_progress());
    } catch (const Error& error) {
      return error.code();
    }
    return std::string("none");
  };
  EXPECT_EQ(code(folder.path()), "world.other_export");
  EXPECT_EQ(code(folder / "mine.txt"), "world.other_export");
  EXPECT_EQ(code(folder / "new"), "none");
  settings.seed = 4;
  EXPECT_EQ(code(folder / "new"), "world.other_export");
  EXPECT_EQ(read_file(folder / "mine.txt", 100, "test"), "precious");
}

TEST(WorldExport, BadSettingsAreNamed) {
  const test::TempFolder folder;
  WorldExport settings = small();
  settings.count = 0;
  EXPECT_THROW(export_world(settings, folder / "x", null_progress()), Error);
  EXPECT_FALSE(fs::exists(folder / "x"));
}

TEST(WriteScene, TheJudgeStillSeesTheSceneInTheFile) {
  const test::TempFolder folder;
  world::WorldConfig config;
  const auto scene = world::make_scene(config, 99, 1);
  const std::string path = folder / "scene.mkv";
  EXPECT_EQ(write_scene(scene, path, {}).frames, 17);
  auto reader = media::VideoReader::open(path);
  std::vector<Tensor> frames;
  while (const auto frame = reader.next()) {
    frames.push_back(at::from_blob(const_cast<std::uint8_t*>(frame->rgb_HWC.data()),
                                   {scene.height, scene.width, 3},
                                   at::kByte)
                         .clone());
  }
  const Tensor video_CFHW = at::stack(frames).permute({3, 0, 1, 2}).to(at::kFloat).div(255);
  EXPECT_LE((video_CFHW - world::render(scene)).abs().max().item<float>(), 0.5F / 255 + 1e-6F);
  EXPECT_TRUE(world::score(world::Judge()(video_CFHW), scene).all());
}

}  // namespace
}  // namespace kinema::data_pipeline
