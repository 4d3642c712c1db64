"""Two further correct solutions of every exercise of lesson 04, by other routes than the reference."""

import math

import numpy as np
import torch

from diffusion_course.process import make_schedule, to_x0_and_noise
from diffusion_course.sampling import ddpm_step, p_sample_loop


def _variance_from_precisions(alpha_bar, alpha_bar_prev):
    alpha = alpha_bar / alpha_bar_prev
    return 1 / (1 / (1 - alpha_bar_prev) + alpha / (1 - alpha))  # 1 / inf = 0 at the end of the chain


def _variance_from_the_joint_gaussian(alpha_bar, alpha_bar_prev):
    prior = 1 - alpha_bar_prev
    covariance = (alpha_bar / alpha_bar_prev).sqrt() * prior  # of x_{t-1} and x_t, given x_0
    return prior - covariance**2 / (1 - alpha_bar)


def _mean_by_loop(x0, xt, t, alphas_cumprod):
    rows = []
    for clean, noisy, i in zip(x0, xt, t.tolist(), strict=True):
        now, before = alphas_cumprod[i].item(), alphas_cumprod[i - 1].item() if i else 1.0
        gain = math.sqrt(now / before) * (1 - before) / (1 - now)  # of a regression of x_{t-1} on x_t
        rows.append(math.sqrt(before) * clean + gain * (noisy - math.sqrt(now) * clean))
    return torch.stack(rows)


def _mean_in_float64(x0, xt, t, alphas_cumprod):
    table = torch.nn.functional.pad(alphas_cumprod.double(), (1, 0), value=1.0)
    before, now = (table[i].view(-1, *[1] * (x0.dim() - 1)) for i in (t, t + 1))
    precise = 1 / (1 - before), (now / before) / (1 - now / before)
    weight = torch.where(before == 1, torch.ones_like(now), precise[0] / (precise[0] + precise[1]))
    back = xt.double() * (before / now).sqrt()
    return (weight * before.sqrt() * x0.double() + (1 - weight) * back).to(x0.dtype)


def _index_by_loop(num_train_timesteps, share):
    kept = 1.0
    for i, beta in enumerate(np.linspace(1e-4, 0.02, num_train_timesteps)):
        before, kept = kept, kept * (1 - beta)
        if 1 - before >= share * (1 - kept):
            return i


def _index_by_search(num_train_timesteps, share):
    alpha_bar = make_schedule("linear", num_train_timesteps).alphas_cumprod.numpy()
    ratio = np.append(0.0, (1 - alpha_bar[:-1]) / (1 - alpha_bar[1:]))
    return int(np.argmax(ratio >= share))


def _noise_mean_by_x0(xt, noise_pred, t, betas):
    alphas_cumprod = (1 - betas).cumprod(0)
    alpha_bar = alphas_cumprod.to(torch.float64)[t].view(-1, *[1] * (xt.dim() - 1))
    x0 = (xt.double() - (1 - alpha_bar).sqrt() * noise_pred.double()) / alpha_bar.sqrt()
    return _mean_in_float64(x0, xt.double(), t, alphas_cumprod).to(xt.dtype)


def _noise_mean_by_loop(xt, noise_pred, t, betas):
    out = torch.empty_like(xt)
    for row, i in enumerate(t.tolist()):
        kept = math.prod(1 - b for b in betas[: i + 1].tolist())
        beta = betas[i].item()
        out[row] = (xt[row] - beta / (1 - kept) ** 0.5 * noise_pred[row]) / (1 - beta) ** 0.5
    return out


def _step_with_the_package(xt, noise_pred, t, betas, noise):
    table = torch.nn.functional.pad((1 - betas).cumprod(0), (1, 0), value=1.0)
    return ddpm_step(noise_pred, xt, table[t + 1], table[t], noise).x_prev


def _step_with_a_mask(xt, noise_pred, t, betas, noise):
    shape = [-1] + [1] * (xt.dim() - 1)
    alphas_cumprod = (1 - betas).cumprod(0)
    variance = betas[t] * (1 - alphas_cumprod[(t - 1).clamp(min=0)]) / (1 - alphas_cumprod[t])
    mask = (t > 0).to(xt.dtype).view(shape)
    return _noise_mean_by_loop(xt, noise_pred, t, betas) + mask * variance.sqrt().to(xt.dtype).view(shape) * noise


def _loop_of_the_package(model, shape, betas, generator):
    return p_sample_loop(lambda x, t: model(x, t), shape, betas, 1 - betas, (1 - betas).cumprod(0), generator=generator,
                         variance_type="fixed_large", dtype=betas.dtype)


def _loop_through_x0(model, shape, betas, generator):
    levels = [1.0, *(1 - betas).cumprod(0).tolist()]
    x = torch.empty(shape, dtype=betas.dtype).normal_(generator=generator)
    i = len(betas)
    while i:
        now, before = levels[i], levels[i - 1]
        i -= 1
        x0, _ = to_x0_and_noise(model(x, torch.full((len(x),), i, dtype=torch.long)), x, now, "epsilon")
        x = _mean_by_loop(x0, x, torch.full((len(x),), i), torch.tensor(levels[1:], dtype=torch.float64))
        x = x + (i > 0) * (1 - now / before) ** 0.5 * torch.empty(shape, dtype=x.dtype).normal_(generator=generator)
    return x


VARIANTS = {
    "04.1": (_variance_from_precisions, _variance_from_the_joint_gaussian),
    "04.2": (_mean_by_loop, _mean_in_float64),
    "04.3": (_index_by_loop, _index_by_search),
    "04.4": (_noise_mean_by_x0, _noise_mean_by_loop),
    "04.5": (_step_with_the_package, _step_with_a_mask),
    "04.6": (_loop_of_the_package, _loop_through_x0),
}
