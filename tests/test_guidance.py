import copy
import inspect
import math
from pathlib import Path

import diffusers
import pytest
import torch
from diffusers.guiders import ClassifierFreeGuidance as DiffusersGuidance
from diffusers.guiders.guider_utils import rescale_noise_cfg
from helpers import DTYPES, SHAPES, assert_near, column, gap, normal, unchanged

from diffusion_course import (
    MLP,
    SAMPLERS,
    ClassifierFreeGuidance,
    GaussianMixture,
    drop_condition,
    guided_prediction,
    make_schedule,
    mixture,
    p_sample_loop,
    sample_loop,
    scale_from_w,
    w_from_scale,
)

F64 = torch.float64
SCALES = (-1.0, 0.0, 0.5, 1.0, 1.5, 7.5)
K = 3  # classes of the networks below; class 3 is "no class"


def class_network(xt, t, cond):
    """Smooth, and each sample's output depends on its own point, time and class only."""
    level = column(t.to(xt.dtype).mul(0.37).cos() + cond.to(xt.dtype), xt.ndim)
    return torch.tanh(0.7 * xt + level)


class_network.null_class = K


def token_network(xt, t, cond):
    """Reads tokens (B, L, D)."""
    weights = torch.arange(1, 1 + cond[0].numel(), dtype=xt.dtype).reshape(cond.shape[1:]).cos()
    return torch.tanh(0.7 * xt + column((cond.to(xt.dtype) * weights).sum((1, 2)) + t.to(xt.dtype).mul(0.37).cos(), xt.ndim))


class Spy:
    """Notes every call: the batch, the times, the conditions."""

    def __init__(self, network=class_network):
        self.network, self.calls, self.null_class = network, [], K

    def __call__(self, xt, t, cond):
        self.calls.append((xt.clone(), t.clone(), cond.clone()))
        return self.network(xt, t, cond)


def inputs(shape=(4, 2), dtype=F64, t=(9, 0, 3, 7, 5)):
    b = shape[0]
    return normal(*shape, seed=1, dtype=dtype), torch.tensor(t)[:b], torch.tensor([0, 2, 1, 0, 2])[:b]


def two_calls(network, xt, t, cond, null, scale):
    """The definition with two separate calls, eps_c weighted by s and eps_u by 1 - s."""
    return scale * network(xt, t, cond) + (1 - scale) * network(xt, t, null)


# --- the formula ---------------------------------------------------------------------------------------------------------


def test_formula_number_by_number():
    c, u = torch.tensor([[3.0, -1.0]]), torch.tensor([[1.0, 1.0]])
    for scale, expected in ((0, [1, 1]), (1, [3, -1]), (0.5, [2, 0]), (2, [5, -3]), (7.5, [16, -14]), (-1, [-1, 3])):
        assert guided_prediction(c, u, scale).tolist() == [expected]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_ends_of_the_line_are_exact_in_every_dtype(shape, dtype):
    c, u = 3 * normal(*shape, seed=1, dtype=dtype), normal(*shape, seed=2, dtype=dtype)
    assert torch.equal(unchanged(guided_prediction, c, u, 0.0), u) and torch.equal(guided_prediction(c, u, 1), c)
    for scale in SCALES:
        expected = u.double() + scale * (c.double() - u.double())
        found = guided_prediction(c, u, scale)
        assert found.dtype == dtype
        assert gap(found.double(), expected) <= 4 * torch.finfo(dtype).eps * max(1.0, expected.abs().max().item())


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("rescale", [0.0, 0.3, 1.0])
def test_formula_is_diffusers(scale, rescale):
    c, u = normal(3, 1, 4, 4, seed=1), normal(3, 1, 4, 4, seed=2)
    theirs = DiffusersGuidance(guidance_scale=scale, guidance_rescale=rescale).forward(c, u).pred
    assert_near(guided_prediction(c, u, scale, rescale), theirs, 1e-12)
    w = w_from_scale(scale)
    theirs = DiffusersGuidance(guidance_scale=w, guidance_rescale=rescale, use_original_formulation=True).forward(c, u).pred
    assert_near(guided_prediction(c, u, scale_from_w(w), rescale), theirs, 1e-12)


