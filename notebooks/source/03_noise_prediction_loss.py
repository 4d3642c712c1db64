# %% [markdown]
# # 03 · The noise-prediction loss
#
# After this lesson you can:
#
# - derive the training loss of DDPM from $\log p(x_0)$, step by step, and say what each step gives up;
# - compute the best possible loss at every $t$ for data whose distribution you know, and compare a trained network with it;
# - turn a prediction of noise into one of $x_0$, $v$ or the score, and say which of them breaks down where;
# - say what a weight on the loss changes and what it cannot change;
# - write one step of training from an empty cell.
#
# You need: lessons 01 and 02, the normal distribution, conditional probability and Bayes' rule.
#
# **Measured cost:** 0.8 min on 2 cores, 1.0 GB of memory at the peak.

# %% [markdown]
# ## Recall
#
# 1. Write $x_t$ in terms of $x_0$ and one draw of noise.
#
# <details><summary>Answer</summary>
# $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ with $\epsilon \sim N(0, I)$: the closed form of lesson 02.
# </details>
#
# 2. What is the signal-to-noise ratio of $x_t$, and where on the chain is it large?
#
# <details><summary>Answer</summary>
# $\mathrm{SNR}_t = \bar\alpha_t / (1-\bar\alpha_t)$. It is largest at the first step and falls to almost nothing at the last.
# </details>

# %%
import torch
from torch.distributions import Normal, kl_divergence
from torch.testing import assert_close

from diffusion_course import (
    GaussianMixture,
    make_schedule,
    mixture,
    plotting,
    q_sample,
    seed_everything,
    show,
    show_source,
)
from diffusion_course.notebook import COLORS, figure, panels

generator = seed_everything(0)

# %% [markdown]
# ## Predict first
#
# The data of this lesson is `mixture("moons")`: two arcs in the plane, made of twelve Gaussians. Because it is a Gaussian mixture,
# everything about $x_t$ is known exactly. Formulas count $t = 1, \dots, T$ as the papers do. In code `t` is the index $0, \dots, T-1$.

# %%
moons = mixture("moons")
levels = make_schedule("linear").alphas_cumprod  # T = 1000, float64
clouds = {
    f"index {i}": moons.at(levels[i].item()).sample(1500, generator=generator)
    for i in (0, 100, 300, 999)
}
show(
    plotting.scatter_2d(
        clouds, title="The moons blur until nothing of them is left", limit=3.5
    ),
    alt="Four clouds of points. Index 0: two thin arcs. Index 100: two thick arcs. "
        "Index 300: one blob. Index 999: a round Gaussian cloud.",
)

# %% [markdown]
# Somebody draws $x_0$ and $\epsilon$, mixes them, and shows you $x_t$ and $t$. You say which $\epsilon$ it was, and your squared error
# is averaged over many rounds. Suppose that you know the distribution of the data perfectly. At which $t$ is your error largest?
#
# - **"small"**: at small $t$, where the noise is faint.
# - **"middle"**: in the middle.
# - **"large"**: at large $t$, where almost nothing of the data is left.
#
# Write your choice into the next cell. The answer comes in the section *Train it*.

# %%
my_prediction = ...  # "small", "middle" or "large"

# %% [markdown]
# ## The smallest case by hand
#
# One pixel. $x_0$ is $+1$ or $-1$, each with probability $\tfrac12$. Take $\bar\alpha_t = \tfrac12$, so that signal and noise both have
# the factor $\sqrt{1/2} = 0.7071$, and suppose that you see $x_t = 0.5$. There are two explanations:
#
# - $x_0 = +1$: then $\epsilon = (0.5 - 0.7071)/0.7071 = -0.2929$;
# - $x_0 = -1$: then $\epsilon = (0.5 + 0.7071)/0.7071 = 1.7071$.
#
# Both values of $x_0$ were equally likely before. What tells them apart is how likely the noise is that each one needs:
# $e^{-0.2929^2/2} = 0.9580$ against $e^{-1.7071^2/2} = 0.2329$. Bayes' rule makes the two sum to 1:
#
# $$p(x_0 = +1 \mid x_t) = \frac{0.9580}{0.9580 + 0.2329} = 0.8044. \tag{03.1}$$
#
# You have to name one number for $\epsilon$. If you name $c$, your expected squared error is
#
# $$0.8044\,(c + 0.2929)^2 + 0.1956\,(c - 1.7071)^2. \tag{03.2}$$
#
# Its derivative is zero at the weighted mean $c = 0.8044 \cdot (-0.2929) + 0.1956 \cdot 1.7071 = 0.098$. There the error is the
# variance of the two values, $0.8044 \cdot 0.1956 \cdot 2^2 = 0.629$. No network can do better at this $x_t$: **the best guess is a
# noise that nobody drew, and its error is not zero.**
#
# The package's mixture gives the same numbers. It gets them from the score, not from two explanations.

# %%
pixel = GaussianMixture(
    torch.tensor([0.5, 0.5], dtype=torch.float64),
    torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
    torch.zeros(2, 1, 1, dtype=torch.float64),
)
seen = torch.tensor([[0.5]], dtype=torch.float64)
guess = torch.linspace(-1, 2, 301, dtype=torch.float64)
error = 0.8044 * (guess + 0.2929) ** 2 + 0.1956 * (guess - 1.7071) ** 2
best = pixel.noise_prediction(seen, 0.5).item()
print(
    f"p(+1) {pixel.responsibilities(seen, 0.5)[0, 1]:.4f}, best guess {best:.4f}, "
    f"least error {error.min():.3f}"
)
assert_close(
    torch.tensor([0.8044 * -0.2929 + 0.1956 * 1.7071]), torch.tensor([best]),
    atol=2e-4, rtol=0,
)

# %%
show(
    plotting.lines(
        guess, {"expected squared error": error, "least possible": error.min()},
        xlabel="guess c", ylabel="error",
        title="The error of the best guess is a variance, not zero",
    ),
    alt="A parabola over the guess c from -1 to 2. "
        "Its lowest point is 0.629 at c = 0.098, marked by a dashed line.",
)

# %% [markdown]
# ## The best prediction is a conditional mean
#
# The same holds for every distribution. Fix $x_t$ and write $m = \mathbb{E}[\epsilon \mid x_t]$. For any guess $c$, add and subtract $m$:
#
# $$\mathbb{E}\big[\lVert \epsilon - c\rVert^2 \mid x_t\big]
# = \mathbb{E}\big[\lVert (\epsilon - m) + (m - c)\rVert^2 \mid x_t\big]. \tag{03.3}$$
#
# Expand the square. The cross term is $2\,(m-c)\cdot\mathbb{E}[\epsilon - m \mid x_t]$, because $m - c$ does not depend on $\epsilon$; and
# $\mathbb{E}[\epsilon - m \mid x_t] = 0$ by the definition of $m$. Two terms are left:
#
# $$\mathbb{E}\big[\lVert \epsilon - c\rVert^2 \mid x_t\big]
# = \underbrace{\mathbb{E}\big[\lVert \epsilon - m\rVert^2 \mid x_t\big]}_{\text{nobody can avoid it}}
# + \underbrace{\lVert m - c\rVert^2}_{\text{your excess}}. \tag{03.4}$$
#
# The minimum is at $c = m$. A network trained with the squared error learns $\epsilon_\theta(x_t, t) \approx \mathbb{E}[\epsilon \mid x_t]$,
# and its loss is a floor plus the squared distance to that mean.
#
# Check it by numeric integration. Take a mixture on a line, average $\epsilon$ over a fine grid with the weights that Bayes' rule gives,
# $p(x_0)\,N(\epsilon; 0, 1)$ at $x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\epsilon)/\sqrt{\bar\alpha_t}$, and compare with the package.

