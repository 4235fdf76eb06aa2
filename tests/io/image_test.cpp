// SPDX-License-Identifier: Apache-2.0
// Pictures written by other tools (tests/io/data), round trips, and a table of damaged files.
#include "core/io/image.h"

#include <gmock/gmock.h>

#include "core/io/container_metadata.h"
#include "core/io/image_codec.h"
#include "core/io/image_probe.h"
#include "core/io/png_chunk.h"
#include "tests/io/test_files.h"
#include "tests/support/temp_folder.h"

namespace kinema::io {
namespace {

using test::TempFolder;
using testing::big_endian;
using testing::bytes_of;
using testing::data_file;
using testing::expect_error;
using testing::little_endian;
using testing::slurp;

Image counting_image(std::int64_t width, std::int64_t height, int channels) {
  Image image{.width = width, .height = height, .channels = channels, .pixels = {}};
  image.pixels.resize(static_cast<std::size_t>(width * height * channels));
  for (std::size_t i = 0; i < image.pixels.size(); ++i) {
    image.pixels[i] = static_cast<std::uint8_t>(i * 37 + i / 251);
  }
  return image;
}

std::string png_of(std::uint32_t width, std::uint32_t height, const std::string& data) {
  const std::string header =
      big_endian(width, 4) + big_endian(height, 4) + std::string("\x08\x02\0\0\0", 5);
  return std::string(kPngSignature) + png_chunk("IHDR", header) + png_chunk("IDAT", data) +
         png_chunk("IEND", "");
}

std::string good_png() {
  return slurp(data_file("picture.png"));
}
std::string good_jpeg() {
  return slurp(data_file("picture.jpg"));
}

struct BadImage {
  const char* title;
  std::string contents;
  const char* code;  ///< after "image."
  std::vector<std::string> mentions;
};

std::vector<BadImage> bad_images() {
  std::string flipped = good_png();
  flipped[flipped.size() / 2] = static_cast<char>(flipped[flipped.size() / 2] ^ 1);
  const std::string jpeg = good_jpeg();
  std::string many_scans = jpeg.substr(0, jpeg.size() - 2);
  const std::string scan("\xFF\xDA\x00\x08\x01\x01\x00\x00\x3F\x00", 10);
  for (int i = 0; i < 300; ++i) {
    many_scans += scan;
  }
  const std::string bmp = slurp(data_file("picture.bmp"));
  std::string wide_bmp = bmp;
  wide_bmp.replace(18, 8, little_endian(0x7FFFFFFF, 4) + little_endian(0x7FFFFFFF, 4));
  std::string zero_bmp = bmp;
  zero_bmp.replace(18, 4, little_endian(0, 4));
  std::string flat_gif = slurp(data_file("picture.gif"));
  flat_gif.replace(6, 2, std::string(2, '\0'));
  return {
      {"Empty", "", "format", {"an empty file"}},
      {"Text", "hello, world", "format", {"PNG, JPEG, BMP or GIF"}},
      {"WebP", "RIFF\x10\0\0\0WEBPVP8 ", "format", {}},
      {"PngSignatureOnly", std::string(kPngSignature), "truncated", {}},
      {"PngCutInHeader", good_png().substr(0, 20), "truncated", {}},
      {"PngCutInData", good_png().substr(0, good_png().size() / 2), "truncated", {}},
      {"PngWithoutEnd", good_png().substr(0, good_png().size() - 12), "truncated", {}},
      {"PngBitFlipped", flipped, "checksum", {"CRC-32"}},
      {"PngFirstChunkIsData",
       std::string(kPngSignature) + png_chunk("IDAT", "x") + png_chunk("IEND", ""),
       "damaged",
       {}},
      {"PngChunkLengthLies",
       std::string(kPngSignature) + big_endian(0xFFFFFFFF, 4) + "IHDR" + std::string(64, 'x'),
       "truncated",
       {}},
      {"PngHuge", png_of(1U << 20U, 1U << 20U, "x"), "too_large", {"67108864", "1048576 x"}},
      {"PngWidthAllOnes", png_of(0xFFFFFFFF, 0xFFFFFFFF, "x"), "too_large", {"4294967295"}},
      {"PngZeroWidth", png_of(0, 4, "x"), "damaged", {"0 x 4"}},
      {"PngDataIsNoZlib", png_of(4, 4, "no zlib stream"), "damaged", {"decoder"}},
      {"PngWithoutData",
       std::string(kPngSignature) + good_png().substr(8, 25) + png_chunk("IEND", ""),
       "damaged",
       {"decoder"}},
      {"JpegStartOnly", "\xFF\xD8\xFF", "truncated", {}},
      {"JpegCutInHeader", jpeg.substr(0, 100), "truncated", {}},
      {"JpegCutInData", jpeg.substr(0, jpeg.size() - 40), "truncated", {}},
      {"JpegWithoutEnd", jpeg.substr(0, jpeg.size() - 2), "truncated", {}},
      {"JpegEndAtOnce", std::string("\xFF\xD8\xFF\xD9", 4), "truncated", {}},
      {"JpegShortSegment", std::string("\xFF\xD8\xFF\xE0\x00\x01", 6), "damaged", {"segment"}},
      {"JpegNoMarker", std::string("\xFF\xD8\xFF\xE0\x00\x02xx", 8), "damaged", {"marker"}},
      {"JpegManyScans", many_scans + "\xFF\xD9", "damaged", {"200 JPEG scans"}},
      {"JpegHuffmanTableTooLong",
       std::string("\xFF\xD8\xFF\xC4\x02\x02\0", 7) + std::string(16, '\x1F') +
           std::string(495, 's') + "\xFF\xD9",
       "damaged",
       {"496 symbols"}},
      {"JpegHuffmanTableCut",
       std::string("\xFF\xD8\xFF\xC4\x00\x04\0\1", 8) + "\xFF\xD9",
       "damaged",
       {"Huffman"}},
      {"GifCut", slurp(data_file("picture.gif")).substr(0, 40), "truncated", {}},
      {"GifHeaderOnly", "GIF89a", "truncated", {}},
      {"GifZeroWidth", flat_gif, "damaged", {"0 x"}},
      {"GifWithoutPicture",
       slurp(data_file("picture.gif")).substr(0, 10) + std::string("\0\0\0;", 4),
       "damaged",
       {"GIF frame"}},
      {"BmpCut", bmp.substr(0, bmp.size() - 4), "truncated", {}},
      {"BmpHeaderOnly", "BM", "truncated", {}},
      {"BmpUnknownHeader",
       bmp.substr(0, 14) + little_endian(41, 4) + bmp.substr(18),
       "damaged",
       {"41"}},
      {"BmpHugeSize", wide_bmp, "truncated", {}},
      {"BmpZeroWidth", zero_bmp, "damaged", {"0 x"}},
  };
}

class BadImageFile : public ::testing::TestWithParam<BadImage> {};

TEST_P(BadImageFile, IsRefusedByItsRule) {
  const TempFolder folder;
  const std::string path = folder.write("bad.picture", GetParam().contents);
  auto mentions = GetParam().mentions;
  mentions.push_back(path);
  expect_error([&] { std::ignore = read_image(path); },
               std::string("image.") + GetParam().code,
               3,
               "io.image",
               mentions);
}

INSTANTIATE_TEST_SUITE_P(Table,
                         BadImageFile,
                         ::testing::ValuesIn(bad_images()),
                         [](const auto& info) { return std::string(info.param.title); });

TEST(ReadImageTest, MissingFileAndFolder) {
  const TempFolder folder;
  for (const auto& path : {folder / "none.png", folder.path()}) {
    expect_error([&] { std::ignore = read_image(path); }, "io.open", 3, "io.image", {path});
  }
}

TEST(ReadImageTest, LimitsAreTheCallers) {
  const std::string png = good_png();
  expect_error([&] { std::ignore = read_image(bytes_of(png), "p.png", {.max_pixels = 15}); },
               "image.too_large",
               3,
               "io.image",
               {"p.png", "15 pixels"});
  expect_error([&] { std::ignore = read_image(bytes_of(png), "p.png", {.max_bytes = 64}); },
               "image.too_large",
               3,
               "io.image",
               {"p.png", "64 bytes"});
}

TEST(ReadImageTest, ACompressedBombFailsWithinItsBudget) {
  // 64 MB of zeros behind a header that promises 2 x 2 pixels. Stored as the deflate code for
  // "repeat 258 times": the decoder's buffer would grow to the whole size.
  const std::string bomb = slurp(data_file("bomb.png"));
  ASSERT_LT(bomb.size(), 200'000U);
  expect_error([&] { std::ignore = read_image(bytes_of(bomb), "bomb.png"); },
               "image.too_large",
               3,
               "io.image",
               {"bomb.png", "2 x 2"});
}

// The script that made the files wrote this picture: 7 x 5, red = 30 x, green = 50 y, blue = 100.
void expect_test_picture(const Image& image, int tolerance) {
  ASSERT_EQ(image.width, 7);
  ASSERT_EQ(image.height, 5);
  for (std::int64_t y = 0; y < 5; ++y) {
    for (std::int64_t x = 0; x < 7; ++x) {
      const auto* pixel = image.pixels.data() + (y * 7 + x) * image.channels;
      EXPECT_NEAR(pixel[0], static_cast<int>(30 * x), tolerance) << x << "," << y;
      EXPECT_NEAR(pixel[1], static_cast<int>(50 * y), tolerance) << x << "," << y;
      EXPECT_NEAR(pixel[2], 100, tolerance) << x << "," << y;
    }
  }
}

TEST(ReadImageTest, ReadsWhatOtherToolsWrote) {
  for (const char* name : {"picture.png", "picture.bmp", "interlaced.png"}) {
    SCOPED_TRACE(name);
    const Image image = read_image(data_file(name));
    EXPECT_EQ(image.channels, 3);
    expect_test_picture(image, 0);
  }
  const Image gif = read_image(data_file("picture.gif"));
  EXPECT_EQ(gif.channels, 4);
  expect_test_picture(gif, 0);
  for (const char* name : {"picture.jpg", "progressive.jpg"}) {
    SCOPED_TRACE(name);
    expect_test_picture(read_image(data_file(name)), 12);
  }
}

TEST(ReadImageTest, BmpRowsFromTheTop) {
  std::string bmp = slurp(data_file("picture.bmp"));
  bmp.replace(22, 4, little_endian(static_cast<std::uint32_t>(-5), 4));
  const Image image = read_image(bytes_of(bmp), "b.bmp");
  const Image upright = read_image(data_file("picture.bmp"));
  ASSERT_EQ(image.height, 5);
  EXPECT_TRUE(std::equal(image.pixels.begin(),
                         image.pixels.begin() + 21,
                         upright.pixels.end() - 21,
                         upright.pixels.end()));
}

TEST(ReadImageTest, JpegWithTwoSizes) {
  std::string jpeg = good_jpeg();
  const std::size_t frame = jpeg.find("\xFF\xC0");
  ASSERT_NE(frame, std::string::npos);
  std::string other = jpeg.substr(frame, 2 + 17);
  other[6] = 4;
  jpeg.insert(frame, other);
  expect_error([&] { std::ignore = read_image(bytes_of(jpeg), "j.jpg"); },
               "image.damaged",
               3,
               "io.image",
               {"j.jpg", "two sizes, 7 x 5 pixels and 7 x 4 pixels"});
}

TEST(ReadImageTest, GreyAlphaPaletteAnd16Bits) {
  const Image grey = read_image(data_file("grey.png"));
  EXPECT_EQ(grey.channels, 3);
  EXPECT_THAT(grey.pixels, ::testing::ElementsAre(10, 10, 10, 200, 200, 200));
  const Image grey_alpha = read_image(data_file("grey_alpha.png"));
  EXPECT_EQ(grey_alpha.channels, 4);
  EXPECT_THAT(grey_alpha.pixels, ::testing::ElementsAre(10, 10, 10, 0, 200, 200, 200, 128));
  const Image palette = read_image(data_file("palette_alpha.png"));
  EXPECT_EQ(palette.channels, 4);
  EXPECT_THAT(palette.pixels, ::testing::ElementsAre(255, 0, 0, 0, 0, 0, 255, 255));
  const Image deep = read_image(data_file("grey16.png"));
  EXPECT_EQ(deep.channels, 3);
  EXPECT_THAT(deep.pixels, ::testing::ElementsAre(0x12, 0x12, 0x12, 0xFE, 0xFE, 0xFE));
}

TEST(ReadImageTest, TurnsJpegUprightByExif) {
  // Each file holds the same upright picture, stored as its orientation says.
  for (int orientation = 1; orientation <= 8; ++orientation) {
    SCOPED_TRACE(orientation);
    const std::string name = "orientation_" + std::to_string(orientation) + ".jpg";
    EXPECT_EQ(probe_image(bytes_of(slurp(data_file(name))), name).orientation, orientation);
    const Image image = read_image(data_file(name));
    ASSERT_EQ(image.width, 24);
    ASSERT_EQ(image.height, 16);
    const auto at = [&](std::int64_t x, std::int64_t y) {
      const auto* pixel = image.pixels.data() + (y * 24 + x) * 3;
      return std::array<int, 3>{pixel[0], pixel[1], pixel[2]};
    };
    const auto expect_near = [&](const std::array<int, 3>& got, const std::array<int, 3>& want) {
      for (std::size_t c = 0; c < 3; ++c) {
        EXPECT_NEAR(got[c], want[c], 25);
      }
    };
    expect_near(at(2, 2), {255, 0, 0});      // top left
    expect_near(at(21, 2), {0, 255, 0});     // top right
    expect_near(at(2, 13), {0, 0, 255});     // bottom left
    expect_near(at(21, 13), {255, 255, 0});  // bottom right
  }
}

TEST(ExifTest, DamagedDirectoriesAreIgnored) {
  const std::string entry =
      little_endian(0x0112, 2) + little_endian(3, 2) + little_endian(1, 4) + little_endian(6, 4);
  const std::string head = std::string("II*\0", 4) + little_endian(8, 4);
  EXPECT_EQ(exif_orientation(bytes_of(head + little_endian(1, 2) + entry)), 6);
  EXPECT_EQ(exif_orientation(bytes_of(std::string("MM\0*", 4) + big_endian(8, 4) +
                                      big_endian(1, 2) + big_endian(0x0112, 2) + big_endian(3, 2) +
                                      big_endian(1, 4) + big_endian(8, 2) + "xx")),
            8);
  EXPECT_EQ(exif_orientation({}), 1);
  EXPECT_EQ(exif_orientation(bytes_of(head)), 1);
  EXPECT_EQ(exif_orientation(bytes_of(head + little_endian(0xFFFF, 2) + entry)), 6);
  EXPECT_EQ(exif_orientation(bytes_of(head + little_endian(1, 2) + entry.substr(0, 11))), 1);
  EXPECT_EQ(exif_orientation(bytes_of(std::string("II*\0", 4) + little_endian(0xFFFFFFFF, 4))), 1);
  std::string nine = entry;
  nine[8] = 9;
  EXPECT_EQ(exif_orientation(bytes_of(head + little_endian(1, 2) + nine)), 1);
}

TEST(FlattenAlphaTest, MixesWithTheBackground) {
  const Image image{.width = 3,
                    .height = 1,
                    .channels = 4,
                    .pixels = {10, 20, 30, 255, 10, 20, 30, 0, 100, 0, 200, 128}};
  const Image white = flatten_alpha(image, Background::kWhite);
  EXPECT_EQ(white.channels, 3);
  EXPECT_THAT(white.pixels, ::testing::ElementsAre(10, 20, 30, 255, 255, 255, 177, 127, 227));
  EXPECT_THAT(flatten_alpha(image, Background::kBlack).pixels,
              ::testing::ElementsAre(10, 20, 30, 0, 0, 0, 50, 0, 100));
}

TEST(WritePngTest, RoundTripWithText) {
  const TempFolder folder;
  const std::string json = R"({"prompt":"a cat <b> & 視","seed":7})";
  for (const auto& image : {counting_image(13, 9, 3), counting_image(1, 300, 4)}) {
    write_png(folder / "out.png", image, {{"Comment", json}, {"Software", "kinema"}});
    const Image read = read_image(folder / "out.png");
    EXPECT_EQ(read.width, image.width);
    EXPECT_EQ(read.height, image.height);
    EXPECT_EQ(read.channels, image.channels);
    EXPECT_EQ(read.pixels, image.pixels);
    const auto metadata = read_container_metadata(folder / "out.png");
    EXPECT_EQ(metadata.format, "png");
    EXPECT_EQ(metadata.comment, json);
    EXPECT_EQ(metadata.width, image.width);
    EXPECT_NE(slurp(folder / "out.png").find("tEXtSoftware"), std::string::npos);
    EXPECT_NE(slurp(folder / "out.png").find("iTXtComment"), std::string::npos);
    EXPECT_THAT(folder.names(), ::testing::ElementsAre("out.png"));
  }
}

TEST(WritePngTest, RefusesWhatIsNoPicture) {
  const TempFolder folder;
  const auto expect = [&](const Image& image,
                          const std::map<std::string, std::string>& text,
                          const char* code,
                          const std::vector<std::string>& mentions) {
    expect_error(
        [&] { write_png(folder / "out.png", image, text); }, code, 2, "io.image", mentions);
    EXPECT_THAT(folder.names(), ::testing::IsEmpty());
  };
  Image image = counting_image(4, 4, 3);
  expect(image, {{"", "x"}}, "image.text", {});
  expect(image, {{std::string(80, 'k'), "x"}}, "image.text", {"80 bytes"});
  expect(image, {{"two  spaces", "x"}}, "image.text", {"two  spaces"});
  expect(image, {{"Comment", "\xFF"}}, "image.text", {"UTF-8"});
  expect(image, {{"Comment", std::string("a\0b", 3)}}, "image.text", {});
  image.pixels.pop_back();
  expect(image, {}, "image.shape", {"47 bytes"});
  image.channels = 2;
  expect(image, {}, "image.shape", {"2 channels"});
  image.width = -4;
  expect(image, {}, "image.shape", {"-4"});
  expect_error([&] { write_png(folder / "none/out.png", counting_image(4, 4, 3)); },
               "output.unwritable",
               2,
               "io.file",
               {"none/out.png"});
}

TEST(Crc32Test, KnownValues) {
  EXPECT_EQ(crc32(bytes_of("123456789")), 0xCBF43926U);
  EXPECT_EQ(crc32({}), 0U);
  EXPECT_EQ(crc32(bytes_of("56789"), crc32(bytes_of("1234"))), 0xCBF43926U);
}

TEST(DecodeImageTest, BudgetIsKept) {
  const std::string png = good_png();
  EXPECT_EQ(decode_image(bytes_of(png), 1 << 20).channels, 3);
  const auto starved = decode_image(bytes_of(png), 16);
  EXPECT_EQ(starved.channels, 0);
  EXPECT_TRUE(starved.out_of_budget);
}

}  // namespace
}  // namespace kinema::io
