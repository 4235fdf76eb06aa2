// SPDX-License-Identifier: Apache-2.0
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <thread>

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include "apps/front/commands.h"
#include "apps/front/engine_path.h"
#include "core/base/file.h"
#include "core/base/machine_memory.h"
#include "core/base/version.h"

namespace kinema::front {
namespace {

namespace fs = std::filesystem;

struct Processor {
  std::string model = "unknown";
  std::string features;  ///< the ones that decide which kernels run
};

Processor read_processor() {
  Processor processor;
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  std::string flags;
  while (std::getline(file, line) && (processor.model == "unknown" || flags.empty())) {
    if (line.starts_with("model name")) {
      processor.model = line.substr(line.find(':') + 2);
    } else if (line.starts_with("flags")) {
      flags = " " + line.substr(line.find(':') + 2) + " ";
    }
  }
  for (const char* feature :
       {"avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8"}) {
    if (flags.find(" " + std::string(feature) + " ") != std::string::npos) {
      processor.features += (processor.features.empty() ? "" : " ") + std::string(feature);
    }
  }
  return processor;
}

int usable_cores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof(set), &set) == 0) {
    return CPU_COUNT(&set);
  }
  return static_cast<int>(std::thread::hardware_concurrency());
}

OrderedJson read_cards() {
  OrderedJson cards = OrderedJson::array();
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator("/proc/driver/nvidia/gpus", failed)) {
    std::ifstream file(entry.path() / "information");
    std::string line;
    while (std::getline(file, line)) {
      if (line.starts_with("Model:")) {
        const auto start = line.find_first_not_of(" \t", 6);
        cards.push_back(start == std::string::npos ? "" : line.substr(start));
      }
    }
  }
  return cards;
}

}  // namespace

void doctor(cli::Console& console) {
  const Processor processor = read_processor();
  const auto [total, available] = machine_memory();
  std::error_code failed;
  const fs::space_info disk = fs::space(".", failed);
  const std::string engine = engine_path();
  const bool engine_there = ::access(engine.c_str(), X_OK) == 0;
  const OrderedJson cards = read_cards();

  OrderedJson warnings = OrderedJson::array();
  if (processor.features.find("avx2") == std::string::npos) {
    warnings.push_back("no AVX2: everything works, several times slower");
  }
  if (!engine_there) {
    warnings.push_back("kinema-engine is missing: commands that need a model cannot run");
  }
  if (available < 4'000'000'000ULL) {
    warnings.push_back("less than 4 GB of memory are free");
  }
  if (!failed && disk.available < 2'000'000'000ULL) {
    warnings.push_back("less than 2 GB of disk are free in this folder");
  }

  const OrderedJson result = {
      {"version", version()},
      {"build", build_options()},
      {"engine", {{"path", engine}, {"present", engine_there}}},
      {"processor",
       {{"model", processor.model}, {"cores", usable_cores()}, {"features", processor.features}}},
      {"memory", {{"total_bytes", total}, {"available_bytes", available}}},
      {"disk", {{"available_bytes", failed ? 0 : disk.available}}},
      {"cards", cards},
      {"warnings", warnings}};

  std::string text;
  const auto row = [&](std::string_view name, std::string_view value) {
    text += fmt::format("{:<11}{}\n", name, value);
  };
  row("kinema", fmt::format("{} ({})", version(), build_options()));
  row("engine", engine_there ? engine : engine + " is missing");
  row("processor",
      fmt::format("{}, {} cores, {}",
                  processor.model,
                  usable_cores(),
                  processor.features.empty() ? "no vector extensions" : processor.features));
  row("memory", fmt::format("{} free of {}", format_bytes(available), format_bytes(total)));
  row("disk", fmt::format("{} free in this folder", format_bytes(failed ? 0 : disk.available)));
  if (cards.empty()) {
    row("cards", "none: models run on the processor");
  }
  for (const auto& card : cards) {
    row("card", card.get<std::string>());
  }
  for (const auto& warning : warnings) {
    row("warning", warning.get<std::string>());
  }
  text += "\nkinema doctor --full also loads the engine and measures it.\n";
  console.finish(result, text);
}

}  // namespace kinema::front
