// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/shape_check.h"

#include <functional>
#include <string>

#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/tensor/place.h"
#include "core/tensor/torch_error.h"

namespace kinema::tensor {
namespace {

std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& error) {
    return error.code() + " " + error.what();
  }
  return "nothing thrown";
}

TEST(ShapeCheckTest, AcceptsMatchingSizes) {
  EXPECT_NO_THROW(check_shape(at::zeros({2, 3, 5}), {kAny, 3, 5}, "vae.encode", "x_BCH"));
  EXPECT_NO_THROW(check_shape(at::zeros({}), {}, "vae.encode", "x"));
}

TEST(ShapeCheckTest, NamesPlaceTensorExpectedAndGot) {
  EXPECT_EQ(message_of([] { check_shape(at::zeros({2, 4}), {kAny, 3}, "vae.encode", "video_BC"); }),
            "tensor.shape [vae.encode] video_BC: expected [?, 3], got [2, 4]");
}

TEST(ShapeCheckTest, RefusesAnotherNumberOfAxesAndNoTensor) {
  EXPECT_EQ(message_of([] { check_shape(at::zeros({2, 3, 1}), {2, 3}, "p", "x"); }),
            "tensor.shape [p] x: expected [2, 3], got [2, 3, 1]");
  EXPECT_EQ(message_of([] { check_shape(Tensor(), {2}, "p", "x"); }),
            "tensor.shape [p] x: expected [2], got no tensor");
}

TEST(PlaceTest, ParsesDevicesAndDtypes) {
  EXPECT_EQ(parse_device("cpu"), c10::Device(c10::kCPU));
  EXPECT_EQ(parse_dtype("bf16"), c10::kBFloat16);
  EXPECT_EQ(parse_dtype("float32"), c10::kFloat);
  EXPECT_EQ(parse_dtype("fp16"), c10::kHalf);
  EXPECT_EQ(parse_dtype("auto"), std::nullopt);
  EXPECT_EQ(to_string(Place{c10::Device(c10::kCPU), c10::kBFloat16}), "cpu bf16");
}

TEST(PlaceTest, AutoTakesTheFastestDtypeOfTheDevice) {
  const Place place = parse_place("cpu", "auto");
  EXPECT_EQ(place.dtype, fastest_dtype(place.device));
  EXPECT_EQ(fastest_dtype(c10::Device(c10::kCUDA, 0)), c10::kBFloat16);
  EXPECT_EQ(parse_place("cpu", "fp32").dtype, c10::kFloat);
}

TEST(PlaceTest, RefusesOtherWords) {
  for (const char* text :
       {"", "gpu", "cuda:", "cuda:x", "cuda:-1", "cuda:1x", "cuda:999999999999", "CPU"}) {
    EXPECT_THAT(message_of([&] { static_cast<void>(parse_device(text)); }),
                testing::HasSubstr("device.name"))
        << text;
  }
  EXPECT_THAT(message_of([] { static_cast<void>(parse_dtype("int8")); }),
              testing::AllOf(testing::HasSubstr("dtype.name"), testing::HasSubstr("'int8'")));
}

TEST(PlaceTest, AGpuThatIsNotThereIsUnsupported) {
  EXPECT_THAT(message_of([] { static_cast<void>(parse_device("cuda:127")); }),
              testing::HasSubstr("device.unavailable"));
}

TEST(TorchErrorTest, KeepsOurErrorsAndTranslatesOthers) {
  EXPECT_THAT(
      message_of([] { with_torch_errors("vae", [] { check_shape(Tensor(), {2}, "p", "x"); }); }),
      testing::HasSubstr("tensor.shape"));
  const std::string text = message_of(
      [] { with_torch_errors("vae", [] { return at::zeros({2, 3}).matmul(at::zeros({2, 3})); }); });
  EXPECT_THAT(text, testing::HasSubstr("torch.error [vae]"));
  EXPECT_THAT(text, testing::Not(testing::HasSubstr("frame #")));
}

TEST(TorchErrorTest, MemoryThatCannotBeHadIsOutOfMemory) {
  try {
    with_torch_errors("vae", [] { return at::zeros({std::int64_t{1} << 50}); });
    FAIL() << "allocated a petabyte";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::kOutOfMemory);
    EXPECT_EQ(error.code(), "memory.exhausted");
  }
}

}  // namespace
}  // namespace kinema::tensor
