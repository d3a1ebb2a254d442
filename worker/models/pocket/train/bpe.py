"""Stage `tokenizer`: a small byte-level BPE in CLIP's own file layout."""

import json
import random
from collections import Counter, defaultdict
from pathlib import Path

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from captions import OBJECT_BY_NAME, caption, random_spec
from vocabulary import COLOUR_SYNONYMS, COLOURS

VOCABULARY = 3072
POSITIONS = 24
START, END = "<|startoftext|>", "<|endoftext|>"
# CLIP's word pattern: contractions, letters, single digits, other signs.
WORDS = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"


def corpus(work: Path) -> list[str]:
    """Training captions, every word the model must know, and emoji keywords."""
    rng = random.Random(2)
    lines = [caption(rng, random_spec(rng)) for _ in range(20000)]
    names = [word for item in OBJECT_BY_NAME.values() for word in (item.name, *item.synonyms)]
    colours = [*COLOURS, *(word for words in COLOUR_SYNONYMS.values() for word in words)]
    lines += (names + colours) * 50
    return lines + json.loads((work / "words.json").read_text()) * 2


def learn_merges(words: Counter[tuple[str, ...]], count: int) -> list[tuple[str, str]]:
    """Byte-pair encoding in the textbook way: the commonest pair first.

    Pairs of equal frequency are taken in alphabetical order, so the result
    depends on the words alone. (The trainer of the `tokenizers` package breaks
    ties by hash order and gives other ids on every run.)
    """
    spellings = sorted(words)
    weights = [words[spelling] for spelling in spellings]
    pieces = [list(spelling) for spelling in spellings]
    frequency: Counter[tuple[str, str]] = Counter()
    found_in: defaultdict[tuple[str, str], set[int]] = defaultdict(set)
    for index, parts in enumerate(pieces):
        for pair in zip(parts, parts[1:], strict=False):
            frequency[pair] += weights[index]
            found_in[pair].add(index)
    merges = []
    while len(merges) < count and frequency:
        best = min(frequency, key=lambda pair: (-frequency[pair], pair))
        merges.append(best)
        for index in found_in.pop(best):
            parts = pieces[index]
            for pair in zip(parts, parts[1:], strict=False):
                frequency[pair] -= weights[index]
                if frequency[pair] <= 0:
                    del frequency[pair]
            merged, at = [], 0
            while at < len(parts):
                if tuple(parts[at : at + 2]) == best:
                    merged.append(parts[at] + parts[at + 1])
                    at += 2
                else:
                    merged.append(parts[at])
                    at += 1
            pieces[index] = merged
            for pair in zip(merged, merged[1:], strict=False):
                frequency[pair] += weights[index]
                found_in[pair].add(index)
        frequency.pop(best, None)
    return merges


def train(work: Path) -> None:
    """Writes `WORK/tokenizer/` with tokenizer.json, vocab.json, merges.txt and configs."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(
        models.BPE(unk_token=END, continuing_subword_prefix="", end_of_word_suffix="</w>")
    )
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    words: Counter[tuple[str, ...]] = Counter()
    for line in corpus(work):
        line = tokenizer.normalizer.normalize_str(line)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(line):
            words[(*word[:-1], word[-1] + "</w>")] += 1
    # As in CLIP: the bytes, the bytes that end a word, the merges, two markers.
    merges = learn_merges(words, VOCABULARY - 2 - 2 * len(alphabet))
    tokens = [*alphabet, *(byte + "</w>" for byte in alphabet)]
    tokens += dict.fromkeys(first + second for first, second in merges)
    ids = {token: number for number, token in enumerate(tokens)}
    layout = json.loads(tokenizer.to_str())
    layout["model"]["vocab"] = ids
    layout["model"]["merges"] = [list(pair) for pair in merges]
    start, end = len(ids), len(ids) + 1
    ids[START], ids[END] = start, end
    layout["added_tokens"] = [
        {
            "id": number,
            "content": content,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": normalized,
            "special": True,
        }
        for number, content, normalized in ((start, START, True), (end, END, False))
    ]
    layout["post_processor"] = {
        "type": "RobertaProcessing",
        "sep": [END, end],
        "cls": [START, start],
        "trim_offsets": False,
        "add_prefix_space": False,
    }
    layout["decoder"] = {
        "type": "ByteLevel",
        "add_prefix_space": True,
        "trim_offsets": True,
        "use_regex": True,
    }
    lines = [" ".join(pair) for pair in merges]
    signs = {"bos_token": START, "eos_token": END, "pad_token": END, "unk_token": END}
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": POSITIONS,
        "do_lower_case": True,
        "add_prefix_space": False,
        "errors": "replace",
        **signs,
    }
    folder = work / "tokenizer"
    folder.mkdir(exist_ok=True)
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(lines) + "\n", "utf-8")
    for name, value in (
        ("tokenizer_config.json", config),
        ("special_tokens_map.json", signs),
        ("vocab.json", ids),
        ("tokenizer.json", layout),
    ):
        (folder / name).write_text(json.dumps(value, ensure_ascii=False) + "\n", "utf-8")


def is_done(work: Path) -> bool:
    return (work / "tokenizer" / "tokenizer.json").exists()


class Encoder:
    """Turns captions into ids padded to POSITIONS, as the pipeline will."""

    def __init__(self, work: Path) -> None:
        self.tokenizer = Tokenizer.from_file(str(work / "tokenizer" / "tokenizer.json"))
        self.size = self.tokenizer.get_vocab_size()
        self.end = self.size - 1
        self.tokenizer.enable_truncation(POSITIONS)
        self.tokenizer.enable_padding(length=POSITIONS, pad_id=self.end, pad_token=END)

    def __call__(self, captions: list[str]) -> list[list[int]]:
        return [item.ids for item in self.tokenizer.encode_batch(captions)]
