# %% [markdown]
# # 03 · The noise-prediction loss
#
# After this lesson you can:
#
# - say why nobody counts how often a generator hits the data, and what to compute instead,
# - derive the training loss of DDPM from $\log p(x_0)$, line by line, and say what each step gives up,
# - write the training loop in a dozen lines and train a network with it,
# - compute the lowest loss that any network can reach, and compare yours with it,
# - say why the loss is a square.
#
# You need: lessons 01 and 02, conditional probability, Bayes' rule, jointly Gaussian variables.
#
# **Measured cost:** 0.7 min on 2 cores, 0.9 GB of memory at the peak. Core: about 25 minutes of reading, 0.4 of computing. Going further: about 13 and 0.2.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
import math

import torch
from torch.distributions import Normal
from torch.testing import assert_close

from diffusion_course import (
    MLP,
    Explorer,
    GaussianMixture,
    Progress,
    diffusion_loss,
    loss_weight,
    make_generator,
    make_schedule,
    mixture,
    p_sample_loop,
    plotting,
    q_posterior,
    q_sample,
    q_step,
    seed_everything,
    show,
    show_source,
    train_step,
)
from diffusion_course.notebook import COLORS, Drawing, figure

generator = seed_everything(0)
moons, short = mixture("moons"), make_schedule("cosine", 50)
eight = moons.sample(8, generator=generator)  # (8, 2), eight data points
schedule = make_schedule("linear", 1000)  # for training
levels = schedule.alphas_cumprod  # (1000,), float64

# %% [markdown]
# ## What should the network be trained on?
#
# You know how data becomes noise, and you want the way back. So let a *model* walk backwards, from pure noise, in $T$ steps. Each step is a Gaussian,
# $p_\theta(x_{t-1} \mid x_t) = N(\mu_\theta(x_t, t),\ \zeta_t^2 I)$: a network with weights $\theta$ says its mean, and its variance $\zeta_t^2$ is fixed.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = Drawing(7.2, 1.75, "The model walks to the right, the noise to the left")
chain = drawing.row(
    ["$x_T$", "$x_t$", "$x_{t-1}$", "$x_0$"], 0.85, 0.7, 6.5, width=0.8,
    kinds=["noise", "data", "data", "data"],
)
for left, right, known, asked in (
    (chain[0], chain[1], "...", "..."),
    (chain[1], chain[2], r"$q(x_t\,|\,x_{t-1})$", r"$p_\theta(x_{t-1}\,|\,x_t)$"),
    (chain[2], chain[3], "...", "..."),
):
    drawing.arrow(left.top, right.top, asked, bend=-0.25, kind="network")
    drawing.arrow(right.bottom, left.bottom, known, bend=-0.25, kind="noise")
drawing.text(0.1, 1.6, "a network says where", kind="network", align="left")
drawing.text(0.1, 0.15, "lesson 01: known", align="left")
drawing.show(
    "Four boxes from x_T, noise, to x_0, data. Above, arrows to the right: the model's "
    "steps p(x_{t-1} given x_t), whose place a network says. Below, arrows to the "
    "left: the steps of noise q(x_t given x_{t-1}), which are known."
)

# %% [markdown]
# Training needs one number that says how good the model is. A sensible wish is that *the model gives the data a high probability*. So compute it:
# let the model walk a thousand times, and see how often it ends close to the data.
#
# We try this with the best network there is. Our data is `mixture("moons")`, two arcs made of twelve Gaussians. For such a mixture that network is known exactly: it is `moons.model`.
# (`p_sample_loop` walks; lesson 04 opens it.) A point is only two numbers, and an image has thousands. So we also ask for two, four and eight points at once; eight are one piece of data with 16 numbers.

# %%
ends = p_sample_loop(
    moons.model(short.alphas_cumprod), (8000, 2),
    short.betas, short.alphas, short.alphas_cumprod,
    generator=make_generator(0), dtype=torch.float64,
).reshape(1000, 8, 2)  # a thousand walks for each of the eight points
close = (ends - eight).norm(dim=2) < 0.3  # (1000, 8)
for number in (1, 2, 4, 8):
    hits = close[:, :number].all(1).sum()
    print(f"{number} at once: {hits:2d} of 1,000 walks end within 0.3 of all of them")
chance = close.double().mean(0).prod()  # the eight shares, multiplied
print(f"eight at once should happen in one walk of {1 / chance:.0e}")

# %% [markdown]
# With only 16 numbers, counting is useless: few walks come close to *one* point (left panel),
# and to count, a walk has to come close to all eight.
#
# Here is the idea that mends it: do not wait until the model finds the data. **Start at the data.** You can walk from there, because you know how to add noise (right panel).
# Then ask the model how likely it is to take the same way back.

# %%
star = eight[1:2]
fig, axes = figure(7.0, 3.2, 1, 2, sharex=True, sharey=True)
axes[0].scatter(*ends[:, 1].T, s=3, color="#999999")
axes[0].set_title(f"{close[:, 1].sum()} of 1,000 walks end within 0.3", loc="left")
walks = [star.repeat(6, 1)]
for t in torch.arange(50):
    walks.append(q_step(walks[-1], t.repeat(6), short.betas, generator=generator))
axes[1].plot(*torch.stack(walks).permute(2, 0, 1), linewidth=0.8)
axes[1].set_title("Walks that start at the data", loc="left")
for ax in axes:
    ax.plot(*star[0], "*", color="#D55E00", markersize=12, markeredgecolor="black")
    ax.set(
        xlim=(-3, 3), ylim=(-3, 3), aspect="equal",
        xlabel="first coordinate", ylabel="second coordinate",
    )
show(fig, alt=(
    "Left: a thousand grey dots on two arcs and a star, one data point; few of them "
    "lie within 0.3 of it. Right: six ragged lines run from the star in all "
    "directions."
))

# %% [markdown]
# In formulas, with $x_{1:T}$ for the whole walk, we want an integral that nobody can compute,
#
# $$p_\theta(x_0) = \int p(x_T) \prod_{t=1}^T p_\theta(x_{t-1} \mid x_t)\, dx_{1:T} \tag{03.1}$$
#
# and we multiply and divide by the probability of the noise's walk, $q(x_{1:T} \mid x_0) = \prod_t q(x_t \mid x_{t-1})$. The integral becomes an average over walks that start at $x_0$:
#
# $$p_\theta(x_0) = E_{q(x_{1:T} \mid x_0)}\left[\frac{p(x_T) \prod_t p_\theta(x_{t-1} \mid x_t)}{\prod_t q(x_t \mid x_{t-1})}\right] \tag{03.2}$$
#
# *Going further* computes this average for our eight points, five times: its logarithms lie between $-8.1$ and $-7.7$, and the data's own log-density is $-7.1$.

# %% [markdown]
# ## From one average to a bound
#
# You cannot train on (03.2) yet. It asks for the logarithm of an *average over walks*, so each step of training would need many whole walks.
# An average of logarithms can be estimated from one walk, even from one step of it. Jensen's inequality leads from the one to the other: since $-\log$ is convex, $-\log$ of a mean is at most the mean of $-\log$.
# (Try 1 and 9: $-\log 5 = -1.61$, and the mean of $-\log 1$ and $-\log 9$ is $-1.10$.) So
#
# $$-\log p_\theta(x_0) \le E_q\left[-\log p(x_T) - \sum_{t=1}^T \log \frac{p_\theta(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})}\right] = L \tag{03.3}$$
#
# This is eq. 3 of Ho et al. 2020 ([arXiv 2006.11239](https://arxiv.org/abs/2006.11239)); $-L$ is called the evidence lower bound, ELBO. What did we give up? Divide the fraction in (03.2) by $p_\theta(x_0)$. Its upper part becomes the model's own
# $p_\theta(x_{1:T} \mid x_0)$, so
#
# $$L + \log p_\theta(x_0) = E_q\left[\log \frac{q(x_{1:T} \mid x_0)}{p_\theta(x_{1:T} \mid x_0)}\right] = \mathrm{KL}(q\,\Vert\,p_\theta) \ge 0 \tag{03.4}$$
#
# The Kullback-Leibler divergence $\mathrm{KL}(q \Vert p) = E_q[\log q - \log p]$ is zero only for $q = p$: we lose nothing if the model's walks to $x_0$, read backwards, look like walks of noise from $x_0$.

