// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>
#include <map>
#include <utility>

#include <unicode/bytestream.h>
#include <unicode/normalizer2.h>
#include <unicode/uchar.h>
#include <unicode/uniset.h>
#include <unicode/uscript.h>

#include "core/base/error.h"

namespace kinema::text {
namespace {

enum class Group : std::uint8_t {
  kUpper,
  kLower,
  kModifier,
  kOtherLetter,
  kDigit,
  kMark,
  kPunctuation,
  kSymbol
};

struct NewRange {
  char32_t first;
  char32_t last;
  Group group;
};

// Characters of Unicode 15.1 and 16.0 (UnicodeData.txt).
constexpr std::array kNewRanges = {
    NewRange{0x0897, 0x0897, Group::kMark},
    NewRange{0x1B4E, 0x1B4F, Group::kPunctuation},
    NewRange{0x1B7F, 0x1B7F, Group::kPunctuation},
    NewRange{0x1C89, 0x1C89, Group::kUpper},
    NewRange{0x1C8A, 0x1C8A, Group::kLower},
    NewRange{0x2427, 0x2429, Group::kSymbol},
    NewRange{0x2FFC, 0x2FFF, Group::kSymbol},
    NewRange{0x31E4, 0x31E5, Group::kSymbol},
    NewRange{0x31EF, 0x31EF, Group::kSymbol},
    NewRange{0xA7CB, 0xA7CC, Group::kUpper},
    NewRange{0xA7CD, 0xA7CD, Group::kLower},
    NewRange{0xA7DA, 0xA7DA, Group::kUpper},
    NewRange{0xA7DB, 0xA7DB, Group::kLower},
    NewRange{0xA7DC, 0xA7DC, Group::kUpper},
    NewRange{0x105C0, 0x105F3, Group::kOtherLetter},
    NewRange{0x10D40, 0x10D49, Group::kDigit},
    NewRange{0x10D4A, 0x10D4D, Group::kOtherLetter},
    NewRange{0x10D4E, 0x10D4E, Group::kModifier},
    NewRange{0x10D4F, 0x10D4F, Group::kOtherLetter},
    NewRange{0x10D50, 0x10D65, Group::kUpper},
    NewRange{0x10D69, 0x10D6D, Group::kMark},
    NewRange{0x10D6E, 0x10D6E, Group::kPunctuation},
    NewRange{0x10D6F, 0x10D6F, Group::kModifier},
    NewRange{0x10D70, 0x10D85, Group::kLower},
    NewRange{0x10D8E, 0x10D8F, Group::kSymbol},
    NewRange{0x10EC2, 0x10EC4, Group::kOtherLetter},
    NewRange{0x10EFC, 0x10EFC, Group::kMark},
    NewRange{0x11380, 0x11389, Group::kOtherLetter},
    NewRange{0x1138B, 0x1138B, Group::kOtherLetter},
    NewRange{0x1138E, 0x1138E, Group::kOtherLetter},
    NewRange{0x11390, 0x113B5, Group::kOtherLetter},
    NewRange{0x113B7, 0x113B7, Group::kOtherLetter},
    NewRange{0x113B8, 0x113C0, Group::kMark},
    NewRange{0x113C2, 0x113C2, Group::kMark},
    NewRange{0x113C5, 0x113C5, Group::kMark},
    NewRange{0x113C7, 0x113CA, Group::kMark},
    NewRange{0x113CC, 0x113D0, Group::kMark},
    NewRange{0x113D1, 0x113D1, Group::kOtherLetter},
    NewRange{0x113D2, 0x113D2, Group::kMark},
    NewRange{0x113D3, 0x113D3, Group::kOtherLetter},
    NewRange{0x113D4, 0x113D5, Group::kPunctuation},
    NewRange{0x113D7, 0x113D8, Group::kPunctuation},
    NewRange{0x113E1, 0x113E2, Group::kMark},
    NewRange{0x116D0, 0x116E3, Group::kDigit},
    NewRange{0x11BC0, 0x11BE0, Group::kOtherLetter},
    NewRange{0x11BE1, 0x11BE1, Group::kPunctuation},
    NewRange{0x11BF0, 0x11BF9, Group::kDigit},
    NewRange{0x11F5A, 0x11F5A, Group::kMark},
    NewRange{0x13460, 0x143FA, Group::kOtherLetter},
    NewRange{0x16100, 0x1611D, Group::kOtherLetter},
    NewRange{0x1611E, 0x1612F, Group::kMark},
    NewRange{0x16130, 0x16139, Group::kDigit},
    NewRange{0x16D40, 0x16D42, Group::kModifier},
    NewRange{0x16D43, 0x16D6A, Group::kOtherLetter},
    NewRange{0x16D6B, 0x16D6C, Group::kModifier},
    NewRange{0x16D6D, 0x16D6F, Group::kPunctuation},
    NewRange{0x16D70, 0x16D79, Group::kDigit},
    NewRange{0x18CFF, 0x18CFF, Group::kOtherLetter},
    NewRange{0x1CC00, 0x1CCEF, Group::kSymbol},
    NewRange{0x1CCF0, 0x1CCF9, Group::kDigit},
    NewRange{0x1CD00, 0x1CEB3, Group::kSymbol},
    NewRange{0x1E5D0, 0x1E5ED, Group::kOtherLetter},
    NewRange{0x1E5EE, 0x1E5EF, Group::kMark},
    NewRange{0x1E5F0, 0x1E5F0, Group::kOtherLetter},
    NewRange{0x1E5F1, 0x1E5FA, Group::kDigit},
    NewRange{0x1E5FF, 0x1E5FF, Group::kPunctuation},
    NewRange{0x1F8B2, 0x1F8BB, Group::kSymbol},
    NewRange{0x1F8C0, 0x1F8C1, Group::kSymbol},
    NewRange{0x1FA89, 0x1FA89, Group::kSymbol},
    NewRange{0x1FA8F, 0x1FA8F, Group::kSymbol},
    NewRange{0x1FABE, 0x1FABE, Group::kSymbol},
    NewRange{0x1FAC6, 0x1FAC6, Group::kSymbol},
    NewRange{0x1FADC, 0x1FADC, Group::kSymbol},
    NewRange{0x1FADF, 0x1FADF, Group::kSymbol},
    NewRange{0x1FAE9, 0x1FAE9, Group::kSymbol},
    NewRange{0x1FBCB, 0x1FBEF, Group::kSymbol},
    NewRange{0x2EBF0, 0x2EE5D, Group::kOtherLetter},
};

// Marks that are alphabetic in Unicode 16 and not yet in Unicode 15 (DerivedCoreProperties.txt).
constexpr std::array<std::pair<char32_t, char32_t>, 11> kNewAlphabeticMarks = {
    {{0x0363, 0x036F},
     {0x0897, 0x0897},
     {0x1DD3, 0x1DE6},
     {0x10D69, 0x10D69},
     {0x10EFC, 0x10EFC},
     {0x113B8, 0x113C0},
     {0x113C2, 0x113C2},
     {0x113C5, 0x113C5},
     {0x113C7, 0x113CA},
     {0x113CC, 0x113CD},
     {0x1611E, 0x1612E}}};

// Lower case pairs of Unicode 16 and 17 that ICU lacks: [first, last] + delta, every code point.
struct CaseRange {
  char32_t first;
  char32_t last;
  std::int32_t delta;
};
constexpr std::array kNewLowerCase = {
    CaseRange{0x1C89, 0x1C89, 1},
    CaseRange{0xA7CB, 0xA7CB, 0x264 - 0xA7CB},
    CaseRange{0xA7CC, 0xA7CC, 1},
    CaseRange{0xA7CE, 0xA7CE, 1},
    CaseRange{0xA7D2, 0xA7D2, 1},
    CaseRange{0xA7D4, 0xA7D4, 1},
    CaseRange{0xA7DA, 0xA7DA, 1},
    CaseRange{0xA7DC, 0xA7DC, 0x19B - 0xA7DC},
    CaseRange{0x10D50, 0x10D65, 0x20},
    CaseRange{0x16EA0, 0x16EB8, 0x1B},
};

constexpr std::uint32_t bit(Group group) {
  return 1U << static_cast<unsigned>(group);
}
constexpr std::uint32_t kLetterGroups =
    bit(Group::kUpper) | bit(Group::kLower) | bit(Group::kModifier) | bit(Group::kOtherLetter);
constexpr std::uint32_t kWordGroups = kLetterGroups | bit(Group::kDigit) | bit(Group::kMark);

struct Property {
  std::string_view name;
  std::uint32_t groups;
};
constexpr std::array kProperties = {
    Property{"L", kLetterGroups},
    Property{"Lu", bit(Group::kUpper)},
    Property{"Ll", bit(Group::kLower)},
    Property{"Lm", bit(Group::kModifier)},
    Property{"Lo", bit(Group::kOtherLetter)},
    Property{"N", bit(Group::kDigit)},
    Property{"Nd", bit(Group::kDigit)},
    Property{"M", bit(Group::kMark)},
    Property{"P", bit(Group::kPunctuation)},
    Property{"S", bit(Group::kSymbol)},
    Property{"Alphabetic", kLetterGroups},
    Property{"Word", kWordGroups},
};

bool is_newer(char32_t code_point, std::uint32_t groups) {
  if (u_charType(static_cast<UChar32>(code_point)) != U_UNASSIGNED) {
    return false;
  }
  const auto after = std::upper_bound(
      kNewRanges.begin(), kNewRanges.end(), code_point, [](char32_t value, const NewRange& range) {
        return value < range.first;
      });
  if (after == kNewRanges.begin()) {
    return false;
  }
  const NewRange& range = *std::prev(after);
  return code_point <= range.last && (groups & bit(range.group)) != 0;
}

bool has_category(char32_t code_point, std::uint32_t mask) {
  return (U_GET_GC_MASK(static_cast<UChar32>(code_point)) & mask) != 0;
}

bool is_at_least_as_old_as(char32_t code_point, std::uint8_t major) {
  UVersionInfo version{};
  u_charAge(static_cast<UChar32>(code_point), version);
  return version[0] != 0 && version[0] <= major;
}

[[noreturn]] void icu_failed(UErrorCode status, const char* what) {
  throw Error(ErrorKind::kUnsupported,
              {.code = "tokenizer.icu",
               .place = "text.tokenizer",
               .subject = what,
               .expected = "Unicode data from ICU",
               .got = u_errorName(status),
               .hint = "the installation of libicu is damaged"});
}

const icu::Normalizer2& plain_normalizer(NormalForm form) {
  UErrorCode status = U_ZERO_ERROR;
  const icu::Normalizer2* normalizer = nullptr;
  switch (form) {
    case NormalForm::kNfc:
      normalizer = icu::Normalizer2::getNFCInstance(status);
      break;
    case NormalForm::kNfd:
      normalizer = icu::Normalizer2::getNFDInstance(status);
      break;
    case NormalForm::kNfkc:
      normalizer = icu::Normalizer2::getNFKCInstance(status);
      break;
    case NormalForm::kNfkd:
      normalizer = icu::Normalizer2::getNFKDInstance(status);
      break;
  }
  if (U_FAILURE(status) || normalizer == nullptr) {
    icu_failed(status, "normal form");
  }
  return *normalizer;
}

const icu::UnicodeSet& unicode_9() {
  static const icu::UnicodeSet kUnicode9 = [] {
    UErrorCode status = U_ZERO_ERROR;
    icu::UnicodeSet set(icu::UnicodeString(u"[[:Age=9.0:]]"), status);
    if (U_FAILURE(status)) {
      icu_failed(status, "characters of Unicode 9");
    }
    set.freeze();
    return set;
  }();
  return kUnicode9;
}

bool is_ascii(std::string_view text) {
  return std::all_of(
      text.begin(), text.end(), [](char c) { return static_cast<signed char>(c) >= 0; });
}

// One step of the decoder for text that may be ill-formed. Returns the length of the maximal
// sequence at `position`; `valid` says whether it is a character.
std::size_t measure(std::string_view bytes, std::size_t position, bool& valid) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(bytes[position + i]); };
  const std::size_t left = bytes.size() - position;
  const unsigned lead = at(0);
  valid = true;
  if (lead < 0x80) {
    return 1;
  }
  std::size_t length = 0;
  unsigned low = 0x80;
  unsigned high = 0xBF;
  if (lead >= 0xC2 && lead <= 0xDF) {
    length = 2;
  } else if (lead >= 0xE0 && lead <= 0xEF) {
    length = 3;
    low = lead == 0xE0 ? 0xA0 : low;
    high = lead == 0xED ? 0x9F : high;
  } else if (lead >= 0xF0 && lead <= 0xF4) {
    length = 4;
    low = lead == 0xF0 ? 0x90 : low;
    high = lead == 0xF4 ? 0x8F : high;
  } else {
    valid = false;
    return 1;
  }
  for (std::size_t i = 1; i < length; ++i) {
    if (i >= left || at(i) < low || at(i) > high) {
      valid = false;
      return i;
    }
    low = 0x80;
    high = 0xBF;
  }
  return length;
}

