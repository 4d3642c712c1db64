"""Why an answer has no points: every reason, and the text that the student reads for it."""

from __future__ import annotations

import enum


class Reason(enum.StrEnum):
    """Why there is no mark or a wrong one; the value is how reports and `results.json` name it."""

    # Nothing was called.
    UNREADABLE = "unreadable"
    BLANK = "blank"
    MISSING = "missing"
    RENAMED = "renamed"
    COURSE = "course"
    NOT_A_FUNCTION = "no function"
    CELL_RAISED = "cell raises"
    # The run, or the call, ended before its time.
    TIME = "time"
    MEMORY = "memory"
    PROCESSES = "processes"
    CRASH = "crash"
    EXITED = "exits"
    INTERFERED = "interferes"
    NOT_DATA = "no data"
    # It was called. The values are the names of the checks in `exercises.engine`.
    CALL_RAISED = "raises"
    KIND = "type"
    PARTS = "structure"
    SHAPE = "shape"
    DTYPE = "dtype"
    DEVICE = "device"
    NOT_FINITE = "finite"
    VALUE = "value"
    INPUT_CHANGED = "inputs"
    RANDOM = "random"
    DEMAND = "demand"


# What the student reads after the answer's name. No text holds a value, a shape or a note of a
# hidden case. `{detail}` is a name, a type or a sentence that goes with the reason.
TEXTS = {
    Reason.UNREADABLE: "nothing of the submission could be read. {detail}",
    Reason.BLANK: "it is not written yet, or returns nothing.",
    Reason.MISSING: "the notebook does not define it.",
    Reason.RENAMED: "the notebook does not define it: its cell defines `{detail}`.",
    Reason.COURSE: "it is the course's own function: write yours.",
    Reason.NOT_A_FUNCTION: "it is a value that cannot be called: write a function or a class.",
    Reason.CELL_RAISED: "the cell that should define it raised {detail}.",
    Reason.TIME: "it took too long and was ended.",
    Reason.MEMORY: "it took more memory than it may have and was ended.",
    Reason.PROCESSES: "it started too many processes and was ended.",
    Reason.CRASH: "it ended the process it ran in.",
    Reason.EXITED: (
        "it raises SystemExit, KeyboardInterrupt or another exception that ends a program."
    ),
    Reason.INTERFERED: "it sent the grader something that is no answer.",
    Reason.NOT_DATA: (
        "what it returns is no tensor, number, string or collection of them, or is too large."
    ),
    Reason.CALL_RAISED: "it raises {detail} on an input that it must take.",
    Reason.KIND: "it returns another kind of thing than was asked for.",
    Reason.PARTS: "it returns another number of parts, or other keys, than were asked for.",
    Reason.SHAPE: "the shape of what it returns is not the one that was asked for.",
    Reason.DTYPE: "the dtype of what it returns is not the one that was asked for.",
    Reason.DEVICE: "what it returns is not on the device that was asked for.",
    Reason.NOT_FINITE: "it returns NaN or infinity where a number is asked for.",
    Reason.VALUE: "the values it returns are not right.",
    Reason.INPUT_CHANGED: "it changes its input in place.",
    Reason.RANDOM: ("its randomness is not right: use the generator that is given, and only that."),
    Reason.DEMAND: "{detail}",
}
UNANSWERED = {Reason.BLANK, Reason.MISSING, Reason.RENAMED}  # a task that is still open
ENDED = {
    Reason.TIME,
    Reason.MEMORY,
    Reason.PROCESSES,
    Reason.CRASH,
    Reason.EXITED,
    Reason.INTERFERED,
    Reason.NOT_DATA,
}


def told(reason: Reason, detail: str = "") -> str:
    """Return the sentence that the student reads.

    Texts that have nothing to say about `detail` leave it out.
    """
    return TEXTS[reason].format(detail=detail)