# %% [markdown]
# ## Recall
#
# 1. From lesson 01: one step of noise is $q(x_t \mid x_{t-1})$. Which mean and variance does it have? Does it depend on $x_0$?
# 2. From lesson 02: write $x_t$ in terms of $x_0$ and one draw of noise.
#
# <details><summary>Answers</summary>
#
# 1. Mean $\sqrt{1-\beta_t}\,x_{t-1}$ and variance $\beta_t$ per coordinate. Once $x_{t-1}$ is known, $x_0$ adds nothing: the chain has no memory.
# 2. $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ with $\epsilon \sim N(0, I)$.
#
# </details>

# %% [markdown]
# ## Turn each step around
#
# Each fraction in (03.3) compares a step back with a step forward, and these are distributions of different things. To compare like with like, turn the step of noise around. Bayes' rule does that. We hold $x_0$ fixed: given $x_{t-1}$ it changes nothing, and without it nobody knows the densities. For $t \ge 2$,
#
# $$q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x_0) = \frac{q(x_{t-1} \mid x_t, x_0)\; q(x_t \mid x_0)}{q(x_{t-1} \mid x_0)} \tag{03.5}$$
#
# Take logarithms and sum over $t = 2, \dots, T$. The last two factors telescope: each $\log q(x_t \mid x_0)$ is added at $t$ and subtracted at $t+1$. Only the ends stay, and $\log q(x_1 \mid x_0)$ cancels against the step $t = 1$:
#
# $$\sum_{t=1}^T \log q(x_t \mid x_{t-1}) = \log q(x_T \mid x_0) + \sum_{t=2}^T \log q(x_{t-1} \mid x_t, x_0) \tag{03.6}$$
#
# This has to hold on every single walk. Let us walk once, four steps in five dimensions. `q_posterior` gives $q(x_{t-1} \mid x_t, x_0)$; the section *From means to noise* derives it. To see the check fail, we also take it one level off.

# %%
betas = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
bars = (1 - betas).cumprod(0)
path = [torch.linspace(-1, 1, 5, dtype=torch.float64)]  # x_0
for i in range(4):
    path.append(q_step(path[-1], torch.full((5,), i), betas, generator=generator))
forwards = sum(
    Normal((1 - betas[i]).sqrt() * path[i], betas[i].sqrt()).log_prob(path[i + 1])
    for i in range(4)
)
for name, used in (("right levels", (1, 2, 3)), ("one level off", (1, 1, 2))):
    turned = Normal(bars[3].sqrt() * path[0], (1 - bars[3]).sqrt()).log_prob(path[4])
    for i, level in zip((1, 2, 3), used, strict=True):
        post = q_posterior(path[0], path[i + 1], torch.full((5,), level), bars)
        turned += Normal(post.mean, post.variance.sqrt()).log_prob(path[i])
    print(f"{name}: {forwards.sum():.3f} forwards, {turned.sum():.3f} turned around")
    assert torch.allclose(forwards, turned) == (used == (1, 2, 3))

# %% [markdown]
# Put (03.6) into (03.3) and pair like with like. In each pair draw $x_t$ first, then $x_{t-1}$ from $q(x_{t-1} \mid x_t, x_0)$: the inner average is a divergence (Ho et al., eq. 5).
#
# $$\begin{aligned}
# L = {}&\underbrace{\mathrm{KL}\big(q(x_T \mid x_0)\,\Vert\,p(x_T)\big)}_{L_T} \\
# &+ \sum_{t=2}^T E_q\,\underbrace{\mathrm{KL}\big(q(x_{t-1} \mid x_t, x_0)\,\Vert\,p_\theta(x_{t-1} \mid x_t)\big)}_{L_{t-1}} \\
# &\underbrace{{}-E_q \log p_\theta(x_0 \mid x_1)}_{L_0}
# \end{aligned} \tag{03.7}$$

# %% jupyter={"source_hidden": true} tags=["hide-input", "long"]
drawing = Drawing(7.4, 2.3, "Two chains, compared step by step")
columns, before = {
    0.85: (r"$q(x_T\,|\,x_0)$", "$p(x_T)$", "$L_T$"),
    2.6: (r"$q(x_{T-1}\,|\,x_T,x_0)$", r"$p_\theta(x_{T-1}\,|\,x_T)$", "$L_{T-1}$"),
    4.8: (r"$q(x_1\,|\,x_2,x_0)$", r"$p_\theta(x_1\,|\,x_2)$", "$L_1$"),
    6.55: ("$x_0$", r"$p_\theta(x_0\,|\,x_1)$", "$L_0$"),
}, ()
for x, (knows, asks, name) in columns.items():
    top = drawing.box(x, 1.7, knows, width=1.5, kind="data")
    low = drawing.box(x, 0.55, asks, width=1.5, kind="network" if before else "noise")
    drawing.arrow(top.bottom, low.top, name, heads=False, dashed=True)
    for start, end in zip(before, (top, low), strict=False):
        drawing.arrow(start, end, dashed=x == 4.8)
    before = top, low
drawing.text(0.1, 2.15, "somebody who knows $x_0$", kind="data", align="left")
drawing.text(0.1, 0.12, "the model", kind="network", align="left")
drawing.show(
    "Two rows of boxes from noise on the left to data on the right. Above, somebody "
    "who knows x_0 walks back; below, the model. Dashed lines join the pairs that are "
    "compared: L_T at the noise, L_{T-1} down to L_1 at the steps, L_0 at the data."
)

# %% [markdown]
# $L_T$ has no network in it and says how far the end of the chain is from pure noise. Each $L_{t-1}$ compares the model's step with the step of somebody who knows $x_0$. $L_0$ is the last step to the data.

# %% [markdown]
# ## From divergences to distances
#
# A divergence is an integral, and a loss should be a formula. Between two Gaussians it is one, and the next section shows that the step that knows $x_0$ is a Gaussian. For one coordinate $x$ of $x_{t-1}$, let that step be $q = N(\tilde\mu, \tilde\beta)$ and the model's $p = N(\mu_\theta, \zeta^2)$. Write out the logarithms:
#
# $$\mathrm{KL} = E_q\left[\tfrac12 \log\frac{\zeta^2}{\tilde\beta} - \frac{(x-\tilde\mu)^2}{2 \tilde\beta} + \frac{(x-\mu_\theta)^2}{2 \zeta^2}\right] \tag{03.8}$$
#
# Under $q$ the mean of $(x-\tilde\mu)^2$ is $\tilde\beta$. And $x - \mu_\theta = (x - \tilde\mu) + (\tilde\mu - \mu_\theta)$; the cross term has mean zero, so the mean of its square is $\tilde\beta + (\tilde\mu - \mu_\theta)^2$. Hence
#
# $$\mathrm{KL} = \underbrace{\tfrac12\left(\log\frac{\zeta^2}{\tilde\beta} - 1 + \frac{\tilde\beta}{\zeta^2}\right)}_{\text{no network in it}} + \frac{(\tilde\mu-\mu_\theta)^2}{2 \zeta^2} \tag{03.9}$$
#
# Coordinates are independent and their terms add up. So the network only has to bring its mean close to $\tilde\mu_t$, the mean of somebody who knows $x_0$ (Ho et al., eq. 8):
#
# $$L_{t-1} = \frac{1}{2\zeta_t^2}\,\lVert \tilde\mu_t - \mu_\theta(x_t, t)\rVert^2 + \text{constant} \tag{03.10}$$

