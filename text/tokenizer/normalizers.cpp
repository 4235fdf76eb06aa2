// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/normalizers.h"

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "text/tokenizer/byte_alphabet.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/pattern.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

// `from` becomes `to`: surplus characters count as inserted at the end, missing ones as removed
// behind the last.
void add_rewrite(std::vector<Change>& changes, std::string_view from, std::string_view to) {
  std::int32_t old_count = 0;
  for (std::size_t i = 0; i < from.size(); i += utf8_length(from[i])) {
    ++old_count;
  }
  const std::size_t first = changes.size();
  for (std::size_t i = 0; i < to.size();) {
    changes.push_back({next_code_point(to, i), 0});
  }
  const auto new_count = static_cast<std::int32_t>(changes.size() - first);
  for (std::int32_t i = old_count; i < new_count; ++i) {
    changes[first + static_cast<std::size_t>(i)].change = 1;
  }
  if (new_count < old_count && !changes.empty()) {
    changes.back().change += new_count - old_count;
  }
}

class FormNormalizer final : public Normalizer {
 public:
  explicit FormNormalizer(NormalForm form) : form_(form) {}

  void apply(Piece& piece) const override {
    if (!piece.tracked()) {
      piece.assign(normalize(form_, piece.text()));
      return;
    }
    std::vector<Change> changes;
    const std::string_view text = piece.text();
    for (std::size_t begin = 0; begin < text.size();) {
      std::size_t end = begin;
      next_code_point(text, end);
      while (end < text.size()) {
        std::size_t after = end;
        if (normalizes_apart(form_, next_code_point(text, after))) {
          break;
        }
        end = after;
      }
      const std::string_view part = text.substr(begin, end - begin);
      add_rewrite(changes, part, normalize(form_, part));
      begin = end;
    }
    piece.transform(changes, 0);
  }

 private:
  NormalForm form_;
};

class LowercaseNormalizer final : public Normalizer {
 public:
  void apply(Piece& piece) const override {
    if (!piece.tracked()) {
      piece.assign(lower_case(piece.text()));
      return;
    }
    std::vector<Change> changes;
    const std::string_view text = piece.text();
    for (std::size_t i = 0; i < text.size();) {
      const std::size_t length = utf8_length(text[i]);
      add_rewrite(changes, text.substr(i, length), lower_case(text.substr(i, length)));
      i += length;
    }
    piece.transform(changes, 0);
  }
};

// Keeps the characters for which `keep` holds.
template <typename Keep>
void filter(Piece& piece, Keep keep) {
  std::vector<Change> changes;
  std::size_t removed_at_start = 0;
  const std::string_view text = piece.text();
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (keep(c)) {
      changes.push_back({c, 0});
    } else if (changes.empty()) {
      ++removed_at_start;
    } else {
      --changes.back().change;
    }
  }
  piece.transform(changes, removed_at_start);
}

class StripAccentsNormalizer final : public Normalizer {
 public:
  void apply(Piece& piece) const override {
    filter(piece, [](char32_t c) { return !is_combining_mark(c); });
  }
};

// The white space and control rules of the NMT models.
class NmtNormalizer final : public Normalizer {
 public:
  void apply(Piece& piece) const override {
    filter(piece, [](char32_t c) {
      return !((c >= 1 && c <= 8) || c == 0x0B || (c >= 0x0E && c <= 0x1F) || c == 0x7F ||
               c == 0x8F || c == 0x9F);
    });
    std::vector<Change> changes;
    const std::string_view text = piece.text();
    for (std::size_t i = 0; i < text.size();) {
      const char32_t c = next_code_point(text, i);
      const bool space = c == 9 || c == 10 || c == 12 || c == 13 || c == 0x1680 ||
                         (c >= 0x200B && c <= 0x200F) || c == 0x2028 || c == 0x2029 ||
                         c == 0x2581 || c == 0xFEFF || c == 0xFFFD;
      changes.push_back({space ? U' ' : c, 0});
    }
    piece.transform(changes, 0);
  }
};

class StripNormalizer final : public Normalizer {
 public:
  StripNormalizer(bool left, bool right) : left_(left), right_(right) {}
  void apply(Piece& piece) const override { piece.strip(left_, right_); }

 private:
  bool left_;
  bool right_;
};

class ReplaceNormalizer final : public Normalizer {
 public:
  ReplaceNormalizer(Pattern pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}
  void apply(Piece& piece) const override { piece.replace(pattern_.find(piece.text()), content_); }

 private:
  Pattern pattern_;
  std::string content_;
};

class PrependNormalizer final : public Normalizer {
 public:
  explicit PrependNormalizer(std::string prefix) : prefix_(std::move(prefix)) {}
  void apply(Piece& piece) const override { piece.prepend(prefix_); }

 private:
  std::string prefix_;
};

class ByteLevelNormalizer final : public Normalizer {
 public:
  void apply(Piece& piece) const override { map_bytes(piece); }
};

