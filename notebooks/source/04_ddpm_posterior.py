# %% [markdown]
# # 04 · The DDPM posterior
#
# After this lesson you can:
#
# - say why a single jump from noise to data lands on an average,
# - derive $q(x_{t-1} \mid x_t, x_0)$ by completing the square, and check it without algebra,
# - write its mean with $x_0$ or with the noise,
# - choose the variance of a reverse step and say what the choice costs,
# - write the sampling loop with both of its ends right, and draw digits with it.
#
# You need: lessons 01 to 03.
#
# **Measured cost:** 1.0 min on 2 cores, 1.0 GB of memory at the peak. Core: about 24 minutes of reading, 0.5 of computing. Going further: about 9 and 0.5.
#
# In formulas $t$ runs from 1 to $T$ as in the papers, and $\bar\alpha_0 = 1$ is clean data. In code `t` is the index $0..T-1$, one less.

# %%
import torch
from torch.testing import assert_close

from diffusion_course import (
    Animation,
    Explorer,
    GaussianMixture,
    Progress,
    ddpm_step,
    load_dataset,
    load_pretrained,
    make_generator,
    make_schedule,
    mixture,
    p_sample_iter,
    p_sample_loop,
    plotting,
    posterior_coefficients,
    q_posterior,
    q_step,
    seed_everything,
    show,
    show_source,
)
from diffusion_course.notebook import Drawing, figure

generator = seed_everything(0)
linear, ten = make_schedule("linear", 1000), make_schedule("cosine", 10)
abar, abar_prev = linear.alphas_cumprod, linear.alphas_cumprod_prev
tables = linear.betas, linear.alphas, abar

# %% [markdown]
# ## Why not jump?
#
# You have a network that looks at a noisy picture and names the noise in it. If you take that noise away, the clean picture should be left.
# So why would anybody take a thousand steps?
#
# Let us try the jump, with the course's digit network. It gets eight pictures of pure noise, and we remove all the noise that it names, at once.
# From the same noise we also run the slow way, which this lesson builds.

# %%
network = load_pretrained("digits")
noise = torch.randn(8, 1, 16, 16, generator=generator)
with torch.no_grad():
    named = network(noise, torch.full((8,), 999))
jump = (noise - (1 - abar[-1]).sqrt() * named) / abar[-1].sqrt()
jump = jump.float()
frames = {}  # index -> (x after its step, the estimate of x0 that the step used)
with Progress(1000, "drawing digits") as bar:
    for t, x, x0_pred in p_sample_iter(
        network, noise.shape, *tables, x_init=noise, generator=generator
    ):
        frames[t] = x, x0_pred
        bar.update()

# %%
fig = plotting.image_strip(
    [noise, jump, frames[0][0]],
    row_labels=["pure noise", "one jump", "1,000 small steps"],
    title="From the same noise: one jump draws no digit, small steps do",
)
show(fig, alt=(
    "Eight columns of three pictures. Above pure noise. In the middle, after one jump, "
    "speckles without a digit, brighter towards the middle. Below, after 1,000 steps, "
    "grey strokes that can be read as digits."
))

# %% [markdown]
# Not one jump has drawn a digit. You may suspect the network, so take a perfect one: for the two moons of lesson 03 the best
# prediction of the noise is known exactly.

# %%
moons = mixture("moons")
exact = moons.model(abar)
start = torch.randn(1000, 2, generator=generator, dtype=torch.float64)
clouds = {
    "data": moons.sample(1000, generator=generator),
    "one jump": moons.posterior_mean(start, abar[-1]),
    "1,000 small steps": p_sample_loop(
        exact, start.shape, *tables, x_init=start, generator=generator
    ),
}
print(f"square root of abar at the noisiest level: {abar[-1].sqrt():.4f}")
print(f"largest jump from the centre: {clouds['one jump'].norm(dim=1).max():.3f}")
fig = plotting.scatter_2d(
    clouds, limit=2.5,
    title="Even a perfect network jumps to one spot, where no data is",
)
show(fig, alt=(
    "Three scatter plots. Data: two interleaved arcs. One jump: a single dot in the "
    "centre, between the arcs. 1,000 small steps: two interleaved arcs."
))

# %% [markdown]
# The perfect network does what its loss asks of it. Its estimate of $x_0$ is $E[x_0 \mid x_t]$, the *average* of all data that could have become this $x_t$, the likelier ones with more weight.
# Pure noise fits all data about equally well, so the jump lands on the average of everything, and that average is not data.
# (The speckles of the digits have another reason: small errors of the network, divided by $\sqrt{\bar\alpha_T} = 0.0064$.)
#
# The cure is to trust the average only a little. Take a small step towards it, then ask again. Now fewer data fit, and the next average is sharper. Follow that average along two chains:

# %%
fig, ax = figure(5.2, 3.2)
ax.scatter(*clouds["data"].T, s=4, color="#BBBBBB", label="data")
for seed, color in ((1, "#0072B2"), (2, "#D55E00")):
    chain = p_sample_iter(
        exact, (1, 2), *tables, generator=make_generator(seed), dtype=torch.float64
    )
    averages = torch.cat([estimate for _, _, estimate in chain])
    ax.plot(*averages.T, color=color, linewidth=1.2)
    ax.plot(*averages[-1], "o", color=color, markersize=9, markeredgecolor="black")
ax.plot(*averages[0], "*", color="black", markersize=12, label="first average")
ax.set(xlabel="first coordinate", ylabel="second coordinate", xlim=(-2.6, 2.6))
ax.set_title("Two chains: the average walks from the centre to the data", loc="left")
ax.legend(loc="upper right")
show(fig, alt=(
    "The moons in grey. Two lines start at a star in the centre, where the first "
    "average is, wander and end in a round mark, each on an arc."
))

# %% [markdown]
# How far should such a step go? And how much fresh noise must it add, so that the result is as noisy as its level demands? This lesson computes both.

# %% [markdown]
# ## Recall
#
# 1. From lesson 02: $x_0$ is known. How is $x_t$ distributed?
# 2. From lesson 03: at a level with $\bar\alpha_t = 0.25$ a network sees $x_t = 1.2$ and answers $\hat\epsilon = 0.8$. What is its estimate of $x_0$?
#
# <details><summary>Answers</summary>
#
# 1. $q(x_t \mid x_0) = N(\sqrt{\bar\alpha_t}\,x_0,\ (1-\bar\alpha_t) I)$: the signal is multiplied by $\sqrt{\bar\alpha_t}$, standard normal noise by $\sqrt{1-\bar\alpha_t}$.
# 2. Solve $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ for $x_0$: $(1.2 - \sqrt{0.75} \cdot 0.8) / 0.5 = 1.014$.
#
# </details>

# %% [markdown]
# ## Predict first
#
# A single number is easiest to follow. It starts at $x_0 = 1$ and takes two forward steps, with $\beta_1 = 0.2$ and $\beta_2 = 0.5$.
# The next cell lets 400,000 such numbers walk and picks out those that end near $-0.5$.
#
# You know both ends of such a walk, $x_0 = 1$ and $x_2 = -0.5$. Its last step added noise of variance $\beta_2 = 0.5$.
# How large is the variance of $x_1$ over these walks: smaller than 0.5, equal to it, or larger? Put your answer into the cell, then run it.

