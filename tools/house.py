"""The map of the package's rooms, drawn from the code: `python -m tools.house` writes it.

docs/house-light.svg and docs/house-dark.svg are shown in CONTRIBUTING.md and in the book. A room's
line is the first sentence of its docstring, an arrow an import. `--check` says what is stale.
"""

import argparse
import ast
import re
import sys
import textwrap
from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from diffusion_course.files.paths import write_bytes

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "diffusion_course"
# The floors of the house, from the ground up: a room imports only from rooms below it.
FLOORS = (
    *("lazy", "validation", "kinds", "door", "seeds", "process", "flow", "sampling", "models"),
    *("files", "datasets", "training", "measures", "latent", "notebook", "doctor", "exercises"),
    "exercises.lessons",
    *("classroom.files", "classroom.reasons", "classroom.records", "classroom.tables"),
    *("classroom.assignment", "classroom.sandbox", "classroom.reports", "classroom.grading"),
    *("classroom.gradescope", "classroom.__main__", "__main__"),
)
EVERYWHERE = ("lazy", "validation", "kinds", "door", "seeds")  # what a room need not name
PICTURES = {theme: ROOT / "docs" / f"house-{theme}.svg" for theme in ("light", "dark")}
TITLE = "The rooms of the package"

WIDTH, MARGIN, GAP, PASSAGE = 700, 12, 14, 16  # pixels; a passage is where an arrow passes a floor
LETTER, LINE, NAME, BETWEEN = 6.7, 15, 20, 34  # a letter's width, heights of lines, between floors
COLORS = {
    "light": {
        "ground": "#ffffff",
        "text": "#1a1a1a",
        "arrow": "#5c5c5c",
        "everywhere": ("#f0f0f0", "#767676"),
        "course": ("#e8f2f9", "#0072b2"),
        "exercises": ("#e6f5f0", "#00795a"),
        "classroom": ("#fbece2", "#b34e00"),
    },
    "dark": {
        "ground": "#121212",
        "text": "#f0f0f0",
        "arrow": "#b8bec6",
        "everywhere": ("#262b33", "#9aa1ab"),
        "course": ("#10293b", "#56b4e9"),
        "exercises": ("#0e2f27", "#2fc89b"),
        "classroom": ("#3a2412", "#f0a35e"),
    },
}

STYLE = """<style>
text {{ font: 12px system-ui, 'DejaVu Sans', Verdana, Arial, sans-serif; fill: {text} }}
.name {{ font-size: 13px; font-weight: bold }}
path {{ fill: none; stroke: {arrow}; stroke-width: 1.4 }}
.head {{ fill: {arrow}; stroke: none }}
</style>"""
HEAD = """<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" \
markerHeight="7" orient="auto"><path class="head" d="M0,0 L8,4 L0,8 z"/></marker></defs>"""


def parts_of(path: Path) -> list[str]:
    """The dotted name of a file below the package, in parts."""
    inside = path.relative_to(PACKAGE).with_suffix("")
    return [part for part in inside.parts if part != "__init__"]


def room_of(parts: list[str]) -> str | None:
    """The room on FLOORS that a module belongs to: models.unet is in models."""
    return next((room for room in (".".join(parts[:2]), *parts[:1]) if room in FLOORS), None)


