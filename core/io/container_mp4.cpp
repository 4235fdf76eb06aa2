// SPDX-License-Identifier: Apache-2.0
// MP4 and MOV: boxes of ISO/IEC 14496-12, metadata items as iTunes and QuickTime write them.
#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "core/io/container_parsers.h"
#include "core/io/utf8.h"

namespace kinema::io::internal {
namespace {

constexpr std::uint32_t type_of(std::string_view name) {
  std::uint32_t type = 0;
  for (const char c : name) {
    type = (type << 8U) | static_cast<unsigned char>(c);
  }
  return type;
}

constexpr std::uint32_t kCommentItem = type_of(
    "\xA9"
    "cmt");

struct Box {
  std::uint32_t type = 0;
  std::uint64_t begin = 0;  ///< of the payload
  std::uint64_t end = 0;
  bool to_end_of_file = false;

  [[nodiscard]] std::uint64_t size() const { return end - begin; }
};

std::string name_of(std::uint32_t type) {
  std::string name;
  for (int shift = 24; shift >= 0; shift -= 8) {
    const auto byte = static_cast<unsigned char>((type >> shift) & 0xFFU);
    name += byte >= 0x20 && byte < 0x7F ? static_cast<char>(byte) : '?';
  }
  return name;
}

/// The box at `offset` in a parent that ends at `end`; nothing when the rest is no box (QuickTime
/// ends lists with four zero bytes).
std::optional<Box> box_at(ContainerReader& reader,
                          std::uint64_t offset,
                          std::uint64_t end,
                          bool top_level) {
  if (end - offset < 8) {
    return std::nullopt;
  }
  reader.count_box();
  Box box{.type = static_cast<std::uint32_t>(reader.big_endian(offset + 4, 4))};
  std::uint64_t size = reader.big_endian(offset, 4);
  std::uint64_t header = 8;
  if (size == 1) {
    header = 16;
    size = end - offset < header ? 0 : reader.big_endian(offset + 8, 8);
  } else if (size == 0) {
    if (!top_level) {
      return std::nullopt;
    }
    box.to_end_of_file = true;
    size = end - offset;
  }
  const auto named = [&] {
    return "box '" + name_of(box.type) + "' at byte " + std::to_string(offset);
  };
  if (size < header) {
    throw reader.error("box_size",
                       named() + " of at least " + std::to_string(header) + " bytes",
                       std::to_string(size));
  }
  if (size > end - offset) {
    throw reader.error(top_level ? "truncated" : "box_size",
                       named() + " of at most " + std::to_string(end - offset) + " bytes",
                       std::to_string(size));
  }
  box.begin = offset + header;
  box.end = offset + size;
  return box;
}

template <typename Visit>
void for_each_box(ContainerReader& reader,
                  std::uint64_t begin,
                  std::uint64_t end,
                  Visit visit,
                  bool top_level = false) {
  for (std::uint64_t offset = begin; offset < end;) {
    const auto box = box_at(reader, offset, end, top_level);
    if (!box) {
      return;
    }
    visit(*box);
    offset = box->end;
  }
}

std::string utf16_to_utf8(const std::string& bytes) {
  std::string text;
  const auto unit = [&](std::size_t i) -> char32_t {
    return (static_cast<char32_t>(static_cast<unsigned char>(bytes[i])) << 8) |
           static_cast<unsigned char>(bytes[i + 1]);
  };
  for (std::size_t i = 0; i + 1 < bytes.size(); i += 2) {
    char32_t code = unit(i);
    const bool high = code >= 0xD800 && code < 0xDC00;
    if (high && i + 3 < bytes.size() && unit(i + 2) >= 0xDC00 && unit(i + 2) < 0xE000) {
      code = 0x10000 + ((code - 0xD800) << 10) + (unit(i + 2) - 0xDC00);
      i += 2;
    } else if (code >= 0xD800 && code < 0xE000) {
      code = 0xFFFD;
    }
    append_utf8(text, code);
  }
  return text;
}

class Mp4Parser {
 public:
  explicit Mp4Parser(ContainerReader& reader) : reader_(reader) {}

  ContainerMetadata parse() {
    metadata_.format = "mov";  // a file without ftyp is QuickTime's
    for_each_box(reader_, 0, reader_.size(), [&](const Box& box) { visit_top_level(box); }, true);
    if (track_) {
      metadata_.width = track_->width;
      metadata_.height = track_->height;
      metadata_.fps = track_->fps;
    }
    return std::move(metadata_);
  }

 private:
  struct Track {
    bool is_video = false;
    std::optional<std::int64_t> width;
    std::optional<std::int64_t> height;
    std::optional<double> fps;
    double seconds = 0;
    std::uint64_t timescale = 0;
    std::uint64_t samples = 0;
    std::uint64_t constant_delta = 0;  ///< of every sample, in units of the timescale
  };