def test_rescale_by_its_definition_and_by_the_stable_diffusion_pipeline():
    c, u = 2 * normal(5, 3, 4, seed=1) + 1, normal(5, 3, 4, seed=2)
    plain = guided_prediction(c, u, 6.0)
    full, half = guided_prediction(c, u, 6.0, 1.0), guided_prediction(c, u, 6.0, 0.5)
    assert_near(full.flatten(1).std(1), c.flatten(1).std(1), 1e-12)
    assert_near(full / full.flatten(1).norm(dim=1)[:, None, None], plain / plain.flatten(1).norm(dim=1)[:, None, None], 1e-12)
    assert_near(half, (full + plain) / 2, 1e-12)
    assert (plain.flatten(1).std(1) > 2 * c.flatten(1).std(1)).all()  # otherwise there was nothing to rescale
    for phi in (0.0, 0.7, 1.0):
        assert_near(guided_prediction(c, u, 6.0, phi), rescale_noise_cfg(plain, c, phi), 1e-12)


def test_rescale_of_a_constant_output_stays_finite():
    zero = torch.zeros(2, 4)
    assert (guided_prediction(zero, zero, 3.0, 1.0) == 0).all()
    assert torch.isfinite(guided_prediction(normal(2, 4, seed=1), torch.ones(2, 4, dtype=F64), 0.0, 1.0)).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rescale_in_half_precision_measures_the_deviation_in_single(dtype):
    c, u = normal(4, 1, 16, 16, seed=1, dtype=dtype), normal(4, 1, 16, 16, seed=2, dtype=dtype)
    exact = guided_prediction(c.double(), u.double(), 7.5, 0.7)
    found = guided_prediction(c, u, 7.5, 0.7)
    assert found.dtype == dtype and gap(found, exact) < 4 * torch.finfo(dtype).eps * exact.abs().max().item()


# --- the conventions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("w", [-0.5, 0.0, 0.3, 1.0, 7.5])
def test_conversions_by_what_the_conventions_compute(w):
    c, u = normal(2, 3, seed=1), normal(2, 3, seed=2)
    for s, theirs in (
        (scale_from_w(w), (1 + w) * c - w * u),
        (scale_from_w(w, "cond"), c + w * (c - u)),
        (scale_from_w(w, base="uncond"), u + w * (c - u)),
        (scale_from_w(w, "uncond"), w * c + (1 - w) * u),
    ):
        assert_near(guided_prediction(c, u, s), theirs, 1e-12)
    for base in ("cond", "uncond"):
        assert w_from_scale(scale_from_w(w, base), base) == pytest.approx(w, abs=1e-12)
    assert scale_from_w(7.5) == 8.5 and w_from_scale(7.5) == 6.5 and scale_from_w(7.5, "uncond") == 7.5


def test_what_the_page_on_conventions_says_of_diffusers_pipelines():
    """Read as text: these pipelines need packages that the course does not install."""
    pipelines = Path(diffusers.__file__).parent / "pipelines"

    def text(name):
        return (pipelines / name).read_text(encoding="utf-8")

    stable = text("stable_diffusion/pipeline_stable_diffusion.py")
    assert "return self._guidance_scale > 1 and" in stable
    assert "noise_pred_uncond + self.guidance_scale * (noise_pred_text - noise_pred_uncond)" in stable
    z_image = text("z_image/pipeline_z_image.py")
    assert "pos + current_guidance_scale * (pos - neg)" in z_image and "return self._guidance_scale > 0" in z_image
    assert "the usual CFG formulation with scale `1 + guidance_scale`" in text("krea2/pipeline_krea2.py")
    for original, neutral in ((False, 1.0), (True, 0.0)):
        for scale in (0.0, 0.5, 1.0, 2.0):
            guider = DiffusersGuidance(guidance_scale=scale, use_original_formulation=original)
            assert guider.num_conditions == (1 if scale == neutral else 2)


