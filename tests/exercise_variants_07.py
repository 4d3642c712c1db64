"""Two further correct solutions of every exercise of lesson 07, by other routes than the reference."""

import math

import numpy as np
import scipy.linalg
import torch


def _diagonal_expanded(mean_a, var_a, mean_b, var_b):
    return (mean_a - mean_b).dot(mean_a - mean_b) + var_a.sum() + var_b.sum() - 2 * (var_a * var_b).sqrt().sum()


def _diagonal_by_quantiles(mean_a, var_a, mean_b, var_b):
    u = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    z = math.sqrt(2) * torch.erfinv(2 * u - 1)
    z = z / z.std(correction=0)  # the midpoint rule loses a little of the tails
    total = 0.0
    for ma, va, mb, vb in zip(*(part.double().tolist() for part in (mean_a, var_a, mean_b, var_b)), strict=True):
        total += ((ma + va**0.5 * z - mb - vb**0.5 * z) ** 2).mean()
    return torch.as_tensor(total).to(mean_a.dtype)


def _frechet_by_sqrtm(features_a, features_b):
    a, b = features_a.numpy(), features_b.numpy()
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    return torch.tensor(((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(cov_a + cov_b - 2 * root))


def _frechet_by_singular_values(features_a, features_b):
    a, b = ((x - x.mean(0)) / math.sqrt(len(x) - 1) for x in (features_a, features_b))
    cross = torch.linalg.svdvals(torch.linalg.qr(a).R @ torch.linalg.qr(b).R.T).sum()  # S_a = R_a^T R_a
    return (features_a.mean(0) - features_b.mean(0)).square().sum() + (a**2).sum() + (b**2).sum() - 2 * cross


def _infinity_by_elimination(d_small, n_small, d_large, n_large):
    return (n_large * d_large - n_small * d_small) / (n_large - n_small)


def _infinity_by_least_squares(d_small, n_small, d_large, n_large):
    return float(np.polyfit([1 / n_small, 1 / n_large], [d_small, d_large], 1)[1])


def _mmd_by_loop(x, y):
    def kernel(a, b):
        return (float(a @ b) / len(a) + 1) ** 3

    def pairs(points):
        values = [kernel(a, b) for i, a in enumerate(points) for j, b in enumerate(points) if i < j]
        return sum(values) / len(values)

    mixed = [kernel(a, b) for a in x for b in y]
    return torch.tensor(pairs(x) + pairs(y) - 2 * sum(mixed) / len(mixed), dtype=x.dtype)


def _mmd_by_feature_maps(x, y):
    num_dims = x.shape[1]
    wide = [torch.cat([p / math.sqrt(num_dims), torch.ones(len(p), 1, dtype=p.dtype)], 1) for p in (x, y)]
    phi = [torch.einsum("ni,nj,nk->nijk", w, w, w).flatten(1) for w in wide]  # (x.y / D + 1)^3 = phi(x) . phi(y)

    def squared_mean(p):
        return (p.sum(0).square().sum() - p.square().sum()) / (len(p) * (len(p) - 1))

    return squared_mean(phi[0]) + squared_mean(phi[1]) - 2 * phi[0].mean(0) @ phi[1].mean(0)


def _neighbours_by_loop(real, fake, k):
    def share(points, centres):
        radii = [sorted((c - other).norm().item() for other in centres)[k] for c in centres]
        inside = [any((p - c).norm() <= r for c, r in zip(centres, radii, strict=True)) for p in points]
        return torch.tensor(sum(inside) / len(inside), dtype=points.dtype)

    return share(fake, real), share(real, fake)


def _neighbours_without_the_diagonal(real, fake, k):
    def share(points, centres):
        apart = (centres[:, None] - centres[None]).square().sum(-1)
        apart.fill_diagonal_(float("inf"))
        limits = apart.topk(k, largest=False).values[:, -1]
        return ((points[:, None] - centres[None]).square().sum(-1) <= limits).sum(1).gt(0).to(points.dtype).mean()

    return [share(fake, real), share(real, fake)]


def _divergence_by_jvp(velocity, x, probes):
    products = [(torch.autograd.functional.jvp(velocity, x, z)[1] * z).reshape(len(x), -1).sum(1) for z in probes]
    return torch.stack(products).mean(0)


def _divergence_by_jacobian(velocity, x, probes):
    out = []
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda p: velocity(p[None])[0].flatten(), x[i]).reshape(x[i].numel(), -1)
        out.append(sum(z[i].flatten() @ jacobian @ z[i].flatten() for z in probes) / len(probes))
    return torch.stack(out)


def _bits_of_an_8_bit_density(nats, side):
    per_value = nats / (3 * side * side) - math.log(127.5)  # the log-density of one value in [0, 255]
    return -per_value / math.log(2)


def _bits_as_a_product(nats, side):
    return float(np.log2(127.5 * np.exp(-nats / (side * side * 3))))


VARIANTS = {
    "07.1": (_diagonal_expanded, _diagonal_by_quantiles),
    "07.2": (_frechet_by_sqrtm, _frechet_by_singular_values),
    "07.3": (_infinity_by_elimination, _infinity_by_least_squares),
    "07.4": (_mmd_by_loop, _mmd_by_feature_maps),
    "07.5": (_neighbours_by_loop, _neighbours_without_the_diagonal),
    "07.6": (_divergence_by_jvp, _divergence_by_jacobian),
    "07.7": (_bits_of_an_8_bit_density, _bits_as_a_product),
}
