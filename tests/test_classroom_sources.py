"""Which cells answer an exercise and what of the other cells they need, from their text; and cells compiled as a notebook would."""

import ast
import functools
import time
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

import diffusion_course
from diffusion_course import q_sample
from diffusion_course.classroom.assignment.sources import (
    defined_names,
    defines,
    left_blank,
    needed,
    parsed,
)
from diffusion_course.classroom.sandbox import execution
from diffusion_course.door import batch, checked
from diffusion_course.exercises import syntax

SETUP = "%matplotlib inline\nimport math\nimport torch\nfrom torch import nn as layers\nimport os.path\n"
HELPERS = "SCALE = len('abc')\nunused = torch.ones(3)\n\ndef root(x):\n    return math.sqrt(x) * SCALE\n\nprint(root(2))\ntorch.cumprod = None\n"


def test_an_answer_gets_what_it_names_and_what_that_names():
    kept = needed(["def answer(x):\n    return root(x)\n"], [SETUP, HELPERS])
    assert kept == "import math\nSCALE = len('abc')\ndef root(x):\n    return math.sqrt(x) * SCALE"
    assert needed(["def answer(x):\n    return os.path.join(x)\n"], [SETUP, HELPERS]) == "import os.path"
    assert needed(["def answer(x):\n    return layers.Linear(x, x)\n"], [SETUP]) == "from torch import nn as layers"
    assert needed(["answer = 3\n"], [SETUP, HELPERS]) == ""
    assert needed(["def answer(x): return x"], ["from math import *"]) == "from math import *"


def test_a_name_is_taken_from_imports_then_helpers_then_other_answers():
    own = ["def answer(x):\n    return torch.ones(1) * root(x) * other(x)\n"]
    answers = ["torch = math = None\ndef root(x):\n    return 0\ndef other(x):\n    return 1\n"]
    kept = needed(own, [SETUP, HELPERS], answers)
    assert "import torch" in kept
    assert "None" not in kept
    assert "return 0" not in kept
    assert "def other" in kept


def test_what_an_answer_defines_is_not_taken_from_elsewhere():
    assert needed(["def root(x):\n    return x\ndef answer(x):\n    return root(x)\n"], [HELPERS]) == ""


def test_text_that_is_no_python_or_too_deep_is_survived():
    assert parsed("def (:").body == []
    assert needed(["def ("], ["def ("]) == ""
    for length in (500, 3_000, 50_000):
        deep = "total = " + "1+" * length + "1"
        assert isinstance(needed(["def answer():\n    return total\n"], [deep]), str)
    assert defines("answer: int = 3", "answer")
    assert not defines("if True:\n    answer = 3", "answer")
    assert defined_names("import math\ndef b(): pass\na = c = 1") == ["a", "b", "c"]


@pytest.mark.parametrize(("source", "blank"), [
    ("def f(x):\n    return ...\n", True), ("x = ...", True), ("def f(x):\n    raise NotImplementedError\n", True),
    ("def f(x):\n    return x[..., None]\n", False), ("def f(x):\n    return None\n", False), ("", False),
])
def test_a_blank_is_told_from_an_index(source, blank):
    assert left_blank(source) is blank


@pytest.mark.parametrize("source", [
    "%matplotlib inline\nx = 1", "!ls\nx = 1", "files = !ls\nx = len(files) + 1", "pip install torch\nx = 1", "print?\nx = 1", "%%time\nx = 1",
    "%time x = 1", "get_ipython().run_line_magic('autoreload', '2')\nx = 1", "y = (7\n % 2)\nx = y", "text = '''\n!no\n'''\nx = 1", "import asyncio\nawait asyncio.sleep(0)\nx = 1",
    "%%capture\n!pip list\nx = 1",
])
def test_cells_run_as_in_a_notebook(source, monkeypatch):
    for name in ("get_ipython", "display"):
        monkeypatch.setattr(f"builtins.{name}", None, raising=False)
    namespace = {}
    shell = execution.Shell(namespace)
    monkeypatch.setattr("builtins.get_ipython", lambda: shell)
    execution.execute(source, namespace, "<cell>")
    assert namespace["x"] == 1


def test_annotations_of_a_cell_are_not_those_of_this_module():
    namespace = {}
    execution.execute("def f(x: int): pass", namespace, "<cell>")
    assert namespace["f"].__annotations__ == {"x": int}


def test_the_courses_own_function_is_known_however_it_is_wrapped():
    class Holder:
        method = q_sample

    for answer in (q_sample, functools.partial(q_sample), torch.no_grad()(q_sample), Holder().method, functools.lru_cache(q_sample)):
        assert execution.is_course(answer)
    renamed = type(q_sample)(q_sample.__code__, q_sample.__globals__, "mine", None, q_sample.__closure__)
    renamed.__module__ = "__main__"
    assert execution.is_course(renamed)

    def mine(x):
        return q_sample(x)

    @checked(x=batch)
    def behind_a_door_of_its_own(x):
        return x

    for answer in (behind_a_door_of_its_own, mine, lambda x: x, torch.exp, functools.partial(mine), 3):
        assert not execution.is_course(answer)


def test_two_threads_never_build_syntax_trees_at_once(monkeypatch):
    inside, most = [], []

    def slow(source):
        inside.append(source)
        most.append(len(inside))
        time.sleep(0.005)  # lets other threads run, as a collection of garbage does in the middle of a real call
        try:
            return ast.parse(source)
        finally:
            inside.remove(source)

    monkeypatch.setattr(syntax, "ast", types.SimpleNamespace(parse=slow))
    texts = [f"x_{number} = {number}" if number % 3 else f"x_{number} = (" for number in range(24)]  # a third is no Python
    with ThreadPoolExecutor(4) as pool:
        trees = list(pool.map(parsed.__wrapped__, texts))
    assert max(most) == 1
    assert len(most) == 16 + 2 * 8
    assert [ast.unparse(tree) for tree in trees] == [text if number % 3 else "" for number, text in enumerate(texts)]


def test_grading_builds_syntax_trees_in_one_place_only():
    package = Path(diffusion_course.__file__).parent
    files = [path for part in ("classroom", "exercises") for path in (package / part).glob("*.py")]
    assert [path.name for path in files if "ast.parse(" in path.read_text(encoding="utf-8")] == ["syntax.py"]
