"""Data: exact Gaussian mixtures, image sets, scenes drawn from words.

Imports process, flow and files.
"""

from ..lazy import flat, lazily

EXPORTS = {
    "mixtures": ("GaussianMixture",),
    "scenes": (
        "Scene", "Thing", "captions", "code_to_scene", "is_held_out", "parse_caption",
        "render_scenes", "sample_scenes", "scene_to_code",
    ),
    "sets": ("ImageSet", "PointSet", "load_dataset", "mixture"),
}
__all__ = flat(EXPORTS)
__getattr__, __dir__ = lazily(__name__, EXPORTS)
