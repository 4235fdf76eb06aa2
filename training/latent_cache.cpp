// SPDX-License-Identifier: Apache-2.0
#include "training/latent_cache.h"

#include <algorithm>
#include <filesystem>
#include <vector>

#include <ATen/ATen.h>

#include "core/base/error.h"
#include "core/io/safetensors.h"
#include "core/tensor/from_view.h"

namespace kinema::training {
namespace {

namespace fs = std::filesystem;

constexpr std::int64_t kShard = 512;
constexpr std::int64_t kEncodeBatch = 8;

std::map<std::string, std::string> metadata_of(const LatentCacheKey& key) {
  return {{"format", "kinema.latents/1"},
          {"vae", key.vae},
          {"source", key.source},
          {"first", std::to_string(key.first)},
          {"frames", std::to_string(key.frames)}};
}

/// Clips in a shard; 0 where there is none. Throws when it belongs to something else.
std::int64_t rows_of(const std::string& path, const LatentCacheKey& key) {
  if (!fs::exists(path)) {
    return 0;
  }
  const io::SafetensorsFile file = io::SafetensorsFile::open(path);
  for (const auto& [name, value] : metadata_of(key)) {
    const auto found = file.metadata().find(name);
    if (found == file.metadata().end() || found->second != value) {
      throw Error(ErrorKind::kInvalidArgument,
                  {.code = "train.cache",
                   .place = "train.cache",
                   .subject = path + ": " + name,
                   .expected = value,
                   .got = found == file.metadata().end() ? "nothing" : found->second,
                   .hint = "remove the folder of the cache, or name another one"});
    }
  }
  return file.tensors().at("mean").shape.at(0);
}

struct ClipRange {
  std::int64_t begin = 0;
  std::int64_t count = 0;
};

void encode_shard(const std::string& path,
                  const LatentCacheKey& key,
                  ClipRange range,
                  const ClipSource& source,
                  const vae::Autoencoder& vae,
                  ProgressObserver& progress) {
  std::vector<Tensor> means;
  std::vector<Tensor> deviations;
  for (std::int64_t done = 0; done < range.count; done += kEncodeBatch) {
    check_cancelled(progress, "train.cache");
    const std::int64_t count = std::min(kEncodeBatch, range.count - done);
    const Tensor pixels = batch_of(source, key.first + range.begin + done, count, key.frames);
    const vae::Posterior posterior = vae.encode(to_network_range(pixels), {.frames_per_step = 0});
    const Tensor mean = vae.to_model_space(posterior.mode());
    // A deviation scales as the latents do, without the shift.
    const Tensor deviation = vae.to_model_space(posterior.mode() + posterior.std()) - mean;
    means.push_back(mean.to(at::kHalf));
    deviations.push_back(deviation.to(at::kHalf));
    progress.on_step(range.begin + done + count, {});
  }
  tensor::save_tensors(
      path, {{"mean", at::cat(means)}, {"deviation", at::cat(deviations)}}, metadata_of(key));
}

}  // namespace

LatentCache LatentCache::open(const std::string& folder,
                              const LatentCacheKey& key,
                              const ClipSource& source,
                              const vae::Autoencoder& vae,
                              ProgressObserver& progress) {
  const at::NoGradGuard no_grad;
  fs::create_directories(folder);
  std::vector<Tensor> means;
  std::vector<Tensor> deviations;
  progress.on_stage("encode clips", key.count, "clip");
  for (std::int64_t begin = 0; begin < key.count; begin += kShard) {
    const std::string path = folder + "/latents-" + std::to_string(begin / kShard) + ".safetensors";
    const std::int64_t wanted = std::min(kShard, key.count - begin);
    if (rows_of(path, key) < wanted) {
      encode_shard(path, key, {begin, wanted}, source, vae, progress);
    }
    const TensorMap shard = tensor::load_tensors(path);
    means.push_back(shard.at("mean").narrow(0, 0, wanted));
    deviations.push_back(shard.at("deviation").narrow(0, 0, wanted));
    progress.on_step(begin + wanted, {});
  }
  progress.on_stage_end();
  LatentCache cache;
  cache.mean_NCTHW = at::cat(means);
  cache.deviation_NCTHW = at::cat(deviations);
  return cache;
}

Tensor LatentCache::sample(const Tensor& indices_B, const Tensor& noise_BCTHW) const {
  const Tensor mean = mean_NCTHW.index_select(0, indices_B).to(at::kFloat);
  const Tensor deviation = deviation_NCTHW.index_select(0, indices_B).to(at::kFloat);
  return mean + deviation * noise_BCTHW;
}

}  // namespace kinema::training
