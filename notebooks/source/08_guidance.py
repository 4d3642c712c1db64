# %% [markdown]
# # 08 · Conditioning and guidance
#
# After this lesson you can:
#
# - tell a network what to draw, and train one network to be two by dropping labels,
# - derive classifier-free guidance from Bayes' rule and check it against an exact score,
# - turn any library's guidance scale into any other's,
# - compute what guidance does to samples, and say why they do not follow the density that it was derived from,
# - choose scale, interval and rescaling knowing what each costs,
# - find out whether guidance acts at every step.
#
# You need: lessons 03, 04, 06 and 07.
#
# **Measured cost:** 0.8 min on 2 cores, 1.7 GB of memory at the peak.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
import torch
from torch.testing import assert_close

from diffusion_course import (
    make_generator,
    make_schedule,
    mixture,
    plotting,
    sample_loop,
    seed_everything,
    show,
)
from diffusion_course.notebook import figure

generator = seed_everything(0)

# %% [markdown]
# ## Recall
#
# 1. From lesson 06: a network predicts the noise $\hat\epsilon = 0.6$ at a level with $\bar\alpha_t = 0.75$. What is its score?
# 2. From lesson 07: all samples of a model are copies of one perfect picture. What are its precision and its recall?
#
# <details><summary>Answers</summary>
#
# 1. The score is $-\hat\epsilon / \sqrt{1-\bar\alpha_t} = -0.6/0.5 = -1.2$.
# 2. Precision 1: every sample lies among real data. Recall about 0: nearly all real data is out of the samples' reach.
#
# </details>

# %% [markdown]
# ## Predict first
#
# Two moons, and a label for each point: 0 for the upper one, 1 for the lower one. Both are mixtures of Gaussians, so the best
# network that is told the label can be computed exactly, and so can the best one that is not. `conditional_model` is both: label 2
# means "no label".

# %%
from diffusion_course import ClassifierFreeGuidance

moons, linear = mixture("moons"), make_schedule("linear")
labels = [0] * 6 + [1] * 6  # of the twelve components
exact = moons.conditional_model(linear.alphas_cumprod, labels)
# 40 steps, short ones where there is little noise
times = torch.linspace(999**0.5, 0, 40).square().round().long()


def draw(model, scale, n=1500, label=0, **options):
    guided = ClassifierFreeGuidance(model, scale, **options)
    return sample_loop(
        guided, (n, 2), linear, cond=torch.full((n,), label), sampler="dpmpp_2m",
        timesteps=times, generator=make_generator(1), dtype=torch.float64,
    )


# %%
upper = {s: draw(exact, s) for s in (0, 1, 4)}
fig = plotting.scatter_2d(
    {"s = 0: no label": upper[0], "s = 1: upper moon": upper[1]},
    limit=2.6, title="The label chooses a moon",
)
show(fig, alt=(
    "Left: points on both moons, two interleaved arcs. "
    "Right: points on the upper arc only."
))

# %% [markdown]
# Guidance takes both predictions and goes past the one with the label: $\epsilon_u + s\,(\epsilon_c - \epsilon_u)$. You derive it below.
# At $s = 0$ it is the network without the label, at $s = 1$ the one with it. At $s = 4$ it insists on the label.
#
# On the upper moon nearly every point tells its label: $p(\text{upper} \mid x)$ averages 0.999. There is next to nothing left to insist on.
# The standard deviation of the samples at $s = 1$ is 1.08. What is it at $s = 4$: about the same, clearly smaller or clearly larger?

# %%
my_prediction = "the same"  # "the same", "smaller" or "larger"

# %%
spread = {s: upper[s].var(0).sum().sqrt().item() for s in (1, 4)}
ratio = spread[4] / spread[1]
answer = "smaller" if ratio < 0.9 else "larger" if ratio > 1.1 else "the same"
verdict = "as you said" if my_prediction == answer else f"you said {my_prediction}"
print(f"s = 1: {spread[1]:.2f}; s = 4: {spread[4]:.2f}: {answer} ({verdict})")

# %% [markdown]
# A third of the spread is gone, although the label was already certain. Where did the points go?

# %%
fig = plotting.scatter_2d(
    {"s = 1": upper[1], "s = 4": upper[4]},
    limit=2.6, title="Guidance empties the end that lies near the other moon",
)
show(fig, alt=(
    "Left: points along the whole upper arc. "
    "Right: at s = 4 the points fill the left two thirds of the arc, "
    "and the right leg, which dips towards the lower moon, is empty."
))

# %% [markdown]
# This lesson explains that picture: where the formula comes from, what it does to the distribution, and why people use it all the same.

# %% [markdown]
# ## Telling a network the label
#
# The networks of this course turn the time into a vector that every block reads. A label is one more vector, learned, added to it:
#
# $$e = \mathrm{MLP}(\mathrm{embed}(t)) + E_c, \qquad E \in \mathbb{R}^{(K+1) \times d} \tag{08.1}$$
#
# There are $K$ classes and $K+1$ rows. The last row means "no class"; in code it is `network.null_class`. With it one network is two:
# asked with a label it is the conditional model, asked with `null_class` the unconditional one.
# (Text enters in another way, through attention. Lesson 10 has that.)

# %%
from diffusion_course import show_source
from diffusion_course.models import Conditioning

show_source(Conditioning)

# %% [markdown]
# The last row learns only from samples that carry it. So while training, a share of the labels is dropped: replaced by "no class".
# 10 to 20 % is usual. Nothing else in the training changes, and the loss stays that of lesson 03.

