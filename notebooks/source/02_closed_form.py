# %% [markdown]
# # 02 · Closed-form sampling
#
# After this lesson you can:
#
# - derive $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ from single steps, and check it without the proof,
# - draw $x_t$ at any $t$ in one line, and say what this line does not give you,
# - read a noise schedule through its signal-to-noise ratio,
# - say why a schedule made for 1,000 steps fails with 50, and repair it,
# - make a chain end in pure noise, and say what is wrong with one that does not.
#
# You need: lesson 01.
#
# **Measured cost:** 0.3 min on 2 cores, 0.9 GB of memory at the peak. Core: about 22 minutes of reading, 0.2 of computing. Going further: about 10 and 0.1.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
import math

import torch
from torch.testing import assert_close

from diffusion_course import (
    Explorer,
    load_dataset,
    make_generator,
    make_schedule,
    mixture,
    p_sample_loop,
    plotting,
    q_sample,
    q_step,
    seed_everything,
    show,
    show_source,
)
from diffusion_course.notebook import Drawing, figure

generator = seed_everything(0)
photo = load_dataset("photos", size=96).images[:1].double()  # (1, 3, 96, 96)
linear = make_schedule("linear", 1000)

# %% [markdown]
# ## Why walk?
#
# In lesson 03 a network learns from noisy pictures. For every picture it needs $x_t$ at some random $t$ between 1 and 1,000.
# The chain of lesson 01 walks there, 500 steps on average, and only the last picture is used. Can you jump?
#
# Each step multiplies the picture by $\sqrt{1-\beta}$. Let us walk until 0.6 of the photograph is left. Then a natural guess for the jump is:
# 0.6 of it is picture, so the other 0.4 is noise.

# %%
walked, left, steps = photo, 1.0, 0
while left > 0.6:
    t = torch.tensor([steps])
    walked = q_step(walked, t, linear.betas, generator=generator)
    left *= (1 - linear.betas[steps]).sqrt()
    steps += 1
noise = torch.randn(photo.shape, generator=generator, dtype=photo.dtype)
guess = left * photo + (1 - left) * noise
print(f"{steps} steps; the photograph is multiplied by {left:.3f}")
for name, x in (("walk", walked), ("guess", guess)):
    print(f"{name:>5}: the noise has standard deviation {(x - left * photo).std():.1f}")

# %%
fig = plotting.image_strip(
    torch.cat([photo, walked, guess]), scale=2.0,
    column_labels=["clean", f"{steps} small steps", "guess: 0.6 and 0.4"],
    title="A jump whose two factors add up to 1 is too clean",
)
show(fig, alt=(
    "Three pictures of a tower: clean; after many small steps, a dark shape under "
    "coarse noise; after the guessed jump, plainly visible under grain."
))

# %% [markdown]
# The guess has half the noise of the walk. The factors of the walk, 0.6 and 0.8, do not add up to 1. Their *squares* do: $0.36 + 0.64 = 1$.
# This lesson shows that it is so at every $t$.

# %% [markdown]
# ## Recall
#
# 1. One forward step is $q(x_t \mid x_{t-1}) = N\big(\sqrt{1-\beta_t}\,x_{t-1},\ \beta_t I\big)$. Why is $x_{t-1}$ multiplied by $\sqrt{1-\beta_t}$ and not by 1?
# 2. If $x_{t-1}$ has variance 4 and $\beta_t = 0.5$, what is the variance of $x_t$?
#
# <details><summary>Answers</summary>
#
# 1. Without the factor every step adds variance, and the chain grows without bound. With it, $\operatorname{Var} x_t = (1-\beta_t)\operatorname{Var} x_{t-1} + \beta_t$, and a variance of 1 stays 1.
# 2. $0.5\cdot 4 + 0.5 = 2.5$: it moves towards 1.
#
# </details>

# %% [markdown]
# ## Predict first
#
# The linear schedule of [Ho et al. 2020](https://arxiv.org/abs/2006.11239) (section 4) takes $T = 1000$ steps, and its $\beta$ rise evenly from $0.0001$ to $0.02$.
# At the end $x_0$ is multiplied by 0.0064 and cannot be seen. But every step costs time when you sample. A small project,
# [tiny-diffusion](https://github.com/tanelp/tiny-diffusion), takes by default only $T = 50$ steps through the same range of $\beta$.
#
# By which factor is $x_0$ multiplied after those 50 steps? Put your guess, from 0 to 1, into the cell.

# %%
my_guess = 0.0

# %% [markdown]
# ## Three steps by hand
#
# Where do the squares come from? You see it in the smallest case: one pixel $x_0 = 2$, three steps with $\beta = 0.1,\ 0.2,\ 0.5$, and the noises $\epsilon_1 = 1$, $\epsilon_2 = -1$, $\epsilon_3 = 0.5$.
# Write $\alpha_t = 1 - \beta_t$, here $0.9,\ 0.8,\ 0.5$. The step of lesson 01 is
#
# $$ x_t = \sqrt{\alpha_t}\,x_{t-1} + \sqrt{1-\alpha_t}\;\epsilon_t \tag{02.1} $$
#
# Walk it:
#
# $$\begin{aligned}
# x_1 &= \sqrt{0.9}\cdot 2 + \sqrt{0.1}\cdot 1 = 1.8974 + 0.3162 = 2.2136 \\
# x_2 &= \sqrt{0.8}\cdot 2.2136 + \sqrt{0.2}\cdot(-1) = 1.9799 - 0.4472 = 1.5327 \\
# x_3 &= \sqrt{0.5}\cdot 1.5327 + \sqrt{0.5}\cdot 0.5 = 1.0838 + 0.3536 = 1.4373
# \end{aligned}$$
#
# Now put the first line into the second and the second into the third, and keep $x_0$ and the noises as letters.
# Every term is multiplied by the roots of all later $\alpha$:
#
# $$ x_3 = \underbrace{\sqrt{0.9\cdot 0.8\cdot 0.5}}_{\sqrt{0.36}\,=\,0.6}\,x_0
#  + \underbrace{\sqrt{0.1\cdot 0.8\cdot 0.5}}_{\sqrt{0.04}\,=\,0.2}\,\epsilon_1
#  + \underbrace{\sqrt{0.2\cdot 0.5}}_{\sqrt{0.1}\,=\,0.3162}\,\epsilon_2
#  + \underbrace{\sqrt{0.5}}_{0.7071}\,\epsilon_3 $$
#
# The squares of the factors are $0.36$ for $x_0$ and $0.04 + 0.1 + 0.5 = 0.64$ for the three noises. They add up to 1. So $x_3$ is $0.6\,x_0$ plus noise of variance $0.64$,
# that is, $0.8\,\epsilon$ with a single standard normal $\epsilon$.

