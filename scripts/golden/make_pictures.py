#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the small pictures in tests/io/data with Pillow.

usage: make_pictures.py [FOLDER]      (default: tests/io/data of this repository)

Needs numpy and Pillow (made with Pillow 13). The tests of core/io say what each file must read as.
"""
import pathlib
import struct
import sys
import zlib

import numpy as np
from PIL import Image


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, depth, colour, data, interlace=0):
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data, 9)) \
        + chunk(b"IEND", b"")


def interlaced(pixels):
    """Adam7 passes of an RGB picture, filter 0."""
    data = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4),
                           (1, 0, 2, 2), (0, 1, 1, 2)):
        part = pixels[y0::dy, x0::dx]
        if part.size:
            data += b"".join(b"\0" + row.tobytes() for row in part)
    return png(pixels.shape[1], pixels.shape[0], 8, 2, data, interlace=1)


def main():
    if len(sys.argv) > 1 and sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        return
    default = pathlib.Path(__file__).resolve().parents[2] / "tests" / "io" / "data"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    y, x = np.mgrid[0:5, 0:7]
    pixels = np.stack([30 * x, 50 * y, np.full_like(x, 100)], -1).astype(np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(folder / "picture.png")
    picture.save(folder / "picture.bmp")
    picture.save(folder / "picture.gif", comment=b"made for a test")
    picture.save(folder / "picture.jpg", quality=95, subsampling=0)
    picture.save(folder / "progressive.jpg", quality=95, subsampling=0, progressive=True)
    (folder / "interlaced.png").write_bytes(interlaced(pixels))
    (folder / "grey.png").write_bytes(png(2, 1, 8, 0, bytes([0, 10, 200])))
    (folder / "grey_alpha.png").write_bytes(png(2, 1, 8, 4, bytes([0, 10, 0, 200, 128])))
    (folder / "grey16.png").write_bytes(png(2, 1, 16, 0, bytes([0, 0x12, 0x34, 0xFE, 0xDC])))
    header = struct.pack(">IIBBBBB", 2, 1, 8, 3, 0, 0, 0)
    (folder / "palette_alpha.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
        + chunk(b"PLTE", bytes([255, 0, 0, 0, 0, 255])) + chunk(b"tRNS", bytes([0]))
        + chunk(b"IDAT", zlib.compress(bytes([0, 0, 1]))) + chunk(b"IEND", b""))
    (folder / "bomb.png").write_bytes(png(2, 2, 8, 2, bytes(64_000_000)))

    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :12] = (255, 0, 0)
    upright[:8, 12:] = (0, 255, 0)
    upright[8:, :12] = (0, 0, 255)
    upright[8:, 12:] = (255, 255, 0)
    # What each EXIF orientation asks a viewer to do, undone: the pixels as a camera would store them.
    turn = Image.Transpose
    undo = {1: None, 2: turn.FLIP_LEFT_RIGHT, 3: turn.ROTATE_180, 4: turn.FLIP_TOP_BOTTOM,
            5: turn.TRANSPOSE, 6: turn.ROTATE_90, 7: turn.TRANSVERSE, 8: turn.ROTATE_270}
    for orientation, how in undo.items():
        stored = Image.fromarray(upright)
        stored = stored.transpose(how) if how is not None else stored
        exif = Image.Exif()
        exif[0x0112] = orientation
        stored.save(folder / f"orientation_{orientation}.jpg", quality=90, subsampling=0, exif=exif)


if __name__ == "__main__":
    main()
