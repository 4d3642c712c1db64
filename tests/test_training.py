"""The seed's train_step, the training loop, its EMA, and checkpoints that resume to the bit."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import nn

from diffusion_course import EMA, MLP, diffusion_loss, make_schedule, mixture, train, train_step
from diffusion_course.files.checkpoints import content_of, load_into, load_tensors, save_tensors
from diffusion_course.training.run import TrainConfig, Trainer

SCHEDULE = make_schedule("linear", 50, beta_start=1e-3, beta_end=0.3)
SETTINGS = {"num_steps": 20, "batch_size": 8, "warmup_steps": 3, "report_every": 5, "checkpoint_every": 5}


def small_run():
    """Return a fresh network and data, the same every time."""
    torch.manual_seed(0)
    data = mixture("pair").sample(64, generator=torch.Generator().manual_seed(1)).float()
    return MLP(hidden=16, depth=1), data


def test_train_step_is_algorithm_1_written_out():
    model, data = small_run()
    other = MLP(hidden=16, depth=1)
    other.load_state_dict(model.state_dict())
    ours, theirs = (torch.optim.SGD(m.parameters(), lr=0.1) for m in (model, other))
    value = train_step(model, data, ours, SCHEDULE.alphas_cumprod, generator=torch.Generator().manual_seed(5))
    g = torch.Generator().manual_seed(5)
    t = torch.randint(0, 50, (64,), generator=g)
    noise = torch.randn(64, 2, generator=g)
    abar = SCHEDULE.alphas_cumprod[t].float()[:, None]
    loss = nn.functional.mse_loss(other(abar.sqrt() * data + (1 - abar).sqrt() * noise, t), noise)
    theirs.zero_grad()
    loss.backward()
    theirs.step()
    assert isinstance(value, float)
    assert value == pytest.approx(loss.item(), abs=1e-6)
    for a, b in zip(model.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


def test_train_step_without_keywords_follows_the_global_seed():
    losses = []
    for _ in range(2):
        model, data = small_run()
        torch.manual_seed(3)
        losses.append(train_step(model, data, torch.optim.SGD(model.parameters(), 0.1), SCHEDULE.alphas_cumprod))
    assert losses[0] == losses[1]


def test_train_step_refuses_a_loss_that_is_not_finite_and_changes_no_weight():
    model, data = small_run()
    with torch.no_grad():
        model.last.bias[0] = float("nan")
    before = [p.clone() for p in model.parameters()]
    with pytest.raises(ValueError, match="the loss is nan: no weight was changed"):
        train_step(model, data, torch.optim.SGD(model.parameters(), 0.1), SCHEDULE.alphas_cumprod)
    for a, b in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(a, b, equal_nan=True, rtol=0, atol=0)


def test_training_approaches_the_best_possible_loss():
    mix = mixture("pair")
    torch.manual_seed(0)
    data = mix.sample(4096, generator=torch.Generator().manual_seed(1)).float()
    model = MLP(hidden=64, depth=2)
    *_, last = train(model, data, SCHEDULE, num_steps=1500, batch_size=256, learning_rate=3e-3)
    g = torch.Generator().manual_seed(2)
    best = sum(mix.best_loss(t, SCHEDULE.alphas_cumprod, num_samples=500, generator=g) for t in range(50)) / 50
    held_out = mix.sample(20_000, generator=g).float()
    with torch.no_grad():
        reached = diffusion_loss(last.ema_model, held_out, SCHEDULE.alphas_cumprod, generator=g).item()
    assert 0.97 * best < reached < 1.1 * best


def test_ema_is_the_warmed_up_running_average():
    model = nn.Linear(2, 2)
    ema, expected = EMA(model, 0.9), model.weight.detach().clone()
    for n in range(1, 30):
        with torch.no_grad():
            model.weight += 0.1 * n
        ema.update(model, n)
        decay = min(0.9, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(ema.model.weight, expected)
    assert not ema.model.weight.requires_grad
    with pytest.raises(ValueError, match=r"decay must lie in \[0, 1\), got 1"):
        EMA(model, 1)


def test_reports_and_early_stop():
    model, data = small_run()
    states = list(train(model, data, SCHEDULE, **SETTINGS | {"num_steps": 12}))
    assert [s.step for s in states] == [5, 10, 12]
    assert states[-1].seconds_left == 0
    assert states[0].learning_rate > states[-1].learning_rate
    for state in train(model, data, SCHEDULE, **SETTINGS):
        if state.step == 10:
            break
    assert state.step == 10


@pytest.mark.parametrize("stop_after", [5, 10])
def test_a_stopped_run_resumes_to_the_same_bits(tmp_path, stop_after):
    whole, data = small_run()
    *_, last = train(whole, data, SCHEDULE, **SETTINGS)
    file = tmp_path / "run.safetensors"
    stopped, _ = small_run()
    for state in train(stopped, data, SCHEDULE, checkpoint=file, **SETTINGS):
        if state.step == stop_after + 5:  # later than the checkpoint: its last steps must be forgotten
            break
    torch.manual_seed(99)
    resumed = MLP(hidden=16, depth=1)
    *_, again = train(resumed, data, SCHEDULE, checkpoint=file, resume=True, **SETTINGS)
    for a, b in ((whole, resumed), (last.ema_model, again.ema_model)):
        for p, q in zip(a.parameters(), b.parameters(), strict=True):
            assert torch.equal(p, q)


KILLED = """
    import sys, torch
    sys.path.insert(0, {tests!r})
    from test_training import SCHEDULE, small_run, train
    model, data = small_run()
    settings = dict(num_steps=400, batch_size=8, warmup_steps=3, report_every=5, checkpoint_every=5)
    for state in train(model, data, SCHEDULE, checkpoint={file!r}, resume=True, **settings):
        print(state.step, flush=True)
