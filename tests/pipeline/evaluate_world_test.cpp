// SPDX-License-Identifier: Apache-2.0
#include "pipeline/evaluate_world.h"

#include <algorithm>
#include <filesystem>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/pipeline/tiny_model.h"
#include "tests/support/temp_folder.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

// Cancels after a number of steps of any stage.
class Stopper : public ProgressObserver {
 public:
  explicit Stopper(int steps) : left_(steps) {}
  void on_stage(std::string_view, std::int64_t, std::string_view) override {}
  void on_step(std::int64_t, const Metrics&) override { --left_; }
  void on_stage_end() override {}
  [[nodiscard]] bool cancelled() const override { return left_ <= 0; }

 private:
  int left_;
};

class EvaluateWorld : public testing::Test {
 protected:
  EvaluateWorld() {
    test::save_tiny_model(folder_ / "model");
    settings_.prompts = 4;
    settings_.seed = 11;
    settings_.steps = 2;
    settings_.sheet_rows = 2;
  }
  OrderedJson run(const std::string& name, ProgressObserver& progress = null_progress()) {
    TextToVideo pipe(ModelFolder::open(folder_ / "model"), tensor::parse_place("cpu", "fp32"));
    return evaluate_world(pipe, settings_, folder_ / name, progress);
  }
  std::string text(const std::string& name) { return read_file(folder_ / name, 1U << 24U, "test"); }

  test::TempFolder folder_;
  WorldEvaluation settings_;
};

TEST_F(EvaluateWorld, ReportsModelJudgeCeilingAndChance) {
  const OrderedJson report = run("report");
  for (const char* line : {"model", "judge", "ceiling", "chance"}) {
    EXPECT_EQ(report[line]["all"]["total"], 4) << line;
  }
  // The judge is good even on such small pictures; random weights follow no prompt.
  EXPECT_GE(report["judge"]["background_colour"]["right"], 3);
  EXPECT_EQ(report["model"]["all"]["right"], 0);
  // Four clips say little, but random frames lie far from any of them.
  EXPECT_GT(report["frechet"]["pixels"]["distance"], 1.0);
  EXPECT_GE(report["frechet"]["pixels"]["floor"], 0.0);
  EXPECT_EQ(parse_json(text("report/report.json"), {}), Json(report));
  const std::string lines = text("report/results.jsonl");
  EXPECT_EQ(std::count(lines.begin(), lines.end(), '\n'), 4);
  EXPECT_TRUE(fs::exists(folder_ / "report/sheet.png"));
}

TEST_F(EvaluateWorld, GoesOnWhereItWasStopped) {
  const OrderedJson whole = run("whole");
  for (const int steps : {3, 5, 8}) {
    Stopper stopper(steps);
    EXPECT_THROW(run("parts", stopper), Error);
    EXPECT_FALSE(fs::exists(folder_ / "parts/report.json"));
  }
  EXPECT_EQ(run("parts"), whole);
  EXPECT_EQ(text("parts/results.jsonl"), text("whole/results.jsonl"));
}

TEST_F(EvaluateWorld, OtherFoldersAreLeftAlone) {
  fs::create_directories(folder_ / "mine");
  write_file(folder_ / "mine/notes.txt", "precious");
  const auto code = [&](const std::string& name) {
    try {
      run(name);
    } catch (const Error& error) {
      return error.code();
    }
    return std::string("none");
  };
  EXPECT_EQ(code("mine"), "world.other_evaluation");
  EXPECT_EQ(code("new"), "none");
  settings_.seed = 12;
  EXPECT_EQ(code("new"), "world.other_evaluation");
}

}  // namespace
}  // namespace kinema::pipeline
