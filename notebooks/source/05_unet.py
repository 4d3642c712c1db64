# %% [markdown]
# # 05 · The U-Net
#
# After this lesson you can:
#
# - say why a denoiser has the shape of a U, and draw it with its sizes,
# - build one in five steps, and measure what each step is worth,
# - tell a network the time, and recognise the mistakes in doing so,
# - find out in seconds whether a network can learn at all,
# - train on real digits, average the weights, and draw with the result.
#
# You need: lessons 01 to 04.
#
# **Measured cost:** 1.1 min on 2 cores, 1.0 GB of memory at the peak. Core: about 23 minutes of reading, 0.8 of computing. Going further: about 16 and 0.3.
#
# In code `t` is the index $0..T-1$. $B$ is the batch, $C$ the channels, $H \times W$ the size of a picture.

# %%
from itertools import pairwise

import torch
from torch import nn
from torch.nn import functional as F
from torch.testing import assert_close

from diffusion_course import (
    Progress,
    UNet,
    count_flops,
    load_dataset,
    make_generator,
    make_schedule,
    p_sample_loop,
    plotting,
    q_sample,
    seed_everything,
    show,
    show_source,
    timestep_embedding,
    train,
)
from diffusion_course.models import Attention
from diffusion_course.notebook import Drawing, figure, unet_drawing

generator = seed_everything(0)
linear = make_schedule("linear")
abar = linear.alphas_cumprod
digits = load_dataset("digits", split="train").images  # (1438, 1, 8, 8) in [-1, 1]
test_digits = load_dataset("digits", split="test").images

# %% [markdown]
# ## Why this shape?
#
# The network that you need gets a noisy picture and returns a picture of the same size, the noise. A stack of convolutions does that: each layer looks at a pixel and its neighbours, and the size never changes.
# So why does everybody build something more complicated?
#
# Ask first how much of the picture a pixel has to see. No network is needed for that. Compare the window around a pixel with the same window in all 1,438 training digits.
# The better a digit explains the window, the more it counts in the guess of the clean pixel (Bayes' rule; the code is folded).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
def best_guess(xt, t, side):  # each pixel sees the side x side window around it
    gaps = (xt - abar[t].sqrt() * digits[:, 0]).square()  # (B, 1438, 8, 8)
    in_window = F.avg_pool2d(gaps, side, 1, side // 2) * side**2
    weights = (-in_window / (2 * (1 - abar[t]))).softmax(1)
    return (weights * digits[:, 0]).sum(1, keepdim=True)  # (B, 1, 8, 8)


def guesses(t, sides=(1, 3, 5, 15)):
    noise = torch.randn(60, 1, 8, 8, generator=make_generator(1))
    xt = q_sample(test_digits[:60], torch.full((60,), t), abar, noise)
    return xt, {side: best_guess(xt, t, side) for side in sides}


# %% jupyter={"source_hidden": true} tags=["hide-input"]
names = {1: "itself", 3: "3 x 3", 5: "5 x 5", 15: "everything"}
xt, by_side = guesses(300)
fig = plotting.image_strip(
    [xt[:8], *(by_side[side][:8] for side in names), test_digits[:8]],
    row_labels=["noisy", *names.values(), "truth"],
    title="At t = 300: the more a pixel sees, the better it can be guessed",
)
show(fig, alt=(
    "Eight digits in six rows. Noisy: no digit to be seen. Guesses by pixels that see "
    "only themselves: eight like smears. With 3 x 3 and 5 x 5 some parts of strokes. "
    "With everything: blurred shapes, some like the digit below. Last the truth."
))
errors = {
    side: (guess - test_digits[:60]).square().mean((1, 2, 3))
    for side, guess in by_side.items()
}
gain = errors[1] - errors[15]
print({names[side]: round(error.mean().item(), 3) for side, error in errors.items()})
print(f"from itself to everything: {gain.mean():.3f}, error {gain.std() / 60**0.5:.3f}")

# %% [markdown]
# The numbers are mean square errors at $t = 300$, on 60 digits that are not among the 1,438. A pixel that sees only itself leaves a smear; when it sees the whole picture, some of the digits can be read.

# %% [markdown]
# So a pixel must see far. A 3x3 convolution adds one pixel on each side, so to see 64 columns takes 32 layers.
# The tempting way out is to shrink the picture. After two halvings a 3x3 window covers 12x12 pixels. Halve, look around, enlarge again: an hourglass.
#
# It fails, because the network has to return *noise*. Average white noise of variance 1 over 2x2 pixels. The best that you can then say of a pixel is the mean $\bar\epsilon$ of its square, and this much is missing:
#
# $$\operatorname{Var}(\epsilon - \bar\epsilon) = \operatorname{Var}(\epsilon) - \operatorname{Var}(\bar\epsilon) = 1 - \tfrac14 = \tfrac34 \tag{05.1}$$
#
# (The first step uses $\operatorname{Cov}(\epsilon, \bar\epsilon) = \tfrac14 = \operatorname{Var}(\bar\epsilon)$.)

# %%
white = torch.randn(100, 1, 16, 16, generator=generator)
enlarged = [
    F.interpolate(F.avg_pool2d(white, k), scale_factor=float(k)) for k in (2, 4)
]
missing = [(white - coarse).var().item() for coarse in enlarged]
fig = plotting.image_strip(
    [white[:6] / 2, *(coarse[:6] / 2 for coarse in enlarged)],
    row_labels=["noise", "halved once", "halved twice"],
    title=f"An hourglass loses {missing[0]:.0%} and {missing[1]:.0%} of the noise",
)
show(fig, alt=(
    "Six pictures of noise in three rows: as it is, and enlarged again after one and "
    "after two halvings, as squares of 2x2 and 4x4 pixels. Little of the noise is left."
))

# %% [markdown]
# The mending idea is to keep the detail: before each halving put the features aside, and after the enlargement join them to the others.
# That is a *skip connection*, and with it the hourglass becomes a U (arXiv 1505.04597).

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = unet_drawing(
    UNet(channels=16), 8, "A U-Net: see far at the bottom, keep detail at the top"
)
drawing.show(
    "A noisy picture, 1x8x8, enters on the left. At full size first makes 16x8x8 of "
    "it, and the block down[0] keeps that shape. Halved, 16x4x4, it goes down to "
    "down[1], which makes 32x4x4; middle, the lowest, keeps that; up[1] leaves 16x4x4. "
    "Doubled, 16x8x8, it goes up to up[0], and last returns the noise, 1x8x8. Dashed "
    "skips lead from down[0] to up[0], 16x8x8, and from down[1] to up[1], 32x4x4, so "
    "these take 16+16 and 32+32 channels. On the left t, one number, becomes waves "
    "e(t), 32 numbers, and by two layers emb, 64 numbers, which goes into each of the "
    "five blocks."
)

# %% [markdown]
# Follow the picture from $x_t$ down to the middle and up again. Halving is an average of 2x2 pixels, doubling repeats each pixel. Where a skip arrives, its channels are put beside the others: "16+16". A green square marks a block that is told the time.

# %% [markdown]
# ## Recall
#
# 1. From lesson 03: what does the network of this course get, what does it return, and what is its loss?
# 2. From lesson 04: at which $t$ does an error of the network hurt the estimate of $x_0$ most?
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
# You will now build the network in five steps: plain convolutions; blocks instead; the time; halving; skips. Each is trained for 100 steps from three seeds and judged on digits that it never saw. Which of the last four steps lowers the loss most?

# %%
my_prediction = "time"  # "blocks", "time", "halving" or "skips"

# %% [markdown]
# ## Build it, step by step
#
# To see what a part is worth, you need the loss without it. So first the yardstick, the loop of lesson 03 in its barest form. `factor` multiplies the time before the network sees it; 0 hides it.

# %%
spread = torch.arange(len(test_digits)) * 1000 // len(test_digits)
held_t = spread[torch.randperm(len(spread), generator=make_generator(6))]
held_noise = torch.randn(test_digits.shape, generator=make_generator(7))
held_xt = q_sample(test_digits, held_t, abar, held_noise)


def fit(net, random, factor=1.0, num_steps=100):
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(num_steps):
        x0 = digits[torch.randint(len(digits), (64,), generator=random)]
        t = torch.randint(1000, (64,), generator=random)
        noise = torch.randn(x0.shape, generator=random)
        loss = (net(q_sample(x0, t, abar, noise), factor * t) - noise).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


# %%
results, nets = {}, {}  # name -> losses (3 seeds, 359 digits), the last network


def three_seeds(name, build, factor=1.0):
    errors = []
    for seed in range(3):
        torch.manual_seed(seed)
        net = build()
        fit(net, make_generator(seed), factor)
        with torch.no_grad():
            error = (net(held_xt, factor * held_t) - held_noise).square()
        errors.append(error.mean((1, 2, 3)))
    results[name], nets[name] = torch.stack(errors), net
    each = ", ".join(f"{loss:.4f}" for loss in results[name].mean(1))
    print(f"{name:20s} loss {results[name].mean():.4f} (seeds: {each})")


# %% [markdown]
# **Step 1: plain convolutions.** Four of them, 32 channels wide, so each pixel sees 9 columns.

# %% tags=["nbval-ignore-output"]
class Plain(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        sizes = [(1, width), (width, width), (width, width), (width, 1)]
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 3, padding=1) for a, b in sizes)

    def forward(self, xt, t):
        h = self.layers[0](xt)
        for layer in self.layers[1:]:
            h = layer(F.silu(h))
        return h