// ---- grapheme clusters ----

bool is_conjunct_script(char32_t code_point) {
  UErrorCode status = U_ZERO_ERROR;
  switch (uscript_getScript(static_cast<UChar32>(code_point), &status)) {
    case USCRIPT_BENGALI:
    case USCRIPT_DEVANAGARI:
    case USCRIPT_GUJARATI:
    case USCRIPT_MALAYALAM:
    case USCRIPT_ORIYA:
    case USCRIPT_TELUGU:
      return true;
    default:
      return false;
  }
}

bool is_conjunct_consonant(char32_t code_point) {
  return code_point >= 0x900 && code_point < 0xE00 &&
         u_getIntPropertyValue(static_cast<UChar32>(code_point), UCHAR_INDIC_SYLLABIC_CATEGORY) ==
             U_INSC_CONSONANT &&
         is_conjunct_script(code_point);
}

bool is_conjunct_linker(char32_t code_point) {
  return code_point == 0x94D || code_point == 0x9CD || code_point == 0xACD || code_point == 0xB4D ||
         code_point == 0xC4D || code_point == 0xD4D;
}

// State of the rules that look back over more than one character.
struct ClusterState {
  int previous = U_GCB_OTHER;
  bool pictographic = false;         // \p{Extended_Pictographic} Extend*
  bool pictographic_joined = false;  // ... ZWJ
  bool consonant = false;            // consonant [Extend Linker]*
  bool linked = false;               // ... with at least one linker
  bool odd_regional = false;
};

