#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes text/tokenizer/html_entities.inc from the table of Python's standard library.

    python3 scripts/make_html_entities.py > text/tokenizer/html_entities.inc
"""
from html.entities import html5

HEAD = """// SPDX-License-Identifier: Apache-2.0
// Named character references of HTML 5 (html.spec.whatwg.org, section 13.5), sorted by name, in UTF-8;
// true: also known without the semicolon. Written by scripts/make_html_entities.py.
// clang-format off"""


def main():
    names = {name.rstrip(";"): text for name, text in html5.items()}
    line = ""
    print(HEAD)
    for name in sorted(names):
        text = "".join(f"\\x{byte:02x}" for byte in names[name].encode())
        row = f'{{"{name}", "{text}", {"true" if name in html5 else "false"}}},'
        if len(line) + len(row) + 1 > 98:
            print(line)
            line = row
        else:
            line = f"{line} {row}".strip()
    print(line)
    print("// clang-format on")


if __name__ == "__main__":
    main()
