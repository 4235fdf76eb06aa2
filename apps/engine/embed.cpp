// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include <ATen/ATen.h>
#include <fmt/format.h>

#include "apps/engine/commands.h"
#include "core/base/error.h"
#include "core/base/file.h"
#include "core/base/version.h"
#include "core/io/safetensors.h"
#include "core/tensor/from_view.h"
#include "core/tensor/place.h"
#include "text/text_encoder.h"
#include "text/tokenizer/prompt_cleaning.h"
#include "text/tokenizer/tokenizer.h"

namespace kinema::engine {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kDefaultMaxLength = 512;
constexpr std::size_t kMaxPromptFile = 1ULL << 30;

// The folder of a component: `path` itself, or its place in a model folder.
std::string component_folder(const std::string& path, const std::string& component) {
  return fs::exists(fs::path(path) / "model_index.json") ? (fs::path(path) / component).string()
                                                         : path;
}

// Where the tokenizer of an encoder lies: in its own folder, or beside it in a model folder.
std::string find_tokenizer(const std::string& text_encoder) {
  const fs::path encoder(component_folder(text_encoder, "text_encoder"));
  const fs::path beside = encoder.parent_path() / "tokenizer";
  for (const fs::path& folder : {encoder, fs::path(text_encoder) / "tokenizer", beside}) {
    for (const char* file : {"tokenizer.json", "spiece.model", "tokenizer.model", "vocab.json"}) {
      if (fs::exists(folder / file)) {
        return folder.string();
      }
    }
  }
  throw Error(
      ErrorKind::kBadCheckpoint,
      {.code = "tokenizer.missing",
       .place = "embed",
       .subject = text_encoder,
       .expected = "tokenizer.json, spiece.model or vocab.json in it or in tokenizer/ beside it",
       .got = "none of them",
       .hint = "name the folder with --tokenizer"});
}

std::vector<std::string> read_prompts(const std::string& path) {
  const std::string text = read_file(path, kMaxPromptFile, "embed");
  const bool json_lines = path.ends_with(".jsonl");
  std::vector<std::string> prompts;
  std::size_t start = 0;
  for (std::int64_t line_number = 1; start < text.size(); ++line_number) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    start = end + 1;
    if (!line.empty() && line.back() == '\r') {
      line.pop_back();
    }
    if (line.empty()) {
      continue;
    }
    if (!json_lines) {
      prompts.push_back(line);
      continue;
    }
    const JsonContext context{.place = "embed",
                              .subject = path + " line " + std::to_string(line_number),
                              .kind = ErrorKind::kBadData};
    const Json object = parse_json(line, context);
    JsonReader reader(object, context);
    reader.required("prompt", prompts.emplace_back());
  }
  if (prompts.empty()) {
    throw Error(ErrorKind::kBadData,
                {.code = "prompts.empty",
                 .place = "embed",
                 .subject = path,
                 .expected = "at least one prompt",
                 .got = "none"});
  }
  return prompts;
}

// The length that the tokenizer's own files ask for; public files write 1e30 for "no limit".
std::optional<std::int64_t> model_max_length(const std::string& tokenizer) {
  const fs::path config =
      fs::path(fs::is_directory(tokenizer) ? fs::path(tokenizer)
                                           : fs::path(tokenizer).parent_path()) /
      "tokenizer_config.json";
  if (!fs::exists(config)) {
    return std::nullopt;
  }
  const Json json = read_json_file(config.string(), {.place = "embed", .subject = config.string()});
  JsonReader reader(json, {.place = "embed", .subject = config.string()});
  double length = 0;
  if (!reader.optional("model_max_length", length) || !(length >= 1) || length > 1e6) {
    return std::nullopt;
  }
  return static_cast<std::int64_t>(length);
}

std::int64_t choose_length(const cli::EmbedOptions& options,
                           const std::string& tokenizer,
                           const text::TextEncoderInfo& encoder) {
  const std::int64_t limit = encoder.max_tokens.value_or(65536);
  if (options.max_length > limit) {
    throw Error(
        ErrorKind::kInvalidArgument,
        {.code = "usage.value",
         .place = "embed",
         .subject = "--max-length",
         .expected = fmt::format("at most {} tokens for this {} encoder", limit, encoder.family),
         .got = std::to_string(options.max_length)});
  }
  if (options.max_length > 0) {
    return options.max_length;
  }
  return std::min(
      {model_max_length(tokenizer).value_or(kDefaultMaxLength), kDefaultMaxLength, limit});
}

std::string clean(const std::string& prompt, const std::string& mode) {
  if (mode == "caption") {
    return text::text_preprocessing(prompt);
  }
  return mode == "lower" ? text::plain_preprocessing(prompt) : prompt;
}

std::span<const std::byte> bytes_of(const Tensor& contiguous) {
  return {static_cast<const std::byte*>(contiguous.const_data_ptr()), contiguous.nbytes()};
}

Tensor to_tensor(const std::vector<std::int64_t>& values, std::int64_t rows) {
  return at::tensor(values, at::kLong).view({rows, -1});
}