# %%
from diffusion_course import drop_condition

cond = torch.tensor([0, 1, 0, 0, 1, 1, 0, 1, 0, 1])
print("labels ", cond.tolist())
print(
    "dropped", drop_condition(cond, 0.2, null=2, generator=make_generator(3)).tolist()
)

# %% [markdown]
# Train one in front of you: 400 steps on the moons, with 15 % of the labels dropped.

# %% tags=["nbval-ignore-output"]
from diffusion_course import MLP, Progress, load_dataset, train

data, num_steps = load_dataset("moons"), 400
classes = (data.labels >= 6).long()  # the components' labels become the moons'
torch.manual_seed(0)
network = MLP(num_classes=2)
with Progress(num_steps, "training") as bar:
    for state in train(
        network, data.points, linear, num_steps=num_steps, cond=classes,
        cond_dropout=0.15, batch_size=256, learning_rate=2e-3, ema_decay=0.99,
    ):
        bar.update(50, message=f"loss {state.loss:.3f}")
trained = state.ema_model.eval()

# %% [markdown]
# Is it two networks? Ask it both ways at noisy points and compare each answer with both exact ones. The share of the difference between
# the exact answers that is left as error:

# %%
x0, t = data.points[:2000], torch.randint(100, 600, (2000,), generator=generator)
level = linear.alphas_cumprod[t][:, None].float()
xt = level.sqrt() * x0 + (1 - level).sqrt() * torch.randn(2000, 2, generator=generator)
label, nobody = classes[:2000], torch.full((2000,), 2)
best = {
    name: exact(xt.double(), t, c)
    for name, c in (("with label", label), ("without label", nobody))
}
with torch.no_grad():
    for name, c in (("with label", label), ("without label", nobody)):
        miss = [
            ((trained(xt, t, c) - other) ** 2).mean().sqrt() for other in best.values()
        ]
        print(
            f"asked {name:13s}: distance to the exact answer with label {miss[0]:.2f}, "
            f"without {miss[1]:.2f}"
        )

# %% [markdown]
# ## By hand, at one point
#
# One number $x$, two classes, equally frequent. At a level with $\bar\alpha_t = 0.5$ class A has become $N(1, 1)$ and class B $N(-1, 1)$. You stand at $x_t = 0.5$ and want A.
#
# - With the label the score is that of $N(1, 1)$: $-(0.5 - 1) = 0.5$.
# - Bayes: $p(A \mid x_t) = \dfrac{e^{-(0.5-1)^2/2}}{e^{-(0.5-1)^2/2} + e^{-(0.5+1)^2/2}} = \dfrac{1}{1 + e^{-1}} = 0.7311$.
# - Without the label the score is the average of both: $0.7311 \cdot 0.5 + 0.2689 \cdot (-1.5) = -0.0379$.
# - The difference is $0.5379$. It is also the slope of $\log p(A \mid x_t)$: $2\,(1 - 0.7311) = 0.5379$. That is no accident.
# - With $s = 3$: $-0.0379 + 3 \cdot 0.5379 = 1.5758$, and as noise $-\sqrt{0.5} \cdot 1.5758 = -1.114$.

# %%
from diffusion_course import GaussianMixture

two = GaussianMixture(
    torch.tensor([0.5, 0.5]).double(), torch.tensor([[2**0.5], [-(2**0.5)]]).double(),
    torch.ones(2, 1, 1).double(),
)
network_a_b = two.conditional_model(torch.tensor([0.5]).double(), [0, 1])
point = torch.tensor([[0.5]]).double()
first = torch.tensor([0])
class_a = torch.tensor([0])
for s in (0, 1, 3):
    noise = ClassifierFreeGuidance(network_a_b, s)(point, first, class_a).item()
    print(f"s = {s}: noise {noise:.4f}, score {-noise / 0.5**0.5:.4f}")

# %% [markdown]
# ## The derivation
#
# **Line 1.** Bayes' rule for noisy data, $p_t(x \mid c) = p_t(x)\,p_t(c \mid x) / p(c)$. Take the logarithm and the gradient in $x$; $p(c)$ does not contain $x$:
#
# $$\nabla \log p_t(x \mid c) = \nabla \log p_t(x) + \nabla \log p_t(c \mid x) \tag{08.2}$$
#
# So a conditional model is an unconditional one plus the gradient of a classifier that judges noisy data.
#
# **Line 2.** To insist on the label, raise the classifier to a power $s$. Call this the tilted density:
#
# $$\begin{gathered}
# \tilde p_t(x) \propto p_t(x)\,p_t(c \mid x)^s, \\
# \nabla \log \tilde p_t(x) = \nabla \log p_t(x) + s\,\nabla \log p_t(c \mid x)
# \end{gathered} \tag{08.3}$$
#
# With a trained classifier this is classifier guidance (arXiv 2105.05233).
#
# **Line 3.** No classifier is needed: (08.2) says what its gradient is. Put it in:
#
# $$\nabla \log \tilde p_t(x) = \nabla \log p_t(x) + s\,\big[\nabla \log p_t(x \mid c) - \nabla \log p_t(x)\big] \tag{08.4}$$
#
# **Line 4.** From lesson 06, noise is the score times $-\sqrt{1-\bar\alpha_t}$, the same factor in every term:
#
# $$\hat\epsilon = \epsilon_u + s\,(\epsilon_c - \epsilon_u), \qquad \epsilon_c = \epsilon_\theta(x_t, t, c),\quad \epsilon_u = \epsilon_\theta(x_t, t, \varnothing) \tag{08.5}$$
#
# This is classifier-free guidance (arXiv 2207.12598). For $x_0$ or $v$ in place of noise it is the same line: at a given $x_t$ each is a linear function of the others.
#
# **Check: the gradient by autograd.** No formula of guidance in it: write down $\log p_t(x) + s \log p_t(c \mid x)$, let torch differentiate, compare.

