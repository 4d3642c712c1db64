# %% [markdown]
# # 06 · Scores, ODEs and fast samplers
#
# After this lesson you can:
#
# - draw a digit with ten calls of the network instead of a thousand,
# - derive DDIM from one idea: predict $x_0$, then leap,
# - see in a picture where a leap may be long: where its path is straight,
# - raise the order of a sampler, with Heun and with DPM-Solver++(2M), and measure that order,
# - recognise the published mistakes of short loops by the damage they do.
#
# You need: lessons 01 to 04. The optional part Going further holds the theory: score, stochastic differential equation (SDE), probability flow.
#
# **Measured cost:** 0.7 min on 2 cores, 0.9 GB of memory at the peak. Core: about 23 minutes of reading, 0.3 of computing. Going further: about 22 and 0.5.
#
# In formulas $t$ runs from 1 to $T$ as in the papers, and $\bar\alpha_0 = 1$ is clean data. In code `t` is the index $0..T-1$, one less.

# %%
import math
from itertools import pairwise

import torch
from torch.testing import assert_close

from diffusion_course import (
    Estimate,
    GaussianMixture,
    Level,
    Progress,
    SamplerStep,
    ddim_step,
    dpmpp_2m_step,
    inference_timesteps,
    iterate_levels,
    load_pretrained,
    make_generator,
    make_schedule,
    mixture,
    noise_levels,
    plotting,
    posterior_coefficients,
    sample_loop,
    seed_everything,
    show,
    show_source,
    to_x0_and_noise,
)
from diffusion_course.notebook import COLORS, Drawing, figure, panels

generator = seed_everything(0)
linear, network = make_schedule("linear", 1000), load_pretrained("digits")
abar, abar_prev = linear.alphas_cumprod, linear.alphas_cumprod_prev

# %% [markdown]
# ## Why not skip the steps?
#
# A digit in lesson 04 took a thousand calls of the network, and neighbouring noise levels are nearly the same.
# So why not keep every fiftieth step and skip the rest?
#
# Try it with Algorithm 2 of lesson 04, at the indices 999, 949, ..., 49.

# %%
noise = torch.randn(8, 1, 16, 16, generator=generator)


def every_fiftieth(beta_at):
    x, random = noise, make_generator(0)
    for t in range(999, 0, -50):
        with torch.no_grad():
            eps = network(x, torch.full((8,), t))
        beta = beta_at(t)
        mean = (x - beta / (1 - abar[t]).sqrt() * eps) / (1 - beta).sqrt()
        z = torch.randn(x.shape, generator=random)
        x = mean + (t > 49) * beta.sqrt() * z
    return x


skipped = every_fiftieth(lambda t: linear.betas[t])

# %%
def digits(sampler, n, x_init=noise, seed=1, **options):
    return sample_loop(
        network, tuple(x_init.shape), linear, sampler=sampler, x_init=x_init,
        num_inference_steps=n, clip_x0=1.0, generator=make_generator(seed), **options,
    )


rows = {
    "skip, 20 calls": skipped,
    "another beta, 20": every_fiftieth(
        lambda t: 1 - abar[t] / (abar[t - 50] if t > 49 else 1)
    ),
    "the package, 20": digits("ddpm", 20),
    "the package, 5": digits("ddpm", 5),
}
fig = plotting.image_strip(
    list(rows.values()), row_labels=list(rows),
    title="Skipping leaves noise; another beta mends it; five calls are few",
)
show(fig, alt=(
    "Four rows of eight pictures. Skip, 20 calls: noise. The same lines with another "
    "beta: digits. The package, 20 calls: digits. The package, 5 calls: digits whose "
    "strokes are grey and blurred."
))

# %% [markdown]
# The first row is noise, because the table's $\beta_t$ belongs to *one* step: the loop removes the noise of twenty steps out of a thousand.
# A step from the level $\bar\alpha$ to $\bar\alpha_{\text{prev}}$ has the $\beta$ of that pair of levels, however far apart they are. Since $\bar\alpha = (1-\beta)\,\bar\alpha_{\text{prev}}$, it is
# $\beta = 1 - \bar\alpha/\bar\alpha_{\text{prev}}$. The second row runs the same lines with this $\beta$. `sampler="ddpm"` takes it too, with the noise $\tilde\beta$ of lesson 04 and a clipped $\hat x_0$.
#
# But a long step back is not Gaussian (lesson 04). What does that cost? With an exact network for the moons every error belongs to the loop. We count the points off the arcs, where 1 % of the data lies:

# %%
moons = mixture("moons")
exact = moons.model(abar)
levels = moons.log_prob(moons.sample(20_000, generator=make_generator(6)))
floor = levels.quantile(0.01)
starts = torch.randn(5000, 2, dtype=torch.float64, generator=make_generator(2))


def moons_in(n, sampler, **options):
    return sample_loop(
        exact, (5000, 2), linear, sampler=sampler, num_inference_steps=n,
        x_init=starts, generator=make_generator(3), **options,
    )


def strays(x):  # five groups of a thousand
    off = (moons.log_prob(x) < floor).double().view(5, -1).mean(1)
    return f"{off.mean():.3f} (error {off.std() / 5**0.5:.3f})"

# %%
for t, then in ((999, 949), (499, 449)):
    pair = 1 - abar[t] / abar[then]
    print(
        f"from {t} to {then}: beta of the pair {pair:.3f}, "
        f"of the table {linear.betas[t]:.4f}"
    )
ancestral = {n: moons_in(n, "ddpm") for n in (50, 20, 10)}
for n, points in ancestral.items():
    print(f"{n} steps with fresh noise: off the arcs {strays(points)}")

# %% [markdown]
# With ten steps one point in five goes astray. (With 50 fewer go astray than in the data: the points keep too close to the arcs.) Can we take the same few steps in a better way?

# %% [markdown]
# ## Recall
#
# 1. From lesson 02: write $x_t$ with $x_0$ and a noise $\epsilon$.
# 2. From lesson 04: why is a long step back not Gaussian?
#
# <details><summary>Answers</summary>
#
# 1. $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$. The signal is multiplied by $\sqrt{\bar\alpha_t}$, the noise by $\sqrt{1-\bar\alpha_t}$.
# 2. Several places in the data fit one $x_t$. A short step need not choose among them, a long one must, and a single bell cannot choose, not even with the right covariance (04.8).
#
# </details>

# %% [markdown]
# ## Predict first
#
# Perhaps the fresh noise does the harm. So leave it out: keep the mean of lesson 04, with the $\beta$ of the pair, and add nothing.
# After 20 such steps, will the spread of the points be "narrower" than that of the moons, the "same", or "wider"?

# %%
my_prediction = "same"  # "narrower", "same" or "wider"


def mean_only(denoise, xt, move):
    estimate = denoise(xt, move.now)
    pair = torch.tensor([move.now.alpha_bar, move.then.alpha_bar]).double()
    c_0, c_t, _ = posterior_coefficients(*pair)
    return SamplerStep(c_0 * estimate.x0 + c_t * xt, estimate)

# %%
twenty = {
    "with its noise": ancestral[20],
    "its mean alone": moons_in(20, mean_only),
    "this lesson": moons_in(20, "ddim"),
}
spread = {name: points.std(0).mean().item() for name, points in twenty.items()}
data = moons.sample(20_000, generator=make_generator(6))
ratio = spread["its mean alone"] / data.std(0).mean()
answer = "narrower" if ratio < 0.9 else "wider" if ratio > 1.1 else "same"
verdict = "as you said" if my_prediction == answer else f"you said {my_prediction}"
print(f"its mean alone is {answer} ({verdict}): {ratio:.2f} of the spread of the data")
print("this lesson: off the arcs", strays(twenty["this lesson"]))
fig = plotting.scatter_2d(
    {name: x[:1500] for name, x in twenty.items()}, limit=2.5,
    title="Twenty steps: without its noise the old step collapses",
)
show(fig, alt=(
    "Three scatter plots after 20 steps. With its noise: two arcs with a few strays. "
    "Its mean alone: one small blot. This lesson: two arcs with a few strays."
))

# %% [markdown]
# The mean of that step pulls the points together, and its noise has to spread them again. A step that does without noise must be another step.

# %% [markdown]
# ## Predict $x_0$, then leap
#
# What we lack is a step to *any* lower level that asks for no fresh noise. Here is one, in two hops. The network names the noise $\hat\epsilon$ in $x_t$.
# **Hop 1** takes all of it away, which gives the estimate $\hat x_0$. Lesson 04 showed that you must not stop there. **Hop 2** goes back up, to the level you want, with the closed form of lesson 02 and with *the same* noise.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = Drawing(7.4, 2.35, "A leap: two hops, one call of the network")
shape = "(B, 1, 16, 16)"
x_t, x_prev, x_0 = drawing.row(
    ["$x_t$", r"$x_{\mathrm{prev}}$", r"$\hat x_0$"], 0.75, 0.9, 6.5, kinds="data",
    notes=[shape] * 3, width=0.9,
)
net = drawing.box(0.9, 1.95, "network", kind="network", width=0.95, height=0.4)
eps = drawing.box(3.7, 1.95, r"$\hat\epsilon$", kind="noise", width=0.6, height=0.4)
drawing.arrow(x_t.top, net)
drawing.arrow(net, eps, "names the noise")
drawing.arrow(eps, x_0.top, "hop 1: take it all away", via=[(6.5, 1.95)])
drawing.arrow(eps.bottom, x_prev.top, "hop 2")
drawing.arrow(x_0, x_prev, "hop 2: put back less of it")
drawing.arrow(x_t, x_prev, "the leap", dashed=True)
for box, text in ((x_t, "much noise"), (x_prev, "less noise"), (x_0, "none")):
    drawing.text(box.x, 0.12, text)
