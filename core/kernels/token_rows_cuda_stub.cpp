// SPDX-License-Identifier: Apache-2.0
// Stands in for token_rows.cu in a build without CUDA: every call says so.
#include "core/kernels/token_rows.h"

namespace kinema::kernels {
namespace {

constexpr CudaStatus kNotBuilt{.code = CudaCode::kNotBuilt,
                               .device_error = 0,
                               .message = "built without CUDA kernels (KINEMA_CUDA=OFF)"};

}  // namespace

template <typename T>
CudaStatus modulate_rows_cuda(const ModulateRows<T>& /*work*/, void* /*stream*/) noexcept {
  return kNotBuilt;
}

template <typename T>
CudaStatus add_gated_rows_cuda(const AddGatedRows<T>& /*work*/, void* /*stream*/) noexcept {
  return kNotBuilt;
}

template <typename T>
CudaStatus norm_rotate_rows_cuda(const NormRotateRows<T>& /*work*/, void* /*stream*/) noexcept {
  return kNotBuilt;
}

template <typename T>
CudaStatus attend_frames_cuda(const FrameAttention<T>& /*work*/, void* /*stream*/) noexcept {
  return kNotBuilt;
}

template CudaStatus modulate_rows_cuda(const ModulateRows<float>&, void*) noexcept;
template CudaStatus modulate_rows_cuda(const ModulateRows<std::uint16_t>&, void*) noexcept;
template CudaStatus add_gated_rows_cuda(const AddGatedRows<float>&, void*) noexcept;
template CudaStatus add_gated_rows_cuda(const AddGatedRows<std::uint16_t>&, void*) noexcept;
template CudaStatus norm_rotate_rows_cuda(const NormRotateRows<float>&, void*) noexcept;
template CudaStatus norm_rotate_rows_cuda(const NormRotateRows<std::uint16_t>&, void*) noexcept;
template CudaStatus attend_frames_cuda(const FrameAttention<float>&, void*) noexcept;
template CudaStatus attend_frames_cuda(const FrameAttention<std::uint16_t>&, void*) noexcept;

}  // namespace kinema::kernels