# %%
line = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0], [1.0]], dtype=torch.float64),
    torch.full((2, 1, 1), 0.01, dtype=torch.float64),
)
points = torch.tensor([-1.2, 0.1, 0.9], dtype=torch.float64)
eps = torch.linspace(-8, 8, 40001, dtype=torch.float64)
# x0 for each x_t and eps, (3, 40001)
explained = (points[:, None] - 0.4**0.5 * eps) / 0.6**0.5
log_weight = (
    line.log_prob(explained.reshape(-1, 1)).reshape(explained.shape) - eps**2 / 2
)
assert_close(
    (log_weight.softmax(1) * eps).sum(1, keepdim=True),
    line.noise_prediction(points[:, None], 0.6),
)

# %% [markdown]
# ## From the likelihood to a bound
#
# Where does the squared error come from? Start from what one wants of a generative model: a high probability of the data.
#
# The model runs the chain backwards. It starts with $p(x_T) = N(0, I)$ and takes $T$ steps
# $p_\theta(x_{t-1} \mid x_t) = N(\mu_\theta(x_t, t), \sigma_t^2 I)$. The network with weights $\theta$ sits in the mean
# $\mu_\theta$; the variance $\sigma_t^2$ is fixed. The probability of $x_0$ is an integral over all paths that end there. Write
# $x_{1:T}$ for $x_1, \dots, x_T$:
#
# $$p_\theta(x_0) = \int p(x_T) \prod_{t=1}^T p_\theta(x_{t-1} \mid x_t)\, dx_{1:T}. \tag{03.5}$$
#
# Nobody can compute it. Multiply and divide by the forward process $q(x_{1:T} \mid x_0) = \prod_t q(x_t \mid x_{t-1})$, which we can sample:
#
# $$p_\theta(x_0) = \mathbb{E}_{q(x_{1:T} \mid x_0)}\left[\frac{p(x_T) \prod_t p_\theta(x_{t-1} \mid x_t)}{\prod_t q(x_t \mid x_{t-1})}\right].
# \tag{03.6}$$
#
# Take $-\log$ of both sides. The function $-\log$ is convex, so by Jensen's inequality $-\log$ of a mean is at most the mean of $-\log$.
# (With the numbers 1 and 9: $-\log 5 = -1.61$, and the mean of $-\log 1$ and $-\log 9$ is $-1.10$.) This gives an upper bound $L$:
#
# $$-\log p_\theta(x_0) \le \mathbb{E}_q\left[-\log p(x_T) - \sum_{t=1}^T \log \frac{p_\theta(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})}\right] = L.
# \tag{03.7}$$
#
# This is eq. 3 of Ho et al. 2020 ([2006.11239](https://arxiv.org/abs/2006.11239)); $-L$ is called the evidence lower bound, ELBO.
#
# How much did Jensen cost? Divide the fraction in (03.6) by $p_\theta(x_0)$: what is left above the line is the model's own conditional
# $p_\theta(x_{1:T} \mid x_0)$. So
#
# $$\begin{aligned}
# L + \log p_\theta(x_0) &= \mathbb{E}_q\left[\log \frac{q(x_{1:T} \mid x_0)}{p_\theta(x_{1:T} \mid x_0)}\right] \\
# &= \mathrm{KL}\big(q(x_{1:T} \mid x_0)\,\Vert\,p_\theta(x_{1:T} \mid x_0)\big) \ge 0.
# \end{aligned} \tag{03.8}$$
#
# Here $\mathrm{KL}(q \Vert p) = \mathbb{E}_q[\log q - \log p]$ is the Kullback-Leibler divergence, never negative and zero only for $q = p$.
# The bound is tight when the model's paths, seen backwards, look like the forward process.

# %% [markdown]
# ## From the bound to a sum of divergences
#
# The sum in (03.7) compares $p_\theta(x_{t-1} \mid x_t)$ with $q(x_t \mid x_{t-1})$: one goes backwards, the other forwards. Turn the forward
# one around. The shape of the argument: Bayes' rule for each step, then almost everything cancels.
#
# **Bayes' rule, with $x_0$ held fixed.** The chain has no memory, so $q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x_0)$. For $t \ge 2$,
#
# $$q(x_t \mid x_{t-1}) = \frac{q(x_{t-1} \mid x_t, x_0)\; q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)}. \tag{03.9}$$
#
# Without $x_0$ the right side would need $q(x_{t-1})$, which contains the unknown data distribution. With $x_0$ every factor is Gaussian.
#
# **Take logarithms and sum over $t = 2, \dots, T$.** The last two factors telescope: each $\log q(x_t \mid x_0)$ is added at $t$ and
# subtracted at $t + 1$. Only the ends stay:
#
# $$\begin{aligned}
# &\sum_{t=1}^T \log q(x_t \mid x_{t-1}) \\
# &\quad = \log q(x_1 \mid x_0) + \sum_{t=2}^T \log q(x_{t-1} \mid x_t, x_0) \\
# &\quad\phantom{{}={}} + \log q(x_T \mid x_0) - \log q(x_1 \mid x_0).
# \end{aligned} \tag{03.10}$$
#
# The first and the last term cancel. Put the rest into (03.7) and collect what belongs together:
#
# $$\begin{aligned}
# L = \mathbb{E}_q\Bigg[\log \frac{q(x_T \mid x_0)}{p(x_T)} &+ \sum_{t=2}^T \log \frac{q(x_{t-1} \mid x_t, x_0)}{p_\theta(x_{t-1} \mid x_t)} \\
# &- \log p_\theta(x_0 \mid x_1)\Bigg].
# \end{aligned} \tag{03.11}$$
#
# **Take the expectation over the first argument of each ratio.** In term $t$, draw $x_t$ first and then $x_{t-1}$ from
# $q(x_{t-1} \mid x_t, x_0)$: the inner expectation is a divergence. The result is eq. 5 of Ho et al.:
#
# $$\begin{aligned}
# L = {}&\underbrace{\mathrm{KL}\big(q(x_T \mid x_0)\Vert p(x_T)\big)}_{L_T} \\
# &+ \sum_{t=2}^T \mathbb{E}_q\,\underbrace{\mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)\Vert p_\theta(x_{t-1} \mid x_t)\big)}_{L_{t-1}} \\
# &\underbrace{{}-\mathbb{E}_q \log p_\theta(x_0 \mid x_1)}_{L_0}.
# \end{aligned} \tag{03.12}$$
#
# $L_T$ has no weights in it: it says how far the end of the chain is from pure noise. $L_0$ is the last step to clean data. Each $L_{t-1}$
# compares the model's step with the step of somebody who knows $x_0$.

