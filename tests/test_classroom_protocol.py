"""Messages between grader and worker: everything a case holds arrives, and nothing but plain data is believed."""

import io
import json
import math
import queue
import random
import time

import pytest
import torch

from diffusion_course.classroom.grading.marking import verdict
from diffusion_course.classroom.reasons import Reason
from diffusion_course.classroom.sandbox import handle
from diffusion_course.classroom.sandbox.clock import Clock
from diffusion_course.classroom.sandbox.conversation import have_answer_called, have_cells_executed
from diffusion_course.classroom.sandbox.decoding import decode, receive
from diffusion_course.classroom.sandbox.handle import RunEnded, WorkerHandle
from diffusion_course.classroom.sandbox.limits import WALL, Limits
from diffusion_course.classroom.sandbox.outcomes import decode_outcome, encode_outcome
from diffusion_course.classroom.sandbox.protocol import (
    CONTROL,
    FRAME,
    HEADER,
    MAX_BYTES,
    MAX_FRAME,
    MAX_JSON,
    ProtocolError,
    encode,
    frames,
)
from diffusion_course.exercises import given
from diffusion_course.exercises.engine import judge, make_cases
from diffusion_course.exercises.registry import Case, all_exercises, get_exercise
from diffusion_course.exercises.trial import Failure, Foreign, Outcome, run_case


def sent(value, **options):
    """What arrives on the other side."""
    return receive(io.BytesIO(encode(value)).read, **options)


@pytest.mark.parametrize("exercise", all_exercises(), ids=lambda exercise: exercise.id)
def test_cases_and_outcomes_arrive_unchanged(exercise):
    for seed in (0, 12345):
        cases = make_cases(exercise, seed)
        outcomes = []
        for case in cases:
            args, kwargs = sent((tuple(case.args), dict(case.kwargs)), objects=True)
            outcome = run_case(exercise, exercise.reference, Case(args, kwargs))
            outcomes.append(decode_outcome(receive(io.BytesIO(encode_outcome(outcome)).read)))
        assert judge(exercise, cases, outcomes).message.startswith(f"{exercise.id} is right")


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.uint8, torch.bool, torch.complex64], ids=str)
def test_tensors_keep_dtype_values_shape_and_strides(dtype):
    x = torch.arange(24).reshape(2, 3, 4).to(dtype)
    for value in (x, x.transpose(0, 2), x[:, :0], x[0, 0, 0], torch.empty(0, dtype=dtype)):
        got = sent(value)
        assert got.dtype == value.dtype and torch.equal(got, value)
        assert got.stride() == value.stride() or not value.numel()


def test_numbers_and_containers_keep_their_types():
    value = (1, 2.5, math.inf, -math.inf, True, None, ..., "text", 2**80, {"key": (1.0,)}, Foreign("a.B"))
    got = sent(value)
    assert got == value and [type(part) for part in got] == [type(part) for part in value]
    assert math.isnan(sent(math.nan))
    assert sent([1, [2]]) == (1, (2,)) and sent([1, [2]], objects=True) == [1, [2]]


def test_a_generator_a_module_and_its_optimiser_arrive_together():
    generator = torch.Generator().manual_seed(3)
    model = given.TwoLayers.drawn(generator, torch.float64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.25)
    got_model, got_optimizer, got_generator = sent((model, optimizer, generator), objects=True)
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=got_generator))
    got_model.inner.sum().backward()
    got_optimizer.step()
    torch.testing.assert_close(got_model.inner, model.inner - 0.25)
    torch.testing.assert_close(got_model.outer, model.outer)


def test_the_grader_takes_no_objects_from_a_worker():
    for value in (torch.Generator(), given.Decoder(0.5), given.Slope()):
        with pytest.raises(ProtocolError, match="is no part of an answer"):
            sent(value)


def test_what_cannot_be_sent_is_said_and_an_outcome_says_it_by_a_foreign_part():
    for value in (object(), torch.zeros(2, device="meta"), torch.zeros(2).to_sparse(), torch.zeros(1).expand(10**10), lambda: 1):
        with pytest.raises(ProtocolError):
            encode(value)
        made = decode_outcome(receive(io.BytesIO(encode_outcome(Outcome(value))).read))
        assert isinstance(made.output, Foreign)


