# %% [markdown]
# # 02 · Closed-form sampling
#
# After this lesson you can:
#
# - derive $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ from the one-step kernel, with no step missing,
# - draw $x_t$ for any $t$ in one line, and prove in code that it has the distribution of $t$ small steps,
# - read a noise schedule through its signal-to-noise ratio,
# - say why a schedule made for 1000 steps fails with 50, and repair it,
# - make a chain end in pure noise, and say what goes wrong if it does not.
#
# You need: lesson 01 (the one-step kernel and the variance recursion).
#
# **Measured cost:** 0.3 min on 2 cores, 0.8 GB of memory at the peak.

# %%
import math

import torch

import diffusion_course as dc
from diffusion_course import (
    NoiseSchedule,
    check,
    exercise,
    make_schedule,
    plotting,
    q_sample,
    q_step,
    seed_everything,
    show,
)

generator = seed_everything(0)
# (1, 3, 96, 96) in [-1, 1]
photo = dc.load_dataset("photos", size=96).images[:1].double()

# %% [markdown]
# ## Recall
#
# 1. One forward step is $q(x_t \mid x_{t-1}) = N\big(\sqrt{1-\beta_t}\,x_{t-1},\ \beta_t I\big)$.
#    Why is the mean multiplied by $\sqrt{1-\beta_t}$ and not by 1?
# 2. If $x_{t-1}$ has variance 4 and $\beta_t = 0.5$, what is the variance of $x_t$?
#
# <details><summary>Answers</summary>
#
# 1. Without the factor every step adds variance and the chain grows without bound. With it,
#    $\operatorname{Var} x_t = (1-\beta_t)\operatorname{Var} x_{t-1} + \beta_t$, and 1 is the value that stays.
# 2. $0.5\cdot 4 + 0.5 = 2.5$: it moves towards 1.
#
# </details>

# %% [markdown]
# ## Predict first
#
# Lesson 01 walked to $x_t$ in $t$ steps. The pictures below were not walked: each is one line, one draw of noise, at its own $t$. You derive that line in this lesson.

# %%
thousand = make_schedule("linear", 1000)
seen = (0, 99, 199, 399, 999)
strip = q_sample(
    photo.expand(5, -1, -1, -1), torch.tensor(seen), thousand.alphas_cumprod,
    generator=generator,
)
fig = plotting.image_strip(
    strip, column_labels=[f"t = {t}" for t in seen], scale=1.3,
    title="Five noise levels, each reached in one jump",
)
show(fig, alt=(
    "A photograph of a tower at t = 0, 99, 199, 399 and 999 of 1000 steps: "
    "clean, grainy, very grainy, hardly visible, pure noise."
))

# %% [markdown]
# The schedule is the linear one of [Ho et al. 2020](https://arxiv.org/abs/2006.11239) (section 4): $T = 1000$ steps with $\beta$ from
# $10^{-4}$ to $0.02$. After the last step $x_0$ is multiplied by 0.00635: nothing is left to see.
#
# Many small projects keep the two end values and use fewer steps. **With $T = 50$, by which factor is $x_0$ multiplied at
# the end?** Write your guess, a number between 0 and 1, in place of `None`. The lesson answers it further down.

# %%
my_guess = None

# %% [markdown]
# ## Three steps by hand
#
# Take one pixel, $x_0 = 2$, and three steps with $\beta_1 = 0.1$, $\beta_2 = 0.2$, $\beta_3 = 0.5$. Let the three noises drawn be
# $\epsilon_1 = 1$, $\epsilon_2 = -1$, $\epsilon_3 = 0.5$. Write $\alpha_t = 1 - \beta_t$; here $\alpha = 0.9,\ 0.8,\ 0.5$. The step of lesson 01 is
#
# $$ x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{1-\alpha_t}\;\epsilon_t . \tag{02.1} $$
#
# Walk it:
#
# $$ x_1 = \sqrt{0.9}\cdot 2 + \sqrt{0.1}\cdot 1 = 1.8974 + 0.3162 = 2.2136 $$
# $$ x_2 = \sqrt{0.8}\cdot 2.2136 + \sqrt{0.2}\cdot(-1) = 1.9799 - 0.4472 = 1.5327 $$
# $$ x_3 = \sqrt{0.5}\cdot 1.5327 + \sqrt{0.5}\cdot 0.5 = 1.0838 + 0.3536 = 1.4373 $$
#
# Now put the first line into the second and the second into the third, without numbers for $x_0$ and the noises.
# Each earlier term is multiplied by the roots of all later $\alpha$:
#
# $$ x_3 = \underbrace{\sqrt{0.9\cdot 0.8\cdot 0.5}}_{\sqrt{0.36}\,=\,0.6}\,x_0
#  + \underbrace{\sqrt{0.1\cdot 0.8\cdot 0.5}}_{\sqrt{0.04}\,=\,0.2}\,\epsilon_1
#  + \underbrace{\sqrt{0.2\cdot 0.5}}_{\sqrt{0.1}\,=\,0.3162}\,\epsilon_2
#  + \underbrace{\sqrt{0.5}}_{0.7071}\,\epsilon_3 . $$
#
# With the numbers: $0.6\cdot 2 + 0.2 - 0.3162 + 0.3536 = 1.4373$. The same pixel.
#
# Look at the squares of the four factors: $0.36$ for $x_0$, and $0.04 + 0.1 + 0.5 = 0.64$ for the noises together. They add up to 1.
# So $x_3$ is $0.6\,x_0$ plus noise of variance $0.64$, that is $0.8\,\epsilon$ with one standard normal $\epsilon$.
# Three draws have become one. The rest of this lesson shows that this is no accident of the numbers.

# %%
betas3 = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
noises = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
x = torch.full((1, 1), 2.0, dtype=torch.float64)  # (B=1, one pixel)
for t in range(3):
    x = q_step(x, torch.tensor([t]), betas3, noises[t].reshape(1, 1))
    print(f"x_{t + 1} = {x.item():.4f}")
by_hand = 0.6 * 2 + 0.2 * noises[0] + 0.1**0.5 * noises[1] + 0.5**0.5 * noises[2]
torch.testing.assert_close(x.squeeze(), by_hand)

