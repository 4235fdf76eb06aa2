// SPDX-License-Identifier: Apache-2.0
#include "pipeline/latent_file.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <span>
#include <sys/stat.h>
#include <utility>

#include <ATen/ATen.h>
#include <fcntl.h>
#include <unistd.h>

#include "core/base/error.h"
#include "core/base/sha256.h"
#include "core/base/version.h"
#include "core/tensor/from_view.h"

namespace kinema::pipeline {
namespace {

namespace fs = std::filesystem;

constexpr const char* kFormat = "kinema-latents-1";
constexpr const char* kPlace = "pipeline.latents";
constexpr const char* kMean = "mean_BCTHW";
constexpr const char* kLogvar = "logvar_BCTHW";

std::string text_of(const OrderedJson& json) {
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

}  // namespace

SourceStamp SourceStamp::of(const std::string& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) {
    throw system_error(
        ErrorKind::kIo, errno, {.code = "io.open", .place = kPlace, .subject = path});
  }
  constexpr std::int64_t kNanoseconds = 1'000'000'000;
  return {path,
          static_cast<std::int64_t>(status.st_size),
          static_cast<std::int64_t>(status.st_mtim.tv_sec) * kNanoseconds + status.st_mtim.tv_nsec};
}

std::string LatentFacts::to_text() const {
  OrderedJson json = {
      {"format", kFormat},
      {"version", version()},
      {"source", {{"path", source.path}, {"bytes", source.bytes}, {"modified", source.modified}}},
      {"frames", frames},
      {"dropped_frames", dropped_frames},
      {"width", width},
      {"height", height},
      {"fps", {fps.num, fps.den}},
      {"settings", settings},
      {"autoencoder", autoencoder},
      {"caption", caption},
      {"extra", extra},
      {"damage", damage}};
  return text_of(json);
}

LatentFacts LatentFacts::from_text(const std::string& text, const std::string& subject) {
  const JsonContext context{.place = kPlace, .subject = subject, .kind = ErrorKind::kBadData};
  const Json json = parse_json(text, context);
  JsonReader reader(json, context);
  std::string format;
  reader.optional("format", format);
  if (format != kFormat) {
    throw Error(ErrorKind::kBadData,
                {.code = "latents.format",
                 .place = kPlace,
                 .subject = subject,
                 .expected = std::string("latents of the format ") + kFormat,
                 .got = format.empty() ? "no format" : "'" + format + "'"});
  }
  reader.ignore({"version"});
  LatentFacts facts;
  const auto object = [&](const char* key) -> const Json& {
    const Json* found = reader.find(key);
    if (found == nullptr || !found->is_object()) {
      throw reader.error("config.type", key, "an object", "something else");
    }
    return *found;
  };
  JsonReader source(object("source"), context, "source");
  source.required("path", facts.source.path);
  source.required("bytes", facts.source.bytes);
  source.required("modified", facts.source.modified);
  reader.required("frames", facts.frames);
  reader.required("dropped_frames", facts.dropped_frames);
  reader.required("width", facts.width);
  reader.required("height", facts.height);
  std::array<std::int64_t, 2> fps{};
  reader.required("fps", fps);
  facts.fps = {fps[0], fps[1]};
  facts.settings = object("settings");
  facts.autoencoder = object("autoencoder");
  reader.required("caption", facts.caption);
  facts.extra = object("extra");
  reader.required("damage", facts.damage);
  if (facts.frames < 1 || facts.width < 1 || facts.height < 1 || !facts.fps.positive()) {
    throw reader.error("config.range", "frames", "positive sizes and rates", "others");
  }
  return facts;
}

/// A file without a name; it vanishes with the process.
class LatentFileWriter::Spool {
 public:
  explicit Spool(const std::string& beside) : subject_(beside) {
    const std::string parent = fs::path(beside).parent_path().string();
    const std::string folder = parent.empty() ? "." : parent;
    descriptor_ = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (descriptor_ < 0) {
      // Not every file system knows nameless files.
      std::string name = folder + "/.kinema-XXXXXX";
      descriptor_ = ::mkstemp(name.data());
      if (descriptor_ >= 0) {
        ::unlink(name.c_str());
      }
    }
    if (descriptor_ < 0) {
      throw system_error(ErrorKind::kOutput,
                         errno,
                         {.code = "output.unwritable",
                          .place = kPlace,
                          .subject = beside,
                          .hint = "the folder must exist and be writable"});
    }
  }
  ~Spool() { ::close(descriptor_); }
  Spool(const Spool&) = delete;
  Spool& operator=(const Spool&) = delete;

