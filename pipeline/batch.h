// SPDX-License-Identifier: Apache-2.0
// Many videos from one call: files of prompts, several videos per prompt, the names of the outputs,
// and the list of what is done, so that a batch that was stopped goes on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pipeline/video_request.h"

namespace kinema::pipeline {

struct BatchItem {
  std::string output;
  VideoRequest request;
  bool operator==(const BatchItem&) const = default;
};

/// The requests of a file of prompts: text with a prompt on each line, or *.jsonl with an object on
/// each line: "prompt" and any of the request's fields (negative, width, height, frames, seconds,
/// fps, seed, steps, sampler, guidance, long, window, scenes, image, video, end_video,
/// given_frames) instead of those of `base`. Empty lines are skipped.
/// Throws kIo [io.open], kBadData [prompts.empty, config.*, json.*] with the line.
[[nodiscard]] std::vector<VideoRequest> read_prompt_file(const std::string& path,
                                                         const VideoRequest& base);

/// `videos` of each request, with seeds seed, seed + 1, ..., and their outputs. In `output`,
/// {index} is the number of the video in the batch from 0000, {seed} its seed, and {prompt} the
/// first words of its prompt. Without any of them "-{index}" goes in front of the extension of more
/// than one video. Throws kInvalidArgument [request.output_names] when two videos get one name,
/// [request.output_template] for other words in braces.
[[nodiscard]] std::vector<BatchItem> expand_batch(const std::vector<VideoRequest>& requests,
                                                  const std::string& output,
                                                  std::int64_t videos);

/// The list of a batch on disk: "batch.json" in the folder of the journal of `output`, which is the
/// output as it was asked for, names in braces included.
class Batch {
 public:
  [[nodiscard]] static bool exists(const std::string& output);
  /// Throws kOutput when it cannot be written.
  static Batch create(const std::string& output, std::vector<BatchItem> items);
  /// Throws kIo [journal.none], kBadData [config.*, json.*].
  static Batch open(const std::string& output);

  [[nodiscard]] const std::vector<BatchItem>& items() const noexcept { return items_; }
  /// Items before this one are complete.
  [[nodiscard]] std::int64_t num_done() const noexcept { return num_done_; }
  /// One more is complete; atomic.
  void advance();
  /// All are complete.
  void remove() const;

 private:
  Batch(std::string folder, std::vector<BatchItem> items, std::int64_t num_done);
  void save() const;

  std::string folder_;
  std::vector<BatchItem> items_;
  std::int64_t num_done_ = 0;
};

}  // namespace kinema::pipeline
