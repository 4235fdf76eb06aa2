// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/load_weights.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/tensor/from_view.h"
#include "tests/support/temp_folder.h"

namespace kinema::tensor {
namespace {

using testing::HasSubstr;

/// Two float parameters, one integer buffer.
class SmallModel final : public torch::nn::Module {
 public:
  SmallModel() {
    weight = register_parameter("weight", at::zeros({3, 5}));
    bias = register_parameter("bias", at::zeros({3}));
    steps = register_buffer("steps", at::zeros({2}, at::kLong));
  }
  Tensor weight, bias, steps;
};

TensorMap good_tensors() {
  return {
      {"weight", at::randn({3, 5})}, {"bias", at::randn({3})}, {"steps", at::ones({2}, at::kLong)}};
}

class LoadWeightsTest : public testing::Test {
 protected:
  io::Checkpoint save(const TensorMap& tensors) {
    const std::string path = folder_ / "model.safetensors";
    save_tensors(path, tensors);
    return io::Checkpoint::open(path);
  }
  std::string failure(const TensorMap& tensors,
                      const KeyMap& keymap = {},
                      LoadOptions options = {}) {
    SmallModel model;
    try {
      load_weights(model, save(tensors), keymap, std::move(options));
    } catch (const Error& error) {
      EXPECT_EQ(error.kind(), ErrorKind::kBadCheckpoint);
      EXPECT_EQ(error.code(), "weights.mismatch");
      EXPECT_TRUE(at::equal(model.weight, at::zeros({3, 5}))) << "changed although it failed";
      return error.what();
    }
    return "nothing thrown";
  }

