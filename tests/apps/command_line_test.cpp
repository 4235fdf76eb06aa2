// SPDX-License-Identifier: Apache-2.0
#include "apps/cli/command_line.h"

#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "apps/cli/help.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "tests/support/temp_folder.h"

namespace kinema::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

Invocation parse(std::vector<std::string> arguments) {
  CommandLine line;
  return line.parse(std::move(arguments));
}

Error error_of(std::vector<std::string> arguments) {
  try {
    static_cast<void>(parse(std::move(arguments)));
  } catch (const Error& error) {
    return error;
  }
  return Error(ErrorKind::kInternal, {.code = "accepted"});
}

TEST(CommandLineTest, FillsTheOptionsOfACommand) {
  const Invocation invocation = parse({"embed",
                                       "a cat",
                                       "a dog",
                                       "--text-encoder",
                                       "t5",
                                       "-o",
                                       "c.safetensors",
                                       "--max-length=120",
                                       "--dtype",
                                       "bf16",
                                       "--json"});
  EXPECT_EQ(invocation.command, Command::kEmbed);
  EXPECT_THAT(invocation.embed.texts, ElementsAre("a cat", "a dog"));
  EXPECT_EQ(invocation.embed.text_encoder, "t5");
  EXPECT_EQ(invocation.embed.output, "c.safetensors");
  EXPECT_EQ(invocation.embed.max_length, 120);
  EXPECT_EQ(invocation.common.dtype, "bf16");
  EXPECT_TRUE(invocation.common.json);
}

TEST(CommandLineTest, WorldsAreDescribedInWords) {
  const Invocation invocation =
      parse({"world", "export", "-o", "data", "--objects", "2-3", "--size", "96x64"});
  EXPECT_EQ(invocation.command, Command::kWorldExport);
  EXPECT_EQ(invocation.world_export.world.parsed_objects(),
            (std::pair<std::int64_t, std::int64_t>(2, 3)));
  EXPECT_EQ(invocation.world_export.world.parsed_size(),
            (std::pair<std::int64_t, std::int64_t>(96, 64)));
  WorldOptions options;
  for (const char* wrong : {"0", "4", "3-1", "1-", "-2", "two", "1-2-3", ""}) {
    options.objects = wrong;
    EXPECT_THROW(options.validate(), Error) << wrong;
  }
  options = {};
  options.split = "held_out";
  EXPECT_THROW(options.validate(), Error);
  options = {};
  options.shadows = 1.5;
  EXPECT_THROW(options.validate(), Error);
  EXPECT_NO_THROW(WorldOptions{}.validate());
}

TEST(CommandLineTest, CommonFlagsMayComeFirst) {
  const Invocation invocation = parse({"--json", "--threads", "3", "doctor", "--full"});
  EXPECT_EQ(invocation.command, Command::kDoctor);
  EXPECT_TRUE(invocation.doctor.full);
  EXPECT_TRUE(invocation.common.json);
  EXPECT_EQ(invocation.common.threads, 3);
}

TEST(CommandLineTest, HelpIsFoundBesideMissingOptions) {
  EXPECT_EQ(parse({}).command, Command::kHelp);
  EXPECT_EQ(parse({"-h"}).command, Command::kHelp);
  const Invocation invocation = parse({"embed", "--help"});
  EXPECT_EQ(invocation.command, Command::kHelp);
  EXPECT_THAT(invocation.help.command, ElementsAre("embed"));
  EXPECT_EQ(parse({"help", "embed"}).command, Command::kHelp);
  EXPECT_EQ(parse({"--version"}).command, Command::kVersion);
}

TEST(CommandLineTest, AfterTwoDashesEverythingIsText) {
  const Invocation invocation =
      parse({"embed", "--text-encoder", "t5", "-o", "c.safetensors", "--", "--help"});
  EXPECT_EQ(invocation.command, Command::kEmbed);
  EXPECT_THAT(invocation.embed.texts, ElementsAre("--help"));
}

