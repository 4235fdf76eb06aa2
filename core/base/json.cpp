// SPDX-License-Identifier: Apache-2.0
#include "core/base/json.h"

#include <limits>
#include <utility>

#include "core/base/file.h"

namespace kinema {
namespace {

// Builds the document while refusing what nlohmann's own parser lets pass: repeated keys and depth.
class StrictHandler final : public nlohmann::json_sax<Json> {
 public:
  StrictHandler(Json& root, const JsonContext& context) : dom_(root, false), context_(context) {}

  bool null() override { return dom_.null(); }
  bool boolean(bool value) override { return dom_.boolean(value); }
  bool number_integer(number_integer_t value) override { return dom_.number_integer(value); }
  bool number_unsigned(number_unsigned_t value) override { return dom_.number_unsigned(value); }
  bool number_float(number_float_t value, const string_t& text) override {
    return dom_.number_float(value, text);
  }
  bool string(string_t& value) override { return dom_.string(value); }
  bool binary(binary_t& value) override { return dom_.binary(value); }

  bool start_object(std::size_t elements) override {
    enter();
    keys_.emplace_back();
    return dom_.start_object(elements);
  }
  bool key(string_t& value) override {
    if (!keys_.back().insert(value).second) {
      fail("json.duplicate_key",
           "the key '" + value.substr(0, 100) + "' occurs twice in one object");
    }
    return dom_.key(value);
  }
  bool end_object() override {
    keys_.pop_back();
    --depth_;
    return dom_.end_object();
  }
  bool start_array(std::size_t elements) override {
    enter();
    return dom_.start_array(elements);
  }
  bool end_array() override {
    --depth_;
    return dom_.end_array();
  }
  bool parse_error(std::size_t position,
                   const std::string&,
                   const nlohmann::detail::exception& exception) override {
    // The library's text is "[json.exception...] parse error at line 1, column 2: reason"
    std::string text = exception.what();
    const auto reason = text.find("parse error");
    fail("json.syntax",
         (reason == std::string::npos ? text : text.substr(reason, 300)) + " (byte " +
             std::to_string(position) + ")");
  }

  [[noreturn]] void fail(std::string code, std::string got) const {
    throw Error(context_.kind,
                {.code = std::move(code),
                 .place = context_.place,
                 .subject = context_.subject,
                 .expected = "well-formed JSON",
                 .got = std::move(got),
                 .hint = "the file is damaged or not what its name says"});
  }

 private:
  void enter() {
    if (++depth_ > context_.max_depth) {
      fail("json.depth", "nesting deeper than " + std::to_string(context_.max_depth));
    }
  }

  nlohmann::detail::json_sax_dom_parser<Json> dom_;
  const JsonContext& context_;
  std::vector<std::set<std::string, std::less<>>> keys_;
  int depth_ = 0;
};

std::string type_and_value(const Json& json) {
  std::string text = json.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) {
    text = text.substr(0, 57) + "...";
  }
  return std::string(json.type_name()) + " " + text;
}

}  // namespace

Json parse_json(std::string_view text, const JsonContext& context) {
  Json root;
  StrictHandler handler(root, context);
  if (text.size() > context.max_bytes) {
    throw Error(context.kind,
                {.code = "json.too_large",
                 .place = context.place,
                 .subject = context.subject,
                 .expected = "at most " + std::to_string(context.max_bytes) + " bytes of JSON",
                 .got = std::to_string(text.size()) + " bytes"});
  }
  // The library takes a NUL for the end of the text and would not see what follows it.
  if (const auto nul = text.find('\0'); nul != std::string_view::npos) {
    handler.fail("json.syntax", "a NUL (byte " + std::to_string(nul + 1) + ")");
  }
  try {
    Json::sax_parse(text.begin(), text.end(), &handler);
  } catch (const nlohmann::detail::exception& exception) {
    handler.fail("json.syntax", std::string(exception.what()).substr(0, 300));
  }
  return root;
}

Json read_json_file(const std::string& path, JsonContext context) {
  if (context.subject.empty()) {
    context.subject = path;
  }
  return parse_json(read_file(path, context.max_bytes, context.place), context);
}

JsonReader::JsonReader(const Json& object, JsonContext context, std::string path)
    : object_(object), context_(std::move(context)), path_(std::move(path)) {
  if (!object_.is_object()) {
    throw Error(context_.kind,
                {.code = "config.type",
                 .place = context_.place,
                 .subject = context_.subject + (path_.empty() ? "" : ": " + path_),
                 .expected = "a JSON object",
                 .got = type_and_value(object_)});
  }
}

