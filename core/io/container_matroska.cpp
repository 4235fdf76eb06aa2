// SPDX-License-Identifier: Apache-2.0
// Matroska and WebM: EBML elements (RFC 8794) as RFC 9559 lays them out.
#include <algorithm>
#include <bit>
#include <cctype>
#include <cmath>
#include <optional>
#include <vector>

#include "core/io/container_parsers.h"
#include "core/io/utf8.h"

namespace kinema::io::internal {
namespace {

enum Id : std::uint32_t {
  kDocType = 0x4282,
  kSegment = 0x18538067,
  kSeekHead = 0x114D9B74,
  kSeek = 0x4DBB,
  kSeekId = 0x53AB,
  kSeekPosition = 0x53AC,
  kInfo = 0x1549A966,
  kTimestampScale = 0x2AD7B1,
  kDuration = 0x4489,
  kTracks = 0x1654AE6B,
  kTrackEntry = 0xAE,
  kTrackType = 0x83,
  kDefaultDuration = 0x23E383,
  kVideo = 0xE0,
  kPixelWidth = 0xB0,
  kPixelHeight = 0xBA,
  kTags = 0x1254C367,
  kTag = 0x7373,
  kTargets = 0x63C0,
  kTagTrackUid = 0x63C5,
  kSimpleTag = 0x67C8,
  kTagName = 0x45A3,
  kTagString = 0x4487,
  kCluster = 0x1F43B675,
};

struct Element {
  std::uint32_t id = 0;
  std::uint64_t begin = 0;  ///< of the content
  std::uint64_t end = 0;
  bool unknown_size = false;

  [[nodiscard]] std::uint64_t size() const { return end - begin; }
};

class MatroskaParser {
 public:
  explicit MatroskaParser(ContainerReader& reader) : reader_(reader) {}

  ContainerMetadata parse() {
    const Element head = element_at(0, reader_.size());
    metadata_.format = "matroska";
    for_each(head, [&](const Element& element) {
      if (element.id == kDocType && element.size() <= 16 && text_of(element) == "webm") {
        metadata_.format = "webm";
      }
    });
    for (std::uint64_t offset = head.end; offset < reader_.size();) {
      const Element element = element_at(offset, reader_.size());
      if (element.id == kSegment) {
        parse_segment(element);
        break;
      }
      offset = element.end;
    }
    const double seconds = duration_ * static_cast<double>(timestamp_scale_) * 1e-9;
    if (std::isfinite(seconds) && seconds > 0) {
      metadata_.duration_seconds = seconds;
    }
    return std::move(metadata_);
  }

 private:
  /// Value of a variable-length integer; `offset` moves behind it. All ones: nothing (unknown
  /// size).
  std::optional<std::uint64_t> variable_integer(std::uint64_t& offset) {
    const auto first = static_cast<std::uint8_t>(reader_.big_endian(offset, 1));
    const int length = std::countl_zero(first) + 1;
    if (length > 8) {
      throw reader_.error("damaged",
                          "an EBML size of 1 to 8 bytes at byte " + std::to_string(offset),
                          "a byte of zero");
    }
    const std::uint64_t mask = (1ULL << (7 * length)) - 1;
    const std::uint64_t value = reader_.big_endian(offset, length) & mask;
    offset += static_cast<std::uint64_t>(length);
    return value == mask ? std::nullopt : std::optional(value);
  }

  Element element_at(std::uint64_t offset, std::uint64_t end) {
    reader_.count_box();
    const std::uint64_t start = offset;
    const int id_length =
        std::countl_zero(static_cast<std::uint8_t>(reader_.big_endian(offset, 1))) + 1;
    if (id_length > 4) {
      throw reader_.error("damaged",
                          "an EBML ID of 1 to 4 bytes at byte " + std::to_string(offset),
                          "a longer one");
    }
    Element element{.id = static_cast<std::uint32_t>(reader_.big_endian(offset, id_length))};
    offset += static_cast<std::uint64_t>(id_length);
    const auto size = variable_integer(offset);
    // Files that are still being written have a segment and clusters without size.
    const bool may_be_cut = element.id == kSegment;
    if (offset > end || (size && *size > end - offset && !may_be_cut)) {
      const bool top_level = end == reader_.size();
      throw reader_.error(top_level ? "truncated" : "box_size",
                          "an EBML element at byte " + std::to_string(start) +
                              " that ends before byte " + std::to_string(end),
                          size ? std::to_string(*size) + " bytes" : "an unknown size");
    }
    element.begin = offset;
    element.unknown_size = !size;
    element.end = offset + std::min(size.value_or(end - offset), end - offset);
    return element;
  }

  template <typename Visit>
  void for_each(const Element& parent, Visit visit) {
    for (std::uint64_t offset = parent.begin; offset < parent.end;) {
      const Element element = element_at(offset, parent.end);
      visit(element);
      offset = element.end;
    }
  }

  std::uint64_t integer_of(const Element& element) {
    if (element.size() > 8) {
      throw reader_.error(
          "damaged", "an EBML integer of at most 8 bytes", std::to_string(element.size()));
    }
    return element.size() == 0
               ? 0
               : reader_.big_endian(element.begin, static_cast<int>(element.size()));
  }