TEST(CommandLineTest, MistakesAreUsageErrorsWithAGuess) {
  const Error command = error_of({"imspect", "x"});
  EXPECT_EQ(command.code(), "usage.command");
  EXPECT_EQ(command.exit_code(), 2);
  EXPECT_THAT(command.what(), HasSubstr("did you mean kinema inspect?"));
  const Error option =
      error_of({"embed", "x", "--text-encoder", "t5", "-o", "c.safetensors", "--max-lenght", "3"});
  EXPECT_EQ(option.code(), "usage.option");
  EXPECT_THAT(option.what(), HasSubstr("did you mean --max-length?"));
  EXPECT_EQ(error_of({"inspect", "a", "b"}).code(), "usage.argument");
  EXPECT_EQ(error_of({"inspect"}).code(), "usage.arguments");
  EXPECT_EQ(
      error_of({"embed", "x", "--text-encoder", "t5", "-o", "c", "--max-length", "many"}).code(),
      "usage.arguments");
}

TEST(CommandLineTest, GroupsHoldCommands) {
  const Invocation invocation = parse(
      {"--json", "vae", "--threads", "2", "encode", "a.mp4", "b/", "--vae", "dir", "-o", "cache"});
  EXPECT_EQ(invocation.command, Command::kVaeEncode);
  EXPECT_THAT(invocation.vae_encode.inputs, ElementsAre("a.mp4", "b/"));
  EXPECT_EQ(invocation.vae_encode.run.vae, "dir");
  EXPECT_TRUE(invocation.common.json);
  EXPECT_EQ(invocation.common.threads, 2);
  EXPECT_EQ(parse({"vae"}).command, Command::kHelp);
  EXPECT_THAT(parse({"vae"}).help.command, ElementsAre("vae"));
  EXPECT_THAT(parse({"vae", "encode", "--help"}).help.command, ElementsAre("vae", "encode"));
  EXPECT_THAT(parse({"help", "vae", "encode"}).help.command, ElementsAre("vae", "encode"));
  // A source may be called like a command.
  EXPECT_THAT(parse({"vae", "encode", "decode", "--vae", "d", "-o", "c"}).vae_encode.inputs,
              ElementsAre("decode"));
  const Error command = error_of({"vae", "encod", "x"});
  EXPECT_EQ(command.code(), "usage.command");
  EXPECT_THAT(command.what(), HasSubstr("did you mean kinema vae encode?"));
  const Error option = error_of({"vae", "decode", "x", "-o", "y", "--sed", "3"});
  EXPECT_THAT(option.what(), HasSubstr("did you mean --seed?"));
}

TEST(CommandLineTest, CommonValuesAreChecked) {
  for (const char* device : {"gpu", "cuda:", "cuda:x", "cuda:-1", ""}) {
    EXPECT_EQ(error_of({"doctor", std::string("--device=") + device}).code(),
              std::string_view(device).empty() ? "usage.arguments" : "usage.value")
        << device;
  }
  EXPECT_EQ(error_of({"doctor", "--dtype", "fp8"}).code(), "usage.value");
  EXPECT_EQ(error_of({"doctor", "--threads", "-1"}).code(), "usage.value");
  EXPECT_EQ(error_of({"doctor", "-q", "-v"}).code(), "usage.value");
}

class ConfigFileTest : public testing::Test {
 protected:
  std::string write(const std::string& text) {
    const std::string path = folder_ / "kinema.toml";
    write_file(path, text);
    return path;
  }
  test::TempFolder folder_;
};

TEST_F(ConfigFileTest, GivesWhatTheCommandLineDoesNot) {
  const std::string path = write(
      "threads = 2\njson = true\n[embed]\ntext-encoder = \"t5\"\noutput = \"c.safetensors\"\n"
      "max-length = 77\n[doctor]\nfull = true\n");
  const Invocation invocation = parse({"embed", "x", "--config", path, "--max-length", "5"});
  EXPECT_EQ(invocation.common.threads, 2);
  EXPECT_TRUE(invocation.common.json);
  EXPECT_EQ(invocation.embed.text_encoder, "t5");
  EXPECT_EQ(invocation.embed.max_length, 5) << "flags win";
  EXPECT_TRUE(parse({"doctor", "--config=" + path}).doctor.full);
}

TEST_F(ConfigFileTest, ShortFlagsWin) {
  const std::string path = write("[embed]\ntext-encoder = \"t5\"\noutput = \"c.safetensors\"\n");
  EXPECT_EQ(parse({"embed", "x", "--config", path, "-o", "d.safetensors"}).embed.output,
            "d.safetensors");
}

