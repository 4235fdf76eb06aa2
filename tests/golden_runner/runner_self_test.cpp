// SPDX-License-Identifier: Apache-2.0
// The golden runner must fail on goldens that are spoiled; a runner that passes everything proves
// nothing. Runs the real program on changed copies of cases.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/tensor/from_view.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class GoldenRunnerTest : public testing::Test {
 protected:
  GoldenRunnerTest() {
    fs::copy(KINEMA_SOURCE_DIR "/tests/golden/text/t5_relu", case_folder_);
    fs::permissions(case_folder_, fs::perms::owner_all);
    for (const auto& entry : fs::directory_iterator(case_folder_)) {
      fs::permissions(entry.path(), fs::perms::owner_read | fs::perms::owner_write);
    }
  }

  test::ProcessResult run(const std::vector<std::string>& arguments = {}) {
    ::setenv("KINEMA_GOLDEN_DIR", folder_.path().c_str(), 1);
    std::vector<std::string> command = {KINEMA_GOLDEN_RUNNER};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return test::run_process(command);
  }

  /// Rewrites one safetensors file of the case. The tensors are copies, not views of the old file.
  void change(const std::string& file_name, const std::function<void(TensorMap&)>& action) {
    TensorMap tensors;
    for (const auto& [name, tensor] : tensor::load_tensors(case_folder_ + "/" + file_name)) {
      tensors.emplace(name, tensor.clone());
    }
    action(tensors);
    tensor::save_tensors(case_folder_ + "/" + file_name, tensors);
  }

  void change_json(const std::function<void(Json&)>& action) {
    const std::string path = case_folder_ + "/case.json";
    Json json = read_json_file(path, {.place = "test", .subject = path});
    action(json);
    write_file(path, json.dump());
  }

  void expect_failure(const std::string& text) {
    const test::ProcessResult result = run();
    EXPECT_EQ(result.exit_code, 1);
    EXPECT_THAT(result.out, HasSubstr("FAILED kind="));
    EXPECT_THAT(result.out, HasSubstr(text));
    EXPECT_THAT(result.out, HasSubstr("0 passed, 1 failed, 0 skipped"));
  }

  test::TempFolder folder_;
  std::string case_folder_ = folder_ / "some_case";
};

TEST_F(GoldenRunnerTest, AGoodCasePasses) {
  const test::ProcessResult result = run();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out,
              HasSubstr("PASSED kind=text.t5_encoder case=some_case compared=2 worst="));
  EXPECT_THAT(result.out, HasSubstr("1 passed, 0 failed, 0 skipped"));
}

TEST_F(GoldenRunnerTest, ChangedWeightsFail) {
  change("weights.safetensors", [](TensorMap& tensors) {
    tensors["encoder.block.1.layer.1.DenseReluDense.wo.weight"] *= 1.1;
  });
  expect_failure("out.last_hidden_state: difference");
}

TEST_F(GoldenRunnerTest, ChangedIdsFail) {
  change("io.safetensors", [](TensorMap& tensors) { tensors["in.input_ids"][0][0] += 1; });
  expect_failure("out.last_hidden_state: difference");
}

TEST_F(GoldenRunnerTest, ANanInTheExpectedOutputFails) {
  change("io.safetensors",
         [](TensorMap& tensors) { tensors["out.last_hidden_state"][0][0][0] = NAN; });
  expect_failure("nan");
}

TEST_F(GoldenRunnerTest, AnOutputThatNobodyComparesFails) {
  change("io.safetensors",
         [](TensorMap& tensors) { tensors["out.other"] = tensors["in.input_ids"]; });
  expect_failure("out.other: not compared");
}

TEST_F(GoldenRunnerTest, AMissingOutputFails) {
  change("io.safetensors", [](TensorMap& tensors) { tensors.erase("out.last_hidden_state"); });
  expect_failure("out.last_hidden_state: not in io.safetensors");
}

TEST_F(GoldenRunnerTest, AMissingFileFails) {
  fs::remove(case_folder_ + "/weights.safetensors");
  expect_failure("No such file");
}

TEST_F(GoldenRunnerTest, ATruncatedFileFails) {
  fs::resize_file(case_folder_ + "/weights.safetensors", 5000);
  expect_failure("weights.safetensors");
}

TEST_F(GoldenRunnerTest, AToleranceThatIsNotUnderstoodFails) {
  change_json([](Json& json) { json["tolerance"]["relative_to"] = "the weather"; });
  expect_failure("the weather");
}

TEST_F(GoldenRunnerTest, ABrokenCaseFileFails) {
  write_file(case_folder_ + "/case.json", "{\"kind\": ");
  expect_failure("kind=?");
}

TEST_F(GoldenRunnerTest, AKindThatIsNotBuiltIsOneVisibleLine) {
  change_json([](Json& json) { json["kind"] = "text.of_tomorrow"; });
  const test::ProcessResult result = run();
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("SKIPPED kind=text.of_tomorrow case=some_case\n"));
}

TEST_F(GoldenRunnerTest, TheKindDecidesNotTheName) {
  change_json([](Json& json) { json["kind"] = "text.umt5_encoder"; });
  EXPECT_THAT(run().out, HasSubstr("PASSED kind=text.umt5_encoder"));
}

TEST_F(GoldenRunnerTest, FindingNothingFails) {
  EXPECT_EQ(run({"--filter", "no such case"}).exit_code, 1);
  fs::remove_all(case_folder_);
  EXPECT_EQ(run().exit_code, 1);
}

TEST_F(GoldenRunnerTest, ListsWithoutRunning) {
  fs::remove(case_folder_ + "/weights.safetensors");
  const test::ProcessResult result = run({"--list"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.out, HasSubstr("text.t5_encoder"));
  EXPECT_THAT(result.out, Not(HasSubstr("FAILED")));
  EXPECT_EQ(run({"--what"}).exit_code, 2);
}

}  // namespace
}  // namespace kinema
