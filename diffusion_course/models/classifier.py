"""A classifier of digits; its features measure how far samples are from real ones."""

from torch import Tensor, nn

from ..validation import describe


class DigitClassifier(nn.Module):
    """Small convolutional classifier for digits (B, 1, 16, 16) in [-1, 1]: returns logits (B, 10).

    ``features`` returns the 64 numbers before the last layer. Raises ValueError for images of
    another shape.
    """

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 32, 3, padding=1), nn.SiLU(), nn.Conv2d(32, 32, 3, stride=2, padding=1),
            nn.SiLU(), nn.Conv2d(32, 64, 3, padding=1), nn.SiLU(),
            nn.Conv2d(64, 64, 3, stride=2, padding=1), nn.SiLU(), nn.Flatten(),
            nn.Linear(64 * 4 * 4, 64), nn.SiLU(),
        )
        self.head = nn.Linear(64, 10)

    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, 64) of images (B, 1, 16, 16)."""
        if images.ndim != 4 or images.shape[1:] != (1, 16, 16):
            raise ValueError(
                f"the digit classifier takes images (B, 1, 16, 16), got {describe(images)}."
            )
        return self.body(images)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