  void visit_top_level(const Box& box) {
    switch (box.type) {
      case type_of("ftyp"):
        if (box.size() >= 4 && reader_.big_endian(box.begin, 4) != type_of("qt  ")) {
          metadata_.format = "mp4";
        }
        break;
      case type_of("moov"):
        parse_moov(box);
        break;
      case type_of("uuid"):
        if (!metadata_.xmp && box.size() >= 16 && reader_.text(box.begin, 16) == kXmpUuid) {
          metadata_.xmp = reader_.text(box.begin + 16, box.size() - 16);
        }
        break;
      default:
        break;
    }
  }

  void parse_moov(const Box& moov) {
    for_each_box(reader_, moov.begin, moov.end, [&](const Box& box) {
      switch (box.type) {
        case type_of("mvhd"):
          if (const double seconds = header_seconds(box, nullptr); seconds > 0) {
            metadata_.duration_seconds = seconds;
          }
          break;
        case type_of("mvex"):
          parse_mvex(box);
          break;
        case type_of("trak"):
          parse_track(box);
          break;
        case type_of("udta"):
          parse_udta(box);
          break;
        case type_of("meta"):
          parse_meta(box);
          break;
        default:
          break;
      }
    });
  }

  /// Duration of mvhd or mdhd: version, flags, two times, timescale, duration.
  double header_seconds(const Box& box, std::uint64_t* timescale_out) {
    const bool wide = box.size() >= 1 && reader_.big_endian(box.begin, 1) == 1;
    if (box.size() < (wide ? 32U : 20U)) {
      return 0;
    }
    const std::uint64_t timescale = reader_.big_endian(box.begin + (wide ? 20 : 12), 4);
    const std::uint64_t duration =
        wide ? reader_.big_endian(box.begin + 24, 8) : reader_.big_endian(box.begin + 16, 4);
    if (timescale_out != nullptr) {
      *timescale_out = timescale;
    } else {
      movie_timescale_ = timescale;
    }
    const bool unknown = duration == (wide ? ~0ULL : 0xFFFFFFFFULL);
    return timescale == 0 || unknown
               ? 0
               : static_cast<double>(duration) / static_cast<double>(timescale);
  }

  /// Fragmented files keep the whole duration here.
  void parse_mvex(const Box& mvex) {
    for_each_box(reader_, mvex.begin, mvex.end, [&](const Box& box) {
      if (box.type != type_of("mehd") || box.size() < 8 || movie_timescale_ == 0) {
        return;
      }
      const bool wide = reader_.big_endian(box.begin, 1) == 1;
      if (wide && box.size() < 12) {
        return;
      }
      const std::uint64_t duration = reader_.big_endian(box.begin + 4, wide ? 8 : 4);
      if (duration > 0 && !metadata_.duration_seconds) {
        metadata_.duration_seconds =
            static_cast<double>(duration) / static_cast<double>(movie_timescale_);
      }
    });
  }

  void parse_track(const Box& trak) {
    Track track;
    for_each_box(reader_, trak.begin, trak.end, [&](const Box& box) {
      if (box.type == type_of("tkhd")) {
        const bool wide = box.size() >= 1 && reader_.big_endian(box.begin, 1) == 1;
        const std::uint64_t at = wide ? 88 : 76;
        if (box.size() >= at + 8) {  // 16.16 fixed point
          track.width = static_cast<std::int64_t>(reader_.big_endian(box.begin + at, 4) >> 16U);
          track.height =
              static_cast<std::int64_t>(reader_.big_endian(box.begin + at + 4, 4) >> 16U);
        }
      } else if (box.type == type_of("mdia")) {
        parse_media(box, track);
      }
    });
    if (!track.is_video || track_) {
      return;
    }
    if (track.constant_delta > 0 && track.timescale > 0) {
      track.fps = static_cast<double>(track.timescale) / static_cast<double>(track.constant_delta);
    } else if (track.seconds > 0 && track.samples > 0) {
      track.fps = static_cast<double>(track.samples) / track.seconds;
    }
    track_ = track;
  }

  void parse_media(const Box& mdia, Track& track) {
    for_each_box(reader_, mdia.begin, mdia.end, [&](const Box& box) {
      switch (box.type) {
        case type_of("mdhd"):
          track.seconds = header_seconds(box, &track.timescale);
          break;
        case type_of("hdlr"):
          track.is_video =
              box.size() >= 12 && reader_.big_endian(box.begin + 8, 4) == type_of("vide");
          break;
        case type_of("minf"):
          for_each_box(reader_, box.begin, box.end, [&](const Box& inner) {
            if (inner.type == type_of("stbl")) {
              parse_sample_table(inner, track);
            }
          });
          break;
        default:
          break;
      }
    });
  }

