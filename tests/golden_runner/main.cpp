// SPDX-License-Identifier: Apache-2.0
// kinema_golden_test: runs every golden case below KINEMA_GOLDEN_DIR (default: tests/golden of the
// project, and ../shared/golden when it is there). The "kind" in case.json alone decides what runs.
//
//   kinema_golden_test [--filter TEXT] [--list] [--verbose]
//
// One line per case: PASSED, FAILED or SKIPPED (a kind that is not built). Exit 1 when a case
// failed or none was found.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/golden_runner/golden_case.h"

namespace kinema::golden {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string filter;
  bool list = false;
  bool verbose = false;
};

struct Summary {
  int passed = 0;
  int failed = 0;
  int skipped = 0;
};

std::vector<fs::path> search_roots() {
  const char* from_environment = std::getenv("KINEMA_GOLDEN_DIR");
  if (from_environment != nullptr && *from_environment != '\0') {
    return {fs::path(from_environment)};
  }
  std::vector<fs::path> roots = {fs::path(KINEMA_SOURCE_DIR) / "tests/golden"};
  const fs::path shared = fs::path(KINEMA_SOURCE_DIR) / "../shared/golden";
  if (fs::is_directory(shared)) {
    roots.push_back(shared.lexically_normal());
  }
  return roots;
}

std::vector<fs::path> find_cases(const fs::path& root) {
  std::vector<fs::path> folders;
  if (!fs::is_directory(root)) {
    return folders;
  }
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().filename() == "case.json") {
      folders.push_back(entry.path().parent_path());
    }
  }
  std::sort(folders.begin(), folders.end());
  return folders;
}

void run_case(const Case& golden, const Kind& kind, const Options& options, Summary& summary) {
  Report report;
  try {
    kind.run(golden, report);
  } catch (const std::exception& error) {
    report.fail(error.what());
  }
  if (report.passed()) {
    summary.passed += 1;
    std::printf("PASSED kind=%s case=%s compared=%zu worst=%.3g\n",
                golden.kind.c_str(),
                golden.name.c_str(),
                report.num_compared(),
                report.worst());
  } else {
    summary.failed += 1;
    std::printf("FAILED kind=%s case=%s worst=%.3g\n",
                golden.kind.c_str(),
                golden.name.c_str(),
                report.worst());
    for (const std::string& failure : report.failures()) {
      std::printf("  %s\n", failure.c_str());
    }
    if (report.failures().empty()) {
      std::printf("  nothing was compared\n");
    }
  }
  if (options.verbose) {
    for (const std::string& note : report.notes()) {
      std::printf("  %s\n", note.c_str());
    }
  }
}

void visit(const fs::path& root, const fs::path& folder, const Options& options, Summary& summary) {
  Case golden;
  golden.folder = folder.string();
  golden.name = folder.lexically_relative(root).generic_string();
  try {
    golden.json =
        read_json_file(golden.file("case.json"), {.place = "golden", .subject = golden.name});
    golden.kind = golden.json.at("kind").get<std::string>();
  } catch (const std::exception& error) {
    summary.failed += 1;
    std::printf("FAILED kind=? case=%s\n  %s\n", golden.name.c_str(), error.what());
    return;
  }
  if ((golden.kind + " " + golden.name).find(options.filter) == std::string::npos) {
    return;
  }
  if (options.list) {
    summary.passed += 1;
    std::printf("%s %s\n", golden.kind.c_str(), golden.folder.c_str());
    return;
  }
  for (const Kind& kind : all_kinds()) {
    if (kind.name == golden.kind) {
      run_case(golden, kind, options, summary);
      return;
    }
  }
  summary.skipped += 1;
  std::printf("SKIPPED kind=%s case=%s\n", golden.kind.c_str(), golden.name.c_str());
}

int run(const Options& options) {
  Summary summary;
  for (const fs::path& root : search_roots()) {
    for (const fs::path& folder : find_cases(root)) {
      visit(root, folder, options, summary);
      std::fflush(stdout);
    }
  }
  const int found = summary.passed + summary.failed + summary.skipped;
  if (!options.list) {
    std::printf("golden cases: %d passed, %d failed, %d skipped\n",
                summary.passed,
                summary.failed,
                summary.skipped);
  }
  if (found == 0) {
    std::printf("no case found\n");
  }
  return summary.failed > 0 || found == 0 ? 1 : 0;
}

}  // namespace

std::vector<Kind> all_kinds() {
  std::vector<Kind> kinds = text_kinds();
#ifdef KINEMA_GOLDEN_TOKENIZER
  for (const Kind& kind : tokenizer_kinds()) {
    kinds.push_back(kind);
  }
#endif
#ifdef KINEMA_GOLDEN_DIFFUSION
  for (const Kind& kind : diffusion_kinds()) {
    kinds.push_back(kind);
  }
#endif
#ifdef KINEMA_GOLDEN_DIT
  for (const Kind& kind : dit_kinds()) {
    kinds.push_back(kind);
  }
#endif
#ifdef KINEMA_GOLDEN_VAE_FOREIGN
  for (const Kind& kind : vae_foreign_kinds()) {
    kinds.push_back(kind);
  }
#endif
#ifdef KINEMA_GOLDEN_VAE
  for (const Kind& kind : vae_kinds()) {
    kinds.push_back(kind);
  }
#endif
  return kinds;
}

}  // namespace kinema::golden

int main(int argc, char** argv) {
  kinema::golden::Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string argument = argv[i];
    if (argument == "--filter" && i + 1 < argc) {
      options.filter = argv[++i];
    } else if (argument == "--list") {
      options.list = true;
    } else if (argument == "--verbose") {
      options.verbose = true;
    } else {
      std::fprintf(stderr, "usage: kinema_golden_test [--filter TEXT] [--list] [--verbose]\n");
      return 2;
    }
  }
  return kinema::golden::run(options);
}
