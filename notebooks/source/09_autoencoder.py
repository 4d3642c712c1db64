# %% [markdown]
# # 09 · The autoencoder
#
# After this lesson you can:
#
# - count what a diffusion model saves by working in latents,
# - derive the loss of a KL autoencoder from a bound on $\log p(x)$, and say what its weight means,
# - train one, and measure what it loses and what its latents cost in bits,
# - compute a scaling factor, and put it in the right two places,
# - say why drawing latents from $N(0, I)$ gives no pictures.
#
# You need: lessons 03 and 05.
#
# **Measured cost:** 2.6 min on 2 cores, 1.9 GB of memory at the peak.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
import copy
import math

import torch
from torch.nn import functional as F
from torch.testing import assert_close

from diffusion_course import load_parts, make_generator, plotting, seed_everything, show
from diffusion_course.datasets.scenes import render_scenes, sample_scenes

generator = seed_everything(0)

# %% [markdown]
# ## Recall
#
# 1. From lesson 03: the bound on $-\log p(x_0)$ is a sum of three kinds of terms. Which, and which of them contain the network?
# 2. From lesson 05: the side of a picture is cut in half. By how much do the costs of a convolution and of self-attention fall?
#
# <details><summary>Answers</summary>
#
# 1. A prior term $\mathrm{KL}(q(x_T \mid x_0)\,\|\,N(0, I))$, without the network; a KL for every step; and the reconstruction $-\log p(x_0 \mid x_1)$.
# 2. The convolution works at a quarter of the positions: a quarter. Attention compares each position with each: a sixteenth.
#
# </details>

# %% [markdown]
# ## Predict first
#
# Part II draws scenes: fourteen kinds of things in ten colours, before eight settings. The repository draws them itself, as many as you like.

# %%
codes = sample_scenes(256, generator=generator)
pictures = render_scenes(codes, generator=generator)  # (256, 3, 64, 64) in [-1, 1]
fig = plotting.image_grid(
    pictures[:16], columns=8, title="Sixteen of the scenes that this part draws"
)
show(fig, alt=(
    "Two rows of eight colourful pictures: one or two things such as a star, "
    "a fish or a house, before a night sky, a meadow, the sea and other settings."
))

# %% [markdown]
# A picture is $64 \times 64 \times 3 = 12{,}288$ numbers. The course ships an autoencoder that keeps $16 \times 16 \times 8 = 2{,}048$ of them, one in six, and draws the picture again.
#
# What would you get without a network? Shrink each picture to $26 \times 26 \times 3 = 2{,}028$ numbers and enlarge it again. The error is given in decibels, 10 for each factor of ten in the mean squared error; more is better.

# %%
from diffusion_course import psnr

# (256, 3, 26, 26)
shrunk = F.interpolate(pictures, size=26, mode="bicubic", antialias=True)
enlarged = F.interpolate(shrunk, size=64, mode="bicubic").clamp(-1, 1)
print(f"shrunk and enlarged: {psnr(enlarged, pictures).mean():.1f} dB")

# %% [markdown]
# How many decibels does the autoencoder gain over that?

# %%
my_guess = 3.0

# %%
parts = load_parts()
vae = parts.vae
with torch.no_grad():
    posterior = vae.encode(pictures).latent_dist  # a Gaussian for each picture
    rebuilt = vae.decode(posterior.mean).sample.clamp(-1, 1)  # (256, 3, 64, 64)
gain = psnr(rebuilt, pictures).mean() - psnr(enlarged, pictures).mean()
print(
    f"{posterior.mean[0].numel():,} numbers; {psnr(rebuilt, pictures).mean():.1f} dB, "
    f"a gain of {gain:.1f}; you guessed {my_guess}"
)

# %%
fig = plotting.image_strip(
    [pictures[:8], enlarged[:8], rebuilt[:8]],
    row_labels=["scene", "2,028 numbers", "latents"],
    title="As many numbers, spent differently",
)
show(fig, alt=(
    "Three rows of eight scenes. Upper row: the scenes. Middle row: the same, blurred "
    "from being shrunk and enlarged. Lower row: from latents, close to the upper row."
))

# %% [markdown]
# The shrunk picture spends its numbers evenly. The autoencoder has learnt what scenes are made of, and spends them where it matters.
# This lesson says how it learns that, what it costs, and why diffusion comes after it.

# %% [markdown]
# ## What a step costs
#
# The U-Net of the shipped model works on latents. Take the same U-Net, with the same widths, on pixels: its first and last convolution change, and every level has 16 times the positions.
# `count_flops` needs shapes only, so both are built on the meta device, where nothing is computed.

# %%
from diffusers import UNet2DConditionModel

from diffusion_course import count_flops


def cost_of_a_step(channels, side):
    changed = {"in_channels": channels, "out_channels": channels, "sample_size": side}
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config({**parts.unet.config, **changed})
        words = torch.empty(1, 32, unet.config.cross_attention_dim)
        return count_flops(
            unet, torch.empty(1, channels, side, side), torch.zeros(1), words
        )


# %%
pixels, latents_cost = cost_of_a_step(3, 64), cost_of_a_step(*posterior.mean.shape[1:3])
decoding = count_flops(vae.decoder, posterior.mean[:1])
calls = 2 * 20  # twenty steps with guidance
print(
    f"one call: {pixels / 1e9:.2f} GFLOP on pixels, {latents_cost / 1e9:.2f} on "
    f"latents, {pixels / latents_cost:.0f} times less"
)
print(
    f"one picture: {calls * pixels / 1e9:.0f} GFLOP on pixels; "
    f"on latents {calls * latents_cost / 1e9:.1f}, and {decoding / 1e9:.1f} to decode"
)

# %% [markdown]
# The ratio is a little above 16, the share of the attention. Decoding happens once, whatever the number of steps.
# Latent diffusion (Rombach et al., [arXiv 2112.10752](https://arxiv.org/abs/2112.10752)) is lessons 01 to 08 with this one change. All that is new is the way there and back.

# %% [markdown]
# ## By hand, one number
#
# Let the picture be one number, $x = 1$, and the latent one number too.
#
# - The **encoder** does not answer with a latent but with a Gaussian over latents, $q(z \mid x) = N(m, v)$. Say it answers $m = 0.866\,x$ and $v = 0.25$.
# - A **latent** is drawn: $z = m + \sqrt v\,\epsilon$. With $\epsilon = 0.404$ it is $0.866 + 0.5 \cdot 0.404 = 1.068$.
# - The **decoder** answers with a number, $y = 0.866\,z = 0.925$. The error is $e = x - y = 0.075$.
# - The **rate** is how far $q$ is from $N(0, 1)$: $\frac12(m^2 + v - 1 - \log v) = \frac12(0.75 + 0.25 - 1 + 1.386) = 0.693$ nats, which is 1 bit.
# - The **loss** with weight $w = 0.5$ is $|e| + e^2 + w \cdot \text{rate} = 0.075 + 0.006 + 0.347 = 0.427$.
#
# The package's function takes any network with `encode` and `decode`. Give it this one.

