// SPDX-License-Identifier: Apache-2.0
#include "vae/memory_networks.h"

#include <algorithm>
#include <utility>

namespace kinema::vae {
namespace {

/// What the 3x3 convolutions of a block are.
enum class Kind {
  kImage,   ///< 2-D, frame by frame
  kClip,    ///< causal in time, the whole clip at once
  kStream,  ///< causal in time, with a past
};

Live conv3(Ledger& ledger, const Live& x, std::int64_t channels, Kind kind) {
  return kind == Kind::kImage ? ledger.conv2d(x, channels, 3)
                              : ledger.causal3d(x, channels, kind == Kind::kStream);
}

Live conv3_add(Ledger& ledger, const Live& x, Live addend, Kind kind) {
  return kind == Kind::kImage ? ledger.conv2d_add(x, std::move(addend))
                              : ledger.causal3d_add(x, std::move(addend), kind == Kind::kStream);
}

/// The residual block of all networks: the norm works in place where x is not the shortcut.
Live book_block(Ledger& ledger, Live x, std::int64_t channels, Kind kind) {
  const bool widens = x.sheet().channels != channels;
  Live shortcut = widens ? ledger.conv2d(x, channels, 1) : Live();
  Live h = widens ? std::move(x) : ledger.make(x.sheet());
  h = conv3(ledger, h, channels, kind);
  return conv3_add(ledger, h, widens ? std::move(shortcut) : std::move(x), kind);
}

Live book_blocks(Ledger& ledger, Live x, std::int64_t channels, std::int64_t count, Kind kind) {
  for (std::int64_t i = 0; i < count; ++i) {
    x = book_block(ledger, std::move(x), channels, kind);
  }
  return x;
}

/// attend() and its projections, x stays until the end.
Live book_attention(Ledger& ledger, const Live& x) {
  const Sheet s = x.sheet();
  const std::int64_t tokens = s.rows * s.columns;
  const auto images = static_cast<double>(s.batch * s.frames);
  const auto width = static_cast<double>(s.channels);
  const auto count = static_cast<double>(tokens);
  ledger.spend(images * count * width * (8.0 * width + 4.0 * count));
  const Live normed = ledger.make(s);
  Live mixed;
  {
    const Live query = ledger.make(s);
    const Live key = ledger.make(s);
    const Live value = ledger.make(s);
    mixed = ledger.make(s);
    constexpr std::int64_t kMaxScores = std::int64_t{1} << 24;
    const std::int64_t rows = std::clamp<std::int64_t>(kMaxScores / tokens, 1, tokens);
    ledger.pass((rows + s.channels) * tokens * ledger.element_bytes());
  }
  return ledger.make(s);
}

Live book_middle(Ledger& ledger, Live x, bool attends, Kind kind) {
  const std::int64_t channels = x.sheet().channels;
  x = book_block(ledger, std::move(x), channels, kind);
  if (attends) {
    x = book_attention(ledger, x);
  }
  return book_block(ledger, std::move(x), channels, kind);
}

/// Frames after time is halved or doubled, where the first frame of a clip stays alone.
std::int64_t halved_frames(std::int64_t frames, bool is_first) {
  return is_first ? (frames - 1) / 2 + 1 : frames / 2;
}

Live joined(Ledger& ledger, const Live& x, std::int64_t more) {
  return ledger.make(x.sheet().with_frames(x.sheet().frames + more));
}

// AutoencoderKL.

Live book_image_encoder(const SdVaeConfig& c, Ledger& ledger, const Live& input) {
  Live x = ledger.conv2d(input, c.block_out_channels.front(), 3);
  for (std::size_t l = 0; l < c.block_out_channels.size(); ++l) {
    const std::int64_t width = c.block_out_channels[l];
    x = book_blocks(ledger, std::move(x), width, c.layers_per_block, Kind::kImage);
    if (l + 1 < c.block_out_channels.size()) {
      x = ledger.conv2d(x, width, 3, /*stride=*/2);
    }
  }
  x = book_middle(ledger, std::move(x), c.mid_block_add_attention, Kind::kImage);
  return ledger.conv2d(x, 2 * c.latent_channels, 3);
}

Live book_image_decoder(const SdVaeConfig& c, Ledger& ledger, const Live& input) {
  Live x = ledger.conv2d(input, c.block_out_channels.back(), 3);
  x = book_middle(ledger, std::move(x), c.mid_block_add_attention, Kind::kImage);
  for (std::size_t l = c.block_out_channels.size(); l-- > 0;) {
    const std::int64_t width = c.block_out_channels[l];
    x = book_blocks(ledger, std::move(x), width, c.layers_per_block + 1, Kind::kImage);
    if (l > 0) {
      x = ledger.conv2d_doubled(x, width);
    }
  }
  return ledger.conv2d(x, c.out_channels, 3);
}

// VidVAE and Open-Sora-Plan.

struct VidVaeLedger {
  const VidVaeConfig& config;
  Ledger& ledger;
  bool is_first;

