// SPDX-License-Identifier: Apache-2.0
#include "pipeline/convert_model.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <map>
#include <span>
#include <string_view>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/diffusion/sampler.h"
#include "core/io/checkpoint.h"
#include "core/tensor/place.h"
#include "dit/foreign_weights.h"
#include "dit/vdit.h"
#include "pipeline/convert_weights.h"
#include "text/text_encoder.h"
#include "text/tokenizer/tokenizer.h"
#include "vae/autoencoder.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kPlace = "pipeline.convert";
constexpr std::array<std::string_view, 4> kNeeded = {
    "transformer", "vae", "text_encoder", "tokenizer"};
constexpr std::array<std::string_view, 5> kComponents = {
    "transformer", "vae", "text_encoder", "tokenizer", "scheduler"};
constexpr std::array<std::string_view, 5> kAutoencoderClasses = {"AutoencoderKL",
                                                                 "AutoencoderKLCogVideoX",
                                                                 "AutoencoderKLWan",
                                                                 "VidVAE",
                                                                 "VideoAutoencoderPipeline"};
constexpr std::array<std::string_view, 6> kTransformerClasses = {"VDiT",
                                                                 "STDiT2",
                                                                 "STDiT3",
                                                                 "PixArtTransformer2DModel",
                                                                 "Transformer2DModel",
                                                                 "LatteTransformer3DModel"};
constexpr std::array<std::string_view, 4> kPickles = {".bin", ".pt", ".pth", ".ckpt"};

template <std::size_t N>
bool contains(const std::array<std::string_view, N>& list, std::string_view word) {
  return std::ranges::find(list, word) != list.end();
}

Error convert_error(ErrorKind kind,
                    std::string code,
                    std::string subject,
                    std::string expected,
                    std::string got,
                    std::string hint = "") {
  return Error(kind,
               {.code = std::move(code),
                .place = kPlace,
                .subject = std::move(subject),
                .expected = std::move(expected),
                .got = std::move(got),
                .hint = std::move(hint)});
}

std::string read_text(const Json& json, const char* key) {
  const auto found = json.find(key);
  return found != json.end() && found->is_string() ? found->get<std::string>() : "";
}

/// What a config.json says it is.
std::string class_of(const Json& config) {
  std::string name = read_text(config, "_class_name");
  if (name.empty() && config.contains("architectures") && config["architectures"].is_array() &&
      !config["architectures"].empty() && config["architectures"][0].is_string()) {
    name = config["architectures"][0].get<std::string>();
  }
  return name.empty() ? read_text(config, "model_type") : name;
}

/// A name with every number as {} and its last word, if that is weight or bias, as *.
std::string pattern_of(const std::string& name) {
  std::string pattern;
  for (std::size_t i = 0; i < name.size(); ++i) {
    const bool digit = std::isdigit(static_cast<unsigned char>(name[i])) != 0;
    const bool starts = digit && (i == 0 || name[i - 1] == '.');
    std::size_t end = i;
    while (starts && end < name.size() &&
           std::isdigit(static_cast<unsigned char>(name[end])) != 0) {
      ++end;
    }
    if (starts && (end == name.size() || name[end] == '.')) {
      pattern += "{}";
      i = end - 1;
    } else {
      pattern += name[i];
    }
  }
  for (const std::string_view end : {".weight", ".bias"}) {
    if (pattern.ends_with(end)) {
      return pattern.substr(0, pattern.size() - end.size()) + ".*";
    }
  }
  return pattern;
}

/// The table of renamed patterns.
class RenameTable {
 public:
  void add(const std::string& from, const std::string& to) {
    if (from != to) {
      counts_[{pattern_of(from), pattern_of(to)}] += 1;
    }
  }
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> rows() const {
    std::vector<std::pair<std::string, std::string>> result;
    for (const auto& [names, count] : counts_) {
      result.emplace_back(fmt::format("{} ({})", names.first, count), names.second);
    }
    return result;
  }

 private:
  std::map<std::pair<std::string, std::string>, std::int64_t> counts_;
};

/// Files of a folder, by hard link where the file system can, else copied.
void take_file(const fs::path& from, const fs::path& to) {
  const fs::path real = fs::canonical(from);
  std::error_code failed;
  fs::create_hard_link(real, to, failed);
  if (!failed) {
    return;
  }
  fs::copy_file(real, to, failed);
  if (failed) {
    throw system_error(ErrorKind::kOutput,
                       failed.value(),
                       {.code = "output.write", .place = kPlace, .subject = to.string()});
  }
}

