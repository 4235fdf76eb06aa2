// SPDX-License-Identifier: Apache-2.0
#include "media/ffmpeg_log.h"

#include <cstdarg>
#include <cstring>
#include <string_view>

namespace kinema::media {
namespace {

// The two marks: nobody else can set these pointers.
AVPixelFormat owned_get_format(AVCodecContext* codec, const AVPixelFormat* formats) {
  return avcodec_default_get_format(codec, formats);
}

int owned_interrupt(void* opaque) {
  auto* interrupt = static_cast<Interrupt*>(opaque);
  return interrupt != nullptr && interrupt->expired() ? 1 : 0;
}

LogCapture* capture_of(void* object, bool& picture_size) {
  for (int depth = 0; object != nullptr && depth < 8; ++depth) {
    const AVClass* type = *static_cast<const AVClass**>(object);
    if (type == nullptr) {
      return nullptr;
    }
    if (type == avcodec_get_class()) {
      auto* codec = static_cast<AVCodecContext*>(object);
      return codec->get_format == owned_get_format ? static_cast<LogCapture*>(codec->opaque)
                                                   : nullptr;
    }
    if (type == avformat_get_class()) {
      auto* format = static_cast<AVFormatContext*>(object);
      return format->interrupt_callback.callback == owned_interrupt
                 ? static_cast<LogCapture*>(format->opaque)
                 : nullptr;
    }
    picture_size = picture_size || std::strcmp(type->class_name, "IMGUTILS") == 0;
    if (type->parent_log_context_offset == 0) {
      return nullptr;
    }
    void* parent = nullptr;
    std::memcpy(
        &parent, static_cast<char*>(object) + type->parent_log_context_offset, sizeof(parent));
    object = parent;
  }
  return nullptr;
}

void route_line(void* object, int level, const char* format, va_list arguments) {
  if (object == nullptr || level > AV_LOG_ERROR) {
    return;
  }
  bool picture_size = false;
  LogCapture* capture = capture_of(object, picture_size);
  if (capture == nullptr) {
    return;
  }
  char line[512];
  int prefix = 0;
  va_list copy;
  va_copy(copy, arguments);
  av_log_format_line2(nullptr, level, format, copy, line, sizeof(line), &prefix);
  va_end(copy);
  std::string text(line);
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) {
    text.pop_back();
  }
  capture->add(text, picture_size);
}

}  // namespace

LogCapture::LogCapture() {
  [[maybe_unused]] static const bool installed = [] {
    av_log_set_callback(route_line);
    return true;
  }();
}

void LogCapture::attach(AVCodecContext& codec) {
  codec.get_format = owned_get_format;
  codec.opaque = this;
}

void LogCapture::attach(AVFormatContext& format) {
  format.opaque = this;
  if (format.interrupt_callback.callback != owned_interrupt) {
    set_interrupt(format, nullptr);
  }
}

void LogCapture::add(const std::string& line, bool picture_size) {
  const std::scoped_lock lock(mutex_);
  ++error_lines_;
  if (first_error_.empty()) {
    first_error_ = line;
  }
  last_error_ = line;
  if (picture_size && refused_size_.empty()) {
    refused_size_ = line;
  }
}

std::int64_t LogCapture::error_lines() const {
  const std::scoped_lock lock(mutex_);
  return error_lines_;
}

std::string LogCapture::first_error() const {
  const std::scoped_lock lock(mutex_);
  return first_error_;
}

std::string LogCapture::last_error() const {
  const std::scoped_lock lock(mutex_);
  return last_error_;
}

std::string LogCapture::refused_size() const {
  const std::scoped_lock lock(mutex_);
  return refused_size_;
}

void set_interrupt(AVFormatContext& format, Interrupt* interrupt) {
  format.interrupt_callback = {owned_interrupt, interrupt};
}

}  // namespace kinema::media
