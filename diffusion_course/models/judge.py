"""A convolutional classifier with several answers: one of ``sizes[k]`` choices for each attribute k
of a picture.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from ..door import checked
from ..validation import describe


def _pictures(name: str, images: Tensor, given: dict) -> None:
    if images.shape[1:] != (3, 64, 64):
        wanted = f"{name}: the judge takes pictures (B, 3, 64, 64) in [-1, 1]"
        raise ValueError(f"{wanted}, got {describe(images)}. Resize them.")


def _choices(name: str, sizes: Sequence[int], given: dict) -> None:
    if not sizes or min(sizes) < 1:
        raise ValueError(f"{name} must hold an int of at least 1 for each attribute, got {sizes}.")


class Judge(nn.Module):
    """Classifier of pictures (B, 3, 64, 64) in [-1, 1]: returns logits (B, sum(sizes)), the
    attributes' choices in a row.

    ``features`` returns the 128 numbers before the last layer; ``split`` cuts the logits into one
    (B, sizes[k]) for each attribute. Raises ValueError for pictures of another shape.
    """

    @checked(sizes=_choices)
    def __init__(self, sizes: Sequence[int]) -> None:
        super().__init__()
        self.sizes = tuple(sizes)
        layers: list[nn.Module] = []
        width = 3
        for out, stride in ((32, 2), (48, 1), (64, 2), (96, 1), (128, 2), (128, 1), (128, 2)):
            convolution = nn.Conv2d(width, out, 3, stride, 1, bias=False)
            layers += [convolution, nn.BatchNorm2d(out), nn.SiLU()]
            width = out
        self.body = nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * 4 * 4, 128), nn.SiLU())
        self.head = nn.Linear(128, sum(self.sizes))

    @checked(images=_pictures)
    def features(self, images: Tensor) -> Tensor:
        """Return the features (B, 128) of pictures (B, 3, 64, 64)."""
        return self.body(images)

    def split(self, logits: Tensor) -> tuple[Tensor, ...]:
        """Cut logits (B, sum(sizes)) into one tensor (B, sizes[k]) for each attribute."""
        return logits.split(self.sizes, 1)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))
