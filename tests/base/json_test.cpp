// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"

namespace kinema {
namespace {

using testing::HasSubstr;

const JsonContext kContext{.place = "test", .subject = "file.json"};

std::string code_of(const std::string& text, JsonContext context = kContext) {
  try {
    static_cast<void>(parse_json(text, context));
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("file.json"));
    EXPECT_EQ(error.exit_code(), 3);
    return error.code();
  }
  return "accepted";
}

TEST(ParseJsonTest, AcceptsJson) {
  const Json json = parse_json(R"( {"a": [1, -2, 2.5, true, null, "ü\n"], "b": {}} )", kContext);
  EXPECT_EQ(json["a"].size(), 6);
  EXPECT_EQ(json["a"][5], "ü\n");
}

TEST(ParseJsonTest, RefusesWhatIsNotJson) {
  for (const char* text : {"",
                           "{",
                           "[1,]",
                           "{\"a\":1,}",
                           "nul",
                           "NaN",
                           "01",
                           "[1] x",
                           "{'a':1}",
                           "\"\x01\"",
                           "\"\xff\"",
                           "\"\\ud800\"",
                           "// c\n1",
                           "{\"a\" 1}"}) {
    EXPECT_EQ(code_of(text), "json.syntax") << text;
  }
}

TEST(ParseJsonTest, RefusesARepeatedKey) {
  EXPECT_EQ(code_of(R"({"a":1,"a":2})"), "json.duplicate_key");
  EXPECT_EQ(code_of(R"([{"a":{"b":1,"b":2}}])"), "json.duplicate_key");
  EXPECT_EQ(code_of(R"([{"a":1},{"a":1}])"), "accepted");
}

TEST(ParseJsonTest, RefusesDepthAndLength) {
  EXPECT_EQ(code_of(std::string(64, '[') + std::string(64, ']')), "accepted");
  EXPECT_EQ(code_of(std::string(65, '[') + std::string(65, ']')), "json.depth");
  EXPECT_EQ(code_of(std::string(10'000'000, '[')), "json.depth");
  JsonContext small = kContext;
  small.max_bytes = 4;
  EXPECT_EQ(code_of("[1,2]", small), "json.too_large");
}

TEST(ParseJsonTest, SyntaxErrorsSayWhere) {
  try {
    static_cast<void>(parse_json("{\n  \"a\": x\n}", kContext));
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("line 2"));
  }
}

TEST(ReadJsonFileTest, NamesTheFile) {
  const test::TempFolder folder;
  try {
    static_cast<void>(read_json_file(folder / "none.json", {.place = "test", .subject = ""}));
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "io.open");
    EXPECT_THAT(error.what(), HasSubstr("none.json"));
  }
}

struct Config {
  std::int64_t width = 8;
  double epsilon = 1e-6;
  float scale = 1;
  bool gated = false;
  std::string name;
  std::vector<std::int64_t> sizes;
  std::array<std::int64_t, 3> patch{};
  std::optional<std::int64_t> heads;
};

Config read_config(const std::string& text) {
  const Json json = parse_json(text, kContext);
  Config config;
  JsonReader reader(json, kContext);
  reader.required("width", config.width);
  reader.optional("epsilon", config.epsilon);
  reader.optional("scale", config.scale);
  reader.optional("gated", config.gated);
  reader.optional("name", config.name);
  reader.optional("sizes", config.sizes);
  reader.optional("patch", config.patch);
  reader.optional("heads", config.heads);
  reader.ignore({"_comment"});
  reader.finish();
  return config;
}

TEST(JsonReaderTest, FillsAStruct) {
  const Config config = read_config(
      R"({"width":16,"epsilon":1,"scale":0.5,"gated":true,"name":"x","sizes":[1,2],"patch":[1,2,2],)"
      R"("heads":null,"_comment":"free"})");
  EXPECT_EQ(config.width, 16);
  EXPECT_EQ(config.epsilon, 1.0);
  EXPECT_EQ(config.scale, 0.5F);
  EXPECT_TRUE(config.gated);
  EXPECT_EQ(config.name, "x");
  EXPECT_EQ(config.sizes, (std::vector<std::int64_t>{1, 2}));
  EXPECT_EQ(config.patch[1], 2);
  EXPECT_FALSE(config.heads.has_value());
}

struct BadConfig {
  const char* text;
  const char* code;
  const char* names;  // what the message must name
};

class BadConfigTest : public testing::TestWithParam<BadConfig> {};

TEST_P(BadConfigTest, IsRefusedByName) {
  try {
    read_config(GetParam().text);
    FAIL() << GetParam().text;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), GetParam().code);
    EXPECT_THAT(error.what(), HasSubstr(GetParam().names));
    EXPECT_THAT(error.what(), HasSubstr("file.json"));
    EXPECT_EQ(error.exit_code(), 3);
  }
}

INSTANTIATE_TEST_SUITE_P(
    All,
    BadConfigTest,
    testing::Values(BadConfig{"[]", "config.type", "object"},
                    BadConfig{"{}", "config.missing", "width"},
                    BadConfig{R"({"width":null})", "config.missing", "width"},
                    BadConfig{R"({"width":1.0})", "config.type", "1.0"},
                    BadConfig{R"({"width":"8"})", "config.type", "\"8\""},
                    BadConfig{R"({"width":18446744073709551615})", "config.range", "width"},
                    BadConfig{R"({"width":1,"gated":1})", "config.type", "gated"},
                    BadConfig{R"({"width":1,"scale":1e300})", "config.range", "scale"},
                    BadConfig{R"({"width":1,"name":7})", "config.type", "name"},
                    BadConfig{R"({"width":1,"sizes":[1,"x"]})", "config.type", "sizes[1]"},
                    BadConfig{R"({"width":1,"patch":[1,2]})", "config.type", "patch"},
                    BadConfig{R"({"width":1,"wdith":2,"z":3})", "config.unknown_key", "wdith, z"}));

}  // namespace
}  // namespace kinema
