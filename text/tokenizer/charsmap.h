// SPDX-License-Identifier: Apache-2.0
// The precompiled character map of SentencePiece: a double-array trie from byte sequences to
// replacements. Layout: u32 size of the trie in bytes, the trie (u32 units, little endian), then
// the replacements, each ended by NUL.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace kinema::text {

class Charsmap {
 public:
  /// Checks every unit that a search can reach. Throws kBadCheckpoint [tokenizer.charsmap].
  static Charsmap parse(std::string_view blob);

  /// Replacement of the shortest prefix of `key` that has one.
  [[nodiscard]] std::optional<std::string_view> find(std::string_view key) const;

  struct Match {
    std::size_t length = 0;  ///< bytes of the key; 0 if nothing fits
    std::string_view replacement;
  };
  /// The longest prefix of `key` that has a replacement.
  [[nodiscard]] Match find_longest(std::string_view key) const;

 private:
  void check_reachable() const;

  std::vector<std::uint32_t> units_;
  std::string replacements_;
};

}  // namespace kinema::text
