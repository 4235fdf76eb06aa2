// SPDX-License-Identifier: Apache-2.0
// Single files, sharded sets and folders; a table of indexes that do not fit their shards.
#include "core/io/checkpoint.h"

#include <gmock/gmock.h>

#include "core/io/checkpoint_index.h"
#include "tests/io/test_files.h"
#include "tests/support/temp_folder.h"

namespace kinema::io {
namespace {

using test::TempFolder;
using testing::bytes_of;
using testing::data_file;
using testing::expect_error;

void add_weights(const std::string& path, const std::vector<std::string>& names) {
  static const std::string kBytes = "12345678";
  std::vector<TensorToWrite> tensors;
  for (const auto& name : names) {
    tensors.push_back({name, DType::kF32, {2}, bytes_of(kBytes)});
  }
  write_safetensors(path, tensors, {{"format", "pt"}});
}

/// A folder with shard 1 = {a, b}, shard 2 = {c} and the given index.
struct ShardedFolder {
  explicit ShardedFolder(std::string_view index) {
    add_weights(folder / "m-1.safetensors", {"a", "b"});
    add_weights(folder / "m-2.safetensors", {"c"});
    path = folder.write("model.safetensors.index.json", index);
  }
  TempFolder folder;
  std::string path;
};

constexpr std::string_view kGoodMap =
    R"("a":"m-1.safetensors","b":"m-1.safetensors","c":"m-2.safetensors")";

std::string index_of(std::string_view map) {
  return "{\"weight_map\":{" + std::string(map) + "}}";
}

struct BadIndex {
  const char* title;
  std::string index;
  const char* code;
  std::vector<std::string> mentions;
};

const std::vector<BadIndex>& bad_indexes() {
  static const std::vector<BadIndex> kTable = {
      {"Empty", "", "json.syntax", {}},
      {"NotJson", "weights", "json.syntax", {}},
      {"Cut", R"({"weight_map":{"a":"m-1)", "json.syntax", {}},
      {"TrailingText", index_of(kGoodMap) + "]", "json.syntax", {}},
      {"NotUtf8", index_of("\"\xFF\":\"m-1.safetensors\""), "json.syntax", {}},
      {"Deep", std::string(100, '['), "json.depth", {}},
      {"TensorTwice",
       index_of(R"("a":"m-1.safetensors","a":"m-2.safetensors")"),
       "json.duplicate_key",
       {"'a'"}},
      {"List", "[]", "config.type", {}},
      {"NoMap", R"({"metadata":{"total_size":24}})", "config.missing", {"weight_map"}},
      {"MapIsList", R"({"weight_map":["a"]})", "config.type", {"weight_map"}},
      {"ShardIsNumber", index_of(R"("a":1)"), "config.type", {"weight_map.a"}},
      {"MetadataIsText",
       R"({"metadata":"x","weight_map":{"a":"m-1.safetensors"}})",
       "config.type",
       {"metadata"}},
      {"TotalSizeIsText",
       R"({"metadata":{"total_size":"24"},"weight_map":{"a":"x"}})",
       "config.type",
       {"metadata.total_size"}},
      {"TotalSizeNegative",
       R"({"metadata":{"total_size":-1},"weight_map":{"a":"x"}})",
       "config.range",
       {"metadata.total_size"}},
      {"EmptyMap", index_of(""), "checkpoint.empty_index", {}},
      {"MissingShard",
       index_of(std::string(kGoodMap) + R"(,"d":"m-3.safetensors")"),
       "checkpoint.index_missing_shard",
       {"'d'", "'m-3.safetensors'"}},
      {"MissingTensor",
       index_of(std::string(kGoodMap) + R"(,"d":"m-2.safetensors")"),
       "checkpoint.index_missing_tensor",
       {"'d'", "'m-2.safetensors'"}},
      {"WrongShard",
       index_of(R"("a":"m-1.safetensors","b":"m-2.safetensors","c":"m-2.safetensors")"),
       "checkpoint.index_wrong_shard",
       {"'b'", "'m-1.safetensors'", "'m-2.safetensors'"}},
      {"ExtraTensor",
       index_of(R"("a":"m-1.safetensors","c":"m-2.safetensors")"),
       "checkpoint.index_extra_tensor",
       {"'b'", "'m-1.safetensors'"}},
      {"ParentFolder",
       index_of(R"("a":"../m-1.safetensors")"),
       "io.outside_folder",
       {"../m-1.safetensors"}},
      {"ParentInside", index_of(R"("a":"x/../../m-1.safetensors")"), "io.outside_folder", {}},
      {"AbsoluteShard", index_of(R"("a":"/etc/passwd")"), "io.outside_folder", {"/etc/passwd"}},
      {"EmptyShardName", index_of(R"("a":"")"), "io.outside_folder", {}},
      {"NulInShardName", index_of(R"("a":"m-1.safetensors\u0000x")"), "io.outside_folder", {}},
      {"PickleShard",
       index_of(R"("a":"pytorch_model.bin")"),
       "checkpoint.pickle",
       {"pytorch_model.bin"}},
  };
  return kTable;
}

class CheckpointBadIndex : public ::testing::TestWithParam<BadIndex> {};

TEST_P(CheckpointBadIndex, IsRefusedByItsRule) {
  const ShardedFolder sharded(GetParam().index);
  auto mentions = GetParam().mentions;
  if (std::string_view(GetParam().code) != "io.outside_folder") {
    mentions.push_back(sharded.path);
  }
  for (const auto& path : {sharded.path, sharded.folder.path()}) {
    expect_error([&] { std::ignore = Checkpoint::open(path); },
                 GetParam().code,
                 3,
                 "io.checkpoint",
                 mentions);
  }
}

INSTANTIATE_TEST_SUITE_P(Table,
                         CheckpointBadIndex,
                         ::testing::ValuesIn(bad_indexes()),
                         [](const auto& info) { return std::string(info.param.title); });

TEST(CheckpointTest, TensorInTwoShards) {
  const ShardedFolder sharded(index_of(kGoodMap));
  add_weights(sharded.folder / "m-2.safetensors", {"c", "a"});
  expect_error([&] { std::ignore = Checkpoint::open(sharded.path); },
               "checkpoint.duplicate_tensor",
               3,
               "io.checkpoint",
               {"'a'", "m-1.safetensors", "m-2.safetensors"});
}

TEST(CheckpointTest, DamagedShardIsNamed) {
  const ShardedFolder sharded(index_of(kGoodMap));
  sharded.folder.write("m-2.safetensors", "short");
  expect_error([&] { std::ignore = Checkpoint::open(sharded.path); },
               "safetensors.too_short",
               3,
               "io.safetensors",
               {sharded.folder / "m-2.safetensors"});
}

TEST(CheckpointTest, LinkOutOfTheFolderIsRefused) {
  const TempFolder outside;
  add_weights(outside / "secret.safetensors", {"c"});
  const ShardedFolder sharded(index_of(kGoodMap));
  std::filesystem::remove(sharded.folder / "m-2.safetensors");
  std::filesystem::create_symlink(outside / "secret.safetensors",
                                  sharded.folder / "m-2.safetensors");
  expect_error([&] { std::ignore = Checkpoint::open(sharded.path); },
               "io.outside_folder",
               3,
               "io.checkpoint",
               {"m-2.safetensors"});
}

TEST(CheckpointTest, HugFolderOfLinksIntoItsBlobs) {
  const TempFolder cache;
  std::filesystem::create_directories(cache / "blobs");
  std::filesystem::create_directories(cache / "snapshots/0123abcd");
  add_weights(cache / "blobs/77aa", {"a"});
  std::filesystem::create_symlink("../../blobs/77aa",
                                  cache / "snapshots/0123abcd/model.safetensors");
  EXPECT_EQ(Checkpoint::open(cache / "snapshots/0123abcd").tensors.size(), 1U);
}

TEST(CheckpointTest, OpensASingleFile) {
  const auto checkpoint = Checkpoint::open(data_file("all_dtypes.safetensors"));
  EXPECT_EQ(checkpoint.tensors.size(), 16U);
  EXPECT_EQ(checkpoint.metadata.at("format"), "pt");
  EXPECT_THAT(checkpoint.files, ::testing::ElementsAre(data_file("all_dtypes.safetensors")));
  EXPECT_EQ(checkpoint.num_bytes(), 3U * (5 * 1 + 4 * 2 + 3 * 4 + 4 * 8));
}

TEST(CheckpointTest, OpensAShardedSetOfTheReference) {
  for (const auto& path : {data_file("model.safetensors.index.json"), data_file("")}) {
    const auto checkpoint = Checkpoint::open(path);
    ASSERT_EQ(checkpoint.tensors.size(), 3U);
    EXPECT_EQ(checkpoint.files.size(), 2U);
    EXPECT_TRUE(checkpoint.metadata.empty());
    EXPECT_EQ(checkpoint.num_bytes(), 48U);
    EXPECT_EQ(checkpoint.path, path);
    const auto& c = checkpoint.tensors.find("c")->second;
    EXPECT_EQ(c.dtype, DType::kBF16);
    EXPECT_THAT(c.file, ::testing::EndsWith("model-00002-of-00002.safetensors"));
    EXPECT_EQ(c.bytes[7], std::byte{8});
  }
}

TEST(CheckpointTest, FolderPrefersIndexThenKnownNames) {
  const TempFolder folder;
  const auto chosen = [&] {
    return std::filesystem::path(Checkpoint::open(folder.path()).files.front()).filename().string();
  };
  add_weights(folder / "anything.safetensors", {"a"});
  EXPECT_EQ(chosen(), "anything.safetensors");
  add_weights(folder / "diffusion_pytorch_model.safetensors", {"a"});
  EXPECT_EQ(chosen(), "diffusion_pytorch_model.safetensors");
  add_weights(folder / "model.safetensors", {"a"});
  EXPECT_EQ(chosen(), "model.safetensors");
  add_weights(folder / "part.safetensors", {"a"});
  folder.write("diffusion_pytorch_model.safetensors.index.json",
               index_of(R"("a":"part.safetensors")"));
  EXPECT_EQ(chosen(), "part.safetensors");
  folder.write("model.safetensors.index.json", index_of(R"("a":"anything.safetensors")"));
  EXPECT_EQ(chosen(), "anything.safetensors");
}

TEST(CheckpointTest, FolderWithOneOtherIndex) {
  const TempFolder folder;
  add_weights(folder / "p1.safetensors", {"a"});
  add_weights(folder / "p2.safetensors", {"b"});
  folder.write("wan.safetensors.index.json",
               index_of(R"("a":"p1.safetensors","b":"p2.safetensors")"));
  EXPECT_EQ(Checkpoint::open(folder.path()).tensors.size(), 2U);
}

TEST(CheckpointTest, FoldersWithNothingToTake) {
  const TempFolder folder;
  const auto open = [&] { std::ignore = Checkpoint::open(folder.path()); };
  folder.write("config.json", "{}");
  expect_error(open, "checkpoint.none", 3, "io.checkpoint", {folder.path()});
  folder.write("pytorch_model.bin", "x");
  expect_error(open, "checkpoint.pickle", 3, "io.checkpoint", {"pytorch_model.bin"});
  add_weights(folder / "x.safetensors", {"a"});
  add_weights(folder / "y.safetensors", {"b"});
  expect_error(open, "checkpoint.ambiguous", 3, "io.checkpoint", {"x.safetensors, y.safetensors"});
  expect_error([&] { std::ignore = Checkpoint::open(folder / "pytorch_model.bin"); },
               "checkpoint.pickle",
               3,
               "io.checkpoint",
               {"pytorch_model.bin"});
  expect_error([&] { std::ignore = Checkpoint::open(folder / "none"); },
               "io.open",
               3,
               "io.safetensors",
               {folder / "none"});
}

TEST(CheckpointIndexTest, ReadsWhatOtherWritersAdd) {
  const auto index = parse_checkpoint_index(
      R"({"metadata":{"total_size":48.0,"total_parameters":12},"weight_map":{"b":"y","a":"x","c":"x"},
          "note":1})",
      "i");
  EXPECT_EQ(index.total_size, 48U);
  EXPECT_THAT(index.shards(), ::testing::ElementsAre("x", "y"));
  EXPECT_EQ(parse_checkpoint_index(R"({"weight_map":{"a":"x"}})", "i").total_size, std::nullopt);
}

}  // namespace
}  // namespace kinema::io
