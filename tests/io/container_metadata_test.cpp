// SPDX-License-Identifier: Apache-2.0
// Media files that FFmpeg wrote (tests/io/data), hand-made ones with a broken rule each, and big
// ones.
#include "core/io/container_metadata.h"

#include <bit>
#include <cmath>
#include <limits>

#include <gmock/gmock.h>
#include <unistd.h>

#include "core/io/container_parsers.h"
#include "core/io/png_chunk.h"
#include "core/io/xmp.h"
#include "tests/io/test_files.h"
#include "tests/support/temp_folder.h"

namespace kinema::io {
namespace {

using test::TempFolder;
using testing::big_endian;
using testing::bytes_of;
using testing::data_file;
using testing::expect_error;
using testing::slurp;

constexpr const char* kComment = "{\"prompt\":\"a cat <é> & \\\"視\\\"\",\"seed\":7}";

std::string box(std::string_view type, const std::string& payload) {
  return big_endian(payload.size() + 8, 4) + std::string(type) + payload;
}

std::string ftyp() {
  return box("ftyp", "isom" + big_endian(512, 4) + "isom");
}

/// An EBML element with a size of 8 bytes.
std::string element(std::uint32_t id, const std::string& content) {
  std::string name;
  for (int shift = 24; shift >= 0; shift -= 8) {
    if ((id >> shift) != 0) {
      name += static_cast<char>((id >> shift) & 0xFFU);
    }
  }
  return name + big_endian(0x01'00'00'00'00'00'00'00ULL | content.size(), 8) + content;
}

std::string ebml_head() {
  return element(0x1A45DFA3, element(0x4282, "matroska"));
}

std::string comment_tags(const std::string& text) {
  return element(
      0x1254C367,
      element(0x7373, element(0x67C8, element(0x45A3, "COMMENT") + element(0x4487, text))));
}

ContainerMetadata parse(const std::string& bytes) {
  return read_container_metadata(MemorySource(bytes_of(bytes)), "memory");
}

struct Sample {
  const char* file;
  const char* format;
  bool has_comment;
  bool has_duration;
  bool has_fps;
};

class ContainerOfFfmpeg : public ::testing::TestWithParam<Sample> {};

TEST_P(ContainerOfFfmpeg, CommentAndFacts) {
  const auto& sample = GetParam();
  const auto metadata = read_container_metadata(data_file(sample.file));
  EXPECT_EQ(metadata.format, sample.format);
  EXPECT_EQ(metadata.comment,
            sample.has_comment ? std::optional<std::string>(kComment) : std::nullopt);
  EXPECT_EQ(metadata.xmp, std::nullopt);
  EXPECT_EQ(metadata.width, 32);
  EXPECT_EQ(metadata.height, 16);
  ASSERT_EQ(metadata.duration_seconds.has_value(), sample.has_duration);
  if (sample.has_duration) {
    EXPECT_NEAR(*metadata.duration_seconds, 0.5, 1e-6);
  }
  ASSERT_EQ(metadata.fps.has_value(), sample.has_fps);
  if (sample.has_fps) {
    EXPECT_NEAR(*metadata.fps, 10.0, 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Files,
                         ContainerOfFfmpeg,
                         ::testing::Values(Sample{"comment.mp4", "mp4", true, true, true},
                                           Sample{"faststart.mp4", "mp4", true, true, true},
                                           Sample{"keys.mp4", "mp4", true, true, true},
                                           Sample{"fragmented.mp4", "mp4", true, false, false},
                                           Sample{"no_comment.mp4", "mp4", false, true, true},
                                           Sample{"comment.mov", "mov", true, true, true},
                                           Sample{"comment.mkv", "matroska", true, true, true},
                                           Sample{"comment.webm", "webm", true, true, true},
                                           Sample{"live.mkv", "matroska", true, false, true},
                                           Sample{"plain.y4m", "y4m", false, true, true}),
                         [](const auto& info) {
                           std::string name = info.param.file;
                           std::replace(name.begin(), name.end(), '.', '_');
                           return name;
                         });

TEST(ContainerTest, GifOfPillow) {
  const auto metadata = read_container_metadata(data_file("picture.gif"));
  EXPECT_EQ(metadata.format, "gif");
  EXPECT_EQ(metadata.comment, "made for a test");
  EXPECT_EQ(metadata.width, 7);
  EXPECT_EQ(metadata.height, 5);
}

TEST(ContainerTest, GifCommentsXmpAndDuration) {
  const std::string head = std::string("GIF89a") + std::string("\x04\0\x03\0\0\0\0", 7);
  const std::string frame = std::string("\x21\xF9\x04\0\x19\0\0\0", 8) +  // 25 hundredths
                            std::string("\x2C\0\0\0\0\x01\0\x01\0\0\x02\x02\x4C\x01\0", 15);
  const std::string long_text(300, 't');
  const std::string comment = std::string("\x21\xFE\xFF") + long_text.substr(0, 255) + "\x2D" +
                              long_text.substr(255) + std::string(1, '\0');
  const std::string packet = wrap_xmp(kComment);
  std::string xmp = std::string("\x21\xFF\x0B") + "XMP DataXMP" + packet + "\x01";
  for (int i = 255; i >= 0; --i) {
    xmp += static_cast<char>(i);
  }
  xmp += '\0';
  const auto metadata = parse(head + frame + xmp + frame + comment + ";");
  EXPECT_EQ(metadata.comment, long_text);
  EXPECT_EQ(metadata.xmp, packet);
  EXPECT_EQ(metadata.duration_seconds, 0.5);
  EXPECT_EQ(metadata.fps, 4.0);
}

TEST(ContainerTest, PngTextKinds) {
  const std::string picture = slurp(data_file("picture.png"));
  const auto with = [&](const std::string& chunks) {
    return parse(picture.substr(0, 33) + chunks + picture.substr(33));
  };
  EXPECT_EQ(with(png_text_chunk("Comment", "plain")).comment, "plain");
  EXPECT_EQ(with(png_text_chunk("Comment", kComment)).comment, kComment);
  EXPECT_EQ(with(png_chunk("tEXt", std::string("Comment\0caf\xE9", 12))).comment, "café");
  EXPECT_EQ(with(png_text_chunk("Author", "someone")).comment, std::nullopt);
  EXPECT_EQ(with(png_chunk("tEXt", "Comment")).comment, std::nullopt);
  const std::string compressed("Comment\0\1\0\0\0zzz", 15);
  EXPECT_EQ(with(png_chunk("iTXt", compressed)).comment, std::nullopt);
  const std::string xmp("XML:com.adobe.xmp\0\0\0\0\0<x/>", 26);
  EXPECT_EQ(with(png_chunk("iTXt", xmp)).xmp, "<x/>");
}

TEST(ContainerTest, Y4mCommentRoundTrip) {
  const std::string text = std::string("100% of \n{\"a\":1}\0 %41 視", 26);
  const std::string parameter = encode_y4m_comment(text);
  EXPECT_EQ(parameter.find(' '), std::string::npos);
  const std::string frames = "FRAME\n" + std::string(32 * 16 * 3 / 2, 'y');
  const auto metadata = parse("YUV4MPEG2 W32 H16 F30000:1001 Ip A1:1 C420jpeg XYSCSS=420JPEG " +
                              parameter + "\n" + frames + frames);
  EXPECT_EQ(metadata.comment, text);
  EXPECT_NEAR(*metadata.fps, 29.97, 0.001);
  EXPECT_NEAR(*metadata.duration_seconds, 2 * 1001 / 30000.0, 1e-9);
  EXPECT_EQ(parse("YUV4MPEG2 W2 H2 F1:1 XCOMMENT=a%zz%4\n").comment, "a%zz%4");
}

TEST(ContainerTest, Mp4ItemsInOtherPlaces) {
  const auto item = [](const std::string& kind, const std::string& text) {
    return box(
        "\xA9"
        "cmt",
        box("data", kind + big_endian(0, 4) + text));
  };
  const auto in_udta = [](const std::string& ilst) {
    return parse(ftyp() +
                 box("moov", box("udta", box("meta", big_endian(0, 4) + box("ilst", ilst)))));
  };
  EXPECT_EQ(in_udta(item(big_endian(1, 4), "text")).comment, "text");
  EXPECT_EQ(in_udta(item(big_endian(2, 4), std::string("\0t\x89\x96\xD8\x3D\xDE\0", 8))).comment,
            "t視😀");
  EXPECT_EQ(in_udta(item(big_endian(1, 4), "")).comment, "");
  // QuickTime: text with length and language, list ended by four zeros.
  EXPECT_EQ(parse(box("moov",
                      box("udta",
                          box("\xA9"
                              "cmt",
                              big_endian(4, 2) + big_endian(0x55C4, 2) + "text") +
                              big_endian(0, 4))))
                .comment,
            "text");
  EXPECT_EQ(parse(box("moov", box("udta", box("XMP_", "<x/>")))).xmp, "<x/>");
  const auto other = parse(ftyp() + box("uuid", std::string(16, 'u') + "no xmp"));
  EXPECT_EQ(other.xmp, std::nullopt);
  EXPECT_EQ(other.format, "mp4");
}

TEST(ContainerTest, LargeBoxSizes) {
  const std::string wide = big_endian(1, 4) + "mdat" + big_endian(16 + 3, 8) + "abc";
  const std::string xmp = box("uuid", std::string(internal::kXmpUuid) + "<x/>");
  EXPECT_EQ(parse(ftyp() + wide + xmp).xmp, "<x/>");
  const std::string to_end = big_endian(0, 4) + "mdat" + "abc" + xmp;
  EXPECT_EQ(parse(ftyp() + to_end).xmp, std::nullopt);
}

TEST(ContainerTest, MatroskaTagsBehindTheClusters) {
  const std::string cluster = element(0x1F43B675, std::string(5000, 'c'));
  const std::string tags = comment_tags(kComment);
  const auto seek_head = [](std::uint64_t position) {
    return element(0x114D9B74,
                   element(0x4DBB,
                           element(0x53AB, big_endian(0x1254C367, 4)) +
                               element(0x53AC, big_endian(position, 8))));
  };
  const std::uint64_t position = seek_head(0).size() + 2 * cluster.size();
  EXPECT_EQ(parse(ebml_head() + element(0x18538067, seek_head(position) + cluster + cluster + tags))
                .comment,
            kComment);
  // Without a seek head it walks; a seek head that lies is not followed into nonsense.
  EXPECT_EQ(parse(ebml_head() + element(0x18538067, cluster + cluster + tags)).comment, kComment);
  EXPECT_EQ(
      parse(ebml_head() + element(0x18538067, seek_head(1ULL << 60) + cluster + tags)).comment,
      std::nullopt);
  // A tag for one track is not the file's comment.
  const std::string track_tag =
      element(0x1254C367,
              element(0x7373,
                      element(0x63C0, element(0x63C5, big_endian(9, 8))) +
                          element(0x67C8, element(0x45A3, "comment") + element(0x4487, "track"))));
  EXPECT_EQ(parse(ebml_head() + element(0x18538067, track_tag + tags)).comment, kComment);
}

TEST(ContainerTest, MatroskaDurationsThatAreNoTimes) {
  const auto duration_of = [](double value) {
    const std::string info =
        element(0x1549A966,
                element(0x2AD7B1, big_endian(1'000'000'000, 4)) +
                    element(0x4489, big_endian(std::bit_cast<std::uint64_t>(value), 8)));
    return parse(ebml_head() + element(0x18538067, info)).duration_seconds;
  };
  EXPECT_EQ(duration_of(2.5), 2.5);
  for (const double value :
       {0.0, -1.0, 1e308, std::numeric_limits<double>::infinity(), std::nan("")}) {
    EXPECT_EQ(duration_of(value), std::nullopt) << value;
  }
}

struct BadContainer {
  const char* title;
  std::string contents;
  const char* code;  ///< after "container."
  std::vector<std::string> mentions;
};

std::vector<BadContainer> bad_containers() {
  const std::string mp4 = slurp(data_file("comment.mp4"));
  const std::string mkv = slurp(data_file("comment.mkv"));
  const std::string moov_with_long_child =
      ftyp() + box("moov", big_endian(100, 4) + "udta" + std::string(20, 'x'));
  const std::string ilst = box("ilst",
                               box("\xA9"
                                   "cmt",
                                   big_endian(500, 4) + "data" + std::string(8, '\0') + "text"));
  const std::string keys =
      box("keys", std::string(4, '\0') + big_endian(1, 4) + big_endian(4000, 4) + "mdtacomment");
  const std::string long_text = big_endian(1, 4) + "uuid" + big_endian(32 + (17ULL << 20U), 8) +
                                std::string(internal::kXmpUuid) +
                                std::string((17U << 20U) + 8, 'x');
  return {
      {"Empty", "", "format", {"an empty file"}},
      {"Text", "hello, world, hello", "format", {"something else"}},
      {"Jpeg", slurp(data_file("picture.jpg")), "format", {}},
      {"Mp4CutInPictures", mp4.substr(0, mp4.size() / 2), "truncated", {}},
      {"Mp4CutInMoov", mp4.substr(0, mp4.size() - 10), "truncated", {"'moov'"}},
      {"Mp4BoxBeyondFile",
       ftyp() + big_endian(1U << 30U, 4) + "mdat" + "x",
       "truncated",
       {"'mdat'", "1073741824"}},
      {"Mp4BoxSizeTooSmall", ftyp() + big_endian(7, 4) + "mdat", "box_size", {"'mdat'", "7"}},
      {"Mp4LargeSizeTooSmall",
       ftyp() + big_endian(1, 4) + "mdat" + big_endian(15, 8),
       "box_size",
       {"15"}},
      {"Mp4LargeSizeOverflows",
       ftyp() + big_endian(1, 4) + "mdat" + std::string(8, '\xFF'),
       "truncated",
       {"18446744073709551615"}},
      {"Mp4LargeSizeMissing", ftyp() + big_endian(1, 4) + "mdat", "box_size", {}},
      {"Mp4ChildLongerThanParent", moov_with_long_child, "box_size", {"'udta'", "100"}},
      {"QuickTimeMetaItemTextLies",
       ftyp() + box("moov", box("udta", box("meta", ilst))),
       "box_size",
       {"'data'", "500"}},
      {"Mp4ItemTextLies",
       ftyp() + box("moov", box("udta", box("meta", std::string(4, '\0') + ilst))),
       "box_size",
       {"'data'", "500"}},
      {"Mp4KeyLies",
       ftyp() + box("moov", box("meta", std::string(4, '\0') + keys)),
       "box_size",
       {"4000"}},
      {"Mp4XmpTooLong", ftyp() + long_text, "text_too_large", {"16.8 MB"}},
      {"MatroskaCutInHead", mkv.substr(0, 10), "truncated", {}},
      {"MatroskaCutInTracks", mkv.substr(0, mkv.size() / 3), "truncated", {}},
      {"MatroskaBadSize",
       std::string("\x1A\x45\xDF\xA3\x00", 5) + std::string(20, '\0'),
       "damaged",
       {}},
      {"MatroskaBadId", ebml_head() + std::string(20, '\0'), "damaged", {"EBML ID"}},
      {"MatroskaChildLongerThanParent",
       ebml_head() + element(0x18538067, element(0x1549A966, std::string("\x44\x89\xC8", 3))),
       "truncated",
       {}},
      {"MatroskaLongInteger",
       ebml_head() +
           element(0x18538067, element(0x1549A966, element(0x2AD7B1, std::string(9, 'x')))),
       "damaged",
       {"9"}},
      {"GifCut", "GIF89a\x04", "truncated", {}},
      {"GifUnknownBlock", std::string("GIF89a\x04\0\x04\0\0\0\0\x55", 14), "damaged", {"byte 85"}},
      {"GifPaletteMissing", std::string("GIF89a\x04\0\x04\0\xF7\0\0", 13) + "xx", "truncated", {}},
      {"PngCut", slurp(data_file("picture.png")).substr(0, 50), "truncated", {}},
      {"PngChunkLies",
       std::string(kPngSignature) + std::string(4, '\xFF') + "tEXtComment",
       "truncated",
       {"4294967295"}},
      {"PngTextFields",
       std::string(kPngSignature) + png_chunk("iTXt", std::string("Comment\0\0\0en", 12)),
       "damaged",
       {"iTXt"}},
      {"Y4mWithoutLineEnd", "YUV4MPEG2 W32 H16", "truncated", {}},
      {"Y4mBadWidth", "YUV4MPEG2 Wx H16\n", "damaged", {"'Wx'"}},
      {"Y4mHugeHeight", "YUV4MPEG2 W16 H99999999999999999999\n", "damaged", {}},
      {"TooManyBoxes",
       [] {
         std::string boxes = ftyp();
         for (int i = 0; i < 1'000'001; ++i) {
           boxes += std::string("\0\0\0\x08", 4) + "free";
         }
         return boxes;
       }(),
       "too_many_boxes",
       {"1000000"}},
  };
}

class BadContainerFile : public ::testing::TestWithParam<BadContainer> {};

TEST_P(BadContainerFile, IsRefusedByItsRule) {
  const TempFolder folder;
  const std::string path = folder.write("bad.media", GetParam().contents);
  auto mentions = GetParam().mentions;
  mentions.push_back(path);
  expect_error([&] { std::ignore = read_container_metadata(path); },
               std::string("container.") + GetParam().code,
               3,
               "io.container",
               mentions);
}

INSTANTIATE_TEST_SUITE_P(Table,
                         BadContainerFile,
                         ::testing::ValuesIn(bad_containers()),
                         [](const auto& info) { return std::string(info.param.title); });

TEST(ContainerTest, MissingFileAndFolder) {
  const TempFolder folder;
  for (const auto& path : {folder / "none.mp4", folder.path()}) {
    expect_error(
        [&] { std::ignore = read_container_metadata(path); }, "io.open", 3, "io.container", {path});
  }
}

TEST(ContainerTest, EveryPrefixEitherParsesOrThrowsItsError) {
  for (const char* name : {"comment.mp4",
                           "keys.mp4",
                           "fragmented.mp4",
                           "comment.mov",
                           "comment.mkv",
                           "comment.webm",
                           "picture.gif",
                           "picture.png"}) {
    const std::string whole = slurp(data_file(name));
    int refused = 0;
    for (std::size_t size = 0; size < whole.size(); ++size) {
      try {
        std::ignore = parse(whole.substr(0, size));
      } catch (const Error& error) {
        ++refused;
        EXPECT_EQ(error.kind(), ErrorKind::kBadData);
      }
    }
    EXPECT_GT(refused, 0) << name;
  }
}

/// Counts what a parser takes from a file.
class CountingSource final : public ByteSource {
 public:
  explicit CountingSource(const std::string& path) : file_(path, "test") {}
  [[nodiscard]] std::uint64_t size() const override { return file_.size(); }
  std::size_t read(std::uint64_t offset, std::span<std::byte> into) const override {
    ++reads;
    bytes += into.size();
    return file_.read(offset, into);
  }
  mutable std::uint64_t reads = 0;
  mutable std::uint64_t bytes = 0;

 private:
  FileSource file_;
};

TEST(ContainerTest, BigFilesAreAnsweredAtOnce) {
  const TempFolder folder;
  constexpr std::uint64_t kGigabytes = 6'000'000'000;
  // Sparse files: nothing but the boxes is on the disk.
  const std::string mp4 = folder / "big.mp4";
  {
    const std::string xmp = box("uuid", std::string(internal::kXmpUuid) + "<x/>");
    std::ofstream file(mp4, std::ios::binary);
    file << ftyp() << big_endian(1, 4) << "mdat" << big_endian(kGigabytes, 8);
    file.seekp(static_cast<std::streamoff>(ftyp().size() + kGigabytes));
    file << xmp;
  }
  const std::string mkv = folder / "big.mkv";
  {
    const std::string tags = comment_tags("text");
    constexpr std::uint64_t kClusterBytes = 5'000'000;
    constexpr std::uint64_t kClusters = kGigabytes / kClusterBytes;
    const auto sized = [](std::uint64_t size) { return big_endian(0x01ULL << 56U | size, 8); };
    std::ofstream file(mkv, std::ios::binary);
    file << ebml_head() << big_endian(0x18538067, 4)
         << sized(kClusters * (kClusterBytes + 12) + tags.size());
    for (std::uint64_t i = 0; i < kClusters; ++i) {
      file << big_endian(0x1F43B675, 4) << sized(kClusterBytes);
      file.seekp(static_cast<std::streamoff>(kClusterBytes), std::ios::cur);
    }
    file << tags;
  }
  const std::string gif = folder / "big.gif";
  {
    std::ofstream file(gif, std::ios::binary);
    file << "GIF89a" << std::string("\x04\0\x03\0\0\0\0", 7);
    const std::string block = "\xFF" + std::string(255, 'p');
    const std::string frame = std::string("\x2C\0\0\0\0\x04\0\x03\0\0\x02", 11);
    std::string blocks;
    for (int i = 0; i < 1000; ++i) {
      blocks += block;
    }
    file << frame;
    for (int i = 0; i < 200; ++i) {  // 51 MB
      file << blocks;
    }
    const std::string text(300, 't');
    file << std::string(1, '\0') << "\x21\xFE\xFF" << text.substr(0, 255) << "\x2D"
         << text.substr(255) << std::string("\0;", 2);
  }
  // What is read decides how long it takes; a clock would measure the machine's other work as well.
  const auto expect_little = [](const std::string& path,
                                std::uint64_t most_reads,
                                const std::function<void(const ContainerMetadata&)>& check) {
    const CountingSource source(path);
    check(read_container_metadata(source, path));
    EXPECT_LT(source.reads, most_reads) << path;
    EXPECT_LE(source.bytes, 4096 * most_reads) << path;
  };
  expect_little(mp4, 20, [](const auto& metadata) { EXPECT_EQ(metadata.xmp, "<x/>"); });
  expect_little(
      mkv, 3 * 1200 + 20, [](const auto& metadata) { EXPECT_EQ(metadata.comment, "text"); });
  expect_little(
      gif, 9000, [](const auto& metadata) { EXPECT_EQ(metadata.comment, std::string(300, 't')); });
}

TEST(AppendXmpBoxTest, KeepsTheFileAndIsFound) {
  const TempFolder folder;
  for (const char* name : {"comment.mp4", "faststart.mp4", "fragmented.mp4", "comment.mov"}) {
    const std::string before = slurp(data_file(name));
    const std::string path = folder.write(name, before);
    const std::string packet = wrap_xmp(kComment);
    append_xmp_box(path, packet);
    const std::string after = slurp(path);
    EXPECT_EQ(after.substr(0, before.size()), before);
    EXPECT_EQ(after.size(), before.size() + 24 + packet.size());
    const auto metadata = read_container_metadata(path);
    EXPECT_EQ(metadata.comment, kComment);
    ASSERT_TRUE(metadata.xmp);
    EXPECT_EQ(unwrap_xmp(*metadata.xmp, name), kComment);
  }
}

TEST(AppendXmpBoxTest, RefusesFilesThatABoxCannotFollow) {
  const TempFolder folder;
  const std::string whole = slurp(data_file("comment.mp4"));
  const auto expect = [&](const std::string& contents, const char* code) {
    const std::string path = folder.write("x.mp4", contents);
    expect_error([&] { append_xmp_box(path, "<x/>"); }, code, 3, "io.container", {path});
    EXPECT_EQ(slurp(path), contents);
  };
  expect(whole.substr(0, whole.size() - 1), "container.truncated");
  expect(whole + "abc", "container.truncated");
  expect(whole + big_endian(0, 4) + "mdatabc", "container.damaged");
  expect(ftyp(), "container.format");
  expect_error([&] { append_xmp_box(folder / "none.mp4", "<x/>"); },
               "io.open",
               3,
               "io.container",
               {"none.mp4"});
  expect_error([&] { append_xmp_box(folder / "x.mp4", std::string(17U << 20U, 'x')); },
               "container.text_too_large",
               2,
               "io.container",
               {"x.mp4"});
}

}  // namespace
}  // namespace kinema::io
