"""Log-likelihood by the ODE: against exact mixtures, the Jacobian by finite differences, and densities that sum to 1."""

import math

import numpy as np
import pytest
import torch
from helpers import TYPES, assert_near, gap, normal, unchanged

from diffusion_course import (
    GaussianMixture,
    NoiseSchedule,
    UNet,
    linear_betas,
    make_schedule,
    mixture,
    ode_log_likelihood,
    ode_terms,
)
from diffusion_course.models import MLP

F64 = torch.float64
LINEAR = make_schedule("linear")
SCHEDULES = {
    "linear": LINEAR,
    "cosine": make_schedule("cosine"),
    "sigmoid": make_schedule("sigmoid"),
    "zero terminal SNR": make_schedule("linear", zero_terminal_snr=True),
    "T = 100": make_schedule("linear", 100, beta_start=1e-4, beta_end=0.2),
    "T = 5000": make_schedule("cosine", 5000),
}


def random_mixture(k, dim, *, seed=0, centre=0.0, narrowest=0.1):
    """k components with covariances A A^T + narrowest^2 I, whose mean is ``centre`` in every coordinate."""
    weights = 0.2 + normal(k, seed=seed).abs()
    weights = weights / weights.sum()
    means = normal(k, dim, seed=seed + 1)
    means = means - (weights[:, None] * means).sum(0) + centre
    a = 0.3 / math.sqrt(dim) * normal(k, dim, dim, seed=seed + 2)
    return GaussianMixture(weights, means, a @ a.mT + narrowest**2 * torch.eye(dim, dtype=F64))


def points(source, n=8, seed=1):
    return source.sample(n, generator=torch.Generator().manual_seed(seed))


# --- exact models -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "k", "dim"),
    [*((n, k, d) for n in SCHEDULES for k, d in ((2, 1), (4, 2), (3, 5))), ("linear", 3, 16), ("cosine", 3, 16)],
)
def test_against_the_exact_density(name, k, dim):
    source, schedule = random_mixture(k, dim, seed=dim), SCHEDULES[name]
    x0 = points(source)
    found = unchanged(ode_log_likelihood, source.model(schedule.alphas_cumprod), x0, schedule)
    assert gap(found, source.log_prob(x0)) <= 0.02


@pytest.mark.parametrize("name", ["pair", "ring", "grid", "moons"])
def test_the_mixtures_of_the_course(name):
    source = mixture(name).to(dtype=F64)
    x0 = points(source, 32)
    assert gap(ode_log_likelihood(source.model(LINEAR.alphas_cumprod), x0, LINEAR), source.log_prob(x0)) <= 0.02


def test_away_from_the_data_too():
    source = random_mixture(3, 2, narrowest=0.3)
    x0 = 3 * normal(16, 2, seed=5)
    assert gap(ode_log_likelihood(source.model(LINEAR.alphas_cumprod), x0, LINEAR), source.log_prob(x0)) <= 0.02
    assert source.log_prob(x0).min() < -20  # far out indeed


def test_a_wrong_network_is_told_from_the_right_one():
    source = random_mixture(3, 2)
    exact, x0 = source.model(LINEAR.alphas_cumprod), points(source, 200)
    right = ode_log_likelihood(exact, x0, LINEAR)
    wrong = ode_log_likelihood(lambda xt, t: 0.9 * exact(xt, t), x0, LINEAR)
    assert (right - wrong).mean() > 0.1  # a Kullback-Leibler divergence: never negative in the mean


@pytest.mark.parametrize("prediction_type", TYPES)
@pytest.mark.parametrize("name", ["linear", "zero terminal SNR"])
def test_every_prediction_type(prediction_type, name):
    source, schedule = random_mixture(3, 3), SCHEDULES[name]
    x0 = points(source)
    model = source.model(schedule.alphas_cumprod, prediction_type)
    found = ode_terms(model, x0, schedule, prediction_type=prediction_type, num_steps=30)
    expected = ode_terms(source.model(schedule.alphas_cumprod), x0, schedule, num_steps=30)
    for a, b in zip(found, expected, strict=True):
        assert_near(a, b, 1e-8)


