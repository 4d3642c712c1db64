"""Two other correct solutions for each exercise of lesson 09."""

import math

import torch
from torch.distributions import Independent, Normal, kl_divergence


def _draw_by_square_root(mean, log_variance, noise):
    return mean + torch.sqrt(torch.exp(log_variance)) * noise


def _draw_by_addcmul(mean, log_variance, noise):
    return torch.addcmul(mean, noise, (log_variance / 2).exp())


def _kl_from_torch(mean, log_variance):
    q, p = Normal(mean, (0.5 * log_variance).exp()), Normal(torch.zeros_like(mean), torch.ones_like(mean))
    return kl_divergence(Independent(q, mean.ndim - 1), Independent(p, mean.ndim - 1))


def _kl_in_parts(mean, log_variance):
    cost = [0.5 * (m.pow(2).sum() + (lv.exp() - lv).sum() - m.numel()) for m, lv in zip(mean, log_variance, strict=True)]
    return torch.stack(cost)


def _bits_from_distortion(variance, weight):
    distortion = min(variance, weight / 2)
    return math.log(variance / distortion) / math.log(4)


def _bits_from_the_optimum(variance, weight):
    """The KL at the best encoder and decoder, from their own formulas."""
    b = math.sqrt(variance - weight / 2)
    a, v = b / variance, weight / (2 * variance)
    return 0.5 * (a**2 * variance + v - 1 - math.log(v)) / math.log(2)


def _psnr_by_loop(images, references):
    return torch.stack([20 * math.log10(2) - 10 * ((a - b) ** 2).mean().log10() for a, b in zip(images, references, strict=True)])


def _psnr_in_unit_range(images, references):
    difference = (images + 1) / 2 - (references + 1) / 2
    return -20 * difference.pow(2).mean((1, 2, 3)).sqrt().log10()


def _noised_in_the_encoders_units(encode, decode, images, noise, factor, alpha_bar):
    return decode(math.sqrt(alpha_bar) * encode(images) + math.sqrt(1 - alpha_bar) * (noise / factor))


def _noised_by_std(encode, decode, images, noise, factor, alpha_bar):
    std = 1 / factor
    mixed = encode(images).div(std).mul(alpha_bar**0.5).add(noise, alpha=(1 - alpha_bar) ** 0.5)
    return decode(mixed * std)


def _factor_from_sums(count, mean, variance):
    first, second = (count * mean).sum(), (count * (variance + mean**2)).sum()
    return ((second - first**2 / count.sum()) / count.sum()).rsqrt()


def _factor_by_merging(count, mean, variance):
    """Chan's update: one batch after the other."""
    n, m, v = count[0].double(), mean[0], variance[0]
    for k, mk, vk in zip(count[1:].double(), mean[1:], variance[1:], strict=True):
        total = n + k
        v = (n * v + k * vk) / total + n * k * (mk - m) ** 2 / total**2
        m, n = (n * m + k * mk) / total, total
    return 1 / v.sqrt()


VARIANTS = {
    "09.1": (_draw_by_square_root, _draw_by_addcmul),
    "09.2": (_kl_from_torch, _kl_in_parts),
    "09.3": (_bits_from_distortion, _bits_from_the_optimum),
    "09.4": (_psnr_by_loop, _psnr_in_unit_range),
    "09.5": (_noised_in_the_encoders_units, _noised_by_std),
    "09.6": (_factor_from_sums, _factor_by_merging),
}
