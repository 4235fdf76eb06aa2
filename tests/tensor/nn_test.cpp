// SPDX-License-Identifier: Apache-2.0
#include <atomic>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include "core/kernels/narrow_linear.h"
#include "core/nn/activations.h"
#include "core/nn/embedding.h"
#include "core/nn/linear.h"
#include "core/nn/norm.h"
#include "core/nn/parallel.h"

namespace kinema::nn {
namespace {

at::Generator seeded(std::uint64_t seed) {
  return at::make_generator<at::CPUGeneratorImpl>(seed);
}

// --- the kernel against its plain twin: equal bits ---

struct Shape {
  std::int64_t tokens, in, out;
};

class NarrowLinearTest
    : public testing::TestWithParam<std::tuple<Shape, kernels::WeightType, kernels::Isa>> {};

TEST_P(NarrowLinearTest, EqualsTheReferenceBitForBit) {
  const auto& [shape, type, isa] = GetParam();
  if (!kernels::has_narrow_linear(isa)) {
    GTEST_SKIP() << "this CPU has no " << kernels::to_string(isa);
  }
  auto generator = seeded(7);
  const Tensor x = at::randn({shape.tokens, shape.in}, generator);
  const auto dtype = type == kernels::WeightType::kF32    ? at::kFloat
                     : type == kernels::WeightType::kBF16 ? at::kBFloat16
                                                          : at::kHalf;
  const Tensor weight = at::randn({shape.out, shape.in}, generator).to(dtype);
  const Tensor bias = at::randn({shape.out}, generator);
  Tensor fast = at::full({shape.tokens, shape.out}, NAN);
  Tensor plain = at::full({shape.tokens, shape.out}, NAN);
  kernels::NarrowLinear work = {.tokens = shape.tokens,
                                .in = shape.in,
                                .out = shape.out,
                                .x = x.mutable_data_ptr<float>(),
                                .weight = weight.const_data_ptr(),
                                .type = type,
                                .bias = bias.mutable_data_ptr<float>(),
                                .y = plain.mutable_data_ptr<float>(),
                                .isa = isa};
  kernels::reference::linear(work);
  work.y = fast.mutable_data_ptr<float>();
  std::vector<float> packed(kernels::packed_floats(work));
  std::vector<float> scratch(kernels::scratch_floats(work));
  kernels::pack_tokens(work, packed.data(), 0, kernels::num_pack_parts(work));
  const std::int64_t middle = shape.out / 3;
  kernels::linear_outputs(work, packed.data(), scratch.data(), middle, shape.out);
  kernels::linear_outputs(work, packed.data(), scratch.data(), 0, middle);
  EXPECT_TRUE(at::equal(fast, plain));
}

INSTANTIATE_TEST_SUITE_P(Shapes,
                         NarrowLinearTest,
                         testing::Combine(testing::Values(Shape{1, 1, 1},
                                                          Shape{1, 300, 7},
                                                          Shape{5, 64, 48},
                                                          Shape{16, 256, 49},
                                                          Shape{17, 257, 95},
                                                          Shape{33, 515, 13},
                                                          Shape{70, 1031, 101}),
                                          testing::Values(kernels::WeightType::kF32,
                                                          kernels::WeightType::kBF16,
                                                          kernels::WeightType::kF16),
                                          testing::Values(kernels::Isa::kAvx2,
                                                          kernels::Isa::kAvx512)));

// --- linear() against widening the weight first ---

class LinearTest : public testing::TestWithParam<std::tuple<Shape, at::ScalarType, bool>> {};

TEST_P(LinearTest, WidenedProductEqualsPlainOne) {
  const auto& [shape, dtype, has_bias] = GetParam();
  at::NoGradGuard no_grad;
  auto generator = seeded(3);
  const Tensor x = at::randn({2, shape.tokens, shape.in}, generator);
  const Tensor weight = at::randn({shape.out, shape.in}, generator).to(dtype);
  const Tensor bias = has_bias ? at::randn({shape.out}, generator).to(dtype) : Tensor();
  const Tensor got = nn::linear(x, weight, bias);
  const Tensor expected = at::linear(
      x.to(at::kDouble), weight.to(at::kDouble), has_bias ? bias.to(at::kDouble) : Tensor());
  EXPECT_EQ(got.scalar_type(), at::kFloat);
  EXPECT_EQ(got.sizes(), expected.sizes());
  const double scale = std::sqrt(static_cast<double>(shape.in));
  EXPECT_LT((got - expected).abs().max().item<double>(), 2e-6 * scale);
  EXPECT_LT((linear_reference(x, weight, bias) - expected).abs().max().item<double>(),
            2e-6 * scale);
}

INSTANTIATE_TEST_SUITE_P(
    Shapes,
    LinearTest,
    testing::Combine(testing::Values(Shape{1, 3, 2}, Shape{7, 130, 60}, Shape{19, 600, 301}),
                     testing::Values(at::kBFloat16, at::kHalf, at::kDouble, at::kFloat),
                     testing::Bool()));

TEST(LinearLayerTest, SixteenBitInputsStaySixteenBit) {
  at::NoGradGuard no_grad;
  const Tensor x = at::randn({4, 32}, seeded(1)).to(at::kBFloat16);
  const Tensor weight = at::randn({8, 32}, seeded(2));
  EXPECT_EQ(nn::linear(x, weight).scalar_type(), at::kBFloat16);
}

TEST(LinearLayerTest, OtherStridesAndEmptyInputs) {
  at::NoGradGuard no_grad;
  const Tensor x = at::randn({24, 5}, seeded(1)).t();
  const Tensor weight = at::randn({24, 9}, seeded(2)).to(at::kBFloat16).t();
  EXPECT_LT((nn::linear(x, weight) - linear_reference(x, weight)).abs().max().item<float>(), 1e-4F);
  EXPECT_EQ(nn::linear(x.narrow(0, 0, 0), weight).sizes(), (std::vector<std::int64_t>{0, 9}));
}

TEST(LinearLayerTest, GradientsFlowThroughWidenedWeights) {
  Tensor weight = at::randn({6, 10}, seeded(5)).to(at::kBFloat16).requires_grad_();
  const Tensor x = at::randn({3, 10}, seeded(6));
  nn::linear(x, weight).sum().backward();
  const Tensor expected = x.sum(0).expand({6, 10});
  EXPECT_LT((weight.grad().to(at::kFloat) - expected).abs().max().item<float>(), 0.05F);
}

TEST(LinearLayerTest, RegistersWeightAndBias) {
  const Linear with_bias(4, 3, /*has_bias=*/true);
  const Linear without(4, 3, /*has_bias=*/false);
  EXPECT_EQ(with_bias->named_parameters().keys(), (std::vector<std::string>{"weight", "bias"}));
  EXPECT_EQ(without->named_parameters().keys(), (std::vector<std::string>{"weight"}));
  EXPECT_EQ(with_bias->weight.sizes(), (std::vector<std::int64_t>{3, 4}));
}

TEST(ParameterTest, DeferredParametersHaveAShapeAndNoMemory) {
  const Tensor huge = make_parameter({1 << 20, 1 << 20}, {.deferred = true});
  EXPECT_EQ(huge.size(1), 1 << 20);
  EXPECT_EQ(huge.storage().nbytes(), sizeof(float));
  Tensor writable = huge;
  EXPECT_ANY_THROW(writable.narrow(0, 0, 2).add_(1.0));
}

TEST(NormTest, RmsNormFollowsItsFormula) {
  at::NoGradGuard no_grad;
  RmsNorm norm(5, 1e-6);
  norm->weight.copy_(at::randn({5}, seeded(1)));
  const Tensor x = at::randn({2, 3, 5}, seeded(2)) * 10.0;
  const Tensor wide = x.to(at::kDouble);
  const Tensor expected =
      wide / (wide.square().mean(-1, true) + 1e-6).sqrt() * norm->weight.to(at::kDouble);
  EXPECT_LT((norm->forward(x) - expected).abs().max().item<double>(), 1e-5);
  const Tensor narrow = norm->forward(x.to(at::kBFloat16));
  EXPECT_EQ(narrow.scalar_type(), at::kBFloat16);
  EXPECT_LT((narrow.to(at::kDouble) - expected).abs().max().item<double>(), 0.05);
}

TEST(NormTest, LayerNormFollowsItsFormula) {
  at::NoGradGuard no_grad;
  LayerNorm norm(7, 1e-5);
  norm->weight.copy_(at::randn({7}, seeded(1)));
  norm->bias.copy_(at::randn({7}, seeded(2)));
  const Tensor x = at::randn({3, 7}, seeded(3)) + 4.0;
  const Tensor wide = x.to(at::kDouble);
  const Tensor centred = wide - wide.mean(-1, true);
  const Tensor expected =
      centred / (centred.square().mean(-1, true) + 1e-5).sqrt() * norm->weight.to(at::kDouble) +
      norm->bias.to(at::kDouble);
  EXPECT_LT((norm->forward(x) - expected).abs().max().item<double>(), 1e-5);
}

TEST(EmbeddingTest, LooksUpRows) {
  at::NoGradGuard no_grad;
  Embedding embedding(4, 3);
  embedding->weight.copy_(at::randn({4, 3}, seeded(1)));
  const Tensor ids = at::tensor(std::vector<std::int64_t>{3, 0, 3}).view({1, 3});
  const Tensor rows = embedding->forward(ids);
  EXPECT_TRUE(at::equal(rows[0][0], embedding->weight[3]));
  EXPECT_TRUE(at::equal(rows[0][1], embedding->weight[0]));
}

TEST(ActivationTest, FollowTheirFormulas) {
  const Tensor x = at::randn({200}, seeded(1)).to(at::kDouble) * 3.0;
  const auto near = [](const Tensor& a, const Tensor& b) {
    return (a - b).abs().max().item<double>() < 1e-12;
  };
  EXPECT_TRUE(near(activate(x, Activation::kRelu), x.clamp_min(0)));
  EXPECT_TRUE(near(activate(x, Activation::kGelu), x * 0.5 * (1.0 + (x / std::sqrt(2.0)).erf())));
  const Tensor inner = (x + 0.044715 * x.pow(3)) * std::sqrt(2.0 / 3.14159265358979323846);
  EXPECT_TRUE(near(activate(x, Activation::kGeluTanh), 0.5 * x * (1.0 + inner.tanh())));
  EXPECT_TRUE(near(activate(x, Activation::kQuickGelu), x / (1.0 + (x * -1.702).exp())));
  EXPECT_TRUE(near(activate(x, Activation::kSilu), x / (1.0 + (-x).exp())));
}

TEST(ActivationTest, NamesGoBothWaysAndInPlaceIsTheSame) {
  const Tensor x = at::randn({64}, seeded(1));
  for (const Activation activation : {Activation::kRelu,
                                      Activation::kGelu,
                                      Activation::kGeluTanh,
                                      Activation::kQuickGelu,
                                      Activation::kSilu}) {
    EXPECT_EQ(parse_activation(to_string(activation)), activation);
    Tensor changed = x.clone();
    activate_inplace(changed, activation);
    EXPECT_TRUE(at::equal(changed, activate(x, activation)));
  }
  EXPECT_EQ(parse_activation("tanhshrink"), std::nullopt);
}

TEST(ParallelTest, EveryChunkRunsOnce) {
  for (const std::int64_t count : {0, 1, 2, 1000}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
    parallel_chunks(count, [&](std::int64_t i) { calls[static_cast<std::size_t>(i)] += 1; });
    for (const auto& call : calls) {
      EXPECT_EQ(call.load(), 1);
    }
  }
}

TEST(ParallelTest, MayBeCalledFromItsOwnChunks) {
  std::atomic<int> calls = 0;
  parallel_chunks(8, [&](std::int64_t) { parallel_chunks(8, [&](std::int64_t) { calls += 1; }); });
  EXPECT_EQ(calls.load(), 64);
}

}  // namespace
}  // namespace kinema::nn