# --- the wrapper ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("shape", SHAPES)
def test_scale_1_is_the_conditional_model_and_0_the_unconditional_one(shape, dtype):
    xt, t, cond = inputs(shape, dtype)
    null = torch.full_like(cond, K)
    assert torch.equal(ClassifierFreeGuidance(class_network, 1.0)(xt, t, cond), class_network(xt, t, cond))
    assert torch.equal(ClassifierFreeGuidance(class_network, 0.0)(xt, t, cond), class_network(xt, t, null))
    for scale in SCALES:
        found = unchanged(ClassifierFreeGuidance(class_network, scale).forward, xt, t, cond)
        expected = two_calls(class_network, xt.double(), t, cond, null, scale)
        assert found.dtype == dtype and found.shape == xt.shape
        assert gap(found, expected) < 40 * torch.finfo(dtype).eps


@pytest.mark.parametrize("scale", [0.0, 0.5, 3.0])
def test_one_call_with_the_unconditional_half_first(scale):
    spy, (xt, t, cond) = Spy(), inputs()
    ClassifierFreeGuidance(spy, scale)(xt, t, cond)
    ((x2, t2, c2),) = spy.calls
    assert torch.equal(x2, torch.cat([xt, xt])) and torch.equal(t2, torch.cat([t, t]))
    assert c2.tolist() == [K] * 4 + cond.tolist()


def test_at_scale_1_the_condition_alone_is_asked_for():
    spy, (xt, t, cond) = Spy(), inputs()
    ClassifierFreeGuidance(spy, 1, rescale=0.5)(xt, t, cond)
    ((x1, t1, c1),) = spy.calls
    assert torch.equal(x1, xt) and torch.equal(t1, t) and torch.equal(c1, cond)


def test_negative_condition_replaces_the_null():
    xt, t, cond = inputs()
    for negative, per_sample in ((1, [1, 1, 1, 1]), (torch.tensor(1), [1, 1, 1, 1]), (torch.tensor([2, 1, 0, 1]), [2, 1, 0, 1])):
        found = ClassifierFreeGuidance(class_network, 2.5, negative_cond=negative)(xt, t, cond)
        assert_near(found, two_calls(class_network, xt, t, cond, torch.tensor(per_sample), 2.5), 1e-12)
    assert gap(found, ClassifierFreeGuidance(class_network, 2.5)(xt, t, cond)) > 0.1
    same = ClassifierFreeGuidance(class_network, 9.0, negative_cond=cond)(xt, t, cond)  # away from what is asked for: no effect
    assert_near(same, class_network(xt, t, cond), 1e-12)


@pytest.mark.parametrize("cond_dtype", [torch.float32, F64])
def test_tokens(cond_dtype):
    xt, t, _ = inputs((4, 1, 3, 3))
    cond, null = normal(4, 5, 6, seed=3, dtype=cond_dtype), normal(5, 6, seed=4, dtype=cond_dtype)
    negative = normal(4, 5, 6, seed=5, dtype=cond_dtype)
    expected = two_calls(token_network, xt, t, cond, null.expand(4, 5, 6), 3.0)
    assert_near(ClassifierFreeGuidance(token_network, 3.0, null_cond=null)(xt, t, cond), expected, 1e-12)
    expected = two_calls(token_network, xt, t, cond, negative, 3.0)
    found = ClassifierFreeGuidance(token_network, 3.0, null_cond=null, negative_cond=negative)
    assert_near(found(xt, t, cond), expected, 1e-12)


@pytest.mark.parametrize("t_dtype", [torch.int64, torch.float32])
def test_interval_includes_its_ends(t_dtype):
    xt, _, cond = inputs((5, 2))
    t, spy = torch.tensor([1, 2, 5, 7, 8], dtype=t_dtype), Spy()
    guided = ClassifierFreeGuidance(spy, 4.0, interval=(2, 7))(xt, t, cond)
    inside, outside = two_calls(class_network, xt, t, cond, torch.full((5,), K), 4.0), class_network(xt, t, cond)
    assert_near(guided, torch.where(torch.tensor([[False], [True], [True], [True], [False]]), inside, outside), 1e-12)
    assert len(spy.calls) == 1 and gap(inside, outside) > 0.1


def test_outside_the_interval_the_condition_alone_is_asked_for():
    xt, _, cond = inputs()
    for low, high, t, size in ((2, 7, 8, 4), (2, 7, 1, 4), (2, 7, 7, 8), (0, 7, 0, 8), (2.5, 2.5, 2, 4)):
        spy = Spy()
        ClassifierFreeGuidance(spy, 4.0, interval=(low, high))(xt, torch.full((4,), t), cond)
        assert [len(x) for x, *_ in spy.calls] == [size]


