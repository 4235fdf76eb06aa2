// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer_json.h"

#include <limits>
#include <set>

#include "core/base/error.h"

namespace kinema::text {
namespace {

enum class List { kNone, kEntries, kPieces, kMerges };

// Events of the parser. A list is read while `list_` is set; otherwise events go to the document.
class Handler final : public nlohmann::json_sax<Json> {
 public:
  Handler(Json& document, ModelLists& lists, const JsonContext& context, bool vocabulary_file)
      : document_(document, false),
        lists_(lists),
        context_(context),
        vocabulary_file_(vocabulary_file) {}

  bool null() override {
    return value("null", [&] { document_.null(); });
  }
  bool boolean(bool flag) override {
    return value("a boolean", [&] { document_.boolean(flag); });
  }
  bool number_integer(number_integer_t number) override {
    return numeric(static_cast<double>(number), [&] { document_.number_integer(number); });
  }
  bool number_unsigned(number_unsigned_t number) override {
    if (list_ == List::kEntries && number < std::numeric_limits<std::uint32_t>::max()) {
      lists_.entries->emplace_back(std::move(token_), static_cast<std::uint32_t>(number));
      return true;
    }
    return numeric(static_cast<double>(number), [&] { document_.number_unsigned(number); });
  }
  bool number_float(number_float_t number, const string_t& text) override {
    return numeric(number, [&] { document_.number_float(number, text); });
  }
  bool binary(binary_t&) override { return false; }

  bool string(string_t& text) override {
    if (list_ == List::kPieces && depth_ == list_depth_ + 1 && filled_ == 0) {
      token_ = std::move(text);
      ++filled_;
      return true;
    }
    if (list_ == List::kMerges && depth_ == list_depth_ + 1 && filled_ < 2) {
      (filled_ == 0 ? token_ : second_) = std::move(text);
      ++filled_;
      return true;
    }
    if (list_ == List::kMerges && depth_ == list_depth_ && !pairs_) {
      if (!text.starts_with("#version")) {
        lists_.merges->push_back(parse_merge(text, lists_.merges->size() + 1));
        lines_ = true;
      }
      return true;
    }
    return value("a string", [&] { document_.string(text); });
  }

  bool start_object(std::size_t count) override {
    if (list_ != List::kNone) {
      bad_list("an object");
    }
    enter();
    keys_.emplace_back();
    if (depth_ == 1 && vocabulary_file_) {
      open(List::kEntries);
      document_.start_object(count);
      return true;
    }
    if (pending_ == "vocab") {
      put_null();
      open(List::kEntries);
      return true;
    }
    put_pending();
    return document_.start_object(count);
  }

  bool key(string_t& name) override {
    if (list_ == List::kEntries) {
      token_ = std::move(name);
      return true;
    }
    if (!keys_.back().insert(name).second) {
      fail("json.duplicate_key",
           "the key '" + name.substr(0, 100) + "' occurs twice in one object");
    }
    if (depth_ == 1) {
      in_model_ = name == "model";
    } else if (depth_ == 2 && in_model_ && (name == "vocab" || name == "merges")) {
      pending_ = name;
      return true;
    }
    return document_.key(name);
  }

  bool end_object() override {
    keys_.pop_back();
    --depth_;
    if (list_ == List::kEntries) {
      list_ = List::kNone;
      return vocabulary_file_ ? document_.end_object() : true;
    }
    return document_.end_object();
  }

  bool start_array(std::size_t count) override {
    if (list_ != List::kNone) {
      const bool entry =
          depth_ == list_depth_ && (list_ == List::kPieces || (list_ == List::kMerges && !lines_));
      if (!entry) {
        bad_list("a list");
      }
      pairs_ = true;
      filled_ = 0;
      ++depth_;
      return true;
    }
    enter();
    if (!pending_.empty()) {
      const List list = pending_ == "vocab" ? List::kPieces : List::kMerges;
      put_null();
      open(list);
      return true;
    }
    return document_.start_array(count);
  }

  bool end_array() override {
    --depth_;
    if (list_ == List::kNone) {
      return document_.end_array();
    }
    if (depth_ < list_depth_) {
      list_ = List::kNone;
    } else if (filled_ != 2) {
      bad_list(std::to_string(filled_) + " values");
    } else if (list_ == List::kPieces) {
      lists_.pieces->emplace_back(std::move(token_), score_);
    } else {
      lists_.merges->emplace_back(std::move(token_), std::move(second_));
    }
    return true;
  }

