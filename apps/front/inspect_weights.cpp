// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <map>
#include <string>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "apps/front/inspect.h"
#include "core/base/file.h"
#include "core/io/checkpoint.h"

namespace kinema::front {
namespace {

constexpr std::size_t kShortList = 40;  // longer lists are summed up unless --tensors is given

std::uint64_t num_elements(const io::Shape& shape) {
  std::uint64_t count = 1;
  for (const auto size : shape) {
    count *= static_cast<std::uint64_t>(size);
  }
  return count;
}

std::string shape_text(const io::Shape& shape) {
  return fmt::format("[{}]", fmt::join(shape, ", "));
}

std::string count_text(std::uint64_t count) {
  if (count < 10'000) {
    return std::to_string(count);
  }
  const double value = static_cast<double>(count);
  return count < 1'000'000          ? fmt::format("{:.1f} k", value / 1e3)
         : count < 1'000'000'000ULL ? fmt::format("{:.1f} M", value / 1e6)
                                    : fmt::format("{:.2f} B", value / 1e9);
}

struct Sum {
  std::size_t tensors = 0;
  std::uint64_t parameters = 0;
  std::uint64_t bytes = 0;
};

// The first parts of a name, with layer numbers joined: "encoder.block.*".
std::string prefix_of(const std::string& name) {
  std::string prefix;
  std::size_t start = 0;
  for (int part = 0; part < 3; ++part) {
    const std::size_t dot = name.find('.', start);
    if (dot == std::string::npos) {
      break;
    }
    const std::string word = name.substr(start, dot - start);
    const bool number = !word.empty() && std::all_of(word.begin(), word.end(), [](unsigned char c) {
      return std::isdigit(c) != 0;
    });
    prefix += (prefix.empty() ? "" : ".") + (number ? "*" : word);
    start = dot + 1;
    if (number) {
      break;
    }
  }
  return prefix.empty() ? name : prefix;
}

}  // namespace

Inspection inspect_weights(const std::string& path, bool all_tensors) {
  const auto checkpoint = io::Checkpoint::open(path);
  Sum total;
  std::map<std::string, Sum> by_dtype;
  std::map<std::string, Sum> by_prefix;
  std::size_t name_width = 0;
  OrderedJson list = OrderedJson::array();
  for (const auto& [name, tensor] : checkpoint.tensors) {
    const std::uint64_t parameters = num_elements(tensor.shape);
    for (Sum* sum : {&total,
                     &by_dtype[std::string(io::to_string(tensor.dtype))],
                     &by_prefix[prefix_of(name)]}) {
      ++sum->tensors;
      sum->parameters += parameters;
      sum->bytes += tensor.bytes.size();
    }
    name_width = std::max(name_width, name.size());
    list.push_back(
        {{"name", name}, {"dtype", io::to_string(tensor.dtype)}, {"shape", tensor.shape}});
  }

  Inspection result;
  OrderedJson dtypes = OrderedJson::object();
  std::string dtype_text;
  for (const auto& [dtype, sum] : by_dtype) {
    dtypes[dtype] = {
        {"tensors", sum.tensors}, {"parameters", sum.parameters}, {"bytes", sum.bytes}};
    dtype_text += (dtype_text.empty() ? "" : ", ") +
                  fmt::format("{} in {}", count_text(sum.parameters), dtype);
  }
  result.facts = {{"kind", "weights"},
                  {"path", path},
                  {"files", checkpoint.files.size()},
                  {"bytes", total.bytes},
                  {"num_tensors", total.tensors},
                  {"parameters", total.parameters},
                  {"dtypes", dtypes},
                  {"metadata", checkpoint.metadata}};
  const bool listed = all_tensors || checkpoint.tensors.size() <= kShortList;
  if (listed) {
    result.facts["tensors"] = list;
  }

  std::string& text = result.text;
  text += fmt::format(
      "{}\n  {} tensors, {} parameters ({}), {}{}\n",
      path,
      total.tensors,
      count_text(total.parameters),
      dtype_text,
      format_bytes(total.bytes),
      checkpoint.files.size() > 1 ? fmt::format(" in {} files", checkpoint.files.size()) : "");
  for (const auto& [key, value] : checkpoint.metadata) {
    text +=
        fmt::format("  {}: {}\n", key, value.size() > 200 ? value.substr(0, 197) + "..." : value);
  }
  text += "\n";
  if (listed) {
    for (const auto& [name, tensor] : checkpoint.tensors) {
      text += fmt::format("  {:<{}}  {:<7}  {}\n",
                          name,
                          std::min<std::size_t>(name_width, 72),
                          io::to_string(tensor.dtype),
                          shape_text(tensor.shape));
    }
    return result;
  }
  std::size_t width = 0;
  for (const auto& [prefix, sum] : by_prefix) {
    width = std::max(width, prefix.size());
  }
  for (const auto& [prefix, sum] : by_prefix) {
    text += fmt::format("  {:<{}}  {:>6} tensors  {:>9} parameters\n",
                        prefix,
                        width,
                        sum.tensors,
                        count_text(sum.parameters));
  }
  text += "\n  --tensors lists every tensor\n";
  return result;
}

}  // namespace kinema::front
