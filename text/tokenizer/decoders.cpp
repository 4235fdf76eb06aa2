// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/decoders.h"

#include <algorithm>
#include <cctype>
#include <cstdint>
#include <optional>
#include <string_view>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/normalizers.h"
#include "text/tokenizer/pattern.h"
#include "text/tokenizer/pre_tokenizers.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

class ByteLevelDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string bytes;
    for (const auto& token : tokens) {
      const std::size_t start = bytes.size();
      for (std::size_t i = 0; i < token.size();) {
        const auto byte = byte_of(next_code_point(token, i));
        if (!byte) {
          // A token that does not come from the byte alphabet stands for itself.
          bytes.resize(start);
          bytes += token;
          break;
        }
        bytes.push_back(static_cast<char>(*byte));
      }
    }
    tokens = {valid_utf8(bytes)};
  }
};

class MetaspaceDecoder final : public TokenDecoder {
 public:
  explicit MetaspaceDecoder(MetaspaceConfig config) : config_(std::move(config)) {}

  void apply(std::vector<std::string>& tokens) const override {
    const Pattern mark = Pattern::literal(config_.replacement);
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      const bool drop = t == 0 && config_.scheme != PrependScheme::kNever;
      std::string text;
      for (const auto& span : mark.find(tokens[t])) {
        if (!span.match) {
          text.append(tokens[t], span.begin, span.end - span.begin);
        } else if (!drop) {
          text.push_back(' ');
        }
      }
      tokens[t] = std::move(text);
    }
  }

 private:
  MetaspaceConfig config_;
};

std::optional<unsigned char> parse_byte_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') {
    return std::nullopt;
  }
  unsigned value = 0;
  // A plus sign in front of one digit also passes for a number in the reference.
  const std::string_view digits = token.substr(token[3] == '+' ? 4 : 3, token[3] == '+' ? 1 : 2);
  for (const char c : digits) {
    if (std::isxdigit(static_cast<unsigned char>(c)) == 0) {
      return std::nullopt;
    }
    value = value * 16 + static_cast<unsigned>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
  }
  return static_cast<unsigned char>(value);
}

class ByteFallbackDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::vector<std::string> result;
    std::string bytes;
    const auto flush = [&] {
      if (!bytes.empty() && is_valid_utf8(bytes)) {
        result.push_back(bytes);
      } else {
        result.insert(result.end(), bytes.size(), std::string(kReplacement));
      }
      bytes.clear();
    };
    for (auto& token : tokens) {
      if (const auto byte = parse_byte_token(token)) {
        bytes.push_back(static_cast<char>(*byte));
        continue;
      }
      flush();
      result.push_back(std::move(token));
    }
    flush();
    tokens = std::move(result);
  }
};

class FuseDecoder final : public TokenDecoder {
 public:
  void apply(std::vector<std::string>& tokens) const override {
    std::string text;
    for (const auto& token : tokens) {
      text += token;
    }
    tokens = {std::move(text)};
  }
};

class ReplaceDecoder final : public TokenDecoder {
 public:
  ReplaceDecoder(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (auto& token : tokens) {
      std::string text;
      for (const auto& span : pattern_.find(token)) {
        text += span.match ? content_ : token.substr(span.begin, span.end - span.begin);
      }
      token = std::move(text);
    }
  }

 private:
  Pattern pattern_;
  std::string content_;
};

// Removes up to `start` and `stop` copies of one character at the ends of each token.
class StripDecoder final : public TokenDecoder {
 public:
  StripDecoder(std::string content, std::int64_t start, std::int64_t stop)
      : content_(std::move(content)), start_(start), stop_(stop) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (auto& token : tokens) {
      std::string_view text = token;
      for (std::int64_t i = 0; i < start_ && text.starts_with(content_); ++i) {
        text.remove_prefix(content_.size());
      }
      for (std::int64_t i = 0; i < stop_ && text.ends_with(content_); ++i) {
        text.remove_suffix(content_.size());
      }
      token = std::string(text);
    }
  }

 private:
  std::string content_;
  std::int64_t start_;
  std::int64_t stop_;
};

