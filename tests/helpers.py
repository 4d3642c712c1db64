"""Shared by the tests of the package's core: inputs, and a comparison in which errors cannot cancel."""

import torch

LENGTHS = (1, 2, 3, 7, 50, 1000)
SHAPES = ((1,), (5,), (5, 3), (1, 2, 4), (3, 1, 4, 4))  # one sample and several, 1-D to 4-D
TYPES = ("epsilon", "sample", "v_prediction", "score", "velocity")
DTYPES = (torch.float32, torch.float64, torch.bfloat16)


def normal(*shape, seed=0, dtype=torch.float64):
    """Standard normal numbers that depend on nothing but the seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def gap(a, b):
    """The largest absolute difference of two tensors of one shape; NaN and infinity are never close."""
    assert a.shape == b.shape, f"shapes differ: {tuple(a.shape)} and {tuple(b.shape)}"
    assert torch.isfinite(a).all() and torch.isfinite(b).all()
    return (a.double() - b.double()).abs().max().item() if a.numel() else 0.0


def assert_near(a, b, tolerance=1e-12):
    """Fail unless the largest absolute difference is at most ``tolerance``."""
    found = gap(a, b)
    assert found <= tolerance, f"largest absolute difference {found:.3g} > {tolerance:.3g}"


def column(values, ndim):
    """(B,) shaped (B, 1, ...) with ndim axes."""
    return values.reshape(-1, *[1] * (ndim - 1))


def every_prediction(x0, noise, alpha_bar):
    """What a perfect network outputs for each prediction type, from the definitions; alpha_bar broadcasts over x0."""
    xt = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
    return {
        "epsilon": noise,
        "sample": x0,
        "v_prediction": alpha_bar.sqrt() * noise - (1 - alpha_bar).sqrt() * x0,
        "score": -(xt - alpha_bar.sqrt() * x0) / (1 - alpha_bar),  # gradient of log N(xt; sqrt(abar) x0, 1 - abar)
        "velocity": noise - x0,
    }


def wavy_network(xt, t, cond=None):
    """A smooth network that depends on the point and on the time."""
    return torch.tanh(0.7 * xt + column(t.to(xt.dtype), xt.ndim).mul(0.37).cos())


def unchanged(function, *args, **kwargs):
    """Call and return the result; fail if the call changed one of its tensors."""
    before = [x.clone() if isinstance(x, torch.Tensor) else x for x in args]
    result = function(*args, **kwargs)
    for x, y in zip(args, before, strict=True):
        if isinstance(x, torch.Tensor):
            assert torch.equal(x, y), f"{function.__name__} changed its input"
    return result