# %%
my_prediction = "equal"  # "smaller", "equal" or "larger"
betas = torch.tensor([0.2, 0.5], dtype=torch.float64)
x0 = torch.ones(400_000, dtype=torch.float64)
x1 = q_step(x0, torch.full((400_000,), 0), betas, generator=generator)
x2 = q_step(x1, torch.full((400_000,), 1), betas, generator=generator)
near = (x2 + 0.5).abs() < 0.02
measured = x1[near].var()
answer = "smaller" if measured < 0.45 else "larger" if measured > 0.55 else "equal"
verdict = "as you said" if my_prediction == answer else f"you said {my_prediction}"
print(
    f"The variance is {measured:.3f}: {answer} than 0.5 ({verdict}). "
    f"The mean is {x1[near].mean():.3f}, over {int(near.sum())} walks."
)

# %%
fig, ax = figure(5.5, 2.8)
for name, walks, color in (
    ("all walks", torch.arange(60), "#BBBBBB"),
    ("ends near -0.5", near.nonzero()[:25, 0], "#D55E00"),
):
    stations = torch.stack([x0[walks], x1[walks], x2[walks]])
    lines = ax.plot([0, 1, 2], stations, color=color, linewidth=0.8)
    lines[0].set_label(name)
ax.set(xticks=[0, 1, 2], xlabel="step", ylabel="$x$")
ax.set_title("Walks that end near -0.5 pass through a narrow gate", loc="left")
ax.legend()
show(fig, alt=(
    "Sixty grey walks fan out from 1. Twenty-five orange ones run from 1 to -0.5; at "
    "step 1 most of them pass between 0.3 and 1.1, a narrower band than the grey one."
))

# %% [markdown]
# Two facts narrow $x_1$ down: where the walk began, and where it is now.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = Drawing(6.6, 1.2, "Two facts about $x_1$")
x_0, x_1, x_2 = drawing.row(
    ["$x_0 = 1$", "$x_1$ = ?", "$x_2 = -0.5$"], 0.75, 0.8, 5.8,
    kinds=["data", "formula", "data"],
)
drawing.arrow(x_0, x_1, r"$\beta_1 = 0.2$")
drawing.arrow(x_1, x_2, r"$\beta_2 = 0.5$")
drawing.text(2.05, 0.2, "the start says: near 0.89")
drawing.text(4.65, 0.2, "the end says: near -0.71")
drawing.show(
    "Three boxes in a row: x_0 = 1, an arrow with beta_1 = 0.2 to the unknown x_1, an "
    "arrow with beta_2 = 0.5 to x_2 = -0.5. The start says that x_1 is near 0.89, the "
    "end that it is near -0.71."
)

# %% [markdown]
# ## Why the start has to be known
#
# To walk backwards you want $q(x_{t-1} \mid x_t)$, without knowing the start. Bayes' rule gives it:
#
# $$q(x_{t-1} \mid x_t) = \frac{q(x_t \mid x_{t-1})\, q(x_{t-1})}{q(x_t)} \tag{04.1}$$
#
# The first factor is the forward step. The other two are the densities of *all* noisy data. They are integrals over the data distribution,
# and nobody has that one. So condition everything on $x_0$ as well:
#
# $$\begin{aligned}
# q(x_{t-1} \mid x_t, x_0) &= \frac{q(x_t \mid x_{t-1}, x_0)\, q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)} \\[4pt]
# &= \frac{q(x_t \mid x_{t-1})\, q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)}
# \end{aligned} \tag{04.2}$$
#
# The second line holds because $x_t$ adds fresh noise to $x_{t-1}$ and does not remember $x_0$. All three factors are now Gaussians that you know.
# The plan: multiply the two above the line, look at the product as a function of $x_{t-1}$, and read off mean and variance.
# The denominator does not contain $x_{t-1}$; it only makes the area 1.

# %% [markdown]
# ## By hand, with two numbers
#
# Numbers before letters: take the orange walks. The start says (this is the *prior*) that $x_1$ comes from $N(\sqrt{0.8} \cdot 1,\ 0.2)$, with $\sqrt{0.8} = 0.8944$.
# The end says (the *likelihood*) that $x_2 = -0.5$ came from $N(\sqrt{0.5}\,x_1,\ 0.5)$, with $\sqrt{0.5} = 0.7071$.
# (Read as a bell over $x_1$: centre $-0.5/0.7071 = -0.71$, variance $0.5/0.5 = 1$.)
# The logarithm of their product, without constants, is
#
# $$-\tfrac12\left[\frac{(x_1 - 0.8944)^2}{0.2} + \frac{(-0.5 - 0.7071\,x_1)^2}{0.5}\right]$$
#
# Multiply out and keep what contains $x_1$. The first fraction gives $5x_1^2 - 8.944\,x_1$, the second $x_1^2 + 1.414\,x_1$. Together they are
#
# $$-\tfrac12\left[6x_1^2 - 7.530\,x_1\right] = -\tfrac12 \cdot 6\,\left(x_1 - 0.6275\right)^2 + \text{const}, \qquad 0.6275 = \frac{7.530}{2 \cdot 6}$$
#
# This is a Gaussian with mean 0.6275 and variance $1/6 = 0.1667$. The walks gave 0.630 and 0.168.
#
# **Task.** Below, $x_0 = 1$ and $\beta_1 = 0.2$ stay, and you move the rest. At which $\beta_2$ do start and end have equal say, so that the mean of "both" lies halfway between the other two?
# Then move $x_2$. Does the width of "both" change?

# %%
def three_bells(beta_2, x_2):  # name -> (mean, variance)
    abar_of_two = torch.tensor([0.8, 0.8 * (1 - beta_2)], dtype=torch.float64)
    x_0, end = (torch.tensor([v], dtype=torch.float64) for v in (1.0, x_2))
    post = q_posterior(x_0, end, torch.tensor([1]), abar_of_two)
    return {
        "start says": (0.8**0.5, 0.2),
        "end says": (x_2 / (1 - beta_2) ** 0.5, beta_2 / (1 - beta_2)),
        "both": (post.mean.item(), post.variance.item()),
    }

# %%
def bayes_picture(beta_2, x_2):
    grid, bells = torch.linspace(-3.5, 3.5, 281), three_bells(beta_2, x_2)
    curves = {
        k: torch.exp(-((grid - m) ** 2) / (2 * v)) / (2 * torch.pi * v) ** 0.5
        for k, (m, v) in bells.items()
    }
    fig = plotting.lines(
        grid, curves, xlabel="$x_1$", ylabel="density", direct_labels=False,
        title=rf"What is known of $x_1$, if $\beta_2$ = {beta_2:g} and $x_2$ = {x_2:g}",
    )
    said = (f"{k}: mean {m:.2f}, variance {v:.3f}" for k, (m, v) in bells.items())
    return fig, "; ".join(said)