drawing.show(
    "The network looks at x_t and names its noise. Hop 1 takes all of the noise away, "
    "which gives the estimate of x_0. Hop 2 puts back less of the same noise, which "
    "gives x_prev, at a level between the two. All have the shape of x_t."
)

# %% [markdown]
# In symbols (arXiv 2010.02502, eq. 12, without its noise):
#
# $$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha}\,\hat\epsilon}{\sqrt{\bar\alpha}}, \qquad
# x_{\text{prev}} = \sqrt{\bar\alpha_{\text{prev}}}\,\hat x_0 + \sqrt{1-\bar\alpha_{\text{prev}}}\,\hat\epsilon \tag{06.1}$$
#
# **By hand.** At $\bar\alpha = 0.36$ you are at $x_t = 1$ and the network says $\hat\epsilon = 0.5$. Hop 1: $\hat x_0 = (1 - 0.8 \cdot 0.5)/0.6 = 1$.
# Hop 2, to $\bar\alpha_{\text{prev}} = 0.64$: $x_{\text{prev}} = 0.8 \cdot 1 + 0.6 \cdot 0.5 = 1.1$. At the last leap $\bar\alpha_{\text{prev}} = 1$, and hop 2 puts nothing back.
#
# This is DDIM, and these are all its lines:

# %%
def leap(xt, eps, now, then):
    x0_pred = (xt - (1 - now) ** 0.5 * eps) / now**0.5
    return then**0.5 * x0_pred + (1 - then) ** 0.5 * eps, x0_pred


print(f"by hand: {leap(1.0, 0.5, 0.36, 0.64)[0]:.3f}")
times = inference_timesteps(1000, 20).tolist()
stations = [*abar[times].tolist(), 1.0]  # 21 levels, the last one clean
x = starts
for t, (now, then) in zip(times, pairwise(stations), strict=True):
    x, x0_pred = leap(x, exact(x, torch.full((5000,), t)), now, then)
assert_close(x, twenty["this lesson"])
print("these lines and sample_loop draw the same 5,000 points")

# %% [markdown]
# Follow the two hops of one point, over five leaps. At first nearly all the noise goes back and the leap is short; the last leap ends at its cross.

# %%
fig, ax = figure(5.6, 3.6)
ax.scatter(*moons.sample(1000, generator=make_generator(6)).T, s=4, color="#BBBBBB")
few, x = inference_timesteps(1000, 5).tolist(), torch.tensor([[2.0, 1.4]]).double()
places = [x]
for t, (now, then) in zip(few, pairwise([*abar[few].tolist(), 1.0]), strict=True):
    x, x0_pred = leap(x, exact(x, torch.tensor([t])), now, then)
    ax.plot(*torch.cat([places[-1], x0_pred]).T, ":", color=COLORS[7])
    ax.plot(*torch.cat([x0_pred, x]).T, color=COLORS[1], linewidth=1)
    ax.plot(*x0_pred.T, "x", color=COLORS[1])
    places.append(x)
ax.plot(*torch.cat(places).T, "o-", color=COLORS[0], linewidth=1.8)
ax.annotate("start", places[0][0], (8, -3), textcoords="offset points")
ax.set(xlabel="first coordinate", ylabel="second coordinate")
ax.set_title("Dotted: hop 1, to the cross. Orange: hop 2. Blue: the leaps", loc="left")
show(fig, alt=(
    "A point starts at upper right and comes close to an arc in five leaps. From each "
    "place a dotted line runs to a cross, the estimate of x_0, and a solid line back "
    "to the next place. The crosses move from the moons' centre towards that arc."
))

# %% [markdown]
# ## Why the same noise may go back
#
# Nobody trained the network for such steps. But look at what it *was* trained on. The loss of lesson 03 draws $x_0$, $\epsilon$ and a level, and computes $x_t$ by the closed form.
# It never looks at a chain. So every way of walking that keeps the closed form true at each level fits the network you have.
#
# Take any two levels, and suppose that $x_0$ is known. Then $\epsilon = (x_t - \sqrt{\bar\alpha}\,x_0)/\sqrt{1-\bar\alpha}$ is known too. Keep a part of it and top it up with fresh noise $z$ of size $\zeta$ (arXiv 2010.02502, eq. 7):
#
# $$\begin{gathered}
# x_{\text{prev}} = \sqrt{\bar\alpha_{\text{prev}}}\,x_0 + \sqrt{1-\bar\alpha_{\text{prev}}-\zeta^2}\;\epsilon + \zeta\,z, \\
# 0 \le \zeta^2 \le 1-\bar\alpha_{\text{prev}}
# \end{gathered} \tag{06.2}$$
#
# Given $x_0$, both $\epsilon$ and $z$ are standard normal and independent. So the two noise terms add up to a Gaussian of variance $(1-\bar\alpha_{\text{prev}}-\zeta^2) + \zeta^2 = 1-\bar\alpha_{\text{prev}}$, which is the closed form at the new level.
# So it passes from level to level, whatever allowed $\zeta$ you choose at each. The paper chooses it by a knob $\eta$ between 0 and 1 (eq. 16):
#
# $$\zeta = \eta\,\sqrt{\tilde\beta}, \qquad \tilde\beta = \frac{1-\bar\alpha_{\text{prev}}}{1-\bar\alpha}\Big(1-\frac{\bar\alpha}{\bar\alpha_{\text{prev}}}\Big) \tag{06.3}$$
#
# At $\eta = 1$ it is the posterior of lesson 04 (Going further has the algebra, and checks). At $\eta = 0$ no fresh noise is left: that is the leap.

# %% [markdown]
# A sampler has only the estimates $\hat x_0$ and $\hat\epsilon$. So the argument permits long leaps, but does not say how good they are. Measure it:

# %%
for n in (5, 10, 20, 50):
    found = [f"eta {e}: {strays(moons_in(n, 'ddim', eta=e))}" for e in (0.0, 0.5, 1.0)]
    print(f"{n:2d} calls, off the arcs,", ", ".join(found))
assert_close(moons_in(20, "ddim", eta=1.0), ancestral[20])
print("eta 1 draws the 5,000 points of the ancestral sampler")

# %% [markdown]
# With 5 to 20 calls the leap ($\eta = 0$) sends slightly fewer points astray than $\eta = 1$, with 50 no fewer. So what have you won? A *path*: without fresh noise the start alone decides where a point ends, and a path can be followed better than this.
# The next three sections do that, and bring the 0.030 of 20 calls down to 0.017.

# %% [markdown]
# ## Where the path is straight
#
# To follow a path better we must see it. Divide the closed form by $\sqrt{\bar\alpha_t}$. What is left is clean data plus noise of standard deviation $\sigma$, the noise level of lesson 02:
#
# $$\hat x = \frac{x_t}{\sqrt{\bar\alpha_t}} = x_0 + \sigma\epsilon, \qquad \sigma = \sqrt{\frac{1-\bar\alpha_t}{\bar\alpha_t}} \tag{06.4}$$
#
# Divide (06.1) by $\sqrt{\bar\alpha_{\text{prev}}}$. It becomes $\hat x_{\text{prev}} = \hat x_0 + \sigma_{\text{prev}}\,\hat\epsilon$, and since $\hat x_0 = \hat x - \sigma\hat\epsilon$,
#
# $$\hat x_{\text{prev}} = \hat x + (\sigma_{\text{prev}} - \sigma)\,\hat\epsilon \tag{06.5}$$
#
# Read this as a walk on a map with $\sigma$ across and $\hat x$ upwards. A leap is a straight line of slope $\hat\epsilon$. Ever shorter leaps follow a curve whose slope is $\hat\epsilon$ everywhere:
#
# $$\frac{d\hat x}{d\sigma} = \hat\epsilon \tag{06.6}$$
#
# This is a differential equation, and to follow it by straight pieces is *Euler's method*: DDIM is Euler.
# (Up to a factor the noise is also the *score*, the gradient of the log-density of $x_t$: $s_t(x) = -\hat\epsilon/\sqrt{1-\bar\alpha_t}$. Going further comes to (06.6) from there.)
#
# Where the path is straight, one leap follows it exactly, however long; where it bends, the leap leaves it.

# %%
def bells(*places, variance):
    count, means = len(places), torch.tensor(places).double()[:, None]
    covariances = torch.full((count, 1, 1), variance).double()
    return GaussianMixture(torch.full((count,), 1 / count).double(), means, covariances)