class BpeDecoder final : public TokenDecoder {
 public:
  explicit BpeDecoder(std::string suffix) : suffix_(Pattern::literal(std::move(suffix))) {}

  void apply(std::vector<std::string>& tokens) const override {
    for (std::size_t t = 0; t < tokens.size(); ++t) {
      std::string text;
      for (const auto& span : suffix_.find(tokens[t])) {
        if (!span.match) {
          text.append(tokens[t], span.begin, span.end - span.begin);
        } else if (t + 1 < tokens.size()) {
          text.push_back(' ');
        }
      }
      tokens[t] = std::move(text);
    }
  }

 private:
  Pattern suffix_;
};

class SequenceDecoder final : public TokenDecoder {
 public:
  explicit SequenceDecoder(std::vector<std::unique_ptr<TokenDecoder>> parts)
      : parts_(std::move(parts)) {}
  void apply(std::vector<std::string>& tokens) const override {
    for (const auto& part : parts_) {
      part->apply(tokens);
    }
  }

 private:
  std::vector<std::unique_ptr<TokenDecoder>> parts_;
};

std::unique_ptr<TokenDecoder> make_strip(JsonReader& reader) {
  std::string content;
  std::int64_t start = 0;
  std::int64_t stop = 0;
  reader.required("content", content);
  reader.required("start", start);
  reader.required("stop", stop);
  if (content.empty() || utf8_length(content.front()) != content.size()) {
    throw reader.error(
        "tokenizer.decoder", "content", "one character", "'" + content.substr(0, 40) + "'");
  }
  return std::make_unique<StripDecoder>(std::move(content), start, stop);
}

std::unique_ptr<TokenDecoder> make_replace(JsonReader& reader, const JsonContext& context) {
  std::string content;
  reader.required("content", content);
  const Json* pattern = reader.find("pattern");
  if (pattern == nullptr) {
    throw reader.error("config.missing", "pattern", "a pattern", "nothing");
  }
  return std::make_unique<ReplaceDecoder>(Pattern::from_json(*pattern, context),
                                          std::move(content));
}

}  // namespace

std::unique_ptr<TokenDecoder> make_decoder(const Json& json, const JsonContext& context) {
  if (json.is_null()) {
    return nullptr;
  }
  JsonReader reader(json, context, "decoder");
  std::string type;
  reader.required("type", type);
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevelDecoder>();
  }
  if (type == "Metaspace") {
    return std::make_unique<MetaspaceDecoder>(MetaspaceConfig::from_json(reader));
  }
  if (type == "ByteFallback") {
    return std::make_unique<ByteFallbackDecoder>();
  }
  if (type == "Fuse") {
    return std::make_unique<FuseDecoder>();
  }
  if (type == "Strip") {
    return make_strip(reader);
  }
  if (type == "Replace") {
    return make_replace(reader, context);
  }
  if (type == "BPEDecoder") {
    std::string suffix;
    reader.required("suffix", suffix);
    return std::make_unique<BpeDecoder>(std::move(suffix));
  }
  if (type == "Sequence") {
    const Json* list = reader.find("decoders");
    if (list == nullptr || !list->is_array()) {
      throw reader.error(
          "config.type", "decoders", "a list", list == nullptr ? "nothing" : list->type_name());
    }
    std::vector<std::unique_ptr<TokenDecoder>> parts;
    for (const Json& entry : *list) {
      if (auto part = make_decoder(entry, context)) {
        parts.push_back(std::move(part));
      }
    }
    return std::make_unique<SequenceDecoder>(std::move(parts));
  }
  unsupported_component(context, "decoder '" + type.substr(0, 100) + "'");
}

}  // namespace kinema::text
