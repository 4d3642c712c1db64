"""The other end of ``in_fresh_process``: read one request from standard input, do it, print the
result.
"""

import argparse
import json
import sys

from . import sampling_time, throughput, train_quality
from .fresh import MARK

TASKS = {
    "train": train_quality.train_contender,
    "evaluate": train_quality.evaluate,
    "sampling": sampling_time.measure,
    "throughput": throughput.measure,
}


def main() -> None:
    """Read one request from standard input, do it, and print the result."""
    request = json.loads(sys.stdin.read())
    result = TASKS[request["task"]](
        **request["arguments"], args=argparse.Namespace(**request["args"])
    )
    print(MARK + json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
