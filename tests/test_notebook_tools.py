"""The builder, the normaliser, the checker, nbval's comparison and the cost card, on tiny made-up lessons."""

import json
import re
import time
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from conftest import About
from diffusion_course.exercises.registry import all_exercises
from tools import course, lesson_limits, notebook_checks, notebooks

ROOT = Path(__file__).resolve().parents[1]
EXPORTED = frozenset({"q_sample", "snr"})
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="
LESSON = f'''
# %% [markdown]
# # A lesson
# The factorial $3!$ is six.

# %%
from IPython.display import display
value = 6
print(value)

# %% tags=["nbval-ignore-output"]
import time
print(time.time())

# %%
png = (
    "{PNG[:64]}"
    "{PNG[64:]}"
)
text = "[figure] One grey pixel, nothing else."
display({{"image/png": png, "text/plain": text}}, raw=True)
'''


@pytest.fixture
def folder(tmp_path):
    """A notebooks folder with one source."""
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "99_tiny.py").write_text(LESSON)
    return tmp_path


def code(source="1", *, count=1, outputs=(), tags=()):
    return new_code_cell(source, execution_count=count, outputs=list(outputs), metadata={"tags": list(tags)} if tags else {})


def faults_of(tmp_path, *cells, source_cells=None):
    """The faults of a made-up notebook, compared with itself unless told otherwise."""
    notebook = new_notebook(cells=list(cells))
    source = notebook if source_cells is None else new_notebook(cells=list(source_cells))
    path = tmp_path / "99_tiny.ipynb"
    nbformat.write(notebook, path)
    return notebook_checks.check_notebook(path, source, EXPORTED)


@pytest.mark.slow
def test_a_lesson_is_built_checked_and_built_again_only_when_it_changed(folder):
    ((source, target),) = notebooks.select([], folder)
    assert not notebooks.is_built(source, target)
    notebooks.build(source, target)
    first = target.read_text()
    stored = json.loads(first)
    assert [cell.get("execution_count") for cell in stored["cells"]] == [None, 1, 2, 3]
    assert stored["cells"][1]["outputs"][0]["text"] == ["6\n"]
    assert stored["cells"][2]["metadata"] == {"tags": ["nbval-ignore-output"]}
    assert all(cell["metadata"] == {} for cell in stored["cells"] if cell["id"] != stored["cells"][2]["id"])
    assert stored["metadata"]["kernelspec"]["name"] == "python3" and "version" not in stored["metadata"]["language_info"]
    assert notebooks.is_built(source, target)
    assert notebooks.check_all([], folder) == []
    assert sorted(path.name for path in folder.iterdir()) == ["99_tiny.ipynb", "source"]

    source.write_text(source.read_text().replace("value = 6", "value = 7"))
    assert not notebooks.is_built(source, target)
    assert notebooks.check_all([], folder) == ["99_tiny.ipynb: differs from its source (cell 2); run make notebooks"]

    source.write_text(source.read_text().replace("value = 7", "raise ValueError('wrong on purpose')"))
    with pytest.raises(notebooks.BuildError, match="wrong on purpose"):
        notebooks.build(source, target)
    assert target.read_text() == first, "a failed build must leave the old notebook"


def test_a_change_of_prose_runs_nothing_but_a_change_of_code_or_tags_does(folder, monkeypatch):
    source, target = folder / "source" / "99_tiny.py", folder / "99_tiny.ipynb"
    notebooks.build(source, target)
    outputs = [cell.outputs for cell in notebooks.code_cells(nbformat.read(target, as_version=4))]
    runs = []
    monkeypatch.setattr(notebooks, "execute", lambda notebook, where: runs.append(where))
    source.write_text("# %% [markdown]\n# A new first word.\n\n" + source.read_text())
    notebooks.build(source, target, fresh=False)
    assert runs == [] and notebooks.check_all([], folder) == []
    assert [cell.outputs for cell in notebooks.code_cells(nbformat.read(target, as_version=4))] == outputs
    source.write_text(source.read_text().replace("value = 6", "value = 7"))
    notebooks.build(source, target, fresh=False)
    assert len(runs) == 1


