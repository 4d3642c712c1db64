"""Every public function of the core on tensors of a CUDA device.

Without a GPU under FakeTensorMode: tensors there have a device, a dtype and a shape but no values, so reading one (``.item()``,
``bool()``, ``.tolist()``, the checks that must not cost a synchronisation) raises DataDependentOutputException. The same list
runs with real tensors where there is a GPU.
"""

import inspect
from types import SimpleNamespace
from unittest import mock

import pytest
import torch
from tiny_stable_diffusion import tiny_parts
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensor,
    FakeTensorMode,
    unset_fake_temporarily,
)

from diffusion_course import models
from diffusion_course.datasets import mixtures
from diffusion_course.datasets.scenes import render
from diffusion_course.flow import paths, sampler, times
from diffusion_course.latent import attention, autoencoder, coding, parts, tasks
from diffusion_course.lazy import flat
from diffusion_course.measures import flops, judge, metrics, neighbours
from diffusion_course.process import guidance, kernels, levels, losses, schedules
from diffusion_course.sampling import ancestral, likelihood, loop, reverse, solvers, timesteps
from diffusion_course.training import loop as training

MODULES = {
    "paths": paths, "times": times, "sampler": sampler, "schedules": schedules, "kernels": kernels, "levels": levels, "losses": losses, "guidance": guidance, "reverse": reverse, "ancestral": ancestral,
    "timesteps": timesteps, "solvers": solvers, "loop": loop, "mixtures": mixtures, "likelihood": likelihood, "metrics": metrics,
    "neighbours": neighbours, "models": models, "training": training, "flops": flops, "autoencoder": autoencoder, "attention": attention,
    "parts": parts, "coding": coding, "tasks": tasks, "judge": judge, "render": render,
}
F32, F64 = torch.float32, torch.float64
ON_CPU = "returns tables or mixtures on the CPU, to be moved with .to"
NOT_CALLED = {  # public names that are no call on tensors, or that belong to another test
    **dict.fromkeys(("level_beside", "to_less_noise", "to_less_noise_at", "determines", "has_score"), "checks at the door of kernels"),
    **dict.fromkeys(("check_texts", "for_the_model", "dtype_of", "device_of"), "inside encode_images and encode_prompt"),
    "Posterior": "a result", "DDPMStep": "a result", "TrainState": "a result",
    "EMA": "copies a network, which fake tensors cannot; run on a GPU by test_train_on_a_gpu",
    "train": "its gradients and its random generator need a real device: test_train_on_a_gpu", "Trainer": "driven by train", "run_training": "driven by train",
    **dict.fromkeys(
        ("ModuleCost", "count_parameters", "count_flops", "flops_by_module"),
        "integers from shapes alone: test_flops counts under FakeTensorMode on cuda and on meta"),
    **dict.fromkeys(("FrechetFit", "KernelDistance", "Interval", "Nearest", "PrecisionRecall", "Memorisation", "OdeTerms", "AutoencoderLoss"), "a result"),
    "flow_times": "Python numbers", "flow_schedule": "a table on the CPU, to be moved with .to", "unit": "a check at the door",
    **dict.fromkeys(("Level", "inference_timesteps", "noise_levels", "sigma_of", "log_snr_of"), "indices and Python numbers on the CPU"),
    **dict.fromkeys(("Estimate", "SamplerStep", "SampleState", "FlowState"), "a result"), "Step": "a protocol", "Transition": "what a step is told",
    "LatentParts": "networks in a bag", "load_parts": "reads files: test_latent", "latent_levels": "Python numbers",
    "Attended": "a result", "word_positions": "strings and a tokenizer", "check_plain": "reads a module's settings",
    **dict.fromkeys(("ode_terms", "ode_log_likelihood"), "autograd needs a real device: test_likelihood.test_on_a_gpu"),
}


SCENES = [[0, 1, 3, 0, 1, 1, -1, -1, -1, -1], [2, 3, 6, 4, 0, 0, 13, 9, 2, 1]]  # codes are numbers on the CPU
SEVEN = schedules.make_schedule("linear", 7)  # samplers read a schedule's table once, as Python numbers: it stays on the CPU
NOW, NEXT = timesteps.noise_levels(SEVEN, [5, 2])[:2]
SEVEN_FLOW = paths.flow_schedule(7)


