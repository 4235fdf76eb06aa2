// SPDX-License-Identifier: Apache-2.0
#include "pipeline/video_request.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/version.h"

namespace kinema::pipeline {
namespace {

constexpr const char* kFormat = "kinema-generation-1";

}  // namespace

VideoRequest VideoRequest::with_defaults(const ModelFolder& model) {
  VideoRequest request;
  request.width = model.defaults.width;
  request.height = model.defaults.height;
  request.frames = model.defaults.frames;
  request.fps = model.defaults.fps;
  request.steps = model.defaults.steps;
  request.guidance = model.defaults.guidance;
  request.max_length = model.defaults.max_length;
  request.clean = model.defaults.clean;
  request.model = model.path;
  return request;
}

VideoRequest VideoRequest::from_json(const Json& json, const std::string& subject) {
  VideoRequest request;
  JsonReader reader(json,
                    {.place = "pipeline.request", .subject = subject, .kind = ErrorKind::kBadData});
  reader.required("prompt", request.prompt);
  reader.required("negative", request.negative);
  reader.required("width", request.width);
  reader.required("height", request.height);
  reader.required("frames", request.frames);
  reader.required("fps", request.fps);
  reader.required("seed", request.seed);
  reader.required("steps", request.steps);
  reader.required("sampler", request.sampler);
  reader.required("guidance", request.guidance);
  reader.required("max_length", request.max_length);
  reader.required("clean", request.clean);
  reader.required("model", request.model);
  reader.finish();
  return request;
}

OrderedJson VideoRequest::to_json() const {
  return {{"prompt", prompt},
          {"negative", negative},
          {"width", width},
          {"height", height},
          {"frames", frames},
          {"fps", fps},
          {"seed", seed},
          {"steps", steps},
          {"sampler", sampler},
          {"guidance", guidance},
          {"max_length", max_length},
          {"clean", clean},
          {"model", model}};
}

void VideoRequest::validate() const {
  std::string broken;
  const auto rule = [&](bool holds, const char* text) {
    if (!holds) {
      broken += (broken.empty() ? "" : "; ") + std::string(text);
    }
  };
  rule(!prompt.empty(), "a prompt");
  rule(width >= 8 && width <= 16384 && height >= 8 && height <= 16384, "width and height 8..16384");
  rule(frames >= 1 && frames <= 1'000'000, "frames 1..1000000");
  rule(fps > 0 && fps <= 240, "fps above 0, up to 240");
  rule(seed >= 0, "a seed from 0 up");
  rule(steps >= 1 && steps <= 10'000, "steps 1..10000");
  rule(std::isfinite(guidance) && guidance >= 0 && guidance <= 1000, "guidance 0..1000");
  rule(max_length >= 1 && max_length <= 65536, "max-length 1..65536");
  rule(clean == "caption" || clean == "lower" || clean == "none", "clean caption, lower or none");
  if (!broken.empty()) {
    throw Error(ErrorKind::kInvalidArgument,
                {.code = "request.value",
                 .place = "pipeline.request",
                 .subject = "the request",
                 .expected = broken,
                 .got = to_json().dump(-1, ' ', false, OrderedJson::error_handler_t::replace)});
  }
}

std::string provenance(const VideoRequest& request) {
  const OrderedJson json = {
      {"format", kFormat}, {"version", version()}, {"request", request.to_json()}};
  return json.dump(-1, ' ', false, OrderedJson::error_handler_t::replace);
}

VideoRequest request_from_provenance(const std::string& text, const std::string& subject) {
  const JsonContext context{
      .place = "pipeline.request", .subject = subject, .kind = ErrorKind::kBadData};
  const Json json = parse_json(text, context);
  JsonReader reader(json, context);
  std::string format;
  reader.required("format", format);
  if (format != kFormat) {
    throw Error(ErrorKind::kBadData,
                {.code = "provenance.format",
                 .place = "pipeline.request",
                 .subject = subject,
                 .expected = kFormat,
                 .got = format});
  }
  const Json* request = reader.find("request");
  if (request == nullptr) {
    throw reader.error("config.missing", "request", "an object", "nothing");
  }
  return VideoRequest::from_json(*request, subject);
}

}  // namespace kinema::pipeline
