"""Networks: ``model(xt, t, cond=None)`` returns a tensor like xt."""

from .classifier import DigitClassifier
from .embedding import timestep_embedding
from .judge import Judge
from .mlp import MLP
from .unet import UNet

__all__ = ["MLP", "DigitClassifier", "Judge", "UNet", "timestep_embedding"]