def test_a_gaussian_in_closed_form():
    """One Gaussian: along each axis x_T = sqrt(abar) m + sqrt((abar s^2 + 1 - abar) / s^2) (x0 - m)."""
    mean, scale = torch.tensor([0.5, -1.0, 0.0], dtype=F64), torch.tensor([0.3, 1.0, 2.0], dtype=F64)
    source = GaussianMixture(torch.ones(1, dtype=F64), mean[None], torch.diag(scale**2)[None])
    x0 = points(source)
    terms = ode_terms(source.model(LINEAR.alphas_cumprod), x0, LINEAR)
    alpha_bar = LINEAR.alphas_cumprod[-1]
    stretch = (alpha_bar * scale**2 + 1 - alpha_bar).sqrt() / scale
    assert_near(terms.latent, alpha_bar.sqrt() * mean + stretch * (x0 - mean), 1e-5)
    assert_near(terms.divergence, stretch.log().sum().expand(8), 1e-5)
    assert_near(terms.prior, torch.distributions.Normal(0.0, 1.0).log_prob(terms.latent).sum(1), 1e-12)
    assert_near(terms.total, terms.prior + terms.divergence, 1e-12)


def test_the_order_is_four():
    source = random_mixture(4, 2)
    model, x0 = source.model(LINEAR.alphas_cumprod), points(source, 32)
    best = ode_log_likelihood(model, x0, LINEAR, num_steps=200)
    steps = [20, 40, 80]
    errors = [(ode_log_likelihood(model, x0, LINEAR, num_steps=n) - best).abs().mean().item() for n in steps]
    slope = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert 3.5 < slope < 5.5


# --- what is left when the network and the integral are exact --------------------------------------------------------------
def test_the_prior_is_all_that_is_wrong_at_the_noisy_end():
    """scaled_linear stops at sqrt(abar_T) = 0.068: N(0, I) is not the distribution of x_T when the data's mean is not 0."""
    schedule, source = make_schedule("scaled_linear"), random_mixture(3, 2, centre=2.0, narrowest=0.6)
    x0 = points(source, 32)
    terms, alpha_bar = ode_terms(source.model(schedule.alphas_cumprod), x0, schedule), schedule.alphas_cumprod[-1].item()
    true_prior = source.at(alpha_bar).log_prob(terms.latent)
    assert gap(terms.divergence + true_prior, source.log_prob(x0)) < 2e-4
    error = terms.total - source.log_prob(x0)
    assert error.abs().max() > 0.1
    first_order = -math.sqrt(alpha_bar) * 2.0 * terms.latent.sum(1)  # as the docstring says
    assert (error - first_order).abs().max() < 0.25 * error.abs().max()


def test_the_part_below_index_0_is_wrong_by_the_fourth_power():
    """At the mean of a Gaussian of width s: r / (2 (1 + r)) - ln(1 + r) / 2, about -r^2 / 4, with r = (sigma_0 / s)^2."""
    source = GaussianMixture(torch.ones(1, dtype=F64), torch.zeros(1, 1, dtype=F64), torch.full((1, 1, 1), 0.1**2, dtype=F64))
    errors, x0 = [], torch.zeros(1, 1, dtype=F64)
    for beta_start in (1e-4, 2e-4, 4e-4):
        schedule = NoiseSchedule(linear_betas(1000, beta_start))
        terms = ode_terms(source.model(schedule.alphas_cumprod), x0, schedule, num_steps=100)
        true_prior = source.at(schedule.alphas_cumprod[-1].item()).log_prob(terms.latent)
        errors.append((terms.divergence + true_prior - source.log_prob(x0)).item())
        r = (schedule.sigmas[0].item() / 0.1) ** 2
        assert errors[-1] == pytest.approx(r / (2 * (1 + r)) - 0.5 * math.log1p(r), rel=0.05)
    for smaller, larger in zip(errors, errors[1:], strict=False):
        assert larger / smaller == pytest.approx(4, rel=0.15)  # (sqrt(2))^4


