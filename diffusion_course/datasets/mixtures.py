"""Gaussian mixtures: data whose score, denoiser and density are known exactly at every noise level.

If x_0 is a mixture, so is x_t: component k becomes N(sqrt(abar) m_k, abar S_k + (1 - abar) I).
Everything here follows from that sentence and Bayes' rule. It is the oracle that the lessons and
the tests check against.
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..process.kernels import PREDICTION_TYPES, from_x0_and_noise, gather, noise_like
from ..process.schedules import alpha_bar_at
from ..validation import (
    check_choice, check_classes, check_floating, check_positive_int, check_timesteps, describe,
    values_are_free, widest_float,
)


class GaussianMixture:
    """The mixture sum_k weights[k] N(means[k], covariances[k]) on R^D.

    weights: (K,) positive, summing to 1; means: (K, D); covariances: (K, D, D) symmetric, no
    negative eigenvalue. Noise levels are given as ``alpha_bar``: a number or a tensor (N,) in [0,
    1]; points as (N, D). Raises ValueError or TypeError otherwise.
    """

    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        for name, value in (("weights", weights), ("means", means), ("covariances", covariances)):
            check_floating(name, value)
            if (value.dtype, value.device) != (weights.dtype, weights.device):
                raise ValueError(
                    f"weights and {name} must share dtype and device, got {describe(weights)} and"
                    f" {describe(value)}. Move one: {name}.to(weights)."
                )
        k, d = means.shape if means.ndim == 2 else (-1, -1)
        if k < 1 or weights.shape != (k,) or covariances.shape != (k, d, d):
            raise ValueError(
                "a mixture needs weights (K,), means (K, D) and covariances (K, D, D), got "
                f"{describe(weights)}; {describe(means)}; {describe(covariances)}."
            )
        if values_are_free(weights) and (
            not (weights > 0).all() or abs(weights.sum().item() - 1) > 1e-4
        ):
            raise ValueError(f"weights must be positive and sum to 1, got {weights.tolist()}.")
        if (
            values_are_free(covariances)
            and (covariances - covariances.mT).abs().max() > 1e-5 * covariances.abs().max()
        ):
            raise ValueError(f"covariances must be symmetric, got {covariances.tolist()}.")
        self.weights, self.means, self.covariances = weights, means, covariances
        self._variances, self._axes = torch.linalg.eigh(
            covariances
        )  # (K, D), (K, D, D): columns are axes
        if (
            values_are_free(self._variances)
            and self._variances.min() < -1e-6 * self._variances.abs().max()
        ):
            raise ValueError(
                "covariances must not have a negative eigenvalue, got"
                f" {self._variances.min().item()}."
            )
        self._variances = self._variances.clamp(min=0)

    def __repr__(self) -> str:
        return f"GaussianMixture({len(self.weights)} components, {self.dim}-D)"

    @property
    def dim(self) -> int:
        """D, the number of coordinates."""
        return self.means.shape[1]

    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "GaussianMixture":
        """Return the same mixture on another device or in another dtype."""
        return GaussianMixture(
            *(
                x.to(device=device, dtype=dtype)
                for x in (self.weights, self.means, self.covariances)
            )
        )

    def at(self, alpha_bar: float) -> "GaussianMixture":
        """Return the distribution of x_t: the mixture after noise of level ``alpha_bar`` (a number
        in [0, 1]).
        """
        if not isinstance(alpha_bar, (int, float)):
            raise TypeError(
                f"alpha_bar must be a number, got {describe(alpha_bar)}. Of a tensor, take .item()."
            )
        if not 0 <= alpha_bar <= 1:
            raise ValueError(f"alpha_bar must lie in [0, 1], got {alpha_bar}.")
        eye = torch.eye(self.dim, dtype=self.means.dtype, device=self.means.device)
        return GaussianMixture(
            self.weights, math.sqrt(alpha_bar) * self.means,
            alpha_bar * self.covariances + (1 - alpha_bar) * eye,
        )

    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n points (n, D). For points at a noise level, sample from ``self.at(alpha_bar)``.
        """
        check_positive_int("n", n)
        component = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = (
            noise_like(self.means.new_empty(n, self.dim), generator)
            * self._variances.sqrt()[component]
        )
        return self.means[component] + torch.einsum("nij,nj->ni", self._axes[component], z)

    def _levels(self, x: Tensor, alpha_bar: Tensor | float) -> tuple[Tensor, Tensor]:
        """Return (alpha_bar, 1 - alpha_bar), each shaped (N or 1, 1, 1), after checking x and
        alpha_bar.
        """
        check_floating("x", x)
        if x.ndim != 2 or x.shape[1] != self.dim:
            raise ValueError(f"points must have shape (N, {self.dim}), got {describe(x)}.")
        if x.dtype != self.means.dtype or x.device != self.means.device:
            raise ValueError(
                f"points and mixture differ: {describe(x)} and {describe(self.means)}. Use"
                " mixture.to(x.device, x.dtype)."
            )
        if isinstance(alpha_bar, (int, float)):  # as_tensor alone would round it to float32
            alpha_bar = torch.full(
                (), float(alpha_bar), dtype=widest_float(x.device), device=x.device
            )
        check_floating("alpha_bar", alpha_bar)
        if alpha_bar.numel() not in (1, len(x)):
            raise ValueError(
                f"alpha_bar must be a number or have shape ({len(x)},), got {describe(alpha_bar)}."
            )
        if values_are_free(alpha_bar) and not ((alpha_bar >= 0) & (alpha_bar <= 1)).all():
            raise ValueError(
                f"alpha_bar must lie in [0, 1], got values from {alpha_bar.min()} to"
                f" {alpha_bar.max()}."
            )
        alpha_bar = alpha_bar.reshape(-1, 1, 1)
        return alpha_bar.to(x.dtype), (1 - alpha_bar).to(x.dtype)

    def _project(
        self, x: Tensor, alpha_bar: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return, per component and along its axes (N, K, D), x minus the noised mean the noised
        variances, and the levels.
        """
        signal, noise = self._levels(x, alpha_bar)
        offset = x[:, None] - signal.sqrt() * self.means
        z = torch.einsum("nkd,kde->nke", offset, self._axes)
        return z, signal * self._variances + noise, signal, noise

    def _log_components(self, z: Tensor, variances: Tensor) -> Tensor:
        """Return log(weights[k] N_k) (N, K)."""
        return self.weights.log() - 0.5 * (z**2 / variances + (2 * math.pi * variances).log()).sum(
            -1
        )

    def log_prob(self, x: Tensor, alpha_bar: Tensor | float = 1.0) -> Tensor:
        """Return the log-density (N,) of x_t at points x (N, D), in nats; ``alpha_bar`` = 1 is
        clean data.
        """
        z, variances, *_ = self._project(x, alpha_bar)
        return self._log_components(z, variances).logsumexp(1)

    def responsibilities(self, xt: Tensor, alpha_bar: Tensor | float = 1.0) -> Tensor:
        """Return p(component k | x_t) (N, K)."""
        z, variances, *_ = self._project(xt, alpha_bar)
        return self._log_components(z, variances).softmax(1)

    def score(self, xt: Tensor, alpha_bar: Tensor | float = 1.0) -> Tensor:
        """Return grad_x log p(x_t) (N, D): the components' -S^{-1} (x - m), weighted by their
        responsibilities.
        """
        z, variances, *_ = self._project(xt, alpha_bar)
        pull = -torch.einsum("nke,kde->nkd", z / variances, self._axes)
        return (self._log_components(z, variances).softmax(1)[..., None] * pull).sum(1)

    def _component_posteriors(
        self, xt: Tensor, alpha_bar: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return responsibilities (N, K), means (N, K, D) and variances along the axes (N, K, D) of
        p(x_0 | x_t, k).
        """
        z, variances, signal, noise = self._project(xt, alpha_bar)
        gain = signal.sqrt() * self._variances / variances
        means = self.means + torch.einsum("nke,kde->nkd", gain * z, self._axes)
        return (
            self._log_components(z, variances).softmax(1), means,
            noise * self._variances / variances,
        )

    def posterior_mean(self, xt: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """Return E[x_0 | x_t] (N, D): the best denoiser in mean square."""
        weights, means, _ = self._component_posteriors(xt, alpha_bar)
        return (weights[..., None] * means).sum(1)

    def posterior_covariance(self, xt: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """Return Cov[x_0 | x_t] (N, D, D): within components plus between their means (law of total
        covariance).
        """
        weights, means, variances = self._component_posteriors(xt, alpha_bar)
        within = torch.einsum("nk,kde,nke,kfe->ndf", weights, self._axes, variances, self._axes)
        centred = means - (weights[..., None] * means).sum(1, keepdim=True)
        return within + torch.einsum("nk,nkd,nkf->ndf", weights, centred, centred)

    def noise_prediction(self, xt: Tensor, alpha_bar: Tensor | float) -> Tensor:
        """Return E[noise | x_t] (N, D) = -sqrt(1 - abar) score(x_t): what the best noise predictor
        outputs.
        """
        _, noise = self._levels(xt, alpha_bar)
        return -noise.sqrt().reshape(-1, 1) * self.score(xt, alpha_bar)

    def model(
        self, alphas_cumprod: Tensor, prediction_type: str = "epsilon"
    ) -> Callable[..., Tensor]:
        """Return the exact network: ``model(xt, t, cond=None)`` (N, D), the conditional mean of
        this prediction type.

        t: (N,) indices, or fractional times (``alpha_bar_at``).
        """
        check_choice("prediction_type", prediction_type, PREDICTION_TYPES)

        def exact(xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
            if isinstance(t, Tensor) and t.is_floating_point():
                alpha_bar = alpha_bar_at(alphas_cumprod, t)
            else:
                check_timesteps(t, "xt", xt, len(alphas_cumprod))
                alpha_bar = gather(alphas_cumprod, t, 1)
            noise = self.noise_prediction(xt, alpha_bar)
            if prediction_type == "epsilon":  # needs no posterior mean
                return noise
            return from_x0_and_noise(
                self.posterior_mean(xt, alpha_bar), noise, alpha_bar, prediction_type
            )

        return exact

    def conditional_model(
        self, alphas_cumprod: Tensor, classes: Sequence[int], prediction_type: str = "epsilon"
    ) -> Callable[..., Tensor]:
        """Return the exact network for labelled data: ``model(xt, t, cond)`` (N, D), the
        conditional mean given x_t and class.

        classes: the class 0..C-1 of each of the K components, every class at least once. cond: (N,)
        int64 in 0..C, where C, also ``model.null_class``, is "no class": all components. Raises
        ValueError or TypeError for other classes or conditions.
        """
        check_choice("prediction_type", prediction_type, PREDICTION_TYPES)
        labels = [int(c) for c in classes]
        num_classes = len(set(labels))
        if len(labels) != len(self.weights) or set(labels) != set(range(num_classes)):
            raise ValueError(
                f"classes must name a class 0..C-1 for each of the {len(self.weights)} components,"
                f" every class at least once, got {labels}."
            )
        rows = [[c == label for label in labels] for c in range(num_classes)] + [
            [True] * len(labels)
        ]
        shares = self.weights * torch.tensor(rows, device=self.weights.device)
        shares = shares / shares.sum(
            1, keepdim=True
        )  # (C + 1, K): the mixture's weights within each class; the last row is all

        def exact(xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
            check_classes(cond, "xt", xt, num_classes)
            labelled = copy.copy(self)
            labelled.weights = shares[cond]  # (N, K): every point has a mixture of its own
            return labelled.model(alphas_cumprod, prediction_type)(xt, t)

        exact.null_class = num_classes
        return exact

    def best_loss(
        self, t: int, alphas_cumprod: Tensor, *, num_samples: int = 4096,
        generator: torch.Generator | None = None,
    ) -> float:
        """Return the least possible mean squared error of a noise prediction at index t: no network
        goes below it.

        abar / (1 - abar) E[trace Cov(x_0 | x_t)] / D, the expectation over ``num_samples`` draws of
        x_t.
        """
        if not isinstance(t, int):
            raise TypeError(f"t must be an int, one index for all points, got {describe(t)}.")
        if not 0 <= t < len(alphas_cumprod):
            raise ValueError(f"t must lie in 0..{len(alphas_cumprod) - 1}, got {t}.")
        alpha_bar = alphas_cumprod[t].item()
        xt = self.at(alpha_bar).sample(num_samples, generator=generator)
        trace = (
            self.posterior_covariance(xt, alpha_bar).diagonal(dim1=1, dim2=2).sum(1).mean().item()
        )
        return alpha_bar / (1 - alpha_bar) * trace / self.dim
