# %% [markdown]
# # 01 · The forward process
#
# After this lesson you can:
#
# - say why a machine that draws pictures begins by destroying them,
# - take one step of noise, and a chain of them, on any data,
# - derive why a step multiplies what it finds by $\sqrt{1-\beta_t}$,
# - write down the exact distribution of $x_t$ when the data is a Gaussian mixture, and check it without algebra,
# - measure how far $x_t$ is from pure noise, and say what that distance means.
#
# You need: lesson 00, the normal distribution, and that the variances of independent numbers add.
#
# **Measured cost:** 0.3 min on 2 cores, 0.8 GB of memory at the peak. Core: about 22 minutes of reading, 0.2 of computing. Going further: about 9 and 0.1.
#
# In this lesson $t$ counts the steps taken, in formulas, figures and printed lines: $t = 0$ is clean data. Tables begin at index 0, so step $t$ uses `betas[t - 1]`.

# %%
import math

import torch
from torch.testing import assert_close

from diffusion_course import (
    Animation,
    Explorer,
    GaussianMixture,
    load_dataset,
    make_schedule,
    mixture,
    plotting,
    q_step,
    seed_everything,
    show,
    show_source,
)
from diffusion_course.notebook import Drawing, figure

generator = seed_everything(0)
schedule = make_schedule("linear")  # 1,000 steps
betas, abar = schedule.betas, schedule.alphas_cumprod

# %% [markdown]
# ## Why begin by destroying?
#
# You want a machine that draws pictures, and this lesson ruins them. A sensible person asks why.
#
# It is hard to see how noise could be turned into a photograph in one go. But everybody can turn a photograph into noise, a little at a time.
# Each little step gives a pair: the picture before, and the same picture slightly damaged. From such pairs a network can learn to undo a step.
# When it undoes a thousand steps in a row, starting from noise, it has drawn a picture. So we first build the road in the easy direction. This function walks it:

# %%
def run_chain(x0, keep, shrink=lambda beta: math.sqrt(1 - beta), size=math.sqrt):
    kept, x = {0: x0}, x0  # steps taken -> x
    for t, beta in enumerate(betas.tolist(), start=1):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
        x = shrink(beta) * x + size(beta) * noise
        if t in keep:
            kept[t] = x
    return kept

# %% [markdown]
# Each step shrinks what it finds and adds a little noise. (Its factors `shrink` and `size` are arguments, because we will try others.) For data that is a single number, we can draw the whole road.
# The data are two heaps of numbers, near $-1.2$ and near $1$. Orange lines are four numbers on their walk. The darker a place, the more numbers of that size there are; the section *A mixture in closed form* derives this shading. (The side curves differ in scale.)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
two_heaps = GaussianMixture(
    torch.tensor([0.35, 0.65]).double(), torch.tensor([[-1.2], [1.0]]).double(),
    torch.tensor([[[0.02]], [[0.16]]]).double(),
)
grid = torch.linspace(-7, 7, 1401, dtype=torch.float64)  # (G,), spacing 0.01


def density(steps, data=two_heaps):  # (G,), after so many steps
    level = abar[steps - 1].item() if steps else 1.0
    return data.log_prob(grid[:, None], level).exp()


times = range(0, 1001, 10)
shades = torch.stack([density(t) for t in times], dim=1)  # (G, 101)

# %% jupyter={"source_hidden": true} tags=["hide-input"]
fig, (left, road, right) = figure(7.4, 3.3, 1, 3, sharey=True, width_ratios=[1, 6, 1])
road.pcolormesh(list(times), grid, shades, cmap="Blues", vmax=0.6)
first = torch.tensor([-1.25, -1.1, 0.8, 1.4]).double()
paths = torch.stack(list(run_chain(first, range(1001)).values()))  # (1001, 4)
road.plot(paths, color="#D55E00", linewidth=0.7)
for ax, t, name in ((left, 0, "data"), (right, 1000, "noise")):
    ax.fill_betweenx(grid, density(t), color="#0072B2", alpha=0.6)
    ax.set(title=name, xticks=[])
left.set(ylim=(-3.5, 3.5), ylabel="$x_t$")
road.set(xlabel="steps of noise taken, t", xlim=(0, 1000))
road.set_title("A thousand small steps lead from two heaps to one bell")
show(fig, alt=(
    "A map of shades over steps from 0 to 1,000 and x from -3.5 to 3.5, between two "
    "curves. Left, data: two peaks, a narrow one at -1.2 and a wide one at 1. The two "
    "dark bands of the map fade and join near step 300. Right, noise: one bell around "
    "0. Four jagged lines start in the bands and end anywhere within the bell."
))

# %% [markdown]
# Everybody can draw from the bell at the right end, without any data. That makes it a good place to start the way back.
#
# But why does a step *shrink*? It is tempting just to add a little noise a thousand times. We try it on a photograph.

# %%
photo = load_dataset("photos", size=128).images[:1]  # (1, 3, 128, 128)
stations = [0, 50, 150, 300, 500, 1000]
photo_chain = run_chain(photo, keep=range(50, 1001, 50))
only_adding = run_chain(photo, keep=stations, shrink=lambda beta: 1.0)


def seen(x):  # the picture, and the means of its blocks of 8 x 8, with equal contrast
    means = torch.nn.functional.avg_pool2d(x, 8)  # (1, 3, 16, 16)
    blocks = means.repeat_interleave(8, 2).repeat_interleave(8, 3)
    return torch.cat([view / (2 * view.std()) for view in (x, blocks)])


# %%
rows = [
    torch.cat([seen(photo)[:1], seen(chain[1000])])
    for chain in (only_adding, photo_chain)
]
fig = plotting.image_strip(
    rows, column_labels=["clean", "1,000 steps", "means of its 8x8 blocks"],
    row_labels=["only adding", "shrinking, too"], scale=1.5,
    title="Only adding noise: the temple survives 1,000 steps",
)
show(fig, alt=(
    "Two rows. Above, noise was only added: the noisy picture, averaged over blocks, "
    "still shows a bright sky and the dark shapes of the temple and the trees. Below, "
    "the picture was also shrunk in each step: the block means show coloured squares "
    "without a temple."
))
print(f"variance before {photo.var():.2f}")
for name, chain in (("only adding", only_adding), ("shrinking, too", photo_chain)):
    print(f"after {name:14s} {chain[1000].var():.2f}")