class On:
    """Inputs on one device. ``odd`` names inputs to leave on the CPU instead, for the tests of mixed devices."""

    def __init__(self, device, odd=()):
        self.device, self.odd = torch.device(device), odd

    def put(self, name, x):
        return x.to("cpu" if name in self.odd else self.device)

    @property
    def tables(self):
        schedule = schedules.make_schedule("linear", 7)
        return {n: self.put(n, getattr(schedule, n)) for n in ("betas", "alphas", "alphas_cumprod")}

    @property
    def bar(self):
        return self.tables["alphas_cumprod"]

    @property
    def x(self):
        return self.put("x", torch.ones(4, 2))

    @property
    def noise(self):
        return self.put("noise", torch.ones(4, 2))

    def points(self, n):
        return torch.arange(2.0 * n, device=self.device).reshape(n, 2).cos()

    @property
    def t(self):
        return self.put("t", torch.tensor([0, 3, 5, 6]))

    @property
    def level(self):
        return self.put("level", torch.full((4,), 0.5, dtype=F64))

    @property
    def mixture(self):
        eye = torch.eye(2).expand(3, 2, 2)
        return mixtures.GaussianMixture(
            self.put("weights", torch.full((3,), 1 / 3)),
            self.put("means", torch.arange(6.0).reshape(3, 2)),
            self.put("covariances", eye),
        )

    @property
    def seen(self):
        return self.put("seen", torch.full((2, 3, 64, 64), 0.25))

    @property
    def codes(self):
        return self.put("codes", torch.ones(2, 10).long())

    @property
    def judge(self):
        return self.build(models.Judge, judge.JUDGE_SIZES).eval()

    def build(self, network, *args, **kwargs):
        with self.device:  # a module cannot be moved under FakeTensorMode, but it can be made there
            return network(*args, **kwargs)

    def network(self, xt, t, cond=None):
        return xt.tanh()

    @property
    def vae(self):
        from diffusers import AutoencoderKL

        return self.build(AutoencoderKL, block_out_channels=(8,), latent_channels=2, norm_num_groups=4, sample_size=8)

    @property
    def pictures(self):
        return self.put("pictures", torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8))


    @property
    def cross_attention(self):
        from diffusers.models.attention_processor import Attention

        return attention.AttentionWeights.of(self.build(Attention, 6, cross_attention_dim=8, heads=3, dim_head=2))


def recorded_maps(on):
    from diffusers import UNet2DConditionModel

    blocks = {"down_block_types": ("CrossAttnDownBlock2D",), "up_block_types": ("CrossAttnUpBlock2D",), "block_out_channels": (8,)}
    unet = on.build(UNet2DConditionModel, layers_per_block=1, norm_num_groups=4, cross_attention_dim=8, attention_head_dim=2, **blocks)
    parts = SimpleNamespace(unet=unet, tokenizer=None, vae=on.vae)
    with attention.AttentionMaps(parts, ["one", "two"], keep=("step",)) as maps:
        unet(on.put("x", torch.ones(4, 4, 8, 8)), on.t, on.put("context", torch.ones(4, 5, 8)))
    return [maps.of(3, picture=1, step=0), maps.mass()]


def latent_call(name, *args, **options):
    """A task of a tiny Stable Diffusion. An argument "images", "mask", "latents" or "levels" stands for inputs of 8x8 and 2x2."""
    module, plain_levels = coding if hasattr(coding, name) else tasks, tasks.latent_levels

    def real_levels(*args, **kwargs):  # the times are Python numbers made of tensors on the CPU
        with unset_fake_temporarily():
            return plain_levels(*args, **kwargs)

    def call(on):
        inputs = {
            "images": on.pictures, "mask": on.put("mask", torch.ones(8, 8)), "latents": on.put("latents", torch.ones(2, 4, 2, 2)),
            "words": on.put("words", torch.ones(1, 16, 24)), "levels": [NOW, NEXT, timesteps.CLEAN],
        }
        with mock.patch.object(tasks, "latent_levels", real_levels):
            result = getattr(module, name)(on.build(tiny_parts), *(inputs.get(a, a) for a in args), **options)
        return [state.x for state in result] if name == "sample_latents" else [result]

    return call


def train_step(on):
    model = on.build(models.MLP, 2, 16)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return training.train_step(model, on.x, optimizer, on.bar)


def solver_call(name, **options):
    def call(on):
        denoise = loop.make_denoise(on.network, clip_x0=1.0)
        move = solvers.Transition(NOW, NEXT, noise=on.noise)
        first = getattr(solvers, name)(denoise, on.x, move, **options)
        move = solvers.Transition(NEXT, timesteps.CLEAN, before=(NOW, first.estimate), noise=on.noise)
        last = getattr(solvers, name)(denoise, on.x, move, **options)
        return [first.x_prev, *first.estimate, last.x_prev, *last.estimate]

    return call, [X] * 6, F32


def chain_call(function, sampler, **options):
    def call(on):
        return function(on.network, (4, 2), SEVEN, timesteps=[5, 2, 0], device=on.device, sampler=sampler, **options)

    return call


def mixture_call(name, *, with_x=True):
    return lambda on: [getattr(on.mixture, name)(*([on.x, on.level] if with_x else []))]


