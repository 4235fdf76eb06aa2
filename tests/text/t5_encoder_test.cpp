// SPDX-License-Identifier: Apache-2.0
#include "text/t5_encoder.h"

#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/temp_folder.h"
#include "tests/text/model_files.h"
#include "tests/text/t5_reference.h"
#include "text/modules/packed_rows.h"
#include "text/modules/t5.h"

namespace kinema::text {
namespace {

using test::error_of;
using testing::AllOf;
using testing::HasSubstr;
const tensor::Place kFp32 = {c10::Device(c10::kCPU), c10::kFloat};

/// Whole network in fp32 against fp64 formulas, relative to the spread of the output.
constexpr double kWhole = 3e-5;

/// Sizes that differ in every axis; num_heads * d_kv is not d_model.
T5Config small_config() {
  T5Config config;
  config.vocab_size = 50;
  config.d_model = 24;
  config.d_kv = 5;
  config.d_ff = 36;
  config.num_layers = 3;
  config.num_heads = 4;
  config.relative_attention_num_buckets = 16;
  config.relative_attention_max_distance = 20;
  return config;
}

Tensor some_ids(std::int64_t batch, std::int64_t length) {
  return (at::arange(batch * length, at::kLong) * 31 + 7).remainder(50).view({batch, length});
}

/// Rows: full; a prefix; padding in front; holes; nothing at all.
Tensor mixed_mask(std::int64_t length) {
  Tensor mask = at::ones({5, length}, at::kLong);
  mask[1].narrow(0, length / 2, length - length / 2).zero_();
  mask[2].narrow(0, 0, length / 3).zero_();
  mask[3].copy_(at::arange(length, at::kLong).remainder(3).ne(1));
  mask[4].zero_();
  return mask;
}

class T5EncoderTest : public testing::Test {
 protected:
  TensorMap make(const T5Config& config, c10::ScalarType dtype = c10::kFloat) {
    TensorMap weights = test::random_weights(*T5EncoderModel(config), 11);
    for (auto& [name, weight] : weights) {
      weight = weight.to(dtype);
    }
    test::write_model(folder_.path(), config.to_json(), weights);
    return weights;
  }
  std::unique_ptr<T5Encoder> load(const tensor::Place& place = kFp32) {
    return T5Encoder::load(ModelFiles::in(folder_.path()), place);
  }
  /// Largest difference on the rows with mask 1, relative to the spread of the reference.
  static double difference(const Tensor& got, const Tensor& expected, const Tensor& mask_BM) {
    const Tensor kept = mask_BM.to(at::kBool);
    const Tensor reference = expected.index({kept});
    return ((got.to(at::kDouble).index({kept}) - reference).abs().max() / reference.std())
        .item<double>();
  }

