# %% [markdown]
# # 05 · The U-Net
#
# After this lesson you can:
#
# - tell a network the time, and say what goes wrong when the time has the wrong scale,
# - build a residual block, attention and the U-Net around them, and check each part by hand,
# - count what a network costs, and measure how far it sees,
# - find out in a minute whether a network can learn at all: overfit one batch,
# - train on real digits, average the weights, stop a run and resume it to the bit.
#
# You need: lessons 01 to 04.
#
# **Measured cost:** 2.4 min on 2 cores, 1.0 GB of memory at the peak.
#
# In code `t` is the index $0..T-1$. $B$ is the batch, $C$ the channels, $H \times W$ the size of an image.

# %%
import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from diffusion_course import (
    UNet,
    load_dataset,
    make_generator,
    make_schedule,
    plotting,
    q_sample,
    seed_everything,
    show,
)
from diffusion_course.notebook import figure

generator = seed_everything(0)
linear = make_schedule("linear")

# %% [markdown]
# ## Recall
#
# 1. From lesson 03: what does the network of this course get, what does it return, and what is its loss?
# 2. From lesson 04: one picture takes 1,000 calls of the network. At which $t$ does an error of the network hurt the estimate of $x_0$ most?
#
# <details><summary>Answers</summary>
#
# 1. It gets $x_t$ and $t$ and returns $\hat\epsilon$, its guess of the noise in $x_t$. The loss is the mean of $(\hat\epsilon - \epsilon)^2$ over pixels, samples and levels.
# 2. At the largest: $\hat x_0 = (x_t - \sqrt{1-\bar\alpha_t}\,\hat\epsilon)/\sqrt{\bar\alpha_t}$ divides by $\sqrt{\bar\alpha_t}$, which is 0.0064 at the end of the linear schedule.
#
# </details>

# %% [markdown]
# ## Predict first
#
# The next cell builds the network of this lesson with random weights and shows it eight noisy digits. Nothing has been trained.
# Before you look at its answer: how large is its loss, averaged over many draws of the noise?

# %%
digits = load_dataset("digits", split="train").images  # (1438, 1, 8, 8) in [-1, 1]
torch.manual_seed(0)
network = UNet(channels=32, channel_mult=(1, 2), attention_levels=(1,))
t = torch.linspace(50, 950, 8).long()
noise = torch.randn(8, 1, 8, 8, generator=generator)
xt = q_sample(digits[:8], t, linear.alphas_cumprod, noise)

# %%
my_prediction = "about 2"  # "about 0", "about 1", "about 2" or "far above"

# %%
with torch.no_grad():
    answer = network(xt, t)
fig = plotting.image_strip(
    [xt, noise, answer], column_labels=[f"t = {i}" for i in t.tolist()],
    row_labels=["x_t", "noise", "answer"],
    title="A new network gives the same answer to everything",
)
show(fig, alt=(
    "Three rows of eight 8x8 images: digits under growing noise; the noise in them; "
    "the network's answer, the same even grey everywhere."
))

# %%
with torch.no_grad():
    losses = torch.stack([
        (network(xt, t) - torch.randn(8, 1, 8, 8, generator=generator)).square().mean()
        for _ in range(500)
    ])
measured = losses.mean().item()
verdict = "as you said" if my_prediction == "about 1" else f"you said {my_prediction}"
print(f"loss {measured:.2f} ({verdict}); largest |answer| {answer.abs().max():.0f}")

# %% [markdown]
# The answer is exactly zero, so the loss is the mean of $\epsilon^2$, which is 1. That is by design, and this lesson shows how and why.
# It gives you a first test of any diffusion network: if its first loss is not close to 1, something is wrong before training has begun.

# %% [markdown]
# ## Telling a network the time
#
# A denoiser has to know how much noise it is looking at. The time enters as a number, and a network does little with one raw number between 0 and 999:
# it is huge beside everything else, and two neighbouring times are hard to tell apart. So the number becomes a vector, by the recipe that transformers use for positions (arXiv 1706.03762, section 3.5):
#
# $$\begin{gathered}
# e(t) = \big(\cos\omega_0 t, \dots, \cos\omega_{h-1} t,\ \sin\omega_0 t, \dots, \sin\omega_{h-1} t\big), \\
# \omega_i = 10000^{-i/h}
# \end{gathered} \tag{05.1}$$
#
# Think of $h$ clock hands. The first turns 1 radian at every step, the last ($h = 32$) needs 47,000 steps for a turn. Fast hands tell neighbours apart, slow hands tell early from late.
#
# **By hand**, with $h = 2$ and $t = 3$: the frequencies are 1 and $10000^{-1/2} = 0.01$, the angles 3 and 0.03.
# So $e(3) = (\cos 3, \cos 0.03, \sin 3, \sin 0.03) = (-0.990, 1.000, 0.141, 0.030)$.

# %%
from diffusion_course import show_source, timestep_embedding

print([
    f"{value:.3f}" for value in timestep_embedding(torch.tensor([3]), 4)[0].tolist()
])
show_source(timestep_embedding)

# %%
table = timestep_embedding(torch.arange(1000), 64)  # (1000, 64)
fig, ax = figure(5.5, 2.8)
picture = ax.imshow(
    table.T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1, interpolation="nearest"
)
ax.set(xlabel="index t", ylabel="component")
ax.grid(False)
ax.set_title("Fast hands above, slow hands below; cosines, then sines", loc="left")
fig.colorbar(picture, ax=ax, label="value")
show(fig, alt=(
    "The embedding as an image, t to the right, 64 components downwards. Component 0 "
    "changes too fast to see; further down the stripes become wider until component 31 "
    "does not change. Components 32 to 63 repeat the pattern with the sine."
))

# %% [markdown]
# ### Why pairs of cosine and sine
#
# **A shift of time is a rotation.** Take one frequency. The addition theorems say what $s$ more steps do to its pair:
#
# $$\begin{pmatrix}\cos\omega(t+s)\\ \sin\omega(t+s)\end{pmatrix} = \begin{pmatrix}\cos\omega s & -\sin\omega s\\ \sin\omega s & \cos\omega s\end{pmatrix}\begin{pmatrix}\cos\omega t\\ \sin\omega t\end{pmatrix} \tag{05.2}$$
#
# The matrix does not contain $t$. "Ten steps later" is one and the same linear map everywhere, so a linear layer can learn it. With the sine alone there is no such map: two times with equal sines may go different ways.
#
# **The similarity depends on the difference only.** Multiply two embeddings. Each pair gives $\cos\omega t\cos\omega t' + \sin\omega t\sin\omega t' = \cos\omega(t - t')$. All embeddings have the length $\sqrt h$, so their cosine similarity is
#
# $$\frac{e(t) \cdot e(t')}{|e(t)|\,|e(t')|} = \frac1h\sum_{i=0}^{h-1}\cos\omega_i (t - t') \tag{05.3}$$
#
# **Check** both, at all times and a random shift, in float64 and without the package's function:

# %%
h, shift = 32, 17
omega = 10_000.0 ** (-torch.arange(h, dtype=torch.float64) / h)
# turning a pair = multiplying cos + i sin with a phase
phase = torch.exp(1j * omega * shift)
start, later = (
    timestep_embedding(torch.arange(900) + s, 2 * h).double() for s in (0, shift)
)
turned = torch.complex(start[:, :h], start[:, h:]) * phase
assert_close(torch.cat([turned.real, turned.imag], 1), later, atol=1e-3, rtol=0.0)
similarity = F.cosine_similarity(start[100], start, dim=1)
assert_close(
    similarity, (omega * (torch.arange(900)[:, None] - 100)).cos().mean(1),
    atol=1e-4, rtol=0.0,
)
print("a shift is a rotation, and the similarity depends on the difference only")

# %% [markdown]
# The check can fail. Turn the hands the other way:

# %%
turned = torch.complex(start[:, :h], start[:, h:]) * phase.conj()
try:
    assert_close(torch.cat([turned.real, turned.imag], 1), later, atol=1e-3, rtol=0.0)
except AssertionError as error:
    print(str(error).splitlines()[0])

# %% [markdown]
# ### The scale of t
#
# Some code counts time from 0 to 1. Put that into (05.1) and the fastest hand turns 1 radian over the whole chain. All other hands hardly move.
# Two times that should be told apart, 0.1 and 0.9, then have almost the same embedding:

# %%
for dim in (64, 128, 256):
    fractions, indices = (
        timestep_embedding(torch.tensor([0.1, 0.9]) * scale, dim) for scale in (1, 1000)
    )
    print(
        f"dim {dim:3d}: similarity {F.cosine_similarity(*fractions, dim=0):.2f} with "
        f"fractions, {F.cosine_similarity(*indices, dim=0):.2f} with indices"
    )

# %%
steps = torch.arange(0, 1000, 4)
curves = {
    name: F.cosine_similarity(
        timestep_embedding(torch.tensor([100.0 * s]), 128),
        timestep_embedding(steps * s, 128),
    )
    for name, s in (("t from 0 to 1", 0.001), ("t from 0 to 999", 1.0))
}
fig = plotting.lines(
    steps, curves, xlabel="index t", ylabel="cosine similarity with t = 100",
    title="Fractions make all times look alike",
)
show(fig, alt=(
    "Similarity with t = 100 against t. With fractions the curve stays above 0.97 "
    "everywhere. With indices it is a sharp peak of 1 at t = 100 and falls to about "
    "0.5 within 30 steps and to 0.2 at the far end."
))

# %% [markdown]
# The section on mistakes measures what this costs in training. Two linear layers with a SiLU between them ($\operatorname{SiLU}(x) = x/(1+e^{-x})$) turn $e(t)$ into a vector that all blocks share, `emb`.

# %% [markdown]
# ## A block that knows the time
#
# The U-Net is made of one kind of block: normalise, bend (SiLU), convolve, twice; then add the input.
#
# **Normalise.** Group normalisation (arXiv 1803.08494) cuts the channels into groups and gives each group of each sample mean 0 and variance 1. $m$ and $v$ are taken over the channels of the group and all positions:
#
# $$\begin{gathered}
# \operatorname{GN}(h) = \frac{h - m}{\sqrt{v + 10^{-5}}}, \\
# \text{then one factor and one offset per channel}
# \end{gathered} \tag{05.4}$$
#
# It never looks at another sample, so the answer for one picture does not depend on its neighbours in the batch. By hand, with two groups of two channels:

# %%
shifts = torch.tensor([0.0, 3.0, 6.0, 9.0]).double()  # (C,)
h = torch.randn(3, 4, 5, 5, dtype=torch.float64, generator=generator)
h = h + shifts[:, None, None]
groups = h.reshape(3, 2, -1)  # (B, groups, 2 * 25 values)
variance = groups.var(2, keepdim=True, correction=0)
by_hand = (groups - groups.mean(2, keepdim=True)) / (variance + 1e-5).sqrt()
assert_close(by_hand.reshape(h.shape), F.group_norm(h, 2))
assert_close(F.group_norm(h, 2)[:1], F.group_norm(h[:1], 2))
print("by hand = torch; a sample alone = the same sample in a batch")

# %% [markdown]
# **Tell it the time.** After the normalisation every group has mean 0 and variance 1, whatever the noise level: the block has just forgotten how loud its input was.
# Ask for the most general way to give each channel $c$ a mean $\mu_c(t)$ and a spread $\sigma_c(t)$ of its own at each time, and to do nothing else. A map that keeps the shape of a distribution and sets its mean and spread is affine:
#
# $$h_c \mapsto \sigma_c(t)\,h_c + \mu_c(t), \qquad \sigma_c = 1 + \text{scale}_c, \quad \mu_c = \text{shift}_c \tag{05.5}$$
#
# One linear layer computes all scales and shifts from `emb` (arXiv 2105.05233, section 3, "adaptive group normalization"). The 1 makes a layer with small outputs leave $h$ alone instead of erasing it.
# Adding the embedding to $h$, as the first DDPM did, is the special case scale = 0. It can move a channel but not turn it up or down with $t$.
#
# **Add the input.** The block returns $x + f(x, t)$. And the last convolution of $f$ **starts at zero**: a new block is $x \mapsto x$, and a new network hands its input through and then outputs 0.

# %%
from diffusion_course.models import Attention, ResBlock

show_source(ResBlock)

# %% [markdown]
# **Check by another route:** the same block, written with loops over samples and channels for the scale and shift, on random weights (zeros would hide everything). And a new block is its skip connection.

# %%
def block_by_hand(block, x, emb):
    h = F.conv2d(
        F.silu(F.group_norm(x, 2, block.norm1.weight, block.norm1.bias)),
        block.conv1.weight, block.conv1.bias, padding=1,
    )
    h = F.group_norm(h, 2, block.norm2.weight, block.norm2.bias)
    rows = []
    for sample, e in zip(h, emb, strict=True):
        both = block.scale_shift.weight @ e + block.scale_shift.bias  # (2C,)
        rows.append(torch.stack([
            c * (1 + both[i]) + both[i + len(sample)] for i, c in enumerate(sample)
        ]))
    h = torch.stack(rows)
    return x + F.conv2d(F.silu(h), block.conv2.weight, block.conv2.bias, padding=1)


