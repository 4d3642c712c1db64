# %% [markdown]
# # 12 · Stable Diffusion for real
#
# After this lesson you can:
#
# - load a real checkpoint with one call that works anywhere and says what it did,
# - predict from a configuration how much memory a picture takes, and check the prediction,
# - choose between half precision, slicing, tiling and offloading by their numbers,
# - swap the sampler of a checkpoint and keep what its network was trained with,
# - find out what an unlabelled network predicts, and what reading it wrongly costs,
# - say what a safety checker sees, and what a licence asks of you.
#
# You need: lessons 06, 09 and 11.
#
# **Measured cost:** 3.2 min on 2 cores, 1.2 GB of memory at the peak.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
import torch
from torch.testing import assert_close

from diffusion_course import (
    load_pretrained,
    load_stable_diffusion,
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
# 1. From lesson 03: a network predicts $v = 0.5$ at $x_t = 1$ and $\bar\alpha_t = 0.64$. Which $x_0$ does it mean?
# 2. From lesson 11: a picture takes 20 steps with guidance. How often does each of the three networks run?
#
# <details><summary>Answers</summary>
#
# 1. $x_0 = \sqrt{\bar\alpha_t}\,x_t - \sqrt{1-\bar\alpha_t}\,v = 0.8 - 0.6 \cdot 0.5 = 0.5$.
# 2. The text encoder twice, for the prompt and for the empty one. The U-Net 20 times, on a batch of two. The decoder once, at the end.
#
# </details>

# %% [markdown]
# ## The lines that everybody has copied
#
# ```python
# import torch
# from diffusers import StableDiffusionPipeline
# pipe = StableDiffusionPipeline.from_pretrained(
#     "runwayml/stable-diffusion-v1-5", torch_dtype=torch.float16
# ).to("cuda")
# img = pipe("a photo of an astronaut riding a horse").images[0]
# ```
#
# They are in thousands of notebooks. Today:
#
# - The id is gone. Its owner took it down in August 2024 ([one of many reports](https://github.com/TencentARC/SmartEdit/issues/44)).
# - `torch_dtype` is called `dtype` since diffusers 0.40 ([diffusers#14205](https://github.com/huggingface/diffusers/pull/14205)).
# - `.to("cuda")` needs a GPU, and nothing says beforehand whether the model fits on it.
# - Without a network there is a traceback.
#
# The course's call has the same arguments in spirit, and an answer everywhere. On a GPU with a network this cell downloads 2.7 GB, once. Set the environment variable `HF_HUB_OFFLINE=1` if you do not want that.

# %% tags=["nbval-ignore-output"]
pipe = load_stable_diffusion("runwayml/stable-diffusion-v1-5")

# %% [markdown]
# One line says what you got and why. What you got is a `StableDiffusionPipeline` in any case, so the rest of the snippet runs:

# %% tags=["nbval-ignore-output"]
real = pipe.config._name_or_path != "mini-stable-diffusion"
prompt = (
    "a photo of an astronaut riding a horse" if real
    else "a small blue fish above a green house at night"
)
seeds = [make_generator(seed) for seed in range(4)]
images = pipe(
    prompt, num_images_per_prompt=4, guidance_scale=7.5 if real else 4.0,
    generator=seeds, output_type="pt",
).images
fig = plotting.image_grid(2 * images.float() - 1, columns=4, scale=1.5, title=prompt)
show(fig, alt=(
    "Four pictures drawn from one prompt with four seeds. Without a GPU they show a "
    "small blue fish above a green house at night, 64 pixels wide."
))

# %% [markdown]
# Everything below runs on the miniature, loaded by its name, so that it is the same on every machine. Where the real model matters you work with its configuration, and that is a few numbers.

# %%
mini = load_stable_diffusion("mini-stable-diffusion", device="cpu", dtype=torch.float32)
print(
    type(mini).__name__, "with", mini.unet.config.block_out_channels,
    "channels, scheduler", type(mini.scheduler).__name__,
)

# %% [markdown]
# ## Ids disappear
#
# A checkpoint on a hub belongs to an account. Accounts are cleaned up, sold, renamed. The registry of the course holds, for each model, ids that carry the same weights, in the order in which they are tried:

# %%
from diffusion_course import CHECKPOINTS

for name, checkpoint in CHECKPOINTS.items():
    print(f"{name} predicts {checkpoint.prediction_type}, licence {checkpoint.licence}")
    print("   tried:", ", then ".join(checkpoint.ids))
    for old, when in checkpoint.gone.items():
        print(f"   gone since {when}: {old}")

# %% [markdown]
# Stable Diffusion 2.1 went the same way in November 2025 ([diffusers#12874](https://github.com/huggingface/diffusers/issues/12874)). A mirror can go too. Three habits help:
#
# - Look into your own cache first. What was downloaded whole is used without asking anybody.
# - Have a second id, and a plan for neither.
# - Take safetensors only. A pickle from a stranger's account runs the stranger's code.
#
# Ask for an id that nobody has. The answer comes within seconds, whether there is a network or not:

# %% tags=["nbval-ignore-output"]
import time

start = time.perf_counter()
load_stable_diffusion("diffusion-course/no-such-model", device="cpu")
print(f"answered in {time.perf_counter() - start:.1f} s")

# %% [markdown]
# `fallback=False` raises an error with the same sentence. Use it where a miniature would be the wrong answer, such as in a script that runs at night.

# %% tags=["nbval-ignore-output"]
try:
    load_stable_diffusion(
        "diffusion-course/no-such-model", device="cpu", fallback=False
    )
except RuntimeError as error:
    print("RuntimeError:", error)

# %% [markdown]
# ## Predict first
#
# The file of Stable Diffusion 1.5's U-Net has 3.4 GB in float32. You draw one picture of $512 \times 512$ pixels with guidance, in float16, everything on the GPU.
#
# How many GB ($10^9$ bytes) do all tensors take at the worst moment? And when is that: while the text is read, in the loop of the U-Net, or while the picture is decoded?

# %%
my_gb, my_phase = 6.0, "denoise"  # "text", "denoise" or "decode"

# %%
from diffusion_course import STABLE_DIFFUSION_15, predict_memory

full = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16)
worst = max(full.activations, key=full.during)
print(
    f"{full.total / 1e9:.2f} GB, while it is busy with: {worst}; "
    f"you said {my_gb:.2f} GB and {my_phase}"
)
print(full)

