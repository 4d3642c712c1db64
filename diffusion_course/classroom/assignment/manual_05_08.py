"""Manual questions of lessons 05 to 08."""

from __future__ import annotations

from .rubric import ManualQuestion

QUESTIONS = (
    ManualQuestion(
        id="05.m1",
        lesson=5,
        title="The first loss",
        prompt="""A new U-Net of this course has a loss of 1.00 before its first step. Why exactly
        1, and how far may a batch
of $n$ numbers be from it? Another new noise predictor starts at 2.3. What do you look at first?""",
        rubric=(
            (
                1,
                (
                    "Its last layers start at zero, so it answers 0, and the loss is the mean of"
                    " the squared noise, whose expectation is 1."
                ),
            ),
            (
                1,
                (
                    "The variance of a squared standard normal is 2: the mean of n has the standard"
                    " deviation sqrt(2/n)."
                ),
            ),
            (
                1,
                (
                    "At 2.3 the answer is not 0, or the target is not standard normal: look at the"
                    " last layer's start and at the target."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="05.m2",
        lesson=5,
        title="Shuffle the batch",
        prompt="""Describe a test, without any labels, that finds out whether a network's answer for
        one picture depends on
the other pictures in its batch. Name two mistakes of lesson 05 that it finds and one mistake in the
time embedding that it cannot find.""",
        rubric=(
            (
                1,
                (
                    "Shuffle the batch: the answers must be shuffled in the same way. Or give a"
                    " sample alone: the answer must stay."
                ),
            ),
            (
                1,
                (
                    "It finds an embedding that runs over the batch, and a normalisation over the"
                    " batch."
                ),
            ),
            (
                1,
                (
                    "It cannot find what treats every sample alike: a time that is a fraction, h -"
                    " 1 for h, sines before cosines."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="06.m1",
        lesson=6,
        title="The same noise, the same digit",
        prompt="""From the same noise DDIM draws nearly the same digit with 10 and with 50 calls,
        and the ancestral sampler
another digit each time. Explain both. What do more calls improve in DDIM, and what can they not
improve?""",
        rubric=(
            (
                1,
                (
                    "DDIM follows the probability-flow ODE: the end is fixed by the start, and"
                    " fewer steps follow the same path less well."
                ),
            ),
            (
                1,
                (
                    "The ancestral sampler draws noise in every step; another number of steps draws"
                    " other noise. There is no path to follow."
                ),
            ),
            (
                1,
                (
                    "More calls remove the error of the steps. The network's own error stays, so"
                    " the quality levels off."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="06.m2",
        lesson=6,
        title="Twenty steps against twenty steps",
        prompt="""A report says: "At 20 steps Heun is better than Euler and DPM-Solver++(2M)." Why
        is the comparison unfair?
Describe a fair one, and say what lesson 06 found with it.""",
        rubric=(
            (
                1,
                "Heun calls the network twice in a step and once in the last: 39 calls against 20.",
            ),
            (
                1,
                (
                    "Compare at equal calls of the network, which is where the time goes; the same"
                    " start, schedule and network."
                ),
            ),
            (1, "At about 20 calls Heun was the worst of the three on the moons."),
        ),
    ),
    ManualQuestion(
        id="07.m1",
        lesson=7,
        title="Two numbers from two papers",
        prompt="""One paper reports a Frechet distance of 9.1 from 5,000 pictures, another 8.4 from
        50,000, for the same data
set. Which model is better? Explain, and list what you would ask the authors for.""",
        rubric=(
            (
                1,
                (
                    "It cannot be said: the distance has a bias of about c/N, so fewer pictures"
                    " give a larger number for the same model."
                ),
            ),
            (
                1,
                (
                    "The constant c differs between sets too; equal N, an extrapolation over 1/N,"
                    " or an unbiased distance is needed."
                ),
            ),
            (
                1,
                (
                    "Ask for the features and the preprocessing: numbers from different ones cannot"
                    " be compared."
                ),
            ),
            (
                1,
                (
                    "Ask for an interval or the value of real against real data, and whether the"
                    " best of several runs was reported."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="07.m2",
        lesson=7,
        title="The photocopier",
        prompt="""In lesson 07 a set of copies of the reference gets a smaller Frechet distance than
        fresh real digits. Why?
Which of the lesson's numbers notice the copies, which do not, and what happens when the copies are
moved by one pixel?""",
        rubric=(
            (
                1,
                (
                    "The distance compares mean and covariance of features; copies share the"
                    " reference's own chance deviations."
                ),
            ),
            (
                1,
                (
                    "Frechet distance, precision and recall have no complaint; the test for copies"
                    " notices. (So does a kernel distance clearly below 0.)"
                ),
            ),
            (
                1,
                (
                    "Moved copies pass the test for copies, which measures pixels; the distances"
                    " then notice the shift."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="08.m1",
        lesson=8,
        title="Where did the points go",
        prompt="""Compare the samples of the upper moon at $s = 1$ and at $s = 4$, both with the
        exact network. Which part of
the arc is empty at $s = 4$? The clean points tell their label almost surely, so why does guidance
move anything? Do guided samples follow the density $p(x)\\,p(c \\mid x)^s$ that the formula was
derived from?""",
        rubric=(
            (
                1,
                (
                    "The right end is empty, the leg that dips towards the lower moon; the spread"
                    " is about a third smaller."
                ),
            ),
            (
                1,
                (
                    "Guidance acts on noisy points, where the moons overlap and no label is sure,"
                    " and pushes away from the other moon."
                ),
            ),
            (
                1,
                (
                    "No: that density still covers the whole moon. The tilted densities of the"
                    " levels are not the noised versions of one."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="08.m2",
        lesson=8,
        title="What does their 2 mean",
        prompt="""You find three programs with an option for guidance, each set to 2, and no
        documentation. How do you find
out what this course's $s$ is in each? Why does a setting of 0 or 1 need special care?""",
        rubric=(
            (
                1,
                (
                    "Put 1 in for the conditional and 0 for the unconditional prediction: what"
                    " comes out is s."
                ),
            ),
            (
                1,
                (
                    "An example: (1 + w) e_c - w e_u with w = 2 is s = 3, and e_u + 2 (e_c - e_u)"
                    " is s = 2."
                ),
            ),
            (
                1,
                (
                    "Programs switch guidance off at 0 or 1 and then call the network with or"
                    " without the condition: read the branch."
                ),
            ),
        ),
    ),
)