def test_an_inserted_cell_leaves_the_other_ids_alone(folder):
    source = folder / "source" / "99_tiny.py"
    before = [cell.id for cell in notebooks.convert(source).cells]
    assert before == [cell.id for cell in notebooks.convert(source).cells]
    source.write_text("# %%\nprint('first')\n\n# %%\nprint('first')\n" + LESSON)
    after = [cell.id for cell in notebooks.convert(source).cells]
    assert after[2:] == before and after[1] == after[0] + "-2" and len(set(after)) == len(after)


def test_normaliser_drops_widgets_timings_and_foreign_metadata():
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "1"}}
    cell = code(
        outputs=[
            new_output("display_data", data=view),
            new_output("display_data", data=view | {"text/plain": "Explorer(k=1)"}),
            new_output("display_data", data={"text/plain": "[progress] training: 3 steps", "text/html": "3 of 3, 1.7 s"}),
        ],
        tags=["long"],
    )
    cell.metadata |= {"execution": {"iopub.execute_input": "2026-01-01"}, "collapsed": True}
    notebook = new_notebook(
        cells=[cell], metadata={"widgets": {"state": {}}, "kernelspec": {"name": "mine", "display_name": "x"}}
    )
    notebooks.normalise(notebook, "99_tiny")
    assert [output.data for output in cell.outputs] == [
        {"text/plain": "Explorer(k=1)"},
        {"text/plain": "[progress] training: 3 steps"},
    ]
    assert cell.metadata == {"tags": ["long"]}
    assert "widgets" not in notebook.metadata and notebook.metadata.kernelspec["name"] == "python3"


def test_a_header_that_jupyter_would_refuse_is_named(tmp_path):
    (tmp_path / "01_x.py").write_text("# ---\n# jupyter:\n#   kernelspec:\n#     name: python3\n# ---\n\n# %%\n1\n")
    with pytest.raises(notebooks.BuildError, match="leave its header out"):
        notebooks.convert(tmp_path / "01_x.py")


def test_unknown_lesson_lists_the_known_ones(folder):
    with pytest.raises(notebooks.BuildError, match="99_tiny"):
        notebooks.select(["09"], folder)


def test_clean_notebook_has_no_faults(tmp_path):
    figure = new_output("display_data", data={"image/png": PNG, "text/plain": "[figure] One grey pixel, nothing else."})
    cells = [
        new_markdown_cell("Plain words, `a != b`, $n!$, ![picture](a.png) and\n```\nbang!\n```"),
        code("x = 1", outputs=[figure]),
    ]
    assert faults_of(tmp_path, *cells) == []


def output(kind="display_data", **options):
    return new_output(kind, **options)


BAD_OUTPUTS = {
    "stores an error: ValueError: bad": output("error", ename="ValueError", evalue="bad", traceback=[]),
    "stores stderr": output("stream", name="stderr", text="a warning"),
    "shows a path of one machine": output("stream", name="stdout", text="loaded /" + "home/user/x.pt"),
    "stores a widget view": output(data={"application/vnd.jupyter.widget-view+json": {}, "text/plain": "x"}),
    "picture without alt text": output(data={"image/png": PNG, "text/plain": "<Figure size 640x480 with 1 Axes>"}),
    "text/plain is '[figure] plot'": output(data={"image/png": PNG, "text/plain": "[figure] plot"}),
    "picture in HTML without alt text": output(data={"text/html": "<img src='x.png'>", "text/plain": "x"}),
}


@pytest.mark.parametrize("message", BAD_OUTPUTS)
def test_bad_output_is_found(tmp_path, message):
    found = faults_of(tmp_path, code(outputs=[BAD_OUTPUTS[message]]))
    assert len(found) == 1 and message in found[0] and found[0].startswith("99_tiny.ipynb: cell 1: ")