void take_folder(const std::string& from, const fs::path& to) {
  fs::create_directories(to);
  for (const auto& entry : fs::directory_iterator(from)) {
    const std::string name = entry.path().filename().string();
    const bool skipped = name.starts_with(".") || !entry.is_regular_file() ||
                         contains(kPickles, entry.path().extension().string());
    if (!skipped) {
      take_file(entry.path(), to / name);
    }
  }
}

std::uint64_t bytes_of(const fs::path& folder) {
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(folder)) {
    bytes += entry.is_regular_file() ? entry.file_size() : 0;
  }
  return bytes;
}

/// The output while it is made: a hidden folder beside it.
class Staging {
 public:
  explicit Staging(const std::string& output) : output_(fs::path(output).lexically_normal()) {
    if (!output_.has_filename()) {
      output_ = output_.parent_path();
    }
    std::error_code failed;
    if (fs::exists(output_) && (!fs::is_directory(output_) || !fs::is_empty(output_, failed))) {
      throw convert_error(ErrorKind::kOutput,
                          "output.not_empty",
                          output,
                          "a folder that is new or empty",
                          "one that is there");
    }
    part_ = part_path(output_.string());
    fs::remove_all(part_, failed);
    fs::create_directories(part_, failed);
    if (failed) {
      throw system_error(ErrorKind::kOutput,
                         failed.value(),
                         {.code = "output.unwritable",
                          .place = kPlace,
                          .subject = output,
                          .hint = "the folder above must exist and be writable"});
    }
  }
  ~Staging() {
    std::error_code ignored;
    fs::remove_all(part_, ignored);
  }
  Staging(const Staging&) = delete;
  Staging& operator=(const Staging&) = delete;

  [[nodiscard]] fs::path path() const { return part_; }

  void publish() {
    std::error_code failed;
    fs::remove(output_, failed);  // an empty one
    fs::rename(part_, output_, failed);
    if (failed) {
      throw system_error(ErrorKind::kOutput,
                         failed.value(),
                         {.code = "output.rename", .place = kPlace, .subject = output_.string()});
    }
  }

 private:
  fs::path output_;
  fs::path part_;
};

class Converter {
 public:
  Converter(const ConvertRequest& request, Logger& logger)
      : request_(request), logger_(logger), staging_(request.output) {}

  ConvertReport run() {
    take_source();
    take_named("vae", request_.vae);
    take_named("text_encoder", request_.text_encoder);
    take_named("tokenizer", request_.tokenizer);
    take_named("scheduler", request_.scheduler);
    if (!done("scheduler")) {
      write_known_scheduler();
    }
    write_index();
    staging_.publish();
    ConvertReport report;
    report.output = request_.output;
    report.components = std::move(components_);
    for (const std::string_view name : kNeeded) {
      const bool there = std::ranges::any_of(
          report.components, [&](const auto& component) { return component.name == name; });
      if (!there) {
        report.missing.emplace_back(name);
      }
    }
    return report;
  }

 private:
  [[nodiscard]] bool done(std::string_view name) const {
    return std::ranges::any_of(components_,
                               [&](const auto& component) { return component.name == name; });
  }

  /// Components named by options come from there.
  [[nodiscard]] bool wanted(std::string_view name) const {
    const bool elsewhere = (name == "vae" && !request_.vae.empty()) ||
                           (name == "text_encoder" && !request_.text_encoder.empty()) ||
                           (name == "tokenizer" && !request_.tokenizer.empty()) ||
                           (name == "scheduler" && !request_.scheduler.empty());
    return !elsewhere && (request_.only.empty() || request_.only == name);
  }

  void take_source() {
    const std::string& source = request_.source;
    if (!fs::exists(source)) {
      throw convert_error(ErrorKind::kIo,
                          "io.open",
                          source,
                          "a safetensors file or a folder of a model",
                          "nothing of that name");
    }
    if (!fs::is_directory(source)) {
      take_single_file(source);
    } else if (fs::exists(fs::path(source) / "model_index.json")) {
      take_pipeline(source);
    } else {
      take_component(source, "");
    }
  }