  test::TempFolder folder_;
};

struct Variant {
  const char* name;
  void (*change)(T5Config&);
};

class T5VariantTest : public T5EncoderTest, public testing::WithParamInterface<Variant> {};

TEST_P(T5VariantTest, PackedRowsEqualThePlainFormulas) {
  T5Config config = small_config();
  GetParam().change(config);
  const TensorMap weights = make(config);
  constexpr std::int64_t kLength = 45;  // over relative_attention_max_distance
  const Tensor ids = some_ids(5, kLength);
  const Tensor mask = mixed_mask(kLength);
  const auto encoder = load();
  const Tensor context = encoder->encode(ids, mask).context_BMD;
  const test::T5Reference reference(config, weights);
  EXPECT_LT(difference(context, reference.forward(ids, mask), mask), kWhole);
  EXPECT_TRUE(at::equal(context, context * mask.unsqueeze(-1))) << "rows at padding are zero";
  const Tensor all = at::ones_like(mask);
  const Tensor dense = encoder->encode(ids).context_BMD;
  EXPECT_LT(difference(dense, reference.forward(ids, all), all), kWhole);
  EXPECT_TRUE(at::equal(dense, encoder->encode(ids, all).context_BMD));
}

INSTANTIATE_TEST_SUITE_P(Variants,
                         T5VariantTest,
                         testing::Values(Variant{"gated", [](T5Config&) {}},
                                         Variant{"relu",
                                                 [](T5Config& c) {
                                                   c.is_gated = false;
                                                   c.activation = nn::Activation::kRelu;
                                                 }},
                                         Variant{"umt5",
                                                 [](T5Config& c) { c.per_block_bias = true; }},
                                         Variant{"one_layer_one_head",
                                                 [](T5Config& c) {
                                                   c.num_layers = 1;
                                                   c.num_heads = 1;
                                                 }}),
                         [](const auto& test_info) { return std::string(test_info.param.name); });

TEST_F(T5EncoderTest, ARowDoesNotDependOnItsNeighboursOrItsPadding) {
  make(small_config());
  const auto encoder = load();
  const Tensor ids = some_ids(3, 17);
  Tensor mask = at::ones({3, 17}, at::kLong);
  mask[1].narrow(0, 6, 11).zero_();
  const Tensor together = encoder->encode(ids, mask).context_BMD;
  const Tensor alone = encoder->encode(ids.narrow(0, 1, 1).narrow(1, 0, 6)).context_BMD;
  EXPECT_LT((together[1].narrow(0, 0, 6) - alone[0]).abs().max().item<float>(), 1e-5F);
}

TEST_F(T5EncoderTest, Bf16WeightsStayMappedAndAreWidened) {
  const T5Config config = small_config();
  const TensorMap weights = make(config, c10::kBFloat16);
  const auto encoder = load();
  std::int64_t elements = 0;
  for (const auto& [name, weight] : weights) {
    elements += weight.numel();
  }
  EXPECT_EQ(encoder->info().num_parameters, elements);
  EXPECT_EQ(encoder->info().num_weight_bytes, 2 * elements);
  const Tensor ids = some_ids(2, 30);
  const Tensor all = at::ones({2, 30}, at::kLong);
  const Tensor expected = test::T5Reference(config, weights).forward(ids, all);
  EXPECT_LT(difference(encoder->encode(ids).context_BMD, expected, all), kWhole);
  const Tensor narrow = load({c10::Device(c10::kCPU), c10::kBFloat16})->encode(ids).context_BMD;
  EXPECT_EQ(narrow.scalar_type(), at::kBFloat16);
  EXPECT_LT(difference(narrow, expected, all), 0.1);
}

TEST_F(T5EncoderTest, SameInputSameBytes) {
  make(small_config());
  const auto encoder = load();
  const Tensor ids = some_ids(2, 9);
  EXPECT_TRUE(at::equal(encoder->encode(ids).context_BMD, encoder->encode(ids).context_BMD));
}

TEST_F(T5EncoderTest, LoadsAWholeModelAndLeavesItsDecoderAlone) {
  const T5Config config = small_config();
  TensorMap weights = make(config);
  const Tensor expected = load()->encode(some_ids(1, 8)).context_BMD;
  weights["decoder.block.0.layer.0.SelfAttention.q.weight"] = at::zeros({3, 3});
  weights["decoder.embed_tokens.weight"] = weights["shared.weight"] * 2.0;
  weights["encoder.embed_tokens.weight"] = weights["shared.weight"].clone();
  weights["lm_head.weight"] = at::zeros({2, 2});
  Json json = config.to_json();
  json["architectures"] = {"T5ForConditionalGeneration"};
  test::write_model(folder_.path(), json, weights);
  const Tensor all = at::ones({1, 8}, at::kLong);
  EXPECT_LT(difference(load()->encode(some_ids(1, 8)).context_BMD, expected.to(at::kDouble), all),
            1e-5);
  // Some encoder-only copies hold the embedding under its second name alone.
  for (const char* name : {"shared.weight",
                           "decoder.embed_tokens.weight",
                           "lm_head.weight",
                           "decoder.block.0.layer.0.SelfAttention.q.weight"}) {
    weights.erase(name);
  }
  test::write_model(folder_.path(), json, weights);
  EXPECT_LT(difference(load()->encode(some_ids(1, 8)).context_BMD, expected.to(at::kDouble), all),
            1e-5);
}

TEST_F(T5EncoderTest, ReportsWeightsThatDoNotFitTheConfig) {
  TensorMap weights = make(small_config());
  weights.erase("encoder.block.1.layer.1.DenseReluDense.wo.weight");
  weights["surprise"] = at::zeros({1});
  T5Config config = small_config();
  config.d_ff = 40;
  test::write_model(folder_.path(), config.to_json(), weights);
  EXPECT_THAT(error_of([&] { load(); }),
              AllOf(HasSubstr("weights.mismatch [text.t5]"),
                    HasSubstr("1 missing, 1 unexpected, 8 of a wrong shape"),
                    HasSubstr("encoder.block.0.layer.1.DenseReluDense.wi_0.weight  expected [40, "
                              "24], got [36, 24]")));
}

TEST_F(T5EncoderTest, ChecksIdsAndMask) {
  make(small_config());
  const auto encoder = load();
  const auto encode = [&](const Tensor& ids, std::optional<Tensor> mask = std::nullopt) {
    return error_of([&] { static_cast<void>(encoder->encode(ids, mask)); });
  };
  EXPECT_THAT(encode(at::zeros({3}, at::kLong)),
              HasSubstr("tensor.shape [text.t5] input_ids_BM: expected [?, ?], got [3]"));
  EXPECT_THAT(encode(at::zeros({1, 0}, at::kLong)), HasSubstr("tensor.shape"));
  EXPECT_THAT(encode(at::zeros({1, 2})),
              HasSubstr("text.token_id [text.t5] input_ids_BM: expected integers, got fp32"));
  EXPECT_THAT(encode(at::ones({1, 2}, at::kLong) * 50),
              HasSubstr("expected ids from 0 to 49, got 50"));
  EXPECT_THAT(encode(at::ones({1, 2}, at::kLong) * -1),
              HasSubstr("expected ids from 0 to 49, got -1"));
  EXPECT_THAT(encode(some_ids(1, 4), at::ones({1, 5}, at::kLong)),
              HasSubstr("attention_mask_BM: expected [1, 4], got [1, 5]"));
  EXPECT_THAT(encode(some_ids(1, 4), at::ones({1, 4}, at::kLong) * 2), HasSubstr("text.mask"));
}

TEST_F(T5EncoderTest, AcceptsOtherIntegerTypesAndBoolMasks) {
  make(small_config());
  const auto encoder = load();
  const Tensor ids = some_ids(1, 6);
  const Tensor mask = at::tensor(std::vector<std::int64_t>{1, 1, 1, 1, 0, 0}).view({1, 6});
  const Tensor expected = encoder->encode(ids, mask).context_BMD;
  EXPECT_TRUE(
      at::equal(encoder->encode(ids.to(at::kInt), mask.to(at::kBool)).context_BMD, expected));
  EXPECT_TRUE(at::equal(encoder->encode(ids, mask.to(at::kFloat)).context_BMD, expected));
}

TEST_F(T5EncoderTest, RefusesFp16) {
  make(small_config());
  EXPECT_THAT(error_of([&] { load({c10::Device(c10::kCPU), c10::kHalf}); }),
              AllOf(HasSubstr("text.fp16"), HasSubstr("exceed the range of fp16")));
}

TEST_F(T5EncoderTest, WarnsOfUnknownKeysOnce) {
  const T5Config config = small_config();
  const TensorMap weights = make(config);
  Json json = config.to_json();
  json["dropout_rate"] = 0.1;
  json["rope_theta"] = 10000;
  json["magic"] = true;
  test::write_model(folder_.path(), json, weights);
  test::CapturedLog log;
  T5Encoder::load(ModelFiles::in(folder_.path()), kFp32, log);
  EXPECT_EQ(log.warnings,
            "config keys without meaning for kinema path=" + folder_ / "config.json" +
                " keys=magic,rope_theta\n");
}

TEST_F(T5EncoderTest, MissingFilesAreIoErrors) {
  EXPECT_THAT(error_of([&] { load(); }), HasSubstr("io.open"));
  make(small_config());
  std::filesystem::remove(folder_ / "model.safetensors");
  EXPECT_THAT(error_of([&] { load(); }), HasSubstr("checkpoint.none"));
}

TEST(T5ConfigTest, JsonRoundTrip) {
  T5Config config = small_config();
  std::vector<std::string> unknown;
  EXPECT_EQ(T5Config::from_json(config.to_json(), "c", unknown), config);
  config.per_block_bias = true;
  config.is_gated = false;
  config.activation = nn::Activation::kRelu;
  EXPECT_EQ(T5Config::from_json(config.to_json(), "c", unknown), config);
  EXPECT_TRUE(unknown.empty());
}

std::string config_error(const std::function<void(Json&)>& change) {
  Json json = small_config().to_json();
  change(json);
  return error_of([&] {
    std::vector<std::string> unknown;
    static_cast<void>(T5Config::from_json(json, "config.json", unknown));
  });
}

TEST(T5ConfigTest, RefusesWhatIsMissingWrongOrContradictory) {
  EXPECT_THAT(config_error([](Json& j) { j.erase("d_ff"); }),
              AllOf(HasSubstr("config.missing"), HasSubstr("d_ff")));
  EXPECT_THAT(config_error([](Json& j) { j["d_ff"] = "many"; }), HasSubstr("config.type"));
  EXPECT_THAT(config_error([](Json& j) { j["feed_forward_proj"] = "gated-sine"; }),
              HasSubstr("text.activation"));
  EXPECT_THAT(config_error([](Json& j) { j["feed_forward_proj"] = "fenced-gelu"; }),
              HasSubstr("text.activation"));
  EXPECT_THAT(config_error([](Json& j) { j["dense_act_fn"] = "relu"; }), HasSubstr("dense_act_fn"));
  EXPECT_THAT(config_error([](Json& j) { j["is_gated_act"] = false; }), HasSubstr("is_gated_act"));
  EXPECT_THAT(config_error([](Json& j) { j["is_decoder"] = true; }), HasSubstr("is_decoder"));
  EXPECT_THAT(config_error([](Json& j) { j["model_type"] = "bert"; }),
              HasSubstr("text.model_type"));
  EXPECT_THAT(config_error([](Json& j) {
                j["num_layers"] = 1'000'000'000'000;
                j["d_model"] = 0;
                j["layer_norm_epsilon"] = -1.0;
              }),
              AllOf(HasSubstr("num_layers is 1000000000000"),
                    HasSubstr("d_model is 0"),
                    HasSubstr("layer_norm_epsilon")));
  EXPECT_THAT(config_error([](Json& j) { j["relative_attention_num_buckets"] = 7; }),
              HasSubstr("even"));
  EXPECT_THAT(config_error([](Json& j) { j["relative_attention_max_distance"] = 4; }),
              HasSubstr("quarter"));
}

TEST(T5ConfigTest, OldFilesWithoutActivationMeanRelu) {
  Json json = small_config().to_json();
  json.erase("feed_forward_proj");
  std::vector<std::string> unknown;
  T5Config config = T5Config::from_json(json, "c", unknown);
  EXPECT_EQ(config.activation, nn::Activation::kRelu);
  EXPECT_FALSE(config.is_gated);
  json["model_type"] = "umt5";
  config = T5Config::from_json(json, "c", unknown);
  EXPECT_EQ(config.activation, nn::Activation::kGeluTanh);
  EXPECT_TRUE(config.is_gated);
}

TEST(PackedRowsTest, UnpackUndoesPack) {
  const Tensor mask = mixed_mask(11);
  const PackedRows rows = PackedRows::from_mask(mask);
  const Tensor padded = at::arange(5 * 11 * 3, at::kFloat).view({5, 11, 3});
  const Tensor packed = rows.pack(padded);
  EXPECT_EQ(packed.size(0), mask.sum().item<std::int64_t>());
  EXPECT_TRUE(at::equal(rows.unpack(packed), padded * mask.unsqueeze(-1)));
  EXPECT_FALSE(rows.rows[1].positions.defined());
  EXPECT_TRUE(rows.rows[2].positions.defined());
  EXPECT_EQ(rows.rows[4].count, 0);
  EXPECT_EQ(rows.span(), 11);
}

TEST(PackedRowsTest, AFullMaskIsDense) {
  EXPECT_TRUE(PackedRows::from_mask(at::ones({2, 3}, at::kLong)).is_dense());
  const PackedRows none = PackedRows::from_mask(at::zeros({2, 3}, at::kLong));
  EXPECT_FALSE(none.is_dense());
  EXPECT_EQ(none.span(), 0);
}

TEST_F(T5EncoderTest, AMaskWithoutAnyTextGivesZeros) {
  make(small_config());
  const Tensor context = load()->encode(some_ids(2, 5), at::zeros({2, 5}, at::kLong)).context_BMD;
  EXPECT_TRUE(at::equal(context, at::zeros({2, 5, 24})));
}

TEST_F(T5EncoderTest, TheFactoryChoosesByModelType) {
  T5Config config = small_config();
  config.per_block_bias = true;
  make(config);
  EXPECT_EQ(TextEncoder::load(folder_.path(), kFp32)->info().family, "umt5");
  Json json = config.to_json();
  json["model_type"] = "bert";
  write_file(folder_ / "config.json", json.dump());
  EXPECT_THAT(error_of([&] { TextEncoder::load(folder_.path(), kFp32); }),
              AllOf(HasSubstr("text.model_type"), HasSubstr("got 'bert'")));
}

}  // namespace
}  // namespace kinema::text
