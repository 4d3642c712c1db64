# %% [markdown]
# # 11 · The pipeline, assembled
#
# After this lesson you can:
#
# - write text-to-image from its parts in under 25 lines, and show that it draws what diffusers' pipeline draws, number for number,
# - turn the same loop into image-to-image and into inpainting, and steer it away from something,
# - walk from one seed to another without passing through fog,
# - measure whether pictures show what the words say, also for pairs of words that no training picture had,
# - name six mistakes that raise no error, and the damage of each.
#
# You need: lessons 06, 08, 09 and 10.
#
# **Measured cost:** 2.9 min on 2 cores, 1.2 GB of memory at the peak.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
import torch
from torch.testing import assert_close

from diffusion_course import load_parts, make_generator, plotting, seed_everything, show

generator = seed_everything(0)
parts = load_parts()
print(parts)

# %% [markdown]
# ## Recall
#
# 1. From lesson 08: in $\epsilon_u + s\,(\epsilon_c - \epsilon_u)$, what do $s = 0$ and $s = 1$ draw?
# 2. From lesson 09: the scaling factor. Where is it multiplied, where divided?
# 3. From lesson 10: which shape does the U-Net read for a prompt of five words?
#
# <details><summary>Answers</summary>
#
# 1. $s = 0$ ignores the condition, $s = 1$ is the conditional model without guidance.
# 2. Multiplied after the encoder, divided before the decoder.
# 3. $(1, 32, 192)$, as for every other prompt: the text is padded to 32 tokens.
#
# </details>

# %% [markdown]
# ## Predict first
#
# The miniature learned from pictures of 14 kinds of things in 10 colours. Of the 140 pairs, 14 were held out: no training picture and no caption had them.

# %%
from diffusion_course.datasets.scenes import (
    COLOURS,
    HELD_OUT,
    KINDS,
    captions,
    parse_caption,
    render_scenes,
    sample_scenes,
)

print(
    "never seen:",
    ", ".join(f"{COLOURS[colour]} {KINDS[kind]}" for kind, colour in sorted(HELD_OUT)),
)

# %% [markdown]
# It has seen orange things and it has seen cats. Nobody ever showed it an orange cat.
#
# Below it draws 48 pictures for prompts of seen pairs, and 48 for prompts with a pair that it never saw. A picture counts as right if *everything* in it is as asked:
# what, colour, pattern, size and place of each thing, and the background. A network that reads scenes, the judge, looks at them.
# Which share of the second 48 will be right, compared with the first: about the same, somewhat lower (by 5 to 30 points), or far lower?

# %%
my_prediction = "far lower"  # "about the same", "somewhat lower" or "far lower"

# %%
from diffusion_course import load_pretrained, text_to_image
from diffusion_course.measures import faithful, read_scenes

judge = load_pretrained("judge")


def right_in_everything(pictures, prompts):
    # (N, 10), -1 where the prompt is silent
    asked = torch.stack([parse_caption(prompt) for prompt in prompts])
    return faithful(read_scenes(judge, pictures), asked)  # (N, 10)


# %% tags=["nbval-ignore-output"]
asked, prompts, drawn, right = {}, {}, {}, {}
for split in ("train", "held_out"):
    # (48, 10)
    asked[split] = sample_scenes(48, split=split, generator=make_generator(1))
    prompts[split] = captions(asked[split], generator=make_generator(2), complete=True)
    drawn[split] = text_to_image(
        parts, prompts[split], num_inference_steps=10, generator=make_generator(3)
    )
    right[split] = right_in_everything(drawn[split], prompts[split])
    print(f"{split:8s} {right[split].all(1).double().mean():.2f} right in everything")

# %% tags=["nbval-ignore-output"]
fall = (
    right["train"].all(1).double().mean() - right["held_out"].all(1).double().mean()
).item()
answer = (
    "about the same" if fall < 0.05
    else "somewhat lower" if fall <= 0.3
    else "far lower"
)
print(
    f"{100 * fall:.0f} points: {answer} "
    f"({'as you said' if my_prediction == answer else f'you said {my_prediction}'})"
)

# %%
fig = plotting.image_grid(
    drawn["held_out"][:16], columns=8,
    title="Each of these has a thing in a colour that it never had in training",
)
show(fig, alt=(
    "Two rows of eight drawn scenes, each with one or two things such as a fish, "
    "a house or a cat before a meadow, the sea, a night sky or another background."
))

# %% [markdown]
# You will measure this with error bars further down. First you build the machine that drew them.

