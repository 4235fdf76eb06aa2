// SPDX-License-Identifier: Apache-2.0
#include "core/io/xmp.h"

#include <random>

#include <gmock/gmock.h>

#include "core/io/utf8.h"
#include "tests/io/test_files.h"

namespace kinema::io {
namespace {

using testing::expect_error;
using ::testing::HasSubstr;

TEST(XmpTest, JsonStaysReadable) {
  const std::string json = R"({"prompt":"a cat\nwith \"hat\" \\ \u0001 視","seed":7})";
  const std::string packet = wrap_xmp(json);
  EXPECT_THAT(packet, HasSubstr(R"({&quot;prompt&quot;:&quot;a cat\nwith \&quot;hat\&quot; \\ )"));
  EXPECT_THAT(packet, ::testing::StartsWith("<?xpacket begin=\"\xEF\xBB\xBF\""));
  EXPECT_THAT(packet, ::testing::EndsWith("<?xpacket end=\"w\"?>"));
  EXPECT_EQ(packet.find("kinema:encoding"), std::string::npos);
  EXPECT_EQ(unwrap_xmp(packet, "f"), json);
}

TEST(XmpTest, EveryCharacterComesBack) {
  std::string all;
  for (char32_t code = 0; code <= 0x10FFFF; code += code < 0x3000 ? 1 : 97) {
    if (code >= 0xD800 && code < 0xE000) {
      continue;
    }
    std::string one;
    append_utf8(one, code);
    EXPECT_EQ(unwrap_xmp(wrap_xmp(one), "f"), one) << static_cast<unsigned>(code);
    all += one;
  }
  for (const char32_t code : {0xFFFEU, 0xFFFFU, 0xFEFFU, 0x10FFFFU}) {
    append_utf8(all, code);
  }
  EXPECT_EQ(unwrap_xmp(wrap_xmp(all), "f"), all);
}

TEST(XmpTest, AwkwardTextsComeBack) {
  for (const std::string& text : {std::string(),
                                  std::string("\\"),
                                  std::string("\\u0041"),
                                  std::string("\\\\u0041\x01"),
                                  std::string("\0", 1),
                                  std::string("]]>"),
                                  std::string("</kinema:provenance>"),
                                  std::string("&amp;&#13;"),
                                  std::string("\r\n\t  two  spaces "),
                                  std::string("'\"<>&"),
                                  std::string("kinema:provenance=\"no\"")}) {
    EXPECT_EQ(unwrap_xmp(wrap_xmp(text), "f"), text) << text;
  }
}

TEST(XmpTest, RandomTextsComeBack) {
  std::mt19937 random(7);
  constexpr std::u32string_view kAlphabet = U"ab \\u0\"<>&;#\n\r\t\x01\x1F\x7F é視\U0001F600\uFFFF";
  for (int round = 0; round < 2000; ++round) {
    std::string text;
    for (unsigned i = random() % 40; i > 0; --i) {
      append_utf8(text, kAlphabet[random() % kAlphabet.size()]);
    }
    ASSERT_EQ(unwrap_xmp(wrap_xmp(text), "f"), text);
  }
}

TEST(XmpTest, ReadsThePropertyAsAttribute) {
  const std::string packet =
      "<x:xmpmeta><rdf:RDF><rdf:Description rdf:about='' kinema:provenance = \"{&quot;a&quot;:1}\" "
      "xmp:CreatorTool='other'/></rdf:RDF></x:xmpmeta>";
  EXPECT_EQ(unwrap_xmp(packet, "f"), R"({"a":1})");
  EXPECT_EQ(unwrap_xmp("<rdf:Description kinema:encoding='json-string' "
                       "kinema:provenance='\\u0001'/>",
                       "f"),
            "\x01");
  EXPECT_EQ(unwrap_xmp("<kinema:provenance/>", "f"), "");
  EXPECT_EQ(unwrap_xmp("<kinema:provenance >x&#x41;&#65;</kinema:provenance>", "f"), "xAA");
}

TEST(XmpTest, OtherPacketsHaveNone) {
  EXPECT_EQ(unwrap_xmp("", "f"), std::nullopt);
  EXPECT_EQ(unwrap_xmp("<x:xmpmeta><dc:title>kinema:provenance</dc:title></x:xmpmeta>", "f"),
            std::nullopt);
  EXPECT_EQ(unwrap_xmp("<kinema:provenances>x</kinema:provenances>", "f"), std::nullopt);
}

TEST(XmpTest, DamagedPackets) {
  const auto expect = [](const std::string& packet, const char* code) {
    expect_error(
        [&] { std::ignore = unwrap_xmp(packet, "clip.mp4"); }, code, 3, "io.xmp", {"clip.mp4"});
  };
  const auto property = [](const std::string& text) {
    return "<kinema:provenance>" + text + "</kinema:provenance>";
  };
  expect("<kinema:provenance", "xmp.truncated");
  expect("<kinema:provenance>text", "xmp.truncated");
  expect("<d kinema:provenance=\"text", "xmp.truncated");
  expect(property("a & b"), "xmp.escape");
  expect(property("&unknown;"), "xmp.escape");
  expect(property("&#xD800;"), "xmp.escape");
  expect(property("&#x110000;"), "xmp.escape");
  expect(property("&#99999999999;"), "xmp.escape");
  expect(property("&#;"), "xmp.escape");
  expect(property("<b>bold</b>"), "xmp.escape");
  expect(property("\xFF"), "xmp.utf8");
  const std::string marked = "<kinema:encoding>json-string</kinema:encoding>";
  expect(marked + property("\\"), "xmp.escape");
  expect(marked + property("\\n"), "xmp.escape");
  expect(marked + property("\\u00"), "xmp.escape");
  expect(marked + property("\\ud800"), "xmp.escape");
  expect_error([] { std::ignore = wrap_xmp("\xC3"); }, "xmp.utf8", 2, "io.xmp", {});
}

TEST(Utf8Test, RefusesWhatIsNotWellFormed) {
  for (const char* good : {"", "a", "é", "視", "😀", "\xF4\x8F\xBF\xBF", "\xEF\xBF\xBF"}) {
    EXPECT_TRUE(is_utf8(good)) << good;
  }
  for (const char* bad : {"\x80",
                          "\xC0\x80",
                          "\xC1\xBF",
                          "\xC3",
                          "\xE0\x80\x80",
                          "\xE2\x82",
                          "\xED\xA0\x80",
                          "\xF0\x80\x80\x80",
                          "\xF4\x90\x80\x80",
                          "\xF5\x80\x80\x80",
                          "\xFF",
                          "a\xC3(",
                          "\xF0\x9F\x98"}) {
    EXPECT_FALSE(is_utf8(bad)) << bad;
  }
  EXPECT_EQ(utf8_or_latin1("caf\xE9"), "café");
  EXPECT_EQ(utf8_or_latin1("café"), "café");
}

}  // namespace
}  // namespace kinema::io