Explorer(
    bayes_picture, beta_2=[0.05, 0.1, 0.17, 0.25, 0.5, 0.75], x_2=(-1.5, 1.5, 0.5),
    start={"beta_2": 0.5, "x_2": -0.5},
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# As a bell over $x_1$ the end says $N\big(x_2/\sqrt{1-\beta_2},\ \beta_2/(1-\beta_2)\big)$. Equal say means equal precision (one over the variance): $1/0.2 = (1-\beta_2)/\beta_2$, so $\beta_2 = 1/6$; the nearest value on the slider is 0.17. The width of "both" never changes with $x_2$: its precision is the sum of the other two (above, $5 + 1 = 6$), and neither contains $x_0$ or $x_2$.
#
# </details>

# %% [markdown]
# ## Completing the square
#
# The sampler needs this result at every level, so we now do the same with letters. (If the numbers have convinced you, read on at (04.5).) Every covariance is a multiple of the identity, so one coordinate is enough.
#
# **Line 1.** Take the logarithm of (04.2), for $t \ge 2$. The constant collects what does not contain $x_{t-1}$:
#
# $$\begin{aligned}
# &\log q(x_{t-1} \mid x_t, x_0) \\
# &\quad = -\frac12\left[\frac{(x_t - \sqrt{\alpha_t}\,x_{t-1})^2}{\beta_t} + \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}}\right] + \text{const}
# \end{aligned} \tag{04.3}$$
#
# **Line 2.** Multiply out and sort by powers of $x_{t-1}$. The two squares without $x_{t-1}$ join the constant:
#
# $$\begin{gathered}
# = -\frac12\left[a\,x_{t-1}^2 - 2b\,x_{t-1}\right] + \text{const}, \\[4pt]
# a = \frac{\alpha_t}{\beta_t} + \frac{1}{1-\bar\alpha_{t-1}}, \qquad
# b = \frac{\sqrt{\alpha_t}}{\beta_t}\,x_t + \frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}\,x_0
# \end{gathered} \tag{04.4}$$
#
# **Line 3.** Complete the square: $a x^2 - 2bx = a\,(x - b/a)^2 - b^2/a$, and $b^2/a$ joins the constant. What is left is a Gaussian with
# variance $1/a$ and mean $b/a$.
#
# **Line 4.** Simplify $a$. Put both fractions over $\beta_t(1-\bar\alpha_{t-1})$, then use $\beta_t = 1-\alpha_t$ and $\alpha_t\bar\alpha_{t-1} = \bar\alpha_t$:
#
# $$a = \frac{\alpha_t(1-\bar\alpha_{t-1}) + \beta_t}{\beta_t(1-\bar\alpha_{t-1})} = \frac{\alpha_t - \bar\alpha_t + 1 - \alpha_t}{\beta_t(1-\bar\alpha_{t-1})} = \frac{1-\bar\alpha_t}{\beta_t(1-\bar\alpha_{t-1})}$$
#
# One over it is the variance, which is called $\tilde\beta_t$ (arXiv 2006.11239, eq. 7):
#
# $$\tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t \tag{04.5}$$
#
# **Line 5.** The mean is $b/a = \tilde\beta_t\,b$. In front of $x_t$ the two $\beta_t$ cancel, in front of $x_0$ the two $1-\bar\alpha_{t-1}$ (arXiv 2006.11239, eq. 6 and 7):
#
# $$\begin{gathered}
# q(x_{t-1} \mid x_t, x_0) = N(\tilde\mu_t,\ \tilde\beta_t I), \qquad \tilde\mu_t = c_0\,x_0 + c_t\,x_t, \\[4pt]
# c_0 = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}, \qquad
# c_t = \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
# \end{gathered} \tag{04.6}$$
#
# In code these are three lines. First the walk, then the 1,000 steps of the course:

# %%
def coefficients(now, then):  # abar_t and abar_{t-1}
    alpha = now / then
    c_0 = then.sqrt() * (1 - alpha) / (1 - now)
    c_t = alpha.sqrt() * (1 - then) / (1 - now)
    return c_0, c_t, (1 - alpha) * (1 - then) / (1 - now)


c_0, c_t, variance = coefficients(torch.tensor(0.4), torch.tensor(0.8))
print(f"by hand: mean {c_0 * 1.0 + c_t * -0.5:.4f}, variance {variance:.4f}")
c_0, c_t, beta_tilde = coefficients(abar, abar_prev)
assert_close((c_0, c_t, beta_tilde), posterior_coefficients(abar, abar_prev))
for t in (1, 2, 3, 10, 100, 1000):
    print(f"t = {t:4d}: {c_0[t - 1]:.3f} of x_0, {c_t[t - 1]:.3f} of x_t")

# %% [markdown]
# At most levels a step keeps nearly all of $x_t$ and adds a little of $x_0$. Only the last two steps give $x_0$ more weight than $x_t$.
#
# **Check by another route.** Bayes' rule needs no algebra at all on a grid of candidates for $x_{t-1}$: multiply prior and likelihood at each of them, and divide by the sum.
# Mean and variance of these weights must be those of the formula. To see the check fail, we also give it a wrong sign.

# %%
def bayes_on_a_grid(x_0, x_t, t, schedule):
    grid = torch.linspace(-10, 10, 16_001, dtype=torch.float64)
    then, alpha = schedule.alphas_cumprod_prev[t], schedule.alphas[t]
    log_prior = -((grid - then.sqrt() * x_0) ** 2) / (2 * (1 - then))
    log_likelihood = -((x_t - alpha.sqrt() * grid) ** 2) / (2 * schedule.betas[t])
    weights = (log_prior + log_likelihood).softmax(0)
    mean = (weights * grid).sum()
    return mean, (weights * (grid - mean) ** 2).sum()


# %%
for sign in (1, -1):
    for t in range(1, 10):
        on_x0, on_xt, variance = coefficients(
            ten.alphas_cumprod[t], ten.alphas_cumprod_prev[t]
        )
        formula = on_x0 * 1.0 + sign * on_xt * -0.5
        mean, spread = bayes_on_a_grid(1.0, -0.5, t, ten)
        if not torch.allclose(formula, mean, rtol=1e-9):
            print(f"index {t}: a wrong sign gives {formula:.3f}, Bayes {mean:.3f}")
            break
        assert_close(variance, spread, rtol=1e-9, atol=0.0)
    else:
        print("the formula and Bayes on a grid agree at indices 1 to 9")

# %% [markdown]
# ## The mean in terms of the noise
#
# The formula wants $x_0$, but our network names noise. Put $x_0 = \big(x_t - \sqrt{1-\bar\alpha_t}\,\epsilon\big)/\sqrt{\bar\alpha_t}$ into (04.6) and use $\sqrt{\bar\alpha_t} = \sqrt{\alpha_t}\sqrt{\bar\alpha_{t-1}}$.
#
# **In front of $x_t$** two terms meet. Over one denominator their numerator is that of line 4, $1-\bar\alpha_t$:
#
# $$\begin{aligned}
# \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{(1-\bar\alpha_t)\sqrt{\bar\alpha_t}} + \frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
# &= \frac{\beta_t + \alpha_t(1-\bar\alpha_{t-1})}{(1-\bar\alpha_t)\sqrt{\alpha_t}} = \frac{1}{\sqrt{\alpha_t}}
# \end{aligned}$$
#
# **In front of $\epsilon$** there is one term:
#
# $$-\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t} \cdot \frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}} = -\frac{\beta_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}}$$
#
# Together they give the mean of Algorithm 2, the paper's sampler (arXiv 2006.11239, eq. 11):
#
# $$\tilde\mu_t = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon\right) \tag{04.7}$$
#
# The package goes through $x_0$, so it is a second route to (04.7):

# %%
x_t, eps = torch.randn(2, 1000, 8, dtype=torch.float64, generator=generator)
step = ddpm_step(eps, x_t, abar, abar_prev, generator=generator)
beta, alpha, now = (v[:, None] for v in (linear.betas, linear.alphas, abar))
algorithm_2 = (x_t - beta / (1 - now).sqrt() * eps) / alpha.sqrt()
assert_close(step.mean, algorithm_2, rtol=1e-10, atol=1e-10)
print("the mean through x0 and the mean of Algorithm 2 agree at all 1,000 indices")

# %% [markdown]
# ## The loop
#
# You now have all the parts of a sampler. Start from noise. In each step ask the network for $\hat\epsilon$, turn it into an estimate $\hat x_0$, and draw from (04.6) with $\hat x_0$ in the place of $x_0$.
# This is called *ancestral* sampling, because each $x_{t-1}$ is drawn given its parent $x_t$.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing, shape = Drawing(7.4, 2.8, "From $x_t$ to $x_{t-1}$"), "(B, 1, 16, 16)"
x_t, net, x_0, total, new = drawing.row(
    ["$x_t$", "network", r"$\hat x_0$", "add", "$x_{t-1}$"], 1.5, 0.8, 6.7, width=0.9,
    kinds=["data", "network", "data", "formula", "data"],
    notes=[shape, "", shape, "", shape],
)
level = drawing.box(net.x, 2.25, "$t$", kind="words", width=0.6, height=0.36)
z = drawing.box(total.x, 0.3, "fresh noise $z$", kind="noise", height=0.36)
for start, end, label in (
    (x_t, net, ""), (level, net, ""), (net, x_0, r"$\hat\epsilon$"),
    (x_0, total, "$c_0$"), (z, total, r"$\sqrt{\tilde\beta_t}$"), (total, new, ""),
):
    drawing.arrow(start, end, label)
corners = [(0.12, 1.5), (0.12, 0.85), (total.x - 0.25, 0.85)]
drawing.arrow(x_t.left, (total.x - 0.25, 1.25), "$c_t$", via=corners)
drawing.arrow(new.top, x_t.top, "the next step", via=[(6.7, 2.62), (0.8, 2.62)])
drawing.show(
    "x_t and t go into the network. Its answer gives the estimate of x_0. The "
    "estimate times c_0, x_t times c_t and fresh noise times the root of beta-tilde "
    "add up to x_{t-1}, which is x_t in the next step. The pictures have one shape."
)

# %% [markdown]
# These are its lines. The network is the exact one of the moons, so any error would be the loop's.

# %%
random = make_generator(4)
x = torch.randn(2000, 2, generator=random, dtype=torch.float64)
c_0, c_t, beta_tilde = coefficients(abar, abar_prev)
for t in reversed(range(1000)):
    eps = exact(x, torch.full((2000,), t))
    x0_pred = (x - (1 - abar[t]).sqrt() * eps) / abar[t].sqrt()
    z = torch.randn(x.shape, generator=random, dtype=x.dtype)
    x = c_0[t] * x0_pred + c_t[t] * x + beta_tilde[t].sqrt() * z

# %%
theirs = p_sample_loop(
    exact, (2000, 2), *tables, generator=make_generator(4), dtype=torch.float64
)
assert_close(x, theirs)
print("these lines and p_sample_loop draw the same 2,000 points")
show_source(posterior_coefficients, ddpm_step)

# %% [markdown]
# The package's version checks its arguments, offers the choices that come next, and is otherwise this.
# (`draw_posterior` is our last line, with either variance.) `p_sample_iter` repeats it and yields each step; `p_sample_loop` returns what the last one drew.

# %% [markdown]
# ## Which variance?
#
# The loop put an estimate where the formula wants $x_0$. Is that right? For the mean it is: (04.6) is a weighted sum of $x_0$ and $x_t$, so its average over all $x_0$ that fit $x_t$
# is (04.6) at $E[x_0 \mid x_t]$. For the variance it is not, because nobody knows $x_0$, and this uncertainty comes on top. In the true step, $x_{t-1} = c_0 x_0 + c_t x_t + \sqrt{\tilde\beta_t}\,z$,
# the fresh noise $z$ and the unknown $x_0$ are independent, and covariances of independent parts add:
#
# $$\operatorname{Cov}(x_{t-1} \mid x_t) = \tilde\beta_t I + c_0^2\,\operatorname{Cov}(x_0 \mid x_t) \tag{04.8}$$
#
# So $\tilde\beta_t$ is right if $x_t$ tells you $x_0$, and too small otherwise. For two kinds of data you can work it out.
#
# **All data is one point.** Then $\operatorname{Cov}(x_0 \mid x_t) = 0$, and the right variance is $\tilde\beta_t$.
#
# **Data is standard normal.** Then $E[x_0 \mid x_t] = \sqrt{\bar\alpha_t}\,x_t$, with the variance $1-\bar\alpha_t$ per coordinate, and (04.8) gives
#
# $$\tilde\beta_t + \frac{\bar\alpha_{t-1}\beta_t^2}{1-\bar\alpha_t} = \beta_t\,\frac{1-\bar\alpha_{t-1} + \bar\alpha_{t-1}\beta_t}{1-\bar\alpha_t} = \beta_t\,\frac{1-\bar\alpha_{t-1}\alpha_t}{1-\bar\alpha_t} = \beta_t \tag{04.9}$$
#
# <details><summary>Why this mean and this variance</summary>
#
# $x_0 - \sqrt{\bar\alpha_t}\,x_t$ is uncorrelated with $x_t$, since $E[x_0 x_t] = \sqrt{\bar\alpha_t}$ and $E[x_t^2] = 1$. The two are jointly Gaussian, so uncorrelated means independent:
# knowing $x_t$ changes neither its mean, 0, nor its variance, $1 - 2\bar\alpha_t + \bar\alpha_t = 1-\bar\alpha_t$.
#
# </details>
#
# The paper offers both, $\tilde\beta_t$ and $\beta_t$ (arXiv 2006.11239, section 3.2), and so does the package, as `fixed_small` and `fixed_large`. We write $\zeta_t^2$
# (zeta, the size of $z$; the paper's $\sigma_t^2$) for the variance that you choose.
#
# To see what a wrong choice does, follow the variance of a chain for standard normal data. With this $E[x_0 \mid x_t]$ the mean (04.6) is $\sqrt{\alpha_t}\,x_t$, so a step turns $\operatorname{Var}(x_t)$ into
# $\alpha_t \operatorname{Var}(x_t) + \zeta_t^2$. The last step adds no noise. The variance at the end should be 1.

# %%
def final_variance(schedule, zeta2):
    var = 1.0  # the chain starts from N(0, 1)
    for t in reversed(range(schedule.num_train_timesteps)):
        var = schedule.alphas[t].item() * var + (zeta2[t].item() if t > 0 else 0.0)
    return var


for num_steps in (10, 50, 1000):
    s = make_schedule("cosine", num_steps)
    small = posterior_coefficients(s.alphas_cumprod, s.alphas_cumprod_prev)[2]
    print(
        f"T = {num_steps:4d}: variance of the samples {final_variance(s, s.betas):.4f} "
        f"with beta, {final_variance(s, small):.4f} with beta-tilde"
    )

# %% [markdown]
# With 1,000 steps either choice loses less than 1 % for this data. With ten steps $\tilde\beta_t$ loses about a third.

# %% [markdown]
# ## Why the steps must be small
#
# The right variance alone would not let you walk in ten steps, because a large step back need not be Gaussian. Take data close to $-1$ or $1$, and an $x_t$ between the two.
# Bayes' rule (04.1) on a grid gives the true $q(x_{t-1} \mid x_t)$. We compare it with the Gaussian of the same mean and variance, at the same noise level in chains of ten and of a thousand steps:

# %%
two = GaussianMixture(
    torch.tensor([0.5, 0.5]).double(), torch.tensor([[-1.0], [1.0]]).double(),
    torch.full((2, 1, 1), 0.01).double(),
)


def true_step(xt, s, t):  # a grid for x_{t-1}, Bayes' rule on it, and its Gaussian
    alpha, beta = s.alphas[t], s.betas[t]
    width = (beta / alpha).sqrt() * torch.linspace(-5, 5, 2001).double()
    grid = xt / alpha.sqrt() + width
    prior = two.at(s.alphas_cumprod_prev[t].item()).log_prob(grid[:, None])
    true = (prior - (xt - alpha.sqrt() * grid) ** 2 / (2 * beta)).softmax(0)
    mean = (true * grid).sum()
    spread = (true * (grid - mean) ** 2).sum()
    return grid, true, (-((grid - mean) ** 2) / (2 * spread)).softmax(0)


# %%
fig, axes = figure(7.0, 2.7, 1, 2, sharey=True)
for ax, s, t in ((axes[0], ten, 2), (axes[1], make_schedule("cosine", 1000), 299)):
    grid, true, bell = true_step(0.1, s, t)
    ax.plot(grid, true / true.max(), label="true reverse step")
    ax.plot(grid, bell / true.max(), "--", label="Gaussian")
    ax.set(xlabel="$x_{t-1}$", yticks=[], ylim=(0, 1.5))
    ax.set_title(f"T = {len(s.betas)}")
    ax.locator_params(axis="x", nbins=5)
    apart = (true - bell).abs().sum() / 2
    print(f"T = {len(s.betas)}: they differ in {apart:.4f} of the probability")
axes[0].legend(loc="upper left")
show(fig, alt=(
    "The true reverse step and the Gaussian with its mean and variance. With T = 10 "
    "the true step has two separate peaks and the Gaussian one, between them. With "
    "T = 1000 both curves have one peak and cover each other."
))

# %% [markdown]
# The short chain has to choose between the two values in one step, and no Gaussian can do that. A small step does not choose yet, and a Gaussian describes it well. This is why a thousand steps work.
#
# What does it cost in the end? We draw the moons in ten steps, five times 20,000 points for each variance.
# We count the points off the arcs, where 1 % of the data lies, and in their dense core, where 50 % lies.

# %%
def ten_steps(large, seed, n=20_000):
    random = make_generator(seed)
    x = torch.randn(n, 2, generator=random, dtype=torch.float64)
    for t in reversed(range(10)):
        now, then = ten.alphas_cumprod[t], ten.alphas_cumprod_prev[t]
        c_0, c_t, small = coefficients(now, then)
        zeta2 = ten.betas[t] if large else small
        z = torch.randn(n, 2, generator=random, dtype=torch.float64)
        x = c_0 * moons.posterior_mean(x, now) + c_t * x + (t > 0) * zeta2.sqrt() * z
    return x


# %%
levels = moons.log_prob(moons.sample(100_000, generator=make_generator(99)))


def report(name, runs):  # of log-densities
    off = torch.stack([(d < levels.quantile(0.01)).double().mean() for d in runs])
    core = torch.stack([(d > levels.median()).double().mean() for d in runs])
    error = f" (sd {off.std():.3f} and {core.std():.3f})" if len(runs) > 1 else ""
    print(f"{name:16s} off the arcs {off.mean():.3f}, in the core {core.mean():.3f}"
          f"{error}, mean log-density {torch.stack(runs).mean():.2f}")


for name, large in (("beta-tilde", False), ("beta", True)):
    report(name, [moons.log_prob(ten_steps(large, seed)) for seed in range(5)])
report("1,000 steps", [moons.log_prob(x)])
report("data", [levels])

# %% [markdown]
# Neither variance is right with ten steps: both crowd the core and leave too many strays. $\tilde\beta_t$ crowds more than $\beta_t$ and strays less.
# Its mean log-density looks nearly right only because crowding and strays cancel in it. Not even the right covariance (04.8) cures this (*Going further*), because the shape of the step is wrong.
# A thousand steps come close. Lesson 06 finds another way out.

# %% [markdown]
# ## The two ends of the chain
#
# Both ends need a decision that no formula makes for you.
#
# **The last step** is the paper's $t = 1$, index 0. Here $\bar\alpha_0 = 1$, so $c_0 = 1$, $c_t = 0$ and $\tilde\beta_1 = 0$: the loop returns the estimate of $x_0$ and adds nothing.
# (The derivation divided by $1-\bar\alpha_0 = 0$, but its result holds: if $x_0$ is known, nothing is left to draw.)
# (Code that reads a table at `t - 1` without care gets its last entry here, the noisiest level.)
# To add nothing is a *choice*. The estimate is still an average, so the samples come out a little too clean: with 1,000 steps a standard deviation of 0.01 is missing, with ten steps 0.12 to 0.14 (*Going further* measures it). You could add it as noise, but below you will see how noise looks in a picture.
# Algorithm 2 leaves it out.
#
# **The first step** starts from $N(0, I)$, while the forward process ends at $q(x_T)$. Lesson 02 measured the gap.

# %% [markdown]
# ## Look: digits appear
#
# The digits at the beginning came from this loop. Each column shows a picture after the step at index $t$, and above it the estimate that this step used.
#
# **Task.** Find the largest $t$ at which you can name the digit in its estimate, then in the picture itself.

# %%
columns = [999, 900, 800, 600, 400, 300, 200, 100, 0]
rows = [
    torch.cat([frames[t][part][i : i + 1] for t in columns])
    for i in (0, 1) for part in (1, 0)
]
fig = plotting.image_strip(
    rows, column_labels=[f"t = {t}" for t in columns],
    row_labels=["estimate", "after its step"] * 2,
    title="The estimate shows a digit long before the picture does",
)
show(fig, alt=(
    "Two digits over t from 999 to 0. The estimates are speckles at 999, a grey blur "
    "at 600, a blurred digit at 400 and a clear one from 300. The pictures after the "
    "steps look like noise until 300, show a digit at 100 and are clear at 0."
))
print({t: round(abar[t].sqrt().item(), 2) for t in columns})

# %% [markdown]
# <details><summary>Answer</summary>
#
# We name it in the estimate at $t = 300$, where $\sqrt{\bar\alpha_t} = 0.63$, and in the picture at $t = 100$, where it is 0.95. At $t = 400$ the second estimate still looks like a 0. The chain has not decided yet.
#
# </details>

# %%
order = [999, *range(950, -1, -50)]
still = plotting.image_strip(
    [frames[t][0] for t in (999, 400, 200, 100, 0)],
    row_labels=[f"t = {t}" for t in (999, 400, 200, 100, 0)],
)
Animation(
    [torch.cat([frames[t][1], frames[t][0]]) for t in order],
    "Eight digits appear out of noise, in the estimate of x_0 long before they "
    "can be seen in the picture itself.",
    titles=[f"t = {t}" for t in order], row_labels=["estimate", "after the step"],
    seconds=5, still=still,
)

# %% [markdown]
# ## Where people go wrong
#
# ### Noise at the last step
#
# A widely read implementation of this loop ([labmlai/annotated_deep_learning_paper_implementations](https://github.com/labmlai/annotated_deep_learning_paper_implementations), `labml_nn/diffusion/ddpm/__init__.py`, `p_sample`) draws noise at every index,
# the last one included, where Algorithm 2 sets $z = 0$. The difference is a missing `if t > 0`.

# %%
digits = load_dataset("digits").images.double()[:8]
z = torch.randn(digits.shape, dtype=torch.float64, generator=generator)
left = {f"T = {len(s.betas)}": s.betas[0].sqrt() for s in (linear, ten)}
for name, std in left.items():
    print(f"{name:8s} standard deviation left in the picture {std:.3f}")
fig = plotting.image_strip(
    [digits, *(digits + std * z for std in left.values())],
    row_labels=["clean", *left], scale=1.0,
    title="Left by the last step: nothing to see with 1,000 steps, speckles with ten",
)
show(fig, alt=(
    "Eight digits in three rows: clean; with noise of standard deviation 0.010, no "
    "visible difference; with 0.167, grey speckles in the black around the digits."
))
noisy = x + left["T = 1000"] * torch.randn(x.shape, generator=generator, dtype=x.dtype)
for name, points in (("without", x), ("with", noisy)):
    d = moons.log_prob(points)
    error = d.std() / len(d) ** 0.5
    print(f"{name:7s} the noise: mean log-density {d.mean():.3f} (error {error:.3f})")

# %% [markdown]
# With 1,000 steps the eye sees nothing, and the mean log-density of our 2,000 moons moves by less than its standard error. So the mistake survives until somebody shortens the chain.

# %% [markdown]
# ### A loop that runs the wrong way, or ends early
#
# A loop `for t in range(T)` goes from clean to noisy; it was found in a published diffusion model ([nathan-barry/tiny-diffusion#2](https://github.com/nathan-barry/tiny-diffusion/issues/2), there for text).
# `range(T - 1, 0, -1)` never takes the step at index 0. Both run without an error.

# %%
def run(order):
    random, network_of_ten = make_generator(5), moons.model(ten.alphas_cumprod)
    x = torch.randn(1500, 2, generator=random, dtype=torch.float64)
    for t in order:
        x = ddpm_step(
            network_of_ten(x, torch.full((1500,), t)), x, ten.alphas_cumprod[t],
            ten.alphas_cumprod_prev[t], generator=random,
        ).x_prev
    return x


# %%
results = {
    "right": run(range(9, -1, -1)),
    "never index 0": run(range(9, 0, -1)),
    "backwards": run(range(10)),
}
for name, points in results.items():
    print(f"{name:14s} mean log-density {moons.log_prob(points).mean():8.2f}")
fig = plotting.scatter_2d(
    results, limit=3.0, title="Ten steps: a wrong loop raises no error"
)
show(fig, alt=(
    "Three scatter plots. Right: two arcs. Never index 0: the same arcs, blurred. "
    "Backwards: a round cloud, wider than the arcs, without any trace of them."
))

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names a known mistake. `hint("04.1")` helps in steps, `solution("04.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("04.1")

# %%
def posterior_variance(alpha_bar, alpha_bar_prev):
    beta = 1 - alpha_bar / alpha_bar_prev
    return beta * ...


check("04.1", posterior_variance)

# %%
exercise("04.2")

# %%
def posterior_mean(x0, xt, t, alphas_cumprod):
    ...


check("04.2", posterior_mean)

# %%
exercise("04.3")

# %%
index = ...

check("04.3", index)

# %%
exercise("04.4")

# %%
def mean_from_noise(xt, noise_pred, t, betas):
    ...


check("04.4", mean_from_noise)

# %%
exercise("04.5")

# %%
def reverse_step(xt, noise_pred, t, betas, noise):
    ...


check("04.5", reverse_step)

# %%
exercise("04.6")

# %%
def sample(model, shape, betas, generator):
    ...


check("04.6", sample)

# %% [markdown]
# ## What you now have

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.2, 2.3)
x_T, x_t, new, x_0 = card.row(
    ["$x_T$", "$x_t$", "$x_{t-1}$", "$x_0$"], 0.65, 0.7, 6.5,
    kinds=["noise", "data", "data", "data"], width=0.8,
)
guess = card.box(3.6, 1.95, r"average $\hat x_0$", kind="network", width=1.4)
card.arrow(x_T, x_t, "...", dashed=True)
card.arrow(x_t, new, "ddpm_step")
card.arrow(new, x_0, "...", dashed=True)
card.arrow(x_t.top, guess, "ask")
card.arrow(guess, new.top, "trust a little")
card.text(3.6, 0.15, "the whole chain: p_sample_loop, or step by step: p_sample_iter")
card.show(
    "From x_T to x_0 in small steps. In one step, ddpm_step, x_t asks the network for "
    "the average x_0 and trusts it a little on the way to x_{t-1}. The whole chain is "
    "p_sample_loop, or step by step p_sample_iter."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | A jump lands on an average. A small step trusts it a little and asks again. | `p_sample_loop` | Why not jump? |
# | If $x_0$ is known, the step back is Gaussian, with mean $c_0 x_0 + c_t x_t$ and variance $\tilde\beta_t$. | `q_posterior`, `posterior_coefficients` | (04.5), (04.6) |
# | With the noise in place of $x_0$, its mean is Algorithm 2's. | `ddpm_step(...).mean` | (04.7) |
# | You choose $\zeta_t^2$: $\tilde\beta_t$ is right for one point, $\beta_t$ for $N(0, I)$. Other data needs small steps. | `variance_type` | (04.8), (04.9) |
# | The last step adds no noise, by choice. | `alpha_bar_prev = 1` | The two ends |
#
# What you still lack is a network of your own, and pictures in fewer than 1,000 calls. Lesson 05 builds the network, lesson 06 cuts the calls.
#
# To read next: Ho et al. 2020, https://arxiv.org/abs/2006.11239, section 3.2. You can now redo its equations.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows stands on its own, section by section: pick what you need.

# %% [markdown]
# ### Computer algebra does the square
#
# If you do not trust two pages of algebra, let sympy collect the powers of $x_{t-1}$ in (04.3) and subtract (04.5) and (04.6).
# Both differences have to be 0, not small.

# %%
import sympy

x_then, clean, noisy = sympy.symbols("x_then clean noisy", real=True)
alpha, then = sympy.symbols("alpha then", positive=True)
beta, now = 1 - alpha, alpha * then
log_density = -(
    ((noisy - sympy.sqrt(alpha) * x_then) ** 2) / beta
    + (x_then - sympy.sqrt(then) * clean) ** 2 / (1 - then)
) / 2
minus_half_a, b, _ = sympy.Poly(sympy.expand(log_density), x_then).all_coeffs()
variance, mean = -1 / (2 * minus_half_a), -b / (2 * minus_half_a)
from_x0 = sympy.sqrt(then) * beta * clean / (1 - now)
from_xt = sympy.sqrt(alpha) * (1 - then) * noisy / (1 - now)

# %%
gaps = [
    sympy.simplify(variance - beta * (1 - then) / (1 - now)),
    sympy.simplify(mean - from_x0 - from_xt),
]
print("differences:", gaps)
assert gaps == [0, 0]

# %% [markdown]
# ### The same step as diffusers
#
# If you use diffusers, you will want to know whether its step is this one. It is. `DDPMScheduler.step` keeps its tables in float32. With our float64 tables put in, the same noise and `clip_sample=False`, both agree at every $t$ up to rounding.

# %%
from diffusers import DDPMScheduler


def largest_difference(variance_type):
    scheduler = DDPMScheduler(1000, variance_type=variance_type, clip_sample=False)
    scheduler.alphas_cumprod, scheduler.one = abar, torch.ones((), dtype=torch.float64)
    differences = []
    for t in range(1000):
        theirs = scheduler.step(eps_8, t, x_8, generator=make_generator(t)).prev_sample
        ours = ddpm_step(
            eps_8, x_8, abar[t], abar_prev[t],
            variance_type=variance_type, generator=make_generator(t),
        ).x_prev
        differences.append((ours - theirs).abs().max())
    return torch.stack(differences).max().item()


# %%
eps_8, x_8 = torch.randn(2, 4, 8, dtype=torch.float64, generator=generator)
for variance_type in ("fixed_small", "fixed_large"):
    difference = largest_difference(variance_type)
    assert difference <= 1e-10
    print(f"{variance_type}: largest absolute difference over all t below 1e-10")

# %% [markdown]
# ### The chain's variance, measured
#
# The core computed the variance at the end of a ten-step chain from a recursion. Here the package's loop is run and its variance measured, over 200,000 numbers, whose variance has a standard error of 0.3 %.
# The tolerance is 1 %, so that the check notices noise at the last step. It adds $\beta_1 = 0.028$, which is 2.9 % of the variance with $\beta_t$ and 4.1 % of that with $\tilde\beta_t$.

# %%
def gaussian(variance):
    return GaussianMixture(
        torch.ones(1).double(), torch.zeros(1, 2).double(),
        variance * torch.eye(2).double()[None],
    )


def drawn_by_loop(variance_type):
    return p_sample_loop(
        gaussian(1.0).model(ten.alphas_cumprod), (100_000, 2),
        ten.betas, ten.alphas, ten.alphas_cumprod,
        variance_type=variance_type, generator=make_generator(0), dtype=torch.float64,
    )


# %%
small = posterior_coefficients(ten.alphas_cumprod, ten.alphas_cumprod_prev)[2]
for variance_type, zeta2 in (("fixed_large", ten.betas), ("fixed_small", small)):
    drawn, wanted = drawn_by_loop(variance_type), final_variance(ten, zeta2)
    z = torch.randn(drawn.shape, generator=generator, dtype=drawn.dtype)
    noisy_end = drawn + ten.betas[0].sqrt() * z
    for name, points in (("as it is", drawn), ("noise at the end", noisy_end)):
        gap = points.var().item() / wanted - 1
        verdict = "passes" if abs(gap) < 0.01 else "fails"
        print(f"{variance_type}, {name}: {100 * gap:+.1f} %, {verdict}")

# %% [markdown]
# ### Ten steps with the right covariance
#
# The core blamed the shape of a long step, not only its variance. To see it, draw with the covariance of (04.8). A Gaussian with a given covariance is a matrix root of it (here Cholesky's) times standard noise.

# %%
def with_right_covariance(seed, n=20_000):
    random = make_generator(seed)
    x = torch.randn(n, 2, generator=random, dtype=torch.float64)
    for t in reversed(range(10)):
        now, then = ten.alphas_cumprod[t], ten.alphas_cumprod_prev[t]
        c_0, c_t, small = coefficients(now, then)
        mean = c_0 * moons.posterior_mean(x, now) + c_t * x
        right = small * torch.eye(2) + c_0**2 * moons.posterior_covariance(x, now)
        z = torch.randn(n, 2, 1, generator=random, dtype=torch.float64)
        x = mean + (t > 0) * (torch.linalg.cholesky(right) @ z)[..., 0]
    return x


report("right covariance",
       [moons.log_prob(with_right_covariance(seed)) for seed in range(5)])

# %% [markdown]
# Fewer points stray than with either variance of the core, but still nearly three times as many as in the data.

# %% [markdown]
# ### What the last step leaves out
#
# The core's loop ends with the estimate and adds nothing. At this step $c_0 = 1$ and $\tilde\beta_1 = 0$, so by (04.8) the right covariance is $\operatorname{Cov}(x_0 \mid x_1)$. How much is that?

# %%
for name in ("moons", "ring"):
    for s in (linear, ten):
        data, first = mixture(name), s.alphas_cumprod[:1]
        x_1 = data.at(first.item()).sample(4000, generator=make_generator(0))
        cov = data.posterior_covariance(x_1, first).diagonal(dim1=1, dim2=2)
        print(
            f"{name}, T = {len(s.betas):4d}: right variance {cov.mean():.5f}, which is "
            f"{cov.mean() / s.betas[0]:.3f} beta_1; its root {cov.mean().sqrt():.3f}"
        )

# %% [markdown]
# With 1,000 steps it is nearly $\beta_1$. With ten steps it is a half or two thirds of it, and leaving it out is part of the crowding that the core measured.

# %% [markdown]
# ### The right variance of other data, and a learned one
#
# The core worked (04.8) out for two kinds of data. What about others? Take data of mean 0 and variance $V$ per coordinate, and guess $x_0$ by $\sqrt{\bar\alpha_t}\,x_t$. The mean square error of this guess is
# $(1-\bar\alpha_t)^2 V + \bar\alpha_t(1-\bar\alpha_t)$, and if $V \le 1$ that is at most $1-\bar\alpha_t$. The mean $E[x_0 \mid x_t]$ is the best guess of all, so *on average over* $x_t$ the variance $\operatorname{Var}(x_0 \mid x_t)$ is no larger,
# and the averaged right variance lies between $\tilde\beta_t$ and $\beta_t$. Wider data may lie above $\beta_t$.

# %%
fifty = make_schedule("cosine", 50)
on_x0, _, small = coefficients(fifty.alphas_cumprod, fifty.alphas_cumprod_prev)


def right_variance(data, t):
    now = fifty.alphas_cumprod[t : t + 1]
    xt = data.at(now.item()).sample(20_000, generator=make_generator(t))
    spread = data.posterior_covariance(xt, now).diagonal(dim1=1, dim2=2).mean()
    return small[t] + on_x0[t] ** 2 * spread


ring = mixture("ring")
size = (ring.weights[:, None] * ring.means**2).sum(0).mean() + ring.covariances[0, 0, 0]
unit_ring = GaussianMixture(
    ring.weights, ring.means / size.sqrt(), ring.covariances / size
)

# %%
indices = torch.arange(50)
kinds = {
    "N(0, 4 I)": gaussian(4.0), "N(0, I)": gaussian(1.0),
    "ring, variance 1": unit_ring, "one point": gaussian(0.0),
}
ratios = {
    name: torch.stack([right_variance(data, t) for t in range(50)]) / fifty.betas
    for name, data in kinds.items()
}
assert_close(ratios["N(0, I)"], torch.ones(50).double())
assert_close(ratios["one point"], small / fifty.betas)
fig = plotting.lines(
    indices, ratios, xlabel="index t", ylabel=r"right variance / $\beta_t$",
    title="Fifty steps: variance up to 1 stays at or below beta, 4 does not",
)
show(fig, alt=(
    "Right variance over beta against the index. N(0, I): 1 everywhere. N(0, 4 I): "
    "above 1, up to 1.05 near index 35. The ring: below 1, down to 0.82 at index 3. "
    "One point, the lowest: from 0 at index 0 up to 1."
))
print({name: f"{r.min():.2f} to {r.max():.2f}" for name, r in ratios.items()})

# %% [markdown]
# The lowest curve is $\tilde\beta_t/\beta_t$, so between it and 1 lies all that the choice can change: much in the last few steps of a chain, little before.
#
# A network can learn where between the two its data lies. Nichol & Dhariwal (arXiv 2102.09672, eq. 15) let it output a number $u$ per coordinate (their $v$) and interpolate in logarithms:
#
# $$\zeta_t^2 = \exp\left(u\log\beta_t + (1-u)\log\tilde\beta_t\right) \tag{04.10}$$
#
# At most $t$ the two bounds are so close together that a network which outputs the variance itself would have to hit a very narrow interval; $u$ spreads that interval out.
# The noise loss does not contain $\zeta_t$, so their training adds $0.001$ times the bound of lesson 03, and lets that part move $u$ only, not the mean. For a mixture you can solve for $u$ instead of learning it:

# %%
low, high = small[1:].log(), fifty.betas[1:].log()
best_u = {
    name: ((ratio * fifty.betas)[1:].log() - low) / (high - low)
    for name, ratio in ratios.items() if name != "N(0, 4 I)"
}
fig = plotting.lines(
    indices[1:], best_u, xlabel="index t", ylabel="best $u$",
    title="The best u depends on the data and on t",
)
show(fig, alt=(
    "Best u against the index. N(0, I): 1 everywhere. One point: 0 everywhere. The "
    "ring: 0.87 at index 1, down to 0.52 at index 5, and 1 from index 35 on."
))
print(f"lowest u of the ring: {best_u['ring, variance 1'].min():.2f}")

# %% [markdown]
# Read the ring's curve from the right. Under much noise it looks like one wide Gaussian, and $u = 1$. With less noise $x_t$ tells which of the eight blobs it came from,
# and a blob is almost a point, so $u$ falls to about one half. With very little noise even a blob is wide and flat: $x_0$ may be anywhere around $x_t$, and $u$ rises again.
# Only data without any width, such as a pixel that never changes, keeps $u = 0$ to the end. This course stays with the two fixed choices.

# %% [markdown]
# ### Clipping the estimate
#
# Samplers of pictures often clamp the estimate to $[-1, 1]$, and you should know what that does. The estimate divides by $\sqrt{\bar\alpha_t}$, so it multiplies every error of the network, at the first step by 157.
# `ddpm_step` clamps with `clip_x0=1.0`. Then "estimate $x_0$, then the posterior" and Algorithm 2 are no longer the same step, because (04.7) has no $x_0$ to clip.
# The next cell gives the network an error of standard deviation 0.1 on real digits and measures how far the two means are apart.

# %%
some = load_dataset("digits").images.double()[:64]
z, error = torch.randn(2, 64, 1, 8, 8, dtype=torch.float64, generator=generator)
gap, overshoot = [], []
for t in range(0, 1000, 20):
    noisy_digits = abar[t].sqrt() * some + (1 - abar[t]).sqrt() * z
    free, clipped = (
        ddpm_step(
            z + 0.1 * error, noisy_digits, abar[t], abar_prev[t], z, clip_x0=clip
        )
        for clip in (None, 1.0)
    )
    gap.append((free.mean - clipped.mean).abs().max())
    overshoot.append(free.x0_pred.abs().max())
gap, overshoot = torch.stack(gap), torch.stack(overshoot)
print(f"the estimate reaches {overshoot.max():.0f}")
print(f"one step moves by {gap.min():.4f} to {gap.max():.4f}")

# %% [markdown]
# The estimate overshoots far, and yet one step moves by little, because $c_0$ is small there. But the chain takes a thousand such steps. Which of the two is better is an empirical matter:
# clipping is a habit of image models that guards against a weak network.
#
# It is wrong for data that leaves $[-1, 1]$. diffusers' `DDPMScheduler` has `clip_sample=True` by default ([its documentation](https://huggingface.co/docs/diffusers/api/schedulers/ddpm)), and points or latents that leave the range are bent by such a clamp:

# %%
clipped = {
    name: p_sample_loop(
        ring.model(fifty.alphas_cumprod), (800, 2),
        fifty.betas, fifty.alphas, fifty.alphas_cumprod,
        clip_x0=clip, generator=make_generator(7), dtype=torch.float64,
    )
    for name, clip in (("not clipped", None), ("clipped to [-1, 1]", 1.0))
}
for name, points in clipped.items():
    outside = (points.abs() > 1.1).any(1).double().mean()
    print(f"{name:18s} share of points beyond 1.1 in a coordinate: {outside:.3f}")
fig = plotting.scatter_2d(
    clipped, limit=2.2, title="Clipping pushes a ring of radius 1.5 into a square"
)
show(fig, alt=(
    "Left: eight blobs on a circle of radius 1.5. Right: clipped, the points are "
    "pushed into the square from -1 to 1 and pile up on its border."
))

# %% [markdown]
# ### Train a network in front of you
#
# The digits of the core came from a shipped network. This one you train now: a small U-Net, digits at their own 8x8 pixels, the loss of lesson 03, 1,000 steps. The shipped one has twice the width, 16x16 pixels and 8,000 steps of the same `train`.

# %% tags=["nbval-ignore-output"]
from diffusion_course import UNet, train

torch.manual_seed(0)
tiny = UNet(channels=16)
losses, num_steps = [], 1000
with Progress(num_steps, "training") as bar:
    for state in train(
        tiny, load_dataset("digits").images, linear, num_steps=num_steps,
        batch_size=64, learning_rate=3e-3, ema_decay=0.99, report_every=10,
    ):
        losses.append(state.loss)
        bar.update(10, message=f"loss {state.loss:.3f}")
print(f"{sum(p.numel() for p in tiny.parameters()):,} weights")
print(f"loss of the first ten steps {losses[0]:.2f}, of the last ten {losses[-1]:.2f}")

# %%
trained = p_sample_loop(
    state.ema_model, (16, 1, 8, 8), *tables, generator=make_generator(1)
)
fig = plotting.image_grid(
    trained, columns=8, title="Sixteen digits from a network that you trained"
)
show(fig, alt=(
    "Sixteen pictures of 8x8 pixels in two rows; most have strokes like handwritten "
    "digits, some are malformed."
))

# %% [markdown]
# ### To read further
#
# - Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672: section 3.1 for the learned variance, and its plot of $\tilde\beta_t/\beta_t$.
# - Bao et al. 2022, https://arxiv.org/abs/2201.06503: the right variance of (04.8), estimated for trained networks.
