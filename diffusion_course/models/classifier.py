"""A classifier of digits; its features measure how far samples are from real ones."""

from torch import Tensor, nn

from ..door import checked
from ..validation import describe


def _digits(name: str, images: Tensor, given: dict) -> None:
    if images.shape[1:] != (1, 16, 16):
        wanted = f"{name}: this classifier takes images (B, 1, 16, 16)"
        raise ValueError(f"{wanted}, got {describe(images)}.")


class DigitClassifier(nn.Module):
    """Small convolutional classifier for digits (B, 1, 16, 16) in [-1, 1]: returns logits (B, 10).

    ``features`` returns the 64 numbers before the last layer. Raises ValueError for other shapes.
    """

    def __init__(self) -> None:
        super().__init__()
        layers = []
        for width, out, stride in ((1, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 2)):
            layers += [nn.Conv2d(width, out, 3, stride, padding=1), nn.SiLU()]
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 4 * 4, 64), nn.SiLU())
        self.head = nn.Linear(64, 10)

    @checked(images=_digits)
    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, 64) of images (B, 1, 16, 16)."""
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
