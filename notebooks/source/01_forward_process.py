# %% [markdown]
# # 01 · The forward process
#
# After this lesson you can:
#
# - take one step of noise, and a chain of them, on points, digits and a photograph;
# - derive why the signal is multiplied by $\sqrt{1-\beta_t}$, and say what every other factor does to the variance;
# - write down the exact distribution of $x_t$ when the data is a Gaussian mixture, and test it against a simulated chain;
# - measure how far $x_t$ is from pure noise, and say what that distance means;
# - recognise noise of the wrong size and data of the wrong range by their traces.
#
# You need: lesson 00, the normal distribution, and that independent variances add.
#
# **Measured cost:** 0.6 min on 2 cores, 0.9 GB of memory at the peak.

# %% [markdown]
# ## Recall
#
# 1. The tables of this course have length $T$ and indices $0 \dots T-1$. Which $t$ of the papers is index 0?
#
# <details><summary>Answer</summary>
#
# The papers' $t = 1$, the first step of noise. Formulas in this lesson count $t = 1, \dots, T$ as the papers do. In code, figures and
# printed lines, t is the index: one less.
#
# </details>
#
# 2. You call `load_dataset("digits")`. Which shape, dtype and range of values do the images have?
#
# <details><summary>Answer</summary>
#
# (1797, 1, 8, 8), float32, from -1 (black) to 1 (white). Why this range matters is a part of this lesson.
#
# </details>

# %% tags=["long"]
import math

import torch
from torch.testing import assert_close

from diffusion_course import (
    GaussianMixture,
    bits_per_dim,
    check,
    exercise,
    gaussian_kl,
    load_dataset,
    make_schedule,
    mixture,
    plotting,
    q_step,
    seed_everything,
    show,
    show_source,
)
from diffusion_course.notebook import Explorer

generator = seed_everything(0)

# %% [markdown]
# ## Predict first
#
# Below is a photograph and what is left of it after 1,000 small steps. Each step multiplies the picture by a number a little below 1
# and adds a little Gaussian noise. The noise added in step $t$ has variance $\beta_t$. The betas rise in a straight line from 0.0001 to
# 0.02: the schedule of Ho et al. 2020 ([2006.11239](https://arxiv.org/abs/2006.11239), section 4).
#
# The cell below runs the chain. `q_step` is one step; you derive it in the next section. `run_chain` keeps the pictures at the indices
# you ask for; key -1 is the clean data.

# %%
schedule = make_schedule("linear")  # T = 1000, betas from 0.0001 to 0.02


def run_chain(x0, betas, keep):
    kept, x = {-1: x0}, x0
    for i in range(len(betas)):
        x = q_step(x, torch.full((len(x0),), i), betas, generator=generator)
        if i in keep:
            kept[i] = x
    return kept


# %%
photo = load_dataset("photos", size=128).images[:1]  # (1, 3, 128, 128)
photo_chain = run_chain(photo, schedule.betas, keep=range(49, 1000, 50))
both = torch.cat([photo_chain[-1], photo_chain[999]])
fig = plotting.image_strip(
    both, column_labels=["clean", "t=999"],
    title="A photograph before and after 1,000 steps", scale=1.3,
)
show(fig, alt=(
    "Two squares. Left: a photograph of a temple. "
    "Right: coloured noise in which nothing of it can be seen."
))

# %% [markdown]
# **Your prediction.** Each step multiplies the variance of the photograph by $1-\beta_t$. At which index is, for the first time, less than
# half of that variance left? Write your guess into the cell before you run it. The 500 stands there for "in the middle".

# %%
my_prediction = 500

# (T,): share of the photograph's variance after each step
left = (1 - schedule.betas).cumprod(0)
answer = int((left < 0.5).nonzero()[0])
print(
    f"You said t={my_prediction}. There, {100 * left[my_prediction]:.1f} % of the "
    "photograph's variance is left."
)
print(f"Less than half is left from t={answer} on.")

# %% [markdown]
# Half of the variance is gone at a quarter of the way. The last half of the chain works on the last 8 %. Here are the stations.

# %%
stations = [-1, 49, 149, 299, 499, 999]
strip = torch.cat([photo_chain[t] for t in stations])
labels = ["clean"] + [f"t={t}" for t in stations[1:]]
fig = plotting.image_strip(
    strip, column_labels=labels,
    title="Half of the photograph's variance is gone at t=259", scale=1.15,
)
show(fig, alt=(
    "The temple clean and at t = 49, 149, 299, 499 and 999. "
    "It is grainy at 49, an outline in noise at 299, a shadow at 499, gone at 999."
))

# %% [markdown]
# The same as a loop. It plays three times; run the cell to see it again. Where nothing may move, you see stations instead.

# %%
from diffusion_course import Animation

moments = [-1, *range(49, 1000, 50)]
titles = [f"t = {t}" if t >= 0 else "clean" for t in moments]
Animation(
    [photo_chain[t] for t in moments],
    "The temple drowns in noise within the first half of the loop; "
    "the second half shows only noise.",
    titles=titles, seconds=5, scale=1.28,
    still=plotting.image_strip(strip, column_labels=labels, scale=1.15),
)

