// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>
#include <utility>

#include "core/base/checked_math.h"
#include "core/base/error.h"
#include "core/base/json.h"
#include "core/io/message_text.h"

namespace kinema::io {
namespace {

static_assert(std::endian::native == std::endian::little, "tensor bytes are used as they lie");

constexpr std::string_view kPlace = "io.safetensors";
constexpr std::string_view kMetadataKey = "__metadata__";
constexpr std::size_t kMaxDimensions = 64;
constexpr int kMaxSkipDepth = 64;

struct Complaint {
  std::string expected{};
  std::string got{};
  std::string hint{};
};

Error file_error(std::string_view code, std::string_view file, Complaint complaint) {
  return Error(ErrorKind::kBadCheckpoint,
               {.code = "safetensors." + std::string(code),
                .place = std::string(kPlace),
                .subject = std::string(file),
                .expected = std::move(complaint.expected),
                .got = std::move(complaint.got),
                .hint = std::move(complaint.hint)});
}

Error tensor_error(std::string_view code,
                   std::string_view file,
                   std::string_view tensor,
                   Complaint complaint) {
  return file_error(
      code, std::string(file) + ": tensor '" + printable(tensor) + "'", std::move(complaint));
}

std::string text_of(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  }
  return text + "]";
}

std::string text_of(std::uint64_t begin, std::uint64_t end) {
  return "[" + std::to_string(begin) + ", " + std::to_string(end) + ")";
}

/// Bytes of a tensor, or nothing when the count does not fit. Sizes of zero count as one while
/// checking, so that strides computed from the shape cannot overflow either.
std::optional<std::uint64_t> bytes_of(DType dtype, const Shape& shape) {
  std::int64_t product = 1;
  bool empty = false;
  for (const std::int64_t size : shape) {
    empty = empty || size == 0;
    const auto next = checked_mul(product, std::max<std::int64_t>(size, 1));
    if (!next) {
      return std::nullopt;
    }
    product = *next;
  }
  const auto bytes = checked_mul(product, static_cast<std::int64_t>(size_of(dtype)));
  if (!bytes) {
    return std::nullopt;
  }
  return empty ? 0 : static_cast<std::uint64_t>(*bytes);
}

// Reads the header in one pass, without a document in between: with 100,000 tensors the header is
// about 10 MB, and nothing but the entries themselves is kept.
class HeaderHandler {
 public:
  // Names that nlohmann's parser expects of a handler.
  using number_integer_t = Json::number_integer_t;
  using number_unsigned_t = Json::number_unsigned_t;
  using number_float_t = Json::number_float_t;
  using string_t = Json::string_t;
  using binary_t = Json::binary_t;

  HeaderHandler(SafetensorsHeader& header, std::string_view file) : header_(header), file_(file) {}