# %% [markdown]
# In code `t` is an index from 0 to $T-1$: `t = 0` is the first step of noise, the papers' $t = 1$. The formulas keep the papers' $t$.
# This holds for the whole course.
#
# ## Two noises make one
#
# The step from three draws to one needs a fact: if $\epsilon$ and $\epsilon'$ are independent standard normal numbers, then
#
# $$\begin{gathered}
# a\,\epsilon + b\,\epsilon' \quad\text{has the same distribution as}\quad \sqrt{a^2 + b^2}\;\epsilon'' , \\
# \epsilon''\sim N(0, 1).
# \end{gathered} \tag{02.2}$$
#
# *Its mean and variance.* The mean is $a\cdot 0 + b\cdot 0 = 0$. The variance is
# $\mathbb E[(a\epsilon + b\epsilon')^2] = a^2\,\mathbb E[\epsilon^2] + 2ab\,\mathbb E[\epsilon\epsilon'] + b^2\,\mathbb E[\epsilon'^2] = a^2 + b^2$,
# because independence makes the middle term $\mathbb E[\epsilon]\,\mathbb E[\epsilon'] = 0$.
#
# *That it is normal.* The joint density of $(\epsilon, \epsilon')$ is $\frac{1}{2\pi}e^{-(\epsilon^2 + \epsilon'^2)/2}$. It depends only on the distance from the
# origin, so turning the plane does not change it. Turn the axes so that the first points along the unit vector $(a, b)/\sqrt{a^2+b^2}$. The coordinate
# along it is $(a\epsilon + b\epsilon')/\sqrt{a^2+b^2}$, and as one coordinate of the same density it is again $N(0, 1)$. Multiply by $\sqrt{a^2+b^2}$.
#
# For pictures (02.2) holds pixel by pixel, because the pixels' noises are independent.
# What adds is the *variances*, $a^2$ and $b^2$, never the factors $a$ and $b$.

# %% [markdown]
# ## From one step to t steps
#
# Define the running product
#
# $$ \bar\alpha_t = \alpha_1\alpha_2\cdots\alpha_t = \prod_{s=1}^{t}(1-\beta_s), \qquad \bar\alpha_0 = 1 . \tag{02.3} $$
#
# **Claim** ([Ho et al. 2020](https://arxiv.org/abs/2006.11239), eq. 4). For every $t$, given $x_0$,
#
# $$ x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon, \qquad \epsilon\sim N(0, I). \tag{02.4} $$
#
# **Base case**, $t = 1$. Then $\bar\alpha_1 = \alpha_1$, and (02.4) is (02.1) with $t = 1$.
#
# **Step from $t-1$ to $t$.** Suppose the claim holds for $t-1$:
#
# $$ x_{t-1} = \sqrt{\bar\alpha_{t-1}}\;x_0 + \sqrt{1-\bar\alpha_{t-1}}\;\epsilon' . $$
#
# Put it into (02.1):
#
# $$ x_t = \sqrt{\alpha_t}\Big(\sqrt{\bar\alpha_{t-1}}\;x_0 + \sqrt{1-\bar\alpha_{t-1}}\;\epsilon'\Big) + \sqrt{1-\alpha_t}\;\epsilon_t . $$
#
# Multiply out, and use $\alpha_t\,\bar\alpha_{t-1} = \bar\alpha_t$ on the first term:
#
# $$ x_t = \sqrt{\bar\alpha_t}\;x_0 + \underbrace{\sqrt{\alpha_t(1-\bar\alpha_{t-1})}}_{a}\;\epsilon' + \underbrace{\sqrt{1-\alpha_t}}_{b}\;\epsilon_t . $$
#
# $\epsilon'$ is made of the noises of steps $1, \dots, t-1$ only, and step $t$ draws $\epsilon_t$ afresh, so the two are independent and (02.2) merges them. Its variance is
#
# $$ a^2 + b^2 = \alpha_t - \alpha_t\bar\alpha_{t-1} + 1 - \alpha_t = 1 - \bar\alpha_t . $$
#
# So $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$, which is (02.4). Base case and step give it for every $t$. $\blacksquare$
#
# The three-step example was $\bar\alpha_3 = 0.36$: the factors 0.6 and 0.8.
#
# This is the function of the package. Every lesson after this one calls these lines.

# %%
dc.show_source(q_sample)

# %% [markdown]
# ### What the jump does not give you
#
# (02.4) is the distribution of one $x_t$. It is not a path. The $\epsilon$ in $x_2$ and the $\epsilon$ in $x_1$ are different mixtures of the
# steps' noises. If you use one $\epsilon$ for all $t$, each $x_t$ is right on its own and the sequence is wrong.
#
# From (02.1), the part of $x_2$ that comes from the noise in $x_1$ is $\sqrt{\alpha_2}$ times that noise. So
# $\operatorname{Cov}(x_1, x_2 \mid x_0) = \sqrt{\alpha_2}\,(1-\bar\alpha_1)$, and the correlation is this over the two standard deviations:
# $\sqrt{0.8}\cdot 0.1/\sqrt{0.1\cdot 0.28} = 0.535$ in the example. One $\epsilon$ for both gives 1.

# %%
alphas_cumprod3 = (1 - betas3).cumprod(0)
x0 = torch.full((50_000, 1), 2.0, dtype=torch.float64)
first = torch.zeros(50_000, dtype=torch.long)
second = torch.ones(50_000, dtype=torch.long)
x1 = q_step(x0, first, betas3, generator=generator)
x2 = q_step(x1, second, betas3, generator=generator)
walked = torch.corrcoef(torch.cat([x1, x2], dim=1).T)[0, 1]
one_noise = dc.process.noise_like(x0, generator)
same = [q_sample(x0, t, alphas_cumprod3, one_noise) for t in (first, second)]
jumped = torch.corrcoef(torch.cat(same, dim=1).T)[0, 1]
print(
    f"correlation of x_1 and x_2: walked {walked:.2f}, one noise for both {jumped:.2f}"
)
torch.testing.assert_close(walked, torch.tensor(0.5345).double(), atol=0.02, rtol=0)

# %% [markdown]
# ## A thousand kernels against one jump
#
# Check (02.4) without its proof. A kernel maps a Gaussian with mean $m$ and covariance $C$ to one with mean $\sqrt{1-\beta}\,m$ and covariance
# $(1-\beta)\,C + \beta I$. Start from a point ($m = x_0$, $C = 0$) and apply all 1000 kernels, one after another, to both. No product
# $\bar\alpha$ appears in this loop.

# %%
def compose(betas, x0, sign=1):
    """Push mean (D,) and covariance (D, D) of a point through every kernel in turn."""
    mean, covariance = x0.clone(), torch.zeros(len(x0), len(x0), dtype=x0.dtype)
    identity = torch.eye(len(x0), dtype=x0.dtype)
    for beta in betas:
        mean = (1 - beta).sqrt() * mean
        covariance = (1 - beta) * covariance + sign * beta * identity
    return mean, covariance


point = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)

