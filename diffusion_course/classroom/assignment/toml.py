"""Read TOML files as an instructor writes them, with ids as names: 01.1 and jane.doe."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

# A name that is an address, without the quotes that TOML wants around it.
_ADDRESS = re.compile(r"""(?:^|[{,])[ \t]*([^\s"'=#\[{,]*@[^\s"'=#]*)[ \t]*=""", re.MULTILINE)


def read_toml(path: Path) -> dict[str, Any]:
    """Return what a TOML file in UTF-8 holds; raises ValueError that names file and line."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not TOML in UTF-8: {error}.") from error
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _ADDRESS.search(text)
        hint = f' Put quotes around a name with an @: "{found[1]}" = ...' if found else ""
        raise ValueError(f"{path} is not TOML in UTF-8: {error}.{hint}") from error


def with_dots(table: Mapping[str, Any]) -> dict[str, Any]:
    """Return a table whose names may hold dots and were written without quotes.

    For TOML `01.1 = 3` is a table 01 with 1 = 3. Raises ValueError for a name that is there twice,
    with quotes and without.
    """
    found: dict[str, Any] = {}
    for name, value in table.items():
        inner = with_dots(value) if isinstance(value, Mapping) else {"": value}
        for rest, one in inner.items():
            whole = f"{name}.{rest}" if rest else name
            if whole in found:
                raise ValueError(f"{whole} is there twice, with quotes and without.")
            found[whole] = one
    return found
