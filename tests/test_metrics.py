import numpy as np
import pytest
import torch
from helpers import assert_near, normal, unchanged
from scipy.linalg import sqrtm

from diffusion_course import frechet_distance


def by_hand(a, b):
    ca, cb = np.cov(a.T), np.cov(b.T)
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * sqrtm(ca @ cb).real)


@pytest.mark.parametrize(("n", "m", "dim"), [(50, 50, 2), (300, 40, 5)])
def test_against_scipy(n, m, dim):
    a, b = normal(n, dim, seed=1) @ normal(dim, dim, seed=2), 0.5 + normal(m, dim, seed=3) @ normal(dim, dim, seed=4)
    assert unchanged(frechet_distance, a, b) == pytest.approx(by_hand(a.numpy(), b.numpy()), rel=1e-9)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_one_dimension_in_closed_form():
    a = torch.tensor([[-1.0], [1.0]])
    b = torch.tensor([[1.0], [7.0]])
    assert frechet_distance(a, b) == pytest.approx(16 + (np.sqrt(2) - np.sqrt(18)) ** 2)


def test_zero_for_the_same_set_a_shift_and_fewer_samples_than_dimensions():
    x = normal(6, 20)
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(x, x + 0.5) == pytest.approx(20 * 0.25, rel=1e-6)
    assert_near(torch.tensor(frechet_distance(x.float(), x.float() * 2)), torch.tensor(frechet_distance(x, 2 * x)), 1e-4)
    assert isinstance(frechet_distance(x.requires_grad_(), x), float)


@pytest.mark.parametrize(
    ("a", "b", "error", "message"),
    [
        (torch.ones(1, 3), torch.ones(5, 3), ValueError, r"shapes \(N, D\) and \(M, D\) with N, M >= 2, got shape \(1, 3\)"),
        (torch.ones(5, 3), torch.ones(5, 2), ValueError, r"got shape \(5, 3\).*and shape \(5, 2\)"),
        (torch.ones(5), torch.ones(5, 2), ValueError, r"got shape \(5,\)"),
        (torch.ones(5, 2), torch.tensor(1.0), ValueError, r"and shape \(\)"),
        (torch.ones(5, 2).long(), torch.ones(5, 2), TypeError, r"features_a must have a floating dtype"),
        (torch.ones(5, 2), np.ones((5, 2)), TypeError, r"features_b must be a torch\.Tensor, got ndarray"),
        (torch.ones(5, 2), torch.full((5, 2), np.inf), ValueError, r"features_b holds 10 values that are not finite"),
    ],
)  # fmt: skip
def test_refused_features(a, b, error, message):
    with pytest.raises(error, match=message):
        frechet_distance(a, b)