def test_rescale_reaches_the_formula_and_only_where_guidance_acts():
    xt, t, cond = inputs((4, 1, 3, 3))
    c, u = class_network(xt, t, cond), class_network(xt, t, torch.full((4,), K))
    found = ClassifierFreeGuidance(class_network, 5.0, rescale=0.7, interval=(3, 9))(xt, t, cond)
    acts = column((t >= 3) & (t <= 9), 4)
    assert_near(found, torch.where(acts, guided_prediction(c, u, 5.0, 0.7), c), 1e-12)
    assert acts.sum() == 3


# --- in a chain ----------------------------------------------------------------------------------------------------------

SCHEDULE = make_schedule("cosine", 12)
TABLES = SCHEDULE.betas, SCHEDULE.alphas, SCHEDULE.alphas_cumprod
EXACT = mixture("ring").conditional_model(SCHEDULE.alphas_cumprod, [0, 1, 2, 0, 1, 2, 0, 1])


def chain(model, cond, **kwargs):
    return p_sample_loop(
        model, (len(cond), 2), *TABLES, cond=cond, generator=torch.Generator().manual_seed(0), dtype=F64, **kwargs
    )


def guided_steps(spy, batch):
    """The times at which the network saw both halves."""
    return [t[0].item() for x, t, _ in spy.calls if len(x) == 2 * batch]


def test_guidance_acts_at_every_step_of_the_chain():
    spy, cond = Spy(EXACT), torch.tensor([0, 1, 2])
    guided = chain(ClassifierFreeGuidance(spy, 3.0), cond)
    assert guided_steps(spy, 3) == list(range(11, -1, -1)) and len(spy.calls) == 12
    by_hand = chain(lambda xt, t, c: two_calls(EXACT, xt, t, c, torch.full_like(c, K), 3.0), cond)
    assert_near(guided, by_hand, 1e-9)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_guidance_acts_at_every_call_of_every_sampler(sampler):
    spy, cond = Spy(EXACT), torch.tensor([0, 1, 2])

    def run(model):
        options = {"sampler": sampler, "num_inference_steps": 5, "cond": cond, "dtype": F64}
        kept = dict(options)
        x = sample_loop(model, (3, 2), SCHEDULE, generator=torch.Generator().manual_seed(0), **options)
        assert options == kept
        return x

    guided = run(ClassifierFreeGuidance(spy, 3.0))
    times = guided_steps(spy, 3)
    assert len(times) == len(spy.calls) == (9 if sampler == "heun" else 5) and len(set(times)) == 5
    assert all(c[:3].tolist() == [K] * 3 and c[3:].tolist() == [0, 1, 2] for *_, c in spy.calls)
    assert_near(guided, run(lambda xt, t, c: two_calls(EXACT, xt, t, c, torch.full_like(c, K), 3.0)), 1e-9)
    assert torch.equal(run(ClassifierFreeGuidance(EXACT, 1.0)), run(EXACT))
    nobody = run(lambda xt, t, c: EXACT(xt, t, torch.full_like(c, K)))
    assert torch.equal(run(ClassifierFreeGuidance(EXACT, 0.0)), nobody) and gap(guided, nobody) > 0.05


def test_a_guidance_that_forgets_its_scale_is_caught_by_the_count():
    """The published mistake: the scale is popped from the caller's dictionary, so that only the first step is guided."""
    settings, spy, cond = {"scale": 3.0}, Spy(EXACT), torch.tensor([0, 1, 2])

    def popping(xt, t, c):
        scale = settings.pop("scale", 1.0)
        return ClassifierFreeGuidance(spy, scale)(xt, t, c)

    once = chain(popping, cond)
    assert guided_steps(spy, 3) == [11]
    assert gap(once, chain(ClassifierFreeGuidance(Spy(EXACT), 3.0), cond)) > 0.05


def test_interval_in_the_chain():
    spy, cond = Spy(EXACT), torch.tensor([0, 1, 2])
    chain(ClassifierFreeGuidance(spy, 3.0, interval=(2, 5)), cond)
    assert guided_steps(spy, 3) == [5, 4, 3, 2] and len(spy.calls) == 12


