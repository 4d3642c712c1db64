"""A picture world: scenes as codes, in words, as captions and as pictures."""

from .captions import captions, parse_caption
from .render import render_scenes
from .words import (
    ATTRIBUTES, COLOURS, HELD_OUT, KINDS, Scene, Thing, code_to_scene, is_held_out, sample_scenes,
    scene_to_code,
)

__all__ = [
    "ATTRIBUTES", "COLOURS", "HELD_OUT", "KINDS", "Scene", "Thing", "captions", "code_to_scene",
    "is_held_out", "parse_caption", "render_scenes", "sample_scenes", "scene_to_code",
]