  test::TempFolder folder_;
};

TEST_F(LoadWeightsTest, FillsParametersAndBuffers) {
  const TensorMap tensors = good_tensors();
  SmallModel model;
  const LoadReport report = load_weights(model, save(tensors), {}, {});
  EXPECT_TRUE(at::equal(model.weight, tensors.at("weight")));
  EXPECT_TRUE(at::equal(model.bias, tensors.at("bias")));
  EXPECT_TRUE(at::equal(model.steps, tensors.at("steps")));
  EXPECT_EQ(report.num_tensors, 3);
  EXPECT_EQ(report.num_elements, 20);
  EXPECT_EQ(report.num_bytes, 18 * 4 + 2 * 8);
  EXPECT_EQ(report.num_mapped_bytes, 0);
  model.weight.data().add_(1.0);  // a heap copy: may be written
}

TEST_F(LoadWeightsTest, ReportsEverythingThatDoesNotFitAtOnce) {
  const std::string text = failure({{"weight", at::randn({5, 3})},
                                    {"steps", at::randn({2})},
                                    {"extra.weight", at::randn({4}).to(at::kBFloat16)},
                                    {"more", at::ones({1}, at::kLong)}});
  EXPECT_THAT(text, HasSubstr("expected the 3 tensors of the model"));
  EXPECT_THAT(text, HasSubstr("1 missing, 2 unexpected, 1 of a wrong shape, 1 of a wrong dtype"));
  EXPECT_THAT(text, HasSubstr("\nmissing (1):\n  bias  expected [3]"));
  EXPECT_THAT(text, HasSubstr("\n  extra.weight  BF16 [4]\n  more  I64 [1]"));
  EXPECT_THAT(text, HasSubstr("\n  weight  expected [3, 5], got [5, 3]"));
  EXPECT_THAT(text, HasSubstr("\n  steps  expected I64, got F32"));
}

TEST_F(LoadWeightsTest, RefusesIntegersWhereFloatsBelong) {
  TensorMap tensors = good_tensors();
  tensors["bias"] = at::ones({3}, at::kInt);
  EXPECT_THAT(failure(tensors), HasSubstr("bias  expected a float of 16 bits or more, got I32"));
  tensors["bias"] = at::ones({3}).to(at::kFloat8_e4m3fn);
  EXPECT_THAT(failure(tensors),
              HasSubstr("bias  expected a float of 16 bits or more, got F8_E4M3"));
}

TEST_F(LoadWeightsTest, LongListsAreCutButCountedInFull) {
  TensorMap tensors = good_tensors();
  for (int i = 0; i < 60; ++i) {
    tensors["extra." + std::to_string(i)] = at::ones({1});
  }
  const std::string text = failure(tensors, {}, {.max_lines = 7});
  EXPECT_THAT(text, HasSubstr("unexpected (60):"));
  EXPECT_THAT(text, HasSubstr("... and 53 more"));
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 9);
}

TEST_F(LoadWeightsTest, RenamesAliasesAndIgnores) {
  const TensorMap good = good_tensors();
  const KeyMap keymap = {KeyMap::rename("model.w", "weight"),
                         KeyMap::alias("copy.w", "weight"),
                         KeyMap::ignore("decoder.*")};
  SmallModel model;
  LoadReport report = load_weights(model,
                                   save({{"model.w", good.at("weight")},
                                         {"copy.w", at::zeros({9})},
                                         {"bias", good.at("bias")},
                                         {"steps", good.at("steps")},
                                         {"decoder.w", at::zeros({1})}}),
                                   keymap,
                                   {});
  EXPECT_TRUE(at::equal(model.weight, good.at("weight")));
  EXPECT_THAT(report.ignored, testing::UnorderedElementsAre("copy.w", "decoder.w"));
  // Without the tensor itself its alias stands for it.
  report = load_weights(model,
                        save({{"copy.w", good.at("weight") + 1.0},
                              {"bias", good.at("bias")},
                              {"steps", good.at("steps")}}),
                        keymap,
                        {});
  EXPECT_TRUE(at::equal(model.weight, good.at("weight") + 1.0));
}

TEST_F(LoadWeightsTest, TwoTensorsForOneNameAreAnError) {
  TensorMap tensors = good_tensors();
  tensors["model.w"] = at::zeros({3, 5});
  const std::string text = failure(tensors, {KeyMap::rename("model.w", "weight")});
  EXPECT_THAT(text, HasSubstr("given twice (1):\n  weight  from model.w and weight"));
}

TEST_F(LoadWeightsTest, NamesTheFileOfARenamedTensor) {
  TensorMap tensors = good_tensors();
  tensors.erase("weight");
  tensors["model.w"] = at::zeros({1});
  EXPECT_THAT(failure(tensors, {KeyMap::rename("model.w", "weight")}),
              HasSubstr("weight (in the file: model.w)  expected [3, 5], got [1]"));
}

TEST_F(LoadWeightsTest, CastsOrKeepsNarrowFloats) {
  TensorMap tensors = good_tensors();
  tensors["weight"] = tensors["weight"].to(at::kBFloat16);
  const io::Checkpoint checkpoint = save(tensors);
  SmallModel model;
  LoadReport report = load_weights(model, checkpoint, {}, {.dtype = c10::kFloat});
  EXPECT_EQ(model.weight.scalar_type(), at::kFloat);
  EXPECT_EQ(report.num_cast, 1);
  report = load_weights(model, checkpoint, {}, {.dtype = c10::kFloat, .keep_narrow = true});
  EXPECT_EQ(model.weight.scalar_type(), at::kBFloat16);
  EXPECT_EQ(model.bias.scalar_type(), at::kFloat);
  EXPECT_EQ(report.num_cast, 0);
  load_weights(model, checkpoint, {}, {.dtype = c10::kBFloat16, .keep_narrow = true});
  EXPECT_EQ(model.bias.scalar_type(), at::kBFloat16);
  EXPECT_EQ(model.steps.scalar_type(), at::kLong) << "integers are never cast";
  load_weights(model, checkpoint, {}, {});
  EXPECT_EQ(model.weight.scalar_type(), at::kBFloat16) << "no dtype: as in the file";
}

std::int64_t anonymous_kilobytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == "RssAnon:") {
      std::int64_t value = 0;
      status >> value;
      return value;
    }
  }
  return 0;
}

class BigModel final : public torch::nn::Module {
 public:
  BigModel() { weight = register_parameter("weight", at::zeros({}).expand({4096, 4096})); }
  Tensor weight;
};

