"""What takes long is run in parts: the parts together are everything, and a part says what it leaves out."""

import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest

from conftest import beginning, in_other_parts, is_costly
from tools import parts, test_ui
from tools import test as test_runner

ROOT = Path(__file__).resolve().parents[1]
NAMES = [path.stem for path in (ROOT / "notebooks").glob("*.ipynb")]
EVERY_PART = [f"{number}/{parts.PARTS}" for number in range(1, parts.PARTS + 1)]


@pytest.mark.parametrize("part", ["", "2", "0/4", "5/4", "1/0", "-1/4", "a/b", "1/4/4"])
def test_what_is_no_part_is_refused(part):
    with pytest.raises(ValueError, match="write the part and how many there are, such as 2/6"):
        parts.parse(part)


def test_the_commits_hash_chooses_the_part(tmp_path):
    assert parts.of_commit(root=tmp_path) == EVERY_PART[0]  # no repository
    run = ["git", "-c", "user.name=a", "-c", "user.email=a@b.c", "-C", str(tmp_path)]
    subprocess.run([*run, "init", "-q"], check=True)
    found = set()
    for number in range(60):
        subprocess.run([*run, "commit", "-q", "--allow-empty", "-m", str(number)], check=True)
        part = parts.of_commit(root=tmp_path)
        assert part == parts.of_commit(root=tmp_path)
        found.add(part)
    assert found == set(EVERY_PART)  # by chance not in one of 9,000 runs


def test_a_part_that_is_named_comes_before_the_commits(monkeypatch):
    monkeypatch.setattr(parts, "of_commit", lambda: "3/4")
    assert parts.chosen({}) == parts.chosen({"COURSE_PART": ""}) == "3/4"
    assert parts.chosen({"COURSE_PART": "1/2"}) == "1/2"
    with pytest.raises(ValueError, match="'many'"):
        parts.chosen({"COURSE_PART": "many"})


def test_without_git_the_first_part_is_run(monkeypatch):
    def no_git(*args, **options):
        raise FileNotFoundError("git")

    monkeypatch.setattr(subprocess, "run", no_git)
    assert parts.of_commit() == EVERY_PART[0]


def test_the_parts_together_are_all_lessons_once_and_cost_about_the_same():
    minutes = parts.costs()
    shares = [parts.lessons_of(part, NAMES, minutes) for part in EVERY_PART]
    assert sorted(sum(shares, [])) == sorted(NAMES)
    assert parts.lessons_of(parts.ALL, NAMES, minutes) == sorted(NAMES)
    costs = [sum(minutes.get(name, 1.0) for name in share) for share in shares]
    assert max(costs) - min(costs) <= max(minutes.values())
    assert parts.lessons_of("1/2", ["new", "b", "a"], {"a": 5.0, "b": 3.0}) == ["a"]  # a lesson without a measured cost


def made(count, costly=()):
    return [{"metadata": {"tags": ["nbval-ignore-output"] if at in costly else ["long"]}} for at in range(count)]


def pretended(path, costly=()):
    cells = enumerate(made(6, costly))
    return [SimpleNamespace(path=Path(path), cell_num=at, cell=cell, get_closest_marker=lambda name: None) for at, cell in cells]


def marked(count, *marks):
    return [SimpleNamespace(get_closest_marker=lambda name: name in marks or None) for _ in range(count)]


def test_every_marked_test_belongs_to_one_part_and_the_others_to_all():
    items = marked(3) + marked(9, "in_parts") + marked(2, "slow")
    ran = [[item for item in items if item not in in_other_parts(items, part)] for part in EVERY_PART]
    assert [len(one) for one in ran] == [7, 7, 7, 6, 6, 6]
    for item in items:
        assert sum(item in one for one in ran) == (1 if item.get_closest_marker("in_parts") else len(EVERY_PART))
    assert in_other_parts(items, parts.ALL) == []


@pytest.mark.parametrize(
    ("count", "costly", "expected"),
    [(6, (2,), 2), (6, (4, 5), 4), (6, (0, 1, 3), 3), (6, (), 6), (6, (0, 1), 6), (7, (2, 3), 3), (1, (0,), 1), (0, (), 0)],
)
def test_the_beginning_is_a_third_and_goes_on_to_the_first_costly_cell(count, costly, expected):
    assert beginning(made(count, costly)) == expected


