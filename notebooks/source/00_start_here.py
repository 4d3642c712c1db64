# %% [markdown]
# # 00 · Start here
#
# After this lesson you can:
#
# - draw a picture from your own words, and handwritten digits, with trained diffusion models,
# - say in one sentence what such a model does, and why it takes so many small steps,
# - find out whether a drawn picture is a copy of one that the model was trained on,
# - answer an exercise, ask for a hint, and read what a check tells you.
#
# You need: Python, basic PyTorch, the normal distribution and the chain rule.
#
# **Measured cost:** 0.5 min on 2 cores, 1.1 GB of memory at the peak. Core: about 14 minutes of reading, 0.4 of computing. Going further: about 4 and 0.0.
#
# Run a cell with Shift+Enter. Every lesson works from top to bottom, on two CPU cores and without a network.
# In this lesson $t$ is the index that the code counts: the first of a thousand steps has $t = 999$, the last has $t = 0$.

# %% [markdown]
# ## A picture first
#
# Say what you want to see, and run the cell. It draws your words four times, and begins each time with other random noise.

# %%
from diffusion_course import load_parts, seed_everything, show, text_to_image
from diffusion_course.notebook import image_grid

my_words = "a large red ball on the sea"
pictures = text_to_image(load_parts(), [my_words] * 4, generator=seed_everything(0))
fig = image_grid(pictures, columns=4, scale=1.6, title=my_words)
show(fig, alt=f"Four small pictures, drawn from the words: {my_words}.")

# %% [markdown]
# This is a miniature of Stable Diffusion, a well-known program that draws pictures from words. It was trained on scenes that the course draws itself, and it knows these words:

# %%
from diffusion_course.datasets.scenes import words

for name in ("KINDS", "COLOURS", "PATTERNS", "SIZES", "BACKGROUNDS"):
    print(f"{name.lower()}: {', '.join(getattr(words, name))}")
print("places: left of, right of, above, below, inside")

# %% [markdown]
# Now change `my_words`. Try `"a small striped yellow fish inside a large blue heart at sunset"`. Some pictures go wrong, and lesson 11 measures how many.
#
# How can a program draw what nobody has drawn before? By lesson 12 you will have opened every part of this one. We start with less: digits without words, and one network.

# %% [markdown]
# ## The same with nothing hidden
#
# The model above hides its work behind one call. To see the work, we take a smaller model and run its loop ourselves.
# It has a network that looks at a noisy picture and says what noise it sees in it. The network learned this from real digits to which noise had been added on purpose, so that the right answer was known (lesson 03).
#
# We begin with sixteen squares of pure noise, and do the same three things a thousand times:
#
# 1. Show the squares to the network. It says what noise it sees in them.
# 2. Take that noise away. What remains is what the network *believes* the finished picture is.
# 3. Go a small part of the way towards this belief, and add a little fresh noise. (Only the last few steps go far.)
#
# The fresh noise keeps the squares as noisy as the network expects them to be at each step. Lesson 04 computes how much that takes.
#
# The next cell does this. Of every step it keeps the belief and the squares `x` after it.

# %%
import torch

from diffusion_course import Progress, load_pretrained, p_sample_iter, shipped_files

generator = seed_everything(0)
network = load_pretrained("digits")
schedule = shipped_files()["digits"].noise_schedule()
tables = schedule.betas, schedule.alphas, schedule.alphas_cumprod
kept = {}
with Progress(schedule.num_train_timesteps, "drawing") as bar:
    for t, x, belief in p_sample_iter(
        network, (16, 1, 16, 16), *tables, generator=generator
    ):
        kept[t] = x, belief
        bar.update()

# %%
digits = kept[0][0]
fig = image_grid(digits, columns=8, title="Sixteen digits that nobody wrote")
show(fig, alt=(
    "Two rows of eight small grey pictures. Most can be read as handwritten digits; "
    "a few are malformed."
))

# %% [markdown]
# With another number in `seed_everything(0)`, two cells above, you get sixteen others, when you run the cells from there.
# Here is the first of these sixteen on its way, and below it what the network believed:

