"""A right call of every public function of the core: fresh arguments by name, so that one can be replaced."""

import torch
from helpers import normal

import diffusion_course as course
from diffusion_course import (
    CLEAN,
    MLP,
    Level,
    Transition,
    UNet,
    make_denoise,
    make_generator,
    make_schedule,
    mixture,
)
from diffusion_course.models.blocks import Attention, ResBlock
from diffusion_course.models.embedding import Conditioning
from diffusion_course.models.mmdit import MMDiTBlock

SCHEDULE = make_schedule("linear", 10)


def interval(statistic, **settings):
    return course.bootstrap_interval(statistic, features(0), **settings)


BAR = SCHEDULE.alphas_cumprod
NETWORK = MLP(hidden=8, depth=1)
CLASSES = MLP(hidden=8, depth=1, num_classes=3)


def x(seed=0):
    return normal(4, 2, seed=seed).float()


def t():
    return torch.tensor([0, 3, 5, 9])


def seeded():
    return make_generator(0)


def step(**more):
    return {"denoise": make_denoise(NETWORK), "xt": x(), "move": Transition(Level(5, 0.5), Level(2, 0.8), generator=seeded()), **more}


def features(seed):
    return normal(20, 2, seed=seed)


def drawing(**more):
    return {"model": NETWORK, "shape": (2, 2), "schedule": SCHEDULE, "sampler": "ddim", "num_inference_steps": 3, "spacing": "leading",
            "timesteps": None, "x_init": None, "prediction_type": "epsilon", "clip_x0": None, "generator": seeded(), "dtype": None,
            "device": None, "cond": None, **more}


def chain(**more):
    return {"unet": NETWORK, "shape": (2, 2), "betas": SCHEDULE.betas, "alphas": SCHEDULE.alphas, "alphas_cumprod": BAR, "cond": None,
            "x_init": None, "prediction_type": "epsilon", "variance_type": "fixed_small", "clip_x0": None, "generator": seeded(),
            "dtype": None, **more}


def ends(n=10):
    return {"num_train_timesteps": n, "beta_start": 1e-4, "beta_end": 0.02}


def widths():
    return {"in_channels": 1, "channels": 16, "channel_mult": (1, 2), "blocks_per_level": 1, "attention_levels": (1,), "num_heads": 4,
            "num_classes": None, "context_dim": 8, "out_channels": None, "patch_size": 1}


CODES = course.sample_scenes(3, generator=make_generator(0))
CALLS = {
    course.q_step: lambda: {"x_prev": x(), "t": t(), "betas": SCHEDULE.betas, "noise": x(1), "generator": None},
    course.q_sample: lambda: {"x0": x(), "t": t(), "alphas_cumprod": BAR, "noise": x(1), "generator": None},
    course.q_posterior: lambda: {"x0": x(), "xt": x(1), "t": t(), "alphas_cumprod": BAR},
    course.posterior_coefficients: lambda: {"alpha_bar": BAR[1:], "alpha_bar_prev": BAR[:-1]},
    course.to_x0_and_noise: lambda: {"model_output": x(), "xt": x(1), "alpha_bar": 0.5, "prediction_type": "epsilon"},
    course.from_x0_and_noise: lambda: {"x0": x(), "noise": x(1), "alpha_bar": 0.5, "prediction_type": "v_prediction"},
    course.convert_prediction: lambda: {"value": x(), "xt": x(1), "t": t(), "alphas_cumprod": BAR, "source": "epsilon", "target": "score"},
    course.prediction_target: lambda: {"x0": x(), "noise": x(1), "t": t(), "alphas_cumprod": BAR, "prediction_type": "v_prediction"},
    course.loss_weight: lambda: {"t": t(), "alphas_cumprod": BAR, "prediction_type": "epsilon", "weighting": "min_snr", "gamma": 5.0, "variance_type": "fixed_small"},
    course.diffusion_loss: lambda: {"model": NETWORK, "x0": x(), "alphas_cumprod": BAR, "cond": None, "t": t(), "noise": x(1),
                                    "prediction_type": "epsilon", "weighting": "min_snr", "gamma": 5.0, "generator": None},
    course.elbo_terms: lambda: {"model": NETWORK, "x0": x(), "alphas_cumprod": BAR, "prediction_type": "epsilon", "variance_type": "fixed_small",
                                "num_levels": None, "cond": None, "generator": seeded()},
    course.gaussian_kl: lambda: {"mean1": x(), "log_variance1": x(1), "mean2": x(2), "log_variance2": x(3)},
    course.bits_per_dim: lambda: {"nats": x()[:, 0], "num_dims": 2},
    course.guided_prediction: lambda: {"cond_output": x(), "uncond_output": x(1), "guidance_scale": 3.0, "rescale": 0.5},
    course.drop_condition: lambda: {"cond": torch.tensor([0, 1, 2]), "probability": 0.5, "null": 3, "generator": seeded()},
    course.scale_from_w: lambda: {"w": 2.0, "base": "cond"},
    course.w_from_scale: lambda: {"guidance_scale": 2.0, "base": "cond"},
    course.ClassifierFreeGuidance: lambda: {"model": CLASSES, "guidance_scale": 3.0, "null_cond": 3, "negative_cond": None, "interval": None, "rescale": 0.0},
    course.linear_betas: ends, course.scaled_linear_betas: ends, course.sigmoid_betas: ends,
    course.cosine_betas: lambda: {"num_train_timesteps": 10, "offset": 0.008, "max_beta": 0.999},
    course.rescale_zero_terminal_snr: lambda: {"betas": SCHEDULE.betas},
    course.snr: lambda: {"alphas_cumprod": BAR},
    course.previous_alpha_bar: lambda: {"alphas_cumprod": BAR},
    course.alpha_bar_at: lambda: {"alphas_cumprod": BAR, "t": torch.tensor([0.5, 3.0])},
    course.make_schedule: lambda: {"name": "linear", "num_train_timesteps": 10, "zero_terminal_snr": True, "beta_start": 1e-4, "beta_end": 0.02},
    course.NoiseSchedule: lambda: {"betas": SCHEDULE.betas, "name": "mine"},
    course.inference_timesteps: lambda: {"num_train_timesteps": 10, "num_inference_steps": 3, "spacing": "leading"},
    course.noise_levels: lambda: {"schedule": SCHEDULE, "timesteps": torch.tensor([9.0, 3.5])},
    course.make_denoise: lambda: {"model": NETWORK, "cond": None, "prediction_type": "epsilon", "clip_x0": None},
    course.iterate_levels: lambda: {"denoise": make_denoise(NETWORK), "x": x(), "levels": [Level(5, 0.5), Level(2, 0.8), CLEAN], "sampler": "ddim", "generator": seeded()},
    course.sample_iter: drawing,
    course.sample_loop: lambda: drawing(callback=None),
    course.p_sample_iter: chain,
    course.p_sample_loop: lambda: chain(callback=None),
    course.ddim_step: lambda: step(eta=0.5), course.euler_step: step, course.euler_ancestral_step: lambda: step(eta=0.5),
    course.heun_step: step, course.dpmpp_2m_step: step,
    course.ddpm_step: lambda: {"model_output": x(), "xt": x(1), "alpha_bar": 0.5, "alpha_bar_prev": 0.8, "noise": x(2), "prediction_type": "epsilon",
                               "variance_type": "fixed_small", "clip_x0": 1.0, "generator": None},
    course.ode_terms: lambda: {"model": NETWORK, "x0": x(), "schedule": SCHEDULE, "num_steps": 2, "trace": "hutchinson", "num_probes": 1, "cond": None,
                               "prediction_type": "epsilon", "generator": seeded()},
    course.ode_log_likelihood: lambda: {"model": NETWORK, "x0": x(), "schedule": SCHEDULE, "num_steps": 2},
    course.GaussianMixture: lambda: {"weights": torch.tensor([0.5, 0.5]), "means": x()[:2], "covariances": torch.eye(2).repeat(2, 1, 1)},
    course.mixture: lambda: {"name": "pair"},
    course.load_dataset: lambda: {"name": "digits", "split": "test", "size": 16, "root": "~/none", "download": False},
    course.sample_scenes: lambda: {"n": 3, "generator": seeded(), "split": "all", "things": 1},
    course.render_scenes: lambda: {"codes": CODES, "size": 16, "generator": seeded(), "device": None, "dtype": torch.float32},
    course.captions: lambda: {"codes": CODES, "generator": seeded(), "complete": True},
    course.parse_caption: lambda: {"text": "a red star"},
    course.code_to_scene: lambda: {"code": CODES[0]},
    course.scene_to_code: lambda: {"scene": course.code_to_scene(CODES[0])},
    course.is_held_out: lambda: {"codes": CODES},
    course.MLP: lambda: {"dim": 2, "hidden": 8, "depth": 1, "num_classes": 3},
    course.UNet: widths,
    course.DiT: lambda: {"in_channels": 1, "sample_size": 8, "patch_size": 4, "width": 8, "depth": 1, "num_heads": 2, "num_classes": 3},
    course.DiT(1, 4, 2, 8, 1, num_classes=3).forward: lambda: {"xt": normal(4, 1, 4, 4).float(), "t": t(), "cond": torch.tensor([0, 1, 2, 3])},
    course.patchify: lambda: {"images": normal(2, 1, 4, 4).float(), "patch_size": 2},
    course.unpatchify: lambda: {"tokens": normal(2, 4, 4).float(), "patch_size": 2, "grid": (2, 2)},
    MMDiTBlock: lambda: {"width": 8, "num_heads": 2, "last": False},
    MMDiTBlock(8, 2).forward: lambda: {"h": normal(2, 4, 8).float(), "w": normal(2, 3, 8).float(), "c": normal(2, 8).float()},
    course.flow_interpolate: lambda: {"x0": x(), "t": 0.5, "noise": x(1), "generator": None},
    course.flow_level: lambda: {"t": 0.5},
    course.flow_time: lambda: {"alpha_bar": 0.5},
    course.flow_schedule: lambda: {"num_train_timesteps": 10},
    course.flow_loss: lambda: {"model": NETWORK, "x0": x(), "cond": None, "t": torch.tensor([0.1, 0.5, 0.7, 1.0]), "noise": x(1), "generator": None},
    course.flow_times: lambda: {"num_steps": 3, "shift": 2.0},
    course.shift_time: lambda: {"t": 0.5, "shift": 2.0},
    course.logit_normal_times: lambda: {"n": 3, "mean": 0.5, "std": 1.0, "generator": seeded(), "device": "cpu", "dtype": torch.float32},
    course.flow_iter: lambda: {"velocity": course.as_velocity(NETWORK), "x": x(), "times": torch.tensor([1.0, 0.5, 0.25]), "method": "heun"},
    course.flow_loop: lambda: {"velocity": course.as_velocity(NETWORK), "x": x(), "num_steps": 2, "shift": 2.0, "method": "euler"},
    course.as_velocity: lambda: {"model": NETWORK, "schedule": SCHEDULE, "cond": None, "prediction_type": "epsilon"},
    course.Judge: lambda: {"sizes": (3, 4)},
    course.timestep_embedding: lambda: {"t": t(), "dim": 8},
    Attention: lambda: {"channels": 16, "num_heads": 4, "context_dim": None},
    ResBlock: lambda: {"in_channels": 16, "out_channels": 16, "emb_dim": 8},
    Conditioning: lambda: {"dim": 8, "hidden": 8, "num_classes": 3},
    NETWORK.forward: lambda: {"xt": x(), "t": t(), "cond": None},
    CLASSES.forward: lambda: {"xt": x(), "t": t(), "cond": torch.tensor([0, 1, 2, 3])},
    UNet(**widths()).forward: lambda: {"xt": normal(2, 1, 8, 8).float(), "t": t()[:2], "cond": normal(2, 3, 8).float()},
    course.extract_features: lambda: {"model": lambda images: images.flatten(1), "images": x(), "batch_size": 2},
    course.frechet_distance: lambda: {"features_a": features(0), "features_b": features(1)},
    course.frechet_infinity: lambda: {"features_a": features(0), "features_b": features(1), "num_sizes": 3, "min_size": 5, "generator": seeded()},
    course.mmd: lambda: {"features_a": features(0), "features_b": features(1), "kernel": "rbf", "bandwidth": 1.0},
    course.kernel_distance: lambda: {"features_a": features(0), "features_b": features(1), "subset_size": 5, "num_subsets": 3, "generator": seeded()},
    interval: lambda: {"statistic": lambda *sets: 1.0, "num_resamples": 3, "level": 0.9, "method": "basic", "generator": seeded()},
    course.nearest_distances: lambda: {"samples": features(0), "reference": features(1), "chunk": 8},
    course.precision_recall: lambda: {"real": features(0), "fake": features(1), "k": 3, "chunk": 8},
    course.memorisation: lambda: {"samples": features(0), "train": features(1), "held_out": features(2), "level": 0.1, "chunk": 8},
    course.count_parameters: lambda: {"model": NETWORK},
    course.faithful: lambda: {"read": CODES, "asked": CODES.clone()},
    course.make_generator: lambda: {"seed": 0, "device": "cpu"},
    course.seed_everything: lambda: {"seed": 0},
}
MIXTURE = mixture("pair")
points = MIXTURE.sample(4, generator=make_generator(0))
CALLS |= {
    MIXTURE.at: lambda: {"alpha_bar": 0.5},
    MIXTURE.sample: lambda: {"n": 3, "generator": seeded()},
    MIXTURE.log_prob: lambda: {"x": points, "alpha_bar": 0.5},
    MIXTURE.responsibilities: lambda: {"xt": points, "alpha_bar": 0.5},
    MIXTURE.score: lambda: {"xt": points, "alpha_bar": 0.5},
    MIXTURE.posterior_mean: lambda: {"xt": points, "alpha_bar": 0.5},
    MIXTURE.posterior_covariance: lambda: {"xt": points, "alpha_bar": 0.5},
    MIXTURE.velocity: lambda: {"xt": points, "t": 0.5},
    MIXTURE.velocity_loss_floor: lambda: {"t": 0.5, "num_samples": 16, "generator": seeded()},
    MIXTURE.noise_prediction: lambda: {"xt": points, "alpha_bar": 0.5},
    MIXTURE.model: lambda: {"alphas_cumprod": BAR, "prediction_type": "epsilon"},
    MIXTURE.conditional_model: lambda: {"alphas_cumprod": BAR, "classes": [0, 1], "prediction_type": "epsilon"},
    MIXTURE.best_loss: lambda: {"t": 3, "alphas_cumprod": BAR, "num_samples": 16, "generator": seeded()},
    SCHEDULE.to: lambda: {"device": "cpu", "dtype": torch.float32},
}
CALLS[course.load_pretrained] = lambda: {"name": "digits"}