  [[nodiscard]] bool streams() const { return config.streams_exactly(); }
  [[nodiscard]] Kind kind() const { return streams() ? Kind::kStream : Kind::kClip; }

  [[nodiscard]] Live down_blocks(Live x, std::int64_t level) const {
    const auto l = static_cast<std::size_t>(level);
    const Kind blocks = config.conv3d_levels_enc[l] ? kind() : Kind::kImage;
    x = book_blocks(ledger, std::move(x), config.width(level), config.res_blocks, blocks);
    const bool halves = level + 1 < config.num_levels() && config.time_down[l] != TimeDown::kJoint;
    return halves ? ledger.conv2d(x, config.width(level), 3, /*stride=*/2) : std::move(x);
  }

  [[nodiscard]] Live down_time(Live x, std::int64_t level) const {
    const TimeDown time = config.time_down[static_cast<std::size_t>(level)];
    if (time == TimeDown::kNone) {
      return x;
    }
    const std::int64_t frames = halved_frames(x.sheet().frames, is_first);
    if (time == TimeDown::kJoint) {
      Sheet padded = x.sheet();
      padded.rows += 1;
      padded.columns += 1;
      const Live border = ledger.make(padded);
      const Live extended = ledger.make(padded.with_frames(padded.frames + 2));
      const Sheet small = x.sheet().halved().with_frames(frames);
      const Live reduced = ledger.make(small);
      ledger.spend(54.0 * static_cast<double>(small.elements()) *
                   static_cast<double>(small.channels));
      return ledger.make(small);
    }
    const Live extended = joined(ledger, x, is_first ? 2 : 1);
    if (streams()) {
      ledger.remember(x.sheet().with_frames(1));
    }
    Live pooled = ledger.make(x.sheet().with_frames(frames));
    const Live sum = ledger.make(pooled.sheet());
    if (time == TimeDown::kMix) {
      const Live learned = ledger.time_conv(extended, x.sheet().channels, frames, 9);
      ledger.pass(2 * pooled.sheet().elements() * ledger.element_bytes());
    }
    return pooled;
  }

  /// Pixels as the network sees them, in patches as channels.
  [[nodiscard]] Live patched(const Sheet& pixels) const {
    const std::int64_t p = config.patch;
    return p == 1 ? ledger.view(pixels)
                  : ledger.make({.batch = pixels.batch,
                                 .channels = pixels.channels * p * p,
                                 .frames = pixels.frames,
                                 .rows = pixels.rows / p,
                                 .columns = pixels.columns / p});
  }

  /// Blocks of pixels and the product with their matrix.
  void book_shortcut(const Sheet& pixels) const {
    if (config.linear_shortcut) {
      ledger.pass(2 * pixels.elements() * ledger.element_bytes());
      ledger.spend(2.0 * static_cast<double>(pixels.elements()) *
                   static_cast<double>(config.latent_channels));
    }
  }

  [[nodiscard]] Live encode(const Live& video) const {
    book_shortcut(video.sheet());
    const Live input = patched(video.sheet());
    std::int64_t level = 0;
    const auto head = [&](const Live& frames) {
      Live x = config.conv_in_3d ? ledger.causal3d(frames, config.width(0), streams())
                                 : ledger.conv2d(frames, config.width(0), 3);
      for (level = 0; level < config.num_levels(); ++level) {
        x = down_blocks(std::move(x), level);
        if (config.time_down[static_cast<std::size_t>(level)] != TimeDown::kNone) {
          break;
        }
      }
      return x;
    };
    Live x = by_frame(input, head);
    if (level < config.num_levels()) {
      x = down_time(std::move(x), level);
    }
    for (++level; level < config.num_levels(); ++level) {
      x = down_time(down_blocks(std::move(x), level), level);
    }
    x = book_middle(ledger, std::move(x), /*attends=*/true, kind());
    return ledger.causal3d(x, 2 * config.latent_channels, streams());
  }

