"""The instructor's page of texts that are alike, each pair in two columns."""

from __future__ import annotations

import builtins
import keyword
import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape

from ..files import printable
from .class_results import ClassResults
from .origins import Origins
from .pages import code_text, page, table
from .similarity import RARE_SHARE, Pair, answers_of_all

FILE = "copies.html"
_SHOWN = 40  # pairs; similarity.csv has all
_TOKENS = 5  # of a line that can tell anything
_TOKEN = re.compile(r"(?P<dot>\.\s*)?(?P<name>[^\W\d]\w*)|\d[\w.]*|[^\s\w]")
_COMMON = {*dir(builtins), "torch", "math", "numpy", "self"}  # words that say nothing
_ABOUT = """<p>These are hints for a conversation. They do not say who wrote what first, who helped
whom, or whether two people learned from the same page: two who worked together as you allow look
the same here, and so do answers that come from the course's public solutions or from elsewhere.
Somebody who rewrote a text with care is not found. Please look at the text, and ask.</p>"""


def copies_page(results: ClassResults, pairs: Sequence[Pair], origins: Origins) -> str:
    """Return the page: equal files, notebooks of others, published solutions, similar pairs."""
    title = results.assignment.title
    body = [
        f"<h1>{escape(title)}: texts that are alike</h1>",
        '<p class="soft"><a href="index.html">Overview</a></p>',
        _ABOUT,
        *_equal(origins),
        *_foreign(origins),
        *_published(results, origins),
        "<h2>Similar answers</h2>",
        *_pairs(results, pairs),
    ]
    return page(f"{title}, texts that are alike", "\n".join(body), wide=True)


def _equal(origins: Origins) -> list[str]:
    if not origins.equal:
        return []
    items = "".join(f"<li>{', '.join(map(_name, students))}</li>" for students in origins.equal)
    return ["<h2>Equal files</h2>", f"<p>Equal to the byte, and not blank.</p><ul>{items}</ul>"]


def _foreign(origins: Origins) -> list[str]:
    rows = [[_name(student), _name(other)] for student, other in origins.made_for_others]
    if not rows:
        return []
    about = "Each notebook says for whom it was made. Handing in the wrong file is one reason."
    head = ["handed in by", "made for"]
    return ["<h2>Notebooks that were made for others</h2>", f"<p>{about}</p>", table(head, rows)]


def _published(results: ClassResults, origins: Origins) -> list[str]:
    rows = [
        [
            f"{escape(one.exercise_id)} {code_text(one.title)}",
            f"{len(one.students)} of {len(results.graded)}",
            ", ".join(map(_name, one.students)),
        ]
        for one in origins.published
    ]
    if not rows:
        return []
    about = (
        "The same as the course's published solution, apart from names, comments and spaces. Where"
        " there are many, the lesson leads there. Short exercises are left out: for those, most"
        " people write the same."
    )
    head = ["exercise", "how many", "who"]
    return ["<h2>As the published solution</h2>", f"<p>{about}</p>", table(head, rows)]


def _pairs(results: ClassResults, pairs: Sequence[Pair]) -> Iterable[str]:
    if not pairs:
        yield "<p>No pair shares more than chance explains.</p>"
        return
    yield (
        "<p>Pairs that share what is rare in this class, the rarest first. Marked are lines that"
        " both have and few others: with the same words, or with other names.</p>"
    )
    shown = pairs[:_SHOWN]
    if len(pairs) > len(shown):
        yield f"<p>These are {len(shown)} of {len(pairs)}; similarity.csv lists all.</p>"
    exercises = {name for pair in shown for name in _exercises(pair)}
    texts = {name: _Texts(results, name) for name in sorted(exercises)}
    for pair in shown:
        names = f"{_name(pair.first)} and {_name(pair.second)}"
        yield f'<h3>{names} <span class="soft">({pair.score:g})</span></h3>'
        for name, told in zip(_exercises(pair), pair.evidence, strict=True):
            yield f"<p>{code_text(printable(told, 300))}</p>"
            yield texts[name].side_by_side(pair)


def _exercises(pair: Pair) -> list[str]:
    return [told.partition(":")[0] for told in pair.evidence]


class _Texts:
    """The answers of a class to an exercise, and which lines of them are rare."""

    def __init__(self, results: ClassResults, exercise_id: str) -> None:
        read = {one.student: results.submissions[one.student] for one in results.graded}
        bound, self.answers = answers_of_all(results.assignment, exercise_id, read)
        known: set[str] = set()
        for one in [*bound.values()][:1]:
            for text in (one.render(one.stub), one.solution_source()):
                known |= {key for line in text.splitlines() for key in _keys(line)}
        counts = Counter(key for text in self.answers.values() for key in _all_keys(text))
        most = max(2, math.floor(RARE_SHARE * len(self.answers)))
        self.rare = {key for key, count in counts.items() if 2 <= count <= most} - known

    def side_by_side(self, pair: Pair) -> str:
        first, second = self.answers[pair.first], self.answers[pair.second]
        shared = self.rare & _all_keys(first) & _all_keys(second)
        columns = "".join(
            f"<div><h4>{_name(student)}</h4><pre>{_marked(text, shared)}</pre></div>"
            for student, text in ((pair.first, first), (pair.second, second))
        )
        return f'<div class="pair">{columns}</div>'


def _marked(text: str, shared: set[str]) -> str:
    lines = []
    for line in text.strip("\n").split("\n"):
        shown = escape(line)
        lines.append(f"<mark>{shown}</mark>" if _keys(line) & shared else shown)
    return "\n".join(lines)


def _all_keys(text: str) -> set[str]:
    return {key for line in text.splitlines() for key in _keys(line)}


def _keys(line: str) -> set[str]:
    """What a line is told by: its form without names, if it is long enough, and its own words."""
    code, _, comment = line.partition("#")
    tokens, words = [], set()
    for found in _TOKEN.finditer(code):
        name = found["name"]
        is_own = name and not found["dot"] and not keyword.iskeyword(name)
        tokens.append("name" if is_own else found[0])
        if is_own and len(name) > 2 and name not in _COMMON:
            words.add(f"word {name}")
    if len(comment.strip()) > 7:
        words.add(f"comment {comment.strip()}")
    return words | ({f"form {' '.join(tokens)}"} if len(tokens) >= _TOKENS else set())


def _name(student: str) -> str:
    return escape(printable(student, 80))
