"""A Stable Diffusion with random weights, small enough for tests: the folder layout of diffusers, 32x32 pictures, 8x8 latents."""

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from diffusion_course import LatentParts, make_schedule

START, END = "<|startoftext|>", "<|endoftext|>"
CAPTIONS = ["a large striped red star on a meadow", "a small blue fish above a green house at night", "a white boat on the sea"]
MAX_LENGTH = 16
SCHEDULE = make_schedule("scaled_linear")


def tiny_tokenizer():
    """A CLIPTokenizer: 256 bytes, the same with </w>, 24 merges trained on three captions, and the two special tokens."""
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.pre_tokenizer = pre_tokenizers.Whitespace()
    trained.train_from_iterator(CAPTIONS, trainers.BpeTrainer(vocab_size=60, end_of_word_suffix="</w>", show_progress=False))
    merges = [tuple(pair) for pair in json.loads(trained.to_str())["model"]["merges"]][:24]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [*letters, *(letter + "</w>" for letter in letters), *map("".join, merges), START, END]
    vocabulary = {word: i for i, word in enumerate(dict.fromkeys(words))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=MAX_LENGTH)


def tiny_networks(tokenizer, *, seed=0, sample_size=8):
    """The three networks by name: 0.3 million random weights."""
    start, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
            block_out_channels=(8, 8, 16),
            norm_num_groups=4,
            sample_size=4 * sample_size,
            scaling_factor=0.7,
        )
        unet = UNet2DConditionModel(
            sample_size=sample_size,
            block_out_channels=(16, 32),
            layers_per_block=1,
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
            attention_head_dim=8,
            norm_num_groups=8,
            cross_attention_dim=24,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=len(tokenizer),
                hidden_size=24,
                intermediate_size=48,
                num_hidden_layers=2,
                num_attention_heads=3,
                max_position_embeddings=MAX_LENGTH,
                projection_dim=24,
                bos_token_id=start,
                eos_token_id=end,
                pad_token_id=end,
            )
        )
    return {"vae": vae.eval(), "unet": unet.eval(), "text_encoder": text_encoder.eval()}


def tiny_parts(**settings):
    """The same as ``LatentParts`` without a folder, also on a fake device."""
    tokenizer = tiny_tokenizer()
    settings = {"prediction_type": "v_prediction", "spacing": "trailing", "steps_offset": 1, "schedule": SCHEDULE} | settings
    return LatentParts(**tiny_networks(tokenizer), tokenizer=tokenizer, **settings)


def make_tiny(folder, *, seed=0, prediction_type="v_prediction", dtype=torch.float32, sample_size=8):
    """Write it to ``folder``, which ``StableDiffusionPipeline.from_pretrained`` then loads offline without a warning."""
    folder, tokenizer = Path(folder), tiny_tokenizer()
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type=prediction_type,
        steps_offset=1,  # read by "leading" spacing only; the pipeline warns of any other value
        timestep_spacing="trailing",
    )
    for name, network in tiny_networks(tokenizer, seed=seed, sample_size=sample_size).items():
        for x in network.parameters():
            x.data = x.data.to(dtype)
        network.save_pretrained(folder / name)
    config = folder / "text_encoder" / "config.json"  # transformers loads in the dtype named here, diffusers always in float32
    config.write_text(config.read_text(encoding="utf-8").replace('"dtype": "float16"', '"dtype": "float32"'), encoding="utf-8")
    tokenizer.save_pretrained(folder / "tokenizer")
    scheduler.save_pretrained(folder / "scheduler")
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": [None, None],
        "image_encoder": [None, None],
        "requires_safety_checker": False,
        "safety_checker": [None, None],
        "scheduler": ["diffusers", "DDIMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index, indent=2), encoding="utf-8")
    return folder
