"""The tested functions behind the lessons. Names load on first use: the import is quick."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from .lazy import flat, lazily

try:
    __version__ = version("diffusion-course")
except PackageNotFoundError:  # a source folder on the path, not installed
    __version__ = "unknown"

ROOMS = (
    "process",
    "flow",
    "sampling",
    "datasets",
    "models",
    "files",
    "training",
    "measures",
    "latent",
    "notebook",
)
EXPORTS = {
    f"{room}.{module}": tuple(names)
    for room in ROOMS
    for module, names in import_module(f".{room}", __name__).EXPORTS.items()
}
EXPORTS |= {
    "seeds": ("default_device", "make_generator", "seed_everything"),
    "exercises": ("check", "exercise", "hint", "progress", "reset_progress", "solution"),
}

__all__ = [*flat(EXPORTS), "__version__"]
__getattr__, __dir__ = lazily(__name__, EXPORTS)
