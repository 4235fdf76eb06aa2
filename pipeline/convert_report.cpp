// SPDX-License-Identifier: Apache-2.0
// What a conversion says about itself.
#include <fmt/format.h>

#include "core/base/file.h"
#include "pipeline/convert_model.h"

namespace kinema::pipeline {

OrderedJson ConvertedComponent::to_json() const {
  OrderedJson names = OrderedJson::array();
  for (const auto& [from, to] : renamed) {
    names.push_back({from, to});
  }
  return {{"name", name},
          {"kind", kind},
          {"source", source},
          {"action", action},
          {"tensors_read", tensors_read},
          {"tensors_written", tensors_written},
          {"parameters", parameters},
          {"bytes", bytes},
          {"renamed", names},
          {"left_out", left_out}};
}

OrderedJson ConvertReport::to_json() const {
  OrderedJson list = OrderedJson::array();
  for (const auto& component : components) {
    list.push_back(component.to_json());
  }
  return {{"output", output}, {"components", list}, {"missing", missing}};
}

std::string ConvertReport::to_text() const {
  std::string text = output + "\n";
  for (const auto& c : components) {
    text += fmt::format("  {:<13} {} from {}, {}", c.name, c.kind, c.source, c.action);
    if (c.tensors_read > 0) {
      text += fmt::format(": {} tensors in, {} out, {} parameters",
                          c.tensors_read,
                          c.tensors_written,
                          c.parameters);
    }
    text += fmt::format(", {}\n", format_bytes(c.bytes));
    for (const auto& [from, to] : c.renamed) {
      text += fmt::format("    {} -> {}\n", from, to);
    }
    for (const auto& name : c.left_out) {
      text += fmt::format("    {} left out: computed, or of training\n", name);
    }
  }
  for (const auto& name : missing) {
    text += fmt::format("  {:<13} missing: kinema generate needs it\n", name);
  }
  return text;
}

}  // namespace kinema::pipeline
