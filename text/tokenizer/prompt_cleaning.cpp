// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/prompt_cleaning.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include <unicode/locid.h>
#include <unicode/regex.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/unistr.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "text/tokenizer/html_text.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {
namespace {

constexpr std::size_t kMaxPrompt = 100'000;

// The classes of Python's re for text: \w, \s, \d.
#define KINEMA_WORD "[\\p{L}\\p{N}_]"
#define KINEMA_SPACE "[\\t-\\r\\x1C-\\x20\\x85\\p{Z}]"
#define KINEMA_DIGIT "\\p{Nd}"
// \b in front of and behind something that begins and ends with a word character, and \b anywhere.
#define KINEMA_START "(?<!" KINEMA_WORD ")"
#define KINEMA_END "(?!" KINEMA_WORD ")"
#define KINEMA_EDGE \
  "(?:(?<=" KINEMA_WORD ")(?!" KINEMA_WORD ")|(?<!" KINEMA_WORD ")(?=" KINEMA_WORD "))"
// CJK strokes, phonetic extensions, enclosed letters, squared words, ideographs, hexagrams.
#define KINEMA_CJK "[\\u31C0-\\u4DFF\\u4E00-\\u9FFF]"
#define KINEMA_DASHES                                        \
  "[\\-\\u058A\\u05BE\\u1400\\u1806\\u2010-"                 \
  "\\u2015\\u2E17\\u2E1A\\u2E3A\\u2E3B\\u2E40\\u301C\\u3030" \
  "\\u30A0\\uFE31\\uFE32\\uFE58\\uFE63\\uFF0D]"
#define KINEMA_QUOTES "[`\\u00B4\\u00AB\\u00BB\\u201C\\u201D\\u00A8]"
#define KINEMA_SIGNS                                                                             \
  "[#\\u00AE\\u2022\\u00A9\\u2122\\&@\\u00B7\\u00BA\\u00BD\\u00BE\\u00BF\\u00A1\\u00A7~()\\[\\]" \
  "\\{\\}|"                                                                                      \
  "\\\\/*]"

// The rule leaves a text alone in which `needed` does not occur: one character of a set, if it
// begins with a bracket, otherwise that string. Most texts need few of the searches then.
struct Rule {
  const char* pattern;
  const char* replacement;
  const char* needed;
};

// Between the removal of mark-up and the scans for file names.
constexpr std::array kEarlyRules = {
    Rule{"@" KINEMA_WORD "+", "", "[@]"},
    Rule{KINEMA_CJK "+", "", KINEMA_CJK},
    Rule{KINEMA_DASHES "+", "-", KINEMA_DASHES},
    Rule{KINEMA_QUOTES, "\"", KINEMA_QUOTES},
    Rule{"[\\u2018\\u2019]", "'", "[\\u2018\\u2019]"},
    Rule{"&quot;?", "", "&quot"},
    Rule{"&amp", "", "&amp"},
    Rule{"(?:" KINEMA_DIGIT "{1,3}\\.){3}" KINEMA_DIGIT "{1,3}", " ", "[.]"},
    Rule{KINEMA_DIGIT ":" KINEMA_DIGIT "{2}" KINEMA_SPACE "+$", "", "[\\:]"},
    Rule{"\\\\n", " ", "\\n"},
    Rule{"#" KINEMA_DIGIT "{1,3}" KINEMA_END, "", "[#]"},
    Rule{"#" KINEMA_DIGIT "{5,}" KINEMA_END, "", "[#]"},
    Rule{KINEMA_START KINEMA_DIGIT "{6,}" KINEMA_END, "", "[" KINEMA_DIGIT "]"},
};

// Behind the file names.
constexpr std::array kPunctuationRules = {
    Rule{"[\"']{2,}", "\"", "[\"']"},
    Rule{"\\.{2,}", " ", ".."},
    Rule{KINEMA_SIGNS "+", " ", KINEMA_SIGNS},
};

constexpr std::array kLateRules = {
    Rule{KINEMA_START "[a-zA-Z]{1,3}" KINEMA_DIGIT "{3,15}" KINEMA_END, "", "[" KINEMA_DIGIT "]"},
    Rule{KINEMA_START "[a-zA-Z]+" KINEMA_DIGIT "+[a-zA-Z]+" KINEMA_END, "", "[" KINEMA_DIGIT "]"},
    Rule{KINEMA_START KINEMA_DIGIT "+[a-zA-Z]+" KINEMA_DIGIT "+" KINEMA_END,
         "",
         "[" KINEMA_DIGIT "]"},
    Rule{"(?:worldwide" KINEMA_SPACE "+)?(?:free" KINEMA_SPACE "+)?shipping", "", "shipping"},
    Rule{"(?:free" KINEMA_SPACE ")?download(?:" KINEMA_SPACE "free)?", "", "download"},
    Rule{KINEMA_START "click" KINEMA_SPACE "(?:for|on)" KINEMA_SPACE KINEMA_WORD "+", "", "click"},
    Rule{KINEMA_START "(?:png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4)(?:" KINEMA_SPACE "images?)?",
         "",
         "[p]"},
    Rule{KINEMA_START "page" KINEMA_SPACE "+" KINEMA_DIGIT "+" KINEMA_END, "", "page"},
    Rule{KINEMA_START KINEMA_DIGIT "*[a-zA-Z]+" KINEMA_DIGIT "+[a-zA-Z]+" KINEMA_DIGIT
                                   "+[a-zA-Z\\p{Nd}]*" KINEMA_END,
         " ",
         "[" KINEMA_DIGIT "]"},
    // The second x is Cyrillic.
    Rule{KINEMA_START KINEMA_DIGIT "+(?:\\." KINEMA_DIGIT "*)?[x\\u0445\\u00D7]" KINEMA_DIGIT
                                   "+(?:\\." KINEMA_DIGIT "*)?" KINEMA_EDGE,
         "",
         "[x\\u0445\\u00D7]"},
    Rule{"(?<=" KINEMA_WORD ")" KINEMA_SPACE "+:" KINEMA_SPACE "+", ": ", "[\\:]"},
    Rule{"(?<=\\P{Nd})([,./])(?=" KINEMA_WORD ")", "$1 ", "[,./]"},
    // Every run of white space that is not one space already.
    Rule{KINEMA_SPACE KINEMA_SPACE "+|(?! )" KINEMA_SPACE, " ", KINEMA_SPACE},
    Rule{"^[\"']([\\s\\S]+)[\"']$", "$1", "[\"']"},
    Rule{"^['_,:;-]", "", "['_,:;\\-]"},
    Rule{"['_,:+-]$", "", "['_,:+\\-]"},
    Rule{"^\\.[^\\t-\\r\\x1C-\\x20\\x85\\p{Z}]+$", "", "[.]"},
};

#undef KINEMA_WORD
#undef KINEMA_SPACE
#undef KINEMA_DIGIT
#undef KINEMA_START
#undef KINEMA_END
#undef KINEMA_EDGE
#undef KINEMA_CJK
#undef KINEMA_DASHES
#undef KINEMA_QUOTES
#undef KINEMA_SIGNS

[[noreturn]] void icu_failed(UErrorCode status, const char* what) {
  throw Error(ErrorKind::kInternal,
              {.code = "text.cleaning",
               .place = "text.cleaning",
               .subject = what,
               .expected = "a rule that ICU can run",
               .got = u_errorName(status)});
}

struct CompiledRule {
  std::unique_ptr<icu::RegexPattern> pattern;
  icu::UnicodeString replacement;
  icu::UnicodeSet needed_one;  // empty: `needed_text` counts
  icu::UnicodeString needed_text;

