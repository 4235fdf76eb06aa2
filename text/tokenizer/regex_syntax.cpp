// SPDX-License-Identifier: Apache-2.0
// Oniguruma's Ruby syntax to ICU syntax. Differences that matter: \s \w \d \h \v, POSIX brackets,
// (?m), literal braces, character classes.
#include <array>
#include <cctype>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>

#include "core/base/error.h"
#include "text/tokenizer/pattern.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::size_t kMaxPattern = 16 * 1024;
constexpr int kMaxClasses = 128;  // ICU takes up to 5 ms for one
constexpr int kMaxNesting = 100;
constexpr std::int64_t kMaxRepeat = 1000;

[[noreturn]] void refuse(std::string_view pattern, std::string got) {
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "tokenizer.regex",
               .place = "text.tokenizer",
               .subject = "regular expression '" + std::string(pattern.substr(0, 200)) + "'",
               .expected = "an expression that kinema can run",
               .got = std::move(got)});
}

// Set expressions, without the outer brackets.
std::string property_set(const std::string& name) {
  return newer_code_points(name) + "\\p{" + name + "}";
}

std::string word_set() {
  return newer_code_points("Word") + "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";
}

// Outside brackets, Oniguruma also counts six Latin-1 numbers as word characters.
std::string lone_word_set() {
  return word_set() + "\\x{B2}\\x{B3}\\x{B9}\\x{BC}-\\x{BE}";
}

std::optional<std::string> posix_set(std::string_view name) {
  struct Entry {
    std::string_view name;
    std::string set;
  };
  const std::array<Entry, 14> entries = {{
      {"alpha", property_set("Alphabetic")},
      {"digit", property_set("Nd")},
      {"alnum", property_set("Alphabetic") + property_set("Nd")},
      {"space", "\\p{White_Space}"},
      {"blank", "\\p{Zs}\\x{9}"},
      {"upper", "\\p{Uppercase}" + newer_code_points("Lu")},
      {"lower", "\\p{Lowercase}" + newer_code_points("Ll")},
      {"punct", property_set("P") + property_set("S")},
      {"cntrl", "\\p{Cc}"},
      {"xdigit", "0-9a-fA-F"},
      {"word", word_set()},
      {"ascii", "\\x{0}-\\x{7F}"},
      {"graph", "[^\\p{White_Space}\\p{Cc}\\p{Cn}\\p{Cs}]"},
      {"print", "[^\\p{Cc}\\p{Cn}\\p{Cs}]"},
  }};
  for (const auto& entry : entries) {
    if (entry.name == name) {
      return entry.set;
    }
  }
  return std::nullopt;
}