  void append(const void* data, std::size_t size) {
    const auto* bytes = static_cast<const std::byte*>(data);
    while (size > 0) {
      const ssize_t n = ::write(descriptor_, bytes, size);
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n < 0) {
        throw failed(errno);
      }
      bytes += n;
      size -= static_cast<std::size_t>(n);
    }
  }

  /// Keeps the first `size` bytes.
  void cut(std::int64_t size) {
    if (::ftruncate(descriptor_, size) != 0 || ::lseek(descriptor_, size, SEEK_SET) < 0) {
      throw failed(errno);
    }
  }

  void read(std::int64_t offset, std::span<std::byte> bytes) const {
    while (!bytes.empty()) {
      const ssize_t n = ::pread(descriptor_, bytes.data(), bytes.size(), offset);
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n <= 0) {
        throw failed(n < 0 ? errno : EIO);
      }
      offset += n;
      bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
  }

 private:
  [[nodiscard]] Error failed(int number) const {
    const bool full = number == ENOSPC || number == EDQUOT;
    return system_error(ErrorKind::kOutput,
                        number,
                        {.code = full ? "disk_full" : "output.write",
                         .place = kPlace,
                         .subject = subject_,
                         .hint = full ? "free some space and run again; finished files stay" : ""});
  }

  std::string subject_;
  int descriptor_ = -1;
};

LatentFileWriter::LatentFileWriter(std::string path, io::DType dtype)
    : path_(std::move(path)), dtype_(dtype), spool_(std::make_unique<Spool>(path_)) {}
LatentFileWriter::~LatentFileWriter() = default;

void LatentFileWriter::add(const vae::Posterior& posterior) {
  const Tensor& mean = posterior.mean_BCTHW;
  if (shape_.empty()) {
    shape_ = {mean.size(1), mean.size(3), mean.size(4)};
  }
  // One record per latent frame: mean, then log variance, each [C, h, w].
  const Tensor record = at::stack({mean[0], posterior.logvar_BCTHW[0]})
                            .permute({2, 0, 1, 3, 4})
                            .to(at::kCPU, tensor::to_scalar_type(dtype_))
                            .contiguous();
  spool_->append(record.data_ptr(), record.nbytes());
  clip_latents_ += mean.size(2);
}

void LatentFileWriter::end_clip() {
  if (clip_latents_ == 0 || (clips_ > 0 && clip_latents_ != latents_)) {
    throw Error(ErrorKind::kInternal,
                {.code = "latents.clip",
                 .place = kPlace,
                 .subject = path_,
                 .expected = clips_ > 0 ? std::to_string(latents_) + " latent frames in a clip"
                                        : "at least one latent frame in a clip",
                 .got = std::to_string(clip_latents_)});
  }
  latents_ = std::exchange(clip_latents_, 0);
  ++clips_;
}

void LatentFileWriter::drop_clip() {
  if (clip_latents_ > 0) {
    spool_->cut(clips_ * latents_ * record_bytes());
    clip_latents_ = 0;
  }
}

std::int64_t LatentFileWriter::record_bytes() const {
  const auto element = static_cast<std::int64_t>(io::size_of(dtype_));
  return 2 * shape_[0] * shape_[1] * shape_[2] * element;
}

