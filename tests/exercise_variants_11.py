"""Two other correct solutions for each exercise of lesson 11."""

import math

import torch


def _picture_by_lerp(decode, latents, scaling_factor):
    picture = decode((1 / scaling_factor) * latents)
    return torch.clamp(0.5 * picture + 0.5, 0, 1)


def _picture_in_place(decode, latents, scaling_factor):
    picture = decode(latents.div(scaling_factor))
    return picture.add_(1).mul_(0.5).clamp_(0, 1)


def _step_by_angle(xt, v_cond, v_uncond, scale, alpha_bar, alpha_bar_prev):
    """A rotation: x = cos(phi) x0 + sin(phi) noise and v is its derivative, so the step turns by the difference of angles."""
    v = scale * v_cond + (1 - scale) * v_uncond
    turn = math.acos(math.sqrt(alpha_bar_prev)) - math.acos(math.sqrt(alpha_bar))
    return math.cos(turn) * xt + math.sin(turn) * v


def _step_in_sigma(xt, v_cond, v_uncond, scale, alpha_bar, alpha_bar_prev):
    v = torch.lerp(v_uncond, v_cond, scale)
    noise = (1 - alpha_bar) ** 0.5 * xt + alpha_bar**0.5 * v
    sigmas = [((1 - a) / a) ** 0.5 for a in (alpha_bar, alpha_bar_prev)]
    return (xt / alpha_bar**0.5 + (sigmas[1] - sigmas[0]) * noise) * alpha_bar_prev**0.5


def _times_by_index(times, strength):
    first = len(times) - math.floor(strength * len(times))
    return torch.stack([times[i] for i in range(first, len(times))])


def _times_from_behind(times, strength):
    return times.flip(0)[: int(strength * len(times))].flip(0)


def _known_by_where(x, known, noise, mask, alpha_bar):
    return torch.where(mask.bool(), x, math.sqrt(alpha_bar) * known + math.sqrt(1 - alpha_bar) * noise)


def _known_by_lerp(x, known, noise, mask, alpha_bar):
    noisy = known * alpha_bar**0.5 + noise * (1 - alpha_bar) ** 0.5
    return torch.lerp(noisy, x, mask)


def _arc_by_right_angles(a, b, weight):
    """Turn by w theta in the plane of a and of the part of b that is orthogonal to a; then correct the length on b's side."""
    first, length = a / a.norm(), b.norm()
    along = (first * b).sum()
    second = (b - along * first) / (b - along * first).norm()
    theta = torch.atan2((second * b).sum(), along)
    unit = [first, torch.cos(theta) * first + torch.sin(theta) * second]
    shares = torch.sin((1 - weight) * theta) / torch.sin(theta), torch.sin(weight * theta) / torch.sin(theta)
    return shares[0] * a.norm() * unit[0] + shares[1] * length * unit[1]


def _arc_by_cosine_similarity(a, b, weight):
    theta = torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).acos()
    return a * (torch.sin(theta - weight * theta) / torch.sin(theta)) + b * (torch.sin(weight * theta) / torch.sin(theta))


def _share_by_counting(read, asked):
    mistakes = ((read != asked) & (asked >= 0)).sum(1)
    return (mistakes == 0).sum().double() / len(read)


def _share_in_a_loop(read, asked):
    right = [all(r == a or a == -1 for r, a in zip(*rows, strict=True)) for rows in zip(read.tolist(), asked.tolist(), strict=True)]
    return torch.tensor(sum(right) / len(right), dtype=torch.float64)


VARIANTS = {
    "11.1": (_picture_by_lerp, _picture_in_place),
    "11.2": (_step_by_angle, _step_in_sigma),
    "11.3": (_times_by_index, _times_from_behind),
    "11.4": (_known_by_where, _known_by_lerp),
    "11.5": (_arc_by_right_angles, _arc_by_cosine_similarity),
    "11.6": (_share_by_counting, _share_in_a_loop),
}