# %% [markdown]
# ## One step of noise
#
# A batch of data is $x_0$, of any shape. Step $t$ turns $x_{t-1}$ into $x_t$. It shrinks $x_{t-1}$ and adds Gaussian noise, to every
# number independently. In the notation of Ho et al. 2020 ([2006.11239](https://arxiv.org/abs/2006.11239), eq. 2):
#
# $$q(x_t \mid x_{t-1}) = N\left(x_t;\ \sqrt{1-\beta_t}\, x_{t-1},\ \beta_t I\right), \qquad 0 < \beta_t < 1 \tag{01.1}$$
#
# Read it aloud: "given $x_{t-1}$, $x_t$ is normal with mean $\sqrt{1-\beta_t}\,x_{t-1}$ and **variance** $\beta_t$". To draw from a normal
# distribution you multiply standard noise by the **standard deviation**, the square root of the variance, and add the mean:
#
# $$x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\;\epsilon_t, \qquad \epsilon_t \sim N(0, I) \tag{01.2}$$
#
# **By hand.** One pixel, $T = 3$, $\beta = (0.1, 0.2, 0.5)$, $x_0 = 0.8$, and the noise happens to be $(0.5, -1, 0.25)$:
#
# $$x_1 = \sqrt{0.9}\cdot 0.8 + \sqrt{0.1}\cdot 0.5 = 0.7589 + 0.1581 = 0.9171$$
# $$x_2 = \sqrt{0.8}\cdot 0.9171 + \sqrt{0.2}\cdot(-1) = 0.8202 - 0.4472 = 0.3730$$
# $$x_3 = \sqrt{0.5}\cdot 0.3730 + \sqrt{0.5}\cdot 0.25 = 0.2638 + 0.1768 = 0.4405$$
#
# The same numbers through the package:

# %%
hand_betas = torch.tensor([0.1, 0.2, 0.5], dtype=torch.float64)
x = torch.tensor([0.8], dtype=torch.float64)
for i, eps in enumerate([0.5, -1.0, 0.25]):
    x = q_step(
        x, torch.tensor([i]), hand_betas, torch.tensor([eps], dtype=torch.float64)
    )
    print(f"t={i}: x = {x.item():.4f}")
assert_close(x.item(), 0.4405, atol=5e-5, rtol=0)

# %% [markdown]
# These are the lines that ran. `column` gives `betas[t]`, one number for each sample, the axes that it needs to broadcast.

# %%
show_source(q_step)

# %% [markdown]
# ## The chain
#
# Each step looks at the step before and at nothing else. The probability of a whole path is therefore a product
# ([2006.11239](https://arxiv.org/abs/2006.11239), eq. 2):
#
# $$q(x_{1:T} \mid x_0) = \prod_{t=1}^{T} q(x_t \mid x_{t-1}) \tag{01.3}$$
#
# Nothing in it is learned. The betas are chosen in advance; together they are the schedule. A process in which the next state depends on
# the present one alone is a Markov chain.
#
# The chain does not know what it destroys. Here it works on points in the plane, drawn from a mixture of twelve narrow Gaussians.

# %%
points = mixture("moons").sample(1500, generator=generator)  # (1500, 2)
point_chain = run_chain(points, schedule.betas, keep={49, 199, 999})
clouds = {("clean" if t < 0 else f"t={t}"): cloud for t, cloud in point_chain.items()}
fig = plotting.scatter_2d(clouds, title="Two arcs become a round cloud", limit=3.2)
show(fig, alt=(
    "Four clouds of 1,500 points: two interlocking arcs; blurred arcs at t=49; "
    "one tilted lump at t=199; a round normal cloud at t=999."
))

# %% [markdown]
# And on handwritten digits. They are real: 8x8 pixels, scanned, from scikit-learn.

# %%
digits = load_dataset("digits")
digit_stations = [-1, 49, 149, 249, 349, 499, 999]
digit_chain = run_chain(digits.images[:6], schedule.betas, keep=set(digit_stations))
rows = [
    torch.cat([digit_chain[t][k : k + 1] for t in digit_stations]) for k in range(6)
]
labels = ["clean"] + [f"t={t}" for t in digit_stations[1:]]
fig = plotting.image_strip(
    rows, column_labels=labels, title="Six digits on their way to noise", scale=0.7
)
show(fig, alt=(
    "Digits 0 to 5, one per row, clean and at t = 49 to 999. "
    "All can be read at 49, few at 249, none at 499."
))

# %% [markdown]
# ## Why the square root of 1 - beta
#
# Put an unknown factor $c$ in front of $x_{t-1}$ and find out what it has to be. Take one coordinate. Write $m_t$ for the mean of $x_t$
# over all data and all noise, and $v_t$ for its variance. Start from $x_t = c\,x_{t-1} + \sqrt{\beta_t}\,\epsilon_t$.
#
# *The mean.* $\epsilon_t$ has mean 0, so $m_t = c\, m_{t-1}$.
#
# *The variance.* Subtract the mean: $x_t - m_t = c\,(x_{t-1} - m_{t-1}) + \sqrt{\beta_t}\,\epsilon_t$. Square and take the average:
#
# $$v_t = c^2\, v_{t-1} + 2 c \sqrt{\beta_t}\; E[(x_{t-1} - m_{t-1})\,\epsilon_t] + \beta_t\, E[\epsilon_t^2]$$
#
# The new noise is independent of $x_{t-1}$, so the expectation in the middle is a product of two means that are 0. The last one is 1. What
# remains:
#
# $$v_t = c^2\, v_{t-1} + \beta_t \tag{01.4}$$
#
# *The demand.* A network will have to read $x_t$ for every $t$. You want its input to have the same scale throughout: if $v_{t-1} = 1$, then
# $v_t = 1$. Put both into (01.4): $1 = c^2 + \beta_t$. The only positive factor that does it is
#
# $$c = \sqrt{1 - \beta_t}$$
#
# Ho et al. give the same reason: the factor is there "so that variance does not grow when adding noise"
# ([2006.11239](https://arxiv.org/abs/2006.11239), appendix C).

