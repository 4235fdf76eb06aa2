// SPDX-License-Identifier: Apache-2.0
#include "core/tensor/load_weights.h"

#include <map>
#include <string_view>
#include <utility>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <torch/nn/module.h>

#include "core/base/error.h"
#include "core/tensor/from_view.h"
#include "core/tensor/shape_check.h"
#include "core/tensor/tensor.h"

namespace kinema::tensor {
namespace {

using ViewItem = std::pair<const std::string, io::TensorView>;

/// Everything that does not fit, by class.
struct Problems {
  std::vector<std::string> missing, unexpected, wrong_shape, wrong_dtype, twice;

  [[nodiscard]] bool any() const {
    return !(missing.empty() && unexpected.empty() && wrong_shape.empty() && wrong_dtype.empty() &&
             twice.empty());
  }
};

struct Match {
  Tensor target;
  const io::TensorView* source = nullptr;
};

std::string describe(const io::TensorView& view) {
  return std::string(io::to_string(view.dtype)) + " " + shape_text(view.shape);
}

std::string dtype_text(c10::ScalarType dtype) {
  const auto name = to_io_dtype(dtype);
  return name.has_value() ? std::string(io::to_string(*name)) : c10::toString(dtype);
}

/// Float parameters take any float of 16 bits or more; all other types must be equal.
bool dtype_fits(c10::ScalarType target, io::DType source) {
  const bool source_is_float = source == io::DType::kF16 || source == io::DType::kBF16 ||
                               source == io::DType::kF32 || source == io::DType::kF64;
  const bool target_is_float =
      c10::isFloatingType(target) && !c10::isFloat8Type(target) && target != c10::kFloat4_e2m1fn_x2;
  return target_is_float ? source_is_float : to_scalar_type(source) == target;
}

void append_class(std::string& table,
                  std::string_view title,
                  const std::vector<std::string>& lines,
                  std::size_t max_lines) {
  if (lines.empty()) {
    return;
  }
  table += "\n" + std::string(title) + " (" + std::to_string(lines.size()) + "):";
  for (std::size_t i = 0; i < lines.size() && i < max_lines; ++i) {
    table += "\n  " + lines[i];
  }
  if (lines.size() > max_lines) {
    table += "\n  ... and " + std::to_string(lines.size() - max_lines) + " more";
  }
}

[[noreturn]] void throw_mismatch(const Problems& problems,
                                 std::size_t num_targets,
                                 const LoadOptions& options) {
  std::string got;
  const auto count = [&got](const std::vector<std::string>& lines, std::string_view what) {
    if (!lines.empty()) {
      got += (got.empty() ? "" : ", ") + std::to_string(lines.size()) + " " + std::string(what);
    }
  };
  count(problems.missing, "missing");
  count(problems.unexpected, "unexpected");
  count(problems.wrong_shape, "of a wrong shape");
  count(problems.wrong_dtype, "of a wrong dtype");
  count(problems.twice, "given twice");
  append_class(got, "missing", problems.missing, options.max_lines);
  append_class(got, "unexpected", problems.unexpected, options.max_lines);
  append_class(got, "wrong shape", problems.wrong_shape, options.max_lines);
  append_class(got, "wrong dtype", problems.wrong_dtype, options.max_lines);
  append_class(got, "given twice", problems.twice, options.max_lines);
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "weights.mismatch",
               .place = options.place,
               .subject = options.subject.empty() ? std::string("weights") : options.subject,
               .expected = "the " + std::to_string(num_targets) + " tensors of the model",
               .got = std::move(got)});
}

/// File tensors under the names of the model. Aliases give way to tensors that have the name
/// itself.
std::map<std::string, const ViewItem*, std::less<>> map_names(const io::TensorViews& tensors,
                                                              const KeyMap& keymap,
                                                              Problems& problems,
                                                              LoadReport& report) {
  std::map<std::string, const ViewItem*, std::less<>> by_name;
  std::vector<std::pair<std::string, const ViewItem*>> aliases;
  for (const ViewItem& item : tensors) {
    KeyMap::Mapped mapped = keymap.map(item.first);
    if (mapped.action == KeyMap::Action::kIgnore) {
      report.ignored.push_back(item.first);
    } else if (mapped.action == KeyMap::Action::kAlias) {
      aliases.emplace_back(std::move(mapped.name), &item);
    } else {
      const auto [found, inserted] = by_name.emplace(mapped.name, &item);
      if (!inserted) {
        problems.twice.push_back(mapped.name + "  from " + found->second->first + " and " +
                                 item.first);
      }
    }
  }
  for (auto& [name, item] : aliases) {
    if (!by_name.emplace(std::move(name), item).second) {
      report.ignored.push_back(item->first);
    }
  }
  return by_name;
}

