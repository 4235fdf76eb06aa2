// SPDX-License-Identifier: Apache-2.0
#include "dit/vdit_config.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/base/error.h"
#include "dit/public_config.h"

namespace kinema::dit {
namespace {

constexpr std::string_view kPlace = "dit.config";
constexpr std::int64_t kMaxWidth = std::int64_t{1} << 20;
constexpr std::int64_t kMaxLayers = 4096;
constexpr std::array kLayouts = {
    Layout::kStdit2, Layout::kStdit3, Layout::kFull, Layout::kPixart, Layout::kLatte};

VDitConfig from_own_json(const Json& json, const std::string& subject) {
  JsonReader reader(json, {.place = std::string(kPlace), .subject = subject});
  VDitConfig config;
  std::string name;
  reader.required("_class_name", name);
  reader.required("layout", name);
  const auto* const layout = std::find_if(
      kLayouts.begin(), kLayouts.end(), [&](Layout value) { return to_string(value) == name; });
  if (layout == kLayouts.end()) {
    throw reader.error(
        "dit.layout", "layout", "stdit2, stdit3, full, pixart or latte", "'" + name + "'");
  }
  config.layout = *layout;
  reader.required("latent_channels", config.latent_channels);
  reader.optional("predict_variance", config.predict_variance);
  reader.optional("patch", config.patch);
  reader.required("width", config.width);
  reader.required("num_layers", config.num_layers);
  reader.required("num_heads", config.num_heads);
  reader.required("mlp_width", config.mlp_width);
  reader.required("caption_channels", config.caption_channels);
  reader.required("caption_tokens", config.caption_tokens);
  reader.optional("pooled_channels", config.pooled_channels);
  reader.optional("qk_norm", config.qk_norm);
  reader.optional("rotate_before_norm", config.rotate_before_norm);
  reader.optional("temporal_rotary", config.temporal_rotary);
  reader.optional("size_conditions", config.size_conditions);
  reader.optional("fps_condition", config.fps_condition);
  reader.optional("frames_condition", config.frames_condition);
  reader.optional("input_sq_size", config.input_sq_size);
  reader.optional("position_base", config.position_base);
  reader.optional("position_scale", config.position_scale);
  reader.optional("video_length", config.video_length);
  reader.optional("norm_eps", config.norm_eps);
  reader.finish();
  return config;
}

/// Collects sentences about values that are out of range.
class Problems {
 public:
  void range(std::string_view name, std::int64_t value, std::int64_t low, std::int64_t high) {
    check(value >= low && value <= high,
          std::string(name) + " is " + std::to_string(value) + ", not in " + std::to_string(low) +
              " .. " + std::to_string(high));
  }
  void check(bool holds, std::string problem) {
    if (!holds) {
      text_ += (text_.empty() ? "" : "; ") + std::move(problem);
    }
  }
  [[nodiscard]] bool empty() const { return text_.empty(); }
  [[nodiscard]] const std::string& text() const { return text_; }