# %%
block = ResBlock(32, 32, 8).double()
x, emb = (
    torch.randn(3, *s, generator=generator, dtype=torch.float64)
    for s in ((32, 6, 6), (8,))
)
assert_close(block(x, emb), x)  # new: nothing but the skip connection
nn.init.normal_(block.conv2.weight, std=0.1, generator=generator)
assert_close(block(x, emb), block_by_hand(block, x, emb))
assert (block(x, emb) - block(x, emb + 1)).abs().max() > 0.01
print("new block = identity; block = by hand; another time, another output")

# %% [markdown]
# ### The first loss is 1
#
# If the network answers 0, its loss is the mean of $\epsilon^2$ over $n$ independent standard normal numbers. $E[\epsilon^2] = 1$, and since $\operatorname{Var}(\epsilon^2) = E[\epsilon^4] - 1 = 2$:
#
# $$E[\text{loss}] = 1, \qquad \text{standard deviation} = \sqrt{2/n} \tag{05.6}$$
#
# The cell at the top drew 500 batches of $n = 8 \cdot 64 = 512$. Both numbers can be compared with what came out:

# %%
print(
    f"mean {losses.mean():.3f}, expected 1; standard deviation {losses.std():.3f}, "
    f"expected {(2 / 512) ** 0.5:.4f}"
)
assert abs(losses.mean().item() - 1) < 4 * (2 / 512 / 500) ** 0.5
assert_close(losses.std().item(), (2 / 512) ** 0.5, rtol=0.1, atol=0.0)

# %% [markdown]
# Zero weights sound like a network that cannot learn. Follow the gradient. It reaches the last layer's weights through the layer's *input*, which is not zero; it does not get past them to earlier layers, because it is multiplied with them. So the network wakes up from the back:

# %%
from diffusion_course import count_parameters

clone, awake = UNet(channels=16), []
optimizer = torch.optim.SGD(clone.parameters(), lr=0.1)
for _ in range(4):
    optimizer.zero_grad()
    (clone(xt, t) - noise).square().mean().backward()
    moving = [
        name
        for name, p in clone.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    ]
    optimizer.step()
    awake.append(
        sum(p.numel() for name, p in clone.named_parameters() if name in moving)
        / count_parameters(clone)
    )
print(
    "share of weights with a gradient, steps 1 to 4:",
    [f"{share:.3f}" for share in awake],
)

# %% [markdown]
# ## Attention
#
# A convolution looks at its neighbours. To compare the two ends of a stroke you need either many convolutions or one look at everything.
# In attention each position asks a question (query $q$), each position offers a key $k$ and a value $v$, all of them linear in $h$. Position $i$ takes the average of all values, weighted by how well their keys fit (arXiv 1706.03762, eq. 1):
#
# $$\text{out}_i = \sum_j w_{ij} v_j, \qquad w_{ij} = \frac{\exp(q_i \cdot k_j/\sqrt d)}{\sum_l \exp(q_i \cdot k_l/\sqrt d)} \tag{05.7}$$
#
# $d$ is the length of $q$ and $k$. Several *heads* do this side by side, each with its own share of the channels. By hand, with loops, against torch:

# %%
# 5 positions, d = 4
q, k, v = torch.randn(3, 5, 4, dtype=torch.float64, generator=generator)
out = torch.zeros(5, 4, dtype=torch.float64)
for i in range(5):
    fit = torch.stack([(q[i] * k[j]).sum() / 4**0.5 for j in range(5)]).exp()
    for j in range(5):
        out[i] += fit[j] / fit.sum() * v[j]
assert_close(out, F.scaled_dot_product_attention(q[None], k[None], v[None])[0])
print("attention by hand = torch's scaled_dot_product_attention")

# %% [markdown]
# **Why $\sqrt d$.** Let the $2d$ numbers in $q_i$ and $k_j$ be independent with mean 0 and variance 1. One product has mean $0$ and variance $E[q^2]\,E[k^2] = 1$; variances of independent terms add:
#
# $$\operatorname{Var}(q_i \cdot k_j) = d, \qquad \operatorname{Var}\big(q_i \cdot k_j/\sqrt d\big) = 1 \tag{05.8}$$
#
# Without the root a wide head starts with scores of standard deviation $\sqrt d$. The softmax of such scores is close to "take the best, ignore the rest", and where it is saturated its gradient is gone:

# %%
for d in (4, 64, 1024):
    q, k = torch.randn(2, 2000, d, generator=generator)
    scores = (q[:200] @ k.T)[:, :64]  # 200 queries, 64 keys
    largest = [
        (scores / scale).softmax(1).max(1).values.mean() for scale in (1, d**0.5)
    ]
    variance = (q * k).sum(1).var()
    print(
        f"d = {d:4d}: variance / d = {variance / d:.2f}; largest of 64 weights "
        f"{largest[0]:.2f} undivided, {largest[1]:.2f} divided"
    )

# %%
show_source(Attention)

# %% [markdown]
# Attention does not know *where* a position is. Shuffle the pixels and the output is shuffled the same way: only the convolutions around it know places. That is why it sits inside a U-Net and not alone.
#
# The same module reads from **tokens** if it gets some, a sequence (B, L, D) that comes from elsewhere, such as words: queries from the picture, keys and values from the tokens. That is *cross-attention*. Part II uses it for text.

# %%
layer = Attention(32, num_heads=4).double()
order = torch.randperm(36, generator=generator)
nn.init.normal_(layer.out.weight, std=0.2, generator=generator)
shuffle = lambda z: z.flatten(2)[:, :, order].unflatten(2, (6, 6))  # noqa: E731
assert_close(layer(shuffle(x)), shuffle(layer(x)))
cross = Attention(32, num_heads=4, context_dim=12).double()
tokens = torch.randn(3, 5, 12, dtype=torch.float64, generator=generator)
nn.init.normal_(cross.out.weight, std=0.2, generator=generator)
assert_close(cross(x, tokens), cross(x, tokens.flip(1)))
assert (cross(x, tokens) - cross(x, 2 * tokens)).abs().max() > 0.01
print(
    "shuffled pixels, shuffled output; the order of the tokens does not matter, "
    "their content does"
)

# %% [markdown]
# A **class** is simpler: one learned vector per class, added to `emb`. `UNet(num_classes=10)` has eleven: the last, `network.null_class`, means "no class". Lesson 08 needs it.

