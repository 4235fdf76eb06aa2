// SPDX-License-Identifier: Apache-2.0
#include "world/judge.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include <ATen/ATen.h>

#include "world/render.h"

namespace kinema::world {
namespace {

using std::numbers::pi;

constexpr std::int64_t kCanvas = 28;     // templates and resampled mattes, pixels a side
constexpr double kRadiusOnCanvas = 8.5;  // of a shape there
constexpr std::int64_t kAngles = 60;     // templates per shape, 6 degrees apart
constexpr std::int64_t kSpinStep = 2;    // 12 degrees a frame, in template steps

Colour nearest_colour(const Tensor& rgb_C) {
  double best = 1e9;
  Colour nearest = 0;
  for (std::size_t i = 0; i < kPalette.size(); ++i) {
    double distance = 0;
    for (std::int64_t c = 0; c < 3; ++c) {
      const double d =
          rgb_C[c].item<double>() - static_cast<double>(kPalette[i][static_cast<std::size_t>(c)]);
      distance += d * d;
    }
    if (distance < best) {
      best = distance;
      nearest = static_cast<Colour>(i);
    }
  }
  return nearest;
}

// Colour of every row of the background: the median of the columns at both edges over all frames.
Tensor background_CH(const Tensor& video_CFHW) {
  const std::int64_t edge = std::max<std::int64_t>(3, video_CFHW.size(3) * 3 / 64);
  const Tensor edges = at::cat(
      {video_CFHW.narrow(3, 0, edge), video_CFHW.narrow(3, video_CFHW.size(3) - edge, edge)}, 3);
  const Tensor rows_CHN = edges.permute({0, 2, 1, 3}).flatten(2);
  return std::get<0>(rows_CHN.median(2));
}

struct Matte {
  Tensor alpha_FHW;
  Tensor colour_C;
};

// The object as a soft matte: projection of the difference from the background on the object's
// colour.
std::optional<Matte> find_object(const Tensor& video_CFHW, const Tensor& rows_CH) {
  const Tensor behind_C1H1 = rows_CH.unsqueeze(1).unsqueeze(3);
  const Tensor difference_CFHW = video_CFHW - behind_C1H1;
  const Tensor strength_FHW = difference_CFHW.norm(2, {0});
  const double peak = strength_FHW.flatten().quantile(0.985).item<double>();
  if (peak < 0.12) {
    return std::nullopt;
  }
  const Tensor core_FHW = strength_FHW > 0.75 * peak;
  const Tensor pixels_CN = video_CFHW.flatten(1).index({at::indexing::Slice(), core_FHW.flatten()});
  const Tensor colour_C = std::get<0>(pixels_CN.median(1));
  const Tensor axis_C1H1 = colour_C.view({3, 1, 1, 1}) - behind_C1H1;
  Tensor alpha_FHW =
      (difference_CFHW * axis_C1H1).sum(0) / axis_C1H1.square().sum(0).clamp_min(1e-3);
  alpha_FHW = alpha_FHW.clamp(0, 1);
  alpha_FHW = at::where(alpha_FHW < 0.3, at::zeros_like(alpha_FHW), alpha_FHW);
  return Matte{alpha_FHW, colour_C};
}

struct Track {
  Tensor x_F, y_F, area_F;  ///< centroid and area in pixels, double
};

Track follow(const Tensor& alpha_FHW) {
  const Tensor alpha = alpha_FHW.to(at::kDouble);
  const Tensor area_F = alpha.sum({1, 2});
  const Tensor safe_F = area_F.clamp_min(1e-6);
  const Tensor x_W = at::arange(alpha.size(2), at::kDouble) + 0.5;
  const Tensor y_H = at::arange(alpha.size(1), at::kDouble) + 0.5;
  return {(alpha.sum(1) * x_W).sum(1) / safe_F, (alpha.sum(2) * y_H).sum(1) / safe_F, area_F};
}

// Unit-length, zero-mean rows, so that a product is a correlation.
Tensor normalised(const Tensor& rows_NP) {
  const Tensor centred = rows_NP - rows_NP.mean(1, true);
  return centred / centred.norm(2, {1}, true).clamp_min(1e-6);
}

Tensor blurred(const Tensor& images_NHW) {
  const Tensor kernel = at::tensor({0.25F, 0.5F, 0.25F});
  const Tensor rows =
      at::conv2d(images_NHW.unsqueeze(1), kernel.view({1, 1, 1, 3}), {}, 1, at::IntArrayRef{0, 1});
  return at::conv2d(rows, kernel.view({1, 1, 3, 1}), {}, 1, at::IntArrayRef{1, 0}).squeeze(1);
}

// Every shape at every angle on the canvas, [shapes * angles, pixels].
Tensor make_templates_NP() {
  const Tensor grid = at::arange(kCanvas, at::kFloat) + (0.5 - kCanvas / 2.0);
  std::vector<Tensor> images;
  for (std::size_t shape = 0; shape < kShapeNames.size(); ++shape) {
    for (std::int64_t a = 0; a < kAngles; ++a) {
      const double angle = 2 * pi * static_cast<double>(a) / static_cast<double>(kAngles);
      const Tensor x = grid.view({1, -1});
      const Tensor y = grid.view({-1, 1});
      const Tensor turned_x = (x * std::cos(angle) + y * std::sin(angle)) / kRadiusOnCanvas;
      const Tensor turned_y = (y * std::cos(angle) - x * std::sin(angle)) / kRadiusOnCanvas;
      const Tensor distance =
          signed_distance(static_cast<Shape>(shape), turned_x, turned_y) * kRadiusOnCanvas;
      images.push_back((0.5 - distance).clamp(0, 1));
    }
  }
  return normalised(blurred(at::stack(images)).flatten(1));
}

// Mattes moved to the canvas: centroid in the middle, area normalised. [F, pixels]
Tensor resampled_FP(const Tensor& alpha_FHW, const Track& track) {
  const std::int64_t frames = alpha_FHW.size(0);
  const Tensor radius_F = (track.area_F / (0.8 * pi)).sqrt().clamp_min(0.5);
  const Tensor step_F = (radius_F / kRadiusOnCanvas).to(at::kFloat);
  const Tensor grid = at::arange(kCanvas, at::kFloat) + (0.5 - kCanvas / 2.0);
  const Tensor x = track.x_F.to(at::kFloat).view({frames, 1, 1}) +
                   step_F.view({frames, 1, 1}) * grid.view({1, 1, -1});
  const Tensor y = track.y_F.to(at::kFloat).view({frames, 1, 1}) +
                   step_F.view({frames, 1, 1}) * grid.view({1, -1, 1});
  const Tensor nx =
      (x * (2.0 / static_cast<double>(alpha_FHW.size(2))) - 1).expand({frames, kCanvas, kCanvas});
  const Tensor ny =
      (y * (2.0 / static_cast<double>(alpha_FHW.size(1))) - 1).expand({frames, kCanvas, kCanvas});
  const Tensor sampled =
      at::grid_sampler(alpha_FHW.unsqueeze(1), at::stack({nx, ny}, 3), 0, 0, false).squeeze(1);
  return normalised(blurred(sampled).flatten(1));
}

struct ShapeMatch {
  Shape shape = Shape::kCircle;
  double still = 0;  ///< best mean correlation at a constant angle
  double spin = 0;   ///< the same at an angle that advances 12 degrees a frame
};

ShapeMatch match_shape(const Tensor& alpha_FHW, const Track& track, const Tensor& templates_NP) {
  const std::int64_t frames = alpha_FHW.size(0);
  const auto shapes = static_cast<std::int64_t>(kShapeNames.size());
  const Tensor correlation_FSA =
      at::mm(resampled_FP(alpha_FHW, track), templates_NP.t()).view({frames, shapes, kAngles});
  const Tensor still_S = std::get<0>(correlation_FSA.mean(0).max(1));
  std::vector<Tensor> advanced;
  for (std::int64_t f = 0; f < frames; ++f) {
    advanced.push_back(correlation_FSA[f].roll(-kSpinStep * f, 1));
  }
  const Tensor spin_S = std::get<0>(at::stack(advanced).mean(0).max(1));
  const std::int64_t best = at::maximum(still_S, spin_S).argmax().item<std::int64_t>();
  return {static_cast<Shape>(best), still_S[best].item<double>(), spin_S[best].item<double>()};
}

Motion straight_motion(double dx, double dy) {
  // Sectors of 45 degrees, counted clockwise on screen from the right.
  static constexpr std::array<Motion, 8> kSectors = {Motion::kRight,
                                                     Motion::kDownRight,
                                                     Motion::kDown,
                                                     Motion::kDownLeft,
                                                     Motion::kLeft,
                                                     Motion::kUpLeft,
                                                     Motion::kUp,
                                                     Motion::kUpRight};
  const auto sector = static_cast<std::int64_t>(std::lround(std::atan2(dy, dx) / (pi / 4)));
  return kSectors[static_cast<std::size_t>((sector + 8) % 8)];
}

Motion classify_motion(const Track& track, const ShapeMatch& match, double unit) {
  const std::int64_t frames = track.x_F.size(0);
  const std::int64_t ends = std::min<std::int64_t>(3, frames / 2);
  const auto first = [&](const Tensor& v) { return v.narrow(0, 0, ends).mean().item<double>(); };
  const auto last = [&](const Tensor& v) {
    return v.narrow(0, frames - ends, ends).mean().item<double>();
  };
  const auto range = [](const Tensor& v) { return (v.max() - v.min()).item<double>(); };
  const double dx = last(track.x_F) - first(track.x_F);
  const double dy = last(track.y_F) - first(track.y_F);
  const double shift = std::hypot(dx, dy);
  const double range_x = range(track.x_F);
  const double range_y = range(track.y_F);
  if (shift > 10 * unit && std::hypot(range_x, range_y) < 1.6 * shift) {
    return straight_motion(dx, dy);
  }
  const Tensor next_x = track.x_F.roll(-1);
  const Tensor next_y = track.y_F.roll(-1);
  const double enclosed =
      std::abs(0.5 * (track.x_F * next_y - next_x * track.y_F).sum().item<double>());
  if (range_x > 10 * unit && range_y > 10 * unit && enclosed > 120 * unit * unit) {
    return Motion::kCircle;
  }
  if (range_y > 10 * unit && range_x < 8 * unit) {
    return Motion::kBounce;
  }
  const double growth = last(track.area_F) / std::max(first(track.area_F), 1e-6);
  if (growth > 1.7) {
    return Motion::kGrow;
  }
  if (growth < 1 / 1.7) {
    return Motion::kShrink;
  }
  return match.spin > match.still + 0.01 ? Motion::kSpin : Motion::kStill;
}

Size classify_size(const Track& track, double unit) {
  const double radius = (track.area_F / (0.8 * pi)).sqrt().mean().item<double>() / unit;
  std::size_t best = 0;
  for (std::size_t i = 1; i < kSizeRadius.size(); ++i) {
    if (std::abs(std::log(radius / kSizeRadius[i])) <
        std::abs(std::log(radius / kSizeRadius[best]))) {
      best = i;
    }
  }
  return static_cast<Size>(best);
}

}  // namespace

Judge::Judge() : templates_NP_(make_templates_NP()) {}

Verdict Judge::operator()(const Tensor& video_CFHW) const {
  const Tensor video = video_CFHW.to(at::kCPU, at::kFloat).contiguous();
  const double unit = static_cast<double>(std::min(video.size(2), video.size(3))) / 64.0;
  const Tensor rows_CH = background_CH(video);
  const std::int64_t eighth = std::max<std::int64_t>(1, rows_CH.size(1) / 8);
  const Tensor top_C = rows_CH.narrow(1, 0, eighth).mean(1);
  const Tensor bottom_C = rows_CH.narrow(1, rows_CH.size(1) - eighth, eighth).mean(1);
  Verdict verdict;
  verdict.background_colour = nearest_colour(top_C);
  verdict.background =
      (top_C - bottom_C).norm().item<double>() > 0.12 ? Background::kGradient : Background::kPlain;
  const auto matte = find_object(video, rows_CH);
  if (!matte) {
    return verdict;
  }
  verdict.seen = true;
  verdict.colour = nearest_colour(matte->colour_C);
  const Track track = follow(matte->alpha_FHW);
  const ShapeMatch match = match_shape(matte->alpha_FHW, track, templates_NP_);
  verdict.shape = match.shape;
  verdict.motion = classify_motion(track, match, unit);
  verdict.size = classify_size(track, unit);
  return verdict;
}

Score score(const Verdict& verdict, const Scene& scene) {
  const Object& object = scene.objects.front();
  Score result;
  result.background_colour = verdict.background_colour == scene.background_colour;
  result.background = verdict.background == scene.background;
  if (verdict.seen) {
    result.colour = verdict.colour == object.colour;
    result.size = verdict.size == object.size;
    result.shape = verdict.shape == object.shape;
    result.motion = verdict.motion == object.motion;
  }
  return result;
}

}  // namespace kinema::world
