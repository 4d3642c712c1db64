# %% [markdown]
# # 06 · Scores, ODEs and fast samplers
#
# After this lesson you can:
#
# - read a noise prediction as the score of the noisy data, and prove it,
# - derive the reverse SDE and the probability-flow ODE from one picture of flowing probability,
# - derive DDIM twice, from a family of posteriors and as Euler's method,
# - raise the order of a sampler, with Heun and with DPM-Solver++(2M), and measure that order,
# - draw a digit with ten calls of the network instead of a thousand, and say what that costs,
# - recognise the published mistakes of sub-sequence samplers by the damage they do.
#
# You need: lessons 01 to 04.
#
# **Measured cost:** 1.2 min on 2 cores, 1.0 GB of memory at the peak.
#
# In formulas $t$ runs from 1 to $T$ as in the papers, and $\bar\alpha_0 = 1$ is clean data. In code `t` is the index $0..T-1$, one less.

# %%
import math

import torch
from torch.testing import assert_close

from diffusion_course import (
    GaussianMixture,
    make_generator,
    make_schedule,
    mixture,
    plotting,
    seed_everything,
    show,
    show_source,
)
from diffusion_course.notebook import COLORS, figure, panels

generator = seed_everything(0)

# %% [markdown]
# ## Recall
#
# 1. From lesson 03: which noise does the best possible network answer at $x_t$?
# 2. From lesson 04: a chain of ten ancestral steps loses a part of the data's variance if it uses $\tilde\beta_t$. What does $\tilde\beta_t$ leave out?
#
# <details><summary>Answers</summary>
#
# 1. The conditional mean $E[\epsilon \mid x_t]$: the average over all pairs of data and noise that could have made this $x_t$.
# 2. That $x_0$ is not known. The right variance is $\tilde\beta_t + c_0^2 \operatorname{Var}(x_0 \mid x_t)$ (04.8). With many small steps the second term vanishes.
#
# </details>

# %% [markdown]
# ## Predict first
#
# The moons of lesson 04 and their exact network, so every error belongs to the loop. `sample_loop` takes `num_inference_steps` of the
# $T = 1000$ levels: with 20 of them each step jumps over 50. Here are eight ancestral walks that begin at one and the same point.

# %%
from diffusion_course import sample_iter

moons, linear = mixture("moons"), make_schedule("linear")
abar = linear.alphas_cumprod
exact = moons.model(abar)
# (8, 2), eight times the same
one_start = torch.tensor([[0.3, -0.8]], dtype=torch.float64).repeat(8, 1)
walks = [one_start] + [
    s.x
    for s in sample_iter(
        exact, (8, 2), linear, sampler="ddpm", num_inference_steps=20,
        x_init=one_start, generator=make_generator(0),
    )
]

# %%
fig, ax = figure(5.5, 2.8)
ax.plot(range(21), torch.stack(walks)[..., 0], color=COLORS[0], linewidth=1)
ax.set(xlabel="step", ylabel="$x_1$", xticks=range(0, 21, 5))
ax.set_title("One start, eight ancestral walks, several ends", loc="left")
show(fig, alt=(
    "The first coordinate of eight walks over 20 steps. "
    "All start at 0.3, part at once, and end at places between -1.2 and 1.9."
))

# %% [markdown]
# The noise of the steps decides where a walk ends. Now take it away. Three loops of 20 steps, from the same 4,000 starting points:
#
# - **A** ancestral sampling, with noise at each step;
# - **B** the same mean, without the noise;
# - **C** the step of this lesson, which draws no random number either.
#
# Of exact samples 1 % lie off the arcs, at densities below a fixed level. Of A's points about 4 %, of B's all. What about C: as "A", as "B", or "between"?

# %%
my_prediction = "between"  # "A", "B" or "between"

# %%
from diffusion_course import SamplerStep, posterior_coefficients, sample_loop


def mean_only(denoise, xt, move):
    estimate = denoise(xt, move.now)
    alpha_bars = [move.now.alpha_bar, move.then.alpha_bar]
    levels = torch.tensor(alpha_bars, dtype=torch.float64)
    coef_x0, coef_xt, _ = posterior_coefficients(*levels)
    return SamplerStep(coef_x0 * estimate.x0 + coef_xt * xt, estimate)


# %%
truth = moons.sample(20_000, generator=make_generator(6))
floor, middle = moons.log_prob(truth).quantile(
    torch.tensor([0.01, 0.5], dtype=torch.float64)
)


def off_the_arcs(x):
    return (moons.log_prob(x) < floor).double().mean().item()


def in_the_core(x):
    return (moons.log_prob(x) > middle).double().mean().item()


starts = torch.randn(4000, 2, dtype=torch.float64, generator=make_generator(1))
twenty = {
    name: sample_loop(
        exact, (4000, 2), linear, sampler=step, num_inference_steps=20,
        x_init=starts, generator=make_generator(2),
    )
    for name, step in (
        ("A: ancestral", "ddpm"), ("B: its mean alone", mean_only),
        ("C: this lesson's", "ddim"),
    )
}
shares = {name: off_the_arcs(x) for name, x in twenty.items()}

# %%
a, b, c = shares.values()
answer = "A" if c < 2 * a else "B" if c > 0.9 * b else "between"
print({name: f"{share:.2f} off the arcs" for name, share in shares.items()})
print(
    f"C does as {answer}" if answer != "between" else "C lies between",
    "(as you said)" if my_prediction == answer else f"(you said {my_prediction})",
)
fig = plotting.scatter_2d(
    {name: x[:1500] for name, x in twenty.items()},
    limit=3.0, title="A without its noise collapses; C needs none",
)
show(fig, alt=(
    "Three scatter plots after 20 steps. A: two arcs with a few strays. "
    "B: one small blot in the centre. C: two arcs with a few strays, like A."
))

# %% [markdown]
# So a loop can do without noise, but not by dropping it. C moves every point along a path that is fixed by its start, and the crowd of
# points still fills the arcs. This lesson derives those paths, then walks them with fewer and fewer calls of the network.

# %% [markdown]
# ## By hand, with one number
#
# Divide the closed form of lesson 02 by $\sqrt{\bar\alpha_t}$. What is left is clean data plus noise of standard deviation $\sigma$:
#
# $$\hat x = \frac{x_t}{\sqrt{\bar\alpha_t}} = x_0 + \sigma\epsilon, \qquad \sigma = \sqrt{\frac{1-\bar\alpha_t}{\bar\alpha_t}} \tag{06.1}$$
#
# If the network names the noise $\hat\epsilon$, then lowering $\sigma$ by a little takes away that much of $\hat\epsilon$. That is a rule for a step:
# $\hat x_{\text{new}} = \hat x + (\sigma_{\text{new}} - \sigma)\,\hat\epsilon$. Try it where all is known: data $x_0 \sim N(0, 1)$, so $\hat x \sim N(0, 1+\sigma^2)$ and
# the best prediction is $\hat\epsilon = E[\epsilon \mid \hat x] = \frac{\sigma}{1+\sigma^2}\,\hat x$. Start at $\sigma = 3$ and $\hat x = 3$, where $\hat\epsilon = 0.9$:
#
# - one step to $\sigma = 0$: $3 - 3 \cdot 0.9 = 0.3$;
# - two steps, $\sigma = 3, 1, 0$: $3 - 2 \cdot 0.9 = 1.2$, there $\hat\epsilon = 0.6$, and $1.2 - 1 \cdot 0.6 = 0.6$.
#
# Where should it end? The start lies $3/\sqrt{10} = 0.949$ standard deviations from the centre of $N(0, 10)$. If every point keeps its place in the
# crowd, the end is 0.949 of the standard deviations of $N(0, 1)$. One step gives 0.3, two steps 0.6. The next cell takes more.