# %% [markdown]
# ## The parts
#
# Four parts, all of them yours by now:
#
# | part | from | to | lesson |
# |---|---|---|---|
# | tokenizer and text encoder | a text | words $c$, (1, 32, 192) | 10 |
# | U-Net | noisy latents $x_t$ (B, 8, 16, 16), $t$, $c$ | $\hat v$, like $x_t$ | 05, 10 |
# | sampler | $x_t$, $\hat v$, two levels | $x$ at the next level | 06 |
# | decoder | latents (B, 8, 16, 16) | a picture (B, 3, 64, 64) | 09 |
#
# This U-Net predicts $v = \sqrt{\bar\alpha}\,\epsilon - \sqrt{1-\bar\alpha}\,x_0$ (lesson 03). Here $x_0$ are the clean, scaled latents of a picture.
#
# ## One number, by hand
#
# Take a single latent at a single step. Its value is $x = 1.2$ at a level with $\bar\alpha = 0.36$; the next level has $\bar\alpha' = 0.64$.
# The U-Net says $v_u = 0.5$ without the prompt and $v_c = 0.7$ with it, and $s = 4$.
#
# **Guidance** (08.5). Everything that a network may predict is linear in $x_0$ and $\epsilon$, so it works on $v$:
#
# $$\hat v = v_u + s\,(v_c - v_u) = 0.5 + 4 \cdot 0.2 = 1.3 \tag{11.1}$$
#
# **Reading.** Solve $x = \sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\epsilon$ and the definition of $v$ for the two unknowns. With $\sqrt{0.36} = 0.6$ and $\sqrt{0.64} = 0.8$:
#
# $$\begin{aligned}
# \hat x_0 &= \sqrt{\bar\alpha}\,x - \sqrt{1-\bar\alpha}\,\hat v = 0.72 - 1.04 = -0.32, \\
# \hat\epsilon &= \sqrt{1-\bar\alpha}\,x + \sqrt{\bar\alpha}\,\hat v = 0.96 + 0.78 = 1.74
# \end{aligned} \tag{11.2}$$
#
# **Step** (DDIM, lesson 06). Keep both, change their shares:
#
# $$x' = \sqrt{\bar\alpha'}\,\hat x_0 + \sqrt{1-\bar\alpha'}\,\hat\epsilon = 0.8 \cdot (-0.32) + 0.6 \cdot 1.74 = 0.788 \tag{11.3}$$
#
# The package's functions on the same numbers:

# %%
from diffusion_course import ClassifierFreeGuidance, ddim_step, make_denoise
from diffusion_course.sampling import Level, Transition

guided = ClassifierFreeGuidance(
    lambda xt, t, cond: 0.5 + 0.2 * cond[:, None].double(), 4.0, null_cond=0
)
denoise = make_denoise(guided, cond=torch.tensor([1]), prediction_type="v_prediction")
move = Transition(Level(500, 0.36), Level(400, 0.64))
step = ddim_step(denoise, torch.tensor([[1.2]]).double(), move)
print(
    f"x0 {step.estimate.x0.item():.3f}, noise {step.estimate.noise.item():.3f}, "
    f"next {step.x_prev.item():.3f}"
)

# %% [markdown]
# ## Fifteen lines
#
# The whole pipeline. First words, padded to the length that the text encoder knows:

# %%
from diffusion_course import inference_timesteps


def words_of(texts):
    length = parts.tokenizer.model_max_length  # 32
    # (B, 32)
    ids = parts.tokenizer(
        texts, padding="max_length", truncation=True,
        max_length=length, return_tensors="pt",
    ).input_ids
    return parts.text_encoder(ids).last_hidden_state  # (B, 32, 192)


# %% [markdown]
# Then the loop. Every line is one of the equations above, and the last one undoes the scaling:
#
# $$y = \mathrm{decode}(x_0 / f) \tag{11.4}$$

# %%
@torch.no_grad()
def draw_by_hand(texts, noise, s=4.0, steps=20, nothing=""):
    # (2B, 32, 192)
    words = torch.cat([words_of([nothing] * len(texts)), words_of(texts)])
    times = inference_timesteps(1000, steps, "trailing").tolist()
    levels = [*parts.schedule.alphas_cumprod[times].tolist(), 1.0]
    x = noise  # (B, 8, 16, 16)
    for t, now, then in zip(times, levels[:-1], levels[1:], strict=True):
        v_u, v_c = parts.unet(
            torch.cat([x, x]), t, encoder_hidden_states=words
        ).sample.chunk(2)
        v = v_u + s * (v_c - v_u)  # (11.1)
        # (11.2)
        x0 = now**0.5 * x - (1 - now) ** 0.5 * v
        eps = (1 - now) ** 0.5 * x + now**0.5 * v
        x = then**0.5 * x0 + (1 - then) ** 0.5 * eps  # (11.3)
    # (11.4)
    return parts.vae.decode(x / parts.vae.config.scaling_factor).sample.clamp(-1, 1)


# %%
SIGHTS = [
    "a large red star at night", "a small blue fish above a large white house at sea",
    "a white boat to the left of a pink heart on the sea",
    "a large striped green ball on a meadow",
    "a black cat in the snow", "a large purple umbrella in the rain",
    "a small orange moon over a brown tree at sunset",
    "a large dotted red mushroom on a meadow",
]
# (8, 8, 16, 16)
noise = torch.randn(8, *parts.latent_shape(), generator=make_generator(4))
by_hand = draw_by_hand(SIGHTS, noise)
fig = plotting.image_grid(
    by_hand, columns=4, scale=1.4, title="Drawn by the lines above"
)
show(fig, alt=(
    "Eight drawn scenes: a red star at night, a blue fish above a white house, a boat "
    "beside a heart on the sea, a striped ball on a meadow, a black cat in the snow, "
    "a purple umbrella in the rain, a moon over a tree, a dotted mushroom."
))