# %% [markdown]
# Check (03.10). It holds not only on average but on every single path. Walk one chain with four steps, in five dimensions, and add up
# the log-densities both ways. `q_posterior` gives mean and variance of $q(x_{t-1} \mid x_t, x_0)$. You derive its formula in lesson 04;
# here you use it, and the check after this one tests it without its formula.

# %%
from diffusion_course import q_posterior, q_step

betas = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
bars = (1 - betas).cumprod(0)
path = [torch.linspace(-1, 1, 5, dtype=torch.float64)]  # x0
for i in range(4):
    path.append(q_step(path[-1], torch.full((5,), i), betas, generator=generator))
forwards = sum(
    Normal((1 - betas[i]).sqrt() * path[i], betas[i].sqrt()).log_prob(path[i + 1])
    for i in range(4)
)
backwards = Normal(bars[3].sqrt() * path[0], (1 - bars[3]).sqrt()).log_prob(path[4])
for i in (1, 2, 3):
    mean, variance, _ = q_posterior(path[0], path[i + 1], torch.full((5,), i), bars)
    backwards = backwards + Normal(mean, variance.sqrt()).log_prob(path[i])
assert_close(forwards, backwards)

# %% [markdown]
# The posterior by numeric Bayes: on a grid of $x_{t-1}$, multiply the density of $x_{t-1}$ given $x_0$ by the density of $x_t$ given
# $x_{t-1}$, make it sum to 1, and take mean and variance.

# %%
grid = torch.linspace(-8, 8, 20001, dtype=torch.float64)
x0_one = torch.tensor([0.7], dtype=torch.float64)
xt_one = torch.tensor([-0.4], dtype=torch.float64)
before = Normal(bars[1].sqrt() * x0_one, (1 - bars[1]).sqrt()).log_prob(grid)
after = Normal((1 - betas[2]).sqrt() * grid, betas[2].sqrt()).log_prob(xt_one)
weight = (before + after).softmax(0)
mean, variance, _ = q_posterior(x0_one, xt_one, torch.tensor([2]), bars)
assert_close((weight * grid).sum(), mean[0])
assert_close((weight * grid**2).sum() - mean[0] ** 2, variance[0])

# %% [markdown]
# ## From divergences to distances of means
#
# Both arguments of $L_{t-1}$ are Gaussian. For two normal densities on a line, with means $m_1, m_2$ and variances $s_1, s_2$, write out
# the logarithms:
#
# $$\mathrm{KL} = \mathbb{E}_1\left[\tfrac12 \log\tfrac{s_2}{s_1} - \frac{(x-m_1)^2}{2 s_1} + \frac{(x-m_2)^2}{2 s_2}\right]. \tag{03.13}$$
#
# Under the first density $\mathbb{E}_1(x-m_1)^2 = s_1$. And $x - m_2 = (x - m_1) + (m_1 - m_2)$, whose square has the mean
# $s_1 + (m_1-m_2)^2$, because the cross term has mean zero. So
#
# $$\mathrm{KL} = \tfrac12\left(\log\frac{s_2}{s_1} - 1 + \frac{s_1}{s_2}\right) + \frac{(m_1-m_2)^2}{2 s_2}. \tag{03.14}$$
#
# Coordinates are independent, so they add up. The variances are fixed: only the last term depends on the network. Write $\tilde\mu_t$ for
# the mean of $q(x_{t-1} \mid x_t, x_0)$ (Ho et al., eq. 8):
#
# $$L_{t-1} = \frac{1}{2\sigma_t^2}\,\lVert \tilde\mu_t(x_t, x_0) - \mu_\theta(x_t, t)\rVert^2 + \text{constant}. \tag{03.15}$$

# %%
from diffusion_course import gaussian_kl

m1, m2, s1, s2 = torch.randn(4, 1000, generator=generator, dtype=torch.float64)
theirs = kl_divergence(Normal(m1, (s1 / 2).exp()), Normal(m2, (s2 / 2).exp()))
assert_close(gaussian_kl(m1, s1, m2, s2), theirs)  # s1, s2 are log-variances here
show_source(gaussian_kl)

# %% [markdown]
# ## From means to noise
#
# The posterior's mean is a blend of $x_0$ and $x_t$ (Ho et al., eq. 7; lesson 04 derives it). With $\alpha_t = 1-\beta_t$,
#
# $$\tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0
# + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t. \tag{03.16}$$
#
# Replace $x_0$ by $(x_t - \sqrt{1-\bar\alpha_t}\,\epsilon)/\sqrt{\bar\alpha_t}$, the closed form solved for $x_0$, and use
# $\sqrt{\bar\alpha_{t-1}/\bar\alpha_t} = 1/\sqrt{\alpha_t}$.
#
# **The factor of $\epsilon$** is
# $-\dfrac{\beta_t}{1-\bar\alpha_t}\cdot\dfrac{\sqrt{1-\bar\alpha_t}}{\sqrt{\alpha_t}} = -\dfrac{1}{\sqrt{\alpha_t}}\cdot\dfrac{\beta_t}{\sqrt{1-\bar\alpha_t}}$.
#
# **The factor of $x_t$** is a sum of two fractions. Bring both over $\sqrt{\alpha_t}\,(1-\bar\alpha_t)$:
#
# $$\begin{aligned}
# \frac{\beta_t}{\sqrt{\alpha_t}\,(1-\bar\alpha_t)} + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
# &= \frac{\beta_t + \alpha_t - \alpha_t\bar\alpha_{t-1}}{\sqrt{\alpha_t}\,(1-\bar\alpha_t)} \\[4pt]
# &= \frac{1 - \bar\alpha_t}{\sqrt{\alpha_t}\,(1-\bar\alpha_t)} = \frac{1}{\sqrt{\alpha_t}},
# \end{aligned} \tag{03.17}$$
#
# where $\beta_t + \alpha_t = 1$ and $\alpha_t\bar\alpha_{t-1} = \bar\alpha_t$ were used. Together:
#
# $$\tilde\mu_t = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon\right). \tag{03.18}$$
#
# The network is given $x_t$. All that it does not know in (03.18) is $\epsilon$. So let it predict $\epsilon$, and build its mean the same
# way (Ho et al., eq. 11):
#
# $$\mu_\theta = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon_\theta(x_t, t)\right). \tag{03.19}$$
#
# Subtract: $x_t$ cancels. Square, and put it into (03.15) (Ho et al., eq. 12):
#
# $$L_{t-1} = \underbrace{\frac{\beta_t^2}{2\sigma_t^2\,\alpha_t\,(1-\bar\alpha_t)}}_{w_t}\;
# \lVert \epsilon - \epsilon_\theta(x_t, t)\rVert^2 + \text{constant}. \tag{03.20}$$

# %% [markdown]
# Check (03.18) and (03.20) at every $t \ge 2$ of the 1000-step schedule at once. The left side of the second is a divergence between two
# posteriors, with $x_0$ and with the $x_0$ that a wrong noise leads to; the right side is the weight times a squared error.