# %% [markdown]
# **What if the data does not have variance 1?** With $c = \sqrt{1-\beta_t}$, (01.4) becomes
#
# $$v_t = (1-\beta_t)\, v_{t-1} + \beta_t \tag{01.5}$$
#
# Subtract both sides from 1. On the right, $1 - \beta_t - (1-\beta_t)\,v_{t-1} = (1-\beta_t)(1 - v_{t-1})$:
#
# $$1 - v_t = (1-\beta_t)\,(1 - v_{t-1}) \tag{01.6}$$
#
# The distance to 1 is multiplied by $1-\beta_t$, a number between 0 and 1. So 1 is a fixed point and every other start is drawn towards
# it, from above or below. Multiply all the steps. The product gets a name that you keep for the whole course:
#
# $$1 - v_t = \bar\alpha_t\,(1 - v_0), \qquad \bar\alpha_t = \prod_{s=1}^{t} (1-\beta_s) \tag{01.7}$$
#
# Solved for the variance, $v_t = \bar\alpha_t\, v_0 + (1 - \bar\alpha_t)$. The mean is multiplied by $\sqrt{1-\beta_s}$ in each step, so
# $m_t = \sqrt{\bar\alpha_t}\; m_0$. In code, $\bar\alpha$ is the table `alphas_cumprod`.
#
# **By hand.** The pixel from above, $\beta = (0.1, 0.2, 0.5)$, known exactly at the start: $v_0 = 0$. From (01.5): $v_1 = 0.1$,
# $v_2 = 0.8 \cdot 0.1 + 0.2 = 0.28$, $v_3 = 0.5 \cdot 0.28 + 0.5 = 0.64$. From (01.7): $\bar\alpha_3 = 0.9 \cdot 0.8 \cdot 0.5 = 0.36$ and
# $v_3 = 1 - 0.36 = 0.64$.
#
# **Check on real data.** All 1,797 digits go through all 1,000 steps. The 64 pixels have different means and variances: corners are always
# black, $v_0 = 0$. The start is the data itself, so only the noise is random, and the tolerance comes from theory: write $s$ for the
# variance of the signal part and $\sigma^2$ for that of the noise. Measured over $N$ pictures, $v = s + \sigma^2$ scatters with variance
# $(2\sigma^4 + 4\sigma^2 s)/N \le 2v^2/N$, the measured mean with variance $\sigma^2/N \le 1/N$. The check allows six standard deviations.
# Chance alone goes beyond that, in 64 pixels at five stations, less than once in 10,000 runs.

# %%
flat = digits.images.flatten(1).double()  # (1797, 64)
pixel_chain = run_chain(flat, schedule.betas, keep={99, 199, 399, 699, 999})
m0, v0 = flat.mean(0), flat.var(0)  # (64,) each
for t in (99, 199, 399, 699, 999):
    abar, seen = schedule.alphas_cumprod[t], pixel_chain[t].var(0)
    predicted = abar * v0 + 1 - abar
    assert_close(
        seen / predicted, torch.ones(64, dtype=seen.dtype),
        atol=6 * math.sqrt(2 / len(flat)), rtol=0,
    )
    assert_close(
        pixel_chain[t].mean(0), abar.sqrt() * m0,
        atol=6 * math.sqrt(1 / len(flat)), rtol=0,
    )
    print(
        f"t={t:3d}: predicted variances from {predicted.min():.3f} to "
        f"{predicted.max():.3f}"
    )

# %% [markdown]
# **Other factors.** You know (01.4) for any $c$. Before you look at the figure: what does $v_t$ do without a factor, $c = 1$? And with
# $c = 1-\beta_t$, the square root forgotten?
#
# - $c = 1$: $v_t = v_{t-1} + \beta_t$. The betas add up: $v_T = v_0 + \sum_t \beta_t = v_0 + 10.05$ for this schedule, and it depends on $T$.
# - $c = 1-\beta_t$: the fixed point of $v = (1-\beta)^2 v + \beta$ is $v = \beta / (2\beta - \beta^2) = 1/(2-\beta)$, about one half.
# - $c = 1 - \beta_t/2$, the first two terms of the square root's series: $v = \beta/(\beta - \beta^2/4) = 1/(1-\beta/4)$, almost 1.

# %%
factors = {
    "1": lambda b: 1.0,
    "sqrt(1-beta)": lambda b: math.sqrt(1 - b),
    "1-beta/2": lambda b: 1 - b / 2,
    "1-beta": lambda b: 1 - b,
}
curves = {}
for name, factor in factors.items():
    v = [float(photo.var())]
    for b in schedule.betas.tolist():
        v.append(factor(b) ** 2 * v[-1] + b)
    curves[name] = v[1:]
    print(f"c = {name:12s}: variance at the end {v[-1]:.4f}")

# %%
fig = plotting.lines(
    torch.arange(1000), curves, xlabel="t", ylabel="variance of $x_t$", logy=True,
    title="Only the square root of 1-beta leads to variance 1 exactly",
)
ends = ", ".join(f"factor {name}: {values[-1]:.3f}" for name, values in curves.items())
show(fig, alt=(
    "Variance of x_t against t, from 0.41 at the start, for four factors. "
    f"At t=999, {ends}."
))

# %% [markdown]
# The factor 1 is not forbidden. It is another family of models: without the factor the variance explodes, and Song et al. call it that
# ([2011.13456](https://arxiv.org/abs/2011.13456), section 3.4: "variance exploding", and "variance preserving" for the chain of this lesson).
# The input of its network changes scale with $t$. The factor $1-\beta_t/2$ is what you meet when the chain is written as a
# differential equation: its drift is $-\tfrac12\beta(t)\,x$ (same paper, eq. 11).