# %% [markdown]
# Only adding fails twice. The temple survives, so you cannot draw such an end without a temple in your hands. And the variance grows with every further step.
# Shrinking mends both, if it has the right strength. This lesson finds that strength, and then says exactly where a chain ends.
# (Some models only add noise, but far more: see *Going further*.)

# %% [markdown]
# ## Recall
#
# 1. In lesson 00 a chain drew digits, from index $t = 999$ down to $t = 0$. Which of the two was the noise?
# 2. Two cells draw random numbers, and each begins with `generator = seed_everything(7)`. On one machine, do they draw the same?
#
# <details><summary>Answers</summary>
#
# 1. Index 999. This lesson goes the other way, and adds the noise that the chain of lesson 00 removed.
# 2. Yes. A seed fixes all that is drawn from its generator, in order. (A GPU draws other numbers than a CPU.)
#
# </details>

# %% [markdown]
# ## Predict first
#
# You have not yet seen how fast a picture is lost. Step $t$ adds noise of variance $\beta_t$, and these betas rise in a straight line from 0.0001 to 0.02: the schedule of
# Ho et al. 2020 ([2006.11239](https://arxiv.org/abs/2006.11239), section 4). Each step leaves the share $1-\beta_t$ of the photograph's variance. (The variance of the noise does not count here.)
#
# After how many of the 1,000 steps is less than half of that variance left? Write your guess into the cell, then run it.

# %%
my_prediction = 500
left_over = (1 - betas).cumprod(0)  # entry t - 1: after t steps
answer = int((left_over < 0.5).nonzero()[0]) + 1
print(
    f"You said {my_prediction}. After so many steps "
    f"{100 * left_over[my_prediction - 1]:.1f} % of the variance is left."
)
print(f"Less than half is left after {answer} steps.")
fig = plotting.image_strip(
    torch.cat([photo_chain[t] for t in stations]),
    column_labels=["clean", *(f"{t:,} steps" for t in stations[1:])], scale=1.15,
    title=f"Half of the photograph's variance is gone after {answer} steps",
)
show(fig, alt=(
    "The temple clean and at t = 50, 150, 300, 500 and 1,000 steps. It is grainy at "
    "50, an outline in noise at 300, a faint shadow at 500, and gone at 1,000."
))

# %% [markdown]
# Half is gone after about a quarter of the way. The second half of the chain works on the last 8 %.

# %% [markdown]
# ## One step of noise
#
# To derive anything, you need the formula of a step. Data $x_0$ has any shape. Step $t$ turns $x_{t-1}$ into $x_t$, each number alike and independently (arXiv 2006.11239, eq. 2):
#
# $$q(x_t \mid x_{t-1}) = N\left(x_t;\ \sqrt{1-\beta_t}\, x_{t-1},\ \beta_t I\right), \qquad 0 < \beta_t < 1 \tag{01.1}$$
#
# In words: "given $x_{t-1}$, $x_t$ is normal with mean $\sqrt{1-\beta_t}\,x_{t-1}$ and **variance** $\beta_t$". To draw from it, multiply standard noise by the **standard deviation**, the root of the variance, and add the mean:
#
# $$x_t = \sqrt{1-\beta_t}\; x_{t-1} + \sqrt{\beta_t}\;\epsilon_t, \qquad \epsilon_t \sim N(0, I) \tag{01.2}$$

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = Drawing(7.0, 2.1, "One step: shrink, then add noise")
shape = "(B, 3, 128, 128)"
old, total, new = drawing.row(
    ["$x_{t-1}$", "add", "$x_t$"], 1.5, 0.9, 6.1,
    kinds=["data", "formula", "data"], notes=[shape, "", shape],
)
eps = drawing.box(0.9, 0.4, r"noise $\epsilon_t$", kind="noise", height=0.4)
drawing.arrow(old, total, r"times $\sqrt{1-\beta_t}$")
drawing.arrow(eps, total, r"times $\sqrt{\beta_t}$", via=[(3.5, 0.4)])
drawing.arrow(total, new)
drawing.text(5.2, 0.4, "noise is drawn afresh, in the same shape")
drawing.show(
    "x_(t-1) times the root of 1 - beta_t and fresh noise epsilon_t times the root of "
    "beta_t are added. The sum is x_t. All have the same shape, (B, 3, 128, 128)."
)

# %% [markdown]
# **By hand.** One pixel, three steps, $\beta = (0.1, 0.2, 0.5)$, $x_0 = 0.8$, and the noise happens to be $(0.5, -1, 0.25)$:
#
# $$\begin{aligned}
# x_1 &= \sqrt{0.9}\cdot 0.8 + \sqrt{0.1}\cdot 0.5 = 0.7589 + 0.1581 = 0.9171 \\
# x_2 &= \sqrt{0.8}\cdot 0.9171 + \sqrt{0.2}\cdot(-1) = 0.8202 - 0.4472 = 0.3730 \\
# x_3 &= \sqrt{0.5}\cdot 0.3730 + \sqrt{0.5}\cdot 0.25 = 0.2638 + 0.1768 = 0.4405
# \end{aligned}$$
#
# (Last digits can seem off, because we round only in print.) The package's function takes the same walk:

# %%
three = torch.tensor([0.1, 0.2, 0.5]).double()
x = torch.tensor([0.8]).double()
for index, eps in enumerate([0.5, -1.0, 0.25]):
    x = q_step(x, torch.tensor([index]), three, torch.tensor([eps]).double())
    print(f"x_{index + 1} = {x.item():.4f}")
assert_close(x.item(), 0.4405, atol=5e-5, rtol=0)
show_source(q_step)

