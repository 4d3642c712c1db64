"""Byte-pair encoding as CLIP does it: texts to ids, and back."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Integral

import regex
from torch import Tensor

from ..door import checked, positive_int
from ..validation import describe

START, END, END_OF_WORD = "<|startoftext|>", "<|endoftext|>", "</w>"
_SPECIAL = r"<\|startoftext\|>|<\|endoftext\|>"
_WORD = r"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"


def _string(name: str, text: object, given: dict) -> None:
    if not isinstance(text, str):
        raise TypeError(f"text must be one string, got {describe(text)}. For several, use a loop.")


_string.typed = True


def _room_for_both_ends(name: str, n: int, given: dict) -> None:
    if n < 2:
        raise ValueError(f"{name} must be at least 2, for the start and the end token, got {n}.")


def _known(name: str, ids: Iterable[int] | Tensor, given: dict) -> None:
    tokens = given["vocabulary"].tokens
    if isinstance(ids, (str, bytes, dict)) or not isinstance(ids, (Tensor, Iterable)):
        raise TypeError(f"ids must be a list or a tensor of ids, got {describe(ids)}.")
    if isinstance(ids, Tensor) and (ids.is_meta or ids.is_floating_point() or ids.is_complex()):
        raise TypeError(f"ids must be whole numbers, got {describe(ids)}.")
    for one in () if isinstance(ids, Tensor) or not hasattr(ids, "__len__") else ids:
        if isinstance(one, Tensor) and one.ndim == 0 and not one.is_floating_point():
            continue
        if not isinstance(one, Integral) or isinstance(one, bool):
            raise TypeError(f"ids must be whole numbers, got {describe(one)} in {describe(ids)}.")
    if unknown := [i for i in numbers(ids) if i not in tokens]:
        size = f"the vocabulary of {len(tokens)} tokens"
        raise ValueError(f"ids must lie in {size}, got {unknown[0]}.")


_known.typed = True


@dataclass(frozen=True)
class Vocabulary:
    """A byte-pair vocabulary.

    The id of every token, the rank of every merge (lower merges first), and how many tokens a
    prompt may have.
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
    """Return one printable character for each of the 256 bytes (GPT-2's table).

    So no token holds a space or a control character. Printable bytes of Latin-1 stand for
    themselves, the others for U+0100, U+0101, ... in order.
    """
    printable = {
        *range(ord("!"), ord("~") + 1),
        *range(ord("¡"), ord("¬") + 1),
        *range(ord("®"), ord("ÿ") + 1),
    }
    others = iter(range(0x100, 0x200))
    return tuple(chr(byte if byte in printable else next(others)) for byte in range(256))


@checked(text=_string)
def split_words(text: str) -> list[str]:
    """Return the words of a text as CLIP sees them: letters, single digits, runs of other signs.

    In NFC and lower case. White space only separates. English endings ('s, 't, 're, 've, 'm, 'll,
    'd) are words of their own. Raises TypeError for what is no string.
    """
    lower = "".join(character.lower() for character in unicodedata.normalize("NFC", text))
    parts = regex.findall(f"{_SPECIAL}|{_WORD}", lower)
    return [word for part in parts for word in regex.findall(_WORD, part)]


@checked()
def word_symbols(word: str) -> list[str]:
    """Return what merging starts from: a symbol for each UTF-8 byte, ``</w>`` at the last."""
    symbols = [byte_alphabet()[byte] for byte in word.encode("utf-8", errors="replace")]
    return [*symbols[:-1], symbols[-1] + END_OF_WORD] if symbols else []


@checked()
def merge_pair(symbols: Sequence[str], pair: tuple[str, str]) -> list[str]:
    """Return the symbols with every occurrence of ``pair`` joined, from left to right."""
    merged: list[str] = []
    for symbol in symbols:
        if merged and (merged[-1], symbol) == pair:
            merged[-1] += symbol
        else:
            merged.append(symbol)
    return merged


@checked()
def bpe(word: str, ranks: dict[tuple[str, str], int]) -> list[str]:
    """Return the tokens of one word.

    The neighbours whose merge was learned earliest are joined, until none can be. ``ranks`` maps a
    pair to its place in the list of merges. Of equal pairs the leftmost is joined first.
    """
    symbols = word_symbols(word)
    while True:
        pairs = enumerate(zip(symbols, symbols[1:], strict=False))
        known = [(ranks[pair], i) for i, pair in pairs if pair in ranks]
        if not known:
            return symbols
        i = min(known)[1]
        symbols[i : i + 2] = [symbols[i] + symbols[i + 1]]


@checked(text=_string, max_length=(positive_int, _room_for_both_ends))
def encode_text(text: str, vocabulary: Vocabulary, *, max_length: int | None = None) -> list[int]:
    """Return the ids of a text between the start and the end token, as ``CLIPTokenizer(text)``.

    With ``max_length`` (at least 2) the result has exactly that many ids: what is too long is cut
    and still ends with the end token, what is too short is filled with end tokens. Raises TypeError
    for what is no string.
    """
    ids, start, end = vocabulary.ids, vocabulary.ids[START], vocabulary.ids[END]
    body: list[int] = []
    for part in regex.split(f"({_SPECIAL})", text):
        words = [bpe(word, vocabulary.ranks) for word in split_words(part)]
        words = [[part]] if part in (START, END) else words
        body += [ids.get(token, end) for tokens in words for token in tokens]
    if max_length is None:
        return [start, *body, end]
    body = body[: max_length - 2]
    return [start, *body, *[end] * (max_length - 1 - len(body))]


def numbers(ids: Iterable[int] | Tensor) -> list[int]:
    """Return ids, of any shape, as a list."""
    return [int(i) for i in (ids.flatten().tolist() if isinstance(ids, Tensor) else ids)]


@checked(ids=_known)
def decode_text(ids: Iterable[int] | Tensor, vocabulary: Vocabulary) -> str:
    """Return the text of ids, without start, end and padding.

    Bytes that are no UTF-8 become U+FFFD. Words are joined by single spaces: upper case and the
    original spaces are lost. Raises ValueError for an unknown id.
    """
    tokens = vocabulary.tokens
    byte_of = {symbol: byte for byte, symbol in enumerate(byte_alphabet())}
    symbols = "".join(tokens[i] for i in numbers(ids) if tokens[i] not in (START, END))
    text = bytes(byte_of[symbol] for symbol in symbols).decode("utf-8", errors="replace")
    return text.replace(END_OF_WORD, " ").strip()
