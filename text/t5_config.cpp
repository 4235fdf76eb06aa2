// SPDX-License-Identifier: Apache-2.0
#include "text/t5_config.h"

#include <optional>
#include <string_view>

#include "core/base/error.h"
#include "text/hf_config.h"

namespace kinema::text {
namespace {

constexpr std::string_view kPlace = "text.t5";

/// "relu", "gated-gelu": what stands before the dash and the function behind it.
void read_feed_forward(JsonReader& reader, const std::string& feed_forward_proj, T5Config& config) {
  const std::size_t dash = feed_forward_proj.find('-');
  config.is_gated = dash != std::string::npos;
  std::string function = config.is_gated ? feed_forward_proj.substr(dash + 1) : feed_forward_proj;
  if (feed_forward_proj == "gated-gelu") {
    function = "gelu_new";  // the public v1.1 files say gelu and mean the tanh formula
  }
  const auto activation = nn::parse_activation(function);
  if (!activation.has_value() || (config.is_gated && !feed_forward_proj.starts_with("gated-"))) {
    throw reader.error("text.activation",
                       "feed_forward_proj",
                       "relu, gelu, silu, gelu_new, quick_gelu, or one of them after 'gated-'",
                       "'" + feed_forward_proj + "'");
  }
  config.activation = *activation;
}

/// Newer files repeat in two keys what feed_forward_proj says.
void check_repeated_keys(JsonReader& reader,
                         const std::string& feed_forward_proj,
                         const T5Config& config) {
  std::optional<std::string> function;
  std::optional<bool> is_gated;
  reader.optional("dense_act_fn", function);
  reader.optional("is_gated_act", is_gated);
  if (function.has_value() && nn::parse_activation(*function) != config.activation) {
    throw reader.error("text.config",
                       "dense_act_fn",
                       "what feed_forward_proj = '" + feed_forward_proj + "' means",
                       "'" + *function + "'");
  }
  if (is_gated.has_value() && *is_gated != config.is_gated) {
    throw reader.error("text.config",
                       "is_gated_act",
                       "what feed_forward_proj = '" + feed_forward_proj + "' means",
                       *is_gated ? "true" : "false");
  }
  bool is_decoder = false;
  reader.optional("is_decoder", is_decoder);
  if (is_decoder) {
    throw reader.error("text.config", "is_decoder", "an encoder", "true");
  }
}

}  // namespace

T5Config T5Config::from_json(const Json& json,
                             const std::string& subject,
                             std::vector<std::string>& unknown_keys) {
  JsonReader reader(json, {.place = std::string(kPlace), .subject = subject});
  T5Config config;
  std::string model_type = "t5";
  reader.optional("model_type", model_type);
  if (model_type != "t5" && model_type != "umt5") {
    throw reader.error("text.model_type", "model_type", "t5 or umt5", "'" + model_type + "'");
  }
  config.per_block_bias = model_type == "umt5";
  reader.required("vocab_size", config.vocab_size);
  reader.required("d_model", config.d_model);
  reader.required("d_kv", config.d_kv);
  reader.required("d_ff", config.d_ff);
  reader.required("num_layers", config.num_layers);
  reader.required("num_heads", config.num_heads);
  reader.optional("relative_attention_num_buckets", config.relative_attention_num_buckets);
  reader.optional("relative_attention_max_distance", config.relative_attention_max_distance);
  reader.optional("layer_norm_epsilon", config.layer_norm_epsilon);
  // The first T5 files have no such key and mean relu; UMT5 files without it mean gated-gelu.
  std::string feed_forward_proj = config.per_block_bias ? "gated-gelu" : "relu";
  reader.optional("feed_forward_proj", feed_forward_proj);
  read_feed_forward(reader, feed_forward_proj, config);
  check_repeated_keys(reader, feed_forward_proj, config);
  ignore_common_keys(reader);
  reader.ignore({"bos_token_id",
                 "classifier_dropout",
                 "dropout_rate",
                 "eos_token_id",
                 "is_encoder_decoder",
                 "n_positions",
                 "num_decoder_layers",
                 "output_past",
                 "scalable_attention",
                 "scale_decoder_outputs"});
  for (std::string& key : reader.unknown_keys()) {
    unknown_keys.push_back(std::move(key));
  }
  config.validate(subject);
  return config;
}

Json T5Config::to_json() const {
  std::string feed_forward_proj(nn::to_string(activation));
  if (is_gated) {
    feed_forward_proj = "gated-" + (activation == nn::Activation::kGeluTanh ? std::string("gelu")
                                                                            : feed_forward_proj);
  }
  return Json{{"model_type", per_block_bias ? "umt5" : "t5"},
              {"architectures", {per_block_bias ? "UMT5EncoderModel" : "T5EncoderModel"}},
              {"vocab_size", vocab_size},
              {"d_model", d_model},
              {"d_kv", d_kv},
              {"d_ff", d_ff},
              {"num_layers", num_layers},
              {"num_heads", num_heads},
              {"relative_attention_num_buckets", relative_attention_num_buckets},
              {"relative_attention_max_distance", relative_attention_max_distance},
              {"layer_norm_epsilon", layer_norm_epsilon},
              {"feed_forward_proj", feed_forward_proj}};
}

void T5Config::validate(const std::string& subject) const {
  std::vector<std::string> problems;
  check_sizes({{"vocab_size", vocab_size},
               {"d_model", d_model},
               {"d_kv", d_kv},
               {"d_ff", d_ff},
               {"num_layers", num_layers},
               {"num_heads", num_heads},
               {"relative_attention_num_buckets", relative_attention_num_buckets},
               {"relative_attention_max_distance", relative_attention_max_distance}},
              problems);
  if (problems.empty()) {
    if (num_heads * d_kv > kMaxSize) {
      problems.push_back("num_heads * d_kv is " + std::to_string(num_heads * d_kv) + ", over " +
                         std::to_string(kMaxSize));
    }
    if (relative_attention_num_buckets % 2 != 0 || relative_attention_num_buckets < 4) {
      problems.push_back("relative_attention_num_buckets is " +
                         std::to_string(relative_attention_num_buckets) +
                         ", not an even number from 4");
    } else if (relative_attention_max_distance <= relative_attention_num_buckets / 4) {
      problems.push_back("relative_attention_max_distance is " +
                         std::to_string(relative_attention_max_distance) +
                         ", not over a quarter of the buckets");
    }
  }
  if (!(layer_norm_epsilon > 0.0 && layer_norm_epsilon < 1.0)) {
    problems.push_back("layer_norm_epsilon is " + std::to_string(layer_norm_epsilon) +
                       ", not in (0, 1)");
  }
  throw_config_problems(kPlace, subject, problems);
}

}  // namespace kinema::text