# %% [markdown]
# The line `x = shrink(beta) * x + size(beta) * noise` of `run_chain` is this step. The package's version checks its arguments, and each sample of a batch has its own `t`. Since Python counts from 0, the package calls our first step `t = 0`.
# (`column` gives `betas[t]` the axes that it needs to multiply a picture.)

# %% [markdown]
# ## The chain
#
# One step changes next to nothing, so the damage must come from taking many. Each step looks at the step before it and at nothing else. Given $x_0$, the density of a whole path $x_1, \dots, x_T$ is therefore a product (eq. 2, too):
#
# $$q(x_{1:T} \mid x_0) = \prod_{t=1}^{T} q(x_t \mid x_{t-1}) \tag{01.3}$$
#
# Such a process is a Markov chain. Nothing in this one is learned: you choose the betas beforehand; together they are the *schedule*.
# The chain does not know what it destroys. You saw it work on a photograph; here it works on points in the plane.

# %%
points = mixture("moons").sample(1500, generator=generator)  # (1500, 2)
chain = run_chain(points, {50, 200, 1000})
clouds = {(f"{t:,} steps" if t else "clean"): cloud for t, cloud in chain.items()}
fig = plotting.scatter_2d(clouds, title="Two arcs become a round cloud", limit=3.2)
show(fig, alt=(
    "Four clouds of 1,500 points: two interleaved arcs; blurred arcs after 50 steps; "
    "one tilted lump after 200; a round cloud after 1,000."
))

# %% [markdown]
# ## Why the square root of 1 - beta
#
# We have used the factor $\sqrt{1-\beta_t}$ without knowing where it comes from. So put an unknown factor $a$ in its place.
# Take one coordinate. Write $m_t$ for the mean of $x_t$ over all data and all noise, and $V_t$ for its variance. The step is $x_t = a\,x_{t-1} + \sqrt{\beta_t}\,\epsilon_t$.
#
# *The mean.* $\epsilon_t$ has mean 0, so $m_t = a\, m_{t-1}$.
#
# *The variance.* Subtract the mean: $x_t - m_t = a\,(x_{t-1} - m_{t-1}) + \sqrt{\beta_t}\,\epsilon_t$. Square it and take the average:
#
# $$V_t = a^2\, V_{t-1} + 2 a \sqrt{\beta_t}\; E[(x_{t-1} - m_{t-1})\,\epsilon_t] + \beta_t\, E[\epsilon_t^2]$$
#
# The new noise is independent of $x_{t-1}$, so the expectation in the middle is a product of two means, both 0. The last one is 1. This remains:
#
# $$V_t = a^2\, V_{t-1} + \beta_t \tag{01.4}$$
#
# *The demand.* One network will have to read $x_t$ for every $t$, so its input should keep one scale. We ask that variance 1 stays variance 1: put $V_{t-1} = V_t = 1$ into (01.4).
# Then $1 = a^2 + \beta_t$, and the only positive solution is $a = \sqrt{1 - \beta_t}$. Ho et al. give the same reason: the factor is there "so that variance does not grow when adding noise" (arXiv 2006.11239, appendix C).
#
# **And if the data does not have variance 1?** With this factor, (01.4) becomes
#
# $$V_t = (1-\beta_t)\, V_{t-1} + \beta_t \tag{01.5}$$
#
# Subtract both sides from 1, and factor the right side:
#
# $$1 - V_t = 1 - \beta_t - (1-\beta_t)\,V_{t-1} = (1-\beta_t)\,(1 - V_{t-1}) \tag{01.6}$$
#
# So a step multiplies the distance from 1 by $1-\beta_t$, a number between 0 and 1. Every variance is drawn towards 1, from above or from below. Multiply all the steps; the product gets a name for the whole course:
#
# $$1 - V_t = \bar\alpha_t\,(1 - V_0), \qquad \bar\alpha_t = \prod_{i=1}^{t} (1-\beta_i) \tag{01.7}$$
#
# Solved for the variance, this is $V_t = \bar\alpha_t\, V_0 + (1 - \bar\alpha_t)$. The mean is multiplied by $\sqrt{1-\beta_i}$ in each step, so
# $m_t = \sqrt{\bar\alpha_t}\; m_0$. In code $\bar\alpha$ is the table `alphas_cumprod`. In your prediction it was the share of the data's variance that is left.
#
# **By hand.** The pixel from above starts with a known value, so $V_0 = 0$. By (01.5), $V_1 = 0.1$, $V_2 = 0.8 \cdot 0.1 + 0.2 = 0.28$ and $V_3 = 0.5 \cdot 0.28 + 0.5 = 0.64$.
# By (01.7), $\bar\alpha_3 = 0.9 \cdot 0.8 \cdot 0.5 = 0.36$ and $V_3 = 1 - 0.36 = 0.64$.
#
# **Check on real data.** We let 600 digits take all 1,000 steps. Each of the 64 pixels has its own $V_0$, and for each we divide the measured variance by (01.7). The mean of the 64 ratios must be 1; we let chance move it by 2.9 %. The second chain forgets the root.
#
# <details><summary>Why 2.9 %</summary>
#
# Only the noise is random, and it is normal. So a variance measured over 600 digits scatters by at most $\sqrt{2/600}$ of itself. The noises of pixels are independent, so the mean of 64 ratios has a standard error of at most $\sqrt{2/(64 \cdot 600)} = 0.7\,\%$. We allow four of them.
#
# </details>

# %%
digits = load_dataset("digits").images  # (1797, 1, 8, 8), real and scanned
pixels = digits[:600].flatten(1).double()  # (600, 64)
tolerance = 4 * math.sqrt(2 / pixels.numel())
looks = (100, 200, 400, 700, 1000)
for name, shrink in (
    ("root of 1 - beta", lambda beta: math.sqrt(1 - beta)),
    ("1 - beta", lambda beta: 1 - beta),
):
    chain = run_chain(pixels, looks, shrink)
    ratios = torch.stack([
        chain[t].var(0) / (abar[t - 1] * pixels.var(0) + 1 - abar[t - 1]) for t in looks
    ]).mean(1)
    passes = (ratios - 1).abs() < tolerance
    print(f"{name:16s}", [
        f"{r:.2f} {'passes' if p else 'fails'}"
        for r, p in zip(ratios, passes, strict=True)
    ])

