"""Manual questions of lessons 09 to 12."""

from __future__ import annotations

from .rubric import ManualQuestion

QUESTIONS = (
    ManualQuestion(
        id="09.m1",
        lesson=9,
        title="Latents drawn from N(0, I)",
        prompt="""The loss pulls every $q(z \\mid x)$ towards $N(0, I)$, and yet latents drawn from
        $N(0, I)$ decode to
specks, and latents with the right mean and covariance to clouds. Explain both rows of that figure.
What would a larger weight $w$ change, and what does latent diffusion do instead?""",
        rubric=(
            (
                1,
                (
                    "At the small weight that keeps pictures sharp, the distribution q(z) of real"
                    " latents stays far from N(0, I)."
                ),
            ),
            (
                1,
                (
                    "Mean and covariance are not enough, because q(z) is not Gaussian: what makes a"
                    " thing is in the rest."
                ),
            ),
            (1, "A larger w moves q(z) towards N(0, I), and pictures towards blur."),
            (1, "Latent diffusion keeps the small weight and learns q(z) with a diffusion model."),
        ),
    ),
    ManualQuestion(
        id="09.m2",
        lesson=9,
        title="Four wrong places for one factor",
        prompt="""Look at the figure with the scaling factor in four wrong places. Which of the four
        would you be most likely
to ship without noticing, and why does it look nearly right? Where do the two places belong, and
which one-line check finds every wrong one?""",
        rubric=(
            (
                1,
                (
                    "The last, never multiplied: right shapes in partly wrong colours. The decoder"
                    " normalises what it works on."
                ),
            ),
            (1, "Multiply right after encoding, divide right before decoding."),
            (
                1,
                (
                    "Encode and decode a picture through both functions and compare with the"
                    " autoencoder alone, by a number."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="10.m1",
        lesson=10,
        title="What a word can know",
        prompt="""Two prompts differ in one word, "left" against "right". At which of the 32
        positions do their vectors
differ, and why? Through which positions only can the U-Net learn where the thing named first
belongs? How would you measure whether it does?""",
        rubric=(
            (
                1,
                (
                    "Only from the changed word on, to the last end token: the causal mask keeps"
                    " every earlier position from seeing it."
                ),
            ),
            (
                1,
                (
                    "So the first thing's own words cannot say where it goes; the words after the"
                    " changed one (and the end tokens) can."
                ),
            ),
            (
                1,
                (
                    "Draw both prompts of a pair from the same noise and let a judge read whether"
                    " the two things change places."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="10.m2",
        lesson=10,
        title="Attention is not use",
        prompt="""Somebody sees that a position gets a large share of the attention and concludes
        that the picture depends on
it. Describe an experiment that tests this. What did lesson 10 find for the words and for the end
tokens of the miniature?""",
        rubric=(
            (
                1,
                (
                    "Replace the vectors of those positions by the ones of the empty prompt, draw"
                    " from the same noise, and count what is right."
                ),
            ),
            (1, "If nothing becomes worse they were not needed, however large their share."),
            (
                1,
                (
                    "The miniature needs the words; end tokens alone do not carry the prompt,"
                    " though by the mask they could have read it."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="11.m1",
        lesson=11,
        title="What is decided when",
        prompt="""Look at the strip of estimates after each step, and at the curves of what agrees
        with the finished picture.
In which order are background, layout, kind and colour settled? Use it to predict what
image-to-image keeps and changes at a low, a middle and a high strength.""",
        rubric=(
            (1, "Background and layout settle first, then the kind, colours last."),
            (
                1,
                (
                    "Low strength starts late in the chain: nearly everything is settled and kept,"
                    " the words change little."
                ),
            ),
            (1, "High strength starts early and obeys the words, but forgets the picture."),
            (
                1,
                (
                    "In between, what settles late changes and what settles early stays; the right"
                    " strength depends on what is to change."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="11.m2",
        lesson=11,
        title="Clean pictures of something else",
        prompt="""Of the mistakes in "Where people go wrong" one draws clean pictures that are
        simply not what was asked for.
Which one, and why are the pictures clean? Give two ways to find it that do not need luck.""",
        rubric=(
            (1, "The swapped halves: the scale acts as 1 - s, away from the prompt."),
            (
                1,
                (
                    "Each half is a proper prediction, so the result is a sharp scene; only its"
                    " content is wrong."
                ),
            ),
            (
                1,
                (
                    "Two of: a judge that reads attributes, the prompt beside each picture,"
                    " equality with a known pipeline, 1 and 0 for the two predictions."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="12.m1",
        lesson=12,
        title="Out of memory",
        prompt="""Four pictures of 1024 x 1024 pixels do not fit on a GPU. The loop of the U-Net
        runs to its end, and the
error comes while the pictures are decoded. A friend switches attention slicing on. Does it help?
Say how you would choose a saving, name two that fit this case, and say what each costs.""",
        rubric=(
            (
                1,
                (
                    "No: attention slicing concerns scores of the U-Net, and saves nothing where"
                    " the fused kernel is used. The decoder is the peak."
                ),
            ),
            (
                1,
                (
                    "First find out which phase is the worst (predict_memory, or a measurement),"
                    " then choose for that phase."
                ),
            ),
            (1, "vae_slicing decodes one picture at a time with the same result."),
            (
                1,
                (
                    "vae_tiling decodes tiles; the result differs a little, because a tile does not"
                    " see the rest."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="12.m2",
        lesson=12,
        title="Before you put it on the web",
        prompt="""You fine-tune Stable Diffusion 1.5 and offer it on a web page with its safety
        checker left on. What does the
licence of the weights ask of you, and what does it not settle? What does the checker look at, and
what passes it?""",
        rubric=(
            (
                1,
                (
                    "Use, change and sale are allowed, a list of uses is forbidden, and you have to"
                    " pass that list on as a duty."
                ),
            ),
            (
                1,
                (
                    "The authors claim no rights in the pictures and you answer for them; what the"
                    " model learned from is not settled by it."
                ),
            ),
            (
                1,
                (
                    "The checker compares the finished picture's CLIP vector with those of 17 fixed"
                    " concepts and blackens what exceeds one."
                ),
            ),
            (
                1,
                (
                    "The concepts are sexual ones: violence passes, and prompts that avoid it are"
                    " easy to find. More is needed in public."
                ),
            ),
        ),
    ),
)