# %% [markdown]
# ## From means to noise
#
# We still lack $\tilde\mu_t$, and a proof that $q(x_{t-1} \mid x_t, x_0)$ is a Gaussian. Hold $x_0$ fixed and ask where the noise in $x_t$ comes from: some *old* noise was already in $x_{t-1}$, and the last step added *fresh* noise.
# Whoever knows $x_0$ and $x_t$ knows both together, $\sqrt{1-\bar\alpha_t}\,\epsilon$, but not how much of it is old. Take a share of the sum, and call the rest $r$:
#
# $$\begin{aligned}
# x_{t-1} &= \sqrt{\bar\alpha_{t-1}}\,x_0 + \text{old}, \\
# x_t &= \sqrt{\bar\alpha_t}\,x_0 + \underbrace{\sqrt{\alpha_t}\;\text{old} + \text{fresh}}_{\text{sum}}, \\
# \text{old} &= \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\;\text{sum} + r
# \end{aligned}$$
#
# The share is the covariance of old noise and sum, divided by the variance of the sum. That makes $r$ uncorrelated with the sum. For Gaussians this means independent, so $r$ stays the same Gaussian, with mean 0, when the sum becomes known. Then $x_{t-1}$ is a Gaussian too, and its mean is
#
# $$\tilde\mu_t = \sqrt{\bar\alpha_{t-1}}\,x_0 + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{\sqrt{1-\bar\alpha_t}}\,\epsilon \tag{03.11}$$
#
# Now replace $x_0$ by $(x_t - \sqrt{1-\bar\alpha_t}\,\epsilon)/\sqrt{\bar\alpha_t}$ and use $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$. In front of $x_t$ stands $1/\sqrt{\alpha_t}$. In front of $\epsilon$:
#
# $$\frac{-(1-\bar\alpha_t) + \alpha_t(1-\bar\alpha_{t-1})}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}} = \frac{-1 + \alpha_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}} = -\frac{\beta_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}}$$
#
# The model is shown $x_t$. All that it does not know is $\epsilon$. So let a network $\epsilon_\theta$ guess $\epsilon$, and build its mean in the same way (Ho et al., eq. 11):
#
# $$\begin{aligned}
# \tilde\mu_t &= \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t\,\epsilon}{\sqrt{1-\bar\alpha_t}}\right), \\
# \mu_\theta &= \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t\,\epsilon_\theta(x_t, t)}{\sqrt{1-\bar\alpha_t}}\right)
# \end{aligned} \tag{03.12}$$
#
# In the difference $x_t$ cancels. Square it and put it into (03.10) (Ho et al., eq. 12):
#
# $$L_{t-1} = \underbrace{\frac{\beta_t^2}{2\zeta_t^2\,\alpha_t\,(1-\bar\alpha_t)}}_{w_t}\;
# \lVert \epsilon - \epsilon_\theta(x_t, t)\rVert^2 + \text{constant} \tag{03.13}$$
#
# (At $t = 1$ there is no divergence. But $L_0$ is $-\log$ of a Gaussian around $\mu_\theta$, and (03.12) gives $\tilde\mu_1 = x_0$, so it has the same form. There $\tilde\beta_1 = 0$ is no choice for $\zeta_1^2$, and one takes $\beta_1$.)
#
# The check does not use our $\tilde\mu_t$. On a grid of candidates for $x_{t-1}$, Bayes' rule gives the step that knows $x_0$. A wrong noise in $\mu_\theta$ gives the model's step. Their divergence is a sum; it must be $w_t$ times the squared error of the noise, and something else if we leave out $\alpha_t$.

# %%
x0, eps, guess = 0.7, -0.4, 0.3
grid = torch.linspace(-12, 12, 24_001, dtype=torch.float64)  # for x_{t-1}
for t in (5, 20, 40):
    then, now = short.alphas_cumprod[t - 1 : t + 1]
    alpha, beta = short.alphas[t], short.betas[t]
    xt = now.sqrt() * x0 + (1 - now).sqrt() * eps
    misfit = (grid - then.sqrt() * x0) ** 2 / (1 - then)
    log_q = (-(misfit + (xt - alpha.sqrt() * grid) ** 2 / beta) / 2).log_softmax(0)
    q = log_q.exp()  # the step that knows x_0
    zeta2 = (q * grid**2).sum() - (q * grid).sum() ** 2  # the same for both
    mean = (xt - beta * guess / (1 - now).sqrt()) / alpha.sqrt()
    log_p = (-((grid - mean) ** 2) / (2 * zeta2)).log_softmax(0)  # the model's step
    gap = (q * (log_q - log_p)).sum()
    formula = beta**2 / (2 * zeta2 * alpha * (1 - now)) * (eps - guess) ** 2
    print(f"{t}: grid {gap:.5f}, formula {formula:.5f}, "
          f"without alpha {formula * alpha:.5f}")
    assert_close(gap, formula, rtol=1e-5, atol=0.0)

# %% [markdown]
# ## Drop the weight
#
# You could train on (03.13) as it is. But Ho et al. found that samples come out better if the weight is dropped and $t$ is drawn uniformly (eq. 14):
#
# $$L_{\text{simple}} = E_{t, x_0, \epsilon}\,\lVert \epsilon - \epsilon_\theta(x_t, t)\rVert^2 \tag{03.14}$$
#
# (In code the mean runs over the coordinates too.) How much is dropped?

# %%
every = torch.arange(1000)
beta, alpha = schedule.betas, schedule.alphas
w = beta**2 / (2 * beta * alpha * (1 - levels))  # with zeta^2 = beta
assert_close(
    w, loss_weight(every, levels, weighting="elbo", variance_type="fixed_large")
)
fig = plotting.lines(
    every + 1, {"in the bound": w, r"in $L_{simple}$": 1.0}, logx=True, logy=True,
    xlabel="$t$", ylabel="weight", title="The bound cares most about the first steps",
)
show(fig, alt=(
    "Weight against t, both axes logarithmic. In the bound it falls from 0.50 at t = 1 "
    "to 0.005 near t = 350 and rises to 0.010 at t = 1000. In L_simple it is 1."
))
print(f"t = 1: {w[0]:.2f}, least: {w.min():.4f}, t = 1000: {w[-1]:.3f}")

# %% [markdown]
# Compared with the bound, $L_{\text{simple}}$ gives $t = 1000$ about fifty times more say, relative to $t = 1$. That is a habit backed by experiments, not a theorem.

# %% [markdown]
# ## Predict first
#
# The derivation has ended in a game. Somebody draws $x_0$ and $\epsilon$, mixes them, and shows you $x_t$ and $t$. You say which $\epsilon$ it was, and your squared error is averaged over many rounds.

# %%
clouds = {
    f"index {i}": moons.at(levels[i].item()).sample(1500, generator=generator)
    for i in (0, 100, 300, 999)
}
fig = plotting.scatter_2d(
    clouds, limit=3.5, title="The moons blur until nothing of them is left"
)
show(fig, alt=(
    "Four clouds of points. Index 0: two thin arcs. Index 100: two thick arcs. Index "
    "300: one blob. Index 999: a round Gaussian cloud."
))

# %% [markdown]
# Suppose that you know the distribution of the data perfectly. Where is your error largest: at small $t$, where the noise is faint, in the middle, or at large $t$, where little of the data is left? The answer comes after training.

# %%
my_prediction = "large"  # "small", "middle" or "large"

# %% [markdown]
# ## Train it
#
# You have a loss and no network yet. In plain English: take data. Draw a level for each point. Draw noise. Mix them. Let the network guess the noise, and move its weights so that the guess gets closer.

# %% jupyter={"source_hidden": true} tags=["hide-input", "long"]
drawing = Drawing(7.4, 2.5, "One step of training")
small = {"width": 0.8, "note": "(B, ...)"}
x_0 = drawing.box(0.7, 1.6, "$x_0$", kind="data", **small)
eps = drawing.box(0.7, 0.5, r"$\epsilon$", kind="noise", **small)
x_t = drawing.box(2.6, 1.6, "$x_t$", kind="data", **small)
net_box = drawing.box(4.2, 1.6, "network", kind="network", width=1.0)
guess = drawing.box(5.9, 1.6, r"$\epsilon_\theta$ (B, ...)", kind="noise", width=1.1)
loss_box = drawing.box(5.9, 0.5, r"mean of $(\epsilon-\epsilon_\theta)^2$", width=1.7)
t_box = drawing.box(3.3, 2.25, "$t$ (B,)", kind="words", width=0.8, height=0.34)
pairs = (x_t, net_box), (t_box, net_box), (net_box, guess), (guess, loss_box)
for pair in pairs:
    drawing.arrow(*pair)
