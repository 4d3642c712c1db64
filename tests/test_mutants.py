"""Every small change of a right answer is refused, unless it is listed in `equivalent_mutants` as changing nothing.

Mutants are made of the reference and what it calls in its lesson, and of the written solution; where these are too short
for ten, of the variants too. Those of a find-the-number exercise must be refused for the parameters that the lesson uses.
`pytest tests/test_mutants.py -k 04.2` checks one exercise; `python tests/test_mutants.py [04.2]` prints the table.
"""

import contextlib
import functools
import importlib
import itertools
import sys
import time
import warnings
from pathlib import Path

import pytest
import torch
from equivalent_mutants import ELSEWHERE, EQUIVALENT
from mutator import Endless, bounded, mutants, mutants_of

from diffusion_course.exercises import calls
from diffusion_course.exercises.engine import evaluate, make_cases
from diffusion_course.exercises.findings import first_finding
from diffusion_course.exercises.registry import all_exercises, get_exercise
from diffusion_course.exercises.trial import run_case

VARIANTS = {}
for path in sorted(Path(__file__).parent.glob("exercise_variants*.py")):
    VARIANTS |= importlib.import_module(path.stem).VARIANTS
FEWEST = 10
OF_GRAPHS = (calls.two_steps, calls.with_mode, calls.with_gradients)  # where gradients are asked for, or none
SEEDS = (0, 1)
MORE_MEMORY = 4 * 2**30


def made_of(exercise):
    """The mutants of an exercise, in the same order in every run."""
    found = mutants_of(exercise.reference, "reference")
    if exercise.solution:
        source, scope = exercise.render(exercise.solution), {"torch": torch}
        exec(source, scope)
        found += mutants(source, scope, "solution", exercise.solution_name)
    for number, variant in enumerate(VARIANTS[exercise.id], start=1):
        if len(found) < FEWEST and variant.__name__ != "<lambda>":
            found += mutants_of(variant, f"variant {number}")
    return found if exercise.call in OF_GRAPHS else [mutant for mutant in found if not mutant.of_graphs]


class Judge:
    """Says what `evaluate` says of an answer, and stops at the first case that tells it from the reference."""

    def __init__(self, exercise):
        self.exercise = exercise

    @functools.cached_property
    def trials(self):
        cases = [case for seed in SEEDS[: 1 if self.exercise.is_value else None] for case in make_cases(self.exercise, seed)]
        return [(case, run_case(self.exercise, self.exercise.reference, case)) for case in cases]

    def refuses(self, mutant):
        function = bounded(mutant.function)
        for case, expected in self.trials:
            outcome = run_case(self.exercise, function, case)
            if outcome.is_blank or first_finding(self.exercise, [case], [expected], [outcome]) is not None:
                return True
        return False


def verdicts(exercise, mutant):
    """What `evaluate` itself says, for each seed."""
    function = bounded(mutant.function)
    if exercise.is_value:
        return [evaluate(exercise, function(**exercise.chosen)).status]
    return [evaluate(exercise, function, seed=seed).status for seed in SEEDS]


@contextlib.contextmanager
def little_memory():
    """A mutant that asks for more than this gets an exception; torch's warnings about what it does are not the suite's."""
    try:
        import resource

        before = resource.getrlimit(resource.RLIMIT_AS)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MORE_MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most if before[1] < 0 else min(most, before[1]), before[1]))
    except (ImportError, OSError):  # no such limit on this system
        resource = None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if resource is not None:
            resource.setrlimit(resource.RLIMIT_AS, before)


def survivors_of(exercise, found):
    judge = Judge(exercise)
    with little_memory():
        return [mutant for mutant in found if not judge.refuses(mutant)]


@pytest.mark.in_parts
@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_every_mutant_is_refused_or_listed(exercise):
    found = made_of(exercise)
    assert len(found) >= FEWEST, f"only {len(found)} mutants of {exercise.id}: write out its solution"
    assert len({mutant.name for mutant in found}) == len(found)
    survivors = survivors_of(exercise, found)
    for mutant in survivors:
        assert set(verdicts(exercise, mutant)) == {"right"}, mutant.name
    listed, names = EQUIVALENT.get(exercise.id, {}), {mutant.name for mutant in survivors}
    assert names - set(listed) == set(), "these changes pass: strengthen the cases, or list them with the reason"
    assert set(listed) - names == set(), "these are listed and do not survive, or are not made: remove them"
    assert torch.is_grad_enabled()


def with_each_choice(exercise):
    for choice in itertools.product(*exercise.parameters.values()):
        yield exercise.with_parameters(**dict(zip(exercise.parameters, choice, strict=True)))