// Marks that ICU does not know yet extend a cluster, those of Unicode 17 included.
int cluster_class(char32_t code_point) {
  const int kind =
      u_getIntPropertyValue(static_cast<UChar32>(code_point), UCHAR_GRAPHEME_CLUSTER_BREAK);
  const bool unicode_17 = (code_point >= 0x1ACF && code_point <= 0x1ADD) ||
                          (code_point >= 0x1AE0 && code_point <= 0x1AEB);
  return kind == U_GCB_OTHER && (unicode_17 || is_newer(code_point, bit(Group::kMark)))
             ? U_GCB_EXTEND
             : kind;
}

void advance(ClusterState& state, char32_t code_point, int kind) {
  const bool extend = kind == U_GCB_EXTEND || kind == U_GCB_ZWJ;
  state.pictographic_joined = state.pictographic && kind == U_GCB_ZWJ;
  const bool picture =
      u_hasBinaryProperty(static_cast<UChar32>(code_point), UCHAR_EXTENDED_PICTOGRAPHIC);
  state.pictographic = picture || (state.pictographic && kind == U_GCB_EXTEND);
  if (is_conjunct_consonant(code_point)) {
    state.consonant = true;
    state.linked = false;
  } else if (state.consonant && is_conjunct_linker(code_point)) {
    state.linked = true;
  } else if (!(state.consonant && extend && code_point != 0x200C)) {
    state.consonant = false;
    state.linked = false;
  }
  state.odd_regional = kind == U_GCB_REGIONAL_INDICATOR && !state.odd_regional;
  state.previous = kind;
}