# --- any network ------------------------------------------------------------------------------------------------------------
def small_network(dim, seed=0):
    torch.manual_seed(seed)
    model = MLP(dim, 16).double()
    for parameter in model.parameters():  # no zero-initialised layer: the network does something
        torch.nn.init.normal_(parameter, std=0.4)
    return model


def test_any_density_sums_to_one():
    network = small_network(1)
    models = {"v_prediction": lambda xt, t: network(xt, t).tanh(), "epsilon": lambda xt, t: xt + 0.3 * network(xt, t).tanh()}
    grid = torch.linspace(-12, 12, 1201, dtype=F64)[:, None]
    for kind, model in models.items():
        density = ode_log_likelihood(model, grid, LINEAR, prediction_type=kind, num_steps=100).exp()
        assert density.sum().item() * 0.02 == pytest.approx(1, abs=0.01)
        assert density.max() > 0.05


def jacobian(model, x0, schedule, **kwargs):
    """d latent / d x0 of one sample (D, D), by central differences."""
    flat, h = x0.flatten(), 1e-5
    moved = torch.stack([flat + sign * h * unit for unit in torch.eye(len(flat), dtype=F64) for sign in (1, -1)])
    latent = ode_terms(model, moved.view(-1, *x0.shape[1:]), schedule, trace="hutchinson", **kwargs).latent.flatten(1)
    return ((latent[::2] - latent[1::2]) / (2 * h)).T


def test_the_divergence_is_the_logarithm_of_the_jacobians_determinant():
    model, schedule = (
        small_network(3),
        make_schedule("linear", beta_start=1e-6),
    )  # the part below index 0 is no flow: make it small
    settings = {"num_steps": 150, "prediction_type": "v_prediction"}
    for seed in (0,):
        x0 = normal(1, 3, seed=seed)
        found = ode_terms(model, x0, schedule, **settings).divergence.item()
        assert abs(found) > 0.1
        assert found == pytest.approx(torch.linalg.slogdet(jacobian(model, x0, schedule, **settings)).logabsdet.item(), abs=1e-3)


def test_images_and_classes():
    torch.manual_seed(0)
    model = UNet(1, 16, (1, 2), num_classes=3).double().eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1) if parameter.count_nonzero() == 0 else None  # what starts at zero
    x0, cond = 0.5 * normal(1, 1, 4, 4), torch.tensor([1])
    terms = ode_terms(model, x0, LINEAR, num_steps=12, cond=cond, prediction_type="v_prediction")
    assert [tuple(y.shape) for y in terms] == [(1,), (1,), (1,), (1, 1, 4, 4)]
    labels = torch.full((32,), 1)
    by_differences = jacobian(model, x0, LINEAR, num_steps=12, cond=labels, prediction_type="v_prediction")
    assert terms.divergence.item() == pytest.approx(torch.linalg.slogdet(by_differences).logabsdet.item(), abs=5e-3)
    other = ode_log_likelihood(model, x0, LINEAR, num_steps=12, cond=torch.tensor([2]), prediction_type="v_prediction")
    assert gap(other, terms.total) > 1e-6
    assert all(p.grad is None for p in model.parameters())
    with pytest.raises(ValueError, match="cond is missing"):
        ode_log_likelihood(model, x0, LINEAR)


