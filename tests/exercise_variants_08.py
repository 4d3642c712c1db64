"""Two other correct solutions for each exercise of lesson 08."""

import torch

from diffusion_course import scale_from_w


def _guide_with_two_weights(cond_output, uncond_output, scale):
    return scale * cond_output + (1 - scale) * uncond_output


def _guide_from_the_condition(cond_output, uncond_output, scale):
    return cond_output + (scale - 1) * (cond_output - uncond_output)


def _scale_by_a_mask(guided, cond_output, uncond_output):
    differs = cond_output != uncond_output
    return ((guided - uncond_output)[differs] / (cond_output - uncond_output)[differs]).median()


def _scale_through_w(guided, cond_output, uncond_output):
    step = (cond_output - uncond_output).flatten()
    w = torch.dot((guided - cond_output).flatten(), step) / torch.dot(step, step)
    return torch.tensor(scale_from_w(w.item()), dtype=guided.dtype)


def _drop_by_copy(cond, uniform, probability, null_class):
    new = cond.clone()
    new[uniform < probability] = null_class
    return new


def _drop_by_arithmetic(cond, uniform, probability, null_class):
    dropped = (uniform < probability).to(cond.dtype)
    return cond + dropped * (null_class - cond)


def _condition_first(model, xt, t, cond, scale):
    null = cond.new_full(cond.shape, model.null_class)
    out = model(torch.cat((xt, xt), 0), t.repeat(2), torch.cat((cond, null)))
    c, u = out[: len(xt)], out[len(xt) :]
    return c + (scale - 1) * (c - u)


def _side_by_side(model, xt, t, cond, scale):
    labels = torch.stack([cond, torch.full_like(cond, model.null_class)], 1).flatten()
    out = model(xt.repeat_interleave(2, 0), t.repeat_interleave(2), labels)
    return torch.lerp(out[1::2], out[::2], scale)


def _deviation_by_logarithms(a, b, s):
    return float(torch.tensor([a, b], dtype=torch.float64).log().mul(torch.tensor([s, 1 - s])).sum().div(2).exp())


def _deviation_by_integration(a, b, s):
    """Euler's method in log sigma, fine enough for four digits."""
    u = torch.linspace(9.0, -9.0, 200_001, dtype=torch.float64)
    middle = (2 * (u[1:] + u[:-1]) / 2).exp()
    slope = s * middle / (a + middle) + (1 - s) * middle / (b + middle)
    return float((u[0] + (slope * u.diff()).sum()).exp())


def _rescaled_by_sample(cond_output, uncond_output, scale, phi):
    out = []
    for c, u in zip(cond_output, uncond_output, strict=True):
        g = u + scale * (c - u)
        out.append(g * (1 - phi + phi * c.float().std() / g.float().std()).to(g.dtype))
    return torch.stack(out)


def _rescaled_in_double(cond_output, uncond_output, scale, phi):
    c, u = cond_output.double().flatten(1), uncond_output.double().flatten(1)
    g = torch.lerp(u, c, scale)
    g = torch.lerp(g, g * c.std(1, keepdim=True) / g.std(1, keepdim=True), phi)
    return g.reshape(cond_output.shape).to(cond_output.dtype)


VARIANTS = {
    "08.1": (_guide_with_two_weights, _guide_from_the_condition),
    "08.2": (_scale_by_a_mask, _scale_through_w),
    "08.3": (_drop_by_copy, _drop_by_arithmetic),
    "08.4": (_condition_first, _side_by_side),
    "08.5": (_deviation_by_logarithms, _deviation_by_integration),
    "08.6": (_rescaled_by_sample, _rescaled_in_double),
}