# %%
from diffusion_course import convert_prediction, loss_weight

full = make_schedule("linear")
index = torch.arange(1, 1000)
alpha = full.alphas[index, None]
beta = full.betas[index, None]
bar = levels[index, None]
x0, noise, noise_pred = torch.randn(3, 999, 2, generator=generator, dtype=torch.float64)
xt = q_sample(x0, index, levels, noise)
true = q_posterior(x0, xt, index, levels)
assert_close((xt - beta / (1 - bar).sqrt() * noise) / alpha.sqrt(), true.mean)

# %%
x0_pred = convert_prediction(
    noise_pred, xt, index, levels, source="epsilon", target="sample"
)
wrong_mean = q_posterior(x0_pred, xt, index, levels).mean
divergence = gaussian_kl(
    true.mean, true.log_variance_clipped, wrong_mean, true.log_variance_clipped
).sum(1)
assert_close(
    divergence,
    loss_weight(index, levels, weighting="elbo") * ((noise - noise_pred) ** 2).sum(1),
)

# %% [markdown]
# Would the check notice a mistake? Flip the sign of the noise in (03.18):

# %%
try:
    assert_close((xt + beta / (1 - bar).sqrt() * noise) / alpha.sqrt(), true.mean)
except AssertionError as failure:
    print(str(failure).splitlines()[0])

# %% [markdown]
# **The last term, $L_0$.** It is no divergence but $-\log$ of a normal density with variance $\sigma_1^2$ around $\mu_\theta(x_1, 1)$:
# $\tfrac12\log(2\pi\sigma_1^2) + (x_0 - \mu_\theta)^2 / (2\sigma_1^2)$ per coordinate. At $t = 1$ the posterior's mean is $x_0$ itself
# ($\bar\alpha_0 = 1$), so (03.18) gives $x_0$ and the difference of means is again (03.19) minus (03.18). The weight has the same formula.
# Only $\sigma_1^2$ has to be chosen as $\beta_1$, because the posterior's variance is 0 there.
# For images with 256 grey levels Ho et al. use a probability of the level instead of a density (eq. 13).

# %% [markdown]
# ## Drop the weight
#
# Ho et al. found that samples get better when the weight is dropped and $t$ is drawn uniformly (their eq. 14):
#
# $$L_{\text{simple}} = \mathbb{E}_{t, x_0, \epsilon}\,\lVert \epsilon - \epsilon_\theta(x_t, t)\rVert^2. \tag{03.21}$$
#
# This is a habit backed by experiments, not a theorem: $L_{\text{simple}}$ is no bound on $-\log p(x_0)$. How much is dropped?

# %%
every = torch.arange(1000)
dropped = {
    f"sigma² = {name}": loss_weight(every, levels, weighting="elbo", variance_type=kind)
    for name, kind in (("beta", "fixed_large"), ("beta-tilde", "fixed_small"))
}
for i in (0, 1, 348, 999):
    print(
        f"t = {i + 1:4d}: " + ", ".join(
            f"{name}: {value[i]:.4f}" for name, value in dropped.items()
        )
    )
show(
    plotting.lines(
        every + 1, {**dropped, "L_simple": 1.0}, xlabel="t", ylabel="weight",
        logx=True, logy=True, title="The bound cares most about the first steps",
    ),
    alt="Weight of the squared noise error in the bound against t, "
        "both axes logarithmic. With sigma squared = beta it falls from 0.50 at t = 1 "
        "to 0.005 near t = 350 and rises to 0.010 at t = 1000. With beta-tilde it is "
        "0.60 at t = 2, then nearly the same curve. L_simple is flat at 1.",
)

# %% [markdown]
# The weight is 0.50 at $t = 1$ and 0.010 at $t = 1000$. Against the bound, $L_{\text{simple}}$ gives large $t$ about fifty times more say.
#
# **What a weight cannot change.** By (03.4) the minimum at each $t$ is the conditional mean, whatever the weight at that $t$. A network
# of unlimited size would end at the same function. A weight decides where a network of limited size and training time spends its effort.
#
# The whole loss is these lines of the package. `prediction_target` is explained two sections below.

# %%
from diffusion_course import diffusion_loss

show_source(diffusion_loss)

# %% [markdown]
# ## The bound, measured
#
# `elbo_terms` draws every term of (03.12) once. Feed it the exact network: `pair.model(levels)` returns $\mathbb{E}[\epsilon \mid x_t]$ of
# the mixture `pair`. Then nothing is left to learn, and $-\log p(x_0)$ of the *data* is known exactly. The mean of $L + \log q(x_0)$ over the
# data is what $T$ Gaussian steps lose. It splits into the gap (03.8) and the divergence of the model's distribution from the data's.
# Predict: what happens to it when $T$ grows?

# %%
from diffusion_course import elbo_terms

pair = mixture("pair")
clean = pair.sample(10_000, generator=generator)
nll = -pair.log_prob(clean)
loss_of_t = {"fixed_large": [], "fixed_small": []}
for num_steps in (4, 10, 30, 100):
    short = make_schedule("cosine", num_steps).alphas_cumprod
    for kind, gaps in loss_of_t.items():
        bound = elbo_terms(
            pair.model(short), clean, short, variance_type=kind, generator=generator
        ).total
        gaps.append((bound - nll).mean().item())
        assert gaps[-1] > 0  # the bound holds

# %%
print(f"exact -log p: {nll.mean():.2f} nats")
print("T:                      4     10     30    100")
for name, kind in (
    ("sigma² = beta      ", "fixed_large"), ("sigma² = beta-tilde", "fixed_small")
):
    print(name, *(f"{gap:6.2f}" for gap in loss_of_t[kind]))
steps = torch.tensor([4, 10, 30, 100])
show(
    plotting.lines(
        steps,
        {
            "sigma² = beta": loss_of_t["fixed_large"],
            "sigma² = beta-tilde": loss_of_t["fixed_small"],
        },
        xlabel="number of steps T", ylabel="bound minus exact, nats", logx=True,
        logy=True, title="With sigma² = beta the gap shrinks about as 1/T",
    ),
    alt="Bound minus exact negative log-likelihood for T = 4, 10, 30, 100. "
        "With sigma squared = beta it falls from about 1.0 to 0.05 nats. "
        "With beta-tilde it stays between 0.8 and 1.4.",
)

# %% [markdown]
# The bound holds every time. With $\sigma_t^2 = \beta_t$ the gap falls roughly as $1/T$. With $\tilde\beta_t$, the variance of
# the posterior, it stays. The reason: $\tilde\beta_t$ is right for somebody who knows $x_0$. The model does not; its uncertainty about $x_0$
# adds to the variance of $x_{t-1}$. At the first few steps $\tilde\beta_t$ is well below $\beta_t$ at any $T$, and the bound pays for it.
# For data on single points $\tilde\beta_t$ would be the better choice. Lesson 04 returns to this choice.
#
# The numbers are averages over random draws, with a standard error of about 0.02 nats.