  [[nodiscard]] Live up_blocks(Live x, std::int64_t level) const {
    return book_blocks(ledger, std::move(x), config.width(level), config.res_blocks + 1, kind());
  }

  [[nodiscard]] Live up_space(const Live& x, std::int64_t level) const {
    if (config.time_up[static_cast<std::size_t>(level)] != TimeUp::kJoint) {
      return ledger.conv2d_doubled(x, config.width(level));
    }
    const Sheet larger = x.sheet().doubled().with_frames(2 * x.sheet().frames - 1);
    const Live rest = ledger.make(larger);
    Live whole = ledger.make(larger);
    return ledger.causal3d(whole, config.width(level), false);
  }

  [[nodiscard]] Live up_time(Live x, std::int64_t level) const {
    const TimeUp time = config.time_up[static_cast<std::size_t>(level)];
    if (time == TimeUp::kNone || time == TimeUp::kJoint) {
      return x;
    }
    const std::int64_t later = x.sheet().frames - 1;
    if (time == TimeUp::kRepeat) {
      return ledger.make(x.sheet().with_frames(2 * x.sheet().frames));
    }
    Live longer;
    {
      // Neighbours, their weighted sums, and the two halves side by side.
      const Live terms = ledger.make(x.sheet().with_frames(9 * later));
      longer = ledger.make(x.sheet().with_frames(2 * later + 1));
    }
    if (time == TimeUp::kMix) {
      const Live learned = ledger.causal3d(longer, x.sheet().channels, false);
      ledger.pass(2 * longer.sheet().elements() * ledger.element_bytes());
    }
    return longer;
  }

  [[nodiscard]] Live up(Live x, std::int64_t level) const {
    x = up_blocks(std::move(x), level);
    if (level > 0) {
      x = up_space(x, level);
    }
    return up_time(std::move(x), level);
  }

  [[nodiscard]] Live decode(const Live& input) const {
    Live y = decode_network(input);
    if (config.patch == 1 && !config.linear_shortcut) {
      return y;
    }
    const std::int64_t p = config.patch;
    const Sheet pixels = {.batch = y.sheet().batch,
                          .channels = config.in_channels,
                          .frames = y.sheet().frames,
                          .rows = y.sheet().rows * p,
                          .columns = y.sheet().columns * p};
    book_shortcut(pixels);
    return p == 1 ? std::move(y) : ledger.make(pixels);
  }

  [[nodiscard]] Live decode_network(const Live& input) const {
    Live x = ledger.causal3d(input, config.width(config.num_levels() - 1), streams());
    x = book_middle(ledger, std::move(x), /*attends=*/true, kind());
    std::int64_t tail_levels = 0;
    while (tail_levels < config.num_levels() &&
           config.time_up[static_cast<std::size_t>(tail_levels)] == TimeUp::kNone) {
      ++tail_levels;
    }
    std::int64_t level = config.num_levels();
    while (level > tail_levels + 1) {
      x = up(std::move(x), --level);
    }
    const auto tail = [&](Live frames) {
      for (std::int64_t l = tail_levels; l > 0; --l) {
        frames = up(std::move(frames), l - 1);
      }
      return ledger.causal3d(frames, config.in_channels * config.patch * config.patch, streams());
    };
    if (level == tail_levels) {
      return by_frame(x, [&](const Live& frame) { return tail(ledger.view(frame.sheet())); });
    }
    if (!streams()) {
      return tail(up(std::move(x), level - 1));
    }
    x = up_blocks(std::move(x), level - 1);
    const std::int64_t frames = x.sheet().frames;
    const std::int64_t made = is_first ? 2 * frames - 1 : 2 * frames;
    const Sheet one = x.sheet().with_frames(1);
    const Sheet large = level > 1 ? one.doubled() : one;
    // The larger frame is kept while the first of its two copies goes through.
    const Live kept = made > 1 ? ledger.make(large) : ledger.view(large);
    const Live last = ledger.repeat(made, [&] { return tail(ledger.make(large)); });
    spend_upsampling(one, frames, level - 1);
    return ledger.make(last.sheet().with_frames(2 * made));
  }

