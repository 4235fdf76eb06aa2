// SPDX-License-Identifier: Apache-2.0
// Conversions between bfloat16 and float32: all 65536 values, and the edges between them.
#include "core/kernels/bf16.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include <gtest/gtest.h>

namespace kinema::kernels {
namespace {

std::vector<std::uint16_t> all_bf16() {
  std::vector<std::uint16_t> values(65536);
  for (std::size_t i = 0; i < values.size(); ++i) {
    values[i] = static_cast<std::uint16_t>(i);
  }
  return values;
}

class Bf16IsaTest : public testing::TestWithParam<Isa> {
 protected:
  void SetUp() override {
    if (!is_supported(GetParam())) {
      GTEST_SKIP() << "this CPU has no " << to_string(GetParam());
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Isas,
                         Bf16IsaTest,
                         testing::Values(Isa::kBaseline, Isa::kAvx2, Isa::kAvx512),
                         [](const auto& test) { return std::string(to_string(test.param)); });

TEST_P(Bf16IsaTest, WideningEveryValueEqualsTheReference) {
  const std::vector<std::uint16_t> in = all_bf16();
  std::vector<float> out(in.size());
  widen_bf16(out.data(), in.data(), in.size(), GetParam());
  for (std::size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(std::bit_cast<std::uint32_t>(out[i]),
              std::bit_cast<std::uint32_t>(reference::widen_bf16(in[i])))
        << i;
  }
}

TEST_P(Bf16IsaTest, NarrowingAWidenedValueGivesItBackEvenForNan) {
  const std::vector<std::uint16_t> in = all_bf16();
  std::vector<float> wide(in.size());
  std::vector<std::uint16_t> back(in.size());
  widen_bf16(wide.data(), in.data(), in.size(), GetParam());
  narrow_bf16(back.data(), wide.data(), wide.size(), GetParam());
  EXPECT_EQ(back, in);
}

TEST_P(Bf16IsaTest, NarrowingBetweenAllNeighboursEqualsTheReference) {
  const std::uint32_t lower_halves[] = {
      0x0001, 0x1234, 0x7FFE, 0x7FFF, 0x8000, 0x8001, 0xABCD, 0xFFFF};
  std::vector<float> in;
  for (std::uint32_t head = 0; head < 65536; ++head) {
    for (const std::uint32_t low : lower_halves) {
      in.push_back(std::bit_cast<float>((head << 16U) | low));
    }
  }
  std::vector<std::uint16_t> out(in.size());
  narrow_bf16(out.data(), in.data(), in.size(), GetParam());
  for (std::size_t i = 0; i < in.size(); ++i) {
    ASSERT_EQ(out[i], reference::narrow_bf16(in[i]))
        << std::hex << std::bit_cast<std::uint32_t>(in[i]);
    ASSERT_EQ(std::isnan(reference::widen_bf16(out[i])), std::isnan(in[i]));
  }
}

TEST_P(Bf16IsaTest, AnyLengthTouchesOnlyItsRange) {
  for (std::size_t length = 0; length < 100; ++length) {
    std::vector<float> in(length);
    for (std::size_t i = 0; i < length; ++i) {
      in[i] = 0.37F * static_cast<float>(i) - 3.0F;
    }
    std::vector<std::uint16_t> narrow(length + 1, 0xAAAA);
    narrow_bf16(narrow.data(), in.data(), length, GetParam());
    std::vector<float> wide(length + 1, -7.0F);
    widen_bf16(wide.data(), narrow.data(), length, GetParam());
    for (std::size_t i = 0; i < length; ++i) {
      ASSERT_EQ(narrow[i], reference::narrow_bf16(in[i]));
      ASSERT_EQ(wide[i], reference::widen_bf16(narrow[i]));
    }
    ASSERT_EQ(narrow[length], 0xAAAA);
    ASSERT_EQ(wide[length], -7.0F);
  }
}

TEST(Bf16ReferenceTest, KnownValues) {
  EXPECT_EQ(reference::widen_bf16(0x3F80), 1.0F);
  EXPECT_EQ(reference::widen_bf16(0xC049), -3.140625F);
  EXPECT_EQ(reference::widen_bf16(0x0001), 0x1p-133F);
  EXPECT_EQ(reference::narrow_bf16(1.0F), 0x3F80);
  EXPECT_EQ(reference::narrow_bf16(-0.0F), 0x8000);
  EXPECT_EQ(reference::narrow_bf16(1.0F + 0x1p-8F), 0x3F80);        // tie to even, down
  EXPECT_EQ(reference::narrow_bf16(1.0F + (3 * 0x1p-8F)), 0x3F82);  // tie to even, up
  EXPECT_EQ(reference::narrow_bf16(1.0F + 0x1p-8F + 0x1p-23F), 0x3F81);
  EXPECT_EQ(reference::narrow_bf16(std::numeric_limits<float>::max()), 0x7F80);
  EXPECT_EQ(reference::narrow_bf16(-std::numeric_limits<float>::infinity()), 0xFF80);
  EXPECT_EQ(reference::narrow_bf16(std::bit_cast<float>(0x7F800001U)), 0x7FC0);
  EXPECT_EQ(reference::narrow_bf16(std::bit_cast<float>(0xFFA10000U)), 0xFFA1);
}

}  // namespace
}  // namespace kinema::kernels
