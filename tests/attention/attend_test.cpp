// SPDX-License-Identifier: Apache-2.0
#include "core/attention/attend.h"

#include <cmath>

#include <ATen/ATen.h>
#include <ATen/CPUGeneratorImpl.h>
#include <gtest/gtest.h>
#include <torch/csrc/autograd/autograd.h>

#include "core/base/error.h"

namespace kinema::attention {
namespace {

class AttendTest : public testing::Test {
 protected:
  Tensor draw(c10::IntArrayRef shape) { return at::randn(shape, generator_, at::kFloat); }
  DenseSegment segment(std::int64_t tokens) {
    return {.key_BMNK = draw({2, tokens, 3, 8}), .value_BMNK = draw({2, tokens, 3, 8})};
  }
  static KvStore store_of(std::initializer_list<DenseSegment> segments) {
    KvStore store;
    for (const DenseSegment& one : segments) {
      store.append(one);
    }
    return store;
  }
  static double worst(const Tensor& a, const Tensor& b) {
    return (a - b).abs().max().item<double>();
  }
  static constexpr AttendOptions kPlain = {.arithmetic = Arithmetic::kPlain};

  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(5);
};

/// The definition, token by token in double.
Tensor by_definition(const Tensor& query, const DenseSegment& segment, double scale) {
  const Tensor q = query.to(at::kDouble);
  const Tensor k = segment.key_BMNK.to(at::kDouble);
  const Tensor v = segment.value_BMNK.to(at::kDouble);
  Tensor logits = at::einsum("blnk,bmnk->bnlm", {q, k}) * scale;
  if (segment.log_weight_BM.defined()) {
    logits = logits + segment.log_weight_BM.to(at::kDouble).unsqueeze(1).unsqueeze(1);
  }
  return at::einsum("bnlm,bmnk->blnk", {at::softmax(logits, -1), v}).to(at::kFloat);
}

TEST_F(AttendTest, FollowsTheDefinition) {
  const Tensor query = draw({2, 5, 3, 8});
  DenseSegment tokens = segment(7);
  const double scale = 1.0 / std::sqrt(8.0);
  for (const bool weighted : {false, true}) {
    if (weighted) {
      tokens.log_weight_BM = draw({2, 7});
    }
    const Tensor expected = by_definition(query, tokens, scale);
    EXPECT_LE(worst(attend(query, store_of({tokens})), expected), 2e-6);
    EXPECT_LE(worst(attend(query, store_of({tokens}), kPlain), expected), 2e-6);
  }
  const Tensor steep = by_definition(query, tokens, 2.0);
  EXPECT_LE(worst(attend(query, store_of({tokens}), {.scale = 2.0}), steep), 2e-6);
}

TEST_F(AttendTest, SegmentsJoinToTheWhole) {
  const Tensor query = draw({2, 5, 3, 8});
  const DenseSegment whole = segment(9);
  const auto cut = [&](std::int64_t first, std::int64_t length) {
    return DenseSegment{.key_BMNK = whole.key_BMNK.narrow(1, first, length),
                        .value_BMNK = whole.value_BMNK.narrow(1, first, length)};
  };
  const Tensor expected = attend(query, store_of({whole}));
  const KvStore parts = store_of({cut(0, 4), cut(4, 1), cut(5, 4)});
  EXPECT_EQ(parts.num_tokens(), 9);
  EXPECT_LE(worst(attend(query, parts), expected), 2e-6);
  EXPECT_LE(worst(attend(query, parts, kPlain), expected), 2e-6);
  // Any order of joining gives the same.
  const PartialAttention a = attend_partial(query, cut(0, 4));
  const PartialAttention b = attend_partial(query, cut(4, 5), kPlain);
  EXPECT_LE(worst(join(a, b).output_BLNK, expected), 2e-6);
  EXPECT_LE(worst(join(b, a).output_BLNK, expected), 2e-6);
  EXPECT_LE(worst(join(a, b).lse_BLN, attend_partial(query, whole).lse_BLN), 2e-6);
}

TEST_F(AttendTest, WeightOfATokenCountsCopies) {
  const Tensor query = draw({2, 3, 3, 8});
  const DenseSegment single = segment(4);
  DenseSegment weighted = single;
  weighted.log_weight_BM = at::zeros({2, 4});
  weighted.log_weight_BM.select(1, 2).fill_(std::log(3.0));
  const DenseSegment copies = {
      .key_BMNK = at::cat(
          {single.key_BMNK, single.key_BMNK.narrow(1, 2, 1), single.key_BMNK.narrow(1, 2, 1)}, 1),
      .value_BMNK = at::cat(
          {single.value_BMNK, single.value_BMNK.narrow(1, 2, 1), single.value_BMNK.narrow(1, 2, 1)},
          1)};
  EXPECT_LE(worst(attend(query, store_of({weighted})), attend(query, store_of({copies}))), 2e-6);
}

TEST_F(AttendTest, HiddenTokensDoNotCount) {
  const Tensor query = draw({2, 3, 3, 8});
  DenseSegment tokens = segment(6);
  const Tensor mask = at::tensor({1, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}).view({2, 6});
  tokens.log_weight_BM = log_weight_of_mask(mask, at::kFloat);
  const Tensor expected = attend(
      query.narrow(0, 0, 1),
      store_of({{.key_BMNK =
                     tokens.key_BMNK.index({at::tensor({0}).unsqueeze(1), at::tensor({0, 1, 3})}),
                 .value_BMNK = tokens.value_BMNK.index(
                     {at::tensor({0}).unsqueeze(1), at::tensor({0, 1, 3})})}}));
  for (const AttendOptions& options : {AttendOptions{}, kPlain}) {
    const Tensor output = attend(query, store_of({tokens}), options);
    EXPECT_LE(worst(output.narrow(0, 0, 1), expected), 2e-6);
    // Nothing to see at all: zeros, alone and beside another segment.
    EXPECT_EQ(output[1].abs().max().item<float>(), 0.0F);
    const DenseSegment more = segment(2);
    EXPECT_LE(worst(attend(query, store_of({tokens, more}), options)[1],
                    attend(query, store_of({more}))[1]),
              2e-6);
  }
}

TEST_F(AttendTest, TakesStridedViews) {
  // Frames of one position out of [frames, positions, 3, heads, width].
  const Tensor qkv = draw({4, 5, 3, 3, 8});
  const auto part = [&](std::int64_t i) { return qkv.select(2, i).transpose(0, 1); };
  const KvStore strided = store_of({{.key_BMNK = part(1), .value_BMNK = part(2)}});
  const KvStore compact =
      store_of({{.key_BMNK = part(1).contiguous(), .value_BMNK = part(2).contiguous()}});
  EXPECT_LE(worst(attend(part(0), strided), attend(part(0).contiguous(), compact)), 1e-6);
}

TEST_F(AttendTest, GradientsOfSegmentsAreThoseOfTheWhole) {
  const auto leaf = [&](c10::IntArrayRef shape) { return draw(shape).requires_grad_(); };
  const Tensor query = leaf({2, 3, 3, 8});
  const Tensor key = leaf({2, 6, 3, 8});
  const Tensor value = leaf({2, 6, 3, 8});
  const Tensor weights = draw({2, 3, 3, 8});
  const auto gradients = [&](bool parts, Arithmetic arithmetic) {
    KvStore store;
    for (std::int64_t first = 0; first < 6; first += parts ? 3 : 6) {
      const std::int64_t length = parts ? 3 : 6;
      store.append(
          {.key_BMNK = key.narrow(1, first, length), .value_BMNK = value.narrow(1, first, length)});
    }
    const Tensor loss = (attend(query, store, {.arithmetic = arithmetic}) * weights).sum();
    return torch::autograd::grad({loss}, {query, key, value});
  };
  const auto expected = gradients(false, Arithmetic::kPlain);
  for (const bool parts : {false, true}) {
    const auto got = gradients(parts, Arithmetic::kAuto);
    for (std::size_t i = 0; i < expected.size(); ++i) {
      EXPECT_LE(worst(got[i], expected[i]), 5e-6);
    }
  }
}

TEST_F(AttendTest, RefusesWhatDoesNotFit) {
  const auto code = [](const auto& call) {
    try {
      call();
    } catch (const Error& error) {
      return error.code();
    }
    return std::string("nothing thrown");
  };
  const KvStore none;
  EXPECT_EQ(code([&] { (void)attend(draw({2, 3, 3, 8}), none); }), "attention.empty");
  KvStore store = store_of({segment(4)});
  EXPECT_EQ(code([&] { (void)attend(draw({2, 3, 3, 6}), store); }), "tensor.shape");
  EXPECT_EQ(code([&] { store.append({draw({2, 4, 3, 6}), draw({2, 4, 3, 6})}); }),
            "attention.segment");
  EXPECT_EQ(code([&] { store.append({draw({2, 4, 3, 8}), draw({2, 5, 3, 8})}); }),
            "attention.segment");
  EXPECT_EQ(code([&] { store.append({draw({2, 4, 3, 8}), draw({2, 4, 3, 8}), draw({2, 5})}); }),
            "attention.segment");
  EXPECT_EQ(store.num_tokens(), 4);
  EXPECT_EQ(store.num_bytes(), 2 * 2 * 4 * 3 * 8 * 4);
}

}  // namespace
}  // namespace kinema::attention