def imports(tree: ast.AST, path: Path) -> Iterator[str]:
    """The dotted name of every import, also inside functions, as if the code stood at `path`."""
    package = ("diffusion_course", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            stem = ".".join(part for part in (base, node.module) if part)
            yield from (f"{stem}.{alias.name}" for alias in node.names)


def rooms_used(source: str, path: Path) -> set[str]:
    """The rooms that `source` imports from, as if it stood at `path`, other than its own."""
    names = [name.split(".") for name in imports(ast.parse(source), path)]
    inside = [parts[1:] for parts in names if parts[0] == "diffusion_course" and len(parts) > 1]
    return {room_of(parts) for parts in inside} - {None, room_of(parts_of(path))}


def first_sentence(docstring: str) -> str:
    """What a room is, without a full stop and without what it imports."""
    text = " ".join(docstring.split("\n\n")[0].split()).replace("`", "")
    return re.split(r"(?<=\.)\s", text)[0].rstrip(".")


class House(NamedTuple):
    """What the code says: the line of each room, and the rooms that each imports."""

    lines: dict[str, str]
    uses: dict[str, set[str]]


def read_house() -> House:
    """Read the rooms, less the commands (`__main__`); in the order of FLOORS."""
    rooms = [room for room in FLOORS if not room.endswith("__main__")]
    lines, uses = {}, {room: set() for room in rooms}
    for path in sorted(PACKAGE.rglob("*.py")):
        if (room := room_of(parts_of(path))) not in uses:
            continue
        source = path.read_text(encoding="utf-8")
        uses[room] |= rooms_used(source, path) & uses.keys()
        if parts_of(path) == room.split("."):
            lines[room] = first_sentence(ast.get_docstring(ast.parse(source)) or "")
    return House({room: lines[room] for room in rooms}, uses)


def arrows(uses: dict[str, set[str]]) -> dict[str, set[str]]:
    """Return the imports less those of `EVERYWHERE` and those that follow from others."""
    plain = {room: used - {*EVERYWHERE} for room, used in uses.items() if room not in EVERYWHERE}

    def reached(room: str) -> set[str]:
        return plain[room].union(*map(reached, plain[room]))

    return {room: used - set().union(*map(reached, used)) for room, used in plain.items()}


def stories(links: dict[str, set[str]]) -> list[list[str]]:
    """Return the rooms by floor, from the ground up: each above all that it imports.

    A room that imports nothing stands just below the first that needs it.
    """
    floor: dict[str, int] = {}

    def floor_of(room: str) -> int:
        if room not in floor:
            floor[room] = 1 + max(map(floor_of, links[room]), default=-1)
        return floor[room]

    for room in links:
        floor_of(room)
    for room in links:
        above = [floor[other] for other in links if room in links[other]]
        if not links[room] and above:
            floor[room] = min(above) - 1
    return [[room for room in links if floor[room] == n] for n in range(max(floor.values()) + 1)]


def with_passages(floors: list[list[str]], links: dict[str, set[str]]) -> list[list[str]]:
    """Return the arrows, each as one name a floor, and add the passages between to `floors`."""
    paths = []
    at = {room: n for n, rooms in enumerate(floors) for room in rooms}
    for room, used in links.items():
        for below in sorted(used, key=FLOORS.index):
            between = {n: f"{room} to {below}, {n}" for n in range(at[room] - 1, at[below], -1)}
            for n, passage in between.items():
                floors[n].append(passage)
            paths.append([room, *between.values(), below])
    return paths


def untangled(floors: list[list[str]], paths: list[list[str]]) -> list[list[str]]:
    """Return the floors, each in an order in which few arrows cross."""
    steps = [step for path in paths for step in pairwise(path)]
    below = {name: [b for a, b in steps if a == name] for rooms in floors for name in rooms}
    above = {name: [a for a, b in steps if b == name] for rooms in floors for name in rooms}

    def crossings(order: list[list[str]]) -> int:
        place = {name: i for rooms in order for i, name in enumerate(rooms)}
        at = {name: n for n, rooms in enumerate(order) for name in rooms}
        rows: dict[int, list] = {}
        for a, b in steps:
            rows.setdefault(at[a], []).append((place[a], place[b]))
        pairs = [(p, q) for row in rows.values() for i, p in enumerate(row) for q in row[:i]]
        return sum((p[0] - q[0]) * (p[1] - q[1]) < 0 for p, q in pairs)

    best = order = [list(rooms) for rooms in floors]
    for sweep in range(24):
        upward = sweep % 2 == 0
        order, done = [list(rooms) for rooms in order], {}
        for n in range(len(order)) if upward else reversed(range(len(order))):
            neighbours = below if upward else above

            def middle(name: str, near=neighbours, done=done, row=order[n]) -> float:
                known = [done[one] for one in near[name] if one in done]
                return sum(known) / len(known) if known else (row.index(name) + 0.5) / len(row)

            row = order[n]
            order[n] = sorted(row, key=lambda name: (middle(name), row.index(name)))
            done |= {name: (i + 0.5) / len(row) for i, name in enumerate(order[n])}
        best = min(best, order, key=crossings)
    return best


class Box(NamedTuple):
    """A room in the picture, or a passage: then it has no lines."""

    x: float
    y: float
    width: float
    height: float
    lines: list[str]


def row_of_boxes(names: list[str], lines: dict[str, str], y: float) -> dict[str, Box]:
    """Return the boxes of one floor, all of one height, side by side around the middle."""
    rooms = [name for name in names if name in lines]
    free = WIDTH - 2 * MARGIN - GAP * (len(names) - 1) - PASSAGE * (len(names) - len(rooms))
    width = min(300.0, free / max(1, len(rooms)))
    wrapped = {name: textwrap.wrap(lines[name], int((width - 16) / LETTER)) for name in rooms}
    height = NAME + LINE * max(map(len, wrapped.values()), default=1) + 12
    sizes = {name: width if name in wrapped else PASSAGE for name in names}
    x = (WIDTH - sum(sizes.values()) - GAP * (len(names) - 1)) / 2
    boxes = {}
    for name, size in sizes.items():
        boxes[name] = Box(x, y, size, height, wrapped.get(name, []))
        x += size + GAP
    return boxes


def drawing(house: House, theme: str) -> str:
    """Return the picture as SVG, for a light or a dark page."""
    links = arrows(house.uses)
    floors = stories(links)
    paths = with_passages(floors, links)
    boxes: dict[str, Box] = {}
    y = 40.0
    for names in reversed(untangled(floors, paths)):
        boxes |= row_of_boxes(names, house.lines, y)
        y += boxes[names[0]].height + BETWEEN
    ground = row_of_boxes([*EVERYWHERE], house.lines, y + 12)
    height = y + 12 + ground["door"].height + MARGIN
    color = COLORS[theme]
    size = f'width="{WIDTH}" height="{height:.0f}"'
    view = f'viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-labelledby="title desc"'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view} {size}>',
        f'<title id="title">{TITLE}</title>',
        f'<desc id="desc">From the ground up. {escape(" ".join(in_words(house)))}</desc>',
        STYLE.format(**{name: color[name] for name in ("text", "arrow")}),
        HEAD,
        f'<rect {size} fill="{color["ground"]}"/>',
        words("An arrow says: imports. What follows from other arrows is left out.", 20),
        words("On the ground, for every room:", y + 2),
    ]
    out += [f'<path d="{curve}" marker-end="url(#head)"/>' for curve in curves(paths, boxes)]
    for name, box in (boxes | ground).items():
        out += box_of(name, box, color) if box.lines else []
    return "\n".join([*out, "</svg>", ""])


