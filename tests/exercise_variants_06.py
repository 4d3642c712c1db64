"""Two further correct solutions of every exercise of lesson 06, by other routes than the reference."""

import math

import torch

from diffusion_course.process import NoiseSchedule, convert_prediction, posterior_coefficients
from diffusion_course.sampling import (
    SAMPLERS,
    Estimate,
    Level,
    Transition,
    iterate_levels,
    noise_levels,
    sample_loop,
)


def _sigma(alpha_bar):
    return math.sqrt((1 - alpha_bar) / alpha_bar)


def _ddim_as_euler(xt, noise_pred, alpha_bar, alpha_bar_prev):
    xhat = xt / alpha_bar**0.5 + (_sigma(alpha_bar_prev) - _sigma(alpha_bar)) * noise_pred
    return xhat * alpha_bar_prev**0.5


def _ddim_as_a_rotation(xt, noise_pred, alpha_bar, alpha_bar_prev):
    angle = math.acos(alpha_bar**0.5) - math.acos(alpha_bar_prev**0.5)
    velocity = alpha_bar**0.5 * noise_pred - (1 - alpha_bar) ** 0.5 * (xt - (1 - alpha_bar) ** 0.5 * noise_pred) / alpha_bar**0.5
    return math.cos(angle) * xt - math.sin(angle) * velocity


def _betas_by_product(alphas_cumprod, timesteps):
    alphas = alphas_cumprod.clone()
    alphas[1:] /= alphas_cumprod[:-1]
    ends = [*(timesteps[1:] + 1).tolist(), 0]
    return torch.stack([1 - alphas[end : t + 1].prod() for t, end in zip(timesteps.tolist(), ends, strict=True)])


def _betas_from_the_posterior(alphas_cumprod, timesteps):
    levels = torch.nn.functional.pad(alphas_cumprod[timesteps], (0, 1), value=1.0)
    coef_x0, _, _ = posterior_coefficients(levels[:-1], levels[1:])
    return coef_x0 * (1 - levels[:-1]) / levels[1:].sqrt()


def _heun_as_a_correction(noise_at, xhat, sigma, sigma_prev):
    h = sigma_prev - sigma
    first = noise_at(xhat, sigma)
    landed = xhat + h * first
    return landed if not sigma_prev else landed + h / 2 * (noise_at(landed, sigma_prev) - first)


def _heun_of_the_package(noise_at, xhat, sigma, sigma_prev):
    now, then = (Level(None, 1 / (1 + s**2)) for s in (sigma, sigma_prev))

    def denoise(xt, level):
        scaled = xt / level.alpha_bar**0.5
        noise = noise_at(scaled, _sigma(level.alpha_bar))
        return Estimate(scaled - _sigma(level.alpha_bar) * noise, noise)

    start = xhat.double() * now.alpha_bar**0.5
    return (SAMPLERS["heun"](denoise, start, Transition(now, then)).x_prev / then.alpha_bar**0.5).to(xhat.dtype)


def _loop_of_the_package(model, xt, alphas_cumprod, n):
    alphas = alphas_cumprod / torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    return sample_loop(model, tuple(xt.shape), NoiseSchedule(1 - alphas), sampler="euler", num_inference_steps=n, x_init=xt)


def _loop_by_counting(model, xt, alphas_cumprod, n):
    total = len(alphas_cumprod)
    for k in range(n):
        t, then = (round(total - j * total / n) - 1 for j in (k, k + 1))
        after = alphas_cumprod[then].item() if then >= 0 else 1.0
        xt = _ddim_as_euler(xt, model(xt, torch.tensor([t] * len(xt))), alphas_cumprod[t].item(), after)
    return xt


def _multistep_of_the_package(xt, x0_pred, x0_before, alpha_bar_before, alpha_bar, alpha_bar_prev):
    before, now, then = (Level(None, a) for a in (alpha_bar_before, alpha_bar, alpha_bar_prev))
    move = Transition(now, then, before=(before, Estimate(x0_before, xt)))
    return SAMPLERS["dpmpp_2m"](lambda x, level: Estimate(x0_pred, xt), xt, move).x_prev


def _multistep_in_sigma(xt, x0_pred, x0_before, alpha_bar_before, alpha_bar, alpha_bar_prev):
    sigma_before, sigma, then = map(_sigma, (alpha_bar_before, alpha_bar, alpha_bar_prev))
    share = math.log(sigma / then) / math.log(sigma_before / sigma) / 2
    target = (1 + share) * x0_pred - share * x0_before
    xhat = target + (xt / alpha_bar**0.5 - target) * (then / sigma)
    return xhat * alpha_bar_prev**0.5


def _inversion_in_sigma(model, xt, alphas_cumprod, timesteps):
    sigmas = ((1 - alphas_cumprod) / alphas_cumprod)[timesteps].sqrt().tolist()
    scales = alphas_cumprod[timesteps].sqrt().tolist()
    xhat = xt / scales[0]
    for k in range(len(timesteps) - 1):
        xhat = xhat + (sigmas[k + 1] - sigmas[k]) * model(xhat * scales[k], timesteps[k].repeat(len(xt)))
    return xhat * scales[-1]


def _inversion_with_a_step_function(model, xt, alphas_cumprod, timesteps):
    table = 1 - alphas_cumprod / torch.cat([alphas_cumprod.new_ones(1), alphas_cumprod[:-1]])
    levels = noise_levels(NoiseSchedule(table), timesteps.flip(0))[-2::-1]  # ascending, without clean data

    def denoise(x, level):
        t = torch.as_tensor(level.t).expand(len(x))
        noise = model(x, t)
        return Estimate(convert_prediction(noise, x, t, alphas_cumprod, source="epsilon", target="sample"), noise)

    def up(denoise, x, move):
        estimate, then = denoise(x, move.now), move.then
        return then.alpha_bar**0.5 * estimate.x0 + (1 - then.alpha_bar) ** 0.5 * estimate.noise, estimate

    *_, end = iterate_levels(denoise, xt, levels, sampler=up)
    return end.x


VARIANTS = {
    "06.1": (_ddim_as_euler, _ddim_as_a_rotation),
    "06.2": (_betas_by_product, _betas_from_the_posterior),
    "06.3": (_heun_as_a_correction, _heun_of_the_package),
    "06.4": (_loop_of_the_package, _loop_by_counting),
    "06.5": (_multistep_of_the_package, _multistep_in_sigma),
    "06.6": (_inversion_in_sigma, _inversion_with_a_step_function),
}