def test_failures_and_flags_arrive():
    outcome = Outcome(None, Failure("ValueError", "text \ud800", 3, "helper", True, "x = 1"), ("x0",), True, False, True)
    got = decode_outcome(receive(io.BytesIO(encode_outcome(outcome)).read))
    assert got.failure.type_name == "ValueError" and got.failure.line == 3 and got.changed == ("x0",)
    assert got.failure.where == "helper" and got.failure.blank and got.failure.source == "" and got.is_blank
    assert (got.used_global_random, got.ignored_generator, got.reproducible) == (True, False, True)


def message(tree, tensors=()):
    return json.dumps({"tensors": list(tensors), "tree": tree}).encode()


TENSOR = {"dtype": "float32", "shape": [2], "order": [0], "bytes": 8}


@pytest.mark.parametrize("text, raw", [
    (b"", b""), (b"[]", b""), (b"\xff", b""), (b'{"tree": 1}', b""), (message({"tensor": 0}), b""), (message({"tensor": True}), b""),
    (message({"tensor": -1}, [TENSOR]), b"12345678"), (message({"tensor": 0}, [TENSOR]), b"1234"),
    (message({"tensor": 0}, [TENSOR | {"bytes": 4}]), b"1234"), (message({"tensor": 0}, [TENSOR | {"shape": [-2]}]), b"12345678"),
    (message({"tensor": 0}, [TENSOR | {"shape": [2.0]}]), b"12345678"), (message({"tensor": 0}, [TENSOR | {"order": [1]}]), b"12345678"),
    (message({"tensor": 0}, [TENSOR | {"dtype": "object"}]), b"12345678"), (message({"tensor": 0}, [TENSOR | {"dtype": ["float32"]}]), b"12345678"),
    (message({"tensor": 0}, [TENSOR | {"shape": [10**12] * 3, "order": [0, 1, 2]}]), b"12345678"), (message({"int": "9" * 500}), b""),
    (message({"int": "1e5"}), b""), (message({"float": "1.0"}), b""), (message({"foreign": 3}), b""), (message({"dict": [[1, 2]]}), b""),
    (message({"object": "Decoder", "state": {"dict": []}}), b""), (message({"function": "slope"}), b""), (message({"eval": "1"}), b""),
    (message("x" * 20_000), b""), (message({"tuple": [{"tensor": 0}, {"tensor": 0}]}, [TENSOR]), b"12345678"),
    (message({"tensor": 0}, [TENSOR | {"shape": [0] + [2**26] * 15, "order": list(range(16)), "bytes": 0}]), b""), (b'{"tensors": [], "tree": NaN}', b""), (b'{"tensors": [], "tree": ' + b"9" * 5000 + b"}", b""),
    (b'{"tensors": [], "tree": ' + b'{"tuple": [' * 50 + b"]}" * 50 + b"}", b""), (b"[" * 100_000, b""), (message({}), b""), (message([1]), b""),
])
def test_hostile_messages_are_refused(text, raw):
    with pytest.raises(ProtocolError):
        decode(text, raw)


def test_the_name_of_a_class_becomes_a_name_and_texts_can_be_written():
    def arriving(kind, text, line=1, where="", blank=False):
        failure = {"tuple": [kind, text, line, where, blank]}
        return decode_outcome(decode(message({"tuple": [{"tuple": [text]}, failure, {"tuple": []}, False, False, True]}), b""))

    got = arriving("<b>\ud800\n" + "x" * 500, "a\ud800\n\n b" + "y" * 500)
    assert got.failure.type_name == "?b???" + "x" * 75 and got.failure.message.startswith("a? b") and len(got.failure.message) <= 200
    assert got.output[0].startswith("a?")
    for line in (0, -1, 10**9, True):
        with pytest.raises(ProtocolError):
            arriving("E", "m", line)
    assert arriving("E", "m", 1, "<b>" + "x" * 500).failure.where == "?b?" + "x" * 77
    for where, blank in ((None, False), (3, True), ("f", 1), ("f", None)):
        with pytest.raises(ProtocolError):
            arriving("E", "m", 1, where, blank)


def test_an_int_that_is_no_float_is_an_answer_of_another_kind():
    exercise = next(one for one in all_exercises() if one.is_value)
    for number in (10**280, 10**350, 10**5000, -(10**350)):
        outcome = run_case(exercise, lambda number=number, **_: number, make_cases(exercise)[0])
        got = decode_outcome(receive(io.BytesIO(encode_outcome(outcome)).read))
        assert judge(exercise, make_cases(exercise), [got]).status == judge(exercise, make_cases(exercise), [outcome]).status == "wrong"
    with pytest.raises(ProtocolError):
        decode(message({"int": "9" * 350}), b"")


