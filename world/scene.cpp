// SPDX-License-Identifier: Apache-2.0
#include "world/scene.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/base/error.h"
#include "world/random.h"

namespace kinema::world {
namespace {

using std::numbers::pi;

constexpr double kSpinPerFrame = 12.0 * pi / 180.0;
constexpr double kGrowFrom = 0.65;
constexpr double kGrowTo = 1.35;

struct Direction {
  double x = 0;
  double y = 0;
};

// Unit steps on screen, y downwards; diagonals travel 0.8 of the distance on each axis.
Direction direction_of(Motion motion) {
  switch (motion) {
    case Motion::kLeft:
      return {-1, 0};
    case Motion::kRight:
      return {1, 0};
    case Motion::kUp:
      return {0, -1};
    case Motion::kDown:
      return {0, 1};
    case Motion::kUpLeft:
      return {-0.8, -0.8};
    case Motion::kUpRight:
      return {0.8, -0.8};
    case Motion::kDownLeft:
      return {-0.8, 0.8};
    case Motion::kDownRight:
      return {0.8, 0.8};
    default:
      return {};
  }
}

Rgb jittered(Colour colour, Random& random) {
  Rgb rgb{};
  for (std::size_t c = 0; c < 3; ++c) {
    const double value =
        kPalette[static_cast<std::size_t>(colour)][c] + random.uniform(-0.03, 0.03);
    rgb[c] = static_cast<float>(std::clamp(value, 0.0, 1.0));
  }
  return rgb;
}

bool allowed(Split split, bool first, bool held_out) {
  switch (split) {
    case Split::kAll:
      return true;
    case Split::kSeen:
      return !held_out;
    case Split::kHeldOut:
      return !first || held_out;
  }
  return true;
}

// Places the path so that the object stays in the frame, or in the middle where it cannot.
double place(double side, double reach_low, double reach_high, Random& random) {
  const double low = reach_low;
  const double high = side - reach_high;
  const double share = random.uniform(0, 1);
  return low < high ? low + (high - low) * share : (low + high) / 2;
}

Object make_object(const WorldConfig& config, Colour background, bool first, Random& random) {
  Object object;
  do {
    object.shape = static_cast<Shape>(random.below(static_cast<std::int64_t>(kShapeNames.size())));
    object.motion =
        static_cast<Motion>(random.below(static_cast<std::int64_t>(kMotionNames.size())));
    object.colour = random.below(static_cast<std::int64_t>(kColourNames.size()));
  } while (object.colour == background ||
           (object.motion == Motion::kSpin &&
            (object.shape == Shape::kCircle || object.shape == Shape::kRing)) ||
           !allowed(config.split, first, is_held_out(object.shape, object.colour, object.motion)));
  object.size = static_cast<Size>(random.below(3));
  object.rgb = jittered(object.colour, random);
  const double unit = static_cast<double>(std::min(config.width, config.height)) / 64.0;
  object.radius =
      kSizeRadius[static_cast<std::size_t>(object.size)] * unit * random.uniform(0.94, 1.06);
  object.phase = random.uniform(0, 2 * pi);
  object.tilt =
      object.motion == Motion::kSpin ? random.uniform(0, 2 * pi) : random.uniform(-8, 8) * pi / 180;
  const double travel = 24.0 * unit * random.uniform(0.9, 1.1);
  double largest = object.radius * extent_of(object.shape);
  double up = 0;
  double down = 0;
  double side = 0;
  switch (object.motion) {
    case Motion::kCircle:
      object.amount = 11.0 * unit;
      up = down = side = object.amount;
      break;
    case Motion::kBounce:
      object.amount = 22.0 * unit;
      up = down = object.amount / 2;
      break;
    case Motion::kGrow:
    case Motion::kShrink:
      object.amount = object.motion == Motion::kGrow ? kGrowTo : kGrowFrom;
      largest *= kGrowTo;
      break;
    default: {
      const Direction step = direction_of(object.motion);
      object.amount = step.x != 0 || step.y != 0 ? travel : 0;
      side = std::abs(step.x) * travel / 2;
      up = down = std::abs(step.y) * travel / 2;
    }
  }
  object.x = place(static_cast<double>(config.width), largest + side, largest + side, random);
  object.y = place(static_cast<double>(config.height), largest + up, largest + down, random);
  return object;
}

void choose_background(const WorldConfig& config, Scene& scene, Random& random) {
  scene.background_colour = random.below(static_cast<std::int64_t>(kColourNames.size()));
  scene.background_rgb = jittered(scene.background_colour, random);
  scene.background_rgb2 = scene.background_rgb;
  const double kind = random.uniform(0, 1);
  const bool black = kColourNames[static_cast<std::size_t>(scene.background_colour)] == "black";
  // The second colour is darker; black goes lighter, or nothing would be seen of it.
  const auto second = [&](float share, float lift) {
    for (std::size_t c = 0; c < 3; ++c) {
      scene.background_rgb2[c] =
          black ? scene.background_rgb[c] + lift : scene.background_rgb[c] * share;
    }
  };
  if (kind < config.gradient_probability) {
    scene.background = Background::kGradient;
    second(0.55F, 0.35F);
  } else if (kind < config.gradient_probability + config.textured_probability) {
    scene.background = random.chance(0.5) ? Background::kStriped : Background::kCheckered;
    second(0.8F, 0.15F);
  }
}

}  // namespace

bool is_held_out(Shape shape, Colour colour, Motion motion) {
  const auto i = static_cast<std::int64_t>(shape);
  return colour == (3 * i + 1) % 10 || static_cast<std::int64_t>(motion) == (5 * i + 2) % 14;
}

double extent_of(Shape shape) {
  // Farthest point of the outline from the centroid, from the definitions in render.cpp.
  static constexpr std::array<double, 8> kExtents = {
      0.895, 1.122, 1.391, 1.422, 1.097, 1.100, 1.040, 1.566};
  return kExtents[static_cast<std::size_t>(shape)];
}

Pose Object::pose_at(double time, std::int64_t frame) const {
  Pose pose{.x = x, .y = y, .radius = radius, .angle = tilt};
  switch (motion) {
    case Motion::kCircle:
      pose.x += amount * std::cos(phase + 2 * pi * time);
      pose.y += amount * std::sin(phase + 2 * pi * time);
      break;
    case Motion::kBounce:
      pose.y += amount / 2 - amount * std::abs(std::sin(2 * pi * time));
      break;
    case Motion::kGrow:
      pose.radius *= kGrowFrom + (kGrowTo - kGrowFrom) * time;
      break;
    case Motion::kShrink:
      pose.radius *= kGrowTo + (kGrowFrom - kGrowTo) * time;
      break;
    case Motion::kSpin:
      pose.angle += kSpinPerFrame * static_cast<double>(frame);
      break;
    default: {
      const Direction step = direction_of(motion);
      pose.x += amount * step.x * (time - 0.5);
      pose.y += amount * step.y * (time - 0.5);
    }
  }
  return pose;
}

Pose Scene::pose(std::size_t object, std::int64_t frame) const {
  const double time =
      frames > 1 ? static_cast<double>(frame) / static_cast<double>(frames - 1) : 0.5;
  return objects[object].pose_at(time, frame);
}

Scene make_scene(const WorldConfig& config, std::uint64_t seed, std::int64_t index) {
  config.validate();
  Random random(seed, "world/scene", static_cast<std::uint64_t>(index));
  Scene scene{
      .width = config.width, .height = config.height, .frames = config.frames, .fps = config.fps};
  scene.seed = seed;
  scene.index = index;
  choose_background(config, scene, random);
  scene.shadows = random.chance(config.shadow_probability);
  const std::int64_t count =
      config.min_objects + random.below(config.max_objects - config.min_objects + 1);
  for (std::int64_t i = 0; i < count; ++i) {
    Object object = make_object(config, scene.background_colour, i == 0, random);
    // Objects may pass in front of each other, but two must not begin as one heap.
    for (int attempt = 0; attempt < 20; ++attempt) {
      const bool crowded =
          std::any_of(scene.objects.begin(), scene.objects.end(), [&](const Object& other) {
            return std::hypot(object.x - other.x, object.y - other.y) <
                       0.9 * (object.radius + other.radius) ||
                   object.colour == other.colour;
          });
      if (!crowded) {
        break;
      }
      object = make_object(config, scene.background_colour, i == 0, random);
    }
    scene.objects.push_back(object);
  }
  return scene;
}

WorldConfig WorldConfig::from_json(const Json& json, const JsonContext& context) {
  WorldConfig config;
  JsonReader reader(json, context);
  reader.optional("width", config.width);
  reader.optional("height", config.height);
  reader.optional("frames", config.frames);
  reader.optional("fps", config.fps);
  reader.optional("min_objects", config.min_objects);
  reader.optional("max_objects", config.max_objects);
  reader.optional("gradient_probability", config.gradient_probability);
  reader.optional("textured_probability", config.textured_probability);
  reader.optional("shadow_probability", config.shadow_probability);
  std::string split(kSplitNames[0]);
  reader.optional("split", split);
  const auto found = index_of(kSplitNames, split);
  if (!found) {
    throw reader.error("config.value", "split", "all, seen or held-out", split);
  }
  config.split = static_cast<Split>(*found);
  reader.finish();
  return config;
}

OrderedJson WorldConfig::to_json() const {
  return {{"width", width},
          {"height", height},
          {"frames", frames},
          {"fps", fps},
          {"min_objects", min_objects},
          {"max_objects", max_objects},
          {"gradient_probability", gradient_probability},
          {"textured_probability", textured_probability},
          {"shadow_probability", shadow_probability},
          {"split", kSplitNames[static_cast<std::size_t>(split)]}};
}

void WorldConfig::validate() const {
  std::string broken;
  const auto rule = [&](bool holds, std::string_view text) {
    if (!holds) {
      broken += (broken.empty() ? "" : "; ") + std::string(text);
    }
  };
  rule(width >= 16 && width <= 4096 && height >= 16 && height <= 4096, "width and height 16..4096");
  rule(frames >= 1 && frames <= 100000, "frames 1..100000");
  rule(fps > 0 && fps <= 240, "fps above 0, up to 240");
  rule(min_objects >= 1 && min_objects <= max_objects && max_objects <= 3,
       "1 <= min_objects <= max_objects <= 3");
  for (const double p : {gradient_probability, textured_probability, shadow_probability}) {
    rule(p >= 0 && p <= 1, "probabilities 0..1");
  }
  rule(gradient_probability + textured_probability <= 1,
       "gradient_probability + textured_probability <= 1");
  if (!broken.empty()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "world.config",
                 .place = "world",
                 .subject = "world configuration",
                 .expected = broken,
                 .got = to_json().dump()});
  }
}