# %% [markdown]
# Nothing was downloaded and nothing computed. The function knows the widths of the network (`STABLE_DIFFUSION_15` is a dict of them) and ran the pipeline with tensors that have a shape and no data.
#
# The surprise is the decoder. It has a tenth of the U-Net's weights and needs three times its room, because it works at full resolution.

# %% [markdown]
# ## One layer by hand
#
# The U-Net's first convolution takes 4 channels of latents to 320, with $3 \times 3$ kernels and a bias. With guidance it sees a batch of 2, and latents of $64 \times 64$ for a picture of $512 \times 512$.
#
# - Weights: $4 \cdot 320 \cdot 3 \cdot 3 + 320 = 11{,}840$ numbers, in float16 $23{,}680$ bytes. The picture does not matter.
# - Output: $2 \cdot 320 \cdot 64 \cdot 64 = 2{,}621{,}440$ numbers, $5.24$ MB. Four times as much for twice the side.
#
# Weights are paid once. Outputs are paid at the same time only if they are alive at the same time:
#
# $$\text{peak} = \sum_{\text{parts}} \text{weights} + \max_{\text{moments}} \; \sum_{\text{tensors alive}} \text{bytes} \tag{12.1}$$
#
# The first sum is arithmetic. For the second, somebody has to keep books: when is a tensor made, when is it dropped? `LiveBytes` does. torch shows it every operation; it adds the bytes of a new tensor's storage, and a weak reference tells it when the storage is freed.

# %%
from diffusion_course import show_source
from diffusion_course.latent.memory import LiveBytes

show_source(LiveBytes._see, LiveBytes.__torch_dispatch__)

# %% [markdown]
# Three operations, so that you can keep the books yourself. `x` has 1000 numbers of 4 bytes.

# %%
with LiveBytes() as live:
    x = torch.ones(1000)  # + 4000
    y = torch.cat([x, x])  # + 8000, so 12000
    del x  # - 4000
    z = y.half()  # + 4000, so 12000 again
print(f"alive at the end {live.now}, at the peak {live.peak}")

# %% [markdown]
# The same convolution, on data without values. Under `FakeTensorMode` an operation computes the shape of its result and nothing else, so a U-Net of 860 million weights costs no memory:

# %%
from torch._subclasses.fake_tensor import FakeTensorMode

with FakeTensorMode(), torch.no_grad():
    convolution = torch.nn.Conv2d(4, 320, 3, padding=1, dtype=torch.float16)
    latents = torch.empty(2, 4, 64, 64, dtype=torch.float16)
    with LiveBytes() as live:
        convolution(latents)
print(
    f"weights {sum(p.nbytes for p in convolution.parameters()):,} bytes, "
    f"output {live.peak:,} bytes"
)

# %% [markdown]
# What the whole pipeline does is written down once, with the same tensors alive at the same time. The prediction runs these lines on fake tensors:

# %%
from diffusion_course.latent.memory import dry_run

show_source(dry_run)

# %% [markdown]
# ## Does it come true?
#
# **Check by another route.** Run the real pipeline, with real weights and its own scheduler, and keep books on that. The dry run saw neither.

# %%
from diffusion_course import measure_peak

CHOICES = {
    "one picture": {},
    "eight pictures": {"batch": 8},
    "eight, decoded one by one": {"batch": 8, "vae_slicing": True},
    "128 x 128": {"height": 128, "width": 128},
    "128 x 128 in tiles": {"height": 128, "width": 128, "vae_tiling": True},
}


