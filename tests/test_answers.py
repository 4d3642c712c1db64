"""Answers that were written from the statements alone: right ones are accepted, wrong ones refused, and no mistake is misnamed.

`tests/answers` holds them. The last field of a wrong answer lists what it may be called; it was filled by reading what each
answer does beside what the check says of it. `python tests/test_answers.py [04]` prints the counts.
"""

import re
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # pytest puts it there, a plain run does not

import answers

from diffusion_course.exercises.registry import all_exercises

ALL = answers.all_answers()
BY_EXERCISE = defaultdict(list)
for one in ALL:
    BY_EXERCISE[one.exercise_id].append(one)
NAMED = 0.7  # of the value errors, at least
A_CELL_THAT_STOPS = {"NameError", "ZeroDivisionError", "ValueError", "TypeError"}


def verdict(answer):
    """The verdict, or the name of the exception that ends the cell before there is an answer to check."""
    try:
        return answer.judged()
    except Exception as error:
        return type(error).__name__


def faults(answer, result):
    """What is wrong with the verdict on an answer, a sentence each."""
    if isinstance(result, str):
        if answer.status != "wrong" or answer.kind != "raises" or result not in A_CELL_THAT_STOPS:
            yield f"{answer.place}: the cell ends with {result}"
        return
    nothing = answer.status == "wrong" and result.status == "unanswered" and answer.kind in ("type", "raises")
    if result.status != answer.status and not nothing:
        yield f"{answer.place}: {answer.status} ({answer.what}), and the check says {result.message}"
    if result.mistake is not None and result.mistake not in answer.names:
        yield f"{answer.place}: {answer.what!r} is called {result.mistake!r}"


@pytest.mark.in_parts
@pytest.mark.parametrize("exercise_id", list(BY_EXERCISE))
def test_right_answers_are_right_wrong_ones_are_not_and_none_is_misnamed(exercise_id):
    results = [(answer, verdict(answer)) for answer in BY_EXERCISE[exercise_id]]
    found = [fault for answer, result in results for fault in faults(answer, result)]
    counted = counts(results)
    print(exercise_id, as_line(counted))
    assert found == []
    lost = [answer for answer, result in results if answer.names and answer.kind == "value" and not name_of(result)]
    assert lost == [], "these had a name"


def name_of(result):
    return None if isinstance(result, str) else result.mistake


def counts(results):
    """How many answers there are of each kind, and how many of them were judged as they should be."""
    found = Counter()
    for answer, result in results:
        status = result if isinstance(result, str) else result.status
        found[answer.status] += 1
        found[f"{answer.status} seen"] += status == answer.status or (answer.status == "wrong" and status != "right")
        if answer.status == "wrong" and answer.kind == "value":
            found["value"] += 1
            found["named"] += name_of(result) is not None
        name = name_of(result)
        found["misnamed"] += name is not None and name not in answer.names
    return found


def as_line(found):
    return (
        f"{found['right seen']} of {found['right']} right accepted, {found['wrong seen']} of {found['wrong']} wrong refused, "
        f"{found['named']} of {found['value']} value errors named, {found['misnamed']} misnamed"
    )


def test_most_value_errors_have_a_name():
    value = [answer for answer in ALL if answer.status == "wrong" and answer.kind == "value"]
    assert sum(bool(answer.names) for answer in value) >= NAMED * len(value)


def test_each_exercise_has_answers_of_every_kind():
    assert list(BY_EXERCISE) and set(BY_EXERCISE) == {exercise.id for exercise in all_exercises()}
    for exercise_id, own in BY_EXERCISE.items():
        kinds = Counter(answer.status for answer in own)
        assert kinds["right"] >= 6 and kinds["wrong"] >= 12, exercise_id


def test_headings_are_read(tmp_path):
    path = tmp_path / "04.txt"
    path.write_text("### 04.1 | wrong | value | no root | a; b\nx = 1\n\n### 04.2 | right | plain | as it is\ny = 2\n", encoding="utf-8")
    first, second = answers.read(path)
    assert first.names == ("a", "b") and first.code == "x = 1\n" and first.place == "04.txt:1"
    assert second.names == () and second.place == "04.txt:4"
    path.write_text("### 04.1 | wong | value | no root\nx = 1\n", encoding="utf-8")
    with pytest.raises(ValueError, match=re.escape("04.txt:1")):
        answers.read(path)


def main(lessons):
    """Print the counts of each lesson and of all."""
    total = []
    for lesson in sorted({answer.exercise_id[:2] for answer in ALL}):
        if lessons and lesson not in lessons:
            continue
        results = [(answer, verdict(answer)) for answer in ALL if answer.exercise_id.startswith(lesson)]
        print(lesson, as_line(counts(results)), flush=True)
        for answer, result in results:
            for fault in faults(answer, result):
                print("  ", fault)
        total += results
    print("all", as_line(counts(total)))


if __name__ == "__main__":
    main(sys.argv[1:])