# %%
from diffusion_course import CLEAN, Estimate, Level, iterate_levels, to_x0_and_noise

normal = GaussianMixture(
    torch.ones(1).double(), torch.zeros(1, 1).double(), torch.ones(1, 1, 1).double()
)


def level_at(sigma):
    return Level(None, 1 / (1 + sigma**2)) if sigma > 0 else CLEAN


def denoiser(data):
    def denoise(xt, level):
        noise = data.noise_prediction(xt, level.alpha_bar)
        return Estimate(
            to_x0_and_noise(noise, xt, level.alpha_bar, "epsilon")[0], noise
        )

    return denoise


# %%

for sigmas in (
    [3, 0], [3, 1, 0], torch.linspace(3, 0, 11).tolist(),
    torch.linspace(3, 0, 301).tolist(),
):
    *_, end = iterate_levels(
        denoiser(normal), torch.tensor([[3 / math.sqrt(10)]]).double(),
        [level_at(s) for s in sigmas], sampler="euler",
    )
    print(f"{len(sigmas) - 1:3d} steps end at {end.x.item():.3f}")

# %% [markdown]
# The states of the package are $x_t$, as the network sees them, so the start is $3/\sqrt{10}$, and $\bar\alpha = 1/(1+\sigma^2)$.
# The rule converges to 0.949. The following sections show why it is right for all data, and how to get there in fewer steps.

# %% [markdown]
# ## The score
#
# Write $p_t$ for the density of $x_t$ over all data. Its *score* is the vector $s_t(x) = \nabla_x \log p_t(x)$: it points to where the noisy data is denser. The network of lesson 03 knows it.
#
# **Line 1.** $p_t$ averages the known Gaussians over the data: $p_t(x) = \int p(x_0)\,q(x \mid x_0)\,dx_0$ with $q(x \mid x_0) = N(\sqrt{\bar\alpha_t}\,x_0, (1-\bar\alpha_t) I)$.
#
# **Line 2.** Take the gradient under the integral. A Gaussian's gradient is itself times minus the distance over the variance, and that distance is $\sqrt{1-\bar\alpha_t}\,\epsilon$ for the noise $\epsilon$ that leads from $x_0$ to $x$:
#
# $$\begin{aligned}
# \nabla_x\, q(x \mid x_0) &= -\frac{x - \sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}\; q(x \mid x_0) \\[4pt]
# &= -\frac{\epsilon}{\sqrt{1-\bar\alpha_t}}\; q(x \mid x_0)
# \end{aligned} \tag{06.2}$$
#
# **Line 3.** Divide by $p_t(x)$. By Bayes' rule $p(x_0)\,q(x \mid x_0)/p_t(x)$ is the density of $x_0$ given $x$, so the integral is a conditional mean:
#
# $$s_t(x) = \frac{\nabla_x\, p_t(x)}{p_t(x)} = -\frac{E[\epsilon \mid x_t = x]}{\sqrt{1-\bar\alpha_t}} \tag{06.3}$$
#
# The mean above the line is what the noise loss teaches (03.4). A noise predictor is a score estimator, up to a factor that you know.
#
# **Check.** Left: `autograd` on the log-density of the moons. Right: the noise that goes with the conditional mean of $x_0$, which the mixture computes without any derivative.

# %%
xt = 1.5 * torch.randn(500, 2, dtype=torch.float64, generator=generator)
for level in (0.999, 0.7, 0.1):
    points = xt.clone().requires_grad_()
    (score,) = torch.autograd.grad(moons.log_prob(points, level).sum(), points)
    mean_noise = (
        (xt - level**0.5 * moons.posterior_mean(xt, level)) / (1 - level) ** 0.5
    )
    assert_close(score, -mean_noise / (1 - level) ** 0.5)
    print(f"abar = {level}: autograd and conditional mean agree at 500 points")

# %% [markdown]
# A check is worth something if it can fail. Leave out the square root:

# %%
try:
    assert_close(score, -mean_noise / (1 - level))
except AssertionError as error:
    print(str(error).splitlines()[0])

# %% [markdown]
# ## The forward process without steps
#
# One forward step is $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,z$. Make the steps finer: let time $u$ run from 0 to 1 in $N$ steps of length $du = 1/N$, with $\beta = \beta(u)\,du$ in each.
# For small $du$ the square root is $\sqrt{1-\beta(u)\,du} \approx 1 - \tfrac12\beta(u)\,du$, so one step changes $x$ by
#
# $$dx = -\tfrac12\beta(u)\,x\,du + \sqrt{\beta(u)}\,\sqrt{du}\;z \tag{06.4}$$
#
# This is a *stochastic differential equation* (SDE): a drift $f = -\tfrac12\beta x$ that acts in proportion to $du$, and noise of strength $g = \sqrt\beta$ whose standard deviation is in proportion to $\sqrt{du}$
# (arXiv 2011.13456, eq. 11). One writes $dw$ for $\sqrt{du}\,z$. The products of lesson 02 become exponentials:
#
# $$\bar\alpha(u) = \lim_{N\to\infty}\prod_i \left(1 - \tfrac{\beta(u_i)}{N}\right) = \exp\left(-\int_0^u \beta(v)\,dv\right) \tag{06.5}$$
#
# The linear schedule with $T = 1000$ has $\beta(u) = 0.1 + 19.9u$. How far is it from its limit?

