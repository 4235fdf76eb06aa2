#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Second implementation of kinema's addressed noise, in NumPy, to the bit.

Prints the numbers that tests/kernels/noise_golden.h pins, or a given address:
  make_noise.py > tests/kernels/noise_golden.h
  make_noise.py --seed 7 --stream latents --at FRAME CHANNEL ROW COLUMN

NumPy rounds every float32 operation by itself, so the steps below are those of
core/kernels/noise_math.h. Also useful to feed a Python pipeline with kinema's noise.
"""
import argparse

import numpy as np

M32, M64, GOLDEN = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF, 0x9E3779B97F4A7C15
NORMAL, UNIFORM, BITS = 1, 2, 3
GRID, FLAT = 1, 2
f32 = np.float32
h = float.fromhex


def mix64(x):
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & M64
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & M64
    return x ^ (x >> 31)


def noise_key(seed, name, draw, addressing):
    fnv = 0xCBF29CE484222325
    for byte in name.encode():
        fnv = ((fnv ^ byte) * 0x100000001B3) & M64
    use = (draw * 16 + addressing) * GOLDEN
    key = mix64((mix64((seed + GOLDEN) & M64) + mix64((fnv + use) & M64)) & M64)
    return key & M32, key >> 32


def philox(counter, key):
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & M32, (p0 >> 32) ^ c[3] ^ k[1], p0 & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


def horner(x, coefficients):
    total = f32(h(coefficients[-1]))
    for c in reversed(coefficients[:-1]):
        total = f32(h(c)) + x * total
    return total


LOG = ["0x1.55554ap-2", "-0x1.000220p-2", "0x1.99a596p-3", "-0x1.54788cp-3",
       "0x1.226e4ap-3", "-0x1.0ce078p-3", "0x1.07d0e6p-3", "-0x1.41ee02p-4"]
SIN = ["-0x1.4abbc0p-1", "0x1.466032p-4", "-0x1.2dd048p-8"]
COS = ["-0x1.3bd3ccp+0", "0x1.03c1dep-2", "-0x1.55c664p-6", "0x1.d9f7bcp-11"]


def minus_two_log(r):
    upper = r >> 31
    w = (f32(M32 - r if upper else r) + f32(0.5)) * f32(2.0**-32)
    u_bits = int((f32(1) - w if upper else w).view(np.uint32))
    e = (u_bits - 0x3F3504F3) >> 23
    f = np.uint32(u_bits - (e << 23)).view(f32) - f32(1) if e < 0 else -w
    square = f * f
    tail = f * square * horner(f, LOG)
    tail = tail + f32(e) * f32(h("-0x1.bd0106p-13"))
    tail = tail - square * f32(0.5)
    return f32(-2) * ((f + tail) + f32(e) * f32(h("0x1.63p-1")))


def cos_sin(r):
    quarter = ((r + 0x20000000) & M32) >> 30
    rest = (r - (quarter << 30)) & M32
    t = f32(rest - (1 << 32) if rest >> 31 else rest) * f32(2.0**-30)
    w = t * t
    sine = t * f32(h("0x1.921fb6p+0")) + t * (w * horner(w, SIN) + f32(h("-0x1.777a5cp-25")))
    cosine = f32(1) + w * horner(w, COS)
    return [(cosine, sine), (-sine, cosine), (-cosine, -sine), (sine, -cosine)][quarter]


def normals(words):
    z = []
    for r0, r1 in (words[:2], words[2:]):
        cosine, sine = cos_sin(r1)
        radius = np.sqrt(minus_two_log(r0))
        z += [radius * cosine, radius * sine]
    return z


def normal_at(seed, name, frame, channel, row, column):
    words = philox((column // 4, row, channel, frame), noise_key(seed, name, NORMAL, GRID))
    return normals(words)[column % 4]


def normal_flat(seed, name, index):
    block = index // 4
    words = philox((block & M32, block >> 32, 0, 0), noise_key(seed, name, NORMAL, FLAT))
    return normals(words)[index % 4]


def print_header():
    print("// SPDX-License-Identifier: Apache-2.0")
    print("// Bits of numbers at chosen addresses. Made by scripts/golden/make_noise.py; no other edits.")
    print("#pragma once\n\n#include <cstdint>\n\nnamespace kinema::kernels::golden {\n")
    print("struct KeyCase {\n  std::uint64_t seed;\n  const char* name;\n  std::uint32_t draw;\n"
          "  std::uint32_t addressing;\n  std::uint32_t low;\n  std::uint32_t high;\n};")
    print("inline constexpr KeyCase kKeys[] = {")
    for seed, name in ((0, ""), (0, "latents"), (1, "latents"), (M64, "latents"), (42, "text/µ")):
        escaped = "".join(chr(b) if b < 128 else "\\%03o" % b for b in name.encode())
        for draw, addressing in ((NORMAL, GRID), (NORMAL, FLAT), (BITS, FLAT)):
            low, high = noise_key(seed, name, draw, addressing)
            print(f'    {{0x{seed:X}U, "{escaped}", {draw}, {addressing}, 0x{low:08X}U, 0x{high:08X}U}},')
    print("};\n")
    print("struct GridCase {\n  std::uint64_t seed;\n  std::uint32_t frame;\n  std::uint32_t channel;\n"
          "  std::uint32_t row;\n  std::uint32_t column;\n  std::uint32_t bits;  ///< of the float\n};")
    print('/// Stream "latents".\ninline constexpr GridCase kGrid[] = {')
    addresses = [(0, 0, 0, 0, x) for x in range(12)]
    addresses += [(7, 1, 2, 3, 5), (7, M32, 15, 89, 159), (7, 0, 0, M32, M32), (M64, 12, 3, 44, 81)]
    for address in addresses:
        bits = int(f32(normal_at(address[0], "latents", *address[1:])).view(np.uint32))
        print("    {" + ", ".join(f"0x{v:X}U" for v in address) + f", 0x{bits:08X}U}},")
    print("};\n")
    print("struct FlatCase {\n  std::uint64_t seed;\n  std::uint64_t index;\n  std::uint32_t bits;\n};")
    print('/// Stream "latents".\ninline constexpr FlatCase kFlat[] = {')
    for seed, index in [(0, i) for i in range(5)] + [(3, (1 << 34) - 1), (3, 1 << 34), (9, M64)]:
        bits = int(f32(normal_flat(seed, "latents", index)).view(np.uint32))
        print(f"    {{0x{seed:X}U, 0x{index:X}U, 0x{bits:08X}U}},")
    print("};\n\n}  // namespace kinema::kernels::golden")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--stream", default="latents")
    parser.add_argument("--at", type=int, nargs=4, metavar=("FRAME", "CHANNEL", "ROW", "COLUMN"))
    arguments = parser.parse_args()
    if arguments.at:
        print(repr(float(normal_at(arguments.seed, arguments.stream, *arguments.at))))
    else:
        print_header()


if __name__ == "__main__":
    main()
