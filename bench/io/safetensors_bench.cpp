// SPDX-License-Identifier: Apache-2.0
// How fast weights come out of a safetensors file, against `cat FILE > /dev/null` on the same file
// in the same run, both from the page cache. Prints one JSON object.
//
//   safetensors_bench [--file F] [--gigabytes 1.5] [--tensors 200] [--rounds 5] [--threads 1]
//
// A load opens the file (map, header, checks) and brings every byte of every tensor into the
// process once, in one of two ways: "copy" copies each tensor into a buffer of 1 MiB that is used
// again and again, as a loader does that converts or uploads; "sum" adds up all 8-byte words in the
// map itself, as a consumer does that needs no copy. Rounds alternate between cat and the two; the
// best of each is compared.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <functional>
#include <iostream>
#include <string>
#include <sys/wait.h>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/io/safetensors.h"

namespace {

using kinema::io::SafetensorsFile;

struct Options {
  std::string file;
  double gigabytes = 1.5;
  std::int64_t tensors = 200;
  int rounds = 5;
  int threads = 1;
};

Options parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i + 1 < argc; i += 2) {
    const std::string name = argv[i];
    const char* const value = argv[i + 1];
    if (name == "--file") {
      options.file = value;
    } else if (name == "--gigabytes") {
      options.gigabytes = std::atof(value);
    } else if (name == "--tensors") {
      options.tensors = std::atoll(value);
    } else if (name == "--rounds") {
      options.rounds = std::atoi(value);
    } else if (name == "--threads") {
      options.threads = std::atoi(value);
    }
  }
  return options;
}

double seconds_of(const std::function<void()>& action) {
  const auto start = std::chrono::steady_clock::now();
  action();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void write_file(const std::string& path, const Options& options) {
  const auto bytes_each = static_cast<std::int64_t>(options.gigabytes * 1e9) / options.tensors;
  std::vector<std::uint32_t> data(static_cast<std::size_t>(bytes_each / 4));
  std::uint32_t state = 1;
  for (auto& value : data) {  // not zeros, so that no file system stores holes
    state = state * 1664525 + 1013904223;
    value = state;
  }
  std::vector<kinema::io::TensorToWrite> tensors;
  for (std::int64_t i = 0; i < options.tensors; ++i) {
    tensors.push_back({"layers." + std::to_string(i) + ".weight",
                       kinema::io::DType::kF32,
                       {static_cast<std::int64_t>(data.size())},
                       std::as_bytes(std::span(data))});
  }
  kinema::io::write_safetensors(path, tensors);
}

void cat(const std::string& path) {
  const pid_t child = ::fork();
  if (child == 0) {
    const int null = ::open("/dev/null", O_WRONLY);
    ::dup2(null, STDOUT_FILENO);
    ::execlp("cat", "cat", path.c_str(), nullptr);
    ::_exit(127);
  }
  int status = 0;
  if (child < 0 || ::waitpid(child, &status, 0) != child || status != 0) {
    throw kinema::Error(kinema::ErrorKind::kIo,
                        {.code = "bench.cat",
                         .place = "bench.io",
                         .subject = path,
                         .expected = "cat to read it",
                         .got = "status " + std::to_string(status)});
  }
}

/// Calls `consume` for pieces of at most 1 MiB of all tensors, on several threads.
template <typename Consume>
void for_each_piece(const SafetensorsFile& file, int num_threads, const Consume& consume) {
  constexpr std::size_t kPiece = 1U << 20U;
  std::vector<std::span<const std::byte>> tensors;
  for (const auto& [name, tensor] : file.tensors()) {
    tensors.push_back(tensor.bytes);
  }
  // In the order of the file, which is what read-ahead expects.
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return a.data() < b.data();
  });
  std::atomic<std::size_t> next = 0;
  const auto work = [&] {
    std::vector<std::byte> buffer(kPiece);
    for (std::size_t i = next++; i < tensors.size(); i = next++) {
      for (std::size_t at = 0; at < tensors[i].size(); at += kPiece) {
        consume(tensors[i].subspan(at, std::min(kPiece, tensors[i].size() - at)), buffer);
      }
    }
  };
  std::vector<std::jthread> threads;
  for (int t = 1; t < num_threads; ++t) {
    threads.emplace_back(work);
  }
  work();
}

std::uint64_t sum_of(std::span<const std::byte> bytes) {
  std::uint64_t sum = 0;
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, 8);
    sum += word;
  }
  for (; at < bytes.size(); ++at) {
    sum += static_cast<std::uint64_t>(bytes[at]);
  }
  return sum;
}

kinema::OrderedJson measure(const std::string& path, const Options& options) {
  const double gigabytes = static_cast<double>(std::filesystem::file_size(path)) / 1e9;
  std::atomic<std::uint64_t> sink = 0;
  double best_cat = 1e9;
  double best_open = 1e9;
  double best_copy = 1e9;
  double best_sum = 1e9;
  cat(path);  // warms the page cache
  for (int round = 0; round < options.rounds; ++round) {
    best_cat = std::min(best_cat, seconds_of([&] { cat(path); }));
    best_open = std::min(best_open,
                         seconds_of([&] { sink += SafetensorsFile::open(path).tensors().size(); }));
    best_copy = std::min(
        best_copy, seconds_of([&] {
          const auto file = SafetensorsFile::open(path);
          for_each_piece(file, options.threads, [&](auto piece, std::vector<std::byte>& buffer) {
            std::memcpy(buffer.data(), piece.data(), piece.size());
            sink += static_cast<std::uint64_t>(buffer[piece.size() - 1]);
          });
        }));
    best_sum =
        std::min(best_sum, seconds_of([&] {
                   const auto file = SafetensorsFile::open(path);
                   for_each_piece(file, options.threads, [&](auto piece, std::vector<std::byte>&) {
                     sink += sum_of(piece);
                   });
                 }));
  }
  return {{"file_gigabytes", gigabytes},
          {"tensors", SafetensorsFile::open(path).tensors().size()},
          {"rounds", options.rounds},
          {"threads", options.threads},
          {"cat_gigabytes_per_second", gigabytes / best_cat},
          {"open_milliseconds", 1000 * best_open},
          {"copy_gigabytes_per_second", gigabytes / best_copy},
          {"copy_over_cat", best_cat / best_copy},
          {"sum_gigabytes_per_second", gigabytes / best_sum},
          {"sum_over_cat", best_cat / best_sum},
          {"checksum", sink.load()}};
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Options options = parse_options(argc, argv);
    const bool own_file = options.file.empty();
    if (own_file) {
      options.file = (std::filesystem::temp_directory_path() /
                      ("kinema_bench." + std::to_string(::getpid()) + ".safetensors"))
                         .string();
      write_file(options.file, options);
    }
    const auto result = measure(options.file, options);
    if (own_file) {
      std::filesystem::remove(options.file);
    }
    std::cout << result.dump(2) << '\n';
    return 0;
  } catch (const kinema::Error& error) {
    std::cerr << error.what() << '\n';
    return error.exit_code();
  }
}