# %% [markdown]
# ## Check: somebody else's pipeline
#
# The same four parts inside diffusers' `StableDiffusionPipeline`, which was written by other people and shares no line with yours. Same prompts, same noise, its own DDIM scheduler.

# %%
from diffusers import DDIMScheduler, StableDiffusionPipeline

from diffusion_course.files import data_dir

scheduler = DDIMScheduler.from_pretrained(
    data_dir() / "mini-stable-diffusion" / "scheduler"
)
components = {
    "vae": parts.vae,
    "unet": parts.unet,
    "text_encoder": parts.text_encoder,
    "tokenizer": parts.tokenizer,
    "scheduler": scheduler,
    "safety_checker": None,
    "feature_extractor": None,
}
theirs = StableDiffusionPipeline(**components, requires_safety_checker=False)
theirs.set_progress_bar_config(disable=True)

# %%
# in [0, 1]
expected = theirs(
    SIGHTS, latents=noise.clone(), guidance_scale=4.0,
    num_inference_steps=20, output_type="pt",
).images
assert_close(by_hand / 2 + 0.5, expected, rtol=0, atol=1e-5)
print("no pixel differs by more than 1e-5, of a range from 0 to 1")

# %% [markdown]
# The check can fail. Ask diffusers for the same picture with the times spaced as its "leading" rule says, which starts at $t = 951$ in place of 999 (lesson 06):

# %%
theirs.scheduler = DDIMScheduler.from_config(
    scheduler.config, timestep_spacing="leading"
)
other = theirs(
    SIGHTS, latents=noise.clone(), guidance_scale=4.0,
    num_inference_steps=20, output_type="pt",
).images
theirs.scheduler = scheduler
print(f"another spacing: {(by_hand / 2 + 0.5 - other).abs().max():.1f}")

# %% [markdown]
# From here on you use the package's `text_to_image`. It is the same loop, made of functions that you have met: the levels, guidance as a wrapper, one loop for every sampler.

# %%
from diffusion_course import sample_latents, show_source

show_source(sample_latents)

# %% [markdown]
# Is it as fast? Eight pictures in twenty steps on each side:

# %% tags=["nbval-ignore-output"]
import time


def seconds(draw):
    start = time.perf_counter()
    draw()
    return time.perf_counter() - start


ours = seconds(
    lambda: text_to_image(parts, SIGHTS, sampler="ddim", generator=make_generator(5))
)
others = seconds(
    lambda: theirs(SIGHTS, guidance_scale=4.0, num_inference_steps=20, output_type="pt")
)
print(f"8 pictures in 20 steps: {ours:.1f} s here, {others:.1f} s in diffusers")

# %% [markdown]
# Nearly all of that is the U-Net, and both call it equally often.

# %% [markdown]
# ## What is decided when
#
# Every step has an estimate $\hat x_0$ of the finished picture. Decode it, and you see the picture come about:

# %%
states = []
three = text_to_image(
    parts, SIGHTS[:3],
    num_inference_steps=10, generator=make_generator(6), callback=states.append,
)

# %%
from diffusion_course import decode_latents

# ten of (3, 3, 64, 64)
estimates = [decode_latents(parts, state.x0_pred) for state in states]
rows = [torch.stack([estimate[i] for estimate in estimates]) for i in range(3)]
fig = plotting.image_strip(
    rows, column_labels=[f"t = {state.t}" for state in states],
    title="The estimate of the picture after each step",
)
show(fig, alt=(
    "Three rows of ten pictures. The first estimates are blurred patches of the right "
    "colours in the right places; from the middle on the things have sharp outlines."
))

# %% [markdown]
# When does each attribute settle? Let the judge read the estimates of 24 pictures after each step, and compare with what it reads in the finished ones.
# Which settles first: the background, the layout or the size? Decide before you look.

# %% tags=["nbval-ignore-output"]
from diffusion_course.datasets.scenes import ATTRIBUTES

states = []
finished = text_to_image(
    parts, prompts["train"][:24],
    num_inference_steps=10, generator=make_generator(7), callback=states.append,
)
final = read_scenes(judge, finished)
agree = torch.stack([
    (read_scenes(judge, decode_latents(parts, state.x0_pred)) == final).double().mean(0)
    for state in states
])
for name in (
    "background", "layout", "first kind", "first colour", "first pattern", "first size"
):
    print(
        f"{name:14s}",
        " ".join(f"{share:.2f}" for share in agree[:, ATTRIBUTES.index(name)].tolist()),
    )

