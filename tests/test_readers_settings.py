"""What a reader set before, a default device, a default dtype, gradients off, changes no result; and torch.func works."""

import warnings
from contextlib import contextmanager

import pytest
import torch
from helpers import normal
from right_calls import CALLS, NETWORK, SCHEDULE, seeded
from test_wrong_arguments import title
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap
from wrong_arguments import consumed

from diffusion_course import (
    MLP,
    SAMPLERS,
    SamplerStep,
    diffusion_loss,
    drop_condition,
    make_schedule,
    mixture,
    q_sample,
    sample_loop,
)

BUILDERS = {"load_pretrained", "MLP", "UNet", "Judge", "ResBlock", "Attention", "Conditioning"}  # new layers belong where the reader says
NEEDS_A_NETWORK = {"load_dataset"}


@contextmanager
def default_device():
    torch.set_default_device("meta")
    try:
        yield
    finally:
        torch.set_default_device(None)


@contextmanager
def default_dtype():
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


SETTINGS = {"a default device": default_device, "a default dtype": default_dtype, "gradients off": torch.no_grad}


def flat(found):
    """Return the tensors and plain values of a result, in a row."""
    if isinstance(found, (tuple, list)):
        return [one for part in found for one in flat(part)]
    if isinstance(found, nn.Module) or callable(found):
        return []
    return [found]


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("function", [f for f in CALLS if title(f) not in BUILDERS | NEEDS_A_NETWORK], ids=title)
def test_a_setting_of_the_reader_changes_no_result(function, setting):
    arguments = CALLS[function]
    torch.manual_seed(0)
    expected = flat(consumed(function(**arguments())))
    given = arguments()
    torch.manual_seed(0)
    with SETTINGS[setting](), warnings.catch_warnings():
        warnings.simplefilter("error")
        found = flat(consumed(function(**given)))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        if isinstance(one, Tensor):
            assert (one.dtype, one.device) == (other.dtype, other.device)
            assert torch.equal(one, other)
        elif isinstance(one, (int, float, str)):
            assert one == other


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_ensemble_of_networks_samples_under_vmap(sampler):
    networks = [MLP(hidden=8, depth=1) for _ in range(3)]
    parameters, buffers = stack_module_state(networks)
    start = normal(5, 2).float()
    options = {"sampler": sampler, "num_inference_steps": 4, "x_init": start}
    if sampler in ("ddpm", "euler_ancestral"):
        options["generator"] = seeded()  # noise that does not depend on the network
    call = lambda p, b: sample_loop(  # noqa: E731
        lambda x, t: functional_call(NETWORK, (p, b), (x, t)), (5, 2), SCHEDULE, **options
    )
    found = vmap(call, randomness="same")(parameters, buffers)
    assert found.shape == (3, 5, 2)
    if "generator" not in options:
        for network, one in zip(networks, found, strict=True):
            torch.testing.assert_close(one, sample_loop(network, (5, 2), SCHEDULE, **options))


def test_gradients_of_each_sample_under_vmap():
    x0, t, noise = normal(4, 2).float(), torch.tensor([0, 3, 5, 9]), normal(4, 2, seed=1).float()
    weights = dict(NETWORK.named_parameters())

    def loss(parameters, x0, t, noise):
        network = lambda x, t: functional_call(NETWORK, parameters, (x, t))  # noqa: E731
        return diffusion_loss(network, x0[None], SCHEDULE.alphas_cumprod, t=t[None], noise=noise[None])

    found = vmap(grad(loss), in_dims=(None, 0, 0, 0))(weights, x0, t, noise)
    for i in range(4):
        one = grad(loss)(weights, x0[i], t[i], noise[i])
        for name, expected in one.items():
            torch.testing.assert_close(found[name][i], expected)


def rounded(step, dtype):
    """Return the step of an ideal machine: computed in float64, its result kept in `dtype`."""

    def ideal(denoise, xt, move, **options):
        x_prev, estimate = step(denoise, xt, move, **options)
        return SamplerStep(x_prev.to(dtype).double(), estimate)

    return ideal


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["linear", "scaled_linear", "cosine", "sigmoid"])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_half_precision_is_as_good_as_its_numbers_allow_at_both_ends(sampler, name, dtype):
    """x_T up to 5 deviations out, the network exact. An ideal machine keeps states and outputs in half precision too, and
    computes everything between in float64; ours may err three times as much, and a rounding more."""
    schedule = make_schedule(name, 1000)
    exact = mixture("pair").model(schedule.alphas_cumprod)
    start = torch.cat([normal(62, 2), torch.full((1, 2), 5.0), torch.full((1, 2), -5.0)]).double()
    network = lambda x, t: exact(x.double(), t).to(x.dtype)  # noqa: E731
    in_half = lambda x, t: exact(x, t).to(dtype).double()  # noqa: E731

    def run(network, step, start, times):
        return sample_loop(network, (64, 2), schedule, sampler=step, timesteps=times, x_init=start, generator=seeded())

    for times in ([999, 998, 990], [2, 1, 0], list(range(999, -1, -111))):
        half = run(network, sampler, start.to(dtype), times)
        assert half.isfinite().all() and half.dtype == dtype
        if sampler in ("ddpm", "euler_ancestral"):
            continue  # float16 draws other noise than float64
        best = run(network, sampler, start.to(dtype).double(), times)
        ideal = run(in_half, rounded(SAMPLERS[sampler], dtype), start.to(dtype).double(), times)
        error, least = ((x.double() - best).abs().median() for x in (half, ideal))
        assert error <= 3 * least + 4 * torch.finfo(dtype).eps


def test_half_precision_starts_from_pure_noise():
    schedule = make_schedule("cosine", 1000, zero_terminal_snr=True)
    exact = mixture("pair").model(schedule.alphas_cumprod, "v_prediction")
    for dtype in (torch.float16, torch.bfloat16):
        for sampler in ("ddpm", "ddim", "dpmpp_2m"):
            found = sample_loop(
                lambda x, t: exact(x.double(), t).to(x.dtype), (64, 2), schedule, sampler=sampler, num_inference_steps=10,
                prediction_type="v_prediction", dtype=dtype, generator=seeded(),
            )
            assert found.isfinite().all()


def test_a_generator_on_another_device_is_asked_there():
    """On this machine there is one device: a stand-in that says where it was asked must suffice."""
    x = torch.zeros(3, 2, device="meta")
    found = q_sample(x, torch.zeros(3, dtype=torch.int64, device="meta"), torch.full((4,), 0.5, device="meta"), generator=seeded())
    assert found.device.type == "meta" and found.shape == (3, 2)
    generator, again = seeded(), seeded()
    drop_condition(torch.zeros(3, dtype=torch.int64, device="meta"), 0.5, 3, generator=generator)
    torch.rand(3, generator=again)
    assert torch.equal(generator.get_state(), again.get_state())
