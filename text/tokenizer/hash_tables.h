// SPDX-License-Identifier: Apache-2.0
// Two open-addressing tables that load large vocabularies quickly: strings to ids, pairs of ids to
// merges.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace kinema::text {

/// Finds the index of a string in a list that the caller keeps alive and unchanged.
class StringIndex {
 public:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  void reserve(std::size_t count) {
    std::size_t size = 16;
    while (size < count * 2) {
      size *= 2;
    }
    slots_.assign(size, {});
  }

  /// Index stored for `text`; inserts `value` first if there is none. `at` gives the string of an
  /// index.
  template <typename At>
  std::uint32_t find_or_insert(std::string_view text, std::uint32_t value, At at) {
    Slot& slot = slots_[locate(text, at)];
    if (slot.value == kNone) {
      slot = {hash(text), value};
    }
    return slot.value;
  }

  template <typename At>
  [[nodiscard]] std::uint32_t find(std::string_view text, At at) const {
    return slots_.empty() ? kNone : slots_[locate(text, at)].value;
  }

 private:
  struct Slot {
    std::uint32_t hash = 0;
    std::uint32_t value = kNone;
  };

  static std::uint32_t hash(std::string_view text) {
    const std::size_t wide = std::hash<std::string_view>{}(text);
    return static_cast<std::uint32_t>(wide ^ (wide >> 32));
  }

  template <typename At>
  [[nodiscard]] std::size_t locate(std::string_view text, At at) const {
    const std::uint32_t wanted = hash(text);
    std::size_t i = wanted & (slots_.size() - 1);
    while (slots_[i].value != kNone && (slots_[i].hash != wanted || at(slots_[i].value) != text)) {
      i = (i + 1) & (slots_.size() - 1);
    }
    return i;
  }

  std::vector<Slot> slots_;
};

/// Rank and result of merging two neighbours.
struct Merge {
  std::uint32_t rank = UINT32_MAX;
  std::uint32_t id = 0;
};

class MergeTable {
 public:
  void reserve(std::size_t count) {
    std::size_t size = 16;
    while (size < count * 2) {
      size *= 2;
    }
    slots_.assign(size, {});
  }

  /// Stores or replaces the merge of a pair.
  void insert(std::uint32_t left, std::uint32_t right, Merge merge) {
    Slot& slot = slots_[locate(left, right)];
    slot = {left, right, merge};
  }

  /// Null if the pair does not merge.
  [[nodiscard]] const Merge* find(std::uint32_t left, std::uint32_t right) const {
    if (slots_.empty()) {
      return nullptr;
    }
    const Slot& slot = slots_[locate(left, right)];
    return slot.merge.rank == UINT32_MAX ? nullptr : &slot.merge;
  }

 private:
  struct Slot {
    std::uint32_t left = 0;
    std::uint32_t right = 0;
    Merge merge;
  };

  [[nodiscard]] std::size_t locate(std::uint32_t left, std::uint32_t right) const {
    const std::uint64_t key = (static_cast<std::uint64_t>(left) << 32) | right;
    std::size_t i = (key * 0x9E3779B97F4A7C15ULL >> 32) & (slots_.size() - 1);
    while (slots_[i].merge.rank != UINT32_MAX &&
           (slots_[i].left != left || slots_[i].right != right)) {
      i = (i + 1) & (slots_.size() - 1);
    }
    return i;
  }

  std::vector<Slot> slots_;
};

}  // namespace kinema::text
