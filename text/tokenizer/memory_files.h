// SPDX-License-Identifier: Apache-2.0
// The files of a tokenizer as strings, for tests, fuzzing and archives.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "text/tokenizer/tokenizer.h"

namespace kinema::text {

/// Contents of the files that were found; the first of tokenizer_json, sentencepiece_model and
/// vocab_json (with merges_txt) decides, the rest only names special tokens.
struct TokenizerFiles {
  std::string folder = "tokenizer";            ///< where they are, for messages
  std::string json_name = "tokenizer.json";    ///< name of the pipeline
  std::string model_name = "tokenizer.model";  ///< name of the SentencePiece model
  std::optional<std::string> tokenizer_json;
  std::optional<std::string> sentencepiece_model;
  std::optional<std::string> vocab_json;
  std::optional<std::string> merges_txt;
  std::optional<std::string> tokenizer_config;
  std::optional<std::string> special_tokens_map;
  std::optional<std::string> added_tokens;

  /// "folder/name".
  [[nodiscard]] std::string path_of(const std::string& name) const {
    return folder + (folder.ends_with('/') ? "" : "/") + name;
  }
  /// The path of the file that decides, or the folder when there is none.
  [[nodiscard]] std::string main_path() const {
    return tokenizer_json        ? path_of(json_name)
           : sentencepiece_model ? path_of(model_name)
           : vocab_json          ? path_of("vocab.json and merges.txt")
                                 : folder;
  }
};

/// A tokenizer from these files. Throws kBadCheckpoint; every message begins with the path of a
/// file.
[[nodiscard]] std::unique_ptr<Tokenizer> load_from_memory(const TokenizerFiles& files);

}  // namespace kinema::text
