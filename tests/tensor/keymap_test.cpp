// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/keymap.h"

#include <gtest/gtest.h>

#include "core/base/error.h"

namespace kinema::tensor {
namespace {

using Action = KeyMap::Action;

TEST(KeyMapTest, KeepsWhatNoRuleMatches) {
  const KeyMap keymap = {KeyMap::rename("a", "b")};
  EXPECT_EQ(keymap.map("ab").action, Action::kKeep);
  EXPECT_EQ(keymap.map("ab").name, "ab");
}

TEST(KeyMapTest, RenamesExactNamesPrefixesAndLayerNumbers) {
  const KeyMap keymap = {KeyMap::rename("shared", "embed"),
                         KeyMap::rename("layers.{}.ffn.{}.w", "blocks.{}.ff.{}.weight"),
                         KeyMap::rename("model.*", "*"),
                         KeyMap::rename("layers.{}.*", "blocks.{}.*")};
  EXPECT_EQ(keymap.map("shared").name, "embed");
  EXPECT_EQ(keymap.map("layers.12.ffn.0.w").name, "blocks.12.ff.0.weight");
  EXPECT_EQ(keymap.map("model.norm.weight").name, "norm.weight");
  EXPECT_EQ(keymap.map("layers.3.attn.q").name, "blocks.3.attn.q");
}

TEST(KeyMapTest, NumberMatchesDigitsOnly) {
  const KeyMap keymap = {KeyMap::rename("layers.{}.w", "blocks.{}.w")};
  EXPECT_EQ(keymap.map("layers.x.w").action, Action::kKeep);
  EXPECT_EQ(keymap.map("layers..w").action, Action::kKeep);
  EXPECT_EQ(keymap.map("layers.1.wx").action, Action::kKeep);
}

TEST(KeyMapTest, FirstMatchingRuleDecides) {
  const KeyMap keymap = {KeyMap::ignore("decoder.*"), KeyMap::rename("decoder.w", "w")};
  EXPECT_EQ(keymap.map("decoder.w").action, Action::kIgnore);
}

TEST(KeyMapTest, StarMatchesAnEmptyRest) {
  const KeyMap keymap = {KeyMap::ignore("lm_head*")};
  EXPECT_EQ(keymap.map("lm_head").action, Action::kIgnore);
}

TEST(KeyMapTest, RefusesRulesThatInventNumbers) {
  EXPECT_THROW(KeyMap({KeyMap::rename("a.{}", "b.{}.{}")}), Error);
  EXPECT_THROW(KeyMap({KeyMap::rename("a", "b.*")}), Error);
}

}  // namespace
}  // namespace kinema::tensor
