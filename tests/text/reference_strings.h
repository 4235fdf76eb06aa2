// SPDX-License-Identifier: Apache-2.0
// The texts and small tokenizers that scripts/golden/make_tokenizers.py made, and its hash of ids.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "tests/text/golden_files.h"
#include "text/tokenizer/protobuf.h"
#include "text/tokenizer/tokenizer.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text::testing {

inline std::filesystem::path reference_file(const std::string& name) {
  return std::filesystem::path(KINEMA_SOURCE_DIR) / "tests/text/data/tokenizers" / name;
}

/// splitmix64, as in the script.
class SplitMix {
 public:
  explicit SplitMix(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    state_ += 0x9E3779B97F4A7C15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ULL;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBULL;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }

 private:
  std::uint64_t state_;
};

/// The texts of strings.json.
inline std::vector<std::string> compose_texts() {
  const auto spec = nlohmann::json::parse(slurp(reference_file("strings.json")));
  const auto fragments = spec.at("fragments").get<std::vector<std::string>>();
  const auto ranges = spec.at("ranges").get<std::vector<std::pair<char32_t, char32_t>>>();
  SplitMix random(spec.at("seed").get<std::uint64_t>());
  std::vector<std::string> texts(spec.at("count").get<std::size_t>());
  for (auto& text : texts) {
    const bool is_short = random.below(100) < 80;
    const std::size_t count = random.below(is_short ? 8 : 40);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t kind = random.below(100);
      if (kind < 15) {
        const auto [low, high] = ranges[random.below(ranges.size())];
        append_utf8(text, low + static_cast<char32_t>(random.below(high - low + 1)));
        continue;
      }
      if (kind < 55) {
        text += ' ';
      }
      const std::string& fragment = fragments[random.below(fragments.size())];
      const std::size_t copies = kind < 95 ? 1 : 1 + random.below(4);
      for (std::size_t k = 0; k < copies; ++k) {
        text += fragment;
      }
    }
  }
  return texts;
}

/// 32 bits of FNV-1a over the ids as little-endian 32-bit numbers, then over the bytes of `text` as
/// such numbers.
inline std::uint32_t hash_ids(std::span<const TokenId> ids, std::string_view text = {}) {
  std::uint64_t hash = 0xCBF29CE484222325ULL;
  const auto add = [&](std::uint32_t value) {
    for (unsigned shift = 0; shift < 32; shift += 8) {
      hash = (hash ^ ((value >> shift) & 0xFFU)) * 0x100000001B3ULL;
    }
  };
  for (const TokenId id : ids) {
    add(static_cast<std::uint32_t>(id));
  }
  for (const char c : text) {
    add(static_cast<unsigned char>(c));
  }
  return static_cast<std::uint32_t>(hash ^ (hash >> 32));
}

inline std::vector<std::uint32_t> read_hashes(const std::string& name) {
  const std::string bytes = slurp(reference_file(name));
  std::vector<std::uint32_t> hashes(bytes.size() / 4);
  for (std::size_t i = 0; i < hashes.size(); ++i) {
    for (std::size_t k = 0; k < 4; ++k) {
      hashes[i] |= static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[4 * i + k]))
                   << (8 * k);
    }
  }
  return hashes;
}

inline std::string encode_base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 3; ++k) {
      group = (group << 8) | (i + k < bytes.size() ? static_cast<unsigned char>(bytes[i + k]) : 0U);
    }
    for (std::size_t k = 0; k < 4; ++k) {
      text += k <= bytes.size() - i ? kDigits[(group >> (18 - 6 * k)) & 63U] : '=';
    }
  }
  return text;
}

/// The character map of t5.model in base64; "@charsmap" stands for it in the JSON files.
inline std::string reference_charsmap() {
  const std::string model = slurp(reference_file("t5.model"));
  const std::string name = "t5.model";
  ProtobufWalker walker(model, name);
  while (const auto field = walker.next()) {
    if (field->number != 3) {
      continue;
    }
    ProtobufWalker rules(field->bytes, name);
    while (const auto rule = rules.next()) {
      if (rule->number == 2) {
        return encode_base64(rule->bytes);
      }
    }
  }
  return {};
}

inline std::string with_charsmap(std::string json, const std::string& charsmap) {
  constexpr std::string_view kMark = "@charsmap";
  for (auto at = json.find(kMark); at != std::string::npos;
       at = json.find(kMark, at + charsmap.size())) {
    json.replace(at, kMark.size(), charsmap);
  }
  return json;
}

}  // namespace kinema::text::testing
