// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/charsmap.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

// A unit: bit 31 and the low byte are the label, bit 8 says that a value follows, bits 10..30 are
// the offset to the children, shifted by 8 when bit 9 is set. The value unit holds 31 bits.
constexpr std::uint32_t kLabelMask = 0x800000FFU;
constexpr std::uint32_t kHasLeaf = 1U << 8;
// SentencePiece's own search has room for this many entries that begin with each other.
constexpr std::uint8_t kMaxChain = 32;

constexpr std::uint32_t offset_of(std::uint32_t unit) {
  return (unit >> 10) << ((unit & (1U << 9)) >> 6);
}

[[noreturn]] void bad(std::string got) {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "tokenizer.charsmap",
               .place = "text.tokenizer",
               .subject = "precompiled_charsmap",
               .expected = "a double-array trie and its replacements",
               .got = std::move(got),
               .hint = "the tokenizer file is damaged"});
}

std::uint32_t read_u32(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  for (std::size_t i = 0; i < 4; ++i) {
    value |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

}  // namespace

Charsmap Charsmap::parse(std::string_view blob) {
  if (blob.size() < 4) {
    bad(std::to_string(blob.size()) + " bytes");
  }
  const std::size_t trie_bytes = read_u32(blob, 0);
  if (trie_bytes > blob.size() - 4 || trie_bytes < 4) {
    bad("a trie of " + std::to_string(trie_bytes) + " bytes in a map of " +
        std::to_string(blob.size()));
  }
  Charsmap map;
  map.units_.resize(trie_bytes / 4);
  for (std::size_t i = 0; i < map.units_.size(); ++i) {
    map.units_[i] = read_u32(blob, 4 + 4 * i);
  }
  map.replacements_ = blob.substr(4 + trie_bytes / 4 * 4);
  if (!is_valid_utf8(map.replacements_)) {
    bad("replacements that are not UTF-8");
  }
  map.check_reachable();
  return map;
}

// Depth first over all transitions that a search can make. Nodes may be shared, so each remembers
// the most entries that one key can meet from it on.
void Charsmap::check_reachable() const {
  constexpr std::uint8_t kUnseen = 255;
  constexpr std::uint8_t kOpen = 254;
  struct Visit {
    std::size_t node;
    unsigned label;
    std::uint8_t chain;
  };
  std::vector<std::uint8_t> chains(units_.size(), kUnseen);
  std::vector<Visit> path;
  const auto enter = [&](std::size_t node) {
    const std::uint32_t unit = units_[node];
    const std::size_t base = node ^ offset_of(unit);
    if ((base | 0xFFU) >= units_.size()) {
      bad("a trie that points outside itself");
    }
    const bool has_value = node != 0 && (unit & kHasLeaf) != 0;
    if (has_value) {
      const std::size_t value = units_[base] & 0x7FFFFFFFU;
      if (value > replacements_.size() || !is_boundary(replacements_, value)) {
        bad("a replacement outside the list of replacements");
      }
    }
    chains[node] = kOpen;
    path.push_back({node, 0, 0});
  };
  enter(0);
  while (!path.empty()) {
    Visit& visit = path.back();
    if (visit.label == 256) {
      const auto own = static_cast<std::uint8_t>(
          visit.node != 0 && (units_[visit.node] & kHasLeaf) != 0 ? 1 : 0);
      const auto chain = static_cast<std::uint8_t>(visit.chain + own);
      if (chain > kMaxChain) {
        bad("more than 32 entries that begin with each other");
      }
      chains[visit.node] = chain;
      path.pop_back();
      if (!path.empty()) {
        path.back().chain = std::max(path.back().chain, chain);
      }
      continue;
    }
    const unsigned label = visit.label++;
    const std::size_t child = visit.node ^ offset_of(units_[visit.node]) ^ label;
    if ((units_[child] & kLabelMask) != label) {
      continue;
    }
    if (chains[child] == kOpen) {
      bad("a trie with a cycle");
    }
    if (chains[child] == kUnseen) {
      enter(child);
    } else {
      visit.chain = std::max(visit.chain, chains[child]);
    }
  }
}

std::optional<std::string_view> Charsmap::find(std::string_view key) const {
  std::size_t node = offset_of(units_[0]);
  for (const char c : key) {
    const auto label = static_cast<std::size_t>(static_cast<unsigned char>(c));
    if (label == 0) {
      break;
    }
    node ^= label;
    const std::uint32_t unit = units_[node];
    if ((unit & kLabelMask) != label) {
      return std::nullopt;
    }
    node ^= offset_of(unit);
    if ((unit & kHasLeaf) != 0) {
      const std::string_view rest =
          std::string_view(replacements_).substr(units_[node] & 0x7FFFFFFFU);
      return rest.substr(0, rest.find('\0'));
    }
  }
  return std::nullopt;
}

Charsmap::Match Charsmap::find_longest(std::string_view key) const {
  Match match;
  std::size_t node = offset_of(units_[0]);
  for (std::size_t i = 0; i < key.size(); ++i) {
    const auto label = static_cast<std::size_t>(static_cast<unsigned char>(key[i]));
    node ^= label;
    const std::uint32_t unit = units_[node];
    if ((unit & kLabelMask) != label) {
      break;
    }
    node ^= offset_of(unit);
    if ((unit & kHasLeaf) != 0) {
      match = {i + 1, std::string_view(replacements_).substr(units_[node] & 0x7FFFFFFFU)};
    }
  }
  match.replacement = match.replacement.substr(0, match.replacement.find('\0'));
  return match;
}

}  // namespace kinema::text
