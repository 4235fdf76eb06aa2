// SPDX-License-Identifier: Apache-2.0
#include "text/clip_text_model.h"

#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/arange.h>

#include "core/io/checkpoint.h"
#include "core/tensor/load_weights.h"
#include "core/tensor/torch_error.h"
#include "text/encoder_inputs.h"
#include "text/modules/clip_text.h"

namespace kinema::text {
namespace {

constexpr const char* kPlace = "text.clip";

/// Whole models hold the image side too; position_ids are 0, 1, 2 ...; the newest writer of such
/// files leaves the prefix away.
tensor::KeyMap clip_keymap(bool has_projection) {
  using tensor::KeyMap;
  KeyMap keymap = {KeyMap::ignore("text_model.embeddings.position_ids"),
                   KeyMap::ignore("embeddings.position_ids"),
                   KeyMap::ignore("vision_model.*"),
                   KeyMap::ignore("visual_projection.*"),
                   KeyMap::ignore("logit_scale"),
                   KeyMap::rename("embeddings.*", "text_model.embeddings.*"),
                   KeyMap::rename("encoder.*", "text_model.encoder.*"),
                   KeyMap::rename("final_layer_norm.*", "text_model.final_layer_norm.*")};
  if (!has_projection) {
    keymap.add(KeyMap::ignore("text_projection.*"));
  }
  return keymap;
}

}  // namespace

struct ClipTextModel::Impl {
  ClipTextConfig config;
  ClipTextRoot model{nullptr};
  TextEncoderInfo info;
};

ClipTextModel::ClipTextModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ClipTextModel::~ClipTextModel() = default;

std::unique_ptr<ClipTextModel> ClipTextModel::load(const ModelFiles& files,
                                                   const tensor::Place& place,
                                                   Logger& logger) {
  const HfConfig hf = HfConfig::read(files.config);
  auto impl = std::make_unique<Impl>();
  std::vector<std::string> unknown_keys;
  impl->config = ClipTextConfig::from_hf(hf, unknown_keys);
  warn_unknown_keys(logger, hf.path, unknown_keys);
  return tensor::with_torch_errors(kPlace, [&] {
    impl->model = ClipTextRoot(impl->config, nn::ParameterOptions{.deferred = true});
    const io::Checkpoint checkpoint = io::Checkpoint::open(files.weights);
    const tensor::LoadReport report = tensor::load_weights(*impl->model,
                                                           checkpoint,
                                                           clip_keymap(impl->config.has_projection),
                                                           {.dtype = place.dtype,
                                                            .keep_narrow = true,
                                                            .zero_copy = true,
                                                            .device = place.device,
                                                            .place = kPlace});
    impl->info = {.family = "clip_text_model",
                  .width = impl->config.hidden_size,
                  .vocab_size = impl->config.vocab_size,
                  .max_tokens = impl->config.max_position_embeddings,
                  .num_layers = impl->config.num_hidden_layers,
                  .num_parameters = report.num_elements,
                  .num_weight_bytes = report.num_bytes,
                  .place = place};
    return std::unique_ptr<ClipTextModel>(new ClipTextModel(std::move(impl)));
  });
}

TextEncoding ClipTextModel::encode(const Tensor& input_ids_BM,
                                   const std::optional<Tensor>& attention_mask_BM) const {
  return tensor::with_torch_errors(kPlace, [&] {
    at::NoGradGuard no_grad;
    const tensor::Place& place = impl_->info.place;
    Tensor ids_BM = checked_ids(
        input_ids_BM, impl_->config.vocab_size, impl_->config.max_position_embeddings, kPlace);
    Tensor mask_BM = checked_mask(attention_mask_BM, ids_BM, kPlace);
    ids_BM = ids_BM.to(place.device);
    mask_BM = mask_BM.defined() ? mask_BM.to(place.device) : mask_BM;
    const auto hidden = impl_->model->text_model->forward(ids_BM, mask_BM, place.dtype);
    const Tensor row_B = at::arange(ids_BM.size(0), ids_BM.options());
    const Tensor position_B = clip_pooled_position(ids_BM, impl_->config.eos_token_id);
    TextEncoding text;
    text.context_BMD = hidden.last_BMD.to(place.dtype);
    text.penultimate_BMD = hidden.penultimate_BMD.to(place.dtype);
    text.pooled_BD = text.context_BMD.index({row_B, position_B});
    if (impl_->config.has_projection) {
      text.projected_BP = impl_->model->text_projection->forward(*text.pooled_BD);
    }
    return text;
  });
}

const TextEncoderInfo& ClipTextModel::info() const noexcept {
  return impl_->info;
}
const ClipTextConfig& ClipTextModel::config() const noexcept {
  return impl_->config;
}

}  // namespace kinema::text
