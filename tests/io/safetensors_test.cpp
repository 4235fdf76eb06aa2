// SPDX-License-Identifier: Apache-2.0
// Files that the reference package wrote, round trips, and a table of files that break one rule
// each.
#include "core/io/safetensors.h"

#include <csignal>
#include <ctime>
#include <sys/wait.h>

#include <gmock/gmock.h>
#include <unistd.h>

#include "tests/io/test_files.h"
#include "tests/support/temp_folder.h"

namespace kinema::io {
namespace {

using test::TempFolder;
using testing::bytes_of;
using testing::data_file;
using testing::expect_error;
using testing::little_endian;
using testing::slurp;

/// A safetensors file from its JSON and `data_bytes` bytes of data.
std::string file_of(const std::string& json, std::size_t data_bytes) {
  return little_endian(json.size(), 8) + json + std::string(data_bytes, 'x');
}

std::string entry(const std::string& name,
                  const std::string& dtype,
                  const std::string& shape,
                  const std::string& offsets) {
  return "\"" + name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":" + shape +
         ",\"data_offsets\":" + offsets + "}";
}

struct BadFile {
  const char* title;
  std::string contents;
  const char* code;                   ///< after "safetensors."
  std::vector<std::string> mentions;  ///< besides the file name
};

std::vector<BadFile> bad_files() {
  const std::string good = entry("w", "F32", "[2]", "[0,8]");
  return {
      {"Empty", "", "too_short", {"8 bytes"}},
      {"SevenBytes", std::string(7, '\0'), "too_short", {"7 bytes"}},
      {"HeaderAboveCap", little_endian(100'000'001, 8) + "{}", "header_too_large", {"100.0 MB"}},
      {"HeaderLengthAllOnes", std::string(8, '\xFF') + "{}", "header_too_large", {}},
      {"HeaderLongerThanFile", little_endian(64, 8) + "{}", "header_truncated", {"64 bytes"}},
      {"HeaderAtCapLongerThanFile", little_endian(100'000'000, 8) + "{}", "header_truncated", {}},
      {"EmptyHeader", little_endian(0, 8), "header_start", {}},
      {"LeadingSpace", file_of(" {}", 0), "header_start", {"'{'"}},
      {"ByteOrderMark", file_of("\xEF\xBB\xBF{}", 0), "header_start", {}},
      {"ListHeader", file_of("[]", 0), "header_start", {}},
      {"CutJson", file_of("{\"w\":", 0), "header_json", {}},
      {"TrailingText", file_of("{}x", 0), "header_json", {}},
      {"SecondObject", file_of("{}{}", 0), "header_json", {}},
      {"NulPadding", file_of(std::string("{}\0\0", 4), 0), "header_json", {"NUL"}},
      {"NotUtf8", file_of("{\"\xFF\":1}", 0), "header_json", {}},
      {"OverlongUtf8", file_of("{\"\xC0\x80\":1}", 0), "header_json", {}},
      {"LoneSurrogate", file_of("{\"\\ud800\":1}", 0), "header_json", {}},
      {"Comment", file_of("{/**/}", 0), "header_json", {}},
      {"DeepNesting",
       file_of("{\"w\":{\"more\":" + std::string(100, '[') + std::string(100, ']') + "}}", 0),
       "header_json",
       {"nesting"}},
      {"VeryDeepNesting",
       file_of("{\"w\":{\"more\":" + std::string(1'000'000, '['), 0),
       "header_json",
       {"nesting"}},
      {"EntryIsNumber", file_of("{\"w\":7}", 0), "entry", {"'w'", "7"}},
      {"EntryIsNull", file_of("{\"w\":null}", 0), "entry", {"'w'"}},
      {"EntryIsList", file_of("{\"w\":[\"F32\",[2],[0,8]]}", 8), "entry", {"'w'"}},
      {"NoDType",
       file_of("{\"w\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
       "entry",
       {"'w'", "no dtype"}},
      {"NoShape",
       file_of("{\"w\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8),
       "entry",
       {"'w'", "no shape"}},
      {"NoOffsets",
       file_of("{\"w\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8),
       "entry",
       {"'w'", "no data_offsets"}},
      {"OneOffset", file_of("{" + entry("w", "F32", "[2]", "[0]") + "}", 8), "entry", {"'w'"}},
      {"ThreeOffsets",
       file_of("{" + entry("w", "F32", "[2]", "[0,8,8]") + "}", 8),
       "entry",
       {"'w'"}},
      {"NegativeOffset",
       file_of("{" + entry("w", "F32", "[2]", "[-8,0]") + "}", 8),
       "entry",
       {"'w'", "-8"}},
      {"FloatOffset",
       file_of("{" + entry("w", "F32", "[2]", "[0,8.0]") + "}", 8),
       "entry",
       {"'w'"}},
      {"UnknownDType",
       file_of("{" + entry("w", "F33", "[2]", "[0,8]") + "}", 8),
       "dtype",
       {"'w'", "F33"}},
      {"LowerCaseDType",
       file_of("{" + entry("w", "f32", "[2]", "[0,8]") + "}", 8),
       "dtype",
       {"'w'"}},
      {"DTypeIsNumber",
       file_of("{\"w\":{\"dtype\":32,\"shape\":[2],\"data_offsets\":[0,8]}}", 8),
       "dtype",
       {"'w'", "32"}},
      {"NegativeSize",
       file_of("{" + entry("w", "F32", "[-2]", "[0,8]") + "}", 8),
       "shape",
       {"'w'", "-2"}},
      {"FloatSize",
       file_of("{" + entry("w", "F32", "[2.0]", "[0,8]") + "}", 8),
       "shape",
       {"'w'", "2.0"}},
      {"TextSize", file_of("{" + entry("w", "F32", "[\"2\"]", "[0,8]") + "}", 8), "shape", {"'w'"}},
      {"ShapeIsNumber", file_of("{" + entry("w", "F32", "2", "[0,8]") + "}", 8), "shape", {"'w'"}},
      {"NestedShape",
       file_of("{" + entry("w", "F32", "[[2]]", "[0,8]") + "}", 8),
       "shape",
       {"'w'"}},
      {"SizeAbove64Bits",
       file_of("{" + entry("w", "F32", "[18446744073709551616]", "[0,8]") + "}", 8),
       "shape",
       {"'w'"}},
      {"TooManyDimensions",
       [] {
         std::string shape = "[1";
         for (int i = 0; i < 64; ++i) {
           shape += ",1";
         }
         return file_of("{" + entry("w", "F32", shape + "]", "[0,4]") + "}", 4);
       }(),
       "shape",
       {"'w'", "64"}},
      {"SizeAbove63Bits",
       file_of("{" + entry("w", "U8", "[9223372036854775808]", "[0,8]") + "}", 8),
       "overflow",
       {"'w'", "9223372036854775808"}},
      {"ShapeProductOverflow",
       file_of("{" + entry("w", "U8", "[4294967296,4294967296]", "[0,0]") + "}", 0),
       "overflow",
       {"'w'", "4294967296"}},
      {"ByteCountOverflow",
       file_of("{" + entry("w", "F64", "[2305843009213693952]", "[0,0]") + "}", 0),
       "overflow",
       {"'w'", "F64"}},
      {"OverflowBehindZero",
       file_of("{" + entry("w", "U8", "[0,4294967296,4294967296]", "[0,0]") + "}", 0),
       "overflow",
       {"'w'"}},
      {"BeginAfterEnd",
       file_of("{" + entry("w", "F32", "[2]", "[8,0]") + "}", 8),
       "offsets",
       {"'w'", "[8, 0)"}},
      {"TooFewBytes",
       file_of("{" + entry("w", "F32", "[3]", "[0,8]") + "}", 8),
       "size_mismatch",
       {"'w'", "12 bytes", "8 bytes"}},
      {"TooManyBytes",
       file_of("{" + entry("w", "F16", "[2]", "[0,8]") + "}", 8),
       "size_mismatch",
       {"'w'", "4 bytes", "8 bytes"}},
      {"ScalarWithoutBytes",
       file_of("{" + entry("w", "F32", "[]", "[0,0]") + "}", 0),
       "size_mismatch",
       {"'w'"}},
      {"Overlap",
       file_of("{" + good + "," + entry("v", "F32", "[2]", "[4,12]") + "}", 12),
       "overlap",
       {"'v'", "byte 8", "'w'"}},
      {"SameBytesTwice",
       file_of("{" + good + "," + entry("v", "F32", "[2]", "[0,8]") + "}", 8),
       "overlap",
       {"byte 8"}},
      {"HoleAtStart",
       file_of("{" + entry("w", "F32", "[2]", "[4,12]") + "}", 12),
       "hole",
       {"'w'", "byte 0"}},
      {"HoleBetween",
       file_of("{" + good + "," + entry("v", "F32", "[1]", "[12,16]") + "}", 16),
       "hole",
       {"'v'", "byte 8"}},
      {"DataTruncated", file_of("{" + good + "}", 7), "data_truncated", {"'w'", "8 bytes", "7"}},
      {"NoData", file_of("{" + good + "}", 0), "data_truncated", {"'w'"}},
      {"DataBeyondAnyFile",
       file_of("{" + entry("w", "U8", "[9000000000000]", "[0,9000000000000]") + "}", 8),
       "data_truncated",
       {"'w'", "9000000000000"}},
      {"TrailingByte", file_of("{" + good + "}", 9), "trailing_data", {"8 bytes", "9"}},
      {"DataWithoutTensors", file_of("{}", 1), "trailing_data", {}},
      {"MetadataIsList", file_of("{\"__metadata__\":[]}", 0), "metadata", {"__metadata__"}},
      {"MetadataIsText", file_of("{\"__metadata__\":\"x\"}", 0), "metadata", {}},
      {"MetadataValueIsNumber",
       file_of("{\"__metadata__\":{\"step\":7}}", 0),
       "metadata",
       {"'step'", "7"}},
      {"MetadataValueIsNull",
       file_of("{\"__metadata__\":{\"step\":null}}", 0),
       "metadata",
       {"'step'"}},
      {"MetadataValueIsObject",
       file_of("{\"__metadata__\":{\"step\":{}}}", 0),
       "metadata",
       {"'step'"}},
      {"NameTwice", file_of("{" + good + "," + good + "}", 8), "duplicate_name", {"'w'"}},
      {"NameTwiceByEscape",
       file_of("{" + good + "," + entry("\\u0077", "F32", "[2]", "[8,16]") + "}", 16),
       "duplicate_name",
       {"'w'"}},
      {"FieldTwice",
       file_of("{\"w\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
               8),
       "duplicate_name",
       {"'w'", "dtype"}},
      {"MetadataTwice",
       file_of("{\"__metadata__\":{},\"__metadata__\":{}}", 0),
       "duplicate_name",
       {"__metadata__"}},
      {"MetadataKeyTwice",
       file_of("{\"__metadata__\":{\"a\":\"1\",\"a\":\"2\"}}", 0),
       "duplicate_name",
       {"'a'"}},
      {"ControlCharactersInName",
       file_of("{" + entry("\\u001b[31m", "F33", "[2]", "[0,8]") + "}", 8),
       "dtype",
       {"'?[31m'"}},
  };
}

class SafetensorsBadFile : public ::testing::TestWithParam<BadFile> {};

TEST_P(SafetensorsBadFile, IsRefusedByItsRule) {
  const TempFolder folder;
  const std::string path = folder.write("bad.safetensors", GetParam().contents);
  auto mentions = GetParam().mentions;
  mentions.push_back(path);
  expect_error([&] { std::ignore = SafetensorsFile::open(path); },
               std::string("safetensors.") + GetParam().code,
               3,
               "io.safetensors",
               mentions);
}

INSTANTIATE_TEST_SUITE_P(Table,
                         SafetensorsBadFile,
                         ::testing::ValuesIn(bad_files()),
                         [](const auto& info) { return std::string(info.param.title); });

TEST(SafetensorsFileTest, MissingFileAndFolderAreIoErrors) {
  const TempFolder folder;
  for (const auto& path : {folder / "none.safetensors", folder.path()}) {
    expect_error(
        [&] { std::ignore = SafetensorsFile::open(path); }, "io.open", 3, "io.safetensors", {path});
  }
}

TEST(SafetensorsFileTest, ReadsEveryDTypeOfTheReference) {
  const auto file = SafetensorsFile::open(data_file("all_dtypes.safetensors"));
  EXPECT_THAT(file.metadata(), ::testing::ElementsAre(::testing::Pair("format", "pt")));
  ASSERT_EQ(file.tensors().size(), 16U);
  for (const auto& [name, tensor] : file.tensors()) {
    std::string upper = name;
    for (char& c : upper) {
      c = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    }
    EXPECT_EQ(to_string(tensor.dtype), upper);
    EXPECT_EQ(tensor.shape, Shape{3});
    ASSERT_EQ(tensor.bytes.size(), 3 * size_of(tensor.dtype));
    for (std::size_t i = 0; i < tensor.bytes.size(); ++i) {
      const std::size_t value = tensor.dtype == DType::kBool ? (i + 1) % 2 : i + 1;
      EXPECT_EQ(static_cast<std::size_t>(tensor.bytes[i]), value) << name << " byte " << i;
    }
  }
}

TEST(SafetensorsFileTest, AcceptsWhatTheReferenceAccepts) {
  const TempFolder folder;
  const std::string entries = entry("w", "F32", "[2]", "[0,8]");
  const std::pair<const char*, std::string> files[] = {
      {"trailing spaces", file_of("{" + entries + "}      ", 8)},
      {"line breaks", file_of("{\n\t" + entries + "\r\n}\n", 8)},
      {"null metadata", file_of("{\"__metadata__\":null," + entries + "}", 8)},
      {"unknown field",
       file_of("{\"w\":{\"dtype\":\"F32\",\"note\":{\"a\":[1,{}]},\"n\":1,\"shape\":[2],"
               "\"data_offsets\":[0,8]}}",
               8)},
      {"empty tensor between",
       file_of("{" + entries + "," + entry("e", "F32", "[0,5]", "[8,8]") + "," +
                   entry("v", "U8", "[1]", "[8,9]") + "}",
               9)},
      {"odd alignment",
       file_of(
           "{" + entry("a", "U8", "[1]", "[0,1]") + "," + entry("w", "F32", "[2]", "[1,9]") + "}",
           9)},
  };
  for (const auto& [title, contents] : files) {
    const auto path = folder.write("good.safetensors", contents);
    const auto file = SafetensorsFile::open(path);
    ASSERT_TRUE(file.tensors().contains("w")) << title;
    EXPECT_EQ(file.tensors().find("w")->second.bytes.size(), 8U) << title;
  }
}

TEST(SafetensorsFileTest, CopiesNothingAndKeepsTheMapAlive) {
  const TempFolder folder;
  const std::string path = folder.write("w.safetensors",
                                        file_of("{" + entry("w", "U8", "[5]", "[0,5]") + "," +
                                                    entry("v", "U8", "[7]", "[5,12]") + "}",
                                                12));
  TensorView w;
  TensorView v;
  {
    const auto file = SafetensorsFile::open(path);
    w = file.tensors().find("w")->second;
    v = file.tensors().find("v")->second;
  }
  // Both tensors lie in one map, v right behind w, and the map outlives the file object.
  ASSERT_NE(w.owner, nullptr);
  EXPECT_EQ(w.owner, v.owner);
  const auto* base = static_cast<const std::byte*>(w.owner.get());
  const std::size_t size = std::filesystem::file_size(path);
  EXPECT_EQ(w.bytes.data(), base + size - 12);
  EXPECT_EQ(v.bytes.data(), w.bytes.data() + 5);
  EXPECT_EQ(v.bytes[6], std::byte{'x'});
  EXPECT_EQ(w.file, path);
}

TEST(SafetensorsFileTest, HundredThousandTensorsAreQuick) {
  std::string json = "{";
  for (int i = 0; i < 100'000; ++i) {
    json += (i == 0 ? "" : ",") +
            entry("model.layers." + std::to_string(i) + ".attention.to_out.0.weight",
                  "F16",
                  "[1,2]",
                  "[" + std::to_string(4 * i) + "," + std::to_string(4 * i + 4) + "]");
  }
  const std::string contents = file_of(json + "}", 400'000);
  const std::clock_t start = std::clock();  // processor time, so that other work does not count
  const auto header = parse_safetensors_header(bytes_of(contents), contents.size(), "many");
  const double seconds = static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC;
  EXPECT_EQ(header.tensors.size(), 100'000U);
  RecordProperty("milliseconds", static_cast<int>(1000 * seconds));
  EXPECT_LT(seconds, 5.0);  // far above what is measured, also under a sanitizer
}

std::vector<TensorToWrite> to_write(const TensorViews& views) {
  std::vector<TensorToWrite> tensors;
  for (const auto& [name, view] : views) {
    tensors.push_back({name, view.dtype, view.shape, view.bytes});
  }
  return tensors;
}

TEST(SafetensorsWriterTest, BytesEqualThoseOfTheReference) {
  const TempFolder folder;
  for (const char* name : {"all_dtypes.safetensors",
                           "names.safetensors",
                           "no_tensors.safetensors",
                           "model-00001-of-00002.safetensors"}) {
    const auto reference = SafetensorsFile::open(data_file(name));
    std::map<std::string, std::string> metadata(reference.metadata().begin(),
                                                reference.metadata().end());
    auto tensors = to_write(reference.tensors());
    std::reverse(tensors.begin(), tensors.end());  // the order given does not matter
    write_safetensors(folder / name, tensors, metadata);
    EXPECT_EQ(slurp(folder / name), slurp(data_file(name))) << name;
  }
}

TEST(SafetensorsWriterTest, RoundTripKeepsMetadataAndOddNames) {
  const TempFolder folder;
  const std::string bytes(24, 'b');
  const std::map<std::string, std::string> metadata = {
      {"", "empty key"}, {"text", std::string("\x01\n\"\\\0é視", 10)}, {"z", ""}};
  const std::vector<TensorToWrite> tensors = {
      {"", DType::kF32, {2, 3}, bytes_of(bytes)},
      {std::string("nul\0name", 8), DType::kC64, {}, bytes_of(bytes).first(8)},
      {"empty", DType::kI64, {4, 0, 2}, {}},
  };
  write_safetensors(folder / "f.safetensors", tensors, metadata);
  const auto file = SafetensorsFile::open(folder / "f.safetensors");
  EXPECT_EQ((std::map<std::string, std::string>(file.metadata().begin(), file.metadata().end())),
            metadata);
  ASSERT_EQ(file.tensors().size(), 3U);
  for (const auto& tensor : tensors) {
    const auto& read = file.tensors().find(tensor.name)->second;
    EXPECT_EQ(read.dtype, tensor.dtype);
    EXPECT_EQ(read.shape, tensor.shape);
    EXPECT_TRUE(std::ranges::equal(read.bytes, tensor.bytes));
  }
}

TEST(SafetensorsWriterTest, RefusesWhatItCouldNotReadBack) {
  const TempFolder folder;
  const std::string bytes(8, 'b');
  const auto write = [&](std::vector<TensorToWrite> tensors,
                         const std::map<std::string, std::string>& metadata = {}) {
    return [&folder, tensors = std::move(tensors), metadata] {
      write_safetensors(folder / "f.safetensors", tensors, metadata);
    };
  };
  const auto eight = bytes_of(bytes);
  const auto expect = [](const std::function<void()>& action,
                         const char* code,
                         const std::vector<std::string>& mentions) {
    expect_error(action, std::string("safetensors.") + code, 2, "io.safetensors", mentions);
  };
  expect(write({{"w", DType::kF32, {3}, eight}}), "size_mismatch", {"'w'", "12 bytes", "8"});
  expect(write({{"w", DType::kF32, {2}, eight}, {"w", DType::kF32, {2}, eight}}),
         "duplicate_name",
         {"'w'"});
  expect(write({{"w", DType::kF32, {-2}, eight}}), "shape", {"'w'", "-2"});
  expect(write({{"w", DType::kF32, {1LL << 40, 1LL << 40}, eight}}), "overflow", {"'w'"});
  expect(write({{"__metadata__", DType::kF32, {2}, eight}}), "name", {"__metadata__"});
  expect(write({{"\xFF", DType::kF32, {2}, eight}}), "utf8", {});
  expect(write({{"w", DType::kF32, {2}, eight}}, {{"k", "\xC3"}}), "utf8", {});
  EXPECT_THAT(folder.names(), ::testing::IsEmpty());
  expect_error(
      [&] { write_safetensors(folder / "none/f.safetensors", std::vector<TensorToWrite>{}); },
      "output.unwritable",
      2,
      "io.file",
      {"none/f.safetensors"});
}

TEST(SafetensorsWriterTest, AKilledWriterLeavesNoFileUnderTheFinalName) {
  const TempFolder folder;
  const std::string old_contents = file_of("{}", 0);
  const std::string replaced = folder.write("old.safetensors", old_contents);
  for (const auto& path : {folder / "new.safetensors", replaced}) {
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      // Writes without end until it is killed, so the kill always falls into the middle.
      const std::string chunk(1 << 16, 'c');
      AtomicFile file(path);
      for (;;) {
        file.write(chunk);
        if (file.bytes_written() > (1U << 24)) {
          ::raise(SIGKILL);
        }
      }
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }
  EXPECT_FALSE(std::filesystem::exists(folder / "new.safetensors"));
  EXPECT_EQ(slurp(replaced), old_contents);
}

TEST(SafetensorsWriterTest, AWriterKilledAtAnyMomentLeavesAllOrNothing) {
  const TempFolder folder;
  const std::string path = folder / "w.safetensors";
  const std::string bytes(32U << 20U, 'w');
  const std::vector<TensorToWrite> tensors = {
      {"w", DType::kU8, {static_cast<std::int64_t>(bytes.size())}, bytes_of(bytes)}};
  int complete = 0;
  for (int delay_us = 0; delay_us <= 20'000; delay_us += 2'000) {
    std::filesystem::remove(path);
    const pid_t child = ::fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      write_safetensors(path, tensors);
      ::_exit(0);
    }
    ::usleep(static_cast<useconds_t>(delay_us));
    ::kill(child, SIGKILL);
    ASSERT_EQ(::waitpid(child, nullptr, 0), child);
    if (std::filesystem::exists(path)) {
      ++complete;
      const auto file = SafetensorsFile::open(path);
      EXPECT_EQ(file.tensors().find("w")->second.bytes.size(), bytes.size());
    }
  }
  RecordProperty("complete", complete);
  std::filesystem::remove(path);
  write_safetensors(path, tensors);  // what was left behind does not disturb the next run
  EXPECT_EQ(SafetensorsFile::open(path).tensors().size(), 1U);
}

TEST(DTypeTest, NamesAndSizesAgree) {
  for (int i = 0; i <= static_cast<int>(DType::kC64); ++i) {
    const auto dtype = static_cast<DType>(i);
    EXPECT_EQ(parse_dtype(to_string(dtype)), dtype);
    EXPECT_TRUE(size_of(dtype) == 1 || size_of(dtype) == 2 || size_of(dtype) == 4 ||
                size_of(dtype) == 8);
  }
  EXPECT_EQ(parse_dtype("F4"), std::nullopt);
  EXPECT_EQ(parse_dtype(""), std::nullopt);
}

}  // namespace
}  // namespace kinema::io