bool breaks_before(const ClusterState& state, char32_t code_point, int kind) {
  const int previous = state.previous;
  if (previous == U_GCB_CR && kind == U_GCB_LF) {
    return false;
  }
  const auto is_control = [](int k) {
    return k == U_GCB_CONTROL || k == U_GCB_CR || k == U_GCB_LF;
  };
  if (is_control(previous) || is_control(kind)) {
    return true;
  }
  if (previous == U_GCB_L &&
      (kind == U_GCB_L || kind == U_GCB_V || kind == U_GCB_LV || kind == U_GCB_LVT)) {
    return false;
  }
  if ((previous == U_GCB_LV || previous == U_GCB_V) && (kind == U_GCB_V || kind == U_GCB_T)) {
    return false;
  }
  if ((previous == U_GCB_LVT || previous == U_GCB_T) && kind == U_GCB_T) {
    return false;
  }
  if (kind == U_GCB_EXTEND || kind == U_GCB_ZWJ || kind == U_GCB_SPACING_MARK ||
      previous == U_GCB_PREPEND) {
    return false;
  }
  if (state.linked && is_conjunct_consonant(code_point)) {
    return false;
  }
  if (state.pictographic_joined &&
      u_hasBinaryProperty(static_cast<UChar32>(code_point), UCHAR_EXTENDED_PICTOGRAPHIC)) {
    return false;
  }
  return !(kind == U_GCB_REGIONAL_INDICATOR && state.odd_regional);
}

}  // namespace

