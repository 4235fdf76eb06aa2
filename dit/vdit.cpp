// SPDX-License-Identifier: Apache-2.0
#include "dit/vdit.h"

#include <algorithm>
#include <filesystem>
#include <list>
#include <utility>
#include <vector>

#include <ATen/core/grad_mode.h>
#include <ATen/ops/equal.h>

#include "core/base/error.h"
#include "core/base/file.h"
#include "core/io/checkpoint.h"
#include "core/tensor/from_view.h"
#include "core/tensor/load_weights.h"
#include "core/tensor/shape_check.h"
#include "core/tensor/torch_error.h"
#include "dit/foreign_weights.h"
#include "dit/initialise.h"
#include "dit/modules/vdit_model.h"

namespace kinema::dit {
namespace {

constexpr const char* kPlace = "dit.vdit";

/// Memory and version of the parameters that prompt keys and values come from: in-place updates
/// raise the version, new values have new memory.
std::vector<std::pair<const void*, std::int64_t>> prompt_weights(const VDiTImpl& model) {
  std::vector<std::pair<const void*, std::int64_t>> state;
  const auto add = [&](const nn::Linear& layer) {
    for (const Tensor& tensor : {layer->weight, layer->bias}) {
      state.emplace_back(tensor.const_data_ptr(), tensor.is_inference() ? 0 : tensor._version());
    }
  };
  add(model.y_embedder->y_proj->fc1);
  add(model.y_embedder->y_proj->fc2);
  for (const Block& block : model.blocks()) {
    if (!block->cross_attn.is_empty()) {
      add(block->cross_attn->kv_linear);
    }
  }
  return state;
}

bool same_values(const Tensor& a, const Tensor& b) {
  if (!a.defined() || !b.defined()) {
    return a.defined() == b.defined();
  }
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() && a.device() == b.device() &&
         at::equal(a, b);
}

struct CachedPrompt {
  Tensor context_BMD;  ///< copies: callers may overwrite theirs
  Tensor mask_BM;
  PromptCache cache;
};

/// The rows of the null caption are a matter of the file, not of the config.
void take_caption_tokens(VDitConfig& config, const io::TensorViews& tensors) {
  const auto found = tensors.find("y_embedder.y_embedding");
  if (found != tensors.end() && found->second.shape.size() == 2) {
    config.caption_tokens = found->second.shape[0];
  }
}

void check_windows(const TemporalWindows& windows, const Tensor& latents_BCTHW) {
  std::int64_t covered = 0;
  for (const diffusion::Window& window : windows.windows) {
    covered = std::max(covered, window.end());
  }
  if (covered > 0 && (latents_BCTHW.dim() != 5 || latents_BCTHW.size(2) != covered)) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "dit.frames",
                 .place = kPlace,
                 .subject = "latent frames",
                 .expected = std::to_string(covered) + ", which the temporal windows cover",
                 .got = tensor::shape_text(latents_BCTHW)});
  }
}

void warn_unknown_keys(Logger& logger,
                       const std::string& path,
                       const std::vector<std::string>& keys) {
  std::string list;
  for (const std::string& key : keys) {
    list += (list.empty() ? "" : ",") + key;
  }
  if (!list.empty()) {
    logger.warning("unknown config keys path=" + path + " keys=" + list);
  }
}

}  // namespace

struct VideoDit::Impl {
  VDiT model{nullptr};
  VideoDitInfo info;
  DitExecution execution;
  TemporalWindows windows;
  std::list<CachedPrompt> prompts;  ///< newest first
  std::vector<std::pair<const void*, std::int64_t>> prompt_weights;

  PromptCache prompt_cache(const diffusion::Conditioning& conditioning);
};

