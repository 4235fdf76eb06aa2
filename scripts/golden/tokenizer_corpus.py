# SPDX-License-Identifier: Apache-2.0
"""Words, the generator of texts (the tests have the same one) and the hash of ids."""
import struct

SPACE = "\u2581"

SUBJECTS = "a red circle;the small boat;two children;an old lighthouse keeper;The quick brown fox;ein kleiner Hund;" \
           "une jeune femme;el gato negro;Красный круг;маленькая лодка;一只小猫;赤い丸;파란 사각형;دائرة حمراء;एक छोटा लड़का".split(";")
VERBS = "moves to the right over;jumps across;slowly turns above;is dancing under;can't see;läuft durch;traverse;" \
        "salta sobre;движется над;在跑过;の上を動く;위로 움직인다;تتحرك فوق;चलता है".split(";")
PLACES = "green grass;the stormy sea at night;3 blue squares;a snow-covered mountain;the café's garden;den Wald;" \
         "la forêt enchantée;la montaña;синим морем;绿色的草地;青い背景;초록 잔디;البحر الأزرق;पहाड़ के पास".split(";")
ENDINGS = ". ;! ;? ;, slowly. ;: 4K, 60fps. ;; then again.\n;… ;。;؟ ;।\n".split(";")

SYLLABLES = "ka lo mi tru ben sha ing er ous bri zen ta qui pla do vir na sto fle gra mo wen ти ра но ле ша кор 山 水 火 木 花 て に を さ".split()

WORDS = "a the cat runs over blue sky camera zoom-in 1080p 24fps don't We'll I'VE it's they're HDR x2 2023-11-05 3.14 " \
        "naïve Ångström ﬁne ﬂow ½ ² ٣٤ Ⅳ ①②③ ｆｕｌｌ ＡＢＣ ǅ ß ẞ ſ's 'ſ İstanbul ıŋ ЖЁЛТЫЙ Ελλάς ΣΑΣ ვეფხი հայերեն עברית سلام हिन्दी " \
        "বাংলা ไทยแลนด์ 中文字符 日本語テキスト 한국어 각 각 ㈱ ㌔ ﷺ ᄀᄀᄀ".split()
MARKS = ["e\u0301", "o\u0308\u0304", "a\u0323\u0302", "n\u0303\u0303\u0303", "i\u0307\u0323", "\u0915\u094d\u0937", "\u0e33", "\u0301",
         "\u200d", "\u200c", "\ufe0f", "\u20dd", "Z\u0351\u036b\u0343\u036a\u0302", "\u1100\u1161\u11a8", "\u0e01\u0e34\u0e4c", "\u00e9\u0301"]
EMOJI = ["\U0001F600", "\U0001F468\u200d\U0001F469\u200d\U0001F467\u200d\U0001F466", "\U0001F3F3\ufe0f\u200d\U0001F308", "\U0001F1E9\U0001F1EA\U0001F1EB",
         "\U0001F44D\U0001F3FD", "1\ufe0f\u20e3", "\u2764\ufe0f", "\U0001F9D1\U0001F3FB\u200d\U0001F680", "\U0001F1FA"]
CONTROLS = ["\x00", "\x01", "\x07", "\x08", "\t", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1b", "\x1c", "\x1f", "\x7f", "\x80", "\x85", "\x9f",
            "\u00a0", "\u00ad", "\u034f", "\u061c", "\u1680", "\u180e", "\u2002", "\u2009", "\u200b", "\u200e", "\u2028", "\u2029", "\u202e",
            "\u202f", "\u205f", "\u2060", "\u3000", "\ufeff", "\ufffc", "\ufffd", "\uffff", "\ue000", "\U000f0000", "\U0010ffff"]
SPECIAL = ["<pad>", "</s>", "<s>", "<unk>", "<extra_id_0>", "<extra_id_7>", "<extra_id_", "<|endoftext|>", "<|startoftext|>", "<|STARTOFTEXT|>",
           "<|im_start|>", "<|im_end|>", "<|im_end", "<tool_call>", "</tool_call>", "<|user|>", "<|end|>", "<image>", "[MASK]", "[mask]", "Token", "token",
           "<0x41>", "<0xFF>", "\u2581", "\u2581\u2581the", "</w>", "the</w>", "\u0120a", "##ing", "<|", "|>", "<", ">"]
PUNCTUATION = [".", ",", "!!!", "...", "?!", "--", "\u2014", "'", "\u2019s", "\u201cquote\u201d", "(x)", "[y]", "{z}", "#tag", "@user", "$9.99", "50%", "a/b\\c",
               "_under_score_", "~`^", "=>", "http://a.b/c?d=e&f", "a@b.co", "\u00bf", "\u3001", "\uff01", "\u0964"]
SPACES = [" ", " ", " ", "  ", "   ", " \t ", "\n\n", " \n", "\u00a0 "]
RANGES = [(0x20, 0x7e), (0xa0, 0x24f), (0x250, 0x36f), (0x370, 0x52f), (0x530, 0x6ff), (0x900, 0xdff), (0xe00, 0x10ff), (0x1100, 0x11ff),
          (0x1ab0, 0x1aff), (0x1e00, 0x1fff), (0x2000, 0x206f), (0x2070, 0x218f), (0x2190, 0x2bff), (0x2e80, 0x33ff), (0x4e00, 0x4fff), (0xa640, 0xabff),
          (0xac00, 0xacff), (0xf900, 0xfdff), (0xfe00, 0xffef), (0x10000, 0x107ff), (0x11000, 0x114ff), (0x1d400, 0x1d7ff), (0x1f000, 0x1faff), (0x20000, 0x200ff)]


class Random:
    """splitmix64."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        return z ^ (z >> 31)

    def below(self, n):
        return self.next() % n

    def choice(self, items):
        return items[self.below(len(items))]


def compose(spec):
    """The texts of strings.json; the test has the same function."""
    random = Random(spec["seed"])
    fragments, ranges = spec["fragments"], spec["ranges"]
    texts = []
    for _ in range(spec["count"]):
        count = random.below(8) if random.below(100) < 80 else random.below(40)
        text = ""
        for _ in range(count):
            kind = random.below(100)
            if kind < 15:
                low, high = random.choice(ranges)
                text += chr(low + random.below(high - low + 1))
                continue
            if 15 <= kind < 55:
                text += " "
            text += random.choice(fragments) * (1 if kind < 95 else 1 + random.below(4))
        texts.append(text)
    return texts


def sentences(count, seed):
    random = Random(seed)
    lines = []
    for _ in range(count):
        line = random.choice(SUBJECTS) + " " + random.choice(VERBS) + " " + random.choice(PLACES) + random.choice(ENDINGS)
        if random.below(4) == 0:
            line += random.choice(WORDS) + " " + random.choice(WORDS)
        for _ in range(random.below(4)):
            line += " " + "".join(random.choice(SYLLABLES) for _ in range(1 + random.below(4)))
        lines.append(line.strip())
    return lines


def fnv1a(ids):
    h = 0xCBF29CE484222325
    for value in ids:
        for byte in struct.pack("<I", value):
            h = ((h ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return (h ^ (h >> 32)) & 0xFFFFFFFF