# %% [markdown]
# **Other factors.** By (01.4) you can say what they do. With $a = 1$ the betas add up: $V_T = V_0 + \sum_t \beta_t$.
# With $a = 1-\beta$, for a constant $\beta$, a variance stays if $V = (1-\beta)^2 V + \beta$. So it is $V = 1/(2-\beta)$, about one half.

# %%
factors = {
    "1": lambda beta: 1.0,
    "sqrt(1-beta)": lambda beta: math.sqrt(1 - beta),
    "1-beta": lambda beta: 1 - beta,
}
curves = {}
for name, factor in factors.items():
    variances = [float(photo.var())]
    for beta in betas.tolist():
        variances.append(factor(beta) ** 2 * variances[-1] + beta)
    curves[name] = variances
    print(f"factor {name:12s} variance at the end {variances[-1]:.5f}")
fig = plotting.lines(
    range(1001), curves, xlabel="steps of noise taken, t", logy=True,
    ylabel="variance of $x_t$",
    title="The factor decides: the variance grows, goes to 1, or goes to one half",
)
show(fig, alt=(
    "Variance against the steps taken, from 0.41, for three factors. With 1 it rises "
    "to 10.5, with the root of 1 - beta to 1, with 1 - beta to 0.5."
))

# %% [markdown]
# ## A mixture in closed form
#
# A mean and a variance are not yet a distribution, but the shading of the first figure is an exact density. Where does it come from?
# The argument has three parts: a sum of two normals is normal; so a normal heap stays normal; and a mixture is a choice among heaps, which noise does not change.
#
# **A sum of two normals is normal.** Let $\epsilon$ and $\epsilon'$ be independent standard normal numbers. The density of the pair is
# $\frac{1}{2\pi}e^{-(\epsilon^2 + \epsilon'^2)/2}$. It depends only on the distance from the origin, so the cloud of pairs looks the same from every direction.

# %%
cloud = torch.randn(3000, 2, generator=generator, dtype=torch.float64)  # pairs
direction = torch.tensor([0.8, 0.6]).double()  # (a, b), of length 1
fig, (plane, bell) = figure(6.8, 2.9, 1, 2, width_ratios=[1, 1.3])
plane.scatter(*cloud.T, s=2, color="#999999")
arrow = {"arrowstyle": "-|>", "color": "#D55E00", "linewidth": 2}
plane.annotate("", tuple(3 * direction), (0, 0), arrowprops=arrow)
plane.text(*(3.1 * direction), "$(a, b)$", color="#B04E00")
plane.set(aspect="equal", xlim=(-4, 4), ylim=(-4, 4), xticks=[], yticks=[])
plane.set(xlabel=r"$\epsilon$", ylabel=r"$\epsilon'$", title="the cloud of pairs")
bell.hist(cloud @ direction, bins=40, density=True, color="#BBBBBB")
bell.plot(grid, torch.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi), color="#0072B2")
bell.set(xlim=(-4, 4), title="along the arrow: a bell")
bell.set_xlabel(r"$a\epsilon + b\epsilon'$")
show(fig, alt=(
    "Left: a round cloud of 3,000 pairs, and an arrow from its middle up to the right, "
    "the direction (a, b). Right: a histogram of the pairs' coordinates along that "
    "arrow; the standard normal density runs along its top."
))

# %% [markdown]
# Along the first axis the coordinate of a pair is $\epsilon$, which is standard normal. Along the direction $(a, b)/\sqrt{a^2+b^2}$ it is $(a\,\epsilon + b\,\epsilon')/\sqrt{a^2+b^2}$, and since the cloud looks the same from there, this is standard normal, too. Multiply by $\sqrt{a^2+b^2}$:
#
# $$a\,\epsilon + b\,\epsilon' \sim N(0,\ a^2 + b^2) \tag{01.8}$$
#
# **One normal stays normal.** If $x_{t-1}$ is normal, write it as $m_{t-1} + \sqrt{V_{t-1}}\,\epsilon'$. The step adds independent noise: $x_t = \sqrt{1-\beta_t}\,m_{t-1} + a\,\epsilon' + b\,\epsilon_t$
# with $a = \sqrt{(1-\beta_t)\,V_{t-1}}$ and $b = \sqrt{\beta_t}$. By (01.8) this is normal, step after step, and (01.7) gives its mean and variance:
#
# $$\begin{gathered}
# x_0 \sim N(m, V) \quad\text{leads to} \\
# x_t \sim N\left(\sqrt{\bar\alpha_t}\, m,\ \bar\alpha_t V + 1 - \bar\alpha_t\right)
# \end{gathered} \tag{01.9}$$
#
# **A mixture.** Draw a label $k$ with probability $w_k$, then $x_0$ from $N(m_k, V_k)$. Given the label, (01.9) holds. The label is drawn
# once, and the noise does not look at it. Sum over the labels:
#
# $$q(x_t) = \sum_k w_k\; N\left(x_t;\ \sqrt{\bar\alpha_t}\, m_k,\ \bar\alpha_t V_k + 1 - \bar\alpha_t\right) \tag{01.10}$$
#
# The weights stay, the means move to 0, and the variances move to 1. In more dimensions each covariance $S_k$ becomes
# $\bar\alpha_t S_k + (1-\bar\alpha_t) I$; *Going further* shows why.
#
# **Check without any of this algebra.** Put a density on a grid. One step spreads the value at $y$ into a small normal around
# $\sqrt{1-\beta}\,y$, and the new density is the sum over all $y$. We take six big steps by such sums alone, then compare with (01.10), and with a formula that forgets the data's own variance.

# %%
big_betas = torch.linspace(0.05, 0.2, 6, dtype=torch.float64)
summed = density(0)  # (G,)
for beta in big_betas:
    step = torch.distributions.Normal((1 - beta).sqrt() * grid, beta.sqrt())
    summed = step.log_prob(grid[:, None]).exp() @ summed * 0.01  # (G to, G from)
