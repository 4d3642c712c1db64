"""Two further correct solutions of every exercise, by other routes than the reference: `check` must accept them all.

A lesson may keep its own in `exercise_variants_NN.py`.

A find-the-number exercise has functions of its parameters. The registry test fails for an exercise without two variants.
"""

import math

import numpy as np
import torch

from diffusion_course import NoiseSchedule


def _step_by_loop(x_prev, t, betas, noise):
    rows = []
    for x, index, z in zip(x_prev, t.tolist(), noise, strict=True):
        beta = betas[index].item()
        rows.append(math.sqrt(1 - beta) * x + math.sqrt(beta) * z)
    return torch.stack(rows)


def _step_in_float64(x_prev, t, betas, noise):
    beta = betas.double()[t].view(-1, *[1] * (x_prev.dim() - 1))
    return torch.lerp(noise.double() * beta.sqrt(), x_prev.double(), 1 - beta).add(
        x_prev.double() * ((1 - beta).sqrt() - (1 - beta)) + noise.double() * beta.sqrt() * (1 - beta)
    ).to(x_prev.dtype)


def _walk_preallocated(x0, betas, generator):
    out = x0.new_empty(len(betas) + 1, *x0.shape)
    out[0] = x0
    for i, beta in enumerate(betas):
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        out[i + 1] = (1 - beta).sqrt() * out[i] + beta.sqrt() * noise
    return out


def _walk_recursive(x0, betas, generator):
    if len(betas) == 0:
        return x0[None]
    before = _walk_recursive(x0, betas[:-1], generator)
    noise = torch.empty(x0.shape, dtype=x0.dtype).normal_(generator=generator)
    beta = float(betas[-1])
    return torch.cat([before, (before[-1] * (1 - beta) ** 0.5 + noise * beta**0.5)[None]])


def _variance_closed_form(variance0, betas):
    kept = (1 - betas).cumprod(0)
    return kept * variance0 + (1 - kept)


def _variance_numpy(variance0, betas):
    kept = np.exp(np.cumsum(np.log1p(-betas.numpy())))
    return torch.from_numpy(1 + (variance0 - 1) * kept)


def _steps_by_logarithm(beta, share):
    return math.floor(math.log(share) / math.log1p(-beta)) + 1


def _steps_as_tensor(beta, share):
    left = torch.full((2000,), 1 - beta, dtype=torch.float64).cumprod(0)
    return (left < share).nonzero()[0, 0] + 1


def _mixture_by_formula(weights, means, variances, betas):
    kept = (1 - betas).prod()
    return [weights, (kept.sqrt() * means).to(means.dtype), (1 + kept * (variances - 1)).to(means.dtype)]


def _mixture_step_by_step(weights, means, variances, betas):
    for beta in betas.tolist():
        means = means * (1 - beta) ** 0.5
        variances = variances * (1 - beta) + beta
    return weights.clone(), means, variances


def _jump_by_loop(x0, t, alphas_cumprod, noise):
    out = torch.zeros_like(x0)
    for row in range(len(x0)):
        kept = alphas_cumprod[t[row]].item()
        out[row] = kept**0.5 * x0[row] + (1 - kept) ** 0.5 * noise[row]
    return out


def _jump_by_angle(x0, t, alphas_cumprod, noise):
    angle = torch.acos(alphas_cumprod.double().sqrt())[t]
    rows = torch.einsum("b,b...->b...", angle.cos(), x0.double()) + torch.einsum("b,b...->b...", angle.sin(), noise.double())
    return rows.to(x0.dtype)


def _table_by_loop(betas):
    kept, table = 1.0, []
    for beta in betas:
        kept = kept * (1 - beta)
        table.append(kept)
    return torch.stack(table)


def _snr_from_sigma(alphas_cumprod):
    sigma = ((1 - alphas_cumprod.double()) / alphas_cumprod.double()).sqrt()
    return (1 / sigma**2).to(alphas_cumprod.dtype)


def _cosine_by_loop(num_train_timesteps, offset=0.008, max_beta=0.999):
    def kept(u):
        f, f0 = (math.cos((x + offset) / (1 + offset) * math.pi / 2) ** 2 for x in (u, 0))
        return f / f0

    n = num_train_timesteps
    return torch.tensor([min(1 - kept((i + 1) / n) / kept(i / n), max_beta) for i in range(n)], dtype=torch.float64)


def _cosine_half_angle(num_train_timesteps, offset=0.008, max_beta=0.999):
    u = np.linspace(0, 1, num_train_timesteps + 1)
    f = 0.5 * (1 + np.cos((u + offset) / (1 + offset) * np.pi))
    return torch.from_numpy(np.minimum((f[:-1] - f[1:]) / f[:-1], max_beta))


def _rescale_by_loop(betas):
    roots, kept = [], 1.0
    for beta in betas.tolist():
        kept *= 1 - beta
        roots.append(math.sqrt(kept))
    roots = [(root - roots[-1]) / (roots[0] - roots[-1]) * roots[0] for root in roots]
    out = [1 - roots[0] ** 2] + [1 - (now / before) ** 2 for before, now in zip(roots, roots[1:], strict=False)]
    return torch.tensor(out, dtype=torch.float64)


def _rescale_with_schedule(betas):
    root = NoiseSchedule(betas).alphas_cumprod.sqrt()
    root = root[0] * (1 - (root[0] - root) / (root[0] - root[-1]))
    before = torch.nn.functional.pad(root[:-1], (1, 0), value=1.0)
    return (before**2 - root**2) / before**2


VARIANTS = {
    "01.1": (_step_by_loop, _step_in_float64),
    "01.2": (_walk_preallocated, _walk_recursive),
    "01.3": (_variance_closed_form, _variance_numpy),
    "01.4": (_steps_by_logarithm, _steps_as_tensor),
    "01.5": (_mixture_by_formula, _mixture_step_by_step),
    "02.1": (_jump_by_loop, _jump_by_angle),
    "02.2": (_table_by_loop, lambda betas: NoiseSchedule(betas).alphas_cumprod),
    "02.3": (_snr_from_sigma, lambda a: -1 + 1 / (1 - a)),
    "02.4": (_cosine_by_loop, _cosine_half_angle),
    "02.5": (
        lambda num_steps: torch.linspace(1e-4, 0.02, num_steps, dtype=torch.float64).neg().log1p().sum().div(2).exp(),
        lambda num_steps: np.sqrt(np.prod(1 - np.linspace(1e-4, 0.02, num_steps))),
    ),
    "02.6": (_rescale_by_loop, _rescale_with_schedule),
}