  bool may_change(const icu::UnicodeString& text) const {
    return needed_one.isEmpty() ? text.indexOf(needed_text) >= 0
                                : needed_one.containsSome(text) != 0;
  }
};

CompiledRule compile(const Rule& rule) {
  UErrorCode status = U_ZERO_ERROR;
  UParseError where{};
  CompiledRule compiled;
  compiled.pattern.reset(icu::RegexPattern::compile(
      icu::UnicodeString::fromUTF8(rule.pattern), UREGEX_UNIX_LINES, where, status));
  compiled.replacement = icu::UnicodeString::fromUTF8(rule.replacement);
  compiled.needed_text = icu::UnicodeString::fromUTF8(rule.needed);
  if (rule.needed[0] == '[') {
    compiled.needed_one.applyPattern(compiled.needed_text, status);
    compiled.needed_one.freeze();
  }
  if (U_FAILURE(status)) {
    icu_failed(status, rule.pattern);
  }
  return compiled;
}

template <std::size_t N>
std::vector<CompiledRule> compile(const std::array<Rule, N>& rules) {
  std::vector<CompiledRule> compiled;
  for (const Rule& rule : rules) {
    compiled.push_back(compile(rule));
  }
  return compiled;
}

void apply(const std::vector<CompiledRule>& rules, icu::UnicodeString& text) {
  for (const CompiledRule& rule : rules) {
    if (!rule.may_change(text)) {
      continue;
    }
    UErrorCode status = U_ZERO_ERROR;
    const icu::UnicodeString input = text;
    const std::unique_ptr<icu::RegexMatcher> matcher(rule.pattern->matcher(input, status));
    if (U_SUCCESS(status)) {
      text = matcher->replaceAll(rule.replacement, status);
    }
    if (U_FAILURE(status)) {
      icu_failed(status, "rule");
    }
  }
}

bool is_python_space(char32_t c) {
  return is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}

bool is_python_word(char32_t c) {
  return c == '_' || (U_GET_GC_MASK(static_cast<UChar32>(c)) & (U_GC_L_MASK | U_GC_N_MASK)) != 0;
}

std::string_view trimmed(std::string_view text) {
  while (!text.empty()) {
    std::size_t after = 0;
    if (!is_python_space(next_code_point(text, after))) {
      break;
    }
    text.remove_prefix(after);
  }
  while (!text.empty()) {
    std::size_t before = text.size();
    if (!is_python_space(previous_code_point(text, before))) {
      break;
    }
    text.remove_suffix(text.size() - before);
  }
  return text;
}

std::string to_utf8(const icu::UnicodeString& text) {
  std::string result;
  text.toUTF8String(result);
  return result;
}

std::string lower(std::string_view text) {
  icu::UnicodeString units = icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
  return to_utf8(units.toLower(icu::Locale::getRoot()));
}

int hexadecimal(char c) {
  if (c >= '0' && c <= '9') {
    return c - '0';
  }
  const char letter = static_cast<char>(c | 0x20);
  return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

// Percent escapes and plus signs of a URL. Each run of ASCII is decoded by itself.
std::string url_decoded(std::string_view text) {
  std::string result;
  std::string run;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (static_cast<signed char>(c) < 0) {
      result += valid_utf8(run);
      run.clear();
      result += c;
    } else if (c == '%' && i + 2 < text.size() && hexadecimal(text[i + 1]) >= 0 &&
               hexadecimal(text[i + 2]) >= 0) {
      run += static_cast<char>(hexadecimal(text[i + 1]) * 16 + hexadecimal(text[i + 2]));
      i += 2;
    } else {
      run += c == '+' ? ' ' : c;
    }
  }
  return result + valid_utf8(run);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (auto at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size())) {
    text.replace(at, from.size(), to);
  }
}