# %% tags=["nbval-ignore-output"]
curves = {
    name: agree[:, ATTRIBUTES.index(name)]
    for name in ("background", "layout", "first kind", "first colour")
}
fig = plotting.lines(
    range(1, 11), curves, xlabel="step of ten", ylabel="share as in the end",
    title="Background and layout settle first, colours last",
)
show(fig, alt=(
    "Four rising curves against the step: the share of pictures whose background, "
    "layout, kind and colour already are as in the finished picture. "
    "Background and layout are at 1 first, then the kind; the colour last."
))

# %% [markdown]
# High noise decides where things are and before what, then what they are, low noise how they look.
# This is why image-to-image works, three sections below: what is decided at high noise stays, if you do not go back that far.

# %% [markdown]
# ## How much guidance?
#
# Lesson 08 chose $s$ on a curve. Here is the same curve for words: the judge's share of right attributes at several scales, the same noise in each.
#
# **Task.** Move the slider. Find the smallest $s$ at which nothing asked for is missing, and the $s$ at which something is wrong again.

# %%
from diffusion_course import Explorer

asked_for = prompts["train"][:8]
at_scale = {
    s: text_to_image(
        parts, asked_for,
        guidance_scale=float(s), num_inference_steps=10, generator=make_generator(8),
    )
    for s in (0, 1, 2, 3, 4, 6, 10)
}


def look(s):
    score = right_in_everything(at_scale[s], asked_for).sum(1).tolist()
    fig = plotting.image_grid(
        at_scale[s], columns=4, scale=1.3, titles=[f"{n} of 10" for n in score],
        title=f"s = {s}: attributes as asked",
    )
    return fig, (
        f"Eight drawn scenes at guidance scale {s}; "
        f"on average {sum(score) / len(score):.1f} of 10 attributes are as asked."
    )


# %% tags=["nbval-ignore-output"]
Explorer(look, s=sorted(at_scale), start={"s": 4})

# %% tags=["nbval-ignore-output"]
for s, pictures in at_scale.items():
    table = right_in_everything(pictures, asked_for)
    print(
        f"s = {s:2d}: attributes {table.double().mean():.2f}, pictures right in "
        f"everything {table.all(1).double().mean():.2f}, pixels at the ends of the "
        f"range {(pictures.abs() > 0.98).double().mean():.2f}"
    )

# %% [markdown]
# ## Away from something: negative prompts
#
# Guidance walks from $v_u$ towards $v_c$ and beyond. Nothing says that the start has to be the empty prompt. Put the words of what you do *not* want there:
#
# $$\hat v = v_n + s\,(v_c - v_n), \qquad v_n = v_\theta(x_t, t, \text{negative prompt}) \tag{11.5}$$
#
# Read it with (08.4): the classifier that you insist on is now "$c$ rather than $n$". What both prompts share cancels, and what they differ in is pushed.
# Measure it. The prompt leaves the size open; the negative prompt names one.

# %% tags=["nbval-ignore-output"]
ask, size = "a green star on a meadow", ATTRIBUTES.index("first size")
for negative in (
    "", "a large green star on a meadow", "a small green star on a meadow"
):
    pictures = text_to_image(
        parts, [ask] * 16,
        negative_prompt=negative, num_inference_steps=10, generator=make_generator(9),
    )
    codes = read_scenes(judge, pictures)
    kept = faithful(codes, parse_caption(ask).expand(16, -1)).all(1).double().mean()
    print(
        f"away from {negative!r:33s} large: "
        f"{(codes[:, size] == 1).double().mean():.2f}, as asked otherwise: {kept:.2f}"
    )

# %% [markdown]
# The size obeys, without a word about it in the prompt. The negative prompt replaces the empty one, so it costs no time; and at $s = 1$ it does nothing, because then $v_n$ cancels.
#
# The second number is its price. The two prompts share "a green star on a meadow", so the star cancels in $v_c - v_n$: it is drawn, but nothing insists on it any more.
# What you name in a negative prompt you stop asking for.

# %% [markdown]
# ## Image to image
#
# You have a picture and want another like it. Noise its latents $z$ part of the way, and go back with other words (SDEdit, [arXiv 2108.01073](https://arxiv.org/abs/2108.01073)). With $n$ steps and a strength $r$, only the last $k = \lfloor r\,n \rfloor$ are taken, and the chain starts at the first of them:
#
# $$x_t = \sqrt{\bar\alpha_t}\,f z + \sqrt{1-\bar\alpha_t}\,\epsilon, \qquad t = t_{n-k+1} \tag{11.6}$$
#
# This is the forward process of lesson 02, nothing new. The loop does not know that its start was not drawn.

# %%
from diffusion_course import image_to_image

kinds = ("ball", "square", "triangle", "star", "moon", "house", "tree", "mushroom")
have, want = (
    [f"a large {colour} {kind} on a meadow" for kind in kinds]
    for colour in ("red", "blue")
)
originals = render_scenes(
    torch.stack([parse_caption(text) for text in have]), generator=make_generator(10)
)
strengths = (0.2, 0.4, 0.6, 0.8, 1.0)
redrawn = {
    r: image_to_image(
        parts, originals, want,
        strength=r, num_inference_steps=10, generator=make_generator(11),
    )
    for r in strengths
}