/// The cached entry, or a new one. Returned by value: it only holds references to tensors.
PromptCache VideoDit::Impl::prompt_cache(const diffusion::Conditioning& conditioning) {
  auto weights = dit::prompt_weights(*model);
  if (weights != prompt_weights) {
    prompts.clear();
    prompt_weights = std::move(weights);
  }
  const auto found = std::find_if(prompts.begin(), prompts.end(), [&](const CachedPrompt& entry) {
    return same_values(entry.context_BMD, conditioning.context_BMD) &&
           same_values(entry.mask_BM, conditioning.context_mask_BM);
  });
  if (found != prompts.end()) {
    prompts.splice(prompts.begin(), prompts, found);
    return prompts.front().cache;
  }
  const auto limit = static_cast<std::size_t>(std::max<std::int64_t>(execution.cached_prompts, 0));
  while (!prompts.empty() && prompts.size() >= std::max<std::size_t>(limit, 1)) {
    prompts.pop_back();
  }
  PromptCache cache =
      model->make_prompt_cache(conditioning.context_BMD, conditioning.context_mask_BM);
  if (limit > 0) {
    const auto copy = [](const Tensor& tensor) {
      return tensor.defined() ? tensor.clone() : tensor;
    };
    prompts.push_front({copy(conditioning.context_BMD), copy(conditioning.context_mask_BM), cache});
  }
  return cache;
}

ModelFiles ModelFiles::in(const std::string& folder) {
  return {.config = (std::filesystem::path(folder) / "config.json").string(), .weights = folder};
}

