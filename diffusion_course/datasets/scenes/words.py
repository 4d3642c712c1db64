"""What a scene can hold, as numbers and as words: kinds, colours, patterns, sizes, layouts,
backgrounds, and the split.

A scene is one row of ten integers, a *code*: layout, background, then kind, colour, pattern, size
of the first thing and of the second. First is the left, the upper or the outer one. -1 stands for
"no second thing", and in a request for "not asked for".
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...door import checked
from ...seeds import draw, on_cpu
from ...validation import check_choice, check_positive_int, describe

KINDS = (
    "ball",
    "square",
    "triangle",
    "star",
    "heart",
    "moon",
    "fish",
    "house",
    "tree",
    "mushroom",
    "boat",
    "flower",
    "umbrella",
    "cat",
)
COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white")
PATTERNS = ("plain", "striped", "dotted")
SIZES = ("small", "large")
LAYOUTS = ("one", "side by side", "stacked", "nested")
BACKGROUNDS = ("paper", "night", "meadow", "sea", "desert", "snow", "sunset", "rain")
CONTAINERS = ("ball", "square", "heart", "star")  # kinds that can hold another thing

ATTRIBUTES = (
    "layout",
    "background",
    "first kind",
    "first colour",
    "first pattern",
    "first size",
    "second kind",
    "second colour",
    "second pattern",
    "second size",
)
CHOICES = (LAYOUTS, BACKGROUNDS, *(KINDS, COLOURS, PATTERNS, SIZES) * 2)  # of each column of a code
NOTHING = -1
SPLITS = ("train", "held_out", "all")
# One colour of every kind never occurs in training: 14 of 140 pairs.
HELD_OUT = frozenset((kind, (3 * kind + 2) % len(COLOURS)) for kind in range(len(KINDS)))


SINGLE = {"device": "cpu", "dtype": torch.float32}


class Thing(NamedTuple):
    """One thing in words, e.g. Thing("star", "red", "striped", "small")."""

    kind: str
    colour: str
    pattern: str
    size: str


class Scene(NamedTuple):
    """One scene in words: layout, background, and its one or two things, the left, upper or outer
    one first.
    """

    layout: str
    background: str
    things: tuple[Thing, ...]


def check_codes(codes: object, name: str = "codes") -> list[list[int]]:
    """Return codes (N, 10) as lists. Raises TypeError or ValueError, beginning with ``name``, for
    another shape, dtype or device, or numbers without a meaning.
    """
    wanted = f"{name} must hold rows of ten integers, (N, 10), got {describe(codes)}"
    if isinstance(codes, Tensor):
        if codes.dtype not in (torch.int64, torch.int32) or codes.is_meta:
            raise TypeError(f"{wanted}. Make some: sample_scenes(8).")
        codes = codes.tolist()
    rows = codes
    if (
        not isinstance(rows, (list, tuple))
        or not rows
        or any(not isinstance(r, (list, tuple)) or len(r) != 10 for r in rows)
    ):
        raise ValueError(f"{wanted}. Make some: sample_scenes(8).")
    for row in rows:
        for attribute, value, choices in zip(ATTRIBUTES, row, CHOICES, strict=True):
            low = NOTHING if attribute.startswith("second") and row[0] == 0 else 0
            if (
                not isinstance(value, int)
                or not low <= value < len(choices)
                or (row[0] == 0) > (value < len(choices))
            ):
                raise ValueError(
                    f"{name}: {attribute} must be one of {low}..{len(choices) - 1}, got {value!r}"
                    f" in the code {list(row)}."
                )
        if row[0] == 0 and any(v != NOTHING for v in row[6:]):
            raise ValueError(
                f"{name}: layout 'one' has no second thing: its columns must be -1, got"
                f" {list(row)}."
            )
    return [list(row) for row in rows]


@checked()
def code_to_scene(code: Sequence[int] | Tensor) -> Scene:
    """Return one code (10,) in words."""
    one = code[None] if isinstance(code, Tensor) and code.ndim else [code]
    (row,) = check_codes(one, "code")
    slots = [row[2:6]] if row[0] == 0 else [row[2:6], row[6:]]
    things = tuple(Thing(KINDS[k], COLOURS[c], PATTERNS[p], SIZES[s]) for k, c, p, s in slots)
    return Scene(LAYOUTS[row[0]], BACKGROUNDS[row[1]], things)


@checked()
@on_cpu
def scene_to_code(scene: Scene) -> Tensor:
    """Return a scene in words as its code (10,) int64. Raises ValueError for a word that is not in
    the world.
    """
    check_choice("layout", scene.layout, LAYOUTS)
    check_choice("background", scene.background, BACKGROUNDS)
    wanted = 1 if scene.layout == "one" else 2
    if len(scene.things) != wanted:
        raise ValueError(
            f"layout {scene.layout!r} holds {wanted} thing(s), got {len(scene.things)}:"
            f" {scene.things!r}."
        )
    code = [LAYOUTS.index(scene.layout), BACKGROUNDS.index(scene.background)]
    for thing in scene.things:
        for name, word, choices in zip(
            Thing._fields, thing, (KINDS, COLOURS, PATTERNS, SIZES), strict=True
        ):
            check_choice(name, word, choices)
            code.append(choices.index(word))
    return torch.tensor(code + [NOTHING] * (10 - len(code)))


def _rows_of_ten(name: str, codes: Tensor, given: dict) -> None:
    if codes.shape[1:] != (10,) or codes.dtype not in (torch.int64, torch.int32) or codes.is_meta:
        raise ValueError(f"{name} must hold int64 codes (N, 10), got {describe(codes)}.")


@checked(codes=_rows_of_ten)
@on_cpu
def is_held_out(codes: Tensor) -> Tensor:
    """Return (N,) bool: whether a code of (N, 10) holds a pair of kind and colour that never occurs
    in training.
    """
    table = torch.zeros(
        len(KINDS) + 1, len(COLOURS) + 1, dtype=torch.bool
    )  # the last row and column are for -1
    for kind, colour in HELD_OUT:
        table[kind, colour] = True
    codes = codes.cpu()
    return table[codes[:, 2], codes[:, 3]] | table[codes[:, 6], codes[:, 7]]


@checked()
@on_cpu
def sample_scenes(
    n: int,
    *,
    generator: torch.Generator | None = None,
    split: str = "all",
    things: int | None = None,
) -> Tensor:
    """Draw codes (n, 10) int64 on the CPU.

    things: 1, 2, or None for two in three out of four. split: "train" leaves out the pairs
    ``HELD_OUT``, "held_out" has one in every scene, "all" knows no difference. Everything else is
    uniform, but for: two things differ in colour; a nested pair is a small thing in a large plain
    one of the kinds ``CONTAINERS``. Raises ValueError for another split or number of things.
    """
    check_positive_int("n", n)
    check_choice("split", split, SPLITS)
    if things not in (None, 1, 2):
        raise ValueError(f"things must be 1, 2 or None, got {describe(things)}.")
    found, count = [], 0
    while count < n:  # draw, then keep what belongs to the split
        codes = _draw(2 * n + 16, things, generator)
        keep = (
            is_held_out(codes) == (split == "held_out")
            if split != "all"
            else torch.ones(len(codes), dtype=torch.bool)
        )
        keep &= codes[:, 3] != codes[:, 7]
        found.append(codes[keep])
        count += int(keep.sum())
    return torch.cat(found)[:n]


def _draw(n: int, things: int | None, generator: torch.Generator | None) -> Tensor:
    def uniform(high: int) -> Tensor:
        return draw(torch.randint, high, (n,), generator=generator, device="cpu")

    codes = torch.stack([uniform(len(choices)) for choices in CHOICES], 1)
    two = uniform(4) > 0 if things is None else torch.full((n,), things == 2)
    codes[:, 0] = torch.where(two, 1 + uniform(3), 0)
    codes[~two, 6:] = NOTHING
    nested = codes[:, 0] == LAYOUTS.index("nested")
    containers = torch.tensor([KINDS.index(kind) for kind in CONTAINERS])
    codes[:, 2] = torch.where(nested, containers[uniform(len(CONTAINERS))], codes[:, 2])
    for column, value in (
        (4, PATTERNS.index("plain")),
        (5, SIZES.index("large")),
        (9, SIZES.index("small")),
    ):
        codes[nested, column] = value
    return codes
