// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/html_text.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::size_t kNone = std::u32string_view::npos;

bool is_letter(char32_t c) {
  return (c >= U'a' && c <= U'z') || (c >= U'A' && c <= U'Z');
}
bool is_digit(char32_t c) {
  return c >= U'0' && c <= U'9';
}
bool is_alphanumeric(char32_t c) {
  return is_letter(c) || is_digit(c);
}
bool is_hexadecimal(char32_t c) {
  return is_digit(c) || (c >= U'a' && c <= U'f') || (c >= U'A' && c <= U'F');
}
// White space of Python's patterns: it includes the four separators.
bool is_space(char32_t c) {
  return is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}
bool is_quote(char32_t c) {
  return c == U'\'' || c == U'"';
}

std::string to_utf8(std::u32string_view text) {
  std::string result;
  for (const char32_t c : text) {
    append_utf8(result, c);
  }
  return result;
}

std::u32string to_lower(std::u32string_view text) {
  const std::string lower = lower_case(to_utf8(text));
  std::u32string result;
  for (std::size_t i = 0; i < lower.size();) {
    result += next_code_point(lower, i);
  }
  return result;
}

// Tags whose text is left out, and tags that keep white space.
enum class Kind { kPlain, kHidden, kPreformatted };

Kind kind_of(std::u32string_view name) {
  if (name == U"rt" || name == U"rp" || name == U"style" || name == U"script" ||
      name == U"template") {
    return Kind::kHidden;
  }
  return name == U"pre" || name == U"textarea" ? Kind::kPreformatted : Kind::kPlain;
}

// Tags that never hold anything.
bool is_void(std::u32string_view name) {
  static constexpr std::array<std::u32string_view, 24> kVoid = {
      U"area",     U"base", U"basefont", U"bgsound", U"br",     U"col",     U"command", U"embed",
      U"frame",    U"hr",   U"image",    U"img",     U"input",  U"isindex", U"keygen",  U"link",
      U"menuitem", U"meta", U"nextid",   U"param",   U"source", U"spacer",  U"track",   U"wbr"};
  return std::binary_search(kVoid.begin(), kVoid.end(), name);
}

// The open tags and the text found so far.
class Tree {
 public:
  void data(std::u32string_view text) { data(std::string_view(to_utf8(text))); }
  void data(std::string_view text) { run_ += text; }

  // The end of a run of text.
  void end_run() {
    if (!run_.empty() && open_of_kind_[static_cast<std::size_t>(Kind::kHidden)] == 0) {
      add(run_);
    }
    run_.clear();
  }

  // A CDATA section counts as text wherever it stands.
  void section(std::u32string_view contents) {
    end_run();
    add(to_utf8(contents));
  }

  /// `closed`: written as <name/>.
  void open(const std::u32string& name, bool closed) {
    end_run();
    if (is_void(name)) {
      closed_voids_[name] += closed ? 0 : 1;
    } else if (!closed) {
      open_.push_back(name);
      ++open_of_name_[name];
      ++open_of_kind_[static_cast<std::size_t>(kind_of(name))];
    }
  }

  // Closes the innermost tag of that name and all inside it; nothing if there is none.
  void close(const std::u32string& name) {
    // The end tag of a tag that holds nothing does not even end the run of text.
    const auto pending = closed_voids_.find(name);
    if (pending != closed_voids_.end() && pending->second > 0) {
      --pending->second;
      return;
    }
    end_run();
    const auto count = open_of_name_.find(name);
    if (count == open_of_name_.end() || count->second == 0) {
      return;
    }
    for (bool found = false; !found; open_.pop_back()) {
      found = open_.back() == name;
      --open_of_name_[open_.back()];
      --open_of_kind_[static_cast<std::size_t>(kind_of(open_.back()))];
    }
  }

  std::string take() {
    end_run();
    return std::move(text_);
  }

 private:
  // A run of nothing but ASCII white space becomes one character.
  void add(std::string_view run) {
    const bool blank = run.find_first_not_of(" \n\t\f\r") == std::string_view::npos;
    if (blank && open_of_kind_[static_cast<std::size_t>(Kind::kPreformatted)] == 0) {
      text_ += run.find('\n') != std::string_view::npos ? '\n' : ' ';
    } else {
      text_ += run;
    }
  }

  std::vector<std::u32string> open_;
  std::map<std::u32string, std::size_t> open_of_name_;
  std::array<std::size_t, 3> open_of_kind_{};
  std::map<std::u32string, std::size_t> closed_voids_;  // opened, end tag not yet seen
  std::string run_;
  std::string text_;
};

class Parser {
 public:
  explicit Parser(std::string_view html) {
    for (std::size_t i = 0; i < html.size();) {
      text_ += next_code_point(html, i);
    }
  }