# %% [markdown]
# ## A mixture in closed form
#
# So far you know two numbers of $x_t$, mean and variance. For data that is a Gaussian mixture you can know its whole distribution. The
# argument: one normal stays normal; a mixture is a choice among normals; the choice does not change on the way.
#
# **One normal stays normal.** The characteristic function of a random number $X$ is $E[e^{iuX}]$; it determines the distribution. For
# $N(m, v)$ it is $e^{ium - u^2 v/2}$. For independent numbers, the expectation of the product is the product of the expectations:
#
# $$\begin{aligned}
# E\left[e^{iu(cX + \sqrt{\beta}\epsilon)}\right] &= E\left[e^{i(uc)X}\right] E\left[e^{i(u\sqrt{\beta})\epsilon}\right] \\
# &= e^{iucm - u^2c^2v/2}\; e^{-u^2\beta/2} = e^{iu(cm) - u^2(c^2 v + \beta)/2}
# \end{aligned} \tag{01.8}$$
#
# The last expression is the characteristic function of $N(cm,\ c^2v + \beta)$. So if $x_{t-1}$ is normal, $x_t$ is normal. Its mean and
# variance follow the recursions that you have solved:
#
# $$x_0 \sim N(m, v) \quad\Longrightarrow\quad x_t \sim N\left(\sqrt{\bar\alpha_t}\, m,\ \bar\alpha_t v + 1 - \bar\alpha_t\right) \tag{01.9}$$
#
# **A mixture.** Draw a label $k$ with probability $w_k$, then $x_0$ from $N(m_k, v_k)$. Given the label, (01.9) holds. The label is drawn
# once, and the noise does not look at it. Sum over the labels (law of total probability):
#
# $$q(x_t) = \sum_k w_k\; N\left(x_t;\ \sqrt{\bar\alpha_t}\, m_k,\ \bar\alpha_t v_k + 1 - \bar\alpha_t\right) \tag{01.10}$$
#
# The weights stay. The means move to 0. The variances move to 1. In more dimensions the covariance becomes
# $\bar\alpha_t S_k + (1-\bar\alpha_t) I$ by the same argument for every direction. That is this method of the package:

# %%
show_source(GaussianMixture.at)

# %% [markdown]
# **Check without any of this algebra.** Put a density on a grid. One step sends the value at $y$ to a small normal around
# $\sqrt{1-\beta}\,y$; the new density is the sum over all $y$. Twelve big steps, numeric sums only. The mixture has a tall narrow and a low
# broad component.

# %%
w = torch.tensor([0.35, 0.65], dtype=torch.float64)
means = torch.tensor([[-1.2], [1.0]], dtype=torch.float64)
variances = torch.tensor([[[0.02]], [[0.16]]], dtype=torch.float64)
data1d = GaussianMixture(w, means, variances)
grid = torch.linspace(-7, 7, 1401, dtype=torch.float64)  # (G,), spacing 0.01
big_betas = torch.linspace(0.05, 0.4, 12, dtype=torch.float64)
density = data1d.log_prob(grid[:, None]).exp()  # (G,)
for b in big_betas:
    step = torch.distributions.Normal((1 - b).sqrt() * grid, b.sqrt())
    kernel = step.log_prob(grid[:, None]).exp()  # (G to, G from)
    density = kernel @ density * 0.01
abar = (1 - big_betas).prod()
assert_close(
    density, data1d.at(abar.item()).log_prob(grid[:, None]).exp(), atol=1e-12, rtol=0
)
print(f"abar = {abar:.4f}: grid and formula agree to 1e-12")

# %% [markdown]
# A check is worth something if it can fail. Change one sign in (01.10), $\bar\alpha_t v_k + 1 + \bar\alpha_t$, and run it again:

# %%
wrong = GaussianMixture(w, abar.sqrt() * means, abar * variances + 1 + abar)
try:
    assert_close(density, wrong.log_prob(grid[:, None]).exp(), atol=1e-12, rtol=0)
except AssertionError as error:
    print("AssertionError:", str(error).splitlines()[0])

# %% [markdown]
# **Check against a simulated chain.** 20,000 points go through the 1,000 steps of the linear schedule. A histogram should lie under the
# curve of (01.10). A look is not a test, so count: $F_N(x)$ is the share of samples below $x$, $F(x)$ the exact probability. The
# Dvoretzky-Kiefer-Wolfowitz inequality bounds their largest gap, for every $N$ and every distribution:
#
# $$P\left(\sup_x |F_N(x) - F(x)| > \epsilon\right) \le 2 e^{-2N\epsilon^2}$$
#
# Set the right side to 0.001 and solve for $\epsilon$. With the right formula, a fresh run exceeds this $\epsilon$ once in a thousand times
# or less.

# %%
N = 20_000
line_chain = run_chain(
    data1d.sample(N, generator=generator), schedule.betas, keep={99, 249, 999}
)
samples = {("clean" if t < 0 else f"t={t}"): x[:, 0] for t, x in line_chain.items()}
levels = {t: 1.0 if t < 0 else schedule.alphas_cumprod[t].item() for t in line_chain}
exact = {
    label: data1d.at(a).log_prob(grid[:, None]).exp()
    for label, a in zip(samples, levels.values(), strict=True)
}
inside = slice(300, 1101)  # from -4 to 4
fig = plotting.histogram_against_density(
    samples, grid[inside], {k: d[inside] for k, d in exact.items()},
    title="20,000 simulated points against the formula",
)
show(fig, alt=(
    "Histograms of x clean and at t = 99, 249, 999 under the exact density. "
    "Two peaks blur into one; histogram and curve agree throughout."
))