# %%
beta_of = lambda u: 0.1 + 19.9 * u  # noqa: E731
abar_of = lambda u: math.exp(-(0.1 * u + 19.9 * u**2 / 2))  # noqa: E731
for num_steps in (50, 100, 1000, 10_000):
    u = (torch.arange(num_steps, dtype=torch.float64) + 0.5) / num_steps
    betas = beta_of(u) / num_steps
    half = (1 - betas)[: num_steps // 2].prod().item()
    print(
        f"N = {num_steps:6d}: abar half-way {half:.5f}, in the limit {abar_of(0.5):.5f}"
    )
assert abs(half / abar_of(0.5) - 1) < 1e-3

# %% [markdown]
# ## How a density moves
#
# To reverse the process you do not follow points but their density $p$. One coordinate first. Two things change $p$.
#
# **A velocity.** If every point at $x$ moves with velocity $v(x)$, the mass between $a$ and $b$ grows by what flows in at $a$, $v(a)p(a)$, and shrinks by what flows out at $b$, $v(b)p(b)$. Per length that is
#
# $$\frac{\partial p}{\partial u} = -\frac{\partial}{\partial x}(v\,p) \tag{06.6}$$
#
# **Noise.** Add $z$ with mean 0 and variance $g^2 du$ to every point. A point that ends at $x$ was at $x - z$, so the new density is the average of $p(x - z) \approx p - z\,p' + \tfrac12 z^2 p''$.
# The middle term averages to 0, the last one to $\tfrac12 g^2 du\,p''$. Together with the drift $f$ as velocity (the *Fokker-Planck equation*):
#
# $$\frac{\partial p}{\partial u} = -\frac{\partial}{\partial x}(f\,p) + \tfrac12 g^2\,\frac{\partial^2 p}{\partial x^2} \tag{06.7}$$
#
# **The turn of the argument.** Since $p' = p\,(\log p)' = p\,s$, the noise term is $\tfrac12 g^2 (p\,s)'$. Compare it with (06.6): it is what a *velocity* of $-\tfrac12 g^2 s$ does.
# Noise spreads a crowd exactly as if every point walked from dense to thin places. So this velocity, without any noise, moves the density as the SDE does (arXiv 2011.13456, eq. 13, the *probability-flow ODE*):
#
# $$\frac{dx}{du} = f - \tfrac12 g^2 s = -\tfrac12\beta(u)\,\big(x + s_u(x)\big) \tag{06.8}$$
#
# In many coordinates $\partial/\partial x$ becomes the divergence and nothing else changes.
#
# **Check**, with densities only: on a grid, for a mixture of two Gaussians on a line, $\partial p/\partial u$ by finite differences in time against the right side of (06.6) with the velocity (06.8), by finite differences in space.

# %%
line = GaussianMixture(
    torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0], [1.0]]).double(),
    0.05 * torch.ones(2, 1, 1).double(),
)
grid = torch.linspace(-4, 4, 8001, dtype=torch.float64)
density = lambda u: line.log_prob(grid[:, None], abar_of(u)).exp()  # noqa: E731


def flow_mismatch(u, half=0.5, du=1e-5):
    score = line.score(grid[:, None], abar_of(u))[:, 0]
    velocity = -0.5 * beta_of(u) * grid - half * beta_of(u) * score
    in_time = (density(u + du) - density(u - du)) / (2 * du)
    in_space = -torch.gradient(velocity * density(u), spacing=(grid,))[0]
    return ((in_time - in_space).abs().max() / in_time.abs().max()).item()


# %%
for u in (0.05, 0.2, 0.5):
    assert flow_mismatch(u) < 1e-3
    print(
        f"u = {u}: the two sides agree within 0.1 %; without the factor one half they "
        f"differ by {flow_mismatch(u, half=1.0):.0%}"
    )

# %% [markdown]
# ## Backwards
#
# An ODE can be run backwards: start at the end and reverse the velocity. The densities then appear in reverse order. Let $\tau$ count backwards, so $dx/d\tau = -f + \tfrac12 g^2 s$.
#
# You may also *add* noise on the way back, say $\sqrt\lambda\,g$ with any $\lambda \ge 0$. By the turn of the argument it acts on the density like a velocity $-\tfrac12\lambda g^2 s$. Add the opposite velocity, and the densities stay what they were:
#
# $$dx = \Big[-f + \tfrac{1+\lambda}{2}\,g^2 s\Big]\,d\tau + \sqrt\lambda\,g\,dw \tag{06.9}$$
#
# $\lambda = 0$ is the probability-flow ODE. $\lambda = 1$ is the reverse SDE, with drift $-f + g^2 s$ (Anderson 1982; arXiv 2011.13456, eq. 6). All of them start from the same noise, pass through the same densities, and end in the data.
# What differs is how single points travel. B of the prediction dropped the noise of $\lambda = 1$ and kept its drift: its points are pulled together, and nothing spreads them.
#
# **Check.** 400 plain steps of (06.9) on the line, written out here, with two different $\lambda$, and with B's mistake.

# %%
def walk_back(x, lam, noise_too=True, num_steps=400, seed=0):
    random, du = make_generator(seed), 1 / num_steps
    for i in reversed(range(num_steps)):
        u = (i + 0.5) * du
        score = line.score(x, abar_of(u))
        x = x + (0.5 * beta_of(u) * x + 0.5 * (1 + lam) * beta_of(u) * score) * du
        if noise_too:
            x = x + math.sqrt(lam * beta_of(u) * du) * torch.randn(
                x.shape, generator=random, dtype=x.dtype
            )
    return x


# %%
noise = torch.randn(8000, 1, dtype=torch.float64, generator=make_generator(3))
ends = {
    "ODE": walk_back(noise, 0.0),
    "reverse SDE": walk_back(noise, 1.0),
    "its drift alone": walk_back(noise, 1.0, noise_too=False),
}
shown = torch.linspace(-2, 2, 401, dtype=torch.float64)
two = ("ODE", "reverse SDE")
fig = plotting.histogram_against_density(
    {name: ends[name][:, 0] for name in two}, shown,
    {name: line.log_prob(shown[:, None]).exp() for name in two},
    title="With noise or without, the way back ends in the data",
)
show(fig, alt=(
    "Two histograms against the same density with a low peak at -1 and a high one at "
    "1. The end points of the ODE and of the reverse SDE both follow it."
))

# %%
for name, x in ends.items():
    print(
        f"{name:16s} mean {x.mean():.2f}, variance {x.var():.2f}, variance within the "
        f"right peak {x[x > 0].var():.3f}"
    )
assert all(
    abs(ends[name].var() - 0.89) < 0.03
    and abs(ends[name][ends[name] > 0].var() - 0.05) < 0.005
    for name in two
)
assert ends["its drift alone"].var() < 0.01
assert torch.equal(walk_back(noise[:9], 0.0, seed=1), walk_back(noise[:9], 0.0, seed=2))
assert not torch.equal(
    walk_back(noise[:9], 1.0, seed=1), walk_back(noise[:9], 1.0, seed=2)
)
print("another seed: the ODE ends where it did, the SDE elsewhere")

# %% [markdown]
# The data has mean 0.40, variance 0.89, and 0.050 within a peak. Both ways back have it. The drift alone ends in a single point. The ODE draws no random number: the starting noise decides everything.

# %% [markdown]
# ## The ODE in its own coordinates
#
# In (06.8) the schedule appears as $\beta(u)$, but the paths should not depend on how fast you label the noise levels. Go to $\hat x = x/\sqrt{\bar\alpha}$ and let $\sigma$ be the time.
#
# **How $\hat x$ changes.** From (06.5), $\frac{d\bar\alpha}{du} = -\beta\bar\alpha$, so $\frac{d}{du}\bar\alpha^{-1/2} = \tfrac12\beta\,\bar\alpha^{-1/2}$. Product rule, then (06.8), then (06.3):
#
# $$\frac{d\hat x}{du} = \frac{1}{\sqrt{\bar\alpha}}\left(\frac{dx}{du} + \tfrac12\beta x\right) = -\frac{\beta\,s}{2\sqrt{\bar\alpha}} = \frac{\beta\,\hat\epsilon}{2\sqrt{\bar\alpha}\sqrt{1-\bar\alpha}}$$
#
# **How $\sigma$ changes.** $\sigma^2 = 1/\bar\alpha - 1$, so $2\sigma\frac{d\sigma}{du} = \beta/\bar\alpha$, and with $\sigma = \sqrt{1-\bar\alpha}/\sqrt{\bar\alpha}$:
#
# $$\frac{d\sigma}{du} = \frac{\beta}{2\sqrt{\bar\alpha}\sqrt{1-\bar\alpha}}$$
#
# **Divide.** Everything but the noise cancels (arXiv 2010.02502, eq. 14; arXiv 2206.00364, eq. 1 with $\sigma(t) = t$):
#
# $$\frac{d\hat x}{d\sigma} = \hat\epsilon(x_t, t) \tag{06.10}$$
#
# The slope of the path is the predicted noise. This is the rule of the hand computation, now for all data: it *is* the probability-flow ODE. If the prediction did not change along the path, the path would be straight and one step would do.
#
# **Check.** An adaptive solver of scipy, once in $u$ with (06.8), once in $\sigma$ with (06.10): two different right sides, one end.