# %%
from types import SimpleNamespace

from diffusion_course import autoencoder_loss


class OneNumber(torch.nn.Module):
    def encode(self, x):
        return SimpleNamespace(
            latent_dist=SimpleNamespace(
                mean=0.75**0.5 * x, logvar=torch.full_like(x, 0.25).log()
            )
        )

    def decode(self, z):
        return SimpleNamespace(sample=0.75**0.5 * z)


loss = autoencoder_loss(
    OneNumber(), torch.ones(1, 1, 1, 1), kl_weight=0.5, generator=make_generator(214)
)
print(", ".join(f"{name} {value:.3f}" for name, value in loss._asdict().items()))

# %% [markdown]
# ## The derivation
#
# Why this sum, and why does the encoder answer with a distribution? Suppose pictures are made in two steps: a latent is drawn from the prior $p(z) = N(0, I)$, then a picture from the decoder's $p(x \mid z)$. We want $\log p(x)$ large for the pictures that we have.
#
# **Line 1.** $p(x)$ is an integral over all latents, and nearly all of them have nothing to do with $x$. So bring in a $q(z \mid x)$ that looks in the right place, by multiplying and dividing:
#
# $$\log p(x) = \log \int q(z \mid x)\,\frac{p(z)\,p(x \mid z)}{q(z \mid x)}\,dz$$
#
# **Line 2.** The logarithm of a mean is at least the mean of the logarithm (Jensen):
#
# $$\log p(x) \ge \mathbb{E}_{q(z \mid x)}\big[\log p(x \mid z)\big] - \mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big) \tag{09.1}$$
#
# This is eq. 3 of Kingma & Welling ([arXiv 1312.6114](https://arxiv.org/abs/1312.6114)). You have met it: lesson 03's bound is the same line with $z = (x_1, \dots, x_T)$. There $q$ was fixed, it added noise. Here $q$ is learned.
#
# **Line 3.** The decoder's network answers with a picture $y(z)$. To get a density, say how likely errors $e = x - y(z)$ are. Let each of the $D$ numbers of the picture err on its own, with
#
# $$p(x_i \mid z) = \frac{1}{Z(w)}\exp\left(-\frac{|e_i| + e_i^2}{w}\right) \tag{09.2}$$
#
# The square alone is a Gaussian of variance $w/2$, the absolute value alone a Laplace distribution; the product of both has some constant $Z(w)$ that no network changes.
#
# **Line 4.** Put (09.2) into (09.1), take one draw $z$ for the expectation, change the sign, and multiply by $w/D$:
#
# $$L = \frac1D \sum_{i=1}^D \big(|e_i| + e_i^2\big) + \frac{w}{D}\,\mathrm{KL}\big(q(z \mid x)\,\|\,N(0, I)\big) \tag{09.3}$$
#
# So the weight $w$ is no free choice of taste: it says how large an error the decoder calls normal. Small $w$ means that small errors matter, and that latents may cost many bits.
#
# **Line 5.** The KL. For one number $\log q(z) - \log p(z) = -\frac12 \log v - \frac{(z-m)^2}{2v} + \frac{z^2}{2}$. Its mean over $z$ from $q$ needs $\mathbb{E}(z-m)^2 = v$ and $\mathbb{E} z^2 = m^2 + v$:
#
# $$\mathrm{KL}\big(N(m, v)\,\|\,N(0, 1)\big) = \tfrac12\left(m^2 + v - 1 - \log v\right) \tag{09.4}$$
#
# Independent numbers add up. The encoder's network answers with $m$ and $\log v$ for each latent, so that any output is allowed.

# %% [markdown]
# **Check of (09.4)** by two other routes: torch's own distributions, and a mean over a million draws.

# %%
from torch.distributions import Normal, kl_divergence

from diffusion_course import gaussian_kl

zero = torch.zeros((), dtype=torch.float64)
m = torch.tensor([0.0, 0.866, -1.5, 3.0]).double()
log_v = torch.tensor([0.0, -1.386, 1.0, -6.0]).double()
q, p = Normal(m, (0.5 * log_v).exp()), Normal(zero, zero + 1)
z = q.mean + q.stddev * torch.randn(
    1_000_000, 4, generator=generator, dtype=torch.float64
)
assert_close(gaussian_kl(m, log_v, zero, zero), kl_divergence(q, p))
assert_close(
    gaussian_kl(m, log_v, zero, zero),
    (q.log_prob(z) - p.log_prob(z)).mean(0), rtol=0.01, atol=0.003,
)
print("nats:", [f"{value:.3f}" for value in gaussian_kl(m, log_v, zero, zero)])

# %% [markdown]
# The check can fail. Turn the sign of the logarithm, the commonest slip here:

# %%
try:
    assert_close(0.5 * (m**2 + log_v.exp() - 1 + log_v), kl_divergence(q, p))
except AssertionError as error:
    print(str(error).splitlines()[2])

# %% [markdown]
# **Check of (09.1)**, on the one number. With $p(x \mid z) = N(bz, w/2)$, the squared part alone, $p(x)$ is an integral over one variable. Do it numerically, and compare with the bound for four encoders.

# %%
b, w, x = 0.75**0.5, 0.5, 1.0
grid = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
likelihood = Normal(b * grid, (w / 2) ** 0.5).log_prob(torch.tensor(x).double())
evidence = torch.trapezoid((p.log_prob(grid) + likelihood).exp(), grid)
print(f"-log p(x) by integration: {-evidence.log():.4f}")
for mean, v in ((0.0, 1.0), (1.0, 0.05), (0.866, 0.1), (0.8660254, 0.25)):
    # -E log N(bz, w/2), z from N(mean, v)
    error = ((x - b * mean) ** 2 + b**2 * v) / w + 0.5 * math.log(math.pi * w)
    bound = error + gaussian_kl(
        torch.tensor(mean).double(), torch.tensor(v).double().log(), zero, zero
    )
    assert bound > -evidence.log() - 1e-6
    print(
        f"encoder N({mean:.3f}, {v:.2f}): error {error:.3f} + rate "
        f"{bound - error:.3f} = {bound:.4f}"
    )

