# %% [markdown]
# # 07 · Measuring samples
#
# After this lesson you can:
#
# - derive the Frechet distance, compute it in three ways, and say why two samples of the same data are not at distance 0,
# - take the bias out, by extrapolation or with a distance that has none,
# - separate fidelity from coverage, and test whether a network copies its training data,
# - put an interval on a number, and say what the interval leaves out,
# - compute the exact log-likelihood of a picture under a diffusion model,
# - name, for each of these numbers, a set of pictures that fools it.
#
# You need: lessons 01 to 04, and from lesson 06 that samples can be drawn by an ODE.
#
# **Measured cost:** 1.4 min on 2 cores, 1.2 GB of memory at the peak.

# %%
import math

import torch
from torch.testing import assert_close

from diffusion_course import (
    frechet_distance,
    load_dataset,
    load_pretrained,
    make_generator,
    plotting,
    seed_everything,
    show,
)
from diffusion_course.notebook import figure

generator = seed_everything(0)

# %% [markdown]
# ## Recall
#
# 1. From lesson 01: two independent numbers have the variance $s^2$ each. What is the variance of their difference, and of the mean of $N$ such numbers?
# 2. From lesson 03: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$. What is the target $v$ in these letters?
#
# <details><summary>Answers</summary>
#
# 1. $2s^2$ and $s^2/N$. This lesson uses both in one line: the means of two sets differ by a variance of $2s^2/N$.
# 2. $v = \sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0$. With $\sqrt{\bar\alpha_t} = \cos\varphi$ it is the derivative of $x_t$ by $\varphi$. That is why it comes back here.
#
# </details>

# %% [markdown]
# ## Predict first
#
# Split the 1,438 training digits at random into two piles. One is the *reference*. The other stays *fresh*: real digits that the reference does not hold.
# A third pile, 359 held-out digits, was seen by no network of this course.

# %%
training, held_out = (
    load_dataset("digits", split=split, size=16) for split in ("train", "test")
)
order = torch.randperm(len(training.images), generator=generator)
# (719, 1, 16, 16) each
reference, fresh = training.images[order[:719]], training.images[order[719:]]
fresh_labels = training.labels[order[719:]]

# %% [markdown]
# Four candidates want to be like the reference, with 300 pictures each. One of them is drawn by the shipped network, in ten calls.

# %%
from diffusion_course import sample_loop, shipped_files

network = load_pretrained("digits")
schedule = shipped_files()["digits"].noise_schedule()
drawn = sample_loop(
    network, (300, 1, 16, 16), schedule, sampler="dpmpp_2m",
    num_inference_steps=10, clip_x0=1.0, generator=make_generator(1),
)

# %%
from torch.nn.functional import conv2d, pad


def blurred(images, std):
    bell = torch.exp(-(torch.arange(-4.0, 5.0) ** 2) / (2 * std**2))
    bell = bell / bell.sum()
    rows = conv2d(pad(images, (4, 4, 4, 4), mode="replicate"), bell.view(1, 1, 1, 9))
    return conv2d(rows, bell.view(1, 1, 9, 1))


candidates = {
    "A": fresh[:300], "B": drawn, "C": reference[:300], "D": blurred(fresh[:300], 1.0)
}
fig = plotting.image_strip(
    [images[:12] for images in candidates.values()], row_labels=list(candidates),
    title="Which of these sets is nearest to the reference?",
)
show(fig, alt=(
    "Four rows of twelve grey digits. A and C are crisp handwriting, "
    "B is about as crisp, D is blurred."
))

# %% [markdown]
# The number that papers quote most is the Frechet distance to real data: the smaller, the better. You derive it below. Which of A, B, C and D gets the smallest?
# Write your prediction into the cell, then run it.

# %%
my_prediction = "A"  # "A", "B", "C" or "D"

# %%
from diffusion_course import extract_features

classifier = load_pretrained("digit_classifier")
# (300, 64) each
features = {
    name: extract_features(classifier, images).double()
    for name, images in candidates.items()
}
real = extract_features(classifier, reference).double()  # (719, 64)
distances = {name: frechet_distance(x, real) for name, x in features.items()}
winner = min(distances, key=distances.get)
print(
    f"{winner} is nearest "
    f"({'as you said' if winner == my_prediction else f'you said {my_prediction}'})."
)
print("  ".join(f"{name}: {distance:.1f}" for name, distance in distances.items()))

# %% [markdown]
# A is fresh real digits. C is a photocopier: 300 digits of the reference itself. The photocopier beats reality, and reality does not get 0.
# Neither is a fault in the code. This lesson is about what such a number says, and what it cannot say.

# %% [markdown]
# ## Features, not pixels
#
# A distance between pictures needs numbers to compare. Pixels are a poor choice. Move a digit by one pixel and ask which is nearer to it: the moved copy, or the nearest *other* digit of the reference?

# %%
from diffusion_course import nearest_distances


def share_with_a_nearer_stranger(of):
    stranger = nearest_distances(of(fresh), of(reference)).distances
    moved = (of(fresh) - of(fresh.roll(1, 3))).flatten(1).norm(dim=1)
    return (stranger < moved).double().mean()


print(
    "the nearest other digit is nearer than the moved copy: "
    f"in pixels for {share_with_a_nearer_stranger(lambda x: x):.2f} of the digits,",
    end=" ",
)
print(
    "in features for "
    f"{share_with_a_nearer_stranger(lambda x: extract_features(classifier, x)):.2f}"
)

# %% [markdown]
# In pixels nearly every digit has a stranger that is nearer than its own moved copy. Features help, and do not cure it. A *feature* is what a network trained for something else computes just before its last layer. Papers on photographs take 2,048 numbers of an Inception network.
# Here it is 64 numbers of the shipped digit classifier. It was trained on all 1,438 training digits, so both piles look equally familiar to it.
#
# Two things follow. A number from these features compares with no published FID, only with other numbers of this course. And what the features ignore, no distance between features can see.

# %% [markdown]
# ## By hand: pairing two bells
#
# Let $a \sim N(1, 2^2)$ and $b \sim N(3, 1^2)$. Turn the first pile of points into the second by moving each point somewhere. Which pairing of old and new places has the least mean squared way?
#
# Write a point of the first pile as $a = 1 + 2z$ with $z \sim N(0, 1)$. Three pairings:
#
# - **low with low**: $b = 3 + z$. The way is $b - a = 2 - z$, its mean square $2^2 + 1 = 5$.
# - **at random**: $b = 3 + z'$ with another $z'$. The way is $2 + z' - 2z$, its mean square $2^2 + 1 + 4 = 9$.
# - **low with high**: $b = 3 - z$. The way is $2 - 3z$, its mean square $2^2 + 9 = 13$.
#
# The cheapest of all is 5: the squared difference of the means, $(1-3)^2$, plus that of the widths, $(2-1)^2$. The package's function gets points whose mean and variance are exactly these:

# %%
def with_moments(mean, covariance, n=200):
    z = torch.randn(n, len(mean), generator=generator, dtype=torch.float64)
    z = torch.linalg.solve_triangular(
        torch.linalg.cholesky((z - z.mean(0)).T.cov().reshape(len(mean), -1)),
        (z - z.mean(0)).T, upper=False,
    )
    return mean + (torch.linalg.cholesky(covariance) @ z).T