def run(
    batch=1, height=64, width=64, vae_slicing=False, vae_tiling=False, guidance=True
):
    mini.vae.use_slicing, mini.vae.use_tiling = vae_slicing, vae_tiling
    return mini(
        ["a red star"] * batch, height=height, width=width, num_inference_steps=3,
        output_type="pt", guidance_scale=4.0 if guidance else 1.0,
    ).images

# %% tags=["nbval-ignore-output"]
for name, choice in CHOICES.items():
    run(**choice)  # once before, so that nothing is made for the first time
    measured = measure_peak(lambda choice=choice: run(**choice)).bytes / 1e6
    predicted = max(predict_memory(mini, **choice).activations.values()) / 1e6
    assert_close(predicted, measured, rtol=0.01, atol=0.0)
    print(f"{name:26s} predicted {predicted:7.3f} MB, measured {measured:7.3f} MB")

# %% [markdown]
# The check can fail. Forget that guidance doubles the batch, and look at the loop alone:

# %%
with_guidance, without = (
    predict_memory(mini, batch=8, guidance=g).activations["denoise"] / 1e6
    for g in (True, False)
)
measured = measure_peak(lambda: run(batch=8, vae_slicing=True)).bytes / 1e6
try:
    assert_close(without, measured, rtol=0.01, atol=0.0)
except AssertionError as error:
    print(
        f"with guidance {with_guidance / measured:.2f} of what was measured, "
        f"without {without / measured:.2f}:",
        str(error).splitlines()[0],
    )

# %% [markdown]
# **What it does not see.** A kernel may allocate scratch space inside one operation. Tensors do not show it; the allocator does. `measure_peak(..., device="cuda")` reads the allocator of a GPU.
# On a CPU torch's profiler tells, and a test of the course holds the prediction against it: at $128 \times 128$ the allocator handed out up to a quarter more than the tensors need.
# Therefore the loader wants 20 % of room on top of the prediction for all tensors, weights included. That share is a habit, not a theorem.

# %% [markdown]
# ## Two bytes for a number
#
# The largest saving is the easiest: half the bytes for every number. There are two ways to spend 16 bits.

# %%
for dtype in (torch.float32, torch.bfloat16, torch.float16):
    info = torch.finfo(dtype)
    print(
        f"{str(dtype)[6:]:8s} {info.bits} bits, largest {info.max:.1e}, "
        f"smallest normal {info.tiny:.1e}, next after 1: 1 + {info.eps:.1e}"
    )

# %% [markdown]
# bfloat16 keeps float32's range and has 8 digits of precision in base two. float16 has 11, and a range that ends at 65,504.
#
# **By hand.** Between 1 and 2 the numbers of bfloat16 are $1/128$ apart, those of float16 $1/1024$. So $1.1$ becomes $1 + 13/128 = 1.1016$ in one and $1 + 102/1024 = 1.0996$ in the other.
# The relative error is at most half of `eps`.

# %%
print([
    round(torch.tensor(1.1).to(dtype).item(), 6)
    for dtype in (torch.bfloat16, torch.float16)
])
print(
    "300 squared in float16:", (torch.tensor(300.0).half() ** 2).item(),
    "and 0.0001 squared:", (torch.tensor(1e-4).half() ** 2).item(),
)

# %% [markdown]
# Weights and most outputs of these networks live happily in that range. Not all do: the decoder of the larger SDXL leaves it, and the pictures come out black ([candle#1060](https://github.com/huggingface/candle/issues/1060)).
#
# What does rounding do to a picture? Draw the same prompts from the same noise in three formats. The judge of lesson 11 says which pictures are right in everything.

# %%
from diffusion_course import (
    captions,
    faithful,
    parse_caption,
    read_scenes,
    sample_scenes,
)

judge = load_pretrained("judge")
codes = sample_scenes(16, split="train", generator=make_generator(1))
prompts = captions(codes, generator=make_generator(2))
# (16, 10), -1 where the text says nothing
asked = torch.stack([parse_caption(text) for text in prompts])
noise = torch.randn(
    16, mini.unet.config.in_channels, 16, 16, generator=make_generator(3)
)


def draw(pipe, n=8, steps=10):
    images = pipe(
        prompts[:n], latents=noise[:n].to(pipe.unet.dtype), guidance_scale=4.0,
        num_inference_steps=steps, output_type="pt",
    ).images
    return 2 * images.float() - 1  # (n, 3, 64, 64) in [-1, 1]


def right(images):
    found = faithful(read_scenes(judge, images), asked[: len(images)])
    return found.all(1).double().mean().item()

# %% tags=["nbval-ignore-output"]
drawn = {torch.float32: draw(mini, n=4, steps=5)}
for dtype in (torch.bfloat16, torch.float16):
    try:
        drawn[dtype] = draw(
            load_stable_diffusion("mini-stable-diffusion", device="cpu", dtype=dtype),
            n=4, steps=5,
        )
    except ValueError as error:
        print(error)
for dtype, images in drawn.items():
    change = (images - drawn[torch.float32]).abs()
    print(
        f"{str(dtype)[6:]:8s} right in everything {4 * right(images):.0f} of 4; "
        f"changed by {change.mean():.4f} on average, "
        f"by {change.amax((1, 2, 3)).median():.2f} at the worst pixel"
    )

