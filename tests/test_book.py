"""The book's sources, without Sphinx: symbols, glossary, equations, papers, covers, and lessons as pages."""

import importlib
import inspect
import re
from pathlib import Path

import nbformat
import pytest

import diffusion_course
from tools import book, book_lessons, book_reference
from tools.lesson_limits import further_at, reading_of
from tools.notebook_checks import inputs, prose_faults

ROOT = Path(__file__).resolve().parents[1]
PROSE = sorted((ROOT / "book").glob("*.md"))
DOCS = [*PROSE, *sorted((ROOT / "docs").glob("*.md")), book.CARD]
EQUATIONS = book_lessons.equations()


def markdown(path):
    """The prose of a lesson or of a page."""
    if path.suffix == ".md":
        return path.read_text(encoding="utf-8")
    return "\n".join(cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown")


def rows(path):
    """The rows of a page's tables, headings left out, as lists of cells."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("|") and "---" not in line]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in (line.replace(r"\|", "&#124;") for line in lines)]
    return [row for row in cells if row[0] not in ("symbol", "what")]


def codes(text):
    """What stands between backticks."""
    return re.findall(r"`([^`]+)`", text)


def missing(code):
    """What is wrong with a code name such as `Class.attribute` or `function(argument)`, or None."""
    match = re.fullmatch(r"([\w.]+)(?:\(([\w, ]+)\))?", code)
    if not match:
        return f"{code} is not a name"
    first, *rest = match[1].split(".")
    try:
        thing = getattr(diffusion_course, first, None) or importlib.import_module(f"diffusion_course.{first}")
        for name in rest:
            fields = {*getattr(thing, "__annotations__", ()), *getattr(thing, "_fields", ())}
            thing = getattr(thing, name, name if name in fields else None) or importlib.import_module(f"{thing.__name__}.{name}")
    except (ModuleNotFoundError, AttributeError):
        return f"{code} does not exist"
    taken = inspect.signature(thing).parameters if match[2] else ()
    return next((f"{code} has no argument {one}" for one in re.split(", *", match[2] or "") if one and one not in taken), None)


def test_a_wrong_code_name_is_found():
    assert missing("q_sample") is missing("NoiseSchedule.betas") is missing("q_sample(x0, noise)") is missing("models.blocks.ResBlock") is None
    assert missing("q_smaple") == "q_smaple does not exist"
    assert missing("NoiseSchedule.gammas") == "NoiseSchedule.gammas does not exist"
    assert missing("q_sample(x1)") == "q_sample(x1) has no argument x1"


def test_every_symbol_has_words_code_and_an_equation():
    table = rows(ROOT / "book" / "symbols.md")
    assert len(table) > 70
    faults = []
    for row in table:
        assert len(row) == 5, row
        symbol, words, _, code, place = row
        faults += [f"{symbol}: {fault}" for fault in map(missing, codes(code)) if fault]
        if not words or not (codes(code) or re.fullmatch(r"in lesson \d\d only", code)):
            faults.append(f"{symbol}: no words or no code")
        if not book_lessons.MENTION.findall(place):
            faults.append(f"{symbol}: no equation")
    assert faults == []


def test_the_notation_of_lesson_00_is_in_the_table():
    lesson = next(path for path in book_lessons.lessons() if path.name.startswith("00"))
    (table,) = [cell.source for cell in nbformat.read(lesson, as_version=4).cells if cell.source.startswith("### The notation")]
    known = (ROOT / "book" / "symbols.md").read_text(encoding="utf-8")
    first = [line.split("|")[1].strip() for line in table.splitlines() if line.startswith("| $")]
    assert len(first) > 10
    for symbol in first:
        letter = symbol.strip("$").split("=")[0].split("(")[0].strip()
        assert letter in known, f"{symbol} of lesson 00 is not in the symbol table"


def test_every_term_of_the_glossary_has_code_and_a_lesson():
    text = (ROOT / "book" / "glossary.md").read_text(encoding="utf-8")
    entries = re.findall(r"^(\S.*)\n((?:  .*\n?)+)", text.partition(":::{glossary}")[2], flags=re.MULTILINE)
    terms = [term for term, _ in entries]
    assert len(terms) > 50
    assert [term.lower() for term in terms] == sorted(term.lower() for term in terms)
    for term, words in entries:
        assert codes(words) and re.search(r"[Ll]essons? \d\d", words), term
        assert [fault for fault in map(missing, codes(words)) if fault] == [], term


@pytest.mark.parametrize("path", [*book_lessons.lessons(), *DOCS], ids=lambda path: path.name)
def test_every_mention_of_an_equation_resolves(path):
    unknown = {number for number in book_lessons.MENTION.findall(markdown(path))} - set(EQUATIONS)
    assert unknown == set()


def test_equations_belong_to_one_lesson_and_have_one_anchor():
    assert len(EQUATIONS) > 150
    assert EQUATIONS["04.6"] == "notebooks/04_ddpm_posterior"
    assert len({book_lessons.anchor(number) for number in EQUATIONS}) == len(EQUATIONS)
    assert book_lessons.anchor("04.6") == "eq-04-6"


def test_a_number_that_is_used_twice_is_refused(tmp_path, monkeypatch):
    cells = [nbformat.v4.new_markdown_cell(r"$$a \tag{01.1}$$"), nbformat.v4.new_markdown_cell(r"$$b \tag{01.1}$$")]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "01_x.ipynb")
    monkeypatch.setattr(book_lessons, "lessons", lambda: [tmp_path / "01_x.ipynb"])
    with pytest.raises(ValueError, match=r"equation \(01.1\) is used before"):
        book_lessons.equations()


def test_every_cited_paper_is_in_the_bibliography_and_the_other_way_round():
    listed = [paper.arxiv for paper in book_reference.papers()]
    cited = set(book_reference.cited_in_lessons()) | set(book_reference.cited_in_code())
    for path in DOCS:
        cited |= set(book_lessons.CITED.findall(markdown(path)))
    assert len(listed) == len(set(listed))
    assert cited - set(listed) == set(), "cited and not in references.bib"
    assert set(listed) - cited == set(), "in references.bib and cited nowhere"


def test_papers_are_complete_and_of_their_year():
    papers = book_reference.papers()
    assert len({paper.key for paper in papers}) == len(papers) == book_reference.REFERENCES.read_text(encoding="utf-8").count("@misc{")
    for paper in papers:
        assert paper.title
        assert all(paper.authors)
        assert paper.year == f"20{paper.arxiv[:2]}", f"{paper.key}: the first version on arXiv is of 20{paper.arxiv[:2]}"


def test_every_public_name_has_its_place_in_the_reference():
    placed = [module for _, modules in book_reference.SUBJECTS.values() for module in modules]
    assert len(placed) == len(set(placed))
    assert set(diffusion_course.EXPORTS) <= set(placed)
    page = book_reference.overview_page()
    assert [name for name in diffusion_course.__all__ if name not in ("plotting", "__version__") and f"| `{name}` |" not in page] == []


def test_every_lesson_has_a_cover_an_aim_and_a_cost():
    aims, costs = book_lessons.aims(), book_lessons.costs()["lessons"]
    stems = {path.stem for path in book_lessons.lessons()}
    assert stems == set(aims) == set(costs)
    for path in book_lessons.lessons():
        assert book_lessons.cover(path)[1].startswith(b"\x89PNG")
    shown = book.lesson_map()
    assert all(f":link: notebooks/{stem}" in shown for stem in stems)
    assert f"{costs['09_autoencoder']['minutes']:.1f} min" in shown
    assert f"{reading_of(costs['04_ddpm_posterior'])} min to read" in shown


def test_links_to_other_places_need_the_repositorys_address():
    assert book_lessons.launch_links("04.ipynb", None, "main") == []
    hub = dict(book_lessons.launch_links("04.ipynb", "https://github.com/someone/course.git", "main"))
    assert hub["Open in Colab"] == "https://colab.research.google.com/github/someone/course/blob/main/notebooks/04.ipynb"
    assert hub["Open in Binder"] == "https://mybinder.org/v2/gh/someone/course/main?labpath=notebooks/04.ipynb"
    lab = dict(book_lessons.launch_links("04.ipynb", "https://gitlab.com/group/course/", "dev"))
    assert lab == {"Open in Binder": "https://mybinder.org/v2/gl/group%2Fcourse/dev?labpath=notebooks/04.ipynb"}
    with pytest.raises(ValueError, match="COURSE_REPOSITORY='git@host:x'"):
        book_lessons.launch_links("04.ipynb", "git@host:x", "main")


@pytest.mark.parametrize("path", book_lessons.lessons(), ids=lambda path: path.stem)
def test_a_lesson_as_a_page(path):
    stored, page = nbformat.read(path, as_version=4), book_lessons.prepare(path)
    nbformat.validate(page)
    helped = [cell for cell in page.cells if cell.id.startswith("help-")]
    kept = [cell for cell in page.cells if cell not in helped and not cell.id.startswith("fold-")]
    unfolded = [cell.source.replace(f"{book_lessons.FOLD}\n\n", "") for cell in kept[1:]]
    assert unfolded == [cell.source for cell in stored.cells[1:]]
    assert kept[0].source.splitlines()[2].startswith(f"{{download}}`Download the notebook <../downloads/{path.name}>`")
    answered = {number for cell in stored.cells for number in book_lessons.CHECKED.findall(cell.source) if cell.cell_type == "code"}
    assert {cell.id.removeprefix("help-").replace("-", ".") for cell in helped} == answered
    for cell in helped:
        assert cell.source.count("<details>") == cell.source.count("</details>") == 4
    for cell in page.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data", {})
            assert not str(data.get("text/plain", "")).startswith("[progress]")
            if "image/png" in data and "text/html" not in data:
                assert len(cell.metadata["mystnb"]["image"]["alt"]) > 14


def test_each_section_of_going_further_is_folded_inside_itself():
    sources = ["# 04", "### A section of the core", "## Going further\n\nA note.", "### One\n\nText.", "More.", "### Two\n\nText."]
    cells = [nbformat.v4.new_markdown_cell(source) for source in sources]
    assert further_at(cells) == 2
    folded = [cell.source for cell in book_lessons.fold_sections(cells[2:])]
    opened = f"\n\n{book_lessons.FOLD}\n\nText."
    assert folded == ["## Going further\n\nA note.", f"### One{opened}", "More.", "</details>", f"### Two{opened}", "</details>"]


def test_a_drawing_is_marked_so_that_the_dark_page_can_turn_its_colours(tmp_path):
    outputs = [nbformat.v4.new_output("display_data", data={"image/png": "", "text/plain": f"[{mark}] Two boxes and an arrow."}) for mark in ("drawing", "figure")]
    cells = [nbformat.v4.new_markdown_cell("# 04")] + [nbformat.v4.new_code_cell("x", outputs=[one]) for one in outputs]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "04_x.ipynb")
    drawn, plotted = [cell.metadata["mystnb"]["image"] for cell in book_lessons.prepare(tmp_path / "04_x.ipynb").cells[1:]]
    assert drawn == {"alt": "Two boxes and an arrow.", "classes": "drawing"} and plotted == {"alt": "Two boxes and an arrow."}


def test_a_solution_that_is_a_number_says_which():
    from diffusion_course.exercises.registry import all_exercises

    number = next(one for lesson in range(1, 13) for one in all_exercises(lesson) if one.is_value)
    assert re.search(r"It gives -?[\d.]+", book_lessons.help_for(number.id))


def test_the_pages_are_written_once_and_leftovers_go(tmp_path, monkeypatch):
    wanted = {"index.md": b"# A\n", "notebooks/04.ipynb": b"{}"}
    monkeypatch.setattr(book, "pages", lambda: wanted)
    (tmp_path / "old.md").write_text("gone")
    book.assemble(tmp_path)
    before = (tmp_path / "index.md").stat().st_mtime_ns
    wanted["notebooks/04.ipynb"] = b"{1}"
    book.assemble(tmp_path)
    assert (tmp_path / "index.md").stat().st_mtime_ns == before
    assert (tmp_path / "notebooks" / "04.ipynb").read_bytes() == b"{1}"
    assert not (tmp_path / "old.md").exists()


def test_a_missing_extra_is_named(monkeypatch, capsys):
    monkeypatch.setattr(book, "NEEDED", ("pytest", "no_such_package"))
    assert book.main([]) == 1
    assert "no_such_package" in (said := capsys.readouterr().err) and "make book" in said


@pytest.mark.parametrize("path", PROSE, ids=lambda path: path.name)
def test_the_pages_keep_to_the_courses_prose(path):
    cell = nbformat.v4.new_markdown_cell(path.read_text(encoding="utf-8"))
    assert list(prose_faults(cell)) == []


def test_the_lessons_stay_as_they_are():
    path = book_lessons.lessons()[4]
    before = inputs(nbformat.read(path, as_version=4))
    book_lessons.prepare(path)
    assert inputs(nbformat.read(path, as_version=4)) == before


def test_the_reference_says_one_whole_sentence_without_its_papers():
    for name in diffusion_course.__all__:
        thing = getattr(diffusion_course, name)
        if callable(thing):
            said = book_reference.summary(thing)
            assert "arXiv" not in said, said
            assert said.count("(") == said.count(")"), said
    assert book_reference.summary(diffusion_course.q_sample) == "Jump to step t at once."