# %%
def tilted_log_density(x, alpha_bar, s):
    # p(upper moon | x)
    upper_share = moons.responsibilities(x, alpha_bar)[:, :6].sum(1)
    return moons.log_prob(x, alpha_bar) + s * upper_share.log()


def noise_by_autograd(x, index, s):
    alpha_bar = linear.alphas_cumprod[index].item()
    x = x.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(tilted_log_density(x, alpha_bar, s).sum(), x)
    return -((1 - alpha_bar) ** 0.5) * gradient


# %%
points = torch.randn(200, 2, generator=generator, dtype=torch.float64)
zeros = torch.zeros(200, dtype=torch.long)
for index in (50, 300, 700):
    for s in (0.0, 1.0, 4.0):
        ours = ClassifierFreeGuidance(exact, s)(
            points, torch.full((200,), index), zeros
        )
        assert_close(ours, noise_by_autograd(points, index, s), rtol=1e-8, atol=1e-8)
print(
    "guidance is the gradient of the tilted density, at three levels and three scales"
)

# %% [markdown]
# The check can fail. A widely read annotation writes $s\,\epsilon_c + (s-1)\,\epsilon_u$ ([labml, `sampler/__init__.py`](https://github.com/labmlai/annotated_deep_learning_paper_implementations/blob/master/labml_nn/diffusion/stable_diffusion/sampler/__init__.py), in a comment; the code below it is right). The sign is the other way round:

# %%
index = torch.full((200,), 300)
eps_c, eps_u = exact(points, index, zeros), exact(points, index, zeros + 2)
try:
    assert_close(
        4 * eps_c + 3 * eps_u, noise_by_autograd(points, 300, 4.0), rtol=1e-8, atol=1e-8
    )
except AssertionError as error:
    print(str(error).splitlines()[2])

# %% [markdown]
# These are the package's lines. `torch.lerp(a, b, s)` is $a + s\,(b - a)$, exact at both ends.
# The wrapper makes one call with both halves in one batch: twice the work per step, not twice the calls.

# %%
from diffusion_course import guided_prediction

show_source(guided_prediction, ClassifierFreeGuidance.forward)

# %% [markdown]
# ## One line, two zeros
#
# The literature uses the same line with two origins. Move the zero from $\epsilon_u$ to $\epsilon_c$ and the scale shifts by one:
#
# $$\begin{aligned}
# \epsilon_u + s\,(\epsilon_c - \epsilon_u) &= \epsilon_c + w\,(\epsilon_c - \epsilon_u) \\
# &= (1 + w)\,\epsilon_c - w\,\epsilon_u, \qquad s = 1 + w
# \end{aligned} \tag{08.6}$$
#
# The right side is eq. 6 of the paper. Whoever writes $\epsilon_\theta + w\,(\epsilon_c - \epsilon_u)$ has to say which of the two $\epsilon_\theta$ is.
#
# | number | no condition | conditional | used by |
# |---|---|---|---|
# | $s$, from $\epsilon_u$ | 0 | 1 | this course, diffusers' Stable Diffusion, Imagen, DiT, EDM2 |
# | $w$, from $\epsilon_c$ | -1 | 0 | Ho & Salimans, CS231n, diffusers' Krea 2 and Z-Image |
#
# The [page on conventions](../docs/guidance-conventions.md) has the full table with links. The functions:

# %%
from diffusion_course import scale_from_w, w_from_scale

print(
    f"the paper's w = 7.5 is s = {scale_from_w(7.5)}; diffusers' s = 7.5 is w = "
    f"{w_from_scale(7.5)}"
)
for name, combine in (
    ("a", lambda c, u: (1 + 2) * c - 2 * u), ("b", lambda c, u: u + 2 * (c - u)),
    ("c", lambda c, u: c + 2 * (c - u)),
):
    print(f"code {name} with its scale at 2: this course's s is {combine(1.0, 0.0)}")

# %% [markdown]
# The last lines are the test to remember. Put $\epsilon_c = 1$ and $\epsilon_u = 0$ into any code: out comes $s$.