  std::string run() {
    // The reference reads the text once as if more could come, and what is left once more.
    pass(pass(0, false), true);
    return tree_.take();
  }

 private:
  bool starts(std::size_t at, std::u32string_view wanted) const {
    return at <= text_.size() && std::u32string_view(text_).substr(at).starts_with(wanted);
  }
  char32_t peek(std::size_t at) const { return at < text_.size() ? text_[at] : U'\0'; }
  std::u32string_view part(std::size_t begin, std::size_t end) const {
    return std::u32string_view(text_).substr(begin, end - begin);
  }
  std::size_t skip_spaces(std::size_t at) const {
    while (at < text_.size() && is_space(text_[at])) {
      ++at;
    }
    return at;
  }

  // Next place of interest: markup or a reference; inside script and style, their end tag.
  std::size_t next_interesting(std::size_t at) const {
    if (raw_.empty()) {
      return text_.find_first_of(U"<&", at);
    }
    for (std::size_t i = text_.find(U"</", at); i != kNone; i = text_.find(U"</", i + 1)) {
      const std::size_t name = skip_spaces(i + 2);
      if (to_lower(part(name, std::min(text_.size(), name + raw_.size()))) == raw_ &&
          peek(skip_spaces(name + raw_.size())) == U'>') {
        return i;
      }
    }
    return kNone;
  }

  // Returns where it stopped. `last`: nothing more comes.
  std::size_t pass(std::size_t i, bool last) {
    const std::size_t size = text_.size();
    while (i < size) {
      std::size_t next = next_interesting(i);
      if (next == kNone) {
        if (!raw_.empty()) {
          break;
        }
        next = size;
      }
      if (i < next) {
        tree_.data(part(i, next));
      }
      i = next;
      if (i == size) {
        break;
      }
      const std::size_t before = i;
      const bool go_on = text_[i] == U'<' ? markup(i, last) : reference(i, last);
      if (!go_on) {
        break;
      }
      if (i <= before) {
        i = before + 1;
      }
    }
    if (last && i < size && raw_.empty()) {
      tree_.data(part(i, size));
      i = size;
    }
    return i;
  }

  // At '<'. Returns false where the reading has to stop.
  bool markup(std::size_t& i, bool last) {
    std::size_t end = kNone;  // kNone: incomplete
    if (is_letter(peek(i + 1))) {
      end = start_tag(i);
    } else if (starts(i, U"</")) {
      end = end_tag(i);
    } else if (starts(i, U"<!--")) {
      end = comment(i);
    } else if (starts(i, U"<?")) {
      end = until_greater(i + 2);
    } else if (starts(i, U"<!")) {
      end = declaration(i);
    } else if (i + 1 < text_.size()) {
      tree_.data(U"<");
      end = i + 1;
    } else {
      return false;
    }
    if (end == kNone) {
      if (!last) {
        return false;
      }
      end = text_.find(U'>', i + 1);
      if (end != kNone) {
        ++end;
      } else {
        end = std::min(text_.find(U'<', i + 1), text_.size());
        if (end == text_.size()) {
          end = i + 1;
        }
      }
      tree_.data(part(i, end));
    }
    i = end;
    return true;
  }

  // Leaves out what goes as far as the next '>'.
  std::size_t until_greater(std::size_t from) {
    const std::size_t end = text_.find(U'>', from);
    if (end == kNone) {
      return kNone;
    }
    tree_.end_run();
    return end + 1;
  }

  std::size_t comment(std::size_t i) {
    for (std::size_t dash = text_.find(U"--", i + 4); dash != kNone;
         dash = text_.find(U"--", dash + 1)) {
      const std::size_t end = skip_spaces(dash + 2);
      if (peek(end) == U'>') {
        tree_.end_run();
        return end + 1;
      }
    }
    return kNone;
  }

  std::size_t declaration(std::size_t i) {
    if (starts(i, U"<![")) {
      return marked_section(i);
    }
    return until_greater(to_lower(part(i, std::min(text_.size(), i + 9))) == U"<!doctype" ? i + 9
                                                                                          : i + 2);
  }