# %%
betas = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
eps = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
x = torch.full((1, 1), 2.0, dtype=torch.float64)  # (B=1, one pixel)
for t in range(3):
    x = q_step(x, torch.tensor([t]), betas, eps[t].reshape(1, 1))
    print(f"x_{t + 1} = {x.item():.4f}")
assert_close(x[0, 0], 0.6 * 2 + 0.2 * eps[0] + 0.1**0.5 * eps[1] + 0.5**0.5 * eps[2])

# %% [markdown]
# ## Two noises make one
#
# To turn three noises into one, you need a rule for two, and lesson 01 has it (01.8). If $\epsilon$ and $\epsilon'$ are independent standard normal numbers, then
#
# $$\begin{gathered}
# a\,\epsilon + b\,\epsilon' \quad\text{has the same distribution as}\quad \sqrt{a^2 + b^2}\;\epsilon'' , \\
# \epsilon''\sim N(0, 1)
# \end{gathered} \tag{02.2}$$
#
# The variance is $E[(a\epsilon + b\epsilon')^2] = a^2 + 2ab\,E[\epsilon\epsilon'] + b^2$, and independence makes the middle term 0. For pictures the rule holds pixel by pixel.
#
# So variances add, and the sizes $a$ and $b$ add like the sides of a right triangle:

# %% jupyter={"source_hidden": true} tags=["hide-input", "long"]
drawing = Drawing(7.2, 3.0, "Independent parts add like the sides of a right triangle")
p, q, r = (1.1, 0.6), (1.96, 0.6), (1.96, 2.23)
drawing.arrow(p, q, "$a$", heads=False, below=True, kind="noise")
drawing.arrow(q, r, "$b$", heads=False, kind="noise")
drawing.arrow(p, r, heads=False)
drawing.text(0.95, 1.5, r"$\sqrt{a^2+b^2}$")
drawing.text(1.5, 0.15, "two noises: $0.37^2 + 0.71^2 = 0.80^2$")
p, q, r = (4.1, 0.6), (5.48, 0.6), (5.48, 2.44)
arc = torch.linspace(0, math.pi / 2, 60)
drawing.axes.plot(4.1 + 2.3 * arc.cos(), 0.6 + 2.3 * arc.sin(), color="#999999")
drawing.arrow((6.4, 0.6), (4.1, 2.9), heads=False, dashed=True, kind="bad")
drawing.axes.plot(5.48, 0.6 + 2.3 * 0.4, "o", color="#CC79A7")
drawing.text(5.58, 1.62, "guess", kind="bad", align="left")
drawing.arrow(p, q, r"$\sqrt{\bar\alpha_t}$", heads=False, below=True, kind="data")
drawing.arrow(q, r, heads=False, kind="noise")
drawing.text(5.14, 1.0, r"$\sqrt{1-\bar\alpha_t}$")
drawing.arrow(p, r, "1", heads=False)
drawing.text(5.2, 0.15, "picture and noise in $x_t$: $0.6^2 + 0.8^2 = 1$")
drawing.show(
    "Left: a right triangle with sides a and b; 0.37 squared and 0.71 squared make "
    "0.80 squared. Right: a right triangle in a quarter circle of radius 1, its sides "
    "the factors of picture and noise, 0.6 and 0.8. A dashed straight line, with a dot "
    "at 0.6 and 0.4, the guess, runs inside the arc."
)

# %% [markdown]
# The left triangle is from the steps by hand: the first two noises make $a = \sqrt{0.04 + 0.1}$ together, the third is $b$. As $t$ grows, the tip on the right moves along the quarter circle,
# from all picture to all noise. The guess moved along the dashed line, where the noise is too small.

# %% [markdown]
# ## From one step to t steps
#
# So far the squares add up to 1 for three particular numbers. For every schedule you need the running product of lesson 01 (01.7):
#
# $$ \bar\alpha_t = \alpha_1\alpha_2\cdots\alpha_t, \qquad \bar\alpha_0 = 1 \tag{02.3} $$
#
# **Claim** ([Ho et al. 2020](https://arxiv.org/abs/2006.11239), eq. 4). For every $t$, given $x_0$,
#
# $$ x_t = \sqrt{\bar\alpha_t}\;x_0 + \sqrt{1-\bar\alpha_t}\;\epsilon, \qquad \epsilon\sim N(0, I) \tag{02.4} $$
#
# You could read the distribution off (01.9). But lesson 03 asks a network for this very $\epsilon$, so let us see what it is made of.
#
# **First step.** For $t = 1$ we have $\bar\alpha_1 = \alpha_1$, and (02.4) is (02.1).
#
# **From $t-1$ to $t$.** Suppose that the claim holds for $t-1$, with some noise $\epsilon'$, and put it into (02.1):
#
# $$ x_t = \sqrt{\alpha_t}\Big(\sqrt{\bar\alpha_{t-1}}\;x_0 + \sqrt{1-\bar\alpha_{t-1}}\;\epsilon'\Big) + \sqrt{1-\alpha_t}\;\epsilon_t $$
#
# Multiply out, and use $\alpha_t\,\bar\alpha_{t-1} = \bar\alpha_t$ in the first term:
#
# $$ x_t = \sqrt{\bar\alpha_t}\;x_0 + \underbrace{\sqrt{\alpha_t - \bar\alpha_t}}_{a}\;\epsilon' + \underbrace{\sqrt{1-\alpha_t}}_{b}\;\epsilon_t $$
#
# The noise $\epsilon'$ is made of earlier steps' noises and $\epsilon_t$ is fresh, so they are independent, and (02.2) merges them into one noise of variance $a^2 + b^2 = \alpha_t - \bar\alpha_t + 1 - \alpha_t = 1 - \bar\alpha_t$.
# This is (02.4). Each $t$ follows from the one before, so the claim holds for all.
#
# The jump, for five levels of the photograph at once:

# %%
t = torch.tensor([0, 99, 199, 399, 999])
x0 = photo.expand(5, 3, 96, 96)
noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
alpha_bar = (1 - linear.betas).cumprod(0)[t].reshape(5, 1, 1, 1)
xt = alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * noise
assert_close(xt, q_sample(x0, t, linear.alphas_cumprod, noise))

# %%
fig = plotting.image_strip(
    xt, column_labels=[f"t = {i}" for i in t.tolist()], scale=1.3,
    title="Five noise levels, each reached in one jump",
)
show(fig, alt=(
    "A photograph of a tower at t = 0, 99, 199, 399 and 999 of 1,000 steps: "
    "clean, grainy, very grainy, a dark shape in noise, pure noise."
))
show_source(q_sample)

# %% [markdown]
# The package's version checks its arguments, draws the noise if you give none, and is otherwise this.
#
# **What a jump does not give you** is a path. The noise in $x_2$ is $\sqrt{\alpha_2}$ times the noise in $x_1$ plus a fresh part. If you jump to both with the same $\epsilon$, each is right and the pair is wrong.
# In the example $\operatorname{Cov}(x_1, x_2 \mid x_0) = \sqrt{\alpha_2}\,(1-\bar\alpha_1)$, so the correlation is $\sqrt{0.8}\cdot 0.1/\sqrt{0.1\cdot 0.28} = 0.535$. With one $\epsilon$ it is 1.

# %%
table = (1 - betas).cumprod(0)
x0 = torch.full((50_000, 1), 2.0, dtype=torch.float64)
first, second = torch.zeros(50_000).long(), torch.ones(50_000).long()
x1 = q_step(x0, first, betas, generator=generator)
x2 = q_step(x1, second, betas, generator=generator)
one = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
y1, y2 = q_sample(x0, first, table, one), q_sample(x0, second, table, one)
for name, a, b in (("walked", x1, x2), ("jumped with one noise", y1, y2)):
    correlation = torch.corrcoef(torch.cat([a, b], dim=1).T)[0, 1]
    print(f"{name}: correlation of x_1 and x_2 {correlation:.2f}")

# %% [markdown]
# ## Many steps against one jump
#
# A proof can hold a mistake, so we check it by another route. Take the step of lesson 01 literally: it multiplies the factor on $x_0$ by $\sqrt{1-\beta}$,
# and turns the variance of the noise into $(1-\beta)$ times itself plus $\beta$. Do this up to 999 times and compare with (02.4) and with three mistakes.

# %%
def all_steps(betas):  # the factor on x_0, the variance of the noise
    factor, variance = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for beta in betas:
        factor, variance = (1 - beta).sqrt() * factor, (1 - beta) * variance + beta
    return factor, variance


def verdict(claim):  # claim(n): the factors on x_0 and on the noise after n steps
    for n in (1, 2, 10, 300, 999):
        factor, variance = all_steps(linear.betas[:n])
        for said, true in zip(claim(n), (factor, variance.sqrt()), strict=True):
            if not torch.isclose(said, true, rtol=1e-9):
                return f"wrong at step {n}: {said:.5f} instead of {true:.5f}"
    return "agrees at steps 1, 2, 10, 300 and 999"


# %%
abar = linear.alphas_cumprod
claims = {
    "(02.4)": lambda n: (abar[n - 1].sqrt(), (1 - abar[n - 1]).sqrt()),
    "the guess": lambda n: (abar[n - 1].sqrt(), 1 - abar[n - 1].sqrt()),
    "no root on the noise": lambda n: (abar[n - 1].sqrt(), 1 - abar[n - 1]),
    "one index too far": lambda n: (abar[n].sqrt(), (1 - abar[n]).sqrt()),
}
for name, claim in claims.items():
    print(f"{name:>20}: {verdict(claim)}")

# %% [markdown]
# ## Signal-to-noise ratio
#
# "Step 400" tells nobody how noisy a picture is, because it depends on the schedule. A better name for a noise level is the ratio of the two variances in (02.4), for data of variance 1
# ([Kingma et al. 2021](https://arxiv.org/abs/2107.00630)):
#
# $$ \mathrm{SNR}(t) = \frac{\bar\alpha_t}{1-\bar\alpha_t}, \qquad \bar\alpha_t = \frac{\mathrm{SNR}(t)}{1+\mathrm{SNR}(t)} \tag{02.5} $$
#
# Our level with the factors 0.6 and 0.8 has an SNR of $0.36/0.64 = 0.56$. To see what the ratio means, divide (02.4) by $\sqrt{\bar\alpha_t}$, if $\bar\alpha_t > 0$:
#
# $$ \frac{x_t}{\sqrt{\bar\alpha_t}} = x_0 + \sigma_t\,\epsilon, \qquad \sigma_t = \sqrt{\frac{1-\bar\alpha_t}{\bar\alpha_t}} = \mathrm{SNR}(t)^{-1/2} \tag{02.6} $$
#
# Up to a factor that you know, $x_t$ is the clean picture under noise of size $\sigma_t$. So how much of a picture anybody can see in $x_t$, or learn from it, depends on the SNR alone. A schedule decides when each SNR comes, and where the SNR begins and ends.

