"""The points of each exercise, where an instructor gives other ones than the course."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from ...files.paths import user_path
from ..tables import read_table
from .toml import read_toml, with_dots

MOST_POINTS = 1_000


def checked_points(points: Mapping[str, float], exercises: Collection[str]) -> dict[str, float]:
    """Return the points by exercise, whole ones as whole numbers.

    Raises ValueError for an exercise that is not among `exercises`, and for points that are no
    number above 0 with at most two decimals.
    """
    checked = {}
    for one, value in dict(points).items():
        if one not in exercises:
            listed = ", ".join(exercises) or "none"
            raise ValueError(
                f"points: {one!r} is no exercise of the assignment, which has {listed}."
            )
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ValueError(f"points: {one} must have a number of points, got {value!r}.")
        if not 0 < value <= MOST_POINTS or round(value, 2) != value:
            raise ValueError(
                f"points: {one} must have points above 0, at most {MOST_POINTS} and with at most"
                f" two decimals, got {value!r}."
            )
        checked[one] = int(value) if value == int(value) else float(value)
    return checked


def read_points(text: str | Path) -> dict[str, float]:
    """Return points by exercise from a text such as "01.1=3,02.5=2", or from a file.

    The file is CSV with the columns exercise and points (with semicolons 2,5 is a number too), or
    TOML with lines such as "01.1" = 3. It may name an exercise once. Raises FileNotFoundError, and
    ValueError that repeats the place and what stands there.
    """
    if isinstance(text, str) and "=" in text:
        pieces = [piece.strip() for piece in text.split(",") if piece.strip()]
        for before, piece in itertools.pairwise(pieces):
            if "=" not in piece:
                raise ValueError(
                    f"points: {piece!r} stands alone after {before!r}. A comma is between two"
                    f" exercises here; half a point is written with a dot: {before}.{piece}."
                )
        return _once((f"{piece!r}", *map(str.strip, piece.partition("=")[::2])) for piece in pieces)
    path = user_path(text, "points")
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file {path} of points. Give a text such as 01.1=3,02.5=2, or a CSV or"
            " TOML file."
        )
    if path.suffix.lower() == ".toml":
        return _once(_of_toml(path))
    return _once(_of_csv(path))


def _of_toml(path: Path) -> Iterator[tuple[str, str, object]]:
    content = read_toml(path)
    try:
        points = with_dots(content)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    for name, value in points.items():
        yield str(path), name, value


def _of_csv(path: Path) -> Iterator[tuple[str, str, str]]:
    for row in read_table(path, "the points", ("exercise", "points")):
        yield f"{row.where}, column points", row["exercise"], row["points"]


def _once(found: Iterator[tuple[str, str, object]]) -> dict[str, float]:
    points: dict[str, float] = {}
    for place, exercise, value in found:
        if exercise in points:
            raise ValueError(f"{place}: the points of {exercise} are given twice.")
        try:
            if isinstance(value, bool):
                raise TypeError
            number = value.replace(",", ".") if isinstance(value, str) else value
            points[exercise] = number if isinstance(number, int) else float(number)
        except (TypeError, ValueError):
            raise ValueError(f"{place}: {value!r} is no number of points.") from None
    if not points:
        raise ValueError("there are no points in what --points names.")
    return points