VideoDit::VideoDit(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
VideoDit::~VideoDit() = default;

std::unique_ptr<VideoDit> VideoDit::load(const std::string& folder,
                                         const tensor::Place& place,
                                         Logger& logger,
                                         Purpose purpose) {
  return load(ModelFiles::in(folder), place, logger, purpose);
}

std::unique_ptr<VideoDit> VideoDit::load(const ModelFiles& files,
                                         const tensor::Place& place,
                                         Logger& logger,
                                         Purpose purpose) {
  const bool is_fixed = purpose == Purpose::kPredict;
  const Json json = read_json_file(files.config, {.place = "dit.config", .subject = files.config});
  std::vector<std::string> unknown_keys;
  VDitConfig config = VDitConfig::from_json(json, files.config, unknown_keys);
  warn_unknown_keys(logger, files.config, unknown_keys);
  return tensor::with_torch_errors(kPlace, [&] {
    const io::Checkpoint checkpoint = io::Checkpoint::open(files.weights);
    const io::TensorViews tensors = with_own_names(checkpoint.tensors);
    take_caption_tokens(config, tensors);
    config.validate(files.config);
    auto impl = std::make_unique<Impl>();
    impl->model = VDiT(config, nn::ParameterOptions{.dtype = place.dtype, .deferred = true});
    const tensor::LoadReport report = tensor::load_weights(*impl->model,
                                                           tensors,
                                                           {},
                                                           {.dtype = place.dtype,
                                                            .keep_narrow = is_fixed,
                                                            .zero_copy = is_fixed,
                                                            .device = place.device,
                                                            .place = kPlace,
                                                            .subject = checkpoint.path});
    // Angles are float32 whatever the dtype of the model.
    const auto frequencies = tensors.find("rope.freqs");
    for (const auto& buffer : impl->model->named_buffers()) {
      if (buffer.key() == "rope.freqs" && frequencies != tensors.end()) {
        Tensor target = buffer.value();
        target.set_data(
            tensor::tensor_from_view(frequencies->second).to(place.device, c10::kFloat));
      }
    }
    impl->info = {.num_parameters = report.num_elements,
                  .num_weight_bytes = report.num_bytes,
                  .place = place};
    return std::unique_ptr<VideoDit>(new VideoDit(std::move(impl)));
  });
}

std::unique_ptr<VideoDit> VideoDit::create(const VDitConfig& config,
                                           std::uint64_t seed,
                                           const tensor::Place& place) {
  config.validate("VDiT");
  return tensor::with_torch_errors(kPlace, [&] {
    auto impl = std::make_unique<Impl>();
    impl->model = VDiT(config, nn::ParameterOptions{.dtype = place.dtype, .device = place.device});
    init_weights(*impl->model, seed);
    impl->info.place = place;
    for (const Tensor& parameter : impl->model->parameters()) {
      impl->info.num_parameters += parameter.numel();
      impl->info.num_weight_bytes += static_cast<std::int64_t>(parameter.nbytes());
    }
    return std::unique_ptr<VideoDit>(new VideoDit(std::move(impl)));
  });
}

void VideoDit::save(const std::string& folder) const {
  std::error_code failure;
  std::filesystem::create_directories(folder, failure);
  if (failure) {
    throw system_error(ErrorKind::kOutput,
                       failure.value(),
                       {.code = "dit.save", .place = kPlace, .subject = folder});
  }
  const std::filesystem::path path = folder;
  write_file((path / "config.json").string(), config().to_json().dump(2) + "\n");
  TensorMap tensors;
  for (const auto& item : impl_->model->named_parameters()) {
    tensors.emplace(item.key(), item.value().detach());
  }
  for (const auto& item : impl_->model->named_buffers()) {
    tensors.emplace(item.key(), item.value());
  }
  tensor::save_tensors((path / "model.safetensors").string(), tensors);
}

Tensor VideoDit::predict(const Tensor& latents_BCTHW,
                         const Tensor& timesteps,
                         const diffusion::Conditioning& conditioning) {
  return tensor::with_torch_errors(kPlace, [&] {
    at::NoGradGuard no_grad;
    check_windows(impl_->windows, latents_BCTHW);
    const PromptCache cache = impl_->prompt_cache(conditioning);
    return impl_->model->run(
        latents_BCTHW.to(impl_->info.place.device),
        timesteps,
        conditioning,
        cache,
        {.frames = impl_->execution.frame_group, .positions = impl_->execution.position_group},
        &impl_->windows);
  });
}

diffusion::Conditioning VideoDit::unconditional(const diffusion::Conditioning& conditioning) const {
  return tensor::with_torch_errors(kPlace, [&] {
    at::NoGradGuard no_grad;
    tensor::check_shape(conditioning.context_BMD,
                        {tensor::kAny, tensor::kAny, tensor::kAny},
                        kPlace,
                        "context_BMD");
    diffusion::Conditioning result = conditioning;
    result.context_BMD =
        impl_->model
            ->null_context(conditioning.context_BMD.size(0), conditioning.context_BMD.size(1))
            .to(conditioning.context_BMD.options());
    return result;
  });
}

void VideoDit::set_temporal_windows(const std::vector<diffusion::Window>& windows) {
  if (windows.size() < 2) {
    impl_->windows = {};
    return;
  }
  if (!config().has_temporal_windows()) {
    throw Error(ErrorKind::kUnsupported,
                {.code = "dit.temporal_windows",
                 .place = kPlace,
                 .subject = "windows of temporal attention",
                 .expected = "layout stdit2 or stdit3 with one frame in a patch",
                 .got = std::string(to_string(config().layout))});
  }
  std::int64_t num_frames = 0;
  for (const diffusion::Window& window : windows) {
    num_frames = std::max(num_frames, window.end());
  }
  impl_->windows = {.windows = windows,
                    .weights = diffusion::normalised_weights(
                        windows, num_frames, diffusion::WindowWeights::kTriangular)};
}

void VideoDit::set_execution(const DitExecution& execution) {
  if (execution.frame_group < 0 || execution.position_group < 0 || execution.cached_prompts < 0) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "dit.execution",
                 .place = kPlace,
                 .subject = "execution",
                 .expected = "groups and counts from 0",
                 .got = "a negative number"});
  }
  impl_->execution = execution;
  if (execution.cached_prompts == 0) {
    impl_->prompts.clear();
  }
}

const DitExecution& VideoDit::execution() const noexcept {
  return impl_->execution;
}

void VideoDit::forget_prompts() {
  impl_->prompts.clear();
}

std::int64_t VideoDit::prompt_cache_bytes() const noexcept {
  std::int64_t bytes = 0;
  for (const CachedPrompt& prompt : impl_->prompts) {
    bytes += prompt.cache.num_bytes();
  }
  return bytes;
}

const VDitConfig& VideoDit::config() const noexcept {
  return impl_->model->config();
}

const VideoDitInfo& VideoDit::info() const noexcept {
  return impl_->info;
}

std::shared_ptr<VDiTImpl> VideoDit::module() const noexcept {
  return impl_->model.ptr();
}

}  // namespace kinema::dit
