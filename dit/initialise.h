// SPDX-License-Identifier: Apache-2.0
// First weights of a VDiT: drawn, or taken from an image model.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "dit/modules/vdit_model.h"

namespace kinema::dit {

/// Fills all parameters. Every parameter has a noise stream of its own, named after it, so the same
/// seed gives the same weights on every machine and in every build.
/// Linear layers and patches: Xavier uniform, biases 0; tables of modulation: N(0, 1) / sqrt(D).
/// stdit2, full, pixart, latte (as PixArt): N(0, 0.02) for embedders of numbers, t_block and
/// captions; 0 for the last layer, prompt attention's and temporal attention's "proj". stdit3 (as
/// Open-Sora 1.2): 0 for the second layer of fps_embedder and the last layers of temporal blocks.
void init_weights(VDiTImpl& model, std::uint64_t seed);

/// What initialise_from_pixart() did.
struct PixartReport {
  std::int64_t num_copied = 0;
  std::vector<std::string> kept;  ///< parameters of the target that PixArt has no values for
};

/// Takes everything that the image model has: blocks go to "blocks" (stdit2) or "spatial_blocks"
/// (stdit3), temporal attention is switched off by a zero "proj", new conditions by zero second
/// layers, so that one frame gives the picture of the image model (where both have the same
/// position rule). Throws kInvalidArgument [dit.pixart] for targets of another layout or size.
PixartReport initialise_from_pixart(VDiTImpl& target, const VDiTImpl& pixart);

}  // namespace kinema::dit
