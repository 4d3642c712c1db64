"""Measure the course on this machine: ``python -m bench [NAME ...]`` (``make bench ARGS=...``); all
without a name.

imports, speed, quality, miniature, flow: the course alone. train-quality, throughput, sampling,
overhead: beside three packages, which ``pip install -c constraints.txt -e ".[bench]"`` brings; a
package that is missing is named and left out. Run it with nothing else
busy: all of it takes about an hour on two cores. Times are printed as min / median / max of several
runs. Results go to build/bench/ line by line, and a run that was stopped goes on from them:
``--fresh`` starts again.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

from . import basics, flow, miniature, overhead, sampling_time, throughput, train_quality
from .contenders import CONTENDERS, DEFAULT
from .report import Results

BENCHMARKS: dict[str, Callable[[argparse.Namespace], None]] = {
    "imports": basics.imports,
    "speed": basics.speed,
    "quality": basics.quality,
    "miniature": miniature.miniature,
    "flow": flow.flow,
    "overhead": overhead.run,
    "throughput": throughput.run,
    "train-quality": train_quality.run,
    "sampling": sampling_time.run,  # after train-quality, whose networks it uses
}
WITH_RESULTS = {
    "flow": flow,
    "throughput": throughput,
    "train-quality": train_quality,
    "sampling": sampling_time,
}


def make_parser() -> argparse.ArgumentParser:
    """Return the parser with every benchmark's options."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__.splitlines()[0])
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"which: {', '.join(BENCHMARKS)} (default: all)"
    )
    parser.add_argument("--device", default="cpu", help="where to compute (default: %(default)s)")
    parser.add_argument(
        "--only",
        nargs="+",
        default=list(DEFAULT),
        choices=CONTENDERS,
        metavar="CONTENDER",
        help=ONLY,
    )
    parser.add_argument(
        "--fresh",
        action="store_true",
        help="measure the chosen contenders again, networks included",
    )
    for module in (basics, miniature, flow, train_quality, throughput, sampling_time, overhead):
        module.add_arguments(parser)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run the named benchmarks, or all."""
    parser = make_parser()
    args = parser.parse_args(argv)
    if unknown := set(args.names) - BENCHMARKS.keys():
        parser.error(
            f"unknown benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}"
        )
    names = args.names or list(BENCHMARKS)
    if args.fresh:
        forget(names, args)
    for name in names:
        BENCHMARKS[name](args)
        print(flush=True)


def forget(names: list[str], args: argparse.Namespace) -> None:
    """Delete what these benchmarks measured of the chosen contenders; with train-quality also their
    networks.
    """
    for name in WITH_RESULTS.keys() & set(names):
        Results(WITH_RESULTS[name].RESULTS, Path(args.out)).forget(args.only)
    if "train-quality" in names:
        for name in args.only:
            for seed, seconds in train_quality.runs(args):
                train_quality.checkpoint(name, seed, seconds, args).unlink(missing_ok=True)


ONLY = f"contenders: {', '.join(CONTENDERS)} (default: the first {len(DEFAULT)})"


if __name__ == "__main__":
    main()