def slope(data, xhat, sigma):
    level = 1 / (1 + sigma**2)
    return data.noise_prediction(level**0.5 * xhat, level)


def euler_walk(data, xhat, sigmas):  # all states, the first one too
    states = [xhat]
    for now, then in pairwise(sigmas):
        states.append(states[-1] + (then - now) * slope(data, states[-1], now))
    return torch.stack(states)


fine = torch.linspace(3, 0, 301).tolist()

# %%
cases = {
    "one point: straight": bells(1.0, variance=0.0),
    "N(0, 1): bent": bells(0.0, variance=1.0),
    "-1 or 1: bent": bells(-1.0, 1.0, variance=0.01),
}
crowd = torch.linspace(-4.5, 4.5, 10).double()[:, None]
fig, axes = panels(
    list(cases), "A leap (dashed) follows a straight path and leaves a bent one",
    width=2.0, height=2.3, xlabel=r"$\sigma$", ylabel=r"$\hat x$",
)
for ax, data in zip(axes, cases.values(), strict=True):
    ax.plot(fine, euler_walk(data, crowd, fine)[..., 0], color=COLORS[0], linewidth=0.9)
    one_leap = euler_walk(data, crowd[8:9], [3, 0])
    ax.plot([3, 0], one_leap[..., 0], "--", color=COLORS[1])
    error = (one_leap[-1] - euler_walk(data, crowd[8:9], fine)[-1]).abs()
    ax.annotate(f"one leap errs by {error.item():.2f}", (0.3, -5.6), fontsize=9)
axes[0].set(ylim=(-6, 6))
show(fig, alt=(
    "Three maps of x-hat against sigma from 3 to 0. One point: straight lines meet at "
    "1, and a leap follows one exactly. N(0, 1): the paths flatten below sigma 1 and "
    "a leap ends too low. -1 or 1: paths bend away from 0 near sigma 1, then run "
    "straight to one of the two values."
))

# %% [markdown]
# The paths bend where the estimate $\hat x_0$ changes. While $\sigma$ is much larger than the data, $\hat x_0$ stays near the centre: the paths are nearly straight, and leaps may be long. On the right map they are straight again once a path has chosen its side.
#
# **By hand, on the middle map.** For $x_0 \sim N(0, 1)$ lesson 04 found $\hat x_0 = \sqrt{\bar\alpha_t}\,x_t = \hat x/(1+\sigma^2)$, so $\hat\epsilon = (\hat x - \hat x_0)/\sigma = \frac{\sigma}{1+\sigma^2}\,\hat x$. Start at $\sigma = 3$, $\hat x = 3$, where $\hat\epsilon = 0.9$:
#
# - one leap to $\sigma = 0$: $3 - 3 \cdot 0.9 = 0.3$;
# - two leaps, $\sigma = 3, 1, 0$: $3 - 2 \cdot 0.9 = 1.2$, where $\hat\epsilon = 0.6$, then $1.2 - 1 \cdot 0.6 = 0.6$.
#
# The true end: the curve $\hat x = c\sqrt{1+\sigma^2}$ has the slope $\frac{\sigma}{1+\sigma^2}\hat x$, so it is a path, and it ends at $c$. Ours has $c = 3/\sqrt{10} = 0.949$.

# %%
normal, three = cases["N(0, 1): bent"], torch.tensor([[3.0]]).double()
for count in (1, 2, 10, 300):
    sigmas = [3, 1, 0] if count == 2 else torch.linspace(3, 0, count + 1).tolist()
    print(f"{count:3d} leaps end at {euler_walk(normal, three, sigmas)[-1].item():.3f}")
gap = (moons_in(20, "ddim") - moons_in(20, "euler")).abs().max()
assert gap < 1e-11
print("the package's ddim and euler differ by less than 1e-11 on the moons")

# %% [markdown]
# ## Heun: look before you walk
#
# Ten leaps still miss the end by a tenth. How does the error depend on the step? Expand the true path around $\sigma$, for a step $h = \sigma_{\text{prev}} - \sigma$, with primes for derivatives in $\sigma$:
#
# $$\hat x(\sigma + h) = \hat x + h\,\hat x' + \tfrac12 h^2 \hat x'' + O(h^3) \tag{06.7}$$
#
# Euler keeps two terms and errs by $O(h^2)$ in a step. The equation carries such an error to the end and, if the slope changes smoothly, multiplies it by at most a constant.
# The number of steps grows as $1/|h|$, so their errors add up to $O(h)$: twice the steps, half the error. The method is *of order 1*.
#
# To catch the next term you need the change of the slope. Take Euler's step as a trial, ask for the slope where it lands, which is $\hat x' + h\hat x'' + O(h^2)$, and walk with the mean of both (arXiv 2206.00364, Algorithm 1):
#
# $$\hat x_{\text{prev}} = \hat x + h\,\frac{\hat\epsilon + \hat\epsilon_{\text{trial}}}{2} = \hat x + h\,\hat x' + \tfrac12 h^2 \hat x'' + O(h^3) \tag{06.8}$$
#
# Now a step errs by $O(h^3)$ and the end by $O(h^2)$: order 2. By hand, for $N(0, 1)$ from $\sigma = 2$, $\hat x = 5$ to $\sigma = 1$: the slope is 2, the trial lands at 3, where the slope is 1.5. The mean is 1.75, so Heun ends at 3.25.

# %%
fig, ax = figure(5.4, 3.0)
sigmas = torch.linspace(0, 2.2, 200)
ax.plot(sigmas, (5 * (1 + sigmas**2)).sqrt(), color="black", label="true path")
ax.plot([2, 1], [5, 3], "o--", color=COLORS[1], label="Euler, the trial")
ax.plot([1, 0.6], [3, 2.4], ":", color=COLORS[1], label="slope at the trial")
ax.plot([2, 1], [5, 3.25], "o-", color=COLORS[0], label="Heun, the mean slope")
ax.set(xlabel=r"$\sigma$", ylabel=r"$\hat x$")
ax.legend(loc="upper left")
ax.set_title("From 2 to 1: Euler falls below the path, Heun ends closer", loc="left")
show(fig, alt=(
    "The true path curves from 5 at sigma 2 to 3.16 at sigma 1. Euler's straight step "
    "ends below it, at 3, where the slope is flatter. Heun's step, with the mean of "
    "both slopes, ends at 3.25, a little above the path."
))
print(f"at sigma = 1 the path is at {5 / 5**0.5 * 2**0.5:.3f}")

# %% [markdown]
# Order speaks of small steps: from $\sigma = 3$, $\hat x = 3$ to $\sigma = 1$ Heun ends at 1.5 and Euler at 1.2, about equally far from the path at 1.34. Heun's price is a second call of the network in each step. Only the last step, to $\sigma = 0$, stays Euler's, as no noise is left to look at. These lines are exercise 06.3.

# %% [markdown]
# ## DPM-Solver++(2M): remember instead
#
# A second call shows how things change. So does the call of the step *before*, which is already paid. To use it, put $\hat\epsilon = (\hat x - \hat x_0)/\sigma$ into (06.5). A leap becomes a weighted mean of where you are and of the estimate,
# $\hat x_{\text{prev}} = \frac{\sigma_{\text{prev}}}{\sigma}\,\hat x + \big(1 - \frac{\sigma_{\text{prev}}}{\sigma}\big)\,\hat x_0$.
#
# DDIM acts as if $\hat x_0$ stayed the same during the leap. But it moves, and the step before tells how fast. So use $D$ in its place, the $\hat x_0$ that you expect half-way. Half-way on which clock? On $\lambda = -\log\sigma$, where halving $\sigma$ always takes equally long. On a path of $N(0, 1)$:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
def estimate_at(clock):  # x0_pred on the path of N(0, 1) that ends at 1
    return (1 + torch.as_tensor(-2 * clock).exp()) ** -0.5


fig, ax = figure(5.6, 2.9)
clock = torch.linspace(-2, 0.6, 200)
ax.axvspan(-0.5, 0.3, color="#EEEEEE", zorder=0)
ax.plot(clock, estimate_at(clock), color="black", label=r"$\hat x_0$ on the path")
held, was = estimate_at(-0.5).item(), estimate_at(-1.5).item()
ahead = held + 0.4 * (held - was)  # (06.9) with h = 0.8, h_before = 1
ax.plot([-0.5, 0.3], [held] * 2, "--", color=COLORS[1], label="DDIM: as it is now")
ax.plot([-1.5, -0.5, -0.1], [was, held, ahead], "o:", color=COLORS[0], label="2M: $D$")
ax.legend(loc="upper left")
for x, y, text in ((-1.5, was, "before"), (-0.5, held, "now"), (-0.1, ahead, "$D$")):
    ax.annotate(text, (x, y), (6, -12), textcoords="offset points")
ax.set(xlabel=r"$\lambda$", ylabel=r"$\hat x_0$")
ax.set_title("In the step (grey) the estimate rises, and $D$ rises with it", loc="left")
show(fig, alt=(
    "The estimate of x_0 rises with lambda along a curve with the points before and "
    "now. A line through both runs on to the middle of the next step: there lies D, "
    "close below the curve. DDIM's level, the estimate of now, lies much lower."
))