  void parse_sample_table(const Box& stbl, Track& track) {
    for_each_box(reader_, stbl.begin, stbl.end, [&](const Box& box) {
      if (box.type == type_of("stts") && box.size() >= 16 &&
          reader_.big_endian(box.begin + 4, 4) == 1) {
        track.constant_delta = reader_.big_endian(box.begin + 12, 4);
      } else if ((box.type == type_of("stsz") || box.type == type_of("stz2")) && box.size() >= 12) {
        track.samples = reader_.big_endian(box.begin + 8, 4);
      }
    });
  }

  void parse_udta(const Box& udta) {
    for_each_box(reader_, udta.begin, udta.end, [&](const Box& box) {
      switch (box.type) {
        case type_of("meta"):
          parse_meta(box);
          break;
        case kCommentItem:  // QuickTime: 16-bit length, language, text
          if (!metadata_.comment && box.size() >= 4) {
            const auto length =
                std::min<std::uint64_t>(reader_.big_endian(box.begin, 2), box.size() - 4);
            metadata_.comment = utf8_or_latin1(reader_.text(box.begin + 4, length));
          }
          break;
        case type_of("XMP_"):
          if (!metadata_.xmp) {
            metadata_.xmp = reader_.text(box.begin, box.size());
          }
          break;
        default:
          break;
      }
    });
  }

  /// ISO's meta starts with version and flags (zero), QuickTime's at once with its boxes.
  void parse_meta(const Box& meta) {
    std::uint64_t begin = meta.begin;
    if (meta.size() >= 4 && reader_.big_endian(begin, 4) == 0) {
      begin += 4;
    }
    std::optional<std::uint32_t> comment_key;  // number of the item that holds the comment
    for_each_box(reader_, begin, meta.end, [&](const Box& box) {
      if (box.type == type_of("keys")) {
        comment_key = find_comment_key(box);
      } else if (box.type == type_of("ilst")) {
        for_each_box(reader_, box.begin, box.end, [&](const Box& item) {
          const bool is_comment = item.type == kCommentItem || item.type == comment_key;
          if (is_comment && !metadata_.comment) {
            read_item(item);
          }
        });
      }
    });
  }

  std::optional<std::uint32_t> find_comment_key(const Box& keys) {
    std::uint64_t offset = keys.begin + 8;
    for (std::uint32_t number = 1; offset < keys.end && keys.end - offset >= 8; ++number) {
      reader_.count_box();
      const std::uint64_t size = reader_.big_endian(offset, 4);
      if (size < 8 || size > keys.end - offset) {
        throw reader_.error("box_size",
                            "metadata keys inside their box",
                            std::to_string(size) + " bytes at byte " + std::to_string(offset));
      }
      constexpr std::uint64_t kLongest = 64;
      if (size - 8 <= kLongest) {
        const std::string name = reader_.text(offset + 8, size - 8);
        if (name == "comment" || name == "com.apple.quicktime.comment") {
          return number;
        }
      }
      offset += size;
    }
    return std::nullopt;
  }

  void read_item(const Box& item) {
    for_each_box(reader_, item.begin, item.end, [&](const Box& box) {
      if (box.type != type_of("data") || box.size() < 8 || metadata_.comment) {
        return;
      }
      constexpr std::uint64_t kUtf16 = 2;
      const std::uint64_t kind = reader_.big_endian(box.begin, 4) & 0xFFFFFFU;
      std::string text = reader_.text(box.begin + 8, box.size() - 8);
      metadata_.comment = kind == kUtf16 ? utf16_to_utf8(text) : utf8_or_latin1(std::move(text));
    });
  }

  ContainerReader& reader_;
  ContainerMetadata metadata_;
  std::optional<Track> track_;  ///< the first video track
  std::uint64_t movie_timescale_ = 0;
};

}  // namespace

ContainerMetadata parse_mp4(ContainerReader& reader) {
  return Mp4Parser(reader).parse();
}

void check_mp4_can_grow(ContainerReader& reader) {
  std::uint64_t offset = 0;
  bool has_movie = false;
  while (offset < reader.size()) {
    const auto box = box_at(reader, offset, reader.size(), true);
    if (!box) {
      throw reader.error("truncated",
                         "a whole box at byte " + std::to_string(offset),
                         std::to_string(reader.size() - offset) + " bytes");
    }
    if (box->to_end_of_file) {
      throw reader.error("damaged",
                         "a last box with a size",
                         "box '" + name_of(box->type) + "' that runs to the end of the file");
    }
    has_movie = has_movie || box->type == type_of("moov");
    offset = box->end;
  }
  if (!has_movie) {
    throw reader.error("format", "an MP4 with a 'moov' box", "none");
  }
}

}  // namespace kinema::io::internal