# %% [markdown]
# Whatever the encoder answers, it never gets below. The last one touches: it is the exact posterior, and the gap in Jensen's line is gone.
# These are the package's lines. They work on the whole batch and return the parts as well as the sum.

# %%
from diffusion_course import show_source

show_source(autoencoder_loss)

# %% [markdown]
# ## A draw that gradients pass
#
# The loss contains a random $z$ whose distribution depends on the encoder's weights. How does a gradient get through a draw? By drawing first and then shifting and stretching:
#
# $$z = m + \sqrt v\,\epsilon, \qquad \epsilon \sim N(0, I) \tag{09.5}$$
#
# Now $z$ is a function of $m$ and $v$, and $\epsilon$ does not depend on anything. This is the reparameterisation of Kingma & Welling, section 2.4, and it is lesson 02's $q$ once more.
#
# **Check** against an exact gradient, and against the older way, which needs no derivative of $f$: $\nabla\,\mathbb{E} f(z) = \mathbb{E}\,[f(z)\,\nabla \log q(z)]$. Take $f(z) = z^2$, so that $\mathbb{E} f = m^2 + v$ and the gradients for $m$ and $\log v$ are $2m$ and $v$.

# %%
m = torch.full((4000,), 0.866, requires_grad=True)
log_v = torch.full((4000,), 0.25).log().requires_grad_()
noise = torch.randn(4000, generator=make_generator(1))
z = m + (0.5 * log_v).exp() * noise
through = torch.autograd.grad((z**2).sum(), (m, log_v))
score = torch.autograd.grad(
    (z.detach() ** 2 * Normal(m, (0.5 * log_v).exp()).log_prob(z.detach())).sum(),
    (m, log_v),
)
for name, exact, one, other in zip(
    ("m", "log v"), (2 * 0.866, 0.25), through, score, strict=True
):
    assert abs(one.mean() - exact) < 0.05 and abs(other.mean() - exact) < 0.25
    print(
        f"{name:5s} exact {exact:.3f}; through the draw {one.mean():.2f} +- "
        f"{one.std():.2f}; by the score {other.mean():.2f} +- {other.std():.2f}"
    )

# %% [markdown]
# Both are right on average. A gradient through the draw knows the slope of $f$ and varies far less from draw to draw, which is what makes the training below possible.

# %% [markdown]
# ## The smallest autoencoder, solved
#
# What does the best autoencoder look like? For one Gaussian number and linear networks it can be computed. Let $x \sim N(0, \tau^2)$, $q(z \mid x) = N(ax, v)$, $y = bz$, and take the squared error alone. Averaged over data and draws, (09.3) is
#
# $$(1 - ab)^2 \tau^2 + b^2 v + \tfrac w2\left(a^2\tau^2 + v - 1 - \log v\right)$$
#
# Set the three derivatives to zero, one after the other.
#
# - By $v$: $b^2 + \frac w2 - \frac{w}{2v} = 0$, so $v = \dfrac{w}{w + 2b^2}$.
# - By $a$: $-2b(1 - ab) + wa = 0$, so $a = \dfrac{2b}{w + 2b^2}$. Then $1 - ab = \dfrac{w}{w + 2b^2} = v$.
# - By $b$: $-a(1 - ab)\tau^2 + bv = 0$. With $1 - ab = v$ this is $b = a\tau^2$. Put $a$ in: $w + 2b^2 = 2\tau^2$.
#
# $$b^2 = \tau^2 - \tfrac w2, \qquad a = \frac{b}{\tau^2}, \qquad v = \frac{w}{2\tau^2} \tag{09.6}$$
#
# What error is left, and what does the latent cost? The error is $v^2\tau^2 + b^2 v = v\,(v\tau^2 + b^2) = v\tau^2$. In the rate, $a^2\tau^2 = b^2/\tau^2 = 1 - v$, so only the logarithm remains:
#
# $$\text{distortion } \Delta = \frac w2, \qquad \text{rate } = \frac12 \log\frac{\tau^2}{\Delta} \tag{09.7}$$
#
# The right side is Shannon's rate-distortion function of a Gaussian (Cover & Thomas, *Elements of Information Theory*, 2nd edition, chapter 10): no code of any kind, however clever, gets a smaller error from as many bits. A bit more makes the error four times smaller, $6.02$ dB.
# If $\tau^2 \le w/2$, there is no $b$ in (09.6): then $b = 0$, $v = 1$, and the number is dropped at no cost.
#
# The numbers by hand were this optimum for $\tau^2 = 1$, $w = 0.5$: one bit.
#
# **Check by training.** Four numbers with variances 4, 1, 1/4 and 1/16, mixed up by a random rotation, linear networks that start anywhere, $w = 0.2$.

# %% tags=["nbval-ignore-output"]
tau2, w = torch.tensor([4.0, 1.0, 0.25, 0.0625]), 0.2
torch.manual_seed(1)
rotation = torch.linalg.qr(torch.randn(4, 4)).Q
encoder = torch.nn.Linear(4, 4, bias=False)
decoder = torch.nn.Linear(4, 4, bias=False)
log_v = torch.nn.Parameter(torch.zeros(4))
optimizer = torch.optim.Adam(
    [*encoder.parameters(), *decoder.parameters(), log_v], 0.02
)
for step in range(1500):
    optimizer.param_groups[0]["lr"] = 0.02 * (1 - step / 1500)
    x = torch.randn(1024, 4) * tau2.sqrt() @ rotation.T
    z = encoder(x) + (0.5 * log_v).exp() * torch.randn(1024, 4)
    # nats of each latent
    rate = gaussian_kl(encoder(x), log_v, zero.float(), zero.float()).mean(0)
    (((x - decoder(z)) ** 2).sum(1).mean() + w * rate.sum()).backward()
    optimizer.step(), optimizer.zero_grad()

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    x = torch.randn(200_000, 4) * tau2.sqrt() @ rotation.T
    z = encoder(x) + (0.5 * log_v).exp() * torch.randn(200_000, 4)
    # of each number, turned back
    distortion = ((x - decoder(z)) @ rotation).square().mean(0)
    rate = gaussian_kl(encoder(x), log_v, zero.float(), zero.float()).mean(0)
    rate = rate.sort(descending=True).values / math.log(2)  # in bits
best = tau2.clamp(max=w / 2)
print(
    "distortion", [f"{d:.3f}" for d in distortion], "formula",
    [f"{d:.3f}" for d in best],
)
print(
    "bits      ", [f"{r:.2f}" for r in rate], "formula",
    [f"{r:.2f}" for r in 0.5 * (tau2 / best).log2()],
)
assert_close(distortion, best, rtol=0.05, atol=0.0)
assert_close(rate, 0.5 * (tau2 / best).log2(), rtol=0.05, atol=0.03)

