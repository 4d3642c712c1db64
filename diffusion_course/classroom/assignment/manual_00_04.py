"""Manual questions of lessons 00 to 04."""

from __future__ import annotations

from .rubric import ManualQuestion

QUESTIONS = (
    ManualQuestion(
        id="00.m1",
        lesson=0,
        title="A blur that becomes a digit",
        prompt="""The explorer of lesson 00 shows $x_t$ in the upper row and the network's belief
        about the finished picture
in the lower row. Go from large $t$ to small $t$. Describe how each row changes. Why is the belief a
blur at first, and why can you read the digit in the lower row before you can read it in the upper
one?""",
        rubric=(
            (
                1,
                (
                    "At large t several digits fit the same x_t; the belief is an average of them,"
                    " and an average is a blur."
                ),
            ),
            (
                1,
                (
                    "The belief sharpens once x_t leaves only one digit possible; from then on it"
                    " stays that digit."
                ),
            ),
            (
                1,
                (
                    "The upper row still holds noise: its signal has the weight sqrt(abar_t) only."
                    " The belief is free of the noise."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="01.m1",
        lesson=1,
        title="The variance where the deviation belongs",
        prompt="""Somebody multiplies the noise of every step by $\\beta_t$ instead of
        $\\sqrt{\\beta_t}$, on the linear schedule
of 1000 steps. Describe what a photograph looks like at the end of that chain, and derive the
standard deviation that the chain ends with. What goes wrong when a sampler then starts from $N(0,
I)$?""",
        rubric=(
            (
                1,
                (
                    "It fades to grey with a faint grain and stays readable for long, where the"
                    " right chain drowns in noise."
                ),
            ),
            (
                1,
                (
                    "v_t = (1 - beta) v_{t-1} + beta^2 has the fixed point beta, so the deviation"
                    " ends near sqrt(0.02) = 0.14, not 1."
                ),
            ),
            (
                1,
                (
                    "N(0, I) is about seven times too loud: a network trained on this chain has"
                    " never seen such an input."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="01.m2",
        lesson=1,
        title="Four curves that become one",
        prompt="""How often the judge of lesson 01 tells a 3 from an 8 falls at another $t$ for each
        of the four schedules.
Drawn against the signal-to-noise ratio the four curves lie on each other. Explain why. What is
missing in the sentence "at t = 500 the digit can still be read"?""",
        rubric=(
            (
                1,
                (
                    "x_t divided by sqrt(1 - abar_t) is sqrt(SNR) x_0 + noise of variance 1: only"
                    " the ratio is left of the schedule."
                ),
            ),
            (
                1,
                (
                    "What can be learned from x_t, by eye or by any rule, therefore depends on the"
                    " ratio alone."
                ),
            ),
            (
                1,
                (
                    "The sentence needs its schedule (or the ratio); it also needs the picture's"
                    " size, as large pictures survive longer."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="02.m1",
        lesson=2,
        title="A schedule made for 1000 steps, used with 50",
        prompt="""A project uses the linear betas from $10^{-4}$ to 0.02 with $T = 50$. Its samples
        are poor. Explain what is
wrong at the end of the chain and why more training does not help. Propose a repair and say how you
would check it before training.""",
        rubric=(
            (
                1,
                (
                    "At the end sqrt(abar_T) is about 0.78: x_T still shows the picture. Sampling"
                    " starts from N(0, I) all the same."
                ),
            ),
            (
                1,
                (
                    "The network never saw pure noise at its last step and takes it for a picture;"
                    " even an exact network fails there."
                ),
            ),
            (
                1,
                (
                    "A repair: betas scaled by 1000/T, a schedule defined through abar (cosine), or"
                    " the zero-terminal rescaling with a network that predicts v."
                ),
            ),
            (1, "The check: print sqrt(abar_T) of the new schedule and see that it is close to 0."),
        ),
    ),
    ManualQuestion(
        id="02.m2",
        lesson=2,
        title="One noise for all t",
        prompt="""For an animation somebody draws one $\\epsilon$ and uses it in (02.4) for every
        $t$. Each frame has the
right distribution. In what is the sequence wrong? Does the same habit spoil training?""",
        rubric=(
            (
                1,
                (
                    "Each x_t given x_0 is right by itself, but the joint distribution is not: it"
                    " is no path of the chain."
                ),
            ),
            (
                1,
                (
                    "On a real path the noises of two times are different mixtures, with a"
                    " correlation below 1; here it is exactly 1."
                ),
            ),
            (
                1,
                (
                    "Training needs a single x_t of each draw and uses its distribution only, so"
                    " the jump is all that it takes."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="03.m1",
        lesson=3,
        title="A loss that looks stuck",
        prompt="""The loss of the network for the moons falls to about 0.25 within a few hundred
        steps and then hardly moves.
A colleague wants a larger network. What do you have to know before you agree? Where along $t$ is
the loss large, and why? Could you say the same about a loss of 0.02 on photographs?""",
        rubric=(
            (
                1,
                (
                    "The loss is a floor plus the squared distance to the conditional mean. The"
                    " floor is the variance of the noise given x_t."
                ),
            ),
            (
                1,
                (
                    "At small t the floor is close to 1: the data hides the faint noise. At large t"
                    " x_t is the noise, and it is close to 0."
                ),
            ),
            (
                1,
                (
                    "Only the excess over the floor can be improved; on the moons it is a few per"
                    " cent of the loss."
                ),
            ),
            (
                1,
                (
                    "For photographs nobody knows the floor: compare with another run on the same"
                    " data and schedule."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="03.m2",
        lesson=3,
        title="The best guess lies where no data is",
        prompt="""At a large $t$ the best estimate of $x_0$ for the moons lies in the empty space
        between the arcs. Has the
network failed? What would you see if you drew samples by taking this estimate in one step from pure
noise?""",
        rubric=(
            (
                1,
                (
                    "No: the squared error is least at the conditional mean, and a mean of possible"
                    " points need not be a possible point."
                ),
            ),
            (
                1,
                (
                    "In one step from noise every sample would land near the mean of all data; for"
                    " pictures this is a blur."
                ),
            ),
            (
                1,
                (
                    "So sampling takes many steps, each small: the estimate moves onto an arc as"
                    " the noise falls."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="04.m1",
        lesson=4,
        title="Two variances, three kinds of data",
        prompt="""Which variance of the reverse step is right for data that is a single point, which
        for standard normal data,
and why? Explain in words the curve of the best $v$ for the ring of eight blobs, from much noise to
little.""",
        rubric=(
            (
                1,
                (
                    "Var(x_{t-1} | x_t) is beta-tilde plus c_0^2 Var(x_0 | x_t). For one point the"
                    " second term is 0: beta-tilde."
                ),
            ),
            (1, "For N(0, I) data Var(x_0 | x_t) = 1 - abar_t, and the sum is beta."),
            (
                1,
                (
                    "Much noise: the ring looks like one wide Gaussian, v is 1. Less: x_t tells the"
                    " blob, almost a point, and v falls."
                ),
            ),
            (
                1,
                (
                    "Very little noise: even a blob is wide beside the noise, x_0 may be anywhere"
                    " near x_t, and v is 1 again."
                ),
            ),
        ),
    ),
    ManualQuestion(
        id="04.m2",
        lesson=4,
        title="Noise that stays in the picture",
        prompt="""Look at the four rows of digits in "Noise at the last step": clean, then with the
        noise that a chain of
1000, 50 and 10 steps leaves if noise is drawn at index 0 too. In which rows do you see it? How can
the mistake survive in published code, and how would you find it?""",
        rubric=(
            (
                1,
                (
                    "Not visible for T = 1000 (deviation 0.010), a faint grain for 50 (0.045),"
                    " clear for 10 (0.167): it is sqrt(beta_1)."
                ),
            ),
            (1, "With 1000 steps nobody sees it, the code runs, and no error is raised."),
            (
                1,
                (
                    "A way to find it: a metric or the residual noise measured, a short chain, or"
                    " reading that z = 0 at the last step."
                ),
            ),
        ),
    ),
)
