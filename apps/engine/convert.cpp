// SPDX-License-Identifier: Apache-2.0
#include "apps/engine/commands.h"
#include "pipeline/convert_model.h"

namespace kinema::engine {

void convert(const cli::ConvertOptions& options, cli::Console& console) {
  pipeline::ConvertRequest request{.source = options.source,
                                   .output = options.output,
                                   .vae = options.vae,
                                   .text_encoder = options.text_encoder,
                                   .tokenizer = options.tokenizer,
                                   .scheduler = options.scheduler,
                                   .only = options.only};
  if (options.scaling_factor > 0) {
    request.scaling_factor = options.scaling_factor;
  }
  if (options.image_size > 0) {
    request.image_size = options.image_size;
  }
  const pipeline::ConvertReport report = pipeline::convert_model(request, console.logger());
  console.finish(report.to_json(), report.to_text());
}

}  // namespace kinema::engine
