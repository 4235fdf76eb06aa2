#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks which folder includes which, for every C++ and CUDA file that git tracks.

A folder includes itself and folders of strictly lower floors (docs/architecture.md). Some folders
must build without LibTorch: nothing that they include, directly or not, may be a LibTorch header.
Also refused: <torch/torch.h>, a header without '#pragma once', a source without its SPDX line.
Prints file:line and the rule; exit code 1 if anything was found.
"""
import argparse
import pathlib
import re
import subprocess
import sys

FLOORS = {
    "core/base": 0, "core/kernels": 0,
    "core/archive": 1, "core/io": 1,
    "core/tensor": 2, "media": 2,
    "core/attention": 3, "core/diffusion": 3, "core/nn": 3, "core/train": 3, "world": 3,
    "dit": 4, "text": 4, "understanding": 4, "vae": 4,
    "style": 5,
    "data_pipeline": 6, "pipeline": 6, "training": 6,
    "apps": 7, "bench": 7,
    "tests": 8,  # tests of apps include apps
}
TORCH_FREE = ("core/archive", "core/base", "core/kernels", "core/io", "media", "text/tokenizer", "apps/cli")
CODE = (".h", ".cpp", ".cu", ".cuh")
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]')
TORCH = re.compile(r"^(ATen|torch|c10)/")
SPDX = "SPDX-License-Identifier: Apache-2.0"


def folder_of(path):
    """The floor folder that holds `path`, or None."""
    parts = path.split("/")[:-1]
    for length in (2, 1):
        if "/".join(parts[:length]) in FLOORS:
            return "/".join(parts[:length])
    return None


def torch_free(path):
    return any(path.startswith(folder + "/") for folder in TORCH_FREE)


def read_lines(path):
    return path.read_text(encoding="utf-8", errors="replace").splitlines()


def includes_of(lines):
    """(line number, quoted?, path) of every include outside block comments."""
    in_comment = False
    for number, line in enumerate(lines, 1):
        if not in_comment and (match := INCLUDE.match(line)):
            yield number, match[1] == '"', match[2]
        start, end = line.rfind("/*"), line.rfind("*/")
        if start >= 0 or end >= 0:
            in_comment = start > end


class Checker:
    def __init__(self, root):
        self.root = root
        self.torch_chains = {}
        self.findings = []

    def report(self, path, line, rule):
        self.findings.append(f"{path}:{line}: {rule}")

    def torch_chain(self, path):
        """Includes that lead from `path` to a LibTorch header, or None."""
        if path not in self.torch_chains:
            self.torch_chains[path] = None  # ends cycles
            file = self.root / path
            for _, quoted, target in includes_of(read_lines(file)) if file.is_file() else ():
                if TORCH.match(target):
                    chain = [target]
                else:
                    chain = self.torch_chain(target) if quoted else None
                if chain:
                    self.torch_chains[path] = [path] + chain
                    break
        return self.torch_chains[path]

    def check_include(self, path, line, quoted, target):
        if target == "torch/torch.h":
            self.report(path, line, "<torch/torch.h> is refused: include the narrow headers")
        if torch_free(path):
            chain = [target] if TORCH.match(target) else self.torch_chain(target) if quoted else None
            if chain:
                self.report(path, line, "this folder builds without LibTorch: " + " -> ".join(chain))
        if not quoted or TORCH.match(target):
            return
        source, used = folder_of(path), folder_of(target)
        if used is None:
            self.report(path, line, f'"{target}": quoted includes are paths from the root of the '
                        "repository, into a folder that the floor table of this script knows")
        elif source is not None and used != source and FLOORS[used] >= FLOORS[source]:
            self.report(path, line, f"{source} (floor {FLOORS[source]}) may not include {used} "
                        f"(floor {FLOORS[used]}): only strictly lower floors")

    def check(self, path):
        lines = read_lines(self.root / path)
        first = lines[1:3] if lines and lines[0].startswith("#!") else lines[:1]
        if not any(SPDX in line for line in first):
            self.report(path, 1, f"the first line must be the comment '{SPDX}'")
        if not path.endswith(CODE):
            return
        if path.endswith((".h", ".cuh")) and "#pragma once" not in (x.strip() for x in lines):
            self.report(path, 1, "a header needs '#pragma once'")
        if folder_of(path) is None:
            self.report(path, 1, "this folder has no floor: add it to the table of this script")
        for line, quoted, target in includes_of(lines):
            self.check_include(path, line, quoted, target)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--root", type=pathlib.Path,
                        default=pathlib.Path(__file__).resolve().parent.parent)
    parser.add_argument("files", nargs="*", help="paths from the root; default: all tracked files")
    arguments = parser.parse_args()
    files = arguments.files or subprocess.run(
        ["git", "-C", arguments.root, "ls-files", "-z"], check=True, capture_output=True,
        text=True).stdout.split("\0")
    files = [f for f in files if f.endswith(CODE + (".py", ".sh")) and (arguments.root / f).is_file()]
    checker = Checker(arguments.root)
    for path in sorted(files):
        checker.check(path)
    for finding in checker.findings:
        print(finding)
    print(f"check_layers: {len(files)} files, {len(checker.findings)} findings", file=sys.stderr)
    return 1 if checker.findings else 0


if __name__ == "__main__":
    sys.exit(main())