# %%
for name in ("linear", "scaled_linear", "cosine", "sigmoid"):
    schedule = make_schedule(name)
    for steps in (1, 300, 1000):
        mean, covariance = compose(schedule.betas[:steps], point)
        alpha_bar = schedule.alphas_cumprod[steps - 1]
        torch.testing.assert_close(mean, alpha_bar.sqrt() * point)
        torch.testing.assert_close(
            covariance, (1 - alpha_bar) * torch.eye(3, dtype=torch.float64)
        )
    print(f"{name:>13}: 1, 300 and 1000 kernels agree with the jump")

# %% [markdown]
# A check is worth something if it can fail. Change one sign, so that each kernel removes variance where it should add it:

# %%
linear = make_schedule("linear")
try:
    _, covariance = compose(linear.betas, point, sign=-1)
    torch.testing.assert_close(
        covariance, (1 - linear.alphas_cumprod[-1]) * torch.eye(3, dtype=torch.float64)
    )
except AssertionError as error:
    print("caught:", str(error).splitlines()[0])

# %% [markdown]
# Now with random numbers: 20,000 copies of one pixel $x_0 = 1.5$, walked through 40 steps, against 20,000 jumps. The mean of
# 20,000 draws with standard deviation $\sigma$ is off by about $\sigma/\sqrt{20000}$, its variance by about $\sigma^2\sqrt{2/20000}$; allow four times that.

# %%
short = make_schedule("linear", 100, beta_start=1e-3, beta_end=0.2)
x0 = torch.full((20_000, 1), 1.5, dtype=torch.float64)
walk = x0
for t in range(40):
    walk = q_step(walk, torch.full((20_000,), t), short.betas, generator=generator)
jump = q_sample(
    x0, torch.full((20_000,), 39), short.alphas_cumprod, generator=generator
)

# %%
alpha_bar = short.alphas_cumprod[39].item()
mean, std = 1.5 * alpha_bar**0.5, (1 - alpha_bar) ** 0.5
for name, x in (("walk", walk), ("jump", jump)):
    assert abs(x.mean().item() - mean) < 4 * std / 20_000**0.5, name
    assert abs(x.var().item() - std**2) < 4 * std**2 * (2 / 20_000) ** 0.5, name
    print(
        f"{name}: mean {x.mean():.2f}, standard deviation {x.std():.2f}  (formula: "
        f"{mean:.2f}, {std:.2f})"
    )

# %%
grid = torch.linspace(-2.5, 4, 200).double()
density = torch.distributions.Normal(mean, std).log_prob(grid).exp()
fig = plotting.histogram_against_density(
    {"40 small steps": walk[:, 0], "one jump": jump[:, 0]},
    grid, {"40 small steps": density, "one jump": density},
    xlabel="$x_{40}$", title="Walking and jumping give one distribution",
)
show(fig, alt=(
    f"Two histograms of 20,000 values under the same bell curve, mean {mean:.2f}, "
    f"standard deviation {std:.2f}. The left one comes from 40 small steps, "
    "the right one from one jump; they look alike."
))

# %% [markdown]
# The jump costs one draw, the walk forty. Training uses the jump: it picks a random $t$ for each picture and never walks.

# %% [markdown]
# ## Signal-to-noise ratio
#
# Two numbers describe $x_t$: the factor $\sqrt{\bar\alpha_t}$ on the signal and $\sqrt{1-\bar\alpha_t}$ on the noise. Their squares add up to 1, so one number is enough.
# For data of variance 1 the signal part has variance $\bar\alpha_t$, the noise part $1-\bar\alpha_t$. Their ratio is the signal-to-noise ratio
# ([Kingma et al. 2021](https://arxiv.org/abs/2107.00630)):
#
# $$ \mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t}, \qquad \bar\alpha_t = \frac{\mathrm{SNR}(t)}{1+\mathrm{SNR}(t)} . \tag{02.5} $$
#
# The second form is the first one solved for $\bar\alpha_t$. Divide (02.4) by $\sqrt{\bar\alpha_t}$ to see what the ratio means:
#
# $$ \frac{x_t}{\sqrt{\bar\alpha_t}} = x_0 + \sigma_t\,\epsilon, \qquad \sigma_t = \sqrt{\frac{1-\bar\alpha_t}{\bar\alpha_t}} = \mathrm{SNR}(t)^{-1/2} . \tag{02.6} $$
#
# Up to a known factor, $x_t$ is the clean picture plus noise of size $\sigma_t$, and $\sigma_t$ depends on the SNR alone.
# Two schedules that have the same SNR, at whatever $t$, show the same picture at the same noise. **A schedule chooses only when each SNR is reached.**
#
# Check (02.6) on the photograph: $\mathrm{SNR} = 4$ means $\sigma = 0.5$. Take the noise out again and measure it.

# %%
# (02.5): a table with one entry
alpha_bar = torch.tensor([4 / (1 + 4)], dtype=torch.float64)
xt = q_sample(photo, torch.tensor([0]), alpha_bar, generator=generator)
residue = xt / alpha_bar.sqrt() - photo
print(
    f"SNR {dc.snr(alpha_bar).item():.1f}: the noise on the photograph has standard "
    f"deviation {residue.std():.3f}"
)
torch.testing.assert_close(residue.std(), torch.tensor(0.5).double(), rtol=0.02, atol=0)

# %% [markdown]
# ## Four schedules
#
# Write $u = \frac{t-1}{T-1}$, which runs from 0 at the first step to 1 at the last.
#
# | name | definition | where it comes from |
# |---|---|---|
# | `linear` | $\beta_t = \beta_{\min} + u\,(\beta_{\max} - \beta_{\min})$, from $10^{-4}$ to $0.02$ | [Ho et al. 2020](https://arxiv.org/abs/2006.11239), section 4 |
# | `scaled_linear` | $\beta_t = \big(\sqrt{\beta_{\min}} + u\,(\sqrt{\beta_{\max}} - \sqrt{\beta_{\min}})\big)^2$, from $0.00085$ to $0.012$ | the code and configuration of [latent diffusion](https://arxiv.org/abs/2112.10752) and Stable Diffusion, where it is called "linear"; diffusers named it |
# | `cosine` | $\bar\alpha_t = f(t)/f(0)$, $f(t) = \cos^2\!\big(\frac{t/T + s}{1+s}\cdot\frac{\pi}{2}\big)$, $s = 0.008$; $\beta_t = \min(1 - \bar\alpha_t/\bar\alpha_{t-1},\ 0.999)$ | [Nichol & Dhariwal 2021](https://arxiv.org/abs/2102.09672), eq. 17 |
# | `sigmoid` | $\beta_t = \beta_{\min} + (\beta_{\max}-\beta_{\min})\,\frac{1}{1+e^{-(12u-6)}}$ with the same $10^{-4}$ and $0.02$, which it nearly reaches | the code of [GeoDiff](https://arxiv.org/abs/2203.02923); "sigmoid" in diffusers |
#
# Three of them choose the $\beta_t$ and take whatever $\bar\alpha_t$ comes out. The cosine schedule starts from the other end: it chooses
# the curve of $\bar\alpha_t$ and computes the steps from it. From (02.3), $\bar\alpha_t = \alpha_t\,\bar\alpha_{t-1}$, so
#
# $$ \beta_t = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}} . \tag{02.7} $$
#
# Two details of the cosine schedule have reasons. The offset $s$ keeps the first steps from being too small: the authors chose it so that
# $\sqrt{\beta_1}$ is slightly below the distance $1/127.5$ between two grey values. The cap 0.999 stops the last step, where $f(T) = 0$ would give $\beta_T = 1$.
# A name is not a definition: another "sigmoid" schedule defines $\bar\alpha_t$ itself by a logistic curve ([Jabri et al. 2022](https://arxiv.org/abs/2212.11972)).