# %% [markdown]
# ## Four names for one prediction
#
# Write $a = \sqrt{\bar\alpha_t}$ and $b = \sqrt{1-\bar\alpha_t}$, so that $a^2 + b^2 = 1$. You know $x_t$ and $t$. A network that predicts
# *one* combination $y$ of $x_0$ and $\epsilon$ gives a second equation, and two equations determine both unknowns:
#
# $$\begin{gathered}
# \begin{pmatrix} x_t \\ y \end{pmatrix} = M \begin{pmatrix} x_0 \\ \epsilon \end{pmatrix},\qquad
# M_\epsilon = \begin{pmatrix} a & b \\ 0 & 1 \end{pmatrix},\quad
# M_{x_0} = \begin{pmatrix} a & b \\ 1 & 0 \end{pmatrix}, \\[4pt]
# M_v = \begin{pmatrix} a & b \\ -b & a \end{pmatrix},\quad
# M_{\text{score}} = \begin{pmatrix} a & b \\ 0 & -1/b \end{pmatrix}.
# \end{gathered} \tag{03.22}$$
#
# Here $v = a\,\epsilon - b\,x_0$ (Salimans & Ho 2022, [2202.00512](https://arxiv.org/abs/2202.00512), appendix D).
#
# Conditional means obey the same equations. Take $\mathbb{E}[\,\cdot \mid x_t]$ of both rows: $x_t$ stays as it is, because it is given, and
# $y, x_0, \epsilon$ become their means. So a perfect predictor of one is a perfect predictor of all.
#
# **Where each breaks down** is in the determinants: $a$, $-b$, $1$ and $-a/b$. At $a = 0$ (pure noise) $\epsilon$ and the score do not
# determine $x_0$. At $b = 0$ (clean data) $x_0$ does not determine $\epsilon$. For $v$ the determinant is $a^2 + b^2 = 1$ everywhere.
#
# **$M_v$ is a rotation.** With $a = \cos\varphi$ and $b = \sin\varphi$, $(x_t, v)$ is $(x_0, \epsilon)$ seen in axes turned by $\varphi$. As
# $t$ grows, $x_t$ turns from $x_0$ towards $\epsilon$, and $v = dx_t/d\varphi$ is at a right angle to it.

# %%
def rotation_picture(t):
    a, b = levels[t].sqrt().item(), (1 - levels[t]).sqrt().item()
    fig, ax = figure(5.2, 3.6)
    arrows = {"$x_0$": (1, 0), r"$\epsilon$": (0, 1), "$x_t$": (a, b), "$v$": (-b, a)}
    for (name, (x, y)), color in zip(arrows.items(), COLORS, strict=False):
        ax.annotate(
            "", (x, y), (0, 0),
            arrowprops={"arrowstyle": "-|>", "color": color, "linewidth": 2},
        )
        ax.text(
            1.13 * x, 1.13 * y, name, color=color, ha="center", va="center", fontsize=13
        )
    ax.set(
        xlim=(-1.3, 1.35), ylim=(-0.25, 1.3), aspect="equal",
        xlabel="part of $x_0$", ylabel=r"part of $\epsilon$",
    )
    ax.set_title(
        f"Index {t}: turned by {torch.tensor(a).acos().rad2deg().item():.0f} degrees",
        loc="left",
    )
    return fig


# %%
show(rotation_picture(250), alt=(
    "Four unit arrows: x0 to the right, epsilon up, x_t turned from x0 by 44 "
    "degrees towards epsilon, and v at a right angle to x_t, turned by the same "
    "angle from epsilon."
))

# %% [markdown]
# Check: solve the system with a linear solver for every pair of names, and compare with `convert_prediction`, which knows
# no matrices.

# %%
t_some = torch.tensor([0, 10, 400, 999])
a, b = levels[t_some].sqrt(), (1 - levels[t_some]).sqrt()
one, zero = torch.ones_like(a), torch.zeros_like(a)
second_row = {
    "epsilon": (zero, one),
    "sample": (one, zero),
    "v_prediction": (-b, a),
    "score": (zero, -1 / b),
}
x0_four, eps_four = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
xt_four = q_sample(x0_four, t_some, levels, eps_four)

# %%
for source, row in second_row.items():
    y = row[0][:, None] * x0_four + row[1][:, None] * eps_four
    M = torch.stack([torch.stack([a, b], 1), torch.stack(row, 1)], 1)  # (4, 2, 2)
    x0_found, eps_found = torch.linalg.solve(M, torch.stack([xt_four, y], 1)).unbind(1)
    for target, (r0, r1) in second_row.items():
        converted = convert_prediction(
            y, xt_four, t_some, levels, source=source, target=target
        )
        assert_close(
            converted, r0[:, None] * x0_found + r1[:, None] * eps_found, rtol=1e-6,
            atol=1e-9,
        )

# %% [markdown]
# ## The score is the noise, rescaled
#
# The *score* of $x_t$ is the gradient of its log-density, $\nabla \log q(x_t)$: it points to where $x_t$ is more likely. It is the object
# of score-based models (Song et al. 2021, [2011.13456](https://arxiv.org/abs/2011.13456)). It comes out of the noise in three lines.
# The density of $x_t$ is an average over the data,
#
# $$q(x_t) = \int q(x_0)\,N(x_t;\, a x_0,\, b^2 I)\,dx_0. \tag{03.23}$$
#
# Differentiate under the integral. The gradient of a normal density is the density times $-(x_t - a x_0)/b^2$:
#
# $$\nabla q(x_t) = \int q(x_0)\,N(x_t; a x_0, b^2 I)\left(-\frac{x_t - a x_0}{b^2}\right)dx_0. \tag{03.24}$$
#
# Divide by $q(x_t)$. On the left stands $\nabla\log q(x_t)$. On the right $q(x_0)\,N(\dots)/q(x_t)$ is $q(x_0 \mid x_t)$ by
# Bayes' rule, so it is a conditional mean; and $x_t - a x_0 = b\,\epsilon$:
#
# $$\nabla\log q(x_t) = \mathbb{E}\left[-\frac{b\,\epsilon}{b^2}\,\middle|\,x_t\right]
# = -\frac{\mathbb{E}[\epsilon \mid x_t]}{\sqrt{1-\bar\alpha_t}}. \tag{03.25}$$
#
# Check it by automatic differentiation of the mixture's log-density.

# %%
where = (
    2 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
).requires_grad_()
for i in (5, 200, 800):
    (gradient,) = torch.autograd.grad(moons.log_prob(where, levels[i]).sum(), where)
    noise_mean = moons.model(levels)(where.detach(), torch.full((500,), i))
    assert_close(gradient, -noise_mean / (1 - levels[i]).sqrt())

# %%
fields = {
    f"index {i}": lambda x, i=i: -moons.noise_prediction(x, levels[i])
    for i in (100, 300, 700)
}
show(
    plotting.vector_field(
        fields,
        title="Minus the best noise prediction points uphill, to where the data is",
        limit=2.5,
    ),
    alt="Arrows in the plane for index 100, 300 and 700. At index 100 they point "
        "from outside to the region of the arcs and nearly vanish inside it. "
        "At 300 and 700 they point to the centre from all sides.",
)

