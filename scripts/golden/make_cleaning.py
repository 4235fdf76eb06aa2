#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes tests/text/data/cleaning.jsonl: random captions and what the cleaning rules make of them.

    pip install beautifulsoup4==4.15.0
    python3.11 scripts/golden/make_cleaning.py > tests/text/data/cleaning.jsonl

The rules are written here a second time, with Python's re, html and Beautiful Soup, so that its Unicode
classes and its HTML parser judge the C++ ones. One JSON list a line: text, cleaned once, cleaned twice,
text of the HTML, HTML unescaped.
"""
import argparse
import html
import json
import random
import re
import urllib.parse
import warnings

from bs4 import BeautifulSoup

FILE_TYPES = "png|jpg|jpeg|bmp|webp|eps|pdf|apk|mp4"
ENDINGS = "com|co|ru|net|org|edu|gov|it"
CJK = [(0x31C0, 0x31EF), (0x31F0, 0x31FF), (0x3200, 0x32FF), (0x3300, 0x33FF), (0x3400, 0x4DBF), (0x4DC0, 0x4DFF), (0x4E00, 0x9FFF)]
DASHES = "[-\u058a\u05be\u1400\u1806\u2010-\u2015\u2e17\u2e1a\u2e3a\u2e3b\u2e40\u301c\u3030\u30a0\ufe31\ufe32\ufe58\ufe63\uff0d]+"
EARLY = [(r"@\w+\b", "")] + [(f"[{chr(a)}-{chr(b)}]+", "") for a, b in CJK] + [
    (DASHES, "-"), ("[`\u00b4\u00ab\u00bb\u201c\u201d\u00a8]", '"'), ("[\u2018\u2019]", "'"), ("&quot;?", ""), ("&amp", ""),
    (r"(?:\d{1,3}\.){3}\d{1,3}", " "), (r"\d:\d\d\s+$", ""), (r"\\n", " "), (r"#\d{1,3}\b", ""), (r"#\d{5,}\b", ""), (r"\b\d{6,}\b", ""),
    (rf"\S+\.(?:{FILE_TYPES})", ""), ("[\"']{2,}", '"'), (r"\.{2,}", " "),
    ("[#\u00ae\u2022\u00a9\u2122&@\u00b7\u00ba\u00bd\u00be\u00bf\u00a1\u00a7~()\\[\\]{}|\\\\/*]+", " "), (r"\s+\.\s+", " ")]
LATE = [
    (r"\b[a-zA-Z]{1,3}\d{3,15}\b", ""), (r"\b[a-zA-Z]+\d+[a-zA-Z]+\b", ""), (r"\b\d+[a-zA-Z]+\d+\b", ""),
    (r"(?:worldwide\s+)?(?:free\s+)?shipping", ""), (r"(?:free\s)?download(?:\sfree)?", ""), (r"\bclick\s(?:for|on)\s\w+", ""),
    (rf"\b(?:{FILE_TYPES})(?:\simages?)?", ""), (r"\bpage\s+\d+\b", ""), (r"\b\d*[a-zA-Z]+\d+[a-zA-Z]+\d+[a-zA-Z\d]*\b", " "),
    (r"\b\d+\.?\d*[x\u0445\u00d7]\d+\.?\d*\b", ""), (r"\b\s+:\s+", ": "), (r"(\D[,./])\b", r"\1 "), (r"\s+", " "),
    (r"^[\"']([\w\W]+)[\"']$", r"\1"), (r"^['_,\-:;]", ""), (r"['_,\-:+]$", ""), (r"^\.\S+$", "")]


def clean(text):
    text = urllib.parse.unquote_plus(text).strip().lower().replace("<person>", "person")
    for scheme in ("https?:", "www:"):
        address = rf"\b(?:{scheme}(?:/{{1,3}}|[a-zA-Z0-9%])|[a-zA-Z0-9.\-]+[.](?:{ENDINGS})[\w/-]*\b/?(?!@))"
        text = re.sub(address, "", text)
    text = BeautifulSoup(text, features="html.parser").text
    for pattern, replacement in EARLY:
        text = re.sub(pattern, replacement, text)
    if len(re.findall("[-_]", text)) > 3:
        text = re.sub("[-_]", " ", text)
    text = html.unescape(html.unescape(text)).strip()
    for pattern, replacement in LATE:
        text = re.sub(pattern, replacement, text)
    return text.strip()


TAGS = """<b>|</b>|<a href="x">|</a>|<br>|<br/>|</br>|<script>|</script>|< / script >|</ script >|<script src=x />|<style>|</style>|<template>|</template>|<rt>
</rt>|<pre>|</pre>|<p class=a b="c>d" e='f'>|</p foo>|</>|</ >|</3>|<!-- c -->|<!--|-->|--  >|<!doctype html>|<!DOC|<!>|<?php x ?>|<?|<![cdata[ x ]]>
<![CDATA[y]]>|<![if a]>|<![endif]>|<![x|<a b = >|<a "b">|<a b="c|<a b=='c d>|<a/b>|<a / >|<a b / >|<1>|<|>|<<b>>|<b|<b |<b x|<a b= "c>|<img src=x>
<ruby>\u6f22<rt>kan</rt></ruby>|<a b=c/>|<a b c=d>e|<a\u00a0b>|<a b\x1c=c>|<textarea> </textarea>|<x y=z"w">"""
REFERENCES = """&amp;|&amp|&lt;|&gt|&quot;|&quot|&nbsp;|&copy|&copy;|&eacute;|&#65;|&#65|&#x41;|&#x41|&#|&#;|&#x;|&|&a|&ab|&notin;|&notit;|&noti|&not|&#128;|&#0;
&#xD800;|&#1114112;|&#99999999999999;|&#11;|&#xFFFE;|&amp;lt;|&fjlig;|&bne;|&AMP|&amp-|&amp.x|&x-;|&NotEqualTilde;|&CounterClockwiseContourIntegral;|&\u00e9;"""
WORDS = """a|cat|the|photo|png|jpg images|image.png|x.jpeg|doc.pdf.|a.b.c|example.com|www.test.org/page/|http://a.b|https:/|https:///x|http:x|http:%20|www:/|www:a
foo.co.uk|x.com/a-b_c@d|a.com@b|@nick|@ nick|@_a|#1|#12345|#1234|123456|1234567a|12:34|1:23 |\\n|\\\\n|  | . |..|...|. |.|-|--|_|-_-|\u2013|\u2014|"|'|''|\u201cx\u201d
\u00ab|`|\u00b4|(x)|[y]|*|/|~|\u2122|\u00bd|\u00ba|192.168.0.1|1.2.3.4.5|999.1.1.1|ab12|abc123|ab1c|1ab2|a1b2c3|1a2b3c4d|12a34b|10x20|3.5x4.5|10\u00d720|5\u04456|10x20x30
free shipping|worldwide  free shipping|free download free|download|click for x|click on  y|page 12|page  3 of| : |:| :x|word,word|1,2|a/b|a.b|+|%20|%2B|%|%4|%zz|%C3%A9
%c3|%E4%BD|%00|<person>|<PERSON>|&lt;person&gt;|\u7ea2|\u3072|\u3231|\u31f0|\u00e9|\u00c9|\u03a3|\u0391\u03a3|\u0391\u03a3.|\u0130|\u00df|\u00a0|\u2003|\x1c|\x85|\u200b|\U0001f600
\u00b2|\u0663|\u0663\u0663\u0663\u0663\u0663\u0663|\u2163|\u01c6|.hidden|_x|'q'|x+|x:|;y|worldwide shipping|jc6640vc|6640vc231|e-mail|4k|shipping"""


def split(table):
    return table.replace("\n", "|").split("|") + ["\n", "\t"]


def caption(rng):
    share = rng.random()
    words, markup = split(WORDS), split(TAGS) + split(REFERENCES)
    pool = words * 2 + markup if share < 0.6 else words if share < 0.85 else markup
    return "".join(rng.choice(pool) + (rng.choice(["", " ", "  "]) if rng.random() < 0.6 else "") for _ in range(rng.randint(0, 14)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--seed", type=int, default=77)
    arguments = parser.parse_args()
    warnings.filterwarnings("ignore")
    rng = random.Random(arguments.seed)
    seen = set()
    while len(seen) < arguments.count:
        text = caption(rng)
        if text in seen or len(text) > 200:
            continue
        try:
            visible = BeautifulSoup(text, features="html.parser").text
            once = clean(text)
            twice = clean(once)
        except Exception:  # Beautiful Soup refuses some marked sections
            continue
        seen.add(text)
        print(json.dumps([text, once, twice, visible, html.unescape(text)]))


if __name__ == "__main__":
    main()