# %% [markdown]
# Gradient descent finds the directions, accepts the same error $w/2$ in each that is worth coding, and switches the fourth latent off. That is *posterior collapse*, and here it is the right thing to do.
#
# One more thing follows from (09.6). The latent of a random $x$ has variance $a^2\tau^2 + v = 1$: over all data, latents are exactly $N(0, 1)$. So drawing $z$ from $N(0, 1)$ and decoding it, with its noise, gives back the data. Remember this when you see what the deep one does.

# %% [markdown]
# ## Train one in front of you
#
# diffusers' `AutoencoderKL`: convolutions and residual blocks down to a quarter of the side, the same upwards, about a million weights. For the length of a minute the pictures have 32 pixels a side.

# %%
from diffusers import AutoencoderKL

torch.manual_seed(0)
# untrained, with the shipped one's architecture
small = AutoencoderKL.from_config({**vae.config, "sample_size": 32})
training_set = render_scenes(
    sample_scenes(4096, generator=generator), size=32, generator=generator
)
fresh = render_scenes(codes[:64], size=32, generator=generator)
print(
    f"{sum(p.numel() for p in small.parameters()):,} weights; {fresh[0].numel():,} "
    f"numbers become {small.encode(fresh[:1]).latent_dist.mean.numel()}"
)

# %% tags=["nbval-ignore-output"]
from diffusion_course import Progress

num_steps, history = 250, []
optimizer = torch.optim.AdamW(small.parameters(), 2e-3)
schedule = torch.optim.lr_scheduler.OneCycleLR(
    optimizer, 2e-3, num_steps, pct_start=0.1
)
with Progress(num_steps, "training") as bar:
    for step in range(num_steps):
        chosen = torch.randint(len(training_set), (16,), generator=generator)
        batch = training_set[chosen]
        loss = autoencoder_loss(small, batch, generator=generator)
        optimizer.zero_grad(), loss.total.backward()
        optimizer.step(), schedule.step()
        history.append([part.item() for part in loss])
        bar.update(message=f"loss {history[-1][0]:.3f}")

# %% tags=["nbval-ignore-output"]
total, absolute, squared, kl = torch.tensor(history).T
fig = plotting.loss_curve(total, title="A minute of training", window=25)
show(fig, alt=(
    "The loss falls steeply in the first hundred steps, then slowly until the end."
))

# %% [markdown]
# The two parts move against each other. While the error falls, the rate rises: the network finds out which bits are worth paying for. (`kl` is counted for each number of the picture; there are six to a latent.)

# %% tags=["nbval-ignore-output"]
steps = torch.arange(num_steps)[24:]
smooth = {
    "bits for each latent": kl.unfold(0, 25, 1).mean(-1) * 6 / math.log(2),
    "quality in dB": 10 * (4 / squared.unfold(0, 25, 1).mean(-1)).log10(),
}
fig = plotting.lines(
    steps, smooth,
    xlabel="training step", ylabel="bits, dB", title="A smaller error costs bits",
)
show(fig, alt=(
    "Two curves over training steps. The quality in decibels rises. "
    "The bits spent on each latent rise too, fast at first, and then level off."
))

# %% tags=["nbval-ignore-output"]
small.eval()
with torch.no_grad():
    redrawn = small.decode(small.encode(fresh).latent_dist.mean).sample.clamp(-1, 1)
fig = plotting.image_strip(
    [fresh[:8], redrawn[:8]], row_labels=["scene", f"{num_steps} steps"],
    title="After a minute: shapes and settings, hardly a colour of a thing",
)
show(fig, alt=(
    "Upper row: eight scenes of 32 pixels. Lower row: the same scenes, blurred. "
    "Shapes and settings can be told; the things are all brown or grey."
))
print(f"{psnr(redrawn, fresh).mean():.1f} dB on scenes it has not seen")

# %% [markdown]
# Blur is what (09.2) asks for: where an edge could be here or there, a value in between costs least. Real systems add a perceptual term and a discriminator against it (arXiv 2112.10752, section 3.1). On scenes, patience does as well.
# The shipped autoencoder is the same network, trained longer on pictures of 64 pixels by this command:

# %% tags=["nbval-ignore-output"]
from diffusion_course import shipped_files

print(shipped_files()["mini-stable-diffusion/vae"].made_by["command"])

# %% [markdown]
# ## What is lost
#
# The usual measure is the peak signal-to-noise ratio. The range from black to white is 2, so
#
# $$\mathrm{PSNR} = 10 \log_{10} \frac{2^2}{\text{mean squared error}} \tag{09.8}$$
#
# You have used it above; by hand it is one line. Which scenes suffer most? To find out, draw the same scenes several times with one attribute changed and everything else, chance included, as it was.

# %%
first, second = pictures[0], rebuilt[0]
print(
    f"by hand {10 * math.log10(4 / ((first - second) ** 2).mean()):.2f} dB, "
    f"package {psnr(rebuilt[:1], pictures[:1]).item():.2f} dB"
)


def quality(column, value, n=24):
    changed = sample_scenes(n, generator=make_generator(2), things=1)
    changed[:, column] = value
    x = render_scenes(changed, generator=make_generator(3))
    with torch.no_grad():
        return psnr(
            vae.decode(vae.encode(x).latent_dist.mean).sample.clamp(-1, 1), x
        ).mean()


# %%
print(
    "pattern:",
    {
        name: f"{quality(4, i):.1f} dB"
        for i, name in enumerate(("plain", "striped", "dotted"))
    },
)
print(
    "setting:",
    {
        name: f"{quality(1, i):.1f} dB"
        for i, name in enumerate((
            "paper", "night", "meadow", "sea", "desert", "snow", "sunset", "rain"
        ))
    },
)

# %%
worst = psnr(rebuilt, pictures).argsort()[:8]
difference = (3 * (rebuilt - pictures)[worst]).clamp(-1, 1)
fig = plotting.image_strip(
    [pictures[worst], rebuilt[worst], difference],
    row_labels=["scene", "rebuilt", "3 x difference"],
    title="The eight worst of 256: what goes wrong is small",
)
show(fig, alt=(
    "Three rows of eight scenes: originals, reconstructions, and three times their "
    "difference on grey. The differences are thin coloured lines along edges and "
    "outlines, and inside striped and dotted things."
))

# %% [markdown]
# What is lost is fine: stripes, dots, raindrops, the outline's last pixel. Say it in frequencies. Split picture and error into waves, and compare their powers for each number of waves across the picture.