# %%
torch.manual_seed(0)
with_classes = UNet(channels=16, num_classes=10)
labels = torch.tensor([3, 3, 7, with_classes.null_class])
without = with_classes.conditioning.project(timestep_embedding(t[:4], 32))
added = with_classes.conditioning(xt[:4], t[:4], labels) - without
assert_close(added[0], added[1])
assert_close(added, with_classes.conditioning.classes.weight[labels])
print(
    f"null class: index {with_classes.null_class}; "
    f"{with_classes.conditioning.classes.num_embeddings} learned vectors"
)

# %% [markdown]
# ## Down, across, up
#
# Now put blocks together (arXiv 1505.04597). On the way down the image is halved and the channels grow; in the middle everything is seen at once; on the way up it is doubled again. Each block on the way up also gets the output of its partner on the way down: a *skip connection*.

# %%
show_source(UNet.forward)

# %%
kept = []
hooks = [
    module.register_forward_hook(
        lambda m, a, out, name=name: kept.append((name, tuple(out.shape[1:])))
    )
    for name, module in network.named_modules()
    if name in ("first", "down.0.0", "down.1.0", "middle", "up.1.0", "up.0.0", "last")
]
with torch.no_grad():
    network(torch.zeros(1, 1, 16, 16), torch.zeros(1))
for hook in hooks:
    hook.remove()
for name, shape in kept:
    print(f"{name:9s} channels, height, width: {shape}")

# %% [markdown]
# ### What skips are for
#
# The network has to return noise, and white noise has detail at every scale. Halving an image by averages of 2x2 keeps one number of four: the mean of the noise in each square.
# From that alone the best guess of a pixel is the mean of its square, and the error is what is left,
#
# $$\operatorname{Var}(\epsilon - \bar\epsilon) = 1 - \tfrac14 = \tfrac34 \tag{05.9}$$

# %%
white = torch.randn(100, 1, 64, 64, generator=generator)
coarse = F.interpolate(F.avg_pool2d(white, 2), scale_factor=2.0)
print(
    f"variance left after one halving: {(white - coarse).var():.3f}, after two: "
    f"{(white - F.interpolate(F.avg_pool2d(white, 4), scale_factor=4.0)).var():.3f}"
)

# %% [markdown]
# A real network is not that blind: channels can carry the detail through the halved image, if it learns to. The skip makes it unnecessary. What that is worth is measured below, in training.

# %% [markdown]
# ### How far does it see
#
# Each 3x3 convolution widens the view by one pixel on each side, at level $i$ by $2^i$ pixels of the image. For two levels with one block each, count along the longest way. An output pixel depends on 3 convolutions at full size (the last one and the two of `up.0`): 3 pixels on each side.
# At half size follow 6 convolutions (`up.1`, `middle`, `down.1`), 6 coarse pixels on each side; then 3 more at full size (`down.0` and the first). For a pixel in an even column $p = 2m$:
#
# - full size: columns $p - 3$ to $p + 3$, which lie in the coarse columns $m - 2$ to $m + 1$,
# - half size: $m - 8$ to $m + 7$, which cover the columns $p - 16$ to $p + 15$,
# - full size again: $p - 19$ to $p + 18$: **38 columns**.
#
# The gradient says the same without counting. Differentiate one output pixel with respect to all input pixels; where the gradient is exactly zero, the network cannot look.
# Two things see everything at once: attention, and the group normalisation, whose mean and variance run over the whole image. To see the convolutions alone, the norms are taken out first.