  bool parse_error(std::size_t position,
                   const std::string&,
                   const nlohmann::detail::exception& exception) override {
    const std::string text = exception.what();
    const auto reason = text.find("parse error");
    fail("json.syntax",
         (reason == std::string::npos ? text : text.substr(reason, 300)) + " (byte " +
             std::to_string(position) + ")");
  }

  [[noreturn]] void fail(std::string code, std::string got) const {
    throw Error(context_.kind,
                {.code = std::move(code),
                 .place = context_.place,
                 .subject = context_.subject,
                 .expected = "well-formed JSON",
                 .got = std::move(got),
                 .hint = "the file is damaged or not what its name says"});
  }

 private:
  void enter() {
    if (++depth_ > context_.max_depth) {
      fail("json.depth", "nesting deeper than " + std::to_string(context_.max_depth));
    }
  }

  void open(List list) {
    list_ = list;
    list_depth_ = depth_;
    pairs_ = false;
    lines_ = false;
    if (list == List::kEntries) {
      lists_.entries.emplace();
    } else if (list == List::kPieces) {
      lists_.pieces.emplace();
    } else {
      lists_.merges.emplace();
    }
  }

  // The key of a list is held back until it is known what its value is.
  void put_pending() {
    if (!pending_.empty()) {
      std::string name = std::move(pending_);
      pending_.clear();
      document_.key(name);
    }
  }
  void put_null() {
    put_pending();
    document_.null();
  }

  [[noreturn]] void bad_list(const std::string& got) const {
    const bool merges = list_ == List::kMerges;
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = merges ? "tokenizer.merges" : "tokenizer.vocabulary",
                 .place = context_.place,
                 .subject = context_.subject + (merges ? ": merges" : ": vocab"),
                 .expected = merges                    ? "'a b' or ['a', 'b'] for every merge"
                             : list_ == List::kEntries ? "ids from 0 to 4294967294"
                                                       : "[piece, score] for every piece",
                 .got = got});
  }

  template <typename Put>
  bool value(const char* what, Put put) {
    if (list_ != List::kNone) {
      bad_list(list_ == List::kEntries ? std::string(what) + " for '" + token_.substr(0, 60) + "'"
                                       : what);
    }
    put_pending();
    put();
    return true;
  }

  template <typename Put>
  bool numeric(double number, Put put) {
    if (list_ == List::kPieces && depth_ == list_depth_ + 1 && filled_ == 1) {
      score_ = number;
      ++filled_;
      return true;
    }
    return value("another number", put);
  }

  nlohmann::detail::json_sax_dom_parser<Json> document_;
  ModelLists& lists_;
  const JsonContext& context_;
  bool vocabulary_file_;
  int depth_ = 0;
  std::vector<std::set<std::string, std::less<>>> keys_;
  bool in_model_ = false;
  std::string pending_;
  List list_ = List::kNone;
  int list_depth_ = 0;
  bool pairs_ = false;  // the merges are lists
  bool lines_ = false;  // the merges are strings
  int filled_ = 0;      // values of the entry so far
  std::string token_;
  std::string second_;
  double score_ = 0.0;
};

TokenizerJson parse(std::string_view text, const JsonContext& context, bool vocabulary_file) {
  TokenizerJson result;
  Handler handler(result.document, result.lists, context, vocabulary_file);
  if (text.size() > context.max_bytes) {
    handler.fail("json.too_large", std::to_string(text.size()) + " bytes");
  }
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    handler.fail("json.syntax", "a NUL (byte " + std::to_string(nul + 1) + ")");
  }
  try {
    Json::sax_parse(text.begin(), text.end(), &handler);
  } catch (const nlohmann::detail::exception& exception) {
    handler.fail("json.syntax", std::string(exception.what()).substr(0, 300));
  }
  return result;
}

}  // namespace

TokenizerJson parse_tokenizer_json(std::string_view text, const JsonContext& context) {
  return parse(text, context, false);
}

Vocabulary parse_vocabulary_json(std::string_view text, const JsonContext& context) {
  TokenizerJson json = parse(text, context, true);
  if (!json.lists.entries) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "tokenizer.vocabulary",
                 .place = context.place,
                 .subject = context.subject,
                 .expected = "an object of token: id",
                 .got = json.document.type_name()});
  }
  return std::move(*json.lists.entries);
}

}  // namespace kinema::text