  void take_named(const std::string& name, const std::string& source) {
    if (source.empty()) {
      return;
    }
    const fs::path inside = fs::path(source) / name;
    if (!fs::is_directory(source)) {
      take_single_file(source);
    } else {
      take_component(fs::is_directory(inside) ? inside.string() : source, name);
    }
    if (!done(name)) {
      throw convert_error(
          ErrorKind::kBadCheckpoint, "convert.unknown", source, "a " + name, "another component");
    }
  }

  /// diffusers: the components that model_index.json names.
  void take_pipeline(const std::string& folder) {
    const std::string path = (fs::path(folder) / "model_index.json").string();
    const Json index = read_json_file(path, {.place = kPlace, .subject = path});
    std::string left_over;
    for (const auto& [name, value] : index.items()) {
      const bool names_class = value.is_array() && value.size() == 2 && value[1].is_string();
      if (name.starts_with("_") || !names_class || !wanted(name)) {
        continue;
      }
      if (contains(kComponents, name)) {
        take_component(confined_path(folder, name, kPlace), name);
      } else {
        left_over +=
            (left_over.empty() ? "" : ", ") + name + " (" + value[1].get<std::string>() + ")";
      }
    }
    if (!left_over.empty()) {
      throw convert_error(ErrorKind::kBadCheckpoint,
                          "convert.left_over",
                          folder,
                          "components that kinema runs",
                          left_over,
                          "--only NAME takes one component alone");
    }
  }

  /// @param name  of the component; empty: as its files say.
  void take_component(const std::string& folder, std::string name) {
    const fs::path config_path = fs::path(folder) / "config.json";
    if (name == "tokenizer" || name == "scheduler") {
      name == "tokenizer" ? take_tokenizer(folder) : take_scheduler(folder);
      return;
    }
    if (!fs::exists(config_path)) {
      throw convert_error(ErrorKind::kBadCheckpoint,
                          "convert.unknown",
                          folder,
                          "config.json and safetensors of one component, or model_index.json",
                          "a folder without config.json");
    }
    const Json config =
        read_json_file(config_path.string(), {.place = kPlace, .subject = config_path.string()});
    const std::string kind = class_of(config);
    if (contains(kTransformerClasses, kind)) {
      take_transformer(dit::ModelFiles::in(folder), folder, kind);
    } else if (contains(kAutoencoderClasses, kind) || config.contains("hidden_size_mult")) {
      take_autoencoder(folder, kind);
    } else if (kind.starts_with("T5") || kind.starts_with("UMT5") || kind.starts_with("CLIP") ||
               kind == "t5" || kind == "umt5") {
      take_text_encoder(folder, kind);
    } else {
      throw convert_error(ErrorKind::kBadCheckpoint,
                          "convert.unknown",
                          config_path.string(),
                          "a transformer (STDiT2, STDiT3, PixArt, Latte), an autoencoder or a T5, "
                          "UMT5 or CLIP text encoder",
                          kind.empty() ? "no class" : "'" + kind + "'");
    }
  }

  void take_single_file(const std::string& file) {
    const io::Checkpoint checkpoint = io::Checkpoint::open(file);
    switch (kind_of_file(checkpoint.tensors)) {
      case SingleFile::kImageAutoencoder:
        take_autoencoder_file(checkpoint);
        return;
      case SingleFile::kPixart:
        take_pixart_file(checkpoint);
        return;
      case SingleFile::kUnknown:
        break;
    }
    throw convert_error(
        ErrorKind::kBadCheckpoint,
        "convert.unknown",
        file,
        "an image autoencoder (CompVis or diffusers names) or a PixArt transformer",
        fmt::format("{} tensors, the first '{}'",
                    checkpoint.tensors.size(),
                    checkpoint.tensors.empty() ? "" : checkpoint.tensors.begin()->first),
        "a file without a config is known by its names; give the folder of the "
        "model where there is one");
  }