std::string escaped(char32_t code_point) {
  std::array<char, 16> text{};
  std::snprintf(text.data(), text.size(), "\\x{%X}", static_cast<unsigned>(code_point));
  return text.data();
}

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (!done()) {
      step();
    }
    return std::move(out_);
  }

 private:
  bool done() const { return at_ >= pattern_.size(); }
  bool starts_with(std::string_view text) const { return pattern_.substr(at_).starts_with(text); }
  char peek() const { return pattern_[at_]; }
  [[noreturn]] void fail(std::string got) const { refuse(pattern_, std::move(got)); }

  void step() {
    switch (peek()) {
      case '\\':
        ++at_;
        escape_outside();
        return;
      case '[':
        ++at_;
        out_ += character_class(0);
        return;
      case '(':
        group();
        return;
      case '{':
        brace();
        return;
      case '}':
      case ']':
        out_ += escaped(static_cast<unsigned char>(peek()));
        ++at_;
        return;
      default:
        out_ += peek();
        ++at_;
    }
  }

  // `{n}`, `{n,}`, `{n,m}`, `{,m}` repeat; any other brace stands for itself.
  void brace() {
    std::size_t i = at_ + 1;
    const auto number = [&]() -> std::optional<std::int64_t> {
      std::int64_t value = 0;
      const std::size_t start = i;
      while (i < pattern_.size() && std::isdigit(static_cast<unsigned char>(pattern_[i])) != 0) {
        value = value * 10 + (pattern_[i++] - '0');
        if (value > kMaxRepeat) {
          fail("a repetition of more than " + std::to_string(kMaxRepeat));
        }
      }
      return i == start ? std::nullopt : std::optional(value);
    };
    const auto low = number();
    const bool comma = i < pattern_.size() && pattern_[i] == ',';
    i += comma ? 1 : 0;
    const auto high = comma ? number() : low;
    const bool closed = i < pattern_.size() && pattern_[i] == '}';
    if (!closed || (!low && !(comma && high))) {
      out_ += "\\{";
      ++at_;
      return;
    }
    if (low && high && *low > *high) {
      fail("a repetition {n,m} with n > m");
    }
    at_ = i + 1;
    out_ += "{" + std::to_string(low.value_or(0)) + (comma ? "," : "") +
            (comma && high ? std::to_string(*high) : "") + "}";
    if (!done() && peek() == '+') {
      fail("a repetition of a repetition ('}+')");
    }
  }

  void group() {
    ++at_;
    if (++groups_ > 200) {
      fail("more than 200 groups");
    }
    if (!starts_with("?")) {
      out_ += '(';
      return;
    }
    for (const std::string_view same : {"?:", "?=", "?!", "?<=", "?<!", "?>", "?#"}) {
      if (starts_with(same)) {
        out_ += "(";
        out_ += same;
        at_ += same.size();
        if (same == "?#") {
          comment();
        }
        return;
      }
    }
    if (starts_with("?<") && at_ + 2 < pattern_.size() &&
        std::isalpha(static_cast<unsigned char>(pattern_[at_ + 2])) != 0) {
      out_ += "(?<";
      at_ += 2;
      return;
    }
    options();
  }

  void comment() {
    const auto end = pattern_.find(')', at_);
    if (end == std::string_view::npos) {
      fail("a comment without an end");
    }
    out_.resize(out_.size() - 3);
    at_ = end + 1;
  }

  // (?imx-imx) and (?imx-imx:...); Ruby's m lets the dot match a newline.
  void options() {
    std::string flags = "(?";
    for (++at_; !done(); ++at_) {
      const char c = peek();
      if (c == 'i' || c == 'x' || c == '-') {
        flags += c;
      } else if (c == 'm') {
        flags += 's';
      } else if (c == ':' || c == ')') {
        flags += c;
        ++at_;
        out_ += flags;
        return;
      } else {
        fail(std::string("the group (?") + c);
      }
    }
    fail("a group without an end");
  }

  void count_class() {
    if (++classes_ > kMaxClasses) {
      fail("more than " + std::to_string(kMaxClasses) + " character classes");
    }
  }

  static std::string word_boundary(bool negated) {
    const std::string word = "[" + lone_word_set() + "]";
    const std::string behind = "(?<=" + word + ")";
    const std::string not_behind = "(?<!" + word + ")";
    const std::string ahead = "(?=" + word + ")";
    const std::string not_ahead = "(?!" + word + ")";
    return negated ? "(?:" + behind + ahead + "|" + not_behind + not_ahead + ")"
                   : "(?:" + behind + not_ahead + "|" + not_behind + ahead + ")";
  }

  void escape_outside() {
    if (done()) {
      fail("a backslash at the end");
    }
    const char c = peek();
    if (const auto set = class_escape(false)) {
      out_ += "[" + *set + "]";
      return;
    }
    if (c == 'b' || c == 'B') {
      count_class();
      ++at_;
      out_ += word_boundary(c == 'B');
    } else if (c == 'A' || c == 'z' || c == 'Z' || c == 'G' || c == 'R' || c == 'X' ||
               (c >= '1' && c <= '9')) {
      ++at_;
      out_ += '\\';
      out_ += c;
    } else if (c == 'k' && pattern_.substr(at_).starts_with("k<")) {
      ++at_;
      out_ += "\\k";
    } else {
      out_ += escaped(character_escape());
    }
  }

  // \s \S \w \W \d \D \h \H \p{..} \P{..} as a set expression; nothing if it is another escape.
  std::optional<std::string> class_escape(bool in_brackets) {
    const char c = peek();
    std::string set;
    if (std::string_view("sSwWdDhHpP").find(c) != std::string_view::npos) {
      count_class();
    }
    switch (c) {
      case 's':
      case 'S':
        set = "\\p{White_Space}";
        break;
      case 'w':
      case 'W':
        set = in_brackets ? word_set() : lone_word_set();
        break;
      case 'd':
      case 'D':
        set = property_set("Nd");
        break;
      case 'h':
      case 'H':
        set = "0-9a-fA-F";
        break;
      case 'p':
      case 'P':
        return property();
      default:
        return std::nullopt;
    }
    ++at_;
    return std::isupper(static_cast<unsigned char>(c)) != 0 ? "[^" + set + "]" : set;
  }

  std::string property() {
    bool negated = peek() == 'P';
    const auto end = pattern_.find('}', at_);
    if (at_ + 1 >= pattern_.size() || pattern_[at_ + 1] != '{' || end == std::string_view::npos) {
      fail("\\p without {name}");
    }
    std::string name(pattern_.substr(at_ + 2, end - at_ - 2));
    at_ = end + 1;
    if (name.starts_with('^')) {
      negated = !negated;
      name.erase(0, 1);
    }
    for (const char c : name) {
      if (std::isalnum(static_cast<unsigned char>(c)) == 0 && c != '_' && c != ' ' && c != '-' &&
          c != '=') {
        fail("the property name '" + name + "'");
      }
    }
    std::string lower = name;
    for (char& c : lower) {
      c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
    const auto posix = posix_set(lower);
    const std::string set = posix ? *posix : property_set(name);
    return negated ? "[^" + set + "]" : set;
  }

  char32_t hexadecimal(std::size_t most) {
    char32_t value = 0;
    std::size_t digits = 0;
    while (!done() && digits < most && std::isxdigit(static_cast<unsigned char>(peek())) != 0) {
      const char c = peek();
      value = value * 16 + static_cast<char32_t>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
      ++at_;
      ++digits;
    }
    if (digits == 0 || value > 0x10FFFF || (value >= 0xD800 && value < 0xE000)) {
      fail("a hexadecimal escape that is no character");
    }
    return value;
  }

  // An escape that stands for one character; at_ is on the letter behind the backslash.
  char32_t character_escape() {
    const char c = peek();
    if (static_cast<signed char>(c) < 0) {
      return next_code_point(pattern_, at_);
    }
    ++at_;
    switch (c) {
      case 'n':
        return '\n';
      case 't':
        return '\t';
      case 'r':
        return '\r';
      case 'f':
        return '\f';
      case 'v':
        return '\v';
      case 'a':
        return '\a';
      case 'e':
        return 0x1B;
      case '0':
        return 0;
      case 'u':
        return hexadecimal(4);
      case 'x':
        if (!done() && peek() == '{') {
          ++at_;
          const char32_t value = hexadecimal(8);
          if (done() || peek() != '}') {
            fail("\\x{ without }");
          }
          ++at_;
          return value;
        } else {
          const char32_t value = hexadecimal(2);
          if (value >= 0x80) {
            fail("a raw byte above 7F");
          }
          return value;
        }
      default:
        if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
          fail(std::string("the escape \\") + c);
        }
        return static_cast<unsigned char>(c);
    }
  }

  std::optional<std::string> posix_bracket() {
    if (!starts_with("[:")) {
      return std::nullopt;
    }
    const auto end = pattern_.find(":]", at_ + 2);
    if (end == std::string_view::npos) {
      return std::nullopt;
    }
    std::string_view name = pattern_.substr(at_ + 2, end - at_ - 2);
    const bool negated = name.starts_with('^');
    name.remove_prefix(negated ? 1 : 0);
    const auto set = posix_set(name);
    if (!set) {
      return std::nullopt;
    }
    count_class();
    at_ = end + 2;
    return negated ? "[^" + *set + "]" : *set;
  }

  // One member of a class: a set expression, or one character.
  struct Member {
    std::string set;
    char32_t character = 0;
    bool is_set = false;
  };

  Member member(int depth) {
    Member result;
    if (const auto posix = posix_bracket()) {
      result = {*posix, 0, true};
    } else if (peek() == '[') {
      ++at_;
      result = {character_class(depth + 1), 0, true};
    } else if (peek() == '\\') {
      ++at_;
      if (done()) {
        fail("a backslash at the end");
      }
      if (const auto set = class_escape(true)) {
        result = {*set, 0, true};
      } else if (peek() == 'b') {
        ++at_;
        result.character = '\b';
      } else {
        result.character = character_escape();
      }
    } else {
      result.character = next_code_point(pattern_, at_);
    }
    return result;
  }

  // [...] with at_ behind the opening bracket; returns the ICU set with its brackets.
  std::string character_class(int depth) {
    count_class();
    if (depth > kMaxNesting) {
      fail("character classes nested too deeply");
    }
    std::string set = "[";
    if (!done() && peek() == '^') {
      set += '^';
      ++at_;
    }
    std::string part;   // members since the last &&
    std::string whole;  // operands of && so far
    bool first = true;
    while (true) {
      if (done()) {
        fail("a character class without an end");
      }
      if (peek() == ']' && !first) {
        ++at_;
        break;
      }
      first = false;
      if (starts_with("&&")) {
        at_ += 2;
        if (part.empty()) {
          fail("an empty operand in a character class");
        }
        whole += "[" + part + "]&&";
        part.clear();
        continue;
      }
      const Member low = member(depth);
      if (low.is_set) {
        part += "[" + low.set + "]";
        continue;
      }
      part += escaped(low.character);
      const bool range =
          !done() && peek() == '-' && at_ + 1 < pattern_.size() && pattern_[at_ + 1] != ']';
      if (range) {
        ++at_;
        const Member high = member(depth);
        if (high.is_set) {
          part += "\\x{2D}[" + high.set + "]";
        } else if (high.character < low.character) {
          fail("a range that runs backwards");
        } else {
          part += "-" + escaped(high.character);
        }
      }
    }
    if (part.empty()) {
      fail("an empty operand in a character class");
    }
    return set + (whole.empty() ? part : whole + "[" + part + "]") + "]";
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  int groups_ = 0;
  int classes_ = 0;
  std::string out_;
};

}  // namespace

std::string translate_regex(std::string_view pattern) {
  if (pattern.size() > kMaxPattern) {
    refuse(pattern, std::to_string(pattern.size()) + " bytes");
  }
  return Translator(pattern).run();
}

}  // namespace kinema::text