# %%
rows = list(drawn.values())
fig = plotting.image_strip(
    rows, row_labels=[str(dtype)[6:] for dtype in drawn],
    title="Sixteen bits draw the same pictures",
)
show(fig, alt=(
    "Three rows of four scenes, drawn in float32, bfloat16 and float16 "
    "from the same noise. The rows show the same things in the same places; "
    "differences are hard to see."
))

# %% [markdown]
# Pixels change, scenes do not, and the judge hardly notices. float16 is the closer one, as its three more digits promise. On a GPU it is the default here, as in the snippet.
#
# On a CPU the loader takes bfloat16 only where the processor multiplies it in hardware, else float32: without that, 16 bits are slower.
# Older builds of torch have no float16 kernels on the CPU at all, and `"LayerNormKernelImpl" not implemented for 'Half'` is the message that [this report](https://github.com/CompVis/stable-diffusion/issues/307) made known. The loader tries two operations and says so before it loads anything.
#
# **Keep the schedule out of it.** The first $\bar\alpha$ of Stable Diffusion's schedule is 0.99915. Near 1 the numbers of float16 are $1/2048$ apart:

# %%
from diffusion_course import make_schedule

abar = make_schedule("scaled_linear", 1000).alphas_cumprod
for dtype in (torch.float64, torch.float16, torch.bfloat16):
    print(
        f"{str(dtype)[6:]:8s} 1 - abar at the first index: "
        f"{(1 - abar[0].to(dtype)).item():.6f}"
    )

# %% [markdown]
# The variance of the noise at the first step is off by a seventh in float16, and in bfloat16 there is no noise. Tables are float64 in this course and float32 in diffusers, whatever the networks are in.

# %% [markdown]
# ## Attention without scores
#
# At full latent size every position looks at every other. With $N = (p/8)^2$ positions for $p$ pixels, $h$ heads and guidance, a layer's scores take
#
# $$2 \cdot h \cdot N^2 \cdot \text{bytes per number} \tag{12.2}$$
#
# At $p = 512$ and $h = 8$ in float16 these are 0.537 GB, and the softmax makes as much again. Doubling the side multiplies them by 16.
# Two ways out: compute one head at a time (attention slicing), or never write the scores down. The second is what torch's `scaled_dot_product_attention` does
# ([documentation](https://pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html); the idea: FlashAttention, [arXiv 2205.14135](https://arxiv.org/abs/2205.14135)), and what diffusers calls by default.

# %%
WAYS = {
    "all scores": {"fused_attention": False},
    "one head at a time": {"fused_attention": False, "attention_slicing": True},
    "fused": {},
}
for way, choice in WAYS.items():
    estimate = full
    if choice:
        estimate = predict_memory(STABLE_DIFFUSION_15, dtype=torch.float16, **choice)
    print(
        f"{way:18s} U-Net: {estimate.activations['denoise'] / 1e6:7.1f} MB on top of "
        f"the weights; peak {estimate.total / 1e9:.2f} GB"
    )

# %% [markdown]
# Slicing saves 1 GB against the formula written out, and nothing against the fused kernel. It is slower than the fused one, and diffusers' own documentation warns against switching it on there.
# Old advice for saving memory still tells you to. Both ways give the same numbers:

# %%
slow = load_stable_diffusion(
    "mini-stable-diffusion", device="cpu", dtype=torch.float32, attention_slicing=True
)
fused, sliced = draw(mini, n=2, steps=3), draw(slow, n=2, steps=3)
print(
    "processors:", {type(p).__name__ for p in slow.unet.attn_processors.values()},
    "largest difference below 0.001:", bool((fused - sliced).abs().max() < 1e-3),
)

# %% [markdown]
# ## Pieces of a picture
#
# The decoder was the worst moment. It has no attention worth slicing, but it can be fed less at a time.
#
# - `vae_slicing` decodes a batch one picture at a time. The result is the same.
# - `vae_tiling` decodes overlapping tiles and fades each into the next. The result differs: a tile does not see the rest.

# %%
for pixels, batch, saving in ((512, 8, "vae_slicing"), (1024, 1, "vae_tiling")):
    for on in (False, True):
        estimate = predict_memory(
            STABLE_DIFFUSION_15, dtype=torch.float16, height=pixels,
            width=pixels, batch=batch, **{saving: on},
        )
        print(
            f"{batch} x {pixels} pixels, {saving}={on!s:5s}: "
            f"decoder {estimate.activations['decode'] / 1e6:7.1f} MB, "
            f"peak {estimate.total / 1e9:.2f} GB"
        )

# %% [markdown]
# How much does tiling change? Encode scenes of $128 \times 128$ and decode them both ways. The tiles of the miniature are 64 pixels wide.

# %%
from diffusion_course import psnr, render_scenes

