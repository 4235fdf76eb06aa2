// SPDX-License-Identifier: Apache-2.0
#include "world/scene.h"

#include <algorithm>
#include <set>
#include <sstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/error.h"
#include "world/caption.h"

namespace kinema::world {
namespace {

using testing::HasSubstr;

TEST(SceneTest, DependsOnSeedAndIndexAlone) {
  const WorldConfig config{.max_objects = 3};
  EXPECT_EQ(make_scene(config, 7, 100).to_json(), make_scene(config, 7, 100).to_json());
  EXPECT_NE(make_scene(config, 7, 100).to_json(), make_scene(config, 7, 101).to_json());
  EXPECT_NE(make_scene(config, 7, 100).to_json(), make_scene(config, 8, 100).to_json());
}

TEST(SceneTest, EveryAttributeOccurs) {
  std::set<Shape> shapes;
  std::set<Colour> colours;
  std::set<Motion> motions;
  std::set<Background> backgrounds;
  std::set<std::size_t> counts;
  for (std::int64_t i = 0; i < 600; ++i) {
    const Scene scene = make_scene(
        {.max_objects = 3, .gradient_probability = 0.3, .textured_probability = 0.4}, 1, i);
    counts.insert(scene.objects.size());
    backgrounds.insert(scene.background);
    for (const Object& object : scene.objects) {
      shapes.insert(object.shape);
      colours.insert(object.colour);
      motions.insert(object.motion);
      EXPECT_NE(object.colour, scene.background_colour);
    }
  }
  EXPECT_EQ(shapes.size(), 8U);
  EXPECT_EQ(colours.size(), 10U);
  EXPECT_EQ(motions.size(), 14U);
  EXPECT_EQ(backgrounds.size(), 4U);
  EXPECT_EQ(counts.size(), 3U);
}

TEST(SceneTest, TheSplitsDoNotMeet) {
  for (std::int64_t i = 0; i < 400; ++i) {
    const Scene seen = make_scene({.max_objects = 3, .split = Split::kSeen}, 2, i);
    for (const Object& object : seen.objects) {
      EXPECT_FALSE(is_held_out(object.shape, object.colour, object.motion));
    }
    const Object held = make_scene({.split = Split::kHeldOut}, 2, i).objects[0];
    EXPECT_TRUE(is_held_out(held.shape, held.colour, held.motion));
  }
}

TEST(SceneTest, SmallAndMediumObjectsStayInTheFrame) {
  for (std::int64_t i = 0; i < 300; ++i) {
    const Scene scene = make_scene({}, 3, i);
    const Object& object = scene.objects[0];
    if (object.size == Size::kLarge) {
      continue;  // a large star that travels does not fit
    }
    for (std::int64_t f = 0; f < scene.frames; ++f) {
      const Pose pose = scene.pose(0, f);
      const double reach = pose.radius * extent_of(object.shape) - 3;
      EXPECT_TRUE(pose.x >= reach && pose.x <= 64 - reach && pose.y >= reach &&
                  pose.y <= 64 - reach)
          << i;
    }
  }
}

TEST(WorldConfigTest, RoundTripAndErrors) {
  const WorldConfig config{.width = 96, .frames = 33, .max_objects = 2, .split = Split::kHeldOut};
  const JsonContext context{
      .place = "test", .subject = "world.json", .kind = ErrorKind::kBadConfig};
  EXPECT_EQ(WorldConfig::from_json(Json::parse(config.to_json().dump()), context), config);
  EXPECT_THROW(static_cast<void>(WorldConfig::from_json(Json::parse(R"({"widht":1})"), context)),
               Error);
  EXPECT_THROW(
      static_cast<void>(WorldConfig::from_json(Json::parse(R"({"split":"some"})"), context)),
      Error);
  try {
    WorldConfig{.width = 1, .frames = 0, .max_objects = 9}.validate();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "world.config");
    EXPECT_THAT(error.what(), HasSubstr("width"));
    EXPECT_THAT(error.what(), HasSubstr("frames"));
    EXPECT_THAT(error.what(), HasSubstr("max_objects"));
  }
}

TEST(CaptionTest, NamesWhatIsThere) {
  for (std::int64_t i = 0; i < 200; ++i) {
    const Scene scene = make_scene(
        {.max_objects = 3, .gradient_probability = 0.3, .textured_probability = 0.4}, 4, i);
    for (std::int64_t variant = 0; variant < 4; ++variant) {
      const std::string text = caption(scene, variant);
      EXPECT_THAT(
          text,
          HasSubstr(std::string(kColourNames[static_cast<std::size_t>(scene.background_colour)])));
      for (const Object& object : scene.objects) {
        EXPECT_THAT(
            text,
            HasSubstr(std::string(kColourNames[static_cast<std::size_t>(object.colour)]) + " " +
                      std::string(kShapeNames[static_cast<std::size_t>(object.shape)])));
      }
      EXPECT_EQ(text, caption(scene, variant));
    }
  }
}

TEST(CaptionTest, UsesOnlyTheWordsItLists) {
  const auto list = caption_words();
  const std::set<std::string> words(list.begin(), list.end());
  EXPECT_GT(words.size(), 80U);
  std::set<std::string> variety;
  for (std::int64_t i = 0; i < 500; ++i) {
    const Scene scene = make_scene(
        {.max_objects = 3, .gradient_probability = 0.3, .textured_probability = 0.4}, 4, i);
    std::string text = caption(scene, i);
    for (char& c : text) {
      c = c == '.' || c == ',' ? ' ' : c;
    }
    std::istringstream stream(text);
    std::string word;
    while (stream >> word) {
      EXPECT_TRUE(words.contains(word)) << word;
      variety.insert(word);
    }
  }
  EXPECT_EQ(variety.size(), words.size()) << "a word is listed that no caption uses";
}

TEST(CaptionTest, SizesCanBeAskedForAlways) {
  const auto has_size = [](const std::string& text) {
    for (const char* word :
         {"small", "tiny", "little", "medium", "medium-sized", "big", "large", "huge"}) {
      if ((" " + text + " ").find(std::string(" ") + word + " ") != std::string::npos) {
        return true;
      }
    }
    return false;
  };
  int without = 0;
  for (std::int64_t index = 0; index < 200; ++index) {
    const Scene scene = make_scene({}, 1, index);
    const std::string free = caption(scene, 0);
    const std::string named = caption(scene, 0, /*name_sizes=*/true);
    EXPECT_TRUE(has_size(named)) << named;
    EXPECT_EQ(has_size(free), free == named) << free;
    without += has_size(free) ? 0 : 1;
  }
  EXPECT_GT(without, 5);
  EXPECT_LT(without, 40);
}

TEST(CaptionTest, ThePlainSentenceReadsLikeAPrompt) {
  Scene scene = make_scene({.gradient_probability = 0}, 1, 0);
  scene.background_colour = 5;
  scene.objects[0].colour = 0;
  scene.objects[0].shape = Shape::kCircle;
  scene.objects[0].size = Size::kSmall;
  scene.objects[0].motion = Motion::kRight;
  EXPECT_EQ(plain_caption(scene), "a small red circle moves right over a blue background");
}

}  // namespace
}  // namespace kinema::world
