// SPDX-License-Identifier: Apache-2.0
// A build without CUDA says so at every call and touches nothing.
#include <string>

#include <gtest/gtest.h>

#include "core/kernels/bf16.h"
#include "core/kernels/cuda_status.h"
#include "core/kernels/group_norm_silu.h"
#include "core/kernels/noise.h"

namespace kinema::kernels {
namespace {

TEST(CudaStubTest, EveryCallSaysThatItWasNotBuilt) {
  EXPECT_FALSE(cuda_built());
  float number = 7;
  std::uint16_t half = 7;
  for (const CudaStatus& status :
       {fill_normal_cuda(&number, {}, nullptr),
        fill_normal_flat_cuda(&number, {}, 0, 1, nullptr),
        widen_bf16_cuda(&number, &half, 1, nullptr),
        narrow_bf16_cuda(&half, &number, 1, nullptr),
        group_norm_silu_cuda(&number, &number, 1, 1, 1, 1, 1.0, &number, &number, true, nullptr)}) {
    EXPECT_EQ(status.code, CudaCode::kNotBuilt);
    EXPECT_NE(std::string(status.message).find("KINEMA_CUDA"), std::string::npos);
  }
  EXPECT_EQ(number, 7);
  EXPECT_EQ(half, 7);
}

}  // namespace
}  // namespace kinema::kernels
