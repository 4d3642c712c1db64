"""A right call of every public function of latent and notebook: fresh arguments by name, so that one can be replaced."""

import tempfile

import torch
from matplotlib.figure import Figure
from tiny_stable_diffusion import tiny_parts

import diffusion_course as course
from diffusion_course import latent, latent_levels, make_generator, plotting
from diffusion_course.files.pretrained import data_dir
from diffusion_course.latent.parts import MINIATURE
from diffusion_course.notebook import (
    Animation,
    Explorer,
    Progress,
    figure,
    image_grid,
    panels,
    show,
)

PARTS = tiny_parts()
ATTENTION = next(m for m in PARTS.unet.modules() if getattr(m, "is_cross_attention", False))
SCHEDULER = {"_class_name": "DDIMScheduler", "beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "clip_sample": False}
FOLDER, TOKENIZER = tempfile.mkdtemp(), data_dir() / MINIATURE / "tokenizer"
RANKS = {("a", "b</w>"): 0}


def seeded():
    return make_generator(0)


def images(n=1):
    return torch.rand(n, 3, 32, 32, generator=seeded()) * 2 - 1


def latents():
    return torch.zeros(1, 4, 8, 8)


def vocabulary():
    ids = {token: i for i, token in enumerate((*course.byte_alphabet(), *(s + "</w>" for s in course.byte_alphabet()), "<|startoftext|>", "<|endoftext|>"))}
    return course.Vocabulary(ids, {}, 16)


def settings(**more):
    return {"negative_prompt": "", "guidance_scale": 2.0, "rescale": 0.0, "num_inference_steps": 1, "sampler": "ddim", "spacing": None,
            "generator": seeded(), "callback": None, "eta": 0.5, **more}


def psnr(images, references):
    """`psnr` without its infinity for equal pictures."""
    return course.psnr(images, references).clamp(max=1e3)


def shown_explorer(draw=lambda t: (Figure(), "words"), alt=None, start=None, ahead=False, t=(0, 3, 1)):
    return Explorer(draw, alt=alt, start=start, ahead=ahead, t=t).png


def counted(total, label, unit, interval):
    progress = Progress(total, label, unit=unit, interval=interval)
    return progress.text


def updated(steps, message):
    with Progress(3) as progress:
        progress.update(steps, message)


LATENT = {
    course.text_to_image: lambda: {"parts": PARTS, "prompts": "a", "latents": None, "height": 16, "width": 16, **settings()},
    course.image_to_image: lambda: {"parts": PARTS, "images": images(), "prompts": ["a"], "strength": 1.0, **settings()},
    course.inpaint: lambda: {"parts": PARTS, "images": images(), "mask": torch.ones(1, 1, 32, 32), "prompts": "a", "strength": 1.0, **settings()},
    course.latent_levels: lambda: {"parts": PARTS, "num_inference_steps": 4, "sampler": "ddim", "spacing": "leading", "strength": 0.5},
    course.sample_latents: lambda: {"parts": PARTS, "prompts": "a", "latents": latents(), "levels": latent_levels(PARTS, 1, "ddim"), "negative_prompt": "",
                                    "guidance_scale": 1.0, "rescale": 0.0, "sampler": "ddim", "generator": None, "eta": 0.0},
    course.encode_prompt: lambda: {"parts": PARTS, "prompts": ["a", "b"]},
    course.encode_images: lambda: {"parts": PARTS, "images": images(), "generator": seeded()},
    course.decode_latents: lambda: {"parts": PARTS, "latents": latents()},
    course.slerp: lambda: {"a": images(2), "b": images(2).flip(0), "weight": torch.tensor([0.2, 0.5])},
    course.autoencoder_loss: lambda: {"vae": PARTS.vae, "images": images(), "kl_weight": 1e-3, "generator": seeded()},
    psnr: lambda: {"images": images(), "references": images() / 2},
    course.latent_scaling: lambda: {"latents": images()},
    course.attention_probabilities: lambda: {"queries": torch.rand(2, 3, 4, 5), "keys": torch.rand(2, 3, 6, 5), "mask": torch.zeros(4, 6)},
    course.split_heads: lambda: {"x": torch.rand(2, 3, 8), "heads": 4},
    course.attend: lambda: {"x": torch.rand(1, 3, ATTENTION.to_q.in_features), "context": torch.rand(1, 5, 24),
                            "weights": course.AttentionWeights.of(ATTENTION), "mask": torch.zeros(3, 5)},
    course.AttentionWeights.of: lambda: {"module": ATTENTION},
    course.word_positions: lambda: {"tokenizer": PARTS.tokenizer, "prompt": "a red star", "word": "star"},
    course.AttentionMaps: lambda: {"parts": PARTS, "prompts": ["a"], "half": "conditional", "keep": ("step",)},
    course.split_words: lambda: {"text": "a red star"},
    course.word_symbols: lambda: {"word": "star"},
    course.merge_pair: lambda: {"symbols": ["a", "b</w>"], "pair": ("a", "b</w>")},
    course.bpe: lambda: {"word": "ab", "ranks": RANKS},
    course.encode_text: lambda: {"text": "a star", "vocabulary": vocabulary(), "max_length": 8},
    course.decode_text: lambda: {"ids": [1, 2], "vocabulary": vocabulary()},
    course.learn_merges: lambda: {"word_counts": {"ab": 3}, "num_merges": 1},
    course.load_vocabulary: lambda: {"folder": TOKENIZER},
    course.train_vocabulary: lambda: {"captions": ["a red star"], "folder": FOLDER, "vocab_size": 514, "max_length": 8},
    course.predict_memory: lambda: {"model": PARTS, "height": 16, "width": 16, "batch": 1, "dtype": None, "guidance": True, "fused_attention": True,
                                    "attention_slicing": False, "vae_slicing": False, "vae_tiling": False, "offload": None},
    course.measure_peak: lambda: {"function": lambda: 1, "device": "cpu"},
    course.find_checkpoint: lambda: {"model": "owner/name"},
    course.make_scheduler: lambda: {"name": "ddim", "config": SCHEDULER, "beta_start": 0.0001, "timestep_spacing": "leading", "num_train_timesteps": 100},
    PARTS.latent_shape: lambda: {"height": 16, "width": 16},
    latent.Drawing: lambda: {k: v for k, v in settings().items() if k != "eta"},
}
NOTEBOOK = {
    plotting.lines: lambda: {"x": [1.0, 2.0], "ys": {"a": [1.0, 2.0], "b": ([1, 2], [3, 4]), "c": 2.0}, "xlabel": "x", "ylabel": "y", "title": "T", "logx": False,
                             "logy": True, "direct_labels": True, "width": 3.0, "height": 2.0},
    plotting.loss_curve: lambda: {"losses": torch.rand(9), "title": "T", "window": 3, "reference": 0.2, "reference_label": "low", "ylabel": "loss"},
    plotting.histogram_against_density: lambda: {"samples": torch.rand(9), "grid": torch.linspace(0, 1, 5), "density": torch.rand(5), "xlabel": "x", "title": "T", "bins": 6},
    plotting.scatter_2d: lambda: {"points": torch.rand(9, 2), "title": "T", "limit": 2.0, "size": 2.0},
    plotting.vector_field: lambda: {"fields": lambda p: -p, "title": "T", "limit": 2.0, "resolution": 5, "size": 2.0},
    image_grid: lambda: {"images": torch.rand(2, 1, 4, 4), "columns": 2, "titles": ["a", "b"], "row_labels": ["r"], "title": "T", "scale": 0.8},
    plotting.image_strip: lambda: {"rows": [torch.rand(2, 1, 4, 4)], "column_labels": ["a", "b"], "row_labels": ["r"], "title": "T", "scale": 0.8},
    figure: lambda: {"width": 3.0, "height": 2.0, "nrows": 1, "ncols": 1},
    panels: lambda: {"titles": ["a", "b"], "heading": "H", "width": 1.0, "height": 1.0, "xlabel": "x", "ylabel": "y", "right": 0.2, "legend": 0.0},
    show: lambda: {"fig": Figure(figsize=(1, 1)), "alt": "words"},
    Animation: lambda: {"frames": torch.rand(2, 1, 1, 4, 4), "alt": "words", "draw": None, "titles": ["a", "b"], "seconds": 1.0, "repeat": 1, "still": 0, "scale": 0.8},
    shown_explorer: lambda: {"draw": lambda t: (Figure(figsize=(1, 1)), "words"), "alt": None, "start": {"t": 1}, "ahead": False, "t": (0, 3, 1)},
    counted: lambda: {"total": 3, "label": "words", "unit": "step", "interval": 0.1},
    updated: lambda: {"steps": 1, "message": "words"},
}