# %%
cosine = make_schedule("cosine")
print(
    f"cosine, T = 1000: sqrt(beta_1) = {cosine.betas[0].sqrt():.5f}, "
    f"one grey value = {1 / 127.5:.5f}"
)
u = torch.arange(1001).double() / 1000  # t / T
curve = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
torch.testing.assert_close(cosine.alphas_cumprod[:-1], (curve / curve[0])[1:-1])
print(
    f"without the cap, the last beta would be {1 - curve[-1] / curve[-2]:.3f}; "
    f"it is {cosine.betas[-1]:.3f}"
)

# %%
names = ("linear", "scaled_linear", "cosine", "sigmoid")
schedules = {name: make_schedule(name) for name in names}
steps = torch.arange(1000)
fig = plotting.lines(
    steps, {name: s.betas for name, s in schedules.items()},
    xlabel="index t", ylabel=r"$\beta_t$", logy=True,
    title="How much noise each step adds: the cosine schedule ends in large steps",
)
show(fig, alt=(
    "Four curves of beta over t on a logarithmic axis. Linear rises from 0.0001 "
    "and sigmoid from 0.00015, both to 0.02, scaled linear from 0.00085 to 0.012, "
    "cosine from 0.00004 through 0.003 in the middle to 0.999 at the end."
))

# %%
fig = plotting.lines(
    steps, {name: s.alphas_cumprod.sqrt() for name, s in schedules.items()},
    xlabel="index t", ylabel=r"factor on $x_0$, $\sqrt{\bar\alpha_t}$",
    title="Half of the factor is gone at t = 368 or at t = 664, "
          "as the schedule decides",
)
half = {
    name: int((s.alphas_cumprod.sqrt() > 0.5).sum()) for name, s in schedules.items()
}
show(fig, alt=(
    "Four falling curves of the factor on x_0 from 1 towards 0. "
    "They pass one half at t = "
    + ", ".join(f"{t} ({name})" for name, t in half.items())
    + "."
))

# %%
fig = plotting.lines(
    steps, {name: s.snr.log() for name, s in schedules.items()}, xlabel="index t",
    ylabel="log SNR (natural)", title="In log-SNR the ends of the schedules part",
)
show(fig, alt=(
    "Four falling curves of log-SNR. "
    "They start between 7 (scaled linear) and 10 (cosine) and cross zero "
    f"between t = {min(int((s.snr > 1).sum()) for s in schedules.values())} "
    f"and t = {max(int((s.snr > 1).sum()) for s in schedules.values())}. "
    "At the end scaled linear reaches -5.4, linear and sigmoid -10.1, "
    "cosine -19.8 after a steep last stretch."
))

# %% [markdown]
# The same SNR comes at different $t$. Pick four ratios, find in each schedule the step that is closest, and add the same noise to the photograph.

# %%
levels = [10.0, 1.0, 0.1, 0.01]
near = {
    name: [int((s.snr.log() - math.log(level)).abs().argmin()) for level in levels]
    for name, s in schedules.items()
}
print(f"{'SNR':>13} " + " ".join(f"{level:>6g}" for level in levels))
for name in names:
    print(f"{name:>13} " + " ".join(f"{t:>6d}" for t in near[name]))

# %%
noise = dc.process.noise_like(photo, generator)
rows = [
    torch.cat([
        q_sample(photo, torch.tensor([t]), s.alphas_cumprod, noise) for t in near[name]
    ])
    for name, s in schedules.items()
]
worst = max((row - rows[0]).abs().max().item() for row in rows)
labels = [f"SNR {level:g}" for level in levels]
fig = plotting.image_strip(
    rows, column_labels=labels, row_labels=names, scale=1.1,
    title="Equal SNR, equal picture, whatever the schedule",
)
show(fig, alt=(
    "A photograph of a building under four schedules (rows) at SNR 10, 1, 0.1 and "
    "0.01 (columns). Within a column the pictures look alike. At SNR 10 it is grainy, "
    "at 1 the shapes stand, at 0.1 large shapes can be guessed, at 0.01 it is noise."
))
print(
    f"largest difference of a pixel within a column: {worst:.2f} (the steps do not hit "
    "the SNR exactly)"
)

# %% [markdown]
# Does the choice matter, then? To the data no: every schedule passes through the same pictures. To training and sampling yes, because both spend
# their effort evenly over $t$. A schedule that rushes through an SNR gives the network few examples there, and the sampler few steps. Which SNR deserve
# the effort is an empirical matter and depends on the size of the pictures ([Chen 2023](https://arxiv.org/abs/2301.10972)). Nothing here proves one schedule best.

# %% [markdown]
# ## The same betas, fewer steps
#
# Now your prediction. Take the logarithm of the factor on $x_0$; the product becomes a sum, and $\log(1-\beta)\approx-\beta$ for small $\beta$:
#
# $$\begin{aligned}
# \log\sqrt{\bar\alpha_T} &= \tfrac12\sum_{t=1}^{T}\log(1-\beta_t) \approx -\tfrac12\sum_{t=1}^{T}\beta_t \\
# &= -\tfrac{T}{2}\cdot\frac{\beta_{\min}+\beta_{\max}}{2} \quad\text{(linear)}.
# \end{aligned} \tag{02.8}$$
#
# The sum of an evenly spaced list is its length times the mean of its ends. With $10^{-4}$ and $0.02$ the mean is $0.01005$, so $T = 1000$ gives about
# $e^{-5.03} = 0.0066$. With $T = 50$ the exponent is twenty times smaller: $e^{-0.251} = 0.778$.