// ---- web addresses ----

bool is_ascii_alphanumeric(char c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_host(char c) {
  return is_ascii_alphanumeric(c) || c == '.' || c == '-';
}

bool edge_at(std::string_view text, std::size_t at) {
  std::size_t before = at;
  std::size_t behind = at;
  const bool left = at > 0 && is_python_word(previous_code_point(text, before));
  const bool right = at < text.size() && is_python_word(next_code_point(text, behind));
  return left != right;
}

// Length of "https:" and the like with the slashes, or the one character, that follow; 0 if none.
std::size_t scheme_length(std::string_view text, bool second_pass) {
  std::size_t length = 0;
  if (second_pass) {
    length = text.starts_with("www:") ? 4 : 0;
  } else {
    length = text.starts_with("https:") ? 6 : text.starts_with("http:") ? 5 : 0;
  }
  if (length == 0 || length >= text.size()) {
    return 0;
  }
  std::size_t slashes = 0;
  while (slashes < 3 && length + slashes < text.size() && text[length + slashes] == '/') {
    ++slashes;
  }
  if (slashes > 0) {
    return length + slashes;
  }
  return is_ascii_alphanumeric(text[length]) || text[length] == '%' ? length + 1 : 0;
}

// A path behind a host ends on a word edge and a slash may follow, but no '@'. Returns the end of
// the longest such path from `at`, or npos.
std::size_t path_end(std::string_view text, std::size_t at) {
  std::size_t end = at;
  while (end < text.size()) {
    std::size_t after = end;
    const char32_t c = next_code_point(text, after);
    if (!is_python_word(c) && c != '/' && c != '-') {
      break;
    }
    end = after;
  }
  while (true) {
    if (edge_at(text, end)) {
      const bool slash = end < text.size() && text[end] == '/';
      if (slash && (end + 1 >= text.size() || text[end + 1] != '@')) {
        return end + 1;
      }
      if (end >= text.size() || text[end] != '@') {
        return end;
      }
    }
    if (end <= at) {
      return std::string_view::npos;
    }
    previous_code_point(text, end);
  }
}

struct Host {
  std::size_t dot = std::string_view::npos;  // of the ending, npos if there is none
  std::size_t end = 0;                       // of the address
};

// The last ending such as ".com" in text[begin, end) behind which the address can end.
Host find_host(std::string_view text, std::size_t begin, std::size_t end) {
  constexpr std::array<std::string_view, 8> kEndings = {
      "com", "co", "ru", "net", "org", "edu", "gov", "it"};
  for (std::size_t dot = end; dot-- > begin;) {
    if (text[dot] != '.') {
      continue;
    }
    for (const auto ending : kEndings) {
      if (text.substr(dot + 1).starts_with(ending)) {
        const std::size_t path = path_end(text, dot + 1 + ending.size());
        if (path != std::string_view::npos) {
          return {dot, path};
        }
      }
    }
  }
  return {};
}

std::string without_addresses(std::string_view text, bool second_pass) {
  std::string result;
  std::size_t run_end = 0;  // end of the run of host characters at hand
  Host host;
  for (std::size_t i = 0; i < text.size();) {
    if (i >= run_end && is_host(text[i])) {
      run_end = i;
      while (run_end < text.size() && is_host(text[run_end])) {
        ++run_end;
      }
      host = find_host(text, i, run_end);
    }
    std::size_t length = scheme_length(text.substr(i), second_pass);
    if (length == 0 && i < run_end && host.dot != std::string_view::npos && i < host.dot) {
      length = host.end - i;
    }
    if (length > 0 && edge_at(text, i)) {
      i += length;
      host = {};
      continue;
    }
    const std::size_t size = utf8_length(text[i]);
    result.append(text, i, size);
    i += size;
  }
  return result;
}

// ---- file names, lone dots, hyphens ----

// Removes each word up to the last file ending in it.
std::string without_file_names(std::string_view text) {
  constexpr std::array<std::string_view, 9> kTypes = {
      "png", "jpg", "jpeg", "bmp", "webp", "eps", "pdf", "apk", "mp4"};
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    std::size_t end = i;
    const bool space = is_python_space(next_code_point(text, end));
    if (space) {
      result.append(text, i, end - i);
      i = end;
      continue;
    }
    std::size_t removed = i;  // end of what goes
    for (std::size_t next = i; next < text.size();) {
      const std::size_t at = next;
      if (is_python_space(next_code_point(text, next))) {
        break;
      }
      end = next;
      if (text[at] == '.' && at > i) {
        for (const auto type : kTypes) {
          if (text.substr(at + 1).starts_with(type)) {
            removed = at + 1 + type.size();
            break;
          }
        }
      }
    }
    result.append(text, removed, end - removed);
    i = end;
  }
  return result;
}