large = render_scenes(codes[:4], size=128, generator=make_generator(4))
with torch.no_grad():
    latents = mini.vae.encode(large).latent_dist.mean  # (4, 4, 32, 32)
    decoded = {}
    for tiling in (False, True):
        mini.vae.use_tiling = tiling
        decoded[tiling] = mini.vae.decode(latents).sample.clamp(-1, 1)
mini.vae.use_tiling = False
difference = (decoded[True] - decoded[False]).abs()

# %% tags=["nbval-ignore-output"]
for tiling, images in decoded.items():
    print(
        f"{'tiles' if tiling else 'whole'}: "
        f"{psnr(images, large).mean():.1f} dB to the scene"
    )
print(
    f"tiles against whole: {difference.mean():.4f} on average, {difference.max():.2f} "
    "at the worst pixel"
)

# %%
shown = 4 * difference.mean(1, keepdim=True).expand(-1, 3, -1, -1) - 1
fig = plotting.image_strip(
    [decoded[False], decoded[True], shown.clamp(-1, 1)],
    row_labels=["whole", "tiles", "difference x 4"], scale=1.5,
    title="A tile does not know the rest of the picture",
)
show(fig, alt=(
    "Three rows of four large scenes: decoded whole; decoded in tiles, "
    "with the same things but bands of another tint at the right and lower border; "
    "and the difference, a pattern of broad bands that follows the tiles."
))

# %% [markdown]
# The tint is not at the seams: those are faded. It fills whole tiles. The decoder's group norms average over the picture that they see, and a tile of plain meadow has another average than the whole.
#
# ## Parts that wait outside
#
# The parts run one after the other. A part that does not run need not be on the GPU. `offload="model"` moves whole parts there when they run and away after; `offload="sequential"` moves every single layer.

# %%
for offload in (None, "model", "sequential"):
    estimate = full
    if offload:
        half = torch.float16
        estimate = predict_memory(STABLE_DIFFUSION_15, dtype=half, offload=offload)
    print(
        f"offload {offload!s:10s}: {estimate.total / 1e9:.2f} GB on the GPU, "
        f"{estimate.host / 1e9:.2f} GB of weights in main memory"
    )

# %% [markdown]
# With whole parts the U-Net decides: its weights and what it needs on top. With layers hardly any weights are left, and the decoder's outputs decide.
#
# The price is traffic. Parts move once for each picture. Layers move at every step: for 20 steps the U-Net's 1.7 GB cross the bus 20 times, 34 GB in all.
#
# On a CPU there is nowhere to move to, and the loader says so instead of being slow for nothing:

# %%
try:
    load_stable_diffusion("mini-stable-diffusion", device="cpu", offload="model")
except ValueError as error:
    print(error)

# %% [markdown]
# **Task.** Your GPU has 6 GB, and 20 % on top of the prediction should stay free. Find the largest picture that fits with all scores written down, with the fused kernel, and with that and tiles.

# %%
SIZES = (512, 1024, 1536)
KINDS = {
    "all scores": {"fused_attention": False},
    "fused": {},
    "fused, tiles": {"vae_tiling": True},
}
estimates = {}
for pixels in SIZES:
    for kind, choice in KINDS.items():
        estimates[pixels, kind] = predict_memory(
            STABLE_DIFFUSION_15,
            dtype=torch.float16, height=pixels, width=pixels, **choice,
        )

# %%
def at_size(pixels):
    fig, ax = figure(6.4, 2.6)
    for shift, phase, colour in (
        (0.2, "denoise", "#0072B2"), (-0.2, "decode", "#D55E00")
    ):
        sizes = [estimates[pixels, kind].during(phase) / 1e9 for kind in KINDS]
        places = [i + shift for i in range(3)]
        ax.barh(places, sizes, 0.36, color=colour, label=phase)
    ax.axvline(6 / 1.2, color="#777777")
    ax.set(
        yticks=range(3), yticklabels=list(KINDS),
        xlabel="GB on the GPU, weights included", xlim=(0, 12),
    )
    ax.set_title(
        f"{pixels} x {pixels} pixels, float16. Line: 6 GB less the room", loc="left"
    )
    ax.legend(loc="upper right")
    peaks = [f"{kind} {estimates[pixels, kind].total / 1e9:.1f}" for kind in KINDS]
    return fig, f"GB for {pixels} pixels: " + ", ".join(peaks) + "; line at 5."


# %%
from diffusion_course import Explorer

Explorer(at_size, pixels=list(SIZES), start={"pixels": 1024})

# %% [markdown]
# <details><summary>Answer</summary>
#
# The next cell prints it. Written-down scores are the first to become too large, then the decoder's outputs.
#
# </details>

# %%
for kind in KINDS:
    print(
        f"{kind:12s} fits up to "
        f"{max(p for p in SIZES if 1.2 * estimates[p, kind].total <= 6e9)} pixels"
    )

# %% [markdown]
# ## Another sampler, the same network
#
# A checkpoint's folder has a file `scheduler/scheduler_config.json`. Half of it belongs to the network: the betas it was trained with, and what it predicts. The other half is taste: which sampler, with which spacing.
# `make_scheduler` changes the sampler and keeps the first half. The names are those of `SAMPLERS` in lesson 06.

