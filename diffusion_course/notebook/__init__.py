"""What a notebook shows: figures, explorers, loops, progress. Imports validation."""

from ..lazy import flat, lazily

EXPORTS = {
    "display": ("Progress", "show"),
    "source": ("show_source",),
    "interactive": ("Explorer",),
    "animation": ("Animation",),
    "plotting": ("plotting",),
}
# Offered by this folder alone.
ALSO = {"look": ("COLORS",), "style": ("figure", "panels"), "images": ("image_grid",)}
ALSO |= {"drawings": ("Drawing",), "unets": ("unet_drawing",)}
__all__ = [*flat(EXPORTS), *flat(ALSO)]
__getattr__, __dir__ = lazily(__name__, EXPORTS, ALSO)
