// SPDX-License-Identifier: Apache-2.0
#include "world/render.h"

#include <cmath>
#include <numbers>
#include <vector>

#include <ATen/ATen.h>

namespace kinema::world {
namespace {

using std::numbers::pi;
using std::numbers::sqrt2;
using std::numbers::sqrt3;

// A shape's own drawing is scaled by `scale` to the common area and shifted so that its centroid,
// which lies at (centroid_x, centroid_y) of the drawing, is the origin. Computed from the drawings
// below; the tests measure both.
struct Normal {
  double scale = 1;
  double centroid_x = 0;
  double centroid_y = 0;
};

Normal normal_of(Shape shape) {
  switch (shape) {
    case Shape::kCircle:
      return {0.894427};  // sqrt(0.8)
    case Shape::kSquare:
      return {0.792665};  // sqrt(0.8 pi / 4)
    case Shape::kTriangle:
      return {1.390931};  // area of the drawing 3 sqrt(3) / 4
    case Shape::kStar:
      return {1.093636};
    case Shape::kCross:
      return {1.031613};
    case Shape::kHeart:
      return {1.186454, 0, -0.221472};
    case Shape::kRing:
      return {0.980580};
    case Shape::kMoon:
      return {1.241857, -0.357052, 0.068663};
  }
  return {};
}

Tensor length(const Tensor& x, const Tensor& y) {
  return (x * x + y * y).sqrt_();
}

// Distance to an axis-parallel box around the origin.
Tensor box(const Tensor& x, const Tensor& y, double half_width, double half_height) {
  const Tensor dx = x.abs() - half_width;
  const Tensor dy = y.abs() - half_height;
  return length(dx.clamp_min(0), dy.clamp_min(0)) + at::maximum(dx, dy).clamp_max_(0);
}

// Distance to a line segment and the side of its line that a point lies on.
Tensor segment(const Tensor& x, const Tensor& y, double ax, double ay, double bx, double by) {
  const double ex = bx - ax;
  const double ey = by - ay;
  const Tensor px = x - ax;
  const Tensor py = y - ay;
  const Tensor along = ((px * ex + py * ey) / (ex * ex + ey * ey)).clamp_(0, 1);
  const Tensor distance = length(px - along * ex, py - along * ey);
  return distance * (px * ey - py * ex).sign_();
}

// Outer corners on the unit circle; one wedge of a third is enough.
Tensor triangle(const Tensor& x, const Tensor& y) {
  const double half = sqrt3 / 2;
  // Corners (0, -1), (half, 0.5), (-half, 0.5): the largest of the three edge distances, except
  // beyond a corner, where only the corner counts.
  const Tensor mirrored = x.abs();
  const Tensor bottom = segment(mirrored, y, half, 0.5, -half, 0.5);
  const Tensor side = segment(mirrored, y, 0, -1, half, 0.5);
  const Tensor nearer = at::where(bottom.abs() < side.abs(), bottom, side);
  const Tensor outside = (y > 0.5).logical_or_(mirrored * sqrt3 - y > 1);
  return at::where(outside, nearer.abs(), -nearer.abs());
}

// Five points of radius 1.3 with valleys of radius 0.55 between them, one point straight up.
Tensor star(const Tensor& x, const Tensor& y) {
  const double wedge = pi / 5;
  const Tensor angle = at::atan2(x, -y);
  const Tensor folded = (angle - (angle / (2 * wedge)).round() * (2 * wedge)).abs_();
  const Tensor radius = length(x, y);
  const Tensor fx = radius * folded.cos();
  const Tensor fy = radius * folded.sin();
  return segment(fx, fy, 1.3, 0, 0.55 * std::cos(wedge), 0.55 * std::sin(wedge));
}

Tensor plus_sign(const Tensor& x, const Tensor& y) {
  return at::minimum(box(x, y, 1, 0.36), box(x, y, 0.36, 1));
}

// A unit square on its corner with half discs on its two upper sides.
Tensor heart(const Tensor& x, const Tensor& y) {
  const Tensor u = (x.abs() - y) / sqrt2;
  const Tensor v = (x.abs() + y) / sqrt2;
  const Tensor square = box(u, v, 0.5, 0.5);
  const double centre = 0.5 / sqrt2;
  const Tensor disc = length(x.abs() - centre, y + centre) - 0.5;
  return at::minimum(square, disc);
}

Tensor ring(const Tensor& x, const Tensor& y) {
  return (length(x, y) - 0.8).abs_() - 0.26;
}

// The unit disc without a smaller one at its upper right.
Tensor moon(const Tensor& x, const Tensor& y) {
  return at::maximum(length(x, y) - 1, 0.78 - length(x - 0.52, y + 0.1));
}

Tensor drawing(Shape shape, const Tensor& x, const Tensor& y) {
  switch (shape) {
    case Shape::kCircle:
      return length(x, y) - 1;
    case Shape::kSquare:
      return box(x, y, 1, 1);
    case Shape::kTriangle:
      return triangle(x, y);
    case Shape::kStar:
      return star(x, y);
    case Shape::kCross:
      return plus_sign(x, y);
    case Shape::kHeart:
      return heart(x, y);
    case Shape::kRing:
      return ring(x, y);
    case Shape::kMoon:
      return moon(x, y);
  }
  return length(x, y) - 1;
}

Tensor rgb_C111(const Rgb& rgb, c10::Device device) {
  return at::tensor({rgb[0], rgb[1], rgb[2]}).view({3, 1, 1, 1}).to(device);
}

// Weight of the second background colour, [H, W].
Tensor second_colour_HW(const Scene& scene, c10::Device device) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const double unit = static_cast<double>(std::min(scene.width, scene.height)) / 64.0;
  const Tensor x_1W = at::arange(scene.width, options).add_(0.5).unsqueeze(0);
  const Tensor y_H1 = at::arange(scene.height, options).add_(0.5).unsqueeze(1);
  const auto smooth = [&](const Tensor& wave) {
    return (wave * (4 * unit)).clamp_(-0.5, 0.5).add_(0.5);
  };
  switch (scene.background) {
    case Background::kPlain:
      return at::zeros({scene.height, scene.width}, options);
    case Background::kGradient:
      return ((y_H1 - 0.5) / static_cast<double>(std::max<std::int64_t>(scene.height - 1, 1)))
          .expand({scene.height, scene.width});
    case Background::kStriped:
      return smooth((y_H1 * (2 * pi / (16 * unit))).sin()).expand({scene.height, scene.width});
    case Background::kCheckered:
      return smooth((x_1W * (2 * pi / (32 * unit))).sin() * (y_H1 * (2 * pi / (32 * unit))).sin());
  }
  return at::zeros({scene.height, scene.width}, options);
}

struct Poses {
  Tensor x, y, radius, sine, cosine;  ///< each [F, 1, 1]
};

Poses poses_of(const Scene& scene,
               std::size_t object,
               std::int64_t first,
               std::int64_t count,
               c10::Device device) {
  std::vector<double> values[5];
  for (std::int64_t f = first; f < first + count; ++f) {
    const Pose pose = scene.pose(object, f);
    const double row[5] = {pose.x, pose.y, pose.radius, std::sin(pose.angle), std::cos(pose.angle)};
    for (int i = 0; i < 5; ++i) {
      values[i].push_back(row[i]);
    }
  }
  const auto column = [&](int i) {
    return at::tensor(values[i], at::kDouble).to(device, at::kFloat).view({count, 1, 1});
  };
  return {column(0), column(1), column(2), column(3), column(4)};
}

// Signed distance in pixels of an object, displaced by `shift` radii to the lower right, [F, H, W].
Tensor distance_FHW(
    const Object& object, const Poses& at, const Scene& scene, double shift, c10::Device device) {
  const auto options = at::TensorOptions().dtype(at::kFloat).device(device);
  const Tensor x =
      at::arange(scene.width, options).add_(0.5).view({1, 1, -1}) - at.x - at.radius * shift;
  const Tensor y =
      at::arange(scene.height, options).add_(0.5).view({1, -1, 1}) - at.y - at.radius * shift;
  const Tensor turned_x = (x * at.cosine + y * at.sine) / at.radius;
  const Tensor turned_y = (y * at.cosine - x * at.sine) / at.radius;
  return signed_distance(object.shape, turned_x, turned_y) * at.radius;
}

}  // namespace

