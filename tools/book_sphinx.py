"""The book's own part of Sphinx: anchors of equations, links from mentions to what they name,
MathJax from a package.
"""

import hashlib
import inspect
import re
from importlib import metadata
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util import logging

from tools.book_lessons import MENTION, TAG, anchor
from tools.book_reference import SUBJECTS, names_of, papers

LOGGER = logging.getLogger(__name__)
# One file with everything in it, formulas as SVG: it asks for no font, so it works from file:// in
# every browser.
MATHJAX_PACKAGE, MATHJAX_FILE = "sphinx-mathjax-offline", "tex-svg.js"
# Es5/tex-svg.js of npm's mathjax 3.2.2
MATHJAX_SHA256 = "d4295dc33744836935c1399feece5159577b34c5c8ffb9f1c6324cd82e03a882"
NAME = re.compile(r"(?:diffusion_course\.)?([A-Za-z_][\w.]*)(?:\(.*\))?$", re.DOTALL)
PAPER = re.compile(r"arXiv[: ]+(\d{4}\.\d{4,5})")


class NumberedEquations(SphinxTransform):
    """Give every numbered equation its anchor, and a link to itself for people who want to point at
    it.
    """

    default_priority = 400

    def apply(self, **kwargs: object) -> None:
        for node in list(self.document.findall(nodes.math_block)):
            if match := TAG.search(node.astext()):
                number = match[1]
                node["ids"].append(anchor(number))
                # Sphinx puts several lines into an environment that allows no tag, unless it is
                # told to leave them alone.
                node["nowrap"] = True
                text = node.astext().strip()
                node.clear()
                node += nodes.Text(f"\\[{text}\\]")
                link = (
                    f'<a class="equation-link" href="#{anchor(number)}" aria-label="Link to'
                    f' equation {number}">#</a>'
                )
                node.parent.insert(node.parent.index(node) + 1, nodes.raw("", link, format="html"))


class LinkedMentions(SphinxPostTransform):
    """Turn (04.2) into a link to the equation, arXiv numbers into links to the papers, code names
    into links to the reference.
    """

    default_priority = 900

    def run(self, **kwargs: object) -> None:
        if self.app.builder.format != "html":
            return
        known = self.config.course_equations
        listed = {paper.arxiv for paper in papers()}
        for text in list(self.document.findall(nodes.Text)):
            if not unlinked(text):
                continue
            pieces, end = [], 0
            for match in re.finditer(f"{MENTION.pattern}|{PAPER.pattern}", str(text)):
                number, paper = match.groups()
                if number and number not in known:
                    LOGGER.warning(
                        "mention of equation (%s), which does not exist",
                        number,
                        location=text.parent,
                    )
                    continue
                if paper and paper not in listed:
                    LOGGER.warning("arXiv %s is not in references.bib", paper, location=text.parent)
                    continue
                page, place = (
                    (known[number], anchor(number))
                    if number
                    else ("references", f"arxiv-{paper.replace('.', '-')}")
                )
                shown = f"{number}" if number else match[0]
                start, stop = (match.start() + 1, match.end() - 1) if number else match.span()
                pieces += [nodes.Text(str(text)[end:start]), self.link(page, place, shown)]
                end = stop
            if pieces:
                text.parent.replace(text, [*pieces, nodes.Text(str(text)[end:])])
        places = self.places()
        for code in list(self.document.findall(nodes.literal)):
            match = NAME.match(code.astext())
            found = match and (places.get(match[1]) or places.get(match[1].split(".")[0]))
            if found and unlinked(code):
                page, place = found
                link = self.link(page, place, "")
                code.parent.replace(code, link)
                link += code

    def link(self, page: str, place: str, shown: str) -> nodes.reference:
        """A link inside the book; on the same page only the anchor."""
        uri = (
            f"#{place}"
            if page == self.env.docname
            else f"{self.app.builder.get_relative_uri(self.env.docname, page)}#{place}"
        )
        return nodes.reference(
            "", "", *([nodes.Text(shown)] if shown else []), internal=True, refuri=uri
        )

    def places(self) -> dict[str, tuple[str, str]]:
        """Page and anchor of every public name, and of the methods of public classes."""
        objects = self.env.domains.python_domain.objects
        found = {}
        for _, modules in SUBJECTS.values():
            for short in modules:
                prefix = f"diffusion_course.{short}."
                public = set(names_of(short))
                for dotted, entry in objects.items():
                    name = dotted.removeprefix(prefix)
                    if dotted.startswith(prefix) and name.split(".")[0] in public:
                        found[name] = found[f"{short}.{name}"] = (entry.docname, entry.node_id)
        return found