# %%
from diffusion_course import make_scheduler

own = mini.scheduler
config = own.config
for name in ("ddim", "euler", "dpmpp_2m"):
    scheduler = make_scheduler(name, config)
    print(
        f"{type(scheduler).__name__:28s} {scheduler.config.beta_schedule}, "
        f"{scheduler.config.prediction_type}, {scheduler.config.timestep_spacing}"
    )

# %% [markdown]
# Same prompts, same noise, 6 and 20 steps. The reference is DDIM with 60 steps, which comes close to the exact solution of the ODE that all three follow.

# %% tags=["nbval-ignore-output"]
swapped = {}
mini.scheduler = make_scheduler("ddim", config)
reference = draw(mini, n=8, steps=60)
for steps in (6, 20):
    for name in ("ddim", "euler", "dpmpp_2m"):
        mini.scheduler = make_scheduler(name, config)
        swapped[name, steps] = draw(mini, n=8, steps=steps)
        error = (swapped[name, steps] - reference).square().mean().sqrt()
        print(f"{name:9s} {steps:2d} steps: distance to the reference {error:.3f}")
mini.scheduler = own

# %%
rows = {
    "ddim, 6 steps": swapped["ddim", 6],
    "euler, 6 steps": swapped["euler", 6],
    "dpmpp_2m, 6 steps": swapped["dpmpp_2m", 6],
    "ddim, 60 steps": reference,
}
fig = plotting.image_strip(
    list(rows.values()),
    row_labels=list(rows), title="Three samplers, one seed, one network",
)
show(fig, alt=(
    "Four rows of eight scenes from the same noise, with the same things in all rows. "
    "DDIM and Euler with 6 steps cannot be told apart; DPM-Solver++ with 6 steps "
    "differs in details, and so does DDIM with 60."
))

# %% [markdown]
# DDIM and Euler agree, as lesson 06 proved. DPM-Solver++ gets closer with the same number of calls. No weight was touched.
#
# Your own loop takes the real parts as well. `LatentParts` needs the networks and what the first half of the file says; if your `pipe` is a real one, this cell draws with it.

# %% tags=["nbval-ignore-output"]
from diffusion_course import LatentParts, text_to_image

schedule = make_schedule("scaled_linear", 1000, beta_start=0.00085, beta_end=0.012)
parts = LatentParts(
    pipe.vae, pipe.unet, pipe.text_encoder, pipe.tokenizer, schedule,
    pipe.scheduler.config.prediction_type, spacing="trailing",
)
with torch.no_grad():
    ours = text_to_image(
        parts, prompt, num_inference_steps=20, generator=make_generator(7)
    )
fig = plotting.image_grid(
    ours.float().cpu(),
    scale=1.5, title="Lesson 11's loop, with the parts of the pipeline above",
)
show(fig, alt="One picture of the prompt above, drawn by the course's own loop.")

# %% [markdown]
# ## The wrong reading
#
# The miniature predicts $v$. So does Stable Diffusion 2.1, while 1.5 predicts noise. Nothing in the weights says which, and `"epsilon"` is what a scheduler assumes if its configuration is silent.
# What happens when $v$ is read as noise? Put $v = \sqrt{\bar\alpha}\,\epsilon - \sqrt{1-\bar\alpha}\,x_0$ where noise is expected:
#
# $$\begin{aligned}
# \tilde x_0 &= \frac{x_t - \sqrt{1-\bar\alpha}\;v}{\sqrt{\bar\alpha}} \\[4pt]
# &= \frac{\sqrt{\bar\alpha} + 1 - \bar\alpha}{\sqrt{\bar\alpha}}\,x_0 + \frac{\sqrt{1-\bar\alpha}\,\big(1 - \sqrt{\bar\alpha}\big)}{\sqrt{\bar\alpha}}\,\epsilon
# \end{aligned} \tag{12.3}$$
#
# **Line by line.** Write $x_t = \sqrt{\bar\alpha}\,x_0 + \sqrt{1-\bar\alpha}\,\epsilon$ and subtract $\sqrt{1-\bar\alpha}\,v = \sqrt{\bar\alpha}\sqrt{1-\bar\alpha}\,\epsilon - (1-\bar\alpha)\,x_0$. Collect $x_0$, collect $\epsilon$, divide.
#
# Where there is little noise, $\bar\alpha \approx 1$, the two factors are 1 and 0: no harm. Where there is much, both explode. At $\bar\alpha = 0.01$ they are $10.90$ and $8.95$: the picture ten times too strong, and buried in noise.
#
# **Check by another route**: the package's reading, with a perfect $v$ of random data.

# %%
from diffusion_course import from_x0_and_noise, to_x0_and_noise