# %% jupyter={"source_hidden": true} tags=["hide-input"]
from diffusion_course.notebook import Drawing

drawing = Drawing(7.2, 2.9, "A thousand small steps, from noise to a digit")
places = []
for i, t in enumerate((999, 700, 500, 300, 100, 0)):
    x, belief = kept[t][0][0], kept[t][1][0]
    note = f"{1000 - t:,} steps" if t < 999 else "1 step"
    place = drawing.picture(1.35 + 1.06 * i, 2.15, x, size=0.8, note=note)
    drawing.picture(1.35 + 1.06 * i, 0.75, belief, size=0.8)
    if places:
        drawing.arrow(places[-1], place, dashed=True)
    places.append(place)
drawing.text(0.45, 2.15, "what\nis there")
drawing.text(0.45, 0.75, "what the\nnetwork\nbelieves")
drawing.show(
    "Six stages of one digit. Upper row: a square of noise in which a digit appears. "
    "Lower row: the network's belief, at first noise, then a grey blur, at the end the "
    "same digit."
)

# %% [markdown]
# ## Why not in one go?
#
# A thousand calls of a network look like waste. The network tells us at its very first call what it believes the finished picture is.
# So why not take that belief, and be done? Let us look at it, for the first eight squares. Below it stand two later beliefs, and the last.
#
# We also need somebody who reads the beliefs. A second small network does that, a *classifier*: it was trained to say which digit a picture shows.

# %%
classifier = load_pretrained("digit_classifier")
final = classifier(digits).argmax(1)


def same_digit(t):  # (16,), whether belief and finished picture read as the same digit
    return classifier(kept[t][1]).argmax(1) == final


rows = {999: "step 1", 700: "step 300", 500: "step 500", 0: "step 1,000"}
fig = image_grid(
    torch.cat([kept[t][1][:8] for t in rows]), row_labels=list(rows.values()),
    title="What the network believes: noise, then blurs, then digits",
)
show(fig, alt=(
    "Eight beliefs at four steps. At step 1 they are noise, brighter in the middle. At "
    "step 300 they are eight grey blurs that look alike. At step 500 they differ, and "
    "some look like a digit. At step 1,000 they are eight digits."
))
with torch.no_grad():
    for t, name in rows.items():
        print(f"{name}: {same_digit(t).sum()} of 16 read as the final digit")

# %% [markdown]
# One step fails: none of the sixteen first beliefs reads as the digit that came out. The network is not to blame. Pure noise could still become any digit, and the network has to name one picture.
#
# Think of one pixel that is white (1) in half of the possible pictures and black (0) in the other half. If the answer is 1, half of the time it is wrong by 1, and the squared error is 1/2 on average. If the answer is 1/2, it is always wrong by 1/2, and the squared error is 1/4. Grey is the better answer, although no picture has it.
# So a network that was trained on squared errors names the average of all pictures that are still possible. Lesson 03 proves that nothing else does better.
#
# The average of all digits can be computed. If we are right, the blurs should look like it:

# %%
from diffusion_course import load_dataset

real = load_dataset("digits", split="train", size=16).images
average = real.mean(0, keepdim=True)
fig = image_grid(
    torch.cat([kept[700][1][:7], average]), columns=8,
    title="Seven beliefs at step 300, and last the average of all real digits",
)
show(fig, alt=(
    "Eight grey blurs, upright and brighter in the middle. The eighth, the average of "
    "the real digits, looks much like the seven beliefs, and is smoother."
))
print(f"average of the {len(real):,} real digits that the network was trained on")

# %% [markdown]
# They do look alike: after 300 steps hardly anything is decided.
# (At step 1 the belief is not even a blur. Almost no picture is left in what the network sees there. What remains when the noise is taken away has to be enlarged greatly, and the network's small errors are enlarged with it.)
#
# A small step does not have to decide. After it there is a little less noise, and some of the pictures that were possible have become less likely. So the next belief is an average of fewer pictures, and in the end one is left. Which one that is depends on the noise, at the beginning and in every step. That is how one network draws many pictures.
#
# Many small steps do not have to be a thousand: lesson 06 draws a digit with ten calls, by a better kind of step.