# %%
from scipy.integrate import solve_ivp


def in_u(u, x):
    x = torch.tensor(x)[:, None]
    return (-0.5 * beta_of(u) * (x + line.score(x, abar_of(u))))[:, 0].numpy()


def in_sigma(sigma, xhat):
    level = 1 / (1 + sigma**2)
    x = level**0.5 * torch.tensor(xhat)[:, None]
    return line.noise_prediction(x, level)[:, 0].numpy()


# %%
u_low, (low, high) = 0.01, (abar_of(0.01), abar_of(1.0))
first = solve_ivp(in_u, (1.0, u_low), noise[:20, 0], rtol=1e-9, atol=1e-9).y[:, -1]
to_sigma = lambda level: math.sqrt((1 - level) / level)  # noqa: E731
second = solve_ivp(
    in_sigma, (to_sigma(high), to_sigma(low)),
    noise[:20, 0] / high**0.5, rtol=1e-9, atol=1e-9,
).y[:, -1]
assert_close(torch.tensor(first), torch.tensor(second * low**0.5), rtol=0, atol=1e-5)
print("20 paths end at the same places, within 1e-5")

# %% [markdown]
# ## DDIM
#
# Euler's method on (06.10) is the rule from above. DDIM was found by another road, without any differential equation, and it is worth walking too: it explains the knob $\eta$.
#
# **A family of posteriors.** Lesson 04 derived $q(x_{t-1} \mid x_t, x_0)$ from the forward chain. But the training loss never looks at the chain: it only uses $q(x_t \mid x_0)$. So choose any reverse step that keeps these marginals. Take two levels,
# $\bar\alpha$ now and $\bar\alpha_{\text{prev}}$ next, any distance apart. You know $x_0$ and $x_t$, so you know $\epsilon = (x_t - \sqrt{\bar\alpha}\,x_0)/\sqrt{1-\bar\alpha}$. Reuse a part of this noise and top it up with fresh noise of standard deviation $s$ (arXiv 2010.02502, eq. 7):
#
# $$x_{\text{prev}} = \sqrt{\bar\alpha_{\text{prev}}}\,x_0 + \sqrt{1-\bar\alpha_{\text{prev}}-s^2}\;\epsilon + s\,z \tag{06.11}$$
#
# **Its marginal.** Given $x_0$, both $\epsilon$ and $z$ are standard normal and independent, so the variance is $(1-\bar\alpha_{\text{prev}}-s^2) + s^2 = 1-\bar\alpha_{\text{prev}}$, for every $s$. That is $q(x_{\text{prev}} \mid x_0)$: all members of the family fit the network that you have.
#
# **The step.** Put in the network's $\hat\epsilon$ and $\hat x_0 = (x_t - \sqrt{1-\bar\alpha}\,\hat\epsilon)/\sqrt{\bar\alpha}$ (eq. 12 there). The paper writes (eq. 16)
#
# $$s = \eta\,\sqrt{\frac{1-\bar\alpha_{\text{prev}}}{1-\bar\alpha}}\,\sqrt{1-\frac{\bar\alpha}{\bar\alpha_{\text{prev}}}} = \eta\sqrt{\tilde\beta} \tag{06.12}$$
#
# $\eta = 1$ is the posterior of lesson 04. $\eta = 0$ is DDIM: no fresh noise at all.
#
# **Check 1.** The mean of (06.11) at $\eta = 1$ against `posterior_coefficients`, for levels far apart:

# %%
x0, eps = torch.randn(2, 1000, dtype=torch.float64, generator=generator)
now, prev = 0.2, 0.6
noisy = now**0.5 * x0 + (1 - now) ** 0.5 * eps
coef_x0, coef_xt, variance = posterior_coefficients(
    *torch.tensor([now, prev], dtype=torch.float64)
)
assert_close(
    prev**0.5 * x0 + (1 - prev - variance).sqrt() * eps, coef_x0 * x0 + coef_xt * noisy
)
print("eta = 1 is the posterior of lesson 04")

# %% [markdown]
# **DDIM is Euler.** Take $s = 0$ and divide by $\sqrt{\bar\alpha_{\text{prev}}}$. Then use $\hat x_0 = \hat x - \sigma\hat\epsilon$, which is (06.1):
#
# $$\hat x_{\text{prev}} = \hat x_0 + \sigma_{\text{prev}}\,\hat\epsilon = \hat x + (\sigma_{\text{prev}} - \sigma)\,\hat\epsilon \tag{06.13}$$
#
# **Check 2.** The package has both, written in different coordinates. And at $\eta = 1$ there are three: DDIM, the ancestral step of lesson 04, and an Euler step that goes too far and adds noise back. Whole chains of 50 steps, same start, same noise:

# %%
def run(sampler, **options):
    return sample_loop(
        exact, (200, 2), linear, sampler=sampler, x_init=starts[:200],
        generator=make_generator(4), **options,
    )


assert_close(run("ddim"), run("euler"), rtol=0, atol=1e-11)
assert_close(run("ddim", eta=1.0), run("ddpm"), rtol=0, atol=1e-11)
assert_close(run("ddim", eta=1.0), run("euler_ancestral"), rtol=0, atol=1e-11)
print(
    "eta = 0: DDIM = Euler. eta = 1: DDIM = DDPM = ancestral Euler. All within 1e-11."
)

# %%
from diffusion_course import ddim_step, euler_step

show_source(ddim_step, euler_step)

# %% [markdown]
# ## Betas of a shorter chain
#
# (06.11) never mentions a $\beta$. If you write a sub-sequence in terms of betas, as lesson 04 does, they belong to the pair of levels: $\beta = 1 - \bar\alpha/\bar\alpha_{\text{prev}}$. Skipping fifty steps, you remove the noise of fifty:

# %%
from diffusion_course import inference_timesteps

times = inference_timesteps(1000, 20)
levels = torch.cat([abar[times], torch.ones(1).double()])
respaced = 1 - levels[:-1] / levels[1:]
for k in (0, 10, 19):
    print(
        f"leaving index {times[k]:3d}: beta {respaced[k]:.3f}, in the training table "
        f"{linear.betas[times[k]]:.4f}"
    )