# %%
def view(levels=2, attention=False, norms=False, size=80):
    torch.manual_seed(0)
    deepest = (levels - 1,) if attention else ()
    net = UNet(channels=16, channel_mult=(1, 2, 2)[:levels], attention_levels=deepest)
    for p in net.parameters():  # zeros would block the gradient
        nn.init.normal_(p, std=0.15) if (p == 0).all() else None
    owners = [
        m for m in net.modules() for child in m.children()
        if isinstance(child, nn.GroupNorm)
    ]
    for owner in [] if norms else owners:
        for name, child in list(owner.named_children()):
            if isinstance(child, nn.GroupNorm):
                setattr(owner, name, nn.Identity())
    image = torch.randn(1, 1, size, size, generator=make_generator(0)).requires_grad_()
    net(image, torch.tensor([500]))[0, 0, size // 2, size // 2].backward()
    return image.grad.abs()[0, 0]  # (size, size)


# %%
for levels in (1, 2, 3):
    columns = (view(levels).max(0).values > 0).nonzero()
    print(
        f"{levels} level(s), convolutions alone: {columns.max() - columns.min() + 1} "
        f"columns, from {columns.min() - 40} to {columns.max() - 40:+d}"
    )

# %% [markdown]
# Two levels see 38 columns, as counted. A digit of 16x16 fits in with room to spare.
#
# **Task.** Move the controls. How much does one level more add? What does attention at the lowest level change, and what do the norms change? White means a gradient of exactly zero. Then look at how the colour falls off: what a pixel *can* see is more than what it mostly looks at (arXiv 1701.04128).

# %%
from diffusion_course import Explorer


def view_picture(levels, attention, norms):
    gradient = view(levels, attention == "on", norms == "on")
    log = (gradient / gradient.max()).log10().masked_fill(gradient == 0, torch.nan)
    fig, ax = figure(4.4, 3.4)
    picture = ax.imshow(
        log, vmin=-6, vmax=0, cmap="viridis", extent=(-40.5, 39.5, 39.5, -40.5),
        interpolation="nearest",
    )
    ax.set(xlabel="columns from the centre", ylabel="rows from the centre")
    ax.grid(False)
    fig.colorbar(picture, ax=ax, label="log10 of |gradient|, largest = 0")
    seen = (gradient > 0).double().mean()
    return fig, (
        f"{levels} level(s), attention {attention}, norms {norms}: the centre "
        f"depends on {seen:.0%} of the 80x80 input pixels, most on the nearest; "
        "white pixels do not count at all."
    )


Explorer(
    view_picture, levels=[1, 2, 3], attention=["off", "on"],
    norms=["off", "on"], start={"levels": 2}, ahead=True,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Each further level about doubles the view. Attention and norms make it the whole image. Through the norms each far pixel counts very little: it moves two numbers, the mean and the variance of a group. Through attention it can count a lot.
#
# </details>

# %% [markdown]
# ## What it costs
#
# One number that a convolution outputs is a sum of $C_\text{in} \cdot k \cdot k$ products. There are $C_\text{out} \cdot H \cdot W$ such numbers. A product and an addition are two operations:
#
# $$\begin{aligned}
# \text{FLOPs} &= 2 \cdot (C_\text{out} H W) \cdot (C_\text{in}\, k^2), \\
# \text{weights} &= C_\text{out}(C_\text{in}\,k^2 + 1)
# \end{aligned} \tag{05.10}$$
#
# The weights do not depend on the size of the image, the cost does. For 32 to 64 channels, 3x3, on 16x16: $2 \cdot 64 \cdot 256 \cdot 32 \cdot 9 = 9{,}437{,}184$ FLOPs and $64 \cdot 289 = 18{,}496$ weights.
# `count_flops` runs the network once and adds this up for every layer. torch has a counter of its own, which works one floor below, on the operations that reach its kernels:

# %%
from torch.utils.flop_counter import FlopCounterMode

from diffusion_course import count_flops, flops_by_module


def torch_counts(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops()


# %%
layer, image = nn.Conv2d(32, 64, 3, padding=1), torch.zeros(1, 32, 16, 16)
plain, inputs = UNet(channels=32), (torch.zeros(1, 1, 16, 16), torch.zeros(1))
for name, model, arguments in (
    ("one convolution", layer, (image,)), ("U-Net", plain, inputs),
    ("with attention", network, inputs),
):
    print(
        f"{name:16s} {count_parameters(model):8,d} weights, "
        f"{count_flops(model, *arguments):12,d} FLOPs, torch counts "
        f"{torch_counts(model, *arguments):12,d}"
    )

# %% [markdown]
# The last line differs. torch's counter has no rule for the attention kernel of the CPU and counts it as nothing. On the `meta` device, where tensors have shapes but no numbers, attention is made of two matrix products, and both agree.
# The same trick counts a network that would not fit into memory:

# %%
with torch.device("meta"):
    ours = UNet(channels=32, attention_levels=(1,))
    large = UNet(
        3, 320, (1, 2, 4, 4),
        blocks_per_level=2, attention_levels=(0, 1, 2), num_heads=8,
    )
    small_image = torch.empty(1, 1, 16, 16)
    large_image = torch.empty(1, 3, 64, 64)
    one = torch.zeros(1)
assert torch_counts(ours, small_image, one) == count_flops(ours, small_image, one)
assert count_flops(ours, small_image, one) == count_flops(network, *inputs)
print(
    f"ours {count_flops(ours, small_image, one) / 1e9:.3f} GFLOPs; "
    f"as wide as Stable Diffusion's: {count_parameters(large) / 1e6:.0f} million "
    f"weights, {count_flops(large, large_image, one) / 1e9:.0f} GFLOPs"
)

# %%
total = count_flops(network, *inputs)
for name, cost in flops_by_module(network, *inputs, depth=2).items():
    print(
        f"{name:22s} {cost.parameters:7,d} weights {cost.flops:12,d} FLOPs "
        f"{cost.flops / total:6.1%}"
    )

# %% [markdown]
# Full size is where the operations are (`down.0`, `up.0`), half size is where the weights are. Halving once divides the pixels by 4, doubling the channels multiplies the cost of a convolution by 4: the two cancel, per block.
# Attention is different. Its table of weights has (positions)$^2$ entries, so twice the side means 16 times the cost:

# %%
for side in (8, 16, 32, 64):
    with torch.device("meta"):
        z = torch.empty(1, 64, side, side)
        parts = Attention(64, 4), nn.Conv2d(64, 64, 3, padding=1)
    costs = [count_flops(part, z) for part in parts]
    print(
        f"{side:2d}x{side:<2d} attention {costs[0] / 1e6:8.1f} MFLOPs, "
        f"one 3x3 convolution {costs[1] / 1e6:6.1f} MFLOPs"
    )

# %% [markdown]
# That is why attention sits at the small levels. One training step costs about three times the forward pass: the backward pass computes one product for the inputs and one for the weights, each as large as the forward one.

# %% [markdown]
# ## Overfit one batch
#
# Before you train for an hour, train for seconds. Fix everything: 16 images, their times, their noise. A network with thousands of weights can learn 16 answers by heart, so the loss must fall to nearly 0. If it does not, the network, the loss or the optimiser is broken, and more data will not mend it.
# The floor is known, which makes it a test and not an impression.

# %%
fixed_t = torch.randint(1000, (16,), generator=generator)
fixed_noise = torch.randn(16, 1, 8, 8, generator=generator)
fixed_xt = q_sample(digits[:16], fixed_t, linear.alphas_cumprod, fixed_noise)


# %%
def overfit(target, num_steps=100):
    torch.manual_seed(0)
    net, losses = UNet(channels=32), []
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(num_steps):
        optimizer.zero_grad()
        loss = (net(fixed_xt, fixed_t) - target()).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %%
curves = {
    "right": overfit(lambda: fixed_noise),
    "target drawn again": overfit(lambda: torch.randn(16, 1, 8, 8)),
}
fig = plotting.lines(
    torch.arange(1, 101), curves, xlabel="step", ylabel="loss on the one batch",
    logy=True, title="A network that works learns 16 answers by heart",
)
show(fig, alt=(
    "Loss on one batch against steps, log scale. Right: a nearly straight "
    "line from 1 down to about one hundred-thousandth after 100 steps. "
    "Target drawn again: stays at 1 throughout."
))
assert curves["right"][-1] < 0.05 < 0.8 < sum(curves["target drawn again"][-20:]) / 20

# %% [markdown]
# The second curve is a real mistake: `randn_like` is called once for $x_t$ and once more for the target. Everything runs, nothing is raised, the loss stays at 1. On the full data set you would have waited for an hour to see it.
# What the test cannot see: mistakes that are the same in training and target, such as a wrong schedule, and a time that is told wrongly (16 images can be told apart without it).

# %% [markdown]
# ## Train on real digits
#
# The same `train` that made the shipped networks, for half a minute, on digits enlarged to 16x16. It adds what a bare loop lacks: warm-up and decay of the learning rate, clipped gradients, an average of the weights, checkpoints.
# Every fifth digit is held out. On those, with times and noise fixed once and for all, both the network and the average of its weights are measured along the way.

# %%
big = {
    split: load_dataset("digits", split=split, size=16).images
    for split in ("train", "test")
}
held_out = big["test"][:60]
held_t = torch.arange(60) * 1000 // 60
held_noise = torch.randn(held_out.shape, generator=make_generator(5))
held_xt = q_sample(held_out, held_t, linear.alphas_cumprod, held_noise)


@torch.no_grad()
def held_out_loss(model):
    return (model(held_xt, held_t) - held_noise).square().mean().item()


# %% tags=["nbval-ignore-output"]
from diffusion_course import Progress, default_device, sample_loop, train

torch.manual_seed(0)
model = UNet(channels=32, attention_levels=(1,))
num_steps = 250
curve = {"step": [], "training": [], "weights": [], "average": []}
with Progress(num_steps, "training") as bar:
    for state in train(
        model, big["train"], linear, num_steps=num_steps, batch_size=64,
        learning_rate=2e-3, warmup_steps=30, ema_decay=0.95, report_every=10,
    ):
        held_out = held_out_loss(model), held_out_loss(state.ema_model)
        values = state.step, state.loss, *held_out
        for name, value in zip(curve, values, strict=True):
            curve[name].append(value)
        bar.update(10, message=f"loss {state.loss:.3f}")
average = state.ema_model
print(
    f"held out: weights {curve['weights'][-1]:.4f}, average "
    f"{curve['average'][-1]:.4f}; {state.seconds:.0f} s"
)

# %%
named = {"training, mean of 10": curve["training"], "held out": curve["average"]}
fig = plotting.lines(
    torch.tensor(curve["step"]), named, xlabel="training step", ylabel="loss",
    logy=True, title="Most is learned in the first 50 steps",
)
show(fig, alt=(
    "Two losses against 250 training steps, log scale. Both fall from about "
    "1 to below 0.1 within 50 steps, then slowly to between 0.03 and 0.04. "
    "The held-out digits' loss stays close to that of the training digits."
))

# %% [markdown]
# ## Average the weights
#
# Each step follows a gradient from 64 random images, times and noises. The weights tremble around where they should be. The average (exponential moving average, EMA) keeps
#
# $$\bar w \leftarrow d\,\bar w + (1 - d)\,w \tag{05.11}$$
#
# Unroll it: the weights of $j$ steps ago have the share $(1-d)d^j$. Suppose $w = w^\star + \xi$ with independent trembling $\xi$ of variance $s^2$ at each step. Variances add with the squares of the shares, a geometric series:
#
# $$\operatorname{Var}(\bar w) = s^2 (1-d)^2\sum_{j \ge 0} d^{2j} = s^2\,\frac{(1-d)^2}{1 - d^2} = s^2\,\frac{1-d}{1+d} \tag{05.12}$$
#
# With $d = 0.95$ that is $s^2/39$. The price is age: the average looks back $1/(1-d)$ steps, so early in training it lags. `EMA` therefore begins with a small $d$ and lets it grow.

# %%
d, trembling = 0.95, torch.randn(20_000, dtype=torch.float64, generator=generator)
averaged, total_average = [], 0.0
for w in trembling.tolist():
    total_average = d * total_average + (1 - d) * w
    averaged.append(total_average)
print(
    f"variance / s^2: measured {torch.tensor(averaged[200:]).var():.4f}, "
    f"formula {(1 - d) / (1 + d):.4f}"
)

# %% [markdown]
# Real trembling is not independent from step to step, so the gain is smaller than that. How large was it? Compare the two held-out curves in the middle of the run, and at its end, where the learning rate has gone to 0 and nothing trembles any more:

# %%
late = torch.tensor(curve["step"]) >= 60
named = {name: torch.tensor(curve[name])[late] for name in ("weights", "average")}
fig = plotting.lines(
    torch.tensor(curve["step"])[late], named, xlabel="training step",
    ylabel="loss on held-out digits", title="The weights jump, their average does not",
)
show(fig, alt=(
    "Loss on held-out digits from step 60 to 250. The weights' curve zigzags above the "
    "average's curve, which falls smoothly; towards the end the two become one."
))

# %% tags=["nbval-ignore-output"]
gap = torch.tensor(curve["weights"]) / torch.tensor(curve["average"])
roughness = {
    name: torch.tensor(curve[name]).log().diff()[6:16].std().item()
    for name in ("weights", "average")
}
print(
    f"steps 70 to 160: the weights' loss is {gap[6:16].mean():.3f} times the "
    f"average's; at the end {gap[-1]:.3f} times"
)
print(
    "jumps from report to report (std of the logarithm): "
    f"weights {roughness['weights']:.3f}, average {roughness['average']:.3f}"
)

# %% [markdown]
# A decaying learning rate and an average do the same job in two ways. The average needs no plan of when training ends, which is why nearly every diffusion model ships its average (DDPM: $d = 0.9999$, arXiv 2006.11239, appendix B).

# %% [markdown]
# ## Stop and resume
#
# A checkpoint that holds the weights only is not enough. The optimiser's moments, the average, the step count and the state of the random generator belong to the run too. `train(..., checkpoint=file, resume=True)` keeps all of them.
# The claim: a run that writes a checkpoint at step 10, dies at step 15 and is resumed in a new network ends with *the same bits* as one that was never stopped.

# %%
import tempfile
from pathlib import Path

options = {
    "num_steps": 20, "batch_size": 16, "checkpoint_every": 10,
    "report_every": 5, "precision": "float32",
}


def tiny_run(file, seed, dies_at=None, resume=False):
    torch.manual_seed(seed)
    net = UNet(channels=16)
    for state in train(net, digits, linear, checkpoint=file, resume=resume, **options):
        if state.step == dies_at:
            break
    return [*net.state_dict().values(), *state.ema_model.state_dict().values()]


# %%
with tempfile.TemporaryDirectory() as folder:
    never_stopped = tiny_run(Path(folder) / "one", seed=0)
    tiny_run(Path(folder) / "two", seed=0, dies_at=15)
    resumed = tiny_run(Path(folder) / "two", seed=1, resume=True)
assert all(torch.equal(a, b) for a, b in zip(never_stopped, resumed, strict=True))
print(f"{len(resumed)} tensors of weights and averages: equal to the bit")

# %% [markdown]
# To the bit means on the same machine with the same number of threads. Elsewhere sums are taken in another order, and the last digits differ.

# %% [markdown]
# ## Draw
#
# Eight digits from the network that you trained for half a minute, and eight from the shipped one: the same code, a longer run. The sampler is DDIM with 50 steps, which lesson 06 derives; both start from the same noise.

# %% tags=["nbval-ignore-output"]
from diffusion_course import load_pretrained, shipped_files

entry = shipped_files()["digits"]
shipped, schedule = load_pretrained("digits"), entry.noise_schedule()
pair = [
    sample_loop(
        m, (8, 1, 16, 16), s,
        num_inference_steps=50, clip_x0=1.0, generator=make_generator(2),
    )
    for m, s in ((average, linear), (shipped, schedule))
]
print(
    f"shipped: {type(shipped).__name__}, {count_parameters(shipped):,} weights, "
    f"{entry.made_by['command']}"
)
fig = plotting.image_strip(
    pair, row_labels=["half a minute", "shipped"], title="The same code, a longer run"
)
show(fig, alt=(
    "Two rows of eight 16x16 pictures. Above, strokes that are partly digits. "
    "Below, pictures most of which can be read as handwritten digits."
))

# %% [markdown]
# ## What makes it faster
#
# Three switches change the speed and not the result, up to rounding:
#
# - **bfloat16** (`torch.autocast`): convolutions and products in 16-bit numbers with 8 bits of exponent. The weights and the optimiser stay in float32.
# - **channels-last**: the same numbers in another order in memory, all channels of a pixel side by side, as the fast kernels want them.
# - **compile** (`train(..., compile=True)`): kernels are fused into fewer passes over memory; that takes a while before the first step, so it is not run here. `docs/performance.md` has its figures.
#
# Speed is best given in operations per second, because that can be compared with what the machine can do. You can count the operations now: three forward passes for a step.
# The hardware decides what you see. A CPU with matrix units for bfloat16 (Intel's AMX), or a GPU, gains; a CPU without them has to imitate bfloat16 and loses. This cell measures yours:

# %% tags=["nbval-ignore-output"]
import time

device = default_device()
wide, batch = UNet(channels=64).to(device), torch.randn(16, 1, 16, 16, device=device)
work = 3 * count_flops(wide, batch, torch.zeros(16, device=device))


# %%
def seconds_per_step(bfloat16, layout, repeats=2):
    net, x = wide.to(memory_format=layout), batch.contiguous(memory_format=layout)
    marks = []
    for _ in range(repeats + 1):
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss = net(x, torch.zeros(16, device=device)).square().mean()
        loss.backward()
        loss.item()  # waits for the device
        marks.append(time.perf_counter())
    return (marks[-1] - marks[0]) / repeats  # the first step warms up


# %% tags=["nbval-ignore-output"]
print(
    f"on {device.type}, {torch.get_num_threads()} threads, "
    f"{work / 1e9:.0f} GFLOPs per step"
)
for precision in (False, True):
    for name, layout in (
        ("channels-first", torch.contiguous_format),
        ("channels-last", torch.channels_last),
    ):
        seconds = seconds_per_step(precision, layout)
        print(
            f"{'bfloat16' if precision else 'float32':9s} {name:15s} "
            f"{1000 * seconds:6.0f} ms per step, {work / seconds / 1e9:6.0f} GFLOP/s"
        )

# %% [markdown]
# `train` makes both choices for you: `precision="auto"` takes bfloat16 where the hardware multiplies it, and images are put into channels-last on CPUs and CUDA GPUs.
# How far are the two precisions apart? bfloat16 keeps 8 significant bits, an error of up to 0.4 % in each number. The shipped network passes some of that on, and its loss hardly changes:

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    exact = shipped(held_xt, held_t)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = shipped(held_xt, held_t).float()
print(
    f"typical difference {(rounded - exact).square().mean().sqrt():.3f}, "
    f"typical answer {exact.square().mean().sqrt():.2f}; "
    f"loss {(exact - held_noise).square().mean():.3f} and "
    f"{(rounded - held_noise).square().mean():.3f}"
)

# %% [markdown]
# ## Where people go wrong
#
# Five small trainings, 300 steps each on 8x8 digits, equal in everything but one line: as it should be; with the time as a fraction; without any time; without skips; without zeros in the last layers.
# All are judged on the held-out digits, with the same times and noise.

# %%
test_digits = load_dataset("digits", split="test").images
spread = torch.arange(len(test_digits)) * 1000 // len(test_digits)
test_t = spread[torch.randperm(len(test_digits), generator=make_generator(6))]
test_noise = torch.randn(test_digits.shape, generator=make_generator(7))
test_xt = q_sample(test_digits, test_t, linear.alphas_cumprod, test_noise)


def trained(change):
    torch.manual_seed(0)
    net = change(UNet(channels=16))
    *_, last = train(
        net, digits, linear, num_steps=300, batch_size=64,
        learning_rate=2e-3, ema_decay=0.99, precision="float32",
    )
    with torch.no_grad():
        # (B,)
        return (last.ema_model(test_xt, test_t) - test_noise).square().mean((1, 2, 3))


# %%
class TimesFactor(nn.Module):
    def __init__(self, net, factor):
        super().__init__()
        self.net, self.factor = net, factor

    def forward(self, xt, t, cond=None):
        return self.net(xt, t * self.factor)


# %%
def without_skips(net):
    def cut(module, inputs):
        h, skip = inputs[0].chunk(2, 1)
        return torch.cat([h, torch.zeros_like(skip)], 1), *inputs[1:]

    for block in (block for level in net.up for block in level):
        block.register_forward_pre_hook(cut)
    return net


def without_zeros(net):
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.any():
            layer.reset_parameters()
    return net


# %% tags=["nbval-ignore-output"]
changes = {
    "as it should be": lambda net: net,
    "t as a fraction": lambda net: TimesFactor(net, 0.001),
    "no time at all": lambda net: TimesFactor(net, 0.0),
    "no skips": without_skips,
    "no zeros": without_zeros,
}
errors = {}
for name, change in Progress(list(changes.items()), "five trainings", unit="run"):
    errors[name] = trained(change)

# %% tags=["nbval-ignore-output"]
right, early = errors["as it should be"], test_t < 50
for name, error in errors.items():
    print(
        f"{name:16s} loss {error.mean():.3f} ({error.mean() / right.mean() - 1:+.0%}); "
        f"at t < 50 {error[early].mean():.3f} "
        f"({error[early].mean() / right[early].mean() - 1:+.0%})"
    )

# %% [markdown]
# Read the table twice. Every mistake runs, learns and draws something. None would be noticed from the shape of the loss curve. In this size of network:
#
# - **Skips** are worth most. Without them the network has to carry every detail of the noise through half-size images.
# - **Zeros** in the last layers are a better start, and after 300 steps it still shows.
# - **Time** is worth less than you may think. $x_t$ itself shows how noisy it is, and a network can read that off. A fraction loses a third to a half of what time is worth here, most of it where the noise is small and hard to see.
#
# This is one seed, a small network and a short run: take the order of magnitude from it, not the digits. How it looks in a large network, the table does not say.

# %% [markdown]
# ### t from 0 to 1
#
# Found in several published code bases ([sihyun-yu/REPA#40](https://github.com/sihyun-yu/REPA/issues/40), inherited from [willisma/SiT#24](https://github.com/willisma/SiT/issues/24); a fix is proposed in [ArchiMickey/Just-a-DiT#9](https://github.com/ArchiMickey/Just-a-DiT/pull/9)).
# The one-line difference is `t * 1000` before the embedding. Whoever uses continuous time has to choose it on purpose.

# %% [markdown]
# ### The embedding runs over the batch
#
# `embeddings[::2].sin()` where `embeddings[:, ::2].sin()` is meant: sine for the even *samples*, cosine for the odd ones. Models were trained like this ([gmongaras/Diffusion_models_from_scratch#10](https://github.com/gmongaras/Diffusion_models_from_scratch/issues/10)).
# The shapes are right. The same $t$ gets another vector at another place in the batch:

# %%
def over_the_batch(t, dim):
    omega = 10_000.0 ** (-torch.arange(dim // 2) / (dim // 2))
    angles = torch.cat([t[:, None] * omega] * 2, 1)  # (B, dim)
    angles[::2], angles[1::2] = angles[::2].sin(), angles[1::2].cos()
    return angles


same = torch.full((4,), 30.0)
for name, function in (
    ("over the batch", over_the_batch), ("right", timestep_embedding)
):
    print(
        f"{name:15s} spread of the same t over the batch: "
        f"{function(same, 64).std(0).mean():.3f}"
    )

# %% [markdown]
# **Test for this family of bugs:** shuffle the batch. The answers must be shuffled the same way, and a sample alone must get the same answer. The shipped network passes. Told the time in the wrong way, it fails:

# %%
def answers(embed, xt, t):
    dim = shipped.conditioning.dim
    hook = shipped.conditioning.project.register_forward_pre_hook(
        lambda module, inputs: (embed(t.float(), dim),)
    )
    with torch.no_grad():
        out = shipped(xt, t)
    hook.remove()
    return out


# %%
order = torch.randperm(60, generator=generator)
for name, embed in (("over the batch", over_the_batch), ("right", timestep_embedding)):
    together, shuffled, alone = (
        answers(embed, held_xt[i], held_t[i])
        for i in (torch.arange(60), order, torch.tensor([1]))
    )
    gaps = (shuffled - together[order]).abs().max(), (alone - together[1:2]).abs().max()
    print(
        f"{name:15s} shuffled: {'same' if gaps[0] < 1e-3 else 'other'} answers; alone: "
        f"{'same' if gaps[1] < 1e-3 else 'other'} answer"
    )

# %% [markdown]
# ### half - 1, and which comes first
#
# Is the exponent $i/h$ or $i/(h-1)$? Does the vector begin with cosines or with sines? Both forms of both are in use. The first DDPM has $h - 1$ and sines first ([hojonathanho/diffusion#15](https://github.com/hojonathanho/diffusion/issues/15) asks why), this course has $h$ and cosines first.
# For a new network it does not matter. For trained weights it does. Here the shipped network is told the time in the other dialect:

# %%
def half_minus_one(t, dim):
    angles = t[:, None] * 10_000.0 ** (-torch.arange(dim // 2) / (dim // 2 - 1))
    return torch.cat([angles.cos(), angles.sin()], 1)


# %%
dialects = {
    "its own": timestep_embedding,
    "half - 1": half_minus_one,
    "sines first": lambda t, dim: timestep_embedding(t, dim).roll(dim // 2, 1),
    "over the batch": over_the_batch,
    "always t = 0": lambda t, dim: timestep_embedding(0 * t, dim),
}
for name, embed in dialects.items():
    print(
        f"{name:15s} loss "
        f"{(answers(embed, held_xt, held_t) - held_noise).square().mean():.2f}"
    )

# %% [markdown]
# ### Normalising over the batch
#
# With batch normalisation in training mode, or a group normalisation whose mean also runs over axis 0, a picture's answer depends on its neighbours. In training the noise levels in a batch are mixed. In sampling all samples have one level. The network meets statistics that it never saw:

# %%
levels = [
    q_sample(digits[:64], i, linear.alphas_cumprod, generator=make_generator(8))
    for i in (torch.randint(1000, (64,), generator=generator), torch.full((64,), 10))
]
# the first sample is the same in both batches
levels = [torch.cat([levels[1][:1], level[1:]]) for level in levels]
norms = {
    "over the batch": nn.BatchNorm2d(1, affine=False).train(),
    "within a sample": nn.GroupNorm(1, 1, affine=False),
}
for name, norm in norms.items():
    mixed, equal = (norm(level)[0] for level in levels)
    print(
        f"{name:16s} the same picture in a mixed and in an equal batch differs by up "
        f"to {(mixed - equal).abs().max():.2f}"
    )

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("05.1")` helps in steps, `solution("05.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("05.1")

# %%
def embed(t, dim):
    half = dim // 2
    frequencies = ...  # (half,)
    angles = t.float()[:, None] * frequencies  # (B, half)
    return ...


check("05.1", embed)

# %%
exercise("05.2")

# %%
def modulate(h, emb, weight, bias):
    ...


check("05.2", modulate)

# %%
exercise("05.3")

# %%
flops = ...

check("05.3", flops)

# %%
exercise("05.4")

# %%
def group_norm(x, num_groups, weight, bias, eps):
    ...


check("05.4", group_norm)

# %%
exercise("05.5")

# %%
def average(start, snapshots, decay):
    ...


check("05.5", average)

# %%
exercise("05.6")

# %%
def self_attention(x, w_qkv, w_out, num_heads):
    ...


check("05.6", self_attention)

# %%
exercise("05.7")

# %%
def validation_loss(model, batches):
    ...


check("05.7", validation_loss)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | $e(t)$ | `timestep_embedding(t, dim)` | (05.1) |
# | scale, shift | `ResBlock(in_channels, out_channels, emb_dim)` | (05.5) |
# | $w_{ij}$, out | `Attention(channels, num_heads, context_dim)` | (05.7) |
# | $\hat\epsilon(x_t, t)$ | `UNet(in_channels, channels, channel_mult, ...)` | the whole lesson |
# | FLOPs, weights | `count_flops`, `count_parameters`, `flops_by_module` | (05.10) |
# | $\bar w$ | `EMA(model, decay)`, `state.ema_model` of `train` | (05.11) |
#
# What this lesson does not give you: fewer than 1,000 calls of the network for a picture, except for a loan from the next one. Lesson 06 derives the sampler that you have just used, and better ones. Lesson 07 measures which of two networks draws better, which no loss can tell.
#
# To read next:
#
# - Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597: the U-Net, made for cells under a microscope.
# - Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233: section 3, what each change of the network was worth at full size.
# - Luo et al. 2016, https://arxiv.org/abs/1701.04128: how much of its field of view a network uses.