# %%
def power(x):  # (N, C, 64, 64) -> (33,) mean power at 0..32 waves across the picture
    spectrum = torch.fft.fft2(x, norm="ortho").abs().square().mean((0, 1))
    waves = torch.fft.fftfreq(64, 1 / 64)
    radius = torch.hypot(waves[:, None], waves[None]).round().long().clamp(max=33)
    sums = torch.zeros(34).index_add_(0, radius.flatten(), spectrum.flatten())
    return sums[:33] / torch.bincount(radius.flatten())[:33]


shares = {
    name: power(x - pictures) / power(pictures)
    for name, x in (("latents", rebuilt), ("2,028 numbers", enlarged))
}
fig = plotting.lines(
    torch.arange(33), shares,
    xlabel="waves across the picture", ylabel="share of power lost", logy=True,
    title="The finer the structure, the more of it is lost",
)
show(fig, alt=(
    "Share of power lost against the number of waves across the picture, "
    "on a logarithmic scale. Both curves rise. "
    "Up to about 7 waves shrinking loses less; beyond 13 it loses nearly everything, "
    "where the autoencoder still keeps most of the power."
))

# %% [markdown]
# A picture of 26 pixels a side holds 13 waves; beyond, shrinking loses nearly everything. The autoencoder goes on.
# For coarse structure, on the left, shrinking is even the more exact of the two, by errors of one in a thousand that nobody sees. The autoencoder errs a little everywhere instead of much at the fine end.
# For scale: the table of the latent diffusion paper (appendix D.2, table 8) gives 24.2 dB on photographs for $f = 8$ and 4 channels, the shape of Stable Diffusion's latents: one number for 48 of the picture.

# %% [markdown]
# ## What latents look like
#
# The channels of a latent picture are no colours, but each is still a picture: each latent describes the pixels around its place.

# %%
# (4, C, 16, 16)
shown = posterior.mean[:4] / (2.5 * posterior.mean.std((0, 2, 3), keepdim=True))
# (4, C, 3, 64, 64)
grey = F.interpolate(shown.clamp(-1, 1), scale_factor=4.0)[:, :, None].expand(
    -1, -1, 3, -1, -1
)
rows = [torch.cat([pictures[i : i + 1], grey[i]]) for i in range(4)]
fig = plotting.image_strip(
    rows, column_labels=["scene", *range(shown.shape[1])],
    title="The scene can be made out in every channel",
)
show(fig, alt=(
    "Four rows, each with a scene and its latent channels as coarse grey pictures. "
    "The things can be made out in every channel; some channels follow "
    "brightness, others edges."
))

# %% [markdown]
# How far does one latent reach? Change one in the middle by one standard deviation and see which pixels answer.

# %%
nudged = posterior.mean[:32].clone()
nudged[:, :, 8, 8] += posterior.mean.std((0, 2, 3))
with torch.no_grad():
    # (64, 64)
    answer = (
        vae.decode(nudged).sample - vae.decode(posterior.mean[:32]).sample
    ).square().mean((0, 1))
for reach in (4, 12, 20, 28):
    low, high = 34 - reach // 2, 34 + reach // 2
    print(
        f"{reach:2d} x {reach:2d} pixels around it hold "
        f"{answer[low:high, low:high].sum() / answer.sum():.0%} of the change"
    )

# %% [markdown]
# ## Rate against distortion, measured
#
# (09.7) was for one number. How many bits does a picture need here? Round each latent to a multiple of a step $\delta$, decode what is left, and count bits: the entropy of the rounded values, each channel by itself. That is what a simple entropy coder would need.
# A step of $\delta$ makes errors between $-\delta/2$ and $\delta/2$, of variance $\delta^2/12$. So beside it we add Gaussian noise of that variance: it should do as much harm.

# %%
def bits_per_picture(symbols):  # (N, C, 16, 16) whole numbers
    counts = [
        channel.unique(return_counts=True)[1].double()
        for channel in symbols.transpose(0, 1)
    ]
    return sum(
        256 * -(share * share.log2()).sum().item()
        for share in (c / c.sum() for c in counts)
    )


# %%
x, mean, spread = pictures[:32], posterior.mean[:32], posterior.mean.std()
noise, table = torch.randn(mean.shape, generator=make_generator(4)), []
with torch.no_grad():
    for step in 2.0 ** torch.arange(1, -6, -1):
        rounded = (mean / (step * spread)).round()
        made = [
            vae.decode(y).sample.clamp(-1, 1)
            for y in (rounded * step * spread, mean + step * spread / 12**0.5 * noise)
        ]
        table.append((
            step.item(), bits_per_picture(rounded),
            *(psnr(y, x).mean().item() for y in made),
            psnr(made[0], rebuilt[:32]).mean().item(),
        ))

# %%
print(
    "step / std | bits a picture | rounded | as much noise | rounded "
    "against not rounded"
)
for step, bits, rounded, noised, against in table:
    print(
        f"{step:10.3f} | {bits:14.0f} | {rounded:4.1f} dB |     {noised:4.1f} dB   | "
        f"{against:5.1f} dB"
    )

# %%
bits = torch.tensor([row[1] for row in table])
quality_db = torch.tensor([row[2] for row in table])
line = quality_db[1] + 6.02 * (bits - bits[1]) / mean[0].numel()
fig = plotting.lines(
    bits, {"measured": quality_db, "6.02 dB a bit": line.where(line < 45, torch.nan)},
    xlabel="bits for a picture", ylabel="PSNR in dB",
    title="First each bit pays, then the decoder itself is the limit",
)
show(fig, alt=(
    "PSNR against bits for a picture. The measured curve rises like the line of 6.02 "
    "decibels for each bit and latent at first, then flattens at the quality of the "
    "autoencoder without rounding."
))

# %% [markdown]
# Read the last column of the table downwards: each halving of the step is one more bit for each latent, and where steps are small it gains about 6 dB, as (09.7) says. The quality against the scene itself stops rising earlier, where the rounding no longer matters beside the autoencoder's own error.
#
# So latents need not be exact. A step of half a deviation is noise of $0.5/\sqrt{12} = 0.14$ deviations, and costs about 2 dB. A diffusion model that comes as close as that has done enough.
#
# What did training pay? Its KL, in bits, is what this encoder's Gaussians carry:

# %%
with torch.no_grad():
    loss = autoencoder_loss(vae, pictures[:64], generator=make_generator(5))
    nats = loss.kl.item() * pictures[0].numel()
