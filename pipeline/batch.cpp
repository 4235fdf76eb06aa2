// SPDX-License-Identifier: Apache-2.0
#include "pipeline/batch.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "pipeline/journal.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "kinema-batch-1";
constexpr std::size_t kMaxPromptFile = 1ULL << 30;
constexpr std::size_t kSlugLength = 40;

std::string batch_path(const std::string& folder) {
  return folder + "/batch.json";
}

VideoRequest request_of_line(const Json& json,
                             const std::string& subject,
                             const VideoRequest& base) {
  VideoRequest request = base;
  JsonReader reader(json,
                    {.place = "pipeline.batch", .subject = subject, .kind = ErrorKind::kBadData});
  reader.required("prompt", request.prompt);
  reader.optional("negative", request.negative);
  reader.optional("width", request.width);
  reader.optional("height", request.height);
  reader.optional("fps", request.fps);
  const bool has_frames = reader.optional("frames", request.frames);
  double seconds = 0;
  if (reader.optional("seconds", seconds)) {
    if (has_frames) {
      throw reader.error("config.value", "seconds", "either frames or seconds", "both");
    }
    request.frames = std::max<std::int64_t>(1, std::llround(seconds * request.fps));
  }
  reader.optional("seed", request.seed);
  reader.optional("steps", request.steps);
  reader.optional("sampler", request.sampler);
  reader.optional("guidance", request.guidance);
  reader.optional("long", request.long_mode);
  reader.optional("window", request.window);
  if (const Json* scenes = reader.find("scenes"); scenes != nullptr) {
    request.scenes = scenes_from_json(*scenes, subject);
  }
  reader.optional("image", request.image);
  reader.optional("video", request.video);
  reader.optional("end_video", request.end_video);
  reader.optional("given_frames", request.given_frames);
  reader.finish();
  return request;
}

/// The first words of a prompt as a part of a file name.
std::string slug(const std::string& prompt) {
  std::string text;
  for (const char c : prompt) {
    const auto byte = static_cast<unsigned char>(c);
    if (std::isalnum(byte) != 0 && byte < 0x80) {
      text += static_cast<char>(std::tolower(byte));
    } else if (!text.empty() && text.back() != '-') {
      text += '-';
    }
    if (text.size() >= kSlugLength) {
      break;
    }
  }
  while (!text.empty() && text.back() == '-') {
    text.pop_back();
  }
  return text.empty() ? "video" : text;
}

std::string fill(const std::string& output, std::size_t index, const VideoRequest& request) {
  std::string name;
  for (std::size_t at = 0; at < output.size();) {
    const std::size_t close = output[at] == '{' ? output.find('}', at) : std::string::npos;
    if (close == std::string::npos) {
      name += output[at++];
      continue;
    }
    const std::string word = output.substr(at + 1, close - at - 1);
    if (word == "index") {
      name += fmt::format("{:04}", index);
    } else if (word == "seed") {
      name += std::to_string(request.seed);
    } else if (word == "prompt") {
      name += slug(request.prompt);
    } else {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "request.output_template",
                   .place = "pipeline.batch",
                   .subject = output,
                   .expected = "{index}, {seed} or {prompt}",
                   .got = "{" + word + "}"});
    }
    at = close + 1;
  }
  return name;
}

/// "-{index}" in front of the extension, or of the slash of a folder.
std::string numbered(const std::string& output) {
  if (output.ends_with("/")) {
    return output.substr(0, output.size() - 1) + "-{index}/";
  }
  const fs::path path(output);
  return (path.parent_path() / (path.stem().string() + "-{index}" + path.extension().string()))
      .string();
}

}  // namespace

