# %% [markdown]
# # 00 · Start here
#
# After this lesson you can:
#
# - draw a picture from your own words, and handwritten digits, with trained diffusion models,
# - tell whether your machine is ready for the course,
# - answer an exercise, ask for a hint, and read what a check tells you,
# - read the course's notation and find the function behind each symbol,
# - fix the seed, the device and the dtype in one place.
#
# You need: Python, basic PyTorch, the normal distribution and the chain rule.
#
# **Measured cost:** 0.7 min on 2 cores, 1.1 GB of memory at the peak.
#
# Run a cell with Shift+Enter. Every lesson works from top to bottom, on two CPU cores and without a network.

# %% [markdown]
# ## A picture first
#
# Say what you want to see, and run the cell. It draws your words four times, each time from other noise.

# %%
from diffusion_course import load_parts, seed_everything, show, text_to_image
from diffusion_course.notebook import image_grid

my_words = "a large red ball on the sea"
pictures = text_to_image(load_parts(), [my_words] * 4, generator=seed_everything(0))
fig = image_grid(pictures, columns=4, scale=1.6, title=my_words)
show(fig, alt=f"Four small pictures, drawn from the words: {my_words}.")

# %% [markdown]
# This is a Stable Diffusion in miniature. It is trained on scenes that the course draws itself, and knows these words:

# %%
from diffusion_course.datasets.scenes import words

for name in ("KINDS", "COLOURS", "PATTERNS", "SIZES", "BACKGROUNDS"):
    print(f"{name.lower()}: {', '.join(getattr(words, name))}")
print("places: left of, right of, above, below, inside")

# %% [markdown]
# Try `"a small striped yellow fish inside a large blue heart at sunset"`. Some pictures go wrong, and lesson 11 measures how many.
# By lesson 12 you will have opened every part of it. Part I starts with less: one network, and digits without words.
#
# ## The same with nothing hidden
#
# The next cell starts from sixteen squares of pure noise and removes a little of it a thousand times.

# %%
import torch

from diffusion_course import Progress, load_pretrained, p_sample_iter, shipped_files

generator = seed_everything(0)
network = load_pretrained("digits")
schedule = shipped_files()["digits"].noise_schedule()
tables = schedule.betas, schedule.alphas, schedule.alphas_cumprod
kept = {}
with Progress(schedule.num_train_timesteps, "drawing") as bar:
    for t, x, x0_pred in p_sample_iter(
        network, (16, 1, 16, 16), *tables, generator=generator
    ):
        kept[t] = x, x0_pred
        bar.update()

# %%
digits = kept[0][0]
fig = image_grid(digits, columns=8, title="Sixteen digits that nobody wrote")
show(fig, alt=(
    "Two rows of eight small grey pictures. Most can be read as handwritten digits; "
    "a few are malformed."
))

# %% [markdown]
# These digits are drawn by a network of 314,337 weights. The course's own command trained it on 1,438 real digits:

# %%
made_by = shipped_files()["digits"].made_by
weights = sum(p.numel() for p in network.parameters())
print(
    f"{weights:,} weights, made by: {made_by['command']} ({made_by['steps']:,} steps, "
    f"seed {made_by['seed']})"
)

# %% [markdown]
# Are they copies of those? Below each drawn digit is the nearest real one, of all that the network was trained on.

# %%
from diffusion_course import load_dataset

real = load_dataset("digits", split="train", size=16).images
gap, nearest = torch.cdist(digits.flatten(1), real.flatten(1)).min(1)
fig = image_grid(
    torch.cat([digits[:8], real[nearest[:8]]]),
    row_labels=["drawn", "nearest real"], title="Relatives, not copies",
)
show(fig, alt=(
    "Upper row: eight drawn digits. Lower row: the nearest real digit of each, "
    "mostly the same figure in another handwriting."
))

# %% tags=["nbval-ignore-output"]
unseen = load_dataset("digits", split="test", size=16).images
usual = torch.cdist(unseen.flatten(1), real.flatten(1)).min(1).values.median()
assert gap.min() > 0.5 * usual  # no copy
print(
    "distance to the nearest real digit, as a multiple of what is usual "
    "for a new real one:"
)
print(f"smallest {gap.min() / usual:.1f}, median {gap.median() / usual:.1f}")

# %% [markdown]
# By lesson 04 you will have derived every line that ran here.
# Change the seed above the network and run both cells again: you get sixteen others.

