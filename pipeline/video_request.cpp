// SPDX-License-Identifier: Apache-2.0
#include "pipeline/video_request.h"

#include <cmath>

#include "core/base/error.h"
#include "core/base/version.h"

namespace kinema::pipeline {
namespace {

constexpr const char* kFormat = "kinema-generation-1";

bool is_long_mode(const std::string& name) {
  return name == "exact" || name == "fused" || name == "freenoise" || name == "fifo";
}

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
  // Videos made before these existed had none of it.
  request.long_mode = "exact";
  reader.optional("long", request.long_mode);
  reader.optional("window", request.window);
  if (const Json* scenes = reader.find("scenes"); scenes != nullptr) {
    request.scenes = scenes_from_json(*scenes, subject);
  }
  reader.optional("image", request.image);
  reader.optional("video", request.video);
  reader.optional("end_video", request.end_video);
  reader.optional("given_frames", request.given_frames);
  reader.finish();
  return request;
}

std::vector<Scene> scenes_from_json(const Json& json, const std::string& subject) {
  const JsonContext context{
      .place = "pipeline.request", .subject = subject, .kind = ErrorKind::kBadData};
  std::vector<Scene> scenes;
  if (!json.is_array()) {
    throw Error(ErrorKind::kBadData,
                {.code = "config.type",
                 .place = "pipeline.request",
                 .subject = subject + ": scenes",
                 .expected = R"(a list of {"seconds": S, "prompt": "..."})",
                 .got = json.type_name()});
  }
  for (const Json& item : json) {
    JsonReader reader(item, context);
    Scene& scene = scenes.emplace_back();
    reader.required("seconds", scene.seconds);
    reader.required("prompt", scene.prompt);
    reader.finish();
  }
  return scenes;
}

OrderedJson VideoRequest::to_json() const {
  OrderedJson scene_list = OrderedJson::array();
  for (const Scene& scene : scenes) {
    scene_list.push_back({{"seconds", scene.seconds}, {"prompt", scene.prompt}});
  }
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
          {"model", model},
          {"long", long_mode},
          {"window", window},
          {"scenes", scene_list},
          {"image", image},
          {"video", video},
          {"end_video", end_video},
          {"given_frames", given_frames}};
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
  rule(long_mode.empty() || is_long_mode(long_mode), "long exact, fused, freenoise or fifo");
  rule(window >= 0 && window <= 1'000'000, "a window of 1..1000000 frames");
  rule(given_frames >= 0, "given-frames from 0 up");
  double last = 0;
  for (const Scene& scene : scenes) {
    rule(!scene.prompt.empty(), "a prompt for every scene");
    rule(std::isfinite(scene.seconds) && scene.seconds > last &&
             scene.seconds * fps < static_cast<double>(frames),
         "scenes at rising times inside the video");
    last = scene.seconds;
  }
  rule(image.empty() || video.empty(), "one beginning: an image or a video");
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