 private:
  std::string text_;
};

void check_sizes(const VDitConfig& config, Problems& problems) {
  problems.range("latent_channels", config.latent_channels, 1, 4096);
  problems.range("width", config.width, 1, kMaxWidth);
  problems.range("num_layers", config.num_layers, 1, kMaxLayers);
  problems.range("num_heads", config.num_heads, 1, config.width);
  problems.range("mlp_width", config.mlp_width, 1, 16 * kMaxWidth);
  problems.range("caption_channels", config.caption_channels, 1, kMaxWidth);
  problems.range("caption_tokens", config.caption_tokens, 0, kMaxWidth);
  problems.range("pooled_channels", config.pooled_channels, 0, kMaxWidth);
  problems.range("input_sq_size", config.input_sq_size, 1, kMaxWidth);
  problems.range("position_base", config.position_base, 0, kMaxWidth);
  problems.range("video_length", config.video_length, 0, kMaxWidth);
  for (const std::int64_t size : config.patch) {
    problems.range("patch", size, 1, 64);
  }
  problems.check(std::isfinite(config.position_scale) && config.position_scale > 0.0,
                 "position_scale is " + std::to_string(config.position_scale) + ", not positive");
  problems.check(config.norm_eps > 0.0 && config.norm_eps < 1.0,
                 "norm_eps is " + std::to_string(config.norm_eps) + ", not in (0, 1)");
}

void check_relations(const VDitConfig& config, Problems& problems) {
  const std::string width = std::to_string(config.width);
  const bool is_image_model = config.layout == Layout::kPixart;
  problems.check(
      config.width % config.num_heads == 0,
      "width " + width + " is not a multiple of " + std::to_string(config.num_heads) + " heads");
  problems.check(config.width % 4 == 0,
                 "width " + width + " is not a multiple of 4 (position table)");
  problems.check(!config.size_conditions || config.width % 3 == 0,
                 "width " + width + " is not a multiple of 3 (size conditions)");
  problems.check(
      is_image_model || config.layout == Layout::kLatte || config.head_width() % 2 == 0,
      "head width " + std::to_string(config.head_width()) + " is odd (rotary positions)");
  problems.check(config.layout != Layout::kFull || config.head_width() >= 6,
                 "head width " + std::to_string(config.head_width()) +
                     " is less than 6 (rotary positions on three axes)");
  if (config.layout == Layout::kStdit2) {
    problems.check(config.size_conditions && config.fps_condition && config.frames_condition,
                   "layout stdit2 has all of size_conditions, fps_condition, frames_condition");
  }
  if (config.layout == Layout::kStdit3) {
    problems.check(config.fps_condition && !config.size_conditions && !config.frames_condition,
                   "layout stdit3 has fps_condition and no other condition");
  }
  if (is_image_model || config.layout == Layout::kLatte) {
    problems.check(!config.fps_condition && !config.frames_condition,
                   "layouts pixart and latte have no fps_condition and no frames_condition");
    problems.check(config.patch[0] == 1, "layouts pixart and latte have one frame in a patch");
    problems.check(config.position_base > 0, "layouts pixart and latte need position_base");
  }
  problems.check(config.layout != Layout::kLatte || config.video_length > 0,
                 "layout latte needs video_length");
}

}  // namespace

std::string_view to_string(Layout layout) noexcept {
  switch (layout) {
    case Layout::kStdit2:
      return "stdit2";
    case Layout::kStdit3:
      return "stdit3";
    case Layout::kFull:
      return "full";
    case Layout::kPixart:
      return "pixart";
    case Layout::kLatte:
      return "latte";
  }
  return "";
}

VDitConfig VDitConfig::from_json(const Json& json,
                                 const std::string& subject,
                                 std::vector<std::string>& unknown_keys) {
  const bool is_own = json.is_object() && json.value("_class_name", Json()) == "VDiT";
  VDitConfig config =
      is_own ? from_own_json(json, subject) : read_public_config(json, subject, unknown_keys);
  config.validate(subject);
  return config;
}

Json VDitConfig::to_json() const {
  return Json{{"_class_name", "VDiT"},
              {"layout", to_string(layout)},
              {"latent_channels", latent_channels},
              {"predict_variance", predict_variance},
              {"patch", patch},
              {"width", width},
              {"num_layers", num_layers},
              {"num_heads", num_heads},
              {"mlp_width", mlp_width},
              {"caption_channels", caption_channels},
              {"caption_tokens", caption_tokens},
              {"pooled_channels", pooled_channels},
              {"qk_norm", qk_norm},
              {"rotate_before_norm", rotate_before_norm},
              {"temporal_rotary", temporal_rotary},
              {"size_conditions", size_conditions},
              {"fps_condition", fps_condition},
              {"frames_condition", frames_condition},
              {"input_sq_size", input_sq_size},
              {"position_base", position_base},
              {"position_scale", position_scale},
              {"video_length", video_length},
              {"norm_eps", norm_eps}};
}

void VDitConfig::validate(const std::string& subject) const {
  Problems problems;
  check_sizes(*this, problems);
  if (problems.empty()) {
    check_relations(*this, problems);
  }
  if (!problems.empty()) {
    throw Error(ErrorKind::kBadCheckpoint,
                {.code = "dit.config",
                 .place = std::string(kPlace),
                 .subject = subject,
                 .expected = "sizes that fit each other",
                 .got = problems.text()});
  }
}

}  // namespace kinema::dit