# %%
def largest_gap(x, distribution):
    """Largest distance of the samples' cumulative share from the exact one."""
    x = x.sort().values
    spread = distribution.covariances[:, 0, 0].sqrt()
    F = (
        torch.special.ndtr((x[:, None] - distribution.means[:, 0]) / spread)
        * distribution.weights
    ).sum(1)
    steps = torch.arange(len(x) + 1, dtype=x.dtype) / len(x)
    return torch.maximum((steps[1:] - F).abs().max(), (F - steps[:-1]).abs().max())


# %%
epsilon = math.sqrt(math.log(2 / 0.001) / (2 * N))
print(f"allowed gap: {epsilon:.4f}")
for label, a in zip(samples, levels.values(), strict=True):
    gap = largest_gap(samples[label], data1d.at(a))
    print(f"{label:6s} gap {gap:.4f}")
    assert_close(gap, torch.zeros_like(gap), atol=epsilon, rtol=0)

# %% [markdown]
# Would it notice a mistake? Compare the samples at t=99 with the formula for other indices. A few indices off are below what 20,000 samples
# can see. The grid check above sees them. That is why both are here.

# %%
for t in (99, 104, 119, 149):
    gap = largest_gap(samples["t=99"], data1d.at(schedule.alphas_cumprod[t].item()))
    print(
        f"formula for t={t}: gap {gap:.4f}, {'passes' if gap <= epsilon else 'caught'}"
    )

# %% [markdown]
# ## How far from pure noise
#
# The plan of diffusion models is to start from $N(0, I)$ and to walk back. So $x_T$ has to be close to $N(0, I)$. Close in which sense? On the
# line, you have the exact density $q_t$ of $x_t$ and the density $n$ of $N(0,1)$. Two distances:
#
# $$\begin{aligned}
# \mathrm{TV}(q_t, n) &= \tfrac12 \int |q_t(x) - n(x)|\,dx, \\
# \mathrm{KL}(q_t \,\|\, n) &= \int q_t(x) \log\frac{q_t(x)}{n(x)}\,dx
# \end{aligned} \tag{01.11}$$
#
# **What TV means.** Somebody flips a coin and shows you one number, from $q_t$ or from $n$. You say which. The best you can do is to name the
# larger density. You are right with probability $\tfrac12\int \max(q_t, n)\,dx$. Since
# $\max(a, b) = \tfrac12(a + b) + \tfrac12|a - b|$ and both densities integrate to 1, this is $\tfrac12(1 + \mathrm{TV})$. TV = 0: you guess.
# TV = 1: you always know.
#
# **Why it falls.** A step $K$ leaves $n$ as it is: mean 0 and variance 1 are the fixed points. So $q_t - n = K(q_{t-1} - n)$. A step spreads
# values with nonnegative weights that sum to 1, and the absolute value of a weighted sum is at most the weighted sum of absolute values. So
# $\mathrm{TV}(q_t, n) \le \mathrm{TV}(q_{t-1}, n)$. No schedule can make the chain come back.
#
# With exact densities both integrals are sums over the grid. No sampling is involved.

# %%
log_n = torch.distributions.Normal(0.0, 1.0).log_prob(grid)


def distances(alpha_bar):
    log_q = data1d.log_prob(grid[:, None], alpha_bar)
    q = log_q.exp()
    return 0.01 * (q - log_n.exp()).abs().sum() / 2, 0.01 * (q * (log_q - log_n)).sum()


times = torch.arange(0, 1000, 9)
tv, kl = torch.tensor([distances(a) for a in schedule.alphas_cumprod[times].tolist()]).T
assert_close(tv.diff().clamp(min=0), torch.zeros_like(tv[1:]), atol=1e-12, rtol=0)
for i in (0, 11, 33, 55, 77, 111):
    print(
        f"t={times[i]:3d}: TV {tv[i]:.5f}, right {50 * (1 + tv[i]):.2f} % of the time, "
        f"KL {kl[i]:.2e} nats"
    )

# %%
names = ["linear", "scaled_linear", "cosine", "sigmoid"]
schedules = {name: make_schedule(name) for name in names}
tvs = {
    name: [distances(a)[0].item() for a in one.alphas_cumprod[times].tolist()]
    for name, one in schedules.items()
}
fig = plotting.lines(
    times, tvs, xlabel="t", ylabel="TV($x_t$, N(0, 1))", logy=True,
    title="Schedules differ in when, and how far, they reach noise",
)
ends = ", ".join(f"{name} {values[-1]:.1e}" for name, values in tvs.items())
show(fig, alt=(
    "Total variation distance against t, falling, for four schedules. At t=999: "
    f"{ends}. Cosine stays high longest, then drops; scaled linear ends highest."
))

# %% [markdown]
# Scaled linear, the schedule of Stable Diffusion, ends ten times farther from noise than linear. Lesson 02 takes this up.
#
# **A published number.** Given one picture $x_0$, $x_T$ is normal with mean $\sqrt{\bar\alpha_T}\,x_0$ and variance $1-\bar\alpha_T$: (01.9)
# with $v = 0$. The KL of a normal to $N(0,1)$ needs no grid. Take logarithms of both densities, subtract, and use
# $E[(x-m)^2] = s^2$, $E[x^2] = m^2 + s^2$:
#
# $$\begin{aligned}
# \mathrm{KL}\left(N(m, s^2)\,\|\,N(0,1)\right) &= E\left[-\tfrac12\log s^2 - \tfrac{(x-m)^2}{2s^2} + \tfrac{x^2}{2}\right] \\
# &= \tfrac12\left(m^2 + s^2 - 1 - \log s^2\right)
# \end{aligned} \tag{01.12}$$
#
# Ho et al. report about $10^{-5}$ bits per dimension for their images ([2006.11239](https://arxiv.org/abs/2006.11239), section 4). Here are the
# two photographs: (01.12) written out, the package, and the published size.