three_seeds("plain convolutions", Plain)

# %% [markdown]
# ## A block that knows the time
#
# The plain network ignores $t$: it treats a nearly clean picture like pure noise. And you will want more layers than four. So the next steps use a block that is told the time and can be stacked.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
block = Drawing(7.4, 2.9, "The residual block")
x, norm_1, conv_1, norm_2, conv_2, add = block.row(
    ["$x$", "norm, SiLU", "conv 3x3", "norm", "SiLU, conv", "add"],
    1.65, 0.6, 6.8, width=0.95,
    kinds=["data", "network", "network", "network", "network", "formula"],
    notes=["(B, 16, H, W)", "", "16 to 32", "", "3x3, starts at 0", "(B, 32, H, W)"],
)
told = block.box(norm_2.x, 0.3, "linear layer", kind="words", width=1.1, height=0.4)
emb = block.box(conv_1.x - 0.6, 0.3, "emb", kind="words", width=0.7, height=0.4)
for start, end in pairwise((x, norm_1, conv_1, norm_2, conv_2, add)):
    block.arrow(start, end)
block.arrow(emb, told, "(B, 64)")
block.arrow(told, norm_2, "scale, shift: (B, 32) each")
block.arrow(x.top, add.top, "skip (1x1 convolution)", via=[(0.6, 2.55), (6.8, 2.55)])
block.show(
    "x, (B, 16, H, W), passes a norm with SiLU, a 3x3 convolution from 16 to 32 "
    "channels, a second norm, SiLU, and a convolution that starts at zero. The result "
    "is added to x, which arrives over a skip with a 1x1 convolution. From below, emb, "
    "64 numbers, passes a linear layer. It gives the second norm a scale and a shift "
    "for each of the 32 channels."
)

# %% [markdown]
# Deep stacks have three troubles: the numbers grow or shrink from layer to layer, the layers do not know $t$, and at first each layer scrambles what it gets. Every part of the drawing answers one of them.
#
# **Normalise**, so that the numbers keep their size. Group normalisation (arXiv 1803.08494) cuts the channels into groups, here of 16, and gives each group of each sample mean 0 and variance 1. Mean and variance run over the channels of the group and all positions:
#
# $$\begin{gathered}
# \operatorname{GN}(h) = \frac{h - \text{mean}}{\sqrt{\text{variance} + 10^{-5}}}, \\
# \text{then one factor and one offset per channel}
# \end{gathered} \tag{05.2}$$
#
# It never looks at another sample, so a picture's answer does not depend on its neighbours in the batch.
#
# **Bend.** $\operatorname{SiLU}(x) = x/(1+e^{-x})$ is a smooth version of "keep what is positive". Without it, a stack of convolutions would be one linear map.
#
# **Tell it the time.** The normalisation has just removed how loud the input was, and with it a hint of the noise level. So each channel $c$ gets a volume and an offset that depend on $t$ (arXiv 2105.05233, section 3, "adaptive group normalization"):
#
# $$h_c \mapsto \big(1 + \text{scale}_c(t)\big)\,h_c + \text{shift}_c(t) \tag{05.3}$$
#
# The 1 lets a layer with small outputs leave $h$ alone instead of erasing it.
#
# **Add the input.** The block returns $x + f(x, t)$: it has to learn only what should change, the *residual*. If the channels change, a 1x1 convolution fits $x$ to them.
#
# **Start at zero.** The last convolution of $f$ begins with zeros, so a new block hands its input through.

