"""A question that a person marks: what is asked, and what each part of a good answer is worth."""

from __future__ import annotations

import dataclasses
import re

_HEADING = re.compile(r"^# (?P<id>(?P<lesson>\d\d)\.m\d+) (?P<title>.+)$", re.MULTILINE)
_ENTRY = re.compile(r"^- (?P<points>[\d.]+) points?: (?P<text>.+(?:\n  .+)*)$", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class ManualQuestion:
    """One question for words or for judging a picture; `rubric` holds (points, what earns them).

    The id is `NN.mK` for question K of lesson NN. Raises ValueError with the id where a part is
    missing or contradicts another.
    """

    id: str
    lesson: int
    title: str
    prompt: str
    rubric: tuple[tuple[float, str], ...]

    def __post_init__(self) -> None:
        problem = None
        if not re.fullmatch(rf"{self.lesson:02d}\.m[1-9]\d*", self.id):
            problem = f"the id must be {self.lesson:02d}.mK for lesson {self.lesson}"
        elif not self.title.strip() or not self.prompt.strip():
            problem = "title or prompt is empty"
        elif not self.rubric or not all(
            points > 0 and text.strip() for points, text in self.rubric
        ):
            problem = "every entry of the rubric needs points above 0 and a text"
        if problem is not None:
            raise ValueError(f"question {self.id!r}: {problem}")

    @property
    def points(self) -> float:
        """The points of a full answer."""
        return sum(points for points, _ in self.rubric)


def parse_questions(text: str) -> tuple[ManualQuestion, ...]:
    """Return the questions of a Markdown text.

    A question is a heading `# 02.m1 Title`, the prompt, and the rubric as a list of entries like
    `- 1 point: what earns it`. Raises ValueError for text before the first heading or after a
    rubric, and what ManualQuestion raises.
    """
    headings = list(_HEADING.finditer(text))
    starts = [*(found.start() for found in headings), len(text)]
    if text[: starts[0]].strip():
        raise ValueError("questions begin with a heading such as: # 02.m1 Title")
    parts = zip(headings, starts[1:], strict=True)
    return tuple(_question(found, text[found.end() : end]) for found, end in parts)


def _question(heading: re.Match[str], body: str) -> ManualQuestion:
    entries = list(_ENTRY.finditer(body))
    start = entries[0].start() if entries else len(body)
    if rest := _ENTRY.sub("", body[start:]).strip():
        raise ValueError(f"question {heading['id']!r}: {rest[:60]!r} is no entry of a rubric")
    rubric = tuple((_points(one["points"]), " ".join(one["text"].split())) for one in entries)
    prompt = body[:start].strip()
    return ManualQuestion(
        heading["id"], int(heading["lesson"]), heading["title"].strip(), prompt, rubric
    )


def _points(text: str) -> float:
    return int(text) if text.isdigit() else float(text)
