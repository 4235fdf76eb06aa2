// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/piece.h"

#include <algorithm>
#include <utility>

#include "core/base/error.h"
#include "core/base/file.h"
#include "text/tokenizer/unicode.h"

namespace kinema::text {

Piece::Piece(std::string text, bool track, std::size_t max_bytes)
    : text_(std::move(text)), tracked_(track), max_bytes_(max_bytes) {
  if (tracked_) {
    origins_.reserve(text_.size());
    for (std::size_t i = 0; i < text_.size();) {
      const std::size_t length = utf8_length(text_[i]);
      origins_.insert(origins_.end(), length, static_cast<std::uint32_t>(i));
      i += length;
    }
  }
}

void Piece::check_size() const {
  if (text_.size() > max_bytes_) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "tokenizer.expansion",
                 .place = "text.tokenizer",
                 .subject = "normalised text",
                 .expected = "at most " + format_bytes(max_bytes_),
                 .got = format_bytes(text_.size()),
                 .hint = "the rules of the tokenizer blow the text up"});
  }
}

void Piece::transform(std::span<const Change> changes, std::size_t skipped) {
  std::string text;
  text.reserve(text_.size());
  for (const auto& change : changes) {
    append_utf8(text, change.character);
  }
  if (inserted_ > 0) {
    add_rewritten(text);
    return;
  }
  if (tracked_) {
    std::vector<std::uint32_t> origins(origins_.begin(),
                                       origins_.begin() + static_cast<std::ptrdiff_t>(inserted_));
    origins.reserve(text.size());
    std::size_t at = 0;  // bytes of the input that are used up
    const auto consume = [&](std::size_t characters) {
      for (; characters > 0 && at < text_.size(); --characters) {
        at += utf8_length(text_[at]);
      }
    };
    consume(skipped);
    for (const auto& change : changes) {
      std::uint32_t origin = shift_;
      if (change.change > 0) {
        origin = at == 0 ? shift_ : origins_[at - 1];
      } else if (!origins_.empty()) {
        origin = origins_[std::min(at, origins_.size() - 1)];
        consume(1 + static_cast<std::size_t>(-change.change));
      }
      std::string bytes;
      append_utf8(bytes, change.character);
      origins.insert(origins.end(), bytes.size(), origin);
    }
    origins_ = std::move(origins);
  }
  text_ = std::move(text);
  check_size();
}

void Piece::add_rewritten(std::string_view text) {
  if (inserted_ == text_.size()) {
    text_.insert(0, text);
    inserted_ = text_.size();
  } else {
    text_.replace(inserted_, std::string::npos, text);
  }
  origins_.assign(tracked_ ? text_.size() : 0, shift_);
  check_size();
}

void Piece::assign(std::string text) {
  if (inserted_ > 0) {
    add_rewritten(text);
    return;
  }
  if (tracked_ && text.size() != text_.size()) {
    origins_.assign(text.size(), shift_);
  }
  text_ = std::move(text);
  check_size();
}

void Piece::prepend(std::string_view prefix) {
  if (text_.empty()) {
    return;
  }
  text_.insert(0, prefix);
  inserted_ += inserted_ > 0 ? prefix.size() : 0;
  if (tracked_) {
    origins_.insert(origins_.begin(), prefix.size(), origins_.front());
  }
  check_size();
}

std::size_t Piece::inserted_after_replace(std::span<const MatchSpan> spans,
                                          std::size_t content) const {
  std::size_t count = 0;
  for (const auto& span : spans) {
    if (span.end > inserted_) {
      return count + (span.match || span.begin >= inserted_ ? 0 : inserted_ - span.begin);
    }
    count += span.match ? content : span.end - span.begin;
  }
  return count;
}

void Piece::replace(std::span<const MatchSpan> spans, std::string_view content) {
  const std::size_t inserted = inserted_after_replace(spans, content.size());
  std::string text;
  std::vector<std::uint32_t> origins;
  text.reserve(text_.size());
  for (const auto& span : spans) {
    if (!span.match) {
      text.append(text_, span.begin, span.end - span.begin);
      if (tracked_) {
        origins.insert(origins.end(),
                       origins_.begin() + static_cast<std::ptrdiff_t>(span.begin),
                       origins_.begin() + static_cast<std::ptrdiff_t>(span.end));
      }
      continue;
    }
    text.append(content);
    if (tracked_) {
      origins.insert(
          origins.end(), content.size(), span.end == 0 ? shift_ : origins_[span.end - 1]);
    }
    if (text.size() > max_bytes_) {
      break;
    }
  }
  text_ = std::move(text);
  origins_ = std::move(origins);
  inserted_ = std::min(inserted, text_.size());
  check_size();
}

void Piece::strip(bool left, bool right) {
  std::size_t begin = 0;
  while (left && begin < text_.size()) {
    std::size_t after = begin;
    if (!is_white_space(next_code_point(text_, after))) {
      break;
    }
    begin = after;
  }
  std::size_t end = text_.size();
  while (right && end > begin) {
    std::size_t before = end;
    if (!is_white_space(previous_code_point(text_, before))) {
      break;
    }
    end = before;
  }
  if (begin == 0 && end == text_.size()) {
    return;
  }
  if (inserted_ > 0) {
    add_rewritten(std::string(text_, begin, end - begin));
    return;
  }
  text_ = text_.substr(begin, end - begin);
  if (tracked_) {
    origins_ = {origins_.begin() + static_cast<std::ptrdiff_t>(begin),
                origins_.begin() + static_cast<std::ptrdiff_t>(end)};
  }
}

Piece Piece::slice(std::size_t begin, std::size_t end) const {
  Piece part;
  part.text_ = text_.substr(begin, end - begin);
  part.tracked_ = tracked_;
  part.max_bytes_ = max_bytes_;
  part.inserted_ = std::min(inserted_ - std::min(inserted_, begin), end - begin);
  if (tracked_) {
    part.origins_ = {origins_.begin() + static_cast<std::ptrdiff_t>(begin),
                     origins_.begin() + static_cast<std::ptrdiff_t>(end)};
    part.shift_ = part.origins_.empty() ? shift_ : part.origins_.front();
  }
  return part;
}

}  // namespace kinema::text