def words(text: str, y: float) -> str:
    """Return a line of text in the middle."""
    return f'<text x="{WIDTH / 2:.0f}" y="{y:.0f}" text-anchor="middle">{escape(text)}</text>'


def box_of(name: str, box: Box, color: dict) -> list[str]:
    """Return one room's rectangle, name and line."""
    top = name.partition(".")[0]
    kind = "everywhere" if name in EVERYWHERE else top if top in color else "course"
    fill, stroke = color[kind]
    x, y, width, height, lines = box
    largest = 1.6 * (width - 12) / len(name)  # a long name in a narrow box is written smaller
    smaller = f' style="font-size: {largest:.1f}px"' if largest < 13 else ""
    return [
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="5"'
        f' fill="{fill}" stroke="{stroke}" stroke-width="1.5"/>',
        f'<text class="name"{smaller} x="{x + 8:.1f}" y="{y + 18:.1f}">{name}</text>',
        *(
            f'<text x="{x + 8:.1f}" y="{y + NAME + 15 + LINE * i:.1f}">{escape(line)}</text>'
            for i, line in enumerate(lines)
        ),
    ]


def curves(paths: list[list[str]], boxes: dict[str, Box]) -> Iterator[str]:
    """Yield the arrows from box to box; those of one side are spread along it."""
    steps = [step for path in paths for step in pairwise(path)]

    def port(name: str, other: str, ends: list[str]) -> float:
        ends = sorted(ends, key=lambda end: boxes[end].x + boxes[end].width / 2)
        box = boxes[name]
        return box.x + box.width * (ends.index(other) + 1) / (len(ends) + 1)

    for path in paths:
        curve = ""
        for a, b in pairwise(path):
            x, y = port(a, b, [d for c, d in steps if c == a]), boxes[a].y + boxes[a].height
            to, end = port(b, a, [c for c, d in steps if d == b]), boxes[b].y
            if boxes[a].lines:
                curve = f"M{x:.1f},{y:.1f}"
            else:
                curve += f" L{x:.1f},{y:.1f}"
            bend = (end - y) / 2
            curve += f" C{x:.1f},{y + bend:.1f} {to:.1f},{end - bend:.1f} {to:.1f},{end:.1f}"
        yield curve


def in_words(house: House) -> list[str]:
    """Return the picture as sentences: every room from the ground up, what it is and imports."""
    links, said = arrows(house.uses), []
    for room in (*EVERYWHERE, *(room for floor in stories(links) for room in floor)):
        used = sorted(links.get(room, ()), key=FLOORS.index)
        imported = f"; imports {' and '.join(used)}" if used else ""
        said.append(f"{room}: {house.lines[room]}{imported}.")
    return said


def pictures() -> dict[Path, str]:
    """Return what the code gives for each file."""
    house = read_house()
    return {path: drawing(house, theme) for theme, path in PICTURES.items()}


def main(argv: list[str] | None = None) -> int:
    """Write the pictures, or with --check return 1 where one is stale."""
    parser = argparse.ArgumentParser(prog="python -m tools.house")
    parser.add_argument("--check", action="store_true", help="write nothing, say what is stale")
    parser.add_argument("--words", action="store_true", help="print the map as text")
    args = parser.parse_args(argv)
    if args.words:
        print(*in_words(read_house()), sep="\n")
        return 0
    wanted, check = pictures(), args.check
    stale = [
        path
        for path, svg in wanted.items()
        if not path.is_file() or path.read_text(encoding="utf-8") != svg
    ]
    for path in stale:
        name = path.relative_to(ROOT).as_posix()
        if check:
            print(f"{name} is not what the code gives now. Run: python -m tools.house")
        else:
            write_bytes(path, wanted[path].encode())
            print(f"wrote {name}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