  // <![name ...: the reference refuses a text with an unknown name; here it stays text.
  std::size_t marked_section(std::size_t i) {
    std::size_t end = i + 3;
    if (end >= text_.size()) {
      return kNone;
    }
    if (is_letter(peek(end))) {
      while (is_alphanumeric(peek(end)) || peek(end) == U'-' || peek(end) == U'_' ||
             peek(end) == U'.') {
        ++end;
      }
    }
    const std::u32string name = to_lower(part(i + 3, end));
    if (skip_spaces(end) >= text_.size() && !name.empty()) {
      return kNone;
    }
    const bool standard = name == U"temp" || name == U"cdata" || name == U"ignore" ||
                          name == U"include" || name == U"rcdata";
    if (!standard && name != U"if" && name != U"else" && name != U"endif") {
      tree_.data(U"<");
      return i + 1;
    }
    for (std::size_t bracket = text_.find(U']', i + 3); bracket != kNone;
         bracket = text_.find(U']', bracket + 1)) {
      std::size_t close = skip_spaces(bracket + 1);
      if (standard) {
        close = peek(close) == U']' ? skip_spaces(close + 1) : kNone;
      }
      if (close != kNone && peek(close) == U'>') {
        const std::u32string_view contents = part(i + 3, bracket);
        if (to_lower(contents.substr(0, 6)) == U"cdata[") {
          tree_.section(contents.substr(6));
        } else {
          tree_.end_run();
        }
        return close + 1;
      }
    }
    return kNone;
  }

  static bool ends_name(char32_t c) {
    return c == U'\t' || c == U'\n' || c == U'\r' || c == U'\f' || c == U' ' || c == U'/' ||
           c == U'>' || c == U'\0';
  }

  std::size_t name_end(std::size_t at) const {
    while (at < text_.size() && !ends_name(text_[at])) {
      ++at;
    }
    return at;
  }

  // White space, and slashes that are not in front of '>'.
  std::size_t skip_separators(std::size_t at) const {
    while (at < text_.size() &&
           (is_space(text_[at]) || (text_[at] == U'/' && peek(at + 1) != U'>'))) {
      ++at;
    }
    return at;
  }

  // The value of an attribute from `at`: equals signs and a quoted or bare value; `at` if there is
  // none.
  std::size_t attribute_value(std::size_t at) const {
    const std::size_t first = skip_spaces(at);
    std::size_t equals = first;
    while (peek(equals) == U'=') {
      ++equals;
    }
    if (equals == first) {
      return at;
    }
    const std::size_t value = skip_spaces(equals);
    const char32_t quote = peek(value);
    if (is_quote(quote)) {
      const std::size_t close = text_.find(quote, value + 1);
      if (close != kNone) {
        return close + 1;
      }
      // Without a closing quote: an empty value in front of the last space, or one that begins with
      // the last equals sign.
      if (value > equals) {
        return value - 1;
      }
      if (equals - first < 2) {
        return at;
      }
      return bare_end(equals - 1);
    }
    return bare_end(value);
  }

  std::size_t bare_end(std::size_t at) const {
    while (at < text_.size() && text_[at] != U'>' && !is_space(text_[at])) {
      ++at;
    }
    return at;
  }

  // One attribute with what separates it from the next; `at` if there is none.
  std::size_t attribute(std::size_t at, bool spaces_after_value) const {
    const char32_t before = text_[at - 1];
    if (at >= text_.size() || !(is_quote(before) || is_space(before) || before == U'/') ||
        is_space(text_[at]) || text_[at] == U'/' || text_[at] == U'>') {
      return at;
    }
    std::size_t end = at + 1;
    while (end < text_.size() && !is_space(text_[end]) && text_[end] != U'/' &&
           text_[end] != U'=' && text_[end] != U'>') {
      ++end;
    }
    const std::size_t value = attribute_value(end);
    if (value != end) {
      end = spaces_after_value ? skip_spaces(value) : value;
    }
    return skip_separators(end);
  }

  // End of the start tag at `i`, kNone if it is incomplete.
  std::size_t start_tag_end(std::size_t i) const {
    std::size_t at = name_end(i + 1);
    while (at < text_.size() && (is_space(text_[at]) || text_[at] == U'/')) {
      ++at;
    }
    for (std::size_t next = attribute(at, true); next != at; next = attribute(at, true)) {
      at = next;
    }
    at = skip_spaces(at);
    const char32_t c = peek(at);
    if (at >= text_.size()) {
      return kNone;
    }
    if (c == U'>') {
      return at + 1;
    }
    if (c == U'/') {
      return starts(at, U"/>") ? at + 2 : kNone;
    }
    return is_letter(c) || c == U'=' ? kNone : at;
  }

  std::size_t start_tag(std::size_t i) {
    const std::size_t end = start_tag_end(i);
    if (end == kNone) {
      return kNone;
    }
    const std::size_t name = name_end(i + 1);
    const std::u32string tag = to_lower(part(i + 1, name));
    std::size_t at = skip_separators(name);
    while (at < end) {
      const std::size_t next = attribute(at, false);
      if (next == at) {
        break;
      }
      at = next;
    }
    std::size_t first = std::min(at, end);
    std::size_t last = end;
    while (first < last && is_space(text_[first])) {
      ++first;
    }
    while (last > first && is_space(text_[last - 1])) {
      --last;
    }
    const std::u32string_view rest = part(first, last);
    if (rest != U">" && rest != U"/>") {
      tree_.data(part(i, end));
      return end;
    }
    const bool closed = rest == U"/>";
    tree_.open(tag, closed);
    if (!closed && (tag == U"script" || tag == U"style")) {
      raw_ = tag;
    }
    return end;
  }

