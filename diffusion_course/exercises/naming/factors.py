"""Is what is off a multiple of one argument, or the right output times a factor?"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import torch
from torch import Tensor

from .pairs import Pair, Said, faulty, near


def factor_of_an_argument(pairs: Sequence[Pair]) -> Said:
    """Is what is too much or too little a multiple of one argument, sample by sample?"""
    names = [name for name in pairs[0].given if all(_fits(pair, name) for pair in pairs)]
    telling = [pair for pair in faulty(pairs) if not pair.half and _per_sample(pair) >= 3]
    if len(telling) < 1 or not names:
        return None
    for name in names:
        if all(_is_multiple(pair, (name,)) for pair in telling):
            others = [one for one in names if one != name and _takes_part(telling, one, name)]
            rest = f" What {_listed(others)} contributes is right." if others else ""
            return (
                f"the factor of `{name}`",
                f"What is off is a multiple of `{name}`: its factor is wrong, for its size or its"
                f" sign.{rest}",
            )
    if len(names) == 2 and all(_is_multiple(pair, tuple(names)) for pair in telling):
        if all(_per_sample(pair) >= 5 for pair in telling[:1]):
            return (
                f"the factors of `{names[0]}` and `{names[1]}`",
                "Your numbers are made of the right two parts, and both have a wrong factor.",
            )
    return None


def _listed(names: Sequence[str]) -> str:
    return " and ".join(f"`{name}`" for name in names)


def _takes_part(pairs: Sequence[Pair], name: str, beside: str) -> bool:
    return all(
        _is_multiple(dataclasses.replace(pair, got=0 * pair.got), (beside, name)) for pair in pairs
    )


def _per_sample(pair: Pair) -> int:
    return pair.want[0].numel() if pair.want.ndim and len(pair.want) else 0


def _fits(pair: Pair, name: str) -> bool:
    x = pair.given.get(name)
    return (
        isinstance(x, Tensor)
        and x.is_floating_point()
        and x.shape == pair.want.shape
        and x.ndim > 0
    )


def _is_multiple(pair: Pair, names: Sequence[str]) -> bool:
    """Is got - want, in each sample, a sum of multiples of these arguments?"""
    off = (pair.got - pair.want).reshape(len(pair.want), -1)
    if not off.isfinite().all():
        return False
    columns = torch.stack([pair.given[one].double().reshape(len(off), -1) for one in names], -1)
    found = torch.linalg.lstsq(columns, off[..., None]).solution
    left = (columns @ found)[..., 0] - off
    scale = off.abs().amax(1, keepdim=True)
    exact = pair.given[names[0]].dtype == torch.float64
    least = (1e-12 if exact else 1e-5) * float(pair.want.abs().max() + pair.got.abs().max())
    return bool((left.abs() <= (1e-6 if exact else 1e-3) * scale + least).all())


def factor_of_a_sample(pairs: Sequence[Pair]) -> Said:
    """Is each sample right but for a factor of its own?"""
    telling = [pair for pair in faulty(pairs) if not pair.half and _per_sample(pair) >= 3]
    if not telling:
        return None
    zero = True
    for pair in telling:
        want, got = (x.reshape(len(x), -1) for x in (pair.want, pair.got))
        ratio = (want * got).sum(1, keepdim=True) / (want * want).sum(1, keepdim=True)
        if not ratio.isfinite().all() or not near(ratio * want, got, pair.half) or not ratio.any():
            return None
        zero &= bool(((got == 0).all(1) | ~pair.wrong.reshape(len(got), -1).any(1)).all())
    if zero:
        return "some samples are all zero", "What is not zero is right. Which samples are left out?"
    return (
        "a factor of each sample",
        "Within each sample all your numbers are the right ones times the same factor. Which factor"
        " depends on the level or on the sample?",
    )
