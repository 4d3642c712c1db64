"""Every registered exercise: accepts what is right, names what is wrong, cannot be fooled, gives nothing away."""

import importlib
import re
from pathlib import Path

import pytest
import torch

from diffusion_course import exercises
from diffusion_course.exercises.engine import evaluate, make_cases
from diffusion_course.exercises.record import Record
from diffusion_course.exercises.registry import all_exercises, get_exercise
from diffusion_course.exercises.self_check import self_check
from diffusion_course.exercises.trial import Outcome, run_case
from tools import notebooks

EXERCISES = all_exercises()
VARIANTS = {}
for path in sorted(Path(__file__).parent.glob("exercise_variants*.py")):  # one file, or one for each lesson
    VARIANTS |= importlib.import_module(path.stem).VARIANTS
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
functions_only = pytest.mark.parametrize(
    "exercise", [exercise for exercise in EXERCISES if not exercise.is_value], ids=lambda exercise: exercise.id
)


def answered(exercise, function):
    """What a learner hands to `check`: the function, or its value for a find-the-number exercise."""
    return function(**exercise.chosen) if exercise.is_value else function


def mapped(output, change):
    if isinstance(output, torch.Tensor):
        return change(output)
    return tuple(mapped(part, change) for part in output) if isinstance(output, tuple) else change(torch.tensor(output))


def floating(value):
    """The floating-point tensors of an argument, those inside lists and dictionaries too."""
    if isinstance(value, torch.Tensor):
        return [value] if value.is_floating_point() else []
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ()
    return [tensor for part in parts for tensor in floating(part)]


def spoiled(exercise, change):
    """The reference with every tensor of its output changed."""
    return answered(exercise, lambda *args, **kwargs: mapped(exercise.reference(*args, **kwargs), change))


@every_exercise
def test_the_reference_passes_and_every_wrong_answer_is_refused_and_named(exercise):
    assert self_check(exercise) == []


