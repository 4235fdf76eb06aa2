// SPDX-License-Identifier: Apache-2.0
// Strict JSON and the reader of configurations, on a struct with a field of every kind.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/json.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const kinema::JsonContext context{.place = "fuzz.config", .subject = "config.json"};
  try {
    const kinema::Json json = kinema::parse_json(text, context);
    // What was accepted must come back from its own text.
    if (kinema::parse_json(json.dump(), context) != json) {
      std::abort();
    }
    kinema::JsonReader reader(json, context);
    std::int64_t width = 0;
    double epsilon = 0;
    float scale = 0;
    bool bias = false;
    std::string activation;
    std::vector<std::int64_t> channels;
    std::vector<double> shifts;
    std::vector<std::string> layers;
    std::array<std::int64_t, 3> patch{};
    std::optional<std::int64_t> heads;
    reader.required("width", width);
    reader.optional("epsilon", epsilon);
    reader.optional("scale", scale);
    reader.optional("bias", bias);
    reader.optional("activation", activation);
    reader.optional("channels", channels);
    reader.optional("shifts", shifts);
    reader.optional("layers", layers);
    reader.optional("patch", patch);
    reader.optional("heads", heads);
    reader.ignore({"_class_name", "_diffusers_version"});
    if (const kinema::Json* inner = reader.find("scheduler")) {
      kinema::JsonReader nested(*inner, context, "scheduler");
      nested.required("steps", width);
      nested.finish();
    }
    reader.finish();
  } catch (const kinema::Error& error) {
    if (error.kind() != kinema::ErrorKind::kBadCheckpoint) {
      std::abort();
    }
  }
  return 0;
}