def unlinked(node: nodes.Node) -> bool:
    """Whether a node may become a link: not in a heading, code block, formula, raw HTML, signature
    or another link.
    """
    never = (
        nodes.reference,
        nodes.title,
        nodes.literal_block,
        nodes.math,
        nodes.math_block,
        nodes.raw,
        nodes.image,
    )
    never += (nodes.target,)
    if isinstance(node, nodes.Text):
        never += (nodes.literal,)
    parent = node.parent
    while parent is not None:
        if (
            isinstance(parent, never)
            or parent.tagname.startswith("desc_")
            and parent.tagname != "desc_content"
        ):
            return False
        parent = parent.parent
    return True


def mathjax_file() -> Path:
    """The installed copy of MathJax; raises ExtensionError where it is missing or not the file that
    was checked.
    """
    try:
        files = metadata.files(MATHJAX_PACKAGE) or ()
    except metadata.PackageNotFoundError as error:
        raise ExtensionError(f'{MATHJAX_PACKAGE} is missing; install the extra "book"') from error
    path = next(
        (
            Path(file.locate())
            for file in files
            if file.name == MATHJAX_FILE and file.parent.name == "mathjax"
        ),
        None,
    )
    if path is None or hashlib.sha256(path.read_bytes()).hexdigest() != MATHJAX_SHA256:
        raise ExtensionError(
            f"{MATHJAX_PACKAGE} does not hold MathJax 3.2.2 as npm publishes it, with which the"
            " book was tested"
        )
    return path


def docstring_as_rst(
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Docstrings are plain prose with `code`: escape what reStructuredText would read as markup."""
    if what == "data" and "\n".join(lines).strip() == inspect.cleandoc(type(obj).__doc__ or ""):
        lines.clear()  # it is the type's
    text = "\n".join(lines)
    parts = re.split(r"(``[^`]+``|`[^`]+`)", text)
    for index in range(0, len(parts), 2):
        parts[index] = re.sub(r"([*|])|_(?=\W|$)", lambda match: "\\" + match[0], parts[index])
    for index in range(1, len(parts), 2):
        parts[index] = f"``{parts[index].strip('`')}``"
    # A list starts after a blank line.
    text = re.sub(r"^(?!\s*- )(.*\S.*)\n(?=- )", r"\1\n\n", "".join(parts), flags=re.MULTILINE)
    lines[:] = text.splitlines()


def skip_fields(
    app: Sphinx, what: str, name: str, obj: object, skip: bool, options: object
) -> bool | None:
    """Leave out the fields of named tuples, which the signature shows, and what torch adds to
    networks.
    """
    doc = getattr(obj, "__doc__", None) or ""
    return True if doc.startswith("Alias for field number") else None


def readable_lists(app: Sphinx, page: str, template: str, context: dict, doctree: object) -> None:
    """Mend two lists that no screen reader reads; parameters on lines of their own come as
    definitions without terms.
    """
    if page == "_modules/index":  # lists as children of lists: make one
        head, _, rest = context["body"].partition("<ul>")
        context["body"] = f"{head}<ul>{re.sub('</?ul[^>]*>', '', rest)}</ul>"
    if "body" in context:

        def as_lines(match: re.Match) -> str:
            inside = match[1].replace("<dd>", '<span class="sig-line">').replace("</dd>", "</span>")
            return f'<span class="sig-lines">{inside}</span>'

        context["body"] = re.sub(
            r'<dl>\s*(<dd><em class="sig-param">.*?)</dl>',
            as_lines,
            context["body"],
            flags=re.DOTALL,
        )


def public_part(
    app: Sphinx,
    what: str,
    name: str,
    obj: object,
    options: object,
    signature: str | None,
    returns: str,
) -> tuple[str, str] | None:
    """Leave private fields, which stand last, out of a class's signature."""
    if not signature:
        return None
    return re.sub(r"(, _\w+: [^,()]+)+\)$", ")", signature), returns


def setup(app: Sphinx) -> dict[str, object]:
    """Sphinx calls this."""
    app.add_config_value("course_equations", {}, "env", types=[dict])
    app.add_transform(NumberedEquations)
    app.add_post_transform(LinkedMentions)
    app.connect("autodoc-process-docstring", docstring_as_rst)
    app.connect("autodoc-process-signature", public_part)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("html-page-context", readable_lists)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