  void take_transformer(const dit::ModelFiles& files, const std::string& source, std::string kind) {
    const io::Checkpoint checkpoint = io::Checkpoint::open(files.weights);
    const auto model = dit::VideoDit::load(files, tensor::Place{}, logger_);
    ConvertedComponent& component = add("transformer", "VDiT (" + kind + ")", source, "converted");
    const fs::path to = staging_.path() / "transformer";
    model->save(to.string());
    const auto written = io::SafetensorsFile::open((to / "model.safetensors").string());
    component.parameters = model->info().num_parameters;
    component.tensors_read = std::ssize(checkpoint.tensors);
    component.tensors_written = std::ssize(written.tensors());
    const tensor::KeyMap names = dit::own_names(checkpoint.tensors);
    RenameTable table;
    for (const auto& [name, view] : checkpoint.tensors) {
      const std::string own = own_name(names.map(name), written.tensors());
      if (own.empty()) {
        component.left_out.push_back(name);
      } else {
        table.add(name, own);
      }
    }
    component.renamed = table.rows();
    component.bytes = bytes_of(to);
    transformer_kind_ = kind;
  }

  /// The name that a tensor has in the output: its own, or that of the projections it is part of.
  static std::string own_name(const tensor::KeyMap::Mapped& mapped,
                              const io::TensorViews& written) {
    if (mapped.action == tensor::KeyMap::Action::kIgnore) {
      return "";
    }
    if (written.contains(mapped.name)) {
      return mapped.name;
    }
    for (const std::string_view part : {".to_q.", ".to_k.", ".to_v."}) {
      for (const std::string_view whole : {".qkv.", ".kv_linear."}) {
        const std::size_t at = mapped.name.find(part);
        if (at != std::string::npos) {
          std::string name = mapped.name;
          name.replace(at, part.size(), whole);
          if (written.contains(name)) {
            return name;
          }
        }
      }
    }
    return "";
  }

  void take_pixart_file(const io::Checkpoint& checkpoint) {
    const fs::path config = staging_.path() / "pixart.json";
    write_file(config.string(),
               pixart_config(checkpoint.tensors, request_.image_size, checkpoint.path).dump(2));
    take_transformer({config.string(), checkpoint.path}, checkpoint.path, "PixArt");
    fs::remove(config);
  }

  void take_autoencoder_file(const io::Checkpoint& checkpoint) {
    const ImageAutoencoderFile file =
        image_autoencoder_in(checkpoint.tensors, request_.scaling_factor, checkpoint.path);
    refuse_left_over(checkpoint, file.prefix);
    ConvertedComponent& component = add("vae", "AutoencoderKL", checkpoint.path, "converted");
    const fs::path to = staging_.path() / "vae";
    fs::create_directories(to);
    write_file((to / "config.json").string(), file.config.dump(2) + "\n");
    std::vector<io::TensorToWrite> tensors;
    for (const auto& [name, view] : file.tensors) {
      tensors.push_back({name, view.dtype, view.shape, view.bytes});
    }
    io::write_safetensors(
        (to / "diffusion_pytorch_model.safetensors").string(), tensors, {{"format", "pt"}});
    component.parameters =
        vae::Autoencoder::load(to.string(), tensor::Place{}, logger_)->info().num_parameters;
    component.tensors_written = std::ssize(file.tensors);
    RenameTable table;
    for (const auto& [name, view] : checkpoint.tensors) {
      if (!name.starts_with(file.prefix)) {
        continue;
      }
      ++component.tensors_read;
      const auto mapped = file.names.map(name.substr(file.prefix.size()));
      if (mapped.action == tensor::KeyMap::Action::kIgnore) {
        component.left_out.push_back(name);
      } else {
        table.add(name, mapped.name);
      }
    }
    component.renamed = table.rows();
    component.bytes = bytes_of(to);
  }

  /// Tensors of other components in the file, unless only one was asked for.
  void refuse_left_over(const io::Checkpoint& checkpoint, const std::string& prefix) const {
    std::map<std::string, std::int64_t> groups;
    for (const auto& [name, view] : checkpoint.tensors) {
      if (!name.starts_with(prefix)) {
        groups[name.substr(0, name.find('.')) + ".*"] += 1;
      }
    }
    if (groups.empty() || request_.only == "vae" || !request_.vae.empty()) {
      return;
    }
    std::string got;
    for (const auto& [group, count] : groups) {
      got += fmt::format("{}{} ({} tensors)", got.empty() ? "" : ", ", group, count);
    }
    throw convert_error(ErrorKind::kBadCheckpoint,
                        "convert.left_over",
                        checkpoint.path,
                        "nothing beside the autoencoder",
                        got,
                        "--only vae takes the autoencoder alone");
  }

