"""Two other correct solutions for each exercise of lesson 14."""

import torch
from torch.nn import functional as F

from diffusion_course import flow_interpolate, flow_level, shift_time


def _path_by_lerp(x0, noise, t):
    return torch.lerp(x0, noise, t.reshape(-1, *[1] * (x0.ndim - 1)))


def _path_by_package(x0, noise, t):
    return flow_interpolate(x0, t, noise)


def _clean_sample_by_sample(xt, velocity, t):
    return torch.stack([x - float(s) * v for x, v, s in zip(xt, velocity, t, strict=True)])


def _clean_by_both_equations(xt, velocity, t):
    t = t.reshape(-1, *[1] * (xt.ndim - 1))
    noise = xt + (1 - t) * velocity
    return noise - velocity


def _walk_by_index(velocity, x, times):
    for i in range(len(times) - 1):
        t = torch.full((x.shape[0],), times[i], dtype=x.dtype)
        x = torch.add(x, velocity(x, t), alpha=times[i + 1] - times[i])
    return x


def _walk_by_recursion(velocity, x, times):
    if len(times) == 1:
        return x
    step = (times[0] - times[1]) * velocity(x, torch.full((len(x),), times[0]).to(x.dtype))
    return _walk_by_recursion(velocity, x - step, times[1:])


def _level_by_package(t):
    return flow_level(t)[0]


def _level_by_noise_over_signal(t):
    inside = t.clamp(max=1 - 1e-12)
    return torch.where(t < 1, 1 / (1 + (inside / (1 - inside)) ** 2), torch.zeros_like(t))


def _time_by_package(shift, num_steps):
    return float(shift_time(1 / num_steps, shift))


def _time_by_odds(shift, num_steps):
    odds = shift / (num_steps - 1)
    return odds / (1 + odds)


def _gated_by_layer_norm(h, shift, scale, gate, layer):
    return torch.addcmul(h, gate, layer(torch.addcmul(shift, F.layer_norm(h, h.shape[-1:], eps=1e-6), 1 + scale)))


def _gated_token_by_token(h, shift, scale, gate, layer):
    tokens = [(token - token.mean(-1, keepdim=True)) / (token.var(-1, keepdim=True, unbiased=False) + 1e-6) ** 0.5 for token in h.unbind(1)]
    return h + gate * layer(torch.stack(tokens, 1) * (1 + scale) + shift)


VARIANTS = {
    "14.1": (_path_by_lerp, _path_by_package),
    "14.2": (_clean_sample_by_sample, _clean_by_both_equations),
    "14.3": (_walk_by_index, _walk_by_recursion),
    "14.4": (_level_by_package, _level_by_noise_over_signal),
    "14.5": (_time_by_package, _time_by_odds),
    "14.6": (_gated_by_layer_norm, _gated_token_by_token),
}