  std::size_t end_tag(std::size_t i) {
    const std::size_t greater = text_.find(U'>', i + 1);
    if (greater == kNone) {
      return kNone;
    }
    // </ name >, where the name is letters, digits and -.:_
    const std::size_t begin = skip_spaces(i + 2);
    std::size_t end = begin;
    if (is_letter(peek(begin))) {
      while (is_alphanumeric(peek(end)) ||
             (peek(end) != 0 && std::u32string_view(U"-.:_").find(peek(end)) != kNone)) {
        ++end;
      }
    }
    if (end > begin && peek(skip_spaces(end)) == U'>') {
      const std::u32string tag = to_lower(part(begin, end));
      if (!raw_.empty() && tag != raw_) {
        tree_.data(part(i, greater + 1));
        return greater + 1;
      }
      tree_.close(tag);
      raw_.clear();
      return skip_spaces(end) + 1;
    }
    if (!raw_.empty()) {
      tree_.data(part(i, greater + 1));
      return greater + 1;
    }
    if (!is_letter(peek(i + 2))) {
      if (starts(i, U"</>")) {
        return i + 3;
      }
      return until_greater(i + 2);
    }
    const std::size_t name = name_end(i + 2);
    tree_.close(to_lower(part(i + 2, name)));
    const std::size_t close = text_.find(U'>', skip_separators(name));
    return close == kNone ? kNone : close + 1;
  }

  // At '&'. Returns false where the reading has to stop.
  bool reference(std::size_t& i, bool last) {
    if (starts(i, U"&#")) {
      return numeric_reference(i);
    }
    std::size_t end = i + 1;
    if (is_letter(peek(end))) {
      // The name goes as far as it can, but some character that is no letter or digit has to
      // follow.
      while (is_alphanumeric(peek(end)) || peek(end) == U'-' || peek(end) == U'.') {
        ++end;
      }
      while (end > i + 1 && (end >= text_.size() || is_alphanumeric(text_[end]))) {
        --end;
      }
      if (end > i + 1) {
        const std::string name = to_utf8(part(i + 1, end));
        const auto entity = html_entity(name, false);
        tree_.data(entity ? std::string(*entity) : "&" + name);
        i = peek(end) == U';' ? end + 1 : end;
        return true;
      }
      if (last && i + 2 == text_.size()) {
        ++i;  // the reference drops this ampersand
      }
      return false;
    }
    if (i + 1 < text_.size()) {
      tree_.data(U"&");
      ++i;
      return true;
    }
    return false;
  }

  bool numeric_reference(std::size_t& i) {
    const bool hexadecimal = peek(i + 2) == U'x' || peek(i + 2) == U'X';
    const std::size_t begin = i + (hexadecimal ? 3 : 2);
    std::size_t end = begin;
    while (hexadecimal ? is_hexadecimal(peek(end)) : is_digit(peek(end))) {
      ++end;
    }
    // Neither digit nor hexadecimal letter may follow a number.
    if (end > begin && end < text_.size() && !is_hexadecimal(text_[end])) {
      append_number(part(begin, end), hexadecimal ? 16 : 10);
      i = text_[end] == U';' ? end + 1 : end;
      return true;
    }
    if (text_.find(U';', i) != kNone) {
      tree_.data(U"&#");
      i += 2;
    }
    return false;
  }

  void append_number(std::u32string_view digits, std::uint32_t base) {
    std::uint32_t number = 0;
    for (const char32_t c : digits) {
      const std::uint32_t digit = is_digit(c) ? c - U'0' : (c | 0x20U) - U'a' + 10;
      number = std::min(number * base + digit, 0x110000U);
    }
    std::string result;
    if (number >= 0x80 && number <= 0x9F) {
      result = html_unescape("&#" + std::to_string(number) + ";");
    } else if (number == 0 || number > 0x10FFFF || (number >= 0xD800 && number <= 0xDFFF)) {
      append_utf8(result, 0xFFFD);
    } else {
      append_utf8(result, number);
    }
    tree_.data(result);
  }

  std::u32string text_;
  std::u32string raw_;  // script or style while inside one
  Tree tree_;
};

}  // namespace

std::string html_text(std::string_view html) {
  return Parser(html).run();
}

}  // namespace kinema::text
