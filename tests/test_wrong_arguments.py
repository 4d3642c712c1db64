"""Every argument of every public function, given two dozen wrong values: it works, or says what is wrong with what."""

import pytest
import torch
from right_calls import CALLS
from right_calls_rooms import LATENT, NOTEBOOK
from right_calls_runs import RUNS, SAID
from wrong_arguments import faults

import diffusion_course as course
from diffusion_course.files.checkpoints import save_tensors

ALL = CALLS | RUNS | LATENT | NOTEBOOK
# Errors that are right besides TypeError and ValueError: no such device, network, file or folder.
ALSO = {
    "make_generator": (RuntimeError,), "load_dataset": (ConnectionError,), "load_vocabulary": (OSError,), "predict_memory": (OSError,), "train_vocabulary": (OSError,),
    **dict.fromkeys((function.__name__ for function in RUNS), (FileNotFoundError,)),
}


NOT_TRIED = {
    **dict.fromkeys(
        "Posterior ElboTerms DDPMStep Estimate SamplerStep SampleState OdeTerms ImageSet PointSet TrainState FrechetFit Interval KernelDistance Memorisation"
        " Nearest PrecisionRecall AutoencoderLoss Attended MemoryEstimate FlowState".split(), "a result"),
    **dict.fromkeys("Level Transition Scene Thing Vocabulary Step".split(), "a tuple or a protocol, looked at by what takes it"),
    **dict.fromkeys("DigitClassifier shipped_files byte_alphabet default_device progress".split(), "takes nothing"),
    **dict.fromkeys("count_flops flops_by_module show_source".split(), "takes what it is given in a row: test_flops, test_display"),
    **dict.fromkeys("load_parts load_stable_diffusion read_scenes".split(), "too slow for two dozen calls: test_latent, test_stable_diffusion, test_judge"),
    **dict.fromkeys("check exercise hint reset_progress solution".split(), "test_checks, test_exercise_engine"),
    **dict.fromkeys("train TrainConfig bootstrap_interval Progress Explorer".split(), "by a function that calls it with names"),
}


def title(function):
    return getattr(function, "__qualname__", str(function))


def test_no_public_function_is_missing():
    tried = {title(function).partition(".")[0] for function in ALL} | {getattr(function, "__name__", "") for function in ALL}
    public = {name for name in course.__all__ if callable(getattr(course, name))}
    assert public - tried == set(NOT_TRIED)


def is_said(function, name, line):
    """Whether what looks like a fault is right: what a reader's own function returns, or a message in other words."""
    what = line.partition(":")[0]
    own = name in ("sampler", "draw") and what == "a lambda"
    return own or (title(function), name, what) in SAID or line.endswith(("there is no file wrong.", "there is no file 3."))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("function", "name"), [(f, name) for f, right in ALL.items() for name in (("path", "sha256") if f.__name__ == "load_tensors" else right())], ids=lambda v: v if isinstance(v, str) else title(v))
def test_a_wrong_argument_works_or_is_named(function, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a string as a path makes a file
    save_tensors("w", {"a": torch.ones(2)})
    torch.manual_seed(0)
    found = [line for line in faults(function, ALL[function], name, ALSO.get(title(function), ())) if not is_said(function, name, line)]
    assert not found, "\n".join(["", *found])