# %% [markdown]
# ## Predict first
#
# The chain takes 1,000 steps, from index $t = 999$ (pure noise) down to $t = 0$ (a picture).
# At every step the network also says what it believes the finished picture is.
#
# How many steps does it take until that belief is settled, so that a classifier reads the same digit in it as in the final picture?
# Write your guess, a number from 0 to 1,000, and only then run the cells below.

# %%
my_guess = 500

# %% [markdown]
# A small classifier reads both: the network's belief at step $t$, and the final picture.

# %%
classifier = load_pretrained("digit_classifier")
with torch.no_grad():
    final = classifier(digits).argmax(1)
    agree = {
        t: (classifier(belief).argmax(1) == final).float().mean().item()
        for t, (_, belief) in kept.items()
    }
settled = max(t for t in agree if all(agree[s] >= 0.75 for s in range(t + 1)))

# %% tags=["nbval-ignore-output"]
print(
    f"You guessed {my_guess}. It takes {999 - settled} steps until at least 12 of 16 "
    "beliefs show the final digit, for good."
)
print(
    f"There the signal has the weight {schedule.alphas_cumprod[settled].sqrt():.2f}, "
    f"the noise {(1 - schedule.alphas_cumprod[settled]).sqrt():.2f}."
)

# %% [markdown]
# Before that, the noise could still become several digits. What the network believes is then an average of them: a blur.
# Lesson 03 proves that this average is the best it can do.

# %% [markdown]
# ## Look
#
# Move the slider from right to left with the arrow keys.
# (Tab goes to the next control. In lessons with a list, the space bar opens it, arrow keys move in it, and Enter closes it.)
# Task: find the first $t$ at which *you* can read the digits in the upper rows, and compare it with the lower rows.

# %%
from diffusion_course import Explorer


def both(t):
    x, belief = (value[:8] for value in kept[t])
    alt = (
        f"Step t = {t}. Upper row: eight pictures of x_t, signal "
        f"{schedule.alphas_cumprod[t].sqrt():.2f}. Lower row: the network's beliefs."
    )
    return image_grid(
        torch.cat([x, belief]), row_labels=["x_t", "belief"],
        title=f"What is there and what the network believes, t = {t}",
    ), alt


Explorer(both, t=list(range(0, 1000, 37)), start={"t": 481}, ahead=True)

# %% [markdown]
# ## Is this machine ready
#
# The doctor checks versions, device, memory, disk, the Jupyter kernel and the shipped weights, and trains for five seconds.
# A line that fails says what to do. In a terminal the same report is `python -m diffusion_course doctor`.

# %% tags=["nbval-ignore-output"]
from diffusion_course import doctor

status = doctor.main([])

# %% [markdown]
# ## How a check talks to you
#
# Exercises have a number and a stub. This one belongs to lesson 01; here it shows how checks work.

# %%
from diffusion_course import check, exercise, hint, progress, solution

exercise("01.1")

# %% [markdown]
# An exercise that still has its `...` is not wrong. It is open, and the lesson runs on.

# %%
def forward_step(x_prev, t, betas, noise):
    # (B,) -> (B, 1, ...)
    beta = betas[t].to(x_prev.dtype).reshape(-1, *[1] * (x_prev.ndim - 1))
    mean = (1 - beta).sqrt() * x_prev
    return mean + ...


check("01.1", forward_step)

# %% [markdown]
# Now an answer with a mistake that stands in several published notebooks. The check compares it with a catalogue and names it.

# %%
def forward_step(x_prev, t, betas, noise):
    beta = betas[t].to(x_prev.dtype).reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta).sqrt() * x_prev + beta * noise


check("01.1", forward_step)

# %% [markdown]
# `check(..., show=True)` prints the inputs of the case that failed, too. An answer that has not come back after 60 seconds is stopped;
# `time_limit=` changes that.
#
# Hints come one at a time, three for each exercise.

# %%
hint("01.1")

# %% [markdown]
# `solution("01.1")` shows a solution once you have tried, as you just did. Leave it for lesson 01.
# Where you have not tried, it asks you to:

# %%
solution("01.2")

# %% [markdown]
# `progress()` lists what is done, tried and open, with its points, and draws it. It is kept in a small file on your machine, so that it
# outlives the notebook; nothing leaves the machine. The variable `DIFFUSION_COURSE_PROGRESS` names another file, or is `off`;
# `reset_progress()` forgets.

