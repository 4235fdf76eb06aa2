// SPDX-License-Identifier: Apache-2.0
// Checkpoints of other projects under the names of VDiT: diffusers keeps queries, keys and values
// in tensors of their own, image models have patch kernels without a time axis.
#pragma once

#include "core/io/safetensors.h"
#include "core/tensor/keymap.h"

namespace kinema::dit {

/// The names of with_own_names() before projections are joined.
[[nodiscard]] tensor::KeyMap own_names(const io::TensorViews& tensors);

/// Tensors with diffusers' names (recognised by "adaln_single.linear.weight") are renamed and their
/// projections joined; a patch kernel with four axes gets a fifth; position tables are left out
/// (they are computed). Anything else stays as it is, for the loader to judge.
[[nodiscard]] io::TensorViews with_own_names(const io::TensorViews& tensors);

/// The same for one diffusers block, "attn1.to_q.weight" and so on.
[[nodiscard]] io::TensorViews block_with_own_names(const io::TensorViews& tensors);

}  // namespace kinema::dit