def test_a_lesson_is_run_whole_in_one_part_and_its_beginning_in_the_others(monkeypatch):
    monkeypatch.setitem(in_other_parts.__globals__, "costs", lambda: {"a": 2.0, "b": 1.0})
    a, b, other = pretended("notebooks/a.ipynb", costly=(3,)), pretended("notebooks/b.ipynb", costly=(0, 2)), marked(1)
    items = a + b + other
    assert in_other_parts(items, "1/2") == b[2:]
    assert in_other_parts(items, "2/2") == a[3:]
    assert in_other_parts(items, parts.ALL) == []


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_beginning_of_every_lesson_is_at_least_a_third_of_it(path):
    cells = [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "code"]
    assert len(cells) / 3 <= beginning(cells) <= len(cells)


def test_nbval_runs_the_beginning_of_a_lesson_of_another_part_and_says_why(tmp_path):
    cells = [nbformat.v4.new_code_cell(source) for source in ("print(1)", "print(2)", "raise SystemError")]
    cells[0].outputs = [nbformat.v4.new_output("stream", name="stdout", text="1\n")]
    cells[0].execution_count = 1
    cells[1].metadata["tags"] = ["nbval-ignore-output"]
    for name in ("long", "short"):
        nbformat.write(nbformat.v4.new_notebook(cells=cells if name == "short" else cells[:1]), tmp_path / f"{name}.ipynb")
    assert is_costly(cells[1])
    assert not is_costly(cells[0])

    def run(*flags):
        command = [sys.executable, "-m", "pytest", "-p", "conftest", "-c", str(ROOT / "pyproject.toml"), "-rs", "-p", "no:cacheprovider"]
        command += ["--nbval-sanitize-with", str(ROOT / "sanitize.cfg"), "--nbval", str(tmp_path), *flags]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)})

    first = parts.lessons_of("1/2", ["long", "short"], {})
    assert first == ["long"]
    done = run("--part", "1/2")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed, 2 skipped" in done.stdout
    assert "not in part 1/2; make test-all runs it" in done.stdout
    for flags in (("--part", "2/2"), ()):
        assert "1 failed, 3 passed" in run(*flags).stdout


def test_every_test_and_every_lesson_is_collected_longest_first():
    order = test_runner.longest_first("2/4")
    assert sorted(order) == sorted(path.relative_to(ROOT).as_posix() for path in [*ROOT.glob("tests/test_*.py"), *ROOT.glob("notebooks/*.ipynb")])
    whole = parts.lessons_of("2/4", NAMES, parts.costs())
    assert sorted(order[: len(whole)]) == [f"notebooks/{name}.ipynb" for name in whole]
    minutes = [parts.costs().get(Path(name).stem, 1.0) for name in order[: len(whole)]]
    assert minutes == sorted(minutes, reverse=True)
    assert order[-1].startswith("notebooks/")
    assert order.index("tests/test_training.py") < order.index("tests/test_analytic.py")


def test_what_is_said_at_the_end_names_the_lessons_and_how_to_run_the_rest():
    said = test_runner.summary("3/4")
    assert said.startswith("Part 3/4 of what takes long was run: lessons ")
    assert re.findall(r"\b\d\d\b", said) == [name[:2] for name in parts.lessons_of("3/4", NAMES, parts.costs())]
    assert "COURSE_PART=2/6 make test" in said
    assert "make test-all" in said
    assert "Everything" in test_runner.summary(parts.ALL)


@pytest.mark.parametrize("runner", [test_runner, test_ui])
def test_a_part_that_is_none_is_told_before_anything_is_run(runner, monkeypatch, capsys):
    monkeypatch.setenv("COURSE_PART", "5/4")
    monkeypatch.setattr(subprocess, "run", None)
    assert runner.main([]) == 2
    assert capsys.readouterr().err.startswith("COURSE_PART: '5/4' is no part")


@pytest.mark.parametrize(("flags", "environ", "expected"), [([], "2/4", "2/4"), (["--all"], "2/4", "1/1"), ([], "", "1/4")])
def test_the_runner_gives_pytest_the_part(flags, environ, expected, monkeypatch, capsys):
    ran = []
    monkeypatch.setenv("COURSE_PART", environ)
    monkeypatch.setattr(parts, "of_commit", lambda: "1/4")
    monkeypatch.setattr(test_runner.subprocess, "run", lambda command, **options: ran.append(command) or SimpleNamespace(returncode=5))
    assert test_runner.main(flags) == 5
    (command,) = ran
    assert command[command.index("--part") + 1] == expected
    assert "--nbval" in command
    assert "--all" not in command
    assert test_runner.summary(expected) in capsys.readouterr().out