def test_a_tagged_exception_may_be_stored(tmp_path):
    error = output("error", ename="ValueError", evalue="bad", traceback=[])
    assert faults_of(tmp_path, code(outputs=[error], tags=["raises-exception"])) == []


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("def q_sample(x0):\n    return x0", "q_sample"),
        ("class snr: ...", "snr"),
        ("snr = 3", "snr"),
        ("for snr in range(3): pass", "snr"),
        ("a, (snr, b) = 1, (2, 3)", "snr"),
        ("with open('x') as snr: pass", "snr"),
        ("from elsewhere import snr", "snr"),
        ("from diffusion_course import q_step as q_sample", "q_sample"),
        ("if True:\n    snr = 1", "snr"),
    ],
)
def test_a_second_definition_of_a_package_name_is_found(tmp_path, source, name):
    assert faults_of(tmp_path, code(source)) == [
        f"99_tiny.ipynb: cell 1: defines {name}, which the package exports; import it, or use another name"
    ]


@pytest.mark.parametrize(
    "source",
    [
        "from diffusion_course import q_sample, snr",
        "def f(snr):\n    q_sample = snr\n    return q_sample",
        "[snr for snr in range(3)]",
        "f = lambda snr: snr",
        "print(snr)",
        "%timeit 1",
    ],
)
def test_other_uses_of_a_package_name_are_fine(tmp_path, source):
    assert faults_of(tmp_path, code(source)) == []


def test_long_cells_are_found_unless_tagged(tmp_path):
    source = "\n\n".join(f"a{n} = {n}" for n in range(17))
    assert "17 lines of code, at most 16" in faults_of(tmp_path, code(source))[0]
    assert faults_of(tmp_path, code(source, tags=["long"])) == []
    assert faults_of(tmp_path, code("\n\n".join(f"a{n} = {n}" for n in range(16)))) == []


def test_breaking_a_statement_makes_a_cell_no_longer():
    short = 'from math import cos, sin\nshow(fig, alt="Two curves.")\nprint(f"{cos(0)}, {sin(0)}")'
    broken = (
        "from math import (\n    cos,\n    sin,\n)\n"
        '# one line of code\nshow(fig, alt=(\n    "Two "\n    f"curves{1 + 1}."\n))\n'
        """print(\n    f"{cos(0)}, " 'and '\n    rf"{sin(0)}",\n)"""
    )
    assert notebook_checks.code_lines(short) == notebook_checks.code_lines(broken) == 3
    assert notebook_checks.code_lines('a = (\n    "x" + f(1),\n    g(2),\n)\nfor x in (\n    a\n):\n    b, c = a') == 6
    assert notebook_checks.code_lines('x = "#"\ny = {\n    "a": 1,\n}') == 3


def test_a_wide_line_of_code_is_found_with_its_cell_and_line(tmp_path):
    wide, prose = "x = 1\n\ny = " + "9" * 85, new_markdown_cell("Prose may be wide. " * 9)
    assert faults_of(tmp_path, prose, code(wide, tags=["long"])) == [
        f"99_tiny.ipynb: cell 2: line 3: 89 characters of code, at most 88: 'y = {'9' * 36}'"
    ]
    assert faults_of(tmp_path, prose, code(wide[:-1])) == []


@pytest.mark.parametrize("counts", [(1, 3), (2, 1), (None, 1), (1, None)])
def test_cells_not_run_top_to_bottom_are_found(tmp_path, counts):
    assert "not run top to bottom" in faults_of(tmp_path, *(code(count=count) for count in counts))[0]


