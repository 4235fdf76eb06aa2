// SPDX-License-Identifier: Apache-2.0
// The video reader on any bytes: opens them as a file in memory, reads some frames, jumps about. It
// may refuse with kinema::Error and nothing else. FFmpeg itself is only instrumented when it was
// built so; what it does to our memory shows in any case.
#include <cstddef>
#include <cstdint>
#include <string>
#include <sys/mman.h>

#include <unistd.h>

#include "core/base/error.h"
#include "media/video_reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const int file = ::memfd_create("film", MFD_CLOEXEC);
  if (file < 0 || ::write(file, data, size) != static_cast<ssize_t>(size)) {
    ::close(file);
    return 0;
  }
  try {
    auto reader = kinema::media::VideoReader::open("/proc/self/fd/" + std::to_string(file),
                                                   {.max_pixels = 512 * 512, .stall_seconds = 5.0});
    kinema::media::VideoFrame frame;
    for (int i = 0; i < 20 && reader.next(frame); ++i) {
    }
    (void)reader.read_at_index(7);
    (void)reader.read_at_time(0.1);
  } catch (const kinema::Error&) {
  }
  ::close(file);
  return 0;
}
