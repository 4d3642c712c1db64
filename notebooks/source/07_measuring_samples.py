# %% [markdown]
# # 07 · Measuring samples
#
# After this lesson you can:
#
# - derive the Frechet distance, and say why two sets of the same pictures are not at distance 0,
# - use a distance without that bias, and put an honest interval on it,
# - separate fidelity from coverage, and test for copies of the training data,
# - say what a CLIP score measures, and what each of these numbers misses.
#
# You need: lessons 01 to 04, and drawing in ten calls from lesson 06.
#
# **Measured cost:** 0.8 min on 2 cores, 1.0 GB of memory at the peak. Core: about 23 minutes of reading, 0.3 of computing. Going further: about 23 and 0.5.

# %%
import torch
from torch.testing import assert_close

from diffusion_course import (
    GaussianMixture,
    bootstrap_interval,
    extract_features,
    frechet_distance,
    frechet_infinity,
    load_dataset,
    load_pretrained,
    make_generator,
    memorisation,
    mixture,
    mmd,
    nearest_distances,
    plotting,
    precision_recall,
    sample_loop,
    seed_everything,
    shipped_files,
    show,
    show_source,
)
from diffusion_course.notebook import Drawing, figure

generator = seed_everything(0)

# %% [markdown]
# ## Which of these sets is best?
#
# Four sets of 300 digits want to look like real handwriting. One was drawn by the course's network, in ten calls. You have to say which set is best.
# To compare them we hold a *reference*: 719 of the 1,438 training digits. The other 719 are the *fresh* pile, and 359 more digits were seen by no network of the course.

# %%
from torch.nn.functional import conv2d, pad

training, held_out = (
    load_dataset("digits", split=split, size=16) for split in ("train", "test")
)
unseen = held_out.images  # (359, 1, 16, 16)
order = torch.randperm(len(training.images), generator=generator)
reference, fresh = training.images[order].split(719)  # (719, 1, 16, 16) each


def blurred(images, std):
    bell = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * std**2))
    bell = bell / bell.sum()
    rows = conv2d(pad(images, (4, 4, 4, 4), mode="replicate"), bell.view(1, 1, 1, 9))
    return conv2d(rows, bell.view(1, 1, 9, 1))


# %%
network = load_pretrained("digits")
schedule = shipped_files()["digits"].noise_schedule()
drawn = sample_loop(
    network, (300, 1, 16, 16), schedule, sampler="dpmpp_2m",
    num_inference_steps=10, clip_x0=1.0, generator=make_generator(1),
)
candidates = {
    "A": unseen[:300], "B": drawn, "C": reference[:300], "D": blurred(unseen[:300], 1.0)
}
fig = plotting.image_strip(
    [images[:12] for images in candidates.values()], row_labels=list(candidates),
    title="Which of these sets is nearest to real handwriting?",
)
show(fig, alt=(
    "Four rows of twelve grey digits. A and C are crisp handwriting, "
    "B is about as crisp, D is blurred."
))

# %% [markdown]
# You want a number. The first idea: find each picture's nearest picture in the reference, and average these distances. Small is good.

# %%
for name, images in candidates.items():
    nearest = nearest_distances(images, reference).distances
    print(f"{name}: mean distance to the nearest real picture {nearest.mean():.2f}")

# %% [markdown]
# A is real: digits that no network has seen. B is the network. C is a photocopier, 300 digits of the reference itself, and D is A, blurred.
# The photocopier wins with 0, and the blur is level with the network.
#
# A single picture cannot show that a *set* is narrow or copied, and pixels are a poor ruler. So we compare whole sets, with a better ruler, and ask of each number what it cannot see.

# %% [markdown]
# ## Recall
#
# 1. From lesson 01: two independent numbers have the variance $s^2$ each. What is the variance of their difference, and of the mean of $N$ such numbers?
# 2. From lesson 04: the moons that were drawn in ten steps had strays *and* were too crowded, yet their mean log-density looked nearly right. Why?
#
# <details><summary>Answers</summary>
#
# 1. $2s^2$ and $s^2/N$. This lesson uses both in one line: the difference between the means of two sets of $N$ has the variance $2s^2/N$.
# 2. It is one average. Strays lower it, crowding raises it, and the two errors cancel. A single number cannot say *how* a set is wrong.
#
# </details>

# %% [markdown]
# ## Predict first
#
# Papers mostly quote the Frechet distance of two sets, which is small if they are alike.
# Which of A (real), B (network), C (copies) and D (blurred) is nearest to the reference?

# %%
my_prediction = "A"  # "A", "B", "C" or "D"
classifier = load_pretrained("digit_classifier")


def features_of(images):
    return extract_features(classifier, images).double()  # (N, 64)


real, fresh_features = features_of(reference), features_of(fresh)
features = {name: features_of(images) for name, images in candidates.items()}
distances = {name: frechet_distance(x, real) for name, x in features.items()}
winner = min(distances, key=distances.get)
said = "as you said" if winner == my_prediction else f"you said {my_prediction}"
print(f"{winner} is nearest ({said}).")
print("  ".join(f"{name}: {distance:.1f}" for name, distance in distances.items()))

# %% [markdown]
# The blur is found out. But the photocopier still wins, and A, which is real, neither gets 0 nor beats the network. Part of this is unfair to A: the classifier behind the numbers has learned from the pile of the reference, and never saw A. The rest comes with every distance of two samples. Both will be explained.

# %% [markdown]
# ## Features, not pixels
#
# No distance between sets is better than its ruler. Move a digit by one pixel and ask which is nearer to it: the moved copy, or some *other* digit of the reference?

# %%
def share_with_a_nearer_stranger(of):
    stranger = nearest_distances(of(fresh), of(reference)).distances
    moved = (of(fresh) - of(fresh.roll(1, 3))).flatten(1).norm(dim=1)
    return (stranger < moved).double().mean()


for name, of in (("pixels", lambda x: x), ("features", features_of)):
    share = share_with_a_nearer_stranger(of)
    print(f"in {name}, {share:.2f} of the digits have a stranger nearer than that copy")

# %% [markdown]
# A *feature* is what a network trained for something else computes just before its last layer. Papers take 2,048 numbers of an Inception network and call the distance *FID*. We take 64 of the course's digit classifier, which help and do not cure the fault.
# No distance between features can see what the features leave out.

# %% [markdown]
# ## By hand: three ways to pair
#
# How far is one pile of points from another? Move it there and average the squared moves. They depend on who goes where.
# Let the first pile be $a = 1 + 2z$ with $z \sim N(0, 1)$, and the second have mean 3 and standard deviation 1:
#
# - **low with low**: $b = 3 + z$. The move is $b - a = 2 - z$, its mean square $2^2 + 1 = 5$.
# - **at random**: $b = 3 + z'$ with another $z'$. The move is $2 + z' - 2z$, its mean square $2^2 + 1 + 4 = 9$.
# - **low with high**: $b = 3 - z$. The move is $2 - 3z$, its mean square $2^2 + 9 = 13$.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
z = torch.distributions.Normal(0.0, 1.0).icdf((torch.arange(12) + 0.5) / 12)
z = z / z.std(correction=0)
fig, axes = figure(7.4, 2.3, 1, 3, sharey=True)
for ax, (name, partner) in zip(axes, {
    "low with low": z, "at random": z[torch.randperm(12, generator=make_generator(13))],
    "low with high": -z,
}.items(), strict=True):
    a, b = 1 + 2 * z, 3 + partner
    ax.plot(torch.stack([a, b]), [[1.0], [0.0]], color="#BBBBBB", linewidth=1)
    ax.plot(a, 0 * a + 1, "o", color="#0072B2", markersize=5)
    ax.plot(b, 0 * b, "o", color="#D55E00", markersize=5)
    ax.set(yticks=[0, 1], yticklabels=["second", "first"], ylim=(-0.3, 1.3))
    ax.set_title(f"{name}: {((b - a) ** 2).mean():.1f}", fontsize=10)
fig.suptitle("Three pairings of twelve points, with their mean squared moves", x=0.01,
             ha="left", fontsize=11)
show(fig, alt=(
    "Three panels, each with twelve blue points above and twelve orange points below, "
    "joined in pairs. Low with low: lines that do not cross, mean squared move 5. At "
    "random: some lines cross, 9. Low with high: every line crosses every other, 13."
))

# %% [markdown]
# The cheapest of these, 5, is the squared difference of the means, $(1-3)^2$, plus that of the standard deviations, $(2-1)^2$.