def test_the_graders_cells_may_be_long_and_a_workers_message_may_not():
    cells = ("é" * 2_000_000, "y" * 3_000_000)
    assert sent(("run", cells, ()), objects=True) == ("run", cells, ())
    with pytest.raises(ProtocolError, match="too large"):
        receive(io.BytesIO(encode(cells)).read)
    assert isinstance(decode_outcome(receive(io.BytesIO(encode_outcome(Outcome(cells))).read)).output, Foreign)


def test_frames_hold_all_of_a_message():
    data = bytes(range(256)) * 1000
    whole, parts = frames(CONTROL, data), []
    while whole:
        kind, size = FRAME.unpack(whole[: FRAME.size])
        assert kind == CONTROL and 0 < size <= MAX_FRAME
        parts.append(whole[FRAME.size : FRAME.size + size])
        whole = whole[FRAME.size + size :]
    assert b"".join(parts) == data


def test_a_message_that_claims_to_be_long_is_not_read():
    for length, size in ((MAX_JSON + 1, 0), (2, MAX_BYTES + 1), (2**63, 2**63)):
        source = io.BytesIO(HEADER.pack(length, size) + b"x" * 100)
        with pytest.raises(ProtocolError, match="too large"):
            receive(source.read)
        assert source.tell() == HEADER.size


def test_damaged_messages_give_a_protocol_error_or_plain_data():
    rng = random.Random(0)
    whole = encode_outcome(Outcome((torch.rand(3, 2), 1.5, {"a": 2**70}), Failure("E", "m", 1)))
    length, size = HEADER.unpack(whole[: HEADER.size])
    for _ in range(3000):
        data = bytearray(whole[HEADER.size :])
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        try:
            outcome = decode_outcome(decode(bytes(data[:length]), bytes(data[length:])))
        except ProtocolError:
            continue
        assert isinstance(outcome, Outcome)


@pytest.mark.parametrize("value", [1, (), (1, None, (), False, False), (1, "text", (), False, False, True), (1, ("E", "m", "x"), (), False, False, True), (1, ("E", "m", 1), (), False, False, True), (1, None, (3,), False, False, True), (1, None, (), 0, False, True)])
def test_what_is_no_outcome_is_refused(value):
    with pytest.raises(ProtocolError):
        decode_outcome(value)


# Frames as a worker may send them. What was said before, the grader's side of the pipe takes and forgets.


class Silent:
    """Stands for the watch: nothing was ended by it."""

    cause, awaited = None, False

    def __init__(self):
        self.clock = Clock()

    def wait(self):
        pass

    def end(self, cause):
        pass


def hearing(*sent_frames):
    """A handle that hears these frames, and then the end of the pipe."""
    made = object.__new__(WorkerHandle)
    made.limits, made.unsafe, made.forks = Limits(seconds=5), False, True
    made._heard, made._is_over, made._own, made._watch, made._latest = bytearray(), False, [], Silent(), math.inf
    made._frames = queue.Queue()
    made._frames.next = lambda seconds: made._frames.get(timeout=0)
    made._write = lambda kind, data: None
    for one in (*sent_frames, None):
        made._frames.put(one)
    return made


def said(*values):
    """What a run says, in one frame for each message."""
    return [(0, encode(value)) for value in values]


def soon():
    return 5


TALK = said(("cell", 0), ("cells", ())) + said(("found",), (torch.rand(4), None, (), False, False, True), ("done", 0))
CONTROLS = [b"", b"abc", b"x" * 15, b"x" * 16, b"x" * 40, encode(()), encode(3), encode(None), encode({"a": 1}), encode("ended"), encode(("ended",)),
            encode(("ended", torch.rand(2))), encode((torch.rand(2), 1)), encode(((), ())), encode(("ended", -(10**200))), encode(("ended", 10**400))]


@pytest.mark.parametrize("data", CONTROLS, ids=range(len(CONTROLS)))
def test_no_control_frame_raises_out_of_the_grader(data):
    cell = type("Cell", (), {"source": ""})
    for before in range(len(TALK)):
        one = hearing(*TALK[:before], (CONTROL, data))
        exercise = get_exercise("02.3")
        with pytest.raises((RunEnded, ProtocolError)):
            have_cells_executed(one, [(0, cell)], [exercise], soon())
            have_answer_called(one, 0, make_cases(exercise)[:1], soon())
        assert hearing((CONTROL, data)).clean() is False


