// SPDX-License-Identifier: Apache-2.0
// Reads a film as RGB with kinema and with the program `ffmpeg`, in turns, and prints one JSON
// object with the median times and their ratio (above 1: kinema is faster).
//
//   kinema_read_bench FILM [ROUNDS] [THREADS]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <sys/wait.h>
#include <vector>

#include <spawn.h>

#include "core/base/error.h"
#include "core/base/json.h"
#include "media/video_reader.h"

extern char** environ;

namespace {

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::int64_t read_with_kinema(const std::string& film, int threads) {
  auto reader = kinema::media::VideoReader::open(film, {.threads = threads});
  kinema::media::VideoFrame frame;
  while (reader.next(frame)) {
  }
  return reader.report().frames;
}

void read_with_ffmpeg(std::string film, int threads) {
  std::string count = std::to_string(threads);
  std::vector<std::string> words = {"ffmpeg",
                                    "-v",
                                    "error",
                                    "-y",
                                    "-threads",
                                    count,
                                    "-i",
                                    film,
                                    "-f",
                                    "rawvideo",
                                    "-pix_fmt",
                                    "rgb24",
                                    "/dev/null"};
  std::vector<char*> arguments;
  for (std::string& word : words) {
    arguments.push_back(word.data());
  }
  arguments.push_back(nullptr);
  pid_t child = 0;
  int status = 0;
  if (::posix_spawnp(&child, "ffmpeg", nullptr, nullptr, arguments.data(), environ) != 0 ||
      ::waitpid(child, &status, 0) != child || status != 0) {
    std::fprintf(stderr, "ffmpeg could not be run\n");
    std::exit(1);
  }
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 2) {
    std::fprintf(stderr, "usage: kinema_read_bench FILM [ROUNDS] [THREADS]\n");
    return 2;
  }
  const std::string film = arguments[1];
  const int rounds = count > 2 ? std::max(1, std::atoi(arguments[2])) : 11;
  const int threads = count > 3 ? std::max(1, std::atoi(arguments[3])) : 1;
  try {
    std::vector<double> ours;
    std::vector<double> theirs;
    std::int64_t frames = read_with_kinema(film, threads);  // warms the cache
    for (int round = 0; round < rounds; ++round) {
      ours.push_back(seconds_of([&] { frames = read_with_kinema(film, threads); }));
      theirs.push_back(seconds_of([&] { read_with_ffmpeg(film, threads); }));
    }
    const kinema::OrderedJson result = {
        {"film", film},
        {"frames", frames},
        {"rounds", rounds},
        {"threads", threads},
        {"kinema_seconds", median(ours)},
        {"ffmpeg_seconds", median(theirs)},
        {"kinema_frames_per_second", static_cast<double>(frames) / median(ours)},
        {"ratio", median(theirs) / median(ours)}};
    std::printf("%s\n", result.dump(2).c_str());
  } catch (const kinema::Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return error.exit_code();
  }
  return 0;
}