B, T, X = (4, 1), (7,), (4, 2)
# name: (call, expected shapes, expected dtype); every tensor returned must be on the device
CALLS = {
    "schedules.snr": (lambda on: [schedules.snr(on.bar)], [T], F64),
    "schedules.previous_alpha_bar": (lambda on: [schedules.previous_alpha_bar(on.bar)], [T], F64),
    "schedules.rescale_zero_terminal_snr": (lambda on: [schedules.rescale_zero_terminal_snr(on.tables["betas"])], [T], F64),
    "schedules.NoiseSchedule": (
        lambda on: [getattr(schedules.make_schedule("cosine", 7).to(on.device, F32), n)
                    for n in ("betas", "alphas", "alphas_cumprod", "alphas_cumprod_prev", "snr", "sigmas")], [T] * 6, F32),
    "schedules.alpha_bar_at": (lambda on: [schedules.alpha_bar_at(on.bar, on.t / 2)], [(4,)], F64),
    "levels.column": (lambda on: [levels.column(on.bar[on.t], on.x)], [B], F64),
    "levels.scales": (lambda on: [*levels.scales(on.level, on.x)], [(4,), (4,)], F32),
    "kernels.unmix": (lambda on: [kernels.unmix(on.x, 0.5, 2.0, on.noise), kernels.unmix(on.x, on.noise, on.x, on.x)], [X] * 2, F32),
    "kernels.noise_like": (lambda on: [kernels.noise_like(on.x)], [X], F32),
    "levels.as_alpha_bar": (lambda on: [levels.as_alpha_bar(0.5, on.x), levels.as_alpha_bar(on.level, on.x)], [(), B], F64),
    "kernels.mix": (lambda on: [kernels.mix(0.5, on.x, 2.0, on.noise), kernels.mix(on.x, on.noise, on.noise, on.x)], [X] * 2, F32),
    "kernels.q_step": (lambda on: [kernels.q_step(on.x, on.t, on.tables["betas"], on.noise),
                                   kernels.q_step(on.x, on.t, on.tables["betas"])], [X, X], F32),
    "kernels.q_sample": (lambda on: [kernels.q_sample(on.x, on.t, on.bar, on.noise), kernels.q_sample(on.x, on.t, on.bar)], [X, X], F32),
    "kernels.posterior_coefficients": (lambda on: [*kernels.posterior_coefficients(on.level / 2, on.level)], [(4,)] * 3, F64),
    "kernels.q_posterior": (lambda on: [*kernels.q_posterior(on.x, on.noise, on.t, on.bar)], [X, B, B], F32),
    "kernels.to_x0_and_noise": (
        lambda on: [y for p in kernels.PREDICTION_TYPES for y in kernels.to_x0_and_noise(on.noise, on.x, on.level, p)], [X] * 10, F32),
    "kernels.from_x0_and_noise": (
        lambda on: [kernels.from_x0_and_noise(on.x, on.noise, on.level, p) for p in kernels.PREDICTION_TYPES], [X] * 5, F32),
    "kernels.convert_prediction": (
        lambda on: [kernels.convert_prediction(on.noise, on.x, on.t, on.bar, source=a, target=b)
                    for a in kernels.PREDICTION_TYPES for b in kernels.PREDICTION_TYPES], [X] * 25, F32),
    "losses.call_model": (lambda on: [losses.call_model(on.network, on.x, on.t, None)], [X], F32),
    "losses.prediction_target": (
        lambda on: [losses.prediction_target(on.x, on.noise, on.t, on.bar, p) for p in kernels.PREDICTION_TYPES], [X] * 5, F32),
    "losses.loss_weight": (
        lambda on: [losses.loss_weight(on.t, on.bar, prediction_type=p, weighting=w)
                    for p in kernels.PREDICTION_TYPES for w in losses.WEIGHTINGS], [(4,)] * 15, F64),
    "losses.diffusion_loss": (
        lambda on: [losses.diffusion_loss(on.network, on.x, on.bar, weighting=w) for w in losses.WEIGHTINGS]
        + [losses.diffusion_loss(on.network, on.x, on.bar, t=on.t, noise=on.noise)], [()] * 4, F32),
    "losses.gaussian_kl": (lambda on: [losses.gaussian_kl(on.x, on.x, on.noise, on.noise)], [X], F32),
    "losses.bits_per_dim": (lambda on: [losses.bits_per_dim(on.x, 2)], [X], F32),
    "losses.elbo_terms": (
        lambda on: [y for n in (None, 17) for y in losses.elbo_terms(on.network, on.x, on.bar, num_levels=n)], [(4,), (4, 6), (4,)] * 2, F32),
    "losses.ElboTerms": (lambda on: [losses.elbo_terms(on.network, on.x, on.bar, variance_type="fixed_large").total], [(4,)], F32),
    "guidance.scale_from_w": (lambda on: [on.x * guidance.scale_from_w(2.0)], [X], F32),
    "guidance.w_from_scale": (lambda on: [on.x * guidance.w_from_scale(2.0)], [X], F32),
    "guidance.guided_prediction": (lambda on: [guidance.guided_prediction(on.x, on.noise, 3.0, 0.5)], [X], F32),
    "guidance.drop_condition": (lambda on: [guidance.drop_condition(on.t, 0.5, 7), guidance.drop_condition(on.t, 0.5, on.t)], [(4,)] * 2, torch.int64),
    "guidance.ClassifierFreeGuidance": (
        lambda on: [guidance.ClassifierFreeGuidance(on.network, s, null_cond=7, interval=i, rescale=0.5)(on.x, on.t, on.put("cond", on.t))
                    for s in (1.0, 3.0) for i in (None, (2, 5))]
        + [guidance.ClassifierFreeGuidance(on.network, 3.0, null_cond=on.put("null", torch.zeros(5, 6)))(on.x, on.t, on.put("cond", torch.ones(4, 5, 6)))],
        [X] * 5, F32),
    "reverse.ddpm_step": (
        lambda on: [y for v in losses.VARIANCE_TYPES for y in reverse.ddpm_step(
            on.noise, on.x, on.level / 2, on.level, on.x, variance_type=v, clip_x0=1.0)], [X, X, X, B] * 2, F32),
    "reverse.draw_posterior": (
        lambda on: [*reverse.draw_posterior(on.x, on.x, on.level[:, None] / 2, on.level[:, None], None, "fixed_large", None)], [X, X, X, B], F32),
    "loop.first_weight": (lambda on: [loop.first_weight(on.build(torch.nn.Linear, 2, 3))], [(3, 2)], F32),
    "loop.start": (lambda on: [loop.start((4, 2), None, on.x, None, None), loop.start((4, 2), on.x, on.x, None, F32)], [X, X], F32),
    "ancestral.p_sample_loop": (
        lambda on: [ancestral.p_sample_loop(on.network, (4, 2), **on.tables), ancestral.p_sample_loop(on.network, (4, 2), **on.tables, x_init=on.x)],
        [X, X], F32),
    "ancestral.p_sample_iter": (lambda on: [y for _, *xs in ancestral.p_sample_iter(on.network, (4, 2), **on.tables) for y in xs], [X] * 14, F32),
    "solvers.ddim_step": solver_call("ddim_step", eta=0.5),
    **{f"solvers.{name}": solver_call(name) for name in ("posterior_step", "euler_step", "euler_ancestral_step", "heun_step", "dpmpp_2m_step")},
    "loop.make_denoise": (
        lambda on: [y for p in kernels.PREDICTION_TYPES for t in (3, 2.5, on.t) for y in loop.make_denoise(
            on.network, prediction_type=p, clip_x0=0.5)(on.x, timesteps.Level(t, 0.5))], [X] * 30, F32),
    "loop.iterate_levels": (
        lambda on: [y for s in loop.iterate_levels(loop.make_denoise(on.network), on.x, [NOW, NEXT, timesteps.CLEAN]) for y in s[3:]],
        [X] * 4, F32),
    "loop.sample_iter": (lambda on: [y for n in loop.SAMPLERS for s in chain_call(loop.sample_iter, n)(on) for y in s[3:]], [X] * 36, F32),
    "loop.sample_loop": (
        lambda on: [loop.sample_loop(on.network, (4, 2), SEVEN, timesteps=[5, 2], x_init=on.x, cond=on.put("cond", on.t), device=on.device)],
        [X], F32),
    "mixtures.GaussianMixture.to": (lambda on: [(m := mixture_on_cpu().to(on.device, F64)).weights, m.means, m.covariances],
                                    [(3,), (3, 2), (3, 2, 2)], F64),
    "mixtures.GaussianMixture.at": (lambda on: [(m := on.mixture.at(0.5)).means, m.covariances], [(3, 2), (3, 2, 2)], F32),
    "mixtures.GaussianMixture.sample": (lambda on: [on.mixture.sample(5)], [(5, 2)], F32),
    "mixtures.GaussianMixture.log_prob": (mixture_call("log_prob"), [(4,)], F32),
    "mixtures.GaussianMixture.responsibilities": (mixture_call("responsibilities"), [(4, 3)], F32),
    "mixtures.GaussianMixture.score": (mixture_call("score"), [X], F32),
    "mixtures.GaussianMixture.posterior_mean": (mixture_call("posterior_mean"), [X], F32),
    "mixtures.GaussianMixture.posterior_covariance": (mixture_call("posterior_covariance"), [(4, 2, 2)], F32),
    "mixtures.GaussianMixture.noise_prediction": (mixture_call("noise_prediction"), [X], F32),
    "mixtures.GaussianMixture.model": (lambda on: [on.mixture.model(on.bar, p)(on.x, on.t) for p in kernels.PREDICTION_TYPES], [X] * 5, F32),
    "mixtures.GaussianMixture.conditional_model": (
        lambda on: [on.mixture.conditional_model(on.bar, [0, 1, 1], p)(on.x, on.t, on.put("cond", torch.tensor([0, 1, 2, 0]))) for p in kernels.PREDICTION_TYPES],
        [X] * 5, F32),
    "metrics.extract_features": (lambda on: [metrics.extract_features(on.build(models.DigitClassifier), on.put("x", torch.ones(5, 1, 16, 16)), batch_size=2)],
                                 [(5, 64)], F32),
    "neighbours.nearest_distances": (lambda on: [neighbours.nearest_distances(on.x, on.noise, chunk=3).distances], [(4,)], F64),
    "autoencoder.check_images": (lambda on: [autoencoder.check_images("x", x := on.pictures) or x], [(2, 3, 8, 8)], F32),
    "autoencoder.autoencoder_loss": (lambda on: [*autoencoder.autoencoder_loss(on.vae, on.pictures)], [()] * 4, F32),
    "render.render_scenes": (lambda on: [render.render_scenes(SCENES, size=16, device=on.device)], [(2, 3, 16, 16)], F32),
    "models.Judge": (lambda on: [(m := on.judge)(i := on.seen), m.features(i)], [(2, sum(judge.JUDGE_SIZES)), (2, 128)], F32),
    "judge.read_scenes": (lambda on: [judge.read_scenes(on.judge, on.seen)], [(2, 10)], torch.int64),
    "judge.faithful": (lambda on: [judge.faithful(on.codes, on.put("asked", torch.ones(2, 10).long()))], [(2, 10)], torch.bool),
    "judge.judge_loss": (lambda on: [judge.judge_loss(on.judge, on.judge(on.seen), on.codes)], [()], F32),
    "autoencoder.psnr": (lambda on: [autoencoder.psnr(on.x, on.noise)], [(4,)], F32),
    "attention.AttentionWeights": (lambda on: [on.cross_attention.query[0]], [(6, 6)], F32),
    "attention.split_heads": (lambda on: [attention.split_heads(on.put("x", torch.ones(4, 5, 6)), 3)], [(4, 3, 5, 2)], F32),
    "attention.attention_probabilities": (
        lambda on: [attention.attention_probabilities(on.put("x", torch.ones(4, 3, 5, 2)), on.put("keys", torch.ones(4, 3, 7, 2)), mask=on.x[:1, :1])],
        [(4, 3, 5, 7)], F32),
    "attention.attend": (
        lambda on: [*attention.attend(on.put("x", torch.ones(4, 5, 6)), on.put("context", torch.ones(4, 7, 8)), on.cross_attention)],
        [(4, 5, 6), (4, 3, 5, 7)], F32),
    "attention.AttentionMaps": (recorded_maps, [(8, 8), (5,)], F32),
    "coding.encode_prompt": (latent_call("encode_prompt", ("a red star", "")), [(2, 16, 24)], F32),
    "coding.encode_images": (latent_call("encode_images", "images"), [(2, 4, 2, 2)], F32),
    "coding.decode_latents": (latent_call("decode_latents", "latents"), [(2, 3, 8, 8)], F32),
    "coding.check_latents": (lambda on: [coding.check_latents(on.build(tiny_parts), x := torch.ones(1, 4, 2, 2, device=on.device)) or x],
                                    [(1, 4, 2, 2)], F32),
    "coding.slerp": (lambda on: [coding.slerp(on.x, on.noise, on.level), coding.slerp(on.x, on.noise, 0.5)], [X] * 2, F32),
    "tasks.sample_latents": (latent_call("sample_latents", "words", "latents", "levels", negative_prompt="a boat"), [(2, 4, 2, 2)] * 2, F32),
    **{f"tasks.text_to_image[{s}]": (latent_call("text_to_image", ("one", "two"), sampler=s, num_inference_steps=3, height=8, width=8),
                                            [(2, 3, 8, 8)], F32) for s in loop.SAMPLERS},
    "tasks.image_to_image": (latent_call("image_to_image", "images", "one", num_inference_steps=3), [(2, 3, 8, 8)], F32),
    "tasks.inpaint": (latent_call("inpaint", "images", "mask", "one", num_inference_steps=3), [(2, 3, 8, 8)], F32),
    "times.shift_time": (lambda on: [times.shift_time(on.level, 3.0)], [(4,)], F64),
    "times.logit_normal_times": (lambda on: [times.logit_normal_times(4, device=on.device)], [(4,)], F32),
    "paths.flow_interpolate": (
        lambda on: [paths.flow_interpolate(on.x, t, on.noise) for t in (0.5, on.level)] + [paths.flow_interpolate(on.x, on.level)], [X] * 3, F32),
    "paths.flow_level": (lambda on: [*paths.flow_level(on.level)], [(4,)] * 2, F64),
    "paths.flow_time": (lambda on: [paths.flow_time(on.bar)], [T], F64),
    "paths.told": (lambda on: [paths.told(on.level, on.x), paths.told(on.level[0], on.x)], [(4,)] * 2, F32),
    "paths.flow_loss": (
        lambda on: [paths.flow_loss(on.network, on.x, cond=on.t), paths.flow_loss(on.network, on.x, t=on.level, noise=on.noise)], [()] * 2, F32),
    "sampler.flow_iter": (
        lambda on: [y for m in sampler.METHODS for s in sampler.flow_iter(sampler.as_velocity(on.network), on.x, [1.0, 0.4, 0.0], method=m) for y in s[3:]],
        [X] * 8, F32),
    "sampler.flow_loop": (lambda on: [sampler.flow_loop(sampler.as_velocity(on.network), on.x, 3, shift=2.0)], [X], F32),
    "sampler.as_velocity": (
        lambda on: [sampler.as_velocity(on.network, s, prediction_type=p)(on.x, on.level)
                    for p in kernels.PREDICTION_TYPES for s in (None, SEVEN, SEVEN_FLOW if p == "velocity" else SEVEN)], [X] * 15, F32),
    "mixtures.GaussianMixture.velocity": (mixture_call("velocity"), [X], F32),
    "models.patchify": (lambda on: [models.patchify(on.pictures, 4)], [(2, 4, 48)], F32),
    "models.unpatchify": (lambda on: [models.unpatchify(models.patchify(on.pictures, 4), 4, (2, 2))], [(2, 3, 8, 8)], F32),
    "models.DiT": (lambda on: [on.build(models.DiT, 1, 8, 4, 16, 2, num_classes=7)(on.put("x", torch.ones(4, 1, 8, 8)), on.t, on.t)], [(4, 1, 8, 8)], F32),
    "models.MLP": (lambda on: [on.build(models.MLP, 2, 16)(on.x, on.t)], [X], F32),
    "models.UNet": (
        lambda on: [on.build(models.UNet, 1, 16, num_classes=7)(on.put("x", torch.ones(4, 1, 8, 8)), on.t, on.t)], [(4, 1, 8, 8)], F32),
    "models.DigitClassifier": (lambda on: [(m := on.build(models.DigitClassifier))(i := on.put("x", torch.ones(2, 1, 16, 16))), m.features(i)],
                               [(2, 10), (2, 64)], F32),
    "models.timestep_embedding": (lambda on: [models.timestep_embedding(on.t, 8)], [(4, 8)], F32),
}
# Functions that promise a Python number, and how many reads of a tensor that number costs: no more are allowed.
NUMBERS = {
    "training.train_step": (train_step, 1),
    "mixtures.GaussianMixture.velocity_loss_floor": (lambda on: on.mixture.velocity_loss_floor(0.5, num_samples=8), 1),
    "mixtures.GaussianMixture.best_loss": (lambda on: on.mixture.best_loss(3, on.bar, num_samples=8), 2),
    "metrics.frechet_distance": (lambda on: metrics.frechet_distance(on.x, on.noise + on.x.cumsum(0)), 1),
    "metrics.frechet_infinity": (
        lambda on: metrics.frechet_infinity(on.points(16), on.points(32), num_sizes=2, min_size=8).value,
        3,
    ),
    "metrics.mmd": (lambda on: metrics.mmd(on.x, on.noise) + metrics.mmd(on.x, on.noise, kernel="rbf", bandwidth=1.0), 2),
    "metrics.kernel_distance": (lambda on: metrics.kernel_distance(on.x, on.noise, num_subsets=5).value, 2),
    "metrics.bootstrap_interval": (lambda on: metrics.bootstrap_interval(torch.mean, on.x, num_resamples=5).low, 6),
    "neighbours.precision_recall": (lambda on: neighbours.precision_recall(on.x, on.noise, k=1).recall, 2),
    "autoencoder.latent_scaling": (lambda on: autoencoder.latent_scaling(on.points(8)), 1),
    "neighbours.memorisation": (lambda on: neighbours.memorisation(on.x, on.noise, on.noise, chunk=2).z_score, 1),
}
CPU_ONLY = {f"schedules.{n}" for n in ("linear_betas", "scaled_linear_betas", "cosine_betas", "sigmoid_betas", "make_schedule")}


def mixture_on_cpu():
    return On("cpu").mixture


def public_names():
    """module.function, module.Class or, for the mixture, module.Class.method of everything public that a module defines."""
    for short, module in MODULES.items():
        lazy = {name: getattr(models, name) for name in flat(models.EXPORTS)} if module is models else {}
        for name, value in (vars(module) | lazy).items():
            defined_here = getattr(value, "__module__", "").startswith(module.__name__)
            if name.startswith("_") or not defined_here or not (inspect.isfunction(value) or inspect.isclass(value)):
                continue
            if value is mixtures.GaussianMixture:
                yield from (
                    f"{short}.{name}.{m}" for m, f in vars(value).items() if inspect.isfunction(f) and not m.startswith("_")
                )
            elif name not in NOT_CALLED:
                yield f"{short}.{name}"


def test_no_public_function_is_missing():
    assert set(public_names()) == {name.partition("[")[0] for name in {*CALLS, *NUMBERS, *CPU_ONLY}}


def check(name, device):
    call, shapes, dtype = CALLS[name]
    results = call(On(device))
    assert [tuple(y.shape) for y in results] == shapes
    assert {y.device.type for y in results} == {torch.device(device).type}
    assert {y.dtype for y in results} == {dtype}
    return results


@pytest.fixture
def fake():
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        yield mode


def test_reading_a_fake_value_is_caught(fake):
    x = torch.ones(2, device="cuda")
    for read in (lambda: x.sum().item(), lambda: bool((x > 0).all()), x.tolist, lambda: float(x[0]), x.nonzero):
        with pytest.raises((DataDependentOutputException, DynamicOutputShapeException)):
            read()


@pytest.mark.parametrize("name", CALLS)
def test_on_a_fake_gpu_without_reading_a_value(name, fake):
    check(name, "cuda")


@pytest.mark.parametrize("name", NUMBERS)
def test_functions_that_return_a_number_read_no_more_than_that(name, fake, monkeypatch):
    call, allowed = NUMBERS[name]
    reads = []
    plain = torch.Tensor.item
    monkeypatch.setattr(torch.Tensor, "item", lambda x: (reads.append(x) or 0.25) if isinstance(x, FakeTensor) else plain(x))
    monkeypatch.setattr(torch.Tensor, "backward", lambda self: None)  # autograd asks the driver for the device, fake or not
    monkeypatch.setattr(torch, "cov", lambda x: x @ x.T)  # the real one compares values, on the CPU, where frechet_distance works
    call(On("cuda"))
    assert len(reads) == allowed


# What to leave on the CPU, and the error; every call checks the device of every tensor it takes.
MIXED = [
    ("kernels.q_step", "betas", r"betas is on cpu and x_prev on cuda:0.*betas\.to\(x_prev\.device\)"),
    ("kernels.q_step", "x", r"betas is on cuda:0 and x_prev on cpu"),
    ("kernels.q_step", "t", r"t is on cpu and x_prev on cuda:0"),
    ("kernels.q_step", "noise", r"noise is on cpu and x_prev on cuda:0"),
    ("kernels.q_sample", "alphas_cumprod", r"alphas_cumprod is on cpu and x0 on cuda:0.*alphas_cumprod\.to\(x0\.device\)"),
    ("kernels.q_sample", "x", r"alphas_cumprod is on cuda:0 and x0 on cpu"),
    ("kernels.q_sample", "t", r"t is on cpu and x0 on cuda:0"),
    ("kernels.q_sample", "noise", r"noise is on cpu and x0 on cuda:0"),
    ("kernels.q_posterior", "x", r"xt is on cuda:0 and x0 on cpu"),
    ("kernels.q_posterior", "alphas_cumprod", r"alphas_cumprod is on cpu and x0 on cuda:0"),
    ("kernels.q_posterior", "t", r"t is on cpu and x0 on cuda:0"),
    ("levels.as_alpha_bar", "level", r"alpha_bar is on cpu and xt on cuda:0"),
    ("kernels.to_x0_and_noise", "noise", r"model_output is on cpu and xt on cuda:0"),
    ("kernels.to_x0_and_noise", "level", r"alpha_bar is on cpu and xt on cuda:0"),
    ("kernels.from_x0_and_noise", "noise", r"noise is on cpu and x0 on cuda:0"),
    ("kernels.convert_prediction", "noise", r"value is on cpu and xt on cuda:0"),
    ("kernels.convert_prediction", "alphas_cumprod", r"alphas_cumprod is on cpu and xt on cuda:0"),
    ("kernels.convert_prediction", "t", r"t is on cpu and xt on cuda:0"),
    ("losses.prediction_target", "noise", r"noise is on cpu and x0 on cuda:0"),
    ("losses.prediction_target", "alphas_cumprod", r"alphas_cumprod is on cpu and x0 on cuda:0"),
    ("losses.prediction_target", "t", r"t is on cpu and x0 on cuda:0"),
    ("losses.loss_weight", "alphas_cumprod", r"(t is on cuda:0 and alphas_cumprod on cpu|alphas_cumprod is on cpu and t on cuda:0)"),
    ("losses.loss_weight", "t", r"(t is on cpu and alphas_cumprod on cuda:0|alphas_cumprod is on cuda:0 and t on cpu)"),
    ("losses.diffusion_loss", "alphas_cumprod", r"alphas_cumprod is on cpu and x0 on cuda:0"),
    ("losses.diffusion_loss", "x", r"(alphas_cumprod is on cuda:0 and x0 on cpu)"),
    ("losses.diffusion_loss", "t", r"t is on cpu and x0 on cuda:0"),
    ("losses.diffusion_loss", "noise", r"noise is on cpu and x0 on cuda:0"),
    ("losses.elbo_terms", "alphas_cumprod", r"alphas_cumprod is on cpu and x0 on cuda:0"),
    ("guidance.guided_prediction", "noise", r"uncond_output is on cpu and cond_output on cuda:0"),
    ("guidance.ClassifierFreeGuidance", "cond", r"cond is on cpu and xt on cuda:0"),
    ("guidance.ClassifierFreeGuidance", "x", r"cond is on cuda:0 and xt on cpu"),
    ("guidance.ClassifierFreeGuidance", "null", r"null_cond is on cpu and cond on cuda:0"),
    ("reverse.ddpm_step", "level", r"alpha_bar is on cpu and xt on cuda:0"),
    ("reverse.ddpm_step", "noise", r"model_output is on cpu and xt on cuda:0"),
    ("ancestral.p_sample_loop", "alphas", r"alphas is on cpu and betas on cuda:0"),
    ("ancestral.p_sample_loop", "alphas_cumprod", r"alphas_cumprod is on cpu and betas on cuda:0"),
    ("ancestral.p_sample_loop", "x", r"x_init is on cpu and betas on cuda:0"),
    ("paths.flow_interpolate", "noise", r"noise is on cpu and x0 on cuda:0"),
    ("paths.flow_interpolate", "level", r"t is on cpu and xt on cuda:0"),
    ("paths.flow_loss", "noise", r"noise is on cpu and x0 on cuda:0"),
    ("mixtures.GaussianMixture.velocity", "level", r"t is on cpu and xt on cuda:0"),
    ("schedules.alpha_bar_at", "t", r"t is on cpu and alphas_cumprod on cuda:0"),
    ("metrics.mmd", "noise", r"features_b is on cpu and features_a on cuda:0"),
    ("metrics.kernel_distance", "noise", r"features_b is on cpu and features_a on cuda:0"),
    ("neighbours.nearest_distances", "noise", r"reference is on cpu and samples on cuda:0"),
    ("neighbours.precision_recall", "noise", r"fake is on cpu and real on cuda:0"),
    ("attention.attend", "context", r"context is on cpu and x on cuda:0"),
    ("attention.attention_probabilities", "keys", r"keys is on cpu and queries on cuda:0"),
    ("judge.read_scenes", "seen", r"images is on cpu and the judge's weights on cuda:0"),
    ("judge.faithful", "asked", r"asked is on cpu and read on cuda:0"),
    ("autoencoder.psnr", "noise", r"references is on cpu and images on cuda:0"),
    ("coding.encode_images", "pictures", r"images is on cpu and parts.vae on cuda:0"),
    ("coding.decode_latents", "latents", r"latents is on cpu and parts.unet on cuda:0"),
    ("coding.slerp", "noise", r"b is on cpu and a on cuda:0"),
    ("tasks.sample_latents", "words", r"prompts is on cpu and parts.unet on cuda:0"),
    ("tasks.sample_latents", "latents", r"latents is on cpu and parts.unet on cuda:0"),
    ("tasks.inpaint", "mask", r"mask is on cpu and images on cuda:0"),
    ("neighbours.memorisation", "x", r"train is on cuda:0 and samples on cpu"),
    ("solvers.ddim_step", "noise", r"noise is on cpu and xt on cuda:0"),
    ("solvers.euler_ancestral_step", "x", r"noise is on cuda:0 and xt on cpu"),
    ("loop.sample_loop", "x", r"x_init is on cpu and device='cuda'"),
    ("loop.sample_loop", "cond", r"cond is on cpu and x_init on cuda:0"),
    ("mixtures.GaussianMixture.score", "x", r"the mixture differ: got .* on cpu and .* on cuda:0"),
    ("mixtures.GaussianMixture.conditional_model", "cond", r"cond is on cpu and xt on cuda:0"),
    ("mixtures.GaussianMixture.log_prob", "weights", r"weights.* on cpu.*"),
    ("mixtures.GaussianMixture.log_prob", "covariances", r"covariances.* on cpu.*"),
]


@pytest.mark.parametrize(("name", "odd", "message"), MIXED, ids=[f"{n}-{o}" for n, o, _ in MIXED])
def test_mixed_devices_are_named(name, odd, message, fake):
    with pytest.raises(ValueError, match=message):
        {**CALLS, **NUMBERS}[name][0](On("cuda", odd=(odd,)))


def test_train_step_names_mixed_devices(fake):
    with pytest.raises(ValueError, match="alphas_cumprod is on cpu and x0 on cuda:0"):
        train_step(On("cuda", odd=("alphas_cumprod",)))


def test_a_network_that_answers_on_another_device(fake):
    on = On("cuda")
    for call in (
        lambda f: losses.diffusion_loss(f, on.x, on.bar),
        lambda f: losses.elbo_terms(f, on.x, on.bar),
        lambda f: ancestral.p_sample_loop(f, (4, 2), **on.tables),
        lambda f: loop.sample_loop(f, (4, 2), SEVEN, timesteps=[5], device=on.device),
    ):
        with pytest.raises(
            ValueError, match=r"the network must return the shape and device of xt: got .* on cpu for xt with .* on cuda:0"
        ):
            call(lambda xt, t: xt.cpu())


@pytest.mark.gpu
@pytest.mark.parametrize("name", CALLS)
def test_on_a_real_gpu_as_on_the_cpu(name):
    draws_its_own = name in (
        "kernels.noise_like",
        "kernels.q_step",
        "kernels.q_sample",
        "losses.diffusion_loss",
        "losses.elbo_terms",
        "losses.ElboTerms",
        "autoencoder.autoencoder_loss",
        "guidance.drop_condition",
        "ancestral.p_sample_loop",
        "ancestral.p_sample_iter",
        "loop.sample_iter",
        "mixtures.GaussianMixture.sample",
    )
    torch.manual_seed(0)
    on_gpu = check(name, "cuda")
    torch.manual_seed(0)
    on_cpu = check(name, "cpu")
    if not draws_its_own:
        for a, b in zip(on_gpu, on_cpu, strict=True):
            torch.testing.assert_close(a.cpu(), b, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers_from_a_real_gpu(name):
    torch.manual_seed(0)
    assert isinstance(NUMBERS[name][0](On("cuda")), float)


@pytest.mark.gpu
def test_loss_and_step_do_not_synchronise_a_real_gpu():
    on = On("cuda")
    arguments = on.x, on.t, on.bar, on.noise
    step = on.noise, on.x, on.level / 2, on.level, on.x
    torch.cuda.set_sync_debug_mode("error")
    try:
        kernels.q_sample(*arguments)
        losses.diffusion_loss(on_device_network, arguments[0], arguments[2], weighting="min_snr")
        reverse.ddpm_step(*step)
        for sampler in loop.SAMPLERS:
            for _ in loop.sample_iter(on_device_network, (4, 2), SEVEN, timesteps=[5, 2], device="cuda", sampler=sampler):
                pass
    finally:
        torch.cuda.set_sync_debug_mode("default")


def on_device_network(xt, t):
    return xt.tanh()


@pytest.mark.gpu
def test_train_on_a_gpu():
    model = models.MLP(2, 16).cuda()
    states = list(
        training.train(
            model,
            torch.randn(64, 2, device="cuda"),
            schedules.make_schedule("linear", 50),
            num_steps=4,
            batch_size=8,
            report_every=2,
        )
    )
    assert [s.step for s in states] == [2, 4]
    assert next(states[-1].ema_model.parameters()).is_cuda


def test_constructors_stay_on_the_cpu():
    for name in sorted(CPU_ONLY):
        made = getattr(schedules, name.rpartition(".")[2])()
        table = made.betas if isinstance(made, schedules.NoiseSchedule) else made
        assert table.device.type == "cpu" and table.dtype == F64, ON_CPU