"""


def test_a_killed_process_leaves_a_whole_checkpoint_and_resumes_to_the_same_bits(tmp_path):
    def start(file):
        code = textwrap.dedent(KILLED.format(tests=os.path.dirname(__file__), file=str(file)))
        return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)

    whole, killed = tmp_path / "whole.safetensors", tmp_path / "killed.safetensors"
    with start(whole) as process:
        process.communicate()
    for _ in range(3):
        with start(killed) as process:
            process.stdout.readline(), process.stdout.readline()
            time.sleep(0.05)
            process.send_signal(signal.SIGKILL)
        load_tensors(killed)  # never half a file
    assert 0 < load_tensors(killed)[1]["step"] < 400
    with start(killed) as process:
        process.communicate()
    expected, found = load_tensors(whole), load_tensors(killed)
    assert expected[1] == found[1]
    for name, value in expected[0].items():
        assert torch.equal(value, found[0][name]), name


def test_a_checkpoint_of_another_run_is_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    model, data = small_run()
    list(train(model, data, SCHEDULE, checkpoint=file, **SETTINGS))
    with pytest.raises(ValueError, match=r"checkpoint of another run \(batch_size: 8 there, 16 here\)"):
        next(train(model, data, SCHEDULE, checkpoint=file, resume=True, **SETTINGS | {"batch_size": 16}))


def test_a_checkpoint_of_another_network_or_a_damaged_one_is_refused(tmp_path):
    file = tmp_path / "run.safetensors"
    model, data = small_run()
    list(train(model, data, SCHEDULE, checkpoint=file, **SETTINGS))
    with pytest.raises(ValueError, match="do not fit MLP"):
        next(train(MLP(hidden=32, depth=1), data, SCHEDULE, checkpoint=file, resume=True, **SETTINGS))
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match="not a whole safetensors file"):
        next(train(model, data, SCHEDULE, checkpoint=file, resume=True, **SETTINGS))


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    file = tmp_path / "w.safetensors"
    save_tensors(file, {"a": torch.ones(3)}, {"step": 1})

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_tensors(file, {"a": torch.zeros(3)}, {"step": 2})
    assert load_tensors(file)[1] == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["w.safetensors"]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"num_steps": 0}, ValueError, "num_steps must be at least 1, got 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size must be an int, got float 2.5"),
        ({"ema_decay": 1.5}, ValueError, "ema_decay must lie in"),
        ({"prediction_type": "noise"}, ValueError, "prediction_type must be one of 'epsilon'"),
        ({"cond": torch.zeros(3, dtype=torch.long)}, ValueError, "cond must have one entry for each sample: got 3 for 64 samples of data"),
    ],
)
def test_bad_settings(change, error, message):
    model, data = small_run()
    with pytest.raises(error, match=message):
        next(train(model, data, SCHEDULE, **SETTINGS | change))


def test_bad_data_and_a_loss_that_explodes():
    model, data = small_run()
    with pytest.raises(ValueError, match="data holds 1 values that are not finite"):
        next(train(model, data.index_put((torch.tensor(3), torch.tensor(1)), torch.tensor(float("inf"))), SCHEDULE, **SETTINGS))
    with pytest.raises(ValueError, match=r"the loss is .* by step .* Lower learning_rate"):
        list(train(model, data, SCHEDULE, **SETTINGS | {"num_steps": 200, "learning_rate": 1e30, "max_grad_norm": 1e30}))


def test_a_conditional_network_is_trained_with_its_classes():
    torch.manual_seed(0)
    labels = torch.arange(64) % 2
    data = torch.stack([labels * 2.0 - 1, torch.zeros(64)], 1)
    model = MLP(hidden=16, depth=1, num_classes=2)
    *_, state = train(model, data, SCHEDULE, cond=labels, **SETTINGS)
    assert state.step == 20
    with pytest.raises(ValueError, match="built with num_classes=2, but cond is missing"):
        model(data, labels)


def test_the_learning_rate_warms_up_and_falls_to_zero():
    model, data = small_run()
    config = TrainConfig(num_steps=20, batch_size=8, warmup_steps=3, learning_rate=1.0, precision="float32")
    trainer = Trainer(model, data, SCHEDULE, None, config)
    rates = []
    for trainer.step_count in range(21):
        rates.append(trainer.learning_rate())
    assert rates[0] == pytest.approx(1 / 3)
    assert max(rates) < 1
    assert rates[3:] == sorted(rates[3:], reverse=True)
    assert rates[20] == pytest.approx(0, abs=1e-12)


def test_a_share_of_the_labels_is_dropped():
    """The null class learns exactly when labels are dropped, and a run without dropout draws the same numbers as before."""
    labels = torch.arange(64) % 2
    _, data = small_run()
    moved = {}
    for dropout in (0.0, 0.5, 1.0):
        torch.manual_seed(0)
        model = MLP(hidden=16, depth=1, num_classes=2)
        before = model.conditioning.classes.weight.detach().clone()
        list(train(model, data, SCHEDULE, cond=labels, cond_dropout=dropout, **SETTINGS))
        moved[dropout] = (model.conditioning.classes.weight != before).any(1).tolist()
    assert moved == {0.0: [True, True, False], 0.5: [True, True, True], 1.0: [False, False, True]}


def test_label_dropout_needs_a_null_class():
    model, data = small_run()
    with pytest.raises(ValueError, match=r"cond_dropout=0.1 needs a network with a null class, got MLP\. Build it with num_classes"):
        next(train(model, data, SCHEDULE, cond_dropout=0.1, **SETTINGS))
    with pytest.raises(ValueError, match=r"cond_dropout must lie in \[0, 1\], got 1.5"):
        next(train(MLP(hidden=16, num_classes=2), data, SCHEDULE, cond=torch.arange(64) % 2, cond_dropout=1.5, **SETTINGS))


@pytest.mark.in_parts
@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_training_follows_the_eager_one(tmp_path):
    script = f"""
        import sys, torch
        sys.path.insert(0, {os.path.dirname(__file__)!r})
        from test_training import SCHEDULE, SETTINGS, small_run, train
        for compile in (False, True):
            model, data = small_run()
            *_, last = train(model, data, SCHEDULE, compile=compile, **SETTINGS)
            print(f"{{last.loss:.9f}}", int(isinstance(last.ema_model, type(model))))
    """
    env = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    (eager, one), (compiled, two) = (line.split() for line in done.stdout.strip().splitlines())
    assert float(compiled) == pytest.approx(float(eager), rel=1e-5) and one == two == "1"


SHARED = """
    import sys, torch
    sys.path.insert(0, {tests!r})
    from accelerate import Accelerator
    from test_precision import IMAGES, SCHEDULE, SETTINGS, unet
    from diffusion_course import train
    from diffusion_course.files.checkpoints import save_tensors
    torch.set_num_threads(1)
    accelerator, model = Accelerator(cpu=True), unet(num_classes=3)
    with torch.no_grad():
        model.first.weight += accelerator.process_index  # other first weights, which the first process must overrule
    settings = SETTINGS | {{"batch_size": 8 // accelerator.num_processes, "report_every": 1, "precision": "float32"}}
    run = train(model, IMAGES, SCHEDULE, cond=torch.arange(24) % 3, cond_dropout=0.2, accelerator=accelerator,
                checkpoint={file!r}, **settings)
    losses = [state.loss for state in run]
    assert accelerator.num_processes == {processes}
    if accelerator.is_main_process:
        print(*losses)
    accelerator.wait_for_everyone()
    accelerator.end_training()
"""


@pytest.mark.slow
def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    curves, weights = {}, {}
    for processes in (1, 2):
        file, script = tmp_path / f"{processes}.safetensors", tmp_path / f"{processes}.py"
        code = SHARED.format(tests=os.path.dirname(__file__), file=str(file), processes=processes)
        script.write_text(textwrap.dedent(code), encoding="utf-8")
        launch = ["-m", "accelerate.commands.launch", *(["--multi_gpu"] if processes > 1 else ["--cpu"]), "--num_processes", str(processes), "--num_machines", "1"]
        launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--num_cpu_threads_per_process", "1", "--main_process_port", "0"]
        env = os.environ | {"HF_HOME": str(tmp_path), "GLOO_SOCKET_IFNAME": "lo"}
        done = subprocess.run([sys.executable, *launch, str(script)], capture_output=True, text=True, env=env)
        assert done.returncode == 0, done.stderr
        curves[processes] = [float(x) for x in done.stdout.split()]
        weights[processes] = load_tensors(file)[0]
    assert len(curves[1]) == 12 and curves[2] == pytest.approx(curves[1], rel=1e-4)
    for name, value in weights[1].items():
        if name.startswith(("model.", "ema.")):
            torch.testing.assert_close(weights[2][name], value, rtol=1e-3, atol=1e-4)


def test_an_unknown_setting_is_named_beside_those_that_there_are():
    model, data = small_run()
    with pytest.raises(TypeError, match=r"train has no setting 'lr'; it has num_steps, batch_size, learning_rate"):
        train(model, data, SCHEDULE, num_steps=3, lr=0.1)
    with pytest.raises(TypeError, match=r"train\(\) missing 1 required keyword-only argument: 'num_steps'"):
        train(model, data, SCHEDULE)


def test_a_file_of_other_tensors_is_no_checkpoint(tmp_path):
    file = tmp_path / "other.safetensors"
    model, data = small_run()
    list(train(model, data, SCHEDULE, checkpoint=file, **SETTINGS))
    tensors, metadata = load_tensors(file)
    save_tensors(file, tensors | {"note.a": torch.ones(1)}, metadata)
    with pytest.raises(ValueError, match=r"is no checkpoint of a run: it holds 'note.a'"):
        next(train(model, data, SCHEDULE, checkpoint=file, resume=True, **SETTINGS))


BAD_SETTINGS = [
    *[(name, value) for name in ("learning_rate", "ema_decay", "cond_dropout") for value in ("1e-4", None, [1e-3], True, float("nan"), -1, 1j, torch.ones(2))],
    *[(name, value) for name in ("num_steps", "batch_size", "warmup_steps", "seed") for value in ("3", None, [3], True, 2.5, -1, float("nan"), np.ones(2))],
    *[("max_grad_norm", value) for value in (0, -1.0, float("nan"), "1", True, np.zeros(1))],
    *[(name, value) for name in ("report_every", "checkpoint_every") for value in (0, -1, 2.5, "3", None, True)],
    *[(name, value) for name in ("precision", "prediction_type", "weighting") for value in ("x", None, 1, ["simple"])],
    *[("compile", value) for value in ("no", None, 2)], *[("resume", value) for value in ("no", None, 1, True)],
    *[("learning_rate", value) for value in (0, float("inf"))], ("ema_decay", 1), ("seed", 2**70),
    *[("checkpoint", value) for value in (3, "", b"c", "a\0b", os.curdir)], ("accelerator", "gpu"),
]


@pytest.mark.parametrize(("name", "value"), BAD_SETTINGS, ids=lambda value: str(value)[:20])
def test_a_setting_that_cannot_be_is_named_before_the_first_step(name, value):
    model, data = small_run()
    before = {key: weight.clone() for key, weight in model.state_dict().items()}
    with pytest.raises((TypeError, ValueError, OSError), match=rf"\b{name}\b"):
        next(train(model, data, SCHEDULE, **SETTINGS | {name: value}))
    assert all(torch.equal(before[key], weight) for key, weight in model.state_dict().items())


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"data": torch.zeros(8, 2, dtype=torch.float64)}, TypeError, r"data is float64 and the network float32. Cast it: data.float\(\)"),
        ({"data": torch.zeros(8, 2, dtype=torch.long)}, TypeError, "data must have a floating dtype"),
        ({"data": torch.zeros(8, 2, dtype=torch.bool)}, TypeError, "data must have a floating dtype"),
        ({"data": np.zeros((8, 2))}, TypeError, "data must be a torch.Tensor, got ndarray"),
        ({"data": torch.zeros(0, 2)}, ValueError, "data needs a batch axis with at least one sample"),
        ({"data": torch.zeros(8, 2, device="meta")}, ValueError, "data is on meta and the network's weights on cpu"),
        ({"schedule": SCHEDULE.betas}, TypeError, r"schedule must be a NoiseSchedule, got .*make_schedule"),
        ({"model": lambda x, t: x}, TypeError, "model must be a torch.*Module, got function"),
        ({"model": nn.Identity()}, ValueError, "model has no weight to train"),
        ({"model": nn.Linear(2, 2).requires_grad_(False)}, ValueError, "model has no weight to train"),
        ({"cond": [0] * 64}, TypeError, r"cond must be a torch.Tensor or None, got list .*torch.as_tensor\(cond\)"),
        ({"cond": torch.tensor(3)}, ValueError, "cond must have one entry for each sample"),
        ({"cond": torch.zeros(64, dtype=torch.long, device="meta")}, ValueError, "cond is on meta and data on cpu"),
    ],
)
def test_what_is_no_data_schedule_or_network_is_named(change, error, message):
    model, data = small_run()
    given = {"model": model, "data": data, "schedule": SCHEDULE} | change
    with pytest.raises(error, match=message):
        next(train(**given, **SETTINGS))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"x0": torch.zeros(8, 2, dtype=torch.float64)}, TypeError, r"x0 is float64 and the network float32. Cast it: x0.float\(\)"),
        ({"x0": [[0.0, 1.0]]}, TypeError, "x0 must be a torch.Tensor"),
        ({"alphas_cumprod": SCHEDULE}, TypeError, "alphas_cumprod must be a torch.Tensor"),
        ({"condition": None}, TypeError, "train_step has no option 'condition'; it has cond, t, noise"),
        ({"unet": MLP(hidden=16, depth=1).requires_grad_(False)}, ValueError, "the loss depends on no weight that asks for a gradient"),
    ],
)
def test_train_step_names_what_does_not_fit(change, error, message):
    model, data = small_run()
    given = {"unet": model, "x0": data, "optimizer": torch.optim.SGD(model.parameters(), 0.1), "alphas_cumprod": SCHEDULE.alphas_cumprod}
    with pytest.raises(error, match=message):
        train_step(**given | change)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: EMA(lambda x: x), TypeError, "model must be a torch.*Module"), (lambda: EMA(nn.Linear(2, 2), "0.9"), (TypeError, ValueError), "decay must"),
        (lambda: EMA(nn.Linear(2, 2)).update(nn.Linear(3, 2), 1), ValueError, "model must be the network that is averaged"),
        (lambda: EMA(nn.Linear(2, 2)).update(nn.Linear(2, 2), -1), ValueError, "num_updates must be at least 0"),
    ],
)
def test_an_average_names_what_does_not_fit(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_no_clipping_is_an_endless_norm_and_gradients_switched_off_do_not_matter():
    weights = []
    for norm in (None, float("inf"), 1e-3):
        model, data = small_run()
        with torch.no_grad():
            list(train(model, data, SCHEDULE, **SETTINGS | {"max_grad_norm": norm}))
        weights.append(model.last.weight.detach())
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])


def test_numbers_of_numpy_and_of_tensors_are_kept_as_pythons(tmp_path):
    file = tmp_path / "c.safetensors"
    numbers = {"learning_rate": np.float32(1e-3), "warmup_steps": np.int64(3), "ema_decay": torch.tensor(0.5), "seed": torch.tensor([7])}
    model, data = small_run()
    list(train(model, data, SCHEDULE, checkpoint=file, **SETTINGS | numbers))
    kept = load_tensors(file)[1]["config"]
    assert {name: kept[name] for name in numbers} == {"learning_rate": np.float32(1e-3).item(), "warmup_steps": 3, "ema_decay": 0.5, "seed": 7}
    assert [type(kept[name]) for name in numbers] == [float, int, float, int]


class Tied(nn.Module):
    """Two layers that share their weight; one buffer is a part of another."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.b.weight = self.a.weight
        whole = torch.ones(4)
        self.register_buffer("whole", whole)
        self.register_buffer("part", whole[:2])

    def forward(self, x, t):
        return self.b(torch.tanh(self.a(x)))


def test_tied_weights_are_kept_once_and_resume_to_the_same_bits(tmp_path):
    def run(seed, **options):
        torch.manual_seed(seed)
        model = Tied()
        *_, last = train(model, data, SCHEDULE, **SETTINGS, **options)
        assert model.a.weight is model.b.weight and last.ema_model.a.weight is last.ema_model.b.weight
        return model.a.weight, last.ema_model.a.weight

    _, data = small_run()
    whole, file = run(0), tmp_path / "c.safetensors"
    torch.manual_seed(0)
    next(train(Tied(), data, SCHEDULE, checkpoint=file, **SETTINGS))
    assert all(torch.equal(a, b) for a, b in zip(whole, run(1, checkpoint=file, resume=True), strict=True))
    tensors, _ = load_tensors(file)
    assert torch.equal(tensors["model.a.weight"], tensors["model.b.weight"])
    with safe_open(file, framework="pt") as kept:
        assert {"model.a.weight", "ema.a.weight"} < set(kept.keys()) and not {"model.b.weight", "ema.b.weight"} & set(kept.keys())


def test_what_cannot_be_saved_is_found_before_the_first_step(tmp_path):
    class Odd(nn.Linear):
        def get_extra_state(self):
            return {"a": 1}

        def forward(self, x, t):
            raise AssertionError("a step was taken")

    _, data = small_run()
    with pytest.raises(TypeError, match=r"tensors\['model._extra_state'\] must be a torch.Tensor, got dict"):
        next(train(Odd(2, 2), data, SCHEDULE, checkpoint=tmp_path / "c", **SETTINGS))
    assert list(tmp_path.iterdir()) == []


def test_the_trial_leaves_an_older_checkpoint_as_it_is(tmp_path):
    file = tmp_path / "c.safetensors"
    file.write_bytes(b"of another run")
    model, data = small_run()
    seen = []
    for state in train(model, data, SCHEDULE, checkpoint=file, **SETTINGS | {"report_every": 1}):
        seen.append(file.read_bytes() == b"of another run")
        if state.step == 5:
            break
    assert seen == [True] * 4 + [False]
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schedule": make_schedule("linear", 50, beta_start=1e-3, beta_end=0.4)}, r"another run \(contents of schedule: '\w{16}' there, '\w{16}' here\)"),
        ({"data": 2 * small_run()[1]}, r"another run \(contents of data: '\w{16}' there, '\w{16}' here\)"),
        ({"data": small_run()[1][:32], "cond": torch.arange(32) % 2}, r"data: \[64, 2\] there, \[32, 2\] here"),
        ({"cond": torch.ones(64, dtype=torch.long)}, r"another run \(contents of cond: '\w{16}' there, '\w{16}' here\)"),
        ({"learning_rate": 2e-3}, r"another run \(learning_rate: 0.001 there, 0.002 here\)"),
    ],
)
def test_a_checkpoint_knows_what_its_run_was_made_of(tmp_path, change, message):
    file, made = tmp_path / "c.safetensors", lambda: MLP(hidden=16, depth=1, num_classes=2)
    given = {"data": small_run()[1], "schedule": SCHEDULE, "cond": torch.arange(64) % 2, "checkpoint": file} | SETTINGS
    next(train(made(), **given))
    with pytest.raises(ValueError, match=message):
        next(train(made(), resume=True, **given | change))
    assert len(list(train(made(), resume=True, **given))) == 3