TEST_F(LoadWeightsTest, ZeroCopyPointsIntoTheFileAndCostsNoHeap) {
  Tensor values = at::full({4096, 4096}, 0.5);  // 64 MB
  values[4095][4095] = 2.0;
  save_tensors(folder_ / "big.safetensors", {{"weight", values}});
  values = Tensor();
  BigModel model;
  const std::int64_t before = anonymous_kilobytes();
  LoadReport report;
  {
    const io::Checkpoint checkpoint = io::Checkpoint::open(folder_ / "big.safetensors");
    report = load_weights(model, checkpoint, {}, {.dtype = c10::kFloat, .zero_copy = true});
    EXPECT_EQ(model.weight.const_data_ptr(),
              static_cast<const void*>(checkpoint.tensors.at("weight").bytes.data()));
  }
  // The map outlives the checkpoint; reading all of it still costs no heap.
  EXPECT_EQ(model.weight.max().item<float>(), 2.0F);
  EXPECT_LT(anonymous_kilobytes() - before, 8 * 1024);
  EXPECT_EQ(report.num_mapped_bytes, std::int64_t{64} << 20);
}

TEST(FromViewTest, SaveAndLoadKeepEveryDtypeAndShape) {
  const test::TempFolder folder;
  TensorMap tensors;
  for (const auto dtype : {at::kBool,
                           at::kByte,
                           at::kChar,
                           at::kShort,
                           at::kInt,
                           at::kLong,
                           at::kHalf,
                           at::kBFloat16,
                           at::kFloat,
                           at::kDouble,
                           at::kFloat8_e4m3fn,
                           at::kFloat8_e5m2,
                           at::kUInt16,
                           at::kUInt32,
                           at::kUInt64,
                           at::kComplexFloat}) {
    tensors[c10::toString(dtype)] = (at::randn({2, 3, 5}) * 3.0).abs().to(dtype);
  }
  tensors["scalar"] = at::full({}, 7.0);
  tensors["empty"] = at::zeros({0, 4});
  tensors["strided"] = at::randn({5, 3}).t();
  save_tensors(folder / "all.safetensors", tensors, {{"made", "here"}});
  const TensorMap loaded = load_tensors(folder / "all.safetensors");
  ASSERT_EQ(loaded.size(), tensors.size());
  for (const auto& [name, tensor] : tensors) {
    const Tensor& other = loaded.at(name);
    EXPECT_EQ(other.scalar_type(), tensor.scalar_type()) << name;
    EXPECT_EQ(other.sizes(), tensor.sizes()) << name;
    // Compared as bytes: not every type has an equality of its own.
    if (tensor.numel() > 0 && tensor.dim() > 0) {
      EXPECT_TRUE(
          at::equal(other.contiguous().view(at::kByte), tensor.contiguous().view(at::kByte)))
          << name;
    }
  }
  EXPECT_EQ(loaded.at("scalar").item<float>(), 7.0F);
  EXPECT_EQ(io::SafetensorsFile::open(folder / "all.safetensors").metadata().at("made"), "here");
}

TEST(FromViewTest, UnalignedBytesAreCopied) {
  std::vector<std::byte> bytes(4 * sizeof(float) + 1);
  const float values[4] = {1.0F, 2.0F, 3.0F, 4.0F};
  std::memcpy(bytes.data() + 1, values, sizeof(values));
  const io::TensorView view = {.dtype = io::DType::kF32,
                               .shape = {2, 2},
                               .bytes = std::span<const std::byte>(bytes).subspan(1),
                               .owner = nullptr,
                               .file = "here"};
  const Tensor tensor = tensor_from_view(view);
  EXPECT_EQ(reinterpret_cast<std::uintptr_t>(tensor.const_data_ptr()) % alignof(float), 0U);
  EXPECT_EQ(tensor[1][0].item<float>(), 3.0F);
}

TEST(FromViewTest, RefusesDtypesThatTheFormatLacks) {
  const test::TempFolder folder;
  try {
    save_tensors(folder / "x.safetensors", {{"z", at::zeros({2}, at::kComplexDouble)}});
    FAIL() << "written";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "tensor.dtype");
  }
  EXPECT_EQ(folder.names().size(), 0U);
}

}  // namespace
}  // namespace kinema::tensor
