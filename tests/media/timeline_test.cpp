// SPDX-License-Identifier: Apache-2.0
#include "media/timeline.h"

#include <limits>
#include <random>
#include <vector>

#include <gtest/gtest.h>

namespace kinema::media {
namespace {

using Raw = std::optional<std::int64_t>;

std::vector<std::int64_t> run(Timeline& timeline, const std::vector<Raw>& raws, int& repaired) {
  std::vector<std::int64_t> given;
  repaired = 0;
  for (const Raw& raw : raws) {
    const auto stamp = timeline.next(raw);
    given.push_back(stamp.pts);
    repaired += stamp.repaired ? 1 : 0;
  }
  return given;
}

TEST(TimelineTest, GoodStampsPass) {
  Timeline timeline(40);
  int repaired = 0;
  EXPECT_EQ(run(timeline, {100, 140, 141, 500}, repaired),
            (std::vector<std::int64_t>{100, 140, 141, 500}));
  EXPECT_EQ(repaired, 0);
}

TEST(TimelineTest, MissingStampsFollowTheStep) {
  Timeline timeline(40);
  int repaired = 0;
  EXPECT_EQ(run(timeline, {0, std::nullopt, std::nullopt, 120}, repaired),
            (std::vector<std::int64_t>{0, 40, 80, 120}));
  EXPECT_EQ(repaired, 2);
}

TEST(TimelineTest, JumpBackKeepsTheRhythmAndRecovers) {
  Timeline timeline(40);
  int repaired = 0;
  // Three frames 600 too early, then the right clock again.
  EXPECT_EQ(run(timeline, {1000, 1040, 480, 520, 560, 1200}, repaired),
            (std::vector<std::int64_t>{1000, 1040, 1080, 1120, 1160, 1200}));
  EXPECT_EQ(repaired, 3);
}

TEST(TimelineTest, RestartedClockKeepsItsOwnDistances) {
  Timeline timeline(40);
  int repaired = 0;
  EXPECT_EQ(run(timeline, {1000, 0, 10, 30}, repaired),
            (std::vector<std::int64_t>{1000, 1040, 1050, 1070}));
  EXPECT_EQ(repaired, 3);
}

TEST(TimelineTest, AlwaysRisesUntilTheClockIsFull) {
  std::mt19937_64 random(3);
  Timeline timeline(7);
  std::optional<std::int64_t> last;
  for (int i = 0; i < 10000; ++i) {
    const Raw raw =
        random() % 5 == 0 ? Raw() : Raw(static_cast<std::int64_t>(random() % 2000) - 1000 + i);
    const auto stamp = timeline.next(raw);
    if (last) {
      ASSERT_GT(stamp.pts, *last);
    }
    last = stamp.pts;
  }
  Timeline full(7);
  (void)full.next(std::numeric_limits<std::int64_t>::max());
  EXPECT_EQ(full.next(std::numeric_limits<std::int64_t>::min()).pts,
            std::numeric_limits<std::int64_t>::max());
}

TEST(TimelineTest, ResumesAfterASeek) {
  Timeline timeline(40);
  (void)timeline.next(5000);
  timeline.resume_after(80);
  EXPECT_EQ(timeline.next(120).pts, 120);
  timeline.resume_after(std::nullopt);
  EXPECT_FALSE(timeline.next(0).repaired);
}

}  // namespace
}  // namespace kinema::media