# %% [markdown]
# ## What guidance does to a distribution, exactly
#
# The derivation wrote down densities $\tilde p_t$. Do guided samples follow $\tilde p_0 \propto p(x)\,p(c \mid x)^s$, the clean tilted density?
# One case can be solved to the end: all data is $N(0, b)$, data with the label is $N(0, a)$, with $a < b$. Take $a = 1$, $b = 2$.
#
# **The tilted density.** By Bayes it is $p(x)^{1-s}\,p(x \mid c)^s$. Powers of Gaussians add up their precisions:
#
# $$\text{variance of } \tilde p_0 = \frac{1}{s/a + (1-s)/b} \tag{08.7}$$
#
# **The guided ODE.** Use the $\sigma$ form of lesson 06, $dx/d\sigma = -\sigma \cdot \text{score}$, where noise of variance $\sigma^2$ is added to both Gaussians.
# Their scores are $-x/(a+\sigma^2)$ and $-x/(b+\sigma^2)$, the guided one is the combination (08.4), and the equation is linear:
#
# $$\frac{d \log x}{d\sigma} = \frac{s\,\sigma}{a+\sigma^2} + \frac{(1-s)\,\sigma}{b+\sigma^2} = \frac{d}{d\sigma}\left[\frac{s}{2}\log(a+\sigma^2) + \frac{1-s}{2}\log(b+\sigma^2)\right]$$
#
# Integrate from a large $\sigma$, where $x$ has variance $\sigma^2$, down to 0. The bracket changes by $\frac s2 \log a + \frac{1-s}{2}\log b - \log\sigma$, so $x$ is multiplied by $a^{s/2}\,b^{(1-s)/2} / \sigma$:
#
# $$\text{variance of the guided ODE's end points} = a^s\,b^{1-s} \tag{08.8}$$
#
# At $s = 3$ the first is $1/2$ and the second $1/4$. Two different distributions, with exact networks and no error of discretisation.
#
# **With noise in every step** (ancestral sampling) the variance $V$ obeys $dV/d\tau = 2A(\tau)V - 1$ with $\tau = \sigma^2$ and $A = s/(a+\tau) + (1-s)/(b+\tau)$. Its solution at $\tau = 0$ is a third number:
#
# $$V = \int_0^\infty \left(\frac{a}{a+\tau}\right)^{2s} \left(\frac{b}{b+\tau}\right)^{2-2s} d\tau \tag{08.9}$$
#
# **Check**: run the samplers and measure. The ODE is deterministic and linear, so one point that starts at 1 is enough: it ends at the factor.

# %%
def one_gaussian(variance):
    one = torch.ones(1, dtype=torch.float64)
    return GaussianMixture(one, one[:, None] * 0, one[:, None, None] * variance).model(
        linear.alphas_cumprod
    )


narrow, wide = one_gaussian(1.0), one_gaussian(2.0)


def narrow_if_asked(xt, t, cond):
    return torch.where((cond == 0)[:, None], narrow(xt, t), wide(xt, t))


# %%
def end_points(s, start, **options):
    guided = ClassifierFreeGuidance(narrow_if_asked, s, null_cond=1)
    return sample_loop(
        guided, start.shape, linear,
        cond=torch.zeros(len(start), dtype=torch.long), x_init=start, **options,
    )


# %%
tau = torch.logspace(-5, 8, 20_001, dtype=torch.float64)
start = torch.randn(10_000, 1, generator=make_generator(5), dtype=torch.float64)
print(" s | tilted | ODE: formula, run | with noise: formula, run")
for s in (1, 3, 5):
    one = torch.ones(1, 1).double()
    ode = end_points(s, one, sampler="heun", num_inference_steps=100).item() ** 2
    ends = end_points(
        s, start, sampler="ddpm", num_inference_steps=1000, generator=make_generator(6)
    )
    noisy = ends.var().item()
    integrand = (1 / (1 + tau)) ** (2 * s) * (2 / (2 + tau)) ** (2 - 2 * s)
    integral = torch.trapezoid(integrand, tau).item()
    print(
        f" {s} | {1 / (s + (1 - s) / 2):6.3f} |   {2.0 ** (1 - s):5.3f}  {ode:5.3f}   "
        f"|   {integral:5.2f}   {noisy:5.2f}"
    )

# %% [markdown]
# The runs agree with (08.8) and (08.9), not with (08.7). Only at $s = 1$ are the three equal. (With noise, 10,000 draws leave an error of 1.4 %.)
#
# Why? Follow the tilted density through the noise. At $\sigma^2 = 1$ and $s = 3$, noising $\tilde p_0$ gives the variance $\frac12 + 1 = 1.5$.
# The density that (08.3) uses at this level is another one: there the precisions of the *noised* Gaussians are combined, $3/2 + (-2)/3$, so its variance is $1.2$.
# The $\tilde p_t$ are not the noised versions of one distribution. No reverse process runs through all of them, and the reverse steps that you take land elsewhere.
#
# This is proved in general: "guidance fails to sample from the intended tilted distribution"
# (Chidambaram et al. 2024, [arXiv 2409.13074](https://arxiv.org/abs/2409.13074)), and neither DDIM nor DDPM with guidance generates it (Bradley & Nakkiran 2024, [arXiv 2408.09000](https://arxiv.org/abs/2408.09000)).
#
# On the moons you can see it. Draw from the tilted density by resampling: take exact samples of all data, weight each with $p(\text{upper} \mid x)^s$, draw from them with these weights.

# %%
pool = moons.sample(50_000, generator=make_generator(7))
upper_share = moons.responsibilities(pool)[:, :6].sum(1)
pairs = {}
for s in (4, 8):
    pick = torch.multinomial(upper_share**s, 1500, generator=make_generator(8))
    pairs |= {
        f"tilted density, s = {s}": pool[pick], f"guided ODE, s = {s}": draw(exact, s)
    }
for name, x in pairs.items():
    print(
        f"{name:22s} spread {x.var(0).sum().sqrt():.2f}, furthest right "
        f"{x[:, 0].quantile(0.99):5.2f}"
    )
fig = plotting.scatter_2d(
    pairs, limit=2.6,
    title="The tilted density is the whole moon; guidance reaches a part of it",
)
show(fig, alt=(
    "Four panels. The tilted density at s = 4 and at s = 8: points along "
    "the whole upper arc. The guided ODE at s = 4: the left leg and the top. "
    "At s = 8: the left leg, up to the top and slightly above the arc."
))

