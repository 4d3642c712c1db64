"""Open the course in JupyterLab: `python -m tools.lab [flags of jupyter lab]`. Listens on 127.0.0.1
only, token kept on.
"""

import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
START = "notebooks/00_start_here.ipynb"


def has_display(platform: str, environ: Mapping[str, str]) -> bool:
    """Whether a browser window can appear: always on macOS and Windows, elsewhere with an X or
    Wayland display.
    """
    return platform in ("darwin", "win32") or bool(
        environ.get("DISPLAY") or environ.get("WAYLAND_DISPLAY")
    )


def lab_arguments(
    flags: list[str], *, platform: str, environ: Mapping[str, str], is_root: bool
) -> list[str]:
    """The arguments of `jupyter lab`; raises ValueError for flags that would open the server to
    others.
    """
    for flag in flags:
        if re.match(r"--(\w+\.)?ip\b", flag):
            raise ValueError(
                f"{flag}: the course listens on 127.0.0.1 only. From afar: ssh -L"
                " 8888:127.0.0.1:8888"
            )
        if re.match(r"--(\w+\.)?token=?(''|\"\")?$", flag):
            raise ValueError(
                f"{flag}: the token stays on. Leave the flag out, or give a token that is not"
                " empty."
            )
    arguments = [
        f"--LabApp.default_url=/lab/tree/{START}",
        f"--ServerApp.root_dir={ROOT}",
        "--ServerApp.ip=127.0.0.1",
    ]
    if is_root and "--allow-root" not in flags:
        arguments.append("--allow-root")
    if not has_display(platform, environ) and "--no-browser" not in flags:
        arguments.append("--no-browser")
    return [*flags, *arguments]


def main(flags: list[str]) -> int:
    """Replace this process by JupyterLab, so that Ctrl-C and signals reach it."""
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    try:
        arguments = lab_arguments(flags, platform=sys.platform, environ=os.environ, is_root=is_root)
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2
    if "--no-browser" in arguments:
        print(
            "No browser is opened here: copy the address with the token, printed below, into one.",
            flush=True,
        )
    from jupyterlab.labapp import main as lab_main

    return lab_main(arguments) or 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
