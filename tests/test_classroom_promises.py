"""The guide's table of promises names tests, and these are there: a promise without a test is none."""

import ast
import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
GUIDE = TESTS.parent / "docs" / "instructors.md"
HEAD = "| What | Promised | Not promised | Held by |"


def rows(text):
    """The cells of the table's rows."""
    lines = text[text.index(HEAD) :].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


ROWS = rows(GUIDE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_each_promise_is_held_by_tests_that_are_there(row):
    assert len(row) == 4 and all(row)
    named = re.findall(r"`(test_\w+)::(test_\w+)`", row[3])
    assert named and len(named) == row[3].count("`") // 2
    for file, name in named:
        found = ast.parse((TESTS / f"{file}.py").read_text(encoding="utf-8"))
        assert name in {one.name for one in found.body if isinstance(one, ast.FunctionDef)}, (file, name)


def test_the_table_speaks_of_everything_that_is_guarded():
    assert {row[0] for row in ROWS} == {"Points", "Other students", "Your machine", "Secrets", "Time", "Memory", "Messages", "Files", "Hand-offs", "`--unsafe`"}