bells = [
    with_moments(torch.tensor([m]).double(), torch.tensor([[s**2]]).double())
    for m, s in ((1.0, 2.0), (3.0, 1.0))
]
print(f"frechet_distance: {frechet_distance(*bells):.4f}")

# %% [markdown]
# ## The cheapest pairing
#
# Now for any number of coordinates. A *pairing* of two distributions is a joint distribution of $(x, y)$ with the first as the law of $x$ and the second as that of $y$. The Frechet distance is the cost of the cheapest one:
#
# $$d^2 = \min_{\text{pairings}} E\,|x - y|^2 \tag{07.1}$$
#
# It is also called the squared 2-Wasserstein distance. Let $m_a, S_a$ be mean and covariance of $x$, and $m_b, S_b$ those of $y$.
#
# **Line 1.** Split off the means: $x = m_a + \tilde x$, $y = m_b + \tilde y$. The mixed term has mean 0:
#
# $$E\,|x-y|^2 = |m_a - m_b|^2 + E\,|\tilde x - \tilde y|^2 \tag{07.2}$$
#
# **Line 2.** Expand the square. Let $C = E[\tilde x \tilde y^\top]$:
#
# $$E\,|\tilde x - \tilde y|^2 = \operatorname{tr} S_a + \operatorname{tr} S_b - 2\operatorname{tr} C \tag{07.3}$$
#
# The pairing enters through $\operatorname{tr} C$ alone. Make it as large as possible.
#
# **Line 3, one coordinate.** A covariance is at most the product of the standard deviations (Cauchy-Schwarz), so $C \le s_a s_b$ and
#
# $$d^2 = (m_a - m_b)^2 + (s_a - s_b)^2 \tag{07.4}$$
#
# It is reached by stretching, $\tilde y = \frac{s_b}{s_a}\tilde x$. If both laws are Gaussian, the stretched $x$ has the law of $y$, so this is a pairing.
#
# **Line 4, many coordinates.** Give both variables covariance $I$: $u = S_a^{-1/2}\tilde x$, $w = S_b^{-1/2}\tilde y$. Let $K = E[u w^\top]$. For unit vectors $p, q$ the number $p^\top K q$
# is the covariance of $p \cdot u$ and $q \cdot w$, two numbers of variance 1. So it is at most 1. Now $C = S_a^{1/2} K S_b^{1/2}$, and factors may be turned around inside a trace:
#
# $$\operatorname{tr} C = \operatorname{tr}(K M), \qquad M = S_b^{1/2} S_a^{1/2}$$
#
# **Line 5.** Write $M = U \Sigma V^\top$ with singular values $\sigma_i$ (no relation to a noise level). Then
#
# $$\operatorname{tr}(KM) = \operatorname{tr}(V^\top K U\, \Sigma) = \sum_i \sigma_i\, (v_i^\top K u_i) \le \sum_i \sigma_i \tag{07.5}$$
#
# with equality for $K = V U^\top$. For Gaussians this is a pairing: $w = K^\top u$ has covariance $I$ again.
#
# **Line 6.** The $\sigma_i^2$ are the eigenvalues of $M^\top M = S_a^{1/2} S_b S_a^{1/2}$. A product $PQ$ has the eigenvalues of $QP$, so they are those of $S_a S_b$ too, and papers write the sum of their roots as the trace of a matrix root (arXiv 1706.08500, eq. 6):
#
# $$d^2 = |m_a - m_b|^2 + \operatorname{tr}\left(S_a + S_b - 2\,(S_a S_b)^{1/2}\right) \tag{07.6}$$
#
# Lines 1, 2 and the bound in line 5 never used that the laws are Gaussian. So for *any* two laws with these means and covariances the true cost is at least (07.6), and more if they are not Gaussian. The formula compares two Gaussians that stand in for the sets. Remember that for later.

# %% [markdown]
# **Check 1: quantiles, an assignment.** In one dimension the cheapest pairing joins quantile with quantile. Integrate that, without (07.4). Then let an algorithm that knows nothing of quantiles pair 500 drawn points with 500 others: it must find the sorted order.

# %%
from scipy.optimize import linear_sum_assignment
from scipy.stats import norm

u = (torch.arange(100_000).double() + 0.5) / 100_000
gaps = torch.from_numpy(norm.ppf(u, 1, 2) - norm.ppf(u, 3, 1))
by_quantiles = (gaps**2).mean().item()
a = 1 + 2 * torch.randn(500, generator=generator).double()
b = 3 + torch.randn(500, generator=generator).double()
cost = (a[:, None] - b) ** 2  # (500, 500)
rows, columns = linear_sum_assignment(cost)
assert_close(
    cost[rows, columns].mean(), ((a.sort().values - b.sort().values) ** 2).mean()
)
assert_close(by_quantiles, 5.0, rtol=1e-3, atol=0.0)
print(
    f"quantile with quantile: {by_quantiles:.3f}; 500 drawn points, best assignment: "
    f"{cost[rows, columns].mean():.2f}"
)

# %% [markdown]
# **Check 2: another matrix root, and 2,000 other pairings.** With three coordinates, scipy computes the root of $S_a S_b$ directly. And no matrix $K$ with singular values of at most 1 may give a lower cost. Rotations are the extreme ones:

# %%
from scipy.linalg import sqrtm

mix = torch.randn(2, 3, 3, generator=generator, dtype=torch.float64)
cov_a, cov_b = mix @ mix.mT  # (3, 3) each
zero = torch.zeros(3, dtype=torch.float64)
ours = frechet_distance(with_moments(zero, cov_a), with_moments(zero, cov_b))
root = sqrtm((cov_a @ cov_b).numpy()).real
by_scipy = (cov_a + cov_b).trace().item() - 2 * root.trace()
assert_close(ours, by_scipy, rtol=1e-9, atol=0.0)
root_a, root_b = (torch.from_numpy(sqrtm(c.numpy()).real) for c in (cov_a, cov_b))
rotations = torch.linalg.qr(
    torch.randn(2000, 3, 3, generator=generator, dtype=torch.float64)
).Q
paired = (root_a @ rotations @ root_b).diagonal(dim1=1, dim2=2).sum(1)
costs = (cov_a + cov_b).trace() - 2 * paired
assert (costs > ours).all()
print(
    f"formula {ours:.4f}, scipy {by_scipy:.4f}, cheapest of 2,000 other pairings "
    f"{costs.min():.4f}"
)

# %% [markdown]
# A check is worth something if it can fail. The most common slip is the root of each *element* instead of the matrix:

# %%
slip = (cov_a @ cov_b).diagonal().clamp(min=0).sqrt().sum().item()
elementwise = (cov_a + cov_b).trace().item() - 2 * slip
try:
    assert_close(elementwise, by_scipy)
except AssertionError as error:
    print(str(error).splitlines()[2])

# %% [markdown]
# These are the package's lines. Two symmetric eigenvalue problems are enough, and no complex numbers appear.

# %%
from diffusion_course import show_source

show_source(frechet_distance)

# %% [markdown]
# ## Two samples of the same thing
#
# Reference and fresh digits come from one pile. Their true distance is 0. Measure it with fewer and with more of them:

# %%
fresh_features = extract_features(classifier, fresh).double()
for n in (100, 200, 400, 719):
    print(
        f"N = {n:3d}: Frechet distance "
        f"{frechet_distance(fresh_features[:n], real[:n]):5.1f}"
    )