level = (1 - big_betas).prod().item()


def formula(own):  # (01.10); `own` multiplies the data's own variances
    return GaussianMixture(
        two_heaps.weights, level**0.5 * two_heaps.means,
        own * level * two_heaps.covariances + 1 - level,
    )


for name, own in (("the formula", 1), ("no variance of its own", 0)):
    gap = (summed - formula(own).log_prob(grid[:, None]).exp()).abs().max().item()
    said = "below 1e-12" if gap < 1e-12 else f"{gap:.4f}"
    print(f"{name:22s} largest difference {said}")
assert_close(formula(1).covariances, two_heaps.at(level).covariances)
show_source(GaussianMixture.at)

# %% [markdown]
# The package's method is our formula in any number of dimensions.
# Its `log_prob(x, level)` drew the first figure. Now the thousand steps of the course, with 20,000 numbers that walk:

# %%
walkers = run_chain(two_heaps.sample(20_000, generator=generator), {100, 250, 1000})
named = {(f"{t:,} steps" if t else "clean"): t for t in walkers}
middle = slice(300, 1101)  # from -4 to 4
fig = plotting.histogram_against_density(
    {name: walkers[t][:, 0] for name, t in named.items()}, grid[middle],
    {name: density(t)[middle] for name, t in named.items()},
    title="20,000 numbers that walked, and the formula",
)
show(fig, alt=(
    "Histograms clean and after 100, 250 and 1,000 steps, each with the exact density "
    "as a line along its top. Two peaks blur into one bell."
))

# %% [markdown]
# ## How far from pure noise
#
# The way back starts from $N(0, I)$, but the chain ends in $x_T$. How much do these two differ? For the two heaps you have the exact density $q_t$ of $x_t$.
# Write $q_\infty$ for the density of $N(0, 1)$. Their *total variation* is half the area between the two curves:
#
# $$\mathrm{TV}(q_t, q_\infty) = \tfrac12 \int |q_t(x) - q_\infty(x)|\,dx \tag{01.11}$$
#
# **What it means.** Somebody flips a coin and shows you one number, drawn from $q_t$ or from $q_\infty$, and you say from which. The best you can do is to name the
# larger density. You are then right with probability $\tfrac12\int \max(q_t, q_\infty)\,dx$. Put in
# $\max(p, q) = \tfrac12(p + q) + \tfrac12|p - q|$; both densities integrate to 1, so this is $\tfrac12(1 + \mathrm{TV})$. With TV = 0 you can only guess, with TV = 1 you always know.
#
# **It never grows.** A step blurs both curves in the same way, and a blur can only make them more alike. *Going further* proves it, for every schedule. On a grid the integral (01.11) is a sum.

# %%
noise_density = torch.exp(-(grid**2) / 2) / math.sqrt(2 * math.pi)


def variation(steps):
    return 0.01 * (density(steps) - noise_density).abs().sum().item() / 2


tv = torch.tensor([variation(t) for t in times])
assert (tv.diff() <= 0).all()
for t in (0, 100, 300, 500, 700, 1000):
    right = 50 * (1 + variation(t))
    print(f"{t:4d} steps: TV {variation(t):.5f}, the best guess is right {right:.2f} %")
fig = plotting.lines(
    list(times), {"two heaps": tv}, logy=True, xlabel="steps of noise taken, t",
    ylabel="TV($x_t$, N(0, 1))", title="The distance from pure noise falls all the way",
)
show(fig, alt=(
    "Total variation against the steps taken, on a logarithmic axis. It falls all the "
    f"way, from {tv[0]:.2f} to {tv[-1]:.4f}."
))

# %% [markdown]
# These distances are for *one* number. For all numbers of a photograph together the distance is larger, and *Going further* computes it.
#
# **Task.** Find the number of steps after which you can no longer tell the two curves apart by eye. Only then read in the title how often the best guess is still right.

# %%
def draw(t):
    share = 50 * (1 + variation(t))
    fig = plotting.lines(
        grid[middle], {"$x_t$": density(t)[middle], "noise": noise_density[middle]},
        xlabel="x", ylabel="density",
        title=f"After {t} steps the best guess is right {share:.1f} % of the time",
    )
    return fig, (
        f"The density of x_t after {t} steps and that of N(0, 1). Their total "
        f"variation is {variation(t):.3f}."
    )


Explorer(draw, t=(0, 1000, 50), start={"t": 200})

# %% [markdown]
# <details><summary>Answer</summary>
#
# To our eye the two curves become one after 700 steps, where the best guess is right 50.4 % of the time. After 500 steps it is right 51.3 %, and we still see two lines.
#
# </details>

# %% [markdown]
# ## Where people go wrong
#
# ### The variance where the standard deviation belongs
#
# $N(m, \beta I)$ names a variance, but `torch.randn` has to be multiplied by a standard deviation. The slip is common in teaching
# material: see [huggingface/diffusion-models-class#63](https://github.com/huggingface/diffusion-models-class/issues/63),
# [acids-ircam/diffusion_models#1](https://github.com/acids-ircam/diffusion_models/issues/1), and for $1-\bar\alpha_t$
# [Ryota-Kawamura/How-Diffusion-Models-Work#1](https://github.com/Ryota-Kawamura/How-Diffusion-Models-Work/issues/1).
# The code says `beta * noise` instead of `beta.sqrt() * noise`. The variance of the noise is $\beta^2$. Put this for $\beta_t$ in (01.4): the variance that stays is about $\beta$ instead of 1.

