// SPDX-License-Identifier: Apache-2.0
#include "pipeline/journal.h"

#include <filesystem>
#include <utility>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/safetensors.h"
#include "core/tensor/from_view.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "kinema-journal-1";

std::string request_path(const std::string& folder) {
  return folder + "/request.json";
}
std::string state_path(const std::string& folder) {
  return folder + "/state.safetensors";
}

std::string given_path(const std::string& folder) {
  return folder + "/given.safetensors";
}
std::string frame_path(const std::string& folder, std::int64_t index) {
  return folder + fmt::format("/frame-{:06}.safetensors", index);
}

/// Tensor `name` of a file of this journal, in memory of its own.
Tensor stored(const io::SafetensorsFile& file, const std::string& path, const std::string& name) {
  const auto found = file.tensors().find(name);
  if (found == file.tensors().end()) {
    throw Error(ErrorKind::kBadData,
                {.code = "journal.damaged",
                 .place = "pipeline.journal",
                 .subject = path,
                 .expected = "the tensor " + name,
                 .got = "none"});
  }
  return tensor::tensor_from_view(found->second).clone();
}

}  // namespace

void make_journal_folder(const std::string& folder) {
  std::error_code failed;
  fs::remove_all(folder, failed);
  fs::create_directories(folder, failed);
  if (failed) {
    throw Error(ErrorKind::kOutput,
                {.code = "output.unwritable",
                 .place = "pipeline.journal",
                 .subject = folder,
                 .expected = "a folder that can be made",
                 .got = failed.message()});
  }
}

Journal::Journal(std::string folder, VideoRequest request)
    : folder_(std::move(folder)), request_(std::move(request)) {}

std::string Journal::folder_of(const std::string& output) {
  const fs::path path(output);
  return (path.parent_path() / ("." + path.filename().string() + ".kinema")).string();
}

bool Journal::exists(const std::string& output) {
  return fs::exists(request_path(folder_of(output)));
}

Journal Journal::create(const std::string& output, const VideoRequest& request) {
  const std::string folder = folder_of(output);
  make_journal_folder(folder);
  const OrderedJson json = {{"format", kFormat}, {"request", request.to_json()}};
  write_file(request_path(folder),
             json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
  return Journal(folder, request);
}

Journal Journal::open(const std::string& output) {
  const std::string folder = folder_of(output);
  const std::string path = request_path(folder);
  if (!fs::exists(path)) {
    throw Error(ErrorKind::kIo,
                {.code = "journal.none",
                 .place = "pipeline.journal",
                 .subject = output,
                 .expected = "an unfinished run of this output",
                 .got = fs::exists(output) ? "a finished one" : "none"});
  }
  const JsonContext context{
      .place = "pipeline.journal", .subject = path, .kind = ErrorKind::kBadData};
  const Json json = read_json_file(path, context);
  JsonReader reader(json, context);
  std::string format;
  reader.required("format", format);
  const Json* request = reader.find("request");
  if (format != kFormat || request == nullptr) {
    throw reader.error("config.value", "format", kFormat, format);
  }
  return Journal(folder, VideoRequest::from_json(*request, path));
}

std::optional<Journal::State> Journal::load() const {
  const std::string path = state_path(folder_);
  if (!fs::exists(path)) {
    return std::nullopt;
  }
  const auto file = io::SafetensorsFile::open(path);
  const auto text = file.metadata().find("state");
  const JsonContext context{
      .place = "pipeline.journal", .subject = path, .kind = ErrorKind::kBadData};
  const Json json = parse_json(text == file.metadata().end() ? "" : text->second, context);
  JsonReader reader(json, context);
  State state;
  reader.required("steps_done", state.steps_done);
  const Json* sampler = reader.find("sampler");
  diffusion::SamplerState sampler_state;
  if (sampler == nullptr || !file.tensors().contains("latents_BCTHW")) {
    throw reader.error("config.missing", "sampler", "the sampler and the latents", "not both");
  }
  sampler_state.json = *sampler;
  for (const auto& [name, view] : file.tensors()) {
    const Tensor tensor = tensor::tensor_from_view(view).clone();
    if (name == "latents_BCTHW") {
      state.latents_BCTHW = tensor;
    } else if (name == "guidance_running") {
      state.guidance_running = tensor;
    } else {
      sampler_state.tensors.emplace(name, tensor);
    }
  }
  state.sampler = diffusion::load_sampler(sampler_state);
  return state;
}

void Journal::save(std::int64_t steps_done,
                   const Tensor& latents_BCTHW,
                   const diffusion::Sampler& sampler,
                   const Tensor& guidance_running) const {
  diffusion::SamplerState state = sampler.save_state();
  TensorMap tensors = std::move(state.tensors);
  tensors.emplace("latents_BCTHW", latents_BCTHW);
  if (guidance_running.defined()) {
    tensors.emplace("guidance_running", guidance_running);
  }
  const Json json = {{"steps_done", steps_done}, {"sampler", state.json}};
  tensor::save_tensors(state_path(folder_), tensors, {{"state", json.dump()}});
}

void Journal::save_frame(std::int64_t index, const Tensor& latents_BC1HW) const {
  tensor::save_tensors(frame_path(folder_, index), {{"latents_BCTHW", latents_BC1HW}});
}

std::vector<Tensor> Journal::load_frames(std::int64_t count) const {
  std::vector<Tensor> frames;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::string path = frame_path(folder_, i);
    frames.push_back(stored(io::SafetensorsFile::open(path), path, "latents_BCTHW"));
  }
  return frames;
}

void Journal::save_given(const Tensor& given_BCTHW, const Tensor& mask_BT) const {
  tensor::save_tensors(given_path(folder_), {{"latents_BCTHW", given_BCTHW}, {"mask_BT", mask_BT}});
}

std::optional<Journal::Given> Journal::load_given() const {
  const std::string path = given_path(folder_);
  if (!fs::exists(path)) {
    return std::nullopt;
  }
  const auto file = io::SafetensorsFile::open(path);
  return Given{.latents_BCTHW = stored(file, path, "latents_BCTHW"),
               .mask_BT = stored(file, path, "mask_BT")};
}

void Journal::remove() const {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
}

}  // namespace kinema::pipeline