KINDS = {
    "missing square root": ("02.1", "no square root on the noise"),
    "variance for deviation": ("01.1", "the variance where the standard deviation belongs"),
    "abar for alpha": ("04.4", "1 / sqrt(abar) in front"),
    "index off by one": ("02.1", "the index is off by one"),
    "wrong broadcast": ("01.1", "beta has no axes to broadcast over"),
    "noise at t = 0": ("04.5", "noise at index 0"),
    "beta for beta-tilde": ("04.1", "beta instead of beta-tilde"),
    "s for w": ("08.1", "the paper's w instead of s"),
    "in-place change": ("01.1", "the input is changed in place"),
    "dictionary mutated": ("05.7", "the caller's dictionaries are changed"),
    "wrong reduction": ("03.6", "the sum in the place of the mean"),
    "no detach": ("03.6", "the loss is not detached"),
    "train mode left on": ("05.7", "training mode is left on"),
    "global random state": ("04.6", "the generator is not used"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_mistake_is_in_the_catalogue_and_named(kind):
    exercise_id, name = KINDS[kind]
    exercise = get_exercise(exercise_id)
    (wrong,) = [wrong for wrong in exercise.wrong_answers if wrong.name == name]
    result = evaluate(exercise, answered(exercise, wrong.function), seed=3)
    assert result.status == "wrong" and result.mistake == name
    checks = {"in-place change": "inputs", "dictionary mutated": "inputs", "no detach": "no graph", "global random state": "random"}
    assert result.check == checks.get(kind, result.check)


@every_exercise
def test_two_other_correct_solutions_pass(exercise):
    assert len(VARIANTS.get(exercise.id, ())) >= 2, f"add two variants of {exercise.id} to exercise_variants.py"
    for variant in VARIANTS[exercise.id]:
        for seed in (0, 1, 2):
            assert evaluate(exercise, answered(exercise, variant), seed=seed).message.startswith(f"{exercise.id} is right")


@every_exercise
def test_variants_pass_for_every_parameter(exercise):
    for name, choices in exercise.parameters.items():
        for choice in choices:
            bound = exercise.with_parameters(**{name: choice})
            assert all(evaluate(bound, answered(bound, variant)).status == "right" for variant in VARIANTS[exercise.id])


@every_exercise
def test_the_stub_is_unanswered_and_defines_the_answer(exercise):
    cell = {"torch": torch}
    exec(exercise.render(exercise.stub), cell)
    result = evaluate(exercise, cell[exercise.answer_name])
    assert result.status == "unanswered", result.message
    assert result.message.startswith(f"{exercise.id} not answered yet.")


@every_exercise
def test_blank_answers_are_unanswered(exercise):
    assert evaluate(exercise, None).status == evaluate(exercise, ...).status == "unanswered"
    if not exercise.is_value:
        assert evaluate(exercise, lambda *args, **kwargs: None).status == "unanswered"


@every_exercise
def test_nan_and_infinity_are_refused(exercise):
    output = run_case(exercise, exercise.reference, make_cases(exercise)[0]).output
    whole = isinstance(output, torch.Tensor) and not output.is_floating_point()  # there no dtype holds them
    for value in (float("nan"), float("inf")):
        assert evaluate(exercise, spoiled(exercise, lambda x, value=value: torch.full_like(x.double(), value).to(
            x.dtype if x.is_floating_point() else torch.float64))).check == ("dtype" if whole else "finite")


@pytest.mark.parametrize("exercise_id", ["08.3", "10.1", "10.2"])
def test_whole_numbers_are_no_floats(exercise_id):
    exercise = get_exercise(exercise_id)
    for dtype in (torch.float64, torch.float32, torch.bool):
        assert evaluate(exercise, spoiled(exercise, lambda x, dtype=dtype: x.to(dtype))).check == "dtype"


def test_a_number_that_no_float_holds_is_refused():
    for value in (10**400, -(10**400), 10**5000, 2**1024):
        for exercise_id in ("05.3", "08.5"):
            assert evaluate(get_exercise(exercise_id), value).check in ("type", "value")


@every_exercise
def test_objects_that_lie_are_refused(exercise):
    class Liar:
        def __eq__(self, other):
            return True

        def __float__(self):
            return 1.0

    class Mine(torch.Tensor):
        pass

    assert evaluate(exercise, answered(exercise, lambda *args, **kwargs: Liar())).check == "type"
    assert evaluate(exercise, spoiled(exercise, lambda x: x.as_subclass(Mine))).check == "type"


@every_exercise
def test_a_sign_a_factor_and_an_offset_are_refused(exercise):
    for change in (lambda x: -x, lambda x: x * 1.05, lambda x: x + 0.5, lambda x: 0 * x):
        assert evaluate(exercise, spoiled(exercise, change)).status == "wrong"


@functions_only
def test_wrong_dtype_shape_and_device(exercise):
    assert evaluate(exercise, spoiled(exercise, lambda x: x.half())).check == "dtype"
    assert evaluate(exercise, spoiled(exercise, lambda x: x[None])).check == "shape"
    assert evaluate(exercise, spoiled(exercise, lambda x: x.to("meta"))).check == "device"


@functions_only
def test_a_value_instead_of_a_function_is_explained(exercise):
    assert "Pass the function itself" in evaluate(exercise, torch.zeros(3)).message


@functions_only
def test_an_exception_is_shown_with_the_shapes_of_the_inputs(exercise):
    def answer(*args, **kwargs):
        raise RuntimeError("sizes differ")

    result = evaluate(exercise, answer)
    assert result.check == "raises"
    assert 'RuntimeError in line 2 of it: sizes differ\n    raise RuntimeError("sizes differ")\nInputs: ' in result.message
    assert NotImplementedError.__name__ not in result.message


@functions_only
def test_returning_an_input_is_refused(exercise):
    parameters = len(make_cases(exercise)[0].args)
    for index in range(parameters):
        assert evaluate(exercise, lambda *args, index=index, **kwargs: args[index]).status == "wrong"


def tensor_places(exercise):
    """Which arguments of an exercise hold a tensor that an answer could change."""
    return [index for index, value in enumerate(make_cases(exercise)[0].args) if floating(value)]


WITHOUT_TENSORS = ("02.4", "10.1", "10.2", "11.6")


def test_the_exercises_whose_inputs_no_answer_can_change():
    found = [exercise.id for exercise in EXERCISES if not exercise.is_value and not tensor_places(exercise)]
    assert tuple(found) == WITHOUT_TENSORS, "the next test must not leave an exercise out silently"


@pytest.mark.parametrize(
    "exercise", [one for one in EXERCISES if not one.is_value and one.id not in WITHOUT_TENSORS], ids=lambda exercise: exercise.id
)
def test_a_changed_input_is_found_in_a_right_answer(exercise):
    for index in tensor_places(exercise):
        def answer(*args, index=index, **kwargs):
            output = mapped(exercise.reference(*args, **kwargs), torch.clone)
            (floating(args[index]) or [args[index]])[0].mul_(2)
            return output

        result = evaluate(exercise, answer)
        assert result.check == "inputs" and "in place" in result.message


@functions_only
def test_global_randomness_is_found_in_a_right_answer_and_the_callers_state_is_kept(exercise):
    def depends(*args, **kwargs):
        return mapped(exercise.reference(*args, **kwargs), lambda x: x * (1 + torch.rand(()).to(x.dtype) / 2))

    def draws(*args, **kwargs):  # as the first weights of a layer, which are then replaced
        torch.rand(1)
        return exercise.reference(*args, **kwargs)

    before = torch.get_rng_state()
    assert evaluate(exercise, draws).status == "right"
    whole = exercise.id in ("08.3", "10.1", "10.2")  # a factor makes them no whole numbers
    assert whole or evaluate(exercise, depends).check == "random"
    assert torch.equal(torch.get_rng_state(), before)


@every_exercise
def test_verdicts_are_stable_silent_and_hold_no_value_of_the_reference(exercise, capsys):
    outputs = [run_case(exercise, exercise.reference, case).output for case in make_cases(exercise)]
    answers = [answered(exercise, wrong.function) for wrong in exercise.wrong_answers]
    changes = [lambda x: x * 1.05, lambda x: x + 0.5, lambda x: 0 * x]
    if not exercise.is_value:  # there the message repeats the number given, and this one is the value with a sign
        changes.append(lambda x: -x)
    answers += [spoiled(exercise, change) for change in changes]
    given_away = set()
    for output in outputs:
        mapped(output, lambda x: given_away.update(f"{v:.4g}" for v in x.double().flatten().tolist()) or x)
    given_away = {text for text in given_away if exercise.is_value or len(re.sub(r"\D", "", text).lstrip("0")) >= 4}
    assert evaluate(exercise, answers[0]) == evaluate(exercise, answers[0])
    for answer in answers:
        result = evaluate(exercise, answer)
        assert not given_away & set(re.findall(r"\d+\.?\d*(?:e[+-]?\d+)?", result.message)), result.message
    assert capsys.readouterr().out == ""


@every_exercise
def test_the_solution_can_be_shown_and_the_texts_are_complete(exercise):
    assert "return" in exercise.solution_source()
    texts = [exercise.statement, exercise.stub, exercise.derivation, *exercise.hints]
    texts += [wrong.explanation for wrong in exercise.wrong_answers]
    assert not any("!" in text or "TODO" in text for text in texts)
    assert "<<" not in exercise.render(exercise.statement + exercise.stub)


@every_exercise
def test_code_that_a_reader_sees_fits_into_88_columns(exercise):
    for text in (exercise.render(exercise.stub), exercise.solution_source()):
        assert [line for line in text.splitlines() if len(line) > 88] == []


@pytest.mark.parametrize("exercise", [one for one in EXERCISES if one.solution], ids=lambda exercise: exercise.id)
def test_a_written_solution_is_right(exercise):
    cell = {"torch": torch}
    exec(exercise.render(exercise.solution), cell)
    assert evaluate(exercise, cell[exercise.answer_name]).status == "right"


def test_lessons_have_enough_exercises_in_the_order_of_their_ids():
    for lesson in {exercise.lesson for exercise in EXERCISES}:
        own = all_exercises(lesson)
        assert len(own) >= 3
        assert [exercise.id for exercise in own] == [f"{lesson:02d}.{number}" for number in range(1, len(own) + 1)]
        assert len({exercise.title for exercise in own}) == len(own)


@pytest.fixture
def fresh(monkeypatch):
    monkeypatch.setattr(exercises, "_record", Record())


def test_check_prints_the_verdict_once_and_returns_it(fresh, capsys):
    result = exercises.check("01.1", ...)
    assert capsys.readouterr().out == result.message + "\n"
    assert result.message == "01.1 not answered yet. Replace the `...` and run the cell again; hint('01.1') helps."
    assert repr(result) == "01.1: unanswered" and not hasattr(result, "_repr_html_")
    assert result._ipython_display_() is None and capsys.readouterr().out == ""


def test_check_refuses_the_courses_own_function(fresh, capsys):
    assert exercises.check("01.1", get_exercise("01.1").reference).status == "unanswered"
    assert "course's own function" in capsys.readouterr().out


def test_check_names_the_mistake(fresh, capsys):
    def forward_step(x_prev, t, betas, noise):
        beta = betas[t].to(x_prev.dtype).reshape(-1, *[1] * (x_prev.ndim - 1))
        return (1 - beta).sqrt() * x_prev + beta * noise

    exercises.check("01.1", forward_step)
    printed = capsys.readouterr().out
    assert printed.startswith("01.1 is not right yet. Case 'images': your output is off at every t by up to ")
    assert "known mistake: the variance where the standard deviation belongs." in printed


def test_a_forgotten_return_is_explained():
    def forward_step(x_prev, t, betas, noise):
        torch.add(x_prev, noise)

    assert "its `return` is missing" in evaluate(get_exercise("01.1"), forward_step).message


def test_hints_come_one_at_a_time_and_the_last_repeats(fresh, capsys):
    for number in (1, 2, 3, 3):
        exercises.hint("02.3")
        printed = capsys.readouterr().out
        assert printed.startswith(f"Hint {number} of 3: {get_exercise('02.3').hints[number - 1]}\n")
        assert ("last hint" in printed) == (number == 3)


def test_the_solution_needs_an_attempt_or_insistence(fresh, capsys):
    exercises.solution("02.2")
    exercises.check("02.2", ...)
    exercises.solution("02.2")
    assert "cumprod" not in capsys.readouterr().out
    exercises.solution("02.2", insist=True)
    assert "(1 - betas).cumprod(0)" in capsys.readouterr().out
    exercises.check("02.2", lambda betas: betas)
    exercises.solution("02.2")
    assert "(1 - betas).cumprod(0)" in capsys.readouterr().out
    exercises.solution("01.4", insist=True)
    assert "With beta=0.02, share=0.01 it gives 228." in capsys.readouterr().out


def test_exercise_shows_statement_and_stub_with_parameters(fresh, capsys):
    exercises.exercise("01.4")
    printed = capsys.readouterr().out
    assert "constant beta of 0.02" in printed and printed.endswith("steps = ...\n")


def test_progress_counts_attempts_hints_and_points(fresh, capsys):
    exercises.check("02.2", lambda betas: betas)
    exercises.check("01.4", 228)
    exercises.check("01.3", ...)
    exercises.hint("01.3")
    capsys.readouterr()
    exercises.progress()
    lines = capsys.readouterr().out.splitlines()
    rows = {line.split()[0]: line.split()[1:5] for line in lines[1:-1]}
    assert rows["02.2"] == ["tried", "1", "0", "1"] and rows["01.4"] == ["done", "1", "0", "1"]
    assert rows["01.3"] == ["open", "0", "1", "2"] and len(rows) == len(EXERCISES)
    assert lines[-1] == f"1 of {sum(exercise.points for exercise in EXERCISES)} points."


def test_an_unknown_id_lists_near_ones():
    for call in (lambda: exercises.check("01.11", 3), lambda: exercises.hint("x01.1"), lambda: exercises.solution("01.9")):
        with pytest.raises(LookupError, match=r"there is no exercise '.*'\. Near it: .*01\.1"):
            call()


def test_a_killed_or_silent_worker_outcome_can_be_judged():
    assert Outcome().is_blank and not Outcome(output=3).is_blank


@every_exercise
def test_the_lesson_shows_the_exercise_with_the_registry_s_stub(exercise):
    ((source, _),) = notebooks.select([f"{exercise.lesson:02d}"])
    cells = [cell.source for cell in notebooks.convert(source).cells if cell.cell_type == "code"]
    assert any(f'exercise("{exercise.id}")' in cell for cell in cells)
    (answer,) = [cell for cell in cells if cell.splitlines()[-1].startswith(f'check("{exercise.id}", ')]
    stub = exercise.render(exercise.stub).strip()
    assert answer.split(f'check("{exercise.id}"')[0].strip() == stub