# %%
wrong = run_chain(photo, stations, size=lambda beta: beta)
nothing = torch.zeros(20_000, 1, dtype=torch.float64)
end = run_chain(nothing, {1000}, size=lambda beta: beta)[1000].std().item()
print(f"standard deviation at the end {end:.2f}, root of the last beta {0.02**0.5:.2f}")
fig = plotting.image_strip(
    [torch.cat([chain[t] for t in stations]) for chain in (photo_chain, wrong)],
    column_labels=["clean", *(f"{t:,} steps" for t in stations[1:])], scale=0.95,
    row_labels=["root of beta", "beta"],
    title="Noise times beta: the temple fades to grey and does not drown",
)
show(fig, alt=(
    "Two rows of the temple from clean to 1,000 steps. Above it drowns in noise. "
    "Below it stays sharp, fades, and ends as faint grey grain."
))

# %% [markdown]
# Nothing raises an error. But a sampler starts from noise of standard deviation 1, about seven times as much as here, so a network trained on the lower row has never seen such an input.

# %% [markdown]
# ### Data of the wrong range
#
# The betas are "small relative to data scaled to $[-1, 1]$" (arXiv 2006.11239, section 4). People feed $[0, 1]$ or raw bytes
# ([lucidrains/denoising-diffusion-pytorch#20](https://github.com/lucidrains/denoising-diffusion-pytorch/issues/20)), and no error is raised.
# We run all three, and print when the noise overtakes the picture: when its standard deviation becomes the larger one. The last number is the largest value left of the picture.

# %%
ranges = {
    "-1 to 1": photo, "0 to 1": (photo + 1) / 2, "0 to 255": 127.5 * (photo + 1),
}
ends = []
for name, x0 in ranges.items():
    ends.append(seen(run_chain(x0, {1000})[1000])[:1])
    overtakes = int((abar.sqrt() * x0.std() < (1 - abar).sqrt()).nonzero()[0]) + 1
    largest = abar[-1].sqrt() * x0.max()
    print(f"{name:8s} overtaken after {overtakes} steps, {largest:.4f} left at the end")
fig = plotting.image_strip(
    torch.cat(ends), column_labels=[*ranges], scale=1.6,
    title="After 1,000 steps a picture of bytes can still be seen",
)
show(fig, alt=(
    "Three pictures after 1,000 steps. From -1 to 1 and from 0 to 1: coloured noise. "
    "From 0 to 255: the temple under noise."
))

# %% [markdown]
# Bytes are too large for this schedule, and their chain does not end in noise. The range from 0 to 1 does, but noise overtakes it after about half as many steps as from $-1$ to 1.

# %% [markdown]
# ## Your turn
#
# Each check tries several cases and names a known mistake. `hint("01.1")` helps in steps, `solution("01.1")` comes after a try.

# %%
from diffusion_course import check, exercise

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

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.2, 2.2)
x_0, old, new, x_T = card.row(
    ["$x_0$", "$x_{t-1}$", "$x_t$", "$x_T$"], 1.0, 0.7, 6.5,
    kinds=["data", "data", "data", "noise"], width=0.8,
    notes=["variance $V_0$", "", "", "variance near 1"],
)
fresh = card.box(new.x, 1.95, r"noise $\epsilon_t$", kind="noise", height=0.4)
card.arrow(x_0, old, "...", dashed=True)
card.arrow(old, new, r"times $\sqrt{1-\beta_t}$", below=True)
card.arrow(fresh, new.top, r"times $\sqrt{\beta_t}$")
card.arrow(new, x_T, "...", dashed=True)
card.text(3.6, 0.15, r"after t steps: mean $\sqrt{\bar\alpha_t}\,m_0$, "
                     r"variance $\bar\alpha_t V_0 + 1 - \bar\alpha_t$")