# %% [markdown]
# ## Weights between the bound and L_simple
#
# An error of one prediction is an error of the others, times a factor. Let the predicted noise be off by $d$. From
# $x_0 = (x_t - b\,\epsilon)/a$ the error of $x_0$ is $-\tfrac{b}{a}d$. From $\epsilon = b\,x_t + a\,v$ the error of $v$ is $d/a$. From (03.25)
# that of the score is $-d/b$. With $\mathrm{SNR} = a^2/b^2$:
#
# | prediction | its squared error, in units of the noise's | a weight $w$ on the noise's error is this weight on its own |
# |---|---|---|
# | $\epsilon$ | $1$ | $w$ |
# | $x_0$ | $b^2/a^2 = 1/\mathrm{SNR}$ | $w \cdot \mathrm{SNR}$ |
# | $v$ | $1/a^2 = (\mathrm{SNR}+1)/\mathrm{SNR}$ | $w \cdot \mathrm{SNR}/(\mathrm{SNR}+1)$ |
# | score | $1/b^2 = \mathrm{SNR} + 1$ | $w/(\mathrm{SNR}+1)$ |
#
# So "mean squared error without a weight" is a different loss for each name. $L_{\text{simple}}$ on $\epsilon$ is $\mathrm{SNR}$ on $x_0$:
# 9,999 at $t = 1$ and 0.00004 at $t = 1000$.
#
# **Min-SNR** (Hang et al. 2023, [2303.09556](https://arxiv.org/abs/2303.09556)) cuts that off at $\gamma = 5$: weight
# $\min(\mathrm{SNR}, \gamma)$ on $x_0$. By the table this is
#
# $$w_\epsilon = \frac{\min(\mathrm{SNR}, \gamma)}{\mathrm{SNR}},\qquad w_v = \frac{\min(\mathrm{SNR}, \gamma)}{\mathrm{SNR}+1}. \tag{03.26}$$
#
# The authors report faster training on images. Nothing derives $\gamma = 5$; it is a setting that worked.
#
# Check the table with the package: the same min-SNR loss from four kinds of target.

# %%
from diffusion_course import prediction_target

ts = torch.tensor([3, 50, 300, 900])
x0, noise, guess_noise = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
xt = q_sample(x0, ts, levels, noise)
losses = []
for kind in ("epsilon", "sample", "v_prediction", "score"):
    own = convert_prediction(guess_noise, xt, ts, levels, source="epsilon", target=kind)
    squared = ((own - prediction_target(x0, noise, ts, levels, kind)) ** 2).mean(1)
    losses.append(
        loss_weight(ts, levels, prediction_type=kind, weighting="min_snr") * squared
    )
for other in losses[1:]:
    assert_close(losses[0], other)

# %% [markdown]
# ## Train it
#
# `train_step` is Algorithm 1 of Ho et al.: draw $t$ and noise, predict, descend. The lines above are all that it calls.

# %%
from diffusion_course import train_step

show_source(train_step)

# %% [markdown]
# A small residual network, batches of 256 fresh points, the 1000-step schedule, about 15 seconds. The training data never runs out, so
# the network cannot memorise it.

# %%
from diffusion_course import MLP, Progress

net = MLP(dim=2, hidden=128, depth=3)
num_steps = 2000
optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
slow_down = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, num_steps)
data = moons.sample(256 * 400, generator=generator).float().reshape(400, 256, 2)
history = []
for step in Progress(range(num_steps), "training"):
    history.append(
        train_step(net, data[step % 400], optimizer, levels, generator=generator)
    )
    slow_down.step()

# %% [markdown]
# The loss comes down within a few hundred steps and then looks stuck. Is the network bad, or is the task?
#
# The exact floor answers. By (03.4) it is the mean variance of $\epsilon$ given $x_t$. From $\epsilon = (x_t - a x_0)/b$ with $x_t$ given,
# this variance is $a^2/b^2$ times that of $x_0$. In the package's `best_loss` it is averaged over the $D = 2$ coordinates:
#
# $$\text{best}_t = \frac{\bar\alpha_t}{1-\bar\alpha_t}\cdot\frac{1}{D}\,\mathbb{E}\,\operatorname{tr}\operatorname{Cov}[x_0 \mid x_t]. \tag{03.27}$$

# %%
at = [0, 3, 10, 20, 50, 100, 150, 200, 300, 400, 500, 700, 999]
floor = [moons.best_loss(i, levels, num_samples=8000, generator=generator) for i in at]
shown = (0, 20, 200, 500, 999)
answer = (
    "small" if floor[0] == max(floor)
    else "large" if floor[-1] == max(floor)
    else "middle"
)
print(
    "best possible loss:",
    ", ".join(
        f"t = {i + 1}: {value:.1f}"
        for i, value in zip(at, floor, strict=True) if i in shown
    ),
)
said = (
    "You wrote no prediction." if my_prediction is ...
    else f"You predicted {my_prediction!r}."
)
print(
    said,
    f"The error is largest at {answer} t: there x_t hardly differs from x_0, "
    "and the data hides the noise.",
)

# %% [markdown]
# At $t = 1$ the noise has standard deviation 0.01. The arcs are smooth at that scale, so a point says almost nothing about where it was
# before: the best guess is close to 0, and its error close to 1, the variance of the noise. At $t = 1000$ the point *is* the noise, and
# the error is close to 0. The loss is large where the task carries no information. That is no failure.
#
# Now the network against the floor. (03.4) says that its loss is the floor plus its squared distance to the conditional mean, so the
# excess can be measured directly, without the noise of a loss.

# %% tags=["nbval-ignore-output"]
excess = []
for i in at:
    xt = moons.at(levels[i].item()).sample(8000, generator=generator)
    with torch.no_grad():
        predicted = net(xt.float(), torch.full((8000,), i)).double()
    excess.append(
        ((predicted - moons.noise_prediction(xt, levels[i])) ** 2).mean().item()
    )
excess = torch.tensor(excess)
print(
    "excess:",
    ", ".join(
        f"t = {i + 1}: {value:.4f}"
        for i, value in zip(at, excess, strict=True) if i in shown
    ),
)
print(f"averaged over all t: {torch.trapezoid(excess, torch.tensor(at)) / 999:.4f}")

# %% tags=["nbval-ignore-output"]
network_loss = torch.tensor(floor) + excess
show(
    plotting.lines(
        torch.tensor(at) + 1.0,
        {"network": network_loss, "best possible": floor, "excess": excess},
        xlabel="t", ylabel="squared error of the noise", logx=True,
        title="The network is close to the exact floor at every t",
    ),
    alt="Loss against t, logarithmic t axis. Network and floor nearly coincide: "
        "about 1 at t = 1, 0.65 near t = 50 to 100, below 0.1 from t = 500 on. "
        "The excess is at most about 0.1, all of it below t = 200.",
)

# %% [markdown]
# The excess sits at small $t$: up to a tenth, above a floor between 0.6 and 1. From $t = 200$ on it is below 0.01. Averaged over all $t$ it
# is a few per cent of the loss. The rest of the loss is the floor. Small $t$ is also what a uniform draw of $t$ visits least: only one step
# in twenty trains the first 50 indices, where the best answer changes fastest from one point to the next.

