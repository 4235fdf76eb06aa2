// SPDX-License-Identifier: Apache-2.0
#include "text/hf_config.h"

#include "core/base/error.h"

namespace kinema::text {

HfConfig HfConfig::read(const std::string& path) {
  HfConfig config;
  config.path = path;
  const JsonContext context = {.place = "text.config", .subject = config.path};
  config.json = read_json_file(config.path, context);
  JsonReader reader(config.json, context);
  reader.optional("model_type", config.model_type);
  reader.optional("architectures", config.architectures);
  return config;
}

void ignore_common_keys(JsonReader& reader) {
  reader.ignore({"_name_or_path",
                 "_commit_hash",
                 "add_cross_attention",
                 "architectures",
                 "attn_implementation",
                 "bad_words_ids",
                 "begin_suppress_tokens",
                 "chunk_size_feed_forward",
                 "cross_attention_hidden_size",
                 "decoder_start_token_id",
                 "diversity_penalty",
                 "do_sample",
                 "dtype",
                 "early_stopping",
                 "encoder_no_repeat_ngram_size",
                 "exponential_decay_length_penalty",
                 "finetuning_task",
                 "forced_bos_token_id",
                 "forced_eos_token_id",
                 "gradient_checkpointing",
                 "id2label",
                 "initializer_factor",
                 "initializer_range",
                 "label2id",
                 "length_penalty",
                 "max_length",
                 "min_length",
                 "model_type",
                 "no_repeat_ngram_size",
                 "num_beam_groups",
                 "num_beams",
                 "num_return_sequences",
                 "output_attentions",
                 "output_hidden_states",
                 "output_scores",
                 "pad_token_id",
                 "prefix",
                 "problem_type",
                 "pruned_heads",
                 "remove_invalid_values",
                 "repetition_penalty",
                 "return_dict",
                 "return_dict_in_generate",
                 "sep_token_id",
                 "suppress_tokens",
                 "task_specific_params",
                 "temperature",
                 "tf_legacy_loss",
                 "tie_encoder_decoder",
                 "tie_word_embeddings",
                 "tokenizer_class",
                 "top_k",
                 "top_p",
                 "torch_dtype",
                 "torchscript",
                 "transformers_version",
                 "typical_p",
                 "use_bfloat16",
                 "use_cache"});
}

void warn_unknown_keys(Logger& logger,
                       const std::string& path,
                       const std::vector<std::string>& keys) {
  if (keys.empty()) {
    return;
  }
  std::string names;
  for (const std::string& key : keys) {
    names += (names.empty() ? "" : ",") + key;
  }
  logger.warning("config keys without meaning for kinema path=" + path + " keys=" + names);
}

void check_sizes(const std::vector<std::pair<std::string_view, std::int64_t>>& sizes,
                 std::vector<std::string>& problems) {
  for (const auto& [name, value] : sizes) {
    const bool is_layers = name.find("layers") != std::string_view::npos;
    const std::int64_t limit = is_layers ? kMaxLayers : kMaxSize;
    if (value < 1 || value > limit) {
      problems.push_back(std::string(name) + " is " + std::to_string(value) + ", not 1 to " +
                         std::to_string(limit));
    }
  }
}

void throw_config_problems(std::string_view place,
                           std::string_view subject,
                           const std::vector<std::string>& problems) {
  if (problems.empty()) {
    return;
  }
  std::string got;
  for (const std::string& problem : problems) {
    got += (got.empty() ? "" : "; ") + problem;
  }
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "text.config",
               .place = std::string(place),
               .subject = std::string(subject),
               .expected = "values that fit together",
               .got = got});
}

}  // namespace kinema::text
