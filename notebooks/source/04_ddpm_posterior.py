# %% [markdown]
# # 04 · The DDPM posterior
#
# After this lesson you can:
#
# - derive $q(x_{t-1} \mid x_t, x_0)$ by completing the square, and check it in three other ways,
# - write its mean with $x_0$ or with the noise, and switch between the two,
# - say which reverse variance is right for which data, and prove it for two of them,
# - write the sampling loop with both of its ends right, and draw digits with it,
# - recognise the published mistakes of this loop by the damage they do.
#
# You need: lessons 01 to 03.
#
# **Measured cost:** 1.2 min on 2 cores, 1.0 GB of memory at the peak.
#
# In formulas $t$ runs from 1 to $T$ as in the papers, and $\bar\alpha_0 = 1$ is clean data. In code `t` is the index $0..T-1$, one less.

# %%
import torch
from torch.testing import assert_close

from diffusion_course import (
    NoiseSchedule,
    make_generator,
    make_schedule,
    plotting,
    q_posterior,
    q_step,
    seed_everything,
    show,
)
from diffusion_course.notebook import figure

generator = seed_everything(0)

# %% [markdown]
# ## Recall
#
# 1. From lesson 02: $x_0$ is known. How is $x_t$ distributed, and by which two factors do signal and noise enter it?
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
# A number starts at $x_0 = 1$ and takes two forward steps, with $\beta_1 = 0.2$ and $\beta_2 = 0.5$.
# The next cell lets 400,000 of them walk and picks out those that end near $-0.5$.