OrderedJson result_json(const cli::EmbedOptions& options,
                        const text::TextEncoderInfo& info,
                        std::int64_t batch,
                        std::int64_t length,
                        std::int64_t truncated) {
  return {{"output", options.output},
          {"prompts", batch},
          {"tokens_per_prompt", length},
          {"truncated_prompts", truncated},
          {"width", info.width},
          {"encoder", info.family},
          {"parameters", info.num_parameters},
          {"place", tensor::to_string(info.place)}};
}

}  // namespace

void embed(const cli::EmbedOptions& options,
           const cli::CommonOptions& common,
           cli::Console& console) {
  const at::InferenceMode inference;
  const tensor::Place place = tensor::parse_place(common.device, common.dtype);
  const std::vector<std::string> prompts =
      options.prompts_file.empty() ? options.texts : read_prompts(options.prompts_file);
  const auto batch = static_cast<std::int64_t>(prompts.size());

  const std::string tokenizer_path = options.tokenizer.empty()
                                         ? find_tokenizer(options.text_encoder)
                                         : component_folder(options.tokenizer, "tokenizer");
  const auto tokenizer = text::Tokenizer::load(tokenizer_path);
  const auto encoder = text::TextEncoder::load(
      component_folder(options.text_encoder, "text_encoder"), place, console.logger());
  const text::TextEncoderInfo& info = encoder->info();
  console.logger().info(fmt::format("text encoder family={} parameters={} bytes={} place={}",
                                    info.family,
                                    info.num_parameters,
                                    info.num_weight_bytes,
                                    tensor::to_string(place)));
  if (tokenizer->vocab_size() > info.vocab_size) {
    console.logger().warning(
        fmt::format("the tokenizer knows {} ids, the encoder only {}: do they belong together?",
                    tokenizer->vocab_size(),
                    info.vocab_size));
  }
  const std::int64_t length = choose_length(options, tokenizer_path, info);

  std::vector<std::string> cleaned;
  std::int64_t truncated = 0;
  for (const auto& prompt : prompts) {
    cleaned.push_back(clean(prompt, options.clean));
    truncated +=
        static_cast<std::int64_t>(tokenizer->encode(cleaned.back()).size()) > length ? 1 : 0;
  }
  if (truncated > 0) {
    console.logger().warning(fmt::format(
        "{} of {} prompts are longer than {} tokens and were cut", truncated, batch, length));
  }
  const text::TokenBatch tokens = tokenizer->encode_batch(cleaned, {.max_length = length});
  const Tensor ids_BM = to_tensor(tokens.input_ids, batch);
  const Tensor mask_BM = to_tensor(tokens.attention_mask, batch);

  const io::DType dtype = tensor::to_io_dtype(place.dtype).value();
  std::vector<io::TensorSpec> specs = {{"attention_mask", io::DType::kI64, {batch, length}},
                                       {"input_ids", io::DType::kI64, {batch, length}},
                                       {"context_BMD", dtype, {batch, length, info.width}}};
  std::vector<Tensor> pooled_rows;
  const bool is_clip = info.family == "clip_text_model";
  if (is_clip) {
    specs.push_back({"pooled_BD", dtype, {batch, info.width}});
  }
  const OrderedJson request = {{"format", "kinema-embedding-1"},
                               {"version", version()},
                               {"encoder", info.family},
                               {"clean", options.clean},
                               {"prompts", prompts}};
  io::SafetensorsStream file(
      options.output,
      specs,
      {{"kinema", request.dump(-1, ' ', false, OrderedJson::error_handler_t::replace)}});
  file.append(bytes_of(mask_BM));
  file.append(bytes_of(ids_BM));

  console.progress().on_stage("embed", batch, "prompt");
  for (std::int64_t first = 0; first < batch; first += options.batch_size) {
    check_cancelled(console.progress(), "embed");
    const std::int64_t count = std::min(options.batch_size, batch - first);
    const Tensor ids_rows_BM = ids_BM.narrow(0, first, count).to(place.device);
    // Diffusion models read all rows of CLIP, padding included; those of T5 end with the mask.
    const text::TextEncoding encoding =
        is_clip ? encoder->encode(ids_rows_BM)
                : encoder->encode(ids_rows_BM, mask_BM.narrow(0, first, count).to(place.device));
    file.append(bytes_of(encoding.context_BMD.to(place.dtype).cpu().contiguous()));
    if (is_clip) {
      pooled_rows.push_back(encoding.pooled_BD->to(place.dtype).cpu());
    }
    console.progress().on_step(first + count, {});
  }
  if (is_clip) {
    file.append(bytes_of(at::cat(pooled_rows).contiguous()));
  }
  file.commit();
  console.progress().on_stage_end();
  console.finish(result_json(options, info, batch, length, truncated),
                 fmt::format("{}: {} prompt{} x {} tokens x {} ({}, {})\n",
                             options.output,
                             batch,
                             batch == 1 ? "" : "s",
                             length,
                             info.width,
                             info.family,
                             tensor::to_string(place)));
}

}  // namespace kinema::engine