# %% [markdown]
# ## Heun: look before you walk
#
# How good is Euler's method? Expand the true path around $\sigma$, with a step $h$:
#
# $$\hat x(\sigma + h) = \hat x + h\,\hat x' + \tfrac12 h^2 \hat x'' + O(h^3) \tag{06.14}$$
#
# Euler keeps the first two terms and errs by $O(h^2)$ per step. The number of steps is in proportion to $1/h$, so the end errs by $O(h)$: twice the steps, half the error. The method is *of order 1*.
#
# To catch the next term you need $\hat x''$, the change of the slope. Take the Euler step as a trial, ask for the slope where it lands, $\hat x' + h\hat x'' + O(h^2)$, and walk with the mean of both slopes (arXiv 2206.00364, Algorithm 1):
#
# $$\hat x_{\text{prev}} = \hat x + h\,\frac{\hat\epsilon + \hat\epsilon_{\text{trial}}}{2} = \hat x + h\,\hat x' + \tfrac12 h^2 \hat x'' + O(h^3) \tag{06.15}$$
#
# The error per step is $O(h^3)$, at the end $O(h^2)$: twice the steps, a quarter of the error. The price is two calls of the network in a step. By hand, from $\sigma = 3$ to 1: trial 1.2 with slope 0.6, mean slope 0.75, so $3 - 2 \cdot 0.75 = 1.5$
# (the true path is at $\sqrt{2} \cdot 0.949 = 1.342$). The last step, to $\sigma = 0$, has no noise to look at and stays Euler's: $1.5 - 0.75 = 0.75$, against 0.6 before.

# %%
*_, end = iterate_levels(
    denoiser(normal), torch.tensor([[3 / math.sqrt(10)]]).double(),
    [level_at(s) for s in (3, 1, 0)], sampler="heun",
)
print(f"Heun, two steps: {end.x.item():.3f}")

# %% [markdown]
# ## DPM-Solver++(2M): remember instead
#
# A second call per step is one way to learn how things change. The last step's call is another, and it is free. Which quantity should you extrapolate? Not the slope: use $\hat x_0$, and solve the rest of the equation exactly.
#
# **Line 1.** Write $\hat\epsilon = (\hat x - \hat x_0)/\sigma$ in (06.10) and divide by $\sigma$. The left side is the derivative of a quotient:
#
# $$\frac{d}{d\sigma}\left(\frac{\hat x}{\sigma}\right) = \frac{1}{\sigma}\frac{d\hat x}{d\sigma} - \frac{\hat x}{\sigma^2} = -\frac{\hat x_0}{\sigma^2}$$
#
# **Line 2.** Take $\lambda = -\log\sigma = \log\frac{\sqrt{\bar\alpha}}{\sqrt{1-\bar\alpha}}$ as time, half the logarithm of the signal-to-noise ratio. It grows towards clean data. With $d\sigma = -\sigma\,d\lambda$ and $1/\sigma = e^\lambda$, integrate over the step (arXiv 2211.01095, Proposition 4.1):
#
# $$\frac{\hat x_{\text{prev}}}{\sigma_{\text{prev}}} = \frac{\hat x}{\sigma} + \int_{\lambda}^{\lambda_{\text{prev}}} e^{\ell}\,\hat x_0(\ell)\,d\ell \tag{06.16}$$
#
# Nothing is approximated yet. The only unknown is how $\hat x_0$ changes on the way.
#
# **Line 3, order 1.** Let $\hat x_0$ stay as it is. The integral is $(e^{\lambda_{\text{prev}}} - e^{\lambda})\,\hat x_0$. Multiply by $\sigma_{\text{prev}} = e^{-\lambda_{\text{prev}}}$ and write $h = \lambda_{\text{prev}} - \lambda$:
#
# $$\hat x_{\text{prev}} = \frac{\sigma_{\text{prev}}}{\sigma}\,\hat x + (1 - e^{-h})\,\hat x_0 \tag{06.17}$$
#
# Since $e^{-h} = \sigma_{\text{prev}}/\sigma$ and $\hat x = \hat x_0 + \sigma\hat\epsilon$, this is $\hat x_0 + \sigma_{\text{prev}}\hat\epsilon$: DDIM again.
#
# **Line 4, order 2.** Let $\hat x_0$ change at the rate of the last step, $(\hat x_0 - \hat x_0^{\text{before}})/h_{\text{before}}$, and use its value half-way through the step:
#
# $$D = \hat x_0 + \frac{h}{2}\cdot\frac{\hat x_0 - \hat x_0^{\text{before}}}{h_{\text{before}}} \tag{06.18}$$
#
# Put $D$ in place of $\hat x_0$ in (06.17) (arXiv 2211.01095, Algorithm 2). The midpoint value replaces the integral of a straight line under the weight $e^\ell$ up to $O(h^3)$, so the method is of order 2 with one call per step. The first step has no past, and the last, where $h$ is infinite, stays of order 1.

# %%
from diffusion_course import dpmpp_2m_step

show_source(dpmpp_2m_step)

# %% [markdown]
# ## Measure the order
#
# Follow 200 points of the ring from $\sigma = 20$ to $\sigma = 0.1$, with steps of equal length in $\lambda$. The reference is none of ours: scipy's adaptive solver of order 8, on (06.10) with $\log\sigma$ as time. The error is the root of the mean squared distance at the end.

# %%
ring = mixture("ring")
begin = ring.at(level_at(20.0).alpha_bar).sample(200, generator=make_generator(3))


def follow(sampler, num_steps):
    sigmas = torch.logspace(
        math.log10(20), -1, num_steps + 1, dtype=torch.float64
    ).tolist()
    *_, end = iterate_levels(
        denoiser(ring), begin, [level_at(s) for s in sigmas], sampler=sampler
    )
    return end.x


def in_log_sigma(log_sigma, xhat):
    sigma = math.exp(log_sigma)
    x = torch.tensor(xhat).reshape(-1, 2) / math.sqrt(1 + sigma**2)
    return sigma * ring.noise_prediction(x, 1 / (1 + sigma**2)).flatten().numpy()


# %%
path = solve_ivp(
    in_log_sigma, (math.log(20), math.log(0.1)), begin.flatten() * math.sqrt(401),
    method="DOP853", rtol=1e-9, atol=1e-9,
)
reference = torch.tensor(path.y[:, -1]).reshape(-1, 2) / math.sqrt(1.01)
counts = [8, 16, 32, 64, 128, 256]
errors = {
    name: torch.stack([
        (follow(name, n) - reference).square().sum(1).mean().sqrt() for n in counts
    ])
    for name in ("euler", "heun", "dpmpp_2m")
}

# %%
orders = {}
for name, order in (("euler", 1), ("heun", 2), ("dpmpp_2m", 2)):
    orders[name] = torch.log2(errors[name][-3] / errors[name][-1]).item() / 2
    print(f"{name:9s} order expected {order}, measured {orders[name]:.2f}")
    assert abs(orders[name] - order) < 0.1

# %% [markdown]
# What you pay is not steps but calls of the network, the *number of function evaluations* (NFE). Heun's curve moves to the right by a factor of two:

# %%
calls = torch.tensor(counts)
curves = {
    "Euler = DDIM": (calls, errors["euler"]),
    "Heun": (2 * calls, errors["heun"]),
    "DPM-Solver++(2M)": (calls, errors["dpmpp_2m"]),
}
fig = plotting.lines(
    calls, curves,
    xlabel="calls of the network", ylabel="error at the end", logx=True, logy=True,
    title="Second order: steeper, and the memory is cheaper than a second call",
)
show(fig, alt=(
    "Error against calls of the network, both logarithmic. Euler falls from 0.11 at 8 "
    "calls to 0.003 at 256 with slope -1. Heun from 0.045 at 16 calls with slope -2. "
    "DPM-Solver++(2M) from 0.041 at 8 calls with slope about -2, below Heun throughout."
))

# %% [markdown]
# The order is a statement about small steps. With eight calls the curves are close, and other things count: which levels you visit, how you end, and how wrong the network is.

# %% [markdown]
# ## Which levels to visit
#
# A trained network knows the indices $0..T-1$. Three ways to take $n$ of them are in use (arXiv 2305.08891, Table 2):

# %%
for spacing in ("linspace", "leading", "trailing"):
    times = inference_timesteps(1000, 6, spacing)
    print(
        f"{spacing:9s} {times.tolist()}  signal at the start "
        f"{abar[times[0]].sqrt():.3f}"
    )

# %% [markdown]
# "leading" starts below the end of the training, so the loop's pure noise is told to hold some data. "trailing" starts where the training ended, and its last step jumps from index 166 to clean data.
# That jump returns a mean, $E[x_0 \mid x_t]$, and details finer than the last $\sigma$ are averaged away. The indices need not be whole, either: the last row below takes 15 times that are evenly spaced in $\lambda$.

# %%
import numpy as np

log_sigmas = linear.sigmas.log().numpy()  # (1000,), rising with the index
spacings = {
    spacing: inference_timesteps(1000, 15, spacing)
    for spacing in ("linspace", "leading", "trailing")
}
spacings["even in lambda"] = np.interp(
    np.linspace(log_sigmas[-1], log_sigmas[0], 15), log_sigmas, np.arange(1000.0)
).tolist()
for spacing, times in spacings.items():
    off = {
        sampler: off_the_arcs(sample_loop(
            exact, (4000, 2), linear, sampler=sampler, timesteps=times, x_init=starts
        ))
        for sampler in ("ddim", "dpmpp_2m")
    }
    lengths = -np.diff(np.interp(times, np.arange(1000.0), log_sigmas))
    print(
        f"{spacing:14s} longest step over the one before "
        f"{(lengths[1:] / lengths[:-1]).max():5.1f}, off the arcs:",
        {k: f"{v:.3f}" for k, v in off.items()},
    )

# %% [markdown]
# DDIM does not mind which of the three you take. DPM-Solver++(2M) does: with "linspace" and "leading" the step into index 0 is several times as long in $\lambda$ as the one before, and (06.18) extrapolates far beyond what it knows.
# Evenly in $\lambda$, 15 calls leave fewer strays than trailing indices do with 20. That holds for an exact network; a network that was never shown a time between two indices has to interpolate.

# %% [markdown]
# ## A picture has its own noise
#
# The ODE can be walked in both directions. Upwards it turns data into the one starting noise that leads there (arXiv 2010.02502, section 4.3). Euler upwards, DDIM down, with the same levels: how far from the start do you come back?

# %%
def up(xt, levels):
    xhat = xt / levels[-1].alpha_bar ** 0.5
    sigmas = [to_sigma(level.alpha_bar) for level in levels]
    for k in range(len(levels) - 1, 0, -1):
        slope = denoiser(moons)(xhat * levels[k].alpha_bar ** 0.5, levels[k]).noise
        xhat = xhat + (sigmas[k - 1] - sigmas[k]) * slope
    return xhat * levels[0].alpha_bar ** 0.5


# %%
points = moons.at(level_at(0.05).alpha_bar).sample(300, generator=make_generator(8))
for n in (20, 80, 320):
    path = [
        level_at(s)
        for s in torch.logspace(
            math.log10(100), math.log10(0.05), n + 1, dtype=torch.float64
        ).tolist()
    ]
    found = up(points, path)
    *_, back = iterate_levels(denoiser(moons), found, path, sampler="ddim")
    print(
        f"{n:3d} steps: distance after the way there and back "
        f"{(back.x - points).norm(dim=1).mean():.3f}, std of the noise found "
        f"{found.std():.2f}"
    )

# %% [markdown]
# Data goes to standard normal noise and comes back, better with more steps. That is what makes edits of a given picture possible, and exact likelihoods (lesson 07).

# %% [markdown]
# ## Digits
#
# Now the network that ships with the course, and no exact scores. Draw 200 digits with each of three samplers and 5 to 50 calls, from the same starting noise, and measure the Frechet distance to real digits in the features of the shipped classifier.
# 200 real digits against the 1,597 others give the level to compare with: even real digits are not at 0, because 200 are few.

# %%
from diffusion_course import (
    Progress,
    frechet_distance,
    load_dataset,
    load_pretrained,
    shipped_files,
)

network, classifier = load_pretrained("digits"), load_pretrained("digit_classifier")
schedule = shipped_files()["digits"].noise_schedule()
with torch.no_grad():
    features = classifier.features(load_dataset("digits", size=16).images)  # (1797, 64)
features = features[torch.randperm(len(features), generator=make_generator(8))]
real, rest = frechet_distance(features[:200], features[200:]), features[200:]
pixel_noise = torch.randn(200, 1, 16, 16, generator=make_generator(9))

# %%
budgets = [5, 10, 20, 50]
methods = {"ancestral": "ddpm", "DDIM": "ddim", "DPM-Solver++(2M)": "dpmpp_2m"}
drawn = {}
with Progress(len(methods) * sum(budgets), "drawing digits") as bar:
    for label, sampler in methods.items():
        for n in budgets:
            drawn[label, n] = sample_loop(
                network, tuple(pixel_noise.shape), schedule,
                sampler=sampler, num_inference_steps=n, clip_x0=1.0, x_init=pixel_noise,
                generator=make_generator(10), callback=lambda state: bar.update(),
            )

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    quality = {
        label: torch.tensor([
            frechet_distance(classifier.features(drawn[label, n]), rest)
            for n in budgets
        ])
        for label in methods
    }
for label, values in quality.items():
    print(
        f"{label:17s}",
        ", ".join(
            f"{n} calls: {v:.0f}" for n, v in zip(budgets, values.tolist(), strict=True)
        ),
        f"(real digits: {real:.0f})",
    )
fig = plotting.lines(
    torch.tensor(budgets), {**quality, "real digits": torch.tensor(real)},
    xlabel="calls of the network", ylabel="Frechet distance",
    title="The deterministic samplers are done after ten to twenty calls",
)
show(fig, alt=(
    "Frechet distance against calls of the network, 5 to 50. "
    "Ancestral falls from about 45 to about 8, the dashed level of real digits. "
    "DDIM falls from about 26 to 13, DPM-Solver++(2M) from about 19 to 12, "
    "and both are flat from 10 to 20 calls on."
))