def test_a_finished_run_on_other_data_yields_its_last_state_with_a_warning(tmp_path):
    model, data = small_run()
    *_, last = train(model, data, SCHEDULE, checkpoint=tmp_path / "c", **SETTINGS)
    with pytest.warns(UserWarning, match=r"is of a finished run on other data \(contents of data: .*nothing is trained"):
        (again,) = train(MLP(hidden=16, depth=1), -data, SCHEDULE, checkpoint=tmp_path / "c", resume=True, **SETTINGS)
    assert torch.equal(again.ema_model.last.weight, last.ema_model.last.weight)
    with pytest.raises(ValueError, match="another run"):
        next(train(model, data, make_schedule("linear", 50), checkpoint=tmp_path / "c", resume=True, **SETTINGS))


def test_data_in_another_layout_is_the_same_data():
    x = torch.arange(48.0).reshape(2, 3, 2, 4)
    assert content_of(x) == content_of(x.to(memory_format=torch.channels_last)) == content_of(x.clone().requires_grad_())
    assert content_of(x[0, 0, 0]) == content_of(torch.stack([x[0, 0, 0]] * 2, -1)[:, 0])
    assert len({content_of(one) for one in (x, -x, x.reshape(6, 8), x.double(), x.bfloat16())}) == 5


def test_whoever_stops_at_a_report_has_its_checkpoint(tmp_path):
    file = tmp_path / "c.safetensors"
    model, data = small_run()
    with pytest.raises(KeyboardInterrupt):
        for state in train(model, data, SCHEDULE, checkpoint=file, **SETTINGS):
            if state.step == 10:
                raise KeyboardInterrupt
    assert load_tensors(file)[1]["step"] == 10
    again = [state.step for state in train(small_run()[0], data, SCHEDULE, checkpoint=file, resume=True, **SETTINGS)]
    assert again == [15, 20]