Tensor signed_distance(Shape shape, const Tensor& x, const Tensor& y) {
  const Normal normal = normal_of(shape);
  return drawing(
             shape, x / normal.scale + normal.centroid_x, y / normal.scale + normal.centroid_y) *
         normal.scale;
}

Tensor render(const Scene& scene,
              std::int64_t first_frame,
              std::int64_t num_frames,
              c10::Device device) {
  const std::int64_t count = num_frames < 0 ? scene.frames - first_frame : num_frames;
  const Tensor weight_HW = second_colour_HW(scene, device);
  Tensor video_CFHW = at::lerp(rgb_C111(scene.background_rgb, device),
                               rgb_C111(scene.background_rgb2, device),
                               weight_HW)
                          .expand({3, count, scene.height, scene.width})
                          .contiguous();
  for (std::size_t i = 0; i < scene.objects.size(); ++i) {
    const Object& object = scene.objects[i];
    const Poses poses = poses_of(scene, i, first_frame, count, device);
    if (scene.shadows) {
      // A soft shadow: the coverage fades over half a radius.
      const Tensor distance = distance_FHW(object, poses, scene, 0.25, device);
      const Tensor shade = (0.5 - distance / (poses.radius * 0.5)).clamp_(0, 1) * 0.45;
      video_CFHW *= 1 - shade;
    }
    const Tensor coverage_FHW = (0.5 - distance_FHW(object, poses, scene, 0, device)).clamp_(0, 1);
    video_CFHW = at::lerp(video_CFHW, rgb_C111(object.rgb, device), coverage_FHW);
  }
  return video_CFHW.contiguous();
}

}  // namespace kinema::world