def test_a_conditional_model_gives_the_density_of_its_class():
    source = random_mixture(3, 2)
    model = source.conditional_model(LINEAR.alphas_cumprod, [0, 1, 1])
    x0, cond = points(source, 12), torch.tensor([0, 1, 2] * 4)
    found = ode_log_likelihood(model, x0, LINEAR, cond=cond)
    parts = [slice(0, 1), slice(1, 3), slice(0, 3)]  # class 0, class 1, no class
    for i, label in enumerate(cond.tolist()):
        part = parts[label]
        inside = GaussianMixture(source.weights[part] / source.weights[part].sum(), source.means[part], source.covariances[part])
        at_end = inside.means.T @ inside.weights  # the class's mean is not 0: the prior's error, see above
        allowed = 0.02 + 0.03 * at_end.abs().sum().item()
        assert abs(found[i] - inside.log_prob(x0[i : i + 1])[0]) < allowed


# --- Hutchinson's estimate --------------------------------------------------------------------------------------------------
def test_hutchinson_is_unbiased_and_its_error_falls_with_the_probes():
    source = random_mixture(3, 6)
    model, x0 = source.model(LINEAR.alphas_cumprod), points(source, 1)
    exact = ode_terms(model, x0, LINEAR, num_steps=20)
    many, g = x0.expand(1500, -1), torch.Generator().manual_seed(0)
    one = ode_terms(model, many, LINEAR, num_steps=20, trace="hutchinson", generator=g)
    assert_near(one.latent, exact.latent.expand(1500, -1), 1e-12)
    four = ode_terms(model, many, LINEAR, num_steps=20, trace="hutchinson", num_probes=4, generator=g)
    for terms in (one, four):
        error = terms.total.std() / math.sqrt(1500)
        assert abs(terms.total.mean() - exact.total) < 3.5 * error
        assert error < 0.05
    assert (one.total.std() / four.total.std()).item() == pytest.approx(2, rel=0.1)