# %% [markdown]
# ## Predict first
#
# When is the belief settled? More exactly: after how many of the thousand steps does the classifier read the finished digit in the belief, and go on reading it to the end?
# Write your guess, a number from 0 to 1,000, and only then run the cell below.

# %%
my_guess = 500

# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    same = torch.stack([same_digit(t) for t in range(1000)])  # (1000, 16), row t
    sure = classifier(digits).softmax(1).max(1).values
taken = [1000 - int(column.long().cumprod(0).sum()) for column in same.T]
steps, late = sorted(taken), max(range(16), key=taken.__getitem__)
print(f"You guessed {my_guess}. The sixteen beliefs settled after this many steps:")
print(*steps)
print(f"{sum(count < my_guess for count in steps)} of 16 settled before your guess")
print(f"latest: digit {late + 1}, of which the classifier is {sure[late]:.2f} sure")
level = schedule.alphas_cumprod[999 - steps[8]]  # what the network sees next
signal, noise = level.sqrt(), (1 - level).sqrt()
print(f"after {steps[8]} steps: signal's weight {signal:.2f}, noise's {noise:.2f}")

# %% [markdown]
# Half of the sixteen settle before step 627, and half of them at it or later. Other noise gives other numbers, and the sixteen show how widely they differ. The latest is a malformed one: the classifier can hardly read it even when it is finished.
#
# So for most of these digits more than half of the way is gone before it is settled what they become. And in the middle of the list, after 627 steps, there is still more noise than signal in what the network sees.

# %% [markdown]
# ## Look
#
# The classifier says when *it* can read a digit. You may see one earlier or later. Below is a slider for $t$: its right end is the beginning, near pure noise, and its left end is the finished picture.
# Task: start at the right and move to the left with the arrow keys. Find the $t$ at which you can first read most of the digits in the lower row, and then the $t$ at which you can read them in the upper row.

# %%
from diffusion_course import Explorer


def both(t):
    x, belief = (value[:8] for value in kept[t])
    signal = schedule.alphas_cumprod[t - 1].sqrt() if t else 1.0
    alt = (
        f"After step t = {t}. Upper row: eight pictures, signal {signal:.2f}. "
        "Lower row: the network's beliefs."
    )
    return image_grid(
        torch.cat([x, belief]), row_labels=["what is there", "belief"],
        title=f"What is there after step t = {t}, and what the network believed",
    ), alt


Explorer(both, t=list(range(0, 1000, 37)), start={"t": 481}, ahead=True)

# %% [markdown]
# <details><summary>An answer</summary>
#
# In the lower row most pictures look like a digit near $t = 481$. Several of them still change: the eighth looks like a 9 there and ends as a 2. In the upper row we could read most digits only near $t = 185$, about three hundred steps later. Your eyes may differ from ours by a stop or two.
#
# </details>

# %% [markdown]
# ## Are they copies?
#
# We called these digits new. A suspicious person asks whether the network only remembers the 1,438 digits that it was trained on. So we look for the nearest of these, for every drawn digit. Near means that the squared differences of all pixels have a small sum.

# %%
nearest = torch.cdist(digits.flatten(1), real.flatten(1)).argmin(1)
fig = image_grid(
    torch.cat([digits[:8], real[nearest[:8]]]),
    row_labels=["drawn", "nearest real"], title="Relatives, not copies",
)
show(fig, alt=(
    "Upper row: eight drawn digits. Lower row: the nearest real digit of each, "
    "mostly the same figure in another handwriting."
))

# %% [markdown]
# They look like relatives. But how near is too near? Real digits that the network has never seen have nearest neighbours too, and nobody would call them copies. So we compare with their distances. To see whether the comparison would find a copy, we also try sixteen training digits with a little noise on them.

# %% tags=["nbval-ignore-output"]
unseen = load_dataset("digits", split="test", size=16).images
copies = real[:16] + 0.05 * torch.randn(16, 1, 16, 16, generator=generator)


def distances(images):  # to the nearest real digit of the training set
    return torch.cdist(images.flatten(1), real.flatten(1)).min(1).values


