#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks the documentation that git tracks.

- Relative links of Markdown files point at a file or folder, and at a heading where they have an
  anchor. Links into the web are not followed.
- Every public header (core, media, world, text, vae, dit, understanding, style, pipeline,
  data_pipeline) starts with a file comment between its SPDX line and '#pragma once'.
- No text file holds an absolute path of somebody's machine; the strings of golden cases
  (tests/golden/**/*.jsonl) are data and may.
Prints file:line and the rule; exit code 1 if anything was found.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import urllib.parse

LINK = re.compile(r"!?\[[^\]]*\]\(\s*<?([^)\s>]+)>?(?:\s+[\"'][^)]*)?\)")
REFERENCE = re.compile(r"^\s{0,3}\[[^\]]+\]:\s*<?(\S+?)>?\s*$")
HTML_LINK = re.compile(r"<(?:a|img|source|video)\b[^>]*?\b(?:href|src)=\"([^\"]+)\"")
HEADING = re.compile(r"^#{1,6}\s+(.*?)\s*#*\s*$")
PUBLIC = ("core", "media", "world", "text", "vae", "dit", "understanding", "style", "pipeline",
          "data_pipeline")
# A home, a mount or a workspace; not after a letter or a dot, so relative paths and URLs pass.
MACHINE_PATH = re.compile(r"(?<![\w.~$}/:-])/(?:home|root|Users|mnt|work|workspace|scratch)"
                          r"/[\w.-]+")
WINDOWS_PATH = re.compile(r"\b[A-Z]:\\Users\\")


def anchor_of(heading):
    """The anchor that GitHub gives to a heading."""
    text = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "")
    return re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")


def lines_outside_code(text):
    fence = None
    for number, line in enumerate(text.splitlines(), 1):
        if (match := re.match(r"\s*(```+|~~~+)", line)) and fence in (None, match[1][:3]):
            fence = None if fence else match[1][:3]
        elif fence is None:
            yield number, line


def anchors_of(text):
    counts = {}
    anchors = set(re.findall(r"<a\s+(?:id|name)=\"([^\"]+)\"", text))
    for _, line in lines_outside_code(text):
        if match := HEADING.match(line):
            anchor = anchor_of(match[1])
            seen = counts.get(anchor, 0)
            counts[anchor] = seen + 1
            anchors.add(f"{anchor}-{seen}" if seen else anchor)
    return anchors


def check_link(root, path, target):
    """What is wrong with the link, or None."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]*:|//", target):
        return None
    name, _, anchor = urllib.parse.unquote(target).partition("#")
    if name.startswith("/"):
        return f"link {target} must be relative"
    file = (root / path).parent / name if name else root / path
    if not file.resolve().is_relative_to(root.resolve()):
        return f"link {target} leaves the repository"
    if not file.exists():
        return f"link {target} points at nothing"
    if anchor and file.suffix == ".md" and anchor not in anchors_of(file.read_text("utf-8")):
        return f"link {target}: no such heading"
    return None


def check_markdown(root, path, text):
    for number, line in lines_outside_code(text):
        line = re.sub(r"`[^`]*`", "", line)
        targets = LINK.findall(line) + REFERENCE.findall(line) + HTML_LINK.findall(line)
        for target in targets:
            if problem := check_link(root, path, target):
                yield number, problem


def check_header(text):
    before = text.split("#pragma once")[0].splitlines()
    comments = [line for line in before if line.startswith("//") and "SPDX" not in line]
    if not any(len(line.strip("/ ")) > 10 for line in comments):
        yield 2, "a public header needs a file comment between the SPDX line and '#pragma once'"


def check_machine_paths(root, text):
    own = str(root.resolve())
    for number, line in enumerate(text.splitlines(), 1):
        if match := MACHINE_PATH.search(line) or WINDOWS_PATH.search(line):
            yield number, f"absolute path of a machine: {match[0]}"
        elif len(own) > 1 and re.search(re.escape(own) + r"(?![\w-])", line):
            yield number, f"absolute path of this checkout: {own}"


def check_file(root, path):
    data = (root / path).read_bytes()
    if b"\0" in data:
        return []
    text = data.decode("utf-8", errors="replace")
    is_golden_data = path.startswith("tests/golden/") and path.endswith(".jsonl")
    findings = [] if is_golden_data else list(check_machine_paths(root, text))
    if path.endswith(".md"):
        findings += check_markdown(root, path, text)
    if path.endswith(".h") and path.split("/")[0] in PUBLIC:
        findings += check_header(text)
    return [f"{path}:{number}: {rule}" for number, rule in sorted(findings)]


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
    files = [file for file in files if file and (arguments.root / file).is_file()]
    findings = [finding for file in sorted(files) for finding in check_file(arguments.root, file)]
    for finding in findings:
        print(finding)
    print(f"check_docs: {len(files)} files, {len(findings)} findings", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