# %%
left = {
    T: make_schedule("linear", T).alphas_cumprod[-1].sqrt().item()
    for T in (1000, 300, 200, 50)
}
for T, factor in left.items():
    print(
        f"T = {T:>4}: sqrt(abar_T) = {factor:.4f}   (02.8) gives "
        f"{math.exp(-T / 2 * 0.01005):.4f}"
    )
if my_guess is None:
    print("You made no guess: write a number into my_guess above and run on.")
else:
    print(
        f"You guessed {my_guess:g}; it is {left[50]:.2f}.",
        "Close." if abs(my_guess - left[50]) < 0.1 else "Compare (02.8).",
    )

# %%
endings = {f"linear, T = {T}": make_schedule("linear", T) for T in (1000, 300, 200, 50)}
ends = [
    q_sample(photo, torch.tensor([s.num_train_timesteps - 1]), s.alphas_cumprod, noise)
    for s in endings.values()
]
titles = [f"T = {T}: {factor:.4f}" for T, factor in left.items()]
fig = plotting.image_grid(
    torch.cat([*ends, noise]),
    columns=5, titles=[*titles, "start of sampling"], scale=1.4,
    title=r"The last step of the same $\beta$ range: with T = 50 the "
          r"photograph is all there",
)
show(fig, alt=(
    "Five pictures. At the end of 1000 steps only noise is seen; with 300 and with "
    "200 steps a tower shows faintly, with 50 the photograph is plain under its grain. "
    "The fifth picture, pure noise, is where sampling starts."
))

# %% [markdown]
# Sampling starts from $N(0, I)$. That is right only if the chain ends there. With $T = 50$ the network has never seen pure noise at its last step:
# it has seen the photograph times 0.78 plus noise of size 0.63. Given pure noise it takes the noise for a picture.
#
# How much does it cost? Use data for which the best possible network is known: a mixture of two blobs, 30 % left and 70 % right. `mixture.model` is
# that network, and `p_sample_loop` is the sampler that lesson 04 derives; here it is a black box. Any error below comes from schedule and sampler, not from the network.

# %%
pair = dc.mixture("pair")


def draw(schedule, n=4000, **options):
    """Sample n points with the exact network of `pair` under a schedule."""
    tables = schedule.betas, schedule.alphas, schedule.alphas_cumprod
    model = pair.model(schedule.alphas_cumprod)
    return dc.p_sample_loop(
        model, (n, 2), *tables,
        dtype=torch.float64, generator=dc.make_generator(1), **options,
    )


# %%
reused = make_schedule("linear", 50)
scaled = make_schedule(
    "linear", 50, beta_start=1e-4 * 1000 / 50, beta_end=0.02 * 1000 / 50
)
fifty = {
    "linear, reused": reused,
    "linear, scaled": scaled,
    "cosine": make_schedule("cosine", 50),
}
points = {"data": pair.sample(4000, generator=generator)} | {
    name: draw(s) for name, s in fifty.items()
}
for name, p in points.items():
    end = (
        f", sqrt(abar_T) = {fifty[name].alphas_cumprod[-1].sqrt():.4f}"
        if name in fifty
        else ""
    )
    print(f"{name:>15}: {(p[:, 0] > 0).double().mean():.2f} in the right blob{end}")

# %%
fig = plotting.scatter_2d(
    points, limit=2.2, size=1.75,
    title="Fifty steps, the same exact network: only the schedule differs",
)
share = {name: (p[:, 0] > 0).double().mean().item() for name, p in points.items()}
show(fig, alt=(
    "Four clouds of points in two blobs. Share of the right blob: "
    + ", ".join(f"{name} {v:.2f}" for name, v in share.items())
    + ". The reused schedule puts too many points left."
))

# %% [markdown]
# The true share of the right blob is 0.70. (All sampled blobs are a little tighter than the data's, the repaired ones too: the price of few steps with
# this sampler's variance, a matter for lesson 04. The shares are the point here.) Start the reused chain where it really ends, from $q(x_{T})$, and the error goes away: it was the start, not the
# number of steps.

# %%
last_level = pair.at(reused.alphas_cumprod[-1].item())
honest_start = last_level.sample(4000, generator=generator)
p = draw(reused, x_init=honest_start)
print(
    f"reused betas, started from q(x_T): {(p[:, 0] > 0).double().mean():.2f} "
    "in the right blob"
)

# %% [markdown]
# Two cures, both used above:
#
# - **Scale the betas** by $1000/T$, so that the sum in (02.8) stays what it was. OpenAI's improved-diffusion and guided-diffusion code does this. It has
#   a limit: $\beta_{\max}\cdot 1000/T$ must stay below 1, so $T > 20$, and for small $T$ the approximation $\log(1-\beta)\approx-\beta$ fails
#   (in the harmless direction: less signal is left).
# - **Define the schedule through $\bar\alpha$.** The cosine curve is a function of $t/T$ and ends at the same place for every $T$, up to the cap.

# %%
for T in (1000, 300, 200, 50, 25):
    scaled_betas = make_schedule("linear", T, beta_start=0.1 / T, beta_end=20 / T)
    by_scale = scaled_betas.alphas_cumprod[-1].sqrt()
    by_curve = make_schedule("cosine", T).alphas_cumprod[-1].sqrt()
    print(
        f"T = {T:>4}: scaled linear betas leave {by_scale:.6f}, "
        f"cosine leaves {by_curve:.6f}"
    )

# %% [markdown]
# (Scaled *by $1000/T$*: not to be confused with the schedule named `scaled_linear`, whose roots are evenly spaced.)

# %% [markdown]
# ## Zero terminal SNR
#
# Even with $T = 1000$ none of the four chains ends in pure noise. [Lin et al. 2023](https://arxiv.org/abs/2305.08891) put the last SNR of common schedules in a table.
# Here it is, computed:

# %%
published = {"linear": 0.006353, "cosine": 4.928220e-05, "scaled_linear": 0.068265}
for name, value in published.items():
    signal = schedules[name].alphas_cumprod[-1].sqrt().item()
    print(
        f"{name:>13}: sqrt(abar_T) = {signal:.6e}, published {value:.6e}, "
        f"SNR {schedules[name].snr[-1]:.3e}"
    )
    assert math.isclose(signal, value, rel_tol=1e-4)

# %% [markdown]
# Linear and scaled-linear agree in every printed digit. Cosine gives 4.92825e-05 where the paper prints 4.92822e-05. A difference in the sixth digit is small, but it has a cause, and the cause is worth knowing.
#
# The last cosine step is capped: $\beta_T = 0.999$, so the chain multiplies by $\sqrt{1-0.999}$. In float32 the number nearest to 0.999 is a little larger than 0.999, and the
# subtraction $1-\beta_T$ brings that error to the front: an error of $1.3\cdot10^{-8}$ is nothing beside $0.999$ and 13 millionths of $0.001$.

