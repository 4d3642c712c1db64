"""Gaussian mixtures: data whose score, denoiser and density are known exactly at every noise level.

If x_0 is a mixture, so is x_t: component k becomes N(sqrt(abar) m_k, abar S_k + (1 - abar) I). All
here follows from that sentence and Bayes' rule: the oracle of the lessons and the tests.
"""

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..door import checked, floating, number, positive_int, share, table
from ..flow.paths import flow_level
from ..process.kernels import from_x0_and_noise, noise_like, prediction
from ..process.levels import as_alpha_bar
from ..process.schedules import alpha_bar_at
from ..seeds import exactly
from ..validation import check_classes, check_timesteps, values_are_free
from .demands import class_of_each, index_of, no_negative, part, points, mixture_parts, readable

AlphaBar = Tensor | float


class GaussianMixture:
    """The mixture sum_k weights[k] N(means[k], covariances[k]) on R^D.

    weights: (K,) positive, summing to 1; means: (K, D); covariances: (K, D, D) symmetric, no
    negative eigenvalue; one of 0 leaves no density at abar = 1, which then raises. Noise levels are
    given as ``alpha_bar``: a number or a tensor (N,) in [0, 1]; points as (N, D). Raises ValueError
    or TypeError otherwise.
    """

    @checked(weights=floating, means=part, covariances=(*part, mixture_parts))
    def __init__(self, weights: Tensor, means: Tensor, covariances: Tensor) -> None:
        self.weights, self.means, self.covariances = weights, means, covariances
        variances, self._axes = torch.linalg.eigh(covariances)  # (K, D, D): columns are axes
        self._variances = no_negative(variances)  # (K, D)

    def __repr__(self) -> str:
        return f"GaussianMixture({len(self.weights)} components, {self.dim}-D)"

    @property
    def dim(self) -> int:
        """D, the number of coordinates."""
        return self.means.shape[1]

    @checked()
    def to(
        self, device: torch.device | str | None = None, dtype: torch.dtype | None = None
    ) -> "GaussianMixture":
        """Return the same mixture on another device or in another dtype."""
        parts = self.weights, self.means, self.covariances
        return GaussianMixture(*(x.to(device=device, dtype=dtype) for x in parts))

    @checked(alpha_bar=share)
    def at(self, alpha_bar: float) -> "GaussianMixture":
        """Return the distribution of x_t at the noise level ``alpha_bar``, a number in [0, 1]."""
        eye = torch.eye(self.dim, dtype=self.means.dtype, device=self.means.device)
        covariances = alpha_bar * self.covariances + (1 - alpha_bar) * eye
        return GaussianMixture(self.weights, math.sqrt(alpha_bar) * self.means, covariances)

    @checked(n=positive_int)
    def sample(self, n: int, *, generator: torch.Generator | None = None) -> Tensor:
        """Return n points (n, D) of x_0; for points of x_t call ``at(alpha_bar).sample(n)``."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = noise_like(self.means.new_empty(n, self.dim), generator) * self._variances.sqrt()[k]
        return self.means[k] + torch.einsum("nij,nj->ni", self._axes[k], z)

    @exactly
    def _project(self, x: Tensor, alpha_bar: AlphaBar) -> tuple[Tensor, ...]:
        """Return log(weights[k] N_k(x)) (N, K); x minus each component's noised mean, along the
        component's axes, and the noised variances there (N, K, D); abar and 1 - abar (N, 1, 1).
        """
        alpha_bar = as_alpha_bar(alpha_bar, x[:, :1]).reshape(-1, 1, 1)
        signal, noise = alpha_bar.to(x.dtype), (1 - alpha_bar).to(x.dtype)
        z = torch.einsum("nkd,kde->nke", x[:, None] - signal.sqrt() * self.means, self._axes)
        variances = signal * self._variances + noise
        safe = torch.where(variances > 0, variances, 1.0)
        log_density = -0.5 * (z**2 / safe + (2 * math.pi * safe).log()).sum(-1)
        return self.weights.log() + log_density, z, variances, signal, noise

    def _with_density(self, x: Tensor, alpha_bar: AlphaBar) -> tuple[Tensor, ...]:
        """Return ``_project``'s, or raise ValueError where all of a component lies on a plane."""
        _, _, variances, *_ = found = self._project(x, alpha_bar)
        if values_are_free(variances) and (variances == 0).any():
            raise ValueError(
                "there is no density, and no score, at alpha_bar = 1: a covariance has the "
                f"eigenvalue 0 (got alpha_bar {alpha_bar}). Take alpha_bar < 1."
            )
        return found

    @checked(x=points)
    def log_prob(self, x: Tensor, alpha_bar: AlphaBar = 1.0) -> Tensor:
        """Return the log-density (N,) of x_t at x (N, D), in nats; abar = 1 is clean data."""
        log_joint, *_ = self._with_density(x, alpha_bar)
        return log_joint.logsumexp(1)

    @checked(xt=points)
    def responsibilities(self, xt: Tensor, alpha_bar: AlphaBar = 1.0) -> Tensor:
        """Return p(component k | x_t) (N, K)."""
        log_joint, *_ = self._with_density(xt, alpha_bar)
        return log_joint.softmax(1)

    @exactly
    def _score(self, xt: Tensor, alpha_bar: AlphaBar) -> tuple[Tensor, Tensor]:
        log_joint, z, variances, _, noise = self._with_density(xt, alpha_bar)
        pull = -torch.einsum("nke,kde->nkd", z / variances, self._axes)
        return (log_joint.softmax(1)[..., None] * pull).sum(1), noise[:, 0]

    @checked(xt=points)
    def score(self, xt: Tensor, alpha_bar: AlphaBar = 1.0) -> Tensor:
        """Return grad_x log p(x_t) (N, D): -S^{-1} (x - m) of each component, by responsibility."""
        return self._score(xt, alpha_bar)[0]

    @exactly
    def _posteriors(self, xt: Tensor, alpha_bar: AlphaBar) -> tuple[Tensor, Tensor, Tensor]:
        """Return p(k | x_t) (N, K), and the means and variances of p(x_0 | x_t, k), (N, K, D)."""
        log_joint, z, variances, signal, noise = self._project(xt, alpha_bar)
        clean = noise == 0  # there x_0 is x_t, also where a component lies on a plane
        shrink = torch.where(clean, 1.0, self._variances / torch.where(clean, 1.0, variances))
        pull = torch.einsum("nke,kde->nkd", signal.sqrt() * shrink * z, self._axes)
        shares = torch.where(clean[:, 0], self.weights, log_joint.softmax(1))
        means = torch.where(clean, xt[:, None], self.means + pull)
        return shares, means, noise * shrink

    @checked(xt=points)
    def posterior_mean(self, xt: Tensor, alpha_bar: AlphaBar) -> Tensor:
        """Return E[x_0 | x_t] (N, D): the best denoiser in mean square."""
        weights, means, _ = self._posteriors(xt, alpha_bar)
        return (weights[..., None] * means).sum(1)

    @checked(xt=points)
    @exactly
    def posterior_covariance(self, xt: Tensor, alpha_bar: AlphaBar) -> Tensor:
        """Return Cov[x_0 | x_t] (N, D, D): within components plus between their means."""
        weights, means, variances = self._posteriors(xt, alpha_bar)
        within = torch.einsum("nk,kde,nke,kfe->ndf", weights, self._axes, variances, self._axes)
        centred = means - (weights[..., None] * means).sum(1, keepdim=True)
        return within + torch.einsum("nk,nkd,nkf->ndf", weights, centred, centred)

    @checked(xt=points)
    def noise_prediction(self, xt: Tensor, alpha_bar: AlphaBar) -> Tensor:
        """Return E[noise | x_t] (N, D) = -sqrt(1 - abar) score(x_t): the best noise predictor."""
        score, noise = self._score(xt, alpha_bar)
        return -noise.sqrt() * score

    @checked(alphas_cumprod=table, prediction_type=prediction)
    def model(
        self, alphas_cumprod: Tensor, prediction_type: str = "epsilon"
    ) -> Callable[..., Tensor]:
        """Return the exact network ``model(xt, t, cond=None)``: the conditional mean (N, D) of this
        prediction type. t: (N,) indices, or fractional times (``alpha_bar_at``).
        """

        def exact(xt: Tensor, t: Tensor, cond: Tensor | None = None) -> Tensor:
            if isinstance(t, Tensor) and t.is_floating_point():
                alpha_bar = alpha_bar_at(alphas_cumprod, t)
            else:
                check_timesteps(t, "xt", xt, len(alphas_cumprod))
                alpha_bar = alphas_cumprod[t]
            if prediction_type == "sample":  # has a value without noise too
                return self.posterior_mean(xt, alpha_bar)
            noise = self.noise_prediction(xt, alpha_bar)
            if prediction_type == "epsilon":  # needs no posterior mean
                return noise
            x0 = self.posterior_mean(xt, alpha_bar)
            return from_x0_and_noise(x0, noise, alpha_bar, prediction_type)

        return exact

    @checked(alphas_cumprod=table, prediction_type=prediction, classes=class_of_each)
    def conditional_model(
        self, alphas_cumprod: Tensor, classes: Sequence[int], prediction_type: str = "epsilon"
    ) -> Callable[..., Tensor]:
        """Return the exact network of labelled data ``model(xt, t, cond)``: the conditional mean
        (N, D) given x_t and class.

        classes: the class 0..C-1 of each component, every class at least once. cond: (N,) int64 in
        0..C, where C, also ``model.null_class``, is "no class". Raises for other classes or cond.
        """
        labels = [int(c) for c in classes]
        null = max(labels) + 1
        rows = [[c in (label, null) for label in labels] for c in range(null + 1)]
        shares = self.weights * torch.tensor(rows, device=self.weights.device)
        shares = shares / shares.sum(1, keepdim=True)  # (C + 1, K): the weights within each class

        def exact(xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
            check_classes(cond, "xt", xt, null)
            labelled = copy.copy(self)
            labelled.weights = shares[cond]  # (N, K): every point has a mixture of its own
            return labelled.model(alphas_cumprod, prediction_type)(xt, t)

        exact.null_class = null
        return exact

    @checked(alphas_cumprod=(table, readable), t=index_of, num_samples=positive_int)
    def best_loss(
        self, t: int, alphas_cumprod: Tensor, *, num_samples: int = 4096,
        generator: torch.Generator | None = None,
    ) -> float:
        """Return the least mean squared error of a noise prediction at index t, which no network
        goes below: abar / (1 - abar) E[trace Cov(x_0 | x_t)] / D, over ``num_samples`` draws.

        Raises TypeError for a t that is no int, ValueError for one outside the table.
        """
        alpha_bar = alphas_cumprod[t].item()
        return alpha_bar / (1 - alpha_bar) * self._spread(alpha_bar, num_samples, generator)

    def _spread(self, alpha_bar: float, n: int, generator: torch.Generator | None) -> float:
        """Return E[trace Cov(x_0 | x_t)] / D over n draws."""
        xt = self.at(alpha_bar).sample(n, generator=generator)
        trace = self.posterior_covariance(xt, alpha_bar).diagonal(dim1=1, dim2=2).sum(1)
        return trace.mean().item() / self.dim

    @checked(xt=points)
    def velocity(self, xt: Tensor, t: Tensor | float) -> Tensor:
        """Return E[noise - x_0 | x_t] (N, D), where x_t = (1 - t) x_0 + t noise: the flow's."""
        alpha_bar, scale = flow_level(as_alpha_bar(t, xt, "t"))
        x = xt / scale.to(xt.dtype)
        return self.noise_prediction(x, alpha_bar) - self.posterior_mean(x, alpha_bar)

    @checked(t=number(lambda t: 0 < t <= 1, "lie in (0, 1]"), num_samples=positive_int)
    def velocity_loss_floor(
        self, t: float, *, num_samples: int = 4096, generator: torch.Generator | None = None
    ) -> float:
        """Return the least mean squared error of a velocity, E[trace Cov(x_0 | x_t)] / (t^2 D)."""
        return self._spread(flow_level(t)[0], num_samples, generator) / t**2
