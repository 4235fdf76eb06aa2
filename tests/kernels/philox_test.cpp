// SPDX-License-Identifier: Apache-2.0
// Philox 4x32-10 against the known answers that Random123 publishes (tests/kat_vectors).
#include "core/kernels/philox.h"

#include <gtest/gtest.h>

#include "core/kernels/noise_math.h"

namespace kinema::kernels {
namespace {

struct KnownAnswer {
  PhiloxCounter counter;
  PhiloxKey key;
  PhiloxCounter words;
};

constexpr KnownAnswer kKnownAnswers[] = {
    {{0, 0, 0, 0}, {0, 0}, {0x6627E8D5U, 0xE169C58DU, 0xBC57AC4CU, 0x9B00DBD8U}},
    {{0xFFFFFFFFU, 0xFFFFFFFFU, 0xFFFFFFFFU, 0xFFFFFFFFU},
     {0xFFFFFFFFU, 0xFFFFFFFFU},
     {0x408F276DU, 0x41C83B0EU, 0xA20BC7C6U, 0x6D5451FDU}},
    {{0x243F6A88U, 0x85A308D3U, 0x13198A2EU, 0x03707344U},
     {0xA4093822U, 0x299F31D0U},
     {0xD16CFE09U, 0x94FDCCEBU, 0x5001E420U, 0x24126EA1U}},
};

static_assert(philox4x32_10(kKnownAnswers[2].counter, kKnownAnswers[2].key) ==
              kKnownAnswers[2].words);

TEST(PhiloxTest, ScalarGivesThePublishedAnswers) {
  for (const KnownAnswer& known : kKnownAnswers) {
    EXPECT_EQ(philox4x32_10(known.counter, known.key), known.words);
  }
}

TEST(PhiloxTest, TemplateOfTheRowKernelsGivesThePublishedAnswers) {
  for (const KnownAnswer& known : kKnownAnswers) {
    const auto words = noise_math::philox<noise_math::ScalarOps>(
        {{known.counter[0], known.counter[1], known.counter[2], known.counter[3]}},
        noise_math::expand_key(known.key[0], known.key[1]));
    for (int i = 0; i < 4; ++i) {
      EXPECT_EQ(words.v[i], known.words[i]);
    }
  }
}

}  // namespace
}  // namespace kinema::kernels
