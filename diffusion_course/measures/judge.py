"""Is the picture what the words asked for? The judge reads a scene's attributes back from a
picture.
"""

import torch
from torch import Tensor

from ..datasets.scenes.words import CHOICES, NOTHING
from ..models import Judge
from ..validation import check_batch, check_device, describe

JUDGE_SIZES = tuple(
    len(choices) for choices in CHOICES
)  # how many choices each of the ten attributes has


@torch.no_grad()
def read_scenes(judge: Judge, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """Return the codes (N, 10) int64 that the judge sees in pictures (N, 3, 64, 64) in [-1, 1]; -1
    for a second thing not there.

    The judge is used as it is: load it with ``load_pretrained("judge")``. Raises ValueError for
    pictures of another shape.
    """
    check_batch("images", images)
    weight = next(judge.parameters())
    check_device("images", images, "the judge's weights", weight)
    codes = []
    for part in images.to(weight.dtype).split(batch_size):
        code = torch.stack([logits.argmax(1) for logits in judge.split(judge(part))], 1)
        alone = code[:, :1] == 0
        codes.append(torch.cat([code[:, :6], torch.where(alone, NOTHING, code[:, 6:])], 1))
    return torch.cat(codes)


def faithful(read: Tensor, asked: Tensor) -> Tensor:
    """Return (N, 10) bool: which attributes of the codes ``read`` are those ``asked`` for; what was
    not asked for (-1) is right.

    ``faithful(read, asked).all(1)`` says which pictures are right in everything. Raises ValueError
    for other shapes.
    """
    for name, codes in (("read", read), ("asked", asked)):
        if (
            not isinstance(codes, Tensor)
            or codes.ndim != 2
            or codes.shape != read.shape
            or codes.shape[1] != len(CHOICES)
        ):
            raise ValueError(
                f"{name} must hold codes (N, {len(CHOICES)}), as many as the other, got"
                f" {describe(codes)}."
            )
    check_device("asked", asked, "read", read)
    return (asked == NOTHING) | (read == asked)


def judge_loss(judge: Judge, logits: Tensor, codes: Tensor) -> Tensor:
    """Return the cross-entropy () of logits (B, sum of sizes) with codes (B, 10), summed over
    attributes, mean over pictures.

    A second thing that is not there has nothing to answer for. Raises as
    ``torch.nn.functional.cross_entropy``.
    """
    total = torch.zeros((), device=logits.device)
    for part, target in zip(judge.split(logits), codes.unbind(1), strict=True):
        loss = torch.nn.functional.cross_entropy(
            part.float(), target, ignore_index=NOTHING, reduction="sum"
        )
        total = total + loss / len(codes)
    return total
