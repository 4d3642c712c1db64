"""Byte-pair encoding as CLIP does it: learn the merges, encode, decode, and write the files that
CLIPTokenizer loads.
"""

import json
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import regex
from torch import Tensor

from ..files.checkpoints import write_bytes
from ..validation import check_positive_int, describe

START, END, END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "</w>"
_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>"
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


@dataclass(frozen=True)
class Vocabulary:
    """A byte-pair vocabulary: the id of every token, the rank of every merge (lower merges first),
    tokens a prompt may have.
    """

    ids: dict[str, int]
    ranks: dict[tuple[str, str], int]
    max_length: int

    @property
    def tokens(self) -> dict[int, str]:
        """The token of every id."""
        return {i: token for token, i in self.ids.items()}


@cache
def byte_alphabet() -> tuple[str, ...]:
    """Return one printable character for each of the 256 bytes, so that no token holds a space or a
    control character.

    Printable bytes of Latin-1 stand for themselves, the others for U+0100, U+0101, ... in order
    (GPT-2's table).
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


def split_words(text: str) -> list[str]:
    """Return the words of a text as CLIP sees them: NFC, lower case, cut into letters, single
    digits, and runs of other signs.

    White space only separates. English endings ('s, 't, 're, 've, 'm, 'll, 'd) are words of their
    own. Raises TypeError for what is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be one string, got {describe(text)}. For several, use a loop.")
    lower = "".join(character.lower() for character in unicodedata.normalize("NFC", text))
    return [
        word
        for part in regex.findall(f"{_SPECIAL}|{_WORD}", lower)
        for word in regex.findall(_WORD, part)
    ]


def word_symbols(word: str) -> list[str]:
    """Return the symbols that merging starts from: one for each UTF-8 byte of the word, the last
    marked ``</w>``.
    """
    symbols = [byte_alphabet()[byte] for byte in word.encode("utf-8", errors="replace")]
    return [*symbols[:-1], symbols[-1] + END_OF_WORD] if symbols else []


def merge_pair(symbols: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Return the symbols with every occurrence of ``pair`` joined, from left to right."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


def learn_merges(word_counts: dict[str, int], num_merges: int) -> list[tuple[str, str]]:
    """Return up to ``num_merges`` pairs, in the order of merging: each time the most frequent pair
    of neighbours.

    Sennrich et al., arXiv:1508.07909, algorithm 1, on bytes. Ties go to the pair that sorts first,
    so the order of the words does not matter. It ends early when every word is one symbol.
    """
    words = {word: word_symbols(word) for word in word_counts}
    merges: list[tuple[str, str]] = []
    while len(merges) < num_merges:
        pairs: Counter[tuple[str, str]] = Counter()
        for word, symbols in words.items():
            for pair in zip(symbols, symbols[1:], strict=False):
                pairs[pair] += word_counts[word]
        if not pairs:
            break
        merges.append(min(pairs, key=lambda pair: (-pairs[pair], pair)))
        words = {word: merge_pair(symbols, merges[-1]) for word, symbols in words.items()}
    return merges


def bpe(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Return the tokens of one word: the neighbours whose merge was learned earliest are joined,
    until none can be.

    ``ranks`` maps a pair to its place in the list of merges. Of equal pairs the leftmost is joined
    first.
    """
    symbols = word_symbols(word)
    while True:
        known = [
            (ranks[pair], i)
            for i, pair in enumerate(zip(symbols, symbols[1:], strict=False))
            if pair in ranks
        ]
        if not known:
            return symbols
        i = min(known)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


def encode_text(text: str, vocabulary: Vocabulary, *, max_length: int | None = None) -> list[int]:
    """Return the ids of a text between the start and the end token, as ``CLIPTokenizer(text)``
    does.

    With ``max_length`` (at least 2) the result has exactly that many ids: what is too long is cut
    and still ends with the end token, what is too short is filled with end tokens. Raises TypeError
    for what is no string.
    """
    if not isinstance(text, str):
        raise TypeError(f"text must be one string, got {describe(text)}. For several, use a loop.")
    ids, start, end = vocabulary.ids, vocabulary.ids[START], vocabulary.ids[END]
    body: list[int] = []
    for part in regex.split(f"({_SPECIAL})", text):
        words = (
            [[part]]
            if part in (START, END)
            else [bpe(word, vocabulary.ranks) for word in split_words(part)]
        )
        body += [ids.get(token, end) for tokens in words for token in tokens]
    if max_length is None:
        return [start, *body, end]
    check_positive_int("max_length", max_length)
    if max_length < 2:
        raise ValueError(
            f"max_length must be at least 2, for the start and the end token, got {max_length}."
        )
    body = body[: max_length - 2]
    return [start, *body, *[end] * (max_length - 1 - len(body))]


def decode_text(ids: Iterable[int] | Tensor, vocabulary: Vocabulary) -> str:
    """Return the text of ids, without start, end and padding; bytes that are no UTF-8 become
    U+FFFD.

    Words are joined by single spaces: upper case and the original spaces are lost. Raises
    ValueError for an unknown id.
    """
    numbers = [int(i) for i in (ids.flatten().tolist() if isinstance(ids, Tensor) else ids)]
    tokens = vocabulary.tokens
    if unknown := [i for i in numbers if i not in tokens]:
        raise ValueError(
            f"ids must lie in the vocabulary of {len(tokens)} tokens, got {unknown[0]}."
        )
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_alphabet())}
    symbols = "".join(tokens[i] for i in numbers if tokens[i] not in (START, END))
    text = bytes(byte_of[symbol] for symbol in symbols).decode("utf-8", errors="replace")
    return text.replace(END_OF_WORD, " ").strip()


def train_vocabulary(
    captions: Iterable[str], folder: str | Path, *, vocab_size: int = 1000, max_length: int = 32
) -> Vocabulary:
    """Learn a vocabulary from captions and write it to ``folder``, where
    ``CLIPTokenizer.from_pretrained`` finds it.

    Ids are numbered as CLIP's: 256 byte symbols, the same with ``</w>``, the merges in the order
    learned, start, end (which also pads). So any text in any script has an id. It has fewer than
    ``vocab_size`` tokens if every word of the captions is one token before. Raises TypeError for
    captions that are no strings, ValueError for a size under 514.
    """
    if isinstance(captions, str):
        raise TypeError(
            f"captions must be a list of strings, got {describe(captions)}. One caption: [caption]."
        )
    check_positive_int("vocab_size", vocab_size)
    check_positive_int("max_length", max_length)
    if vocab_size < 514:
        raise ValueError(
            f"vocab_size must be at least 514 (512 byte symbols, start and end), got {vocab_size}."
        )
    if max_length < 3:
        raise ValueError(
            "max_length must be at least 3, for the start, one token and the end, got"
            f" {max_length}."
        )
    merges = learn_merges(
        Counter(word for caption in captions for word in split_words(caption)), vocab_size - 514
    )
    symbols = sorted(byte_alphabet())
    tokens = [
        *symbols,
        *(s + END_OF_WORD for s in symbols),
        *("".join(pair) for pair in merges),
        START,
        END,
    ]
    vocabulary = Vocabulary(
        {token: i for i, token in enumerate(dict.fromkeys(tokens))}, _ranks(merges), max_length
    )
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_length, **specials}
    for name, content in {
        "vocab.json": json.dumps(vocabulary.ids, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }.items():
        write_bytes(Path(folder) / name, content.encode("utf-8"))
    return vocabulary


def load_vocabulary(folder: str | Path) -> Vocabulary:
    """Read a tokenizer folder: ``tokenizer.json``, or ``vocab.json`` with ``merges.txt``, and
    ``tokenizer_config.json``.

    Raises FileNotFoundError for a folder without them, ValueError for files that cannot be read.
    """
    folder = Path(folder)
    try:
        if (folder / "vocab.json").is_file():
            ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        else:
            model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            ids, lines = dict(model["model"]["vocab"]), model["model"]["merges"]
            ids |= {token["content"]: token["id"] for token in model["added_tokens"]}
        merges = [
            tuple(line.split(" ") if isinstance(line, str) else line) for line in lines if line
        ]
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        if any(len(pair) != 2 for pair in merges) or not {START, END} <= ids.keys():
            raise ValueError("a merge that is no pair, or no start and end token")
        return Vocabulary(ids, _ranks(merges), int(config["model_max_length"]))
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} is no tokenizer folder: {error.filename} is missing. It needs"
            " tokenizer_config.json and tokenizer.json, or vocab.json with merges.txt."
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"the tokenizer files in {folder} are damaged ({error!r}). Restore the folder."
        ) from error


def _ranks(merges: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {pair: rank for rank, pair in enumerate(merges)}