char32_t next_code_point(std::string_view text, std::size_t& position) {
  const auto byte = [&](std::size_t i) {
    return static_cast<char32_t>(static_cast<unsigned char>(text[i]));
  };
  const char32_t lead = byte(position);
  const std::size_t length = std::min(utf8_length(text[position]), text.size() - position);
  char32_t code_point = lead;
  if (length == 2) {
    code_point = ((lead & 0x1FU) << 6) | (byte(position + 1) & 0x3FU);
  } else if (length == 3) {
    code_point =
        ((lead & 0x0FU) << 12) | ((byte(position + 1) & 0x3FU) << 6) | (byte(position + 2) & 0x3FU);
  } else if (length == 4) {
    code_point = ((lead & 0x07U) << 18) | ((byte(position + 1) & 0x3FU) << 12) |
                 ((byte(position + 2) & 0x3FU) << 6) | (byte(position + 3) & 0x3FU);
  }
  position += length;
  return code_point;
}

char32_t previous_code_point(std::string_view text, std::size_t& position) {
  --position;
  while (position > 0 && !is_boundary(text, position)) {
    --position;
  }
  std::size_t copy = position;
  return next_code_point(text, copy);
}

void append_utf8(std::string& text, char32_t code_point) {
  const auto put = [&](char32_t value) { text.push_back(static_cast<char>(value)); };
  if (code_point < 0x80) {
    put(code_point);
  } else if (code_point < 0x800) {
    put(0xC0U | (code_point >> 6));
    put(0x80U | (code_point & 0x3FU));
  } else if (code_point < 0x10000) {
    put(0xE0U | (code_point >> 12));
    put(0x80U | ((code_point >> 6) & 0x3FU));
    put(0x80U | (code_point & 0x3FU));
  } else {
    put(0xF0U | (code_point >> 18));
    put(0x80U | ((code_point >> 12) & 0x3FU));
    put(0x80U | ((code_point >> 6) & 0x3FU));
    put(0x80U | (code_point & 0x3FU));
  }
}

std::string valid_utf8(std::string_view bytes) {
  std::string text;
  text.reserve(bytes.size());
  for (std::size_t i = 0; i < bytes.size();) {
    bool valid = false;
    const std::size_t length = measure(bytes, i, valid);
    if (valid) {
      text.append(bytes.substr(i, length));
    } else {
      text.append("\xEF\xBF\xBD");
    }
    i += length;
  }
  return text;
}

bool is_valid_utf8(std::string_view bytes) {
  for (std::size_t i = 0; i < bytes.size();) {
    bool valid = false;
    i += measure(bytes, i, valid);
    if (!valid) {
      return false;
    }
  }
  return true;
}

bool is_white_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || c == 0x20 || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}

bool is_numeric(char32_t c) {
  return has_category(c, U_GC_N_MASK) || is_newer(c, bit(Group::kDigit));
}

bool is_word(char32_t c) {
  return u_hasBinaryProperty(static_cast<UChar32>(c), UCHAR_ALPHABETIC) ||
         has_category(c, U_GC_M_MASK | U_GC_ND_MASK | U_GC_PC_MASK) || c == 0x200C || c == 0x200D ||
         is_newer(c, kWordGroups);
}

bool is_punctuation(char32_t c) {
  if (c < 0x80) {
    return (c >= 0x21 && c <= 0x2F) || (c >= 0x3A && c <= 0x40) || (c >= 0x5B && c <= 0x60) ||
           (c >= 0x7B && c <= 0x7E);
  }
  // The last two left the category after Unicode 8.
  return (has_category(c, U_GC_P_MASK) && is_at_least_as_old_as(c, 8)) || c == 0x166D ||
         c == 0x111C9;
}

bool is_combining_mark(char32_t c) {
  if (c == 0x1CF2 || c == 0x1CF3) {
    return true;  // marks until Unicode 11
  }
  return has_category(c, U_GC_M_MASK) && is_at_least_as_old_as(c, 9) && c != 0x111C9;
}