# %%
rows = [drawn[label, n][:8] for label in methods for n in (5, 10, 50)]
fig = plotting.image_strip(
    rows, row_labels=[f"{label}, {n}" for label in methods for n in (5, 10, 50)],
    title="The same noise, three samplers, 5, 10 and 50 calls", scale=0.6,
)
show(fig, alt=(
    "Nine rows of eight digits. Three rows of the ancestral sampler: "
    "other digits in each. DDIM with 5, 10 and 50 calls: "
    "blurred with 5, nearly the same digits, sharper with more. "
    "DPM-Solver++(2M): the same digits as DDIM, sharp from 10 calls on."
))

# %% [markdown]
# DDIM and DPM-Solver++ follow the same path, so the same noise becomes the same digit, sharper with more calls. The ancestral sampler draws another digit each time, because another number of steps draws other noise.
#
# Two readings, with care. The deterministic samplers stop improving after 10 to 20 calls: they follow the path well by then, and what is left is the network's error, which no solver mends.
# The ancestral sampler needs more calls and then catches up or passes them: fresh noise also covers up errors made earlier, an effect that Karras et al. describe (arXiv 2206.00364, section 4). With 200 digits and one network this is an observation, not a law.

# %% [markdown]
# ## The same steps as diffusers
#
# diffusers calls its samplers *schedulers*. Same network, same levels, seven steps, and 7 does not divide 1000. With "leading" spacing DDIM agrees to rounding. DPM-Solver++ keeps its tables in float32 and agrees to that precision:

# %%
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler

steps_of = {
    "ddim": (DDIMScheduler(1000, clip_sample=False), 1e-10),
    "dpmpp_2m": (DPMSolverMultistepScheduler(1000, algorithm_type="dpmsolver++"), 1e-3),
}
steps_of["ddim"][0].alphas_cumprod = abar
steps_of["ddim"][0].final_alpha_cumprod = torch.ones((), dtype=torch.float64)


def their_chain(scheduler, n, x, model):
    scheduler.set_timesteps(n)
    for t in scheduler.timesteps.tolist():
        x = scheduler.step(model(x, torch.full((len(x),), t)), t, x).prev_sample
    return x


# %%
for name, (scheduler, tolerance) in steps_of.items():
    theirs = their_chain(scheduler, 7, starts[:200], exact)
    ours = sample_loop(
        exact, (200, 2), linear,
        sampler=name, timesteps=scheduler.timesteps, x_init=starts[:200],
    )
    assert_close(ours, theirs, rtol=0, atol=tolerance)
    print(
        f"{name:9s} indices {scheduler.timesteps.tolist()}: "
        f"largest difference below {tolerance:g}"
    )

# %% [markdown]
# With the other two spacings it does not agree. `DDIMScheduler.step` computes the level it goes to as `t - T // n`, whatever the list of indices says
# ([huggingface/diffusers#9261](https://github.com/huggingface/diffusers/issues/9261), where the same was mended for DDPM; [#11347](https://github.com/huggingface/diffusers/issues/11347) and [#12633](https://github.com/huggingface/diffusers/issues/12633) for DDIM).
# Below are its pairs for "linspace", and what they do to digits of the shipped network.