OrderedJson Scene::to_json() const {
  const auto name = [](const auto& names, auto value) {
    return names[static_cast<std::size_t>(value)];
  };
  OrderedJson list = OrderedJson::array();
  for (std::size_t i = 0; i < objects.size(); ++i) {
    const Object& object = objects[i];
    OrderedJson boxes = OrderedJson::array();
    for (std::int64_t f = 0; f < frames; ++f) {
      const Pose at = pose(i, f);
      const double reach = at.radius * extent_of(object.shape);
      boxes.push_back({at.x - reach, at.y - reach, at.x + reach, at.y + reach});
    }
    list.push_back({{"shape", name(kShapeNames, object.shape)},
                    {"colour", name(kColourNames, object.colour)},
                    {"rgb", object.rgb},
                    {"size", name(kSizeNames, object.size)},
                    {"radius", object.radius},
                    {"motion", name(kMotionNames, object.motion)},
                    {"held_out", is_held_out(object.shape, object.colour, object.motion)},
                    {"boxes", boxes}});
  }
  return {{"seed", seed},
          {"index", index},
          {"width", width},
          {"height", height},
          {"frames", frames},
          {"fps", fps},
          {"background",
           {{"kind", name(kBackgroundNames, background)},
            {"colour", name(kColourNames, background_colour)},
            {"rgb", background_rgb},
            {"rgb2", background_rgb2}}},
          {"shadows", shadows},
          {"objects", list}};
}

}  // namespace kinema::world