# %% [markdown]
# The distance of equal things falls with $N$ and is never 0. Here is why, and how fast. Let both sets hold $N$ draws of one Gaussian with covariance $S$. Turn the axes so that $S = \operatorname{diag}(\lambda_1, \dots, \lambda_D)$.
#
# **Line 1, the means.** Coordinate $i$ of a mean has the variance $\lambda_i/N$, the difference of two means twice that. So $E\,|\hat m_a - \hat m_b|^2 = \frac{2}{N}\sum_i \lambda_i$.
#
# **Line 2, the covariances.** Let $\Delta = \hat S_b - \hat S_a$, a small symmetric matrix. Move the points by a small linear map, $\tilde y = \tilde x + X S^{-1/2}\tilde x$. The covariance becomes $(S^{1/2} + X)(S^{1/2} + X)^\top$.
# To first order that is $S + \Delta$ if $X S^{1/2} + S^{1/2} X^\top = \Delta$, which reads for each pair of coordinates
#
# $$\sqrt{\lambda_j}\,X_{ij} + \sqrt{\lambda_i}\,X_{ji} = \Delta_{ij}$$
#
# The cost is $E\,|X S^{-1/2} \tilde x|^2 = \sum_{ij} X_{ij}^2$. The cheapest pairing of Gaussians is a linear map (line 5 above), so the cheapest $X$ gives the distance.
#
# **Line 3.** For $i < j$ the equation is a line in the plane of $(X_{ij}, X_{ji})$. Its point nearest to the origin has the squared length $\Delta_{ij}^2 / (\lambda_i + \lambda_j)$. For $i = j$ it fixes $X_{ii}^2 = \Delta_{ii}^2/(4\lambda_i)$. All together:
#
# $$d^2 \approx \frac12 \sum_{ij} \frac{\Delta_{ij}^2}{\lambda_i + \lambda_j} \tag{07.7}$$
#
# **Line 4.** $\hat S_{ij}$ is a mean of $N$ products $\tilde x_i \tilde x_j$. For a Gaussian such a product has the variance $\lambda_i\lambda_j$, and $2\lambda_i^2$ if $i = j$. Two sets double it:
#
# $$E\,\Delta_{ij}^2 = \frac{2}{N}\lambda_i\lambda_j \ \ (i \ne j), \qquad E\,\Delta_{ii}^2 = \frac{4}{N}\lambda_i^2 \tag{07.8}$$
#
# **Line 5.** Put (07.8) into (07.7) and add line 1:
#
# $$E\,d^2 \approx \frac{c}{N}, \qquad c = 3\sum_i \lambda_i + \sum_{i \ne j} \frac{\lambda_i\lambda_j}{\lambda_i + \lambda_j} \tag{07.9}$$
#
# **Check.** Four coordinates with $\lambda = 4, 2, 1, 0.5$. Draw 400 pairs of sets for each $N$ and average.

# %%
widths = torch.tensor([4.0, 2.0, 1.0, 0.5], dtype=torch.float64)


def bias_constant(eigenvalues):
    mixed = eigenvalues[:, None] * eigenvalues / (eigenvalues[:, None] + eigenvalues)
    return (3 * eigenvalues.sum() + mixed.sum() - mixed.diagonal().sum()).item()


def mean_distance(n, scale=1.0, repeats=400, spread=widths):
    draws = torch.randn(
        repeats, 2, n, len(spread), generator=generator, dtype=torch.float64
    ) * spread.sqrt()
    return sum(frechet_distance(scale * a, b) for a, b in draws) / repeats


# %%
measured = {n: mean_distance(n) for n in (50, 100, 200, 400)}
for n, value in measured.items():
    print(
        f"N = {n:3d}: mean distance {value:.3f}, c / N = "
        f"{bias_constant(widths) / n:.3f}"
    )
    assert_close(value, bias_constant(widths) / n, rtol=0.08, atol=0.0)

# %% [markdown]
# And failing once: leave out that *both* sets err, as if one of them were the true Gaussian.

# %%
try:
    assert_close(measured[400], bias_constant(widths) / 400 / 2, rtol=0.08, atol=0.0)
except AssertionError as error:
    print(str(error).splitlines()[2])

# %% [markdown]
# With all $\lambda = 1$ the constant is $c = D(D+5)/2$: it grows with the *square* of the number of features. For 2,048 features of variance 1 it is 2.1 million, so 50,000 pictures on both sides still leave 42.
# This is why published numbers fix $N$, and why numbers with different $N$ must not be compared.
#
# Equal $N$ is not enough either. The constant belongs to the set: a model with *less* spread has less bias. Below, the data is $N(0, I)$ with 16 coordinates. One model is exact. The other draws points that are 15 % too close to the centre; its true distance is $16 \cdot 0.15^2 = 0.36$.

# %%
round_data = torch.ones(16, dtype=torch.float64)
sizes = [20, 60, 200, 600, 2000]
curves = {
    name: [mean_distance(n, scale, 60, round_data) for n in sizes]
    for name, scale in (("exact model", 1.0), ("shrunk model", 0.85))
}
fig = plotting.lines(
    sizes, curves, xlabel="N", ylabel="mean Frechet distance", logx=True,
    logy=True, title="With few samples the wrong model wins",
)
show(fig, alt=(
    "Mean Frechet distance against N on logarithmic axes. The exact model "
    "falls along a straight line, from about 9 at N = 20 to below 0.1 at 2,000. "
    "The shrunk model starts a little below it, crosses it near N = 70 and flattens "
    "above it, at about 0.4."
))

# %% [markdown]
# Chong & Forsyth (arXiv 1911.07023) make this point for FID and propose the cure that (07.9) suggests. If
#
# $$E\,d^2_N \approx d^2_\infty + \frac{c}{N} \tag{07.10}$$
#
# then distances at several $N$ lie on a straight line over $1/N$, and its value at 0 is the distance without bias.

# %%
from diffusion_course import frechet_infinity

fits = {
    name: frechet_infinity(features[letter], real, generator=make_generator(0))
    for name, letter in (("fresh digits (A)", "A"), ("blurred digits (D)", "D"))
}
fig, ax = figure(5.5, 3.0)
for (name, fit), color in zip(fits.items(), ("#0072B2", "#D55E00"), strict=True):
    ax.plot(
        1 / fit.sizes, fit.distances, "o",
        color=color, label=f"{name}: {fit.value:.1f} at $N = \\infty$",
    )
    ax.plot(
        [0, 1 / fit.sizes.min()], [fit.value, fit.value + fit.slope / fit.sizes.min()],
        color=color,
    )
ax.set(xlabel="1 / N", ylabel="Frechet distance", ylim=(-1, None))
ax.set_title("Straight lines over 1 / N, read off at 0", loc="left")
ax.legend()
show(fig, alt=(
    "Frechet distance against 1/N. The points of the fresh "
    "digits lie on a line that comes close to 0 at the left end. "
    "Those of the blurred digits lie on a higher line that ends well above 0."
))

# %% [markdown]
# At every $N$ that was measured both are far from 0. The lines end where they should: fresh digits near 0, blurred ones well above.
# With all 719 fresh digits the slope agrees with (07.9), as far as features are Gaussian:

