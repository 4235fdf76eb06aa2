// SPDX-License-Identifier: Apache-2.0
// Any legal partition of a clip gives what one shot gives.
#include <random>

#include <gmock/gmock.h>

#include "core/base/error.h"
#include "tests/vae/tiny_models.h"
#include "vae/stream_state.h"

namespace kinema::vae {
namespace {

using testing::max_difference;
using testing::random_latents;
using testing::random_video;
using testing::tiny_config;
using testing::tiny_network;
using testing::tiny_vid_vae;

constexpr double kTolerance = 1e-5;

/// Sizes that add up to `total`: the first is first + a unit, the others b unit.
std::vector<std::int64_t> random_partition(std::mt19937& random,
                                           std::int64_t total,
                                           std::int64_t unit) {
  std::vector<std::int64_t> sizes;
  std::int64_t left = (total - 1) / unit;
  std::int64_t first = std::uniform_int_distribution<std::int64_t>(0, left)(random);
  sizes.push_back(1 + first * unit);
  left -= first;
  while (left > 0) {
    const auto take = std::uniform_int_distribution<std::int64_t>(1, left)(random);
    sizes.push_back(take * unit);
    left -= take;
  }
  return sizes;
}

/// Settings that all stream exactly.
std::vector<VidVaeConfig> streaming_configs() {
  VidVaeConfig mixed = tiny_config();
  mixed.time_down = {TimeDown::kNone, TimeDown::kMix, TimeDown::kPool, TimeDown::kNone};
  mixed.conv3d_levels_enc = {false, true, true, false};
  mixed.conv_in_3d = false;
  VidVaeConfig joint = tiny_config();
  joint.time_down = {TimeDown::kPool, TimeDown::kNone, TimeDown::kJoint, TimeDown::kNone};
  joint.time_up = {TimeUp::kRepeat, TimeUp::kNone, TimeUp::kNone, TimeUp::kRepeat};
  joint.space_down = {SpaceDown::kFrame, SpaceDown::kCausal, SpaceDown::kCausal};
  VidVaeConfig shortcut = tiny_config();
  shortcut.mult = {1, 2, 2};
  shortcut.conv3d_levels_enc = {false, true, true};
  shortcut.space_down = {SpaceDown::kCausal, SpaceDown::kCausal};
  shortcut.time_down = {TimeDown::kPool, TimeDown::kPool, TimeDown::kNone};
  shortcut.time_up = {TimeUp::kNone, TimeUp::kRepeat, TimeUp::kRepeat};
  shortcut.patch = 2;
  shortcut.linear_shortcut = true;
  return {tiny_config(), mixed, joint, shortcut};
}

class StreamPartition : public ::testing::TestWithParam<std::size_t> {};

TEST_P(StreamPartition, EncodeAndDecodeEqualOneShot) {
  const at::NoGradGuard no_grad;
  at::manual_seed(1);
  std::mt19937 random(static_cast<unsigned>(GetParam()));
  const VidVae network = tiny_network(streaming_configs()[GetParam()]);
  for (int round = 0; round < 67; ++round) {
    const std::int64_t latents = std::uniform_int_distribution<std::int64_t>(1, 5)(random);
    const std::int64_t frames = 1 + 4 * (latents - 1);
    const Tensor video = random_video(frames, 8, 16);
    const Tensor moments = network->encode(video, nullptr);
    ASSERT_EQ(moments.size(2), latents);
    StreamState encoder_state;
    std::vector<Tensor> parts;
    std::int64_t begin = 0;
    for (const std::int64_t size : random_partition(random, frames, 4)) {
      encoder_state.begin_chunk();
      parts.push_back(network->encode(video.narrow(2, begin, size), &encoder_state));
      begin += size;
    }
    ASSERT_LE(max_difference(at::cat(parts, 2), moments), kTolerance) << "round " << round;

    const Tensor z = random_latents(latents, 1, 2);
    const Tensor pixels = network->decode(z, nullptr);
    ASSERT_EQ(pixels.size(2), frames);
    StreamState decoder_state;
    parts.clear();
    begin = 0;
    for (const std::int64_t size : random_partition(random, latents, 1)) {
      decoder_state.begin_chunk();
      parts.push_back(network->decode(z.narrow(2, begin, size), &decoder_state));
      begin += size;
    }
    ASSERT_LE(max_difference(at::cat(parts, 2), pixels), kTolerance) << "round " << round;
  }
}

INSTANTIATE_TEST_SUITE_P(Configs, StreamPartition, ::testing::Values(0, 1, 2, 3));

TEST(Stream, LaterFramesDoNotChangeEarlierLatents) {
  const at::NoGradGuard no_grad;
  const VidVae network = tiny_network();
  const Tensor video = random_video(9, 16, 16);
  const Tensor all = network->encode(video, nullptr);
  const Tensor start = network->encode(video.narrow(2, 0, 5), nullptr);
  EXPECT_LE(max_difference(all.narrow(2, 0, 2), start), kTolerance);
  // A later frame matters for its own latent.
  Tensor other = video.clone();
  other.select(2, 8).add_(0.5);
  const Tensor changed = network->encode(other, nullptr);
  EXPECT_LE(max_difference(all.narrow(2, 0, 2), changed.narrow(2, 0, 2)), kTolerance);
  EXPECT_GT(max_difference(all.narrow(2, 2, 1), changed.narrow(2, 2, 1)), 10 * kTolerance);
}

TEST(Stream, ForgottenStateShows) {
  const at::NoGradGuard no_grad;
  const VidVae network = tiny_network();
  const Tensor z = random_latents(3, 2, 2);
  const Tensor whole = network->decode(z, nullptr);
  StreamState state;
  state.begin_chunk();
  const Tensor first = network->decode(z.narrow(2, 0, 1), &state);
  state.reset();
  state.begin_chunk();
  const Tensor restarted = network->decode(z.narrow(2, 1, 2), &state);
  EXPECT_LE(max_difference(first, whole.narrow(2, 0, 1)), kTolerance);
  EXPECT_EQ(restarted.size(2), 5);
  EXPECT_GT((restarted.narrow(2, 1, 4) - whole.narrow(2, 5, 4)).abs().max().item<double>(), 1e-3);
}

TEST(Stream, GradientFlowsThroughTwoChunks) {
  const VidVae network = tiny_network();
  Tensor video = random_video(9, 8, 8).requires_grad_(true);
  StreamState state;
  state.begin_chunk();
  const Tensor first = network->encode(video.narrow(2, 0, 5), &state);
  state.begin_chunk();
  const Tensor second = network->encode(video.narrow(2, 5, 4), &state);
  // The loss looks at the second chunk only; the first frames reach it through the caches.
  second.square().sum().backward();
  const Tensor streamed = video.grad().clone();
  EXPECT_GT(streamed.narrow(2, 0, 5).abs().max().item<double>(), 1e-6);
  video.mutable_grad() = Tensor();
  network->encode(video, nullptr).narrow(2, 2, 1).square().sum().backward();
  EXPECT_LE(max_difference(streamed, video.grad()), 1e-4 * streamed.abs().max().item<double>());
  for (const auto& item : network->named_parameters()) {
    const bool is_encoder = item.key().starts_with("encoder") || item.key().starts_with("quant");
    EXPECT_EQ(item.value().grad().defined(), is_encoder) << item.key();
  }
}

TEST(Stream, GradientOfTwoDecodedChunksEqualsOneShot) {
  const VidVae network = tiny_network();
  Tensor z = random_latents(3, 1, 2).requires_grad_(true);
  StreamState state;
  state.begin_chunk();
  const Tensor first = network->decode(z.narrow(2, 0, 1), &state);
  state.begin_chunk();
  const Tensor second = network->decode(z.narrow(2, 1, 2), &state);
  (first.square().sum() + second.square().sum()).backward();
  const Tensor streamed = z.grad().clone();
  z.mutable_grad() = Tensor();
  network->decode(z, nullptr).square().sum().backward();
  EXPECT_LE(max_difference(streamed, z.grad()), 1e-4 * streamed.abs().max().item<double>());
}

TEST(Stream, StateDoesNotGrow) {
  const at::NoGradGuard no_grad;
  const VidVae network = tiny_network();
  StreamState state;
  std::int64_t bytes = 0;
  for (int chunk = 0; chunk < 6; ++chunk) {
    state.begin_chunk();
    static_cast<void>(network->decode(random_latents(1, 2, 2), &state));
    if (chunk == 0) {
      bytes = state.num_bytes();
    }
  }
  EXPECT_GT(bytes, 0);
  EXPECT_EQ(state.num_bytes(), bytes);
}

/// Channels enough for the fast convolution, which reads the caches in place.
TEST(Stream, WideLayersAreExactAndCompactOnesAreClose) {
  const at::NoGradGuard no_grad;
  VidVaeConfig config = tiny_config();
  config.base = 32;
  config.mult = {1, 1, 1, 2};
  const VidVae network = tiny_network(config);
  const Tensor z = random_latents(3, 3, 4);
  const Tensor whole = network->decode(z, nullptr);
  for (const bool compact : {false, true}) {
    StreamState state(compact);
    std::vector<Tensor> parts;
    for (std::int64_t t = 0; t < 3; ++t) {
      state.begin_chunk();
      parts.push_back(network->decode(z.narrow(2, t, 1), &state));
    }
    const double difference = max_difference(at::cat(parts, 2), whole);
    if (compact) {
      const Tensor error = at::cat(parts, 2) - whole;
      EXPECT_GT(difference, 1e-6);
      EXPECT_LE(error.square().mean().sqrt().item<double>(), 0.02 * whole.std().item<double>());
    } else {
      EXPECT_LE(difference, kTolerance);
    }
  }
  const Tensor video = random_video(9, 32, 24);
  const Tensor moments = network->encode(video, nullptr);
  StreamState state;
  state.begin_chunk();
  std::vector<Tensor> parts = {network->encode(video.narrow(2, 0, 1), &state)};
  state.begin_chunk();
  parts.push_back(network->encode(video.narrow(2, 1, 8), &state));
  EXPECT_LE(max_difference(at::cat(parts, 2), moments), kTolerance);
}

TEST(Stream, TwoClipsShareOneNetwork) {
  const at::NoGradGuard no_grad;
  const VidVae network = tiny_network();
  const Tensor a = random_latents(2, 2, 2);
  const Tensor b = random_latents(2, 2, 2);
  StreamState state_a;
  StreamState state_b;
  std::vector<Tensor> out_a;
  std::vector<Tensor> out_b;
  for (std::int64_t t = 0; t < 2; ++t) {
    state_a.begin_chunk();
    out_a.push_back(network->decode(a.narrow(2, t, 1), &state_a));
    state_b.begin_chunk();
    out_b.push_back(network->decode(b.narrow(2, t, 1), &state_b));
  }
  EXPECT_LE(max_difference(at::cat(out_a, 2), network->decode(a, nullptr)), kTolerance);
  EXPECT_LE(max_difference(at::cat(out_b, 2), network->decode(b, nullptr)), kTolerance);
}

// ---- the push interface

TEST(PushStream, AnyPushSizesEqualEncode) {
  const auto vae = tiny_vid_vae();
  std::mt19937 random(3);
  const Tensor video = random_video(17, 16, 8);
  const Posterior whole = vae->encode(video);
  for (int round = 0; round < 10; ++round) {
    const auto stream = vae->encode_stream({.frames_per_step = round % 3 * 4});
    std::vector<Tensor> means;
    std::int64_t begin = 0;
    while (begin < 17) {
      const auto size = std::min<std::int64_t>(
          std::uniform_int_distribution<std::int64_t>(1, 6)(random), 17 - begin);
      if (const auto part = stream->push(video.narrow(2, begin, size))) {
        means.push_back(part->mean_BCTHW);
      }
      begin += size;
    }
    EXPECT_FALSE(stream->finish().has_value());
    ASSERT_LE(max_difference(at::cat(means, 2), whole.mean_BCTHW), kTolerance);
  }
}

TEST(PushStream, FinishFillsTheLastStep) {
  const auto vae = tiny_vid_vae();
  const Tensor video = random_video(7, 8, 8);
  const Posterior padded = vae->encode(video, {.pad_frames = true});
  EXPECT_EQ(padded.mean_BCTHW.size(2), 3);
  const auto stream = vae->encode_stream();
  std::vector<Tensor> means = {stream->push(video)->mean_BCTHW};
  means.push_back(stream->finish()->mean_BCTHW);
  EXPECT_LE(max_difference(at::cat(means, 2), padded.mean_BCTHW), kTolerance);
  EXPECT_THROW(static_cast<void>(stream->push(video)), Error);
}

TEST(PushStream, DecodeHandsFramesOn) {
  const auto vae = tiny_vid_vae();
  const Tensor z = random_latents(4, 2, 1);
  const Tensor whole = vae->decode(z);
  ASSERT_EQ(whole.size(2), 13);
  std::vector<Tensor> frames;
  std::vector<std::int64_t> counts;
  vae->decode(z, {}, [&](const Tensor& part) {
    frames.push_back(part.clone());
    counts.push_back(part.size(2));
  });
  EXPECT_THAT(counts, ::testing::ElementsAre(1, 4, 4, 4));
  EXPECT_LE(max_difference(at::cat(frames, 2), whole), kTolerance);
  frames.clear();
  const auto stream = vae->decode_stream({.num_frames = 10});
  for (std::int64_t t = 0; t < 4; ++t) {
    if (const auto part = stream->push(z.narrow(2, t, 1))) {
      frames.push_back(*part);
    }
  }
  EXPECT_LE(max_difference(at::cat(frames, 2), whole.narrow(2, 0, 10)), kTolerance);
  EXPECT_GT(stream->state_bytes(), 0);
}

TEST(PushStream, TilesKeepTheirOwnState) {
  const auto vae = tiny_vid_vae();
  const TilingOptions tiling = {.tile_rows = 16, .tile_columns = 16, .overlap = 0.5};
  const Tensor z = random_latents(3, 4, 3);
  const Tensor whole = vae->decode(z, {.tiling = tiling, .latents_per_step = 0});
  const auto stream = vae->decode_stream({.tiling = tiling});
  std::vector<Tensor> frames;
  for (std::int64_t t = 0; t < 3; ++t) {
    frames.push_back(*stream->push(z.narrow(2, t, 1)));
  }
  EXPECT_LE(max_difference(at::cat(frames, 2), whole), kTolerance);
}

TEST(PushStream, CachesInAFileChangeNothing) {
  at::manual_seed(3);
  const auto vae = tiny_vid_vae();
  const Tensor video = random_video(13, 16, 24);
  const Tensor z = random_latents(4, 2, 3);
  const Tensor latents = vae->encode(video).mode();
  const Tensor pixels = vae->decode(z);
  for (const std::int64_t bytes : {0, 20000}) {
    const StateMemory memory = {.max_bytes = bytes, .folder = ::testing::TempDir()};
    EXPECT_TRUE(at::equal(vae->encode(video, {.state_memory = memory}).mode(), latents));
    EXPECT_TRUE(at::equal(vae->decode(z, {.state_memory = memory}), pixels));
  }
  const StateMemory nowhere = {.max_bytes = 0, .folder = ::testing::TempDir() + "/missing"};
  EXPECT_THROW(static_cast<void>(vae->decode(z, {.state_memory = nowhere})), Error);
}

TEST(PushStream, WholeClipModelsRefuse) {
  VidVaeConfig config = tiny_config();
  config.time_up = {TimeUp::kNone, TimeUp::kNone, TimeUp::kLinear, TimeUp::kLinear};
  const auto vae = tiny_vid_vae(config);
  EXPECT_FALSE(vae->info().streams_exactly());
  try {
    static_cast<void>(vae->decode_stream());
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), "vae.stream");
    EXPECT_EQ(error.kind(), ErrorKind::kUnsupported);
  }
  EXPECT_EQ(vae->decode(random_latents(3, 1, 1)).size(2), 9);
}

}  // namespace
}  // namespace kinema::vae
