// SPDX-License-Identifier: Apache-2.0
// Configuration files as a model folder holds them: a table of files that break one rule each.
#include <gmock/gmock.h>

#include "core/base/json.h"
#include "tests/io/test_files.h"
#include "tests/support/temp_folder.h"

namespace kinema::io {
namespace {

using test::TempFolder;
using testing::expect_error;

// One field of each kind that configurations have.
struct Config {
  std::int64_t width = 0;
  double epsilon = 1e-6;
  bool bias = true;
  std::string activation = "gelu";
  std::vector<std::int64_t> channels;
  std::array<std::int64_t, 3> patch = {1, 2, 2};
  std::optional<float> scale;

  static Config read(const std::string& path) {
    const JsonContext context{.place = "io.config", .subject = path};
    const Json json = read_json_file(path, context);
    JsonReader reader(json, context);
    Config config;
    reader.required("width", config.width);
    reader.optional("epsilon", config.epsilon);
    reader.optional("bias", config.bias);
    reader.optional("activation", config.activation);
    reader.optional("channels", config.channels);
    reader.optional("patch", config.patch);
    reader.optional("scale", config.scale);
    reader.ignore({"_class_name"});
    reader.finish();
    return config;
  }
};

struct BadConfig {
  const char* title;
  std::string contents;
  const char* code;
  std::vector<std::string> mentions;
};

const std::vector<BadConfig>& bad_configs() {
  static const std::vector<BadConfig> kTable = {
      {"Empty", "", "json.syntax", {}},
      {"Cut", R"({"width": 1)", "json.syntax", {}},
      {"TwoValues", R"({"width": 1} {})", "json.syntax", {}},
      {"NulThenMore", std::string("{\"width\":1}\0{}", 14), "json.syntax", {"NUL"}},
      {"Comment", "{\"width\": 1} // note", "json.syntax", {}},
      {"TrailingComma", R"({"width": 1,})", "json.syntax", {}},
      {"SingleQuotes", "{'width': 1}", "json.syntax", {}},
      {"NaN", R"({"width": NaN})", "json.syntax", {}},
      {"HugeNumber", R"({"width": 1, "epsilon": 1e999})", "json.syntax", {}},
      {"NotUtf8", "{\"width\": 1, \"activation\": \"\xFF\"}", "json.syntax", {}},
      {"RepeatedKey", R"({"width": 1, "width": 2})", "json.duplicate_key", {"'width'"}},
      {"Deep", R"({"width": )" + std::string(100'000, '['), "json.depth", {"64"}},
      {"List", "[]", "config.type", {"object"}},
      {"Missing", R"({"epsilon": 1})", "config.missing", {"width"}},
      {"NullIsMissing", R"({"width": null})", "config.missing", {"width"}},
      {"TextForInteger", R"({"width": "1"})", "config.type", {"width", "\"1\""}},
      {"FloatForInteger", R"({"width": 1.0})", "config.type", {"width"}},
      {"IntegerRange", R"({"width": 9223372036854775808})", "config.range", {"width"}},
      {"TextForNumber", R"({"width": 1, "epsilon": "x"})", "config.type", {"epsilon"}},
      {"NumberForFlag", R"({"width": 1, "bias": 1})", "config.type", {"bias"}},
      {"NumberForText", R"({"width": 1, "activation": 1})", "config.type", {"activation"}},
      {"TextInList", R"({"width": 1, "channels": [1, "2"]})", "config.type", {"channels[1]"}},
      {"ListLength", R"({"width": 1, "patch": [1, 2]})", "config.type", {"patch", "3 integers"}},
      {"FloatRange", R"({"width": 1, "scale": 1e300})", "config.range", {"scale"}},
      {"UnknownKeys", R"({"width": 1, "widht": 2, "x": 0})", "config.unknown_key", {"widht, x"}},
  };
  return kTable;
}

class BadConfigFile : public ::testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigFile, IsRefusedByItsRule) {
  const TempFolder folder;
  const std::string path = folder.write("config.json", GetParam().contents);
  auto mentions = GetParam().mentions;
  mentions.push_back(path);
  expect_error(
      [&] { std::ignore = Config::read(path); }, GetParam().code, 3, "io.config", mentions);
}

INSTANTIATE_TEST_SUITE_P(Table,
                         BadConfigFile,
                         ::testing::ValuesIn(bad_configs()),
                         [](const auto& info) { return std::string(info.param.title); });

TEST(ConfigFileTest, GoodOneIsRead) {
  const TempFolder folder;
  const auto config = Config::read(folder.write(
      "config.json",
      R"({"_class_name": "X", "width": 8, "epsilon": 1, "bias": null, "channels": [], "scale": 2})"));
  EXPECT_EQ(config.width, 8);
  EXPECT_EQ(config.epsilon, 1.0);
  EXPECT_TRUE(config.bias);
  EXPECT_EQ(config.scale, 2.0F);
}

}  // namespace
}  // namespace kinema::io