// As the tokenizers library does it: a grapheme cluster of less than six bytes is replaced as a
// whole when some prefix of it has an entry, so marks behind that prefix vanish; otherwise each
// character is looked up by itself.
class PrecompiledNormalizer final : public Normalizer {
 public:
  explicit PrecompiledNormalizer(Charsmap map) : map_(std::move(map)) {}

  void apply(Piece& piece) const override {
    std::vector<Change> changes;
    bool modified = false;
    const std::string_view text = piece.text();
    for (std::size_t begin = 0; begin < text.size();) {
      const std::size_t end = grapheme_end(text, begin);
      const std::string_view cluster = text.substr(begin, end - begin);
      begin = end;
      if (cluster.size() < 6) {
        if (const auto replacement = map_.find(cluster)) {
          modified = true;
          add_rewrite(changes, cluster, *replacement);
          continue;
        }
      }
      for (std::size_t i = 0; i < cluster.size();) {
        const std::string_view part = cluster.substr(i, utf8_length(cluster[i]));
        if (const auto replacement = map_.find(part)) {
          modified = true;
          add_rewrite(changes, part, *replacement);
          i += part.size();
        } else {
          changes.push_back({next_code_point(cluster, i), 0});
        }
      }
    }
    if (modified) {
      piece.transform(changes, 0);
    }
  }

 private:
  Charsmap map_;
};

class SequenceNormalizer final : public Normalizer {
 public:
  explicit SequenceNormalizer(std::vector<std::unique_ptr<Normalizer>> parts)
      : parts_(std::move(parts)) {}
  void apply(Piece& piece) const override {
    for (const auto& part : parts_) {
      part->apply(piece);
    }
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> parts_;
};

std::unique_ptr<Normalizer> make_sequence(JsonReader& reader, const JsonContext& context) {
  const Json* list = reader.find("normalizers");
  if (list == nullptr || !list->is_array()) {
    throw reader.error(
        "config.type", "normalizers", "a list", list == nullptr ? "nothing" : list->type_name());
  }
  std::vector<std::unique_ptr<Normalizer>> parts;
  for (const Json& entry : *list) {
    if (auto part = make_normalizer(entry, context)) {
      parts.push_back(std::move(part));
    }
  }
  return std::make_unique<SequenceNormalizer>(std::move(parts));
}

Charsmap read_charsmap(JsonReader& reader) {
  std::string base64;
  reader.required("precompiled_charsmap", base64);
  const auto blob = decode_base64(base64);
  if (!blob) {
    throw reader.error(
        "tokenizer.charsmap", "precompiled_charsmap", "base64", base64.substr(0, 40));
  }
  return Charsmap::parse(*blob);
}

}  // namespace

void map_bytes(Piece& piece) {
  std::vector<Change> changes;
  const std::string& text = piece.text();
  changes.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    changes.push_back(
        {kByteCharacters[static_cast<unsigned char>(text[i])], is_boundary(text, i) ? 0 : 1});
  }
  piece.transform(changes, 0);
}

void unsupported_component(const JsonContext& context, const std::string& what) {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "tokenizer.unsupported",
               .place = context.place,
               .subject = context.subject,
               .expected = "components that kinema knows",
               .got = what});
}

std::unique_ptr<Normalizer> make_normalizer(const Json& json, const JsonContext& context) {
  if (json.is_null()) {
    return nullptr;
  }
  JsonReader reader(json, context, "normalizer");
  std::string type;
  reader.required("type", type);
  if (type == "Sequence") {
    return make_sequence(reader, context);
  }
  if (type == "NFC" || type == "NFD" || type == "NFKC" || type == "NFKD") {
    return std::make_unique<FormNormalizer>(type == "NFC"    ? NormalForm::kNfc
                                            : type == "NFD"  ? NormalForm::kNfd
                                            : type == "NFKC" ? NormalForm::kNfkc
                                                             : NormalForm::kNfkd);
  }
  if (type == "Lowercase") {
    return std::make_unique<LowercaseNormalizer>();
  }
  if (type == "StripAccents") {
    return std::make_unique<StripAccentsNormalizer>();
  }
  if (type == "Nmt") {
    return std::make_unique<NmtNormalizer>();
  }
  if (type == "ByteLevel") {
    return std::make_unique<ByteLevelNormalizer>();
  }
  if (type == "Strip") {
    bool left = false;
    bool right = false;
    reader.required("strip_left", left);
    reader.required("strip_right", right);
    return std::make_unique<StripNormalizer>(left, right);
  }
  if (type == "Replace") {
    std::string content;
    reader.required("content", content);
    const Json* pattern = reader.find("pattern");
    if (pattern == nullptr) {
      throw reader.error("config.missing", "pattern", "a pattern", "nothing");
    }
    return std::make_unique<ReplaceNormalizer>(Pattern::from_json(*pattern, context),
                                               std::move(content));
  }
  if (type == "Prepend") {
    std::string prefix;
    reader.required("prepend", prefix);
    return std::make_unique<PrependNormalizer>(std::move(prefix));
  }
  if (type == "Precompiled") {
    return std::make_unique<PrecompiledNormalizer>(read_charsmap(reader));
  }
  unsupported_component(context, "normalizer '" + type.substr(0, 100) + "'");
}

}  // namespace kinema::text
