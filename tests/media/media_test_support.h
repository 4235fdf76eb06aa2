// SPDX-License-Identifier: Apache-2.0
// Shared by the tests of media/: moving test pictures, comparisons, and the
// table of films with known truth.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include <gtest/gtest.h>

#include "core/base/error.h"
#include "core/base/json.h"
#include "media/video_reader.h"
#include "media/video_writer.h"
#include "tests/support/temp_folder.h"

namespace kinema::media {

/// Frame `index` of a smooth picture with a moving disc, packed RGB.
[[nodiscard]] std::vector<std::uint8_t> moving_picture(std::int64_t width,
                                                       std::int64_t height,
                                                       std::int64_t index);

/// Peak signal to noise ratio in dB, 99 for equal pixels.
[[nodiscard]] double psnr(const std::vector<std::uint8_t>& a, const std::vector<std::uint8_t>& b);

/// The error that `call` throws; a test failure when it throws none.
template <typename Call>
[[nodiscard]] std::optional<Error> error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error;
  }
  ADD_FAILURE() << "no error was thrown";
  return std::nullopt;
}

[[nodiscard]] std::vector<VideoFrame> read_all(const std::string& path,
                                               const ReadOptions& options = {});

/// Writes `frames` moving pictures.
void write_clip(const std::string& path, const WriteOptions& options, std::int64_t frames);

/// The number in the row of twelve 16x16 blocks at the top left (white = 1, highest bit first).
[[nodiscard]] std::int64_t frame_code(const VideoFrame& frame);

/// Folder of the committed films, and the larger set beside the repository (may be absent).
[[nodiscard]] std::string committed_films();
[[nodiscard]] std::string shared_films();
[[nodiscard]] Json read_truth(const std::string& folder);

}  // namespace kinema::media