# %%
beta_32 = torch.tensor(0.999, dtype=torch.float32)
print(f"float32(0.999) = {beta_32.item():.12f}")
print(
    f"1 - beta: {1 - 0.999:.9e} in float64, {1 - beta_32.item():.9e} after "
    "rounding beta to float32"
)
# only the betas are rounded; product and root are float64
rounded = 1 - cosine.betas.float().double()
print(f"sqrt(abar_T) of the rounded betas: {rounded.cumprod(0)[-1].sqrt():.6e}")
torch.testing.assert_close(
    rounded.cumprod(0)[-1].sqrt(),
    torch.tensor(4.928220e-05).double(), rtol=1e-7, atol=0,
)

# %% [markdown]
# All seven digits of the paper, from nothing but the rounding of the betas to float32. The package keeps its tables in float64 and casts at the network's door.
#
# ### What 0.068 means
#
# Stable Diffusion's schedule, `scaled_linear`, ends with $x_0$ times 0.068 under noise of size 0.998. You see only noise. But noise averages out and a picture does not: the mean of
# $n$ independent noises has standard deviation $1/\sqrt n$. Average $16\times16$ blocks of $x_T$ over its three colours, divide by 0.068, and look.

# %%
big = dc.load_dataset("photos").images[:1].double()  # (1, 3, 384, 384)
stable, last = schedules["scaled_linear"], torch.tensor([999])
fixed = make_schedule("scaled_linear", zero_terminal_snr=True)
big_noise = dc.process.noise_like(big, generator)
ends = {"x_T, Stable Diffusion's": stable, "x_T, rescaled": fixed}
ends = {
    name: q_sample(big, last, s.alphas_cumprod, big_noise) for name, s in ends.items()
}


def block_means(x, size=16):
    """Grey means of size x size blocks, over 0.068, as large as x, (B, C, H, W)."""
    means = torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), size)
    means = means / stable.alphas_cumprod[-1].sqrt()
    return means.repeat_interleave(size, 2).repeat_interleave(size, 3).expand_as(x)


# %%
first, second = ends.values()
panels = torch.cat([big, first, block_means(first), block_means(second)])
titles = ["x_0", "x_T (scaled linear)", "its block means", "the same, SNR(T) = 0"]
fig = plotting.image_grid(
    panels, columns=4, titles=titles, scale=1.9,
    title="The last step looks like noise and still holds the picture",
)
show(fig, alt=(
    "Four pictures. The photograph; its x_T, which looks like pure noise; "
    "the means of 16 by 16 blocks of x_T, in which the bright and dark parts of "
    "the photograph show through grain; and the same means for a rescaled schedule, "
    "in which there is only grain."
))

# %% [markdown]
# The mean over the whole picture, its brightness, leaks most of all. Compare the leak with the noise of that mean:

# %%
pixels = big.numel()
for name, picture in (
    ("photograph", big), ("white", torch.ones_like(big)),
    ("black", -torch.ones_like(big)),
):
    leak = stable.alphas_cumprod[-1].sqrt() * picture.mean()
    print(
        f"{name:>10}: mean of x_T is {leak:+.4f}, noise of that mean "
        f"{1 / pixels**0.5:.4f}: {leak * pixels**0.5:+.0f} standard deviations"
    )

# %% [markdown]
# A network trained on this $x_T$ can read the brightness off its mean with near certainty. At sampling time the mean of pure noise is close to 0, and a mean of 0 says:
# this picture is mid-grey. The paper's observation is that Stable Diffusion makes pictures of medium brightness and can hardly make very dark or very bright ones.
# [Everaert et al. 2023](https://arxiv.org/abs/2309.15842) call the cause a *signal leak*.
#
# You can compute how strong the effect is for an exact network. Take pictures of $n = 64\times64$ pixels whose brightness $b$ varies with standard deviation 0.5. In the direction
# of brightness the coordinate $\sqrt n\,b$ (the picture's component along the unit vector $(1, \dots, 1)/\sqrt n$) is Gaussian with standard deviation $0.5\cdot 64 = 32$, and the noise on it is still standard normal, by the rotation of (02.2).
# So one coordinate is enough. (The sampler's options are lesson 04's: `fixed_large` suits wide data, and SNR 0 needs `v_prediction`, for a reason given below.)

# %%
bright = dc.GaussianMixture(
    *(torch.tensor(v, dtype=torch.float64) for v in ([1.0], [[0.0]], [[[32.0**2]]]))
)


def brightness(schedule, kind="epsilon", **options):
    """Standard deviation of the brightness of 2,000 pictures of the exact network."""
    tables = schedule.betas, schedule.alphas, schedule.alphas_cumprod
    options = dict(
        prediction_type=kind, variance_type="fixed_large",
        dtype=torch.float64, generator=dc.make_generator(2),
    ) | options
    model = bright.model(schedule.alphas_cumprod, kind)
    drawn = dc.p_sample_loop(model, (2000, 1), *tables, **options)
    return drawn.std().item() / 64


# %%
right_start = bright.at(stable.alphas_cumprod[-1].item()).sample(
    2000, generator=generator
)
print("data: 0.50")
print(f"scaled linear, started from N(0, I):  {brightness(stable):.2f}")
print(
    "scaled linear, started from q(x_T):   "
    f"{brightness(stable, x_init=right_start):.2f}"
)
print(
    "rescaled to zero terminal SNR, N(0,I): "
    f"{brightness(fixed, kind='v_prediction'):.2f}"
)

# %% [markdown]
# The wrong start costs nearly half of the spread in brightness: dark and bright pictures become mid-grey. The network is perfect in all three lines. This is one Gaussian direction, not Stable Diffusion, where brightness is not
# Gaussian, latents are not pixels, and the prompt pushes too. The direction of the effect is the paper's.
#
# ### The rescaled schedule, derived
#
# Write $s_t = \sqrt{\bar\alpha_t}$. You want new values $s'_t$ that end in 0, leave the first step alone, and stay close in shape. Two conditions need two numbers: take one factor and one shift, the same for all $t$:
#
# $$ s'_t = k\,(s_t - c) . $$
#
# *The end:* $s'_T = 0$ gives $c = s_T$. *The start:* $s'_1 = s_1$ gives $k\,(s_1 - s_T) = s_1$, so
#
# $$ s'_t = \frac{s_1}{s_1 - s_T}\,(s_t - s_T) . \tag{02.9} $$
#
# *Back to betas:* square, $\bar\alpha'_t = s_t'^2$, and use (02.7): $\beta'_1 = 1-\bar\alpha'_1$ and $\beta'_t = 1-\bar\alpha'_t/\bar\alpha'_{t-1}$. At the end $\bar\alpha'_T = 0$, so $\beta'_T = 1$:
# the last step throws away everything that is left. This is Algorithm 1 of the paper.
#
# Why shift $s$ and not $\bar\alpha$? It is a choice. $s$ is the factor that multiplies the picture, and (02.9) changes it in a straight line.