# %%
rows = [originals[:6], *(pictures[:6] for pictures in redrawn.values())]
fig = plotting.image_strip(
    rows, row_labels=["original", *(f"strength {r}" for r in strengths)],
    title="From red to blue: the more is redrawn, the less is kept",
)
show(fig, alt=(
    "Six rows of six pictures. The top row: red things on a meadow. Below, with "
    "growing strength: first nearly the same pictures, then some things in blue, then "
    "all of them in blue with their shapes and places, at last with other outlines."
))

# %% tags=["nbval-ignore-output"]
from diffusion_course import psnr

colour, kind = ATTRIBUTES.index("first colour"), ATTRIBUTES.index("first kind")
for r, pictures in redrawn.items():
    done = right_in_everything(pictures, want).double().mean(0)  # (10,)
    distance = psnr(pictures, originals).mean()
    print(
        f"strength {r}: blue {done[colour]:.2f}, still the same kind {done[kind]:.2f}, "
        f"{distance:.1f} dB to the original"
    )

# %% [markdown]
# Low strength keeps the picture and its colour. High strength obeys and forgets. Between them lies a strength that changes what you asked for and leaves the rest; where, depends on how early the thing is decided (see above), and nobody can tell you without trying.

# %% [markdown]
# ## Inpainting
#
# Redraw one part and keep the other. The U-Net knows nothing of masks, so the loop has to see to it: after each step, what should be kept is put back, at the noise level that the step has reached. With $m = 1$ where to redraw:
#
# $$x \leftarrow m\,x' + (1 - m)\left(\sqrt{\bar\alpha'}\,f z + \sqrt{1-\bar\alpha'}\,\epsilon\right) \tag{11.7}$$
#
# At each step the U-Net sees the known part, as noisy as the rest, and draws what fits. This is RePaint ([arXiv 2201.09865](https://arxiv.org/abs/2201.09865)) without its going back and forth. diffusers does the same with a U-Net that reads four channels (and refuses one that reads eight, as this does).

# %%
from diffusion_course import inpaint

left = (
    "red star", "yellow fish", "purple tree", "green ball", "pink heart",
    "brown mushroom", "black cat", "orange flower",
)
first = [
    f"a small {thing} to the left of a small white ball on a meadow" for thing in left
]
then = [text.replace("white ball", "blue house") for text in first]
scenes = render_scenes(
    torch.stack([parse_caption(text) for text in first]), generator=make_generator(12)
)
mask = torch.zeros(1, 1, 64, 64)
mask[..., 32:] = 1  # the right half is drawn again
filled = inpaint(
    parts, scenes, mask, then, num_inference_steps=20, generator=make_generator(13)
)

# %%
shown_mask = torch.where(mask > 0, torch.zeros_like(scenes), scenes)
fig = plotting.image_strip(
    [scenes, shown_mask, filled], row_labels=["picture", "to redraw (grey)", "redrawn"],
    title="The white ball becomes a blue house",
)
show(fig, alt=(
    "Three rows of eight pictures. Top: a thing at the left and a white ball at the "
    "right, on a meadow. Middle: the right half is grey. Bottom: the left half is as "
    "before, and most of the right halves have a blue house, without a seam."
))

# %% tags=["nbval-ignore-output"]
done = right_in_everything(filled, then).double().mean(0)
print(
    f"the left thing is still right in {done[2:4].amin():.2f} of the pictures, "
    f"the right one is a blue house in {done[6:8].amin():.2f}"
)

# %% [markdown]
# ### What is kept, exactly?
#
# The *latents* outside the mask are the picture's own, to the last bit. The pixels are not: they have been through the autoencoder, and near the border the decoder looks across it.

# %%
from diffusion_course import encode_images

# in and out again, no diffusion
through = decode_latents(parts, encode_images(parts, scenes))
kept_half, near = slice(0, 24), slice(28, 32)  # columns of pixels
for name, pictures in (("redrawn", filled), ("through the autoencoder only", through)):
    error = (pictures - scenes).abs()
    print(
        f"{name:29s} mean error far from the border "
        f"{error[..., kept_half].mean():.4f}, at the border "
        f"{error[..., near].mean():.4f}"
    )

# %% [markdown]
# Users report this as a bug again and again ([diffusers#4782](https://github.com/huggingface/diffusers/issues/4782)). The cure is one line: paste the original pixels back, `torch.where(mask > 0, filled, scenes)`.

