"""The frame of an HTML page: one file, no network, light and dark, narrow screens and paper."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from string import Template

from ..files import printable

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy"
  content="default-src 'none'; style-src 'unsafe-inline'">
<title>$title</title>
<style>
:root { color-scheme: light dark; --text: #1a1a1a; --back: #ffffff; --soft: #595959;
  --line: #c8c8c8; --panel: #f4f4f4; --right: #006b4f; --wrong: #a33c00; --open: #595959;
  --marked: #00598c; --bar: #2f7fb5; --other: #d98a00; --mark: #fff1c2; }
@media (prefers-color-scheme: dark) { :root { --text: #eaeaea; --back: #16181b; --soft: #b4b4b4;
  --line: #4a4d52; --panel: #22252a; --right: #5fd3ae; --wrong: #ffab7a; --open: #b4b4b4;
  --marked: #7cc4f0; --bar: #56b4e9; --other: #e69f00; --mark: #4d4016; } }
body { font: 1rem/1.5 system-ui, sans-serif; color: var(--text); background: var(--back);
  margin: 0 auto; padding: 1rem; max-width: 52rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0 0 .25rem; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.total { font-size: 1.15rem; margin: 0 0 1rem; } .soft { color: var(--soft); }
article { border: 1px solid var(--line); border-left: .4rem solid var(--open);
  border-radius: .3rem; padding: .6rem .9rem; margin: .7rem 0; }
article.right { border-left-color: var(--right); }
article.wrong { border-left-color: var(--wrong); }
article.marked { border-left-color: var(--marked); } .marked .state { color: var(--marked); }
article h3 { font-size: 1rem; margin: 0; }
article p { margin: .35rem 0 0; }
.state { font-weight: 600; }
.right .state { color: var(--right); } .wrong .state { color: var(--wrong); }
code { font-family: ui-monospace, monospace; font-size: .92em; background: var(--panel);
  padding: 0 .2em; }
pre { white-space: pre-wrap; background: var(--panel); padding: .5rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; width: 100%; }
th, td { overflow-wrap: break-word; text-align: left; padding: .25rem .6rem .25rem 0;
  border-bottom: 1px solid var(--line); vertical-align: top; }
td.number { white-space: nowrap; } .scroll td:not(.number) { min-width: 8rem; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; }
ul.bars { list-style: none; margin: .3rem 0 1rem; padding: 0; }
.bars li { display: flow-root; margin: 0 0 .6rem; } .bars .count { float: right; }
.bar { display: block; background: var(--bar); clear: both; }
.bars .bar { height: .55rem; min-width: .15rem; }
.count, .column { font-variant-numeric: tabular-nums; }
.histogram { display: flex; align-items: flex-end; gap: 2px; margin: 1rem 0; max-width: 36rem; }
.column { flex: 1; text-align: center; font-size: .85rem; } .start { display: block; }
.column .start { border-top: 1px solid var(--soft); color: var(--soft); }
.shares { display: flex; height: .9rem; border: 1px solid var(--line); margin: .3rem 0 0; }
.shares .right, .key.right { background: var(--bar); }
.shares .wrong, .key.wrong { background: repeating-linear-gradient(45deg, var(--other) 0 4px,
  var(--back) 4px 6px); }
.legend { margin: .1rem 0 .3rem; font-size: .9rem; color: var(--soft); }
.key { display: inline-block; width: .8em; height: .8em; border: 1px solid var(--line);
  margin-right: .3em; }
a { color: var(--marked); }
.wide { max-width: 90rem; } .wide p { max-width: 50rem; }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: 1rem; }
.pair h4 { margin: 0; } .pair pre { margin: .2rem 0 1rem; font-size: .85rem; }
mark { background: var(--mark); color: inherit; font-weight: 600; }
@media (max-width: 45rem) { .pair { grid-template-columns: 1fr; gap: 0; } }
@media print { :root { --text: #000; --back: #fff; } article { break-inside: avoid; } }
</style>
</head>
<body$css>
<main>
$body
</main>
</body>
</html>
""")


def page(title: str, body: str, *, wide: bool = False) -> str:
    """Return a whole page; `body` is HTML, a `wide` page has room for two columns."""
    css = ' class="wide"' if wide else ""
    return _PAGE.substitute(title=escape(printable(title)), body=body, css=css)


def code_text(text: str) -> str:
    """Escape a text; what stands between backticks is code."""
    parts = escape(text).split("`")
    return "".join(
        f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts)
    )


def points_of(points: float, most: float) -> str:
    """Return "2 of 3 points"."""
    return f"{points:g} of {most:g} point{'s' if most != 1 else ''}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], numbers: Sequence[int] = ()) -> str:
    """Return a table that scrolls by itself; its cells are HTML.

    `numbers` are the columns that stand right.
    """

    def css(index: int) -> str:
        return ' class="number"' if index in numbers else ""

    top = "".join(
        f'<th scope="col"{css(index)}>{escape(name)}</th>' for index, name in enumerate(head)
    )
    lines = []
    for row in rows:
        cells = "".join(f"<td{css(index)}>{cell}</td>" for index, cell in enumerate(row[1:], 1))
        lines.append(f'<tr><th scope="row">{row[0]}</th>{cells}</tr>')
    whole = f"<table><thead><tr>{top}</tr></thead><tbody>{''.join(lines)}</tbody></table>"
    return (
        '<div class="scroll" tabindex="0" role="region"'
        f' aria-label="{escape(head[0])}">{whole}</div>'
    )