least = distances(unseen).min()
for name, images in (("drawn", digits), ("unseen", unseen), ("copies", copies)):
    found = distances(images)
    print(
        f"{name:>7}: median {found.median():.1f}, nearest {found.min():.1f}, "
        f"{(found < least).sum()} of {len(found)} nearer than any unseen digit"
    )

# %% [markdown]
# The drawn digits are about as far from the training set as digits that were never in it, and none of them is nearer than the nearest of those. All sixteen copies are. So these sixteen are not copies, as far as this distance can tell. It compares pixel by pixel, so it can miss a copy that was moved by a pixel. Lesson 07 comes back to this.

# %% [markdown]
# ## How a check talks to you
#
# In the next lessons you will write this loop yourself, and a check will tell you whether it is right. An exercise has a number, and code with a gap in it, `...`, that you fill.
# The one below belongs to lesson 01, which explains its formula. You need not understand it today; it shows how checks talk.

# %%
from diffusion_course import check, exercise, hint, solution

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
# Next is an answer with a mistake that stands in several published notebooks: a square root is missing. The check knows many such mistakes, and says which one it found.

# %%
def forward_step(x_prev, t, betas, noise):
    beta = betas[t].to(x_prev.dtype).reshape(-1, *[1] * (x_prev.ndim - 1))
    return (1 - beta).sqrt() * x_prev + beta * noise


check("01.1", forward_step)

# %% [markdown]
# If that does not help, ask for a hint. Hints come one at a time, three for each exercise.

# %%
hint("01.1")

# %% [markdown]
# `solution("01.1")` shows a solution once you have tried, as you just did. Leave it for lesson 01.
# Where you have not tried, it asks you to:

# %%
solution("01.2")

# %% [markdown]
# ## Where people go wrong
#
# It is tempting to nod and read on. But a diffusion formula looks right whether or not a square root is missing, and a program with the wrong formula still draws something.
# So each lesson asks you to predict a number, checks each formula by a second route, and shows the check failing once. Guess before you run a cell. When something looks odd, restart the kernel and run all cells.
#
# A wrong argument is refused at once, in words that repeat what you passed. For example, `q_sample` (lesson 02) adds to a picture the noise of step $t$. With a thousand steps, counted from 0, there is no $t = 1000$:

# %%
from diffusion_course import q_sample

try:
    q_sample(digits, torch.tensor([1000] * 16), schedule.alphas_cumprod)
except ValueError as error:
    print(error)

# %% [markdown]
# ## Your turn
#
# Go to [lesson 01, the forward process](01_forward_process.ipynb). There the thousand steps run the other way, from a picture to noise.

# %% [markdown]
# ## What you now have
#
# In one sentence: a diffusion model begins with noise and goes in small steps towards what a network believes the picture is, because the early beliefs are averages of many pictures, and only become one picture as the noise goes.

# %% jupyter={"source_hidden": true} tags=["hide-input"]
card = Drawing(7.2, 1.7)
x, net, guess = card.row(
    ["what is there", "network", "belief"], 1.1, 1.2, 6.3,
    kinds=["noise", "network", "data"], width=1.2,
)
card.arrow(x, net)
card.arrow(net, guess, "minus the noise")
card.arrow(
    guess.bottom, x.bottom, "a small part of the way, and a little fresh noise",
    via=[(guess.x, 0.4), (x.x, 0.4)],
)
card.show(
    "A loop of three boxes. What is there goes into the network; with its noise taken "
    "away it gives the belief; a small part of the way towards it, with a little fresh "
    "noise, is what is there next."
)

# %% [markdown]
# | in words | code |
# |---|---|
# | A trained network and its schedule are loaded by name. | `load_pretrained("digits")`, `shipped_files()["digits"].noise_schedule()` |
# | A picture is drawn in many small steps, from noise. | `p_sample_iter`, or whole: `p_sample_loop` |
# | One step is not enough: early beliefs are averages of many pictures. | `for t, x, belief in p_sample_iter(...)` |
# | Exercises are checked, and mistakes are named. | `exercise`, `check`, `hint`, `solution` |
# | The same seed gives the same numbers. | `seed_everything(0)`, `generator=` |
#
# By lesson 04 you will have derived the loop, and in lesson 05 you will build a network for it.