def test_nothing_is_changed_by_calls():
    """Inputs, the negative condition, the settings' dictionary and the options of the loop are as before."""
    xt, t, cond = inputs((4, 1, 3, 3))
    negative = torch.tensor([2, 1, 0, 1])
    settings = {"guidance_scale": 4.0, "negative_cond": negative, "interval": (2, 8), "rescale": 0.5}
    before = copy.deepcopy((xt, t, cond, settings))
    guided = ClassifierFreeGuidance(class_network, **settings)
    first = guided(xt, t, cond)
    assert torch.equal(guided(xt, t, cond), first)
    options = {"cond": cond[:3], "generator": torch.Generator().manual_seed(0), "dtype": F64}
    kept = dict(options)
    p_sample_loop(ClassifierFreeGuidance(EXACT, 4.0), (3, 2), *TABLES, **options)
    assert options.keys() == kept.keys() and all(options[k] is kept[k] for k in kept)
    for a, b in zip((xt, t, cond), before, strict=False):
        assert torch.equal(a, b)
    assert settings.keys() == before[3].keys() and settings["negative_cond"] is negative
    assert torch.equal(negative, before[3]["negative_cond"]) and (settings["interval"], settings["rescale"]) == ((2, 8), 0.5)


# --- on exact models -----------------------------------------------------------------------------------------------------


def test_guided_score_on_a_mixture_is_bayes_rule():
    """-sqrt(1 - abar) grad of log p(x_t) + s log p(c | x_t), the gradient by autograd."""
    data, classes = mixture("ring"), [k % 2 for k in range(8)]
    schedule, s = make_schedule("linear", 50), 3.0
    exact = data.conditional_model(schedule.alphas_cumprod, classes)
    cond, one_hot = torch.tensor([0, 1, 1, 0, 1]), torch.eye(2, dtype=F64)[classes]
    for index in (2, 20, 45):
        alpha_bar, xt = schedule.alphas_cumprod[index].item(), normal(5, 2, seed=index).requires_grad_()
        log_class = (data.responsibilities(xt, alpha_bar) @ one_hot).log()[torch.arange(5), cond]
        (gradient,) = torch.autograd.grad((data.log_prob(xt, alpha_bar) + s * log_class).sum(), xt)
        found = ClassifierFreeGuidance(exact, s)(xt.detach(), torch.full((5,), index), cond)
        assert_near(found, -math.sqrt(1 - alpha_bar) * gradient, 1e-8)


def test_guided_chain_on_two_gaussians_moves_as_the_exact_affine_chain():
    """Both models of one Gaussian data set are affine in x_t, and so is the guided chain: its mean can be written down."""
    eye = 0.25 * torch.eye(2, dtype=F64).expand(2, 2, 2)
    means = torch.tensor([[1.0, 0.0], [-1.0, 0.5]], dtype=F64)
    data = GaussianMixture(torch.tensor([0.5, 0.5], dtype=F64), means, eye)
    exact, s = data.conditional_model(SCHEDULE.alphas_cumprod, [0, 1]), 2.5
    guided = ClassifierFreeGuidance(exact, s, negative_cond=1)  # class 0 away from class 1: two Gaussians of equal width
    x = p_sample_loop(guided, (4000, 2), *TABLES, cond=torch.zeros(4000, dtype=torch.long),
                      generator=torch.Generator().manual_seed(0), dtype=F64)
    mean, levels = torch.zeros(2, dtype=F64), [1.0, *SCHEDULE.alphas_cumprod.tolist()]
    for i in range(12, 0, -1):
        now, before = levels[i], levels[i - 1]
        beta = 1 - now / before
        target = means[1] + s * (means[0] - means[1])  # the means of x_0 are extrapolated, the gain is the same
        gain = math.sqrt(now) * 0.25 / (now * 0.25 + 1 - now)
        # E[noise | x_t] is affine in the component's mean, so extrapolating predictions extrapolates that mean
        x0 = target + gain * (mean - math.sqrt(now) * target)
        mean = math.sqrt(before) * beta / (1 - now) * x0 + math.sqrt(now / before) * (1 - before) / (1 - now) * mean
    assert_near(x.mean(0), mean, 5 * x.std(0).max().item() / math.sqrt(4000))
    assert mean[0] > 1.5


