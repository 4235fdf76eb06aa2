// SPDX-License-Identifier: Apache-2.0
// The kinema program as a user runs it: answers, errors, exit codes, and how quickly.
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/file.h"
#include "core/base/json.h"
#include "core/io/safetensors.h"
#include "tests/support/process.h"
#include "tests/support/temp_folder.h"

namespace kinema {
namespace {

using test::ProcessResult;
using test::TempFolder;
using testing::HasSubstr;

const std::string kProgram = KINEMA_BINARY_DIR "/apps/kinema";

ProcessResult kinema(std::vector<std::string> arguments, const std::string& stdout_to = "") {
  arguments.insert(arguments.begin(), kProgram);
  return test::run_process(arguments, stdout_to);
}

Json json_of(const std::string& text) {
  return parse_json(text, {.place = "test", .subject = "stdout"});
}

std::string small_weights(const TempFolder& folder, const std::string& name = "model.safetensors") {
  const float values[6] = {1, 2, 3, 4, 5, 6};
  const io::TensorToWrite tensor{
      "layer.0.weight", io::DType::kF32, {2, 3}, std::as_bytes(std::span(values))};
  io::write_safetensors(folder / name, std::span(&tensor, 1), {{"format", "pt"}});
  return folder / name;
}

TEST(FrontTest, AnswersInAnInstant) {
  const TempFolder folder;
  const std::string weights = small_weights(folder);
  const std::vector<std::vector<std::string>> commands = {
      {"--help"},
      {"--version"},
      {"doctor"},
      {"inspect", weights},
      {"embed", "--help"},
      {"completion", "bash"},
      {"embed", "x", "--text-encoder", "nowhere", "-o", "c.safetensors"}};
  for (const auto& command : commands) {
    double best = 1e9;
    for (int i = 0; i < 5; ++i) {
      best = std::min(best, kinema(command).seconds);
    }
    EXPECT_LT(best, 0.1) << command[0];
  }
}

TEST(FrontTest, VersionAndHelpGoToStdout) {
  const ProcessResult version = kinema({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_THAT(version.out, testing::StartsWith("kinema 0."));
  EXPECT_EQ(version.err, "");
  EXPECT_EQ(json_of(kinema({"--version", "--json"}).out)["version"],
            version.out.substr(7, version.out.find(' ', 7) - 7));
  EXPECT_THAT(kinema({"help", "embed"}).out, HasSubstr("--text-encoder"));
  EXPECT_EQ(kinema({"embed", "-h"}).out, kinema({"help", "embed"}).out);
}

TEST(FrontTest, UsageErrorsExitWith2AndSayWhatToDo) {
  const ProcessResult result = kinema({"inspcet", "x"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("did you mean kinema inspect?"));
}

TEST(FrontTest, ErrorsUnderJsonAreOneObject) {
  const ProcessResult result = kinema({"inspect", "/nowhere/x.safetensors", "--json"});
  EXPECT_EQ(result.exit_code, 3);
  const Json error = json_of(result.out)["error"];
  for (const char* key : {"code", "message", "place", "expected", "got", "hint"}) {
    EXPECT_TRUE(error.contains(key)) << key;
  }
  EXPECT_EQ(error["code"], "io.open");
  EXPECT_THAT(error["message"].get<std::string>(), HasSubstr("/nowhere/x.safetensors"));
}

TEST(FrontTest, AFullOrClosedStdoutIsAnError) {
  EXPECT_EQ(kinema({"--help"}, "/dev/full").exit_code, 4);
  const ProcessResult closed = test::run_process(
      {"/bin/bash",
       "-c",
       "set -o pipefail; sleep 0.2 | : ; " + kProgram + " doctor | true; exit ${PIPESTATUS[0]}"});
  EXPECT_TRUE(closed.exit_code == 0 || closed.exit_code == 2) << closed.exit_code << closed.err;
}

TEST(FrontTest, DoctorKnowsTheMachine) {
  const ProcessResult result = kinema({"doctor", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = json_of(result.out);
  EXPECT_GT(json["memory"]["total_bytes"].get<std::uint64_t>(), 1'000'000U);
  EXPECT_GT(json["processor"]["cores"].get<int>(), 0);
  EXPECT_TRUE(json["engine"]["present"].get<bool>());
}

TEST(InspectTest, ListsTheTensorsOfAFile) {
  const TempFolder folder;
  const std::string path = small_weights(folder);
  const Json json = json_of(kinema({"inspect", path, "--json"}).out);
  EXPECT_EQ(json["kind"], "weights");
  EXPECT_EQ(json["parameters"], 6);
  EXPECT_EQ(json["dtypes"]["F32"]["bytes"], 24);
  EXPECT_EQ(json["metadata"]["format"], "pt");
  EXPECT_EQ(json["tensors"][0]["name"], "layer.0.weight");
  EXPECT_EQ(json["tensors"][0]["shape"], Json::parse("[2,3]"));
  EXPECT_THAT(kinema({"inspect", path}).out, HasSubstr("layer.0.weight  F32      [2, 3]"));
}

TEST(InspectTest, SumsUpLongLists) {
  const TempFolder folder;
  const float value = 1;
  std::vector<io::TensorToWrite> tensors;
  for (int i = 0; i < 60; ++i) {
    tensors.push_back({"blocks." + std::to_string(i) + ".w",
                       io::DType::kF32,
                       {1},
                       std::as_bytes(std::span(&value, 1))});
  }
  io::write_safetensors(folder / "m.safetensors", tensors);
  EXPECT_THAT(kinema({"inspect", folder / "m.safetensors"}).out,
              HasSubstr("blocks.*      60 tensors"));
  EXPECT_THAT(kinema({"inspect", folder / "m.safetensors", "--tensors"}).out,
              HasSubstr("blocks.59.w"));
}

TEST(InspectTest, ShowsAModelFolder) {
  const TempFolder folder;
  std::filesystem::create_directories(folder / "transformer");
  std::filesystem::create_directories(folder / "scheduler");
  write_file(
      folder / "model_index.json",
      R"({"_class_name":"OpenSora","transformer":["kinema","STDiT3"],"scheduler":["d","RFlow"],"safety":[null,null]})");
  write_file(folder / "transformer/config.json",
             R"({"architectures":["STDiT3"],"depth":28,"hidden_size":1152})");
  write_file(folder / "scheduler/scheduler_config.json", R"({"_class_name":"RFlowScheduler"})");
  small_weights(folder, "transformer/model.safetensors");
  const ProcessResult text = kinema({"inspect", folder.path()});
  EXPECT_EQ(text.exit_code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("STDiT3, 1 tensors, 6 parameters (6 in F32), 24 bytes"));
  EXPECT_THAT(text.out, HasSubstr("depth 28, hidden_size 1152"));
  const Json json = json_of(kinema({"inspect", folder.path(), "--json"}).out);
  EXPECT_EQ(json["components"].size(), 2);
  std::filesystem::remove_all(folder / "scheduler");
  const ProcessResult broken = kinema({"inspect", folder.path()});
  EXPECT_EQ(broken.exit_code, 3);
  EXPECT_THAT(broken.err, HasSubstr("model.component_missing"));
}

TEST(InspectTest, AComponentCannotLeadOutOfTheFolder) {
  const TempFolder folder;
  write_file(folder / "model_index.json", R"({"_class_name":"X","../../etc":["a","b"]})");
  const ProcessResult result = kinema({"inspect", folder.path()});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("io.outside_folder"));
}

TEST(InspectTest, BadFilesExitWith3) {
  const TempFolder folder;
  write_file(folder / "bad.safetensors", "12345678garbage");
  write_file(folder / "empty.mp4", "");
  std::filesystem::create_directories(folder / "nothing");
  for (const char* name : {"bad.safetensors", "empty.mp4", "nothing", "missing.mp4"}) {
    const ProcessResult result = kinema({"inspect", folder / name});
    EXPECT_EQ(result.exit_code, 3) << name << result.err;
    EXPECT_THAT(result.err, HasSubstr(name));
    EXPECT_EQ(result.out, "");
  }
}

TEST(CompletionTest, BashScriptCompletes) {
  const TempFolder folder;
  write_file(folder / "kinema.bash", kinema({"completion", "bash"}).out);
  const ProcessResult result = test::run_process(
      {"/bin/bash",
       "-c",
       "source " + (folder / "kinema.bash") +
           "; COMP_WORDS=(kinema embed --text); COMP_CWORD=2; _kinema; echo \"${COMPREPLY[@]}\";"
           " COMP_WORDS=(kinema ins); COMP_CWORD=1; _kinema; echo \"${COMPREPLY[@]}\";"
           " COMP_WORDS=(kinema doctor --dtype b); COMP_CWORD=3; _kinema; echo "
           "\"${COMPREPLY[@]}\";"
           " COMP_WORDS=(kinema vae de); COMP_CWORD=2; _kinema; echo \"${COMPREPLY[@]}\";"
           " COMP_WORDS=(kinema vae encode --clip); COMP_CWORD=3; _kinema; echo "
           "\"${COMPREPLY[@]}\""});
  EXPECT_EQ(result.out, "--text-encoder\ninspect\nbf16\ndecode\n--clip-frames\n") << result.err;
}

}  // namespace
}  // namespace kinema