x0, eps = torch.randn(2, 4000, dtype=torch.float64, generator=generator)
for alpha_bar in (0.99, 0.5, 0.01):
    v = from_x0_and_noise(x0, eps, alpha_bar, "v_prediction")
    xt = alpha_bar**0.5 * x0 + (1 - alpha_bar) ** 0.5 * eps
    wrong, _ = to_x0_and_noise(v, xt, alpha_bar, "epsilon")
    root = alpha_bar**0.5
    factors = (root + 1 - alpha_bar) / root, (1 - alpha_bar) ** 0.5 * (1 - root) / root
    assert_close(wrong, factors[0] * x0 + factors[1] * eps, rtol=1e-9, atol=1e-9)
    print(f"abar = {alpha_bar}: {factors[0]:.2f} x0 + {factors[1]:.2f} noise")

# %% [markdown]
# The damage on pictures, beside two other mismatches: the betas of another schedule, and another spacing of the times.

# %% tags=["nbval-ignore-output"]
MISMATCHES = {
    "as trained": {},
    "v read as noise": {"prediction_type": "epsilon"},
    "linear betas, same ends": {"beta_schedule": "linear"},
    "leading spacing": {"timestep_spacing": "leading"},
}
damaged = {}
for name, change in MISMATCHES.items():
    mini.scheduler = make_scheduler("ddim", config, **change)
    damaged[name] = draw(mini)
    print(
        f"{name:24s} right in everything {8 * right(damaged[name]):2.0f} of 8, "
        f"contrast {damaged[name].std():.2f}"
    )
mini.scheduler = own

# %%
fig = plotting.image_strip(
    [images[:8] for images in damaged.values()],
    row_labels=list(damaged), title="One word in a file of 300 bytes",
)
show(fig, alt=(
    "Four rows of eight pictures. As trained: clear scenes. v read as noise: "
    "garish, speckled pictures in which the things show through at best as blurs. "
    "Linear betas and leading spacing: nearly the same scenes as in the first row."
))

# %% [markdown]
# No warning, no error, no NaN. Somebody fine-tuned 2.1 with a script that wrote the scheduler's arguments out and left `prediction_type` to its default, and got no normal picture ([peft#421](https://github.com/huggingface/peft/issues/421)). The two other mismatches hardly show on eight pictures, which is why they stay unnoticed.
#
# **Find out.** Noise some latents yourself and ask the network once. Its output is close to the noise or close to $v$, and you know both. This takes a folder of weights without a label, a few pictures, and three lines:

# %%
from diffusion_course import (
    encode_images,
    encode_prompt,
    load_parts,
    prediction_target,
    q_sample,
)

shipped = load_parts()
pictures = render_scenes(codes[:16], generator=make_generator(5))
abar32 = shipped.schedule.alphas_cumprod.float()

# %%
with torch.no_grad():
    z, words = encode_images(shipped, pictures), encode_prompt(shipped, prompts[:16])
    for index in (100, 500, 900):
        t = torch.full((16,), index)
        eps = torch.randn(z.shape, generator=make_generator(6))
        output = shipped.predict(q_sample(z, t, abar32, eps), t, words)
        errors = {
            kind: (
                output - prediction_target(z, eps, t, abar32, kind)
            ).square().mean().item()
            for kind in ("epsilon", "v_prediction")
        }
        print(
            f"t = {index}: " + ", ".join(
                f"mean square distance to {kind} {error:.2f}"
                for kind, error in errors.items()
            )
        )

# %% [markdown]
# ## What the safety checker sees
#
# Stable Diffusion 1.x comes with a second network that looks at every finished picture. It is the image half of CLIP: a vector for the picture, compared with the vectors of 17 concepts that were published as numbers only.
# If one cosine exceeds its threshold, the pipeline returns a black picture and sets `nsfw_content_detected`.
#
# $$\text{flagged} \iff \max_k \left( \frac{u \cdot c_k}{\lVert u \rVert\, \lVert c_k \rVert} - \theta_k \right) > 0 \tag{12.4}$$
#
# By hand, with three numbers instead of 768: a picture $u = (3, 4, 0)$ and a concept $c = (1, 1, 0)$ have the cosine $7 / (5\sqrt 2) = 0.990$.