  double float_of(const Element& element) {
    if (element.size() == 4) {
      return std::bit_cast<float>(static_cast<std::uint32_t>(reader_.big_endian(element.begin, 4)));
    }
    return element.size() == 8 ? std::bit_cast<double>(reader_.big_endian(element.begin, 8)) : 0;
  }

  std::string text_of(const Element& element) {
    std::string text = reader_.text(element.begin, element.size());
    text.resize(std::min(text.size(), text.find('\0')));  // may be padded with zeros
    return text;
  }

  void parse_segment(const Element& segment) {
    segment_ = segment;
    bool past_clusters = false;
    std::uint64_t offset = segment.begin;
    while (offset < segment.end) {
      const Element element = element_at(offset, segment.end);
      if (element.id == kCluster && !past_clusters) {
        past_clusters = true;
        // Everything behind the pictures is found through the seek head; jumping from cluster to
        // cluster is for files without one.
        if (tags_position_) {
          break;
        }
      }
      if (element.unknown_size) {
        break;
      }
      parse_level_one(element);
      if (past_clusters && metadata_.comment) {
        break;
      }
      offset = element.end;
    }
    if (!metadata_.comment && tags_position_ && *tags_position_ < segment.size()) {
      const Element tags = element_at(segment.begin + *tags_position_, segment.end);
      if (tags.id == kTags && !tags.unknown_size) {
        parse_tags(tags);
      }
    }
  }

  void parse_level_one(const Element& element) {
    switch (element.id) {
      case kSeekHead:
        for_each(element, [&](const Element& seek) {
          if (seek.id == kSeek) {
            parse_seek(seek);
          }
        });
        break;
      case kInfo:
        for_each(element, [&](const Element& field) {
          if (field.id == kTimestampScale) {
            timestamp_scale_ = integer_of(field);
          } else if (field.id == kDuration) {
            duration_ = float_of(field);
          }
        });
        break;
      case kTracks:
        for_each(element, [&](const Element& track) {
          if (track.id == kTrackEntry) {
            parse_track(track);
          }
        });
        break;
      case kTags:
        parse_tags(element);
        break;
      default:
        break;
    }
  }

  void parse_seek(const Element& seek) {
    std::uint64_t id = 0;
    std::uint64_t position = 0;
    for_each(seek, [&](const Element& field) {
      if (field.id == kSeekId) {
        id = integer_of(field);
      } else if (field.id == kSeekPosition) {
        position = integer_of(field);
      }
    });
    if (id == kTags) {
      tags_position_ = position;
    }
  }

  void parse_track(const Element& track) {
    constexpr std::uint64_t kVideoTrack = 1;
    bool is_video = false;
    std::uint64_t frame_nanoseconds = 0;
    std::optional<std::int64_t> width;
    std::optional<std::int64_t> height;
    for_each(track, [&](const Element& field) {
      if (field.id == kTrackType) {
        is_video = integer_of(field) == kVideoTrack;
      } else if (field.id == kDefaultDuration) {
        frame_nanoseconds = integer_of(field);
      } else if (field.id == kVideo) {
        for_each(field, [&](const Element& size) {
          constexpr std::uint64_t kLargest = 1U << 30U;
          if (size.id == kPixelWidth && integer_of(size) <= kLargest) {
            width = static_cast<std::int64_t>(integer_of(size));
          } else if (size.id == kPixelHeight && integer_of(size) <= kLargest) {
            height = static_cast<std::int64_t>(integer_of(size));
          }
        });
      }
    });
    if (!is_video || metadata_.width) {
      return;
    }
    metadata_.width = width;
    metadata_.height = height;
    if (frame_nanoseconds > 0) {
      metadata_.fps = 1e9 / static_cast<double>(frame_nanoseconds);
    }
  }

  void parse_tags(const Element& tags) {
    for_each(tags, [&](const Element& tag) {
      if (tag.id != kTag) {
        return;
      }
      bool of_one_track = false;
      std::optional<std::string> comment;
      for_each(tag, [&](const Element& part) {
        if (part.id == kTargets) {
          for_each(part, [&](const Element& target) {
            of_one_track = of_one_track || (target.id == kTagTrackUid && integer_of(target) != 0);
          });
        } else if (part.id == kSimpleTag && !comment) {
          comment = comment_of(part);
        }
      });
      if (!of_one_track && !metadata_.comment && comment) {
        metadata_.comment = std::move(comment);
      }
    });
  }

  std::optional<std::string> comment_of(const Element& simple_tag) {
    bool is_comment = false;
    std::optional<Element> value;
    for_each(simple_tag, [&](const Element& field) {
      if (field.id == kTagName && field.size() < 32) {
        std::string name = text_of(field);
        std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) {
          return static_cast<char>(std::toupper(c));
        });
        is_comment = name == "COMMENT";
      } else if (field.id == kTagString) {
        value = field;
      }
    });
    if (!is_comment || !value) {
      return std::nullopt;
    }
    return utf8_or_latin1(text_of(*value));
  }

  ContainerReader& reader_;
  ContainerMetadata metadata_;
  Element segment_;
  std::optional<std::uint64_t> tags_position_;  ///< from the start of the segment's content
  std::uint64_t timestamp_scale_ = 1'000'000;   ///< nanoseconds
  double duration_ = 0;                         ///< in units of the timestamp scale
};

}  // namespace

ContainerMetadata parse_matroska(ContainerReader& reader) {
  return MatroskaParser(reader).parse();
}

}  // namespace kinema::io::internal