# %%
photos = load_dataset("photos", size=128).images.double()  # (2, 3, 128, 128)
abar = schedule.alphas_cumprod[-1]
m, s2 = abar.sqrt() * photos, 1 - abar
by_formula = 0.5 * (m**2 + s2 - 1 - s2.log())
zero = torch.zeros_like(m)
by_package = gaussian_kl(m, s2.log().expand_as(m), zero, zero)
assert_close(by_package, by_formula, atol=1e-12, rtol=0)
bits = bits_per_dim(by_formula.sum(), photos.numel())
print(f"{bits:.2e} bits per dimension")
assert 0.3e-5 < bits < 3e-5

# %% [markdown]
# ## Look
#
# Six digits, 3s and 8s in hidden order, go through the chain of each schedule.
#
# **Task.** Start at the noisy end. Move t down until you can name all six; note this t and your names in the cell below the explorer. Then
# do the same for another schedule. The title shows the signal-to-noise ratio $\bar\alpha_t / (1-\bar\alpha_t)$. Is it about the same where
# your eye gives up?

# %%
test = load_dataset("digits", split="test")
candidates = ((test.labels == 3) | (test.labels == 8)).nonzero()[:, 0]
chosen = candidates[torch.randperm(len(candidates), generator=generator)[:6]]
slider = range(19, 1000, 20)
chains = {
    name: run_chain(test.images[chosen], one.betas, keep=set(slider))
    for name, one in schedules.items()
}


def draw(t, schedule):
    ratio = schedules[schedule].snr[t].item()
    title = f"3 or 8? {schedule}, t={t}, signal-to-noise ratio {ratio:.3g}"
    fig = plotting.image_grid(
        chains[schedule][t], columns=6, titles=range(1, 7), title=title, scale=1.1
    )
    return fig, (
        f"Six digits in hidden order, each a 3 or an 8, {schedule} schedule at t={t}, "
        f"signal-to-noise ratio {ratio:.3g}."
    )


Explorer(draw, t=slider, schedule=names, start={"t": 799})

# %%
my_t, my_names = 799, "??????"  # for example 299, "338838"

truth = "".join(str(k) for k in test.labels[chosen].tolist())
if "?" in my_names:
    print("Not answered yet.")
else:
    right = sum(a == b for a, b in zip(my_names, truth, strict=True))
    print(
        f"{right} of 6 right, at a signal-to-noise ratio of {schedule.snr[my_t]:.3g}."
    )

# %% [markdown]
# **A judge without eyes.** How much of this is the picture's fault and how much your eye's? Treat the training digits as all the digits
# there are. Then the data is a mixture of points: $K$ components of variance 0. Given $x_t$, Bayes' rule with (01.9) weighs each training
# digit $x^{(k)}$:
#
# $$p(k \mid x_t) \propto \exp\left(-\frac{\lVert x_t - \sqrt{\bar\alpha_t}\,x^{(k)} \rVert^2}{2\,(1-\bar\alpha_t)}\right) \tag{01.13}$$
#
# Sum over the 8s, sum over the 3s, say the larger. For noisy training digits no rule is right more often. The test is on digits that it has
# not seen, as for your eye. The function returns the logarithm of the two sums' ratio; above 0 means 8. `scale` and `variance` are
# $\sqrt{\bar\alpha_t}$ and $1-\bar\alpha_t$.

# %%
def pick(split):
    data = load_dataset("digits", split=split)
    keep = (data.labels == 3) | (data.labels == 8)
    # (N, 64), (N,)
    return data.images[keep].flatten(1).double(), data.labels[keep] == 8


def judge(xt, train, is_8, scale, variance):
    logits = -(torch.cdist(xt, scale * train) ** 2) / (2 * variance)  # (N, K)
    return logits[:, is_8].logsumexp(1) - logits[:, ~is_8].logsumexp(1)


train_x, train_8 = pick("train")
test_x, test_8 = pick("test")
print(f"{len(train_x)} training digits, {len(test_x)} test digits, all 3s and 8s")

# %% [markdown]
# The judge is a mixture's responsibility in other words, so the package must agree:

# %%
K, D = train_x.shape
as_mixture = GaussianMixture(
    torch.full((K,), 1 / K, dtype=torch.float64), train_x,
    torch.zeros(K, D, D, dtype=torch.float64),
)
abar = schedule.alphas_cumprod[399]
xt = run_chain(test_x[:4], schedule.betas[:400], keep={399})[399]
p_8 = as_mixture.responsibilities(xt, abar)[:, train_8].sum(1)
assert_close(
    judge(xt, train_x, train_8, abar.sqrt(), 1 - abar).sigmoid(), p_8, atol=1e-9, rtol=0
)
print("probability of an 8 at t=399:", [f"{p:.3f}" for p in p_8.tolist()])

# %%
every_40 = list(range(19, 1000, 40))


