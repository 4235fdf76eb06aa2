// SPDX-License-Identifier: Apache-2.0
#include "core/nn/parallel.h"

#include <algorithm>
#include <atomic>
#include <memory>

#include <ATen/Parallel.h>

namespace kinema::nn {
namespace {

/// Shared with helpers, which may start after all work is done and the caller has left.
struct Work {
  const std::function<void(std::int64_t)>* chunk = nullptr;
  std::int64_t count = 0;
  std::atomic<std::int64_t> next{0};
  std::atomic<std::int64_t> done{0};

  void run() {
    for (std::int64_t i = next.fetch_add(1); i < count; i = next.fetch_add(1)) {
      (*chunk)(i);
      if (done.fetch_add(1, std::memory_order_acq_rel) + 1 == count) {
        done.notify_all();
      }
    }
  }
};

}  // namespace

void parallel_chunks(std::int64_t count, const std::function<void(std::int64_t)>& chunk) {
  const std::int64_t helpers = std::min<std::int64_t>(at::get_num_threads(), count) - 1;
  if (helpers <= 0) {
    for (std::int64_t i = 0; i < count; ++i) {
      chunk(i);
    }
    return;
  }
  const auto work = std::make_shared<Work>();
  work->chunk = &chunk;
  work->count = count;
  for (std::int64_t i = 0; i < helpers; ++i) {
    at::launch([work] { work->run(); });
  }
  // The caller takes chunks too, so the work ends even when the pool is busy or waits for us.
  work->run();
  for (std::int64_t done = work->done.load(std::memory_order_acquire); done < count;
       done = work->done.load(std::memory_order_acquire)) {
    work->done.wait(done);
  }
}

}  // namespace kinema::nn