# %% tags=["nbval-ignore-output"]
mean_floor = torch.tensor([
    moons.best_loss(i, levels, num_samples=1000, generator=generator)
    for i in range(5, 1000, 10)
]).mean()
show(
    plotting.loss_curve(
        history, reference=mean_floor.item(), window=100,
        title="The loss flattens because the floor is there, not at zero",
    ),
    alt=f"Training loss over {num_steps} steps. It falls to about 0.25 within a few "
        f"hundred steps and then creeps towards the dashed floor at {mean_floor:.2f}.",
)
print(
    f"mean of the last 500 losses {sum(history[-500:]) / 500:.3f}, floor averaged over "
    f"t {mean_floor:.3f}"
)

# %% [markdown]
# Check (03.4) on the trained network: its loss, measured with drawn noise, must exceed the floor by the excess. Both sides
# are averages over random draws, so the tolerance is 0.03. One index, 100,000 points.

# %%
i, count = 100, 100_000
t_all = torch.full((count,), i)
with torch.no_grad():
    drawn = diffusion_loss(
        net, moons.sample(count, generator=generator).float(), levels,
        t=t_all, generator=generator,
    )
expected = floor[at.index(i)] + excess[at.index(i)]
assert_close(drawn.double(), expected.double(), atol=0.03, rtol=0)

# %% [markdown]
# The floor is a limit of the task, not a target that a network of this size has to reach. On images nobody knows the floor: a loss of
# 0.02 there cannot be judged by itself, only against another run on the same data and schedule.

# %% [markdown]
# ## Look
#
# Move $t$ and the first coordinate of $x_t$; the second is 0. The picture shows the posterior $q(x_0 \mid x_t)$, where the clean point may
# have been, and its mean, the best $x_0$.
#
# **Task.** Put `position` at 0.4, beside an arc. At small $t$ the best $x_0$ lies on that arc. Move $t$ up and find where it leaves the arcs
# for the empty space between them. How large is the spread there, and on which arcs does the posterior lie?

# %%
axis = torch.linspace(-2.4, 2.4, 80, dtype=torch.float64)
# rows of constant second coordinate
plane = torch.cartesian_prod(axis, axis)[:, [1, 0]]
log_data = moons.log_prob(plane)


def chances(xt, level):
    return (
        log_data - ((xt - level**0.5 * plane) ** 2).sum(1) / (2 * (1 - level))
    ).softmax(0).reshape(80, 80)


# %%
def posterior_picture(t, position):
    xt, level = torch.tensor([[position, 0.0]], dtype=torch.float64), levels[t].item()
    best = moons.posterior_mean(xt, level)[0].tolist()
    spread = moons.posterior_covariance(xt, level)[0].trace().sqrt().item()
    fig, (ax,) = panels(
        [""], f"Index {t}: where x0 may have been",
        width=3.3, height=3.3, xlabel="$x_1$", ylabel="$x_2$", right=1.2,
    )
    ax.imshow(chances(xt, level), origin="lower", extent=(-2.4, 2.4) * 2)
    ax.grid(False)
    ax.text(
        1.04, 0.6, f"+  $x_t$\n\u25cf  best $x_0$\n\nspread {spread:.2f}",
        transform=ax.transAxes,
    )
    ax.plot(position, 0, "+", color="white", markersize=12)
    ax.plot(*best, "o", color=COLORS[1])
    return fig, (
        f"Posterior of x0 for x_t = ({position:.1f}, 0.0) at index {t}. The best x0 is "
        f"({best[0]:.2f}, {best[1]:.2f}), the spread around it {spread:.2f}."
    )


# %%
from diffusion_course import Explorer

# close where much changes
indices = [0, 20, 40, 60, 80, 100, 130, 160, 200, 250, 320, 450, 700, 990]
positions = [-1.6, -1.2, -0.8, -0.4, 0.0, 0.4, 0.8, 1.2, 1.6]
Explorer(
    posterior_picture,
    t=indices, position=positions, start={"t": 200, "position": 0.4}, ahead=True,
)

# %% [markdown]
# The conditional mean is not a likely point. At large $t$ it is the mean of the whole data. This is why one step from noise to "the best
# $x_0$" gives a blur, and why sampling takes many steps: lesson 04.
#
# ## Where people go wrong
#
# ### L1 or Huber in place of the square
#
# The code of [The Annotated Diffusion Model](https://huggingface.co/blog/annotated-diffusion) offers `l1`, `l2` and `huber` in one function
# and trains with `huber`. The derivation above gives the square, and only the square has the conditional *mean* as its minimum. The
# absolute error has the *median*. (03.25) needs the mean: a median is no score.
#
# Measure the damage on `line`: 30 % of the data near $-1$, 70 % near $+1$. The posterior of $x_0$ is a mixture too, so its median can be
# found by bisection. That is what a perfect network would learn from the L1 loss.

# %%
process = make_schedule("cosine", 100)
table = process.alphas_cumprod


def l1_best_noise(xt, t, cond=None):
    kept = table[t][:, None]  # (N, 1)
    spread = 0.01 * kept + 1 - kept
    surprise = xt - kept.sqrt() * line.means.T  # (N, 2)
    centre = line.means.T + kept.sqrt() * 0.01 / spread * surprise  # of x0 given x_t
    std = ((1 - kept) * 0.01 / spread).sqrt()
    share = line.responsibilities(xt, table[t])
    low, high = torch.full_like(xt, -3), torch.full_like(xt, 3)
    for _ in range(30):
        middle = (low + high) / 2
        cumulative = share * torch.special.ndtr((middle - centre) / std)
        below = cumulative.sum(1, keepdim=True) < 0.5
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return (xt - kept.sqrt() * middle) / (1 - kept).sqrt()


# %% [markdown]
# Sample with both. `p_sample_loop` is the subject of lesson 04; here it is a machine that turns noise into data with a given network.

# %% tags=["nbval-ignore-output"]
from diffusion_course import p_sample_loop

for name, model in (
    ("mean, squared error", line.model(table)),
    ("median, absolute error", l1_best_noise),
):
    drawn = p_sample_loop(
        model, (8000, 1), process.betas, process.alphas, table,
        generator=generator, dtype=torch.float64,
    )
    print(
        f"{name}: {100 * (drawn > 0).double().mean():.0f} % of the samples near +1 "
        "(70 % of the data)"
    )