def test_a_notebook_that_its_source_does_not_build_is_found(tmp_path):
    assert "differs from its source (cell 1)" in faults_of(tmp_path, code("1"), source_cells=[code("2")])[0]
    assert "2 cells, source has 1" in faults_of(tmp_path, code("1"), code("2", count=2), source_cells=[code("1")])[0]
    assert "differs from its source (cell 1)" in faults_of(tmp_path, code("1"), source_cells=[code("1", tags=["x"])])[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("It works!", "exclamation mark"),
        ("A rocket \U0001f680 flies", "emoji"),
        ("This is simply true", "filler word 'simply'"),
        ("Let's dive in", "filler word 'dive in'"),
        ("See /" + "home/me/x", "path of one machine"),
    ],
)
def test_prose_against_the_rules_is_found(tmp_path, text, message):
    found = faults_of(tmp_path, new_markdown_cell(text))
    assert len(found) == 1 and message in found[0]


def test_heavy_broken_and_sourceless_notebooks_are_found(tmp_path, folder, monkeypatch):
    monkeypatch.setattr(notebook_checks, "MAX_BYTES", 100)
    assert "MiB, at most" in faults_of(tmp_path, code())[0]
    (folder / "99_tiny.ipynb").write_text("{")
    (folder / "02_lost.ipynb").write_text("{}")
    found = notebooks.check_all([], folder)
    assert "not a valid notebook" in found[0] and found[-1] == "02_lost.ipynb: has no source"
    (folder / "99_tiny.ipynb").unlink()
    assert notebooks.check_all([], folder)[0] == "99_tiny.ipynb: not built"


def test_the_committed_notebooks_pass():
    assert notebooks.check_all([]) == []


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("loss 0.123456", "loss 0.123401"),
        ("1.2e-17", "-3.4e-17"),
        ("same", "same"),
        ("0.062", "0.063"),
        ("1.0e-5 2", "1.0001e-5 2"),
    ],
)
def test_close_outputs_compare_equal(a, b):
    assert About(a) == About(b) and not About(a) != About(b)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("0.1240", "0.1230"),
        ("3", "4"),
        ("loss 0.5", "loss 0.6"),
        ("0.5", "error 0.5"),
        ("0.5 0.5", "0.5"),
        ("0.50", "nan"),
        ("0.062", "0.064"),
    ],
)
def test_different_outputs_compare_unequal(a, b):
    assert About(a) != About(b) and not About(a) == About(b)


def test_peak_memory_sees_a_child_process():
    import subprocess
    import sys

    with course.PeakMemory(interval=0.02) as memory:
        subprocess.run([sys.executable, "-c", "import time; x = bytearray(200 * 2**20); time.sleep(0.4)"], check=True)
    assert 200 * 2**20 < memory.peak < 400 * 2**20


@pytest.mark.slow
def test_a_lesson_is_measured_and_written_as_html_with_alt_text(folder):
    ((source, target),) = notebooks.select([], folder)
    notebooks.build(source, target)
    start = time.perf_counter()
    notebook, cost = course.run_lesson(target)
    assert cost["minutes"] <= round((time.perf_counter() - start) / 60, 2) and cost["peak_mib"] > 20
    page = course.to_html(notebook, "99_tiny")
    assert 'alt="One grey pixel, nothing else."' in page and "No description" not in page


def test_the_cost_card_keeps_lessons_that_were_not_measured(tmp_path):
    path = tmp_path / "cost.json"
    course.save(path, {"01_a": {"minutes": 1.0, "peak_mib": 5}, "02_b": {"minutes": 2.0, "peak_mib": 6}}, {"cores": 2})
    course.save(path, {"02_b": {"minutes": 3.0, "peak_mib": 7}}, {"cores": 2})
    lessons = json.loads(path.read_text())["lessons"]
    assert course.table(lessons).splitlines()[2:] == ["| 01_a |  | 1.0 | 5 |", "| 02_b |  | 3.0 | 7 |"]