# %% [markdown]
# ## The cheapest pairing
#
# Is nothing cheaper than 5, and what is "low with low" in 64 coordinates? A *pairing* of two laws is a joint law of $(x, y)$ whose parts have these laws. The squared distance is the cost of the cheapest:
#
# $$d^2 = \min_{\text{pairings}} E\,|x - y|^2 \tag{07.1}$$
#
# Let $m_a, S_a$ be mean and covariance of $x$, and $m_b, S_b$ those of $y$.
#
# **Line 1.** Split off the means: $x = m_a + \tilde x$, $y = m_b + \tilde y$. The mixed term has mean 0:
#
# $$E\,|x-y|^2 = |m_a - m_b|^2 + E\,|\tilde x - \tilde y|^2 \tag{07.2}$$
#
# **Line 2.** Expand the square, with $C = E[\tilde x \tilde y^\top]$:
#
# $$E\,|\tilde x - \tilde y|^2 = \operatorname{tr} S_a + \operatorname{tr} S_b - 2\operatorname{tr} C \tag{07.3}$$
#
# The pairing enters through $\operatorname{tr} C$ alone. Make it large.
#
# **Line 3, one coordinate.** A covariance is at most the product of the standard deviations, so $C \le s_a s_b$ and
#
# $$d^2 \ge (m_a - m_b)^2 + (s_a - s_b)^2 \tag{07.4}$$
#
# Stretching, $\tilde y = \frac{s_b}{s_a}\tilde x$, reaches the bound. For two Gaussians the stretched $x$ has the law of $y$, so this is a pairing, and both sides are equal.
#
# **Many coordinates.** The same steps hold with matrices (Going further has them):
#
# $$\max \operatorname{tr} C = \sum_i \kappa_i, \qquad \kappa_i \ge 0, \quad \kappa_i^2 \text{ the eigenvalues of } S_a S_b \tag{07.5}$$
#
# Papers write this sum as the trace of a matrix root. For two Gaussians (arXiv 1706.08500, eq. 6):
#
# $$d^2 = |m_a - m_b|^2 + \operatorname{tr}\left(S_a + S_b - 2\,(S_a S_b)^{1/2}\right) \tag{07.6}$$
#
# So the formula compares two Gaussians that stand in for the sets.
#
# **Check by another route.** `linear_sum_assignment` finds the cheapest partners among finitely many points, and knows nothing of covariances. If one set is the other one stretched along perpendicular axes, it must find (07.6) exactly. With the root of each element instead of the matrix it must not.

# %%
from scipy.linalg import sqrtm
from scipy.optimize import linear_sum_assignment


def bare_frechet(a, b, correction=1, root=lambda m: torch.from_numpy(sqrtm(m.numpy()))):
    gap = ((a.mean(0) - b.mean(0)) ** 2).sum()
    S_a, S_b = (x.T.cov(correction=correction) for x in (a, b))
    return gap + (S_a + S_b - 2 * root(S_a @ S_b).real).trace()


def cheapest(a, b):
    cost = (a[:, None] - b).square().sum(2)  # (N, N)
    return cost[linear_sum_assignment(cost)].mean()


# %%
a, other = torch.rand(2, 300, 3, generator=generator, dtype=torch.float64)
mix = torch.randn(3, 3, generator=generator, dtype=torch.float64)
b = (a @ (mix @ mix.T) + 1)[torch.randperm(300, generator=generator)]  # stretched
assert_close(cheapest(a, b), bare_frechet(a, b, correction=0))
assert_close(frechet_distance(a, b), bare_frechet(a, b).item())
wrong = bare_frechet(a, b, correction=0, root=lambda m: m.clamp(min=0).sqrt())
print(f"stretched: best partners {cheapest(a, b):.4f}, formula the same")
print(f"with the root of each element {wrong:.4f}: the check fails")
show_source(frechet_distance)

# %% [markdown]
# The package's version takes the $\kappa_i^2$ from $S_a^{1/2} S_b S_a^{1/2}$, which is symmetric and has the same eigenvalues.

# %% [markdown]
# ## Two samples of the same thing
#
# Before you can read a distance you must know what it says of equal things. Reference and fresh digits come from one pile, so their true distance is 0:

# %%
for n in (100, 200, 400, 719):
    d2 = frechet_distance(fresh_features[:n], real[:n])
    print(f"real against real, N = {n:3d}: Frechet distance {d2:5.1f}")
for n in (50, 200, 800):  # one coordinate, s = 2
    x, y = 2 * torch.randn(2, 5000, n, generator=generator, dtype=torch.float64)
    d2 = (x.mean(1) - y.mean(1)) ** 2 + (x.std(1) - y.std(1)) ** 2
    error = d2.std() / len(d2) ** 0.5
    print(f"one coordinate, N = {n:3d}: {d2.mean():.4f} (error {error:.4f}), ", end="")
    print(f"3 s^2 / N = {3 * 2**2 / n:.4f}")

# %% [markdown]
# The distance of equal things falls with $N$ and is never 0, because it squares errors, and squares do not cancel. How fast? Let both sets hold $N$ draws of a Gaussian with variance $s^2$ in one coordinate, and put estimates into the right side of (07.4).
# The difference of the means has the variance $2s^2/N$, as in Recall. The difference of the standard deviations adds half as much (Going further shows it):
#
# $$E\,d^2 \approx \frac{2s^2}{N} + \frac{s^2}{N} = \frac{3s^2}{N} \tag{07.7}$$
#
# With $D$ independent features of variance 1 it is $D(D+5)/2$ over $N$ (Going further): for 2,048 features, 50,000 pictures on both sides still leave 42.
# So never compare numbers with different $N$. The cure (arXiv 1911.07023): if
#
# $$E\,d^2_N \approx d^2_\infty + \frac{c}{N} \tag{07.8}$$
#
# then distances at several $N$ lie on a straight line over $1/N$, and its value at 0 is free of this bias. `frechet_infinity` fits it on shuffled sets.

# %%
fig, ax = figure(5.5, 3.0)
for name, x, color in (
    ("fresh digits", fresh_features[:300], "#0072B2"),
    ("network (B)", features["B"], "#009E73"),
    ("blurred (D)", features["D"], "#D55E00"),
):
    fits = [frechet_infinity(x, real, generator=make_generator(i)) for i in range(5)]
    ends = torch.tensor([fit.value for fit in fits])
    print(f"{name:12s} at infinity {ends.mean():5.1f} (shufflings {ends.std():.1f})")
    ax.plot(1 / fits[0].sizes, fits[0].distances, "o", color=color, label=name)
    line = fits[0].value, fits[0].value + fits[0].slope / fits[0].sizes.min()
    ax.plot([0, 1 / fits[0].sizes.min()], line, color=color)
ax.set(xlabel="1 / N", ylabel="Frechet distance", xlim=(0, None))
ax.set_title("Straight lines over 1 / N, read off at 0", loc="left")
ax.legend()
show(fig, alt=(
    "Frechet distance against 1/N, with straight lines through the points. The line of "
    "the fresh digits comes closest to 0 at the left end, that of the blurred digits "
    "ends highest."
))

# %% [markdown]
# At infinity the fresh digits are at 0 within the scatter, the network is close to it, and the blur is not.

# %% [markdown]
# ## A distance without bias
#
# It is better to have no bias than to remove one. Map every point to a list of numbers $\phi(x)$ and compare the means of that list:
#
# $$\text{MMD}^2 = |E\,\phi(x) - E\,\phi(y)|^2 \tag{07.9}$$
#
# Multiply out, with $x'$ an independent copy of $x$. Only products are left, and the *kernel* $k(x, y) = \phi(x) \cdot \phi(y)$ may be known without any list:
#
# $$\text{MMD}^2 = E\,k(x, x') + E\,k(y, y') - 2\,E\,k(x, y) \tag{07.10}$$
#
# Estimate each mean by an average over pairs of *different* points, and no square of an error is left:
#
# $$\begin{aligned}
# \frac{1}{N(N-1)}\sum_{i \ne j} k(x_i, x_j) &+ \frac{1}{M(M-1)}\sum_{i \ne j} k(y_i, y_j) \\
# &- \frac{2}{NM}\sum_{i,j} k(x_i, y_j)
# \end{aligned} \tag{07.11}$$
#
# **By hand**, with $k(x, y) = xy$, so that MMD² is the squared difference of the means. Let $x = \{1, 3\}$ and $y = \{0, 2\}$. Within $x$: $1 \cdot 3 = 3$. Within $y$: 0. Across: $(0 + 2 + 0 + 6)/4 = 2$. The estimate is $3 + 0 - 4 = -1$.
# A negative estimate is no mistake: only a number that may fall below 0 can be right *on average* where the truth is 0.
#
# The *kernel inception distance*, KID (arXiv 1801.01401), takes $k(a, b) = (a \cdot b / D + 1)^3$ on features. It compares means, covariances and third moments.
# **Check:** 3,000 times two sets of six points from one law. The mean estimate must be 0 within its error. With the pairs $i = j$ left in, it must not.