# %%
eigenvalues = torch.linalg.eigvalsh(real.T.cov())
fit = frechet_infinity(fresh_features, real, generator=make_generator(0))
print(
    f"distance at infinity {fit.value:.1f}, slope {fit.slope:.0f}; c from the "
    f"eigenvalues of the features' covariance {bias_constant(eigenvalues):.0f}"
)

# %% [markdown]
# ## A distance without bias
#
# The bias came from squaring an error. Here is a squared distance that avoids it. Map every point to a (long) list of numbers $\phi(x)$ and compare the means of that list:
#
# $$\text{MMD}^2 = |E\,\phi(x) - E\,\phi(y)|^2 \tag{07.11}$$
#
# Multiply out. $|E\phi(x)|^2 = E\phi(x) \cdot E\phi(x') = E[\phi(x) \cdot \phi(x')]$ with $x'$ an independent copy of $x$. Only products are left, and $k(x, y) = \phi(x) \cdot \phi(y)$, the *kernel*, may be known without any list:
#
# $$\text{MMD}^2 = E\,k(x, x') + E\,k(y, y') - 2\,E\,k(x, y) \tag{07.12}$$
#
# Three plain means. Estimate each by an average over pairs of *different* points, and no square of an error is left:
#
# $$\begin{aligned}
# \frac{1}{N(N-1)}\sum_{i \ne j} k(x_i, x_j) &+ \frac{1}{M(M-1)}\sum_{i \ne j} k(y_i, y_j) \\
# &- \frac{2}{NM}\sum_{i,j} k(x_i, y_j)
# \end{aligned} \tag{07.13}$$
#
# Every term has the mean of its expectation in (07.12), so the sum is unbiased for every $N$ and $M$. With the pairs $i = j$ left in, the first mean would be too large by $\frac1N\big(E\,k(x, x) - E\,k(x, x')\big)$.
#
# **By hand**, with $k(x, y) = xy$, so $\phi(x) = x$ and MMD² is the squared difference of the means. Let $x = \{1, 3\}$ and $y = \{0, 2\}$. Pairs within $x$: $1 \cdot 3 = 3$. Within $y$: 0. Across: $(0 + 2 + 0 + 6)/4 = 2$. The estimate is $3 + 0 - 4 = -1$, while the plain squared difference of the means is $(2-1)^2 = 1$.
# A negative estimate of a square is not a mistake. Only a number that may fall below 0 can be right *on average* where the truth is 0.
#
# **Check.** 3,000 times two sets of six points from one law. The mean of the estimate must be 0 within its error; with the diagonal it must not.

# %%
from diffusion_course import mmd


def with_diagonal(x, y):
    k = [((p @ q.T) / x.shape[1] + 1) ** 3 for p, q in ((x, x), (y, y), (x, y))]
    return (k[0].mean() + k[1].mean() - 2 * k[2].mean()).item()


pairs = torch.randn(3000, 2, 6, 2, generator=generator, dtype=torch.float64)
for name, estimate in (("without the diagonal", mmd), ("with it", with_diagonal)):
    values = torch.tensor([estimate(x, y) for x, y in pairs])
    error = (values.std() / 3000**0.5).item()
    print(
        f"{name:21s} mean {values.mean():6.2f}, standard error {error:.2f}, "
        f"so {'0 fits' if values.mean().abs() < 3 * error else '0 does not fit'}"
    )

# %% [markdown]
# Which kernel? The *kernel inception distance* (KID, arXiv 1801.01401) takes $k(a, b) = (a \cdot b / D + 1)^3$ on features. Multiplied out, it holds all products of up to three coordinates: it compares means, covariances and third moments, and nothing beyond.
# The kernel $e^{-|a-b|^2/(2h^2)}$ compares everything, but somebody has to choose $h$.
#
# KID averages (07.13) over random subsets. That changes neither the mean nor the lack of bias; it bounds the memory, and shows how far one subset of that size would scatter:

# %%
from diffusion_course import kernel_distance

for name, x in features.items():
    kid = kernel_distance(
        x, real, subset_size=200, num_subsets=50, generator=make_generator(0)
    )
    print(
        f"{name}: kernel distance {kid.value:5.1f}, one subset scatters "
        f"by {kid.std:.1f}"
    )

# %% [markdown]
# The fresh digits A are near 0, as they should be. The copies C are *below* 0 by more than chance: each meets its own twin in the reference, which makes the cross term too large. A clearly negative kernel distance is a warning.

# %% [markdown]
# ## Fidelity and coverage
#
# One number cannot say *how* a set is wrong. Its pictures may be bad, or good but all alike. Precision and recall (arXiv 1904.06991, eq. 1 and 2) ask two questions.
# Around each real point lies a ball that reaches to its $k$-th nearest real neighbour ($k = 3$). The union of these balls stands for where real data lives. The same with fake points:
#
# $$\begin{aligned}
# \text{precision} &= \text{share of fakes inside a real ball}, \\
# \text{recall} &= \text{share of real points inside a fake ball}
# \end{aligned} \tag{07.14}$$
#
# In the plane you can look at it. The data are the two moons. One model draws the upper moon only, the other draws both and adds noise.

# %%
from matplotlib.collections import EllipseCollection

from diffusion_course import GaussianMixture, mixture, precision_recall

moons = mixture("moons")
points = moons.sample(120, generator=make_generator(0))
# the first neighbour is the point itself
reach = torch.cdist(points, points).kthvalue(4, dim=1).values.numpy()
upper = GaussianMixture(2 * moons.weights[:6], moons.means[:6], moons.covariances[:6])
noise = 0.35 * torch.randn(100, 2, generator=generator).double()
models_2d = {
    "upper moon only": upper.sample(100, generator=generator),
    "both, with noise": moons.sample(100, generator=generator) + noise,
}

# %%
fig, axes = figure(7.4, 3.4, ncols=2, sharex=True, sharey=True)
for ax, (name, fake) in zip(axes, models_2d.items(), strict=True):
    ax.add_collection(
        EllipseCollection(
            2 * reach, 2 * reach, 0 * reach, units="xy", offsets=points.numpy(),
            offset_transform=ax.transData, facecolor="#0072B2", alpha=0.12,
        )
    )
    ax.plot(*points.T, ".", color="#0072B2", ms=3, label="real, with balls")
    ax.plot(*fake.T, "x", color="#D55E00", ms=4, label="fake")
    precision, recall = precision_recall(points, fake)
    ax.set_title(
        f"{name}: precision {precision:.2f}, recall {recall:.2f}",
        loc="left", fontsize=9,
    )
    ax.set(xlim=(-2.6, 2.6), ylim=(-2.2, 2.2), aspect="equal")
axes[1].legend(loc="lower left", fontsize=8)
show(fig, alt=(
    "Two panels with blue points on two arcs, each point with a pale ball. "
    "Left: orange crosses cover the upper arc only and lie inside the balls. "
    "Right: orange crosses spread around both arcs, many of them outside every ball."
))

# %% [markdown]
# The dropped moon costs recall, the noise costs precision. Now the digits, in features:

# %%
for name, x in features.items():
    precision, recall = precision_recall(real, x)
    print(f"{name}: precision {precision:.2f}, recall {recall:.2f}")

