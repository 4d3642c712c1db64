"""Networks: ``model(xt, t, cond=None)`` returns a tensor like xt."""

from .classifier import DigitClassifier
from .embedding import timestep_embedding
from .mlp import MLP
from .small_unet import SmallUNet

__all__ = ["MLP", "DigitClassifier", "SmallUNet", "timestep_embedding"]
