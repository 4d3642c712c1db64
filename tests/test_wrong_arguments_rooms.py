"""The same as test_wrong_arguments.py for what draws: latent and notebook."""

import pytest
import torch
from right_calls_rooms import LATENT, NOTEBOOK
from wrong_arguments import faults

# Errors that are right besides TypeError and ValueError: no such file or folder.
ALSO = {"load_vocabulary": (OSError,), "train_vocabulary": (OSError,)}


def title(function):
    return getattr(function, "__qualname__", str(function))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("function", "name"), [(f, name) for f, right in (LATENT | NOTEBOOK).items() for name in right()], ids=lambda v: v if isinstance(v, str) else title(v)
)
def test_a_wrong_argument_works_or_is_named(function, name):
    torch.manual_seed(0)
    found = faults(function, (LATENT | NOTEBOOK)[function], name, ALSO.get(title(function), ()))
    if name in ("sampler", "draw"):
        found = [line for line in found if not line.startswith("a lambda")]  # what a reader's own returns is its own affair
    assert not found, "\n".join(["", *found])
