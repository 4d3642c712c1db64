"""The drawing of a U-Net, made from the network itself, so that its sizes are the true ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..door import checked, positive_int
from .arguments import heading
from .boxes import Box
from .drawings import Drawing

# All in inches. The two columns of the U, and the four boxes beside them, stand at fixed places.
WIDTH, MIDDLE, DOWN, FIRST, PICTURE = 7.4, 3.7, 2.6, 1.31, 0.27
WIDE, NARROW, GAP = 0.9, 0.56, 0.56  # a level's box, the first convolution's, an arrow between
TALL, LOW, DROP = 1.05, 0.44, 0.78  # a box at full size, the lowest, and an arrow downwards
ABOVE, BELOW, LEAST = 0.1, 0.14, 3.3  # margins, and the height that the way of the time needs

Shape = tuple[int, ...]
Sizes = dict[str, tuple[Shape, Shape]]  # name -> what enters, what leaves


def _network(name: str, network: object, given: dict) -> None:
    parts = ("first", "down", "middle", "up", "last", "conditioning")
    missing = [part for part in parts if not hasattr(network, part)]
    if not isinstance(network, nn.Module) or missing:
        kind = type(network).__name__
        raise TypeError(f"{name} must be a UNet, got {kind}, which has no {', '.join(missing)}.")


def sizes(network: nn.Module, size: int) -> Sizes:
    """What enters and leaves each level of a U-Net for one picture of `size` x `size`."""
    found: Sizes = {}

    def note(name: str):
        def hook(module: nn.Module, inputs: tuple, output: Tensor) -> None:
            begun = found.get(name, (tuple(inputs[0].shape[1:]), ()))[0]
            found[name] = begun, tuple(output.shape[1:])

        return hook

    parts = {"first": [network.first], "middle": [network.middle], "last": [network.last]}
    for way in ("down", "up"):
        parts |= {f"{way}[{i}]": list(level) for i, level in enumerate(getattr(network, way))}
    hooks = [m.register_forward_hook(note(name)) for name, ms in parts.items() for m in ms]
    weight = network.first.weight
    pictures = torch.zeros(1, network.in_channels, size, size, dtype=weight.dtype)
    try:
        with torch.no_grad():
            network(pictures.to(weight.device), torch.zeros(1, device=weight.device))
    finally:
        for hook in hooks:
            hook.remove()
    return found


@checked(network=_network, size=positive_int, title=heading)
def unet_drawing(network: nn.Module, size: int, title: str | None = None) -> Drawing:
    """Return the drawing of a `UNet` without a condition, for pictures of `size` x `size`.

    A box's height stands for its picture's side, a shape C×H×W stands at every arrow; attention is
    not shown. Raises TypeError for what is no U-Net, ValueError for a size that it does not take.
    """
    found, depth = sizes(network, size), len(network.down)
    tall = [max(LOW, TALL / 2**i) for i in range(depth)]
    drop = 0.48  # from the lowest level to the middle of the one box below
    height = max(LEAST, ABOVE + sum(tall) + DROP * (depth - 1) + drop + tall[-1] / 2 + BELOW)
    levels = [height - ABOVE - TALL / 2]
    for above, here in zip(tall, tall[1:], strict=False):
        levels.append(levels[-1] - above / 2 - DROP - here / 2)
    drawing = Drawing(WIDTH, height, title)

    def block(name: str, x: float, y: float, high: float, wide: float = WIDE) -> Box:
        (ins, *_), (outs, *_) = found[name]
        box = drawing.box(x, y, "", width=wide, height=high, kind="network")
        entering = f"{ins // 2}+{ins // 2}" if name.startswith("up") else f"{ins}"
        drawing.text(x, y + 0.085, name, size=9.5)
        _fitting(drawing, x, y - 0.095, f"{entering}→{outs}", wide - 0.08)
        if wide == WIDE:  # a block: it is told the time
            _port(drawing, box.right[0] - 0.15, box.bottom[1])
        return box

    first, last = (
        block(name, x, levels[0], TALL, NARROW)
        for name, x in (("first", FIRST), ("last", WIDTH - FIRST))
    )
    places = list(enumerate(zip(levels, tall, strict=True)))
    down = [block(f"down[{i}]", DOWN, y, high) for i, (y, high) in places]
    up = [block(f"up[{i}]", WIDTH - DOWN, y, high) for i, (y, high) in places]
    low = down[-1].bottom[1] - drop
    middle = block("middle", MIDDLE, low, tall[-1])
    _top(drawing, found, first, last, down[0], up[0])
    for i, level in enumerate(network.down):
        drawing.arrow(down[i], up[i], dashed=True, kind="data")
        word = "skip" if len(level) == 1 else f"{len(level)} skips"
        drawing.text(MIDDLE, levels[i] + 0.1, word, size=9.5, kind="data")
        _shape(drawing, MIDDLE, levels[i] - 0.11, found[f"down[{i}]"][1], room=1.1)
    for i in range(depth - 1):
        _between(drawing, down[i], down[i + 1], found, i)
        _between(drawing, up[i + 1], up[i], found, i)
    for box, side, name in ((down[-1], -1, f"down[{depth - 1}]"), (up[-1], 1, "middle")):
        corner = (box.x, low)
        ends = (box.bottom, middle.left) if side < 0 else (middle.right, box.bottom)
        drawing.arrow(*ends, via=[corner])
        y = (box.bottom[1] + low) / 2 - 0.03
        _shape(drawing, box.x + 0.07 * side, y, found[name][1], side)
    _time(drawing, network, height - ABOVE - TALL - 0.42)
    _words(drawing, height - ABOVE - TALL - 0.42)
    return drawing


def _fitting(drawing: Drawing, x: float, y: float, text: str, room: float, align="center") -> None:
    """Write a text at 9 points, or as small as its room asks."""
    ems = sum(0.64 if character.isdigit() else 0.84 for character in text)
    drawing.text(x, y, text, size=min(9.0, 72 * room / ems), align=align)


def _shape(
    drawing: Drawing, x: float, y: float, shape: Shape, side: int = 0, room: float = 0.9
) -> None:
    """Write C×H×W around x, or on its left (side -1) or right (side 1)."""
    align = {-1: "right", 0: "center", 1: "left"}[side]
    _fitting(drawing, x, y, "×".join(map(str, shape)), room, align)


def _port(drawing: Drawing, x: float, y: float) -> None:
    """The sign of a block that is told the time."""
    drawing.box(x, y, "", width=0.15, height=0.15, kind="words")


def _top(drawing: Drawing, found: Sizes, first: Box, last: Box, down: Box, up: Box) -> None:
    """The row at full size: the noisy picture that enters, and the noise that leaves."""
    noisy, noise = (
        drawing.box(x, first.y, text, width=0.4, height=TALL, kind=kind)
        for x, text, kind in (
            (PICTURE, "$x_t$", "data"),
            (WIDTH - PICTURE, r"$\hat\epsilon$", "noise"),
        )
    )
    for start, end, shape in (
        (noisy, first, found["first"][0]),
        (first, down, found["first"][1]),
        (up, last, found["up[0]"][1]),
        (last, noise, found["last"][1]),
    ):
        drawing.arrow(start, end)
        _shape(drawing, (start.right[0] + end.left[0]) / 2, start.y + 0.11, shape, room=GAP - 0.02)


def _between(drawing: Drawing, start: Box, end: Box, found: Sizes, level: int) -> None:
    """The arrow from a level to the next one, with the shapes before and after."""
    falls = start.y > end.y
    side, word = (-1, "halve") if falls else (1, "double")
    drawing.arrow(start.bottom if falls else start.top, end.top if falls else end.bottom)
    large = found[f"down[{level}]" if falls else f"up[{level}]"][int(falls)]
    small = found[f"down[{level + 1}]" if falls else f"up[{level + 1}]"][int(not falls)]
    if not falls:  # without the skip's channels
        large = (small[0], *large[1:])
    high, low = (start, end) if falls else (end, start)
    x = start.x + 0.07 * side
    _shape(drawing, x, high.bottom[1] - 0.22, large, side)
    _shape(drawing, x, low.top[1] + 0.2, small, side)
    y, align = (high.bottom[1] + low.top[1]) / 2, "left" if falls else "right"
    drawing.text(start.x - 0.07 * side, y, word, size=9.5, align=align)


def _time(drawing: Drawing, network: nn.Module, top: float) -> None:
    """How the time gets into every block: from above to below, on the left."""
    waves, emb = network.conditioning.dim, network.conditioning.project[0].out_features
    x, step = 0.53, 0.55
    boxes = [
        drawing.box(x, top - step * i, text, width=0.98, height=0.32, kind="words")
        for i, text in enumerate(("$t$", "waves $e(t)$", "two layers"))
    ]
    drawing.arrow(boxes[0], boxes[1], "one number")
    drawing.arrow(boxes[1], boxes[2], f"{waves} numbers")
    port = boxes[2].bottom[1] - 0.34
    drawing.arrow(boxes[2], (x, port + 0.08), f"emb, {emb} numbers")
    _port(drawing, x, port)
    drawing.text(x + 0.14, port, "into every block", size=9.5, align="left")


def _words(drawing: Drawing, top: float) -> None:
    """How to read the shapes, on the right."""
    lines = (
        "at an arrow:",
        "channels×height×width",
        "",
        "in a box:",
        "channels in→out;",
        "a+b: b from the skip",
        "its height: the picture's",
    )
    for i, line in enumerate(lines):
        drawing.text(WIDTH - 0.95, top + 0.08 - 0.19 * i, line, size=9, kind="noise")