  void take_autoencoder(const std::string& folder, const std::string& kind) {
    const auto vae = vae::Autoencoder::load(folder, tensor::Place{}, logger_);
    take_as_it_is(
        "vae", kind.empty() ? vae->info().family : kind, folder, vae->info().num_parameters);
  }

  void take_text_encoder(const std::string& folder, const std::string& kind) {
    const auto encoder = text::TextEncoder::load(folder, tensor::Place{}, logger_);
    take_as_it_is("text_encoder", kind, folder, encoder->info().num_parameters);
  }

  void take_as_it_is(const std::string& name,
                     const std::string& kind,
                     const std::string& folder,
                     std::int64_t parameters) {
    ConvertedComponent& component = add(name, kind, folder, "as it is");
    take_folder(folder, staging_.path() / name);
    component.parameters = parameters;
    component.tensors_read = std::ssize(io::Checkpoint::open(folder).tensors);
    component.tensors_written = component.tensors_read;
    component.bytes = bytes_of(staging_.path() / name);
  }

  void take_tokenizer(const std::string& folder) {
    static_cast<void>(text::Tokenizer::load(folder));
    ConvertedComponent& component = add("tokenizer", "Tokenizer", folder, "as it is");
    take_folder(folder, staging_.path() / "tokenizer");
    component.bytes = bytes_of(staging_.path() / "tokenizer");
  }

  void take_scheduler(const std::string& folder) {
    const std::string path = (fs::path(folder) / "scheduler_config.json").string();
    const Json config = diffusion::read_scheduler_config(path);
    static_cast<void>(diffusion::make_sampler(config));
    ConvertedComponent& component =
        add("scheduler", read_text(config, "_class_name"), folder, "as it is");
    take_folder(folder, staging_.path() / "scheduler");
    component.bytes = bytes_of(staging_.path() / "scheduler");
  }

  /// Open-Sora's repositories hold no scheduler: their programs fix it.
  void write_known_scheduler() {
    Json config;
    if (transformer_kind_ == "STDiT3") {
      config = diffusion::make_sampler(diffusion::SamplerKind::kRflow)->config_json();
      config["use_timestep_transform"] = true;
    } else if (transformer_kind_ == "STDiT2") {
      config = diffusion::make_sampler(diffusion::SamplerKind::kIddpm)->config_json();
    } else {
      return;
    }
    const fs::path to = staging_.path() / "scheduler";
    fs::create_directories(to);
    write_file((to / "scheduler_config.json").string(), config.dump(2) + "\n");
    add("scheduler", read_text(config, "_class_name"), "Open-Sora's own settings", "written")
        .bytes = bytes_of(to);
  }

  void write_index() {
    if (components_.empty()) {
      throw convert_error(ErrorKind::kBadCheckpoint,
                          "convert.unknown",
                          request_.source,
                          request_.only.empty() ? "components that kinema runs"
                                                : "the component '" + request_.only + "'",
                          "none");
    }
    OrderedJson index = {{"_class_name", "KinemaTextToVideo"}};
    for (const auto& component : components_) {
      index[component.name] = {"kinema", component.kind};
    }
    write_file((staging_.path() / "model_index.json").string(), index.dump(2) + "\n");
  }

  ConvertedComponent& add(std::string name,
                          std::string kind,
                          std::string source,
                          std::string action) {
    if (done(name)) {
      throw convert_error(ErrorKind::kInvalidArgument,
                          "convert.option",
                          source,
                          "one " + name,
                          "two: the source has one already");
    }
    components_.push_back({.name = std::move(name),
                           .kind = std::move(kind),
                           .source = std::move(source),
                           .action = std::move(action)});
    return components_.back();
  }

  const ConvertRequest& request_;
  Logger& logger_;
  Staging staging_;
  std::vector<ConvertedComponent> components_;
  std::string transformer_kind_;
};

}  // namespace

ConvertReport convert_model(const ConvertRequest& request, Logger& logger) {
  if (!request.only.empty() && !contains(kComponents, request.only)) {
    throw convert_error(ErrorKind::kInvalidArgument,
                        "convert.option",
                        "--only",
                        "transformer, vae, text_encoder, tokenizer or scheduler",
                        "'" + request.only + "'");
  }
  return Converter(request, logger).run();
}

}  // namespace kinema::pipeline
