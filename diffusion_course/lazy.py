"""Names that load on first use: a folder lists what its files offer, and costs nothing."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

Names = Mapping[str, tuple[str, ...]]


def lazily(
    package: str, *listings: Names
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return ``__getattr__`` and ``__dir__`` for a package, from listings of names by module.

    A name that equals its module's last part, and that the module does not define, is the module
    itself.
    """
    home = {
        name: module for names in listings for module, offered in names.items() for name in offered
    }

    def get(name: str) -> object:
        if name not in home:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(f"{package}.{home[name]}")
        value = module if name == home[name].rpartition(".")[2] else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    def listed() -> list[str]:
        return sorted({*vars(sys.modules[package]), *home})

    return get, listed


def flat(listing: Names) -> list[str]:
    """Return all names of a listing, for ``__all__``."""
    return [name for names in listing.values() for name in names]
