"""Networks: ``model(xt, t, cond=None)`` returns a tensor like xt. Imports validation."""

from ..lazy import flat, lazily

EXPORTS = {
    "mlp": ("MLP",),
    "classifier": ("DigitClassifier",),
    "judge": ("Judge",),
    "unet": ("UNet",),
    "dit": ("DiT", "patchify", "unpatchify"),
    "embedding": ("timestep_embedding",),
}
# Offered by this folder alone.
ALSO = {
    "blocks": ("Attention", "ResBlock"), "embedding": ("Conditioning",), "dit": ("DiTBlock",),
    "mmdit": ("MMDiTBlock",),
}
__all__ = [*flat(EXPORTS), *flat(ALSO)]
__getattr__, __dir__ = lazily(__name__, EXPORTS, ALSO)
