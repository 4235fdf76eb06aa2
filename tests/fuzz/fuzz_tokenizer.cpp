// SPDX-License-Identifier: Apache-2.0
// Files of tokenizers. The first byte picks what the rest is: a tokenizer.json, a SentencePiece
// model, vocab.json with merges.txt (separated by an empty line), a tokenizer_config.json, one
// character map, a text for a fixed tokenizer, or one part of a tokenizer.json. What loads encodes
// and decodes.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/error.h"
#include "text/tokenizer/charsmap.h"
#include "text/tokenizer/memory_files.h"
#include "text/tokenizer/unicode.h"

namespace {

using kinema::Error;
using kinema::ErrorKind;
using kinema::text::TokenId;
using kinema::text::Tokenizer;
using kinema::text::TokenizerFiles;

constexpr std::array<std::string_view, 4> kTexts = {
    "",
    " the Cat's <s>[MASK] 12\xCC\x81 o\xCC\x88\xCC\x84\xE2\x96\x81 "
    "\xE7\xBA\xA2\xF0\x9F\x98\x80\n\n x",
    "<s>a b</s>",
    "\xFFz\xE2\x82"};

constexpr std::string_view kPipeline =
    R"({"version":"1.0","added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":true,"rstrip":true,"normalized":false,"special":true}],
"normalizer":{"type":"Sequence","normalizers":[{"type":"NFKC"},{"type":"Lowercase"},{"type":"Strip","strip_left":true,"strip_right":true}]},
"pre_tokenizer":{"type":"Sequence","pretokenizers":[{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true}]},
"post_processor":null,"decoder":{"type":"ByteLevel","add_prefix_space":true,"trim_offsets":true,"use_regex":true},
"model":{"type":"BPE","unk_token":"<s>","fuse_unk":true,"vocab":{"<s>":0,"a":1,"b":2,"ab":3,"t":4,"h":5,"th":6},"merges":["a b","t h"]}})";

constexpr std::string_view kModel =
    R"("model":{"vocab":{"a":0,"t":1,"h":2,"th":3,"\u0120":4,"\u2581":5},"merges":["t h"]})";
constexpr std::array<std::string_view, 6> kParts = {
    "normalizer", "pre_tokenizer", "post_processor", "decoder", "added_tokens", "model"};

// Only these are the file's or the caller's fault.
void expect_clean(const Error& error) {
  if (error.kind() != ErrorKind::kBadCheckpoint && error.kind() != ErrorKind::kInvalidArgument &&
      error.kind() != ErrorKind::kIo) {
    std::abort();
  }
}

void use(const Tokenizer& tokenizer, std::string_view text) {
  try {
    const std::vector<TokenId> ids = tokenizer.encode(text);
    for (const TokenId id : ids) {
      if (id < 0) {
        std::abort();
      }
    }
    if (!kinema::text::is_valid_utf8(tokenizer.decode(ids, true))) {
      std::abort();
    }
    static_cast<void>(tokenizer.decode(ids, false));
    if (tokenizer.encode_truncated(text, 4).size() > 4 + 2048) {
      std::abort();
    }
  } catch (const Error& error) {
    expect_clean(error);
  }
}

void load(const TokenizerFiles& files) {
  try {
    const auto tokenizer = kinema::text::load_from_memory(files);
    static_cast<void>(tokenizer->description());
    for (const auto text : kTexts) {
      use(*tokenizer, text);
    }
  } catch (const Error& error) {
    expect_clean(error);
  }
}

void map(std::string_view blob) {
  try {
    const auto charsmap = kinema::text::Charsmap::parse(blob);
    for (const auto text : kTexts) {
      for (std::size_t i = 0; i < text.size(); ++i) {
        static_cast<void>(charsmap.find(text.substr(i)));
        static_cast<void>(charsmap.find_longest(text.substr(i)));
      }
    }
  } catch (const Error& error) {
    expect_clean(error);
  }
}

// vocab.json, merges.txt and tokenizer_config.json. Without the last the class is GPT-2, whose
// pattern is compiled once.
void read_vocabulary(std::string_view text) {
  std::array<std::string_view, 3> parts = {"", "", R"({"tokenizer_class":"GPT2Tokenizer"})"};
  for (auto& part : parts) {
    const auto blank = text.find("\n\n");
    part = text.substr(0, blank);
    if (blank == std::string_view::npos) {
      break;
    }
    text.remove_prefix(blank + 2);
  }
  TokenizerFiles files;
  files.vocab_json = std::string(parts[0]);
  files.merges_txt = std::string(parts[1]);
  files.tokenizer_config = std::string(parts[2]);
  load(files);
}

// The part `index` of a tokenizer.json whose other parts are good.
void read_part(std::size_t index, std::string_view json) {
  std::string text = "{";
  if (kParts[index] != "model") {
    text.append(kModel).append(",");
  }
  text.append("\"").append(kParts[index]).append("\":").append(json).append("}");
  TokenizerFiles files;
  files.tokenizer_json = std::move(text);
  load(files);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) {
    return 0;
  }
  const std::string_view rest(reinterpret_cast<const char*>(data) + 1, size - 1);
  TokenizerFiles files;
  const std::size_t kind = data[0] % (6 + kParts.size());
  switch (kind) {
    case 0:
      files.tokenizer_json = std::string(rest);
      load(files);
      break;
    case 1:
      files.sentencepiece_model = std::string(rest);
      load(files);
      break;
    case 2:
      read_vocabulary(rest);
      break;
    case 3:
      files.tokenizer_json = "{" + std::string(kModel) + "}";
      files.tokenizer_config = std::string(rest);
      load(files);
      break;
    case 4:
      map(rest);
      break;
    case 5: {
      static const auto tokenizer = [] {
        TokenizerFiles fixed;
        fixed.tokenizer_json = std::string(kPipeline);
        return kinema::text::load_from_memory(fixed);
      }();
      use(*tokenizer, rest);
      break;
    }
    default:
      read_part(kind - 6, rest);
  }
  return 0;
}