  /// The convolution between repeated frames runs once per frame, not once per copy.
  void spend_upsampling(const Sheet& one, std::int64_t frames, std::int64_t level) const {
    if (level > 0) {
      const auto width = static_cast<double>(config.width(level));
      ledger.spend(18.0 * width * width * static_cast<double>(one.doubled().positions()) *
                   static_cast<double>(frames));
    }
  }

  /// Frames one by one where that is exact; their outputs and, at the end, these joined.
  template <typename Layers>
  [[nodiscard]] Live by_frame(const Live& x, const Layers& layers) const {
    const std::int64_t frames = x.sheet().frames;
    if (!streams() || frames == 1) {
      return layers(x);
    }
    const Live view = ledger.view(x.sheet().with_frames(1));
    const Live first = ledger.repeat(frames, [&] { return layers(view); });
    const Live others = ledger.make(first.sheet().with_frames(frames - 1));
    return ledger.make(first.sheet().with_frames(frames));
  }
};

}  // namespace

Live book_network(const SdVaeConfig& config,
                  Ledger& ledger,
                  Direction direction,
                  const Live& input) {
  if (direction == Direction::kEncode) {
    Live moments = book_image_encoder(config, ledger, input);
    return config.use_quant_conv ? ledger.conv2d(moments, 2 * config.latent_channels, 1)
                                 : std::move(moments);
  }
  const Live latents = config.use_post_quant_conv ? ledger.conv2d(input, config.latent_channels, 1)
                                                  : ledger.view(input.sheet());
  return book_image_decoder(config, ledger, latents);
}

Live book_network(const VidVaeConfig& config,
                  Ledger& ledger,
                  Direction direction,
                  const Live& input,
                  bool is_first) {
  const VidVaeLedger network = {config, ledger, is_first};
  if (direction == Direction::kEncode) {
    return ledger.conv2d(network.encode(input), 2 * config.latent_channels, 1);
  }
  return network.decode(ledger.conv2d(input, config.latent_channels, 1));
}

// CogVideoX.

Live book_network(const CogVideoXVaeConfig& c,
                  Ledger& ledger,
                  Direction direction,
                  const Live& input) {
  const auto& widths = c.block_out_channels;
  constexpr Kind kStream = Kind::kStream;
  if (direction == Direction::kEncode) {
    Live x = ledger.causal3d(input, widths.front(), true);
    for (std::int64_t l = 0; l < c.num_blocks(); ++l) {
      const std::int64_t width = widths[static_cast<std::size_t>(l)];
      x = book_blocks(ledger, std::move(x), width, c.layers_per_block, kStream);
      if (l + 1 < c.num_blocks()) {
        if (l < c.num_time_blocks() && x.sheet().frames > 1) {
          x = ledger.make(x.sheet().with_frames((x.sheet().frames + 1) / 2));
        }
        x = ledger.conv2d(x, width, 3, /*stride=*/2);
      }
    }
    x = book_blocks(ledger, std::move(x), widths.back(), 2, kStream);
    return ledger.causal3d(x, 2 * c.latent_channels, true);
  }
  Live x = ledger.causal3d(input, widths.back(), true);
  x = book_blocks(ledger, std::move(x), widths.back(), 2, kStream);
  for (std::int64_t l = 0; l < c.num_blocks(); ++l) {
    const std::int64_t width = widths[static_cast<std::size_t>(c.num_blocks() - 1 - l)];
    x = book_blocks(ledger, std::move(x), width, c.layers_per_block + 1, kStream);
    if (l + 1 < c.num_blocks()) {
      x = ledger.conv2d_doubled(x, width);
      const std::int64_t frames = x.sheet().frames;
      if (l < c.num_time_blocks() && frames > 1) {
        x = ledger.make(x.sheet().with_frames(2 * frames - frames % 2));
      }
    }
  }
  return ledger.causal3d(x, c.out_channels, true);
}

// Wan.

namespace {

Live book_wan_attention(Ledger& ledger, const Live& x) {
  const Sheet s = x.sheet();
  const auto width = static_cast<double>(s.channels);
  const auto count = static_cast<double>(s.rows * s.columns);
  ledger.spend(static_cast<double>(s.positions()) * width * (8.0 * width + 4.0 * count));
  const Live normed = ledger.make(s);
  const Live qkv = ledger.make(s.with_channels(3 * s.channels));
  const Live mixed = ledger.make(s);
  return ledger.make(s);
}

Live book_wan_middle(Ledger& ledger, Live x) {
  const std::int64_t width = x.sheet().channels;
  x = book_block(ledger, std::move(x), width, Kind::kStream);
  x = book_wan_attention(ledger, x);
  return book_block(ledger, std::move(x), width, Kind::kStream);
}

Live book_wan_down(Ledger& ledger, Live x, bool halves_time, bool is_first) {
  x = ledger.conv2d(x, x.sheet().channels, 3, /*stride=*/2);
  if (!halves_time) {
    return x;
  }
  const std::int64_t frames = x.sheet().frames;
  Live y;
  if (frames > 1) {
    const Live extended = joined(ledger, x, is_first ? 0 : 1);
    y = ledger.time_conv(extended, x.sheet().channels, halved_frames(frames, is_first), 1);
  }
  ledger.remember(x.sheet().with_frames(1));
  return frames > 1 ? std::move(y) : std::move(x);
}

Live book_wan_up(Ledger& ledger, Live x, bool doubles_time, bool is_first) {
  const std::int64_t channels = x.sheet().channels;
  const std::int64_t frames = x.sheet().frames - (is_first ? 1 : 0);
  if (doubles_time && frames > 0) {
    const Live extended = ledger.make(x.sheet().with_frames(2 + frames));
    ledger.remember(x.sheet().with_frames(2));
    const Live twice = ledger.time_conv(extended, 2 * channels, frames, 1);
    x = ledger.make(x.sheet().with_frames(2 * frames + (is_first ? 1 : 0)));
  }
  return ledger.conv2d_doubled(x, channels / 2);
}

}  // namespace

Live book_network(
    const WanVaeConfig& c, Ledger& ledger, Direction direction, const Live& input, bool is_first) {
  constexpr Kind kStream = Kind::kStream;
  const auto width_of = [&](std::int64_t base, std::int64_t level) {
    return base * c.dim_mult[static_cast<std::size_t>(level)];
  };
  if (direction == Direction::kEncode) {
    Live x = ledger.causal3d(input, c.base_dim, true);
    double scale = 1.0;
    for (std::int64_t l = 0; l < c.num_levels(); ++l) {
      const bool attends =
          std::find(c.attn_scales.begin(), c.attn_scales.end(), scale) != c.attn_scales.end();
      for (std::int64_t i = 0; i < c.num_res_blocks; ++i) {
        x = book_block(ledger, std::move(x), width_of(c.base_dim, l), kStream);
        if (attends) {
          x = book_wan_attention(ledger, x);
        }
      }
      if (l + 1 < c.num_levels()) {
        const bool halves = c.temporal_downsample[static_cast<std::size_t>(l)];
        x = book_wan_down(ledger, std::move(x), halves, is_first);
        scale /= 2.0;
      }
    }
    x = book_wan_middle(ledger, std::move(x));
    x = ledger.causal3d(x, 2 * c.z_dim, true);
    return ledger.conv2d(x, 2 * c.z_dim, 1);
  }
  const std::int64_t base = c.decoder_base_dim > 0 ? c.decoder_base_dim : c.base_dim;
  const Live latents = ledger.conv2d(input, c.z_dim, 1);
  Live x = ledger.causal3d(latents, width_of(base, c.num_levels() - 1), true);
  x = book_wan_middle(ledger, std::move(x));
  for (std::int64_t l = c.num_levels() - 1; l >= 0; --l) {
    x = book_blocks(ledger, std::move(x), width_of(base, l), c.num_res_blocks + 1, kStream);
    if (l > 0) {
      const bool doubles = c.temporal_downsample[static_cast<std::size_t>(l - 1)];
      x = book_wan_up(ledger, std::move(x), doubles, is_first);
    }
  }
  return ledger.causal3d(x, c.out_channels, true);
}

// Open-Sora.

namespace {

Live book_temporal_encoder(const TemporalVaeConfig& c, Ledger& ledger, const Live& input) {
  Live x = ledger.causal3d(input, c.filters, false);
  for (std::int64_t i = 0; i < c.num_blocks(); ++i) {
    const std::int64_t width = c.filters * c.channel_multipliers[static_cast<std::size_t>(i)];
    x = book_blocks(ledger, std::move(x), width, c.num_res_blocks, Kind::kClip);
    if (i + 1 < c.num_blocks() && c.temporal_downsample[static_cast<std::size_t>(i)]) {
      const Live extended = joined(ledger, x, 1);
      x = ledger.time_conv(extended, width, x.sheet().frames / 2, 9);
    }
  }
  const std::int64_t width = x.sheet().channels;
  x = book_blocks(ledger, std::move(x), width, c.num_res_blocks, Kind::kClip);
  const Live normed = ledger.make(x.sheet());
  const Live moments = ledger.conv2d(normed, 2 * c.latent_embed_dim, 1);
  return ledger.conv2d(moments, 2 * c.embed_dim, 1);
}

Live book_temporal_decoder(const TemporalVaeConfig& c, Ledger& ledger, const Live& input) {
  const auto width_of = [&](std::int64_t i) {
    return c.filters * c.channel_multipliers[static_cast<std::size_t>(i)];
  };
  const std::int64_t top = width_of(c.num_blocks() - 1);
  Live x = ledger.causal3d(ledger.conv2d(input, c.latent_embed_dim, 1), top, false);
  x = book_blocks(ledger, std::move(x), top, c.num_res_blocks, Kind::kClip);
  for (std::int64_t i = c.num_blocks() - 1; i >= 0; --i) {
    x = book_blocks(ledger, std::move(x), width_of(i), c.num_res_blocks, Kind::kClip);
    if (i > 0 && c.temporal_downsample[static_cast<std::size_t>(i - 1)]) {
      const Live twice = ledger.causal3d(x, 2 * x.sheet().channels, false);
      x = ledger.make(x.sheet().with_frames(2 * x.sheet().frames));
    }
  }
  const Live normed = ledger.make(x.sheet());
  return ledger.causal3d(normed, c.in_out_channels, false);
}

/// Frames through the image autoencoder, a few at a time.
Live book_images(const OpenSoraVaeConfig& c,
                 Ledger& ledger,
                 Direction direction,
                 const Live& input) {
  const Sheet s = input.sheet();
  const std::int64_t images = s.batch * s.frames;
  const std::int64_t batch = std::min(c.micro_batch_size.value_or(images), images);
  Sheet some = s.with_frames(1);
  some.batch = batch;
  const Live view = ledger.view(some);
  const std::int64_t ratio = c.spatial.spatial_ratio();
  const Sheet made =
      direction == Direction::kDecode
          ? Sheet{s.batch, c.spatial.out_channels, s.frames, s.rows * ratio, s.columns * ratio}
          : Sheet{s.batch, c.spatial.latent_channels, s.frames, s.rows / ratio, s.columns / ratio};
  // There from the first batch on.
  Live all = ledger.make(made);
  const Live part = ledger.repeat((images + batch - 1) / batch,
                                  [&] { return book_network(c.spatial, ledger, direction, view); });
  return all;
}

}  // namespace

Live book_network(const OpenSoraVaeConfig& c,
                  Ledger& ledger,
                  Direction direction,
                  const Live& input) {
  const std::int64_t ratio = c.temporal.temporal_ratio();
  if (direction == Direction::kEncode) {
    const Live images = book_images(c, ledger, direction, input);
    const std::int64_t frames = c.temporal.latent_frames(input.sheet().frames) * ratio;
    const Live latents =
        ledger.make(images.sheet().with_frames(frames).with_channels(c.spatial.latent_channels));
    return book_temporal_encoder(c.temporal, ledger, latents);
  }
  const Live latents = book_temporal_decoder(c.temporal, ledger, input);
  return book_images(c, ledger, direction, latents);
}

}  // namespace kinema::vae