TEST_F(ConfigFileTest, TablesOfAGroupAndItsCommands) {
  const std::string path = write(
      "[vae]\nvae = \"dir\"\n[vae.encode]\noutput = \"c\"\nclip-frames = 17\n[vae.decode]\nseed = "
      "3\n");
  const Invocation invocation = parse({"vae", "encode", "x", "--config", path});
  EXPECT_EQ(invocation.vae_encode.run.vae, "dir");
  EXPECT_EQ(invocation.vae_encode.clip_frames, 17);
  EXPECT_EQ(parse({"vae", "decode", "x", "-o", "y", "--config", path}).vae_decode.seed, 3);
  EXPECT_EQ(
      error_of({"vae", "encode", "x", "-o", "c", "--config", write("[vae.encod]\nx = 1\n")}).code(),
      "config.unknown_key");
}

TEST_F(ConfigFileTest, MistakesNameTheFileAndTheKey) {
  const Error unknown = error_of({"doctor", "--config", write("thraeds = 2\n")});
  EXPECT_EQ(unknown.code(), "config.unknown_key");
  EXPECT_EQ(unknown.exit_code(), 2);
  EXPECT_THAT(unknown.what(), HasSubstr("thraeds"));
  const Error syntax = error_of({"doctor", "--config", write("threads = = 2\n")});
  EXPECT_EQ(syntax.code(), "config.syntax");
  EXPECT_THAT(syntax.what(), HasSubstr("line 1"));
  EXPECT_EQ(error_of({"doctor", "--config", write("[dcotor]\nfull = true\n")}).code(),
            "config.unknown_key");
  EXPECT_EQ(error_of({"doctor", "--config", write("full = 1\n")}).code(), "config.type");
  EXPECT_EQ(error_of({"doctor", "--config", write("threads = 1979-05-27\n")}).code(),
            "config.type");
  EXPECT_EQ(error_of({"doctor", "--config", folder_ / "none.toml"}).code(), "io.open");
}

TEST(HelpTest, EveryCommandTeachesByExamples) {
  const CommandLine line;
  EXPECT_THAT(line.help({}), HasSubstr("Commands:"));
  for (const char* command : {"embed", "inspect", "doctor", "completion", "help"}) {
    const std::string text = line.help({command});
    EXPECT_THAT(text, HasSubstr("Usage: kinema " + std::string(command)));
    EXPECT_THAT(text, HasSubstr("Examples:\n  kinema ")) << command;
    std::size_t start = 0;
    while (start < text.size()) {
      const std::size_t end = text.find('\n', start);
      EXPECT_LE(end - start, 100U) << text.substr(start, end - start);
      start = end + 1;
    }
  }
  EXPECT_THROW(static_cast<void>(line.help({"generat"})), Error);
}

TEST(HelpTest, WrapsAtSpaces) {
  EXPECT_EQ(wrap("one two three", 8, 2), "one two\n  three");
  EXPECT_EQ(wrap("", 8, 2), "");
  EXPECT_EQ(wrap("averylongword x", 4, 1), "averylongword\n x");
}

TEST(HelpTest, GroupsListTheirCommands) {
  const CommandLine line;
  EXPECT_THAT(line.help({"vae"}), HasSubstr("roundtrip"));
  EXPECT_THAT(line.help({"vae"}), HasSubstr("Usage: kinema vae COMMAND"));
  for (const char* command : {"roundtrip", "encode", "decode", "seam"}) {
    const std::string text = line.help({"vae", command});
    EXPECT_THAT(text, HasSubstr("Usage: kinema vae " + std::string(command)));
    EXPECT_THAT(text, HasSubstr("Examples:\n  kinema vae " + std::string(command)));
    EXPECT_THAT(text, HasSubstr("--json"));
  }
}

TEST(CompletionTest, KnowsEveryOption) {
  const CommandLine line;
  for (const char* shell : {"bash", "zsh"}) {
    const std::string script = line.completion(shell);
    for (const char* word :
         {"embed", "inspect", "--text-encoder", "--max-length", "--json-progress", "--tensors"}) {
      EXPECT_THAT(script, HasSubstr(word)) << shell;
    }
  }
  EXPECT_THROW(static_cast<void>(line.completion("fish")), Error);
}

}  // namespace
}  // namespace kinema::cli