# %% [markdown]
# Even A, fresh real digits, does not reach 1: balls around 719 points do not fill the place where digits live. As before, a number needs the real-against-real value next to it, at the same $N$ and $k$.
# Precision alone would prefer a network that draws ten pictures over and over. Recall alone would accept any cloud that is wide enough.

# %% [markdown]
# ## Copies
#
# The photocopier C has the best distance, precision 1 and good recall. What gives it away is *where* its pictures lie: on top of training data.
# Compare with held-out data. For each sample measure the distance to its nearest training picture, and do the same for pictures that were never in training. If samples are as new as held-out data, both distances are draws of the same law, and by symmetry
#
# $$P\begin{pmatrix}\text{a sample is farther from the training data} \\ \text{than a held-out picture is}\end{pmatrix} = \tfrac12 \tag{07.15}$$
#
# Far below one half means copying. Far above means that samples lie off the data. The count behind it is the Mann-Whitney statistic; Meehan et al. (arXiv 2004.05675) use it for this purpose.

# %%
from diffusion_course import memorisation

suspects = {
    "fresh digits": fresh[:300],
    "C, copies": reference[:300],
    "C, moved by a pixel": reference[:300].roll(1, 3),
}
for name, images in suspects.items():
    in_pixels = memorisation(images, reference, held_out.images).probability
    in_features = memorisation(
        *(extract_features(classifier, x) for x in (images, reference, held_out.images))
    ).probability
    print(
        f"{name:20s} P(farther than held-out): {in_pixels:.2f} in pixels, "
        f"{in_features:.2f} in features"
    )

# %% [markdown]
# Copies have 0. But copies moved by one pixel pass the test, in pixels and even in features: each has strangers that are nearer. Theis et al. (arXiv 1511.01844, section 3.4) warned of this: a nearest-neighbour test finds copies only in the sense of its distance.
# A low value proves copying. A value of one half proves little.
#
# The network was trained on all 1,438 training digits, so it is tested against those:

# %% tags=["nbval-ignore-output"]
found = memorisation(drawn, training.images, held_out.images)
closest = found.distances.argsort()[:10]
print(
    f"P(farther than held-out) {found.probability:.2f}; flagged as copies: "
    f"{int(found.copies.sum())} of 300, by chance about 3"
)
fig = plotting.image_strip(
    [drawn[closest], training.images[found.indices[closest]]],
    row_labels=["drawn", "nearest in training"],
    title="The ten samples nearest to the training data",
)
show(fig, alt=(
    "Two rows of ten digits. Each drawn digit and its nearest training digit show the "
    "same numeral in a similar hand, most pairs are hard to tell apart."
))

# %% [markdown]
# The ten nearest pairs look alike, but so do real ones: held-out digits have training neighbours as near. Thirteen people wrote these 1,797 digits ([description of the data set](https://scikit-learn.org/stable/datasets/toy_dataset.html)), and the split is not by writer.
# A page of nearest pairs proves nothing without the same page for held-out data.

# %% [markdown]
# ## How sure is a number
#
# 300 pictures are a sample; another 300 give another number. The *bootstrap* estimates how far: let the 300 stand for the unknown law, draw 300 from them *with replacement*, compute the statistic, repeat. The spread of these values stands for the spread over new samples.

# %%
from diffusion_course import bootstrap_interval

for name in "AD":
    interval = bootstrap_interval(
        lambda x: mmd(x, real), features[name],
        num_resamples=60, generator=make_generator(0),
    )
    print(
        f"{name}: kernel distance {interval.value:5.2f}, 95 % interval "
        f"{interval.low:5.2f} to {interval.high:5.2f}"
    )

# %% [markdown]
# The interval covers one thing: other samples *from the same network*. Two things it leaves out.
#
# **Bias.** Resampling repeats points and so adds the bias of small sets a second time. Below, the true distance is known: $N(0, I)$ against $N(\delta, I)$ with $|\delta|^2 = 1$, eight coordinates, 60 points. How many of 40 intervals hold the truth?
# "Percentile" takes the quantiles of the resampled values, "basic" mirrors them around the measured value, which takes one bias off.

# %%
def coverage(statistic, truth, method, repeats=40):
    shift, hits = torch.tensor([1.0] + [0.0] * 7, dtype=torch.float64), 0
    for _ in range(repeats):
        x, y = torch.randn(2, 60, 8, generator=generator, dtype=torch.float64)
        interval = bootstrap_interval(
            statistic, x + shift, y,
            num_resamples=40, method=method, generator=generator,
        )
        hits += interval.low <= truth <= interval.high
    return hits / repeats


for name, statistic, truth in (
    ("first mean", lambda x, y: x[:, 0].mean(), 1.0), ("Frechet", frechet_distance, 1.0)
):
    print(
        f"{name:10s} intervals that hold the truth: "
        f"percentile {coverage(statistic, truth, 'percentile'):.2f}, "
        f"basic {coverage(statistic, truth, 'basic'):.2f}"
    )

# %% [markdown]
# For a mean the promise of 95 % is about kept. For the Frechet distance the percentile interval never holds the truth: it is an interval around a biased number. (Repeated points touch even the kernel distance: two *different* draws may be the same picture. The basic interval takes that off.)
#
# **The training seed.** Train the same small network on the moons four times, with nothing but the seed changed. The statistic is a plain mean, for which the bootstrap is sound: the share of 4,000 samples in the upper half of the plane. The data has 0.50 there.

# %%
from diffusion_course import MLP, Progress, make_schedule, train

linear = make_schedule("linear")
data = moons.sample(4000, generator=make_generator(0)).float()

