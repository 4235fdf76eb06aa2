// SPDX-License-Identifier: Apache-2.0
// Strict JSON for untrusted text, and a reader that turns an object into a config struct.
//
//   const Json json = parse_json(text, {.place = "text.config", .subject = "config.json"});
//   JsonReader reader(json, {.place = "text.config", .subject = "config.json"});
//   reader.required("d_model", config.d_model);
//   reader.optional("layer_norm_epsilon", config.layer_norm_epsilon);
//   reader.finish();   // unknown keys are an error that names all of them
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json.hpp>

#include "core/base/error.h"

namespace kinema {

using Json = nlohmann::json;
using OrderedJson = nlohmann::ordered_json;  ///< keeps the order of insertion, for output

/// Who asks, for the messages, and what is refused.
struct JsonContext {
  std::string place;                             ///< "io.safetensors"
  std::string subject;                           ///< usually the file name
  ErrorKind kind = ErrorKind::kBadCheckpoint;    ///< kind of the errors thrown
  std::size_t max_bytes = 256ULL * 1024 * 1024;  ///< longer texts are refused
  int max_depth = 64;                            ///< deeper nesting is refused
};

/// Parses one JSON text. Refuses (code in brackets): too long [json.too_large], not UTF-8 or not
/// JSON [json.syntax], nested too deeply [json.depth], an object with the same key twice
/// [json.duplicate_key], anything after the value [json.syntax].
[[nodiscard]] Json parse_json(std::string_view text, const JsonContext& context);

/// Reads a whole file and parses it. Missing or unreadable: kIo [io.open].
[[nodiscard]] Json read_json_file(const std::string& path, JsonContext context);

/// Reads an object field by field into a config struct, with the JSON path in every message.
/// Integers must be JSON integers in range; a float field also takes an integer; null equals
/// absent.
class JsonReader {
 public:
  JsonReader(const Json& object, JsonContext context, std::string path = "");

  /// Throws kind/[config.missing] if absent, [config.type] for a wrong type, [config.range].
  template <typename T>
  void required(std::string_view key, T& value) {
    const Json* found = find(key);
    if (found == nullptr) {
      missing(key);
    }
    read(*found, key, value);
  }

  /// Leaves `value` alone when the key is absent or null. @return whether it was there.
  template <typename T>
  bool optional(std::string_view key, T& value) {
    const Json* found = find(key);
    if (found == nullptr) {
      return false;
    }
    read(*found, key, value);
    return true;
  }

  template <typename T>
  bool optional(std::string_view key, std::optional<T>& value) {
    const Json* found = find(key);
    if (found == nullptr) {
      return false;
    }
    read(*found, key, value.emplace());
    return true;
  }

  /// The raw value, or null when absent; counts as read.
  [[nodiscard]] const Json* find(std::string_view key);

  /// Keys that public files carry and that do not change what we compute.
  void ignore(std::initializer_list<std::string_view> keys);

  /// Keys that nobody asked for, in order.
  [[nodiscard]] std::vector<std::string> unknown_keys() const;

  /// Throws [config.unknown_key] that names every unknown key.
  void finish() const;

  /// Error about `key` in this object, with its path.
  [[nodiscard]] Error error(std::string_view code,
                            std::string_view key,
                            std::string expected,
                            std::string got) const;

 private:
  [[noreturn]] void missing(std::string_view key) const;
  void read(const Json& json, std::string_view key, bool& value) const;
  void read(const Json& json, std::string_view key, std::int64_t& value) const;
  void read(const Json& json, std::string_view key, double& value) const;
  void read(const Json& json, std::string_view key, float& value) const;
  void read(const Json& json, std::string_view key, std::string& value) const;
  void read(const Json& json, std::string_view key, std::vector<std::int64_t>& value) const;
  void read(const Json& json, std::string_view key, std::vector<double>& value) const;
  void read(const Json& json, std::string_view key, std::vector<std::string>& value) const;
  template <std::size_t N>
  void read(const Json& json, std::string_view key, std::array<std::int64_t, N>& value) const {
    std::vector<std::int64_t> values;
    read(json, key, values);
    if (values.size() != N) {
      throw error("config.type",
                  key,
                  "a list of " + std::to_string(N) + " integers",
                  std::to_string(values.size()) + " integers");
    }
    std::copy(values.begin(), values.end(), value.begin());
  }

  const Json& object_;
  JsonContext context_;
  std::string path_;
  std::set<std::string, std::less<>> seen_;
};

}  // namespace kinema
