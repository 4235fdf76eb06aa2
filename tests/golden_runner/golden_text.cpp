// SPDX-License-Identifier: Apache-2.0
// Kinds of the text encoders.
#include <charconv>
#include <optional>
#include <stdexcept>
#include <string>

#include "tests/golden_runner/golden_case.h"
#include "text/modules/t5.h"
#include "text/text_encoder.h"

namespace kinema::golden {
namespace {

std::optional<Tensor> mask_of(const TensorMap& io) {
  const auto found = io.find("in.attention_mask");
  return found == io.end() ? std::nullopt : std::optional(found->second);
}

text::TextEncoding encode(const Case& golden, const TensorMap& io, c10::ScalarType dtype) {
  const auto encoder = text::TextEncoder::load(
      text::ModelFiles{.config = golden.file("config.json"), .weights = golden.weights()},
      {c10::kCPU, dtype});
  return encoder->encode(io.at("in.input_ids"), mask_of(io));
}

void compare_t5(const TensorMap& io,
                const Tensor& context_BMD,
                const std::string& suffix,
                const Allowed& allowed,
                Report& report) {
  const auto mask_BM = mask_of(io);
  // Rows at padding are garbage in the reference.
  report.compare(
      io, "out.last_hidden_state" + suffix, context_BMD, allowed, mask_BM.value_or(Tensor()));
  if (mask_BM.has_value()) {
    report.compare(io,
                   "out.last_hidden_state_masked" + suffix,
                   context_BMD.to(at::kFloat) * mask_BM->unsqueeze(-1),
                   allowed);
  }
}

/// "in.input_ids", "in.attention_mask" -> "out.last_hidden_state", "out.last_hidden_state_masked".
/// With tolerance.vs_fp32 the weights are bf16, and "out.*_fp32" is the run of the same weights in
/// fp32.
void run_t5(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const Tensor fp32_BMD = encode(golden, io, c10::kFloat).context_BMD;
  const auto vs_fp32 = golden.tolerance("vs_fp32");
  if (!vs_fp32.has_value()) {
    compare_t5(io, fp32_BMD, "", allowed, report);
  } else {
    const Allowed tight = {1e-4, Allowed::Unit::kStd};
    compare_t5(io, fp32_BMD, "_fp32", tight, report);
    const Tensor bf16_BMD = encode(golden, io, c10::kBFloat16).context_BMD;
    compare_t5(io, bf16_BMD, "_fp32", {*vs_fp32, Allowed::Unit::kAbsolute}, report);
    // "out.*" without suffix is one more bf16 run, as far from fp32 as ours and in another
    // direction.
    report.excuse("out.last_hidden_state");
    report.excuse("out.last_hidden_state_masked");
  }
  report.check_complete(io);
}

void run_clip(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  const Allowed allowed = Allowed::from(golden);
  const text::TextEncoding text = encode(golden, io, c10::kFloat);
  report.compare(io, "out.last_hidden_state", text.context_BMD, allowed);
  report.compare(io, "out.penultimate_hidden_state", text.penultimate_BMD.value(), allowed);
  report.compare(io, "out.pooler_output", text.pooled_BD.value(), allowed);
  if (io.contains("out.text_embeds")) {
    report.compare(io, "out.text_embeds", text.projected_BP.value(), allowed);
  }
  report.check_complete(io);
}

/// "out.bucket_<num_buckets>_<max_distance>_<bi|causal>".
void run_buckets(const Case& golden, Report& report) {
  const TensorMap io = golden.io();
  for (const auto& [name, tensor] : io) {
    if (!name.starts_with("out.bucket_")) {
      continue;
    }
    std::int64_t num_buckets = 0;
    std::int64_t max_distance = 0;
    const char* end = name.data() + name.size();
    const auto first = std::from_chars(name.data() + sizeof("out.bucket_") - 1, end, num_buckets);
    const auto second = std::from_chars(first.ptr + 1, end, max_distance);
    const std::string direction(second.ptr, end);
    if (first.ec != std::errc() || second.ec != std::errc() ||
        (direction != "_bi" && direction != "_causal")) {
      throw std::runtime_error("name not understood: " + name);
    }
    const Tensor ours = text::t5_position_bucket(
        io.at("in.relative_position"), direction == "_bi", num_buckets, max_distance);
    report.compare(io, name, ours, Allowed::from(golden));
  }
  report.check_complete(io);
}

}  // namespace

std::vector<Kind> text_kinds() {
  return {{"text.t5_encoder", run_t5},
          {"text.umt5_encoder", run_t5},
          {"text.clip_text", run_clip},
          {"text.t5_position_buckets", run_buckets}};
}

}  // namespace kinema::golden
