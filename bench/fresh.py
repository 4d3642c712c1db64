"""One piece of work in a fresh process, so that threads, memory and patched classes of one package
never meet another.
"""

import argparse
import json
import os
import subprocess
import sys

from .report import ROOT

MARK = "bench-result:"


def in_fresh_process(
    task: str, arguments: dict, args: argparse.Namespace
) -> dict | list | str | None:
    """Run a task of ``bench.worker`` in a new interpreter; return its result. Raises RuntimeError
    with the end of its output.
    """
    request = json.dumps({"task": task, "arguments": arguments, "args": vars(args)})
    environment = os.environ | {"TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "bench.worker"],
        input=request,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=environment,
    )
    answer = [line for line in done.stdout.splitlines() if line.startswith(MARK)]
    if done.returncode or not answer:
        tail = "\n".join((done.stdout + done.stderr).splitlines()[-15:])
        raise RuntimeError(f"{task} {arguments} failed with exit code {done.returncode}:\n{tail}")
    return json.loads(answer[-1].removeprefix(MARK))
