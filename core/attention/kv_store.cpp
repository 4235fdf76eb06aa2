// SPDX-License-Identifier: Apache-2.0
#include "core/attention/kv_store.h"

#include <limits>
#include <string>
#include <utility>

#include <ATen/ops/zeros.h>

#include "core/base/error.h"
#include "core/tensor/shape_check.h"

namespace kinema::attention {
namespace {

[[noreturn]] void bad_segment(const char* subject, std::string expected, const Tensor& got) {
  throw Error(ErrorKind::kShapeMismatch,
              {.code = "attention.segment",
               .place = "attention.store",
               .subject = subject,
               .expected = std::move(expected),
               .got = got.defined() ? tensor::shape_text(got) : "nothing"});
}

}  // namespace

void KvStore::append(DenseSegment segment) {
  const Tensor& key = segment.key_BMNK;
  if (!key.defined() || key.dim() != 4) {
    bad_segment("key_BMNK", "four axes", key);
  }
  if (!empty() &&
      (key.size(0) != batch() || key.size(2) != num_heads() || key.size(3) != head_width())) {
    bad_segment("key_BMNK",
                tensor::shape_text(
                    std::vector<std::int64_t>{batch(), tensor::kAny, num_heads(), head_width()}),
                key);
  }
  if (!segment.value_BMNK.defined() || segment.value_BMNK.sizes() != key.sizes()) {
    bad_segment("value_BMNK", tensor::shape_text(key), segment.value_BMNK);
  }
  const Tensor& weight = segment.log_weight_BM;
  if (weight.defined() &&
      (weight.dim() != 2 || weight.size(0) != key.size(0) || weight.size(1) != key.size(1))) {
    bad_segment("log_weight_BM",
                tensor::shape_text(std::vector<std::int64_t>{key.size(0), key.size(1)}),
                weight);
  }
  segments_.push_back(std::move(segment));
}

std::int64_t KvStore::batch() const noexcept {
  return empty() ? 0 : segments_.front().key_BMNK.size(0);
}

std::int64_t KvStore::num_tokens() const noexcept {
  std::int64_t count = 0;
  for (const DenseSegment& segment : segments_) {
    count += segment.key_BMNK.size(1);
  }
  return count;
}

std::int64_t KvStore::num_heads() const noexcept {
  return empty() ? 0 : segments_.front().key_BMNK.size(2);
}

std::int64_t KvStore::head_width() const noexcept {
  return empty() ? 0 : segments_.front().key_BMNK.size(3);
}

std::int64_t KvStore::num_bytes() const noexcept {
  std::int64_t bytes = 0;
  for (const DenseSegment& segment : segments_) {
    for (const Tensor* part : {&segment.key_BMNK, &segment.value_BMNK, &segment.log_weight_BM}) {
      bytes += part->defined() ? static_cast<std::int64_t>(part->nbytes()) : 0;
    }
  }
  return bytes;
}

Tensor log_weight_of_mask(const Tensor& mask_BM, c10::ScalarType dtype) {
  return at::zeros(mask_BM.sizes(), mask_BM.options().dtype(dtype))
      .masked_fill_(mask_BM.to(at::kBool).logical_not(), -std::numeric_limits<double>::infinity());
}

}  // namespace kinema::attention