drawing.arrow(x_0, x_t, r"$\sqrt{\bar\alpha_t}$")
drawing.arrow(eps, x_t, r"$\sqrt{1-\bar\alpha_t}$")
drawing.arrow(eps, loss_box, "the target")
drawing.arrow(
    loss_box.right, (4.4, 1.85), "gradient", dashed=True, kind="network",
    via=[(7.1, 0.5), (7.1, 2.25), (4.4, 2.25)],
)
drawing.show(
    "x_0 and the noise are mixed to x_t. The network gets x_t and t and guesses the "
    "noise. The mean squared difference from the noise is the loss; its gradient goes "
    "back to the network. All but t have one shape, (B, ...)."
)

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
random, num_steps, losses = make_generator(0), 1500, []
net = MLP(dim=2, hidden=128, depth=3)
optimizer = torch.optim.Adam(net.parameters())
for step in Progress(range(num_steps), "training"):
    optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / num_steps)
    x0 = moons.sample(256, generator=random).float()
    t = torch.randint(1000, (256,), generator=random)
    eps = torch.randn(256, 2, generator=random)
    keep = levels[t, None].float()
    xt = keep.sqrt() * x0 + (1 - keep).sqrt() * eps
    loss = ((net(xt, t) - eps) ** 2).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    losses.append(loss.item())

# %% [markdown]
# This is Algorithm 1 of the paper; the learning rate falls to zero so that the weights settle. The network is a small multilayer perceptron that is told $t$. Draw from it:

# %% tags=["nbval-ignore-output"]
print(f"mean of the last 500 losses: {sum(losses[-500:]) / 500:.3f}")
drawn = p_sample_loop(
    net, (800, 2), schedule.betas, schedule.alphas, levels, generator=generator
)
fig = plotting.scatter_2d(
    {"data": moons.sample(800, generator=generator), "from your network": drawn},
    limit=2.5, title="A dozen lines have taught a network the moons, with some strays",
)
show(fig, alt=(
    "Two scatter plots with the same two interleaved arcs. Some points from the "
    "network lie between the arcs."
))

# %% [markdown]
# The package does the same. It also checks its arguments and offers the choices of Going further:

# %%
torch.manual_seed(0)
random, theirs = make_generator(0), []
again = MLP(dim=2, hidden=128, depth=3)
optimizer = torch.optim.Adam(again.parameters())
for step in range(5):
    optimizer.param_groups[0]["lr"] = 3e-3 * (1 - step / num_steps)
    x0 = moons.sample(256, generator=random).float()
    theirs.append(train_step(again, x0, optimizer, levels, generator=random))
assert_close(theirs, losses[:5])
print("the first five losses are the same")
show_source(diffusion_loss, train_step)

# %% [markdown]
# ## The smallest case by hand
#
# One thing is odd. The last losses average about 0.22, far from zero. Is the network bad, or is the task?
#
# Play the game yourself, with one pixel. $x_0$ is $+1$ or $-1$, each with probability $\tfrac12$. Take $\bar\alpha_t = \tfrac12$, so signal and noise both have the factor $0.7071$, and suppose that you see $x_t = 0.5$. Two explanations fit:
#
# - $x_0 = +1$, then $\epsilon = (0.5 - 0.7071)/0.7071 = -0.2929$;
# - $x_0 = -1$, then $\epsilon = (0.5 + 0.7071)/0.7071 = 1.7071$.
#
# How likely each one is depends on its noise: $e^{-0.2929^2/2} = 0.9580$ against $e^{-1.7071^2/2} = 0.2329$. Bayes' rule makes the two sum to 1:
#
# $$p(x_0 = +1 \mid x_t) = \frac{0.9580}{0.9580 + 0.2329} = 0.8044 \tag{03.15}$$
#
# If you answer $\hat\epsilon$, your expected squared error is $0.8044\,(\hat\epsilon + 0.2929)^2 + 0.1956\,(\hat\epsilon - 1.7071)^2$. Its derivative is zero at the weighted mean, $0.8044 \cdot (-0.2929) + 0.1956 \cdot 1.7071 = 0.098$,
# and there the error is $0.8044 \cdot 0.1956 \cdot 2^2 = 0.629$. **The best guess is a noise that nobody drew, and its error is not zero.**

# %%
pixel = GaussianMixture(
    torch.tensor([0.5, 0.5]).double(), torch.tensor([[-1.0], [1.0]]).double(),
    torch.zeros(2, 1, 1).double(),
)
best = pixel.noise_prediction(torch.tensor([[0.5]]).double(), 0.5).item()
answers = torch.linspace(-1, 2, 301, dtype=torch.float64)
error = 0.8044 * (answers + 0.2929) ** 2 + 0.1956 * (answers - 1.7071) ** 2
print(f"package: best answer {best:.3f}; curve: least error {error.min():.3f}")
fig = plotting.lines(
    answers, {"expected squared error": error, "least possible": error.min()},
    xlabel=r"answer $\hat\epsilon$", ylabel="error",
    title="The error of the best answer is a variance, not zero",
)
show(fig, alt=(
    "A parabola over the answer from -1 to 2. Its lowest point is 0.629 at 0.098, "
    "marked by a dashed line."
))

# %% [markdown]
# ## The best answer is a conditional mean
#
# One pixel proves nothing about your moons. Fix $x_t$ and write $\epsilon^\star = E[\epsilon \mid x_t]$. For any answer $\hat\epsilon$,
#
# $$\begin{aligned}
# E\big[\lVert \epsilon - \hat\epsilon\rVert^2 \mid x_t\big]
# &= E\big[\lVert (\epsilon - \epsilon^\star) + (\epsilon^\star - \hat\epsilon)\rVert^2 \mid x_t\big] \\
# &= \underbrace{E\big[\lVert \epsilon - \epsilon^\star\rVert^2 \mid x_t\big]}_{\text{nobody can avoid it}}
# + \underbrace{\lVert \epsilon^\star - \hat\epsilon\rVert^2}_{\text{your excess}}
# \end{aligned} \tag{03.16}$$
#
# The cross term is $2\,(\epsilon^\star - \hat\epsilon) \cdot E[\epsilon - \epsilon^\star \mid x_t]$, and that mean is zero by the definition of $\epsilon^\star$. So the best network answers $E[\epsilon \mid x_t]$, whatever the weight at that $t$, and its loss, the *floor*, is a variance.
# From $\epsilon = (x_t - \sqrt{\bar\alpha_t}\,x_0)/\sqrt{1-\bar\alpha_t}$ this variance is $\bar\alpha_t/(1-\bar\alpha_t)$ times that of $x_0$, averaged over the $D$ coordinates:
#
# $$\text{best}_t = \frac{\bar\alpha_t}{1-\bar\alpha_t}\cdot\frac{1}{D}\,E\,\operatorname{tr}\operatorname{Cov}(x_0 \mid x_t) \tag{03.17}$$
#
# `best_loss` computes it from the mixture. We check (03.16) with drawn noise, for three ways to answer, and once without the excess.

# %%
x0 = moons.sample(200_000, generator=generator)
eps = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
xt = q_sample(x0, torch.full((200_000,), 100), levels, eps)
star_eps = moons.noise_prediction(xt, levels[100])
lowest = moons.best_loss(100, levels, num_samples=200_000, generator=generator)
for name, answer in (
    ("the best", star_eps), ("half of it", star_eps / 2), ("always 0", 0 * star_eps)
):
    errors = ((eps - answer) ** 2).mean(1)
    excess = ((star_eps - answer) ** 2).mean()
    print(f"{name:10s} error {errors.mean():.3f} (standard error "
          f"{errors.std() / 200_000**0.5:.3f}), best + excess {lowest + excess:.3f}, "
          f"without the excess {lowest:.3f}")
    assert abs(errors.mean() - lowest - excess) < 0.01

# %% [markdown]
# Now compare your network with the floor, at thirteen levels. By (03.16) its excess is its squared distance from $E[\epsilon \mid x_t]$.

# %% tags=["nbval-ignore-output"]
at = [0, 3, 10, 20, 50, 100, 150, 200, 300, 400, 500, 700, 999]
floor, excess = [], []
for i in at:
    floor.append(moons.best_loss(i, levels, num_samples=8000, generator=generator))
    xt = moons.at(levels[i].item()).sample(8000, generator=generator)
    with torch.no_grad():
        answer = net(xt.float(), torch.full((8000,), i))
    gap = answer - moons.noise_prediction(xt, levels[i])
    excess.append((gap**2).mean().item())
print("excess at these levels:", *(f"{value:.3f}" for value in excess))

