// SPDX-License-Identifier: Apache-2.0
// One golden case: a folder with case.json, inputs and outputs of a reference implementation.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"
#include "core/tensor/tensor.h"

namespace kinema::golden {

struct Case {
  std::string folder;
  std::string name;  ///< folder relative to the root of the search
  std::string kind;
  Json json;  ///< case.json

  /// Path of a file of the case.
  [[nodiscard]] std::string file(std::string_view file_name) const;
  [[nodiscard]] bool has_file(std::string_view file_name) const;
  /// weights.safetensors, else the index of the shards.
  [[nodiscard]] std::string weights() const;
  /// Tensors of io.safetensors.
  [[nodiscard]] TensorMap io() const;
  /// Number in "tolerance", or nothing.
  [[nodiscard]] std::optional<double> tolerance(std::string_view key) const;
};

/// How far two tensors may be apart.
struct Allowed {
  enum class Unit {
    kExact,     ///< bit for bit
    kAbsolute,  ///< max |a - b|
    kStd,       ///< max |a - b| / std of what is expected
  };
  double limit = 0.0;
  Unit unit = Unit::kExact;

  /// From the case's "tolerance": max_abs and the first words of relative_to ("exact", "absolute",
  /// "std of output"). Throws for words that have no meaning here.
  static Allowed from(const Case& golden);
};

/// What came out of one case. Every "out.*" tensor of io.safetensors must be compared or excused.
class Report {
 public:
  /// Compares with io tensor `name`. With `rows_BM` only the rows where it is 1.
  void compare(const TensorMap& io,
               const std::string& name,
               const Tensor& ours,
               const Allowed& allowed,
               const Tensor& rows_BM = {});
  /// The tensor is covered by another comparison.
  void excuse(const std::string& name) { seen_.insert(name); }
  void fail(std::string text) { failures_.push_back(std::move(text)); }
  void note(std::string text) { notes_.push_back(std::move(text)); }
  /// Counts strings or id lists that were compared exactly.
  void count(std::size_t compared) { num_compared_ += compared; }
  /// Fails for each "out.*" that was not compared.
  void check_complete(const TensorMap& io);

  [[nodiscard]] bool passed() const { return failures_.empty() && num_compared_ > 0; }
  [[nodiscard]] double worst() const { return worst_; }
  [[nodiscard]] std::size_t num_compared() const { return num_compared_; }
  [[nodiscard]] const std::vector<std::string>& failures() const { return failures_; }
  [[nodiscard]] const std::vector<std::string>& notes() const { return notes_; }

 private:
  double worst_ = 0.0;
  std::size_t num_compared_ = 0;
  std::set<std::string> seen_;
  std::vector<std::string> failures_;
  std::vector<std::string> notes_;
};

/// Runs a case of one kind. Whatever it throws is a failure of the case.
struct Kind {
  std::string_view name;
  void (*run)(const Case&, Report&);
};

// One function per area; a new area adds its file and its line in all_kinds().
[[nodiscard]] std::vector<Kind> text_kinds();
[[nodiscard]] std::vector<Kind> tokenizer_kinds();
[[nodiscard]] std::vector<Kind> diffusion_kinds();
[[nodiscard]] std::vector<Kind> dit_kinds();
[[nodiscard]] std::vector<Kind> vae_kinds();
[[nodiscard]] std::vector<Kind> vae_foreign_kinds();
[[nodiscard]] std::vector<Kind> all_kinds();

}  // namespace kinema::golden
