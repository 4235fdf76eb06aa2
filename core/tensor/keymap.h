// SPDX-License-Identifier: Apache-2.0
// Names of checkpoint tensors to names of model parameters, as a data table.
//
// Patterns: literal text; "{}" is one layer number; "*" at the end is any rest (also empty). What
// "{}" and "*" matched goes where they stand in `to`, in order. The first rule that matches
// decides; a name that no rule matches stays as it is.
//
//   const KeyMap keymap = {KeyMap::rename("model.layers.{}.ffn.*", "blocks.{}.ff.*"),
//                          KeyMap::alias("encoder.embed_tokens.weight", "shared.weight"),
//                          KeyMap::ignore("decoder.*")};
#pragma once

#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kinema::tensor {

class KeyMap {
 public:
  enum class Action {
    kKeep,    ///< name stays (no rule matched)
    kRename,  ///< goes under `name`
    kAlias,   ///< goes under `name` unless another tensor does; then it is left out
    kIgnore,  ///< belongs to a part that is not built
  };
  struct Rule {
    Action action = Action::kRename;
    std::string from;
    std::string to{};
  };
  struct Mapped {
    Action action = Action::kKeep;
    std::string name;
  };

  KeyMap() = default;
  KeyMap(std::initializer_list<Rule> rules);

  static Rule rename(std::string from, std::string to);
  static Rule alias(std::string from, std::string to);
  static Rule ignore(std::string pattern);

  /// Throws kInternal [keymap.rule] when `to` uses more "{}" or "*" than `from`.
  void add(Rule rule);
  [[nodiscard]] Mapped map(std::string_view key) const;
  [[nodiscard]] const std::vector<Rule>& rules() const noexcept { return rules_; }

 private:
  std::vector<Rule> rules_;
};

}  // namespace kinema::tensor