# %%
def with_diagonal(x, y):
    k = [((p @ q.T) / x.shape[1] + 1) ** 3 for p, q in ((x, x), (y, y), (x, y))]
    return (k[0].mean() + k[1].mean() - 2 * k[2].mean()).item()


pairs = torch.randn(3000, 2, 6, 2, generator=generator, dtype=torch.float64)
for name, estimate in (("without the diagonal", mmd), ("with it", with_diagonal)):
    values = torch.tensor([estimate(x, y) for x, y in pairs])
    error = (values.std() / 3000**0.5).item()
    verdict = "0 fits" if values.mean().abs() < 3 * error else "0 does not fit"
    print(f"{name:21s} mean {values.mean():6.2f}, error {error:.2f}: {verdict}")
for name, x in {"fresh": fresh_features[:300], **features}.items():
    print(f"{name:5s} kernel distance to the reference {mmd(x, real):5.1f}")

# %% [markdown]
# The fresh digits are near 0. The copies C are *below* 0, because each meets its twin in the reference, which makes the cross term too large.

# %% [markdown]
# ## Fidelity and coverage
#
# A distance cannot say *how* a set is wrong: its pictures may be bad, or good but all alike. Precision and recall (arXiv 1904.06991, eq. 1 and 2) ask separately.
# Around each real point lies a ball that reaches to its $k$-th nearest real neighbour ($k = 3$). The union of these balls stands for where real data lives. The same with fake points:
#
# $$\begin{aligned}
# \text{precision} &= \text{share of fakes inside a real ball}, \\
# \text{recall} &= \text{share of real points inside a fake ball}
# \end{aligned} \tag{07.12}$$
#
# In the plane: one model of the two moons draws the upper one only, the other draws both and adds noise.

# %%
from matplotlib.collections import EllipseCollection

moons = mixture("moons")
points = moons.sample(120, generator=make_generator(0))
apart = torch.cdist(points, points)  # (120, 120)
reach = apart.kthvalue(4, dim=1).values  # the first neighbour is the point itself
upper = GaussianMixture(2 * moons.weights[:6], moons.means[:6], moons.covariances[:6])
noise = 0.35 * torch.randn(100, 2, generator=generator).double()
fakes = {
    "upper moon only": upper.sample(100, generator=generator),
    "both, with noise": moons.sample(100, generator=generator) + noise,
}
found = {name: precision_recall(points, fake) for name, fake in fakes.items()}
for name, fake in fakes.items():
    by_hand = (torch.cdist(fake, points) <= reach).any(1).double().mean()
    assert_close(by_hand.item(), found[name].precision)

# %%
fig, axes = figure(7.4, 3.4, ncols=2, sharex=True, sharey=True)
for ax, (name, fake) in zip(axes, fakes.items(), strict=True):
    balls = EllipseCollection(
        *(c * reach.numpy() for c in (2, 2, 0)), units="xy", offsets=points.numpy(),
        offset_transform=ax.transData, facecolor="#0072B2", alpha=0.12,
    )
    ax.add_collection(balls)
    ax.plot(*points.T, ".", color="#0072B2", ms=3, label="real, with balls")
    ax.plot(*fake.T, "x", color="#D55E00", ms=4, label="fake")
    precision, recall = found[name]
    ax.set_title(f"{name}: precision {precision:.2f}, recall {recall:.2f}", fontsize=9)
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.2, 2.2), aspect="equal")
axes[1].legend(loc="lower left", fontsize=8)
show(fig, alt=(
    "Two panels with blue points on two arcs, each point with a pale ball. "
    "Left: orange crosses cover the upper arc only and lie inside the balls. "
    "Right: orange crosses spread around both arcs, many of them outside every ball."
))
print({
    name: "precision {:.2f}, recall {:.2f}".format(*precision_recall(real, x))
    for name, x in features.items()
})

# %% [markdown]
# The dropped moon costs recall, the noise costs precision. Of the digits, the network's (B) cover as much as real ones (A), but fewer of them look real. A does not reach 1 either.

# %% [markdown]
# ## Copies
#
# What gives the photocopier away is that its pictures lie on top of training data.
# Take each sample's distance to its nearest training picture, and the same for held-out pictures. If the samples are as new as those, both distances follow one law. By symmetry, and with ties counted half,
#
# $$P\begin{pmatrix}\text{a sample is farther from the training data} \\ \text{than a held-out picture is}\end{pmatrix} = \tfrac12 \tag{07.13}$$
#
# Far below one half, suspect copies. Far above, the samples lie off the data. The count behind it is the Mann-Whitney statistic (arXiv 2004.05675).

# %%
suspects = {
    "fresh digits": fresh[:300], "C, copies": reference[:300],
    "C, moved by a pixel": reference[:300].roll(1, 3), "D, blurred": candidates["D"],
}
of_unseen = nearest_distances(unseen, reference).distances
for name, images in suspects.items():
    of_samples = nearest_distances(images, reference).distances
    farther = (of_samples[:, None] > of_unseen).double()
    farther = (farther + 0.5 * (of_samples[:, None] == of_unseen)).mean().item()
    assert abs(farther - memorisation(images, reference, unseen).probability) < 1e-9
    in_features = memorisation(*map(features_of, (images, reference, unseen)))
    print(
        f"{name:20s} P(farther than held-out): {farther:.2f} in pixels, "
        f"{in_features.probability:.2f} in features"
    )

# %% [markdown]
# Copies get 0. But copies moved by one pixel are not found out, even in features: for many of them a stranger is nearer.
# So a value that is not low proves little.

# %% [markdown]
# ## Does the picture show what was asked?
#
# None of these numbers reads a prompt. If you ask for dogs and get good cats, they are content.
#
# The usual answer is the *CLIP score*. CLIP (arXiv 2103.00020) is a pair of networks, for pictures and for texts, trained so that the vectors $E_I$ of a picture and $E_C$ of its own caption point in similar directions. The score is their cosine, times 2.5 in its paper (arXiv 2104.08718) and times 100 in [torchmetrics](https://lightning.ai/docs/torchmetrics/stable/multimodal/clip_score.html):
#
# $$\text{CLIP score} = \max\left(100\,\frac{E_I \cdot E_C}{|E_I|\,|E_C|},\ 0\right) \tag{07.14}$$
#
# By hand: $E_I = (3, 4)$ and $E_C = (4, 3)$ give $100 \cdot 24/25 = 96$.
#
# The scenes of lesson 00 allow a cousin. A program, the *grammar*, reads a prompt back into a *code*, a number for each attribute. A network, the *judge*, reads such a code from a picture. The score is the share that agrees.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = Drawing(7.4, 2.75, "One number for a picture and its prompt, in two ways")
for y, tools, between, end in (
    (2.15, ["CLIP, pictures", "CLIP, texts"], ["$E_I$ (D,)", "$E_C$ (D,)"], "cosine"),
    (0.65, ["judge", "grammar"], ["code read", "code asked"], "share equal"),
):
    score = drawing.box(6.6, y, end, width=1.3)
    for dy, first, tool, result in (
        (0.32, "picture", tools[0], between[0]),
        (-0.32, "prompt", tools[1], between[1]),
    ):
        kind = "data" if first == "picture" else "words"
        reads = "formula" if tool == "grammar" else "network"
        one, two, three = drawing.row(
            [first, tool, result], y + dy, 0.85, 4.75, kinds=[kind, reads, "formula"],
            width=1.4, height=0.4,
        )
        for start, end in ((one, two), (two, three), (three, score)):
            drawing.arrow(start, end)
drawing.show(
    "Two rows. Above, CLIP's picture network and text network turn picture and prompt "
    "into the vectors E_I and E_C, and the score is their cosine. Below, the judge "
    "reads a code from the picture, the grammar reads one from the prompt, and the "
    "score is the share of attributes that are equal."
)

# %% [markdown]
# Test it on 300 scenes that a program drew from known codes, each asked for in three ways.

# %%
from diffusion_course.datasets.scenes import (
    ATTRIBUTES,
    captions,
    render_scenes,
    sample_scenes,
)
from diffusion_course.measures import faithful, read_scenes

codes = sample_scenes(300, things=2, generator=make_generator(3))
pictures = render_scenes(codes, generator=make_generator(4))
read = read_scenes(load_pretrained("judge"), pictures)
colours = [ATTRIBUTES.index(f"{place} colour") for place in ("first", "second")]
swapped = codes.clone()
swapped[:, colours] = codes[:, colours[::-1]]


def prompts(codes):
    return captions(codes, generator=make_generator(5), complete=True)


print(f"first scene, its own prompt: {prompts(codes)[0]}")
print(f"with two colours swapped:    {prompts(swapped)[0]}")
fig = plotting.image_strip([pictures[:4]], scale=1.3, title="Four scenes of two things")
show(fig, alt=f"Four small coloured scenes. The first: {prompts(codes)[0]}.")