def test_hutchinson_repeats_and_is_exact_where_the_jacobian_is_diagonal():
    source = random_mixture(1, 4)
    scaled = GaussianMixture(source.weights, source.means, torch.diag(torch.tensor([0.1, 0.5, 1.0, 2.0], dtype=F64))[None])
    x0 = points(scaled)
    exact = ode_log_likelihood(scaled.model(LINEAR.alphas_cumprod), x0, LINEAR, num_steps=20)
    signs = ode_log_likelihood(scaled.model(LINEAR.alphas_cumprod), x0, LINEAR, num_steps=20, trace="hutchinson")
    assert_near(exact, signs, 1e-10)  # random signs: z_i^2 = 1 always; normal probes would not give this
    model = random_mixture(2, 4).model(LINEAR.alphas_cumprod)
    runs = [
        ode_log_likelihood(model, x0, LINEAR, num_steps=5, trace="hutchinson", generator=torch.Generator().manual_seed(s))
        for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


# --- how the network is called ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", SCHEDULES)
def test_times_and_calls(name):
    schedule, seen = SCHEDULES[name], []

    def model(xt, t):
        assert t.shape == (3,)
        assert t.dtype == F64
        assert (t == t[0]).all()
        seen.append(t[0].item())
        return 0.1 * xt

    ode_log_likelihood(model, normal(3, 2), schedule, num_steps=10)
    assert len(seen) == 41
    assert seen[0] == 0
    assert (
        max(seen) == pytest.approx((schedule.alphas_cumprod > 0).sum().item() - 1, abs=1e-3)
        and max(seen) < schedule.num_train_timesteps
    )
    assert seen[1] == pytest.approx(0, abs=1e-3)
    assert all(a <= b + 1e-9 for a, b in zip(seen[1:], seen[2:], strict=False))


@pytest.mark.parametrize("length", [1, 2, 7])
def test_short_schedules(length):
    schedule = make_schedule("linear", length)
    source = random_mixture(1, 2, narrowest=1.0)
    x0 = points(source)
    terms = ode_terms(source.model(schedule.alphas_cumprod), x0, schedule)
    true_prior = source.at(schedule.alphas_cumprod[-1].item()).log_prob(terms.latent)
    assert gap(terms.divergence + true_prior, source.log_prob(x0)) < 1e-3


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_floats(dtype):
    source = random_mixture(3, 2)
    x0 = points(source).to(dtype)
    expected = ode_log_likelihood(source.model(LINEAR.alphas_cumprod), x0.double(), LINEAR)

    def model(xt, t):
        assert xt.dtype == dtype
        assert t.dtype == torch.float32
        return source.model(LINEAR.alphas_cumprod)(xt.double(), t.double()).to(dtype)

    found = unchanged(ode_log_likelihood, model, x0, LINEAR)
    assert found.dtype == torch.float32
    assert not found.requires_grad
    assert gap(found, expected) < (0.01 if dtype == torch.float32 else 1.0)  # the network's rounding; the state is float64


def test_inside_no_grad_and_with_inputs_that_want_gradients():
    source = random_mixture(2, 2)
    x0 = points(source)
    expected = ode_log_likelihood(source.model(LINEAR.alphas_cumprod), x0, LINEAR, num_steps=5)
    with torch.no_grad():
        assert torch.equal(ode_log_likelihood(source.model(LINEAR.alphas_cumprod), x0, LINEAR, num_steps=5), expected)
        assert not torch.is_grad_enabled()
    leaf = x0.clone().requires_grad_()
    assert torch.equal(ode_log_likelihood(source.model(LINEAR.alphas_cumprod), leaf, LINEAR, num_steps=5), expected)
    assert leaf.grad is None


X0 = torch.ones(3, 2)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda f: ode_log_likelihood(f, X0, LINEAR, trace="full"), ValueError, r"trace must be one of 'exact', 'hutchinson', got 'full'"),
        (lambda f: ode_log_likelihood(f, X0, LINEAR, prediction_type="eps"), ValueError, r"prediction_type must be one of"),
        (lambda f: ode_log_likelihood(f, X0, LINEAR, num_steps=0), ValueError, r"num_steps must be at least 1, got 0"),
        (lambda f: ode_log_likelihood(f, X0, LINEAR, num_steps=2.5), TypeError, r"num_steps must be an int"),
        (lambda f: ode_log_likelihood(f, X0, LINEAR, num_probes=0), ValueError, r"num_probes must be at least 1"),
        (lambda f: ode_log_likelihood(f, X0.long(), LINEAR), TypeError, r"x0 must have a floating dtype"),
        (lambda f: ode_log_likelihood(f, torch.tensor(1.0), LINEAR), ValueError, r"x0 needs a batch axis"),
        (lambda f: ode_log_likelihood(f, X0 * math.nan, LINEAR), ValueError, r"x0 holds 6 values that are not finite"),
        (lambda f: ode_log_likelihood(lambda xt, t: xt[:, :1], X0, LINEAR), ValueError, r"the network must return the shape and device"),
        (lambda f: ode_log_likelihood(torch.no_grad()(f), X0, LINEAR), ValueError, r"no way from its output back to xt: remove no_grad"),
        (lambda f: ode_log_likelihood(lambda xt, t: f(xt.detach(), t), X0, LINEAR), ValueError, r"remove no_grad or detach"),
        (lambda f: ode_log_likelihood(lambda xt, t: X0.clone().requires_grad_(), X0, LINEAR), ValueError, r"no way from its output"),
        (lambda f: ode_log_likelihood(f, X0, LINEAR, steps=3), TypeError, r"there is no option 'steps': there are num_steps"),
    ],
)
def test_refused(call, error, message):
    with pytest.raises(error, match=message):
        call(lambda xt, t: 0.1 * xt)


@pytest.mark.gpu
def test_on_a_gpu():
    source = random_mixture(3, 2)
    x0 = points(source)
    on_gpu = source.to("cuda").model(LINEAR.alphas_cumprod.cuda())
    for trace in ("exact", "hutchinson"):
        found = ode_log_likelihood(on_gpu, x0.cuda(), LINEAR, trace=trace, num_probes=64)
        assert found.is_cuda
        assert gap(found.cpu(), source.log_prob(x0)) < (0.02 if trace == "exact" else 0.3)