def test_a_finished_run_yields_its_last_state_again(tmp_path):
    file = tmp_path / "c.safetensors"
    model, data = small_run()
    *_, last = train(model, data, SCHEDULE, checkpoint=file, **SETTINGS)
    other = MLP(hidden=16, depth=1)
    (again,) = train(other, data, SCHEDULE, checkpoint=file, resume=True, **SETTINGS)
    kept = ("step", "num_steps", "loss", "learning_rate", "seconds_left")
    assert [getattr(again, name) for name in kept] == [getattr(last, name) for name in kept]
    for a, b in ((model, other), (last.ema_model, again.ema_model)):
        assert all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


def test_a_resumed_run_reports_the_losses_of_one_that_was_never_stopped(tmp_path):
    """Also where checkpoints lie between reports: the losses since the last one are kept."""
    file, settings = tmp_path / "c.safetensors", SETTINGS | {"report_every": 7, "checkpoint_every": 4}
    model, data = small_run()
    whole = [(state.step, state.loss) for state in train(model, data, SCHEDULE, **settings)]
    for state in train(small_run()[0], data, SCHEDULE, checkpoint=file, **settings):
        if state.step == 14:
            break
    assert load_tensors(file)[1]["step"] == 12
    resumed = train(small_run()[0], data, SCHEDULE, checkpoint=file, resume=True, **settings)
    assert [(state.step, state.loss) for state in resumed] == whole[1:]