def test_a_network_trained_with_dropped_labels_is_guided():
    torch.manual_seed(0)
    model = MLP(2, 16, 1, num_classes=K).double()
    xt, t, cond = inputs()
    guided = ClassifierFreeGuidance(model, 2.0)
    assert_near(guided(xt, t, cond), two_calls(model, xt, t, cond, torch.full((4,), K), 2.0), 1e-12)
    assert list(dict(guided.named_parameters())) == [f"model.{n}" for n, _ in model.named_parameters()]
    assert p_sample_loop(guided.float(), (4, 2), *TABLES, cond=cond).dtype == torch.float32  # the loop sees the network's dtype
    assert not guided.eval().model.training


def test_null_tokens_move_with_the_wrapper_and_are_not_saved():
    guided = ClassifierFreeGuidance(token_network, 2.0, null_cond=torch.zeros(5, 6))
    assert guided.to(torch.float64).away_from.dtype == F64 and guided.to("meta").away_from.device.type == "meta"
    assert guided.state_dict() == {}
    assert "guidance_scale=2.0" in repr(guided)


# --- dropping the condition ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("probability", [0.0, 0.1, 0.5, 1.0])
def test_share_of_dropped_labels(probability):
    n, cond = 20_000, torch.arange(20_000) % K
    dropped = unchanged(lambda c: drop_condition(c, probability, K, generator=torch.Generator().manual_seed(1)), cond)
    share = (dropped == K).double().mean().item()
    assert abs(share - probability) <= 5 * math.sqrt(probability * (1 - probability) / n)
    assert torch.equal(dropped[dropped != K], cond[dropped != K]) and dropped.dtype == cond.dtype
    by_class = [(dropped[cond == k] == K).double().mean().item() for k in range(K)]
    assert max(by_class) - min(by_class) <= 5 * math.sqrt(2 * probability * (1 - probability) / (n / K))


def test_tokens_are_dropped_whole():
    cond, null = normal(200, 3, 4, seed=1), normal(3, 4, seed=2)
    dropped = drop_condition(cond, 0.3, null, generator=torch.Generator().manual_seed(1))
    is_null, is_kept = (dropped == null).all((1, 2)), (dropped == cond).all((1, 2))
    assert (is_null ^ is_kept).all() and 30 < is_null.sum() < 90


