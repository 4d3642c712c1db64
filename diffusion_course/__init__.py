"""diffusion_course: the tested functions behind the lessons. Names load on first use, so the import itself is quick."""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("diffusion-course")
except PackageNotFoundError:  # a source folder on the path, not installed
    __version__ = "unknown"

_EXPORTS = {
    "schedules": (
        "NoiseSchedule",
        "alpha_bar_at",
        "cosine_betas",
        "linear_betas",
        "make_schedule",
        "previous_alpha_bar",
        "rescale_zero_terminal_snr",
        "scaled_linear_betas",
        "sigmoid_betas",
        "snr",
    ),
    "process": (
        "Posterior",
        "convert_prediction",
        "from_x0_and_noise",
        "posterior_coefficients",
        "q_posterior",
        "q_sample",
        "q_step",
        "to_x0_and_noise",
    ),
    "losses": ("ElboTerms", "bits_per_dim", "diffusion_loss", "elbo_terms", "gaussian_kl", "loss_weight", "prediction_target"),
    "guidance": ("ClassifierFreeGuidance", "drop_condition", "guided_prediction", "scale_from_w", "w_from_scale"),
    "sampling": ("DDPMStep", "ddpm_step", "p_sample_iter", "p_sample_loop"),
    "timesteps": ("CLEAN", "Level", "inference_timesteps", "noise_levels"),
    "solvers": ("Estimate", "SamplerStep", "ddim_step", "dpmpp_2m_step", "euler_ancestral_step", "euler_step", "heun_step"),
    "samplers": ("SAMPLERS", "SampleState", "iterate_levels", "make_denoise", "sample_iter", "sample_loop"),
    "analytic": ("GaussianMixture",),
    "scenes": (
        "Scene",
        "Thing",
        "captions",
        "code_to_scene",
        "is_held_out",
        "parse_caption",
        "render_scenes",
        "sample_scenes",
        "scene_to_code",
    ),
    "judge": ("faithful", "read_scenes"),
    "datasets": ("ImageSet", "PointSet", "load_dataset", "mixture"),
    "models": ("MLP", "DigitClassifier", "Judge", "UNet", "timestep_embedding"),
    "flops": ("count_flops", "count_parameters", "flops_by_module"),
    "likelihood": ("OdeTerms", "ode_log_likelihood", "ode_terms"),
    "metrics": (
        "FrechetFit",
        "Interval",
        "KernelDistance",
        "bootstrap_interval",
        "extract_features",
        "frechet_distance",
        "frechet_infinity",
        "kernel_distance",
        "mmd",
    ),
    "neighbours": ("Memorisation", "Nearest", "PrecisionRecall", "memorisation", "nearest_distances", "precision_recall"),
    "trainer": ("EMA",),
    "training": ("TrainState", "train", "train_step"),
    "pretrained": ("load_pretrained", "shipped_files"),
    "seeds": ("default_device", "make_generator", "seed_everything"),
    "autoencoder": ("AutoencoderLoss", "autoencoder_loss", "latent_scaling", "psnr"),
    "tokenization": (
        "Vocabulary",
        "bpe",
        "byte_alphabet",
        "decode_text",
        "encode_text",
        "learn_merges",
        "load_vocabulary",
        "merge_pair",
        "split_words",
        "train_vocabulary",
        "word_symbols",
    ),
    "attention": (
        "Attended",
        "AttentionMaps",
        "AttentionWeights",
        "attend",
        "attention_probabilities",
        "split_heads",
        "word_positions",
    ),
    "latent": ("LatentParts", "load_parts"),
    "latent_coding": ("decode_latents", "encode_images", "encode_prompt", "slerp"),
    "latent_tasks": ("image_to_image", "inpaint", "latent_levels", "sample_latents", "text_to_image"),
    "memory": ("STABLE_DIFFUSION_15", "MemoryEstimate", "measure_peak", "predict_memory"),
    "stable_diffusion": ("CHECKPOINTS", "find_checkpoint", "load_stable_diffusion", "make_scheduler"),
    "display": ("Progress", "show", "show_source"),
    "interactive": ("Explorer",),
    "animation": ("Animation",),
    "exercises": ("check", "exercise", "hint", "progress", "reset_progress", "solution"),
}
_HOME = {name: module for module, names in _EXPORTS.items() for name in names}

__all__ = [*_HOME, "__version__"]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOME[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
