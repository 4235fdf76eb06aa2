// SPDX-License-Identifier: Apache-2.0
// SHA-256 against the examples of FIPS 180-4 and of its authors.
#include "core/base/sha256.h"

#include <string>

#include <gtest/gtest.h>

#include "core/base/machine_memory.h"

namespace kinema {
namespace {

std::string sha256(const std::string& text, std::size_t piece = 1000) {
  Sha256 sha;
  for (std::size_t i = 0; i < text.size(); i += piece) {
    sha.update(text.substr(i, piece));
  }
  return sha.finish();
}

TEST(Sha256Test, KnownAnswers) {
  EXPECT_EQ(sha256(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(sha256(std::string(1'000'000, 'a')),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256Test, PiecesOfAnySizeGiveTheSame) {
  for (std::size_t length : {55U, 56U, 63U, 64U, 65U, 119U, 120U, 128U, 300U}) {
    const std::string text(length, 'q');
    for (std::size_t piece : {1U, 7U, 64U}) {
      EXPECT_EQ(sha256(text, piece), sha256(text)) << length << " " << piece;
    }
  }
}

TEST(MachineMemoryTest, IsPlausible) {
  const MachineMemory memory = machine_memory();
  EXPECT_GT(memory.total_bytes, 1U << 20);
  EXPECT_GT(memory.available_bytes, 0U);
  EXPECT_LE(memory.available_bytes, memory.total_bytes);
}

}  // namespace
}  // namespace kinema