print(
    f"{nats / math.log(2):,.0f} bits a picture, "
    f"{nats / math.log(2) / mean[0].numel():.1f} for each latent; 8-bit pixels: "
    f"{8 * pictures[0].numel():,} bits"
)
print(
    f"the encoder's own deviation is {posterior.std.mean() / posterior.mean.std():.4f} "
    "of the latents' deviation"
)

# %% [markdown]
# ## Between two pictures
#
# Half of one picture plus half of another is a double exposure. Is half of one *latent* plus half of another a scene in between? Look before you read on.

# %%
from diffusion_course.datasets.scenes import Scene, Thing, scene_to_code

ends = torch.stack([
    scene_to_code(Scene("one", "night", (Thing("moon", "yellow", "plain", "large"),))),
    scene_to_code(Scene("one", "meadow", (Thing("house", "red", "plain", "large"),))),
])
# (1, 3, 64, 64) each
one, other = render_scenes(ends, generator=make_generator(6)).split(1)
shares = torch.linspace(0, 1, 7).reshape(-1, 1, 1, 1)
with torch.no_grad():
    z_one, z_other = (vae.encode(x).latent_dist.mean for x in (one, other))
    mixed = {
        "pixels": torch.lerp(one, other, shares),
        "latents": vae.decode(torch.lerp(z_one, z_other, shares)).sample.clamp(-1, 1),
    }
fig = plotting.image_strip(
    list(mixed.values()),
    row_labels=list(mixed), column_labels=[f"{s:.2f}" for s in shares.flatten()],
    title="Mixed latents are a double exposure too, in odd colours",
)
show(fig, alt=(
    "Two rows of seven pictures from a yellow moon at night to a red house "
    "on a meadow. In both rows the moon fades out while the house fades in. "
    "In the row of latents the middle has patches of colour that neither picture has."
))

# %%
middle = mixed["latents"][3:4]
print(
    "half way, latents against pixels: "
    f"{psnr(middle, mixed['pixels'][3:4]).item():.1f} dB; one end against the other: "
    f"{psnr(one, other).item():.1f} dB"
)

# %% [markdown]
# No scene in between, and half way even colours that neither end has: the decoder has never seen such latents. These latents are a small picture: each says what is in its own corner, and mixing them mixes corner by corner.
# You may have seen faces turn into each other "in latent space". There one vector stood for a whole face, and a generative network had learned what lies between two of them. This autoencoder is a format, like JPEG, and knows nothing of the kind. Lesson 11 interpolates the noise that a diffusion model starts from instead.

# %% [markdown]
# ## Why not decode noise?
#
# The derivation supposed $p(z) = N(0, I)$. In the smallest autoencoder that came true. So draw latents from $N(0, I)$ and decode. And be generous: also draw them from the Gaussian with exactly the mean and covariance that latents of 256 scenes have, the whole matrix. (A random mix of centred samples, with weights $N(0, 1)/\sqrt N$, is such a draw.) And let the diffusion model of lesson 11 draw a few.

# %%
from diffusion_course import text_to_image

flat = posterior.mean.flatten(1)  # (256, C H W)
weights = torch.randn(8, 256, generator=make_generator(7)) / 256**0.5
fitted = flat.mean(0) + weights @ (flat - flat.mean(0))
fitted = fitted.unflatten(1, posterior.mean.shape[1:])
prior = torch.randn(fitted.shape, generator=make_generator(8))
wishes = [
    "a large red star at night", "a white boat on the sea",
    "a small blue fish above a green house", "a large orange cat in the snow",
    "a purple umbrella in the rain", "a pink flower on a meadow",
    "a green tree in the desert", "a yellow moon at sunset",
]
with torch.no_grad():
    rows = {
        "N(0, I)": vae.decode(prior).sample.clamp(-1, 1),
        "mean and covariance": vae.decode(fitted).sample.clamp(-1, 1),
    }
rows["diffusion"] = text_to_image(
    parts, wishes, num_inference_steps=15, generator=make_generator(9)
)

# %%
fig = plotting.image_strip(
    list(rows.values()),
    row_labels=list(rows), title="Only the last row knows what a scene is",
)
show(fig, alt=(
    "Three rows of eight pictures. Drawn from N(0, I): "
    "a mosaic of pink and green specks. Drawn with the right mean and covariance: "
    "clouds of colour over something like a ground, without any thing. "
    "Drawn by the diffusion model: a red star at night, a boat on the sea, a cat in "
    "the snow, a tree in the desert and four more, their outlines a little ragged."
))

# %% [markdown]
# Why does the promise of $N(0, I)$ not hold? The KL term has two parts. Write $q(z)$ for the distribution of latents over all pictures. Insert it into the average of $\log q(z \mid x) - \log p(z)$:
#
# $$\begin{aligned}
# \mathbb{E}_x\,\mathrm{KL}\big(q(z \mid x)\,\|\,p(z)\big)
# = {}&\underbrace{\mathbb{E}\,\log\frac{q(z \mid x)}{q(z)}}_{I(x;\,z),\text{ what latents tell about pictures}} \\
# &{} + \underbrace{\mathbb{E}\,\log\frac{q(z)}{p(z)}}_{\mathrm{KL}(q(z)\,\|\,p(z))}
# \end{aligned} \tag{09.9}$$
#
# Latents cannot tell more about a scene than there is to know. Our scenes are drawn by a program from ten integers and 32 random numbers of 24 bits each, so $I(x; z)$ is below 800 bits. The rest of the bill is the second term, the distance of real latents from $N(0, I)$:

# %%
choices = math.log2(4 * 8 * (14 * 10 * 3 * 2) ** 2)  # no more codes than that
known = choices + 32 * 24
print(
    f"KL paid: {nats / math.log(2):,.0f} bits; there is at most {known:.0f} to know; "
    f"so KL(q(z) || N(0, I)) is at least {nats / math.log(2) - known:,.0f} bits"
)

# %% [markdown]
# A draw from $N(0, I)$ spends all those bits on differences that no scene has. The weight $w$ is the price of a bit, and at the price that keeps pictures sharp the encoder can afford to waste them.
# A larger $w$ would push $q(z)$ towards $N(0, I)$, and pictures towards blur. That is the old trade of variational autoencoders.
#
# Latent diffusion does not make it. It keeps the format sharp, and learns $q(z)$ with the tool that you have: a diffusion model.
# The first row failed for having not even the covariance of latents, the second because $q(z)$ is no Gaussian at all.

