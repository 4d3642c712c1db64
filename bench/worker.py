"""One piece of work in a fresh process, so that threads, memory and patched classes of one package never meet another."""

import argparse
import json
import os
import subprocess
import sys

from .report import ROOT

MARK = "bench-result:"


def in_fresh_process(task: str, arguments: dict, args: argparse.Namespace) -> dict | list | str | None:
    """Run a task of ``TASKS`` in a new interpreter and return its result. Raises RuntimeError with the end of its output."""
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


def do(task: str, arguments: dict, args: argparse.Namespace) -> dict | list | str | None:
    """Do one task in this process."""
    from . import sampling_time, throughput, train_quality

    tasks = {
        "train": train_quality.train_contender,
        "evaluate": train_quality.evaluate,
        "sampling": sampling_time.measure,
        "throughput": throughput.measure,
    }
    return tasks[task](**arguments, args=args)


def main() -> None:
    """Read one request from standard input, do it, and print the result."""
    request = json.loads(sys.stdin.read())
    result = do(request["task"], request["arguments"], argparse.Namespace(**request["args"]))
    print(MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
