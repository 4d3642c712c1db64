"""Training: one step, a run that resumes to the bit, its precision. Imports process and files."""

from ..lazy import flat, lazily

EXPORTS = {
    "run": ("EMA",), "settings": ("TrainConfig",), "loop": ("TrainState", "train", "train_step"),
}
__all__ = flat(EXPORTS)
__getattr__, __dir__ = lazily(__name__, EXPORTS)