def test_no_checkpoint_is_written_after_the_loss_exploded(tmp_path):
    file = tmp_path / "c.safetensors"
    model, data = small_run()
    wild = SETTINGS | {"num_steps": 200, "learning_rate": 1e30, "max_grad_norm": None, "report_every": 200, "checkpoint_every": 1}
    with pytest.raises(ValueError, match="the last checkpoint is whole"):
        list(train(model, data, SCHEDULE, checkpoint=file, **wild))
    tensors, metadata = load_tensors(file)
    assert metadata["step"] >= 1 and tensors["loss.total"].isfinite()


@pytest.mark.parametrize("wrap", [lambda net: torch.compile(net, backend="eager"), nn.DataParallel], ids=["compiled", "parallel"])
def test_a_wrapped_network_and_a_plain_one_share_checkpoints(tmp_path, wrap):
    model, data = small_run()
    given = {"data": data, "schedule": SCHEDULE, "resume": True} | SETTINGS | {"num_steps": 2}
    for first, then in ((wrap, lambda net: net), (lambda net: net, wrap)):
        file = tmp_path / f"{first is wrap}.safetensors"
        list(train(first(model), checkpoint=file, **given))
        assert not any("_orig_mod" in name or ".module." in name for name in load_tensors(file)[0])
        list(train(then(MLP(hidden=16, depth=1)), checkpoint=file, **given))


def test_weights_that_do_not_fit_are_named_by_kind():
    net, nested = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))), nn.Linear(1, 1)
    nested.add_module("module", nn.Linear(1, 1))
    load_into(nested, {name: torch.full_like(x, len(name)) for name, x in nested.state_dict().items()}, "its own")
    assert [x.item() for x in nested.parameters()] == [6, 4, 13, 11]  # a child named module is no prefix
    weights = net.state_dict()
    bad = {"0.weight": torch.zeros(3, 2), "0.bias": weights["0.bias"].half(), "1.weight": [1.0], "a": weights["1.bias"], "b": weights["1.bias"]}
    with pytest.raises(ValueError, match="the weights of w do not fit Sequential: missing ") as said:
        load_into(net, bad, "w")
    for part in ("missing 1.bias, 2.weight, 2.bias", "unexpected a, b", r"0.weight is shape (3, 2)", "0.bias is shape (2,), float16", "1.weight is list [1.0]"):
        assert part in str(said.value)
    with pytest.raises(ValueError, match="missing 0.weight, 0.bias, 1.weight and 3 more"):
        load_into(net, {}, "w")
