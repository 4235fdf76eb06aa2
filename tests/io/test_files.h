// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of core/io: bytes of little files, and one check for errors.
#pragma once

#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace kinema::io::testing {

inline std::string slurp(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

inline std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

inline std::string little_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) {
    out += static_cast<char>(value >> (8 * i));
  }
  return out;
}

inline std::string big_endian(std::uint64_t value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) {
    out += static_cast<char>(value >> (8 * i));
  }
  return out;
}

inline std::string data_file(std::string_view name) {
  return std::string(KINEMA_SOURCE_DIR "/tests/io/data/") + std::string(name);
}

/// Runs `action`, which must throw an Error with this code and exit code whose message holds all of
/// `mentions` and the place in brackets.
inline void expect_error(const std::function<void()>& action,
                         std::string_view code,
                         int exit_code,
                         std::string_view place,
                         const std::vector<std::string>& mentions) {
  try {
    action();
  } catch (const Error& error) {
    const std::string message = error.what();
    EXPECT_EQ(error.code(), code) << message;
    EXPECT_EQ(error.exit_code(), exit_code) << message;
    EXPECT_EQ(error.details().place, place) << message;
    EXPECT_NE(message.find("[" + std::string(place) + "]"), std::string::npos) << message;
    for (const auto& text : mentions) {
      EXPECT_NE(message.find(text), std::string::npos) << "no '" << text << "' in: " << message;
    }
    return;
  }
  ADD_FAILURE() << "nothing was thrown; expected " << code;
}

}  // namespace kinema::io::testing