# %% [markdown]
# ## Between two seeds
#
# Two noises $a$ and $b$ draw two pictures. What lies between them? The straight line is $(1-w)\,a + w\,b$. Both are independent, each number has variance 1, so the variance on the line is
#
# $$(1-w)^2 + w^2, \qquad \text{and at } w = \tfrac12 \text{ it is } \tfrac12 \tag{11.8}$$
#
# The U-Net was trained on noise of variance 1 at the first step. Noise of variance one half is something it has never met there. So go along the arc. With $\theta$ the angle between $a$ and $b$ (Shoemake 1985):
#
# $$\mathrm{slerp}(a, b, w) = \frac{\sin((1-w)\,\theta)}{\sin\theta}\,a + \frac{\sin(w\,\theta)}{\sin\theta}\,b \tag{11.9}$$
#
# In 2,048 dimensions two independent noises are nearly at a right angle. With $\theta = 90°$ the weights are $\cos$ and $\sin$ of $90° w$, their squares add up to 1, and the variance stays.

# %%
from diffusion_course import slerp

a, b = torch.randn(2, 1, *parts.latent_shape(), generator=make_generator(14))
w = torch.linspace(0, 1, 7)
# (7, 8, 16, 16) each
arc, line = slerp(a, b, w), torch.lerp(a, b, w.reshape(-1, 1, 1, 1))
angle = torch.rad2deg(
    torch.nn.functional.cosine_similarity(a.flatten(), b.flatten(), dim=0).acos()
)
print(
    f"angle {angle:.0f} degrees; deviation on the arc {arc[3].std():.2f}, "
    f"on the line {line[3].std():.2f}, by (11.8) {0.5**0.5:.2f}"
)

# %%
walk = "a large red star to the left of a small blue moon at night"
paths = {
    name: text_to_image(parts, walk, latents=noise, num_inference_steps=10)
    for name, noise in (("arc", arc), ("line", line))
}
fig = plotting.image_strip(
    list(paths.values()),
    row_labels=list(paths), column_labels=[f"w = {x:.2f}" for x in w],
    title="From one seed to another, on two ways",
)
show(fig, alt=(
    "Two rows of seven pictures of the same scene, a star and a moon at night. In both "
    "rows the pictures change little from step to step, and the rows hardly differ."
))

# %% [markdown]
# Do you see a difference between the rows? Measure what a change of the noise's deviation does: the judge's verdict, and how crisp the pictures are, as the mean difference of neighbouring pixels.

# %% tags=["nbval-ignore-output"]
texts = prompts["train"][:16]
seeds = torch.randn(16, *parts.latent_shape(), generator=make_generator(15))
for scale in (0.5, 0.5**0.5, 1.0, 2.0):
    pictures = text_to_image(
        parts, texts, latents=scale * seeds, num_inference_steps=10
    )
    share = right_in_everything(pictures, texts).double().mean()
    crisp = (pictures[..., 1:] - pictures[..., :-1]).abs().mean()
    print(
        f"deviation {scale:.2f}: attributes right {share:.2f}, neighbouring pixels "
        f"differ by {crisp:.4f}"
    )

# %% [markdown]
# *What* is drawn hardly depends on it: this model forgives the line. *How crisp* it is does. Too little noise at the start gives smoother pictures, too much gives rougher ones.
# Where texture matters people see it as a blur: the author of a widely used extension found that "when mixing two Gaussian noises, the variance of the Gaussian changes" ([seed_eng#1](https://github.com/Creative-comfyUI/seed_eng/issues/1)).
#
# Words are no noise. They have no variance to keep, and the straight line between two prompts is as good a path as any:

# %%
from diffusion_course import encode_prompt

morning = encode_prompt(parts, "a large yellow star on a meadow")
evening = encode_prompt(parts, "a large blue tree at night")
between = torch.lerp(morning, evening, w.reshape(-1, 1, 1))  # (7, 32, 192)
fig = plotting.image_strip(
    text_to_image(parts, between, latents=a, num_inference_steps=10),
    column_labels=[f"w = {x:.2f}" for x in w],
    title="Between two prompts, from one noise",
)
show(fig, alt=(
    "Seven pictures from a yellow star on a meadow to a blue tree at night. In the "
    "middle the star turns into a tree, then day into night, each within one step."
))

# %% [markdown]
# ## Does it draw what you say?
#
# Back to the question of the beginning, with an error bar. A share of $N$ pictures is a mean of zeros and ones; the bootstrap of lesson 07 gives its interval.
# No judge is perfect: the first row is its verdict on pictures that the repository itself drew from the codes.

# %% tags=["nbval-ignore-output"]
from diffusion_course import bootstrap_interval


def report(name, table):
    share = bootstrap_interval(
        torch.mean, table.all(1).double(),
        method="percentile", generator=make_generator(16),
    )
    print(
        f"{name:26s} {share.value:.2f} (95 %: {share.low:.2f} to {share.high:.2f}), "
        f"N = {len(table)}"
    )


real = sample_scenes(300, generator=make_generator(17))
report(
    "real pictures",
    faithful(
        read_scenes(judge, render_scenes(real, generator=make_generator(18))), real
    ),
)
report("drawn, seen pairs", right["train"])
report("drawn, a pair never seen", right["held_out"])

# %% tags=["nbval-ignore-output"]
for split, codes in asked.items():
    for name, chosen in (
        ("one thing", codes[:, 0] == 0), ("two things", codes[:, 0] > 0)
    ):
        report(f"{split}, {name}", right[split][chosen])