# %% [markdown]
# ## Four schedules
#
# When does each SNR come? That depends on the schedule. You will meet four:
#
# | name | definition | from |
# |---|---|---|
# | `linear` | $\beta_t$ evenly spaced, $0.0001$ to $0.02$ | [Ho et al. 2020](https://arxiv.org/abs/2006.11239), section 4 |
# | `scaled_linear` | $\sqrt{\beta_t}$ evenly spaced, $\beta_t$ from $0.00085$ to $0.012$ | code of [latent diffusion](https://arxiv.org/abs/2112.10752) and Stable Diffusion |
# | `cosine` | $\bar\alpha_t = f(t)/f(0)$, $f(t) = \cos^2\big(\frac{t/T + 0.008}{1.008}\cdot\frac{\pi}{2}\big)$, $\beta_t \le 0.999$ | [Nichol & Dhariwal 2021](https://arxiv.org/abs/2102.09672), eq. 17 |
# | `sigmoid` | $\beta_t$ on a logistic curve from $-6$ to $6$, between $0.0001$ and $0.02$ | code of [GeoDiff](https://arxiv.org/abs/2203.02923) |
#
# Three of them choose the $\beta_t$. The cosine schedule chooses the curve of $\bar\alpha_t$ instead, and since $\bar\alpha_t = \alpha_t\bar\alpha_{t-1}$, its steps follow from
#
# $$ \beta_t = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}} \tag{02.7} $$

# %%
names = ["linear", "scaled_linear", "cosine", "sigmoid"]
schedules = {name: make_schedule(name) for name in names}
fig, axes = figure(7.4, 3.0, 1, 2)
for name, s in schedules.items():
    axes[0].plot(s.alphas_cumprod.sqrt(), label=name)
    axes[1].plot(s.snr.log())
    half = int((s.alphas_cumprod.sqrt() > 0.5).sum())
    first, last = s.snr[[0, -1]].log()
    print(f"{name:>13}: factor 0.5 at t = {half}, log-SNR {first:.1f} to {last:.1f}")
axes[0].set(xlabel="index t", ylabel=r"factor on $x_0$, $\sqrt{\bar\alpha_t}$")
axes[1].set(xlabel="index t", ylabel="log-SNR (natural)")
axes[0].set_title("They lose the picture at different t ...", loc="left")
axes[1].set_title("... and end at three levels of noise", loc="left")
axes[0].legend(loc="lower left")
show(fig, alt=(
    "Two panels with four falling curves. Left, the factor on x_0: linear passes one "
    "half first, cosine last. Right, log-SNR: all start between 7 and 10; at the end "
    "scaled linear is at -5, linear and sigmoid at -10, cosine plunges to -20."
))

# %% [markdown]
# Between log-SNR 7.1 and $-5.4$ all four pass through the same levels, and at equal SNR they show the same picture. At the ends they part.
#
# **Task.** Each of the eight digits below is a 3 or an 8. Start at the noisy end and move $t$ down until you can name them all. Note $t$ and the SNR. Do the same for another schedule. Which of the two stays the same?

# %%
random = make_generator(5)
digits = load_dataset("digits", size=16, split="test")
either = ((digits.labels == 3) | (digits.labels == 8)).nonzero()[:, 0]
chosen = either[torch.randperm(len(either), generator=random)[:8]]
hidden = digits.images[chosen].double()  # (8, 1, 16, 16)
hidden_noise = torch.randn(hidden.shape, generator=random, dtype=hidden.dtype)


def look(t, schedule):
    s = schedules[schedule]
    xt = q_sample(hidden, torch.full((8,), t), s.alphas_cumprod, hidden_noise)
    title = f"3 or 8? {schedule}, t = {t}, SNR {s.snr[t]:.3g}"
    fig = plotting.image_grid(xt, columns=8, title=title)
    return fig, f"Eight digits in hidden order, each a 3 or an 8. {title}."


Explorer(look, t=range(9, 1000, 30), schedule=names, start={"t": 699})

# %% [markdown]
# <details><summary>Answer</summary>
#
# They are 8 8 3 3 3 3 3 3. We can name them all at an SNR of about 3, and that comes at $t = 159$ (linear), 189 (scaled linear), 309 (cosine) and 339 (sigmoid). So the SNR is the same and the $t$ is not. Your SNR may be another one: it depends on your eyes and on this draw of the noise.
#
# </details>
#
# (*Going further* replaces your eyes by Bayes' rule: against the SNR, all four schedules make one curve.)
#
# Does the schedule matter, then? For what can be seen at a level it does not. For training and sampling it does, because both spend their effort evenly over $t$: a schedule that
# rushes through an SNR gives the network few examples of it. Which SNR deserve the effort is an empirical matter, and larger pictures need more noise before they disappear ([Chen 2023](https://arxiv.org/abs/2301.10972)).

# %% [markdown]
# ## The same betas, fewer steps
#
# What becomes of a schedule that is used with another $T$? You predicted it. Take the logarithm of the last factor. The product becomes a sum, $\log(1-\beta)\approx-\beta$ for small $\beta$, and an evenly spaced list sums to its length times the mean of its ends, here 0.01005:
#
# $$ \log\sqrt{\bar\alpha_T} = \tfrac12\sum_{t=1}^{T}\log(1-\beta_t) \approx -\tfrac12\sum_{t=1}^{T}\beta_t = -\tfrac{T}{2}\cdot 0.01005 \tag{02.9} $$
#
# With $T = 1000$ this gives $e^{-5.03} = 0.0066$. With $T = 50$ the exponent is twenty times smaller: $e^{-0.25} = 0.78$.

# %%
short = {T: make_schedule("linear", T) for T in (1000, 300, 200, 50)}
left = {T: s.alphas_cumprod[-1].sqrt().item() for T, s in short.items()}
for T, factor in left.items():
    by_sum = math.exp(-T / 2 * 0.01005)
    print(f"T = {T:>4}: factor {factor:.4f}, by (02.9) {by_sum:.4f}")
print(f"You guessed {my_guess:g}; it is {left[50]:.2f}.")
start = torch.randn(photo.shape, generator=generator, dtype=photo.dtype)
ends = [
    q_sample(photo, torch.tensor([T - 1]), s.alphas_cumprod, start)
    for T, s in short.items()
]
fig = plotting.image_grid(
    torch.cat([*ends, start]), columns=5, scale=1.4,
    titles=[*(f"T = {T}: {factor:.2g}" for T, factor in left.items()), "sampling"],
    title="The end of the chain: with T = 50 the photograph is still there",
)
show(fig, alt=(
    "Five pictures. At the end of 1,000 steps only noise is seen; with 300 and with "
    "200 steps a dark shape can be guessed, with 50 the photograph is plain under its "
    "grain. The fifth picture, pure noise, is where sampling starts."
))