void LatentFileWriter::copy_out(io::SafetensorsStream& file, bool logvar) const {
  const std::int64_t half = record_bytes() / 2;
  const std::int64_t plane = half / shape_[0];
  std::vector<std::byte> buffer(static_cast<std::size_t>(plane));
  for (std::int64_t b = 0; b < clips_; ++b) {
    for (std::int64_t c = 0; c < shape_[0]; ++c) {
      for (std::int64_t t = 0; t < latents_; ++t) {
        spool_->read((b * latents_ + t) * 2 * half + (logvar ? half : 0) + c * plane, buffer);
        file.append(buffer);
      }
    }
  }
}

void LatentFileWriter::finish(const LatentFacts& facts) {
  if (clips_ == 0 || clip_latents_ != 0) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "latents.empty",
                 .place = kPlace,
                 .subject = path_,
                 .expected = "at least one whole clip",
                 .got = "none"});
  }
  const io::Shape shape = {clips_, shape_[0], latents_, shape_[1], shape_[2]};
  const std::vector<io::TensorSpec> specs = {{kLogvar, dtype_, shape}, {kMean, dtype_, shape}};
  io::SafetensorsStream file(path_, specs, {{"kinema", facts.to_text()}});
  copy_out(file, /*logvar=*/true);
  copy_out(file, /*logvar=*/false);
  file.commit();
}

LatentFile LatentFile::open(const std::string& path) {
  const auto file = io::SafetensorsFile::open(path);
  const auto text = file.metadata().find("kinema");
  const auto mean = file.tensors().find(kMean);
  const auto logvar = file.tensors().find(kLogvar);
  if (text == file.metadata().end() || mean == file.tensors().end() ||
      logvar == file.tensors().end()) {
    throw Error(
        ErrorKind::kBadData,
        {.code = "latents.format",
         .place = kPlace,
         .subject = path,
         .expected = std::string("a file of `kinema vae encode` with ") + kMean + " and " + kLogvar,
         .got = "another safetensors file"});
  }
  LatentFile result;
  result.facts_ = LatentFacts::from_text(text->second, path);
  result.dtype_ = mean->second.dtype;
  const auto& shape = mean->second.shape;
  const bool fits = shape.size() == 5 && shape == logvar->second.shape &&
                    std::ranges::all_of(shape, [](std::int64_t n) { return n > 0; }) &&
                    logvar->second.dtype == result.dtype_ &&
                    (result.dtype_ == io::DType::kF32 || result.dtype_ == io::DType::kBF16);
  if (!fits) {
    throw Error(ErrorKind::kBadData,
                {.code = "latents.shape",
                 .place = kPlace,
                 .subject = path,
                 .expected = "mean and log variance of one shape [B, C, T, h, w], F32 or BF16",
                 .got = "others"});
  }
  result.mean_BCTHW_ = tensor::tensor_from_view(mean->second);
  result.logvar_BCTHW_ = tensor::tensor_from_view(logvar->second);
  return result;
}

vae::Posterior LatentFile::read(std::int64_t clip, std::int64_t first, std::int64_t count) const {
  const auto part = [&](const Tensor& all) {
    return all.narrow(0, clip, 1).narrow(2, first, count).to(at::kFloat, false, /*copy=*/true);
  };
  return {part(mean_BCTHW_), part(logvar_BCTHW_)};
}

std::string hash_of_model_folder(const std::string& folder) {
  std::map<std::string, std::string> hashes;
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name == "config.json" || (name.ends_with(".safetensors") && !name.starts_with("."))) {
      hashes[name] = sha256_of_file(entry.path().string(), kPlace);
    }
  }
  Sha256 all;
  for (const auto& [name, hash] : hashes) {
    all.update(hash + "  " + name + "\n");
  }
  return all.finish();
}

}  // namespace kinema::pipeline