def test_the_costs_are_written_where_they_are_quoted(tmp_path):
    readme, source = tmp_path / "README.md", tmp_path / "01_a.py"
    readme.write_text("| [01 A](notebooks/01_a.ipynb) | add noise | 0 | 0.0 | 0 |\n| [02 B](notebooks/02_b.ipynb) | jump | 9 | 9.9 | 9 |\n")
    source.write_text("# # 01\n#\n# **Measured cost:** 0.0 min on 2 cores, 0.0 GB of memory at the peak.\n")
    course.quote({"01_a": {"minutes": 1.26, "peak_mib": 1536, "reading": 31}}, readme, tmp_path)
    assert readme.read_text().splitlines() == [
        "| [01 A](notebooks/01_a.ipynb) | add noise | 31 | 1.3 | 1536 |", "| [02 B](notebooks/02_b.ipynb) | jump | 9 | 9.9 | 9 |",
    ]
    assert "# **Measured cost:** 1.3 min on 2 cores, 1.5 GB of memory at the peak.\n" in source.read_text()
    both = {"minutes": 1.26, "further_minutes": 0.44, "peak_mib": 1536, "reading": 24, "further_reading": 8}
    course.quote({"01_a": both}, readme, tmp_path)
    assert readme.read_text().splitlines()[0] == "| [01 A](notebooks/01_a.ipynb) | add noise | 24 + 8 | 0.8 + 0.4 | 1536 |"
    assert "Core: about 24 minutes of reading, 0.8 of computing. Going further: about 8 and 0.4." in source.read_text()


def test_readme_and_lessons_quote_the_cost_card():
    if not course.CARD.exists():
        pytest.fail("notebooks/cost.json is missing: run make course ARGS=--write")
    lessons = json.loads(course.CARD.read_text())["lessons"]
    assert set(lessons) == {target.stem for _, target in notebooks.select([])}
    readme = (ROOT / "README.md").read_text()
    for name, cost in lessons.items():
        row = next((line for line in readme.splitlines() if f"{name}.ipynb" in line and line.startswith("|")), "")
        quoted = [lesson_limits.reading_of(cost), lesson_limits.computing_of(cost), f"{cost['peak_mib']}"]
        assert [cell.strip() for cell in row.split("|")][3:6] == quoted, f"{row!r} is not {name}: {cost}"
        source = (notebooks.NOTEBOOKS / "source" / f"{name}.py").read_text()
        assert course.cost_line(cost) in source, name


CORE = [
    new_markdown_cell("# 04 A lesson\n\nOne `name.of` code, $x_t + 1$ and [a link](https://a.b/c).\n\n$$a = b$$\n\n<details><summary>Answer</summary>\n\n$$c$$ many words\n\n</details>"),
    new_code_cell("x = 1"), new_code_cell('exercise("04.1")'), new_code_cell('def f(): ...\n\n\ncheck("04.1", f)'),
]
FURTHER = [new_markdown_cell("## Going further\n\nThe core of this lesson ends here."), new_markdown_cell("### One\n\nA word."), new_code_cell("y = 2")]
COST = {"04_a": {"minutes": 1.5, "further_minutes": 0.7, "peak_mib": 5, "reading": 1, "further_reading": 0}}


def limits_of(core, further, costs=COST, stem="04_a"):
    return lesson_limits.limit_faults(stem, new_notebook(cells=[*core, *further]), costs)


def test_core_and_further_are_told_apart_and_counted():
    core, further = lesson_limits.split(new_notebook(cells=CORE + FURTHER))
    assert (core, further) == (CORE, FURTHER)
    assert lesson_limits.size(core) == (10, 1, 1) and lesson_limits.size(further) == (12, 1, 0)
    assert lesson_limits.size(core).reading == pytest.approx(10 / 160 + 1 / 4 + 1 / 4)
    assert lesson_limits.split(new_notebook(cells=CORE)) == (CORE, [])
    assert limits_of(CORE, FURTHER) == []