def test_dropping_draws_from_its_generator():
    cond = torch.arange(200) % K
    draw = [drop_condition(cond, 0.5, K, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert torch.equal(draw[0], draw[1]) and not torch.equal(draw[0], draw[2])
    assert drop_condition(cond, 0.5, K) is not cond and drop_condition(cond, 0.0, K) is not cond


# --- bad input -----------------------------------------------------------------------------------------------------------

X, T, C = inputs()
TOKENS = torch.zeros(4, 5, 6)


def run(model=class_network, scale=2.0, x=X, t=T, cond=C, **settings):
    return ClassifierFreeGuidance(model, scale, **settings)(x, t, cond)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: run(cond=None), TypeError, r"cond must be a torch\.Tensor, got NoneType"),
        (lambda: run(cond=2), TypeError, r"cond must be a torch\.Tensor, got int 2"),
        (lambda: run(cond=torch.tensor(2)), ValueError, r"cond must be a tensor with a batch axis.*got shape \(\)"),
        (lambda: run(cond=C[:3]), ValueError, r"cond must have one entry for each sample of xt, 4, got shape \(3,\)"),
        (lambda: run(cond=C.to("meta")), ValueError, r"cond is on meta and xt on cpu"),
        (lambda: run(t=3), TypeError, r"t must be a torch\.Tensor, got int 3"),
        (lambda: run(t=T[:1]), ValueError, r"t must have one entry .*got shape \(1,\)"),
        (lambda: run(x=X[0, 0]), ValueError, r"xt needs a batch axis"),
        (lambda: run(scale=float("nan")), ValueError, r"guidance_scale must be a number, got float nan"),
        (lambda: run(scale="7.5"), TypeError, r"guidance_scale must be a number, got str '7\.5'"),
        (lambda: run(scale=True), TypeError, r"guidance_scale must be a number, got bool True"),
        (lambda: run(rescale=1.5), ValueError, r"rescale must lie in \[0, 1\], got 1\.5"),
        (lambda: run(interval=(7, 2)), ValueError, r"interval must be \(low, high\).*got \(7, 2\)"),
        (lambda: run(interval=(2,)), ValueError, r"interval must have 2 entries, got tuple \(2,\)"),
        (lambda: run(model=lambda x, t, c: x), ValueError, r"this model has no null_class\. Pass null_cond"),
        (lambda: run(model=token_network, cond=TOKENS, null_cond=0), ValueError, r"null_cond must be shaped like one entry of cond, \(5, 6\).*got int 0"),
        (lambda: run(model=token_network, cond=TOKENS, null_cond=TOKENS[0, :4]), ValueError, r"null_cond must be shaped .*got shape \(4, 6\)"),
        (lambda: run(model=token_network, cond=TOKENS, null_cond=TOKENS[:3]), ValueError, r"got shape \(3, 5, 6\)"),
        (lambda: run(model=token_network, cond=TOKENS, null_cond=TOKENS[0].double()), TypeError, r"null_cond must have the dtype of cond.*float64.*Cast one"),
        (lambda: run(model=token_network, cond=TOKENS, null_cond=TOKENS[0].to("meta")), ValueError, r"null_cond is on meta and cond on cpu"),
        (lambda: run(negative_cond=C[:2]), ValueError, r"negative_cond must be shaped like one entry of cond, \(\), or like cond: got shape \(2,\)"),
        (lambda: run(negative_cond=0.5), TypeError, r"negative_cond must be a torch\.Tensor or an int or None, got float 0\.5"),
        (lambda: run(negative_cond=5, model=MLP(2, 16, num_classes=K), x=X.float()), ValueError, r"cond must hold classes 0\.\.2, or 3 for no class, got values from 0 to 5"),
        (lambda: run(model=Spy(lambda x, t, c: x[:4])), ValueError, r"the network must return the shape and device of xt: got shape \(4, 2\).* for xt with shape \(8, 2\)"),
        (lambda: guided_prediction(X, X[:2], 2.0), ValueError, r"uncond_output must have the shape of cond_output"),
        (lambda: guided_prediction(X, X.float(), 2.0), TypeError, r"uncond_output must have the dtype of cond_output"),
        (lambda: guided_prediction(X, X.to("meta"), 2.0), ValueError, r"uncond_output is on meta and cond_output on cpu"),
        (lambda: guided_prediction(X, X, math.inf), ValueError, r"guidance_scale must be a finite number, got inf"),
        (lambda: guided_prediction(X, X, 2.0, -0.1), ValueError, r"rescale must lie in \[0, 1\], got -0\.1"),
        (lambda: guided_prediction(X[:, :1], X[:, :1], 2.0, 0.5), ValueError, r"rescale needs at least two numbers per sample, got shape \(4, 1\)"),
        (lambda: drop_condition(C, 1.5, K), ValueError, r"probability must lie in \[0, 1\], got 1\.5"),
        (lambda: drop_condition(C, float("nan"), K), ValueError, r"probability must be a number, got float nan"),
        (lambda: drop_condition([0, 1], 0.5, K), TypeError, r"cond must be a torch\.Tensor, got list .*Wrap it"),
        (lambda: drop_condition(TOKENS, 0.5, 0), ValueError, r"null must be shaped like one entry of cond, \(5, 6\)"),
        (lambda: drop_condition(C, 0.5, None), TypeError, r"null must be a torch\.Tensor or an int, got NoneType None"),
        (lambda: scale_from_w(2.0, "both"), ValueError, r"base must be one of 'cond', 'uncond', got 'both'"),
        (lambda: w_from_scale(2.0, "eps"), ValueError, r"base must be one of"),
    ],
)
def test_refused_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_scale_1_needs_no_null():
    assert torch.equal(run(model=lambda x, t, c: x + c[:, None], scale=1.0), X + C[:, None])


def test_the_formula_stands_in_one_place():
    source = inspect.getsource(inspect.getmodule(ClassifierFreeGuidance))
    assert source.count("torch.lerp") == 1 and "guided_prediction(" in inspect.getsource(ClassifierFreeGuidance.forward)