# %% tags=["nbval-ignore-output"]
intervals = []
with Progress(4, "training four networks") as bar:
    for seed in range(4):
        torch.manual_seed(seed)
        *_, state = train(
            MLP(hidden=64), data, linear,
            num_steps=400, batch_size=64, learning_rate=1e-2, ema_decay=0.9, seed=seed,
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
ax.set(
    yticks=range(4), ylabel="training seed", xlabel="share of samples in the upper half"
)
ax.axvline(0.5, color="#777777", linestyle="--")
ax.set_title("The seed moves the number more than the sampling does", loc="left")
show(fig, alt=(
    "Four horizontal intervals, one for each training seed, at different "
    "shares between 0.46 and 0.57. The outermost intervals do not overlap. "
    "A dashed line marks 0.50."
))

# %% [markdown]
# "Our method is better by 10 %, with an interval" says something about two *files of weights*. To say something about two *methods*, train each several times and show that spread.

# %% [markdown]
# ## The exact likelihood
#
# The last number needs no features and no reference: the density that the model itself gives to a held-out picture. Lesson 03 had a bound on it. The ODE of lesson 06 gives it exactly.
#
# **Line 1, paths.** Write the noise level as an angle: $\cos\varphi = \sqrt{\bar\alpha_t}$, so $\varphi = 0$ is data and $\varphi = \pi/2$ noise. A data point with its noise runs on the path
#
# $$x_\varphi = \cos\varphi\,x_0 + \sin\varphi\,\epsilon, \qquad \dot x_\varphi = \cos\varphi\,\epsilon - \sin\varphi\,x_0$$
#
# The derivative is the target $v$ of lesson 03 (arXiv 2202.00512). Many paths pass through a point $x$. Let $v(x, \varphi) = E[\dot x_\varphi \mid x_\varphi = x]$ be their mean velocity: a network that predicts noise gives it as $\cos\varphi\,\hat\epsilon - \sin\varphi\,\hat x_0$.
#
# **Line 2, continuity.** Take any smooth function $h$ that vanishes far out. In $\frac{d}{d\varphi} E\,h(x_\varphi) = E[\nabla h(x_\varphi) \cdot \dot x_\varphi]$, average first over the paths through one point: $= E[\nabla h(x_\varphi) \cdot v(x_\varphi, \varphi)]$.
# With the density $p_\varphi$ both sides are integrals. Integrate the right one by parts:
#
# $$\int h\,\frac{\partial p_\varphi}{\partial\varphi}\,dx = \int p_\varphi\, v \cdot \nabla h\,dx = -\int h\,\nabla\cdot(p_\varphi v)\,dx$$
#
# This holds for every $h$, so
#
# $$\frac{\partial p_\varphi}{\partial\varphi} = -\nabla\cdot(p_\varphi v) \tag{07.16}$$
#
# Only $v$ appears. Points that move by $dx/d\varphi = v(x, \varphi)$, without any randomness, have the same densities as the noisy paths. This is the ODE of lesson 06.
#
# **Line 3, along one point.** Follow a moving point and take the derivative of $\log p$ there, once for the change in time and once for the change of place. Insert (07.16), with $\nabla\cdot(pv) = p\,\nabla\cdot v + v\cdot\nabla p$:
#
# $$\begin{aligned}
# \frac{d}{d\varphi}\log p_\varphi(x_\varphi) &= \frac{1}{p}\left(\frac{\partial p}{\partial\varphi} + v\cdot\nabla p\right) \\
# &= \frac{1}{p}\left(-p\,\nabla\cdot v - v\cdot\nabla p + v\cdot\nabla p\right) = -\nabla\cdot v
# \end{aligned} \tag{07.17}$$
#
# Where the flow spreads points, the density falls. Chen et al. (arXiv 1806.07366, theorem 1) call this the instantaneous change of variables.
#
# **Line 4.** Add up from data to noise, where $p$ is $N(0, I)$ (arXiv 2011.13456, eq. 39):
#
# $$\log p_0(x_0) = \log N(x_{\pi/2};\,0, I) + \int_0^{\pi/2} \nabla\cdot v\;d\varphi \tag{07.18}$$
#
# **By hand.** One coordinate, $x_0 \sim N(0, s^2)$. Then $x_\varphi$ has the variance $w^2 = \cos^2\!\varphi\,s^2 + \sin^2\!\varphi$, and lesson 04's regression gives $E[x_0 \mid x] = \cos\varphi\,\frac{s^2}{w^2}x$ and $E[\epsilon \mid x] = \sin\varphi\,\frac{1}{w^2}x$. So $v = \frac{\cos\varphi\sin\varphi\,(1-s^2)}{w^2}x = \frac{w'}{w}x$.
# The ODE stretches by $w$: it ends at $x_0/s$. The divergence is $w'/w$, its integral $\log w\,\big|_0^{\pi/2} = -\log s$. With $s = 0.5$ and $x_0 = 0.3$: the end is 0.6, $\log N(0.6; 0, 1) = -1.0989$, the divergence adds $0.6931$, together $-0.4058$, which is $\log N(0.3; 0, 0.25)$. The package:

# %%
from diffusion_course import ode_log_likelihood, ode_terms

linear = make_schedule("linear")
bell = GaussianMixture(*(
    torch.tensor(value, dtype=torch.float64) for value in ([1.0], [[0.0]], [[[0.25]]])
))
terms = ode_terms(
    bell.model(linear.alphas_cumprod), torch.tensor([[0.3]]).double(), linear,
    num_steps=30,
)
print(
    f"end {terms.latent.item():.3f}, log N(end) {terms.prior.item():.3f}, "
    f"divergence {terms.divergence.item():.3f}, together {terms.total.item():.3f}"
)

# %% [markdown]
# **Check.** The moons know their density exactly. The ODE only sees the noise prediction. They must agree to 0.02 nats at every point. And failing once: without the divergence, the model seems to give every point the density of plain noise.

# %%
points = moons.sample(200, generator=make_generator(2))
terms = ode_terms(moons.model(linear.alphas_cumprod), points, linear, num_steps=30)
exact = moons.log_prob(points)
assert_close(terms.total, exact, rtol=0.0, atol=0.02)
print(
    f"mean log-density: ODE {terms.total.mean():.3f}, exact {exact.mean():.3f}; "
    "largest difference below 0.02"
)
try:
    assert_close(terms.prior, exact, rtol=0.0, atol=0.02)
except AssertionError as error:
    print("without the divergence:", str(error).splitlines()[2])

# %% [markdown]
# ### A trace from random directions
#
# The divergence is the trace of the Jacobian $J = \partial v/\partial x$. Exactly, it costs one backward pass per coordinate: 2 here, 256 for a digit, 196,608 for a colour picture of 256x256. Hutchinson's trick: take a random $z$ with $E[z z^\top] = I$, such as random signs. Then
#
# $$E[z^\top J z] = \sum_{ij} J_{ij}\,E[z_i z_j] = \sum_i J_{ii} \tag{07.19}$$
#
# One backward pass gives $z^\top J$, whatever the dimension. With signs, $z_i^2 = 1$ and the diagonal comes out exactly; only the elements off the diagonal scatter. The estimate of the log-density is unbiased, and its error falls like one over the root of the number of probes:

# %%
for probes in (1, 4, 16):
    estimate = ode_log_likelihood(
        moons.model(linear.alphas_cumprod), points, linear, num_steps=15,
        trace="hutchinson", num_probes=probes, generator=make_generator(0),
    )
    print(
        f"{probes:2d} probes: typical error of one point "
        f"{(estimate - exact).std():.2f} nats, of the mean of 200 points "
        f"{(estimate - exact).mean().abs():.3f}"
    )

# %% [markdown]
# ### Digits
#
# Now the shipped network: eight held-out digits, the same digits moved by one pixel, with faint noise, and an empty picture. `bits_per_dim` of lesson 03 divides by the 256 pixels and by $\ln 2$.

# %% tags=["nbval-ignore-output"]
from diffusion_course import bits_per_dim

some = held_out.images[:8]
pictures = {
    "held-out digits": some,
    "moved by a pixel": some.roll(1, 3),
    "with faint noise": some + 0.05 * torch.randn(some.shape, generator=generator),
    "empty": torch.full_like(some[:1], -1),
}
nats = ode_log_likelihood(
    network, torch.cat(list(pictures.values())), schedule,
    num_steps=10, trace="hutchinson", generator=make_generator(0),
)
for (name, images), part in zip(
    pictures.items(), nats.split([len(images) for images in pictures.values()]),
    strict=True,
):
    print(
        f"{name:17s} {part.mean():6.0f} nats, {bits_per_dim(-part.mean(), 256):5.2f} "
        "bits per dimension"
    )

# %% [markdown]
# Three limits, on one screen. First, a density depends on the unit: pixels in $[-1, 1]$ are 127.5 times closer together than in $[0, 255]$, so an 8-bit picture's bits per dimension are $\log_2 127.5 = 6.99$ larger than the ones above. Papers quote that unit, and add uniform noise to fill the steps (Theis et al., section 3.1).
# Second, these digits were enlarged from 8x8 pixels and many pixels are always black. Such data lies on a thin sheet, where the density has no upper bound: the number depends on the smallest noise level in the schedule. Compare rows, do not quote one.
# Third, the likelihood has its own taste: it holds an empty picture for likelier than a readable digit that sits one pixel to the right.

# %% [markdown]
# ## What each number cannot see
#
# **Frechet, and the cubic kernel.** (07.6) compares two moments, the cubic kernel three. Take the ring of eight blobs, and one Gaussian with the ring's mean and covariance. By symmetry their third moments are 0 too:

# %%
ring = mixture("ring")
on_ring = ring.sample(3000, generator=make_generator(0))
impostor = with_moments(torch.zeros(2).double(), on_ring.T.cov(), n=3000)
other = ring.sample(3000, generator=make_generator(1))
for name, x in (("another ring", other), ("one Gaussian", impostor)):
    row = (
        frechet_distance(on_ring, x), mmd(on_ring, x),
        mmd(on_ring, x, kernel="rbf", bandwidth=0.5),
        precision_recall(on_ring, x).precision,
    )
    print(
        f"{name}: Frechet {row[0]:.3f}, cubic kernel {row[1]:6.3f}, "
        f"rbf kernel {row[2]:.3f}, precision {row[3]:.2f}"
    )
fig = plotting.scatter_2d(
    {"ring": on_ring, "one Gaussian": impostor},
    limit=3.0, size=2.6, title="Equal for the Frechet distance and the cubic kernel",
)
show(fig, alt=(
    "Left: eight blobs on a circle. Right: a round cloud that is densest in the "
    "middle, where the ring is empty."
))

# %% [markdown]
# **The likelihood.** It is about held-out data, not about samples, and in many dimensions the two come apart in both directions (Theis et al., arXiv 1511.01844, section 3.2). Let $p$ be a good model, $q$ pure noise, and draw 99 % from $q$:
#
# $$\log\big(0.01\,p(x) + 0.99\,q(x)\big) \ge \log p(x) - \log 100 \tag{07.20}$$
#
# The loss is at most 4.61 nats, for any data. Here $p$ puts a small bell on each training digit, and $q$ is uniform noise. A third model makes the bells so narrow that its samples are perfect copies:

# %%
def log_density(x, std):
    x, centres = x.flatten(1).double(), training.images.flatten(1).double()
    bells = (-(torch.cdist(x, centres) ** 2) / (2 * std**2)).logsumexp(1)
    return bells - 128 * math.log(2 * math.pi * std**2) - math.log(1438)


good, copier = (log_density(held_out.images, std) for std in (0.2, 0.02))
uniform = torch.full_like(good, -256 * math.log(2))
mostly_noise = torch.logaddexp(good + math.log(0.01), uniform + math.log(0.99))
for name, value in (
    ("bells of width 0.2", good), ("99 % noise", mostly_noise),
    ("bells of width 0.02", copier),
):
    print(f"{name:19s} held-out digits get {value.mean():9.1f} nats")

# %%
drawn_by = {
    "width 0.2": training.images[:10] + 0.2 * torch.randn(
        10, 1, 16, 16, generator=generator
    ),
    "99 % noise": 2 * torch.rand(10, 1, 16, 16, generator=generator) - 1,
    "width 0.02": training.images[:10] + 0.02 * torch.randn(
        10, 1, 16, 16, generator=generator
    ),
}
fig = plotting.image_strip(
    list(drawn_by.values()), row_labels=list(drawn_by),
    title="Samples: the likelihood ranks them first, second, last",
)
show(fig, alt=(
    "Three rows of ten pictures. Width 0.2: grainy digits. 99 % noise: ten squares of "
    "noise. Width 0.02: crisp digits, which have the lowest likelihood by far."
))

# %% [markdown]
# ### The table
#
# Now every set against every number. Ten candidates of 300 pictures; all but the network's are built from real digits. One is no pictures at all: 300 Gaussian vectors with the reference features' mean and covariance.

# %%
def pick(mask, n=300):
    return fresh[mask.nonzero()[:n, 0]]


few = torch.stack([fresh[fresh_labels == c][0] for c in range(10)])
low = fresh_labels < 5
sets = {
    "fresh digits": fresh[:300],
    "network, 10 calls": drawn,
    "copies": reference[:300],
    "copies, moved": reference[:300].roll(1, 3),
    "blurred": candidates["D"],
    "faint noise": fresh[:300] + 0.1 * torch.randn(300, 1, 16, 16, generator=generator),
    "no 8": pick(fresh_labels != 8),
    "only 0 to 4": pick(low),
    "0 to 4 nine times as often": torch.cat([pick(low, 270), pick(~low, 30)]),
    "ten digits, 30 times each": few.repeat(30, 1, 1, 1),
}

# %%
table = {
    name: extract_features(classifier, images).double() for name, images in sets.items()
}
z = torch.randn(300, 64, generator=generator).double()
root = torch.linalg.cholesky(real.T.cov() + 1e-9 * torch.eye(64))
gaussian = real.mean(0) + z @ root.T
table["Gaussian features"] = gaussian

# %%
def scores(x, images=None, base=real, base_images=reference):
    if images is None:
        copying = memorisation(x, base, extract_features(classifier, held_out.images))
    else:
        copying = memorisation(images, base_images, held_out.images)
    return (
        frechet_distance(x, base), mmd(x, base),
        *precision_recall(base, x), copying.probability,
    )


# %%
everything, by_chance = torch.cat([real, fresh_features]), []
pictures = torch.cat([reference, fresh])
for i in range(20):
    shuffle = torch.randperm(1438, generator=generator)
    by_chance.append(scores(
        everything[shuffle[:300]], pictures[shuffle[:300]],
        everything[shuffle[300:1019]], pictures[shuffle[300:1019]],
    ))
middle, deviation = torch.tensor(by_chance).mean(0), torch.tensor(by_chance).std(0)
top, bottom = (middle + 3 * deviation).tolist(), (middle - 3 * deviation).tolist()
# distances are bad when large, the other three when small
limits = top[:2] + bottom[2:]

# %% [markdown]
# What counts as noticing? 20 random splits of real digits say how far each number goes by chance. A value at most three standard deviations worse than their mean is marked with `*`: this number has no complaint.

# %%
print(
    f"{'':27s}{'Frechet':>9s} {'kernel':>8s} {'precision':>10s} {'recall':>7s} "
    f"{'P(farther)':>11s}"
)
for name, x in table.items():
    row = scores(x.to(real.dtype), sets.get(name))
    marks = [
        "*" if (value <= limit if i < 2 else value >= limit) else " "
        for i, (value, limit) in enumerate(zip(row, limits, strict=True))
    ]
    print(
        f"{name:27s}{row[0]:8.1f}{marks[0]} {row[1]:7.1f}{marks[1]} "
        f"{row[2]:9.2f}{marks[2]} {row[3]:6.2f}{marks[3]} {row[4]:10.2f}{marks[4]}"
    )

# %% [markdown]
# Read it by rows. Every failure has a column with a `*`, and every column a failure that it passes:
#
# - **Copies** please all but the last column. Moved by a pixel they please the last column, though now the distances notice the shift.
# - **No eights**: a tenth of the data is gone, and neither the kernel distance nor precision nor the test for copies objects.
# - **Classes out of balance**: precision and recall look at where the sets live, not at how much of them lives where. The two distances see it.
# - **Ten digits again and again**: precision is perfect. Recall is 0.
# - **Faint noise** passes every column: the classifier learned to ignore it, and so its features do not hold it.
# - **Gaussian features** get a *better* Frechet distance than fresh digits, without one picture. Precision is 0.
#
# So report a distance with its $N$ and its real-against-real value, precision *and* recall, a test for copies with its distance named, a page of unselected samples, and the intervals.

# %% [markdown]
# **Task.** Mix a growing share of a failure into fresh digits. For each failure find the number that leaves its grey band (three standard deviations of real digits on either side) at the smallest share. Which failures leave no band at all?

# %%
from functools import cache

from diffusion_course import Explorer

names = ["Frechet", "kernel", "precision", "recall"]
shares = [0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0]


@cache
def mixed(failure, share):
    n = round(300 * share)
    some = torch.randperm(300, generator=make_generator(0))[:n]
    x = torch.cat([table[failure][some], fresh_features[300:600 - n]]).double()
    return frechet_distance(x, real), mmd(x, real), *precision_recall(real, x)


# %%
def mixing(failure, share):
    fig, axes = figure(9.0, 2.5, ncols=4)
    curves = torch.tensor([mixed(failure, s) for s in shares])
    now = mixed(failure, share)
    for i, ax in enumerate(axes):
        ax.axhspan(bottom[i], top[i], color="#DDDDDD")
        ax.plot(shares, curves[:, i], color="#0072B2")
        ax.plot(share, now[i], "o", color="#D55E00")
        ax.set(title=names[i], xlabel="share")
    fig.suptitle(f"{share:.0%} of the set: {failure}", x=0.01, ha="left", fontsize=11)
    values = zip(names, now, bottom, top, strict=False)
    return fig, f"{share:.0%} {failure}: " + ", ".join(
        f"{n} {v:.2f} ({'inside' if b <= v <= w else 'outside'} the band)"
        for n, v, b, w in values
    )


Explorer(
    mixing, failure=[name for name in table if name != "fresh digits"], share=shares,
    start={"failure": "ten digits, 30 times each", "share": 0.3}, ahead=True,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# The next cell prints, for some failures, the share from which on each number is worse than by chance. Copies disturb none of the four. Ten repeated digits disturb recall only when the last fresh digit is gone: with 75 fresh ones left, their balls have grown and still cover nearly all real data.
#
# </details>

# %%
def first_complaint(failure, i):
    values = torch.tensor([mixed(failure, s)[i] for s in shares])
    bad = values > limits[i] if i < 2 else values < limits[i]
    from_here_on = [share for k, share in enumerate(shares) if bad[k:].all()]
    return f"{from_here_on[0]:.2f}" if from_here_on else "never"


for failure in (
    "copies", "blurred", "0 to 4 nine times as often",
    "ten digits, 30 times each", "Gaussian features",
):
    print(
        f"{failure:27s}" + ", ".join(
            f"{name} {first_complaint(failure, i)}" for i, name in enumerate(names)
        )
    )

# %% [markdown]
# ## Where people go wrong
#
# ### Another preprocessing
#
# Features belong to pictures that are prepared as the feature network's training pictures were. Parmar et al. (arXiv 2104.11222) measured how much resizing by different libraries moves FID. Here: the same fresh digits, prepared in four ways.

# %%
from torch.nn.functional import interpolate

# the same digits at 8x8
small = load_dataset("digits", split="train").images[order[719:]]
prepared = {
    "as the reference": fresh,
    "nearest pixel": interpolate(small, size=16),
    "bicubic": interpolate(small, size=16, mode="bicubic").clamp(-1, 1),
    "scaled to [0, 1]": (fresh + 1) / 2,
}
for name, images in prepared.items():
    print(
        f"{name:17s} Frechet distance "
        f"{frechet_distance(extract_features(classifier, images), real.float()):6.1f}"
    )
fig = plotting.image_strip(
    [images[:12] for images in prepared.values()],
    row_labels=list(prepared), title="The same digits, four distances",
)
show(fig, alt=(
    "Four rows with the same twelve digits: smooth, blocky, slightly sharper, "
    "and with grey instead of black ground."
))

# %% [markdown]
# The range error is the one that hides best: pictures look right on the screen after a rescaling, the code runs, and the number is nonsense. Before you measure a network, measure real data through the same code.

# %% [markdown]
# ### The best of many
#
# Somebody evaluates a checkpoint every thousand steps, or twenty seeds of the sampler, and reports the best number. Twenty sets of 300 *real* digits show what that is worth:

# %%
twenty = torch.tensor([
    frechet_distance(
        fresh_features[torch.randperm(719, generator=generator)[:300]], real
    )
    for _ in range(20)
])
print(
    f"mean of twenty {twenty.mean():.2f}, best of twenty {twenty.min():.2f}: "
    f"{1 - twenty.min() / twenty.mean():.0%} 'better' by choosing"
)

# %% [markdown]
# Choose on one set of samples, report on another.

# %% [markdown]
# ### A few odd pictures in the reference
#
# Balls reach to the third neighbour, however far that is. Five pictures of noise among 719 real digits have huge balls. What becomes of the precision of 300 pictures of noise?

# %%
noise_pictures = 2 * torch.rand(305, 1, 16, 16, generator=generator) - 1
noise_features = extract_features(classifier, noise_pictures).double()
for name, base in (
    ("clean reference", real),
    ("five odd pictures in it", torch.cat([real, noise_features[300:]])),
):
    print(
        f"{name:24s} precision of pure noise "
        f"{precision_recall(base, noise_features[:300]).precision:.2f}"
    )

# %% [markdown]
# Look at a reference before you trust it. Naeem et al. (arXiv 2002.09797) propose *density* and *coverage*, which count how many balls hold a point instead of whether one does.

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("07.1")` helps in steps, `solution("07.1")` comes after a try.

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
#
# | symbol | code | equation |
# |---|---|---|
# | $d^2$ | `frechet_distance(features_a, features_b)` | (07.6) |
# | $d^2_\infty$, $c$ | `frechet_infinity(...)`: `value`, `slope` | (07.10) |
# | MMD², KID | `mmd(x, y)`, `kernel_distance(...)` | (07.13) |
# | precision, recall | `precision_recall(real, fake, k=3)` | (07.14) |
# | P(farther than held-out) | `memorisation(samples, train, held_out)` | (07.15) |
# | interval | `bootstrap_interval(statistic, *sets)` | |
# | $v$, $\nabla\cdot v$ | `ode_terms(...)`: `divergence` | (07.17), (07.19) |
# | $\log p_0(x_0)$ | `ode_log_likelihood(model, x0, schedule)` | (07.18) |
#
# What this lesson does not give you: a number for what people want from a picture. The features are those of a digit classifier, and nothing here asks whether a picture shows what it was asked for.
# Lesson 08 asks: it conditions the network on a class, and these numbers show what guidance buys and what it costs.
#
# To read next:
#
# - Theis et al. 2016, https://arxiv.org/abs/1511.01844: ten pages, no experiment larger than yours, and the reason for most of this lesson.
# - Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991: precision and recall, with the trade-off that lesson 08 meets.
# - Song et al. 2021, https://arxiv.org/abs/2011.13456: section 4.3 and appendix D.2, the likelihood that you derived.
