"""Noise schedules: how much noise each step of the forward process adds.

Tables have length T; index 0 is the first step of noise, so the papers' t is index + 1. All are
float64 on the CPU until you move them: small differences of numbers near 1 matter here.
"""

import copy
import inspect
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ..door import beside, checked, floating, one_of, positive_int, table
from ..validation import check_table, describe, values_are_free

TABLE = {"dtype": torch.float64, "device": "cpu"}
SCHEDULES = ("linear", "scaled_linear", "cosine", "sigmoid")


def _rising(name: str, beta_end: float, given: dict) -> None:
    beta_start = given["beta_start"]
    if not 0 < beta_start <= beta_end < 1:
        raise ValueError(
            f"betas need 0 < beta_start <= beta_end < 1, got {beta_start=}, {beta_end=}."
        )


@checked(num_train_timesteps=positive_int, beta_end=_rising)
def linear_betas(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Tensor:
    """Return betas (T,) evenly spaced between two ends (arXiv 2006.11239, section 4).

    The default ends are tuned for T = 1000; with fewer steps the chain stops short of pure noise.
    Raises ValueError unless 0 < beta_start <= beta_end < 1 and T >= 1.
    """
    return torch.linspace(beta_start, beta_end, num_train_timesteps, **TABLE)


@checked(num_train_timesteps=positive_int, beta_end=_rising)
def scaled_linear_betas(
    num_train_timesteps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Tensor:
    """Return betas (T,) with evenly spaced roots: Stable Diffusion's (arXiv 2112.10752, its code).

    beta_i = (sqrt(beta_start) + i/(T-1) (sqrt(beta_end) - sqrt(beta_start)))^2. Raises as
    ``linear_betas``.
    """
    ends = math.sqrt(beta_start), math.sqrt(beta_end)
    return torch.linspace(*ends, num_train_timesteps, **TABLE) ** 2


def _cosine(name: str, max_beta: float, given: dict) -> None:
    offset = given["offset"]
    if offset < 0 or not 0 < max_beta <= 1:
        raise ValueError(
            f"cosine_betas needs offset >= 0 and 0 < max_beta <= 1, got {offset=}, {max_beta=}."
        )


@checked(num_train_timesteps=positive_int, max_beta=_cosine)
def cosine_betas(
    num_train_timesteps: int = 1000, *, offset: float = 0.008, max_beta: float = 0.999
) -> Tensor:
    """Return betas (T,) of the cosine schedule (Nichol & Dhariwal 2021, arXiv 2102.09672, eq. 17).

    abar(u) = f(u) / f(0) with f(u) = cos^2((u + s) / (1 + s) pi / 2) and u = t / T;
    beta = 1 - abar(t) / abar(t - 1), cut at ``max_beta``. Raises ValueError for T < 1, a negative
    offset s, or max_beta outside (0, 1].
    """
    u = torch.arange(num_train_timesteps + 1, **TABLE) / num_train_timesteps
    f = torch.cos((u + offset) / (1 + offset) * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(max=max_beta)


@checked(num_train_timesteps=positive_int, beta_end=_rising)
def sigmoid_betas(
    num_train_timesteps: int = 1000, beta_start: float = 1e-4, beta_end: float = 0.02
) -> Tensor:
    """Return betas (T,) on a logistic curve (GeoDiff, arXiv 2203.02923; as in diffusers).

    beta_i = beta_start + (beta_end - beta_start) / (1 + exp(-u_i)), u evenly spaced in [-6, 6].
    Raises as ``linear_betas``.
    """
    u = torch.linspace(-6, 6, num_train_timesteps, **TABLE)
    return torch.sigmoid(u) * (beta_end - beta_start) + beta_start


BUILDERS = {
    "linear": linear_betas, "scaled_linear": scaled_linear_betas, "cosine": cosine_betas,
    "sigmoid": sigmoid_betas,
}


def _proper(name: str, betas: Tensor, given: object = None) -> None:
    """Raise ValueError for a beta outside (0, 1), other than a last one of 1."""
    if betas.is_meta or not values_are_free(betas := betas.detach().cpu()):
        return
    bad = ~((betas > 0) & (betas < 1))
    bad[-1] &= betas[-1] != 1
    if bad.any():
        i = int(bad.nonzero()[0])
        hint = " Only the last beta may be 1: there the chain ends." if betas[i] == 1 else ""
        got = f"got betas[{i}] = {betas[i].item()} ({describe(betas)})"
        raise ValueError(f"betas must lie in (0, 1), {got}.{hint}")


def _at_least_two(name: str, betas: Tensor, given: dict) -> None:
    if len(betas) < 2:
        raise ValueError(
            f"rescale_zero_terminal_snr needs at least 2 steps, got {describe(betas)}."
        )


@checked(betas=(table, _proper, _at_least_two))
def rescale_zero_terminal_snr(betas: Tensor) -> Tensor:
    """Return betas (T,) that end in pure noise (Lin et al. 2023, arXiv 2305.08891, Algorithm 1).

    sqrt(abar) is shifted so that its last entry is 0 and scaled so that its first entry is kept;
    the last beta is 1. Raises ValueError for T < 2 (first and last entry would be the same number)
    and for betas outside (0, 1].
    """
    signal = (1 - betas.to(torch.float64)).cumprod(0).sqrt()
    signal = (signal - signal[-1]) * signal[0] / (signal[0] - signal[-1])
    alpha_bar = signal**2
    alphas = torch.cat([alpha_bar[:1], alpha_bar[1:] / alpha_bar[:-1]])
    return 1 - alphas


@checked(alphas_cumprod=floating)
def snr(alphas_cumprod: Tensor) -> Tensor:
    """Return the signal-to-noise ratio abar / (1 - abar) (arXiv 2107.00630, section 3.1)."""
    return alphas_cumprod / (1 - alphas_cumprod)


@checked(alphas_cumprod=table)
def previous_alpha_bar(alphas_cumprod: Tensor) -> Tensor:
    """Return abar one step earlier (T,): 1 at index 0, where the step before is the clean data."""
    return torch.cat([torch.ones_like(alphas_cumprod[:1]), alphas_cumprod[:-1]])


def _within(name: str, t: Tensor, given: dict) -> None:
    bars = given["alphas_cumprod"]
    last = len(bars) - 1
    if values_are_free(t) and not ((t >= 0) & (t <= last)).all():
        got = f"got {t.min().item()} to {t.max().item()}"
        raise ValueError(f"t must lie in [0, {last}] for {describe(bars)}, {got}.")


def _between_finite(name: str, t: Tensor, given: dict) -> None:
    bars = given["alphas_cumprod"]
    last = len(bars) - 1
    if values_are_free(t) and values_are_free(bars) and bars[-1] == 0:
        between = t[(t > last - 1) & (t < last)]
        if len(between):
            raise ValueError(
                f"{name} must not lie between {last - 1} and {last}, where the table ends in pure "
                f"noise: sigma is infinite at its end. Got {between[0].item()}."
            )


@checked(alphas_cumprod=table, t=(floating, beside("alphas_cumprod"), _within, _between_finite))
def alpha_bar_at(alphas_cumprod: Tensor, t: Tensor) -> Tensor:
    """Return abar at fractional times t, the shape of t: sigma is linear between two indices.

    sigma = sqrt((1 - abar) / abar). alphas_cumprod: (T,); t: floating, from 0 to T-1, on the same
    device. At whole numbers it is the table's entry. Raises TypeError for an integer t (index the
    table), ValueError for values outside or another device.
    """
    low = t.floor().long()
    high = (low + 1).clamp(max=len(alphas_cumprod) - 1)
    sigmas = ((1 - alphas_cumprod) / alphas_cumprod).sqrt()
    fraction = (t - low).to(alphas_cumprod.dtype)
    sigma = (1 - fraction) * sigmas[low] + fraction * sigmas[high]
    return torch.where(fraction == 0, alphas_cumprod[low], 1 / (1 + sigma**2))


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """The tables of a forward process, computed in float64 from its betas. It never changes.

    betas (T,): variance of the noise that step i adds, in (0, 1); the last may be 1, where the
    chain ends in pure noise. alphas (T,): 1 - betas. alphas_cumprod (T,): their running product
    abar. Raises ValueError for an empty table or betas outside the range, TypeError for a dtype
    that is not floating.
    """

    betas: Tensor
    name: str = "custom"
    alphas: Tensor = field(init=False, repr=False)
    alphas_cumprod: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.name, str):
            raise TypeError(f"name must be a string, got {describe(self.name)}.")
        check_table("betas", self.betas)
        _proper("betas", self.betas)
        betas = self.betas.detach().to(torch.float64, copy=True)
        self._set(betas=betas, alphas=1 - betas, alphas_cumprod=(1 - betas).cumprod(0))

    def _set(self, **tables: Tensor) -> None:
        for name, values in tables.items():
            object.__setattr__(self, name, values)

    def __repr__(self) -> str:
        size = f"T={self.num_train_timesteps}"
        if not self.betas.is_meta:
            size += f", sqrt(abar_T)={self.alphas_cumprod[-1].sqrt().item():.6g}"
        return f"NoiseSchedule({self.name!r}, {size})"

    @property
    def num_train_timesteps(self) -> int:
        """T, the number of noise steps."""
        return len(self.betas)

    @property
    def zero_terminal_snr(self) -> bool:
        """Whether the last beta is 1, so that the chain ends in pure noise."""
        return self.alphas_cumprod[-1].item() == 0

    @property
    def alphas_cumprod_prev(self) -> Tensor:
        """abar one step earlier (T,); 1 at index 0, where the step before is the clean data."""
        return previous_alpha_bar(self.alphas_cumprod)

    @property
    def snr(self) -> Tensor:
        """Signal-to-noise ratio (T,)."""
        return snr(self.alphas_cumprod)

    @property
    def sigmas(self) -> Tensor:
        """Noise levels sqrt((1 - abar) / abar) (T,) of Karras et al. 2022 (arXiv 2206.00364)."""
        return ((1 - self.alphas_cumprod) / self.alphas_cumprod).sqrt()

    @checked()
    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "NoiseSchedule":
        """Return a copy whose tables are moved and cast; they are not computed again."""
        moved = copy.copy(self)
        names = ("betas", "alphas", "alphas_cumprod")
        moved._set(**{n: getattr(self, n).to(device=device, dtype=dtype) for n in names})
        return moved


def _of_that_schedule(name: str, settings: dict, given: dict) -> None:
    takes = list(inspect.signature(BUILDERS[given["name"]]).parameters)[1:]
    if unknown := sorted(settings.keys() - set(takes)):
        has = f"it has {', '.join(takes)}"
        raise TypeError(f"schedule {given['name']!r} has no setting {unknown[0]!r}: {has}.")
    if given["zero_terminal_snr"] and given["num_train_timesteps"] < 2:
        raise ValueError(
            "num_train_timesteps must be at least 2 with zero_terminal_snr, got "
            f"{given['num_train_timesteps']}."
        )


@checked(name=one_of(*SCHEDULES), num_train_timesteps=positive_int, kwargs=_of_that_schedule)
def make_schedule(
    name: str = "linear", num_train_timesteps: int = 1000, *, zero_terminal_snr: bool = False,
    **kwargs: float,
) -> NoiseSchedule:
    """Return the named schedule: "linear", "scaled_linear", "cosine" or "sigmoid".

    ``kwargs`` go to the function of that name (``linear_betas`` ...). ``zero_terminal_snr``
    rescales the result. Raises ValueError for an unknown name.
    """
    betas = BUILDERS[name](num_train_timesteps, **kwargs)
    if zero_terminal_snr:
        betas, name = rescale_zero_terminal_snr(betas), f"{name} (zero terminal SNR)"
    return NoiseSchedule(betas, name)