# %% [markdown]
# The tilted density barely changes, because the clean label is certain. But guidance acts at every noise level, and under noise the moons overlap and no label is certain.
# There it pushes the points away from the other moon, and what was pushed does not come back.
#
# **Task.** Find the largest $s$ at which the guided points still reach the right end of the arc. At which $s$ do they begin to leave the arc altogether? The tilted density is drawn below them in grey.

# %%
from diffusion_course import Explorer

cloud = {s: draw(exact, s, n=500) for s in (0, 0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 20)}


def at_scale(s):
    fig, ax = figure(4.2, 4.2)
    grey = torch.multinomial(upper_share**s, 1500, generator=make_generator(8))
    ax.scatter(
        *pool[grey].T, s=4, color="#BBBBBB", linewidths=0, label="tilted density"
    )
    ax.scatter(*cloud[s].T, s=5, color="#D55E00", linewidths=0, label="guided ODE")
    ax.set(xlim=(-2.8, 2.8), ylim=(-2.8, 2.8), xlabel="$x_1$", ylabel="$x_2$")
    ax.set_title(f"s = {s:g}, w = {w_from_scale(s):g}", loc="left")
    ax.legend(loc="lower right")
    return fig, (
        f"Points on two moons at guidance scale {s:g}: spread of the guided points "
        f"{cloud[s].var(0).sum().sqrt():.2f}."
    )


Explorer(at_scale, s=sorted(cloud), start={"s": 4}, ahead=True)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The right end lies at $x_1 = 0.75$. The next cell prints how far right the points reach, and which share of them lies where only 1 % of real points lie: outside the arc.
# Up to $s = 2$ nearly all of the arc is reached, at 4 half of it is lost. From 6 on more and more points lie outside, and at 20 all of them.
#
# </details>

# %%
rare = moons.log_prob(pool).quantile(0.01)
for s in (1, 1.5, 2, 4, 6, 8, 20):
    print(
        f"s = {s:4}: furthest right {cloud[s][:, 0].quantile(0.99):5.2f}, "
        f"off the arc {(moons.log_prob(cloud[s]) < rare).double().mean():.2f}"
    )

# %% [markdown]
# ## Then why does everybody use it?
#
# Because networks err. A network that was trained for a short time puts points between the moons, and those points are no good example of either class.
# Guidance moves them away. Measure with lesson 07's precision and recall, against real points of the upper moon, for the exact network and for the one that you trained.

# %%
from diffusion_course import precision_recall

real = moons.sample(4000, generator=make_generator(9))
real = real[moons.responsibilities(real)[:, :6].sum(1) > 0.5][:1000]
scales = (0.0, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0)


def judge(x):
    accuracy = moons.responsibilities(x)[:, :6].sum(1).mean().item()
    return accuracy, *precision_recall(real, x)


# %% tags=["nbval-ignore-output"]
def in_double(xt, t, cond):
    return trained(xt.float(), t, cond).double()


table = {}
for name, model in (("exact", exact), ("trained", in_double)):
    table[name] = torch.tensor([
        judge(draw(model, s, n=1000, null_cond=2)) for s in scales
    ])
    for s, (accuracy, precision, recall) in zip(
        scales, table[name].tolist(), strict=True
    ):
        print(
            f"{name:8s} s = {s:3.1f}: p(upper) {accuracy:.2f}, precision "
            f"{precision:.2f}, recall {recall:.2f}"
        )

# %% tags=["nbval-ignore-output"]
curves = {
    f"{what}, {name}": table[name][:, column]
    for column, what in ((1, "precision"), (2, "recall"))
    for name in table
}
fig = plotting.lines(
    torch.tensor(scales), curves, xlabel="guidance scale s", ylabel="share",
    title="Guidance repairs the trained network's precision and costs "
          "both their recall",
)
show(fig, alt=(
    "Precision and recall against s for both networks. "
    "Exact: precision 0.97 at s = 1, slowly down to 0.86 at s = 8; "
    "recall falls from near 1 to below 0.2. Trained: precision rises from 0.3 at s = "
    "0 over 0.7 at s = 1 to a peak above 0.8 between 1.5 and 2, then falls to a half; "
    "recall stays near 0.95 up to 1.5 and falls to almost 0 at s = 5."
))

# %% [markdown]
# Read the exact network's curves first. From $s = 1$ on its precision has nothing to gain, and recall falls with every step. For a perfect network guidance is loss.
#
# The trained network gains class and precision up to $s = 1.5$ or $2$, and pays in recall. Beyond that even precision falls: the points are pushed off the arc.
# A scale is chosen on such a curve. There is no theorem that gives it, and values travel badly between networks: a better network wants less.

# %% [markdown]
# ## Where in the chain it acts
#
# `interval=(low, high)` are the indices at which guidance acts; outside, the network is asked with the label alone, at half the cost. Use it to find out where the damage is done:
# guide the exact network in one window at a time, and measure the Fréchet distance of lesson 07 to real points. Beside it, how certain the label is at that noise.

# %%
from diffusion_course import frechet_distance

