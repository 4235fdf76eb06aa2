// SPDX-License-Identifier: Apache-2.0
#include "text/clip_text_config.h"

#include <algorithm>
#include <string_view>

#include "core/base/error.h"

namespace kinema::text {
namespace {

constexpr std::string_view kPlace = "text.clip";

/// Inside a whole-model file, text_config leaves out what has its default value.
void read_fields(JsonReader& reader, bool is_nested, ClipTextConfig& config) {
  const auto read_size = [&](std::string_view key, std::int64_t& value) {
    if (is_nested) {
      reader.optional(key, value);
    } else {
      reader.required(key, value);
    }
  };
  read_size("vocab_size", config.vocab_size);
  read_size("hidden_size", config.hidden_size);
  read_size("intermediate_size", config.intermediate_size);
  read_size("num_hidden_layers", config.num_hidden_layers);
  read_size("num_attention_heads", config.num_attention_heads);
  read_size("max_position_embeddings", config.max_position_embeddings);
  reader.optional("projection_dim", config.projection_dim);
  reader.optional("eos_token_id", config.eos_token_id);
  reader.optional("layer_norm_eps", config.layer_norm_eps);
  std::string hidden_act(nn::to_string(config.hidden_act));
  reader.optional("hidden_act", hidden_act);
  const auto activation = nn::parse_activation(hidden_act);
  if (!activation.has_value()) {
    throw reader.error(
        "text.activation", "hidden_act", "quick_gelu, gelu or gelu_new", "'" + hidden_act + "'");
  }
  config.hidden_act = *activation;
  ignore_common_keys(reader);
  reader.ignore(
      {"attention_dropout", "bos_token_id", "dropout", "is_decoder", "is_encoder_decoder"});
}

/// The whole-model files of old releases state the text part in two places; both must say the same.
void check_text_config_dict(const Json& whole,
                            const Json& text_config,
                            const JsonContext& context) {
  const auto found = whole.find("text_config_dict");
  if (found == whole.end() || !found->is_object()) {
    return;
  }
  for (const auto& [key, value] : found->items()) {
    const auto other = text_config.find(key);
    if (other != text_config.end() && *other != value) {
      throw JsonReader(whole, context)
          .error("text.config",
                 "text_config_dict." + key,
                 "the value in text_config, " + other->dump(),
                 value.dump());
    }
  }
}

}  // namespace

ClipTextConfig ClipTextConfig::from_hf(const HfConfig& hf, std::vector<std::string>& unknown_keys) {
  const JsonContext context = {.place = std::string(kPlace), .subject = hf.path};
  JsonReader reader(hf.json, context);
  ClipTextConfig config;
  const Json* nested = reader.find("text_config");
  const auto is_architecture = [&hf](std::string_view name) {
    return std::find(hf.architectures.begin(), hf.architectures.end(), name) !=
           hf.architectures.end();
  };
  if (hf.model_type == "clip" || nested != nullptr) {
    if (nested == nullptr) {
      throw reader.error("config.missing", "text_config", "an object", "nothing");
    }
    JsonReader inner(*nested, context, "text_config");
    read_fields(inner, /*is_nested=*/true, config);
    unknown_keys = inner.unknown_keys();
    check_text_config_dict(hf.json, *nested, context);
    // The projection of a whole model is as wide as the image side's; the outer key decides.
    reader.optional("projection_dim", config.projection_dim);
    config.has_projection = !is_architecture("CLIPTextModel");
  } else {
    read_fields(reader, /*is_nested=*/false, config);
    unknown_keys = reader.unknown_keys();
    config.has_projection = is_architecture("CLIPTextModelWithProjection");
  }
  config.validate(hf.path);
  return config;
}

Json ClipTextConfig::to_json() const {
  return Json{{"model_type", "clip_text_model"},
              {"architectures", {has_projection ? "CLIPTextModelWithProjection" : "CLIPTextModel"}},
              {"vocab_size", vocab_size},
              {"hidden_size", hidden_size},
              {"intermediate_size", intermediate_size},
              {"projection_dim", projection_dim},
              {"num_hidden_layers", num_hidden_layers},
              {"num_attention_heads", num_attention_heads},
              {"max_position_embeddings", max_position_embeddings},
              {"eos_token_id", eos_token_id},
              {"layer_norm_eps", layer_norm_eps},
              {"hidden_act", nn::to_string(hidden_act)}};
}

void ClipTextConfig::validate(const std::string& subject) const {
  std::vector<std::string> problems;
  check_sizes({{"vocab_size", vocab_size},
               {"hidden_size", hidden_size},
               {"intermediate_size", intermediate_size},
               {"projection_dim", projection_dim},
               {"num_hidden_layers", num_hidden_layers},
               {"num_attention_heads", num_attention_heads},
               {"max_position_embeddings", max_position_embeddings}},
              problems);
  if (problems.empty() && hidden_size % num_attention_heads != 0) {
    problems.push_back("hidden_size " + std::to_string(hidden_size) +
                       " is not a multiple of num_attention_heads " +
                       std::to_string(num_attention_heads));
  }
  if (eos_token_id < 0 || eos_token_id >= vocab_size) {
    problems.push_back("eos_token_id is " + std::to_string(eos_token_id) +
                       ", not below vocab_size " + std::to_string(vocab_size));
  }
  if (!(layer_norm_eps > 0.0 && layer_norm_eps < 1.0)) {
    problems.push_back("layer_norm_eps is " + std::to_string(layer_norm_eps) + ", not in (0, 1)");
  }
  throw_config_problems(kPlace, subject, problems);
}

}  // namespace kinema::text