# %% tags=["nbval-ignore-output"]
floor, excess = torch.tensor(floor), torch.tensor(excess)
fig = plotting.lines(
    torch.tensor(at) + 1.0,
    {"your network": floor + excess, "best possible": floor, "excess": excess},
    xlabel="$t$", ylabel="squared error", logx=True,
    title="The excess of your network is small, and sits at small t",
)
show(fig, alt=(
    "Squared error against t, logarithmic t axis. The best possible error is about 1 "
    "at t = 1, 0.62 to 0.66 near t = 50 to 100 and below 0.1 from t = 500 on. The "
    "network lies a little above it up to t = 100 and on it after that."
))

# %%
means = torch.tensor([
    moons.best_loss(i, levels, num_samples=1000, generator=generator)
    for i in range(5, 1000, 10)
])
order = ["small", "middle", "large"]
answer = order[0 if floor.argmax() == 0 else 2 if floor.argmax() == 12 else 1]
said = "as you said" if my_prediction == answer else f"you said {my_prediction}"
print(f"The error is largest at {answer} t ({said}): {floor[0]:.1f} at t = 1, "
      f"{floor[-1]:.1f} at t = 1000.")
print(f"Averaged over all t the best possible loss is {means.mean():.2f}.")

# %% [markdown]
# At $t = 1$ the noise has standard deviation 0.01, and the arcs are smooth at that scale. A point says almost nothing about which way it was moved, so the best answer is close to 0 and its error close to 1, the variance of the noise.
# At $t = 1000$ the point *is* the noise. The loss is large where $x_t$ says nothing about the noise. So your network has not failed: nearly all of its loss is the floor.

# %% [markdown]
# ## Look
#
# So far the best answer is only numbers. The picture shows the posterior $q(x_0 \mid x_t)$, where the clean point may have been, and its mean. (The best answer $\epsilon^\star$ is also a best guess of the data: solve $x_t = \sqrt{\bar\alpha_t}\,\hat x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon^\star$ for $\hat x_0$.)
#
# **Task.** Leave the position at 0.4 and move $t$ up from 20. Where does the best $\hat x_0$ leave its arc for the empty space between the arcs, and where does the posterior lie then?

# %%
def posterior_picture(t, position):
    xt, level = torch.tensor([[position, 0.0]]).double(), levels[t].item()
    side = torch.linspace(-2.4, 2.4, 80).double()
    plane = torch.cartesian_prod(side, side)[:, [1, 0]]  # (6400, 2)
    fits = Normal(level**0.5 * plane, (1 - level) ** 0.5).log_prob(xt).sum(1)
    chance = (moons.log_prob(plane) + fits).softmax(0).reshape(80, 80)
    first, second = moons.posterior_mean(xt, level)[0].tolist()
    spread = moons.posterior_covariance(xt, level)[0].trace().sqrt().item()
    fig, ax = figure(5.2, 3.6)
    ax.imshow(chance, origin="lower", extent=(-2.4, 2.4) * 2)
    ax.plot(position, 0, "P", color="white", mec="black", ms=10, label="$x_t$")
    ax.plot(first, second, "o", color=COLORS[1], mec="white", label=r"best $\hat x_0$")
    fig.legend(loc="outside right upper", title=f"index {t}\nspread {spread:.2f}\n")
    ax.set(xlabel="first coordinate", ylabel="second coordinate")
    ax.grid(False)
    return fig, (
        f"Posterior of x_0 for x_t = ({position:.1f}, 0) at index {t}. The best x_0 is "
        f"({first:.2f}, {second:.2f}), the spread around it {spread:.2f}."
    )


# %%
Explorer(
    posterior_picture, t=[20, 60, 100, 130, 160, 200, 300, 500],
    position=[0.0, 0.4, 0.8], start={"t": 160, "position": 0.4}, ahead=True,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# At $t = 20$ and $60$ the best $\hat x_0$ lies on the upper arc and the posterior is a small patch around it. At 100 it starts to move back, at 130 it lies between the arcs.
# At 160 both arcs have a share in the posterior, about two thirds and one third, and the spread has grown from 0.10 to 0.74. At 500 it is close to the centre of all data.
#
# </details>
#
# The conditional mean need not be a likely point. This is why sampling takes many steps, and lesson 04 begins there.

# %% [markdown]
# ## Where people go wrong
#
# ### L1 or Huber in place of the square
#
# The derivation gives a square. [The Annotated Diffusion Model](https://huggingface.co/blog/annotated-diffusion) offers `l1`, `l2` and `huber` in one function and trains with `huber`. The square has its minimum at the *mean* of $\epsilon$ given $x_t$, the absolute error at the *median*.
# What does that do? We take data with 30 % near $-1$ and 70 % near $+1$, compute what a perfect network would learn from the L1 loss (a median, by bisection), and sample with both.

# %%
line = GaussianMixture(
    torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0], [1.0]]).double(),
    torch.full((2, 1, 1), 0.01).double(),
)
hundred = make_schedule("cosine", 100)


def l1_best(xt, t, cond=None):
    kept = hundred.alphas_cumprod[t][:, None]  # (N, 1)
    spread = 0.01 * kept + 1 - kept
    surprise = xt - kept.sqrt() * line.means.T  # (N, 2)
    centre = line.means.T + kept.sqrt() * 0.01 / spread * surprise  # of x_0 given x_t
    sd = ((1 - kept) * 0.01 / spread).sqrt()
    share = line.responsibilities(xt, kept[:, 0])
    middle, step = torch.zeros_like(xt), 2.0
    for _ in range(25):  # towards the median of x_0
        below = (share * Normal(centre, sd).cdf(middle)).sum(1, keepdim=True) < 0.5
        middle, step = torch.where(below, middle + step, middle - step), step / 2
    return (xt - kept.sqrt() * middle) / (1 - kept).sqrt()


# %%
for name, model in (("mean", line.model(hundred.alphas_cumprod)), ("median", l1_best)):
    shares = torch.stack([
        100 * (p_sample_loop(
            model, (2000, 1), hundred.betas, hundred.alphas, hundred.alphas_cumprod,
            generator=make_generator(seed), dtype=torch.float64,
        ) > 0).double().mean()
        for seed in range(5)
    ])
    print(f"{name:6s} {shares.mean():.1f} % near +1 (sd {shares.std():.1f}), data 70 %")

# %% [markdown]
# Here the rare kind of data becomes rarer, and no single sample shows it. (We measured L1 only, not Huber.)
#
# ### Comparing losses of two schedules
#
# Somebody changes the schedule, sees the loss go up, and goes back. But the floor moves with the schedule. Here the network is perfect both times:

# %%
for name in ("linear", "cosine"):
    bars = make_schedule(name, 1000).alphas_cumprod
    means = torch.tensor([
        moons.best_loss(i, bars, num_samples=1000, generator=generator)
        for i in range(5, 1000, 10)
    ])
    print(f"{name}: a perfect network has the loss {means.mean():.2f}")

# %% [markdown]
# On images nobody knows the floor. A loss can be judged only beside another run on the same data and schedule.

# %% [markdown]
# ## Your turn
#
# Each check tries your answer and names known mistakes. `hint("03.2")` helps in steps, `solution("03.2")` comes after a try.

# %%
from diffusion_course import check, exercise

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
exercise("03.6")

# %%
def training_step(model, x0, optimizer, alphas_cumprod, generator):
    ...


check("03.6", training_step)

# %% [markdown]
# The next three belong to Going further. Come back to them after reading it.

# %%
exercise("03.1")

# %%
def score_from_noise(noise_pred, t, alphas_cumprod):
    alpha_bar = alphas_cumprod[t].to(noise_pred.dtype)
    alpha_bar = alpha_bar.reshape(-1, *[1] * (noise_pred.ndim - 1))  # (B, 1, ...)
    return noise_pred * ...


check("03.1", score_from_noise)

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

# %% [markdown]
# ## What you now have

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.6, 1.5)
steps = card.row(
    [r"$-\log p_\theta(x_0)$", "$L$", r"$\Sigma\ \mathrm{KL}$",
     r"$\|\tilde\mu-\mu_\theta\|^2$", r"$\|\epsilon-\epsilon_\theta\|^2$"],
    0.8, 0.85, 6.8, kinds=["data", "formula", "formula", "formula", "network"],
    width=1.15,
    notes=["out of reach", "elbo_terms", "q_posterior", "gaussian_kl", "train_step"],
)
for left, right in zip(steps, steps[1:], strict=False):
    card.arrow(left, right)