const Json* JsonReader::find(std::string_view key) {
  seen_.emplace(key);
  const auto it = object_.find(std::string(key));
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

void JsonReader::ignore(std::initializer_list<std::string_view> keys) {
  for (const auto key : keys) {
    seen_.emplace(key);
  }
}

std::vector<std::string> JsonReader::unknown_keys() const {
  std::vector<std::string> unknown;
  for (const auto& [key, value] : object_.items()) {
    if (!seen_.contains(key)) {
      unknown.push_back(key);
    }
  }
  return unknown;
}

void JsonReader::finish() const {
  const auto unknown = unknown_keys();
  if (unknown.empty()) {
    return;
  }
  std::string names;
  for (const auto& key : unknown) {
    names += (names.empty() ? "" : ", ") + path_ + (path_.empty() ? "" : ".") + key;
  }
  throw Error(context_.kind,
              {.code = "config.unknown_key",
               .place = context_.place,
               .subject = context_.subject,
               .expected = "only known keys",
               .got = names,
               .hint = "a key that nothing reads would be silently without effect"});
}

Error JsonReader::error(std::string_view code,
                        std::string_view key,
                        std::string expected,
                        std::string got) const {
  return Error(
      context_.kind,
      {.code = std::string(code),
       .place = context_.place,
       .subject = context_.subject + ": " + path_ + (path_.empty() ? "" : ".") + std::string(key),
       .expected = std::move(expected),
       .got = std::move(got)});
}

void JsonReader::missing(std::string_view key) const {
  throw error("config.missing", key, "a value", "nothing");
}

void JsonReader::read(const Json& json, std::string_view key, bool& value) const {
  if (!json.is_boolean()) {
    throw error("config.type", key, "true or false", type_and_value(json));
  }
  value = json.get<bool>();
}

void JsonReader::read(const Json& json, std::string_view key, std::int64_t& value) const {
  if (!json.is_number_integer()) {
    throw error("config.type", key, "an integer", type_and_value(json));
  }
  if (json.is_number_unsigned() &&
      json.get<std::uint64_t>() >
          static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    throw error("config.range", key, "an integer of 64 bits with sign", type_and_value(json));
  }
  value = json.get<std::int64_t>();
}

void JsonReader::read(const Json& json, std::string_view key, double& value) const {
  if (!json.is_number()) {
    throw error("config.type", key, "a number", type_and_value(json));
  }
  value = json.get<double>();
}

void JsonReader::read(const Json& json, std::string_view key, float& value) const {
  double wide = 0;
  read(json, key, wide);
  if (wide > std::numeric_limits<float>::max() || wide < std::numeric_limits<float>::lowest()) {
    throw error("config.range", key, "a number of single precision", type_and_value(json));
  }
  value = static_cast<float>(wide);
}

void JsonReader::read(const Json& json, std::string_view key, std::string& value) const {
  if (!json.is_string()) {
    throw error("config.type", key, "a string", type_and_value(json));
  }
  value = json.get<std::string>();
}

void JsonReader::read(const Json& json,
                      std::string_view key,
                      std::vector<std::int64_t>& value) const {
  if (!json.is_array()) {
    throw error("config.type", key, "a list of integers", type_and_value(json));
  }
  value.assign(json.size(), 0);
  for (std::size_t i = 0; i < json.size(); ++i) {
    read(json[i], std::string(key) + "[" + std::to_string(i) + "]", value[i]);
  }
}

void JsonReader::read(const Json& json, std::string_view key, std::vector<double>& value) const {
  if (!json.is_array()) {
    throw error("config.type", key, "a list of numbers", type_and_value(json));
  }
  value.assign(json.size(), 0.0);
  for (std::size_t i = 0; i < json.size(); ++i) {
    read(json[i], std::string(key) + "[" + std::to_string(i) + "]", value[i]);
  }
}

void JsonReader::read(const Json& json,
                      std::string_view key,
                      std::vector<std::string>& value) const {
  if (!json.is_array()) {
    throw error("config.type", key, "a list of strings", type_and_value(json));
  }
  value.assign(json.size(), "");
  for (std::size_t i = 0; i < json.size(); ++i) {
    read(json[i], std::string(key) + "[" + std::to_string(i) + "]", value[i]);
  }
}

}  // namespace kinema
