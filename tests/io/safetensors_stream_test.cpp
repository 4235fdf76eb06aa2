// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/io/safetensors.h"
#include "tests/support/temp_folder.h"

namespace kinema::io {
namespace {

TEST(SafetensorsStreamTest, PiecesGiveTheFileThatOneWriteGives) {
  const test::TempFolder folder;
  std::vector<float> values(30);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<float>(i);
  }
  const auto bytes = std::as_bytes(std::span(values));
  const std::vector<TensorToWrite> whole = {{"a", DType::kF32, {2, 5}, bytes.first(40)},
                                            {"b", DType::kF32, {20}, bytes.subspan(40)}};
  write_safetensors(folder / "whole.safetensors", whole, {{"k", "v"}});
  const std::vector<TensorSpec> specs = {{"a", DType::kF32, {2, 5}}, {"b", DType::kF32, {20}}};
  SafetensorsStream stream(folder / "pieces.safetensors", specs, {{"k", "v"}});
  for (std::size_t i = 0; i < bytes.size(); i += 7) {
    stream.append(bytes.subspan(i, std::min<std::size_t>(7, bytes.size() - i)));
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "pieces.safetensors"));
  stream.commit();
  EXPECT_EQ(read_file(folder / "whole.safetensors", 1 << 20, "test"),
            read_file(folder / "pieces.safetensors", 1 << 20, "test"));
}

TEST(SafetensorsStreamTest, TooFewOrTooManyBytesLeaveNoFile) {
  const test::TempFolder folder;
  const std::vector<TensorSpec> specs = {{"a", DType::kU8, {3}}};
  const std::byte bytes[4] = {};
  const auto code = [&](std::size_t count) -> std::string {
    try {
      SafetensorsStream stream(folder / "x.safetensors", specs);
      stream.append(std::span(bytes, count));
      stream.commit();
    } catch (const Error& error) {
      return error.code();
    }
    return "written";
  };
  EXPECT_EQ(code(2), "safetensors.size_mismatch");
  EXPECT_EQ(code(4), "safetensors.size_mismatch");
  EXPECT_EQ(folder.names().size(), 0U);
  EXPECT_EQ(code(3), "written");
}

}  // namespace
}  // namespace kinema::io
