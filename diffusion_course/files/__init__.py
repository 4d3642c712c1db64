"""Files written whole, safetensors with their sha256, the weights in ``data/``.

Imports process and models.
"""

from ..lazy import flat, lazily

EXPORTS = {"pretrained": ("load_pretrained", "shipped_files")}
# Offered by this folder alone.
ALSO = {"pretrained": ("data_dir",)}
__all__ = [*flat(EXPORTS), *flat(ALSO)]
__getattr__, __dir__ = lazily(__name__, EXPORTS, ALSO)