  bool null() {
    if (state_ == State::kMetadataValue) {  // an absent table
      state_ = State::kTop;
      return true;
    }
    return scalar("null");
  }
  bool boolean(bool value) { return scalar(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) { return scalar(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& text) { return scalar(printable(text, 40)); }
  bool number_unsigned(number_unsigned_t value) {
    if (state_ == State::kShape) {
      add_dimension(value);
      return true;
    }
    if (state_ == State::kOffsets) {
      if (num_offsets_ >= offsets_.size()) {
        throw entry_error("entry", {.expected = "two data_offsets", .got = "more"});
      }
      offsets_[num_offsets_++] = value;
      return true;
    }
    return scalar(std::to_string(value));
  }
  bool string(string_t& value) {
    switch (state_) {
      case State::kMetadataText:
        return metadata_text(value);
      case State::kDTypeValue:
        return dtype_text(value);
      default:
        return scalar("\"" + printable(value, 40) + "\"");
    }
  }
  bool binary(binary_t&) { return scalar("binary"); }

  bool start_object(std::size_t) {
    switch (state_) {
      case State::kStart:
        state_ = State::kTop;
        return true;
      case State::kMetadataValue:
        state_ = State::kMetadata;
        return true;
      case State::kEntryValue:
        state_ = State::kEntry;
        entry_ = {};
        has_dtype_ = has_shape_ = has_offsets_ = false;
        return true;
      case State::kSkip:
        return enter_skipped();
      default:
        return scalar("an object");
    }
  }
  bool key(string_t& value) {
    switch (state_) {
      case State::kTop:
        return top_key(value);
      case State::kMetadata:
        name_ = std::move(value);
        state_ = State::kMetadataText;
        return true;
      case State::kEntry:
        return entry_key(value);
      default:
        return true;  // inside something skipped
    }
  }
  bool end_object() {
    switch (state_) {
      case State::kTop:
        state_ = State::kEnd;
        return true;
      case State::kMetadata:
        state_ = State::kTop;
        return true;
      case State::kEntry:
        finish_entry();
        return true;
      default:
        return leave_skipped();
    }
  }
  bool start_array(std::size_t) {
    switch (state_) {
      case State::kShapeValue:
        state_ = State::kShape;
        return true;
      case State::kOffsetsValue:
        state_ = State::kOffsets;
        num_offsets_ = 0;
        return true;
      case State::kSkip:
        return enter_skipped();
      default:
        return scalar("a list");
    }
  }
  bool end_array() {
    switch (state_) {
      case State::kShape:
        state_ = State::kEntry;
        return true;
      case State::kOffsets:
        if (num_offsets_ != offsets_.size()) {
          throw entry_error("entry",
                            {.expected = "two data_offsets", .got = std::to_string(num_offsets_)});
        }
        entry_.begin = offsets_[0];
        entry_.end = offsets_[1];
        state_ = State::kEntry;
        return true;
      default:
        return leave_skipped();
    }
  }
  bool parse_error(std::size_t position, const std::string&, const std::exception& exception) {
    const std::string text = exception.what();
    const auto reason = text.find("parse error");
    throw json_error((reason == std::string::npos ? text : text.substr(reason, 300)) + " (byte " +
                     std::to_string(position) + " of the header)");
  }

  [[nodiscard]] Error json_error(std::string got) const {
    return file_error("header_json",
                      file_,
                      {.expected = "a header of well-formed JSON",
                       .got = printable(got, 400),
                       .hint = "the file is damaged or not a safetensors file"});
  }

 private:
  enum class State {
    kStart,
    kTop,
    kMetadataValue,
    kMetadata,
    kMetadataText,
    kEntryValue,
    kEntry,
    kDTypeValue,
    kShapeValue,
    kShape,
    kOffsetsValue,
    kOffsets,
    kSkip,
    kEnd,
  };

  bool top_key(string_t& value) {
    if (value == kMetadataKey) {
      if (std::exchange(has_metadata_, true)) {
        throw file_error(
            "duplicate_name", file_, {.expected = "each name once", .got = "'__metadata__' twice"});
      }
      state_ = State::kMetadataValue;
      return true;
    }
    name_ = std::move(value);
    state_ = State::kEntryValue;
    return true;
  }

  bool entry_key(const string_t& value) {
    const auto choose = [&](bool& seen, State next) {
      if (std::exchange(seen, true)) {
        throw entry_error(
            "duplicate_name",
            {.expected = "each field once", .got = "'" + std::string(value) + "' twice"});
      }
      state_ = next;
      return true;
    };
    if (value == "dtype") {
      return choose(has_dtype_, State::kDTypeValue);
    }
    if (value == "shape") {
      return choose(has_shape_, State::kShapeValue);
    }
    if (value == "data_offsets") {
      return choose(has_offsets_, State::kOffsetsValue);
    }
    state_ = State::kSkip;  // the reference reads past fields it does not know
    depth_ = 0;
    return true;
  }

  bool metadata_text(string_t& value) {
    if (!header_.metadata.try_emplace(name_, std::move(value)).second) {
      throw file_error(
          "duplicate_name",
          file_,
          {.expected = "each metadata key once", .got = "'" + printable(name_) + "' twice"});
    }
    state_ = State::kMetadata;
    return true;
  }

  bool dtype_text(const string_t& value) {
    const auto dtype = parse_dtype(value);
    if (!dtype) {
      throw entry_error("dtype",
                        {.expected = "a known dtype such as F32, F16, BF16",
                         .got = "\"" + printable(value, 40) + "\""});
    }
    entry_.dtype = *dtype;
    state_ = State::kEntry;
    return true;
  }

  void add_dimension(std::uint64_t size) {
    if (!std::in_range<std::int64_t>(size)) {
      throw entry_error("overflow", {.expected = "sizes below 2^63", .got = std::to_string(size)});
    }
    if (entry_.shape.size() >= kMaxDimensions) {
      throw entry_error(
          "shape",
          {.expected = "at most " + std::to_string(kMaxDimensions) + " dimensions", .got = "more"});
    }
    entry_.shape.push_back(static_cast<std::int64_t>(size));
  }

  /// A value where the format wants another kind; fine only in fields that are skipped.
  bool scalar(const std::string& got) {
    switch (state_) {
      case State::kSkip:
        if (depth_ == 0) {
          state_ = State::kEntry;
        }
        return true;
      case State::kMetadataValue:
        throw file_error(
            "metadata", file_, {.expected = "an object of strings as '__metadata__'", .got = got});
      case State::kMetadataText:
        throw file_error("metadata",
                         std::string(file_) + ": metadata '" + printable(name_) + "'",
                         {.expected = "a string", .got = got});
      case State::kDTypeValue:
        throw entry_error("dtype", {.expected = "the name of a dtype", .got = got});
      case State::kShapeValue:
      case State::kShape:
        throw entry_error("shape", {.expected = "a list of integers from 0 up", .got = got});
      case State::kOffsetsValue:
      case State::kOffsets:
        throw entry_error("entry",
                          {.expected = "two integers from 0 up as data_offsets", .got = got});
      case State::kEntryValue:
        throw entry_error("entry",
                          {.expected = "an object with dtype, shape, data_offsets", .got = got});
      default:
        throw json_error(got + " instead of an object");
    }
  }

  bool enter_skipped() {
    if (++depth_ > kMaxSkipDepth) {
      throw json_error("nesting deeper than " + std::to_string(kMaxSkipDepth));
    }
    return true;
  }
  bool leave_skipped() {
    if (--depth_ == 0) {
      state_ = State::kEntry;
    }
    return true;
  }

  void finish_entry() {
    if (!has_dtype_ || !has_shape_ || !has_offsets_) {
      throw entry_error("entry",
                        {.expected = "dtype, shape and data_offsets",
                         .got = std::string("no ") + (!has_dtype_   ? "dtype"
                                                      : !has_shape_ ? "shape"
                                                                    : "data_offsets")});
    }
    const auto bytes = bytes_of(entry_.dtype, entry_.shape);
    if (!bytes) {
      throw entry_error("overflow",
                        {.expected = "a byte count below 2^63",
                         .got = "shape " + text_of(entry_.shape) + " of " +
                                std::string(to_string(entry_.dtype))});
    }
    if (entry_.begin > entry_.end) {
      throw entry_error("offsets",
                        {.expected = "data_offsets that begin before they end",
                         .got = text_of(entry_.begin, entry_.end)});
    }
    if (entry_.end - entry_.begin != *bytes) {
      throw entry_error(
          "size_mismatch",
          {.expected = std::to_string(*bytes) + " bytes for shape " + text_of(entry_.shape) +
                       " of " + std::string(to_string(entry_.dtype)),
           .got = std::to_string(entry_.end - entry_.begin) + " bytes at " +
                  text_of(entry_.begin, entry_.end)});
    }
    const auto at = header_.tensors.lower_bound(name_);
    if (at != header_.tensors.end() && at->first == name_) {
      throw entry_error("duplicate_name", {.expected = "each tensor once", .got = "it twice"});
    }
    header_.tensors.emplace_hint(at, std::move(name_), std::move(entry_));
    state_ = State::kTop;
  }

  [[nodiscard]] Error entry_error(std::string_view code, Complaint complaint) const {
    return tensor_error(code, file_, name_, std::move(complaint));
  }

  SafetensorsHeader& header_;
  std::string_view file_;
  State state_ = State::kStart;
  std::string name_;
  SafetensorsHeader::Entry entry_;
  std::array<std::uint64_t, 2> offsets_{};
  std::size_t num_offsets_ = 0;
  int depth_ = 0;
  bool has_metadata_ = false;
  bool has_dtype_ = false;
  bool has_shape_ = false;
  bool has_offsets_ = false;
};

/// Where the JSON lies: after the length, inside the file.
std::string_view header_text(std::span<const std::byte> prefix,
                             std::uint64_t file_size,
                             std::string_view subject) {
  constexpr std::uint64_t kLengthBytes = 8;
  const std::string not_safetensors = "the file is damaged or not a safetensors file";
  if (file_size < kLengthBytes || prefix.size() < kLengthBytes) {
    throw file_error("too_short",
                     subject,
                     {.expected = "at least 8 bytes",
                      .got = format_bytes(std::min<std::uint64_t>(file_size, prefix.size())),
                      .hint = not_safetensors});
  }
  std::uint64_t length = 0;
  std::memcpy(&length, prefix.data(), kLengthBytes);
  if (length > kMaxSafetensorsHeader) {
    throw file_error("header_too_large",
                     subject,
                     {.expected = "a header of at most " + format_bytes(kMaxSafetensorsHeader),
                      .got = format_bytes(length),
                      .hint = not_safetensors});
  }
  if (length > file_size - kLengthBytes || length > prefix.size() - kLengthBytes) {
    throw file_error(
        "header_truncated",
        subject,
        {.expected = "a header of " + format_bytes(length),
         .got = format_bytes(std::min<std::uint64_t>(file_size, prefix.size()) - kLengthBytes),
         .hint = "the file is cut off; download it again"});
  }
  const std::string_view text(reinterpret_cast<const char*>(prefix.data()) + kLengthBytes,
                              static_cast<std::size_t>(length));
  if (text.empty() || text.front() != '{') {
    throw file_error(
        "header_start",
        subject,
        {.expected = "a header that starts with '{'",
         .got = text.empty() ? "an empty header"
                             : "byte " + std::to_string(static_cast<unsigned char>(text.front())),
         .hint = not_safetensors});
  }
  return text;
}

/// Tensors must cover the data section exactly: sorted by offset, each starts where the last ended.
void check_coverage(const SafetensorsHeader& header,
                    std::uint64_t data_size,
                    std::string_view subject) {
  using Item = std::pair<const std::string, SafetensorsHeader::Entry>;
  std::vector<const Item*> order;
  order.reserve(header.tensors.size());
  for (const auto& item : header.tensors) {
    order.push_back(&item);
  }
  std::sort(order.begin(), order.end(), [](const Item* a, const Item* b) {
    return std::pair(a->second.begin, a->second.end) < std::pair(b->second.begin, b->second.end);
  });
  std::uint64_t covered = 0;
  const Item* previous = nullptr;
  for (const Item* item : order) {
    const auto& entry = item->second;
    if (entry.begin != covered) {
      const bool overlap = entry.begin < covered;
      const std::string after =
          previous == nullptr ? "" : " (the end of '" + printable(previous->first) + "')";
      throw tensor_error(overlap ? "overlap" : "hole",
                         subject,
                         item->first,
                         {.expected = "data from byte " + std::to_string(covered) + after,
                          .got = text_of(entry.begin, entry.end),
                          .hint = overlap ? "tensors may not share bytes"
                                          : "bytes that belong to no tensor are not allowed"});
    }
    covered = entry.end;
    previous = item;
  }
  if (covered > data_size) {
    throw tensor_error("data_truncated",
                       subject,
                       previous->first,
                       {.expected = std::to_string(covered) + " bytes of data",
                        .got = std::to_string(data_size),
                        .hint = "the file is cut off; download it again"});
  }
  if (covered < data_size) {
    throw file_error("trailing_data",
                     subject,
                     {.expected = std::to_string(covered) + " bytes of data",
                      .got = std::to_string(data_size),
                      .hint = "bytes that belong to no tensor are not allowed"});
  }
}

}  // namespace

SafetensorsHeader parse_safetensors_header(std::span<const std::byte> prefix,
                                           std::uint64_t file_size,
                                           std::string_view subject) {
  const std::string_view text = header_text(prefix, file_size, subject);
  SafetensorsHeader header;
  HeaderHandler handler(header, subject);
  // The parser takes a NUL for the end of the text, which would hide what follows it.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    throw handler.json_error("a NUL at byte " + std::to_string(nul) + " of the header");
  }
  try {
    Json::sax_parse(text.begin(), text.end(), &handler);
  } catch (const nlohmann::detail::exception& exception) {
    throw handler.json_error(exception.what());
  }
  header.data_offset = 8 + text.size();
  check_coverage(header, file_size - header.data_offset, subject);
  return header;
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
  const MappedFile map = MappedFile::open(path, kPlace);
  SafetensorsHeader header = parse_safetensors_header(map.bytes(), map.bytes().size(), path);
  const auto data = map.bytes().subspan(static_cast<std::size_t>(header.data_offset));
  SafetensorsFile file;
  file.metadata_ = std::move(header.metadata);
  while (!header.tensors.empty()) {
    auto node = header.tensors.extract(header.tensors.begin());
    auto& entry = node.mapped();
    file.tensors_.emplace_hint(
        file.tensors_.end(),
        std::move(node.key()),
        TensorView{.dtype = entry.dtype,
                   .shape = std::move(entry.shape),
                   .bytes = data.subspan(static_cast<std::size_t>(entry.begin),
                                         static_cast<std::size_t>(entry.end - entry.begin)),
                   .owner = map.owner(),
                   .file = path});
  }
  return file;
}

}  // namespace kinema::io
