"""Two further correct solutions of every exercise of lesson 03, by other routes than the reference."""

import math

import torch

from diffusion_course import convert_prediction, diffusion_loss, loss_weight, q_sample


def _score_by_package(noise_pred, t, alphas_cumprod):
    return convert_prediction(noise_pred, torch.zeros_like(noise_pred), t, alphas_cumprod, source="epsilon", target="score")


def _score_by_loop(noise_pred, t, alphas_cumprod):
    rows = [-row.double() * (1 - alphas_cumprod[i].item()) ** -0.5 for row, i in zip(noise_pred, t.tolist(), strict=True)]
    return torch.stack(rows).to(noise_pred.dtype)


def _weight_by_loop(t, alphas_cumprod):
    kept = [1.0, *alphas_cumprod.tolist()]
    weights = []
    for i in t.tolist():
        alpha = kept[i + 1] / kept[i]
        beta = 1 - alpha
        weights.append(beta**2 / (2 * beta * alpha * (1 - kept[i + 1])))
    return torch.tensor(weights, dtype=alphas_cumprod.dtype)


def _weight_from_snr(t, alphas_cumprod):
    # beta / alpha = before / now - 1
    before = torch.nn.functional.pad(alphas_cumprod, (1, 0), value=1.0)[t]
    now = alphas_cumprod[t]
    return (before / now - 1) / (2 * (1 - now))


def _best_by_two_noises(alpha_bar, x_t):
    noises = [(x_t - math.sqrt(alpha_bar) * x0) / math.sqrt(1 - alpha_bar) for x0 in (-1, 1)]
    weights = [math.exp(-(noise**2) / 2) for noise in noises]
    return sum(w * n for w, n in zip(weights, noises, strict=True)) / sum(weights)


def _best_by_score(alpha_bar, x_t):
    x = torch.tensor(x_t, dtype=torch.float64, requires_grad=True)
    densities = [torch.exp(-((x - math.sqrt(alpha_bar) * x0) ** 2) / (2 * (1 - alpha_bar))) for x0 in (-1, 1)]
    (gradient,) = torch.autograd.grad(sum(densities).log(), x)
    return -math.sqrt(1 - alpha_bar) * gradient.item()


def _v_by_angle(v, xt, t, alphas_cumprod):
    angle = torch.acos(alphas_cumprod.double().sqrt())[t].reshape(-1, *[1] * (xt.dim() - 1))
    x0_pred = angle.cos() * xt.double() - angle.sin() * v.double()
    noise_pred = angle.sin() * xt.double() + angle.cos() * v.double()
    return x0_pred.to(xt.dtype), noise_pred.to(xt.dtype)


def _v_by_solving(v, xt, t, alphas_cumprod):
    a, b = alphas_cumprod[t].double().sqrt(), (1 - alphas_cumprod[t].double()).sqrt()
    matrix = torch.stack([torch.stack([a, b], 1), torch.stack([-b, a], 1)], 1)  # (B, 2, 2)
    sides = torch.stack([xt.double().reshape(len(xt), -1), v.double().reshape(len(v), -1)], 1)  # (B, 2, D)
    x0_pred, noise_pred = torch.linalg.solve(matrix, sides).unbind(1)
    return x0_pred.reshape(xt.shape).to(xt.dtype), noise_pred.reshape(xt.shape).to(xt.dtype)


def _min_snr_by_alpha_bar(alpha_bar, gamma):
    return torch.minimum(alpha_bar, gamma * (1 - alpha_bar))


def _min_snr_by_package(alpha_bar, gamma):
    flat = alpha_bar.reshape(-1)
    index = torch.arange(len(flat))
    weight = loss_weight(index, flat, prediction_type="v_prediction", weighting="min_snr", gamma=gamma)
    return weight.reshape(alpha_bar.shape)


def _step_by_autograd(model, x0, optimizer, alphas_cumprod, generator):
    loss = diffusion_loss(model, x0, alphas_cumprod, generator=generator)
    parameters = list(model.parameters())
    for parameter, gradient in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
        parameter.grad = gradient
    optimizer.step()
    return loss.detach().item()


def _step_with_mse_loss(model, x0, optimizer, alphas_cumprod, generator):
    t = torch.randint(0, alphas_cumprod.shape[0], (x0.size(0),), generator=generator)
    noise = torch.empty_like(x0).normal_(generator=generator)
    loss = torch.nn.functional.mse_loss(model(q_sample(x0, t, alphas_cumprod, noise), t), noise)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    return loss.item()


VARIANTS = {
    "03.1": (_score_by_package, _score_by_loop),
    "03.2": (_weight_by_loop, _weight_from_snr),
    "03.3": (_best_by_two_noises, _best_by_score),
    "03.4": (_v_by_angle, _v_by_solving),
    "03.5": (_min_snr_by_alpha_bar, _min_snr_by_package),
    "03.6": (_step_by_autograd, _step_with_mse_loss),
}