# %%
class BareBlock(nn.Module):
    def __init__(self, ins, outs, emb_dim):
        super().__init__()
        self.norm1 = nn.GroupNorm(ins // 16, ins)
        self.conv1 = nn.Conv2d(ins, outs, 3, padding=1)
        self.scale_shift = nn.Linear(emb_dim, 2 * outs)
        self.norm2 = nn.GroupNorm(outs // 16, outs)
        self.conv2 = nn.Conv2d(outs, outs, 3, padding=1)
        nn.init.zeros_(self.conv2.weight), nn.init.zeros_(self.conv2.bias)
        self.skip = nn.Identity() if ins == outs else nn.Conv2d(ins, outs, 1)

    def forward(self, x, emb):
        h = self.conv1(F.silu(self.norm1(x)))
        scale, shift = self.scale_shift(emb)[:, :, None, None].chunk(2, 1)
        h = self.norm2(h) * (1 + scale) + shift
        return self.skip(x) + self.conv2(F.silu(h))


# %% [markdown]
# ### The time as a vector
#
# The block wants a vector `emb`, and you have a number between 0 and 999. A network does little with one raw number: it is huge beside everything else, and neighbouring times are hard to tell apart. So the number becomes a row of waves, as transformers do with positions (arXiv 1706.03762):
#
# $$\begin{gathered}
# e(t) = \big(\cos\omega_0 t, \dots, \cos\omega_{n-1} t,\ \sin\omega_0 t, \dots, \sin\omega_{n-1} t\big), \\
# \omega_i = 10000^{-i/n}, \qquad n = \text{dim}/2
# \end{gathered} \tag{05.4}$$
#
# Think of $n$ clock hands. The first turns by 1 radian at every step, the last ($n = 16$) needs 35,000 steps for a turn. Fast hands tell neighbours apart, slow hands tell early from late.
#
# **By hand**, with $n = 2$ and $t = 3$: the frequencies are 1 and 0.01, the angles 3 and 0.03, and $e(3) = (\cos 3, \cos 0.03, \sin 3, \sin 0.03) = (-0.990, 1.000, 0.141, 0.030)$.

# %%
def waves(t, dim):
    omega = 10_000.0 ** (-torch.arange(dim // 2) / (dim // 2))
    angles = t[:, None].float() * omega  # (B, dim / 2)
    return torch.cat([angles.cos(), angles.sin()], 1)


print([f"{value:.3f}" for value in waves(torch.tensor([3]), 4)[0].tolist()])
every_t = torch.arange(1000)
assert_close(waves(every_t, 64), timestep_embedding(every_t, 64), atol=1e-3, rtol=0.0)
fig, ax = figure(5.5, 2.6)
picture = ax.imshow(
    waves(every_t, 64).T, aspect="auto", cmap="RdBu", vmin=-1, vmax=1,
    interpolation="nearest",
)
ax.set(xlabel="index t", ylabel="component of e(t)")
ax.grid(False)
ax.set_title("Fast hands above, slow hands below; cosines, then sines", loc="left")
fig.colorbar(picture, ax=ax, label="value")
show(fig, alt=(
    "The embedding as an image, t to the right, 64 components downwards. Component 0 "
    "changes too fast to see; further down the stripes become wider until component 31 "
    "does not change. Components 32 to 63 repeat the pattern with the sine."
))

# %% [markdown]
# Two linear layers with a SiLU between them turn $e(t)$ into `emb`, which all blocks share.
#
# **Steps 2 and 3: blocks, without and with the time.** Five blocks at full size are ten convolutions. The last layer starts at zero, too, as it will in the U.

# %% tags=["nbval-ignore-output"]
class Stack(nn.Module):
    def __init__(self, w=16, depth=5):
        super().__init__()
        self.time = nn.Sequential(
            nn.Linear(2 * w, 4 * w), nn.SiLU(), nn.Linear(4 * w, 4 * w)
        )
        self.first = nn.Conv2d(1, w, 3, padding=1)
        self.norm, self.last = nn.GroupNorm(w // 16, w), nn.Conv2d(w, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight), nn.init.zeros_(self.last.bias)
        self.blocks = nn.ModuleList(BareBlock(w, w, 4 * w) for _ in range(depth))

    def forward(self, xt, t):
        emb, h = F.silu(self.time(waves(t, 32))), self.first(xt)
        for block in self.blocks:
            h = block(h, emb)
        return self.last(F.silu(self.norm(h)))


three_seeds("blocks", Stack, factor=0.0)
three_seeds("blocks + time", Stack)

# %% [markdown]
# Blocks, with their greater depth, lower the loss from 0.209 to 0.146, the time from there to 0.126. Both gains are several times the differences between seeds.
#
# ## The U
#
# What the stack lacks is a cheap way to see far. **Steps 4 and 5** fold it into an hourglass, then into a U. Compare the lines of `forward` with the drawing; `keep = 0` cuts the skips.

# %% tags=["long"]
class BareUNet(nn.Module):
    def __init__(self, w=16, keep=1.0):
        super().__init__()
        self.w, self.keep, d = w, keep, 4 * w
        self.time = nn.Sequential(nn.Linear(2 * w, d), nn.SiLU(), nn.Linear(d, d))
        self.first = nn.Conv2d(1, w, 3, padding=1)
        self.down_0, self.down_1 = BareBlock(w, w, d), BareBlock(w, 2 * w, d)
        self.up_0, self.up_1 = BareBlock(2 * w, w, d), BareBlock(4 * w, w, d)
        self.middle = BareBlock(2 * w, 2 * w, d)
        self.norm, self.last = nn.GroupNorm(w // 16, w), nn.Conv2d(w, 1, 3, padding=1)
        nn.init.zeros_(self.last.weight), nn.init.zeros_(self.last.bias)

    def forward(self, xt, t):
        emb = F.silu(self.time(waves(t, 2 * self.w)))
        fine = self.down_0(self.first(xt), emb)  # (B, 16, 8, 8)
        coarse = self.down_1(F.avg_pool2d(fine, 2), emb)  # (B, 32, 4, 4)
        h = self.middle(coarse, emb)
        h = self.up_1(torch.cat([h, self.keep * coarse], 1), emb)  # (B, 16, 4, 4)
        h = F.interpolate(h, scale_factor=2.0)
        h = self.up_0(torch.cat([h, self.keep * fine], 1), emb)  # (B, 16, 8, 8)
        return self.last(F.silu(self.norm(h)))


# %% tags=["nbval-ignore-output"]
three_seeds("hourglass", lambda: BareUNet(keep=0.0))
three_seeds("U-Net", BareUNet)

# %% tags=["nbval-ignore-output"]
fig, ax = figure(5.5, 2.6)
for i, (name, errors) in enumerate(results.items()):
    ax.plot(errors.mean(1), [name] * 3, "o", color="#0072B2")
ax.invert_yaxis()
ax.set(xlabel="loss on digits that were not trained on")
ax.set_title("Halving loses what the skips bring back", loc="left")
show(fig, alt=(
    "Loss of three seeds for five networks. Plain convolutions 0.21, blocks 0.15, "
    "hourglass 0.26. Blocks + time and U-Net both lie near 0.125, and their points "
    "overlap."
))
means = [errors.mean().item() for errors in results.values()]
gains = dict(zip(("blocks", "time", "halving", "skips"), (
    before - after for before, after in pairwise(means)
), strict=True))
best = max(gains, key=gains.get)
print({name: f"{gain:+.4f}" for name, gain in gains.items()})
verdict = "as you said" if best == my_prediction else f"you said {my_prediction}"
print(f"largest gain: {best} ({verdict})")

# %% [markdown]
# The skips have the largest gain, because the halving before them has the largest loss: the hourglass is worse than four plain convolutions. Together the two gain hardly anything here: 0.124 for the U and 0.126 for the stack, and the seeds of one network differ by more.
# The digits have only 8 columns, and the stack with its twelve 3x3 convolutions sees them all. A U is for larger pictures, where such a stack sees too little or costs too much.
#
# How much would it cost? One number that a 3x3 convolution outputs is a sum of $9\,C_\text{in}$ products, and there are $C_\text{out} \cdot H \cdot W$ such numbers. A product and an addition are two operations (FLOPs):
#
# $$\begin{aligned}
# \text{FLOPs} &= 2 \cdot (C_\text{out} H W) \cdot (9\, C_\text{in}), \\
# \text{weights} &= C_\text{out}(9\, C_\text{in} + 1)
# \end{aligned} \tag{05.5}$$
#
# Halve the picture, and $HW$ falls to a quarter; double the channels, and $C_\text{in} C_\text{out}$ grows by four. So a U can have twice the channels where it sees far, for the same price.

# %% tags=["nbval-ignore-output"]
for name in ("blocks + time", "U-Net"):
    flops = count_flops(nets[name], held_xt[:1], held_t[:1])
    print(f"{name}: {flops / 1e6:.2f} million operations for one digit")
for name, net in (("Stack", Stack(depth=18)), ("U-Net", UNet(1, 16, (1, 2, 2)))):
    flops = count_flops(net, torch.zeros(1, 1, 64, 64), torch.zeros(1))
    print(f"{name} at 64 x 64: {flops / 1e6:.0f} million")

# %% [markdown]
# On the digits both cost the same. At 64 x 64 pixels the U pays: a stack of 18 blocks sees 77 columns, a U of three levels 78, for 28 % of the operations.
#
# **Check.** The package's network gets the weights that you have just trained. It must give your answers:

# %% tags=["nbval-ignore-output"]
bare, theirs = nets["U-Net"], UNet(channels=16)
for mine, copy in zip(bare.parameters(), theirs.parameters(), strict=True):
    copy.data.copy_(mine.data)
with torch.no_grad():
    assert_close(theirs(held_xt, held_t), bare(held_xt, held_t), atol=1e-4, rtol=1e-4)
    bare.keep = 0.0
    gap = (theirs(held_xt, held_t) - bare(held_xt, held_t)).abs().max()
print(f"same answers; without the skips they would differ by up to {gap:.2f}")
show_source(UNet.forward)

# %% [markdown]
# The package's version checks its arguments, takes any number of levels and blocks, a class or words as a condition, and attention, which comes next. Otherwise it is yours: the lines with `patch_size` do nothing while that is 1.

# %% [markdown]
# ### The first loss
#
# A new network can be checked before any training. It starts with zeros in its last layer, so it answers 0, and its loss is the mean of $\epsilon^2$. For a standard normal $\epsilon$ this is 1 on average.
# One square has the variance $\operatorname{Var}(\epsilon^2) = E[\epsilon^4] - 1 = 3 - 1 = 2$, so the mean over 512 independent pixels, eight digits, has
#
# $$E[\text{loss}] = 1, \qquad \text{standard deviation} = \sqrt{2/512} = 0.0625 \tag{05.6}$$

# %%
eight_t = torch.linspace(50, 950, 8).long()
draws = torch.randn(500, 8, 1, 8, 8, generator=generator)
with torch.no_grad():
    answer = UNet(channels=16)(test_digits[:8], eight_t)
    losses = (answer - draws).square().mean((1, 2, 3, 4))
    without_zeros = []
    for seed in range(5):
        torch.manual_seed(seed)
        other = UNet(channels=16)
        for layer in other.modules():
            if isinstance(layer, nn.Conv2d) and not layer.weight.any():
                layer.reset_parameters()
        without_zeros.append((other(held_xt, held_t) - held_noise).square().mean())
print(f"mean {losses.mean():.3f}, standard deviation {losses.std():.4f}")
assert abs(losses.mean() - 1) < 4 * 0.0625 / 500**0.5
print("without zeros, five seeds:", [f"{loss:.2f}" for loss in without_zeros])

# %% [markdown]
# So if a network that predicts noise and starts at zero has a first loss far from 1, something is wrong already. Without the zeros it starts elsewhere, as you see, and so does one that predicts $x_0$: there the first loss is the mean square of the data.

# %% [markdown]
# ## Attention
#
# Halving shows the bottom of a U a wide view, but a convolution still treats every place alike: it cannot decide *where* to look. In attention each place asks a question (the query $q$), and each place offers a key $k$ and a value $v$; all three are linear in the normalised features there.
# Place $i$ takes the average of all values, weighted by how well their keys answer its question (arXiv 1706.03762, eq. 1):
#
# $$w_{ij} = \frac{\exp(q_i \cdot k_j / \sqrt{d_k})}{\sum_l \exp(q_i \cdot k_l / \sqrt{d_k})}, \qquad \text{out}_i = \sum_j w_{ij} v_j \tag{05.7}$$

# %% jupyter={"source_hidden": true} tags=["hide-input"]
drawing = Drawing(7.4, 2.5, "Attention: every place reads from every place")
x, q, w, out, add = drawing.row(
    ["$x$", "queries $q$", "weights $w$", "$w\\,v$", "add"], 1.2, 0.7, 6.6,
    kinds=["data", "network", "formula", "formula", "formula"],
    notes=["16 places", "(B, 16, 32)", "(B, 16, 16)", "(B, 16, 32)", "(B, 32, 4, 4)"],
    width=1.0,
)
k = drawing.box(q.x, 2.05, "keys $k$", kind="network", width=1.0, height=0.4)
v = drawing.box(q.x, 0.25, "values $v$", kind="network", width=1.0, height=0.4)
for start, end in ((x, q), (x, k), (x, v), (q, w), (w, out)):
    drawing.arrow(start, end)
drawing.arrow(k.right, w.top, via=[(w.x, 2.05)])
drawing.arrow(v.right, (out.x - 0.4, 0.93), via=[(out.x - 0.4, 0.25)])
drawing.arrow(out, add)
drawing.arrow(x.top, add.top, "", via=[(0.7, 2.4), (6.6, 2.4)])
drawing.show(
    "x has 16 places with 32 channels. It gives queries q, keys k and values v. "
    "Queries and keys give the weights w, 16 x 16 numbers; weights times values, with "
    "the shape of q again, are added to x, which arrives over a skip."
)

# %% [markdown]
# $d_k$ is the length of $q$ and $k$. Why its root? If the $2 d_k$ numbers in $q_i$ and $k_j$ are independent with mean 0 and variance 1, each product has variance $E[q^2]\,E[k^2] = 1$, and variances of independent terms add:
#
# $$\operatorname{Var}(q_i \cdot k_j) = d_k, \qquad \operatorname{Var}\big(q_i \cdot k_j/\sqrt{d_k}\big) = 1 \tag{05.8}$$
#
# Without the root, large $d_k$ makes large scores, and the softmax of large scores picks one place and forgets the others. Several *heads* do all this side by side, each with its own share of the channels.

# %%
def look(x, layer):  # (B, C, H, W), one head; layer: a package Attention
    h = layer.norm(x).flatten(2).mT  # (B, H W, C)
    q, (k, v) = layer.query(h), layer.key_value(h).chunk(2, -1)
    w = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)  # (B, H W, H W)
    return x + layer.out(w @ v).mT.unflatten(2, x.shape[2:])


layer, x = Attention(32, num_heads=1), torch.randn(3, 32, 4, 4, generator=generator)
assert_close(layer(x), x)  # its output layer starts at zero
nn.init.normal_(layer.out.weight, std=0.2, generator=generator)
assert_close(look(x, layer), layer(x))
print("these lines and the package's attention give the same answer")

# %% [markdown]
# Attention does not know where a place *is*; the convolutions around it do (Going further checks this). And its table of weights has (places)$^2$ entries, so it sits at the small levels: `UNet(attention_levels=(1,))`. We have not measured what it is worth on these digits; in lesson 10 it reads the words of a prompt.

# %% [markdown]
# ## Overfit one batch
#
# A network that runs need not be able to learn, and a long training is a slow way to find out. Fix everything: 16 digits, their times, their noise. Thousands of weights can learn 16 answers by heart, so the loss must fall to nearly 0. If it does not, the network, the loss or the optimiser is broken.

# %%
few = torch.arange(0, 352, 22)  # 16 of the held-out digits, with times and noise


def overfit(target, num_steps=100):
    torch.manual_seed(0)
    net, losses = UNet(channels=32), []
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(num_steps):
        loss = (net(held_xt[few], held_t[few]) - target()).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %%
curves = {
    "right": overfit(lambda: held_noise[few]),
    "target drawn again": overfit(lambda: torch.randn(16, 1, 8, 8)),
}
fig = plotting.lines(
    torch.arange(1, 101), curves, xlabel="step", ylabel="loss on the one batch",
    logy=True, title="A network that works learns 16 answers by heart",
)
show(fig, alt=(
    "Loss on one batch against steps, log scale. Right: from 1 down to "
    "about one hundred-thousandth after 100 steps. Target drawn again: stays at 1."
))
assert curves["right"][-1] < 0.05 < 0.8 < sum(curves["target drawn again"][-20:]) / 20

# %% [markdown]
# The second curve is a mistake easily made: `randn_like` is called once for $x_t$ and once more for the target. Nothing is raised, and the loss stays near 1.
# The test does not see mistakes that are the same in training and target, such as a wrong schedule. Nor does it see a wrongly told time, because 16 pictures can be told apart without it.

# %% [markdown]
# ## Train, average, draw
#
# Each batch pulls the weights a little elsewhere, so they tremble around where they should be. A running average (exponential moving average, EMA) is calmer:
#
# $$\bar w \leftarrow d\,\bar w + (1 - d)\,w \tag{05.9}$$
#
# The weights of $j$ steps ago have the share $(1-d)d^j$, so the average looks back about $1/(1-d)$ steps. Early in training it would still hold the random start. Therefore the package begins with a small $d$ and lets it grow: $\min\big(d, \tfrac{1+n}{10+n}\big)$ at step $n$.
#
# `train` is the bare loop with this average, a learning rate that rises and decays, clipped gradients and checkpoints.

# %% tags=["nbval-ignore-output"]
torch.manual_seed(0)
model, num_steps = UNet(channels=16, attention_levels=(1,)), 400
curve = {"step": [], "weights": [], "average": []}
with Progress(num_steps, "training") as bar:
    for state in train(
        model, digits, linear, num_steps=num_steps, batch_size=64,
        learning_rate=3e-3, warmup_steps=30, ema_decay=0.97, report_every=20,
    ):
        with torch.no_grad():
            for name, net in (("weights", model), ("average", state.ema_model)):
                error = (net(held_xt, held_t) - held_noise).square().mean().item()
                curve[name].append(error)
        curve["step"].append(state.step)
        bar.update(20, message=f"loss {state.loss:.3f}")
gap = torch.tensor(curve["weights"]) / torch.tensor(curve["average"])
print(
    f"held out at the end: weights {curve['weights'][-1]:.4f}, average "
    f"{curve['average'][-1]:.4f}; from step 100 to 320 the weights' loss is "
    f"{gap[4:16].mean():.3f} times the average's"
)

# %%
late = torch.tensor(curve["step"]) >= 100
fig = plotting.lines(
    torch.tensor(curve["step"])[late],
    {name: torch.tensor(curve[name])[late] for name in ("weights", "average")},
    xlabel="training step", ylabel="loss on held-out digits",
    title="The weights jump, their average does not",
)
show(fig, alt=(
    "Loss on held-out digits from step 100 to 400. The weights' loss falls in jumps up "
    "and down. The average's falls without a jump and lies below it, until the two "
    "meet towards the end."
))

# %% [markdown]
# The average is ahead while the weights jump. At the end both are equal, since the learning rate has decayed. The average needs no plan of when training ends, and many diffusion models ship it (the first DDPM: $d = 0.9999$, arXiv 2006.11239).
#
# Now draw with it, with the thousand steps of lesson 04:

# %% tags=["nbval-ignore-output"]
drawn = p_sample_loop(
    state.ema_model, (16, 1, 8, 8), linear.betas, linear.alphas, abar,
    generator=make_generator(1),
)
fig = plotting.image_strip(
    [drawn[:8], drawn[8:], test_digits[:8]], row_labels=["yours", "yours", "real"],
    title="Sixteen digits from the network trained above",
)
show(fig, alt=(
    "Three rows of eight 8x8 pictures. Above two rows of drawn pictures, most with "
    "strokes like handwritten digits, some malformed. Below real digits."
))

# %% [markdown]
# ## Where people go wrong
#
# ### t from 0 to 1
#
# Published code counted time from 0 to 1 and put that into the waves, which are made for indices ([sihyun-yu/REPA#40](https://github.com/sihyun-yu/REPA/issues/40), inherited from [willisma/SiT#24](https://github.com/willisma/SiT/issues/24)).
# The one-line difference is `t * 1000`. With fractions the fastest hand turns by 1 radian over the whole chain, the next ones by less, and all times look alike:

# %% tags=["nbval-ignore-output"]
for name, factor in (("fractions", 0.001), ("indices", 1.0)):
    early, late = waves(factor * torch.tensor([100, 900]), 32)
    print(f"{name}: cosine similarity {F.cosine_similarity(early, late, dim=0):.2f}")

# %% [markdown]
# A training with fractions looks healthy, because the loss is only 5% higher (Going further measures it). So nobody notices.

# %% [markdown]
# ### The embedding runs over the batch
#
# `angles[::2].sin()` where `angles[:, ::2].sin()` is meant gives sines to the even *samples* and cosines to the odd ones. Models were trained like this ([gmongaras/Diffusion_models_from_scratch#10](https://github.com/gmongaras/Diffusion_models_from_scratch/issues/10)).
# The shapes are right, and nothing is raised. A test for the whole family of such mistakes: give the network one sample alone. Its answer must be the one that the sample gets in a batch.

# %% tags=["nbval-ignore-output"]
def over_the_batch(t, dim):
    omega = 10_000.0 ** (-torch.arange(dim // 2) / (dim // 2))
    angles = (t[:, None] * omega).repeat(1, 2)
    angles[::2], angles[1::2] = angles[::2].sin(), angles[1::2].cos()
    return angles


right_waves = waves
for name, function in (("right", right_waves), ("over the batch", over_the_batch)):
    waves = function
    with torch.no_grad():
        bare.keep = 1.0
        together, alone = bare(held_xt[:8], held_t[:8]), bare(held_xt[1:2], held_t[1:2])
    gap = (together[1:2] - alone).abs().max()
    print(f"{name:15s} {'same' if gap < 1e-4 else 'other'} answer alone, gap {gap:.4f}")
waves = right_waves

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names a known mistake. `hint("05.1")` helps in steps, `solution("05.1")` comes after a try.

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

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.2, 2.4)
x_t = card.box(0.65, 1.85, "$x_t$", kind="data", width=0.9)
down = card.box(2.2, 1.85, "down", kind="network", width=0.9)
up = card.box(5.0, 1.85, "up", kind="network", width=0.9)
eps = card.box(6.55, 1.85, r"$\hat\epsilon$", kind="noise", width=0.9)
middle = card.box(3.6, 0.95, "see far", kind="network", width=1.1, height=0.4)
time = card.box(0.9, 0.35, "time $e(t)$", kind="words", width=1.1, height=0.4)
card.arrow(x_t, down), card.arrow(up, eps)
card.arrow(down, up, "skips keep the detail", dashed=True, kind="data")
card.arrow(down.bottom, middle.left, via=[(down.x, 0.95)])
card.text(down.x - 0.08, 1.25, "halve", align="right")
card.arrow(middle.right, up.bottom, via=[(up.x, 0.95)])
card.text(up.x + 0.08, 1.25, "double", align="left")
card.arrow(time.right, (2.0, 0.35))
card.text(2.1, 0.35, "scale and shift in every block", align="left")
card.show(
    "x_t enters a way down, halving leads to a bottom that sees far, doubling leads up "
    "to the noise. A dashed skip from down to up keeps the detail. The time e(t) goes "
    "into every block as scale and shift."
)

# %% [markdown]
# | in words | code | where |
# |---|---|---|
# | Look far at the bottom, keep detail by skips: a U. | `UNet(in_channels, channels, channel_mult)` | Why this shape? |
# | The time becomes waves, for indices and not for fractions. | `timestep_embedding(t, dim)` | (05.4) |
# | A block normalises, is told the time, adds its input, starts at zero. | `ResBlock(in_channels, out_channels, emb_dim)` | (05.2), (05.3) |
# | Attention decides where to look. | `Attention(channels, num_heads)` | (05.7) |
# | Overfit one batch first. Average the weights. | `train(...)`, `state.ema_model` | (05.9) |
#
# What you still lack is pictures in fewer than 1,000 calls of the network: lesson 06. Lesson 07 measures which of two networks draws better.
#
# To read next: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597, the U-Net.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows stands on its own, section by section: pick what you need.

# %% [markdown]
# ### How far a pixel has to see, at other noise levels
#
# The core looked at $t = 300$ only. Does seeing everything always help?
#
# **Task.** Move the noise level. At which $t$ does it help most to see everything, at which not at all, and at which does it do harm? Can you say why?

# %%
from diffusion_course import Explorer


def window_picture(t, sees):
    xt, by_side = guesses(t, (sees,))
    guess = by_side[sees]
    error = (guess - test_digits[:60]).square().mean().item()
    fig = plotting.image_strip(
        [xt[:8], guess[:8]], row_labels=["noisy", "guess"],
        title=f"t = {t}, each pixel sees {sees} x {sees}: error {error:.3f}",
    )
    return fig, f"t = {t}, window {sees} x {sees}: mean square error {error:.3f}"


Explorer(
    window_picture, t=[100, 200, 300, 400, 600], sees=[1, 3, 5, 15],
    start={"t": 300, "sees": 5},
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# It helps most at $t = 300$ (0.215 with itself, 0.141 with everything) and hardly at 600, where almost nothing can be seen (0.277 and 0.273). At 100 it does harm: 3x3 has 0.033 and everything 0.074. Under so little noise one of the 1,438 digits gets most of the weight, and none of them agrees with a new digit in all 64 pixels. A network has to do better: see everything, and still judge details on their own.
#
# </details>

# %% [markdown]
# ### Attention: no places, and the root
#
# The core said two things about attention without a check: that it does not know where a place is, and that without the root of $d_k$ the softmax picks one place. If the places are shuffled, the output must be shuffled in the same way. And for random $q$ and $k$ we look at the largest of 64 weights.

# %%
order = torch.randperm(16, generator=generator)
shuffled = x.flatten(2)[:, :, order].unflatten(2, (4, 4))
assert_close(layer(shuffled).flatten(2), layer(x).flatten(2)[:, :, order])
for d_k in (4, 64, 1024):
    q, k = torch.randn(2, 200, d_k, generator=generator)
    largest = [((q @ k.T)[:, :64] / s).softmax(1).amax(1).mean() for s in (1, d_k**0.5)]
    print(
        f"d_k = {d_k:4d}: largest of 64 weights {largest[0]:.2f} without the root, "
        f"{largest[1]:.2f} with it"
    )

# %% [markdown]
# ### Why cosine and sine in pairs
#
# You may wonder why each frequency appears twice. **A shift of time is a rotation.** The addition theorems say what $s$ more steps do to a pair:
#
# $$\begin{pmatrix}\cos\omega(t+s)\\ \sin\omega(t+s)\end{pmatrix} = \begin{pmatrix}\cos\omega s & -\sin\omega s\\ \sin\omega s & \cos\omega s\end{pmatrix}\begin{pmatrix}\cos\omega t\\ \sin\omega t\end{pmatrix} \tag{05.10}$$
#
# The matrix does not contain $t$. "Ten steps later" is the same linear map everywhere, and a linear layer can learn it. With the sine alone there is no such map: two times with equal sines may go different ways.
#
# **The similarity depends on the difference only.** Each pair contributes $\cos\omega t\cos\omega t' + \sin\omega t\sin\omega t' = \cos\omega(t - t')$ to the product of two embeddings. All embeddings have length $\sqrt n$, so their cosine similarity is
#
# $$\frac{e(t) \cdot e(t')}{|e(t)|\,|e(t')|} = \frac1n\sum_{i=0}^{n-1}\cos\omega_i (t - t') \tag{05.11}$$
#
# The next cell checks both at 900 times and five random shifts, and then turns the hands the wrong way. (To turn a pair is to multiply $\cos + i\sin$ by a phase.)

# %%
omega = 10_000.0 ** (-torch.arange(32, dtype=torch.float64) / 32)
start = timestep_embedding(torch.arange(900), 64).double()
pairs = torch.complex(start[:, :32], start[:, 32:])
for shift in torch.randint(1, 100, (5,), generator=generator).tolist():
    phase = torch.exp(1j * omega * shift)
    later = timestep_embedding(torch.arange(900) + shift, 64).double()
    turned, wrong = pairs * phase, pairs * phase.conj()
    assert_close(torch.cat([turned.real, turned.imag], 1), later, atol=1e-3, rtol=0.0)
    wrong_gap = (torch.cat([wrong.real, wrong.imag], 1) - later).abs().max()
    similarity = F.cosine_similarity(start, later, dim=1)
    assert_close(
        similarity, (omega * shift).cos().mean().expand(900), atol=1e-4, rtol=0.0
    )
    print(f"shift {shift:2d}: a rotation; turned the wrong way {wrong_gap:.2f} off")

# %% [markdown]
# With $t$ from 0 to 1, $\omega_i (t - t')$ is at most 1 in size, and nearly 0 for most $i$. So by (05.11) all times are similar:

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
# ### What fractions of t cost
#
# Times that all look alike should hurt. To see how much, the U is trained once more with $t/1000$ in its waves, with the same three seeds.

# %% tags=["nbval-ignore-output"]
three_seeds("t as a fraction", BareUNet, factor=0.001)
low = held_t < 100
for name in ("U-Net", "t as a fraction"):
    print(
        f"{name:16s} loss at t < 100: {results[name][:, low].mean():.3f}, "
        f"elsewhere {results[name][:, ~low].mean():.4f}"
    )

# %% [markdown]
# The loss rises by 5%, from 0.124 to 0.131 (the seeds do not overlap). Half of that comes from the tenth of the times with least noise.

# %% [markdown]
# ### Zero weights that learn
#
# Zeros sound like a network that cannot learn. Follow the gradient. It reaches a layer's weights through the layer's *input*, which is not zero. It passes *through* a layer multiplied by the weights, and zeros stop it there.
# So the network wakes up in three waves. First only the last layer has a gradient. After one step it is not zero any more, and lets the gradient through to the last norm and to all that reaches it by skips: the zero layer of every block, the 1x1 convolutions and the first layer. After the next step these open the rest.

# %%
clone = UNet(channels=16)
optimizer = torch.optim.SGD(clone.parameters(), lr=0.1)
for step in (1, 2, 3):
    optimizer.zero_grad()
    (clone(held_xt[:16], held_t[:16]) - held_noise[:16]).square().mean().backward()
    moving = [
        name for name, p in clone.named_parameters()
        if p.grad is not None and p.grad.abs().max() > 0
    ]
    optimizer.step()
    kinds = sorted({name.removesuffix(".weight").split(".")[-1] for name in moving
                    if name.endswith("weight")})
    total = len(list(clone.parameters()))
    print(f"step {step}: {len(moving)} of {total} tensors have a gradient: {kinds}")

# %% [markdown]
# ### How far a network sees
#
# The core said that halving widens the view. You can count by how much. Each 3x3 convolution adds one pixel on each side, at level $i$ that is $2^i$ pixels of the picture. Take two levels with one block each, and follow one output pixel back along the longest way:
#
# - 3 convolutions at full size (the last one and the two of `up.0`): from an even column $p = 2m$ to the columns $p - 3$ to $p + 3$, which lie in the coarse columns $m - 2$ to $m + 1$,
# - 6 convolutions at half size (`up.1`, `middle`, `down.1`): $m - 8$ to $m + 7$, which cover the columns $p - 16$ to $p + 15$,
# - 3 more at full size (`down.0` and the first one): $p - 19$ to $p + 18$, **38 columns**.
#
# The gradient says the same without counting. Differentiate one output pixel with respect to all input pixels; where the gradient is exactly zero, the network cannot look. Attention sees everything at once, and so does group normalisation, whose mean runs over the whole picture. To see the convolutions alone, the norms are taken out first.

# %% tags=["long"]
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
# Two levels see 38 columns, as counted.
#
# **Task.** Move the controls. How much does one level more add? What does attention at the lowest level change, and what do the norms change? White means a gradient of exactly zero. Then look at how the colour falls off: what a pixel *can* see is more than what it mostly looks at (arXiv 1701.04128).

# %%
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
    far = gradient[:10].median() / gradient.max()  # more than 30 rows above the centre
    return fig, (
        f"{levels} level(s), attention {attention}, norms {norms}: the centre depends "
        f"on {seen:.0%} of the 80x80 pixels. In the upper ten rows the median gradient "
        f"is {far:.1g} times the largest of all."
    )


Explorer(
    view_picture, levels=[1, 2, 3], attention=["off", "on"],
    norms=["off", "on"], start={"levels": 2}, ahead=True,
)

# %% [markdown]
# <details><summary>Answer</summary>
#
# Each further level about doubles the view: 17, 38 and 78 columns. Attention alone, or the norms alone, make it the whole picture. But in these new networks a typical pixel in the upper rows counts a thousandth of the most important one or less, by either way, and by attention less than by the norms.
# For the norms that stays so: a far pixel moves two numbers, the mean and the variance of a group. Attention can *learn* to look at one far place.
#
# </details>

# %% [markdown]
# ### What it costs
#
# The formula (05.5) counts one convolution; for a whole network you want a tool. `count_flops` runs the network once and adds the formula up for every layer. torch has a counter of its own, which works one floor below, on the operations that reach its kernels.
# It has no rule for the attention kernel of the CPU and counts it as nothing. On the `meta` device, where tensors have shapes but no numbers, attention is made of two matrix products, and both agree. The same trick counts a network that would not fit into memory.

# %%
from torch.utils.flop_counter import FlopCounterMode

from diffusion_course import count_parameters, flops_by_module


def torch_counts(model, *inputs):
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(*inputs)
    return counter.get_total_flops()


with torch.device("meta"):
    one, small_image = torch.zeros(1), torch.empty(1, 1, 8, 8)
    ours = UNet(channels=16, attention_levels=(1,))
    large_image, large = torch.empty(1, 3, 64, 64), UNet(
        3, 320, (1, 2, 4, 4),
        blocks_per_level=2, attention_levels=(0, 1, 2), num_heads=8,
    )
assert torch_counts(ours, small_image, one) == count_flops(ours, small_image, one)
for name, net, image in (("ours", ours, small_image), ("large", large, large_image)):
    flops_of_net = count_flops(net, image, one)
    print(f"{name}: {count_parameters(net):,} weights, {flops_of_net / 1e9:.4g} GFLOPs")

# %%
total = count_flops(ours, small_image, one)
for name, cost in flops_by_module(ours, small_image, one, depth=2).items():
    print(
        f"{name:22s} {cost.parameters:7,d} weights {cost.flops:12,d} FLOPs "
        f"{cost.flops / total:6.1%}"
    )

# %% [markdown]
# In ours 46% of the operations are at full size (`down.0`, `up.0`, `first`, `last`) and 54% at half, where three quarters of the weights are. The large network has the widths of Stable Diffusion's.
#
# Attention is different, because its table of weights has (places)$^2$ entries. Twice the side makes that part 16 times as expensive, and the rest of the layer 4 times:

# %%
previous = None
for side in (8, 16, 32, 64):
    with torch.device("meta"):
        image = torch.empty(1, 64, side, side)
        parts = Attention(64, 4), nn.Conv2d(64, 64, 3, padding=1)
    costs = [count_flops(part, image) for part in parts]
    more = "" if previous is None else f", {costs[0] / previous:.1f} times as many"
    previous = costs[0]
    print(
        f"{side:2d}x{side:<2d} one 3x3 convolution {costs[1] / 1e6:6.1f} MFLOPs, "
        f"attention {costs[0] / 1e6:7.1f} MFLOPs{more}"
    )

# %% [markdown]
# One training step costs about three times the forward pass: the backward pass computes one product for the inputs and one for the weights, each as large as the forward one.

# %% [markdown]
# ### A class as a condition
#
# Sometimes you want a *seven*, not any digit. The simplest condition is one learned vector per class, added to `emb`. `UNet(num_classes=10)` has eleven: the last, `null_class`, means "no class", which lesson 08 needs.

# %%
torch.manual_seed(0)
with_classes = UNet(channels=16, num_classes=10)
labels, four_t = torch.tensor([3, 3, 7, with_classes.null_class]), torch.arange(4)
without = with_classes.conditioning.project(timestep_embedding(four_t, 32))
added = with_classes.conditioning(held_xt[:4], four_t, labels) - without
assert_close(added, with_classes.conditioning.classes.weight[labels])
print(
    f"null class: index {with_classes.null_class}; "
    f"{with_classes.conditioning.classes.num_embeddings} learned vectors"
)

# %% [markdown]
# ### How much calmer the average is
#
# The core showed that the average is calmer; here is by how much, in the simplest case. Suppose $w = w^\star + \xi$ at every step: the right weight $w^\star$ and a trembling $\xi$, always of the same variance and independent from step to step. Variances add with the squares of the shares $(1-d)d^j$, a geometric series:
#
# $$\begin{aligned}
# \operatorname{Var}(\bar w) &= (1-d)^2\sum_{j \ge 0} d^{2j}\,\operatorname{Var}(\xi) \\
# &= \frac{(1-d)^2}{1 - d^2}\operatorname{Var}(\xi) = \frac{1-d}{1+d}\operatorname{Var}(\xi)
# \end{aligned} \tag{05.12}$$

# %%
decay, trembling = 0.97, torch.randn(40_000, generator=generator).tolist()
averaged, running = [], 0.0
for w in trembling:
    running = decay * running + (1 - decay) * w
    averaged.append(running)
print(
    f"share of the variance that is left: {torch.tensor(averaged[500:]).var():.4f}, "
    f"formula {(1 - decay) / (1 + decay):.4f}"
)

# %% [markdown]
# The two differ by chance: averages of neighbouring steps share most of their weights, so 40,000 of them are worth far fewer independent ones. Real trembling is not independent from step to step, so the gain in training is smaller than that.

# %% [markdown]
# ### Stop and resume
#
# Long trainings get interrupted. A checkpoint that holds the weights only is not enough: the optimiser's moments, the average, the step count and the state of the random generator belong to the run too. `train(..., checkpoint=file, resume=True)` keeps all of them.
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
# ### What makes it faster
#
# Three switches change the speed and, up to rounding, not the result:
#
# - **bfloat16** (`torch.autocast`): convolutions and products use 16-bit numbers with 8 bits of exponent. The weights and the optimiser stay in float32.
# - **channels-last**: the same numbers lie in another order in memory, all channels of a pixel side by side, as the fast kernels want them.
# - **compile** (`train(..., compile=True)`): kernels are fused into fewer passes over memory. That takes a while before the first step, so it is not run here. `docs/performance.md` has its figures.
#
# Speed is best given in operations per second, because that can be compared with what the machine can do.
# A CPU with matrix units for bfloat16 (Intel's AMX), or a GPU, gains by it; a CPU without them has to imitate bfloat16 and loses. This cell measures yours:

# %% tags=["nbval-ignore-output"]
import time

from diffusion_course import default_device

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
# `train` makes both choices for you: `precision="auto"` takes bfloat16 where the hardware multiplies it, and pictures are put into channels-last on CPUs and CUDA GPUs.
# How far are the two precisions apart? bfloat16 keeps 8 significant bits, an error of up to 0.4 % in each number. The network that you trained passes some of that on:

# %% tags=["nbval-ignore-output"]
trained = state.ema_model
with torch.no_grad():
    exact = trained(held_xt, held_t)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = trained(held_xt, held_t).float()
print(
    f"typical difference {(rounded - exact).square().mean().sqrt():.3f}, "
    f"typical answer {exact.square().mean().sqrt():.2f}; "
    f"loss {(exact - held_noise).square().mean():.4f} and "
    f"{(rounded - held_noise).square().mean():.4f}"
)

# %% [markdown]
# ### Two dialects of the embedding
#
# Is the exponent $i/n$ or $i/(n-1)$? Do the cosines or the sines come first? Both forms of both are in use. The first DDPM has $n - 1$ and sines first ([hojonathanho/diffusion#15](https://github.com/hojonathanho/diffusion/issues/15) asks why), this course has $n$ and cosines first.
# For a new network it does not matter. For trained weights it does. Here the network that you trained is told the time in the other dialect:

# %% tags=["nbval-ignore-output"]
def half_minus_one(t, dim):
    angles = t[:, None] * 10_000.0 ** (-torch.arange(dim // 2) / (dim // 2 - 1))
    return torch.cat([angles.cos(), angles.sin()], 1)


dialects = {
    "its own": timestep_embedding,
    "n - 1": half_minus_one,
    "sines first": lambda t, dim: timestep_embedding(t, dim).roll(dim // 2, 1),
    "always t = 0": lambda t, dim: timestep_embedding(0 * t, dim),
}
for name, told in dialects.items():
    hook = trained.conditioning.project.register_forward_pre_hook(
        lambda module, inputs, told=told: (told(held_t.float(), 32),)
    )
    with torch.no_grad():
        loss = (trained(held_xt, held_t) - held_noise).square().mean()
    hook.remove()
    print(f"{name:13s} loss {loss:.3f}")

# %% [markdown]
# ### Normalising over the batch
#
# With batch normalisation in training mode, or a group normalisation whose mean also runs over axis 0, a picture's answer depends on its neighbours. In training the noise levels in a batch are mixed. In sampling all samples have one level, so the network meets statistics that it never saw:

# %%
levels = [
    q_sample(digits[:64], i, abar, generator=make_generator(8))
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
# ### Adding the time instead
#
# The first DDPM added one number per channel, computed from the time, before the second normalisation. It looks like (05.3) without the scale, but the normalisation comes after it and divides by the spread of the whole group. So one loud channel turns the others down:

# %%
h = 0.5 * torch.randn(64, 16, 8, 8, generator=generator)
louder = h.clone()
louder[:, 0] += 50.0
for name, features in (("as it is", h), ("50 added to channel 0", louder)):
    spread_of_others = F.group_norm(features, 1)[:, 1:].std()
    print(f"{name:22s} standard deviation of the other channels {spread_of_others:.3f}")

# %% [markdown]
# Such a network can make channels quieter with $t$, all of a group together. Scale and shift do so for each channel on its own.

# %% [markdown]
# ### To read further
#
# - Dhariwal & Nichol 2021, https://arxiv.org/abs/2105.05233: section 3, what each change of the network was worth at full size.
# - Luo et al. 2016, https://arxiv.org/abs/1701.04128: how much of its field of view a network uses.
