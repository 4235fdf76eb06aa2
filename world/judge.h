// SPDX-License-Identifier: Apache-2.0
// Says what a one-object video of the world shows, by rules on its pixels: segmentation by colour,
// templates for the shape, the path of the centroid. No network. The judge is itself judged: on
// rendered ground truth it must be right in at least 98 % of all scenes.
#pragma once

#include <optional>

#include "core/tensor/tensor.h"
#include "world/scene.h"

namespace kinema::world {

struct Verdict {
  bool seen = false;  ///< an object stands out from the background
  Colour background_colour = 0;
  Background background = Background::kPlain;  ///< plain or gradient
  Colour colour = 0;
  Size size = Size::kMedium;
  Shape shape = Shape::kCircle;
  Motion motion = Motion::kStill;
};

/// Compares a verdict with the scene that was asked for.
struct Score {
  bool background_colour = false;
  bool background = false;
  bool colour = false;
  bool size = false;
  bool shape = false;
  bool motion = false;
  /// Everything that a caption names; the kind of background and the size may be left out of it.
  [[nodiscard]] bool all() const {
    return background_colour && background && colour && size && shape && motion;
  }
};

class Judge {
 public:
  Judge();

  /// @param video_CFHW [3, F, H, W], float32 in 0..1, plain or gradient background, one object, F
  /// >= 3.
  [[nodiscard]] Verdict operator()(const Tensor& video_CFHW) const;

 private:
  Tensor templates_NP_;  ///< every shape at every angle
};

[[nodiscard]] Score score(const Verdict& verdict, const Scene& scene);

}  // namespace kinema::world