@pytest.mark.parametrize(("fault", "core", "further", "costs"), [
    ("has no part '## Going further'", CORE, [], COST),
    ("does not say", CORE, [new_markdown_cell("## Going further")], COST),
    ("first or second level follows", CORE, [*FURTHER, new_markdown_cell("## More")], COST),
    ("does not begin with its heading's cell", CORE, [*FURTHER, new_markdown_cell("Text.\n\n### More")], COST),
    ("an exercise stands in", CORE, [*FURTHER, new_code_cell('exercise("04.2")')], COST),
    ("the core has 2201 words of prose, at most 2200", [*CORE, new_markdown_cell("w " * 2191)], FURTHER, None),
    ("the core has 31 code cells, at most 30", [*CORE, *(new_code_cell("x") for _ in range(30))], FURTHER, None),
    ("minutes of reading, at most 25", [*CORE, *(new_markdown_cell("$$x$$") for _ in range(99))], FURTHER, None),
    ("has no minutes of Going further", CORE, FURTHER, {"04_a": {"minutes": 1.0}}),
    ("the core computes for 1.10 minutes", CORE, FURTHER, {"04_a": COST["04_a"] | {"minutes": 1.8}}),
    ("Going further computes for 1.20 minutes", CORE, FURTHER, {"04_a": COST["04_a"] | {"minutes": 1.8, "further_minutes": 1.2}}),
    ("reading is 9, counted are 1", CORE, FURTHER, {"04_a": COST["04_a"] | {"reading": 9}}),
])
def test_a_part_that_is_wrong_is_found(fault, core, further, costs):
    if costs is None:  # long enough that its reading, too, differs from the card's
        costs = {"04_a": COST["04_a"] | lesson_limits.reading(new_notebook(cells=[*core, *further]))}
    found = limits_of(core, further, costs)
    assert fault in found[0], found
    assert limits_of(core, further, costs, stem="99_a") == []


def test_seconds_of_a_cell_come_from_its_times():
    times = {"iopub.execute_input": "2026-01-01T10:00:00.5Z", "shell.execute_reply": "2026-01-01T10:00:02Z"}
    cell = new_code_cell("x", metadata={"execution": times})
    assert course.seconds(cell) == 1.5 and course.seconds(new_code_cell("x")) == course.seconds(new_markdown_cell("x")) == 0


def test_the_guide_gets_the_sum_of_the_minutes_and_the_largest_memory(tmp_path):
    guide = tmp_path / "guide.md"
    guide.write_text("| week | lessons | minutes | peak MiB | points |\n|---:|---|---:|---:|---:|\n| 1 | 01, 02 | 0 | 0 | 7 |\n| 2 | 03 The loss | 04 | 03.1 |\n")
    course.quote_weeks({"01_a": {"minutes": 1.26, "peak_mib": 5}, "02_b": {"minutes": 0.5, "peak_mib": 9}}, guide)
    assert guide.read_text().splitlines()[2:] == ["| 1 | 01, 02 | 1.8 | 9 | 7 |", "| 2 | 03 The loss | 04 | 03.1 |"]


def test_the_guides_plan_says_what_the_cost_card_and_the_exercises_say(tmp_path):
    copy = tmp_path / "guide.md"
    copy.write_bytes(course.GUIDE.read_bytes())
    course.quote_weeks(json.loads(course.CARD.read_text())["lessons"], copy)
    assert copy.read_bytes() == course.GUIDE.read_bytes(), "make course ARGS=--write writes the costs into docs/instructors.md"
    rows = [[cell.strip() for cell in line.split("|")] for line in copy.read_text().splitlines() if re.match(r"\| \d+ \| \d\d[, ]", line)]
    planned = [row for row in rows if re.fullmatch(r"\d\d(, \d\d)*", row[2])]
    assert ", ".join(row[2] for row in planned).split(", ") == [f"{lesson:02d}" for lesson in (*range(13), 14)]
    for row in planned:
        chosen = [one for lesson in row[2].split(", ") for one in all_exercises(int(lesson))]
        assert (int(row[5]), int(row[6])) == (len(chosen), sum(one.points for one in chosen)), row