# %% [markdown]
# ## Going further
#
# The core of this lesson ends here. What follows is for looking up: pick what you need.

# %% [markdown]
# ### Is this machine ready
#
# If the cells above ran, it is. When something fails, the doctor says what and why: it checks versions, device, memory, disk, the Jupyter kernel and the shipped weights, and trains a small network for a moment.
# A line that fails says what to do. In a terminal the same report is `python -m diffusion_course doctor`.

# %% tags=["nbval-ignore-output"]
from diffusion_course import doctor

status = doctor.main([])

# %% [markdown]
# ### More about checks, and what you have done so far
#
# `check(..., show=True)` also prints the inputs of the case that failed. An answer that has not come back after 60 seconds is stopped;
# `time_limit=` changes that.
#
# `progress()` lists which exercises are done, tried and open, with their points. It is kept in a small file on your machine, so that it
# outlives the notebook; nothing leaves the machine. The variable `DIFFUSION_COURSE_PROGRESS` names another file, or is `off`;
# `reset_progress()` forgets. `show_source(q_sample)` shows the source of any function.

# %% tags=["nbval-ignore-output"]
from diffusion_course import progress

progress()

# %% [markdown]
# ### Without a mouse
#
# Tab goes from one control to the next, and arrow keys move a slider. In lessons with a list, the space bar opens it, arrow keys move in it, and Enter closes it.

# %% [markdown]
# ### Who trained the digits
#
# The network came with the course. Its weights say how they were made, so that you can make them again:

# %%
made_by = shipped_files()["digits"].made_by
weights = sum(p.numel() for p in network.parameters())
print(
    f"{weights:,} weights, made by: {made_by['command']} ({made_by['steps']:,} steps, "
    f"seed {made_by['seed']})"
)

# %% [markdown]
# ### Seed, device, dtype: one place
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
# ### The notation
#
# One table for the whole course. Symbols are introduced in their lessons; come back here when one escapes you.
#
# | symbol | in words | in code | shape |
# |---|---|---|---|
# | $x_0$ | clean data | `x0` | (B, ...) |
# | $x_t$ | data after step $t$ of noise | `xt` | (B, ...) |
# | $t$ | number of the step. Formulas count $1, \dots, T$ as the papers do; code counts $0, \dots, T-1$, one less. A lesson whose figures count from 1 says so at its beginning | `t` | (B,) int64 |
# | $T$ | number of steps | `num_train_timesteps` | |
# | $\beta_t$ | variance of the noise that step $t$ adds | `betas` | (T,) |
# | $\alpha_t = 1 - \beta_t$ | what is left of the variance | `alphas` | (T,) |
# | $\bar\alpha_t = \alpha_1 \alpha_2 \cdots \alpha_t$ | the same after all steps up to $t$ | `alphas_cumprod`; at one step `alpha_bar` | (T,) |
# | $\epsilon$ | standard normal noise that was added | `noise` | (B, ...) |
# | $\epsilon_\theta$ | the network's estimate of it | `eps_pred` | (B, ...) |
# | $\hat x_0$ | the estimate of the clean data | `x0_pred` | (B, ...) |
# | $v$ | $\sqrt{\bar\alpha_t}\,\epsilon - \sqrt{1-\bar\alpha_t}\,x_0$ | `prediction_type="v_prediction"` | (B, ...) |
# | $\nabla \log p(x_t)$ | the score: where density rises fastest | `score` | (B, ...) |
# | $\tilde\beta_t$ | variance of $q(x_{t-1} \mid x_t, x_0)$, the step back when the clean data is known | `q_posterior(...).variance` | (B, 1, ...) |
# | SNR | signal-to-noise ratio $\bar\alpha_t / (1 - \bar\alpha_t)$ | `snr` | (T,) |
# | $\sigma$ | noise level $\sqrt{(1-\bar\alpha_t)/\bar\alpha_t}$ | `sigmas` | (T,) |
#
# B is the batch; "..." is whatever one sample is: two coordinates, or channels, height and width.
