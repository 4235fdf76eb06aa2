// SPDX-License-Identifier: Apache-2.0
// The smallest program that uses the installed libraries.
#include <iostream>

#include "core/base/version.h"
#include "core/tensor/noise.h"
#include "text/tokenizer/tokenizer.h"

int main(int argc, char** argv) {
  const auto noise_BCTHW =
      kinema::tensor::normal_noise({.seed = 1, .name = "latents"},
                                   {.channels = 4, .frames = 2, .height = 8, .width = 8})
          .unsqueeze(0);
  const auto tokenizer = kinema::text::Tokenizer::load(argc > 1 ? argv[1] : ".");
  const auto ids = tokenizer->encode_truncated("a red circle moves right", 4);
  std::cout << "kinema " << kinema::version() << ": noise " << noise_BCTHW.sizes() << ", "
            << ids.size() << " ids\n";
}
