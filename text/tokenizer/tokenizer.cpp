// SPDX-License-Identifier: Apache-2.0
#include "text/tokenizer/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <new>
#include <string>
#include <utility>

#include "core/base/checked_math.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "text/tokenizer/memory_files.h"
#include "text/tokenizer/pipeline_tokenizer.h"
#include "text/tokenizer/sentencepiece_tokenizer.h"
#include "text/tokenizer/special_tokens.h"

namespace kinema::text {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kMaxFile = 256ULL * 1024 * 1024;
constexpr std::string_view kPlace = "text.tokenizer";

[[noreturn]] void nothing_found(const std::string& path, std::string got) {
  throw Error(
      ErrorKind::kIo,
      {.code = "io.open",
       .place = std::string(kPlace),
       .subject = path,
       .expected = "tokenizer.json, spiece.model, tokenizer.model, or vocab.json and merges.txt",
       .got = std::move(got)});
}

bool is_file(const fs::path& path) {
  std::error_code ignored;
  return fs::is_regular_file(path, ignored);
}

class Folder {
 public:
  explicit Folder(fs::path path) : path_(std::move(path)) {}

  [[nodiscard]] std::optional<std::string> read(const std::string& name) const {
    if (!is_file(path_ / name)) {
      return std::nullopt;
    }
    return read_file(confined_path(path_.string(), name, kPlace), kMaxFile, kPlace);
  }

  void read_special(TokenizerFiles& files) const {
    files.tokenizer_config = read("tokenizer_config.json");
    files.special_tokens_map = read("special_tokens_map.json");
    files.added_tokens = read("added_tokens.json");
  }

 private:
  fs::path path_;
};

TokenizerFiles read_folder(const std::string& path) {
  const Folder folder{fs::path(path)};
  TokenizerFiles files;
  files.folder = path;
  files.tokenizer_json = folder.read("tokenizer.json");
  for (const char* name : {"spiece.model", "tokenizer.model", "sentencepiece.bpe.model"}) {
    if (!files.tokenizer_json && !files.sentencepiece_model) {
      files.sentencepiece_model = folder.read(name);
      files.model_name = name;
    }
  }
  if (!files.tokenizer_json && !files.sentencepiece_model) {
    files.vocab_json = folder.read("vocab.json");
    files.merges_txt = folder.read("merges.txt");
    if (!files.vocab_json) {
      nothing_found(path, "none of them");
    }
  }
  folder.read_special(files);
  return files;
}

TokenizerFiles read_single(const std::string& path) {
  const fs::path file(path);
  const fs::path parent = file.has_parent_path() ? file.parent_path() : fs::path(".");
  const Folder folder(parent);
  TokenizerFiles files;
  files.folder = parent.string();
  const std::string name = file.filename().string();
  std::string contents = read_file(path, kMaxFile, kPlace);
  if (name == "vocab.json" || name == "merges.txt") {
    files.vocab_json = name == "vocab.json" ? std::move(contents) : folder.read("vocab.json");
    files.merges_txt = folder.read("merges.txt");
    if (!files.vocab_json) {
      nothing_found(path, "no vocab.json beside it");
    }
  } else if (file.extension() == ".model") {
    files.sentencepiece_model = std::move(contents);
    files.model_name = name;
  } else if (file.extension() == ".json") {
    files.tokenizer_json = std::move(contents);
    files.json_name = name;
  } else {
    nothing_found(path, "another name");
  }
  folder.read_special(files);
  return files;
}

std::unique_ptr<Tokenizer> build(const TokenizerFiles& files) {
  const SpecialTokens special = SpecialTokens::read(files);
  const JsonContext context{.place = std::string(kPlace), .subject = files.main_path()};
  if (files.tokenizer_json) {
    return make_pipeline_tokenizer(
        parse_tokenizer_json(*files.tokenizer_json, context), special, context, "tokenizer.json");
  }
  if (files.sentencepiece_model) {
    return make_sentencepiece_tokenizer(*files.sentencepiece_model, special, context.subject);
  }
  if (files.vocab_json) {
    return make_pipeline_tokenizer(
        pipeline_of_vocabulary(files, special), special, context, "vocab.json and merges.txt");
  }
  nothing_found(files.folder, "none of them");
}

}  // namespace

std::unique_ptr<Tokenizer> load_from_memory(const TokenizerFiles& files) {
  try {
    return build(files);
  } catch (const Error& error) {
    // What reads a pattern, a map or a merge does not know the file.
    const std::string& subject = error.details().subject;
    if (subject == files.folder || subject.starts_with(files.path_of(""))) {
      throw;
    }
    ErrorDetails details = error.details();
    details.subject = files.main_path() + ": " + details.subject;
    throw Error(error.kind(), std::move(details), error.where());
  } catch (const std::bad_alloc&) {
    throw Error(ErrorKind::kOutOfMemory,
                {.code = "tokenizer.memory",
                 .place = std::string(kPlace),
                 .subject = files.main_path(),
                 .expected = "memory for the vocabulary",
                 .got = "none"});
  }
}

std::unique_ptr<Tokenizer> Tokenizer::load(const std::string& path) {
  std::error_code ignored;
  return load_from_memory(fs::is_directory(path, ignored) ? read_folder(path) : read_single(path));
}

TokenBatch Tokenizer::encode_batch(std::span<const std::string> texts,
                                   const EncodeOptions& options) const {
  std::vector<std::vector<TokenId>> rows;
  rows.reserve(texts.size());
  std::size_t longest = 0;
  for (const auto& text : texts) {
    rows.push_back(encode_truncated(text, options.max_length));
    longest = std::max(longest, rows.back().size());
  }
  TokenBatch batch;
  batch.batch = static_cast<std::int64_t>(texts.size());
  batch.length = options.padding == Padding::kMaxLength ? options.max_length
                                                        : static_cast<std::int64_t>(longest);
  const auto count = checked_mul(batch.batch, batch.length);
  if (!count || *count < 0 || static_cast<std::uint64_t>(*count) > (1ULL << 31)) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "tokenizer.max_length",
                 .place = std::string(kPlace),
                 .subject = "max_length",
                 .expected = "a batch of at most 2147483648 tokens",
                 .got = std::to_string(batch.batch) + " texts of " + std::to_string(batch.length)});
  }
  batch.input_ids.assign(static_cast<std::size_t>(*count), pad_id());
  batch.attention_mask.assign(static_cast<std::size_t>(*count), 0);
  for (std::size_t row = 0; row < rows.size(); ++row) {
    const auto start = static_cast<std::ptrdiff_t>(row * static_cast<std::size_t>(batch.length));
    std::copy(rows[row].begin(), rows[row].end(), batch.input_ids.begin() + start);
    std::fill_n(batch.attention_mask.begin() + start, rows[row].size(), 1);
  }
  return batch;
}

}  // namespace kinema::text