# %% [markdown]
# Sampling starts from $N(0, I)$, the fifth picture. A network trained with $T = 50$ has never seen that at its last step. There it has always seen 0.78 of a photograph, so it takes the noise for a photograph, too.
#
# What does that cost? For two blobs, with 30 % of the points on the left and 70 % on the right, we have a network without errors, `pair.model`. The sampler, which lesson 04 will build, draws 2,000 points five times for each schedule.
# We try two repairs. One multiplies the betas by $1000/T = 20$, so that the sum in (02.9) stays what it was; it needs $T > 20$, so that the last beta stays below 1. The other is the cosine schedule: its curve depends on $t/T$ only, so it ends at the same place for every $T$, up to the cap.

# %%
pair = mixture("pair")
reused = short[50]
fifty = {
    "betas reused": reused,
    "betas times 20": make_schedule("linear", 50, beta_start=0.002, beta_end=0.4),
    "cosine": make_schedule("cosine", 50),
}


def draw(s, seed, **options):
    return p_sample_loop(
        pair.model(s.alphas_cumprod), (2000, 2), s.betas, s.alphas, s.alphas_cumprod,
        dtype=torch.float64, generator=make_generator(seed), **options,
    )


runs = {name: [draw(s, seed) for seed in range(5)] for name, s in fifty.items()}
end = pair.at(reused.alphas_cumprod[-1].item())  # the distribution of x_T
starts = [end.sample(2000, generator=make_generator(9 + i)) for i in range(5)]
runs["reused, from q(x_T)"] = [draw(reused, i, x_init=x) for i, x in enumerate(starts)]

# %%
for name, clouds in runs.items():
    share = torch.tensor([(x[:, 0] > 0).double().mean().item() for x in clouds])
    print(f"{name:>19}: {share.mean():.3f} in the right blob (sd {share.std():.3f})")
print("               data: 0.7")
shown = {"data": pair.sample(2000, generator=generator)}
shown |= {name: runs[name][0] for name in fifty}
fig = plotting.scatter_2d(
    shown, limit=2.2, size=1.75,
    title="Fifty steps, an exact network: reused betas put too many points left",
)
show(fig, alt=(
    "Four clouds of points in two blobs: data, betas reused, betas times 20, cosine. "
    "With reused betas the left blob has more points than in the others."
))

# %% [markdown]
# With reused betas 58 % of the points go right instead of 70 %. Start the same chain where it really ends, at $q(x_T)$, and the share is right within its error: the start was to blame, not the number of steps.
# Both repairs put about 71 % right, about a point too many.

# %% [markdown]
# ## Zero terminal SNR
#
# Sampling starts from pure noise, and even a thousand steps do not end there. [Lin et al. 2023](https://arxiv.org/abs/2305.08891) put the last factor of common schedules into a table. Here it is, beside ours:

# %%
published = {"linear": 0.006353, "cosine": 4.928220e-05, "scaled_linear": 0.068265}
for name, value in published.items():
    factor = schedules[name].alphas_cumprod[-1].sqrt().item()
    print(f"{name:>13}: {factor:.7g}, published {value:.7g}")
    assert math.isclose(factor, value, rel_tol=1e-4)

# %% [markdown]
# Two agree in every digit that the paper prints, the cosine in five (Going further says why). The last line is Stable Diffusion's schedule. It ends with 0.068 of the picture under noise of size 0.998, and you see only noise. But noise averages out and a picture does not: the mean of $n$ independent noises has standard deviation $1/\sqrt n$.
# So average $x_T$ over blocks of $16\times16$ pixels and three colours, divide by 0.068, and look. The last panel does the same with the schedule that we mend below.

# %%
big = load_dataset("photos").images[:1].double()  # (1, 3, 384, 384)
stable = schedules["scaled_linear"]
fixed = make_schedule("scaled_linear", zero_terminal_snr=True)
noise = torch.randn(big.shape, generator=generator, dtype=big.dtype)
last, root = torch.tensor([999]), stable.alphas_cumprod.sqrt()
panels = [big]
for s in (stable, fixed):
    xt = q_sample(big, last, s.alphas_cumprod, noise)
    blocks = torch.nn.functional.avg_pool2d(xt.mean(1, keepdim=True), 16) / root[-1]
    panels += [xt, torch.nn.functional.interpolate(blocks, 384).expand_as(big)]
leak = root[-1] * big.numel() ** 0.5  # of a white picture, in standard deviations
print(f"the mean of a white picture's x_T is {leak:.0f} standard deviations above 0")

# %%
fig = plotting.image_grid(
    torch.cat([*panels[:3], panels[4]]), columns=4, scale=1.8,
    titles=["$x_0$", "$x_T$", "its block means", "mended: block means"],
    title="The last step looks like noise and still holds the picture",
)
show(fig, alt=(
    "Four pictures. The photograph; its x_T, which looks like pure noise; the means of "
    "16 by 16 blocks of x_T, in which bright and dark parts of the photograph show "
    "through grain; the same means for the mended schedule, only grain."
))

# %% [markdown]
# The brightness leaks most of all: a network can read it off the mean of $x_T$. Sampling starts from noise of mean 0, and that tells the network "mid-grey". The paper observes that Stable Diffusion makes pictures of medium brightness
# and hardly any that are very dark or very bright.
#
# **The mended schedule.** The last factor should be 0 and the first one should stay. Subtract the last from all of them, so that the end becomes 0. Now the first is too small; multiply all by what brings it back (Algorithm 1 of the paper):
#
# $$ \sqrt{\bar\alpha'_t} = \frac{\sqrt{\bar\alpha_1}}{\sqrt{\bar\alpha_1}-\sqrt{\bar\alpha_T}}\,\Big(\sqrt{\bar\alpha_t}-\sqrt{\bar\alpha_T}\Big) \tag{02.10} $$
#
# The betas follow from (02.7), and the last of them is 1: the last step throws away what is left. You write this in exercise 02.6; the package's is `rescale_zero_terminal_snr`. We walk through its betas, step by step, and see whether the factors are those of (02.10), and of the shift alone:

# %%
shifted = root - root[-1]
scaled = shifted * root[0] / (root[0] - root[-1])
for n in (1, 250, 500, 1000):
    factor, _ = all_steps(fixed.betas[:n])
    assert_close(factor, scaled[n - 1])
    print(
        f"t = {n:4d}: factor {root[n - 1]:.4f} before, {factor:.4f} after, "
        f"{shifted[n - 1]:.4f} by the shift alone"
    )
print(f"last beta: {fixed.betas[-1]:.0f}")

# %% [markdown]
# The whole curve comes down, and the smaller a factor was, the more it loses.
#
# One price remains. With $\bar\alpha_T = 0$ nothing of $x_0$ is in $x_T$, so naming the noise there tells you nothing about $x_0$. The network has to be asked for something else (lesson 03).

# %% [markdown]
# ## Where people go wrong
#
# A missing root is easy to overlook. Public copies of a short course's notebook (for example `L2_Training.ipynb` in `ginny100/DeepLearning.AI-How-Diffusion-Models-Work`) make $x_t$, with $T = 500$, by the line
#
# `ab_t.sqrt()*x + (1 - ab_t)*noise`
#
# The noise is multiplied by what should be its variance. The loss gives no alarm, because a network learns whatever noise it is shown. But the sampler counts on the right noise.
#
# For a mixture we know what the best network learns from such pictures. The triangle's long side has shrunk from 1 to $\ell_t = \sqrt{\bar\alpha_t + (1-\bar\alpha_t)^2}$. Divide the wrong $x_t$ by $\ell_t$, and you have a right $x_t$ of the level $\bar\alpha_t/\ell_t^2$. We give a network that learned this to the right sampler.

# %%
ring, s = mixture("ring"), make_schedule("linear", 500)
length = (s.alphas_cumprod + (1 - s.alphas_cumprod) ** 2).sqrt()


def misled(xt, t):
    level = (s.alphas_cumprod / length**2)[t]
    return ring.noise_prediction(xt / length[t][:, None], level)


clouds = {"data": ring.sample(500, generator=generator)}
for name, network in (("right", ring.model(s.alphas_cumprod)), ("no root", misled)):
    clouds[name] = p_sample_loop(
        network, (500, 2), s.betas, s.alphas, s.alphas_cumprod,
        dtype=torch.float64, generator=make_generator(3),
    )
for name, x in clouds.items():
    near = (torch.cdist(x, ring.means).min(1).values < 0.45).double().mean()
    error = (near * (1 - near) / 500).sqrt()
    print(f"{name:>8}: {near:.3f} within 3 sd of a blob's middle (error {error:.3f})")

# %%
fig = plotting.scatter_2d(
    clouds, limit=2.4, size=2.1, title="A missing root leaves noise in the samples"
)
show(fig, alt=(
    "Three clouds of 500 points around eight blobs on a ring. Data and the right "
    "network: eight separate blobs. Without the root: the blobs are blurred and points "
    "lie between them."
))

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names a known mistake. `hint("02.1")` helps in steps, `solution("02.1")` comes after a try.

