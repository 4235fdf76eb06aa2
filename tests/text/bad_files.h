// SPDX-License-Identifier: Apache-2.0
// Tables of bad tokenizer files: what each must be refused with.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "text/tokenizer/memory_files.h"

namespace kinema::text::testing {

/// One bad file: its contents, the code of the error, and what the message has to mention.
struct BadFile {
  std::string contents;
  std::string code;
  std::string mention;
};

/// `action` must throw an Error of this kind and code, at this place; its message has to begin with
/// `begin` behind the place and hold `mention`.
inline void expect_error(const std::function<void()>& action,
                         ErrorKind kind,
                         const std::string& code,
                         const std::string& begin,
                         const std::string& mention) {
  try {
    action();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), kind) << error.what();
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_EQ(error.details().place, "text.tokenizer") << error.what();
    EXPECT_THAT(error.what(), ::testing::StartsWith("[text.tokenizer] " + begin));
    EXPECT_THAT(error.what(), ::testing::HasSubstr(mention));
    return;
  }
  ADD_FAILURE() << "nothing was thrown; expected " << code;
}

/// Loading `files` must be refused, with a message that begins with the path of a file.
inline void expect_refused(const TokenizerFiles& files,
                           const std::string& code,
                           const std::string& mention) {
  expect_error([&] { static_cast<void>(load_from_memory(files)); },
               ErrorKind::kBadCheckpoint,
               code,
               files.folder + "/",
               mention);
}

/// Each of these as `file` of otherwise good `files`.
inline void expect_all_refused(TokenizerFiles files,
                               std::optional<std::string> TokenizerFiles::* file,
                               const std::vector<BadFile>& cases) {
  for (const auto& bad : cases) {
    SCOPED_TRACE(bad.contents.substr(0, 200));
    files.*file = bad.contents;
    expect_refused(files, bad.code, bad.mention);
  }
}

}  // namespace kinema::text::testing