std::vector<VideoRequest> read_prompt_file(const std::string& path, const VideoRequest& base) {
  const std::string text = read_file(path, kMaxPromptFile, "pipeline.batch");
  const bool json_lines = path.ends_with(".jsonl");
  std::vector<VideoRequest> requests;
  std::size_t start = 0;
  for (std::int64_t number = 1; start < text.size(); ++number) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    std::string line = text.substr(start, end - start);
    start = end + 1;
    if (!line.empty() && line.back() == '\r') {
      line.pop_back();
    }
    if (line.empty()) {
      continue;
    }
    if (json_lines) {
      const std::string subject = fmt::format("{} line {}", path, number);
      const JsonContext context{
          .place = "pipeline.batch", .subject = subject, .kind = ErrorKind::kBadData};
      requests.push_back(request_of_line(parse_json(line, context), subject, base));
    } else {
      requests.push_back(base);
      requests.back().prompt = line;
    }
  }
  if (requests.empty()) {
    throw Error(ErrorKind::kBadData,
                {.code = "prompts.empty",
                 .place = "pipeline.batch",
                 .subject = path,
                 .expected = "at least one prompt",
                 .got = "none"});
  }
  return requests;
}

std::vector<BatchItem> expand_batch(const std::vector<VideoRequest>& requests,
                                    const std::string& output,
                                    std::int64_t videos) {
  const bool many = requests.size() > 1 || videos > 1;
  const bool has_words = output.find('{') != std::string::npos;
  const std::string pattern = many && !has_words ? numbered(output) : output;
  std::vector<BatchItem> items;
  std::set<std::string> names;
  for (const VideoRequest& request : requests) {
    for (std::int64_t i = 0; i < videos; ++i) {
      BatchItem& item = items.emplace_back();
      item.request = request;
      item.request.seed += i;
      item.output = fill(pattern, items.size() - 1, item.request);
      if (!names.insert(item.output).second) {
        throw Error(ErrorKind::kInvalidArgument,
                    {.code = "request.output_names",
                     .place = "pipeline.batch",
                     .subject = output,
                     .expected = "a name of its own for every video",
                     .got = "two of " + item.output,
                     .hint = "put {index} into the name"});
      }
    }
  }
  return items;
}

Batch::Batch(std::string folder, std::vector<BatchItem> items, std::int64_t num_done)
    : folder_(std::move(folder)), items_(std::move(items)), num_done_(num_done) {}

bool Batch::exists(const std::string& output) {
  return fs::exists(batch_path(Journal::folder_of(output)));
}

Batch Batch::create(const std::string& output, std::vector<BatchItem> items) {
  const std::string folder = Journal::folder_of(output);
  make_journal_folder(folder);
  Batch batch(folder, std::move(items), 0);
  batch.save();
  return batch;
}

Batch Batch::open(const std::string& output) {
  const std::string folder = Journal::folder_of(output);
  const std::string path = batch_path(folder);
  const JsonContext context{
      .place = "pipeline.batch", .subject = path, .kind = ErrorKind::kBadData};
  const Json json = read_json_file(path, context);
  JsonReader reader(json, context);
  std::string format;
  std::int64_t done = 0;
  reader.required("format", format);
  reader.required("done", done);
  const Json* list = reader.find("items");
  if (format != kFormat || list == nullptr || !list->is_array()) {
    throw reader.error("config.value", "format", kFormat, format);
  }
  std::vector<BatchItem> items;
  for (const Json& entry : *list) {
    JsonReader item(entry, context);
    BatchItem& added = items.emplace_back();
    item.required("output", added.output);
    const Json* request = item.find("request");
    if (request == nullptr) {
      throw item.error("config.missing", "request", "an object", "nothing");
    }
    added.request = VideoRequest::from_json(*request, path);
  }
  if (done < 0 || done > static_cast<std::int64_t>(items.size())) {
    throw reader.error(
        "config.value", "done", fmt::format("0 to {}", items.size()), std::to_string(done));
  }
  return Batch(folder, std::move(items), done);
}

void Batch::save() const {
  OrderedJson list = OrderedJson::array();
  for (const BatchItem& item : items_) {
    list.push_back({{"output", item.output}, {"request", item.request.to_json()}});
  }
  const OrderedJson json = {{"format", kFormat}, {"done", num_done_}, {"items", list}};
  write_file(batch_path(folder_),
             json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

void Batch::advance() {
  ++num_done_;
  save();
}

void Batch::remove() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace kinema::pipeline