# %%
u = torch.tensor([3.0, 4.0, 0.0])
concepts = torch.tensor([[1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
thresholds = torch.tensor([0.995, 0.2])
cosines = torch.nn.functional.cosine_similarity(u, concepts, dim=1)
print(
    [round(c.item(), 3) for c in cosines], "flagged:",
    bool((cosines > thresholds).any()),
)

# %% [markdown]
# Rando et al. ([arXiv 2210.04610](https://arxiv.org/abs/2210.04610)) took it apart: the concepts are sexual ones; violence and gore pass; and prompts that avoid it are easy to find.
# It is a filter on the output of a network that learnt from pictures of the web, not a property of that network. The loader leaves it as it came and says in its line that it is there. Whoever shows pictures to others has to decide what else is needed.
#
# The miniature has none, and the loader says that too. It knows fourteen things and has never seen a photograph.
#
# It costs memory. Its configuration is CLIP's ViT-L/14:

# %%
vision = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "patch_size": 14,
}
checker = {"projection_dim": 768, "vision_config": vision}
checked = predict_memory(
    {**STABLE_DIFFUSION_15, "safety_checker": checker}, dtype=torch.float16
)
print(
    f"its weights: {checked.weights['safety_checker'] / 1e6:.0f} MB in float16; "
    f"the peak with it {checked.total / 1e9:.2f} GB instead of {full.total / 1e9:.2f}"
)

# %% [markdown]
# ## What the licence asks
#
# The weights of Stable Diffusion 1.x are under CreativeML OpenRAIL-M, those of 2.x under OpenRAIL++-M ([the text](https://huggingface.co/spaces/CompVis/stable-diffusion-license)). It is not an open-source licence in the usual sense. In short, and not as legal advice:
#
# - You may use the model, change it, sell it and pass it on.
# - A list of uses is forbidden, such as breaking laws or harming people. It is Attachment A.
# - Whoever gets the weights or anything derived from them from you has to get the same list, as a duty.
# - The authors claim no rights in the pictures. You answer for what you do with them.
#
# A mirror changes the address, not the licence. What the model learnt from is another question, which a licence on the weights does not answer; the model's card names the data.
# The miniature is under this repository's licence, and its data is drawn by this repository.

# %% [markdown]
# ## Where people go wrong
#
# **A second pipeline that doubles the first.** diffusers makes another pipeline from the same parts with `from_pipe`. Without a dtype it converts them to float32, and they are the same parts:

# %% tags=["nbval-ignore-output"]
from diffusers import StableDiffusionImg2ImgPipeline, logging

logging.set_verbosity_error()  # its log has a line here that is about something else
first = load_stable_diffusion(
    "mini-stable-diffusion", device="cpu", dtype=torch.bfloat16
)
before = predict_memory(first)
second = StableDiffusionImg2ImgPipeline.from_pipe(first)
after = predict_memory(first)
print(
    f"the first pipeline is now in {first.unet.dtype}: "
    f"weights {sum(before.weights.values()) / 1e6:.1f} MB before, "
    f"{sum(after.weights.values()) / 1e6:.1f} MB after"
)

# %% [markdown]
# Pass the dtype, `from_pipe(first, dtype=first.dtype)`, and look at a weight afterwards.
#
# **One saving for another's problem.** Attention slicing does not help the decoder, tiling does not help the U-Net, and neither helps weights. Ask `predict_memory` which phase is the worst before you switch anything on.
#
# **A copied scheduler.** A scheduler written out with four arguments, or taken from another checkpoint, has lost what belongs to the network. Use `from_config` of the model's own, as `make_scheduler` does.

# %% [markdown]
# ## Your turn
#
# Each check runs your answer on several cases and names the mistake if it is a known one. `hint("12.1")` helps in steps, `solution("12.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("12.1")

# %%
scores = ...  # GB, for 512 x 512 pixels

check("12.1", scores)

# %%
exercise("12.2")

# %%
def peaks(weights, activations, largest_layers):
    ...


check("12.2", peaks)

# %%
exercise("12.3")

# %%
def rms(x):
    ...


check("12.3", rms)

# %%
exercise("12.4")

# %%
def sliced_attention(query, key, value, slice_size):
    out = torch.empty_like(query)
    for start in range(0, len(query), slice_size):
        out[start : start + slice_size] = ...
    return out


check("12.4", sliced_attention)

# %%
exercise("12.5")

# %%
def join_tiles(left, right, overlap):
    share = torch.arange(overlap, dtype=left.dtype) / overlap
    ...


check("12.5", join_tiles)

# %%
exercise("12.6")

# %%
def type_errors(output, x0, noise, alpha_bar):
    ...


check("12.6", type_errors)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | a real pipeline, or the miniature and a reason | `load_stable_diffusion(model, device=, dtype=, offload=, ...)` | |
# | ids, mirrors, licences | `CHECKPOINTS`, `find_checkpoint` | |
# | weights and the bytes alive at the peak | `predict_memory`, `MemoryEstimate` | (12.1) |
# | the same, measured | `measure_peak`, `LiveBytes` | |
# | scores of attention | `predict_memory(..., fused_attention=False)` | (12.2) |
# | one head, one picture, one tile, one part at a time | `attention_slicing`, `vae_slicing`, `vae_tiling`, `offload` | |
# | another sampler, the same network | `make_scheduler(name, config)` | |
# | $v$ read as noise | `to_x0_and_noise(v, xt, alpha_bar, "epsilon")` | (12.3) |
#
# This ends Part II. You have built every part of a Stable Diffusion, trained small ones, and can run a large one. What you cannot do yet is change what it knows without training all of it: that is adapting, where Part III begins.
#
# To read next:
#
# - Rombach et al. 2022, https://arxiv.org/abs/2112.10752: latent diffusion, the paper behind Stable Diffusion.
# - Dao et al. 2022, https://arxiv.org/abs/2205.14135: attention that never writes its scores down.
# - Rando et al. 2022, https://arxiv.org/abs/2210.04610: what the safety checker does and does not do.
