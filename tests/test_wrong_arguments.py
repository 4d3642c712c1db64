"""Every argument of every public function, given two dozen wrong values: it works, or says what is wrong with what."""

import pytest
import torch
from right_calls import CALLS
from wrong_arguments import faults

# Errors that are right besides TypeError and ValueError.
ALSO = {"make_generator": (RuntimeError,), "load_dataset": (ConnectionError,)}


def title(function):
    return getattr(function, "__qualname__", str(function))


@pytest.mark.parametrize(("function", "name"), [(f, name) for f, right in CALLS.items() for name in right()], ids=lambda v: v if isinstance(v, str) else title(v))
def test_a_wrong_argument_works_or_is_named(function, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # a string as a path makes a file
    torch.manual_seed(0)
    found = faults(function, CALLS[function], name, ALSO.get(title(function), ()))
    assert not found, "\n".join(["", *found])