# %%
dc.show_source(dc.rescale_zero_terminal_snr)

# %% [markdown]
# By another route: find factor and shift as the solution of two linear equations, $k\,s_1 + d = s_1$ and $k\,s_T + d = 0$, and walk the package's betas to the end with the loop from above.

# %%
s = stable.alphas_cumprod.sqrt()
equations = torch.stack([
    torch.stack([s[0], torch.ones_like(s[0])]),
    torch.stack([s[-1], torch.ones_like(s[0])]),
])
k, d = torch.linalg.solve(equations, torch.stack([s[0], torch.zeros_like(s[0])]))
for steps in (1, 500, 1000):
    mean, _ = compose(fixed.betas[:steps], torch.ones(1, dtype=torch.float64))
    torch.testing.assert_close(mean[0], k * s[steps - 1] + d)
print(
    f"first beta {fixed.betas[0]:.5f} (was {stable.betas[0]:.5f}), "
    f"last beta {fixed.betas[-1]:.1f}, sqrt(abar_T) = {fixed.alphas_cumprod[-1]:.1f}"
)

# %%
fig = plotting.lines(
    torch.arange(1000), {"scaled linear": s, "rescaled": fixed.alphas_cumprod.sqrt()},
    xlabel="index t", ylabel=r"factor on $x_0$, $\sqrt{\bar\alpha_t}$",
    title="Rescaling bends the end of the curve to 0",
)
show(fig, alt=(
    "Two falling curves that start together near 1. Scaled linear ends at 0.068, "
    "the rescaled one at 0; in between they differ by at most 0.07."
))

# %% [markdown]
# At SNR 0 a network that predicts the noise has nothing to do: $x_T$ *is* the noise, its output says nothing about $x_0$, and (02.4) cannot be solved for $x_0$ because its factor is 0.
# The package refuses it:

# %%
xt = torch.randn(1, 4, generator=generator)
try:
    dc.to_x0_and_noise(xt, xt, 0.0, "epsilon")
except ValueError as error:
    print(error)

# %% [markdown]
# So the rescaled schedule needs a network that predicts $v$ (lesson 03 says what that is) and a sampler that starts at the last step; the paper asks for both. Lesson 06 shows samplers that do not start there.

# %% [markdown]
# ## Look
#
# Eight real digits, threes above and eights below, with the same noise at every setting.
#
# **Task.** For each schedule, find the $t$ at which you can no longer tell the threes from the eights. Note the $t$ and the SNR. The four values of $t$ differ. Do the four SNR?

# %%
digits = dc.load_dataset("digits", size=16)
# (8, 1, 16, 16)
chosen = torch.cat([digits.images[digits.labels == k][:4] for k in (3, 8)]).double()
digit_noise = dc.process.noise_like(chosen, generator)


def look(schedule, t):
    """The digits at index t of a schedule, with factor and SNR."""
    s = schedules[schedule]
    xt = q_sample(chosen, torch.full((8,), t), s.alphas_cumprod, digit_noise)
    text = (
        f"{schedule}, t = {t}: factor on x_0 {s.alphas_cumprod[t].sqrt():.3f}, "
        f"SNR {s.snr[t]:.3g}"
    )
    return plotting.image_grid(xt, columns=4, title=text, scale=1.0), (
        f"Threes (top) and eights (bottom) under noise. {text}."
    )


# %%
dc.Explorer(look, schedule=list(names), t=(0, 999, 9), start={"t": 198})

# %% [markdown]
# <details><summary>What to expect</summary>
#
# The SNR at which you give up is about the same in all four, because by (02.6) the picture depends on nothing else. Where it lies
# depends on your eyes, on this one draw of the noise, and on the size: a 16 by 16 digit has 256 pixels to average over, a photograph thousands. So large pictures need more noise to disappear.
#
# </details>

# %% [markdown]
# ## Where people go wrong
#
# ### No root on the noise
#
# Public copies of a short course's notebook (for example `L2_Training.ipynb` in `ginny100/DeepLearning.AI-How-Diffusion-Models-Work`) make $x_t$ with the line
#
# `ab_t.sqrt()*x + (1 - ab_t)*noise`
#
# One root is missing: the variance $1-\bar\alpha_t$ stands where its root belongs. The schedule there is linear with $T = 500$. The noise is too small by the factor $\sqrt{1-\bar\alpha_t}$:

# %%
half_thousand = make_schedule("linear", 500)
alpha_bar = half_thousand.alphas_cumprod
for t in (0, 99, 249, 499):
    a = alpha_bar[t]
    print(
        f"t = {t:>3}: noise {1 - a:.4f} instead of {(1 - a).sqrt():.4f}, "
        f"total variance {a + (1 - a) ** 2:.3f} instead of 1"
    )

# %% [markdown]
# Is that harmful? Training gives no sign of it, because the network learns whatever noise it is shown. The sampler, though, assumes the right noise. What the best network learns from the wrong pictures is known exactly for a
# mixture: $x^{\text{wrong}} = \sqrt{\bar\alpha}\,x_0 + (1-\bar\alpha)\,\epsilon$ divided by $c = \sqrt{\bar\alpha + (1-\bar\alpha)^2}$ has squared factors $\bar\alpha/c^2$ and $(1-\bar\alpha)^2/c^2 = 1-\bar\alpha/c^2$,
# so it is a correct $x_t$ of another level, $\bar\alpha' = \bar\alpha/c^2$. Give that network to the correct sampler.

# %%
ring = dc.mixture("ring")
scale = (alpha_bar + (1 - alpha_bar) ** 2).sqrt()


def misled(xt, t, cond=None):
    """The best noise predictor for training data made without the root."""
    return ring.noise_prediction(xt / scale[t][:, None], (alpha_bar / scale**2)[t])


tables = half_thousand.betas, half_thousand.alphas, alpha_bar
networks = {"root in place": ring.model(alpha_bar), "no root": misled}
drawn = {
    name: dc.p_sample_loop(
        f, (800, 2), *tables, dtype=torch.float64, generator=dc.make_generator(3)
    )
    for name, f in networks.items()
}

# %%
clouds = {"data": ring.sample(800, generator=generator)} | drawn
near_blob = {
    name: (torch.cdist(p, ring.means).min(1).values < 3 * 0.15).double().mean().item()
    for name, p in clouds.items()
}
for name, value in near_blob.items():
    print(
        f"{name:>13}: {100 * value:.0f} % of the points lie within 3 standard "
        "deviations of a blob"
    )