# %%
betas = torch.tensor([0.2, 0.5], dtype=torch.float64)
x0 = torch.ones(400_000, dtype=torch.float64)
x1 = q_step(x0, torch.full((400_000,), 0), betas, generator=generator)
x2 = q_step(x1, torch.full((400_000,), 1), betas, generator=generator)
near = (x2 + 0.5).abs() < 0.02
print(
    f"a share of {near.double().mean():.4f} of the walks ends between -0.52 and -0.48"
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
ax.set_title("Where were they one step before the end?", loc="left")
ax.legend()
show(fig, alt=(
    "Sixty grey walks fan out from 1. Twenty-five orange ones run from 1 to -0.5; at "
    "step 1 most of them pass between 0.3 and 1.1, a narrower band than the grey one."
))

# %% [markdown]
# You know both ends of an orange walk, $x_0 = 1$ and $x_2 = -0.5$. The last step added noise of variance $\beta_2 = 0.5$.
# How large is the variance of $x_1$ over the orange walks: smaller than 0.5, equal to it, or larger?
# Write your prediction into the cell, then run it.

# %%
my_prediction = "equal"  # "smaller", "equal" or "larger"

# %%
measured = x1[near].var()
answer = "smaller" if measured < 0.45 else "larger" if measured > 0.55 else "equal"
verdict = "as you said" if my_prediction == answer else f"you said {my_prediction}"
print(
    f"The variance is {measured:.3f}: {answer} than 0.5 ({verdict}). "
    f"The mean is {x1[near].mean():.3f}."
)

# %% [markdown]
# Two facts narrow $x_1$ down: where the walk came from, and where it is now. Each of them alone leaves more room.
# This lesson computes what both leave together. It is the reverse step that knows the answer, and the target that lesson 03
# compared the network with.

# %% [markdown]
# ## Why the start has to be known
#
# To walk backwards you want $q(x_{t-1} \mid x_t)$. Bayes' rule gives it:
#
# $$q(x_{t-1} \mid x_t) = \frac{q(x_t \mid x_{t-1})\, q(x_{t-1})}{q(x_t)} \tag{04.1}$$
#
# The first factor is the forward step. The other two are densities of *all* noisy data at a level. They are integrals over the data
# distribution, and nobody has that one.
#
# Now condition everything on $x_0$ as well:
#
# $$\begin{aligned}
# q(x_{t-1} \mid x_t, x_0) &= \frac{q(x_t \mid x_{t-1}, x_0)\, q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)} \\[4pt]
# &= \frac{q(x_t \mid x_{t-1})\, q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)}
# \end{aligned} \tag{04.2}$$
#
# The second equality is the Markov property: once $x_{t-1}$ is known, $x_t$ depends on fresh noise only. All three factors on the right are
# Gaussians that you know. The plan: multiply the two above the line, look at them as a function of $x_{t-1}$, and read off mean and variance.
# The denominator does not contain $x_{t-1}$. It only makes the area 1.

# %% [markdown]
# ## By hand, with two numbers
#
# Take the walk above. What the start says about $x_1$ (the *prior*): $N(\sqrt{0.8} \cdot 1,\ 0.2)$, with $\sqrt{0.8} = 0.8944$.
# What the end says (the *likelihood*): $x_2 = -0.5$ came from $N(\sqrt{0.5}\,x_1,\ 0.5)$, with $\sqrt{0.5} = 0.7071$.
# The logarithm of their product, without constants:
#
# $$-\tfrac12\left[\frac{(x_1 - 0.8944)^2}{0.2} + \frac{(-0.5 - 0.7071\,x_1)^2}{0.5}\right]$$
#
# Multiply out and keep only what contains $x_1$. The first fraction gives $5x_1^2 - 8.944\,x_1$, the second $x_1^2 + 1.414\,x_1$. Together:
#
# $$-\tfrac12\left[6x_1^2 - 7.530\,x_1\right] = -\tfrac12 \cdot 6\,\left(x_1 - 0.6275\right)^2 + \text{const}, \qquad 0.6275 = \frac{7.530}{2 \cdot 6}$$
#
# That is a Gaussian with mean 0.6275 and variance $1/6 = 0.1667$. The walks said 0.64 and 0.17, with the error of a few thousand draws. The package's function says:

# %%
two_steps = NoiseSchedule(betas)
start = torch.tensor([1.0], dtype=torch.float64)
end = torch.tensor([-0.5], dtype=torch.float64)
by_hand = q_posterior(start, end, torch.tensor([1]), two_steps.alphas_cumprod)
print(f"mean {by_hand.mean.item():.4f}, variance {by_hand.variance.item():.4f}")

# %% [markdown]
# ## Completing the square
#
# Now the same with letters. Every covariance is a multiple of the identity, so one coordinate is enough.
#
# **Line 1.** Take the logarithm of (04.2). $C$ collects what does not contain $x_{t-1}$:
#
# $$\begin{aligned}
# &\log q(x_{t-1} \mid x_t, x_0) \\
# &\quad = -\frac12\left[\frac{(x_t - \sqrt{\alpha_t}\,x_{t-1})^2}{\beta_t} + \frac{(x_{t-1} - \sqrt{\bar\alpha_{t-1}}\,x_0)^2}{1-\bar\alpha_{t-1}}\right] + C
# \end{aligned} \tag{04.3}$$
#
# **Line 2.** Multiply out and sort by powers of $x_{t-1}$. The two squares without $x_{t-1}$ join the constant:
#
# $$\begin{gathered}
# = -\frac12\left[A\,x_{t-1}^2 - 2B\,x_{t-1}\right] + C', \\[4pt]
# A = \frac{\alpha_t}{\beta_t} + \frac{1}{1-\bar\alpha_{t-1}}, \qquad
# B = \frac{\sqrt{\alpha_t}}{\beta_t}\,x_t + \frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}}\,x_0
# \end{gathered} \tag{04.4}$$
#
# **Line 3.** Complete the square: $A x^2 - 2Bx = A\,(x - B/A)^2 - B^2/A$, and $B^2/A$ joins the constant. What is left is a Gaussian with
# variance $1/A$ and mean $B/A$.
#
# **Line 4.** Simplify $A$. Put both fractions over $\beta_t(1-\bar\alpha_{t-1})$, then use $\beta_t = 1-\alpha_t$ and $\alpha_t\bar\alpha_{t-1} = \bar\alpha_t$:
#
# $$A = \frac{\alpha_t(1-\bar\alpha_{t-1}) + \beta_t}{\beta_t(1-\bar\alpha_{t-1})} = \frac{\alpha_t - \bar\alpha_t + 1 - \alpha_t}{\beta_t(1-\bar\alpha_{t-1})} = \frac{1-\bar\alpha_t}{\beta_t(1-\bar\alpha_{t-1})}$$
#
# One over it is the variance, called $\tilde\beta_t$ (arXiv 2006.11239, eq. 7):
#
# $$\tilde\beta_t = \frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\,\beta_t \tag{04.5}$$
#
# **Line 5.** The mean is $B/A = \tilde\beta_t B$. In front of $x_t$: $\frac{\sqrt{\alpha_t}}{\beta_t} \cdot \frac{\beta_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}$, where $\beta_t$ cancels.
# In front of $x_0$: $\frac{\sqrt{\bar\alpha_{t-1}}}{1-\bar\alpha_{t-1}} \cdot \frac{\beta_t(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}$, where $1-\bar\alpha_{t-1}$ cancels. So (arXiv 2006.11239, eq. 6 and 7):
#
# $$\begin{gathered}
# q(x_{t-1} \mid x_t, x_0) = N(\tilde\mu_t,\ \tilde\beta_t I), \\[4pt]
# \tilde\mu_t = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t}\,x_0 + \frac{\sqrt{\alpha_t}\,(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}\,x_t
# \end{gathered} \tag{04.6}$$
#
# With $\alpha_2 = \beta_2 = 0.5$, $\bar\alpha_1 = 0.8$, $\bar\alpha_2 = 0.4$ this is $0.7454 \cdot 1 + 0.2357 \cdot (-0.5) = 0.6275$ and $\frac{0.2}{0.6} \cdot 0.5 = 0.1667$, as by hand.

# %% [markdown]
# **Check 1: computer algebra.** Give line 1 to sympy, let it collect powers of $x_{t-1}$, and subtract (04.5) and (04.6).
# Both differences have to be 0, not small.

# %%
import sympy

x, clean, noisy = sympy.symbols("x clean noisy", real=True)
alpha, abar_prev = sympy.symbols("alpha abar_prev", positive=True)
beta, abar = 1 - alpha, alpha * abar_prev
log_density = -(
    ((noisy - sympy.sqrt(alpha) * x) ** 2) / beta
    + (x - sympy.sqrt(abar_prev) * clean) ** 2 / (1 - abar_prev)
) / 2
minus_half_a, b, _ = sympy.Poly(sympy.expand(log_density), x).all_coeffs()
variance, mean = -1 / (2 * minus_half_a), -b / (2 * minus_half_a)

# %%
our_mean = (
    sympy.sqrt(abar_prev) * beta * clean + sympy.sqrt(alpha) * (1 - abar_prev) * noisy
) / (1 - abar)
gaps = [
    sympy.simplify(variance - beta * (1 - abar_prev) / (1 - abar)),
    sympy.simplify(mean - our_mean),
]
print("differences:", gaps)
assert gaps == [0, 0]

# %% [markdown]
# **Check 2: Bayes' rule on a grid.** No algebra at all: 16,001 candidates for $x_{t-1}$, prior times likelihood at each,
# divided by the sum. Mean and variance of these weights are compared with `q_posterior` at every step of a chain of ten.

# %%
def bayes_on_a_grid(x0, xt, t, schedule):
    grid = torch.linspace(-10, 10, 16_001, dtype=torch.float64)
    abar_prev = schedule.alphas_cumprod_prev[t]
    alpha = schedule.alphas[t]
    beta = schedule.betas[t]
    log_prior = -((grid - abar_prev.sqrt() * x0) ** 2) / (2 * (1 - abar_prev))
    log_likelihood = -((xt - alpha.sqrt() * grid) ** 2) / (2 * beta)
    # multiply, then divide by the sum
    weights = (log_prior + log_likelihood).softmax(0)
    mean = (weights * grid).sum()
    return mean, (weights * (grid - mean) ** 2).sum()


# %%
ten = make_schedule("cosine", 10)
for t in range(1, 10):
    ours = q_posterior(start, end, torch.tensor([t]), ten.alphas_cumprod)
    assert_close(
        (ours.mean.item(), ours.variance.item()),
        tuple(v.item() for v in bayes_on_a_grid(1.0, -0.5, t, ten)), rtol=1e-9,
        atol=1e-9,
    )
print("grid and formula agree at indices 1 to 9")

# %% [markdown]
# A check is worth something if it can fail. Here $x_t$ enters the mean with the wrong sign:

# %%
from diffusion_course import posterior_coefficients

coef_x0, coef_xt, _ = posterior_coefficients(
    ten.alphas_cumprod[5], ten.alphas_cumprod[4]
)
try:
    assert_close(
        (coef_x0 * 1.0 - coef_xt * -0.5), bayes_on_a_grid(1.0, -0.5, 5, ten)[0]
    )
except AssertionError as error:
    print(str(error).splitlines()[0])

# %% [markdown]
# These are the package's lines. Everything from here on uses them.

# %%
from diffusion_course import show_source

show_source(posterior_coefficients, q_posterior)

# %% [markdown]
# How large are the two coefficients? For the linear schedule with $T = 1000$:

# %%
linear = make_schedule("linear")
abar, abar_prev = linear.alphas_cumprod, linear.alphas_cumprod_prev
coef_x0, coef_xt, beta_tilde = posterior_coefficients(abar, abar_prev)
fig = plotting.lines(
    torch.arange(1, 1001), {"in front of $x_0$": coef_x0, "in front of $x_t$": coef_xt},
    xlabel="t (index + 1)", ylabel="coefficient", logx=True,
    title="A step keeps $x_t$, except at the very end",
)
show(fig, alt=(
    "Coefficients against t. In front of x_0: 1 at t = 1, 0.15 at t = 10, near 0 from "
    "t = 100. In front of x_t: 0 at t = 1, 0.85 at t = 10, 0.98 and more from t = 100. "
    "They cross between t = 2 and 3."
))

# %% [markdown]
# For most of the chain a step keeps nearly all of $x_t$ and moves it a little towards $x_0$. Only the last few steps hand over to $x_0$.

# %% [markdown]
# ## The mean in terms of the noise
#
# Networks of this course predict noise. Put $x_0 = \big(x_t - \sqrt{1-\bar\alpha_t}\,\epsilon\big)/\sqrt{\bar\alpha_t}$ into (04.6) and use $\sqrt{\bar\alpha_t} = \sqrt{\alpha_t}\sqrt{\bar\alpha_{t-1}}$.
#
# **In front of $x_t$** two terms meet:
#
# $$\begin{aligned}
# \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{(1-\bar\alpha_t)\sqrt{\bar\alpha_t}} + \frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}
# &= \frac{\beta_t + \alpha_t(1-\bar\alpha_{t-1})}{(1-\bar\alpha_t)\sqrt{\alpha_t}} \\[4pt]
# &= \frac{1-\bar\alpha_t}{(1-\bar\alpha_t)\sqrt{\alpha_t}} = \frac{1}{\sqrt{\alpha_t}}
# \end{aligned}$$
#
# First equality: $\sqrt{\bar\alpha_{t-1}}/\sqrt{\bar\alpha_t} = 1/\sqrt{\alpha_t}$, and the second fraction is extended by $\sqrt{\alpha_t}$. Second: the numerator is the one of line 4.
#
# **In front of $\epsilon$** there is one term:
#
# $$-\frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t} \cdot \frac{\sqrt{1-\bar\alpha_t}}{\sqrt{\bar\alpha_t}} = -\frac{\beta_t}{\sqrt{\alpha_t}\sqrt{1-\bar\alpha_t}}$$
#
# Together (arXiv 2006.11239, eq. 11 and Algorithm 2):
#
# $$\tilde\mu_t = \frac{1}{\sqrt{\alpha_t}}\left(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\,\epsilon\right) \tag{04.7}$$
#
# **Check 3**: the package goes through $x_0$. Algorithm 2 does not. Both at all 1,000 indices:

# %%
from diffusion_course import ddpm_step

xt, noise = torch.randn(2, 1000, 8, dtype=torch.float64, generator=generator)
step = ddpm_step(noise, xt, abar, abar_prev, generator=generator)
a, b, c = (table[:, None] for table in (linear.alphas, linear.betas, abar))  # (1000, 1)
algorithm_2 = (xt - b / (1 - c).sqrt() * noise) / a.sqrt()
assert_close(step.mean, algorithm_2, rtol=1e-10, atol=1e-10)
print("the mean through x0 and the mean of Algorithm 2 agree at all 1,000 indices")

# %% [markdown]
# ## Two variances
#
# When you sample, $x_0$ is unknown. You put the network's estimate in its place. That gives the right mean: (04.6) is linear in $x_0$,
# so its average over all $x_0$ that fit $x_t$ is (04.6) at $E[x_0 \mid x_t]$. What about the variance?
#
# Write one step of the posterior as $x_{t-1} = c_0 x_0 + c_t x_t + \sqrt{\tilde\beta_t}\,z$ with fresh $z \sim N(0, 1)$. Fix $x_t$ only. Now $x_0$ is
# random too, independent of $z$, and variances of independent parts add:
#
# $$\operatorname{Var}(x_{t-1} \mid x_t) = \tilde\beta_t + c_0^2\,\operatorname{Var}(x_0 \mid x_t), \qquad c_0 = \frac{\sqrt{\bar\alpha_{t-1}}\,\beta_t}{1-\bar\alpha_t} \tag{04.8}$$
#
# So $\tilde\beta_t$ is right if $x_t$ tells you $x_0$, and too small otherwise. Two kinds of data can be worked out:
#
# **One point.** $\operatorname{Var}(x_0 \mid x_t) = 0$. The right variance is $\tilde\beta_t$.
#
# **Standard normal data.** $x_0$ and $x_t$ are jointly Gaussian, both with variance 1, with covariance $\sqrt{\bar\alpha_t}$, so $\operatorname{Var}(x_0 \mid x_t) = 1-\bar\alpha_t$:
#
# $$\tilde\beta_t + \frac{\bar\alpha_{t-1}\beta_t^2}{1-\bar\alpha_t} = \beta_t\,\frac{1-\bar\alpha_{t-1} + \bar\alpha_{t-1}\beta_t}{1-\bar\alpha_t} = \beta_t\,\frac{1-\bar\alpha_{t-1}\alpha_t}{1-\bar\alpha_t} = \beta_t \tag{04.9}$$
#
# The right variance is $\beta_t$. This is what section 3.2 of arXiv 2006.11239 states without the lines between: $\sigma_t^2 = \beta_t$ is optimal for $x_0 \sim N(0, I)$,
# $\sigma_t^2 = \tilde\beta_t$ for data that is one point.
#
# **Other data** with variance 1 per coordinate lies between them on average. The best straight-line guess of $x_0$ from $x_t$ errs by $1-\bar\alpha_t$ in mean square,
# whatever the data; $E[x_0 \mid x_t]$ is the best guess of all, so its error, the average of $\operatorname{Var}(x_0 \mid x_t)$, is at most that.
#
# The next cell computes the right variance of three data sets from (04.8): the exact $\operatorname{Var}(x_0 \mid x_t)$ of a mixture, averaged over 1,000 draws of $x_t$.

# %%
from diffusion_course import GaussianMixture, mixture


def right_variance(data, t):
    xt = data.at(abar[t].item()).sample(1000, generator=make_generator(t))
    covariance = data.posterior_covariance(xt, abar[t:t + 1])
    spread = covariance.diagonal(dim1=1, dim2=2).mean()
    return beta_tilde[t] + coef_x0[t] ** 2 * spread


def scaled_to_unit_variance(data):
    squares = data.means**2 + data.covariances.diagonal(dim1=1, dim2=2)
    size = (data.weights[:, None] * squares).sum(0).mean()
    return GaussianMixture(
        data.weights, data.means / size.sqrt(), data.covariances / size
    )


# %%
point_or_normal = [
    GaussianMixture(
        torch.ones(1).double(), torch.zeros(1, 2).double(),
        s * torch.eye(2).double()[None],
    )
    for s in (0, 1)
]
point, normal, ring = *point_or_normal, scaled_to_unit_variance(mixture("ring"))
indices = torch.logspace(0, 2.999, 40).long().unique()
ratios = {
    name: torch.stack([
        right_variance(data, t) / linear.betas[t] for t in indices.tolist()
    ])
    for name, data in (("N(0, I)", normal), ("ring of 8", ring), ("one point", point))
}
assert_close(ratios["N(0, I)"], torch.ones(len(indices)).double())
assert_close(ratios["one point"], (beta_tilde / linear.betas)[indices])

# %%
fig = plotting.lines(
    indices, ratios, xlabel="index t", ylabel=r"right variance / $\beta_t$",
    logx=True, title="Every data set lies between two curves",
)
show(fig, alt=(
    "Right variance over beta against the index. N(0, I): 1 everywhere. "
    "One point: 0.46 at index 1, 0.86 at index 10, 0.98 at index 90. "
    "The ring runs between the two, lowest with 0.98 near index 30."
))

# %% [markdown]
# The lower curve is $\tilde\beta_t / \beta_t = (1-\bar\alpha_{t-1})/(1-\bar\alpha_t)$. It depends on the schedule only:

# %%
for t in (0, 1, 2, 10, 100, 999):
    print(f"index {t:3d}: beta-tilde / beta = {beta_tilde[t] / linear.betas[t]:.3f}")

# %% [markdown]
# With 1,000 small steps the two variances differ by more than 2 % at the first 90 indices only, which is why both work in practice.
# With few large steps they differ everywhere. To see what a wrong one does, follow the variance $v_t$ of a chain for standard normal data.
# There $E[x_0 \mid x_t] = \sqrt{\bar\alpha_t}\,x_t$, the mean (04.6) becomes $\sqrt{\alpha_t}\,x_t$, and so $v_{t-1} = \alpha_t v_t + \sigma_t^2$, without noise at the end.

# %%
def final_variance(schedule, sigma2):
    v = 1.0  # the chain starts from N(0, 1)
    for t in reversed(range(1, schedule.num_train_timesteps)):
        v = schedule.alphas[t].item() * v + sigma2[t].item()
    return schedule.alphas[0].item() * v


for num_steps in (10, 50, 1000):
    s = make_schedule("cosine", num_steps)
    small = posterior_coefficients(s.alphas_cumprod, s.alphas_cumprod_prev)[2]
    print(
        f"T = {num_steps:4d}: variance of the samples {final_variance(s, s.betas):.4f} "
        f"with beta, {final_variance(s, small):.4f} with beta-tilde"
    )

# %% [markdown]
# The data has variance 1. With $\beta_t$ the chain keeps it, up to the missing noise of the last step. With $\tilde\beta_t$ and ten steps a good part is gone.
# The package's loop, run with the exact network of this data, agrees with the recursion:

# %%
from diffusion_course import p_sample_loop

small = posterior_coefficients(ten.alphas_cumprod, ten.alphas_cumprod_prev)[2]
for variance_type, sigma2 in (("fixed_large", ten.betas), ("fixed_small", small)):
    drawn = p_sample_loop(
        normal.model(ten.alphas_cumprod), (20_000, 2),
        ten.betas, ten.alphas, ten.alphas_cumprod,
        variance_type=variance_type, generator=make_generator(0), dtype=torch.float64,
    )
    assert_close(drawn.var().item(), final_variance(ten, sigma2), rtol=0.03, atol=0.0)
print("loop and recursion agree within 3 %")

# %% [markdown]
# ## The ends of the chain
#
# **The last step**, paper's $t = 1$, index 0. Here $\bar\alpha_0 = 1$ and $1-\bar\alpha_1 = \beta_1$, so (04.6) has $c_0 = 1$, $c_t = 0$ and $\tilde\beta_1 = 0$:
# the clean data is known, and the posterior is that one point. The derivation divided by $1-\bar\alpha_{t-1} = 0$ on the way, but the result is the limit.
# The last step therefore outputs the network's estimate of $x_0$, and no noise is added, whichever variance you chose.
# A table that is read at `t - 1` without care gives the last entry of the table there, the noisiest level of all.
#
# **The first step.** The chain starts from $N(0, I)$, while the forward process ends at $q(x_T)$. Lesson 02 measured the gap: $\sqrt{\bar\alpha_T} = 0.0064$ for this schedule.
#
# **Both at once**, $T = 1$: one step from noise to data. It returns $E[x_0 \mid x_T]$, which is the average of the data and not a sample.

# %%
first = q_posterior(start, end, torch.tensor([0]), linear.alphas_cumprod)
assert_close(first.mean, start)
assert first.variance.item() == 0
one = NoiseSchedule(torch.tensor([0.999], dtype=torch.float64))
in_one_step = p_sample_loop(
    ring.model(one.alphas_cumprod), (500, 2), one.betas, one.alphas, one.alphas_cumprod,
    generator=make_generator(0), dtype=torch.float64,
)
print(
    "distance from the centre: "
    f"data {ring.sample(500, generator=make_generator(1)).norm(dim=1).mean():.3f}, "
    f"T = 1 {in_one_step.norm(dim=1).mean():.3f}"
)

# %% [markdown]
# ## Sampling
#
# Put the pieces together (arXiv 2006.11239, Algorithm 2). Start from $x_T \sim N(0, I)$. For $t = T, \dots, 1$: ask the network for $\hat\epsilon$, compute the mean, add $\sigma_t z$ with fresh $z$ if $t > 1$.
# It is called *ancestral* sampling because each $x_{t-1}$ is drawn given its parent $x_t$.

# %%
from diffusion_course import p_sample_iter

show_source(ddpm_step, p_sample_iter)

# %% [markdown]
# Before any network, run the loop with the exact one: a mixture knows its best noise prediction at every level.
# Then any error belongs to the loop. At each station the points must follow the forward marginal $q(x_t)$, which is known in closed form.

# %%
moons = mixture("moons")
stations = (400, 150, 50, 0)
chain = {}
exact = lambda xt, t: moons.noise_prediction(xt, abar[t])  # noqa: E731
for t, x, _ in p_sample_iter(
    exact, (500, 2), linear.betas, linear.alphas, abar,
    generator=make_generator(4), dtype=torch.float64,
):
    if t in stations:
        chain[t] = x  # (500, 2): x_{t-1} in the paper's count, noise level abar_prev[t]

# %%
for t in stations:
    level = moons.at(abar_prev[t].item())
    exact_points = level.sample(20_000, generator=make_generator(t))
    expected = level.log_prob(exact_points).mean().item()
    found = level.log_prob(chain[t]).mean().item()
    assert_close(found, expected, rtol=0.0, atol=0.15)
    print(
        f"after index {t:3d}: mean log-density of the chain's points {found:.3f}, "
        f"of exact samples {expected:.3f}"
    )

# %%
fig = plotting.scatter_2d(
    {f"after index {t}": chain[t] for t in stations},
    limit=3.5, title="The chain with the exact network ends on the data",
)
show(fig, alt=(
    "Four scatter plots: a round cloud after index 400, a cloud with a slant after "
    "150, two blurred arcs after 50, two sharp interleaved arcs after 0."
))

# %% [markdown]
# ### The same step as diffusers
#
# `DDPMScheduler.step` of diffusers computes the same step. It keeps its tables in float32. With our float64 tables put in, the same noise and `clip_sample=False`, both agree at every $t$.

# %%
from diffusers import DDPMScheduler


def largest_difference(variance_type):
    scheduler = DDPMScheduler(1000, variance_type=variance_type, clip_sample=False)
    scheduler.alphas_cumprod, scheduler.one = abar, torch.ones((), dtype=torch.float64)
    differences = []
    for t in range(1000):
        theirs = scheduler.step(noise, t, xt, generator=make_generator(t)).prev_sample
        ours = ddpm_step(
            noise, xt, abar[t], abar_prev[t],
            variance_type=variance_type, generator=make_generator(t),
        ).x_prev
        differences.append((ours - theirs).abs().max())
    return torch.stack(differences).max().item()


# %%
for variance_type in ("fixed_small", "fixed_large"):
    difference = largest_difference(variance_type)
    assert difference <= 1e-10
    print(f"{variance_type}: largest absolute difference over all t below 1e-10")

# %% [markdown]
# ## Clipping the estimate
#
# The estimate $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon)/\sqrt{\bar\alpha_t}$ divides by $\sqrt{\bar\alpha_t}$. At the first step that multiplies every error of the network by 157.
# If you know that data lies in $[-1, 1]$, as images do, you can clamp $\hat x_0$ before it goes into (04.6). `ddpm_step` does so with `clip_x0=1.0`.
#
# Without clipping, "estimate $x_0$, then the posterior" and Algorithm 2 are the same step (check 3). With clipping they are not: (04.7) has no $x_0$ to clip.
# The next cell takes real digits, gives the network an error of standard deviation 0.1, and measures how far the two means are apart.

# %%
from diffusion_course import load_dataset, q_sample

digits = load_dataset("digits").images.double()
some = digits[:64]
error = 0.1 * torch.randn(64, 1, 8, 8, dtype=torch.float64, generator=generator)
gap, overshoot = [], []
z = torch.randn(64, 1, 8, 8, dtype=torch.float64, generator=generator)
for t in range(0, 1000, 20):
    noisy_digits = q_sample(some, torch.full((64,), t), abar, z)
    steps = [
        ddpm_step(z + error, noisy_digits, abar[t], abar_prev[t], z, clip_x0=clip)
        for clip in (None, 1.0)
    ]
    gap.append((steps[0].mean - steps[1].mean).abs().max())
    overshoot.append(steps[0].x0_pred.abs().max())
curves = {
    "largest |estimate of x0|": torch.stack(overshoot),
    "gap between the two means": torch.stack(gap),
}

# %%
fig = plotting.lines(
    torch.arange(0, 1000, 20), curves, xlabel="index t", ylabel="size", logy=True,
    title="Clipping changes the step where the estimate overshoots",
)
show(fig, alt=(
    "Against the index, log scale: the largest estimate of x0 grows from 1 to about "
    "50; the gap between clipped and unclipped mean stays between 0.002 and 0.008."
))

# %% [markdown]
# The estimate overshoots fifty-fold, and one step moves by less than 0.01: $c_0$ is small there. But the chain takes a thousand such steps.
# Which of the two is better is an empirical matter. Clipping is a habit of image models that guards against a weak network. It is wrong for data that leaves $[-1, 1]$.

# %% [markdown]
# ## A learned variance
#
# (04.8) says that the right variance depends on the data and on $x_t$. A network can learn it. Nichol & Dhariwal (arXiv 2102.09672, eq. 15) let it output a number $v$ per coordinate and
# interpolate between the two bounds, in logarithms:
#
# $$\sigma_t^2 = \exp\left(v\log\beta_t + (1-v)\log\tilde\beta_t\right) \tag{04.10}$$
#
# $v = 1$ is $\beta_t$, $v = 0$ is $\tilde\beta_t$. The bounds are so close together at most $t$ that a network that outputs the variance itself would have to hit a hair's breadth; $v$ spreads that interval out.
# The noise loss does not contain $\sigma_t$, so their training adds $0.001$ times the bound of lesson 03, and lets that part move $v$ only, not the mean.
#
# For a mixture you do not have to learn it. Solve (04.10) for $v$ at the right variance of (04.8):

# %%
log_right = {name: (ratios[name] * linear.betas[indices]).log() for name in ratios}
low, high = beta_tilde[indices].log(), linear.betas[indices].log()
best_v = {name: (value - low) / (high - low) for name, value in log_right.items()}
fig = plotting.lines(
    indices, best_v, xlabel="index t", ylabel="best $v$", logx=True,
    title="The best v depends on the data and on t",
)
show(fig, alt=(
    "Best v against the index. N(0, I): 1 everywhere. One point: 0 everywhere. "
    "The ring: near 1 at the smallest indices, down to 0.5 near index 60, "
    "back to 1 from index 300."
))

# %% [markdown]
# Read the ring's curve from the right. Under much noise it looks like one wide Gaussian: $v = 1$. With less noise $x_t$ tells which of the eight blobs it came from,
# and a blob is almost a point: $v$ falls to one half. Under very little noise even a blob is wide and flat, $x_0$ may be anywhere around $x_t$, and $v$ is 1 again.
# Only data without any width, such as a pixel that never changes, keeps $v = 0$ to the end.
# This course keeps the two fixed choices. A learned variance matters most for likelihoods and for few steps; with 1,000 steps you would not see it in a picture.

# %% [markdown]
# ## Look
#
# ### Train a network in front of you
#
# A small U-Net, real handwritten digits at their own 8x8 pixels, the loss of lesson 03, 1,000 steps.

# %% tags=["nbval-ignore-output"]
from diffusion_course import Progress, UNet, train

torch.manual_seed(0)
tiny = UNet(channels=16)
losses, num_steps = [], 1000
with Progress(num_steps, "training") as bar:
    for state in train(
        tiny, digits.float(), linear, num_steps=num_steps, batch_size=64,
        learning_rate=3e-3, ema_decay=0.99, report_every=10,
    ):
        losses.append(state.loss)
        bar.update(10, message=f"loss {state.loss:.3f}")
print(f"{sum(p.numel() for p in tiny.parameters()):,} weights")

# %%
steps = torch.arange(10, num_steps + 1, 10)
fig = plotting.lines(
    steps, {"loss": losses}, xlabel="training step", ylabel="mean loss of 10 steps",
    logy=True, title="The loss falls fast, then slowly",
)
show(fig, alt=(
    "Loss against training steps, log scale: it falls from about 1 to below 0.2 within "
    "the first tenth of the run, then creeps to about 0.09."
))

# %% [markdown]
# Now draw with it. The callback of the loop would do; the iterator lets you keep what you want.

# %%
kept = {}
tables = linear.betas, linear.alphas, linear.alphas_cumprod
with Progress(1000, "drawing 8x8 digits") as bar:
    for t, x, x0_pred in p_sample_iter(
        state.ema_model, (8, 1, 8, 8), *tables, generator=make_generator(1)
    ):
        bar.update()
        if t % 100 == 0 or t in (999, 50, 25):
            kept[t] = x, x0_pred

# %%
columns = [999, 800, 600, 400, 300, 200, 100, 50, 0]
rows = [
    torch.cat([kept[t][part][i:i + 1] for t in columns])
    for i in range(2) for part in range(2)
]
fig = plotting.image_strip(
    rows, column_labels=[f"t = {t}" for t in columns],
    row_labels=["x_t", "estimate of x_0"] * 2, title="Digits appear",
)
show(fig, alt=(
    "Two digits over t from 999 to 0. Upper rows: noise that becomes a digit in "
    "the last quarter. Lower rows: the estimate of x_0, first saturated nonsense, "
    "then a grey blur that sharpens long before x_t."
))

# %% [markdown]
# At $t = 999$ the estimate is all black and white: the division by $\sqrt{\bar\alpha_t}$ of the section on clipping. A hundred steps later it is a blur, the average of
# the digits that fit, and then it decides. The upper rows decide much later.

# %%
fig = plotting.image_grid(
    kept[0][0], columns=8, title="Eight digits from a network that you trained"
)
show(fig, alt=(
    "Eight pictures of 8x8 pixels; most have strokes like handwritten digits, "
    "some are malformed."
))

# %% [markdown]
# ### The same code, a longer run
#
# The shipped network has twice the width, 16x16 pixels and a longer training by the same `train`. The command that made it:

# %%
from diffusion_course import load_pretrained, shipped_files

shipped = shipped_files()["digits"]
print(
    f"{shipped.made_by['command']}, {shipped.schedule['name']} schedule, "
    f"T = {shipped.schedule['num_train_timesteps']}"
)
network, schedule = load_pretrained("digits"), shipped.noise_schedule()

# %%
frames = {}
tables = schedule.betas, schedule.alphas, schedule.alphas_cumprod
with Progress(1000, "drawing 16x16 digits") as bar:
    def keep(t, x, x0_pred):
        bar.update()
        if t % 50 == 0 or t == 999:
            frames[t] = x, x0_pred

    drawn = p_sample_loop(
        network, (16, 1, 16, 16), *tables, generator=make_generator(3), callback=keep
    )

# %%
fig = plotting.image_grid(
    drawn, columns=8, title="Sixteen digits, drawn by p_sample_loop"
)
show(fig, alt=(
    "Sixteen grey pictures of 16x16 pixels in two rows. "
    "Most can be read as handwritten digits."
))

# %% [markdown]
# The chain as a loop, three times. Above $x_t$, below the estimate of $x_0$. Where nothing may move, you see $x_t$ at five moments.

# %%
from diffusion_course import Animation

order = sorted(frames, reverse=True)
moments = [999, 400, 200, 100, 0]
still = plotting.image_strip(
    [frames[t][0][:8] for t in moments], row_labels=[f"t = {t}" for t in moments]
)
Animation(
    [torch.cat([part[:8] for part in frames[t]]) for t in order],
    "Eight digits appear out of noise, in the estimate of x_0 long before they "
    "can be seen in x_t.",
    titles=[f"t = {t}" for t in order], row_labels=["x_t", "estimate"],
    seconds=5, still=still,
)

# %% [markdown]
# **Task.** Step through the chain with the slider. Find the largest $t$ at which you can name the first digit in the lower row (the estimate of $x_0$), then in the upper row ($x_t$).
# Compare $\sqrt{\bar\alpha_t}$ at both.

# %%
from diffusion_course import Explorer


def at_step(t):
    x, x0_pred = (part[:8] for part in frames[t])
    fig = plotting.image_grid(
        torch.cat([x, x0_pred]), row_labels=["x_t", "estimate"],
        title=f"After index {t}, signal {schedule.alphas_cumprod[t].sqrt():.2f}",
    )
    return fig, (
        f"Eight digits after index {t}, "
        f"signal {schedule.alphas_cumprod[t].sqrt():.2f}: x_t above, "
        "the estimate of x_0 below."
    )


Explorer(at_step, t=sorted(frames), start={"t": 400}, ahead=True)

# %% [markdown]
# **Task.** Prior times likelihood, one number, $T = 10$. Find the index at which start and end have equal say, so that the posterior's mean lies halfway between the two peaks.
# Then move $x_t$ at that index: does the width of the posterior change?

# %%
def three_bells(t, x_t):  # name -> (mean, variance)
    before = ten.alphas_cumprod_prev[t].item()
    a, b = ten.alphas[t].item(), ten.betas[t].item()
    post = q_posterior(
        start, torch.tensor([x_t]).double(), torch.tensor([t]), ten.alphas_cumprod
    )
    return {
        "start says": (before**0.5, 1 - before),
        "end says": (x_t / a**0.5, b / a),
        "both": (post.mean.item(), post.variance.item()),
    }


# %%
def bayes_picture(t, x_t):
    grid = torch.linspace(-4, 4, 321, dtype=torch.float64)
    bells = three_bells(t, x_t)
    curves = {
        k: torch.exp(-((grid - m) ** 2) / (2 * v)) / (2 * torch.pi * v) ** 0.5
        for k, (m, v) in bells.items()
    }
    fig = plotting.lines(
        grid, curves, xlabel="$x_{t-1}$", ylabel="density",
        title=f"index {t}, x_0 = 1, x_t = {x_t:g}", direct_labels=False,
    )
    return fig, "; ".join(
        f"{name}: mean {m:.2f}, variance {v:.3f}" for name, (m, v) in bells.items()
    )


Explorer(
    bayes_picture, t=list(range(1, 10)), x_t=(-2.0, 2.0, 0.5),
    start={"t": 7, "x_t": -1.0},
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Equal say means equal precision: $1/(1-\bar\alpha_{t-1}) = \alpha_t/\beta_t$. The next cell finds the nearest index. The width never changes: $\tilde\beta_t$ contains neither $x_0$ nor $x_t$.
#
# </details>

# %%
start_says = 1 / (1 - ten.alphas_cumprod_prev[1:])
end_says = (ten.alphas / ten.betas)[1:]
print(
    "equal precision near index "
    f"{1 + int((start_says / end_says).log().abs().argmin())}"
)

# %% [markdown]
# ## Where people go wrong
#
# ### Noise at the last step
#
# A widely read annotated implementation ([labmlai/annotated_deep_learning_paper_implementations](https://github.com/labmlai/annotated_deep_learning_paper_implementations), `labml_nn/diffusion/ddpm/__init__.py`, `p_sample`) draws noise at every index,
# the last one included. Algorithm 2 sets $z = 0$ there. The one-line difference is a missing `if t > 0`; what stays in the picture is noise of standard deviation $\sqrt{\beta_1}$.

# %%
short = make_schedule("linear", 50, beta_start=0.002, beta_end=0.4)
left = {
    "T = 1000": make_schedule("linear", 1000).betas[0].sqrt(),
    "T = 50": short.betas[0].sqrt(),
    "T = 10": ten.betas[0].sqrt(),
}
z = torch.randn(8, 1, 8, 8, dtype=torch.float64, generator=generator)
for name, std in left.items():
    print(f"{name:8s} standard deviation left in the picture {std:.3f}")
fig = plotting.image_strip(
    [digits[:8], *(digits[:8] + std * z for std in left.values())],
    row_labels=["clean", *left], title="What noise at the last step leaves",
)
show(fig, alt=(
    "Eight digits in four rows: clean; with noise of standard deviation 0.010 (no "
    "visible difference); with 0.045 (faint grain); with 0.167 (clear grain)."
))

# %% [markdown]
# With $T = 1000$ you do not see it, which is how it survives. A metric does, and so does anybody who shortens the chain.

# %% [markdown]
# ### A loop that runs the wrong way, or ends early
#
# A loop `for t in range(T)` goes from clean to noisy; it was found in a published diffusion model ([nathan-barry/tiny-diffusion#2](https://github.com/nathan-barry/tiny-diffusion/issues/2), there for text).
# `range(T - 1, 0, -1)` never takes the step at index 0. Both run without an error. The exact network of the moons and ten steps show what they do:

# %%
def run_chain(order, variance_type="fixed_small", last_noise=False):
    random, exact = make_generator(5), moons.model(ten.alphas_cumprod)
    x = torch.randn(1500, 2, generator=random, dtype=torch.float64)
    for t in order:
        step = ddpm_step(
            exact(x, torch.full((1500,), t)), x, ten.alphas_cumprod[t],
            ten.alphas_cumprod_prev[t], generator=random, variance_type=variance_type,
        )
        x = step.x_prev
        if last_noise and t == 0:
            z = torch.randn(1500, 2, generator=random, dtype=torch.float64)
            x = x + ten.betas[0].sqrt() * z
    return x


# %%
right = range(9, -1, -1)
results = {
    "right": run_chain(right),
    "never index 0": run_chain(range(9, 0, -1)),
    "noise at index 0": run_chain(right, last_noise=True),
    "backwards": run_chain(range(10)),
}

# %%
for name, x in results.items():
    print(f"{name:17s} mean log-density {moons.log_prob(x).mean():8.3f}")
fig = plotting.scatter_2d(
    results, limit=3.0, title="Ten steps: a wrong loop raises no error"
)
show(fig, alt=(
    "Four scatter plots. Right: two arcs. "
    "Never index 0 and noise at index 0: the same arcs, blurred. "
    "Backwards: a round cloud, wider than the arcs, without any trace of them."
))

# %% [markdown]
# The same backwards loop on digits, with the network that you trained:

# %%
x = torch.randn(8, 1, 8, 8, generator=make_generator(1))
with torch.no_grad():
    for t in range(0, 1000, 4):
        x = ddpm_step(
            state.ema_model(x, torch.full((8,), t)), x, abar[t], abar_prev[t],
            generator=generator,
        ).x_prev
fig = plotting.image_grid(x, columns=8, title="Backwards: no digit anywhere")
show(fig, alt="Eight squares of noise without any digit.")

# %% [markdown]
# ### The other variance, with few steps
#
# With $T = 1000$ the choice between $\beta_t$ and $\tilde\beta_t$ hardly shows. With ten steps it does, and each choice has its own damage.
# Measure two things on the moons: how many points lie off the arcs (where only 1 % of exact samples lie), and how many lie in the dense core (where 50 % of exact samples lie).

# %%
variances = {
    "exact samples": moons.sample(20_000, generator=make_generator(6)),
    "beta-tilde": results["right"],
    "beta": run_chain(right, "fixed_large"),
}
levels = moons.log_prob(variances["exact samples"])
for name, x in variances.items():
    density = moons.log_prob(x)
    off = (density < levels.quantile(0.01)).double().mean()
    core = (density > levels.median()).double().mean()
    print(f"{name:14s} share off the arcs {off:.3f}, in the dense core {core:.3f}")

# %%
fig = plotting.scatter_2d(
    {name: x[:1500] for name, x in variances.items()},
    limit=3.0, title="Ten steps: beta-tilde is too thin, beta leaves more strays",
)
show(fig, alt=(
    "Three scatter plots: exact samples on two arcs; beta-tilde, thinner arcs "
    "and some points between them; beta, arcs of about the right width and more "
    "points between them."
))

# %% [markdown]
# ### Clipping data that is not in [-1, 1]
#
# diffusers' `DDPMScheduler` has `clip_sample=True` by default ([its documentation](https://huggingface.co/docs/diffusers/api/schedulers/ddpm)). For pixels that is fine. For 2-D points, latents or any other data that leaves the range it bends the samples:

# %%
wide, fifty = mixture("ring"), make_schedule("cosine", 50)  # a ring of radius 1.5
tables = fifty.betas, fifty.alphas, fifty.alphas_cumprod
clipped = {
    name: p_sample_loop(
        wide.model(fifty.alphas_cumprod), (800, 2), *tables,
        clip_x0=clip, generator=make_generator(7), dtype=torch.float64,
    )
    for name, clip in (("not clipped", None), ("clipped to [-1, 1]", 1.0))
}
for name, x in clipped.items():
    print(
        f"{name:18s} share of points beyond 1.1 in a coordinate: "
        f"{(x.abs() > 1.1).any(1).double().mean():.3f}"
    )
fig = plotting.scatter_2d(
    clipped, limit=2.2, title="Clipping pushes a ring of radius 1.5 into a square"
)
show(fig, alt=(
    "Left: eight blobs on a circle of radius 1.5. Right: clipped, the points are "
    "pushed into the square from -1 to 1 and pile up on its border."
))

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("04.1")` helps in steps, `solution("04.1")` comes after a try.

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
#
# | symbol | code | equation |
# |---|---|---|
# | $q(x_{t-1} \mid x_t, x_0)$ | `q_posterior(x0, xt, t, alphas_cumprod)` | (04.6) |
# | $c_0$, $c_t$, $\tilde\beta_t$ | `posterior_coefficients(alpha_bar, alpha_bar_prev)` | (04.5), (04.6) |
# | $\tilde\mu_t$ from $\hat\epsilon$ | `ddpm_step(...).mean` | (04.7) |
# | $\sigma_t^2 = \tilde\beta_t$ or $\beta_t$ | `variance_type="fixed_small"` or `"fixed_large"` | (04.5), (04.9) |
# | $\hat x_0$, clamped | `clip_x0=1.0` | before (04.6) |
# | Algorithm 2 | `p_sample_loop`, `p_sample_iter` | (04.6) in a loop |
#
# What this lesson does not give you: a network that is better than a first small one, and fewer than 1,000 calls of it for a picture.
# Lesson 05 builds the network, lesson 06 cuts the calls.
#
# To read next:
#
# - Ho et al. 2020, https://arxiv.org/abs/2006.11239: section 3.2, now that you can redo each of its equations.
# - Nichol & Dhariwal 2021, https://arxiv.org/abs/2102.09672: section 3.1 for the learned variance, and its plot of $\tilde\beta_t/\beta_t$.
# - Bao et al. 2022, https://arxiv.org/abs/2201.06503: the right variance of (04.8), estimated for trained networks.