# %% [markdown]
# In symbols, with $h$ for the length of this leap on that clock, and $h_{\text{before}}$ for that of the leap before:
#
# $$D = \hat x_0 + \frac{h}{2}\cdot\frac{\hat x_0 - \hat x_0^{\text{before}}}{h_{\text{before}}}, \qquad h = \lambda_{\text{prev}} - \lambda \tag{06.9}$$
#
# $$\hat x_{\text{prev}} = \frac{\sigma_{\text{prev}}}{\sigma}\,\hat x + \Big(1 - \frac{\sigma_{\text{prev}}}{\sigma}\Big)\,D \tag{06.10}$$
#
# This is Algorithm 2 of arXiv 2211.01095. It is of order 2 (Going further shows why), with one call in a step. The first step has nothing to remember, and on the step to clean data $h$ is infinite: both use $D = \hat x_0$.
#
# Here are its lines on a ring of eight blobs, from $\sigma = 20$ to $0.1$, against the package's:

# %%
ring = mixture("ring")
begin = ring.at(1 / 401).sample(200, generator=make_generator(3)) * 401**0.5  # xhat


def remember(data, xhat, sigmas):
    before, h_before = None, None
    for now, then in pairwise(sigmas):
        x0_pred = xhat - now * slope(data, xhat, now)
        h = math.log(now / then)
        direction = x0_pred
        if before is not None:
            direction = x0_pred + h / (2 * h_before) * (x0_pred - before)
        xhat = then / now * xhat + (1 - then / now) * direction
        before, h_before = x0_pred, h
    return xhat

# %%
def denoiser(data):
    def denoise(xt, level):
        eps = data.noise_prediction(xt, level.alpha_bar)
        return Estimate(to_x0_and_noise(eps, xt, level.alpha_bar, "epsilon")[0], eps)

    return denoise


def follow(sampler, count):  # evenly in lambda, from sigma = 20 to 0.1
    sigmas = torch.logspace(math.log10(20), -1, count + 1, dtype=torch.float64).tolist()
    path = [Level(None, 1 / (1 + s**2)) for s in sigmas]
    *_, end = iterate_levels(denoiser(ring), begin / 401**0.5, path, sampler=sampler)
    return end.x * 1.01**0.5, sigmas


theirs, sigmas = follow("dpmpp_2m", 12)
assert_close(remember(ring, begin, sigmas), theirs)
print("these lines and dpmpp_2m_step end at the same 200 points")
show_source(dpmpp_2m_step)

# %% [markdown]
# ## Measure the order, and count calls
#
# "Order 2" was a claim on paper. Follow the 200 points with more and more calls, and compare their ends with those of scipy's solver of order 8.
# You pay for calls of the network (in papers NFE, function evaluations), not for steps, so each method gets equally many: Heun takes half the steps.

# %%
from scipy.integrate import solve_ivp


def in_log_sigma(log_sigma, xhat):  # (06.6), with log sigma as time
    sigma = math.exp(log_sigma)
    return sigma * slope(ring, torch.tensor(xhat).view(-1, 2), sigma).flatten().numpy()


