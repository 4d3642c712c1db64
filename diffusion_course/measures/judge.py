"""Is the picture what the words asked for? The judge reads a scene's attributes back from a
picture.
"""

import torch
from torch import Tensor

from ..datasets.scenes.words import CHOICES, NOTHING
from ..door import batch, beside, checked, positive_int
from ..models import Judge
from ..validation import check_device, describe

JUDGE_SIZES = tuple(len(choices) for choices in CHOICES)  # how many choices each attribute has


def _with_the_judge(name: str, images: Tensor, given: dict) -> None:
    check_device(name, images, "the judge's weights", next(given["judge"].parameters()))


@torch.no_grad()
@checked(images=(batch, _with_the_judge), batch_size=positive_int)
def read_scenes(judge: Judge, images: Tensor, *, batch_size: int = 256) -> Tensor:
    """Return the codes (N, 10) int64 that the judge sees in pictures (N, 3, 64, 64) in [-1, 1]; -1
    for a second thing not there.

    The judge is used as it is: load it with ``load_pretrained("judge")``. Raises TypeError or
    ValueError for pictures of another shape or dtype, or on another device.
    """
    codes = []
    for part in images.to(next(judge.parameters())).split(batch_size):
        code = torch.stack([logits.argmax(1) for logits in judge.split(judge(part))], 1)
        alone = code[:, :1] == 0
        codes.append(torch.cat([code[:, :6], torch.where(alone, NOTHING, code[:, 6:])], 1))
    return torch.cat(codes)


def _codes(name: str, codes: object, given: dict) -> None:
    read, asked = given["read"], given["asked"]
    if codes.shape != (*read.shape[:1], len(CHOICES)):
        wanted = f"read and asked must both hold codes (N, {len(CHOICES)})"
        raise ValueError(f"{wanted}, got {describe(read)} and {describe(asked)}.")


@checked(read=_codes, asked=(_codes, beside("read")))
def faithful(read: Tensor, asked: Tensor) -> Tensor:
    """Return (N, 10) bool: which attributes of the codes ``read`` are those ``asked`` for; what was
    not asked for (-1) is right.

    ``faithful(read, asked).all(1)`` says which pictures are right in everything. Raises ValueError
    for other shapes or two devices.
    """
    return (asked == NOTHING) | (read == asked)


def judge_loss(judge: Judge, logits: Tensor, codes: Tensor) -> Tensor:
    """Return the cross-entropy () of logits (B, sum of sizes) with codes (B, 10), summed over
    attributes, mean over pictures.

    A second thing that is not there has nothing to answer for. Raises as
    ``torch.nn.functional.cross_entropy``.
    """
    total = torch.zeros((), device=logits.device)
    for part, target in zip(judge.split(logits), codes.unbind(1), strict=True):
        total = total + torch.nn.functional.cross_entropy(
            part.float(), target, ignore_index=NOTHING, reduction="sum"
        ) / len(codes)
    return total