def accuracy(one, change=lambda x: x, copies=8):
    x0, label = change(test_x).repeat(copies, 1), test_8.repeat(copies)
    chain, abar = run_chain(x0, one.betas, keep=set(every_40)), one.alphas_cumprod
    said = {
        t: judge(chain[t], change(train_x), train_8, abar[t].sqrt(), 1 - abar[t]) > 0
        for t in every_40
    }
    return [(said[t] == label).double().mean().item() for t in every_40]


judged = {name: accuracy(one) for name, one in schedules.items()}
fig = plotting.lines(
    every_40, judged, xlabel="t", ylabel="3 or 8: right answers",
    title="The judge, too, can only guess in the end",
)
where = ", ".join(
    f"{k} {next(t for t, a in zip(every_40, v, strict=True) if a < 0.75)}"
    for k, v in judged.items()
)
show(fig, alt=(
    "Share of right answers against t, from 1 to about one half, four schedules. "
    f"Below three quarters from: {where}."
))

# %% [markdown]
# Four schedules, four curves. Now draw the same numbers against the signal-to-noise ratio.

# %%
by_ratio = {
    name: (schedules[name].snr[every_40], torch.tensor(values))
    for name, values in judged.items()
}
fig = plotting.lines(
    [1.0], by_ratio,
    xlabel="signal-to-noise ratio", ylabel="3 or 8: right answers", logx=True,
    direct_labels=False, title="One curve: only the signal-to-noise ratio counts",
)
show(fig, alt=(
    "The four curves against the signal-to-noise ratio lie on each other: "
    "one half at 0.001, three quarters near 0.2, 1 above 5."
))

# %% [markdown]
# This had to be so. Divide $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$, which is (01.9) for a single picture, by
# $\sqrt{1-\bar\alpha_t}$. What is left is $\sqrt{\mathrm{SNR}}\;x_0 + \epsilon$: whatever anybody can learn from $x_t$ depends on the ratio
# alone. An index t means something only together with its schedule.

# %% [markdown]
# **A limit of this picture.** The ratio counts single pixels. An eye, and a network, adds up many of them. Average the photograph at t=499 over
# blocks of 8x8 pixels: the noise of a block is 8 times smaller, the temple's shape is not. So a large picture survives longer than a small
# one at the same t. Chen finds that larger pictures need noisier schedules, for this reason
# ([2301.10972](https://arxiv.org/abs/2301.10972)).

# %%
noisy = photo_chain[499]
# (1, 3, 16, 16), rescaled
blocks = (
    torch.nn.functional.avg_pool2d(noisy, 8)
    / schedule.alphas_cumprod[499].sqrt().float()
)
squares = blocks.repeat_interleave(8, 2).repeat_interleave(8, 3)
shown = torch.cat([photo, noisy, squares])
fig = plotting.image_strip(
    shown, column_labels=["clean", "t=499", "8x8 means"],
    title="The noise hides pixels before it hides pictures", scale=1.4,
)
show(fig, alt=(
    "The temple, its noisy version at t=499 where little can be seen, "
    "and block averages of the latter: roof and sky can be told apart."
))

# %% [markdown]
# ## Where people go wrong
#
# ### The variance where the standard deviation belongs
#
# $N(m, \beta I)$ names a variance; `torch.randn` has to be multiplied by a standard deviation. The slip is common in teaching
# material: "add noise scaled by $\beta_t$" is reported in
# [huggingface/diffusion-models-class#63](https://github.com/huggingface/diffusion-models-class/issues/63), a forward step that multiplies by
# $\beta$ in [acids-ircam/diffusion_models#1](https://github.com/acids-ircam/diffusion_models/issues/1), and the same slip for $1-\bar\alpha_t$ in
# [Ryota-Kawamura/How-Diffusion-Models-Work#1](https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work/issues/1).
#
# The one-line difference is `beta * noise` for `beta.sqrt() * noise`. The noise then has variance $\beta^2$, and (01.4) says what follows:
# $v_t = (1-\beta_t)\,v_{t-1} + \beta_t^2$, with a fixed point at $\beta$ instead of 1.

# %%
def wrong_chain(x0, betas, keep):
    kept, x = {-1: x0}, x0
    for i, b in enumerate(betas.tolist()):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = math.sqrt(1 - b) * x + b * noise
        if i in keep:
            kept[i] = x
    return kept


# %%
v = 0.0
for b in schedule.betas.tolist():
    v = (1 - b) * v + b**2
nothing = torch.zeros(20_000, 1, dtype=torch.float64)
x_T = wrong_chain(nothing, schedule.betas, keep={999})[999]
assert_close(
    x_T.var() / v, torch.ones((), dtype=torch.float64),
    atol=6 * math.sqrt(2 / 20_000), rtol=0,
)
print(
    f"standard deviation of x_T: {v**0.5:.3f} instead of 1, KL to N(0, 1): "
    f"{0.5 * (v - 1 - math.log(v)):.2f} nats per number"
)

# %%
wrong_photo = wrong_chain(photo, schedule.betas, keep=set(stations))
rows = [torch.cat([chain[t] for t in stations]) for chain in (photo_chain, wrong_photo)]
labels = ["clean"] + [f"t={t}" for t in stations[1:]]
fig = plotting.image_strip(
    rows, column_labels=labels, row_labels=["sqrt(beta)", "beta"], scale=0.95,
    title="With beta for its root the picture fades to grey instead of "
          "drowning in noise",
)
show(fig, alt=(
    "Two rows of the temple from clean to t=999. Top: it drowns in noise. "
    "Bottom: it stays sharp, fades, and ends as faint grey grain."
))