path = solve_ivp(
    in_log_sigma, (math.log(20), math.log(0.1)), begin.flatten().numpy(),
    method="DOP853", rtol=1e-9, atol=1e-9,
)
reference, counts = torch.tensor(path.y[:, -1]).view(-1, 2), [8, 16, 32, 64, 128]
errors = {
    name: torch.stack([
        (follow(name, n // calls)[0] - reference).square().sum(1).mean().sqrt()
        for n in counts
    ])
    for name, calls in (("euler", 1), ("heun", 2), ("dpmpp_2m", 1))
}

# %%
for name, order in (("euler", 1), ("heun", 2), ("dpmpp_2m", 2)):
    measured = torch.log2(errors[name][-2] / errors[name][-1]).item()
    print(f"{name:9s} expected order {order}, measured {measured:.2f}")
    assert abs(measured - order) < 0.15
names = {"euler": "Euler = DDIM", "heun": "Heun", "dpmpp_2m": "DPM-Solver++(2M)"}
fig = plotting.lines(
    counts, {names[name]: error for name, error in errors.items()},
    logx=True, logy=True, xlabel="calls of the network", ylabel="error at the end",
    title="On the ring memory is cheaper than a second call",
)
show(fig, alt=(
    "Error against 8 to 128 calls of the network, both logarithmic. Euler falls with "
    "slope -1, DPM-Solver++(2M) and in the end Heun with slope about -2. Heun begins "
    "above Euler and falls below it from 16 calls on; DPM-Solver++(2M) lies lowest."
))

# %% [markdown]
# And on the moons, from noise to clean data?

# %%
for sampler, n, calls in (
    ("heun", 20, 39), ("heun", 10, 19), ("dpmpp_2m", 20, 20), ("ddim", 20, 20)
):
    off = strays(moons_in(n, sampler))
    print(f"{sampler:9s} {n} steps, {calls} calls: off the arcs {off}")

# %% [markdown]
# At equal steps Heun looks best. At about twenty calls it is the worst of the three here, and the memory pays.

# %% [markdown]
# ## Which levels to visit
#
# One choice was made silently: which of the 1,000 indices a short loop visits. Three ways are in use (arXiv 2305.08891, Table 2). In each a step goes from one entry of the list to the next, and from the last to clean data.

# %%
for spacing in ("linspace", "leading", "trailing"):
    times = inference_timesteps(1000, 6, spacing)
    start = abar[times[0]].sqrt()
    print(f"{spacing:9s} {times.tolist()}, signal at the first index {start:.3f}")

# %% [markdown]
# "linspace" spends its last call where hardly any noise is left. "leading" begins below the end of the training, so the network takes pure noise for a state with 3 % of signal. "trailing", the package's default, begins where training ended; its last leap returns an average, which loses fine detail if that leap is long. (Going further measures all three.)

# %% [markdown]
# ## Digits
#
# So far the networks were exact. Here is a trained one, with three samplers from the same noise, and for reference DDIM with 100 calls:

# %%
pixels = torch.randn(16, 1, 16, 16, generator=make_generator(9))
methods = {"ancestral": "ddpm", "DDIM": "ddim", "2M": "dpmpp_2m"}
with Progress(205, "drawing digits") as bar:
    tell = {"x_init": pixels, "callback": lambda state: bar.update()}
    path_end = digits("ddim", 100, **tell)
    drawn = {
        f"{label}, {n}": digits(sampler, n, **tell)
        for label, sampler in methods.items() for n in (5, 10, 20)
    }
fig = plotting.image_strip(
    [x[:8] for x in [*drawn.values(), path_end]], row_labels=[*drawn, "DDIM, 100"],
    title="From the same noise DDIM and 2M draw nearly the same digits",
    scale=0.6,
)
show(fig, alt=(
    "Ten rows of eight digits. The ancestral sampler with 5, 10 and 20 calls draws "
    "other digits in each row. DDIM and DPM-Solver++(2M) draw nearly the same picture "
    "in most columns; in the first, few calls draw a smudge and more calls a 1."
))
for label, x in drawn.items():
    gap = (x - path_end).square().mean((1, 2, 3)).sqrt()
    print(f"{label:14s} is {gap.mean():.2f} from DDIM, 100 (error {gap.std() / 4:.2f})")

# %% [markdown]
# DDIM and DPM-Solver++ follow one path, so the same noise becomes nearly the same digit, and more calls come nearer to the last row. The ancestral sampler draws fresh noise in every step and follows no path.
#
# Nearer is not yet better: the network's own error is left, and no solver mends that. So Going further grades the digits themselves (Frechet distance, five seeds, small is good). With 5 calls DPM-Solver++ gets 20.7, DDIM 26.8 and the ancestral sampler 38.8, with standard errors below 2. With 20 calls no difference shows.

# %% [markdown]
# ## Where people go wrong
#
# ### The place in the list instead of the timestep
#
# A short loop has two counters, the place in its list and the index of training. The network wants the second. Passing it the first happened in a widely used inversion
# ([Stability-AI/stablediffusion#226](https://github.com/Stability-AI/stablediffusion/pull/226), open; the same in [lllyasviel/ControlNet#315](https://github.com/lllyasviel/ControlNet/pull/315), merged). No error is raised.

# %%
def told_the_place(x, t):
    place = (inference_timesteps(1000, 10).flip(0) == t[0]).nonzero().item()  # 0..9
    return network(x, torch.full_like(t, place))


wrong = sample_loop(
    told_the_place, tuple(pixels[:8].shape), linear, num_inference_steps=10,
    clip_x0=1.0, x_init=pixels[:8],
)
fig = plotting.image_strip(
    [drawn["DDIM, 10"][:8], wrong], row_labels=["timestep", "place"],
    title="Ten leaps: what the network was told",
)
show(fig, alt=(
    "Two rows of eight pictures. Told the timestep: digits. Told the place in the "
    "list: noise without any digit."
))

# %% [markdown]
# ### The last step ends at index 0
#
# The leap after the last index goes to clean data (`CLEAN` in the package). Many loops take the table's first entry instead; diffusers has a switch for it, `set_alpha_to_one`, which comes as `False` with some published models
# and left noise in their pictures ([huggingface/diffusers#6068](https://github.com/huggingface/diffusers/issues/6068)). How much noise stays depends on the schedule:

# %%
for num_steps in (1000, 50, 10):
    short = make_schedule("cosine", num_steps)
    left = (1 - short.alphas_cumprod[0]).sqrt()
    text = f"cosine, T = {num_steps:4d}: noise left {left:.3f}"
    if num_steps < 1000:
        to_clean = noise_levels(short, range(num_steps - 1, -1, -1))  # T + 1 levels
        ends = [
            list(iterate_levels(denoiser(moons), starts, path, sampler="ddim"))[-1].x
            for path in (to_clean, to_clean[:-1])
        ]
        text += f"; off the arcs {strays(ends[0])}, without its end {strays(ends[1])}"
    print(text)

# %% [markdown]
# With a thousand steps of this schedule the eye would see nothing, and the mistake survives. With ten, about ten times as many points stray.

# %% [markdown]
# ## Your turn
#
# Each check names a known mistake. `hint("06.1")` helps in steps, `solution("06.1")` comes after a try. In 06.6 you walk the path upwards, from data to its noise: nothing in (06.5) says that $\sigma_{\text{prev}}$ must be smaller.

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

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.2, 2.2)
x_T, x_t, x_prev, x_0 = card.row(
    ["$x_T$", "$x_t$", r"$x_{\mathrm{prev}}$", "$x_0$"], 0.65, 0.7, 6.5,
    kinds=["noise", "data", "data", "data"], width=0.8,
)
guess = card.box(6.5, 1.85, r"$\hat x_0$ and $\hat\epsilon$", kind="network", width=1.3)
card.arrow(x_T, x_t, "...", dashed=True)
card.arrow(x_t, x_prev, "the leap", dashed=True)
card.arrow(x_prev, x_0, "...", dashed=True)
card.arrow(x_t.top, guess, "hop 1", via=[(x_t.x, 1.85)])
card.arrow(guess.bottom, x_prev.top, "hop 2")
card.text(3.6, 0.15, "the whole loop: sample_loop, or step by step: sample_iter")
card.show(
    "From x_T to x_0 in a few leaps. In one leap x_t asks the network for the estimate "
    "of x_0 and the noise, hop 1, and goes back up to x_prev, hop 2. The whole loop is "
    "sample_loop, or step by step sample_iter."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | Take all the noise away, put less of the same noise back: any two levels will do. | `ddim_step`, `Level`, `CLEAN` | (06.1) |
# | The network knows levels, not chains; $\eta$ says how much of the noise is fresh. | `ddim_step(..., eta=0.0)` | (06.2), (06.3) |
# | On the map of $\hat x$ and $\sigma$ a leap is straight; where the path is straight, one is enough. | `euler_step` | (06.5), (06.6) |
# | Look ahead, or remember: order 2. Count calls, not steps. | `heun_step`, `dpmpp_2m_step` | (06.8)-(06.10) |
# | The list of indices decides the pairs; after the last comes clean data. | `inference_timesteps`, `sample_loop` | exercise 06.4 |
#
# What you still lack is one number that says how good samples are, with its error. Lesson 07 is about that.
#
# To read next: Song, Meng & Ermon 2020, https://arxiv.org/abs/2010.02502, sections 3 and 4.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. First come the checks of the leap. Then follows its theory (Song et al. 2021), in five sections that build on one another: the score, the forward process without steps, the flow of a density, the way back, and why DDIM follows that flow. The other sections stand alone.

# %% [markdown]
# ### The family of leaps, checked
#
# The core said that (06.2) keeps the closed form for every $\eta$, and that $\eta = 1$ is the posterior of lesson 04. The second claim still needs its algebra.
#
# <details><summary>The algebra for η = 1</summary>
#
# Write $\alpha = \bar\alpha/\bar\alpha_{\text{prev}}$ and $\beta = 1 - \alpha$. Then
# $1-\bar\alpha_{\text{prev}}-\tilde\beta = (1-\bar\alpha_{\text{prev}})\frac{1-\bar\alpha-\beta}{1-\bar\alpha}$, and $1-\bar\alpha-\beta = \alpha - \bar\alpha = \alpha(1-\bar\alpha_{\text{prev}})$. So the factor on $\epsilon$ is
# $\sqrt{\alpha}\,(1-\bar\alpha_{\text{prev}})/\sqrt{1-\bar\alpha}$. Put in $\epsilon$: the factor on $x_t$ is $\sqrt\alpha\,(1-\bar\alpha_{\text{prev}})/(1-\bar\alpha) = c_t$ of (04.6). The factor on $x_0$ is
# $\sqrt{\bar\alpha_{\text{prev}}} - c_t\sqrt{\bar\alpha} = \sqrt{\bar\alpha_{\text{prev}}}\,\frac{1-\bar\alpha-\alpha(1-\bar\alpha_{\text{prev}})}{1-\bar\alpha} = \sqrt{\bar\alpha_{\text{prev}}}\,\frac{\beta}{1-\bar\alpha} = c_0$.
#
# </details>
#
# Now check both claims. Draw many $x_{\text{prev}}$ from one $x_0$ and measure their variance; without $-\zeta^2$ the check must fail for $\eta > 0$. Then compare $\eta = 1$ with `posterior_coefficients` at 10,000 pairs of levels.

# %%
now, then, x_0 = 0.2, 0.6, 1.5
small = (1 - then) / (1 - now) * (1 - now / then)
eps, z = torch.randn(2, 400_000, dtype=torch.float64, generator=generator)
for kept in (True, False):
    for eta in (0.0, 0.5, 1.0):
        zeta2 = eta**2 * small
        part = (1 - then - kept * zeta2) ** 0.5
        found = (then**0.5 * x_0 + part * eps + zeta2**0.5 * z).var().item()
        verdict = "passes" if abs(found / (1 - then) - 1) < 0.01 else "fails"
        how = "with" if kept else "without"
        print(f"{how} - zeta^2, eta {eta}: variance {found:.3f}, {verdict}")

# %%
high, share = torch.rand(2, 10_000, dtype=torch.float64, generator=generator)
low = high * share
small = (1 - high) / (1 - low) * (1 - low / high)
on_eps = (1 - high - small).clamp(min=0).sqrt()
on_xt = on_eps / (1 - low).sqrt()
c_0, c_t, variance = posterior_coefficients(low, high)
assert_close((on_xt, high.sqrt() - on_xt * low.sqrt(), small), (c_t, c_0, variance))
print("eta = 1 is the posterior of lesson 04, at 10,000 pairs of levels")

# %% [markdown]
# The package's `ddim_step` is our `leap` with $\eta$. `denoise` returns $\hat x_0$ and $\hat\epsilon$, `move` holds the two levels. Its `max(0.0, ...)` guards against rounding only: (06.2) holds for all $\eta \le 1$, because $\tilde\beta \le 1-\bar\alpha_{\text{prev}}$.

# %%
show_source(ddim_step)

# %% [markdown]
# ### The score: what a noise predictor knows
#
# The theory speaks of densities, and our network of noise. The link between them is the *score*. Write $p_t$ for the density of $x_t$ over all data. The score is the vector $s_t(x) = \nabla_x \log p_t(x)$: it points to where the noisy data is denser. (The arrows show it times $\sqrt{1-\bar\alpha}$, which is minus the mean noise. If you have read (03.20) to (03.22), you know the three lines below and can go on to the next section.)

# %%
axis = torch.linspace(-2.5, 2.5, 81, dtype=torch.float64)
plane = torch.cartesian_prod(axis, axis)
sparse = torch.cartesian_prod(axis[4::9], axis[4::9])
fig, axes = panels(
    ["abar = 0.99", "abar = 0.7", "abar = 0.1"], "The score points to denser places",
    width=2.1, height=2.1, xlabel="first coordinate", ylabel="second coordinate",
)
for ax, level in zip(axes, (0.99, 0.7, 0.1), strict=True):
    density = moons.log_prob(plane, level).exp().view(81, 81).T
    ax.contourf(axis, axis, density, levels=12, cmap="Blues")
    arrows = moons.score(sparse, level) * (1 - level) ** 0.5  # minus the mean noise
    ax.quiver(*sparse.T, *arrows.T, color=COLORS[1], width=0.006)
show(fig, alt=(
    "Density of the noisy moons at three levels, with arrows. At abar 0.99 two thin "
    "arcs, and arrows outside point straight to the nearest arc. At 0.7 the arcs are "
    "blurred into one another. At 0.1 there is one round cloud and all arrows point to "
    "its centre."
))

# %% [markdown]
# **Line 1.** $p_t$ averages the known Gaussians over the data: $p_t(x) = \int p(x_0)\,q(x \mid x_0)\,dx_0$ with $q(x \mid x_0) = N(\sqrt{\bar\alpha_t}\,x_0, (1-\bar\alpha_t) I)$.
#
# **Line 2.** Take the gradient under the integral. The gradient of a Gaussian is the Gaussian itself, times minus the distance from its mean over its variance. That distance is $\sqrt{1-\bar\alpha_t}\,\epsilon$, for the noise $\epsilon$ that leads from $x_0$ to $x$:
#
# $$\begin{aligned}
# \nabla_x\, q(x \mid x_0) &= -\frac{x - \sqrt{\bar\alpha_t}\,x_0}{1-\bar\alpha_t}\; q(x \mid x_0) \\[4pt]
# &= -\frac{\epsilon}{\sqrt{1-\bar\alpha_t}}\; q(x \mid x_0)
# \end{aligned} \tag{06.11}$$
#
# **Line 3.** Divide by $p_t(x)$. By Bayes' rule $p(x_0)\,q(x \mid x_0)/p_t(x)$ is the density of $x_0$ given $x$, so the integral is a conditional mean:
#
# $$s_t(x) = \frac{\nabla_x\, p_t(x)}{p_t(x)} = -\frac{E[\epsilon \mid x_t = x]}{\sqrt{1-\bar\alpha_t}} \tag{06.12}$$
#
# The mean above the line is what the noise loss of lesson 03 teaches. So a noise predictor is an estimator of the score, up to a factor that you know.
#
# **Check.** On one side stands `autograd` on the log-density of the moons, on the other the noise that goes with the conditional mean of $x_0$, which the mixture computes without any derivative. Then we leave out the square root, and the check fails.

# %%
xt = 1.5 * torch.randn(500, 2, dtype=torch.float64, generator=generator)
for level in (0.999, 0.7, 0.1):
    points = xt.clone().requires_grad_()
    (score,) = torch.autograd.grad(moons.log_prob(points, level).sum(), points)
    noisy_part = xt - level**0.5 * moons.posterior_mean(xt, level)
    mean_noise = noisy_part / (1 - level) ** 0.5
    for power in (0.5, 1.0):
        same = torch.allclose(score, -mean_noise / (1 - level) ** power)
        print(f"abar = {level}, power {power}: {'agree' if same else 'differ'}")

# %% [markdown]
# ### The forward process without steps
#
# The next argument needs time to flow smoothly, but our forward process has a thousand jumps. One of them is $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,z$. Make the steps finer: let time $u$ run from 0 to 1 in $N$ steps of length $du = 1/N$, with $\beta_t = \beta(u)\,du$ in each. In this part $\beta$ without an index is the rate $\beta(u)$.
# For small $du$ the root is $\sqrt{1-\beta(u)\,du} \approx 1 - \tfrac12\beta(u)\,du$, so one step changes $x$ by
#
# $$dx = -\tfrac12\beta(u)\,x\,du + \sqrt{\beta(u)}\,\sqrt{du}\;z \tag{06.13}$$
#
# This is a *stochastic differential equation* (SDE): a drift $f = -\tfrac12\beta x$ that acts in proportion to $du$, and noise of strength $g = \sqrt\beta$ whose standard deviation is in proportion to $\sqrt{du}$
# (arXiv 2011.13456, eq. 11). One writes $dw$ for $\sqrt{du}\,z$.
#
# What becomes of $\bar\alpha$, the product of all $1-\beta$? Take its logarithm, and use $\log(1-y) = -y + O(y^2)$ for each factor, with $y = \beta(u_i)/N$. The first terms add up to a sum that becomes an integral. The rest is $N$ terms of size $1/N^2$, which vanish together as $N$ grows:
#
# $$\bar\alpha(u) = \lim_{N\to\infty}\prod_i \Big(1 - \frac{\beta(u_i)}{N}\Big) = \exp\Big(-\int_0^u \beta(v)\,dv\Big) \tag{06.14}$$
#
# The linear schedule with $T = 1000$ has $\beta(u) = 0.1 + 19.9u$. How far is it from its limit?

# %%
beta_of = lambda u: 0.1 + 19.9 * u  # noqa: E731
abar_of = lambda u: math.exp(-(0.1 * u + 19.9 * u**2 / 2))  # noqa: E731
for count in (50, 100, 1000, 10_000):
    u = (torch.arange(count, dtype=torch.float64) + 0.5) / count
    half = (1 - beta_of(u) / count)[: count // 2].prod().item()
    print(f"N = {count:6d}: abar half-way {half:.5f}, in the limit {abar_of(0.5):.5f}")

# %% [markdown]
# The course's thousand steps are within 1 % of the limit, and ten times as many are about ten times as close.

# %% [markdown]
# ### How a density moves
#
# Now the turn of the whole theory: noise can be replaced by a velocity. To see it, follow not the points but their density $p$, in one coordinate first. Two things change it.
#
# **A velocity.** If every point at $x$ moves with velocity $v(x)$, the mass between two places $a$ and $b$ grows by what flows in at $a$, $v(a)p(a)$, and shrinks by what flows out at $b$, $v(b)p(b)$. Per length that is
#
# $$\frac{\partial p}{\partial u} = -\frac{\partial}{\partial x}(v\,p) \tag{06.15}$$
#
# **Noise.** Add $g\sqrt{du}\,z$ to every point, with its own standard normal $z$. A point that ends at $x$ was at $x - g\sqrt{du}\,z$, so the new density at $x$ is the average over $z$ of
# $p(x - g\sqrt{du}\,z) \approx p - g\sqrt{du}\,z\,p' + \tfrac12 g^2 du\,z^2 p''$.
# The middle term averages to 0, and since $z^2$ averages to 1, the last one to $\tfrac12 g^2 du\,p''$. Together with the drift $f$ as velocity this is the *Fokker-Planck equation*:
#
# $$\frac{\partial p}{\partial u} = -\frac{\partial}{\partial x}(f\,p) + \tfrac12 g^2\,\frac{\partial^2 p}{\partial x^2} \tag{06.16}$$
#
# **The turn.** Since $p' = p\,(\log p)' = p\,s$, the noise term is $\tfrac12 g^2 (p\,s)'$. Compare it with (06.15): this is what a *velocity* of $-\tfrac12 g^2 s$ does.
# Noise spreads a crowd exactly as if every point walked from dense places to thin ones. So the following velocity, without any noise, moves the density as the SDE does (arXiv 2011.13456, eq. 13). It is called the *probability flow*:
#
# $$\frac{dx}{du} = f - \tfrac12 g^2 s = -\tfrac12\beta(u)\,\big(x + s_u(x)\big) \tag{06.17}$$
#
# In many coordinates $\partial/\partial x$ becomes the divergence, and nothing else changes.
#
# **Check**, with densities alone: on a grid, for a mixture of two Gaussians on a line, compare $\partial p/\partial u$ by finite differences in time with the right side of (06.15) for the velocity (06.17), by finite differences in space. Then leave out the factor one half.

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


for u in (0.05, 0.2, 0.5):
    assert flow_mismatch(u) < 1e-3
    wrong = flow_mismatch(u, half=1.0)
    print(f"u = {u}: within 0.1 %; without the one half they differ by {wrong:.0%}")

# %% [markdown]
# ### The way back, with noise or without
#
# The flow says how densities move forwards; a sampler has to go back. Nothing is easier: reverse the velocity, and the densities appear in reverse order. Let $\tau$ count backwards, so $dx/d\tau = -f + \tfrac12 g^2 s$.
#
# You may also *add* noise on the way back, say of strength $\eta g$ with any $\eta \ge 0$. By the turn above, it acts on the density like a velocity $-\tfrac12\eta^2 g^2 s$. Add the opposite velocity, and the densities stay what they were:
#
# $$dx = \Big[-f + \tfrac{1+\eta^2}{2}\,g^2 s\Big]\,d\tau + \eta\,g\,dw \tag{06.18}$$
#
# $\eta = 0$ is the probability flow. $\eta = 1$ is the reverse SDE, with drift $-f + g^2 s$ (Anderson 1982; arXiv 2011.13456, eq. 6). The letter is no accident: in a short step $\zeta^2 \approx \eta^2 g^2 d\tau$, and to first order the root in (06.2) takes $\zeta^2\hat\epsilon/(2\sqrt{1-\bar\alpha}) = -\tfrac12\zeta^2 s$ more noise away, which is the extra drift of (06.18).
# All of them start from the same noise, pass through the same densities, and end in the data. Only single points travel differently.
# In the prediction you dropped the noise of $\eta = 1$ and kept its drift: the points are pulled together, and nothing spreads them.
#
# **Check.** 400 plain steps of (06.18) on the line, for two values of $\eta$, and with the noise left out:

# %%
def walk_back(x, eta, noise_too=True, count=400, seed=0):
    random, du = make_generator(seed), 1 / count
    for i in reversed(range(count)):
        u = (i + 0.5) * du
        score = line.score(x, abar_of(u))
        x = x + 0.5 * beta_of(u) * (x + (1 + eta**2) * score) * du
        if noise_too:
            z = torch.randn(x.shape, generator=random, dtype=x.dtype)
            x = x + eta * math.sqrt(beta_of(u) * du) * z
    return x


from_noise = torch.randn(8000, 1, dtype=torch.float64, generator=make_generator(3))
ends = {
    "probability flow": walk_back(from_noise, 0.0),
    "reverse SDE": walk_back(from_noise, 1.0),
    "its drift alone": walk_back(from_noise, 1.0, noise_too=False),
}

# %%
shown = torch.linspace(-2, 2, 401, dtype=torch.float64)
truth = line.log_prob(shown[:, None]).exp()
fig = plotting.histogram_against_density(
    {name: x[:, 0] for name, x in ends.items() if name != "its drift alone"}, shown,
    {name: truth for name in ends if name != "its drift alone"},
    title="With noise or without, the way back ends in the data",
)
show(fig, alt=(
    "Two histograms against the same density with a low peak at -1 and a high one at "
    "1. The ends of the probability flow and of the reverse SDE both follow it."
))
for name, x in ends.items():
    text = f"{name:16s} mean {x.mean():.2f}, variance {x.var():.2f}"
    print(f"{text}, in the right peak {x[x > 0].var():.3f}")
one_seed, other = (walk_back(from_noise[:9], 1.0, seed=s) for s in (1, 2))
apart = (one_seed - other).abs().max()
print(f"another seed moves the ends of the reverse SDE by up to {apart:.1f}")

# %% [markdown]
# The data has mean 0.40, variance 0.89, and 0.050 within a peak. Both ways back have that, as far as 8,000 points can tell. The drift alone ends in one point.

# %% [markdown]
# ### DDIM is Euler's method on the flow
#
# Two roads have led to a path without noise: the core's leap and the probability flow. They are one. To see it, change the coordinates of (06.17) to those of (06.4).
#
# **How $\hat x$ changes.** From (06.14), $\frac{d\bar\alpha}{du} = -\beta\bar\alpha$, so $\frac{d}{du}\bar\alpha^{-1/2} = \tfrac12\beta\,\bar\alpha^{-1/2}$. Use the product rule, then (06.17), then (06.12):
#
# $$\frac{d\hat x}{du} = \frac{1}{\sqrt{\bar\alpha}}\left(\frac{dx}{du} + \tfrac12\beta x\right) = -\frac{\beta\,s}{2\sqrt{\bar\alpha}} = \frac{\beta\,\hat\epsilon}{2\sqrt{\bar\alpha}\sqrt{1-\bar\alpha}}$$
#
# **How $\sigma$ changes.** $\sigma^2 = 1/\bar\alpha - 1$, so $2\sigma\frac{d\sigma}{du} = \beta/\bar\alpha$, and with $\sigma = \sqrt{1-\bar\alpha}/\sqrt{\bar\alpha}$:
#
# $$\frac{d\sigma}{du} = \frac{\beta}{2\sqrt{\bar\alpha}\sqrt{1-\bar\alpha}}$$
#
# **Divide.** Everything but the noise cancels, and (06.6) is left (arXiv 2010.02502, eq. 14; arXiv 2206.00364, eq. 1 with $\sigma(t) = t$). So DDIM is Euler's method on the flow, with $\sigma$ as its time.
#
# **Check.** An adaptive solver, once in $u$ with (06.17) and once in $\sigma$ with (06.6), has two different right sides and must find one end:

# %%
def in_u(u, x):
    x = torch.tensor(x)[:, None]
    return (-0.5 * beta_of(u) * (x + line.score(x, abar_of(u))))[:, 0].numpy()


def in_sigma(sigma, xhat):
    return slope(line, torch.tensor(xhat)[:, None], sigma)[:, 0].numpy()


def sigma_of_level(level):
    return math.sqrt((1 - level) / level)


few_starts, (low, high) = from_noise[:20, 0], (abar_of(0.01), abar_of(1.0))
first = solve_ivp(in_u, (1.0, 0.01), few_starts, rtol=1e-9, atol=1e-9).y[:, -1]
second = solve_ivp(
    in_sigma, (sigma_of_level(high), sigma_of_level(low)), few_starts / high**0.5,
    rtol=1e-9, atol=1e-9,
).y[:, -1]
assert_close(torch.tensor(first), torch.tensor(second * low**0.5), rtol=0, atol=1e-5)
print("20 paths end at the same places, within 1e-5")

# %% [markdown]
# ### Why DPM-Solver++(2M) is of order 2
#
# The core gave (06.9) and (06.10) with a picture in words. Here is the argument.
#
# **Line 1.** Write $\hat\epsilon = (\hat x - \hat x_0)/\sigma$ in (06.6) and divide by $\sigma$. The left side is then the derivative of a quotient:
#
# $$\frac{d}{d\sigma}\left(\frac{\hat x}{\sigma}\right) = \frac{1}{\sigma}\frac{d\hat x}{d\sigma} - \frac{\hat x}{\sigma^2} = -\frac{\hat x_0}{\sigma^2}$$
#
# **Line 2.** Take $\lambda = -\log\sigma$ as time. With $d\sigma = -\sigma\,d\lambda$ and $1/\sigma = e^\lambda$, integrate over the step and multiply by $\sigma_{\text{prev}} = e^{-\lambda_{\text{prev}}}$ (arXiv 2211.01095, Proposition 4.1):
#
# $$\hat x_{\text{prev}} = \frac{\sigma_{\text{prev}}}{\sigma}\,\hat x + \int_0^h e^{\ell-h}\,\hat x_0(\lambda+\ell)\,d\ell \tag{06.19}$$
#
# Nothing is approximated yet. If $\hat x_0$ does not change, the integral is $(1-e^{-h})\,\hat x_0$, and since $e^{-h} = \sigma_{\text{prev}}/\sigma$ this is DDIM.
#
# **Line 3.** Let $\hat x_0$ change evenly instead, $\hat x_0(\lambda+\ell) = \hat x_0 + \ell\,\hat x_0'$ (the prime is now the derivative in $\lambda$), up to $O(\ell^2)$, which costs $O(h^3)$ in the integral. The factor on $\hat x_0'$ should be
#
# $$\int_0^h e^{\ell-h}\,\ell\,d\ell = h - 1 + e^{-h} = \tfrac12 h^2 + O(h^3),$$
#
# and (06.10) has $(1-e^{-h})\,\tfrac{h}{2} = \tfrac12 h^2 + O(h^3)$. The two differ by $O(h^3)$ only.
#
# **Line 4.** The method does not know $\hat x_0'$ and takes the rate of the step before, $(\hat x_0 - \hat x_0^{\text{before}})/h_{\text{before}}$. That is the derivative half a step ago, so it errs by $O(h)$ if the steps are of like length, and it is multiplied by $\tfrac12 h^2$: again $O(h^3)$.
# So a step errs by $O(h^3)$, and by the argument after (06.7) the end by $O(h^2)$. The first step errs by $O(h^2)$, but there is only one such step.

# %% [markdown]
# ### From pure noise: when do paths settle?
#
# The core compared the methods on the ring between $\sigma = 20$ and $0.1$, at levels of its own choice. A sampler walks all the way from noise to clean data, along indices of the training. Is the order the same there?
#
# **Task.** For each of the first three samplers, find the smallest number of steps on offer with fewer than 5 % of the ends between the blobs, and count calls. Then try the ancestral sampler. Do its twelve *paths* settle when you add steps?

# %%
from diffusion_course import Explorer, sample_iter

named = {
    "Euler = DDIM": "euler", "Heun": "heun", "DPM-Solver++(2M)": "dpmpp_2m",
    "ancestral": "ddpm",
}
ring_starts = torch.randn(1000, 2, dtype=torch.float64, generator=make_generator(11))
ring_model = ring.model(abar)


def paths(sampler, n):
    chain = sample_iter(
        ring_model, (1000, 2), linear, sampler=named[sampler],
        num_inference_steps=n, x_init=ring_starts, generator=make_generator(12),
    )
    # (n + 1, 1000, 2)
    states = torch.stack([ring_starts, *(state.x for state in chain)])
    far = (ring.log_prob(states[-1]) < -4).double().mean().item()
    calls = 2 * n - 1 if sampler == "Heun" else n
    text = f"{n} steps, {calls} calls: {far:.1%} of 1,000 ends lie between the blobs"
    return states, f"{sampler}, {text}"

# %%
def path_picture(sampler, n):
    states, text = paths(sampler, n)
    fig, (ax,) = panels(
        [""], text, width=3.6, height=3.4,
        xlabel="first coordinate", ylabel="second coordinate",
    )
    ax.plot(*states[:, :12].unbind(-1), color=COLORS[0], linewidth=0.9)
    ax.scatter(*states[-1].T, s=4, color=COLORS[1], linewidths=0, zorder=3)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6))
    return fig, f"{text}. Twelve paths run from noise to a ring of eight blobs."


Explorer(
    path_picture, sampler=list(named), n=[2, 3, 5, 8, 12, 20, 50, 100],
    start={"n": 8}, ahead=True,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Euler needs 20 steps, DPM-Solver++(2M) 20 too, and Heun 12, which are 23 calls. (The title of each picture has the share. From 1,000 points a share near 4 % has a standard error of 0.6 %.) Memory gains little here: trailing indices are far from even in $\lambda$, and the last step, to clean data, is of order 1 for all three.
# The share of the ancestral sampler falls too, but its paths do not settle: another number of steps draws other noise. It has a distribution to converge to, and no path.
#
# </details>

# %% [markdown]
# ### Spacings, measured
#
# The core named three spacings and did not compare them. DPM-Solver++(2M) extrapolates from one step to the next, so it should dislike a step that is much longer in $\lambda$ than the one before.
# The last row takes 15 times that are evenly spaced in $\lambda$; they need not be whole numbers.

# %%
import numpy as np

log_sigmas = linear.sigmas.log().numpy()  # (1000,), rising with the index
even = np.interp(
    np.linspace(log_sigmas[-1], log_sigmas[0], 15), log_sigmas, np.arange(1000.0)
).tolist()
spacings = {
    f"{s}, {n}": inference_timesteps(1000, n, s).tolist()
    for s, n in (("linspace", 15), ("leading", 15), ("trailing", 15), ("trailing", 20))
} | {"even in lambda, 15": even}

# %%
for label, times in spacings.items():
    lengths = -np.diff(np.interp(times, np.arange(1000.0), log_sigmas))
    longest = (lengths[1:] / lengths[:-1]).max()
    off = {
        sampler: strays(sample_loop(
            exact, (5000, 2), linear, sampler=sampler, timesteps=times, x_init=starts
        ))
        for sampler in ("ddim", "dpmpp_2m")
    }
    print(f"{label}: longest step over the one before {longest:.1f}\n   {off}")

# %% [markdown]
# DDIM changes little between the three: 6.5 to 8.4 % stray, most with "linspace". DPM-Solver++(2M) does badly with "linspace" and "leading": the step into index 0 is 4.5 times as long in $\lambda$ as the one before, and (06.9) extrapolates far beyond what it knows.
# Evenly in $\lambda$, 15 calls are better than 15 trailing ones for both. For DPM-Solver++(2M) they do as well as 20 trailing ones; for DDIM they do not.
# That holds for an exact network. A network that was never shown a time between two indices has to interpolate.

# %% [markdown]
# ### A picture has its own noise
#
# The path can be walked in both directions. Upwards it turns data into the one starting noise that leads there (arXiv 2010.02502, section 4.3). Walk Euler upwards and DDIM down, through the same levels: how far from the start do you come back?

# %%
points = moons.at(1 / (1 + 0.05**2)).sample(300, generator=make_generator(8))
xhat = points * (1 + 0.05**2) ** 0.5
for n in (20, 80, 320):
    rising = torch.logspace(math.log10(0.05), 2, n + 1, dtype=torch.float64).tolist()
    found = euler_walk(moons, xhat, rising)[-1]
    back = euler_walk(moons, found, rising[::-1])[-1]
    gap = (back - xhat).norm(dim=1).mean()
    spread = found.std() / (1 + 100**2) ** 0.5
    print(f"{n} steps: there and back {gap:.3f}, std of the noise found {spread:.2f}")

# %% [markdown]
# Data goes to noise whose standard deviation approaches 1, and comes back nearer with more steps. This is what makes edits of a given picture possible, and exact likelihoods (lesson 07).

# %% [markdown]
# ### Which sampler draws better digits? Five seeds
#
# The core measured how near a solver comes to its path, which is not quality. A common measure of quality is the Frechet distance to real digits, in the features of the shipped classifier; lesson 07 takes it apart, here it is used on trust. Small is good.
# Each line stands for five seeds with 100 digits each. The last line puts five hundreds of *real* digits in their place: even they are not at 0, because 100 are few.

# %%
from diffusion_course import frechet_distance, load_dataset

classifier = load_pretrained("digit_classifier")
with torch.no_grad():
    features = classifier.features(load_dataset("digits", size=16).images)  # (1797, 64)
features = features[torch.randperm(len(features), generator=make_generator(8))]
hundreds, rest = features[:500].view(5, 100, -1), features[500:]

# %%
def in_words(values):
    v = torch.tensor(values)
    error = v.std() / 5**0.5
    return f"mean {v.mean():.1f} (error {error:.1f}), {v.min():.1f} to {v.max():.1f}"


def frechet_of(sampler, n):
    values = []
    for seed in range(5):
        x_init = torch.randn(100, 1, 16, 16, generator=make_generator(100 + seed))
        with torch.no_grad():
            drawn_features = classifier.features(digits(sampler, n, x_init, seed))
        values.append(frechet_distance(drawn_features, rest))
    return in_words(values)

# %% tags=["nbval-ignore-output"]
print("ancestral, 5 calls:", frechet_of("ddpm", 5))
print("DDIM,      5 calls:", frechet_of("ddim", 5))
print("2M,        5 calls:", frechet_of("dpmpp_2m", 5))

# %% tags=["nbval-ignore-output"]
print("ancestral, 20 calls:", frechet_of("ddpm", 20))

# %% tags=["nbval-ignore-output"]
print("DDIM,      20 calls:", frechet_of("ddim", 20))

# %% tags=["nbval-ignore-output"]
print("2M,        20 calls:", frechet_of("dpmpp_2m", 20))
print("real digits:", in_words([frechet_distance(f, rest) for f in hundreds]))

# %% [markdown]
# With 5 calls there is an order: DPM-Solver++(2M) before DDIM, and DDIM before the ancestral sampler, with more than two standard errors between neighbours. With 20 calls it is gone. The three means differ by less than two standard errors, and none of them differs from the mean of the real digits by more.
# So with 20 calls the order of a single seed means little: the five values of the ancestral sampler run from 15 to 24.
#
# Karras et al. describe that fresh noise can also cover up errors made earlier (arXiv 2206.00364, section 4), so that with many calls a sampler with noise may win. These five hundred digits do not show such an advantage, and they are too few to exclude it.

# %% [markdown]
# ### The same steps as diffusers
#
# People who use diffusers will ask whether its *schedulers*, as it calls samplers, take the same steps. We give them the same network and the same lists of indices. (Its DPM-Solver++ keeps its tables in float32, so it can agree to that precision only.)

# %%
from diffusers import DDIMScheduler, DPMSolverMultistepScheduler


def their_ddim(spacing):
    scheduler = DDIMScheduler(1000, clip_sample=False, timestep_spacing=spacing)
    scheduler.alphas_cumprod = abar
    scheduler.final_alpha_cumprod = torch.ones((), dtype=torch.float64)
    return scheduler


def chains(scheduler, n, name="ddim", x=starts[:200], model=exact):
    scheduler.set_timesteps(n)
    theirs = x
    for t in scheduler.timesteps.tolist():
        eps = model(theirs, torch.full((len(x),), t))
        theirs = scheduler.step(eps, t, theirs).prev_sample
    ours = sample_loop(
        model, tuple(x.shape), linear, sampler=name, timesteps=scheduler.timesteps,
        x_init=x,
    )
    return theirs, ours

# %%
for n in (7, 10):
    for spacing in ("leading", "trailing", "linspace"):
        theirs, ours = chains(their_ddim(spacing), n)
        gap = (theirs - ours).abs().max()
        print(f"DDIM, {n} steps, {spacing}: {'differs' if gap > 1e-9 else 'agrees'}")
multistep_of = DPMSolverMultistepScheduler(1000, algorithm_type="dpmsolver++")
theirs, ours = chains(multistep_of, 7, "dpmpp_2m")
print(f"DPM-Solver++(2M), 7 steps: below 1e-3, {(theirs - ours).abs().max() < 1e-3}")

# %% [markdown]
# With "leading" DDIM agrees. With "trailing" it agrees for $n = 10$, which divides $T$, and not for 7; with "linspace" for neither. The reason: `DDIMScheduler.step` computes the level that it goes to as `t - T // n`, whatever the list of indices says
# ([huggingface/diffusers#9261](https://github.com/huggingface/diffusers/issues/9261), where the same was mended for DDPM; [#11347](https://github.com/huggingface/diffusers/issues/11347) and [#12633](https://github.com/huggingface/diffusers/issues/12633) for DDIM).
# Here is what that does to digits of the shipped network, with "linspace":

# %%
bent, few_digits = {}, pixels[:8]
with torch.no_grad():
    for n in (5, 10):
        theirs, ours = chains(their_ddim("linspace"), n, x=few_digits, model=network)
        bent |= {f"next of the list, {n}": ours, f"t - T // n, {n}": theirs.float()}
fig = plotting.image_strip(
    list(bent.values()), row_labels=list(bent),
    title="Five and ten steps: the level that each step goes to",
)
show(fig, alt=(
    "Four rows of the same eight digits. Next of the list, 5 and 10 steps: smooth. "
    "t - T // n with 5 steps: strong grain over figure and background; "
    "with 10 steps: faint grain."
))

# %% [markdown]
# In the first pair of five steps the state goes to the level of index 799, and the network is then told 749. It sees more noise than it was told of, and leaves the rest in. Nothing in the code looks wrong, and no error is raised.

# %% [markdown]
# ### To read further
#
# - Song et al. 2021, https://arxiv.org/abs/2011.13456: sections 3 and 4, and the appendix that derives the probability flow.
# - Karras et al. 2022, https://arxiv.org/abs/2206.00364: the coordinates used here, and how to choose the levels.
# - Lu et al. 2022, https://arxiv.org/abs/2211.01095: DPM-Solver++, with the higher orders.
