// SPDX-License-Identifier: Apache-2.0
#include "text/text_encoder.h"

#include <filesystem>

#include "core/base/error.h"
#include "text/clip_text_model.h"
#include "text/hf_config.h"
#include "text/t5_encoder.h"

namespace kinema::text {

ModelFiles ModelFiles::in(const std::string& folder) {
  return {.config = (std::filesystem::path(folder) / "config.json").string(), .weights = folder};
}

std::unique_ptr<TextEncoder> TextEncoder::load(const std::string& folder,
                                               const tensor::Place& place,
                                               Logger& logger) {
  return load(ModelFiles::in(folder), place, logger);
}

std::unique_ptr<TextEncoder> TextEncoder::load(const ModelFiles& files,
                                               const tensor::Place& place,
                                               Logger& logger) {
  const HfConfig hf = HfConfig::read(files.config);
  std::string family = hf.model_type;
  if (family.empty() && !hf.architectures.empty()) {
    const std::string& architecture = hf.architectures.front();
    family = architecture.starts_with("UMT5")       ? "umt5"
             : architecture.starts_with("T5")       ? "t5"
             : architecture.starts_with("CLIPText") ? "clip_text_model"
             : architecture.starts_with("CLIP")     ? "clip"
                                                    : architecture;
  }
  if (family == "t5" || family == "umt5") {
    return T5Encoder::load(files, place, logger);
  }
  if (family == "clip_text_model" || family == "clip") {
    return ClipTextModel::load(files, place, logger);
  }
  throw Error(ErrorKind::kBadCheckpoint,
              {.code = "text.model_type",
               .place = "text.config",
               .subject = hf.path,
               .expected = "model_type t5, umt5, clip_text_model or clip",
               .got = family.empty() ? "none" : "'" + family + "'"});
}

Tensor mean_of_tokens(const Tensor& context_BMD, const Tensor& mask_BM) {
  const Tensor weight_BM1 = mask_BM.to(context_BMD.options()).unsqueeze(2);
  return (context_BMD * weight_BM1).sum(1) / weight_BM1.sum(1).clamp_min(1);
}

}  // namespace kinema::text