# %% tags=["nbval-ignore-output"]
progress()

# %% [markdown]
# ## Seed, device, dtype: one place
#
# **Seed.** Every function that draws random numbers takes a `generator`. One line at the top of a lesson fixes everything.

# %%
first = torch.randn(3, generator=seed_everything(7))
second = torch.randn(3, generator=seed_everything(7))
torch.testing.assert_close(first, second, rtol=0, atol=0)
print("same seed, same numbers: ", [f"{v:.4f}" for v in first.tolist()])

# %% [markdown]
# The same seed gives the same numbers on one kind of device. A GPU draws others than a CPU.
#
# **Device.** `default_device()` is the GPU if there is one. Move the network, the data and the schedule there; the functions follow their inputs.
#
# **Dtype.** Schedules are kept in float64, because $1 - \bar\alpha_t$ loses digits when $\bar\alpha_t$ is near 1. Data and networks are float32.

# %%
from diffusion_course import make_schedule

wide = 1 - make_schedule("linear").alphas_cumprod[0]
narrow = 1 - make_schedule("linear").to(dtype=torch.float32).alphas_cumprod[0]
print(f"1 - abar at the first step: float64 {wide:.10f}, float32 {narrow:.10f}")
torch.testing.assert_close(wide, torch.tensor(1e-4, dtype=torch.float64))

# %% [markdown]
# A mix-up is refused at once, in words that repeat what you passed:

# %%
from diffusion_course import q_sample

try:
    q_sample(digits, torch.tensor([1000] * 16), schedule.alphas_cumprod)
except ValueError as error:
    print(error)

# %% [markdown]
# ## The notation
#
# One table for the whole course. Symbols are introduced in their lessons; come back here when one escapes you.
#
# | symbol | in words | in code | shape |
# |---|---|---|---|
# | $x_0$ | clean data | `x0` | (B, ...) |
# | $x_t$ | data after step $t$ of noise | `xt` | (B, ...) |
# | $t$ | number of the step. Formulas count $1, \dots, T$ as the papers do; code, figures and printed lines count $0, \dots, T-1$, one less | `t` | (B,) int64 |
# | $T$ | number of steps | `num_train_timesteps` | |
# | $\beta_t$ | variance of the noise that step $t$ adds | `betas` | (T,) |
# | $\alpha_t = 1 - \beta_t$ | what is left of the variance | `alphas` | (T,) |
# | $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$ | the same after all steps up to $t$ | `alphas_cumprod`; at one step `alpha_bar` | (T,) |
# | $\epsilon$ | standard normal noise that was added | `noise` | (B, ...) |
# | $\epsilon_\theta$ | the network's estimate of it | `eps_pred` | (B, ...) |
# | $\hat x_0$ | the estimate of the clean data | `x0_pred` | (B, ...) |
# | $v$ | $\sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0$ | `prediction_type="v_prediction"` | (B, ...) |
# | $\nabla \log p(x_t)$ | the score: where density rises fastest | `score` | (B, ...) |
# | $\tilde\beta_t$ | variance of the true reverse step | `q_posterior(...).variance` | (B, 1, ...) |
# | SNR | signal-to-noise ratio $\bar\alpha_t / (1 - \bar\alpha_t)$ | `snr` | (T,) |
# | $\sigma$ | noise level $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ | `sigmas` | (T,) |
#
# B is the batch; "..." is whatever one sample is: two coordinates, or channels, height and width.

# %% [markdown]
# ## Where people go wrong
#
# They read on. A diffusion formula looks right whether or not a square root is missing.
# So each lesson asks you to predict a number, checks each formula by a second route, and shows the check failing once.
# Guess before you run a cell. Restart the kernel and run all cells when something looks odd.

# %% [markdown]
# ## Your turn
#
# Go to [lesson 01, the forward process](01_forward_process.ipynb). The chain that drew the digits runs backwards there: from a picture to noise.

# %% [markdown]
# ## What you now have
#
# | what | code |
# |---|---|
# | a trained network and its schedule | `load_pretrained("digits")`, `shipped_files()["digits"].noise_schedule()` |
# | a chain from noise to pictures, step by step | `p_sample_iter`, or whole: `p_sample_loop` |
# | judged exercises | `exercise`, `check`, `hint`, `solution`, `progress` |
# | repeatable randomness | `seed_everything(0)`, `generator=` |
# | the source of any function | `show_source(q_sample)` |
