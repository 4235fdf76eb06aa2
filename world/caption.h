// SPDX-License-Identifier: Apache-2.0
// Words for a scene: eight grammars with synonyms, from short to two sentences.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "world/scene.h"

namespace kinema::world {

/// Caption number `variant` of a scene; every variant is another draw of grammar and synonyms.
/// Lower case, no final full stop. Some variants leave out the sizes, unless `name_sizes` is set
/// (for judging, where everything must be asked for).
[[nodiscard]] std::string caption(const Scene& scene,
                                  std::int64_t variant,
                                  bool name_sizes = false);

/// The plain sentence of the first grammar with the first synonyms and every size named:
/// "a small red circle moves right over a blue background".
[[nodiscard]] std::string plain_caption(const Scene& scene);

/// Every word that a caption can hold, sorted.
[[nodiscard]] std::vector<std::string> caption_words();

}  // namespace kinema::world
