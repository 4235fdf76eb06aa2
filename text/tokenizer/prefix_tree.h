// SPDX-License-Identifier: Apache-2.0
// A tree over the bytes of many strings that finds all of them that a text starts with.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

namespace kinema::text {

class PrefixTree {
 public:
  /// The value of a string is its index; of equal strings the last index counts. Empty strings are
  /// never found.
  explicit PrefixTree(const std::vector<std::string_view>& texts) {
    // Sorting by the first eight bytes as one number settles most comparisons.
    std::vector<std::pair<std::uint64_t, std::uint32_t>> keyed;
    keyed.reserve(texts.size());
    for (std::uint32_t i = 0; i < texts.size(); ++i) {
      std::uint64_t key = 0;
      for (std::size_t k = 0; k < 8; ++k) {
        key = (key << 8) | (k < texts[i].size() ? static_cast<unsigned char>(texts[i][k]) : 0U);
      }
      keyed.emplace_back(key, i);
    }
    std::sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
      if (a.first != b.first) {
        return a.first < b.first;
      }
      const int compared = texts[a.second].compare(texts[b.second]);
      return compared != 0 ? compared < 0 : a.second < b.second;
    });
    std::vector<std::uint32_t> order;
    order.reserve(keyed.size());
    for (const auto& [key, index] : keyed) {
      order.push_back(index);
    }
    build(texts, order);
  }

  /// Calls `found(length, index)` for every string that `text` starts with, shortest first.
  template <typename Found>
  void prefixes(std::string_view text, Found found) const {
    const Node* node = &nodes_[0];
    for (std::size_t i = 0; i < text.size(); ++i) {
      node = child(*node, static_cast<unsigned char>(text[i]));
      if (node == nullptr) {
        return;
      }
      if (node->value != kNone) {
        found(i + 1, node->value);
      }
    }
  }

  /// Index of exactly this string.
  [[nodiscard]] std::optional<std::uint32_t> find(std::string_view text) const {
    const Node* node = &nodes_[0];
    for (std::size_t i = 0; i < text.size() && node != nullptr; ++i) {
      node = child(*node, static_cast<unsigned char>(text[i]));
    }
    return node == nullptr || node->value == kNone ? std::nullopt : std::optional(node->value);
  }

 private:
  static constexpr std::uint32_t kNone = UINT32_MAX;

  // The children of a node lie side by side, ordered by label.
  struct Node {
    std::uint32_t value = kNone;
    std::uint32_t first_child = 0;
    std::uint16_t children = 0;
    unsigned char label = 0;
  };

  void build(const std::vector<std::string_view>& texts, const std::vector<std::uint32_t>& order) {
    struct Range {  // strings order[begin, end) share the first `depth` bytes
      std::uint32_t node;
      std::uint32_t begin;
      std::uint32_t end;
      std::uint32_t depth;
    };
    nodes_.push_back({});
    std::vector<Range> open = {{0, 0, static_cast<std::uint32_t>(order.size()), 0}};
    while (!open.empty()) {
      const Range range = open.back();
      open.pop_back();
      std::uint32_t i = range.begin;
      for (; i < range.end && texts[order[i]].size() == range.depth; ++i) {
        nodes_[range.node].value = range.depth == 0 ? kNone : order[i];
      }
      nodes_[range.node].first_child = static_cast<std::uint32_t>(nodes_.size());
      while (i < range.end) {
        const auto label = static_cast<unsigned char>(texts[order[i]][range.depth]);
        const std::uint32_t begin = i;
        while (i < range.end && static_cast<unsigned char>(texts[order[i]][range.depth]) == label) {
          ++i;
        }
        open.push_back({static_cast<std::uint32_t>(nodes_.size()), begin, i, range.depth + 1});
        nodes_.push_back({kNone, 0, 0, label});
        ++nodes_[range.node].children;
      }
    }
  }

  [[nodiscard]] const Node* child(const Node& node, unsigned char label) const {
    const Node* begin = nodes_.data() + node.first_child;
    const Node* end = begin + node.children;
    const Node* at = std::lower_bound(
        begin, end, label, [](const Node& n, unsigned char wanted) { return n.label < wanted; });
    return at != end && at->label == label ? at : nullptr;
  }

  std::vector<Node> nodes_;
};

}  // namespace kinema::text