@pytest.mark.parametrize("exercise_id", [one for one in sorted(EQUIVALENT) if not get_exercise(one).is_value])
def test_only_a_number_can_be_refused_for_other_parameters(exercise_id):
    assert ELSEWHERE not in EQUIVALENT[exercise_id].values()


@pytest.mark.parametrize("exercise_id", [one for one in sorted(EQUIVALENT) if get_exercise(one).is_value])
def test_a_listed_number_is_right_for_all_parameters_or_refused_for_others(exercise_id):
    exercise = get_exercise(exercise_id)
    choices = list(with_each_choice(exercise))
    for mutant in made_of(exercise):
        if reason := EQUIVALENT[exercise_id].get(mutant.name):
            right = [verdicts(bound, mutant) == ["right"] for bound in choices]
            assert all(right) == (reason != ELSEWHERE), mutant.name


@pytest.mark.in_parts
@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_a_refused_mutant_is_refused_by_evaluate(exercise):
    found = [mutant for mutant in made_of(exercise) if mutant.name not in EQUIVALENT.get(exercise.id, {})]
    with little_memory():
        for mutant in found[:: max(1, len(found) // 2)]:
            try:
                statuses = verdicts(exercise, mutant)
            except Exception:  # of a find-the-number exercise: there is no number to hand in
                assert exercise.is_value
                continue
            assert "right" not in statuses or "wrong" in statuses, mutant.name


def test_an_endless_mutant_is_stopped():
    source = "def count(n):\n    while n > 0:\n        n = n - 1\n    return n\n"
    endless = next(mutant for mutant in mutants(source, {}, "text", "count") if "n - 0" in mutant.line)
    with pytest.raises(Endless):
        bounded(endless.function)(3)
    assert sys.gettrace() is None or "coverage" in sys.modules


def test_mutants_are_made_of_every_kind_in_one_order_and_none_twice():
    source = '''
def answer(x, t, table):
    """Text."""
    check_batch("x", x)
    if t.min() < 0:
        raise ValueError("below 0")
    a = helper(table)[t].to(x.dtype)
    x = (1 - a).sqrt() * x.detach() + x.mean(1, keepdim=True)
    for i in range(3):
        x += min(i, 2) * x[1:]
    return -x.float() / 2


def helper(table):
    return table.cumprod(0)
'''
    made = mutants(source, {}, "text", "answer")
    lines = [mutant.line for mutant in made]
    assert [mutant.name for mutant in mutants(source, {}, "text", "answer")] == [mutant.name for mutant in made]
    assert len({mutant.name for mutant in made}) == len(made)
    assert not any("check" in line or "raise" in line or "t.min" in line for line in lines)
    for line in (
        "x = (1 + a).sqrt() * x.detach() + x.mean(1, keepdim=True)", "x = (1 - a).sqrt() * x + x.mean(1, keepdim=True)",
        "x = (1 - a) * x.detach() + x.mean(1, keepdim=True)", "x = (1 - a).sqrt() * x.detach() + x.mean(1)",
        "x = (1 - a).sqrt() * x.detach() + x.sum(1, keepdim=True)", "x = (1 - a).sqrt() * x.detach()", "a = helper(table)[t]",
        "x = (1 - a).sqrt() * x.detach() + x.mean(2, keepdim=True)", "a = helper(table).to(x.dtype)", "for i in range(3 - 1):",
        "x += max(i, 2) * x[1:]", "x += min(i, 2) * x[:]", "x -= min(i, 2) * x[1:]", "without x += min(i, 2) * x[1:]",
        "return -x / 2", "return x.float() / 2", "return -x.float() // 2", "return table.cumsum(0)", "return -table.cumprod(0)",
    ):
        assert line in lines, line


def main(wanted):
    """Print what was made and what became of it."""
    torch.set_num_threads(1)
    start, total = time.perf_counter(), [0, 0, 0]
    print("exercise   made  refused  equal")
    for exercise in all_exercises():
        if wanted and exercise.id not in wanted:
            continue
        found = made_of(exercise)
        survivors = survivors_of(exercise, found)
        row = (len(found), len(found) - len(survivors), len(survivors))
        print(f"{exercise.id:8} {row[0]:6} {row[1]:8} {row[2]:6}", flush=True)
        for mutant in survivors:
            if mutant.name not in EQUIVALENT.get(exercise.id, {}):
                print(f"         passes and is not listed: {mutant.name}", flush=True)
        total = [one + more for one, more in zip(total, row, strict=True)]
    print(f"{'all':8} {total[0]:6} {total[1]:8} {total[2]:6}   in {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1]))
    main(sys.argv[1:])