card.show(
    "From x_0 to x_T in small steps. A step multiplies x_(t-1) by the root of "
    "1 - beta_t and adds noise times the root of beta_t. After t steps the mean has "
    "been multiplied by the root of abar_t, and the variance is "
    "abar_t V_0 + 1 - abar_t, near 1 at the end."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | A small step shrinks what it finds and adds a little noise. | `q_step` | (01.1), (01.2) |
# | The factor $\sqrt{1-\beta_t}$ keeps variance 1 and draws every other variance towards it. | `schedule.betas` | (01.4) to (01.6) |
# | After $t$ steps, the share $\bar\alpha_t$ of the data's variance is left. | `schedule.alphas_cumprod[t - 1]` | (01.7) |
# | A normal stays normal, a mixture stays a mixture, and both are known exactly. | `GaussianMixture.at`, `.log_prob` | (01.9), (01.10) |
# | The distance from pure noise never grows. It says how often the best guess is right. | sums on a grid | (01.11) |
#
# All of this is exact, for every schedule. Only the betas themselves are a choice.
#
# What you still lack: to get $x_{500}$ you have to walk 500 steps, and training needs $x_t$ at a random $t$ for every picture of every batch. Lesson 02 gets there in one jump.
#
# To read next: Ho et al. 2020, [2006.11239](https://arxiv.org/abs/2006.11239), section 2. You can now redo its equation 2.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows stands on its own, section by section: pick what you need.

# %% [markdown]
# ### Count instead of looking
#
# A histogram under a curve is a look and not a test, so let us count. $F_N(x)$ is the share of $N$ samples below $x$, and $F(x)$ the exact probability. The
# Dvoretzky-Kiefer-Wolfowitz inequality bounds their largest gap, for every $N$ and every distribution:
#
# $$P\left(\sup_x |F_N(x) - F(x)| > \delta\right) \le 2 e^{-2N\delta^2}$$
#
# Set the right side to 0.001 and solve for $\delta$. If the formula is right, one look goes beyond this $\delta$ at most once in a thousand runs, and four looks together at most four times.

# %%
def largest_gap(x, steps):
    noisy = two_heaps.at(abar[steps - 1].item() if steps else 1.0)
    spread = noisy.covariances[:, 0, 0].sqrt()
    z = (x.sort(0).values - noisy.means[:, 0]) / spread  # (N, K)
    exact = (torch.special.ndtr(z) * noisy.weights).sum(1)  # (N,)
    share = torch.arange(len(x) + 1, dtype=x.dtype) / len(x)
    return torch.maximum((share[1:] - exact).max(), (exact - share[:-1]).max())


delta = math.sqrt(math.log(2 / 0.001) / (2 * 20_000))
print(f"allowed gap: {delta:.4f}")
for t, x in walkers.items():
    gap = largest_gap(x, t)
    print(f"after {t} steps: gap {gap:.4f}, {'passes' if gap <= delta else 'fails'}")

# %% [markdown]
# Would it notice a mistake? Compare the numbers after 100 steps with the formula for other numbers of steps:

# %%
for t in (100, 105, 120, 150):
    gap = largest_gap(walkers[100], t)
    print(
        f"formula for {t} steps: gap {gap:.4f}, "
        f"{'passes' if gap <= delta else 'caught'}"
    )

# %% [markdown]
# Being five steps off stays unnoticed with 20,000 samples. The sums on the grid would see it, because they contain no chance at all. That is why the core has both.

# %% [markdown]
# ### More than one coordinate
#
# The core proved (01.10) on the line, and pictures have many coordinates. Let $x_0$ be normal with mean $m$ and covariance $S$. Take any unit vector $u$ and look at the number $u^\top x_t$. In a step it becomes $\sqrt{1-\beta_t}\;u^\top x_{t-1} + \sqrt{\beta_t}\;u^\top\epsilon_t$.
# The squares of the entries of $u$ sum to 1, so by (01.8), used once for each further entry, $u^\top\epsilon_t$ is standard normal. Hence $u^\top x_t$ follows the chain of the line, and (01.9) gives it the variance
# $\bar\alpha_t\, u^\top S u + 1 - \bar\alpha_t = u^\top\big(\bar\alpha_t S + (1-\bar\alpha_t) I\big)\,u$.
#
# This holds for every $u$. A symmetric matrix is known once $u^\top S u$ is known for all unit vectors, and a distribution is known once it is known along all of them (that is the theorem of Cramér and Wold). So $x_t$ is normal with mean $\sqrt{\bar\alpha_t}\,m$ and covariance $\bar\alpha_t S + (1-\bar\alpha_t) I$.
# We check it on the moons, a mixture of twelve tilted ellipses, with 100,000 points that walk 200 steps. The standard errors of the measured entries are about 0.004, and we allow 0.015. A formula that forgets the ellipses' own covariances must fail, and its distance is printed.

# %%
moons, t = mixture("moons"), 200
x = run_chain(moons.sample(100_000, generator=generator), {t})[t]
noisy = moons.at(abar[t - 1].item())
centre = (noisy.weights[:, None] * noisy.means).sum(0)
centred = noisy.means - centre
between = torch.einsum("k,ki,kj->ij", noisy.weights, centred, centred)
exact = between + torch.einsum("k,kij->ij", noisy.weights, noisy.covariances)
slip = between + (1 - abar[t - 1]) * torch.eye(2)
print("measured", [f"{v:.2f}" for v in torch.cov(x.T).flatten().tolist()])
print("formula ", [f"{v:.2f}" for v in exact.flatten().tolist()])
print(f"without the ellipses' own covariances off by {(slip - exact).abs().max():.3f}")
assert_close(torch.cov(x.T), exact, rtol=0, atol=0.015)

# %% [markdown]
# ### Why the distance from noise never grows
#
# The core said that a blur makes the two curves more alike. Here is the proof. A step sends $q_\infty$ to itself: by (01.9), $m = 0$ and $V = 1$ stay. So the step also acts on the difference of the two densities:
#
# $$q_t(x) - q_\infty(x) = \int q(x \mid y)\,\big(q_{t-1}(y) - q_\infty(y)\big)\,dy$$
#
# The absolute value of an integral is at most the integral of the absolute value. Integrate over all destinations $x$ and use $\int q(x \mid y)\,dx = 1$:
#
# $$\begin{aligned}
# \int |q_t - q_\infty|\,dx &\le \int\!\!\int q(x \mid y)\,dx\;|q_{t-1}(y) - q_\infty(y)|\,dy \\
# &= \int |q_{t-1} - q_\infty|\,dy
# \end{aligned}$$
#
# So $\mathrm{TV}(q_t, q_\infty) \le \mathrm{TV}(q_{t-1}, q_\infty)$, whatever the schedule is.

# %% [markdown]
# ### Close in each number, not in the whole picture
#
# The core measured the distance from noise for *one* number, and a photograph has 49,152. The Kullback-Leibler divergence adds up over independent numbers, so it can answer for all of them:
# $\mathrm{KL}(p \,\|\, q) = \int p(x) \log\frac{p(x)}{q(x)}\,dx$. Given one picture $x_0$, each number of $x_T$ is normal, by (01.9): its mean is $\sqrt{\bar\alpha_T}$ times the clean number, its variance $1-\bar\alpha_T$. For any normal $p = N(m, V)$ and $q = N(0, 1)$, subtract the logarithms of the densities and use
# $E[(x-m)^2] = V$ and $E[x^2] = m^2 + V$:
#
# $$\begin{aligned}
# \mathrm{KL}\left(N(m, V)\,\|\,N(0,1)\right) &= E\left[-\tfrac12\log V - \tfrac{(x-m)^2}{2V} + \tfrac{x^2}{2}\right] \\
# &= \tfrac12\left(m^2 + V - 1 - \log V\right)
# \end{aligned} \tag{01.12}$$
#
# The function of the package is `gaussian_kl`. We hold it against the integral, as a sum on the grid.

# %%
from diffusion_course import bits_per_dim, gaussian_kl

for m, V in ((0.5, 0.6), (-0.8, 0.8), (0.1, 0.99)):
    log_p = torch.distributions.Normal(m, V**0.5).log_prob(grid)
    log_q = torch.distributions.Normal(0.0, 1.0).log_prob(grid)
    on_grid = 0.01 * (log_p.exp() * (log_p - log_q)).sum()
    mean, log_variance, zero = torch.tensor([m, math.log(V), 0.0]).double()
    assert_close(gaussian_kl(mean, log_variance, zero, zero), on_grid)
    slip = gaussian_kl(mean, torch.tensor(V).double(), zero, zero)
    print(f"N({m}, {V}): {on_grid:.4f} nats; with V for log V {slip:.4f}")

# %% [markdown]
# Ho et al. report about $10^{-5}$ bits per dimension for their pictures at the end of the chain (arXiv 2006.11239, section 4). Here is our temple, at $x_T$:

# %%
clean = photo.double()
V = (1 - abar[-1]).expand_as(clean)
nats = gaussian_kl(abar[-1].sqrt() * clean, V.log(), 0 * clean, 0 * clean).sum()
bits = bits_per_dim(nats, clean.numel())
apart = abar[-1].sqrt() * clean.norm()  # between the two means, in standard deviations
right = torch.special.ndtr(apart / 2)
print(f"abar_T is {abar[-1]:.1e}, and the picture has {clean.numel():,} numbers")
print(f"{bits:.1e} bits per dimension, {bits * clean.numel():.2f} bits in all")
print(f"the best guess of one who knows the temple is right {100 * right:.0f} %")

# %% [markdown]
# The last line plays the coin game of (01.11) with whole pictures: noise, or $x_T$ of this temple? The variances are 1 to within 0.004 %, so only the means differ, by $\sqrt{\bar\alpha_T}\,\lVert x_0 \rVert$ in the space of all pictures. Along the line that joins them
# both are normals of variance 1, and naming the nearer one is right with the probability that a standard normal number is below half of that distance.
# So $10^{-5}$ bits are little for one number, and yet somebody who knows the temple wins about 68 of 100 such games. Lesson 02 says what a network can do with this remainder of the picture, and how to remove it.

# %% [markdown]
# ### Which heap did it come from?
#
# The core said where numbers go. Later lessons will often ask the reverse: you see $x_t$, so from which part of the mixture did it come? Bayes' rule divides one term of (01.10) by their sum:
#
# $$p(k \mid x_t) = \frac{w_k\; N\left(x_t;\ \sqrt{\bar\alpha_t}\, m_k,\ \bar\alpha_t V_k + 1 - \bar\alpha_t\right)}{q(x_t)} \tag{01.13}$$
#
# The package calls these probabilities `responsibilities`. We let 7,000 numbers of the narrow heap and 13,000 of the wide one walk 250 steps, and count who stands near a few places.

# %%
start = torch.cat([
    m + V.sqrt() * torch.randn(n, 1, generator=generator, dtype=torch.float64)
    for m, V, n in zip(
        two_heaps.means, two_heaps.covariances[:, 0], (7_000, 13_000), strict=True
    )
])
narrow = torch.arange(20_000) < 7_000
x = run_chain(start, {250})[250]
exact = two_heaps.responsibilities(x, abar[249])[:, 0]
for place in (-1.5, -0.5, 0.0, 0.5, 1.5):
    near = (x[:, 0] - place).abs() < 0.1
    share = narrow[near].double().mean()
    error = (share * (1 - share) / near.sum()).sqrt()
    print(
        f"near {place:4.1f}: counted {share:.2f} (error {error:.2f}), "
        f"formula {exact[near].mean():.2f}"
    )

# %% [markdown]
# ### Other factors are other families
#
# The core called the factor 1 a mistake for our purpose, but it is also the door to another family of models. Without the factor the variance explodes, and Song et al. call it that
# ([2011.13456](https://arxiv.org/abs/2011.13456), section 3.4: "variance exploding", and "variance preserving" for the chain of this lesson). Such a model has to add so much noise that the data's own variance no longer matters beside it.
#
# Another factor that you will meet is $a = 1 - \beta_t/2$, the first two terms of the root's series. It appears when the chain is written as a differential equation, whose drift is $-\tfrac12\beta(t)\,x$ (same paper, eq. 11). By (01.4) the variance that stays is $\beta/(\beta - \beta^2/4) = 1/(1-\beta/4)$, almost 1:

# %%
for name, factor in (
    ("root", lambda beta: math.sqrt(1 - beta)), ("series", lambda beta: 1 - beta / 2),
):
    variance = float(photo.var())
    for beta in betas.tolist():
        variance = factor(beta) ** 2 * variance + beta
    print(f"{name:6s} variance after 1,000 steps {variance:.5f}")

# %% [markdown]
# The root ends just below 1, because the photograph's variance was smaller than 1 and $\bar\alpha_T$ of that gap is left. The series ends 0.5 % above it.

# %% [markdown]
# ### More pictures on their way to noise
#
# Later lessons draw digits, and a digit is a smaller and simpler picture than the temple. So it helps to know after how many steps nobody can read it any more.

# %%
columns = [0, 50, 150, 250, 350, 500, 1000]
chain = run_chain(digits[:5], columns)
rows = [torch.cat([chain[t][k : k + 1] for t in columns]) for k in range(5)]
fig = plotting.image_strip(
    rows, column_labels=["clean", *(f"{t:,} steps" for t in columns[1:])], scale=0.8,
    title="Five digits on their way to noise",
)
show(fig, alt=(
    "Digits 0 to 4, one in a row, clean and after 50 to 1,000 steps. All can be read "
    "after 50 steps, hardly any after 250, and none from 500 on."
))

# %% [markdown]
# And here is the photograph's walk as a loop, played three times.

# %%
moments = [0, *range(50, 1001, 50)]
still = plotting.image_strip(
    torch.cat([photo_chain[t] for t in stations]), scale=1.15,
    column_labels=["clean", *(f"{t:,} steps" for t in stations[1:])],
)
Animation(
    [photo_chain[t] for t in moments],
    "The temple drowns in noise within the first half of the loop; "
    "the second half shows only noise.",
    titles=[f"{t:,} steps" if t else "clean" for t in moments],
    seconds=5, scale=1.28, still=still,
)

# %% [markdown]
# ### To read further
#
# - Ho, Jain, Abbeel 2020, [2006.11239](https://arxiv.org/abs/2006.11239): section 4, for the constants of the chain and what the authors measured with them.
# - Song et al. 2021, [2011.13456](https://arxiv.org/abs/2011.13456): section 3.4, for the variance-exploding chain beside this one.