# %% [markdown]
# ## The scaling factor
#
# The schedule of a diffusion model is made for data of standard deviation about 1. At a small weight nothing in an autoencoder promises that. So latents are multiplied by one over their standard deviation before the diffusion model sees them:
#
# $$\begin{gathered}
# s = \frac{1}{\hat\sigma}, \qquad \hat\sigma^2 = \frac{1}{BCHW}\sum_{b,c,h,w}\left(z_{bchw} - \hat\mu\right)^2, \\
# \hat\mu = \frac{1}{BCHW}\sum_{b,c,h,w} z_{bchw}
# \end{gathered} \tag{09.10}$$
#
# One number for all channels. This is the paper's definition (appendix G, "DM Training in Latent Space"); "from the first batch in the data", it says. Compute it, and compare with what the shipped model's configuration says.

# %%
from diffusion_course import latent_scaling

z = posterior.sample(generator=generator)
s = latent_scaling(z)
assert_close(
    torch.tensor(s), 1 / ((z - z.mean()) ** 2).mean().sqrt(), rtol=1e-4, atol=0.0
)
assert_close(s, vae.config.scaling_factor, rtol=0.05, atol=0.0)
batches = torch.tensor([latent_scaling(batch) for batch in z.split(16)])
print(
    f"from 256 scenes {s:.3f}; configuration {vae.config.scaling_factor:.5f}; "
    f"batches of 16 give {batches.min():.3f} to {batches.max():.3f}"
)

# %% [markdown]
# **0.18215.** That is this number for the autoencoder of Stable Diffusion 1: its latents have a standard deviation of $1/0.18215 = 5.49$. It is not a constant of nature and fits no other autoencoder. Its author's answer to "where does it come from": it ensures that the latent space on which the diffusion model operates has approximately unit variance, so that different autoencoders can be used with similar noise schedules
# ([huggingface/diffusers#437](https://github.com/huggingface/diffusers/issues/437)). If it came from one batch, as the paper says, only its first digits mean anything; you just saw how much batches differ. But once a diffusion model is trained with it, all five digits belong to the model.
# Stable Diffusion XL has 0.13025. So read `vae.config.scaling_factor` and never type the number.
#
# **What it is good for.** Multiply data by $c$ and its signal-to-noise ratio at every step is multiplied by $c^2$. Take the shipped model's schedule, and three kinds of data.

# %%
ratios = parts.schedule.snr
for name, deviation in (
    ("scaled latents", 1.0), ("our pixels", pictures.std().item()),
    ("Stable Diffusion's, unscaled", 1 / 0.18215),
):
    print(
        f"{name:28s} deviation {deviation:.2f}, signal-to-noise at the last step "
        f"{deviation**2 * ratios[-1]:.4f}"
    )
as_clean = int((ratios >= ratios[-1] / 0.18215**2).sum()) - 1
print(
    f"the last one is as clean at index 999 as scaled latents are at index {as_clean}"
)

# %% [markdown]
# Unscaled, training never shows the network anything noisier than that, and sampling still starts from pure noise: the gap of lesson 02 again.
# (Pixels err in the other direction. They are drowned a little earlier than the schedule means to.)

# %% [markdown]
# **Where it goes.** Multiply right after encoding, divide right before decoding. Everything between, noise, network and guidance, lives at deviation 1:
#
# $$z_t = \sqrt{\bar\alpha_t}\;s\,z + \sqrt{1 - \bar\alpha_t}\;\epsilon, \qquad y = \mathrm{decode}(z_t / s) \tag{09.11}$$
#
# The package's two functions hold both places, so that nobody else has to remember them:

# %%
from diffusion_course import decode_latents, encode_images

assert_close(
    decode_latents(parts, encode_images(parts, pictures[:4])),
    rebuilt[:4], rtol=0.0, atol=1e-4,
)
show_source(encode_images, decode_latents)

# %% [markdown]
# Look at a scene at noise level $t$, in pixels and in latents. Task: for each row find the largest $t$ at which you can still name the things. Compare with the signal-to-noise ratio; the pixels' is smaller by the square of their deviation.

# %%
from diffusion_course import Explorer, q_sample

abar, seen = parts.schedule.alphas_cumprod, pictures[:6]
noise_x = torch.randn(seen.shape, generator=make_generator(10))
noise_z = torch.randn(posterior.mean[:6].shape, generator=make_generator(11))

# %%
def noised(t):
    index = torch.full((6,), t)
    with torch.no_grad():
        decoded = vae.decode(
            q_sample(s * posterior.mean[:6], index, abar, noise_z) / s
        ).sample.clamp(-1, 1)
    alt = (
        f"Six scenes at index {t}, signal-to-noise ratio {ratios[t]:.3g}. "
        "Upper row: noise on pixels. Lower row: noise on latents, decoded."
    )
    title = f"The same schedule on pixels and on latents, t = {t}"
    return plotting.image_strip(
        [q_sample(seen, index, abar, noise_x), decoded],
        row_labels=["pixels", "latents"], title=title,
    ), alt


Explorer(noised, t=list(range(0, 1000, 37)), start={"t": 333}, ahead=True)

# %% [markdown]
# ## Where people go wrong
#
# ### The factor in the wrong place
#
# A popular repository of lessons divided *after* decoding; its author answered that his factor was close to 1, so it had no real effect ([PyTorch-Adventures#4](https://github.com/priyammaz/PyTorch-Adventures/issues/4)). Elsewhere one of two inputs kept the factor and the other lost it ([VDM_EVFI#4](https://github.com/codingrex/VDM_EVFI/issues/4)). Neither raises an error.
#
# To see the damage at Stable Diffusion's size, build an autoencoder that is ours with latents of deviation 5.49: stretch the last layer of the encoder, shrink the first layer of the decoder.

# %%
wide, stretch, sd = copy.deepcopy(vae), s / 0.18215, 0.18215
with torch.no_grad():
    # views: the first half of the outputs are means
    means, logarithms = wide.quant_conv.bias.chunk(2)
    wide.quant_conv.weight[: len(means)] *= stretch
    means *= stretch
    logarithms += 2 * math.log(stretch)  # of the variances
    wide.post_quant_conv.weight /= stretch
    z = wide.encode(pictures[:64]).latent_dist.mean
    assert_close(
        wide.decode(z).sample, vae.decode(posterior.mean[:64]).sample, rtol=1e-3,
        atol=1e-3,
    )
    stretched, plain = (
        autoencoder_loss(model, pictures[:64], generator=make_generator(5)).kl
        for model in (wide, vae)
    )
    more = stretched - plain
print(
    f"deviation {z.std():.2f}, the same pictures; the loss grows by {2e-3 * more:.5f} "
    f"at w = 2e-3, by {1e-6 * more:.7f} at the paper's 1e-6"
)

