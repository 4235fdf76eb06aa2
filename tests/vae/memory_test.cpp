// SPDX-License-Identifier: Apache-2.0
// Length costs no memory: peak resident memory of a streamed decode does not depend on the clip.
#include <functional>
#include <sys/resource.h>
#include <sys/wait.h>

#include <ATen/Parallel.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include "tests/vae/tiny_models.h"

namespace kinema::vae {
namespace {

/// Peak resident memory of a child process that runs `work`, in KiB.
long peak_of(const std::function<void()>& work) {
  const pid_t child = ::fork();
  if (child == 0) {
    // Threads of the parent do not exist here.
    at::set_num_threads(1);
    // A fixed threshold sends every large block straight back to the kernel when it is freed: the
    // peak then counts live tensors, not what the allocator of this machine likes to keep.
    ::mallopt(M_MMAP_THRESHOLD, 64 * 1024);
    ::mallopt(M_TRIM_THRESHOLD, 64 * 1024);
    work();
    ::_exit(0);
  }
  int status = 0;
  rusage usage{};
  EXPECT_EQ(::wait4(child, &status, 0, &usage), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  return usage.ru_maxrss;
}

TEST(Memory, StreamedDecodeIsFlatInLength) {
  at::set_num_threads(1);
  VidVaeConfig config = testing::tiny_config();
  config.base = 32;
  const auto vae = testing::tiny_vid_vae(config);
  const auto decode = [&](std::int64_t latents) {
    return peak_of([&] {
      const auto stream = vae->decode_stream();
      for (std::int64_t t = 0; t < latents; ++t) {
        static_cast<void>(stream->push(testing::random_latents(1, 16, 16)));
      }
    });
  };
  const long start = peak_of([] {});
  const long few = decode(3);
  const long many = decode(12);
  // The work must be visible above the process itself for the comparison to mean something.
  EXPECT_GT(few, start + 16 * 1024);
  EXPECT_LE(static_cast<double>(many), 1.03 * static_cast<double>(few));
}

}  // namespace
}  // namespace kinema::vae
