// SPDX-License-Identifier: Apache-2.0
// Which architecture a model folder holds, by the class name in its config.json.
#include <string>

#include <fmt/format.h>

#include "core/base/error.h"
#include "core/base/json.h"
#include "core/tensor/torch_error.h"
#include "vae/autoencoder.h"
#include "vae/codec.h"

namespace kinema::vae {
namespace {

constexpr const char* kKnownClasses =
    "AutoencoderKL, VidVAE, CausalVAEModel, AutoencoderKLCogVideoX, AutoencoderKLWan or "
    "VideoAutoencoderPipeline";

/// "_class_name" of diffusers, "model_type" of transformers; older files name no class and are
/// known by their keys.
std::string class_of(const Json& config) {
  for (const char* key : {"_class_name", "model_type"}) {
    const auto found = config.find(key);
    if (found != config.end() && found->is_string()) {
      return found->get<std::string>();
    }
  }
  if (config.contains("hidden_size_mult") && config.contains("encoder_resnet_blocks")) {
    return "CausalVAEModel";
  }
  if (config.contains("mult") && config.contains("time_up")) {
    return "VidVAE";
  }
  return "";
}

}  // namespace

std::unique_ptr<Codec> load_codec(const CodecSource& source, Logger& logger) {
  const std::string name = class_of(source.config);
  if (name == "AutoencoderKL") {
    return load_sd_vae(source, logger);
  }
  if (name == "VidVAE" || name == "CausalVAEModel") {
    return load_vid_vae(source, logger);
  }
  if (name == "AutoencoderKLCogVideoX") {
    return load_cogvideox_vae(source, logger);
  }
  if (name == "AutoencoderKLWan") {
    return load_wan_vae(source, logger);
  }
  if (name == "VideoAutoencoderPipeline") {
    return load_open_sora_vae(source, logger);
  }
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "vae.class",
               .place = "vae.load",
               .subject = source.folder + "/config.json",
               .expected = std::string("an autoencoder of class ") + kKnownClasses,
               .got = name.empty() ? "no class name" : name});
}

std::unique_ptr<Autoencoder> Autoencoder::load(const std::string& folder,
                                               const tensor::Place& place,
                                               Logger& logger) {
  return load(ModelFiles{folder + "/config.json", folder}, place, logger);
}

std::unique_ptr<Autoencoder> Autoencoder::load(const ModelFiles& files,
                                               const tensor::Place& place,
                                               Logger& logger) {
  CodecSource source = {
      files.weights,
      read_json_file(files.config, {.place = "vae.config", .subject = files.config}),
      place};
  if (!source.config.is_object()) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "vae.config",
                 .place = "vae.load",
                 .subject = files.config,
                 .expected = "a JSON object",
                 .got = source.config.type_name()});
  }
  return tensor::with_torch_errors("vae.load", [&] {
    auto vae = std::make_unique<Autoencoder>(load_codec(source, logger));
    const AutoencoderInfo& info = vae->info();
    logger.info(fmt::format("loaded autoencoder path={} family={} parameters={} time={} place={}",
                            files.weights,
                            info.family,
                            info.num_parameters,
                            to_string(info.time_mode),
                            tensor::to_string(info.place)));
    return vae;
  });
}

}  // namespace kinema::vae