for i, word in enumerate(("Jensen", "Bayes", "Gaussians", "drop $w_t$")):
    card.text((steps[i].x + steps[i + 1].x) / 2, 1.3, word)
best = r"a perfect network answers $E[\epsilon\,|\,x_t]$; its loss is best$_t$"
card.text(3.8, 0.2, best)
card.show(
    "Five boxes: -log p(x_0) is out of reach; Jensen gives the bound L, elbo_terms; "
    "Bayes a sum of divergences, q_posterior; Gaussians distances of means, "
    "gaussian_kl; without the weight the squared error of the noise, train_step."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | Do not wait until the model hits the data: start there. | `q_step` | (03.2) |
# | The bound is a sum of comparisons with somebody who knows $x_0$. | `elbo_terms`, `q_posterior` | (03.7) |
# | Between Gaussians only the means matter, and in them only the noise. | `gaussian_kl`, `loss_weight` | (03.10), (03.13) |
# | The loss that is trained drops the weight. | `diffusion_loss`, `train_step` | (03.14) |
# | A perfect network answers $E[\epsilon \mid x_t]$, and its loss is not zero. | `noise_prediction`, `best_loss` | (03.16), (03.17) |
#
# What you still lack is the walk back. You used `p_sample_loop` as a machine; lesson 04 opens it.
#
# To read next: Ho, Jain & Abbeel 2020, https://arxiv.org/abs/2006.11239, sections 2 and 3: the same derivation in two pages.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows stands on its own, section by section: pick what you need.

# %% [markdown]
# ### Both ways, measured
#
# The core said that walks from the data find the probability and walks back do not. Here are both, for the eight points as one piece of data. Walking back means to average, over a thousand walks, the density that the last step gives to the data; the variance of each step is $\beta_t$ (`fixed_large`).

# %%
perfect, first_sd = moons.model(short.alphas_cumprod), short.betas[0].sqrt()


def log_average(log_values, x0):  # over 1,000 walks, each to all points of x0
    return log_values.reshape(1000, len(x0)).sum(1).logsumexp(0) - math.log(1000)


def by_walking_back(x0, seed):
    ends = p_sample_loop(  # the means of the last steps
        perfect, (1000 * len(x0), 2), short.betas, short.alphas, short.alphas_cumprod,
        variance_type="fixed_large", generator=make_generator(seed), dtype=x0.dtype,
    )
    hits = Normal(ends, first_sd).log_prob(x0.repeat(1000, 1)).sum(1)
    return log_average(hits, x0), ends


estimates = torch.tensor([by_walking_back(eight, seed)[0] for seed in range(5)])
print("eight points, five times:", *(f"{v:.0f}" for v in estimates))
print(f"density of the data there: {moons.log_prob(eight).sum():.1f} (all logarithms)")

# %% [markdown]
# Walking from the data means to average the fraction in (03.2). `q_posterior` makes the model's step back out of its guess of $x_0$.

# %%
def from_the_data(x0, seed):
    random, x, ratio = make_generator(seed), x0.repeat(1000, 1), 0.0
    for t in range(50):
        index, sd = torch.full((len(x),), t), short.betas[t].sqrt()
        new = q_step(x, index, short.betas, generator=random)
        clean = moons.posterior_mean(new, short.alphas_cumprod[t])
        mean = q_posterior(clean, new, index, short.alphas_cumprod).mean
        backwards = Normal(mean, sd).log_prob(x).sum(1)
        forwards = Normal(short.alphas[t].sqrt() * x, sd).log_prob(new).sum(1)
        x, ratio = new, ratio + backwards - forwards
    return log_average(ratio + Normal(0.0, 1.0).log_prob(x).sum(1), x0)


estimates = torch.stack([from_the_data(eight, seed) for seed in range(5)])
print("eight points, five times:", *(f"{v:.1f}" for v in estimates))
print(f"density of the data there: {moons.log_prob(eight).sum():.1f}")

# %% [markdown]
# The five estimates now agree to within 0.4. They lie 0.6 to 1.0 below the data's own log-density.

# %% [markdown]
# ### The bound, measured
#
# How much do Jensen and the Gaussian steps cost? `elbo_terms` draws every term of (03.7) once. We feed it the perfect network of the mixture `pair`, so nothing is left to learn, and subtract the known $-\log q(x_0)$ of the data. Averaged over the data, what is left is the gap (03.4) plus the divergence of the model from the data. Both choices of the variance $\zeta_t^2$ that the paper names are tried, $\beta_t$ and $\tilde\beta_t$.
# Guess first: what happens to the gap as $T$ grows?

# %%
from diffusion_course import elbo_terms

pair = mixture("pair")
clean = pair.sample(8000, generator=generator)
sizes = {4: 8000, 10: 8000, 30: 8000, 100: 4000, 300: 3000, 1000: 2000}
gaps = {"fixed_large": [], "fixed_small": []}

# %%
for length, size in sizes.items():
    bars = make_schedule("cosine", length).alphas_cumprod
    for kind, found in gaps.items():
        bound = elbo_terms(
            pair.model(bars), clean[:size], bars, variance_type=kind,
            generator=generator,
        ).total
        gap = bound + pair.log_prob(clean[:size])
        found.append((gap.mean().item(), gap.std().item() / size**0.5))
        assert found[-1][0] > -4 * found[-1][1]  # the bound holds
print("T:         ", *(f"{length:11d}" for length in sizes))
for kind, found in gaps.items():
    print(kind, *(f"{mean:.2f} (+-{error:.2f})" for mean, error in found))

# %%
def flat_data(length):  # the sum of (03.18) for D = 2
    s = make_schedule("cosine", length)
    noise = 1 - s.alphas_cumprod
    rho = noise[1:] / noise[:-1]  # beta / beta-tilde
    return (rho - 1 - rho.log()).sum().item()


print("flat data:", {n: round(flat_data(n), 2) for n in (*sizes, 100_000)})
named = {
    r"$\zeta^2 = \beta$": [mean for mean, _ in gaps["fixed_large"]],
    r"$\zeta^2 = \tilde\beta$": [mean for mean, _ in gaps["fixed_small"]],
    r"flat data, $\tilde\beta$": [flat_data(n) for n in sizes],
}
fig = plotting.lines(
    torch.tensor(list(sizes)), named, logx=True,
    xlabel="number of steps $T$", ylabel="bound minus exact, nats",
    title=r"With $\beta$ the gap shrinks to about 0, with $\tilde\beta$ not",
)
show(fig, alt=(
    "Bound minus exact against T from 4 to 1,000. With beta it falls from 1.0 to "
    "about 0. With beta-tilde it lies between 0.7 and 1.4 and ends near 0.8. The sum "
    "for flat data rises to 2.0 and comes close to that curve from T = 300 on."
))

# %% [markdown]
# With $\zeta_t^2 = \beta_t$ the gap shrinks, and from $T = 100$ on it is no more than a few standard errors. With $\tilde\beta_t$, the variance of somebody who knows $x_0$, it is still open at $T = 1000$. The reason sits at the smallest $t$. There the data is flat at the scale of the noise: seen from $x_t$, the clean point may lie on any side, as far away as the noise reaches, and the right variance of the step is close to $\beta_t$. Somebody who knows $x_0$ has only $\tilde\beta_t$, the variance of the rest $r$ in *From means to noise*: $\tilde\beta_t = \beta_t\,(1-\bar\alpha_{t-1})/(1-\bar\alpha_t)$.
# By (03.9), with $\beta_t$ in the place of its $\tilde\beta$, $\tilde\beta_t$ in the place of its $\zeta^2$ and $\rho_t = \beta_t/\tilde\beta_t$, all steps together cost
#
# $$\sum_{t=2}^T \tfrac{D}{2}\,(\rho_t - 1 - \log\rho_t), \qquad \rho_t = \frac{1-\bar\alpha_t}{1-\bar\alpha_{t-1}} \tag{03.18}$$
#
# While $\beta_1, \dots, \beta_t$ are about equal and $1-\bar\alpha_t$ is small, $\rho_t \approx t/(t-1)$. With that the sum is $D/2$ times the sum of $\frac{1}{t-1} - \log\frac{t}{t-1}$, which runs to Euler's constant 0.577 as $T$ grows, so no number of steps removes it. In the cosine schedule the first $\beta$ are about equal only for $t$ well below $0.01\,T$, and the printed sums take their time to get there. They are for data that is flat at every level; the measured gap lies near them from $T = 300$ on, and below them from 10 to 100.
# For data on single points $\tilde\beta_t$ would be the better choice; lesson 04 returns to it.

# %% [markdown]
# ### Four names for one prediction
#
# Papers and checkpoints differ in what the network predicts: noise, clean data, $v$ or the score. You need to translate. Since $\bar\alpha_t + (1-\bar\alpha_t) = 1$, there is an angle with $\cos\varphi = \sqrt{\bar\alpha_t}$ and $\sin\varphi = \sqrt{1-\bar\alpha_t}$. You know $x_t$.
# A network that predicts *one* combination $y$ of $x_0$ and $\epsilon$ gives a second equation, and two equations determine both unknowns:
#
# $$\begin{gathered}
# \begin{pmatrix} x_t \\ y \end{pmatrix} = M \begin{pmatrix} x_0 \\ \epsilon \end{pmatrix}, \\[4pt]
# M_\epsilon = \begin{pmatrix} \cos\varphi & \sin\varphi \\ 0 & 1 \end{pmatrix},\quad
# M_{x_0} = \begin{pmatrix} \cos\varphi & \sin\varphi \\ 1 & 0 \end{pmatrix}, \\[4pt]
# M_v = \begin{pmatrix} \cos\varphi & \sin\varphi \\ -\sin\varphi & \cos\varphi \end{pmatrix},\quad
# M_{\text{score}} = \begin{pmatrix} \cos\varphi & \sin\varphi \\ 0 & -1/\sin\varphi \end{pmatrix}
# \end{gathered} \tag{03.19}$$
#
# Here $v = \cos\varphi\,\epsilon - \sin\varphi\,x_0$ (Salimans & Ho 2022, [arXiv 2202.00512](https://arxiv.org/abs/2202.00512), appendix D); it is the derivative of $x_t$ by $\varphi$. The score's row anticipates (03.22). Conditional means obey the same equations, because $x_t$ is given; so a perfect predictor of one is a perfect predictor of all.
#
# **Where each breaks down** is in the determinants: $\cos\varphi$, $-\sin\varphi$, $1$ and $-1/\tan\varphi$. Without signal ($\cos\varphi = 0$) neither the noise nor the score determines $x_0$. Without noise ($\sin\varphi = 0$) $x_0$ does not determine the noise. For $v$ the determinant is 1 everywhere, because $M_v$ is a rotation:

# %%
t = 250
c, s = levels[t].sqrt().item(), (1 - levels[t]).sqrt().item()
fig, ax = figure(5.2, 3.6)
for (name, (x, y)), color in zip(
    {"$x_0$": (1, 0), r"$\epsilon$": (0, 1), "$x_t$": (c, s), "$v$": (-s, c)}.items(),
    COLORS, strict=False,
):
    look = {"arrowstyle": "-|>", "color": color, "linewidth": 2}
    ax.annotate("", (x, y), (0, 0), arrowprops=look)
    ax.text(1.13 * x, 1.13 * y, name, color=color, ha="center", va="center", size=13)
ax.set(
    xlim=(-1.3, 1.35), ylim=(-0.25, 1.3), aspect="equal",
    xlabel="part of $x_0$", ylabel=r"part of $\epsilon$",
)
turned = math.degrees(math.acos(c))
ax.set_title(f"Index {t}: turned by {turned:.0f} degrees", loc="left")
show(fig, alt=(
    "Four unit arrows: x_0 to the right, epsilon up, x_t turned from x_0 by 44 degrees "
    "towards epsilon, and v at a right angle to x_t, turned by the same angle from "
    "epsilon."
))

# %% [markdown]
# We check `convert_prediction`, which knows no matrices, by solving the system with a linear solver, for every pair of names. A flipped sign in $M_v$ shows that the check can fail.

# %%
from diffusion_course import convert_prediction

ts = torch.tensor([0, 10, 400, 999])
c, s = levels[ts].sqrt(), (1 - levels[ts]).sqrt()
one, zero = torch.ones_like(c), torch.zeros_like(c)
rows = {
    "epsilon": (zero, one), "sample": (one, zero),
    "v_prediction": (-s, c), "score": (zero, -1 / s),
}
x0, eps = torch.randn(2, 4, 3, generator=generator, dtype=torch.float64)
xt = q_sample(x0, ts, levels, eps)


# %%
def worst_difference(rows):
    worst = 0.0
    for source, second in rows.items():
        y = second[0][:, None] * x0 + second[1][:, None] * eps
        M = torch.stack([torch.stack([c, s], 1), torch.stack(second, 1)], 1)
        solved = torch.linalg.solve(M, torch.stack([xt, y], 1))  # (4, 2, 3)
        for target, (on_x0, on_eps) in rows.items():
            wanted = on_x0[:, None] * solved[:, 0] + on_eps[:, None] * solved[:, 1]
            kinds = {"source": source, "target": target}
            converted = convert_prediction(y, xt, ts, levels, **kinds)
            worst = max(worst, (converted - wanted).abs().max().item())
    return worst


print(f"below 1e-6: {worst_difference(rows) < 1e-6}")
flipped = worst_difference({**rows, "v_prediction": (s, c)})
print(f"below 1e-6 with a flipped sign: {flipped < 1e-6}")

# %% [markdown]
# ### The score is the noise, rescaled
#
# Lesson 06 and much of the literature speak of the *score* of $x_t$, the gradient of its log-density, $\nabla \log q(x_t)$; it points to where $x_t$ is more likely (Song et al. 2021, [arXiv 2011.13456](https://arxiv.org/abs/2011.13456)). It comes out of the noise in three lines. The density of $x_t$ is an average over the data,
#
# $$q(x_t) = \int q(x_0)\,N\big(x_t;\, \sqrt{\bar\alpha_t}\,x_0,\, (1-\bar\alpha_t) I\big)\,dx_0 \tag{03.20}$$
#
# Differentiate under the integral. The gradient of a Gaussian density at $x$ is the density times $-(x - \text{mean})/\text{variance}$:
#
# $$\nabla q(x_t) = \int q(x_0)\,N(x_t;\, \dots)\left(-\frac{x_t - \sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}\right)dx_0 \tag{03.21}$$
#
# Divide by $q(x_t)$. On the left stands $\nabla\log q(x_t)$. On the right $q(x_0)\,N(\dots)/q(x_t)$ is $q(x_0 \mid x_t)$ by Bayes' rule, so we have a conditional mean; and $x_t - \sqrt{\bar\alpha_t}\,x_0 = \sqrt{1-\bar\alpha_t}\,\epsilon$:
#
# $$\nabla\log q(x_t) = -\frac{E[\epsilon \mid x_t]}{\sqrt{1-\bar\alpha_t}} \tag{03.22}$$
#
# Automatic differentiation of the mixture's log-density knows nothing of this:

# %%
places = 2 * torch.randn(500, 2, generator=generator, dtype=torch.float64)
places.requires_grad_()
for i in (5, 200, 800):
    (gradient,) = torch.autograd.grad(moons.log_prob(places, levels[i]).sum(), places)
    answer = moons.posterior_mean(places.detach(), levels[i])  # by way of x_0
    answer = (places.detach() - levels[i].sqrt() * answer) / (1 - levels[i]).sqrt()
    assert_close(gradient, -answer / (1 - levels[i]).sqrt())
    wrong = -answer / (1 - levels[i])  # the variance in place of its root
    print(f"index {i}: agrees; without the root: {torch.allclose(gradient, wrong)}")

# %%
fields = {
    f"index {i}": lambda x, i=i: -moons.noise_prediction(x, levels[i])
    for i in (100, 300, 700)
}
fig = plotting.vector_field(
    fields, limit=2.5,
    title="Minus the best answer points uphill, to where noisy data is denser",
)
show(fig, alt=(
    "Arrows in the plane for index 100, 300 and 700. At index 100 they point from "
    "outside to the region of the arcs and nearly vanish inside it. At 300 and 700 "
    "they point to the centre from all sides."
))

# %% [markdown]
# ### Other weights
#
# "Mean squared error" is a different loss for each name of the prediction, and papers use other weights than the two of the core. To compare them, measure every error in units of the noise's. Let the predicted noise be off by $d$. Up to the sign, $\hat x_0$ is then off by $d\tan\varphi$, $v$ by $d/\cos\varphi$ and the score by $d/\sin\varphi$.
# With $\mathrm{SNR} = \bar\alpha_t/(1-\bar\alpha_t) = 1/\tan^2\varphi$ from lesson 02:
#
# | prediction | its squared error, in units of the noise's | weight on its squared error that has the effect of $w$ on the noise's |
# |---|---|---|
# | $\epsilon$ | $1$ | $w$ |
# | $x_0$ | $1/\mathrm{SNR}$ | $w \cdot \mathrm{SNR}$ |
# | $v$ | $(\mathrm{SNR}+1)/\mathrm{SNR}$ | $w \cdot \mathrm{SNR}/(\mathrm{SNR}+1)$ |
# | score | $\mathrm{SNR} + 1$ | $w/(\mathrm{SNR}+1)$ |
#
# $L_{\text{simple}}$ on $\epsilon$ is thus the weight $\mathrm{SNR}$ on $x_0$: 9,999 at $t = 1$ and 0.00004 at $t = 1000$. **Min-SNR** (Hang et al. 2023, [arXiv 2303.09556](https://arxiv.org/abs/2303.09556)) cuts that off at $\gamma = 5$: the weight on $x_0$ is $\min(\mathrm{SNR}, \gamma)$. By the table,
#
# $$w_\epsilon = \frac{\min(\mathrm{SNR}, \gamma)}{\mathrm{SNR}},\qquad w_v = \frac{\min(\mathrm{SNR}, \gamma)}{\mathrm{SNR}+1} \tag{03.23}$$
#
# On the noise's error this is 0.0005 at $t = 1$, where the bound has 0.50 and $L_{\text{simple}}$ has 1: min-SNR does not lie between the two. By (03.16) no positive weight changes the best answer at a given $t$; it decides where a network of limited size and training time spends its effort.
# The authors report faster training on images. Nothing derives $\gamma = 5$; it is a setting that worked.
# (The weights of the bound in the core are all below 1, so the *sum* of the unweighted errors, with the constants, still bounds $-\log p(x_0)$, only loosely.)
#
# To check the package, we measure the error of $x_0$ directly, weigh it by $\min(\mathrm{SNR}, 5)$ typed by hand, and ask whether the package's weights on the other errors give the same losses. Three wrong weights must not.

# %%
ts = torch.tensor([3, 50, 300, 900])
c, s = levels[ts, None].sqrt(), (1 - levels[ts, None]).sqrt()
ratio = (levels / (1 - levels))[ts]
x0, eps, guess = torch.randn(3, 4, 2, generator=generator, dtype=torch.float64)
xt = c * x0 + s * eps
x0_guess = (xt - s * guess) / c
off = {
    "epsilon": guess - eps, "sample": x0_guess - x0,
    "v_prediction": c * guess - s * x0_guess - (c * eps - s * x0),
    "score": (eps - guess) / s,
}

# %%
for name, weight in (
    ("min(SNR, 5)", ratio.clamp(max=5)), ("no cut", ratio),
    ("max(SNR, 5)", ratio.clamp(min=5)), ("sin(t)", ts.double().sin()),
):
    wanted = weight * (off["sample"] ** 2).mean(1)
    same = []
    for kind, error in off.items():
        theirs = loss_weight(ts, levels, prediction_type=kind, weighting="min_snr")
        same.append(torch.allclose(theirs * (error**2).mean(1), wanted))
    print(f"{name:11s} agrees for", same.count(True), "of 4 predictions")

# %% [markdown]
# ### Three slips with weights
#
# Weights are easy to get wrong, because training runs on with any of them.
#
# **Min-SNR for $v$.** A training script had $\min(\mathrm{SNR} + 1, \gamma)/(\mathrm{SNR} + 1)$ ([huggingface/diffusers#5238](https://github.com/huggingface/diffusers/pull/5238)); it was reported ([#5654](https://github.com/huggingface/diffusers/issues/5654)) and corrected ([#6307](https://github.com/huggingface/diffusers/pull/6307)). Divide by $\mathrm{SNR}/(\mathrm{SNR}+1)$ to see which weight that is on the noise's error.
#
# **A target scaled by the noise level.** $x_t$ contains $\sqrt{1-\bar\alpha_t}\,\epsilon$, so should the target not be that? People ask ([Stability-AI/stablediffusion#405](https://github.com/Stability-AI/stablediffusion/issues/405)). It could be: the factor is known, so the best prediction is the factor times $E[\epsilon \mid x_t]$. But its squared error is $1-\bar\alpha_t$ times that of $\epsilon$. Without saying so you have chosen a weight, 0.0001 at $t = 1$.

# %%
ratio = levels / (1 - levels)
on_noise = {
    "L_simple": torch.ones(1000),
    "min-SNR": loss_weight(every, levels, weighting="min_snr"),
    "v, slip": (ratio + 1).clamp(max=5) / ratio,
    "scaled target": 1 - levels,
}
excessive = on_noise["v, slip"][-1] / on_noise["min-SNR"][-1]
print(f"at t = 1000 the slip weighs the noise's error {excessive:.0f} times too much")
fig = plotting.lines(
    every + 1, on_noise, xlabel="$t$", ylabel="weight on the noise's error",
    logx=True, logy=True, title="Four weights, all called mean squared error",
)
show(fig, alt=(
    "Weights on the squared noise error against t, logarithmic axes. L_simple is 1. "
    "Min-SNR rises from 0.0005 to 1 at t = 131. The v slip follows it and keeps "
    "rising, to 25,000 at t = 1000. The scaled target rises from 0.0001 to 1."
))

# %% [markdown]
# **Dividing by an SNR of 0.** At the end of a zero-terminal schedule $\min(\mathrm{SNR}, \gamma)/\mathrm{SNR}$ is $0/0$. The package writes $\min(1, \gamma/\mathrm{SNR})$, which is 1 there.

# %%
ended = make_schedule("linear", zero_terminal_snr=True).alphas_cumprod
ratio = ended / (1 - ended)
careful = loss_weight(torch.tensor([999]), ended, weighting="min_snr").item()
print(f"0/0: {(ratio.clamp(max=5.0) / ratio)[-1]:.0f}, package: {careful:.0f}")

# %% [markdown]
# ### v, and what it is not
#
# A network does not say what it predicts. Somebody trained Stable Diffusion 2.1, a $v$ network, with a script that assumed $\epsilon$, and got noise ([huggingface/peft#421](https://github.com/huggingface/peft/issues/421)). And $v$ has a double: flow matching speaks of a velocity, $\epsilon - x_0$ or $x_0 - \epsilon$, without cosine and sine. This course never calls $v$ a velocity.
# The next cell takes the exact $v$ network of the mixture `pair` and changes only how its answer is read.

# %%
for read_as in ("v_prediction", "epsilon", "sample"):
    drawn = p_sample_loop(
        pair.model(hundred.alphas_cumprod, "v_prediction"), (1000, 2),
        hundred.betas, hundred.alphas, hundred.alphas_cumprod,
        generator=generator, dtype=torch.float64, prediction_type=read_as,
    )
    distance = torch.cdist(drawn, pair.means).min(1).values.mean()
    print(f"read as {read_as:12s}: mean distance to a centre {distance:.1f}")
distance = torch.cdist(clean, pair.means).min(1).values.mean()
print(f"data                : {distance:.1f}")

# %% [markdown]
# Shapes and dtypes are right, so no error is raised.

# %% [markdown]
# ### To read further
#
# - Kingma et al. 2021, https://arxiv.org/abs/2107.00630: the same bound in continuous time, where only the ends of the signal-to-noise ratio are left of the schedule.
# - Hang et al. 2023, https://arxiv.org/abs/2303.09556: the loss at each $t$ seen as one task among many, and min-SNR as a compromise.
