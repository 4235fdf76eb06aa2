// SPDX-License-Identifier: Apache-2.0
// `kinema embed` as a user runs it, with a small random T5 and a tokenizer of the golden cases.
#include <cstring>
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
#include "tests/support/tiny_t5.h"

namespace kinema {
namespace {

namespace fs = std::filesystem;
using test::ProcessResult;
using testing::HasSubstr;

const std::string kTokenizer = KINEMA_SOURCE_DIR "/tests/golden/text/tokenizer_t5";

class EmbedTest : public testing::Test {
 protected:
  EmbedTest() { t5_.save(folder_ / "t5"); }

  ProcessResult embed(std::vector<std::string> arguments) {
    std::vector<std::string> command = {KINEMA_BINARY_DIR "/apps/kinema",
                                        "embed",
                                        "--text-encoder",
                                        folder_ / "t5",
                                        "--tokenizer",
                                        kTokenizer,
                                        "--threads",
                                        "1"};
    command.insert(command.end(), arguments.begin(), arguments.end());
    return test::run_process(command);
  }

  test::TempFolder folder_;
  test::TinyT5 t5_;
};

float value_at(const io::TensorView& tensor, std::size_t index) {
  float value = 0;
  std::memcpy(&value, tensor.bytes.data() + index * sizeof(float), sizeof(float));
  return value;
}

TEST_F(EmbedTest, WritesContextMaskIdsAndTheRequest) {
  const ProcessResult result = embed({"A red circle",
                                      "moves",
                                      "-o",
                                      folder_ / "c.safetensors",
                                      "--max-length",
                                      "12",
                                      "--dtype",
                                      "fp32",
                                      "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json summary = parse_json(result.out, {.place = "test", .subject = "stdout"});
  EXPECT_EQ(summary["prompts"], 2);
  EXPECT_EQ(summary["tokens_per_prompt"], 12);
  const auto file = io::SafetensorsFile::open(folder_ / "c.safetensors");
  const auto& context = file.tensors().at("context_BMD");
  EXPECT_EQ(context.shape, (io::Shape{2, 12, 16}));
  EXPECT_EQ(context.dtype, io::DType::kF32);
  EXPECT_EQ(file.tensors().at("input_ids").shape, (io::Shape{2, 12}));
  EXPECT_NE(value_at(context, 0), 0.0F);
  EXPECT_EQ(value_at(context, 2 * 12 * 16 - 1), 0.0F) << "rows beyond the mask are zero";
  const Json request =
      parse_json(file.metadata().at("kinema"), {.place = "test", .subject = "metadata"});
  EXPECT_EQ(request["format"], "kinema-embedding-1");
  EXPECT_EQ(request["prompts"][0], "A red circle");
}

TEST_F(EmbedTest, SameRequestSameBytesWhateverTheBatch) {
  write_file(folder_ / "prompts.txt", "a red circle\n\na blue square moves left\r\nx\n");
  write_file(folder_ / "prompts.jsonl",
             R"({"prompt":"a red circle"})"
             "\n"
             R"({"prompt":"a blue square moves left","id":7})"
             "\n"
             R"({"prompt":"x"})"
             "\n");
  ASSERT_EQ(
      embed({"--prompts", folder_ / "prompts.txt", "-o", folder_ / "a.safetensors"}).exit_code, 0);
  ASSERT_EQ(
      embed({"--prompts", folder_ / "prompts.jsonl", "-o", folder_ / "b.safetensors"}).exit_code,
      0);
  EXPECT_EQ(read_file(folder_ / "a.safetensors", 1 << 20, "test"),
            read_file(folder_ / "b.safetensors", 1 << 20, "test"));
  ASSERT_EQ(embed({"--prompts",
                   folder_ / "prompts.txt",
                   "--batch-size",
                   "1",
                   "-o",
                   folder_ / "d.safetensors"})
                .exit_code,
            0);
  const auto a = io::SafetensorsFile::open(folder_ / "a.safetensors");
  const auto d = io::SafetensorsFile::open(folder_ / "d.safetensors");
  for (std::size_t i = 0; i < a.tensors().at("context_BMD").bytes.size() / 4; ++i) {
    EXPECT_NEAR(value_at(a.tensors().at("context_BMD"), i),
                value_at(d.tensors().at("context_BMD"), i),
                1e-5);
  }
}

TEST_F(EmbedTest, CleaningChangesTheIds) {
  const auto ids = [&](const std::string& mode) {
    const ProcessResult result = embed({"A RED   circle (free)",
                                        "--clean",
                                        mode,
                                        "-o",
                                        folder_ / "c.safetensors",
                                        "--max-length",
                                        "24"});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    const auto file = io::SafetensorsFile::open(folder_ / "c.safetensors");
    const auto bytes = file.tensors().at("input_ids").bytes;
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  EXPECT_NE(ids("caption"), ids("none"));
  EXPECT_NE(ids("caption"), ids("lower"));
}

TEST_F(EmbedTest, MistakesAreToldAndLeaveNoFile) {
  const std::string output = folder_ / "c.safetensors";
  const auto expect =
      [&](std::vector<std::string> arguments, int exit_code, const std::string& text) {
        const ProcessResult result = embed(std::move(arguments));
        EXPECT_EQ(result.exit_code, exit_code) << result.err;
        EXPECT_THAT(result.err, HasSubstr(text));
        EXPECT_EQ(result.out, "");
        EXPECT_FALSE(fs::exists(output));
      };
  expect({"-o", output}, 2, "texts on the command line, or --prompts FILE");
  expect({"x", "--prompts", "y", "-o", output}, 2, "both");
  expect({"x", "-o", folder_ / "c.bin"}, 2, ".safetensors");
  expect({"x", "-o", folder_ / "no/c.safetensors"}, 2, "no folder");
  expect({"x", "-o", output, "--clean", "soap"}, 2, "caption, lower or none");
  expect({"--prompts", folder_ / "none.txt", "-o", output}, 3, "none.txt");
  write_file(folder_ / "bad.jsonl", "{\"prompt\":\"a\"}\n{\"text\":\"b\"}\n");
  expect({"--prompts", folder_ / "bad.jsonl", "-o", output}, 3, "line 2");
  write_file(folder_ / "empty.txt", "\n\n");
  expect({"--prompts", folder_ / "empty.txt", "-o", output}, 3, "at least one prompt");
}

TEST_F(EmbedTest, AModelThatDoesNotFitIsReportedWhole) {
  t5_.remove("encoder.final_layer_norm.weight");
  t5_.add("encoder.block.0.layer.0.layer_norm.weight", {17});
  t5_.add("encoder.block.1.layer.0.layer_norm.weight", {16});
  t5_.save(folder_ / "t5");
  const ProcessResult result = embed({"x", "-o", folder_ / "c.safetensors"});
  EXPECT_EQ(result.exit_code, 3);
  EXPECT_THAT(result.err, HasSubstr("encoder.final_layer_norm.weight"));
  EXPECT_THAT(result.err, HasSubstr("encoder.block.0.layer.0.layer_norm.weight"));
  EXPECT_THAT(result.err, HasSubstr("encoder.block.1.layer.0.layer_norm.weight"));
  write_file(folder_ / "t5/config.json", "{\"model_type\":\"bert\"}");
  EXPECT_EQ(embed({"x", "-o", folder_ / "c.safetensors"}).exit_code, 3);
}

}  // namespace
}  // namespace kinema
