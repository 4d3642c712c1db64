"""Scenes as English captions in several wordings, and captions read back into codes."""

import re
from collections.abc import Sequence

import torch
from torch import Tensor

from ...door import checked
from ...seeds import draw, on_cpu
from .words import (
    BACKGROUNDS,
    COLOURS,
    KINDS,
    LAYOUTS,
    NOTHING,
    PATTERNS,
    SINGLE,
    SIZES,
    check_codes,
)

# Each meaning with its wordings; the first is the plainest.
KIND_WORDS = {kind: (kind,) for kind in KINDS} | {
    "ball": ("ball", "circle"),
    "boat": ("boat", "ship"),
    "cat": ("cat", "kitten"),
}
PATTERN_WORDS = {"plain": ("", "plain"), "striped": ("striped",), "dotted": ("dotted", "spotted")}
SIZE_WORDS = {"small": ("small", "little"), "large": ("large", "big")}
PLACE_WORDS = {
    "paper": ("on white paper", "on a plain background"),
    "night": ("at night", "in the night sky"),
    "meadow": ("on a meadow", "on a green meadow"),
    "sea": ("on the sea", "at sea"),
    "desert": ("in the desert", "on desert sand"),
    "snow": ("in the snow", "on a snowy field"),
    "sunset": ("at sunset", "in the evening light"),
    "rain": ("in the rain", "on a rainy day"),
}
# What stands between "first" and "second", and between "second" and "first".
FORWARD = {
    "side by side": ("to the left of", "left of"),
    "stacked": ("above", "over"),
    "nested": ("around", "outside"),
}
BACKWARD = {
    "side by side": ("to the right of", "right of"),
    "stacked": ("below", "under"),
    "nested": ("inside", "within"),
}


@checked()
def captions(
    codes: Tensor | Sequence[Sequence[int]],
    *,
    generator: torch.Generator | None = None,
    complete: bool = False,
) -> list[str]:
    """Return one caption for each code of (N, 10), its wording drawn from ``generator``.

    Sizes, the background and the word "plain" are left out now and then; ``complete`` names every
    size and background.
    """
    rows = check_codes(codes)
    chance = draw(torch.rand, len(rows), 16, generator=generator, **SINGLE).tolist()
    return [_caption(row, luck, complete) for row, luck in zip(rows, chance, strict=True)]


def _pick(words: Sequence[str], luck: float) -> str:
    return words[int(luck * len(words))]


def _thing(
    kind: int, colour: int, pattern: int, size: int, luck: list[float], complete: bool
) -> str:
    words = [
        _pick(SIZE_WORDS[SIZES[size]], luck[0]) if complete or luck[1] < 0.85 else "",
        _pick(
            PATTERN_WORDS[PATTERNS[pattern]], luck[2] ** 2 if pattern == 0 else luck[2]
        ),  # "plain" is said less often
        COLOURS[colour],
        _pick(KIND_WORDS[KINDS[kind]], luck[3] ** 2),
    ]
    text = " ".join(word for word in words if word)
    return f"{'an' if text[0] in 'aeiou' else 'a'} {text}"


def _caption(row: list[int], luck: list[float], complete: bool) -> str:
    first = _thing(*row[2:6], luck[:4], complete)
    layout = LAYOUTS[row[0]]
    if layout == "one":
        text = first
    else:
        second = _thing(*row[6:], luck[4:8], complete)
        if luck[8] < (0.5 if layout != "nested" else 0.2):
            text = f"{first} {_pick(FORWARD[layout], luck[9])} {second}"
        else:
            text = f"{second} {_pick(BACKWARD[layout], luck[9])} {first}"
    if complete or luck[10] < 0.9:
        place = _pick(PLACE_WORDS[BACKGROUNDS[row[1]]], luck[11])
        text = f"{place}, {text}" if luck[12] < 0.2 else f"{text} {place}"
    return text


def _finder(words: dict[str, Sequence[str]]) -> re.Pattern:
    """A pattern that finds any wording, longer ones first."""
    found = sorted((w for ws in words.values() for w in ws if w), key=len, reverse=True)
    return re.compile(r"\b(" + "|".join(map(re.escape, found)) + r")\b")


def _meaning(words: dict[str, Sequence[str]]) -> dict[str, str]:
    return {w: key for key, ws in words.items() for w in ws}


_RELATIONS = _finder(FORWARD | {f"back {k}": v for k, v in BACKWARD.items()})
_KINDS, _PLACES = _finder(KIND_WORDS), _finder(PLACE_WORDS)
_ADJECTIVES = tuple(
    (_finder(words), _meaning(words), names)
    for words, names in (
        ({c: (c,) for c in COLOURS}, COLOURS),
        (PATTERN_WORDS, PATTERNS),
        (SIZE_WORDS, SIZES),
    )
)


@checked()
@on_cpu
def parse_caption(text: str) -> Tensor:
    """Return what a caption asks for as a code (10,) int64, -1 where it says nothing.

    Reads every caption that ``captions`` writes; a pattern that is not named is plain. Raises
    TypeError for what is no string and ValueError for a text in which it finds no thing, or two
    things without their relation.
    """
    code = [NOTHING] * 10
    lowered = " ".join(text.lower().split())
    if place := _PLACES.search(lowered):
        code[1] = BACKGROUNDS.index(_meaning(PLACE_WORDS)[place[1]])
        lowered = lowered.replace(place[1], " ")
    relation, sides = _RELATIONS.search(lowered), [lowered]
    if relation:
        sides = [lowered[: relation.start()], lowered[relation.end() :]]
    things = [_read_thing(side) for side in sides]
    if any(thing is None for thing in things) or (
        not relation and len(_KINDS.findall(lowered)) != 1
    ):
        raise ValueError(
            f"text must describe a scene, got {text!r}: name one thing, or two with a relation,"
            " such as 'a small red star above a large blue fish at night'."
        )
    if relation:
        backward = relation[1] in _meaning(BACKWARD)
        layout = _meaning(BACKWARD if backward else FORWARD)[relation[1]]
        code[0] = LAYOUTS.index(layout)
        code[2:] = [*things[1], *things[0]] if backward else [*things[0], *things[1]]
    else:
        code[0], code[2:6] = 0, things[0]
    return torch.tensor(code)


def _read_thing(text: str) -> list[int] | None:
    """Return (kind, colour, pattern, size) of the one thing named in a text, or None."""
    kinds = _KINDS.findall(text)
    if len(kinds) != 1:
        return None
    found = [KINDS.index(_meaning(KIND_WORDS)[kinds[0]])]
    for finder, meaning, names in _ADJECTIVES:
        word = finder.search(text)
        found.append(names.index(meaning[word[1]]) if word else 0 if names is PATTERNS else NOTHING)
    return found