std::vector<Match> match_targets(torch::nn::Module& module,
                                 std::map<std::string, const ViewItem*, std::less<>>& by_name,
                                 Problems& problems) {
  std::vector<Match> matches;
  const auto match_one = [&](const std::string& name, const Tensor& target) {
    const auto found = by_name.find(name);
    if (found == by_name.end()) {
      problems.missing.push_back(name + "  expected " + shape_text(target));
      return;
    }
    const io::TensorView& view = found->second->second;
    const std::string label =
        found->second->first == name ? name : name + " (in the file: " + found->second->first + ")";
    if (target.sizes() != c10::IntArrayRef(view.shape)) {
      problems.wrong_shape.push_back(label + "  expected " + shape_text(target) + ", got " +
                                     shape_text(view.shape));
    }
    if (!dtype_fits(target.scalar_type(), view.dtype)) {
      const bool is_float = c10::isFloatingType(target.scalar_type());
      problems.wrong_dtype.push_back(
          label + "  expected " +
          (is_float ? "a float of 16 bits or more" : dtype_text(target.scalar_type())) + ", got " +
          std::string(io::to_string(view.dtype)));
    }
    matches.push_back({target, &view});
    by_name.erase(found);
  };
  for (const auto& item : module.named_parameters()) {
    match_one(item.key(), item.value());
  }
  for (const auto& item : module.named_buffers()) {
    match_one(item.key(), item.value());
  }
  for (const auto& [name, item] : by_name) {
    problems.unexpected.push_back(
        (name == item->first ? name : item->first + " (as " + name + ")") + "  " +
        describe(item->second));
  }
  return matches;
}

c10::ScalarType kept_dtype(c10::ScalarType in_file, const LoadOptions& options) {
  if (!options.dtype.has_value() || !c10::isFloatingType(in_file)) {
    return in_file;
  }
  const bool is_narrow = in_file == c10::kBFloat16 || in_file == c10::kHalf;
  if (options.keep_narrow && is_narrow && *options.dtype == c10::kFloat) {
    return in_file;
  }
  return *options.dtype;
}

void fill(const Match& match, const LoadOptions& options, LoadReport& report) {
  const Tensor from_file = tensor_from_view(*match.source);
  const c10::ScalarType dtype = kept_dtype(from_file.scalar_type(), options);
  const bool is_view =
      from_file.numel() > 0 && from_file.const_data_ptr() == match.source->bytes.data();
  Tensor value = from_file.to(options.device, dtype);
  const bool is_mapped = is_view && value.is_same(from_file);
  if (is_mapped && !options.zero_copy) {
    value = from_file.clone();
  }
  Tensor target = match.target;
  target.set_data(value);
  report.num_tensors += 1;
  report.num_elements += value.numel();
  report.num_bytes += static_cast<std::int64_t>(value.nbytes());
  report.num_mapped_bytes +=
      is_mapped && options.zero_copy ? static_cast<std::int64_t>(value.nbytes()) : 0;
  report.num_cast += dtype == from_file.scalar_type() ? 0 : 1;
}

}  // namespace

LoadReport load_weights(torch::nn::Module& module,
                        const io::TensorViews& tensors,
                        const KeyMap& keymap,
                        const LoadOptions& options) {
  at::NoGradGuard no_grad;
  LoadReport report;
  Problems problems;
  auto by_name = map_names(tensors, keymap, problems, report);
  const std::size_t num_targets = module.named_parameters().size() + module.named_buffers().size();
  const std::vector<Match> matches = match_targets(module, by_name, problems);
  if (problems.any()) {
    throw_mismatch(problems, num_targets, options);
  }
  for (const Match& match : matches) {
    fill(match, options, report);
  }
  return report;
}

LoadReport load_weights(torch::nn::Module& module,
                        const io::Checkpoint& checkpoint,
                        const KeyMap& keymap,
                        LoadOptions options) {
  if (options.subject.empty()) {
    options.subject = checkpoint.path;
  }
  return load_weights(module, checkpoint.tensors, keymap, options);
}

}  // namespace kinema::tensor
