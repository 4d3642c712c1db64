"""Work on a submission outside the sandbox grows as the submission does, and what is kept of it is bounded."""

import ast
import json
import sys

import pytest

from diffusion_course.classroom.assignment import sources
from diffusion_course.classroom.assignment.sources import left_blank, needed, parsed
from diffusion_course.classroom.grading import cells
from diffusion_course.classroom.grading.cells import parse_notebook


def steps(function, *arguments):
    """How many lines of Python the function runs: what it costs, on any machine, however busy."""
    count = 0

    def trace(frame, event, _):
        nonlocal count
        count += event == "line"
        return trace

    sys.settrace(trace)
    try:
        function(*arguments)
    finally:
        sys.settrace(None)
    return count


def chain(length):
    """Each name is made from the one before it, the last is what the answer needs."""
    return "a0 = 1\n" + "".join(f"a{one} = a{one - 1}\n" for one in range(1, length))


def many_uses(length):
    """One name that all statements change."""
    return "a = 1\n" * length


def stars(length):
    return "from math import *\n" * length


@pytest.mark.parametrize("made", [chain, many_uses, stars])
def test_what_an_answer_needs_is_found_in_time_that_grows_as_the_text(made):
    costs = []
    for length in (100, 400):
        text, own = made(length), f"def f():\n    return a{length - 1}, a"
        parsed(text), parsed(own)
        costs.append(steps(needed, [own], [text]))
    assert costs[1] < 6 * costs[0], costs


def test_a_blank_is_told_in_time_that_grows_as_the_text():
    costs = []
    for depth in (20, 80):
        text = "a[" * depth + "0" + "]" * depth
        parsed(text)
        costs.append(steps(left_blank, text))
    assert costs[1] < 6 * costs[0], costs


def test_names_that_all_statements_use_are_followed_once():
    costs = []
    for length in (50, 200):
        names = [f"n{one}" for one in range(length)]
        text = "\n".join(f"def {name}():\n    return {', '.join(names[:3])}" for name in names)
        own = f"def f():\n    return {', '.join(names)}"
        parsed(text), parsed(own)
        costs.append(steps(needed, [own], [text]))
    assert costs[1] < 6 * costs[0], costs


def test_the_trees_that_are_kept_are_bounded_by_their_text(monkeypatch):
    parsed.cache_clear()
    for one in range(40):
        parsed(f"x{one} = '{'a' * 30_000}'")
    assert parsed.characters() <= sources.KEPT_CHARACTERS < 40 * 30_000
    big = f"y = '{'a' * sources.KEPT_CHARACTERS}'"
    parsed(big)
    assert parsed.characters() <= sources.KEPT_CHARACTERS
    assert parsed("x = 1") is parsed("x = 1")


def test_a_text_that_is_longer_than_any_cell_is_not_analysed():
    assert isinstance(parsed("x = 1\n" * cells.CELL_CHARACTERS), ast.Module)
    assert parsed("x = 1\n" * cells.CELL_CHARACTERS).body == []


def test_an_fstring_of_many_fields_never_reaches_python(monkeypatch):
    """Python 3.11 takes time that grows with the square: a minute for 330,000 fields."""
    longest = []
    monkeypatch.setattr(sources, "parse", lambda text: longest.append(len(text)) or ast.parse(""))
    source = "x = f'" + "{x}" * 330_000 + "'"
    notebook = {"nbformat": 4, "cells": [{"cell_type": "code", "source": source, "metadata": {"nbgrader": {"grade_id": "answer-02-1"}}}]}
    made = parse_notebook(json.dumps(notebook).encode())
    assert made.cells == () and "at most 32768" in made.unread["answer-02-1"]
    parsed(source)
    assert longest == [] and cells.ALL_CHARACTERS <= 2**18
