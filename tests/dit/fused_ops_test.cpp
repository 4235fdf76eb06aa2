// SPDX-License-Identifier: Apache-2.0
// Kernels against their plain twins, on parts of tensors, with vectors for samples and for frames.
#include "dit/modules/fused_ops.h"

#include <cmath>

#include "core/kernels/token_rows.h"
#include "tests/dit/small_models.h"

namespace kinema::dit {
namespace {

double worst(const Tensor& a, const Tensor& b) {
  return (a - b).abs().max().item<double>();
}

class FusedOps : public testing::Test {
 protected:
  Tensor draw(c10::IntArrayRef shape) { return at::randn(shape, generator_, at::kFloat); }
  at::Generator generator_ = at::make_generator<at::CPUGeneratorImpl>(21);

  static constexpr std::array kParts = {
      Part{.first_frame = 0, .num_frames = 6, .first_position = 0, .num_positions = 5},
      Part{.first_frame = 2, .num_frames = 3, .first_position = 0, .num_positions = 5},
      Part{.first_frame = 0, .num_frames = 6, .first_position = 3, .num_positions = 2},
      Part{.first_frame = 1, .num_frames = 4, .first_position = 1, .num_positions = 1}};
};

TEST_F(FusedOps, Modulate) {
  for (const std::int64_t width : {1, 15, 16, 36, 77}) {
    for (const std::int64_t vectors : {2, 6}) {
      const Tensor x = draw({6, 5, width}) * 3.0 + 1.0;
      const Tensor table = draw({vectors, 6, width});
      for (const Part& part : kParts) {
        const Tensor ours = modulate_part(x, part, table.select(1, 0), table.select(1, 1), 1e-6);
        const Tensor twin =
            plain::modulate_part(x, part, table.select(1, 0), table.select(1, 1), 1e-6);
        EXPECT_LE(worst(ours, twin), 1e-5) << width << " " << vectors;
      }
    }
  }
}

TEST_F(FusedOps, AddGated) {
  for (const std::int64_t vectors : {0, 2, 6}) {
    const Tensor table = vectors > 0 ? draw({vectors, 6, 37}) : Tensor();
    const Tensor gate = vectors > 0 ? table.select(1, 2) : Tensor();
    for (const Part& part : kParts) {
      Tensor ours = draw({6, 5, 37});
      Tensor twin = ours.clone();
      const Tensor before = ours.clone();
      const Tensor y = draw({part.num_frames, part.num_positions, 37});
      add_gated_part(ours, part, y, gate);
      plain::add_gated_part(twin, part, y, gate);
      EXPECT_LE(worst(ours, twin), 1e-6);
      // Nothing outside the part is touched.
      part.of(ours).copy_(part.of(before));
      EXPECT_TRUE(at::equal(ours, before));
    }
  }
}

TEST_F(FusedOps, NormRotate) {
  for (const std::int64_t head_width : {2, 12, 72, 10}) {
    const auto frequencies = attention::rotary_frequencies(head_width);
    const auto table = attention::rotary_table(at::arange(3, at::kFloat), frequencies);
    for (const bool norm : {false, true}) {
      for (const bool rotates : {false, true}) {
        for (const bool rotate_first : {false, true}) {
          QueryKeyRule rule = {.rotary = rotates ? &table : nullptr,
                               .rows_per_position = 5,
                               .rotate_first = rotate_first};
          if (norm) {
            rule.query_weight_K = draw({head_width});
            rule.key_weight_K = draw({head_width});
          }
          Tensor ours = draw({6, 5, 3 * 2 * head_width});
          Tensor twin = ours.clone();
          const Tensor values = ours.view({30, 3, -1}).select(1, 2).clone();
          norm_rotate(ours, 2, rule);
          plain::norm_rotate(twin, 2, rule);
          EXPECT_LE(worst(ours, twin), 1e-5) << head_width << norm << rotates << rotate_first;
          EXPECT_TRUE(at::equal(ours.view({30, 3, -1}).select(1, 2), values));
        }
      }
    }
  }
}

TEST_F(FusedOps, AttendOverFrames) {
  for (const std::int64_t frames : {1, 2, 15, 16, 17, 40, 129}) {
    for (const std::int64_t head_width : {5, 24, 72}) {
      const Tensor qkv = draw({2 * frames, 7, 3 * 3 * head_width}) * 2.0;
      const Tensor ours = attend_over_frames(qkv, 2, 3);
      const Tensor twin = plain::attend_over_frames(qkv, 2, 3);
      EXPECT_LE(worst(ours, twin), 1e-5) << frames << " " << head_width;
    }
  }
}

TEST_F(FusedOps, FrameAttentionSurvivesLargeLogits) {
  Tensor qkv = draw({4, 1, 3 * 8});
  qkv.narrow(2, 0, 16).mul_(200.0);
  const Tensor ours = attend_over_frames(qkv, 1, 1);
  EXPECT_TRUE(at::isfinite(ours).all().item<bool>());
  EXPECT_LE(worst(ours, plain::attend_over_frames(qkv, 1, 1)), 1e-4);
}

TEST_F(FusedOps, DeviceKernelsAreAbsentOrRun) {
  if (!kernels::cuda_built()) {
    const kernels::CudaStatus status = kernels::modulate_rows_cuda<float>({}, nullptr);
    EXPECT_EQ(status.code, kernels::CudaCode::kNotBuilt);
    return;
  }
  if (!at::hasCUDA()) {
    return;
  }
  const Tensor x = draw({6, 5, 36});
  const Tensor table = draw({2, 6, 36});
  const Part& part = kParts[1];
  const Tensor expected =
      plain::modulate_part(x, part, table.select(1, 0), table.select(1, 1), 1e-6);
  const Tensor on_device = table.to(at::kCUDA);
  const Tensor got =
      modulate_part(x.to(at::kCUDA), part, on_device.select(1, 0), on_device.select(1, 1), 1e-6);
  EXPECT_LE(worst(got.cpu(), expected), 1e-5);
  const Tensor qkv = draw({8, 7, 3 * 3 * 24});
  EXPECT_LE(worst(attend_over_frames(qkv.to(at::kCUDA), 2, 3).cpu(),
                  plain::attend_over_frames(qkv, 2, 3)),
            5e-6);
}

}  // namespace
}  // namespace kinema::dit