fig = plotting.scatter_2d(
    clouds, limit=2.4, size=2.1, title="The missing root leaves noise in the samples"
)
show(fig, alt=(
    "Three clouds of 800 points on a ring of eight blobs. "
    "Points within three standard deviations of a blob: "
    + ", ".join(f"{name} {100 * v:.0f} %" for name, v in near_blob.items())
    + "."
))

# %% [markdown]
# ### A quadratic schedule with the wrong power
#
# Public code has `linspace(beta_start**2, beta_end**2, T) ** 2` under the name *quadratic*. The idea was evenly spaced roots, power $\frac12$ inside and 2 outside, which is `scaled_linear`. With 2 inside, every beta is about its fourth power:

# %%
for power in (2, 0.5):
    betas = torch.linspace(1e-4**power, 0.02**power, 200, dtype=torch.float64) ** 2
    schedule = NoiseSchedule(betas)
    print(
        f"inner power {power}: largest beta {betas.max():.2g}, sqrt(abar_T) = "
        f"{schedule.alphas_cumprod[-1].sqrt():.6f}"
    )

# %% [markdown]
# With the wrong power the chain adds no visible noise in 200 steps. (With the right one 0.485 of $x_0$ is left, because these ends were tuned for $T = 1000$: two mistakes in one table.) Print $\sqrt{\bar\alpha_T}$ once for every schedule you write, and this is found in a second.
#
# ### A cosine grid that is off by one, and one that only looks so
#
# $T$ steps need $T+1$ values of $\bar\alpha$. A much copied version of the cosine schedule had `steps = T + 1`, `linspace(0, steps, steps)` and then divided by `steps`; an issue
# (`lucidrains/denoising-diffusion-pytorch#19`) asked for `linspace(0, T, steps)` divided by `T`. Look at what each change does before you believe it:

# %%
def from_grid(u):
    """Cosine betas from a grid u of t / T."""
    f = torch.cos((u + 0.008) / 1.008 * math.pi / 2) ** 2
    return (1 - f[1:] / f[:-1]).clamp(0, 0.999)


T = 50
line = torch.linspace(0, T + 1, T + 1, dtype=torch.float64)
grids = {
    "linspace(0, T + 1, T + 1) / (T + 1)": line / (T + 1),
    "linspace(0, T + 1, T + 1) / T": line / T,
    "linspace(0, 1, T)": torch.linspace(0, 1, T, dtype=torch.float64),
}

# %%
truth = dc.cosine_betas(T)
for name, u in grids.items():
    betas = from_grid(u)
    if len(betas) != T:
        print(
            f"{name:>36}: {len(betas)} betas for T = {T}, and t = {T - 1} has no entry"
        )
    else:
        print(
            f"{name:>36}: largest change of a beta {(betas - truth).abs().max():.3f}, "
            f"last two betas {betas[-2]:.3f} and {betas[-1]:.3f}"
        )

# %% [markdown]
# The first line is the version of the issue. It is the right table to the last digit: both ends of the grid were stretched by the same factor, and the division takes it out. The second mixes the two
# and runs past $\pi/2$; the last step falls where the cosine grows again. The third has $T$ points and so $T-1$ steps.
#
# ### A schedule tuned for another T
#
# You have measured it: $\sqrt{\bar\alpha_T}$ = 0.36 at $T = 200$, 0.22 at 300, 0.78 at 50. The default of `tanelp/tiny-diffusion` is $T = 50$ with the betas of $T = 1000$, and its page reports that a longer
# process gives better output, with missing points at the ends for fewer steps. A start that does not match the chain's end does harm even with an exact network, as you saw; how much of that report it explains is not measured here.

# %% [markdown]
# ## Your turn
#
# Write your answer in place of the dots and run the cell. `dc.hint("02.1")` gives a hint; `dc.solution("02.1")` shows a solution after you have tried.

# %%
exercise("02.1")

# %%
def jump(x0, t, alphas_cumprod, noise):
    # (B,) -> (B, 1, ...)
    alpha_bar = alphas_cumprod[t].to(x0.dtype).reshape(-1, *[1] * (x0.ndim - 1))
    signal = alpha_bar.sqrt() * x0
    return signal + ...


check("02.1", jump)

# %%
exercise("02.2")

# %%
def cumulative_alphas(betas):
    alphas = 1 - betas
    return ...


check("02.2", cumulative_alphas)

# %%
exercise("02.3")

# %%
def signal_to_noise(alphas_cumprod):
    return ...


check("02.3", signal_to_noise)

# %%
exercise("02.4")

# %%
def cosine_schedule(num_train_timesteps, offset=0.008, max_beta=0.999):
    u = torch.linspace(0, 1, num_train_timesteps + 1, dtype=torch.float64)
    f = ...
    return ...


check("02.4", cosine_schedule)

# %%
exercise("02.5")

# %%
factor = ...

check("02.5", factor)

# %%
exercise("02.6")

# %%
# def zero_terminal(betas): your code here
zero_terminal = ...

check("02.6", zero_terminal)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | $\alpha_t = 1-\beta_t$ | `schedule.alphas` | |
# | $\bar\alpha_t$, running product | `schedule.alphas_cumprod` | (02.3) |
# | $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ | `q_sample(x0, t, alphas_cumprod, noise)` | (02.4) |
# | $\mathrm{SNR}(t)$ | `snr(alphas_cumprod)`, `schedule.snr` | (02.5) |
# | $\sigma_t = \mathrm{SNR}(t)^{-1/2}$ | `schedule.sigmas` | (02.6) |
# | $\beta_t$ from $\bar\alpha_t$ | `cosine_betas(T)` | (02.7) |
# | the four schedules | `make_schedule(name, T)` | table above |
# | rescaled to end in pure noise | `rescale_zero_terminal_snr(betas)`, `make_schedule(..., zero_terminal_snr=True)` | (02.9) |
#
# You can make $x_t$ at any $t$ for the price of one draw, and you know what each schedule does to a picture. What is missing is a reason to do it. Lesson 03 asks what a network should learn from these noisy
# pictures, and derives that it is enough to guess $\epsilon$.
#
# Read next:
#
# - [Nichol & Dhariwal 2021](https://arxiv.org/abs/2102.09672), section 3.2: why the linear schedule wastes steps on small pictures.
# - [Lin et al. 2023](https://arxiv.org/abs/2305.08891): the zero-terminal-SNR fix with pictures of what it repairs.
# - [Kingma et al. 2021](https://arxiv.org/abs/2107.00630): a diffusion model written in terms of its SNR alone.