# %%
bent = DDIMScheduler(1000, clip_sample=False, timestep_spacing="linspace")
bent.alphas_cumprod = abar
bent.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
bent.set_timesteps(5)
times = bent.timesteps.tolist()
print(
    "index now, level gone to, next index:",
    [(t, t - 1000 // 5, after) for t, after in zip(times, times[1:], strict=False)],
)

# %%
few = pixel_noise[:8]
compared = {}
with torch.no_grad():
    for n in (5, 10):
        compared[f"next of the list, {n}"] = sample_loop(
            network, (8, 1, 16, 16), schedule,
            num_inference_steps=n, spacing="linspace", x_init=few,
        )
        compared[f"t - T // n, {n}"] = their_chain(bent, n, few, network).float()
fig = plotting.image_strip(
    list(compared.values()), row_labels=list(compared),
    title="Five and ten steps: the level that each step goes to",
)
show(fig, alt=(
    "Four rows of the same eight digits. Next of the list, 5 and 10 steps: smooth. "
    "t - T // n with 5 steps: strong grain over figure and background; "
    "with 10 steps: faint grain."
))

# %% [markdown]
# In the first pair of five steps the state goes to the level of index 799, and the network is then told 749: it sees more noise than it was told of, and leaves the rest in. Nothing in the code looks wrong, and no error is raised.

# %% [markdown]
# ## Explore
#
# **Task.** Follow twelve paths of the ring, with trailing indices. For each of the first three samplers find the smallest $n$ whose paths end where those with 100 steps end, and count calls. Then try the ancestral sampler. Why can it have no answer?

# %%
from diffusion_course import Explorer

named = {
    "Euler = DDIM": "euler",
    "Heun": "heun",
    "DPM-Solver++(2M)": "dpmpp_2m",
    "ancestral": "ddpm",
}
ring_starts = torch.randn(300, 2, dtype=torch.float64, generator=make_generator(11))

# %%
def paths(sampler, n):
    chain = sample_iter(
        ring.model(abar), (300, 2), linear, sampler=named[sampler],
        num_inference_steps=n, x_init=ring_starts, generator=make_generator(12),
    )
    # (n + 1, 300, 2)
    states = torch.stack([ring_starts, *(state.x for state in chain)])
    fig, (ax,) = panels(
        [""], f"{sampler}, {n} steps",
        width=3.6, height=3.6, xlabel="$x_1$", ylabel="$x_2$",
    )
    ax.plot(*states[:, :12].unbind(-1), color=COLORS[0], linewidth=0.9)
    ax.scatter(*states[-1].T, s=5, color=COLORS[1], linewidths=0, zorder=3)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
    far = (ring.log_prob(states[-1]) < -4).double().mean().item()
    return fig, (
        f"{sampler} with {n} steps: twelve paths from noise to the ring of eight "
        f"blobs; {far:.0%} of 300 ends lie between the blobs."
    )


Explorer(
    paths, sampler=list(named), n=[2, 3, 5, 8, 12, 20, 50, 100],
    start={"n": 8}, ahead=True,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Euler and DPM-Solver++(2M) need about 20 steps, Heun about 12, which are 23 calls. Memory gains little here: trailing indices are far from even in $\lambda$, and the last step, to clean data, is of order 1 for all three. The ancestral walks depend on the noise that is drawn, and with another number of steps other noise is drawn: there is no path to converge to, only a distribution.
#
# </details>

# %% [markdown]
# ## Where people go wrong
#
# ### The last step ends at $\bar\alpha$ of index 0
#
# The step after the last index goes to clean data, $\bar\alpha_{\text{prev}} = 1$. Many loops take the table's first entry instead; diffusers has a switch for it, `set_alpha_to_one`, which comes as `False` with some published models
# and left noise in their pictures ([huggingface/diffusers#6068](https://github.com/huggingface/diffusers/issues/6068)). With $T = 1000$ hardly anything is left. With a schedule of few steps it shows:

# %%
from diffusion_course import noise_levels

for num_steps in (1000, 50, 10):
    short = make_schedule("cosine", num_steps)
    # T + 1 levels, the last one clean
    to_clean = noise_levels(short, range(num_steps - 1, -1, -1))
    off = []
    for levels in (to_clean, to_clean[:-1]):
        *_, end = iterate_levels(denoiser(moons), starts[:1000], levels, sampler="ddim")
        off.append(off_the_arcs(end.x))
    left = (1 - short.alphas_cumprod[0]).sqrt()
    print(
        f"cosine, T = {num_steps:4d}: noise left {left:.3f}, off the arcs {off[0]:.3f} "
        f"with the last step, {off[1]:.3f} without it"
    )

# %% [markdown]
# ### Betas of the training table
#
# Lesson 04's step with the training table's $\beta_t$, at every fiftieth index. The code runs, and each step removes a small part of the noise it should:

# %%
def training_betas(denoise, xt, move):
    now, estimate = move.now, denoise(xt, move.now)
    beta = linear.betas[now.t[0]].item()
    z = torch.randn(xt.shape, generator=move.generator, dtype=xt.dtype)
    return SamplerStep(
        (xt - beta / (1 - now.alpha_bar) ** 0.5 * estimate.noise) / (1 - beta) ** 0.5
        + (move.then.alpha_bar < 1) * beta**0.5 * z,
        estimate,
    )


unfinished = sample_loop(
    exact, (4000, 2), linear, sampler=training_betas, num_inference_steps=20,
    x_init=starts, generator=make_generator(2),
)

# %% [markdown]
# ### The place in the list instead of the timestep
#
# A loop over $n$ indices has two counters: the place in the list and the index of training. The network was trained with the second. Passing the first happened in a widely used inversion
# ([Stability-AI/stablediffusion#226](https://github.com/Stability-AI/stablediffusion/pull/226), open; the same in [lllyasviel/ControlNet#315](https://github.com/lllyasviel/ControlNet/pull/315), merged). There is no error: both are valid indices.

# %%
def told_the_place(x, t):
    place = (inference_timesteps(1000, 20).flip(0) == t[0]).nonzero().item()  # 0..19
    return exact(x, torch.full_like(t, place))


misled = sample_loop(
    told_the_place, (4000, 2), linear, num_inference_steps=20, x_init=starts
)
pictures = {
    "right": twenty["C: this lesson's"],
    "betas of training": unfinished,
    "place, not timestep": misled,
}
for name, x in pictures.items():
    print(
        f"{name:20s} off the arcs {off_the_arcs(x):.2f}, median distance from the "
        f"centre {x.norm(dim=1).median():.2f}"
    )

# %%
fig = plotting.scatter_2d(
    {name: x[:1500] for name, x in pictures.items()},
    limit=3.5, title="Twenty steps: two mistakes that raise no error",
)
show(fig, alt=(
    "Three scatter plots. Right: two arcs. Betas of training: "
    "a round cloud, hardly different from the starting noise. Place, not timestep: "
    "points flung outwards along two straight lines, most of them outside the frame."
))

# %% [markdown]
# The digits of the shipped network with the same mistake:

# %%
def digits_told_the_place(x, t):
    place = (inference_timesteps(1000, 10).flip(0) == t[0]).nonzero().item()
    return network(x, torch.full_like(t, place))


wrong = sample_loop(
    digits_told_the_place, tuple(few.shape), schedule,
    num_inference_steps=10, clip_x0=1.0, x_init=few,
)
fig = plotting.image_strip(
    [drawn["DDIM", 10][:8], wrong], row_labels=["timestep", "place"],
    title="Ten steps of DDIM: what the network was told",
)
show(fig, alt=(
    "Two rows of eight pictures. Told the timestep: digits. "
    "Told the place in the list: noise without any digit."
))

# %% [markdown]
# ### Heun with $n$ steps against Euler with $n$ steps
#
# Heun calls the network twice per step, and once in the last. A comparison "at 20 steps" gives it 39 calls against 20. Count calls:

# %%
class Counted:
    def __init__(self, model):
        self.model, self.calls = model, 0

    def __call__(self, x, t):
        self.calls += 1
        return self.model(x, t)


for sampler, n in (("heun", 20), ("heun", 10), ("dpmpp_2m", 20), ("euler", 20)):
    counted = Counted(exact)
    x = sample_loop(
        counted, (4000, 2), linear,
        sampler=sampler, num_inference_steps=n, x_init=starts,
    )
    print(
        f"{sampler:9s} {n} steps, {counted.calls} calls: "
        f"off the arcs {off_the_arcs(x):.3f}"
    )

# %% [markdown]
# At equal steps Heun looks best. At about 20 calls it is the worst of the three.

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("06.1")` helps in steps, `solution("06.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("06.1")

# %%
def ddim(xt, noise_pred, alpha_bar, alpha_bar_prev):
    x0_pred = ...
    return alpha_bar_prev**0.5 * x0_pred + ...


check("06.1", ddim)

# %%
exercise("06.2")

# %%
def respaced_betas(alphas_cumprod, timesteps):
    ...


check("06.2", respaced_betas)

# %%
exercise("06.3")

# %%
def heun(noise_at, xhat, sigma, sigma_prev):
    slope = noise_at(xhat, sigma)
    euler = ...
    ...


check("06.3", heun)

# %%
exercise("06.4")

# %%
def ddim_sample(model, xt, alphas_cumprod, n):
    ...


check("06.4", ddim_sample)

# %%
exercise("06.5")

# %%
def multistep(xt, x0_pred, x0_before, alpha_bar_before, alpha_bar, alpha_bar_prev):
    ...


check("06.5", multistep)

# %%
exercise("06.6")

# %%
def ddim_invert(model, xt, alphas_cumprod, timesteps):
    ...


check("06.6", ddim_invert)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | $s_t(x) = -\hat\epsilon/\sqrt{1-\bar\alpha_t}$ | `mixture.score`, `prediction_type="score"` | (06.3) |
# | $dx/du = -\tfrac12\beta(x + s)$ | the path that every deterministic sampler follows | (06.8) |
# | $\hat x = x_t/\sqrt{\bar\alpha_t}$, $\sigma$ | `schedule.sigmas` | (06.1), (06.10) |
# | two levels, now and next | `Level(t, alpha_bar)`, `CLEAN` | (06.11) |
# | DDIM, $\eta$ | `ddim_step(..., eta=0.0)` | (06.11), (06.12) |
# | Euler | `euler_step` | (06.13) |
# | Heun | `heun_step` | (06.15) |
# | DPM-Solver++(2M), $\lambda$, $D$ | `dpmpp_2m_step` | (06.17), (06.18) |
# | the indices visited | `inference_timesteps(T, n, spacing)` | |
# | the loop | `sample_loop`, `sample_iter`, `iterate_levels` | |
#
# What this lesson does not give you: one number that says how good samples are, with its error. The Frechet distance above was used on trust. Lesson 07 takes it apart, and uses the ODE to compute exact likelihoods.
#
# To read next:
#
# - Song et al. 2021, https://arxiv.org/abs/2011.13456: sections 3 and 4, and the appendix that derives the probability-flow ODE.
# - Song, Meng & Ermon 2020, https://arxiv.org/abs/2010.02502: sections 3 and 4, short and worth it.
# - Karras et al. 2022, https://arxiv.org/abs/2206.00364: the coordinates used here, and how to choose the levels.
# - Lu et al. 2022, https://arxiv.org/abs/2211.01095: DPM-Solver++, with the higher orders.