# %% [markdown]
# The damage: the chain ends in grey with a standard deviation of 0.14. A sampler starts from noise with standard deviation 1, seven times
# as large. A network trained on the lower row has never seen such an input. And the picture stays readable far too long, so that most of its
# training is easy. Nothing raises an error.
#
# ### Data of the wrong range
#
# Ho et al. scale images to $[-1, 1]$ ([2006.11239](https://arxiv.org/abs/2006.11239), section 3.3), and their betas are "small relative to data
# scaled to $[-1, 1]$" (section 4). People feed $[0, 1]$ or raw bytes
# ([lucidrains/denoising-diffusion-pytorch#20](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/20): pixel values from 0 to 255,
# a loss that stays high, noise at the output). The chain takes any range without complaint. Ask the judge what is left.

# %%
ranges = {
    "-1 to 1": lambda x: x,
    "0 to 1": lambda x: (x + 1) / 2,
    "0 to 255": lambda x: 127.5 * (x + 1),
}
by_range = {name: accuracy(schedule, change) for name, change in ranges.items()}
fig = plotting.lines(
    every_40, by_range, xlabel="t", ylabel="3 or 8: right answers",
    title="Bytes are still readable in what should be pure noise",
)
last = {name: f"{values[-1]:.2f}" for name, values in by_range.items()}
show(fig, alt=(
    "Right answers against t for three data ranges. 0 to 1 falls earlier than -1 to 1; "
    f"0 to 255 hardly falls. At t=979: {last}."
))

# %% [markdown]
# - **0 to 255.** The signal is 127.5 times as large, so its variance 16,256 times. At the last step $\sqrt{\bar\alpha_T}$ is 0.0064, and
#   $0.0064 \cdot 255 = 1.6$ is larger than the noise. $x_T$ still shows the digit; starting from $N(0, I)$ starts somewhere else.
# - **0 to 1.** The signal is half as large, its variance relative to the noise a quarter. $x_T$ is fine. But the digit is lost earlier: the
#   schedule is no longer the one that was tuned. Code that clips an estimate of $x_0$ to $[-1, 1]$, as samplers do (lesson 04), then allows
#   values that no picture has.

# %%
root = schedule.alphas_cumprod[-1].sqrt()
print(
    f"sqrt(abar_T) = {root:.6f}. What is left of the data in x_T, beside noise of "
    "standard deviation 1:"
)
for name, change in ranges.items():
    print(
        f"{name:8s} largest value {root * change(test_x).max():.4f}, "
        f"standard deviation {root * change(test_x).std():.4f}"
    )

# %% [markdown]
# ## Your turn
#
# Five exercises, from completing a line to an empty cell. `check` judges your answer and names the mistake if it knows it. `hint("01.1")`
# gives hints in three steps; `solution("01.1")` shows a solution once you have tried (import both from `diffusion_course`).

# %%
exercise("01.1")


# %%
def forward_step(x_prev, t, betas, noise):
    # (B,) -> (B, 1, ...)
    beta = betas[t].to(x_prev.dtype).reshape(-1, *[1] * (x_prev.ndim - 1))
    mean = (1 - beta).sqrt() * x_prev
    return mean + ...


check("01.1", forward_step)

# %%
exercise("01.2")


# %%
def forward_walk(x0, betas, generator):
    steps = [x0]
    for beta in betas.tolist():
        noise = torch.randn(x0.shape, generator=generator, dtype=x0.dtype)
        steps.append(...)
    return torch.stack(steps)  # (T + 1, ...)


check("01.2", forward_walk)

# %%
exercise("01.3")


# %%
def variance_after(variance0, betas):
    variance = variance0
    table = []
    for beta in betas.tolist():
        variance = ...
        table.append(variance)
    return torch.tensor(table, dtype=betas.dtype)


check("01.3", variance_after)

# %%
exercise("01.4")

# %%
steps = ...

check("01.4", steps)

# %%
exercise("01.5")

# %%
# def mixture_after(weights, means, variances, betas): your code here
mixture_after = ...

check("01.5", mixture_after)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | $\beta_t$, variance of the noise of step $t$ | `schedule.betas[t - 1]`, shape (T,) | (01.1) |
# | $q(x_t \mid x_{t-1})$, one step | `q_step(x_prev, t, betas, noise)` | (01.1), (01.2) |
# | $v_t$, variance of $x_t$ | | (01.5), (01.7) |
# | $\bar\alpha_t$, share of the data's variance that is left | `schedule.alphas_cumprod[t - 1]` | (01.7) |
# | $q(x_t)$ of a mixture | `GaussianMixture.at(alpha_bar)`, `.log_prob(x, alpha_bar)` | (01.10) |
# | distance to $N(0, I)$ | `gaussian_kl`, sums on a grid | (01.11), (01.12) |
# | which data point $x_t$ came from | `GaussianMixture.responsibilities` | (01.13) |
#
# What is a theorem here and what is habit: (01.4) to (01.13) are exact for every schedule. That the betas rise in a line from 0.0001 to 0.02 is
# a choice that worked; nothing above derives it.
#
# What is missing: to get $x_{500}$ you have walked 501 steps. Training needs $x_t$ at a random $t$ for every picture of every batch.
# Lesson 02 gets there in one jump.
#
# **Read next**
#
# - Ho, Jain, Abbeel 2020, [2006.11239](https://arxiv.org/abs/2006.11239): sections 2 and 4, for the chain and its constants in the original.
# - Song et al. 2021, [2011.13456](https://arxiv.org/abs/2011.13456): section 3.4, for the variance-exploding chain beside this one.
# - Chen 2023, [2301.10972](https://arxiv.org/abs/2301.10972): for what a schedule has to do with the size of the picture.
