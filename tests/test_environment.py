"""pyproject.toml, constraints.txt and environment.yml say the same, and every import is declared."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tools import constraints

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# What conda-forge calls a package, and what Python calls it, where the names differ.
CONDA_NAMES = {"pytorch": "torch", "huggingface_hub": "huggingface-hub", "matplotlib-base": "matplotlib"}
IMPORT_NAMES = {"PIL": "pillow", "sklearn": "scikit-learn", "yaml": "pyyaml", "IPython": "ipython"}
# Packages that come with a declared one and belong to it.
COMES_WITH = {"traitlets": "ipykernel", "jupyter_client": "ipykernel", "mpl_toolkits": "matplotlib", "xdist": "pytest-xdist", "docutils": "sphinx"}
FOLDERS = ("diffusion_course", "tools", "notebooks/source", "tests", "bench", "book", "tests_ui")
OURS = {"diffusion_course", "tools", "tests", "bench", "conftest"} | {path.stem for name in ("tests", "tests_ui") for path in (ROOT / name).iterdir()}


def requirements(lines):
    return {canonicalize_name(r.name): r for r in map(Requirement, lines)}


RUNTIME = requirements(PROJECT["dependencies"])
EXTRAS = requirements(line for extra in PROJECT["optional-dependencies"].values() for line in extra)
DECLARED = RUNTIME | EXTRAS


def pinned():
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return requirements(line for line in lines if not line.startswith("#"))


def test_only_lower_bounds():
    for requirement in DECLARED.values():
        assert [part.operator for part in requirement.specifier] == [">="], f"{requirement} is not one lower bound"
    assert re.fullmatch(r">=\d+\.\d+", PROJECT["requires-python"])


def test_constraints_pin_every_dependency_within_its_bound():
    pins = pinned()
    for name, requirement in DECLARED.items():
        assert name in pins, f"{name} is not in constraints.txt; run python -m tools.constraints"
        (pin,) = pins[name].specifier
        assert pin.operator == "==" and requirement.specifier.contains(pin.version), f"{pins[name]} is outside {requirement}"


def test_constraints_fit_every_platform():
    text = (ROOT / "constraints.txt").read_text()
    assert not re.search(r"nvidia|cuda|triton|\+|/|@|--", "\n".join(text.splitlines()[1:]))


def test_constraints_follow_the_installed_metadata():
    found = constraints.closure(["nbval"])
    assert {"nbval", "pytest", "ipykernel", "nbformat"} <= set(found)
    assert found["nbval"] == str(Version(found["nbval"]))
    assert constraints.closure(["no-such-package-anywhere"]) == {}


def test_a_pin_that_the_lowest_python_cannot_install_gets_a_condition():
    assert constraints.marker(">=3.9", "3.11.0") == "" == constraints.marker(None, "3.11.0")
    assert constraints.marker(">=3.11.5", "3.11.0") == '; python_full_version >= "3.11.5"'
    line = f"x==1{constraints.marker('<4,>=3.11.5', '3.11.0')}"
    assert not Requirement(line).marker.evaluate({"python_full_version": "3.11.2"})
    assert Requirement(line).marker.evaluate({"python_full_version": "3.12.1"})


def test_constraints_file_names_no_platform_package(monkeypatch):
    versions = {"torch": "2.4.0", "nvidia-cublas": "1", "triton": "3", "cuda-bindings": "1"}
    assert constraints.render(versions).splitlines()[1:] == ["torch==2.4.0"]


def test_conda_environment_says_the_same():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *conda, pip = environment["dependencies"]
    assert pip == {"pip": ["-e ."]}
    named = {CONDA_NAMES.get(r.name, r.name): str(r.specifier) for r in map(Requirement, conda)}
    assert named.pop("python") == PROJECT["requires-python"]
    assert named.pop("pip") == ""
    installed = RUNTIME | requirements(PROJECT["optional-dependencies"]["test"])  # the other extras are for pip
    assert named == {name: str(requirement.specifier) for name, requirement in installed.items()}


def test_conda_comment_names_both_builds_with_the_bound():
    text = (ROOT / "environment.yml").read_text()
    bound = str(RUNTIME["torch"].specifier)
    assert f"- pytorch {bound} cpu*" in text
    assert f"- pytorch {bound} cuda*" in text


def imported(path):
    """Top-level names that a file imports, also inside functions and through importorskip or import_module."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield node.module.split(".")[0]
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") in ("importorskip", "import_module"):
            if isinstance(node.args[0], ast.Constant) and not node.args[0].value.startswith("."):
                yield node.args[0].value.split(".")[0]


def undeclared(path, declared):
    for name in set(imported(path)) - OURS - set(sys.stdlib_module_names):
        package = canonicalize_name(IMPORT_NAMES.get(name, COMES_WITH.get(name, name)))
        if package not in declared:
            yield f"{path.name} imports {name}: {package} is not declared for it in pyproject.toml"


@pytest.mark.parametrize("folder", FOLDERS)
def test_every_import_is_declared(folder):
    # The package and the lessons must run with the dependencies alone; tools and tests may use the extra.
    declared = RUNTIME if folder in ("diffusion_course", "notebooks/source") else DECLARED
    files = sorted((ROOT / folder).rglob("*.py"))
    assert files, f"no Python file in {folder}"
    assert [fault for path in files for fault in undeclared(path, declared)] == []


def test_an_undeclared_import_is_found(tmp_path):
    path = tmp_path / "x.py"
    path.write_text("import os, torch\ndef f():\n    from pandas import DataFrame\nimport_module = g.import_module('polars')\n")
    faults = list(undeclared(path, RUNTIME))
    assert len(faults) == 2
    assert any("pandas" in fault for fault in faults)
    assert any("polars" in fault for fault in faults)


def test_the_bootstrap_asks_for_the_same_python_and_an_existing_extra():
    from diffusion_course import doctor
    from tools import bootstrap

    least = ">=" + ".".join(map(str, bootstrap.MIN_PYTHON))
    assert least == PROJECT["requires-python"]
    assert doctor.MIN_PYTHON == bootstrap.MIN_PYTHON
    assert bootstrap.EXTRA in PROJECT["optional-dependencies"]


def test_bootstrap_and_housekeeping_need_only_the_standard_library():
    for name in ("bootstrap.py", "housekeeping.py"):
        assert set(imported(ROOT / "tools" / name)) <= set(sys.stdlib_module_names)


def test_ci_runs_the_documented_commands():
    script, readme = (ROOT / ".ci" / "run").read_text(), (ROOT / "README.md").read_text()
    commands = [line for line in script.splitlines() if "make test" in line and not line.startswith("echo")]
    tests, browser = commands
    assert "set -euo pipefail" in script
    assert (tests, browser) == ("make test", "make test-ui")
    assert script.rstrip().endswith(browser)
    assert all(command in readme for command in ("make test", "make test-ui"))
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111


def test_citation_names_the_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert citation["license"] == PROJECT["license"]