# %%
def words_of(codes):  # for a score that only compares which words occur
    return [set(text.split()) for text in prompts(codes)]


own = words_of(codes)
for name, asked in (
    ("its own prompt", codes), ("two colours swapped", swapped),
    ("another one's prompt", codes.roll(1, 0)),
):
    right = faithful(read, asked).double()
    common = [  # the cosine of two lists of zeros and ones
        len(one & two) / (len(one) * len(two)) ** 0.5
        for one, two in zip(own, words_of(asked), strict=True)
    ]
    print(f"{name:20s} attributes right {right.mean():.3f}, all right "
          f"{right.all(1).double().mean():.2f}; words {sum(common) / 300:.2f}")

# %% [markdown]
# In the first row the judge hardly errs. In the second the same words stand in another order, and a score that counts words sees no difference.
# CLIP counts no words, but models like it often behave as if they did (arXiv 2210.01936) and confuse which thing has which attribute.

# %% [markdown]
# ## How sure is a number?
#
# Another 300 pictures give another number. The *bootstrap* estimates how far it moves: draw as many from the sample *with replacement*, compute the number, repeat. The spread of these values stands for the spread over new samples.
#
# So report the measured value, plus or minus half of the width that holds 95 % of these values. (Going further says why their middle is not used, and tries three intervals.)

# %%
x, values_of_b = features["B"], []
for _ in range(100):
    again = torch.randint(300, (300,), generator=generator)
    values_of_b.append(mmd(x[again], real))
values_of_b = torch.tensor(values_of_b)
print(f"B, by hand: {mmd(x, real):.1f} plus or minus {1.96 * values_of_b.std():.1f}")
for name in "AB":
    low, value, high = bootstrap_interval(
        lambda x: mmd(x, real), features[name], num_resamples=100,
        method="percentile", generator=make_generator(0),
    )
    print(f"{name}: kernel distance {value:.1f} plus or minus {(high - low) / 2:.1f}")

# %% [markdown]
# The two intervals overlap, so this number does not separate A from B. An interval covers other samples *from the same network*, not another training seed.

# %% [markdown]
# ## What each number cannot see
#
# A number is as good as the failures that it notices. Here are seven sets of 300. The last has no pictures at all, only Gaussian vectors with mean and covariance of the *fresh* pile's features.

# %%
labels = training.labels[order[719:]]  # of the fresh pile
often, rare = fresh[labels < 5][:270], fresh[labels > 4][:30]
failures = {
    "A, unseen digits": unseen[:300], "B, network, 10 calls": drawn,
    "C, copies": reference[:300], "D, blurred": candidates["D"],
    "faint noise": fresh[:300] + 0.1 * torch.randn(300, 1, 16, 16, generator=generator),
    "0 to 4 nine times as often": torch.cat([often, rare]),
}
table = {name: features_of(images) for name, images in failures.items()}
root = torch.linalg.cholesky(fresh_features.T.cov() + 1e-9 * torch.eye(64))
bell = torch.randn(300, 64, generator=generator, dtype=torch.float64)
table["Gaussian features"] = fresh_features.mean(0) + bell @ root.T

# %% [markdown]
# 20 random splits of the training digits say how far each number goes by chance. More than three standard deviations *above* their mean is marked `>`, *below* it `<`.

# %%
unseen_features = features_of(unseen)


def scores(x, base=real):
    copying = memorisation(x, base, unseen_features).probability
    return frechet_distance(x, base), mmd(x, base), *precision_recall(base, x), copying


everything, by_chance = torch.cat([real, fresh_features]), []
for _ in range(20):
    shuffled = everything[torch.randperm(1438, generator=generator)]
    by_chance.append(scores(shuffled[:300], shuffled[300:1019]))
by_chance = torch.tensor(by_chance)
top = (by_chance.mean(0) + 3 * by_chance.std(0)).tolist()
bottom = (by_chance.mean(0) - 3 * by_chance.std(0)).tolist()

# %%
print(f"{'':27s}Frechet   kernel precision  recall  P(farther)")
rows = {"lowest by chance": bottom, "highest by chance": top}
for name, row in rows.items():
    print(f"{name:27s}" + "  ".join(f"{value:6.2f} " for value in row))


def print_marked(name, x):
    marked = []
    for value, least, most in zip(scores(x), bottom, top, strict=True):
        mark = ">" if value > most else "<" if value < least else " "
        marked.append(f"{value:6.2f}{mark}")
    print(f"{name:27s}" + "  ".join(marked))


for name, x in table.items():
    print_marked(name, x)

# %% [markdown]
# A number without a mark has not noticed the failure:
#
# - **Faint noise** passes everywhere: the features do not hold it.
# - **Gaussian features** get the Frechet distance of fresh digits, without one picture.
# - **Copies** please both distances. A precision that is too good and the test for copies notice.
# - **Classes out of balance** are seen by the distances only. Precision and recall ask where sets live, not how much lives where.
#
# Which set is best? Together the numbers say it: C is copied, D is marked in every column, a third of B's digits lie in no real ball, and A, the real one, has one mark, because the classifier does not know it.
#
# So report several numbers, with their $N$, their values for real data and intervals, and show unselected samples.

# %% [markdown]
# ## Where people go wrong
#
# ### Another preprocessing
#
# Features belong to pictures that are prepared as the feature network's training pictures were. Even another library's resizing moves FID (arXiv 2104.11222). Here are the same fresh digits, prepared in four ways.

# %%
from torch.nn.functional import interpolate

small = load_dataset("digits", split="train").images[order[719:]]  # at 8x8
prepared = {
    "as the reference": fresh,
    "nearest pixel": interpolate(small, size=16),
    "bicubic": interpolate(small, size=16, mode="bicubic").clamp(-1, 1),
    "scaled to [0, 1]": (fresh + 1) / 2,
}
for name, images in prepared.items():
    d2 = frechet_distance(features_of(images), real)
    print(f"{name:17s} Frechet distance {d2:6.1f}")
fig = plotting.image_strip(
    [images[:12] for images in prepared.values()],
    row_labels=list(prepared), title="The same digits, four distances",
)
show(fig, alt=(
    "Four rows with the same twelve digits: smooth, blocky, slightly sharper, "
    "and with grey instead of black ground."
))

# %% [markdown]
# Before you measure a network, measure real data through the same code.

# %% [markdown]
# ## Your turn
#
# `hint("07.1")` helps in steps, `solution("07.1")` comes after a try. The last two, 07.6 and 07.7, belong to "The exact likelihood" in Going further.

# %%
from diffusion_course import check, exercise

exercise("07.1")

# %%
def frechet_diagonal(mean_a, var_a, mean_b, var_b):
    return ((mean_a - mean_b) ** 2).sum() + ...


check("07.1", frechet_diagonal)

# %%
exercise("07.2")

# %%
def frechet(features_a, features_b):
    ...


check("07.2", frechet)

# %%
exercise("07.3")

# %%
distance = ...

check("07.3", distance)

# %%
exercise("07.4")

# %%
def mmd_unbiased(x, y):
    ...


check("07.4", mmd_unbiased)

# %%
exercise("07.5")

# %%
def precision_and_recall(real, fake, k):
    ...


check("07.5", precision_and_recall)

# %%
exercise("07.6")

# %%
def divergence(velocity, x, probes):
    ...


check("07.6", divergence)

# %%
exercise("07.7")

# %%
bits_per_dimension = ...

check("07.7", bits_per_dimension)

# %% [markdown]
# ## What you now have

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.4, 2.9)
samples = card.box(0.85, 2.2, "samples", kind="data", width=1.1)
real_data = card.box(0.85, 1.35, "reference", kind="data", width=1.1)
prompt = card.box(0.85, 0.45, "prompts", kind="words", width=1.1)
net = card.box(2.6, 1.77, "features", kind="network", width=1.1)
judge = card.box(2.6, 0.45, "judge", kind="network", width=1.1)
for y, text in (
    (2.55, "how far? Frechet, kernel"), (2.0, "good, and all of it? precision, recall"),
    (1.45, "new? P(farther than held-out)"), (0.45, "as asked? share right"),
):
    number = card.box(5.5, y, text, width=3.3, height=0.4)
    card.arrow((judge if y < 1 else net).right, number.left)
for start, end in ((samples, net), (real_data, net), (prompt, judge), (samples, judge)):
    card.arrow(start, end)
