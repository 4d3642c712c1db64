"""Two further correct solutions of every exercise of lesson 05, by other routes than the reference."""

import copy
import math

import numpy as np
import torch

from diffusion_course import EMA
from diffusion_course.measures import count_flops


def _embed_by_loop(t, dim):
    rows = []
    for time in t.tolist():
        angles = [time / 10_000 ** (2 * i / dim) for i in range(dim // 2)]
        rows.append([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
    return torch.tensor(rows)


def _embed_with_complex_numbers(t, dim):
    frequencies = torch.logspace(0, -4, dim // 2 + 1, dtype=torch.float64)[:-1]
    turned = torch.polar(torch.ones(len(t), dim // 2, dtype=torch.float64), torch.outer(t.double(), frequencies))
    return torch.cat([turned.real, turned.imag], 1).float()


def _modulate_by_loop(h, emb, weight, bias):
    out, channels = torch.empty_like(h), h.shape[1]
    for b in range(h.shape[0]):
        for c in range(channels):
            scale = torch.dot(weight[c], emb[b]) + bias[c]
            out[b, c] = h[b, c] + scale * h[b, c] + torch.dot(weight[channels + c], emb[b]) + bias[channels + c]
    return out


def _modulate_with_einsum(h, emb, weight, bias):
    scale, shift = torch.einsum("ske,be->sbk", weight.unflatten(0, (2, -1)), emb) + bias.unflatten(0, (2, 1, -1))
    return torch.addcmul(shift[..., None, None], h, 1 + scale[..., None, None])


def _convolution_by_counting(in_channels, out_channels, size):
    windows = sum(1 for corner in range(-1, size + 1, 2) if corner + 2 <= size)  # a window of 3 on pixels -1..size
    return 2.0 * windows * windows * out_channels * in_channels * 9


def _convolution_with_the_package(in_channels, out_channels, size):
    layer = torch.nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
    return count_flops(layer, torch.zeros(1, in_channels, size, size))


def _norm_by_loop(x, num_groups, weight, bias, eps):
    out, size = torch.empty_like(x), x.shape[1] // num_groups
    for b in range(len(x)):
        for g in range(num_groups):
            part = x[b, g * size : (g + 1) * size]
            centred = part - part.mean()
            out[b, g * size : (g + 1) * size] = centred * (centred.pow(2).mean() + eps).rsqrt()
    for c in range(x.shape[1]):
        out[:, c] = out[:, c] * weight[c] + bias[c]
    return out


def _norm_in_numpy(x, num_groups, weight, bias, eps):
    y = x.numpy().astype(np.float64).reshape(x.shape[0], num_groups, -1)
    y = (y - y.mean(-1, keepdims=True)) / np.sqrt(y.var(-1, keepdims=True) + eps)
    y = np.moveaxis(y.reshape(x.shape), 1, -1) * weight.double().numpy() + bias.double().numpy()
    return torch.from_numpy(np.moveaxis(y, -1, 1).copy()).to(x.dtype)


def _average_of_the_package(start, snapshots, decay):
    model = torch.nn.ParameterList([start.clone()])
    ema = EMA(model, decay)
    for n, weights in enumerate(snapshots):
        with torch.no_grad():
            model[0].copy_(weights)
        ema.update(model, n + 1)
    return ema.model[0].detach().clone()


def _average_as_one_weighted_sum(start, snapshots, decay):
    keep = [min(decay, (1 + n) / (10 + n)) for n in range(1, len(snapshots) + 1)]
    shares = [math.prod(keep)] + [(1 - d) * math.prod(keep[n + 1 :]) for n, d in enumerate(keep)]
    return torch.tensordot(torch.tensor(shares, dtype=start.dtype), torch.cat([start[None], snapshots]), 1)


def _attention_by_loop(x, w_qkv, w_out, num_heads):
    channels = x.shape[-1]
    width, rows = channels // num_heads, []
    for positions in x:
        heads = []
        for j in range(num_heads):
            own = slice(j * width, (j + 1) * width)
            q, k, v = (positions @ w_qkv[part * channels : (part + 1) * channels][own].T for part in range(3))
            scores = q @ k.T / math.sqrt(width)
            weights = torch.exp(scores - scores.amax(1, keepdim=True))
            heads.append(weights / weights.sum(1, keepdim=True) @ v)
        rows.append(positions + torch.cat(heads, 1) @ w_out.T)
    return torch.stack(rows)


def _attention_with_einsum(x, w_qkv, w_out, num_heads):
    q, k, v = torch.einsum("blc,shec->sbhle", x, w_qkv.unflatten(0, (3, num_heads, -1)))
    weights = torch.einsum("bhle,bhme->bhlm", q * q.shape[-1] ** -0.5, k).softmax(3)
    return x + torch.einsum("bhlm,bhme,che->blc", weights, v, w_out.unflatten(1, (num_heads, -1)))


def _validation_on_a_copy(model, batches):
    network, numbers = copy.deepcopy(model), sum(batch["noise"].numel() for batch in batches)
    network.eval()
    with torch.inference_mode():
        errors = [torch.nn.functional.mse_loss(network(batch["xt"], batch["t"]), batch["noise"]) for batch in batches]
    return sum(error * (batch["noise"].numel() / numbers) for error, batch in zip(errors, batches, strict=True))


def _validation_number_by_number(model, batches):
    was, squares = model.training, []
    model.train(False)
    try:
        for batch in batches:
            for n in range(len(batch["t"])):
                guess = model(batch["xt"][n : n + 1], batch["t"][n : n + 1]).detach()
                squares += [(a - b) ** 2 for a, b in zip(guess.flatten().tolist(), batch["noise"][n].flatten().tolist(), strict=True)]
    finally:
        model.train(was)
    return math.fsum(squares) / len(squares)


VARIANTS = {
    "05.1": (_embed_by_loop, _embed_with_complex_numbers),
    "05.2": (_modulate_by_loop, _modulate_with_einsum),
    "05.3": (_convolution_by_counting, _convolution_with_the_package),
    "05.4": (_norm_by_loop, _norm_in_numpy),
    "05.5": (_average_of_the_package, _average_as_one_weighted_sum),
    "05.6": (_attention_by_loop, _attention_with_einsum),
    "05.7": (_validation_on_a_copy, _validation_number_by_number),
}