# %% [markdown]
# The last line is why the scale of latents is nearly arbitrary: at a small weight the KL hardly cares, so wherever training happened to stop is the scale. Now put the factor in four wrong places.

# %%
with torch.no_grad():
    scaled = sd * z  # what the diffusion model works with
    orders = {
        "right": wide.decode(scaled / sd).sample,
        "never divided": wide.decode(scaled).sample,
        "after decoding": wide.decode(scaled).sample / sd,
        "multiplied again": wide.decode(scaled * sd).sample,
        "never multiplied": wide.decode(z / sd).sample,
    }
for name, x in orders.items():
    print(f"{name:17s} {psnr(x.clamp(-1, 1), pictures[:64]).mean():5.1f} dB")
fig = plotting.image_strip(
    [x[:8] for x in orders.values()],
    row_labels=list(orders), title="Four wrong places for one factor",
)
show(fig, alt=(
    "Five rows of eight scenes. Right: the scenes. Never divided: dull pink and "
    "green with faint contours. After decoding: the same, glaring. Multiplied again: "
    "hardly a contour. Never multiplied: the right shapes, in partly wrong colours."
))

# %% [markdown]
# The last row is the treacherous one. The decoder normalises what it works on, so latents that are too large keep their shapes, and only some colours are off. One could ship that.

# %% [markdown]
# ### [0, 1] into a network for [-1, 1]
#
# The encoder was trained on $[-1, 1]$. Image loaders give $[0, 1]$. A training script of a video model sent those ([SVD_Xtend#16](https://github.com/pixeli99/SVD_Xtend/issues/16)). The autoencoder copies what it gets, so nothing looks broken:

# %%
with torch.no_grad():
    pale = (pictures[:64] + 1) / 2
    z_pale = vae.encode(pale).latent_dist.mean
    copied = vae.decode(z_pale).sample.clamp(-1, 1)
print(
    f"the pale pictures come back with {psnr(copied, pale).mean():.1f} dB; "
    f"they are {psnr(copied, pictures[:64]).mean():.1f} dB from the scenes"
)
shift = (z_pale - posterior.mean[:64]).square().mean().sqrt() / posterior.mean.std()
print(
    f"their latents: deviation {s * z_pale.std():.2f} instead of "
    f"{s * posterior.mean[:64].std():.2f}, {shift:.2f} deviations away "
    "from the right ones"
)

# %% [markdown]
# Their deviation does not give them away, their values do. A model trained on such latents draws pale pictures; one trained on the right ones gets inputs that it has never seen. Look at `images.min()` once: it has to be below 0.
#
# ### A draw or the mode
#
# `latent_dist.sample()` draws, `latent_dist.mode()` is the mean. Training the autoencoder needs draws, else the variance is never felt. The paper trains the diffusion model on draws too. For a reconstruction, or to store latents once and for all, take the mean (and the variance beside it). How much does it matter here?

# %%
with torch.no_grad():
    drawn = vae.decode(
        posterior.sample(generator=make_generator(12))[:64]
    ).sample.clamp(-1, 1)
print(
    f"decoded mean {psnr(rebuilt[:64], pictures[:64]).mean():.2f} dB, "
    f"decoded draw {psnr(drawn, pictures[:64]).mean():.2f} dB"
)
wrong = posterior.mean[:64] + posterior.logvar[:64] * torch.randn(
    z.shape, generator=make_generator(12)
)
with torch.no_grad():
    print(
        "with the logarithm as the deviation: "
        f"{psnr(vae.decode(wrong).sample.clamp(-1, 1), pictures[:64]).mean():.1f} dB"
    )

# %% [markdown]
# ### One weight, three meanings
#
# "KL weight 1e-6" means nothing without saying what is added up. In (09.3) error and KL are both divided by $D$, the numbers of a picture; latent diffusion's own code adds up both over the picture, which is the same weight
# ([`contperceptual.py`](https://github.com/CompVis/stable-diffusion/blob/main/ldm/modules/losses/contperceptual.py)). Code that averages the error over pixels but adds up the KL over latents, or averages each over its own numbers, has another one:

# %%
numbers, latents = pictures[0].numel(), posterior.mean[0].numel()
for name, factor in (
    ("both added up, or both divided by D", 1),
    ("each averaged over its own numbers", numbers / latents),
    ("error averaged, KL added up", numbers),
):
    print(f"{name:36s} 1e-6 there is {1e-6 * factor:.2g} here")

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("09.1")` helps in steps, `solution("09.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("09.1")

# %%
def draw_latents(mean, log_variance, noise):
    return mean + ...


check("09.1", draw_latents)

# %%
exercise("09.2")

# %%
def kl_to_standard_normal(mean, log_variance):
    per_number = ...
    return per_number.reshape(len(mean), -1).sum(1)


check("09.2", kl_to_standard_normal)

# %%
exercise("09.3")

# %%
bits = ...

check("09.3", bits)

# %%
exercise("09.4")

# %%
def decibels(images, references):
    error = ...
    return ...


check("09.4", decibels)

# %%
exercise("09.5")

# %%
def noised_picture(encode, decode, images, noise, factor, alpha_bar):
    ...


check("09.5", noised_picture)

# %%
exercise("09.6")

# %%
def scaling_factor(count, mean, variance):
    ...


check("09.6", scaling_factor)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | $q(z \mid x) = N(m, v)$ | `vae.encode(x).latent_dist`, with `mean` and `logvar` | (09.1) |
# | $y(z)$ | `vae.decode(z).sample` | (09.2) |
# | the loss and its parts, weight $w$ | `autoencoder_loss(vae, x, kl_weight=w)` | (09.3) |
# | KL of two Gaussians | `gaussian_kl` | (09.4) |
# | a draw $m + \sqrt v\,\epsilon$ | `latent_dist.sample(generator)` | (09.5) |
# | the error in decibels | `psnr` | (09.8) |
# | $s = 1/\hat\sigma$ | `latent_scaling`, `vae.config.scaling_factor` | (09.10) |
# | there and back, scaled | `encode_images`, `decode_latents` | (09.11) |
#
# You have a format in which pictures are small. What is missing is what tells the diffusion model which picture to draw. Lesson 10 turns words into vectors.
#
# To read next:
#
# - Kingma & Welling 2013, https://arxiv.org/abs/1312.6114: the bound and the draw. Their figure 4 decodes a grid of latents.
# - Rombach et al. 2021, https://arxiv.org/abs/2112.10752: latent diffusion. Appendix G is this lesson, appendix D.1 the scaling factor.
# - Alemi et al. 2018, https://arxiv.org/abs/1711.00464: rate and distortion of autoencoders, and why a good bound can mean bad latents.
