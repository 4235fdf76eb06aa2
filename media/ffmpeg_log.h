// SPDX-License-Identifier: Apache-2.0
// FFmpeg's log lines, collected per reader or writer.
//
// FFmpeg has one log callback per process. The first reader or writer installs ours, once. It keeps
// no state of its own: it follows a line's object to its codec or format context, recognises those
// of kinema by a function pointer that only kinema sets, and adds the line to the LogCapture in
// their `opaque`. Every other line is dropped, since a library does not print. A program that wants
// FFmpeg's own lines sets its callback after the first open and then receives all of them.
#pragma once

#include <cstdint>
#include <mutex>
#include <string>

#include "media/ffmpeg_ptr.h"

namespace kinema::media {

class LogCapture {
 public:
  LogCapture();
  LogCapture(const LogCapture&) = delete;
  LogCapture& operator=(const LogCapture&) = delete;

  /// Marks the context as ours. Call before it is opened; the capture must outlive it.
  void attach(AVCodecContext& codec);
  void attach(AVFormatContext& format);

  [[nodiscard]] std::int64_t error_lines() const;
  [[nodiscard]] std::string first_error() const;
  [[nodiscard]] std::string last_error() const;
  /// FFmpeg's words when it refused a picture size ("Picture size 65000x65000 is invalid"), or
  /// empty.
  [[nodiscard]] std::string refused_size() const;

  /// Called from any thread of FFmpeg.
  void add(const std::string& line, bool picture_size);

 private:
  mutable std::mutex mutex_;
  std::int64_t error_lines_ = 0;
  std::string first_error_;
  std::string last_error_;
  std::string refused_size_;
};

/// When a blocking FFmpeg call has to give up; the interrupt callback of our format contexts.
struct Interrupt {
  virtual ~Interrupt() = default;
  [[nodiscard]] virtual bool expired() = 0;
};

/// Sets `interrupt` (may be null) on the context; part of the mark of LogCapture::attach.
void set_interrupt(AVFormatContext& format, Interrupt* interrupt);

}  // namespace kinema::media