card.text(5.5, 0.98, "beside each: the value of real data, and an interval")
card.show(
    "Samples and reference go through the feature network to three questions: how far, "
    "good and all of it, new. Samples and prompts go to the judge: as asked. Beside "
    "each number stands the value of real data, and an interval."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | The Frechet distance is the cost of the cheapest pairing of two Gaussians. Measured, it is too large by about $c/N$. | `frechet_distance`, `frechet_infinity` | (07.6), (07.8) |
# | Means over pairs of different points have no bias. | `mmd` | (07.11) |
# | Precision asks whether fakes look real, recall whether all that is real is drawn. | `precision_recall` | (07.12) |
# | Copies lie nearer to the training data than unseen data does. | `memorisation` | (07.13) |
# | A prompt score is a network's opinion. Every number needs an interval. | `read_scenes`, `faithful`, `bootstrap_interval` | (07.14) |
#
# In lesson 08 you tell the network which class to draw, and these numbers show what that costs.
#
# To read next: Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows stands on its own, section by section: pick what you need.

# %% [markdown]
# ### The cheapest pairing in many coordinates
#
# The core proved in one coordinate how large $\operatorname{tr} C$ can be, and only quoted (07.5) for many. These lines continue its lines 1 and 2.
#
# **Line 3.** Give both variables covariance $I$: $\xi = S_a^{-1/2}\tilde x$ and $\chi = S_b^{-1/2}\tilde y$. Let $G = E[\xi \chi^\top]$. For unit vectors $e, f$ the number $e^\top G f$
# is the covariance of $e \cdot \xi$ and $f \cdot \chi$, two numbers of variance 1, so it is at most 1. Now $C = S_a^{1/2} G S_b^{1/2}$, and factors may be turned around inside a trace:
#
# $$\operatorname{tr} C = \operatorname{tr}(G R), \qquad R = S_b^{1/2} S_a^{1/2}$$
#
# **Line 4.** Write $R = \sum_i \kappa_i\, f_i e_i^\top$ with its singular values $\kappa_i \ge 0$ and its unit singular vectors. Then
#
# $$\operatorname{tr}(GR) = \sum_i \kappa_i\,(e_i^\top G f_i) \le \sum_i \kappa_i $$
#
# with equality for $G = \sum_i e_i f_i^\top$. For Gaussians this is a pairing: $\chi = G^\top \xi$ has covariance $I$ again.
#
# **Line 5.** The $\kappa_i^2$ are the eigenvalues of $R^\top R = S_a^{1/2} S_b S_a^{1/2}$. A product $PQ$ has the eigenvalues of $QP$, so they are those of $S_a S_b$ too. That is (07.5).
# With $P = (S_a^{1/2} S_b S_a^{1/2})^{1/2}$ the best pairing is $\tilde y = S_a^{-1/2} P S_a^{-1/2}\,\tilde x$. This matrix is symmetric without negative eigenvalues: it stretches along perpendicular axes.
# (If a covariance has no inverse, replace it by $S + \delta I$ and let $\delta$ go to 0.)
#
# **Other laws.** For any two laws with these means and covariances (07.6) bounds the cost from below. They reach it if such a stretching turns one into the other; otherwise their cost is, as a rule, larger. Here the second set is bent instead of stretched:

# %%
bent = other**4
print(
    f"bent, not stretched: best partners {cheapest(a, bent):.4f}, more than the "
    f"formula's {bare_frechet(a, bent, correction=0):.4f}"
)

# %% [markdown]
# ### The bias in many coordinates
#
# The core derived only a part of the bias in one coordinate, and quoted it for many. Here is the rest. Let both sets hold $N$ draws of one Gaussian with covariance $S$. Turn the axes so that $S = \operatorname{diag}(\nu_1, \dots, \nu_D)$.
#
# **One coordinate first.** A sample variance has the variance $2s^4/N$ for large $N$. Its root moves $1/(2s)$ times as much, so it has the variance $\frac{s^2}{2N}$, and the difference of two such roots has $\frac{s^2}{N}$. That is the second part of (07.7).
#
# **Line 1, the means.** As in one coordinate, $E\,|\hat m_a - \hat m_b|^2 = \frac{2}{N}\sum_i \nu_i$.
#
# **Line 2, the covariances.** Let $\Delta = \hat S_b - \hat S_a$, a small symmetric matrix. Move the points by a small linear map, $\tilde y = \tilde x + X S^{-1/2}\tilde x$. The covariance becomes $(S^{1/2} + X)(S^{1/2} + X)^\top$.
# To first order that is $S + \Delta$ if $X S^{1/2} + S^{1/2} X^\top = \Delta$, which reads for each pair of coordinates
#
# $$\sqrt{\nu_j}\,X_{ij} + \sqrt{\nu_i}\,X_{ji} = \Delta_{ij}$$
#
# The cost is $E\,|X S^{-1/2} \tilde x|^2 = \sum_{ij} X_{ij}^2$. The cheapest pairing of Gaussians is a linear map (line 4 of the section before), so the cheapest $X$ gives the distance.
#
# **Line 3.** For $i < j$ the equation is a line in the plane of $(X_{ij}, X_{ji})$. Its point nearest to the origin has the squared length $\Delta_{ij}^2 / (\nu_i + \nu_j)$. For $i = j$ it fixes $X_{ii}^2 = \Delta_{ii}^2/(4\nu_i)$. All together:
#
# $$d^2 \approx \frac12 \sum_{ij} \frac{\Delta_{ij}^2}{\nu_i + \nu_j} \tag{07.15}$$
#
# **Line 4.** $\hat S_{ij}$ is a mean of $N$ products $\tilde x_i \tilde x_j$. For a Gaussian such a product has the variance $\nu_i\nu_j$, and $2\nu_i^2$ if $i = j$. Two sets double it:
#
# $$E\,\Delta_{ij}^2 = \frac{2}{N}\nu_i\nu_j \ \ (i \ne j), \qquad E\,\Delta_{ii}^2 = \frac{4}{N}\nu_i^2 \tag{07.16}$$
#
# **Line 5.** Put (07.16) into (07.15) and add line 1:
#
# $$E\,d^2 \approx \frac{c}{N}, \qquad c = 3\sum_i \nu_i + \sum_{i \ne j} \frac{\nu_i\nu_j}{\nu_i + \nu_j} \tag{07.17}$$
#
# With $D = 1$ this is (07.7), and with all $\nu_i = 1$ it is $3D + D(D-1)/2 = D(D+5)/2$. **Check:** four coordinates with $\nu = 4, 2, 1, 0.5$, 400 pairs of sets for each $N$. To see the check fail, leave out that *both* sets err.

# %%
def bias_constant(eigenvalues):
    mixed = eigenvalues[:, None] * eigenvalues / (eigenvalues[:, None] + eigenvalues)
    return (3 * eigenvalues.sum() + mixed.sum() - mixed.diagonal().sum()).item()


def distances_of_equals(n, scale=1.0, repeats=400, spread=(4.0, 2.0, 1.0, 0.5)):
    spread = torch.tensor(spread, dtype=torch.float64)
    draws = torch.randn(
        repeats, 2, n, len(spread), generator=generator, dtype=torch.float64
    ) * spread.sqrt()
    return torch.tensor([frechet_distance(scale * a, b) for a, b in draws])


# %%
c = bias_constant(torch.tensor([4.0, 2.0, 1.0, 0.5]))
for n in (50, 100, 200, 400):
    found = distances_of_equals(n)
    mean, error = found.mean().item(), found.std().item() / len(found) ** 0.5
    print(f"N = {n:3d}: mean {mean:.4f} (error {error:.4f}), c / N = {c / n:.4f}")
    assert_close(mean, c / n, rtol=0.08, atol=0.0)
wrong = "passes" if abs(mean / (c / n / 2) - 1) < 0.08 else "fails"
print(f"if only one set erred, c / 2N = {c / n / 2:.4f}: the check {wrong}")

# %% [markdown]
# The bias belongs to the set: a model with *less* spread has less of it. Below, the data is $N(0, I)$ with 16 coordinates. One model is exact. The other draws points that are 15 % too close to the centre; its true distance is $16 \cdot 0.15^2 = 0.36$.

# %%
sizes = [20, 60, 200, 600, 2000]
curves = {}
for name, scale in (("exact model", 1.0), ("shrunk model", 0.85)):
    found = [distances_of_equals(n, scale, 40, (1.0,) * 16) for n in sizes]
    curves[name] = [d2.mean() for d2 in found]
    error = found[0].std() / 40**0.5
    print(f"{name}, N = 20: {found[0].mean():.2f} (error {error:.2f})")
fig = plotting.lines(
    sizes, curves, xlabel="N", ylabel="mean Frechet distance", logx=True, logy=True,
    title="With few samples the wrong model wins",
)
show(fig, alt=(
    "Mean Frechet distance against N on logarithmic axes. The exact model "
    "falls along a straight line, from about 9 at N = 20 to below 0.1 at 2,000. "
    "The shrunk model starts a little below it, crosses it near N = 70 and flattens "
    "above it, at about 0.4."
))
fit = frechet_infinity(fresh_features, real, generator=make_generator(0))
c = bias_constant(torch.linalg.eigvalsh(real.T.cov()))
print(f"fresh digits: at infinity {fit.value:.1f}, slope {fit.slope:.0f}, c {c:.0f}")

# %% [markdown]
# For the digits, whose features are not Gaussian, the fitted slope and (07.17) agree roughly.

# %% [markdown]
# ### Two moments, three moments
#
# (07.6) compares two moments and the cubic kernel three, so you can fool both at once. Take the ring of eight blobs, and one Gaussian with the ring's mean and covariance. By symmetry their third moments are 0 too. The kernel $e^{-|a-b|^2/2}$, in units of a bandwidth that somebody has to choose, compares everything.

# %%
ring = mixture("ring")
rings = [ring.sample(1000, generator=make_generator(seed)) for seed in range(6)]
root = torch.linalg.cholesky(rings[0].T.cov())
impostors = [
    torch.randn(1000, 2, generator=make_generator(i), dtype=torch.float64) @ root.T
    for i in range(5)
]
for name, others in (("another ring", rings[1:]), ("one Gaussian", impostors)):
    for number, measure in {
        "Frechet": frechet_distance, "cubic kernel": mmd,
        "rbf kernel": lambda a, b: mmd(a, b, kernel="rbf", bandwidth=0.5),
        "precision": lambda a, b: precision_recall(a, b).precision,
    }.items():
        values = torch.tensor([measure(rings[0], x) for x in others])
        print(f"{name:12s} {number:12s} {values.mean():6.3f} (sd {values.std():.3f})")

# %%
fig = plotting.scatter_2d(
    {"ring": rings[0], "one Gaussian": impostors[0]}, limit=3.0, size=2.6,
    title="Frechet distance and cubic kernel hardly tell these apart",
)
show(fig, alt=(
    "Left: eight blobs on a circle. Right: a round cloud that is densest in the "
    "middle, where the ring is empty."
))

# %% [markdown]
# The rbf kernel and precision tell them apart at once. They compare more than moments.

# %% [markdown]
# ### Four more failures, and other choices of A
#
# The core's table holds seven sets. Four more ask what happens when whole classes are missing, when few pictures are repeated, and when copies are moved. The last line asks whether A got its mark by an unlucky choice of 300 digits.

# %%
few = torch.stack([fresh[labels == digit][0] for digit in range(10)])
more = {
    "copies, moved": reference[:300].roll(1, 3), "no 8": fresh[labels != 8][:300],
    "only 0 to 4": fresh[labels < 5][:300],
    "ten digits, 30 times each": few.repeat(30, 1, 1, 1),
}
for name, images in more.items():
    table[name] = features_of(images)
    print_marked(name, table[name])
random = make_generator(0)
choices = (torch.randperm(359, generator=random)[:300] for _ in range(20))
others = torch.tensor([frechet_distance(unseen_features[i], real) for i in choices])
print(f"20 other choices of 300 unseen digits: Frechet {others.mean():.1f} on average, "
      f"{int((others > top[0]).sum())} with a mark")

# %% [markdown]
# Moving a copy by one pixel turns the praise of the copies into marks almost everywhere, although the pictures are the same. Leaving out a single class is noticed by recall only. The mark of A is partly chance: other choices of unseen digits get 12.4 on average, below the edge at 13.8, and one of twenty lies beyond it.

# %% [markdown]
# ### How large must a failure be?
#
# The core's table shows whole failures. Real ones are partial, so mix a growing share of a failure into fresh digits.
#
# **Task.** For each failure find the number that leaves its grey band (three standard deviations of real digits to either side) at the smallest share. Which failure leaves only one band, and on which side?

# %%
from functools import cache

from diffusion_course import Explorer

names = ["Frechet", "kernel", "precision", "recall"]
shares = [0.0, 0.1, 0.3, 0.6, 1.0]
some_failures = [
    "C, copies", "0 to 4 nine times as often", "ten digits, 30 times each",
    "Gaussian features",
]


@cache
def mixed(failure, share, seed=0):
    random, n = make_generator(seed), round(300 * share)
    some = torch.randperm(300, generator=random)[:n]
    others = torch.randperm(719, generator=random)[: 300 - n]
    x = torch.cat([table[failure][some], fresh_features[others]])
    return frechet_distance(x, real), mmd(x, real), *precision_recall(real, x)


# %%
def mixing(failure, share):
    fig, axes = figure(9.0, 2.5, ncols=4)
    curves = torch.tensor([mixed(failure, s) for s in shares])
    now = mixed(failure, share)
    for i, ax in enumerate(axes):
        ax.axhspan(bottom[i], top[i], color="#DDDDDD")
        ax.plot(shares, curves[:, i], ".-", color="#0072B2")
        ax.plot(share, now[i], "o", color="#D55E00")
        ax.set(title=names[i], xlabel="share")
    fig.suptitle(f"{share:.0%} of the set: {failure}", x=0.01, ha="left", fontsize=11)
    values = zip(names, now, bottom, top, strict=False)
    return fig, f"{share:.0%} {failure}: " + ", ".join(
        f"{n} {v:.2f} ({'inside' if b <= v <= w else 'outside'} the band)"
        for n, v, b, w in values
    )


Explorer(
    mixing, failure=some_failures, share=shares,
    start={"failure": "ten digits, 30 times each", "share": 0.3}, ahead=True,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# One mix is chance, so the next cell makes five of each and counts how many leave the band (at 100 % all five are the same set).
#
# - **Copies** leave one band only, that of precision, and through its *upper* edge: they are too good. At 60 % four mixes of five are outside.
# - **0 to 4 nine times as often**: both distances leave at 60 %, precision and recall never.
# - **Ten digits**: the Frechet distance and precision (at its upper edge again) leave in two mixes of five at 30 %; at 60 % both distances leave in all five. Recall is the last: at 60 %, with 120 fresh digits left, it is still inside in all five.
# - **Gaussian features** are seen first by precision, in four mixes of five at 10 %. The Frechet distance never sees them.
#
# </details>

# %%
def outside(failure, share, i):
    return sum(
        not bottom[i] <= mixed(failure, share, seed)[i] <= top[i] for seed in range(5)
    )


for failure in some_failures:
    print(f"{failure:29s}" + "".join(f"{share:6.0%}" for share in shares))
    for i, name in enumerate(names):
        counts = "".join(f"{outside(failure, share, i):6d}" for share in shares)
        print(f"  {name:9s} outside, of 5 mixes{counts}")

# %% [markdown]
# ### The best of many
#
# Somebody reports the best of twenty checkpoints or seeds. Twenty sets of 300 *real* digits show what that is worth:

# %%
twenty = torch.tensor([
    frechet_distance(
        fresh_features[torch.randperm(719, generator=generator)[:300]], real
    )
    for _ in range(20)
])
print(f"mean of twenty {twenty.mean():.2f}, best of twenty {twenty.min():.2f}: "
      f"{1 - twenty.min() / twenty.mean():.0%} 'better' by choosing")

# %% [markdown]
# Choose on one set of samples, report on another.

# %% [markdown]
# ### A few odd pictures in the reference
#
# Precision has a weak spot of its own. Its balls reach to the third neighbour, however far that is, so five pictures of noise among 719 real digits have huge balls. What becomes of the precision of 300 pictures of noise?

# %%
noise_pictures = 2 * torch.rand(305, 1, 16, 16, generator=generator) - 1
noise_features = features_of(noise_pictures)
for name, base in (
    ("clean reference", real),
    ("five odd pictures in it", torch.cat([real, noise_features[300:]])),
):
    apart = torch.cdist(base, base)
    reach = apart.kthvalue(4, dim=1).values  # to the third neighbour
    for kind, fakes in (("noise", noise_features), ("fresh", fresh_features)):
        inside = (torch.cdist(fakes[:300], base) <= reach).double()  # (300, balls)
        density, coverage = inside.sum(1).mean() / 3, inside.amax(0).mean()
        print(f"{name:24s} {kind}: precision {inside.amax(1).mean():.2f}, "
              f"density {density:.2f}, coverage {coverage:.2f}")

# %% [markdown]
# Look at a reference before you trust it. Naeem et al. (arXiv 2002.09797) propose two other numbers. *Density* counts in how many real balls a fake lies, divided by $k$, instead of asking whether it lies in one. One huge ball then weighs little, but these five are more than $k = 3$, and density is deceived as well.
# *Coverage* is the share of real points whose own ball holds at least one fake. Five balls among 724 cannot raise it, so here it is the number that notices.

# %% [markdown]
# ### Nearest pairs of the network
#
# The core's test for copies did not look at pictures. The network was trained on all 1,438 training digits, so it is tested against those. A sample is flagged if it is nearer to them than 99 % of the held-out digits are:

# %% tags=["nbval-ignore-output"]
found = memorisation(drawn, training.images, unseen)
print(
    f"P(farther than held-out) {found.probability:.2f}; flagged as copies: "
    f"{int(found.copies.sum())} of 300, by chance about 3"
)
pages = {"drawn": drawn, "held out": unseen}
page = []
for name, images in pages.items():
    near = nearest_distances(images, training.images)
    closest = near.distances.argsort()[:10]
    page += [images[closest], training.images[near.indices[closest]]]
    print(f"ten nearest, {name}: mean distance {near.distances[closest].mean():.2f}")
fig = plotting.image_strip(
    page, row_labels=["drawn", "in training", "held out", "in training"],
    title="The ten nearest pairs, of drawn digits and of held-out ones",
)
show(fig, alt=(
    "Four rows of ten digits: the ten drawn digits nearest to training data, their "
    "nearest training digits, the ten nearest held-out digits, and theirs. In most "
    "pairs of either kind the two look alike."
))

# %% [markdown]
# The ten nearest pairs look alike, and so do those of held-out digits, which are no copies. Thirteen people wrote these digits ([description of the data set](https://scikit-learn.org/stable/datasets/toy_dataset.html)), and the split is not by writer.
# A page of nearest pairs proves nothing without the same page for held-out data.

# %% [markdown]
# ### Three intervals, tried
#
# The core used one way to turn resampled values into an interval, and did not show that it keeps its promise. It kept the measured value in the middle, because the resampled values lie too high: a resample holds some points twice, as if the diagonal were left in (07.11).

# %%
print(f"B: measured {mmd(features['B'], real):.1f}, "
      f"resampled {values_of_b.mean():.1f} on average")

# %% [markdown]
# There are at least three ways. *Percentile* takes the quantiles of the resampled values, *basic* mirrors them around the measured value, and *centred* takes their standard deviation to both sides of it.
# Here the truth is known: $N(0, I)$ against the same shifted by 1, eight coordinates, 60 points each. How many of 100 intervals hold the truth?

# %%
def resampled(statistic, x, y, times=60):
    n, values = len(x), []
    for _ in range(times):
        i, j = torch.randint(n, (2, n), generator=generator)
        values.append(float(statistic(x[i], y[j])))
    return torch.tensor(values, dtype=torch.float64)


def three_intervals(value, values):
    low, high = values.quantile(torch.tensor([0.025, 0.975]).double()).tolist()
    wide = 1.96 * values.std().item()
    basic = 2 * value - high, 2 * value - low
    return (low, high), basic, (value - wide, value + wide)


# %%
shift = torch.tensor([1.0] + [0.0] * 7, dtype=torch.float64)
sets = torch.randn(100, 2, 60, 8, generator=generator, dtype=torch.float64)
for name, statistic, truth in (  # 253/512: from the moments of Gaussians
    ("a mean", lambda x, y: x[:, 0].mean(), 1.0), ("kernel", mmd, 253 / 512),
    ("Frechet", frechet_distance, 1.0),
):
    hits, values = torch.zeros(3), []
    for x, y in sets:
        values.append(float(statistic(x + shift, y)))
        ends = three_intervals(values[-1], resampled(statistic, x + shift, y))
        hits += torch.tensor([low <= truth <= high for low, high in ends])
    print(f"{name:8s} truth {truth:.2f}, mean estimate {sum(values) / 100:.2f}; held "
          "by percentile {:.0f}, basic {:.0f}, centred {:.0f} of 100".format(*hits))

# %% [markdown]
# For a mean all three keep the promise of 95 %, as far as 100 trials can tell. For the kernel distance only the centred one does: 98 of 100 hold the truth, against 75 and 59.
# The reason: a resample holds the same point twice, and such a pair counts as two different points in (07.11). That is the diagonal again, so resampled values are too high. Percentile follows them up, and basic mirrors them down, as if the estimate itself had that bias, which it has not.
# For the Frechet distance it is the other way round. Its estimate *is* too high, 1.87 on average where the truth is 1, and each resample adds a bias once more. The mirror takes it off: basic holds the truth in 98 of 100, centred in 66, percentile in 1.
# So no interval suits every number. `bootstrap_interval` knows the first two (basic, if you do not say); for a kernel distance keep the value in the middle, as the core does.

# %% [markdown]
# ### Another training seed
#
# The core's intervals leave out that a network trained again is another network. Train the same small one on the moons five times, with nothing but the seed changed. The number is a plain mean, for which the bootstrap is sound: the share of 4,000 samples in the upper half of the plane. The data has 0.50 there.

# %% tags=["nbval-ignore-output"]
from diffusion_course import MLP, Progress, make_schedule, train

linear = make_schedule("linear")
data = moons.sample(4000, generator=make_generator(0)).float()

# %% tags=["nbval-ignore-output"]
intervals = []
with Progress(5, "training five networks") as bar:
    for seed in range(5):
        torch.manual_seed(seed)
        *_, state = train(
            MLP(hidden=64), data, linear, num_steps=400, batch_size=64,
            learning_rate=1e-2, ema_decay=0.9, seed=seed,
        )
        x = sample_loop(
            state.ema_model, (4000, 2), linear,
            num_inference_steps=20, generator=make_generator(0),
        ).double()
        intervals.append(bootstrap_interval(
            torch.mean, (x[:, 1] > 0).double(), generator=make_generator(0)
        ))
        bar.update()

# %% tags=["nbval-ignore-output"]
fig, ax = figure(5.5, 2.4)
for seed, (low, value, high) in enumerate(intervals):
    ax.plot([low, high], [seed, seed], color="#0072B2")
    ax.plot(value, seed, "o", color="#0072B2")
ax.set(yticks=range(5), ylabel="seed", xlabel="share of samples in the upper half")
ax.axvline(0.5, color="#777777", linestyle="--")
ax.set_title("Five training seeds, one interval each", loc="left")
show(fig, alt=(
    "Five horizontal intervals, one for each training seed. The outermost ones do not "
    "overlap. A dashed line marks 0.50."
))
shares_above = torch.tensor([value for _, value, _ in intervals])
half = sum(high - low for low, _, high in intervals) / 2 / len(intervals)
print(f"between seeds: standard deviation {shares_above.std():.3f}")
print(f"within a seed: {half / 1.96:.3f}, from the mean half width {half:.3f}")

# %% [markdown]
# Here the seeds move the number more than the samples do. To say something about two *methods*, train each several times and show that spread.

# %% [markdown]
# ### The exact likelihood
#
# All numbers so far needed features or a reference. The density that the model itself gives to a held-out picture needs neither. Lesson 03 had a bound on it; an ODE gives it exactly.
#
# **Line 1, paths.** Write the noise level as an angle: $\cos\varphi = \sqrt{\bar\alpha_t}$, so $\varphi = 0$ is data and $\varphi = \pi/2$ noise. A data point with its noise runs on the path
#
# $$x_\varphi = \cos\varphi\,x_0 + \sin\varphi\,\epsilon, \qquad \dot x_\varphi = \cos\varphi\,\epsilon - \sin\varphi\,x_0$$
#
# The derivative is the target $v$ of lesson 03 (arXiv 2202.00512). Many paths pass through a point $x$. Let $v(x, \varphi) = E[\dot x_\varphi \mid x_\varphi = x]$ be their mean velocity: a network that predicts noise gives it as $\cos\varphi\,\hat\epsilon - \sin\varphi\,\hat x_0$.
#
# **Line 2, continuity.** Take any smooth function $\psi$ that vanishes far out. In $\frac{d}{d\varphi} E\,\psi(x_\varphi) = E[\nabla \psi(x_\varphi) \cdot \dot x_\varphi]$, average first over the paths through one point: $= E[\nabla \psi(x_\varphi) \cdot v(x_\varphi, \varphi)]$.
# With the density $p_\varphi$ both sides are integrals. Integrate the right one by parts:
#
# $$\int \psi\,\frac{\partial p_\varphi}{\partial\varphi}\,dx = \int p_\varphi\, v \cdot \nabla \psi\,dx = -\int \psi\,\nabla\cdot(p_\varphi v)\,dx$$
#
# This holds for every $\psi$, so
#
# $$\frac{\partial p_\varphi}{\partial\varphi} = -\nabla\cdot(p_\varphi v) \tag{07.18}$$
#
# Only $v$ appears. Points that move by $dx/d\varphi = v(x, \varphi)$, without any randomness, have the same densities as the noisy paths.
#
# **Line 3, along one point.** Follow a moving point and take the derivative of $\log p$ there, once for the change in time and once for the change of place. Insert (07.18), with $\nabla\cdot(pv) = p\,\nabla\cdot v + v\cdot\nabla p$:
#
# $$\begin{aligned}
# \frac{d}{d\varphi}\log p_\varphi(x_\varphi) &= \frac{1}{p}\left(\frac{\partial p}{\partial\varphi} + v\cdot\nabla p\right) \\
# &= \frac{1}{p}\left(-p\,\nabla\cdot v - v\cdot\nabla p + v\cdot\nabla p\right) = -\nabla\cdot v
# \end{aligned} \tag{07.19}$$
#
# Where the flow spreads points, the density falls. Chen et al. (arXiv 1806.07366, theorem 1) call this the instantaneous change of variables.
#
# **Line 4.** If the data has a smooth density, add up from data to noise, where $p$ is $N(0, I)$ (arXiv 2011.13456, eq. 39):
#
# $$\log p_0(x_0) = \log N(x_{\pi/2};\,0, I) + \int_0^{\pi/2} \nabla\cdot v\;d\varphi \tag{07.20}$$
#
# **By hand.** One coordinate, $x_0 \sim N(0, s^2)$. Then $x_\varphi$ has the standard deviation $\omega$ with $\omega^2 = \cos^2\!\varphi\,s^2 + \sin^2\!\varphi$. With it, $x_0$ and $\epsilon$ are jointly Gaussian, so $E[x_0 \mid x] = \cos\varphi\,\frac{s^2}{\omega^2}x$ and $E[\epsilon \mid x] = \sin\varphi\,\frac{1}{\omega^2}x$. So $v = \frac{\cos\varphi\sin\varphi\,(1-s^2)}{\omega^2}x = \frac{\omega'}{\omega}x$, where $\omega' = d\omega/d\varphi$.
# The ODE stretches by $\omega$: it ends at $x_0/s$. The divergence is $\omega'/\omega$, its integral $\log \omega\,\big|_0^{\pi/2} = -\log s$. With $s = 0.5$ and $x_0 = 0.3$ the end is 0.6, $\log N(0.6; 0, 1) = -1.0989$, and the divergence adds $0.6931$. Together that is $-0.4058 = \log N(0.3; 0, 0.25)$.
#
# **Check.** The moons know their density exactly, and the ODE only sees the noise prediction. They must agree to 0.02 nats at every point. Without the divergence they must not.

# %%
from diffusion_course import ode_log_likelihood, ode_terms

bell = GaussianMixture(*(
    torch.tensor(value, dtype=torch.float64) for value in ([1.0], [[0.0]], [[[0.25]]])
))
abar = linear.alphas_cumprod
x_0 = torch.tensor([[0.3]], dtype=torch.float64)
terms = ode_terms(bell.model(abar), x_0, linear, num_steps=30)
print(f"end {terms.latent.item():.3f}, log N(end) {terms.prior.item():.3f}, divergence "
      f"{terms.divergence.item():.3f}, together {terms.total.item():.3f}")
points = moons.sample(200, generator=make_generator(2))
terms = ode_terms(moons.model(abar), points, linear, num_steps=30)
exact = moons.log_prob(points)
for name, found in (("with", terms.total), ("without", terms.prior)):
    gap = (found - exact).abs().max()
    verdict = "passes" if gap < 0.02 else f"{gap:.1f} nats, fails"
    print(f"{name:7s} the divergence: largest difference {verdict}")

# %% [markdown]
# **A trace from random directions.** The divergence is the trace of the Jacobian $J = \partial v/\partial x$. Exactly, it costs one backward pass per coordinate: 2 here, 256 for a digit, 196,608 for a colour picture of 256x256. Hutchinson's trick: take a random $z$ with $E[z z^\top] = I$, such as random signs. Then
#
# $$E[z^\top J z] = \sum_{ij} J_{ij}\,E[z_i z_j] = \sum_i J_{ii} \tag{07.21}$$
#
# One backward pass gives $z^\top J$, whatever the dimension. With signs, $z_i^2 = 1$ and the diagonal comes out exactly; only the elements off the diagonal scatter. The estimate of the log-density is unbiased, and its error falls like one over the root of the number of probes:

# %%
for probes in (1, 4, 16):
    estimate = ode_log_likelihood(
        moons.model(abar), points, linear, num_steps=15,
        trace="hutchinson", num_probes=probes, generator=make_generator(0),
    )
    print(f"{probes:2d} probes: typical error of one point "
          f"{(estimate - exact).std():.2f} nats, of the mean of 200 points "
          f"{(estimate - exact).mean().abs():.3f}")

# %% [markdown]
# Now the shipped network: eight held-out digits, the same digits moved by one pixel, with faint noise, and an empty picture. `bits_per_dim` of lesson 01 divides by the 256 pixels and by $\ln 2$. The solver needs enough steps, so we print two numbers of them.

# %% tags=["nbval-ignore-output"]
from diffusion_course import bits_per_dim

some = unseen[:8]
pictures = {
    "held-out digits": some,
    "moved by a pixel": some.roll(1, 3),
    "with faint noise": some + 0.05 * torch.randn(some.shape, generator=generator),
    "empty": torch.full_like(some[:1], -1),
}
nats = {
    steps: ode_log_likelihood(
        network, torch.cat(list(pictures.values())), schedule, num_steps=steps,
        trace="hutchinson", generator=make_generator(0),
    ).split([len(images) for images in pictures.values()])
    for steps in (15, 30)
}

# %% tags=["nbval-ignore-output"]
moved, empty = nats[30][1], nats[30][3]
print(f"{int((moved < empty).sum())} of 8 moved digits get less than the empty picture")
for i, name in enumerate(pictures):
    coarse, fine = (nats[steps][i].mean() for steps in (15, 30))
    print(f"{name:17s} {coarse:6.0f} nats with 15 steps, {fine:6.0f} with 30: "
          f"{bits_per_dim(-fine, 256):5.2f} bits per dimension")

# %% [markdown]
# Three limits. First, a density depends on the unit: pixels in $[-1, 1]$ are 127.5 times closer together than in $[0, 255]$, so an 8-bit picture's bits per dimension are $\log_2 127.5 = 6.99$ larger than the ones above. Papers quote that unit, and add uniform noise to fill the steps (Theis et al., section 3.1).
# Second, these digits were enlarged from 8x8 pixels and many pixels are always black. Such data lies on a thin sheet, where the density has no upper bound: the number depends on the smallest noise level in the schedule and on the steps of the solver. Compare rows, do not quote one.
# Third, the likelihood has its own taste: it holds an empty picture for likelier than a readable digit that sits one pixel to the right.
#
# **What it cannot see.** The likelihood is about held-out data, not about samples, and in many dimensions the two come apart in both directions (Theis et al., section 3.2). Let $p$ be a good model, $q$ pure noise, and draw 99 % from $q$:
#
# $$\log\big(0.01\,p(x) + 0.99\,q(x)\big) \ge \log p(x) - \log 100 \tag{07.22}$$
#
# The loss is at most 4.61 nats, for any data. Here $p$ puts a small bell on each training digit, and $q$ is uniform noise. A third model makes the bells so narrow that its samples are perfect copies:

# %%
import math


def log_density(x, std):
    x, centres = x.flatten(1).double(), training.images.flatten(1).double()
    bells = (-(torch.cdist(x, centres) ** 2) / (2 * std**2)).logsumexp(1)
    return bells - 128 * math.log(2 * math.pi * std**2) - math.log(1438)


good, copier = (log_density(unseen, std) for std in (0.2, 0.02))
uniform = torch.full_like(good, -256 * math.log(2))
mostly_noise = torch.logaddexp(good + math.log(0.01), uniform + math.log(0.99))

# %%
ten_digits, z = training.images[:10], torch.randn(10, 1, 16, 16, generator=generator)
models = {
    "width 0.2": (good, ten_digits + 0.2 * z),
    "99 % noise": (mostly_noise, torch.rand(z.shape, generator=generator) * 2 - 1),
    "width 0.02": (copier, ten_digits + 0.02 * z),
}
for name, (value, _) in models.items():
    print(f"{name:10s} held-out digits get {value.mean():9.1f} nats")
fig = plotting.image_strip(
    [images for _, images in models.values()], row_labels=list(models),
    title="Samples: the likelihood ranks them first, second, last",
)
show(fig, alt=(
    "Three rows of ten pictures. Width 0.2: grainy digits. 99 % noise: ten squares of "
    "noise. Width 0.02: crisp digits, which have the lowest likelihood by far."
))

# %% [markdown]
# ### To read further
#
# - Theis et al. 2016, https://arxiv.org/abs/1511.01844: ten pages, no experiment larger than yours, and the reason for most of this lesson.
# - Song et al. 2021, https://arxiv.org/abs/2011.13456: section 4.3 and appendix D.2, the likelihood that you derived.
# - Yuksekgonul et al. 2022, https://arxiv.org/abs/2210.01936: what picture-text scores do not notice.
