"""A byte-pair vocabulary learned from captions, and the files that CLIPTokenizer loads."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from numbers import Integral
from pathlib import Path

from torch import Tensor

from ..door import checked, positive_int
from ..files.paths import user_path, write_bytes
from ..validation import describe
from .tokenization import (
    END,
    END_OF_WORD,
    START,
    Vocabulary,
    byte_alphabet,
    merge_pair,
    split_words,
    word_symbols,
)


def _some_or_none(name: str, n: int, given: dict) -> None:
    if n < 0:
        raise ValueError(f"{name} must be at least 0, got {n}.")


def _counts(name: str, word_counts: dict[str, int], given: dict) -> None:
    for word, n in word_counts.items():
        if not isinstance(word, str) or isinstance(n, bool) or not isinstance(n, Integral):
            raise TypeError(f"{name} must give each word a whole number, got {word!r}: {n!r}.")


@checked(word_counts=_counts, num_merges=_some_or_none)
def learn_merges(word_counts: dict[str, int], num_merges: int) -> list[tuple[str, str]]:
    """Return up to ``num_merges`` pairs, in the order of merging.

    Each time it is the most frequent pair of neighbours (Sennrich et al., arXiv 1508.07909,
    Algorithm 1, on bytes). Ties go to the pair that sorts first, so the order of the words does not
    matter. It ends early when every word is one symbol.
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
        words = {word: merge_pair(row, merges[-1]) for word, row in words.items()}
    return merges


def _list(name: str, captions: object, given: dict) -> None:
    if isinstance(captions, str):
        got = describe(captions)
        raise TypeError(f"captions must be a list of strings, got {got}. One caption: [caption].")
    if isinstance(captions, (Tensor, Mapping)) or not isinstance(captions, Iterable):
        raise TypeError(f"captions must be a list of strings, got {describe(captions)}.")
    for i, caption in enumerate(captions if hasattr(captions, "__len__") else ()):
        if not isinstance(caption, str):
            raise TypeError(f"captions must hold strings, got {describe(caption)} at index {i}.")


_list.typed = True


def _all_bytes_and_ends(name: str, n: int, given: dict) -> None:
    if n < 514:
        least = "514 (512 byte symbols, start and end)"
        raise ValueError(f"{name} must be at least {least}, got {n}.")


def _room_for_a_token(name: str, n: int, given: dict) -> None:
    if n < 3:
        least = "3, for the start, one token and the end"
        raise ValueError(f"{name} must be at least {least}, got {n}.")


@checked(
    captions=_list, vocab_size=(positive_int, _all_bytes_and_ends),
    max_length=(positive_int, _room_for_a_token),
)
def train_vocabulary(
    captions: Iterable[str], folder: str | Path, *, vocab_size: int = 1000, max_length: int = 32
) -> Vocabulary:
    """Learn a vocabulary from captions and write the files of a ``CLIPTokenizer`` to ``folder``.

    Ids are numbered as CLIP's: 256 byte symbols, the same with ``</w>``, the merges in the order
    learned, start, end (which also pads). So any text in any script has an id. It has fewer than
    ``vocab_size`` tokens if every word of the captions is one token before. Raises TypeError for
    captions that are no strings, ValueError for a size under 514.
    """
    word_counts = Counter(word for caption in captions for word in split_words(caption))
    merges = learn_merges(word_counts, vocab_size - 514)
    symbols = sorted(byte_alphabet())
    tokens = [*symbols, *(s + END_OF_WORD for s in symbols), *map("".join, merges), START, END]
    ids = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    vocabulary = Vocabulary(ids, _ranks(merges), max_length)
    specials = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_length, **specials}
    for name, content in {
        "vocab.json": json.dumps(vocabulary.ids, ensure_ascii=False),
        "merges.txt": "\n".join(["#version: 0.2", *(" ".join(pair) for pair in merges), ""]),
        "tokenizer_config.json": json.dumps(config, indent=2),
    }.items():
        write_bytes(user_path(folder, "folder") / name, content.encode("utf-8"))
    return vocabulary


@checked()
def load_vocabulary(folder: str | Path) -> Vocabulary:
    """Read the vocabulary in a tokenizer folder.

    That is ``tokenizer.json``, or ``vocab.json`` with ``merges.txt``, and
    ``tokenizer_config.json``. Raises FileNotFoundError for a folder without them, ValueError for
    files that cannot be read.
    """
    folder = user_path(folder, "folder")
    try:
        if (folder / "vocab.json").is_file():
            ids = json.loads((folder / "vocab.json").read_text(encoding="utf-8"))
            lines = (folder / "merges.txt").read_text(encoding="utf-8").splitlines()[1:]
        else:
            model = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
            ids, lines = dict(model["model"]["vocab"]), model["model"]["merges"]
            ids |= {token["content"]: token["id"] for token in model["added_tokens"]}
        lines = [line.split(" ") if isinstance(line, str) else line for line in lines if line]
        merges = [tuple(line) for line in lines]
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
        damage = f"the tokenizer files in {folder} are damaged ({error!r})"
        raise ValueError(f"{damage}. Restore the folder.") from error


def _ranks(merges: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    return {pair: rank for rank, pair in enumerate(merges)}