const std::string& newer_code_points(std::string_view name) {
  // Written as they are, not as escapes: they are no syntax, and ICU reads them ten times as fast.
  static const std::map<std::string_view, std::string> kSets = [] {
    std::map<std::string_view, std::string> sets;
    for (const auto& entry : kProperties) {
      std::string& set = sets[entry.name];
      const auto add = [&](char32_t first, char32_t last) {
        append_utf8(set, first);
        if (first != last) {
          set += '-';
          append_utf8(set, last);
        }
      };
      for (const auto& range : kNewRanges) {
        if ((entry.groups & bit(range.group)) != 0) {
          add(range.first, range.last);
        }
      }
      if (entry.name == "Alphabetic") {
        for (const auto& [first, last] : kNewAlphabeticMarks) {
          add(first, last);
        }
      }
    }
    return sets;
  }();
  static const std::string kNothing;
  const auto found = kSets.find(name);
  return found == kSets.end() ? kNothing : found->second;
}

std::string lower_case(std::string_view text) {
  std::string lower;
  lower.reserve(text.size());
  for (std::size_t i = 0; i < text.size();) {
    const char32_t c = next_code_point(text, i);
    if (c == 0x130) {
      lower.append("i\xCC\x87");
      continue;
    }
    auto mapped = static_cast<char32_t>(u_tolower(static_cast<UChar32>(c)));
    if (mapped == c && c >= 0x1C89) {
      for (const auto& range : kNewLowerCase) {
        if (c >= range.first && c <= range.last) {
          mapped = static_cast<char32_t>(static_cast<std::int32_t>(c) + range.delta);
        }
      }
    }
    append_utf8(lower, mapped);
  }
  return lower;
}

std::string normalize(NormalForm form, std::string_view text) {
  if (is_ascii(text)) {
    return std::string(text);
  }
  const icu::FilteredNormalizer2 normalizer(plain_normalizer(form), unicode_9());
  UErrorCode status = U_ZERO_ERROR;
  std::string result;
  icu::StringByteSink<std::string> sink(&result);
  normalizer.normalizeUTF8(0,
                           icu::StringPiece(text.data(), static_cast<std::int32_t>(text.size())),
                           sink,
                           nullptr,
                           status);
  if (U_FAILURE(status)) {
    icu_failed(status, "normal form");
  }
  return result;
}

bool normalizes_apart(NormalForm form, char32_t code_point) {
  const icu::FilteredNormalizer2 normalizer(plain_normalizer(form), unicode_9());
  return normalizer.hasBoundaryBefore(static_cast<UChar32>(code_point)) != 0;
}

std::size_t grapheme_end(std::string_view text, std::size_t position) {
  ClusterState state;
  std::size_t end = position;
  const char32_t first = next_code_point(text, end);
  if (end < text.size() && first >= 0x20 && first < 0x7F &&
      static_cast<signed char>(text[end]) >= 0) {
    return end;  // ASCII before ASCII
  }
  advance(state, first, cluster_class(first));
  while (end < text.size()) {
    std::size_t after = end;
    const char32_t next = next_code_point(text, after);
    const int kind = cluster_class(next);
    if (breaks_before(state, next, kind)) {
      break;
    }
    advance(state, next, kind);
    end = after;
  }
  return end;
}

std::optional<std::string> decode_base64(std::string_view text) {
  if (text.size() % 4 != 0) {
    return std::nullopt;
  }
  const auto value = [](char c) -> int {
    if (c >= 'A' && c <= 'Z') {
      return c - 'A';
    }
    if (c >= 'a' && c <= 'z') {
      return c - 'a' + 26;
    }
    if (c >= '0' && c <= '9') {
      return c - '0' + 52;
    }
    return c == '+' ? 62 : c == '/' ? 63 : -1;
  };
  std::string bytes;
  bytes.reserve(text.size() / 4 * 3);
  for (std::size_t i = 0; i < text.size(); i += 4) {
    const bool last = i + 4 == text.size();
    const int padding = last ? (text[i + 3] != '=' ? 0 : text[i + 2] == '=' ? 2 : 1) : 0;
    std::uint32_t group = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const int digit = static_cast<int>(k) >= 4 - padding ? 0 : value(text[i + k]);
      if (digit < 0) {
        return std::nullopt;
      }
      group = (group << 6) | static_cast<std::uint32_t>(digit);
    }
    bytes.push_back(static_cast<char>(group >> 16));
    if (padding < 2) {
      bytes.push_back(static_cast<char>(group >> 8));
    }
    if (padding < 1) {
      bytes.push_back(static_cast<char>(group));
    }
  }
  return bytes;
}

}  // namespace kinema::text