# %% [markdown]
# The perfect L1 network turns 70 % into 78 or 79 %: the rare kind of data becomes rarer. The samples themselves look fine, so nobody
# notices by looking. Huber lies between the two. A reason to use it can be robustness, and then this is its price.
#
# ### Min-SNR for v
#
# A training script had $\min(\mathrm{SNR} + 1, \gamma)/(\mathrm{SNR} + 1)$
# ([huggingface/diffusers#5238](https://github.com/huggingface/diffusers/pull/5238)); it was reported
# ([#5654](https://github.com/huggingface/diffusers/issues/5654)) and corrected ([#6307](https://github.com/huggingface/diffusers/pull/6307)).
# Read the table backwards: divide by $\mathrm{SNR}/(\mathrm{SNR}+1)$ to get the weight on the noise's error.
#
# ### "Why is the target not scaled by the noise level?"
#
# A question that comes up ([Stability-AI/stablediffusion#405](https://github.com/Stability-AI/stablediffusion/issues/405)): $x_t$ contains
# $b\,\epsilon$, so should the target not be $b\,\epsilon$? It could be. $b$ is known, so the best prediction is $b\,\mathbb{E}[\epsilon \mid x_t]$
# and nothing is lost. But its squared error is $b^2$ times that of $\epsilon$: without saying so you have chosen the weight
# $1 - \bar\alpha_t$. At $t = 1$ that is 0.0001. The target's size would also run from 0.01 to 1, where $\epsilon$ has size 1 at every $t$.

# %%
from diffusion_course import snr

ratio = snr(levels)
on_noise = {
    "L_simple": torch.ones(1000),
    "min-SNR": loss_weight(every, levels, weighting="min_snr"),
    "v, slip": (ratio + 1).clamp(max=5) / (ratio + 1) * (ratio + 1) / ratio,
    "scaled target": 1 - levels}
print(
    "at t = 1000 the slip weighs the noise's error "
    f"{on_noise['v, slip'][-1] / on_noise['min-SNR'][-1]:.0f} times too much"
)
show(
    plotting.lines(
        every + 1, on_noise, xlabel="t", ylabel="weight on the noise's error",
        logx=True, logy=True, title="Four weights, all called mean squared error",
    ),
    alt="Weights on the squared noise error against t, logarithmic axes. L_simple is "
        "1. Min-SNR rises from 0.0005 to 1 at t = 131. The v slip follows it and then "
        "keeps rising to 25,000 at t = 1000. The scaled target rises from 0.0001 to 1.",
)

# %% [markdown]
# One more place to fall: dividing by $\mathrm{SNR}$ where it is 0. At the end of a zero-terminal schedule
# $\min(\mathrm{SNR}, \gamma)/\mathrm{SNR}$ is $0/0$. The package writes $\min(1, \gamma/\mathrm{SNR})$, which is 1 there.

# %%
ended = make_schedule("linear", zero_terminal_snr=True).alphas_cumprod
careless = snr(ended).clamp(max=5.0) / snr(ended)
print(
    f"0/0: {careless[-1]:.0f}, package: "
    f"{loss_weight(torch.tensor([999]), ended, weighting='min_snr').item():.0f}"
)

# %% [markdown]
# ### v, and what it is not
#
# A network does not say what it predicts. Somebody trained Stable Diffusion 2.1, a $v$ network, with a script that assumed $\epsilon$ and got
# noise ([huggingface/peft#421](https://github.com/huggingface/peft/issues/421)). And $v$ has a double: flow matching also speaks of a
# velocity, $\epsilon - x_0$ or $x_0 - \epsilon$, without the factors $a$ and $b$. This course never calls $v$ a velocity. The damage, with the
# exact $v$ network of the mixture `pair` and nothing else changed:

# %% tags=["nbval-ignore-output"]
for read_as in ("v_prediction", "epsilon", "sample"):
    drawn = p_sample_loop(
        pair.model(table, "v_prediction"), (2000, 2), process.betas, process.alphas,
        table, generator=generator, dtype=torch.float64, prediction_type=read_as,
    )
    distance = torch.cdist(drawn, pair.means).min(1).values.mean()
    print(
        f"v read as {read_as:12s}: mean distance to the nearest centre {distance:.1f}"
    )

# %% [markdown]
# The data has a mean distance of 0.3. Read as noise, the chain ends about 60 away. No error is raised: shapes and dtypes are right.
#
# ## Your turn
#
# `check` says what is wrong and names known mistakes. `hint("03.1")` gives the next of three hints, `solution("03.1")` a solution
# after an attempt.

# %%
from diffusion_course import check, exercise

exercise("03.1")

# %%
def score_from_noise(noise_pred, t, alphas_cumprod):
    alpha_bar = alphas_cumprod[t].to(noise_pred.dtype)
    alpha_bar = alpha_bar.reshape(-1, *[1] * (noise_pred.ndim - 1))  # (B, 1, ...)
    return noise_pred * ...


check("03.1", score_from_noise)

# %%
exercise("03.2")

# %%
def bound_weight(t, alphas_cumprod):
    alpha_bar = alphas_cumprod[t]  # (B,)
    alpha = alpha_bar / ...
    return ...


check("03.2", bound_weight)

# %%
exercise("03.3")

# %%
noise_guess = ...

check("03.3", noise_guess)

# %%
exercise("03.4")

# %%
def solve_v(v, xt, t, alphas_cumprod):
    # (B,) -> (B, 1, ...)
    alpha_bar = alphas_cumprod[t].to(xt.dtype).reshape(-1, *[1] * (xt.ndim - 1))
    a, b = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    x0_pred = a * ...
    noise_pred = ...
    return x0_pred, noise_pred


check("03.4", solve_v)

# %%
exercise("03.5")

# %%
def min_snr_for_v(alpha_bar, gamma):
    ratio = alpha_bar / (1 - alpha_bar)
    return ...


check("03.5", min_snr_for_v)

# %%
exercise("03.6")

# %%
def training_step(model, x0, optimizer, alphas_cumprod, generator):
    ...


check("03.6", training_step)

# %% [markdown]
# ## What you now have
#
# | symbol | in words | code | equation |
# |---|---|---|---|
# | $L$ | the bound on $-\log p(x_0)$, in nats | `elbo_terms(...).total` | (03.12) |
# | $\tilde\mu_t$ | mean of the step that knows $x_0$ | `q_posterior(...).mean` | (03.18) |
# | $w_t$ | weight of the noise's squared error in the bound | `loss_weight(..., weighting="elbo")` | (03.20) |
# | $L_{\text{simple}}$ | the loss that is trained | `diffusion_loss`, `train_step` | (03.21) |
# | $\mathbb{E}[\epsilon \mid x_t]$ | what a perfect network outputs | `mixture.noise_prediction` | (03.4) |
# | $\text{best}_t$ | the floor of the loss | `mixture.best_loss` | (03.27) |
# | $v$, score | other names of the same prediction | `convert_prediction` | (03.22), (03.25) |
# | min-SNR | a weight that is cut off | `loss_weight(..., weighting="min_snr")` | (03.26) |
#
# What you do not have yet: samples. You used the posterior's mean (03.16) without its derivation, and `p_sample_loop` as a machine.
# Lesson 04 derives the one and opens the other.
#
# Read next:
#
# - Ho, Jain & Abbeel 2020, [2006.11239](https://arxiv.org/abs/2006.11239), sections 2 and 3: the derivation you have just redone, in two pages.
# - Kingma et al. 2021, [2107.00630](https://arxiv.org/abs/2107.00630): the same bound in continuous time, where only the signal-to-noise
#   ratio is left of the schedule.
# - Hang et al. 2023, [2303.09556](https://arxiv.org/abs/2303.09556): the loss at each $t$ seen as one task among many, and min-SNR as a compromise.
