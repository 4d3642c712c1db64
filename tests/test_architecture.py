"""The shape of the code: imports point one way, modules stay small, public functions explain themselves."""

import ast
import io
import subprocess
import sys
import tokenize
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "diffusion_course"
# A module imports only from modules before it in this list (exercises may use everything).
ORDER = (
    "validation", "schedules", "process", "losses", "guidance", "sampling", "timesteps", "solvers", "samplers", "analytic", "scenes", "datasets", "models", "flops", "likelihood", "metrics", "neighbours", "checkpoints",
    "precision", "trainer", "training", "pretrained", "seeds",
    "judge", "autoencoder", "tokenization", "attention", "latent", "latent_coding", "latent_tasks", "memory", "hub", "stable_diffusion", "style", "display", "images", "plotting", "interactive", "animation", "doctor", "exercises", "classroom", "__main__",
)  # fmt: skip
MAY_IMPORT_MATPLOTLIB = {"style", "display", "images", "plotting", "interactive", "animation"}
MODULE_LINES = 220
NOTEBOOK_SIDE = {"style", "display", "images", "plotting", "interactive", "animation", "doctor", "__main__", "exercises", "classroom"}
PART_TWO = {"scenes", "judge", "autoencoder", "tokenization", "attention", "latent", "latent_coding", "latent_tasks", "memory", "hub", "stable_diffusion"}  # built on the core
CORE_LINES_WISHED, CORE_LINES_ALLOWED = 1_700, 2_500
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    """The name in ORDER that a file belongs to: models/unet.py belongs to models."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def written_lines(path):
    """Lines that are not blank."""
    return sum(1 for line in path.read_text(encoding="utf-8").splitlines() if line.strip())


def code_lines(source):
    """Lines that hold code: not blank, no comment, no docstring."""
    layout = (tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER)
    tokens = [token for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in layout]
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and ast.get_docstring(node):
            lines -= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    return len(lines)


def test_code_lines_are_those_that_hold_code():
    assert code_lines('"""One\n\ntwo."""\n\nx = 1  # a comment\n# another\ny = [\n    2,\n]\ndef f():\n    """Doc."""\n    return """a\nb"""\n') == 7


def imports(tree, path):
    """(module of the package or None, full dotted name) for every import, also inside functions."""
    package = ("diffusion_course", *path.relative_to(PACKAGE).parts[:-1])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            stem = ".".join(part for part in (base, node.module) if part)
            dotted = [f"{stem}.{alias.name}" if stem == "diffusion_course" else stem for alias in node.names]
        else:
            continue
        for name in dotted:
            parts = name.split(".")
            yield (parts[1] if parts[0] == "diffusion_course" and len(parts) > 1 else None), name


def wrong_way(source, path):
    """Imports of `source`, as if it stood at `path`, that point to a later module or to matplotlib from the core."""
    here, tree = module_of(path), ast.parse(source)
    for module, name in imports(tree, path):
        if module in ORDER and here in ORDER and ORDER.index(module) > ORDER.index(here):
            yield f"{here} imports {module}, which comes after it"
        if name.split(".")[0] == "matplotlib" and here not in MAY_IMPORT_MATPLOTLIB:
            yield f"{here} imports matplotlib"


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py" or path.parent != PACKAGE], ids=str)
def test_imports_point_one_way(path):
    assert module_of(path) in ORDER, f"{path.name} has no place in ORDER: say what may import it"
    assert list(wrong_way(path.read_text(encoding="utf-8"), path)) == []


@pytest.mark.parametrize(
    ("name", "source"),
    [("process.py", "from .sampling import ddpm_step"), ("schedules.py", "def f():\n    from . import training"),
     ("losses.py", "from diffusion_course.sampling import ddpm_step"), ("models/mlp.py", "from ..trainer import EMA"),
     ("process.py", "import diffusion_course.losses"), ("datasets.py", "from matplotlib.figure import Figure")],
)  # fmt: skip
def test_an_import_the_wrong_way_is_found(name, source):
    assert len(list(wrong_way(source, PACKAGE / name))) == 1


def test_an_import_the_right_way_is_not():
    assert list(wrong_way("from . import schedules\nfrom .process import q_sample", PACKAGE / "sampling.py")) == []


@pytest.mark.parametrize("path", [path for path in FILES if not path.name.startswith("lesson")], ids=str)
def test_modules_stay_small(path):
    assert written_lines(path) <= MODULE_LINES, f"{path.name} has {written_lines(path)} lines: split it or delete some"


@pytest.mark.filterwarnings("default:the core has")
def test_the_core_can_be_read_in_an_evening():
    core = [path for path in FILES if {module_of(path), path.stem}.isdisjoint(NOTEBOOK_SIDE | PART_TWO)]  # models/judge.py is Part II's
    total = sum(code_lines(path.read_text(encoding="utf-8")) for path in core)
    if total > CORE_LINES_WISHED:
        warnings.warn(f"the core has {total} lines of code, wished for are {CORE_LINES_WISHED}", stacklevel=1)
    assert total <= CORE_LINES_ALLOWED


def test_importing_the_package_loads_nothing_heavy():
    script = (
        "import sys, diffusion_course; print([m for m in ('torch', 'matplotlib', 'numpy', 'ipywidgets') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_exported_name_exists_and_is_documented():
    import diffusion_course

    for name in diffusion_course.__all__:
        value = getattr(diffusion_course, name)
        assert name == "__version__" or value.__doc__, f"{name} has no docstring"
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = diffusion_course.no_such_name


def unexplained(source):
    """Public functions and methods without docstring or with a parameter or result that is not annotated."""
    queue = [(node, "") for node in ast.parse(source).body]
    while queue:
        node, owner = queue.pop()
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            queue += [(child, f"{node.name}.") for child in node.body]
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or node.name.startswith("_"):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        arguments = arguments[1:] if owner and not is_static(node) else arguments
        missing = [argument.arg for argument in arguments if argument.annotation is None]
        if missing or node.returns is None:
            yield f"{owner}{node.name}: not annotated: {', '.join([*missing, *([] if node.returns else ['return'])])}"
        if not ast.get_docstring(node) and node.name != "forward":  # a network's class says how it is called
            yield f"{owner}{node.name}: no docstring"


def is_static(node):
    return any(getattr(decorator, "id", "") == "staticmethod" for decorator in node.decorator_list)


@pytest.mark.parametrize("path", FILES, ids=str)
def test_public_functions_are_annotated_and_documented(path):
    assert list(unexplained(path.read_text(encoding="utf-8"))) == []


def test_unexplained_functions_are_found():
    source = "def f(x, *, y: int): ...\nclass A:\n    def g(self) -> int: ...\ndef _private(x): ...\n"
    assert set(unexplained(source)) == {"f: not annotated: x, return", "f: no docstring", "A.g: no docstring"}


def test_ruff_finds_nothing():
    done = subprocess.run([sys.executable, "-m", "ruff", "check", "."], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout
