"""A Stable Diffusion taken apart: its parts, its words, its memory.

Imports process, sampling, training and files.
"""

from ..lazy import flat, lazily

EXPORTS = {
    "autoencoder": ("AutoencoderLoss", "autoencoder_loss", "latent_scaling", "psnr"),
    "tokenization": (
        "Vocabulary", "bpe", "byte_alphabet", "decode_text", "encode_text", "merge_pair",
        "split_words", "word_symbols",
    ),
    "vocabulary": ("learn_merges", "load_vocabulary", "train_vocabulary"),
    "attention": (
        "Attended", "AttentionMaps", "AttentionWeights", "attend", "attention_probabilities",
        "split_heads", "word_positions",
    ),
    "parts": ("LatentParts", "load_parts"),
    "coding": ("decode_latents", "encode_images", "encode_prompt", "slerp"),
    "tasks": ("image_to_image", "inpaint", "latent_levels", "sample_latents", "text_to_image"),
    "memory": ("STABLE_DIFFUSION_15", "MemoryEstimate", "measure_peak", "predict_memory"),
    "registry": ("CHECKPOINTS", "find_checkpoint", "make_scheduler"),
    "stable_diffusion": ("load_stable_diffusion",),
}
# Offered by this folder alone.
ALSO = {"drawing": ("Drawing", "with_settings"), "registry": ("SCHEDULERS",)}
__all__ = [*flat(EXPORTS), *flat(ALSO)]
__getattr__, __dir__ = lazily(__name__, EXPORTS, ALSO)