# %%
from diffusion_course import check, exercise

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

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.2, 2.3)
x_0, x_1, before, x_t, x_T = card.row(
    ["$x_0$", "$x_1$", "$x_{t-1}$", "$x_t$", "$x_T$"], 1.75, 0.6, 6.6,
    kinds=["data", "data", "data", "data", "noise"], width=0.75,
)
card.arrow(x_0, x_1, "q_step")
card.arrow(x_1, before, "...", dashed=True)
card.arrow(before, x_t, "q_step")
card.arrow(x_t, x_T, "...", dashed=True)
corners = [(x_0.x, 0.75), (x_t.x, 0.75)]
card.arrow(
    x_0.bottom, x_t.bottom, via=corners,
    label=r"q_sample:  $\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$",
)
card.text(
    3.6, 0.25, r"SNR $= \bar\alpha_t / (1-\bar\alpha_t)$ names a level; "
    "the schedule decides when it comes",
)
card.show(
    "A chain of boxes x_0, x_1, x_{t-1}, x_t, x_T, joined by q_step. One long arrow, "
    "q_sample, goes from x_0 straight to x_t."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | One jump replaces $t$ steps; the squares of its two factors add up to 1. | `q_sample` | (02.4) |
# | The jump gives the right $x_t$, but no path. | `q_step` | after (02.4) |
# | What can be seen in $x_t$ depends on the SNR alone. | `snr`, `schedule.sigmas` | (02.5), (02.6) |
# | A range of betas belongs to its $T$. Print $\sqrt{\bar\alpha_T}$ for every schedule that you use. | `make_schedule` | (02.9) |
# | Sampling starts from pure noise, so the chain should end there. | `rescale_zero_terminal_snr` | (02.10) |
#
# You can now make any $x_t$ for the price of one draw. What you still lack is a use for it: lesson 03 asks what a network should learn from these pictures.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows stands on its own, section by section: pick what you need.

# %% [markdown]
# ### A judge without eyes
#
# Eyes tire, and yours are not mine. The core's claim, that what can be seen depends on the SNR alone, deserves a judge without eyes, so let Bayes' rule look. Pretend that the training digits $x^{(k)}$ are all the digits there are, and equally likely. By (02.4) $x_t$ is then drawn from a Gaussian around one of the $\sqrt{\bar\alpha_t}\,x^{(k)}$, and the probability that this was the $k$-th is
#
# $$p(k \mid x_t) \propto \exp\left(-\frac{\lVert x_t - \sqrt{\bar\alpha_t}\,x^{(k)} \rVert^2}{2\,(1-\bar\alpha_t)}\right) \tag{02.8}$$
#
# The judge adds these probabilities up over the 3s and over the 8s, and names the larger sum. It gets test digits that it has never seen.

# %%
def threes_and_eights(split):
    data = load_dataset("digits", split=split)
    keep = (data.labels == 3) | (data.labels == 8)
    return data.images[keep].flatten(1).double(), data.labels[keep] == 8


train_x, train_8 = threes_and_eights("train")
test_x, test_8 = (v.repeat_interleave(4, 0) for v in threes_and_eights("test"))


def says_8(xt, alpha_bar):
    distance = torch.cdist(xt, alpha_bar.sqrt() * train_x)  # (N, K)
    p = (-(distance**2) / (2 * (1 - alpha_bar))).softmax(1)
    return p[:, train_8].sum(1) > 0.5


def accuracy(s, t, random):
    xt = q_sample(
        test_x, torch.full((len(test_x),), t), s.alphas_cumprod, generator=random
    )
    return (says_8(xt, s.alphas_cumprod[t]) == test_8).double().mean().item()


# %%
fig, axes = figure(7.4, 2.9, 1, 2, sharey=True)
indices, error = list(range(19, 1000, 70)), 0.0
for i, (name, s) in enumerate(schedules.items()):
    random = make_generator(i)
    runs = torch.tensor([[accuracy(s, t, random) for t in indices] for _ in range(5)])
    error = max(error, runs.std(0).max() / 5**0.5)
    axes[0].plot(indices, runs.mean(0), label=name)
    axes[1].semilogx(s.snr[indices], runs.mean(0), ".", markersize=8)
axes[0].set(xlabel="index t", ylabel="share of right answers")
axes[1].set(xlabel="SNR", xlim=(1e-5, 1e3))
axes[0].set_title("The judge against t: four curves", loc="left")
axes[1].set_title("Against the SNR: one curve", loc="left")
axes[0].legend(loc="lower left")
show(fig, alt=(
    "Share of right answers of the judge, between 1 and one half. Against t, four "
    "separate falling curves. Against the SNR the four sets of points make one curve: "
    "about one half below 0.001, three quarters near 0.2, nearly 1 above 5. The last "
    "point of cosine, 0.53 at an SNR of 2e-9, lies outside."
))
print(f"a point: five runs over {len(test_x)} noisy digits, error <= {error:.3f}")

# %% [markdown]
# Against the SNR the four curves become one, up to chance.

# %% [markdown]
# ### The shape, not only the size
#
# The check of the core followed means and variances. It could not tell normal noise from coin flips of $+1$ and $-1$, which also have mean 0 and variance 1. A histogram can. We walk 20,000 copies of the pixel of "Three steps by hand" with either noise,
# and compare $F_n(x)$, the share of the $n$ walked values up to $x$, with the distribution function $F$ of $N(1.2,\ 0.64)$. If the values do come from $F$ and $n$ is large, then by Kolmogorov's limit
#
# $$ P\Big(\sup_x |F_n(x) - F(x)| > \frac{1.63}{\sqrt n}\Big) \approx 0.01 \tag{02.11} $$
#
# So with $n = 20{,}000$ a distance above 0.0115 is a reason to doubt.

# %%
normal = torch.distributions.Normal(1.2, 0.8)
walks = {"normal noise": 2.0, "coin flips": 2.0}
for name in walks:
    x = torch.full((20_000, 1), 2.0, dtype=torch.float64)
    for t in range(3):
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        z = z.sign() if name == "coin flips" else z
        x = q_step(x, torch.full((20_000,), t), betas, z)
    walks[name] = x[:, 0]
    steps_up = torch.arange(1, 20_001) / 20_000
    distance = (normal.cdf(x[:, 0].sort().values) - steps_up).abs().max()
    print(f"{name:>12}: mean {x.mean():.2f}, sd {x.std():.2f}, distance {distance:.3f}")

# %%
grid = torch.linspace(-2, 4.5, 200).double()
density = normal.log_prob(grid).exp()
fig = plotting.histogram_against_density(
    walks, grid, dict.fromkeys(walks, density), xlabel="$x_3$",
    title="Same mean and variance, but coin flips do not make a bell",
)
show(fig, alt=(
    "Two histograms of 20,000 values under one bell curve. With normal noise the "
    "histogram follows the curve; with coin flips it has eight separate spikes."
))

# %% [markdown]
# The normal walk stays below 0.0115, and coin flips are far above it: three flips have eight outcomes. (Many small steps with coin flips would end up near a bell too, by the central limit theorem. Normal noise needs no limit.)

# %% [markdown]
# ### What a wrong start does to brightness
#
# The core said that a chain with a leak makes pictures of medium brightness. How strong is that for an exact network? Take pictures of $n = 64\times64$ pixels whose brightness varies with standard deviation 0.5. Their component along
# the unit vector $(1, \dots, 1)/\sqrt n$ is $\sqrt n$ times the brightness $m$, the mean of the pixels $y_i$:
#
# $$ \frac{1}{\sqrt n}\sum_{i=1}^{n} y_i = \sqrt n\;m \tag{02.12} $$
#
# So it has standard deviation $64\cdot 0.5 = 32$. The noise on it is standard normal, as in any direction. Suppose that the brightness is Gaussian and independent of everything else in the picture; then one coordinate is enough.
# (The options are explained later: `fixed_large` in lesson 04, `v_prediction` in lesson 03.)

# %%
from diffusion_course import GaussianMixture

bright = GaussianMixture(
    *(torch.tensor(v, dtype=torch.float64) for v in ([1.0], [[0.0]], [[[32.0**2]]]))
)


def brightness(s, kind="epsilon", **options):
    drawn = p_sample_loop(
        bright.model(s.alphas_cumprod, kind), (2000, 1),
        s.betas, s.alphas, s.alphas_cumprod, prediction_type=kind,
        variance_type="fixed_large", dtype=torch.float64,
        generator=make_generator(2), **options,
    )
    return drawn.std().item() / 64


# %%
right = bright.at(stable.alphas_cumprod[-1].item()).sample(2000, generator=generator)
print("standard deviation of the brightness (error 1.6 %); data 0.50")
print(f"scaled linear, from N(0, I): {brightness(stable):.2f}")
print(f"scaled linear, from q(x_T):  {brightness(stable, x_init=right):.2f}")

# %%
print(f"mended, from N(0, I):        {brightness(fixed, 'v_prediction'):.2f}")

# %% [markdown]
# The wrong start costs nearly half of the spread, with a perfect network. This is one Gaussian direction and not Stable Diffusion, where brightness is not Gaussian, latents are not pixels, and the prompt has its say. The direction of the effect is the paper's.
# [Everaert et al. 2023](https://arxiv.org/abs/2309.15842) call the cause a *signal leak*.
#
# The mended schedule needs a network that predicts the $v$ of lesson 03, and a sampler that starts at the last step. The package refuses to compute $x_0$ from a noise prediction at SNR 0:

# %%
from diffusion_course import to_x0_and_noise

xt = torch.randn(1, 4, generator=generator)
try:
    to_x0_and_noise(xt, xt, 0.0, "epsilon")
except ValueError as error:
    print(error)

# %% [markdown]
# ### The sixth digit of a published number
#
# Our cosine schedule ends with 4.92825e-05, the paper of Lin et al. has 4.92822e-05. The difference is small, but it has a cause that is worth knowing.
# The last cosine step is capped at $\beta_T = 0.999$, and the chain ends with
#
# $$ \sqrt{\bar\alpha_T} = \sqrt{\bar\alpha_{T-1}}\,\sqrt{1-0.999} \tag{02.13} $$
#
# In float32 the number nearest to 0.999 is a little larger, and the subtraction brings that error to the front:
# $1.3\cdot10^{-8}$ is nothing beside 0.999, and 13 millionths of 0.001.

# %%
beta_32 = torch.tensor(0.999, dtype=torch.float32).double()
print(f"0.999 in float32: {beta_32:.12f}")
print(f"1 - beta: {1 - 0.999:.9e} in float64, {1 - beta_32:.9e} from float32")
rounded = 1 - schedules["cosine"].betas.float().double()  # only the betas are rounded
factor = rounded.cumprod(0)[-1].sqrt()
print(f"last factor from rounded betas: {factor:.6e}")
assert math.isclose(factor, 4.928220e-05, rel_tol=1e-7)

# %% [markdown]
# These are all seven digits of the paper, from nothing but the rounding of the betas. The package keeps its tables in float64 and casts at the network's door.

# %% [markdown]
# ### The same tables as diffusers
#
# Is our cosine schedule everybody's? diffusers has its own code for the four schedules, in float32. We compare all betas, and once a cosine table without its offset, to see the comparison fail.

# %%
from diffusers import DDPMScheduler

from diffusion_course import cosine_betas

theirs = {"cosine": "squaredcos_cap_v2"}
for name, s in schedules.items():
    ends = {"beta_start": 0.00085, "beta_end": 0.012} if name == "scaled_linear" else {}
    there = DDPMScheduler(1000, beta_schedule=theirs.get(name, name), **ends).betas
    gap = (s.betas / there.double() - 1).abs().max()
    assert gap < 1e-5
    print(f"{name:>13}: every beta agrees to 1 part in 100,000")
there = DDPMScheduler(1000, beta_schedule="squaredcos_cap_v2").betas.double()
gap = (cosine_betas(1000, offset=0.0) / there - 1).abs().max()
print(f"cosine without the offset: a beta is off by {100 * gap:.0f} %")

# %% [markdown]
# The offset 0.008 keeps the first steps from being too small: Nichol & Dhariwal chose it so that $\sqrt{\beta_1}$, here 0.0064, is slightly below the distance $1/127.5 = 0.0078$ between two grey values. The cap stops the last step, where $\bar\alpha_T = 0$ would give $\beta_T = 1$.
# A name is not a definition, though: another "sigmoid" schedule defines $\bar\alpha_t$ itself by a logistic curve ([Jabri et al. 2022](https://arxiv.org/abs/2212.11972)).

# %% [markdown]
# ### A quadratic schedule with the wrong power
#
# Public code has `linspace(beta_start**2, beta_end**2, T) ** 2` under the name *quadratic*. The idea was evenly spaced roots, so the inner power should be $\frac12$; that is `scaled_linear`. With 2 inside, the table runs between the fourth powers of its two ends:

# %%
for power in (2, 0.5):
    table = torch.linspace(1e-4**power, 0.02**power, 200, dtype=torch.float64) ** 2
    left = (1 - table).prod().sqrt()
    print(f"inner power {power}: largest beta {table.max():.2g}, left {left:.6f}")

# %% [markdown]
# With the wrong power 200 steps add no visible noise. (With the right one 0.485 of $x_0$ is left, because these ends were made for $T = 1000$: two mistakes in one table.) Print $\sqrt{\bar\alpha_T}$, and you find either in a second.

# %% [markdown]
# ### A cosine grid that is off by one, and one that only looks so
#
# $T$ steps need $T+1$ values of $\bar\alpha$. A much copied cosine schedule had `steps = T + 1`, `linspace(0, steps, steps)` and then divided by `steps`; an issue
# ([lucidrains/denoising-diffusion-pytorch#19](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/19)) asked for `linspace(0, T, steps)` divided by `T`. Look at what each change does before you believe it:

# %%
def from_grid(u):
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
truth = cosine_betas(T)
for name, u in grids.items():
    table = from_grid(u)
    said = f"{len(table)} betas for T = {T}"
    if len(table) == T:
        said = f"largest change of a beta {(table - truth).abs().max():.3f}, "
        said += f"last two betas {table[-2]:.3f} and {table[-1]:.3f}"
    print(f"{name:>36}: {said}")

# %% [markdown]
# The first line is the version of the issue, and its table is right: both ends of the grid were stretched by the same factor, and the division takes it out. The second mixes the two and runs past $\pi/2$, so the cosine grows again at the last step.
# The third has $T$ points and therefore $T-1$ steps.

# %% [markdown]
# ### To read further
#
# - Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672, section 3.2: why the linear schedule wastes steps on small pictures.
# - Lin et al. 2023, https://arxiv.org/abs/2305.08891: zero terminal SNR, with pictures of what it repairs.
# - Kingma et al. 2021, https://arxiv.org/abs/2107.00630: a diffusion model written in terms of its SNR alone.
# - Chen 2023, https://arxiv.org/abs/2301.10972: what a schedule has to do with the size of the picture.