# %% tags=["nbval-ignore-output"]
print("share right      seen  never seen")
for k, name in enumerate(ATTRIBUTES):
    print(
        f"{name:16s} {right['train'][:, k].double().mean():.2f}  "
        f"{right['held_out'][:, k].double().mean():.2f}"
    )

# %% [markdown]
# Read the table by rows. Backgrounds and layouts do not care about the split. If a held-out pair costs anything, it is in the colour or the kind of that thing: the network falls back on a neighbour that it knows.
# What it has learned is not a list of 126 pairs but, to the extent that the second column holds, kinds and colours.
#
# The numbers of this lesson come from 48 pictures each. The model card in `data/mini-stable-diffusion` has those of 1,000, with its command.

# %% [markdown]
# ## Where people go wrong
#
# None of the following raises an error. Each is one change to the lines above, drawn for the same 16 prompts from the same noise and judged.

# %%
from dataclasses import replace

from diffusion_course import latent_levels

common = {
    "num_inference_steps": 10,
    "latents": torch.randn(16, *parts.latent_shape(), generator=make_generator(19)),
}
some = prompts["train"][:16]
*_, last = sample_latents(
    parts, some, common["latents"], latent_levels(parts, 10, "dpmpp_2m")
)
wrong = {
    "as it should be": decode_latents(parts, last.x),
    "v read as noise": text_to_image(
        replace(parts, prediction_type="epsilon"), some, **common
    ),
    "halves swapped": text_to_image(parts, some, guidance_scale=1 - 4.0, **common),
    "multiplied by f": decode_latents(
        parts, last.x * parts.vae.config.scaling_factor**2
    ),
}

# %%
from diffusion_course import sample_loop


