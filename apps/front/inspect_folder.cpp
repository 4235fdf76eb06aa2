// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "apps/front/inspect.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/checkpoint.h"

namespace kinema::front {
namespace {

namespace fs = std::filesystem;

constexpr const char* kTokenizerFiles[] = {
    "tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json", "merges.txt"};

bool is_there(const fs::path& path) {
  std::error_code failed;
  return fs::exists(path, failed);
}

bool has_weights(const fs::path& folder) {
  std::error_code failed;
  for (const auto& entry : fs::directory_iterator(folder, failed)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors") || name.ends_with(".safetensors.index.json")) {
      return true;
    }
  }
  return false;
}

Json read_config(const fs::path& path) {
  return read_json_file(path.string(), {.place = "inspect", .subject = path.string()});
}

// The class that a config names: diffusers, transformers, or only a model type.
std::string class_of(const Json& config) {
  if (!config.is_object()) {
    return "";
  }
  if (const auto it = config.find("_class_name"); it != config.end()) {
    return it->is_string() ? it->get<std::string>() : it->dump();
  }
  if (const auto it = config.find("architectures");
      it != config.end() && it->is_array() && !it->empty() && it->front().is_string()) {
    return it->front().get<std::string>();
  }
  for (const char* key :
       {"model_type", "tokenizer_class", "processor_class", "image_processor_type"}) {
    if (const auto it = config.find(key); it != config.end() && it->is_string()) {
      return it->get<std::string>();
    }
  }
  return "";
}

// One line of the sizes that matter, in the order of the file.
std::string sizes_of(const Json& config) {
  std::string text;
  int shown = 0;
  for (const auto& [key, value] : config.items()) {
    if (value.is_number_integer() && shown < 12 && !key.ends_with("token_id") &&
        !key.starts_with("_")) {
      text += (text.empty() ? "" : ", ") + key + " " + value.dump();
      ++shown;
    }
  }
  return text;
}

void add_component(const fs::path& folder, const std::string& name, Inspection& result) {
  OrderedJson facts = {{"name", name}};
  std::string line;
  for (const char* file : {"config.json",
                           "scheduler_config.json",
                           "tokenizer_config.json",
                           "preprocessor_config.json"}) {
    if (!is_there(folder / file)) {
      continue;
    }
    const Json config = read_config(folder / file);
    if (!facts.contains("class")) {
      facts["class"] = class_of(config);
      line = class_of(config);
    }
    if (std::string_view(file) == "config.json") {
      facts["config"] = config;
    }
  }
  if (has_weights(folder)) {
    const Inspection weights = inspect_weights(folder.string(), false);
    facts["weights"] = weights.facts;
    facts["weights"].erase("tensors");
    const std::size_t start = weights.text.find('\n') + 3;
    line += (line.empty() ? "" : ", ") +
            weights.text.substr(start, weights.text.find('\n', start) - start);
  }
  OrderedJson tokenizer_files = OrderedJson::array();
  for (const char* file : kTokenizerFiles) {
    if (is_there(folder / file)) {
      tokenizer_files.push_back(file);
    }
  }
  if (!tokenizer_files.empty()) {
    facts["tokenizer_files"] = tokenizer_files;
    line += line.empty() ? "tokenizer" : "";
    for (const auto& file : tokenizer_files) {
      line += ", " + file.get<std::string>();
    }
  }
  result.text +=
      fmt::format("  {:<18} {}\n", name, line.empty() ? "nothing that kinema knows" : line);
  if (facts.contains("config")) {
    const std::string sizes = sizes_of(facts["config"]);
    if (!sizes.empty()) {
      result.text += fmt::format("  {:<18} {}\n", "", sizes);
    }
  }
  result.facts["components"].push_back(facts);
}

}  // namespace

Inspection inspect_folder(const std::string& path, bool all_tensors) {
  const fs::path folder(path);
  Inspection result;
  result.facts = {{"kind", "model_folder"}, {"path", path}};
  if (is_there(folder / "model_index.json")) {
    const Json index = read_config(folder / "model_index.json");
    result.facts["class"] = class_of(index);
    result.facts["components"] = OrderedJson::array();
    result.text = fmt::format("{}: {}\n\n", path, class_of(index));
    for (const auto& [name, value] : index.items()) {
      if (value.is_array()) {
        const std::string component = confined_path(path, name, "inspect");
        if (is_there(component)) {
          add_component(component, name, result);
        } else if (!std::all_of(
                       value.begin(), value.end(), [](const Json& v) { return v.is_null(); })) {
          throw Error(ErrorKind::kBadCheckpoint,
                      {.code = "model.component_missing",
                       .place = "inspect",
                       .subject = path + ": " + name,
                       .expected = "a folder, as model_index.json says",
                       .got = "nothing of that name"});
        }
      }
    }
    return result;
  }
  const bool tokenizer = std::any_of(std::begin(kTokenizerFiles),
                                     std::end(kTokenizerFiles),
                                     [&](const char* file) { return is_there(folder / file); });
  if (!is_there(folder / "config.json") && !has_weights(folder) && !tokenizer) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "model.unknown_folder",
                 .place = "inspect",
                 .subject = path,
                 .expected = "model_index.json, config.json, *.safetensors or tokenizer files",
                 .got = "a folder with none of them"});
  }
  result.text = path + "\n\n";
  add_component(folder,
                folder.filename().empty() ? folder.parent_path().filename().string()
                                          : folder.filename().string(),
                result);
  if (all_tensors && has_weights(folder)) {
    const Inspection weights = inspect_weights(path, true);
    result.facts["weights"] = weights.facts;
    result.text += "\n" + weights.text;
  }
  return result;
}

}  // namespace kinema::front