print("window      | mean certainty of the label | distance to real points at s = 4")
for window in ((0, 100), (100, 300), (300, 500), (500, 700), (700, 999), (0, 999)):
    alpha_bar = linear.alphas_cumprod[sum(window) // 2].item()
    share = moons.responsibilities(
        moons.at(alpha_bar).sample(4000, generator=make_generator(11)), alpha_bar
    )[:, :6].sum(1)
    distance = frechet_distance(draw(exact, 4, n=1000, interval=window), real)
    print(
        f"{window[0]:3d} to {window[1]:3d}  | "
        f"{torch.maximum(share, 1 - share).mean():18.2f}          | {distance:14.3f}"
    )

# %% [markdown]
# Below index 100 the label is certain: guidance has nothing to say, and does no harm. Above 700 it is a coin's toss, and the two predictions are almost the same.
# The damage is done between, where the label is likely but not sure. That is also where guidance helps a network that errs:

# %% tags=["nbval-ignore-output"]
for window in (None, (0, 100), (0, 300), (100, 500)):
    for s in (2, 4):
        accuracy, precision, recall = judge(
            draw(in_double, s, n=1000, null_cond=2, interval=window)
        )
        print(
            f"{'everywhere' if window is None else window!s:10s} s = {s}: "
            f"p(upper) {accuracy:.2f}, precision {precision:.2f}, recall {recall:.2f}"
        )

# %% [markdown]
# Guided from 500 down to 100 only, the trained network at $s = 2$ is at least as precise as with guidance everywhere, and keeps the recall that it had at $s = 1$.
#
# Kynkäänniemi et al. ([arXiv 2404.07724](https://arxiv.org/abs/2404.07724)) measured this on images: guidance is harmful at high noise, useful in the middle, and not needed at low noise.
# With an interval, their Fréchet distance on ImageNet-512 fell from 1.81 to 1.40. They give it in $\sigma$; `linear.sigmas` translates indices. Where the borders lie depends on the data: here the high end is harmless and the middle is not.

# %% [markdown]
# ## On digits
#
# The shipped network `digits_classes` is lesson 05's U-Net with ten classes, trained with dropped labels. Ten digits, one of each class, at five scales. Every row starts from the same noise.

# %%
from diffusion_course import load_pretrained, shipped_files

shipped = shipped_files()["digits_classes"]
unet, schedule = load_pretrained("digits_classes"), shipped.noise_schedule()
print(
    f"{shipped.made_by['command']}; {unet.null_class} classes, "
    f"{sum(p.numel() for p in unet.parameters()):,} weights"
)


def digits_at(scale, n=100, steps=10, **options):
    guided = ClassifierFreeGuidance(unet, scale, **options)
    return sample_loop(
        guided, (n, 1, 16, 16), schedule, cond=torch.arange(n) % 10, sampler="dpmpp_2m",
        num_inference_steps=steps, generator=make_generator(4),
    )


# %% tags=["nbval-ignore-output"]
sheets = {}
with Progress(5, "drawing digits at five scales") as bar:
    for s in (0.0, 1.0, 2.0, 4.0, 8.0):
        sheets[s] = digits_at(s)
        bar.update()

# %%
fig = plotting.image_grid(
    torch.cat([sheets[s][:10] for s in sheets]),
    columns=10, row_labels=[f"s = {s:g}" for s in sheets],
    title="Column k asks for digit k; every row starts from the same noise",
)
show(fig, alt=(
    "Five rows of ten digits. s = 0: digits of any class. "
    "s = 1: the digits 0 to 9, a few of them doubtful, such as the 8. "
    "s = 2: the same hands, every digit clear. s = 4 and s = 8: "
    "broader and brighter strokes that run into the border, some bent out of shape."
))

# %% [markdown]
# Measure it: does the shipped classifier see the digit that was asked for, how sure is it, and how do precision and recall move? The numbers are for 100 drawings each, so the last digit is noise.

# %% tags=["nbval-ignore-output"]
classifier = load_pretrained("digit_classifier")
real_digits = load_dataset("digits", size=16).images
asked = torch.arange(100) % 10
with torch.no_grad():
    real_features = classifier.features(real_digits)
    for s, x in sheets.items():
        shares = classifier(x).softmax(1)
        precision, recall = precision_recall(real_features, classifier.features(x))
        print(
            f"s = {s:g}: right digit "
            f"{(shares.argmax(1) == asked).double().mean():.2f}, "
            f"certainty {shares.gather(1, asked[:, None]).mean():.2f}, "
            f"precision {precision:.2f}, recall {recall:.2f}, beyond black and white "
            f"{(x.abs() > 1).double().mean():.2f}"
        )

# %% [markdown]
# The first step up, from 1 to 2, pays: nothing but the right digit, and more of them look real. Each further step costs recall, and from 4 on precision as well.
# The network is a good one, so it wants little guidance.

# %% [markdown]
# ## Too much of everything: rescaling
#
# The last column is a side effect. $\epsilon_c$ and $\epsilon_u$ each have about the right size; a point far out on the line through them has not.
# More pixels leave the range $[-1, 1]$, and the pictures get hard. Lin et al. ([arXiv 2305.08891](https://arxiv.org/abs/2305.08891), section 3.4) scale the guided prediction back to the standard deviation of the conditional one, in each sample, and blend. With $y_c$, $y_u$ for the two outputs:
#
# $$g = y_u + s\,(y_c - y_u), \qquad \hat y = \phi\,\frac{\operatorname{std}(y_c)}{\operatorname{std}(g)}\,g + (1 - \phi)\,g \tag{08.10}$$
#
# It is a habit, not a consequence of anything above: no density belongs to it. And unlike guidance itself it depends on *what the network predicts*.
# How much too large is $g$, as noise and as $v$?

# %%
from diffusion_course import convert_prediction, q_sample

abar = schedule.alphas_cumprod.float()


def as_v(xt, t, cond):
    return convert_prediction(
        unet(xt, t, cond), xt, t, abar, source="epsilon", target="v_prediction"
    )


# %%
for t in (900, 500, 100):
    ts = torch.full((100,), t)
    xt = q_sample(real_digits[:100], ts, abar, generator=make_generator(10))
    outputs = {
        name: (model(xt, ts, asked), model(xt, ts, torch.full_like(asked, 10)))
        for name, model in (("noise", unet), ("v", as_v))
    }
    sizes = {
        name: (
            guided_prediction(c, u, 8.0).flatten(1).std(1) / c.flatten(1).std(1)
        ).mean()
        for name, (c, u) in outputs.items()
    }
    print(
        f"t = {t}: s = 8 makes the deviation larger by {sizes['noise']:.2f} as noise, "
        f"by {sizes['v']:.2f} as v"
    )

# %% [markdown]
# Under much noise a prediction of noise is noise, whatever the label: nothing to rescale. The same prediction written as $v$ is mostly $-x_0$, and there the excess shows.
# The paper rescaled a network that predicts $v$. Draw both ways, and with an interval:

# %% tags=["nbval-ignore-output"]
def v_digits(**options):
    guided = ClassifierFreeGuidance(as_v, 8.0, null_cond=10, **options)
    return sample_loop(
        guided, (100, 1, 16, 16), schedule, cond=asked, sampler="dpmpp_2m",
        num_inference_steps=10, generator=make_generator(4),
        prediction_type="v_prediction", dtype=torch.float32,
    )


tamed = {
    "plain": sheets[8.0],
    "noise, 0.7": digits_at(8.0, rescale=0.7),
    "v, 0.7": v_digits(rescale=0.7),
    "200 to 800": digits_at(8.0, interval=(200, 800)),
}
with torch.no_grad():
    for name, x in tamed.items():
        precision, recall = precision_recall(real_features, classifier.features(x))
        print(
            f"s = 8, {name:10s} contrast {x.std():.3f}, beyond black and white "
            f"{(x.abs() > 1).double().mean():.2f}, precision {precision:.2f}, "
            f"recall {recall:.2f}"
        )

# %%
fig = plotting.image_grid(
    torch.cat([x[:10] for x in tamed.values()]),
    columns=10, row_labels=list(tamed), title="Three ways to tame s = 8",
)
show(fig, alt=(
    "Four rows of the digits 0 to 9 at s = 8. Plain and rescaled as noise: "
    "the same heavy strokes. Rescaled as v: the same digits with more uneven strokes. "
    "Guided from index 800 to 200 only: clean, smooth strokes."
))

# %% [markdown]
# Rescaling noise changes nothing that you can see. Rescaling $v$ gives back range and recall, and loses precision. The interval does the opposite.

# %% [markdown]
# ## Where people go wrong
#
# ### Guidance at the first step only
#
# The starter code of a university's assignment on diffusion models keeps the scale in a dictionary that the sampling loop hands to the network at every step
# (read in a [public copy](https://github.com/mantasu/cs231n/blob/9dca31f3d2cfa2b5f59c38785ad00dcc99b478d3/assignment3/cs231n/unet.py), `Unet.cfg_forward`, with `gaussian_diffusion.py` beside it).
# It takes the scale out with `pop`, from the caller's dictionary. The copy that would have prevented it comes one line later. Here are those lines around the network that you trained:

# %%
import copy


def forward(xt, t, model_kwargs):
    if "cfg_scale" not in model_kwargs:
        return trained(xt, t, model_kwargs["label"])
    w = model_kwargs.pop("cfg_scale")
    model_kwargs = copy.deepcopy(model_kwargs)
    guided_times.append(t[0].item())
    eps_c = forward(xt, t, model_kwargs)
    eps_u = forward(xt, t, {**model_kwargs, "label": torch.full((len(xt),), 2)})
    return (1 + w) * eps_c - w * eps_u


# %%
def run(make_kwargs):
    guided_times.clear()
    x = sample_loop(
        lambda xt, t: forward(xt, t, make_kwargs()), (1000, 2), linear,
        sampler="dpmpp_2m", timesteps=times, generator=make_generator(1),
    )
    return x.double(), len(guided_times)


guided_times = []
once = {"label": torch.zeros(1000, dtype=torch.long), "cfg_scale": 1.0}
fresh = dict(once)
runs = {
    "one dictionary for all steps": run(lambda: once),
    "a fresh copy at every step": run(lambda: dict(fresh)),
    "no guidance": run(lambda: {"label": fresh["label"]}),
}

# %% tags=["nbval-ignore-output"]
for name, (x, steps) in runs.items():
    accuracy, precision, _ = judge(x)
    print(
        f"{name:29s} guided steps {steps:2d} of {len(times)}, p(upper) {accuracy:.3f}, "
        f"precision {precision:.2f}"
    )

# %% [markdown]
# One step of forty is guided, and it is the noisiest, where guidance does most harm and least good. The samples are those of no guidance. Nothing raises an error, and the printed scale is right.
# Two habits catch it: never change what the caller passed, and count. `ClassifierFreeGuidance` keeps its settings to itself; the size of the batches that the network sees tells where it acted:

# %%
seen = []


def spy(xt, t, cond):
    seen.append((t[0].item(), len(xt)))
    return exact(xt, t, cond)


draw(spy, 4, n=50, null_cond=2, interval=(200, 600))
print("guided at t =", [t for t, size in seen if size == 100])

# %% [markdown]
# ### One number, three meanings
#
# Somebody asks for a scale of 0, or of 1. What they get depends on the code:
#
# - The formula: 0 is unconditional, 1 is conditional.
# - diffusers' Stable Diffusion: guidance is on if `guidance_scale > 1`, else the network is called with the prompt. 0 is conditional ([diffusers#9680](https://github.com/huggingface/diffusers/issues/9680) reports it as a bug).
# - An [assignment of KAIST](https://github.com/KAIST-Visual-AI-Group/Diffusion-Assignment2-DDIM-CFG): the README says "greater than 0.0", the code asks for `guidance_scale > 1.0`, and otherwise calls the network *without* the class. 0 and 1 are both unconditional.
# - The paper's $w$: 0 is conditional, 1 is already guidance.

# %% tags=["nbval-ignore-output"]
meanings = {
    "formula, s": lambda v: v,
    "diffusers": lambda v: v if v > 1 else 1.0,
    "KAIST": lambda v: v if v > 1 else 0.0,
    "paper's w": scale_from_w,
}
print("p(upper) and precision of the trained network's samples")
for name, meaning in meanings.items():
    row = [
        judge(draw(in_double, float(meaning(v)), n=500, null_cond=2))[:2]
        for v in (0.0, 1.0, 2.0)
    ]
    print(
        f"{name:11s}",
        "; ".join(
            f"scale {v}: {accuracy:.2f}, {precision:.2f}"
            for v, (accuracy, precision) in zip((0, 1, 2), row, strict=True)
        ),
    )

# %% [markdown]
# A class that comes out at the rate of chance is the symptom. Ask for one class, look at a hundred samples, and count.
#
# ### Weights that do not add up to 1
#
# With the annotation's sign, $s\,\epsilon_c + (s-1)\,\epsilon_u$, both predictions are added. They are nearly equal at most points, so the network seems to see $2s - 1$ times the noise that is there:

# %%
def wrong_sign(xt, t, cond):
    return 4 * exact(xt, t, cond) + 3 * exact(xt, t, torch.full_like(cond, 2))


exploded = draw(wrong_sign, 1, n=200, null_cond=2)
print(
    f"s = 4: the largest coordinate is {draw(exact, 4, n=200).abs().max():.1f} with "
    f"the right sign, {exploded.abs().max():.0e} with the wrong one"
)

# %% [markdown]
# ### A "no class" that was never trained
#
# Without dropped labels the last row of $E$ keeps the random numbers that it started with. The network still answers, and guidance then runs away from an arbitrary direction. The same training with `cond_dropout=0`:

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
for state in train(
    MLP(num_classes=2), data.points, linear, num_steps=num_steps, cond=classes,
    batch_size=256, learning_rate=2e-3, ema_decay=0.99,
):
    pass
never = state.ema_model.eval()
for s in (1.0, 2.0, 4.0):
    for name, model in (
        ("with dropped labels", in_double),
        ("without", lambda xt, t, cond: never(xt.float(), t, cond).double()),
    ):
        accuracy, precision, recall = judge(draw(model, s, n=1000, null_cond=2))
        print(
            f"s = {s}: {name:19s} p(upper) {accuracy:.2f}, precision {precision:.2f}, "
            f"recall {recall:.2f}"
        )

# %% [markdown]
# At $s = 1$ the network without dropped labels is even a little better: all of its training went into labels. From $s = 2$ on nothing is left of the moon.

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("08.1")` helps in steps, `solution("08.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("08.1")

# %%
def guide(cond_output, uncond_output, scale):
    return uncond_output + ...


check("08.1", guide)

# %%
exercise("08.2")

# %%
def scale_used(guided, cond_output, uncond_output):
    step = cond_output - uncond_output
    return ...


check("08.2", scale_used)

# %%
exercise("08.3")

# %%
def drop_labels(cond, uniform, probability, null_class):
    dropped = uniform < probability
    return ...


check("08.3", drop_labels)

# %%
exercise("08.4")

# %%
def guided_noise(model, xt, t, cond, scale):
    ...


check("08.4", guided_noise)

# %%
exercise("08.5")

# %%
standard_deviation = ...

check("08.5", standard_deviation)

# %%
exercise("08.6")

# %%
def rescaled(cond_output, uncond_output, scale, phi):
    ...


check("08.6", rescaled)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | $c$, $\varnothing$ | `cond`, `model.null_class` | (08.1) |
# | labels dropped for training | `drop_condition`, `train(..., cond_dropout=0.1)` | (08.1) |
# | $\epsilon_u + s\,(\epsilon_c - \epsilon_u)$ | `guided_prediction`, `ClassifierFreeGuidance(model, s)` | (08.5) |
# | $s = 1 + w$ | `scale_from_w`, `w_from_scale` | (08.6) |
# | the guided ODE's variance $a^s b^{1-s}$ | | (08.8) |
# | guidance at some $t$ only | `interval=(low, high)` | |
# | $\phi$ | `rescale=0.7` | (08.10) |
# | away from something else than $\varnothing$ | `negative_cond=` | (08.5) |
#
# This ends Part I: you can train a network on noise, draw with it in a few steps, tell it what to draw, and measure the result. What it lacks is size: sixteen pixels are little.
# Part II moves the same code into the latents of an autoencoder, and replaces ten classes by words.
#
# To read next:
#
# - Ho & Salimans 2022, https://arxiv.org/abs/2207.12598: the method. Compare its eq. 6 with (08.6).
# - Bradley & Nakkiran 2024, https://arxiv.org/abs/2408.09000: what guidance does instead, as a predictor and a corrector in turn.
# - Karras et al. 2024, https://arxiv.org/abs/2406.02507: guide with a worse version of the network instead of one without labels.