def told_the_step(xt, t, cond):  # 9, 8, ..., 0 in place of 999, 899, ..., 99
    return parts.predict(xt, t // 100, cond)


guided = ClassifierFreeGuidance(
    told_the_step, 4.0, null_cond=encode_prompt(parts, "")[0]
)
x = sample_loop(
    guided, common["latents"].shape, parts.schedule,
    cond=encode_prompt(parts, some), x_init=common["latents"], sampler="dpmpp_2m",
    num_inference_steps=10, prediction_type="v_prediction",
)
wrong["the step for t"] = decode_latents(parts, x)

# %% tags=["nbval-ignore-output"]
for name, pictures in wrong.items():
    table = right_in_everything(pictures, some)
    print(
        f"{name:17s} attributes right {table.double().mean():.2f}, pictures right in "
        f"everything {table.all(1).double().mean():.2f}"
    )

# %%
fig = plotting.image_grid(
    torch.cat([pictures[:8] for pictures in wrong.values()]),
    columns=8, row_labels=list(wrong), title="One change each, no error message",
)
show(fig, alt=(
    "Five rows of eight pictures. As it should be: clean scenes. "
    "v read as noise: burnt, grainy pictures in which the scenes can be guessed. "
    "Halves swapped: clean pictures of other scenes. Multiplied by f: "
    "the scenes in false, pale colours. The step for t: shattered shapes before grey."
))

# %% [markdown]
# - **$v$ read as noise.** Nothing in a U-Net says what it predicts; the scheduler's configuration does, and its default is noise. People who moved a training script from Stable Diffusion 1 to 2.1 got noise for pictures until they found `prediction_type` ([peft#421](https://github.com/huggingface/peft/issues/421)).
# - **The halves swapped.** `chunk(2)` returns the halves in the order of `cat`. Swap them and the scale acts as $1 - s$: away from the prompt.
# - **Multiplied instead of divided.** The decoder gets latents that are too small or too large by $f^2$ (lesson 09; [PyTorch-Adventures#4](https://github.com/priyammaz/PyTorch-Adventures/issues/4) scaled after decoding). Here $f$ is near 1 and the scenes survive in false colours. With Stable Diffusion's 0.18215 the latents would be 30 times too small.
# - **The step for $t$.** The loop counts steps, the U-Net wants times of training. Stability AI's own code does so in one place; the [repair](https://github.com/Stability-AI/stablediffusion/pull/226) that somebody offered in 2023 stayed open.
#
# Look at the rows once more. The first mistake you see at a glance. Swapped halves draw clean pictures, of something else: without the judge, or a prompt beside each picture, some would pass.
#
# ### A scale of 0 that obeys
#
# In diffusers' pipeline guidance is left out at scales up to 1, and the prompt is read without it. Whoever asks for a scale of 0 to see what the model draws without words gets the prompt ([diffusers#9680](https://github.com/huggingface/diffusers/issues/9680)).

# %% tags=["nbval-ignore-output"]
few, start = some[:8], common["latents"][:8]
for s in (0.0, 1.0):
    there = theirs(
        few, latents=start.clone(), guidance_scale=s,
        num_inference_steps=10, output_type="pt",
    ).images * 2 - 1
    here = text_to_image(
        parts, few,
        latents=start, guidance_scale=s, num_inference_steps=10, sampler="ddim",
    )
    share = [
        right_in_everything(pictures, few).double().mean() for pictures in (there, here)
    ]
    print(
        f"scale {s}: attributes as asked {share[0]:.2f} in diffusers, "
        f"{share[1]:.2f} here"
    )

# %% [markdown]
# ### The strength that leaves nothing to do
#
# $\lfloor r\,n \rfloor$ is 0 for a small strength, and then there is no time to start from. In diffusers this ends in an error about an empty tensor, far from its cause ([diffusers#1867](https://github.com/huggingface/diffusers/issues/1867), [InvokeAI#2337](https://github.com/invoke-ai/InvokeAI/issues/2337)). Here:

# %%
try:
    image_to_image(parts, originals, want, strength=0.04, num_inference_steps=20)
except ValueError as error:
    print(error)

# %% [markdown]
# And of 50 steps a strength of 0.58 takes 28, although $0.58 \cdot 50 = 29$: as floats the product is a little below 29. diffusers counts `int(n * strength)`, and `image_to_image` does as diffusers does.

# %% [markdown]
# ### In place
#
# `x -= low; x *= scale` saves memory and changes the caller's tensor. A popular teaching code rescales its pictures so ([`rescale` in sd/pipeline.py](https://github.com/hkproj/pytorch-stable-diffusion/blob/2231f3f7558bfbdd1a5df864a08f7eaa7d2c28bd/sd/pipeline.py)); there the tensor is not used again.
# In a pipeline that scales its noise to $\sigma_T$, the same habit makes the second call draw something else:

# %%
def to_sigma(latents, sigma):
    latents *= sigma  # should be: latents * sigma
    return latents


top = latent_levels(parts, 10, "euler")[0]
seeds = torch.randn(1, *parts.latent_shape(), generator=make_generator(20))
sigma = ((1 - top.alpha_bar) / top.alpha_bar) ** 0.5
for attempt in (1, 2):
    start = to_sigma(seeds, sigma) / sigma  # the unet reads x / sigma
    picture = text_to_image(
        parts, walk, latents=start, sampler="euler", num_inference_steps=10
    )
    print(
        f"call {attempt}: the noise that the U-Net gets has deviation "
        f"{start.std():.1f}; contrast of the picture {picture.std():.2f}"
    )

# %% [markdown]
# The test is short: call twice with one tensor and compare, or clone the input and compare it afterwards.

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("11.1")` helps in steps, `solution("11.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("11.1")

# %%
def to_picture(decode, latents, scaling_factor):
    picture = decode(...)
    return ...


check("11.1", to_picture)

# %%
exercise("11.2")

# %%
def guided_step(xt, v_cond, v_uncond, scale, alpha_bar, alpha_bar_prev):
    ...


check("11.2", guided_step)

# %%
exercise("11.3")

# %%
def times_taken(times, strength):
    taken = ...
    return ...


check("11.3", times_taken)

# %%
exercise("11.4")

# %%
def keep_known(x, known, noise, mask, alpha_bar):
    at_this_level = ...
    return ...


check("11.4", keep_known)

# %%
exercise("11.5")

# %%
def on_the_arc(a, b, weight):
    theta = ...
    return ...


check("11.5", on_the_arc)

# %%
exercise("11.6")

# %%
def share_right(read, asked):
    right = ...
    return ...


check("11.6", share_right)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | $c$, words of a prompt | `encode_prompt(parts, texts)` | |
# | $\hat v = v_n + s\,(v_c - v_n)$ | `ClassifierFreeGuidance(parts.predict, s, negative_cond=...)` | (11.1), (11.5) |
# | the levels that a scheduler visits | `latent_levels(parts, n, sampler)` | |
# | $f z$, $y = \mathrm{decode}(x_0 / f)$ | `encode_images`, `decode_latents` | (11.4) |
# | the guided loop, step by step | `sample_latents` | (11.1) to (11.3) |
# | text to image | `text_to_image(parts, prompts)` | |
# | $r$, strength | `image_to_image(parts, images, prompts, strength=r)` | (11.6) |
# | $m$, mask | `inpaint(parts, images, mask, prompts)` | (11.7) |
# | the arc between two noises | `slerp(a, b, w)` | (11.9) |
# | right in what was asked | `faithful(read_scenes(judge, pictures), asked)` | |
#
# What it lacks is size: 64 pixels, fourteen kinds of things. Lesson 12 puts a real checkpoint into the same loop, and meets what comes with it: gigabytes, half precision, licences.
#
# To read next:
#
# - Rombach et al. 2022, https://arxiv.org/abs/2112.10752: latent diffusion, the paper behind Stable Diffusion.
# - Meng et al. 2021, https://arxiv.org/abs/2108.01073: image-to-image, and the balance between faithful and realistic.
# - Lugmayr et al. 2022, https://arxiv.org/abs/2201.09865: inpainting, and why going back and forth helps.
