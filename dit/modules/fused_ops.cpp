// SPDX-License-Identifier: Apache-2.0
#include "dit/modules/fused_ops.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <type_traits>

#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/layer_norm.h>
#include <ATen/ops/rsqrt.h>

#include "core/attention/attend.h"
#include "core/base/error.h"
#include "core/kernels/token_rows.h"
#include "core/nn/parallel.h"

namespace kinema::dit {
namespace {

constexpr std::int64_t kRowsPerChunk = 64;

/// Which kernels serve a tensor.
enum class Backend { kPlain, kCpu, kCuda };

Backend backend_of(const Tensor& x) {
  if (x.device().is_cpu()) {
    return x.scalar_type() == c10::kFloat ? Backend::kCpu : Backend::kPlain;
  }
  const bool has_type = x.scalar_type() == c10::kFloat || x.scalar_type() == c10::kBFloat16;
  return x.device().is_cuda() && kernels::cuda_built() && has_type ? Backend::kCuda
                                                                   : Backend::kPlain;
}

template <typename T>
T* data_of(const Tensor& tensor) {
  return tensor.defined() ? static_cast<T*>(tensor.mutable_data_ptr()) : nullptr;
}

void check(const kernels::CudaStatus& status) {
  if (status.code != kernels::CudaCode::kOk) {
    throw Error(ErrorKind::kInternal,
                {.code = "cuda.launch", .place = "dit.fused_ops", .subject = status.message});
  }
}

/// Calls function(T{}) with the storage type of a tensor on the device.
template <typename Function>
void with_storage(const Tensor& x, const Function& function) {
  if (x.scalar_type() == c10::kFloat) {
    function(float{});
  } else {
    function(std::uint16_t{});
  }
}

template <typename Work, typename Kernel>
void run_rows(const Work& work, std::int64_t rows, const Kernel& kernel) {
  const std::int64_t chunks = (rows + kRowsPerChunk - 1) / kRowsPerChunk;
  nn::parallel_chunks(chunks, [&](std::int64_t i) {
    kernel(work, i * kRowsPerChunk, std::min((i + 1) * kRowsPerChunk, rows));
  });
}

kernels::GroupVectors vectors_of(const Tensor& x_FSD, const Part& part, const Tensor& vector_RD) {
  return {.stride = vector_RD.defined() ? vector_RD.stride(0) : 0,
          .outer_per_vector = vector_RD.defined() ? x_FSD.size(0) / vector_RD.size(0) : 1,
          .first_outer = part.first_frame};
}

template <typename T>
kernels::ModulateRows<T> modulate_work(const Tensor& x_FSD,
                                       const Part& part,
                                       const Tensor& shift_RD,
                                       const Tensor& scale_RD,
                                       double eps,
                                       const Tensor& out) {
  return {.slab = {.outer = part.num_frames, .inner = part.num_positions},
          .width = x_FSD.size(2),
          .x = data_of<const T>(part.of(x_FSD)),
          .x_stride = x_FSD.stride(0),
          .out = data_of<T>(out),
          .shift = data_of<const T>(shift_RD),
          .scale = data_of<const T>(scale_RD),
          .vectors = vectors_of(x_FSD, part, shift_RD),
          .eps = static_cast<float>(eps)};
}

template <typename T>
kernels::AddGatedRows<T> add_work(const Tensor& x_FSD,
                                  const Part& part,
                                  const Tensor& y_fsD,
                                  const Tensor& gate_RD) {
  return {.slab = {.outer = part.num_frames, .inner = part.num_positions},
          .width = x_FSD.size(2),
          .x = data_of<T>(part.of(x_FSD)),
          .x_stride = x_FSD.stride(0),
          .y = data_of<const T>(y_fsD),
          .gate = data_of<const T>(gate_RD),
          .vectors = vectors_of(x_FSD, part, gate_RD)};
}

template <typename T>
kernels::NormRotateRows<T> norm_work(const Tensor& qkv,
                                     std::int64_t num_heads,
                                     const QueryKeyRule& rule) {
  const std::int64_t head_width = qkv.size(-1) / 3 / num_heads;
  const bool rotates = rule.rotary != nullptr;
  return {.rows = qkv.numel() / qkv.size(-1),
          .heads = num_heads,
          .head_width = head_width,
          .qkv = data_of<T>(qkv),
          .query_weight = data_of<const T>(rule.query_weight_K),
          .key_weight = data_of<const T>(rule.key_weight_K),
          .eps = static_cast<float>(rule.eps),
          .cosine = rotates ? data_of<const float>(rule.rotary->cos_LJ) : nullptr,
          .sine = rotates ? data_of<const float>(rule.rotary->sin_LJ) : nullptr,
          .rows_per_position = rule.rows_per_position,
          .num_positions = rotates ? rule.rotary->length() : 1,
          .rotate_first = rule.rotate_first};
}

template <typename T>
kernels::FrameAttention<T> frame_work(const Tensor& qkv,
                                      std::int64_t batch,
                                      std::int64_t num_heads,
                                      const Tensor& out) {
  const std::int64_t head_width = out.size(2) / num_heads;
  return {.batch = batch,
          .frames = qkv.size(0) / batch,
          .positions = qkv.size(1),
          .heads = num_heads,
          .head_width = head_width,
          .qkv = data_of<const T>(qkv),
          .out = data_of<T>(out),
          .scale = 1.0F / std::sqrt(static_cast<float>(head_width))};
}

/// The vector of every frame of the part, [f, 1, D].
Tensor frame_vectors(const Tensor& x_FSD, const Part& part, const Tensor& vector_RD) {
  const std::int64_t repeats = x_FSD.size(0) / vector_RD.size(0);
  return vector_RD.repeat_interleave(repeats, 0)
      .narrow(0, part.first_frame, part.num_frames)
      .unsqueeze(1);
}

}  // namespace

Tensor Part::of(const Tensor& x_FSD) const {
  return x_FSD.narrow(0, first_frame, num_frames).narrow(1, first_position, num_positions);
}

Tensor modulate_part(const Tensor& x_FSD,
                     const Part& part,
                     const Tensor& shift_RD,
                     const Tensor& scale_RD,
                     double eps) {
  const Backend backend = backend_of(x_FSD);
  if (backend == Backend::kPlain) {
    return plain::modulate_part(x_FSD, part, shift_RD, scale_RD, eps);
  }
  Tensor out = at::empty({part.num_frames, part.num_positions, x_FSD.size(2)}, x_FSD.options());
  if (backend == Backend::kCpu) {
    const auto work = modulate_work<float>(x_FSD, part, shift_RD, scale_RD, eps, out);
    run_rows(work, work.slab.rows(), kernels::modulate_rows);
  } else {
    with_storage(x_FSD, [&](auto type) {
      check(kernels::modulate_rows_cuda(
          modulate_work<decltype(type)>(x_FSD, part, shift_RD, scale_RD, eps, out), nullptr));
    });
  }
  return out;
}

void add_gated_part(Tensor& x_FSD, const Part& part, const Tensor& y_fsD, const Tensor& gate_RD) {
  const Backend backend = backend_of(x_FSD);
  if (backend == Backend::kPlain) {
    plain::add_gated_part(x_FSD, part, y_fsD, gate_RD);
  } else if (backend == Backend::kCpu) {
    const auto work = add_work<float>(x_FSD, part, y_fsD, gate_RD);
    run_rows(work, work.slab.rows(), kernels::add_gated_rows);
  } else {
    with_storage(x_FSD, [&](auto type) {
      check(kernels::add_gated_rows_cuda(add_work<decltype(type)>(x_FSD, part, y_fsD, gate_RD),
                                         nullptr));
    });
  }
}

void norm_rotate(Tensor& qkv, std::int64_t num_heads, const QueryKeyRule& rule) {
  if (!rule.query_weight_K.defined() && rule.rotary == nullptr) {
    return;
  }
  const Backend backend = backend_of(qkv);
  if (backend == Backend::kPlain) {
    plain::norm_rotate(qkv, num_heads, rule);
  } else if (backend == Backend::kCpu) {
    const auto work = norm_work<float>(qkv, num_heads, rule);
    run_rows(work, work.rows, kernels::norm_rotate_rows);
  } else {
    with_storage(qkv, [&](auto type) {
      check(
          kernels::norm_rotate_rows_cuda(norm_work<decltype(type)>(qkv, num_heads, rule), nullptr));
    });
  }
}

Tensor attend_over_frames(const Tensor& qkv, std::int64_t batch, std::int64_t num_heads) {
  const Backend backend = backend_of(qkv);
  if (backend == Backend::kPlain || qkv.size(0) / batch > kernels::kMaxFrameAttention) {
    return plain::attend_over_frames(qkv, batch, num_heads);
  }
  Tensor out = at::empty({qkv.size(0), qkv.size(1), qkv.size(2) / 3}, qkv.options());
  if (backend == Backend::kCuda) {
    with_storage(qkv, [&](auto type) {
      check(kernels::attend_frames_cuda(frame_work<decltype(type)>(qkv, batch, num_heads, out),
                                        nullptr));
    });
    return out;
  }
  const auto work = frame_work<float>(qkv, batch, num_heads, out);
  constexpr std::int64_t kItemsPerChunk = 8;
  const std::int64_t items = work.batch * work.positions;
  const auto scratch_size = static_cast<std::int64_t>(kernels::frame_attention_scratch(work));
  nn::parallel_chunks((items + kItemsPerChunk - 1) / kItemsPerChunk, [&](std::int64_t i) {
    const Tensor scratch = at::empty({scratch_size}, qkv.options());
    kernels::attend_frames(work,
                           data_of<float>(scratch),
                           i * kItemsPerChunk,
                           std::min((i + 1) * kItemsPerChunk, items));
  });
  return out;
}

namespace plain {

Tensor modulate_part(const Tensor& x_FSD,
                     const Part& part,
                     const Tensor& shift_RD,
                     const Tensor& scale_RD,
                     double eps) {
  const std::array<std::int64_t, 1> shape = {x_FSD.size(2)};
  const Tensor normed = at::layer_norm(part.of(x_FSD), shape, {}, {}, eps);
  return normed * (frame_vectors(x_FSD, part, scale_RD) + 1.0) +
         frame_vectors(x_FSD, part, shift_RD);
}

void add_gated_part(Tensor& x_FSD, const Part& part, const Tensor& y_fsD, const Tensor& gate_RD) {
  Tensor x = part.of(x_FSD);
  if (gate_RD.defined()) {
    x.addcmul_(frame_vectors(x_FSD, part, gate_RD), y_fsD);
  } else {
    x.add_(y_fsD);
  }
}

void norm_rotate(Tensor& qkv, std::int64_t num_heads, const QueryKeyRule& rule) {
  const Tensor rows = qkv.view({-1, 3, num_heads, qkv.size(-1) / 3 / num_heads});
  const auto norm = [&](const Tensor& x, const Tensor& weight) {
    if (!weight.defined()) {
      return x;
    }
    const Tensor wide = x.to(at::kFloat);
    const Tensor factor = at::rsqrt(wide.square().mean(-1, /*keepdim=*/true) + rule.eps);
    return (wide * factor).to(x.scalar_type()) * weight.to(x.scalar_type());
  };
  const auto rotate = [&](const Tensor& x_RNK) {
    if (rule.rotary == nullptr) {
      return x_RNK;
    }
    // [rows / (L P), L, P N, K], where P rows share a position.
    const std::int64_t length = rule.rotary->length();
    const std::int64_t shared = rule.rows_per_position * num_heads;
    return attention::apply_rotary(x_RNK.reshape({-1, length, shared, x_RNK.size(-1)}),
                                   *rule.rotary)
        .reshape(x_RNK.sizes());
  };
  for (const auto& [index, weight] :
       {std::pair(0, rule.query_weight_K), std::pair(1, rule.key_weight_K)}) {
    Tensor part = rows.select(1, index);
    part.copy_(rule.rotate_first ? norm(rotate(part), weight) : rotate(norm(part, weight)));
  }
}

Tensor attend_over_frames(const Tensor& qkv, std::int64_t batch, std::int64_t num_heads) {
  const std::int64_t frames = qkv.size(0) / batch;
  const std::int64_t positions = qkv.size(1);
  const std::int64_t head_width = qkv.size(2) / 3 / num_heads;
  const Tensor heads =
      qkv.view({batch, frames, positions, 3, num_heads, head_width}).permute({3, 0, 2, 1, 4, 5});
  std::vector<Tensor> outputs;
  for (std::int64_t b = 0; b < batch; ++b) {
    attention::KvStore store;
    store.append({.key_BMNK = heads[1][b], .value_BMNK = heads[2][b]});
    outputs.push_back(attention::attend(heads[0][b], store).transpose(0, 1));
  }
  return at::cat(outputs, 0).reshape({qkv.size(0), positions, num_heads * head_width});
}

}  // namespace plain

}  // namespace kinema::dit