@pytest.mark.parametrize("failure", [torch.rand(2), torch.rand(1), torch.zeros(1), 0, "", (), {}, False], ids=range(8))
def test_a_failure_that_is_none_is_refused_whatever_its_truth(failure):
    with pytest.raises(ProtocolError):
        decode_outcome((1.0, failure, (), False, False, True))


def test_damaged_frames_end_that_run_and_nothing_else():
    exercise, rng = get_exercise("02.3"), random.Random(1)
    cases, cell = make_cases(exercise)[:1], type("Cell", (), {"source": ""})
    right = run_case(exercise, exercise.reference, cases[0])
    outputs = [right.output, (1.5, {"a": 2**70}), torch.rand(3, dtype=torch.complex64), Foreign("a"), math.nan, "text", {}, ()]
    ended = 0
    for _ in range(1500):
        outcome = encode_outcome(Outcome(rng.choice(outputs), rng.choice([None, Failure("E", "m", 1)])))
        talk = [bytearray(one) for _, one in said(("cell", 0), ("cells", ((0, "E"),)), ("found",))]
        talk += [bytearray(outcome), bytearray(encode(("done", 0)))]
        for _ in range(rng.randint(1, 3)):
            one = rng.choice(talk)
            one[rng.randrange(16 * (rng.random() < 0.2) or len(one))] = rng.randrange(256)
        kinds = [CONTROL if rng.random() < 0.03 else 0 for _ in talk]
        one = hearing(*zip(kinds, map(bytes, talk), strict=True))
        try:
            have_cells_executed(one, [(0, cell)], [exercise], soon())
            state, outcomes, _ = have_answer_called(one, 0, cases, soon())
            assert verdict(exercise, cases, outcomes).status in ("right", "wrong", "unanswered", "raises") or state != "found"
        except RunEnded as error:
            ended += error.reason in (Reason.INTERFERED, Reason.NOT_DATA, Reason.CRASH)
    assert ended > 500


@pytest.mark.parametrize("names", [(), (1,), ("a" * 10**4,) * 50, "text", None, torch.rand(2), ("<b>\n",)], ids=range(7))
def test_what_an_answer_is_said_to_call_is_names_or_nothing(names):
    exercise = get_exercise("02.3")
    one = hearing(*said(("found",), (1.0, None, (), False, False, True), ("used", names), ("done", 0)))
    try:
        used = have_answer_called(one, 0, make_cases(exercise)[:1], soon())[2]
    except RunEnded as error:
        assert error.reason is Reason.INTERFERED
    else:
        assert len(used) <= 20 and all(len(name) <= 80 and set(name) <= set("ab?") for name in used)


# Deadlines: time stands still except where the test moves it, so nothing here waits.


class Endless:
    """Frames that never end; each takes a second."""

    def __init__(self, clock, *frames_):
        self.clock, self.frames, self.count = clock, frames_, 0

    def next(self, seconds):
        self.clock.now += 1
        self.count += 1
        assert self.count < 2000, "it listens for ever"
        return self.frames[min(self.count, len(self.frames)) - 1]


class Wall:
    now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    made = Wall()
    monkeypatch.setattr(time, "monotonic", made.monotonic)
    return made


def endless(clock, *frames_):
    made = hearing()
    made._frames = Endless(clock, *frames_)
    return made


def test_cells_that_are_announced_for_ever_end_with_the_time(clock):
    one = endless(clock, *said(("cell", 0)))
    with pytest.raises(RunEnded) as caught:
        have_cells_executed(one, [(0, type("Cell", (), {"source": ""}))], [], 30)
    assert caught.value.reason is Reason.TIME and clock.now < 110 + WALL * 5


@pytest.mark.parametrize("frame", [(CONTROL, encode(("ended", 0))), (0, b"x"), (CONTROL, encode(("ended", "x")))], ids=["ended", "a run's", "odd"])
def test_a_clean_up_that_is_answered_for_ever_ends_with_its_time(clock, frame):
    assert endless(clock, frame).clean() is False
    assert clock.now <= 100 + handle.CLEAN_SECONDS + 2
