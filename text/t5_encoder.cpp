// SPDX-License-Identifier: Apache-2.0
#include "text/t5_encoder.h"

#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/zeros.h>

#include "core/base/error.h"
#include "core/io/checkpoint.h"
#include "core/tensor/load_weights.h"
#include "core/tensor/torch_error.h"
#include "text/encoder_inputs.h"
#include "text/hf_config.h"
#include "text/modules/packed_rows.h"
#include "text/modules/t5.h"

namespace kinema::text {
namespace {

constexpr const char* kPlace = "text.t5";

/// Public checkpoints may hold the whole model and the embedding under two or three names.
tensor::KeyMap t5_keymap() {
  return {
      tensor::KeyMap::alias("encoder.embed_tokens.weight", "shared.weight"),
      tensor::KeyMap::ignore("decoder.*"),
      tensor::KeyMap::ignore("lm_head.*"),
  };
}

}  // namespace

struct T5Encoder::Impl {
  T5Config config;
  T5EncoderModel model{nullptr};
  TextEncoderInfo info;
};

T5Encoder::T5Encoder(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
T5Encoder::~T5Encoder() = default;

std::unique_ptr<T5Encoder> T5Encoder::load(const ModelFiles& files,
                                           const tensor::Place& place,
                                           Logger& logger) {
  if (place.dtype != c10::kFloat && place.dtype != c10::kBFloat16) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "text.fp16",
                 .place = kPlace,
                 .subject = "dtype of T5",
                 .expected = "fp32 or bf16",
                 .got = tensor::dtype_name(place.dtype),
                 .hint = "values inside T5 exceed the range of fp16"});
  }
  const HfConfig hf = HfConfig::read(files.config);
  auto impl = std::make_unique<Impl>();
  std::vector<std::string> unknown_keys;
  impl->config = T5Config::from_json(hf.json, hf.path, unknown_keys);
  warn_unknown_keys(logger, hf.path, unknown_keys);
  return tensor::with_torch_errors(kPlace, [&] {
    impl->model = T5EncoderModel(impl->config, nn::ParameterOptions{.deferred = true});
    const io::Checkpoint checkpoint = io::Checkpoint::open(files.weights);
    const tensor::LoadReport report = tensor::load_weights(*impl->model,
                                                           checkpoint,
                                                           t5_keymap(),
                                                           {.dtype = place.dtype,
                                                            .keep_narrow = true,
                                                            .zero_copy = true,
                                                            .device = place.device,
                                                            .place = kPlace});
    impl->info = {.family = impl->config.per_block_bias ? "umt5" : "t5",
                  .width = impl->config.d_model,
                  .vocab_size = impl->config.vocab_size,
                  .max_tokens = std::nullopt,
                  .num_layers = impl->config.num_layers,
                  .num_parameters = report.num_elements,
                  .num_weight_bytes = report.num_bytes,
                  .place = place};
    return std::unique_ptr<T5Encoder>(new T5Encoder(std::move(impl)));
  });
}

TextEncoding T5Encoder::encode(const Tensor& input_ids_BM,
                               const std::optional<Tensor>& attention_mask_BM) const {
  return tensor::with_torch_errors(kPlace, [&] {
    at::NoGradGuard no_grad;
    const tensor::Place& place = impl_->info.place;
    const Tensor ids_BM = checked_ids(input_ids_BM, impl_->config.vocab_size, std::nullopt, kPlace);
    const Tensor mask_BM = checked_mask(attention_mask_BM, ids_BM, kPlace);
    const PackedRows rows = mask_BM.defined() ? PackedRows::from_mask(mask_BM)
                                              : PackedRows::dense(ids_BM.size(0), ids_BM.size(1));
    TextEncoding text;
    if (rows.span() == 0) {  // no text at all
      const auto options = at::TensorOptions().dtype(place.dtype).device(place.device);
      text.context_BMD = at::zeros({rows.batch, rows.length, impl_->config.d_model}, options);
      return text;
    }
    const Tensor ids_T = rows.pack(ids_BM).to(place.device);
    const Tensor context_TD = impl_->model->forward(ids_T, rows, place.dtype);
    text.context_BMD = rows.unpack(context_TD.to(place.dtype));
    return text;
  });
}

const TextEncoderInfo& T5Encoder::info() const noexcept {
  return impl_->info;
}
const T5Config& T5Encoder::config() const noexcept {
  return impl_->config;
}

}  // namespace kinema::text