// A dot with white space on both sides becomes one space, the white space included.
std::string without_lone_dots(std::string_view text) {
  const auto spaces_end = [&](std::size_t at) {
    while (at < text.size()) {
      std::size_t after = at;
      if (!is_python_space(next_code_point(text, after))) {
        break;
      }
      at = after;
    }
    return at;
  };
  std::string result;
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t dot = spaces_end(i);
    if (dot == i) {
      const std::size_t size = utf8_length(text[i]);
      result.append(text, i, size);
      i += size;
      continue;
    }
    const std::size_t end = dot < text.size() && text[dot] == '.' ? spaces_end(dot + 1) : 0;
    if (end > dot + 1) {
      result += ' ';
      i = end;
    } else {
      result.append(text, i, dot - i);
      i = dot;
    }
  }
  return result;
}

void separate_hyphens(std::string& text) {
  const auto is_hyphen = [](char c) { return c == '-' || c == '_'; };
  if (std::count_if(text.begin(), text.end(), is_hyphen) > 3) {
    std::replace_if(text.begin(), text.end(), is_hyphen, ' ');
  }
}

icu::UnicodeString to_units(std::string_view text) {
  return icu::UnicodeString::fromUTF8(
      icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())));
}

std::string with_rules(const std::vector<CompiledRule>& rules, std::string_view text) {
  icu::UnicodeString units = to_units(text);
  apply(rules, units);
  return to_utf8(units);
}

std::string checked(std::string_view text) {
  if (text.size() > kMaxPrompt) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "text.prompt_too_long",
                 .place = "text.cleaning",
                 .subject = "prompt",
                 .expected = "at most " + format_bytes(kMaxPrompt),
                 .got = format_bytes(text.size())});
  }
  return valid_utf8(text);
}

}  // namespace

std::string clean_caption(std::string_view prompt) {
  static const std::vector<CompiledRule> kEarly = compile(kEarlyRules);
  static const std::vector<CompiledRule> kPunctuation = compile(kPunctuationRules);
  static const std::vector<CompiledRule> kLate = compile(kLateRules);

  const std::string decoded = url_decoded(checked(prompt));
  std::string text = lower(trimmed(decoded));
  replace_all(text, "<person>", "person");
  text = without_addresses(text, false);
  text = without_addresses(text, true);
  text = html_text(text);
  text = with_rules(kEarly, text);
  text = without_file_names(text);
  text = with_rules(kPunctuation, text);
  text = without_lone_dots(text);
  separate_hyphens(text);
  text = html_unescape(html_unescape(text));
  text = with_rules(kLate, trimmed(text));
  return std::string(trimmed(text));
}

std::string text_preprocessing(std::string_view text) {
  return clean_caption(clean_caption(text));
}

std::string plain_preprocessing(std::string_view text) {
  const std::string lowered = lower(valid_utf8(text));
  return std::string(trimmed(lowered));
}

}  // namespace kinema::text
