"""The drawing of a U-Net, made from the network itself, so that its sizes are the true ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..door import checked, positive_int
from .arguments import heading
from .boxes import Box
from .drawings import Drawing

WIDTH, TOP, STEP = 7.4, 0.62, 1.3  # inches: of all, above the boxes, from level to level
TALL, LOW = 1.05, 0.42  # the height of a box at full size, and the least

Sizes = dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # name -> what enters, what leaves


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

    A box's height stands for its picture's side; what crosses is a skip. Raises TypeError for what
    is no U-Net, ValueError for a size that the network does not take.
    """
    found, depth = sizes(network, size), len(network.down)
    height = TOP + TALL + STEP * (depth - 1) + 1.2
    drawing = Drawing(WIDTH, height, title)
    pitch = (WIDTH - 0.84) / (2 * depth + 4)
    levels = [height - TOP - TALL / 2 - STEP * i for i in range(depth)]

    wide, small = min(0.72, pitch - 0.1), 8.0 if pitch > 0.75 else 6.5

    def block(name: str, column: int, level: int) -> Box:
        (ins, *_), (outs, *sides) = found[name]
        x, tall = 0.42 + pitch * column, max(LOW, TALL / 2**level)
        box = drawing.box(x, levels[level], "", width=wide, height=tall, kind="network")
        entering = f"{ins // 2}+{ins // 2}" if name.startswith("up") else f"{ins}"
        drawing.text(x, levels[level], f"{entering} → {outs}", size=small - 0.5)
        drawing.text(x, box.top[1] + 0.28, name, size=small, kind="noise")
        shape = f"{outs} × {sides[0]} × {sides[1]}"
        drawing.text(x, box.top[1] + 0.12, shape, size=small)
        if name not in ("first", "last"):  # a block: it is told the time
            plug = (box.right[0] - 0.09, box.bottom[1] + 0.09)
            drawing.box(*plug, "", width=0.14, height=0.14, kind="words")
        return box

    across = 2 * depth + 4
    first, last = block("first", 1, 0), block("last", across - 1, 0)
    down = [block(f"down[{i}]", 2 + i, i) for i in range(depth)]
    up = [block(f"up[{i}]", across - 2 - i, i) for i in range(depth)]
    middle = block("middle", 2 + depth, depth - 1)
    _ends(drawing, found, levels[0], first, last)
    drawing.arrow(first, down[0])
    drawing.arrow(up[0], last)
    for i in range(depth - 1):
        low, x_down, x_up = levels[i + 1], down[i].x, up[i].x
        drawing.arrow(down[i].bottom, down[i + 1].left, via=[(x_down, low)])
        drawing.text(x_down - 0.06, low + 0.15, "halve", size=9, align="right")
        drawing.arrow(up[i + 1].right, up[i].bottom, via=[(x_up, low)])
        drawing.text(x_up + 0.06, low + 0.15, "double", size=9, align="left")
        kept = found[f"down[{i}]"][1][0]
        label = f"skip: {kept} channels"
        drawing.arrow(down[i], up[i], label, dashed=True, kind="data")
    drawing.arrow(down[-1], middle)
    drawing.arrow(middle, up[-1])
    under = down[-1].bottom[1] - 0.22
    corners = [(down[-1].x, under), (up[-1].x, under)]
    label = f"skip: {found[f'down[{depth - 1}]'][1][0]} channels"
    drawing.arrow(
        down[-1].bottom, up[-1].bottom, label, via=corners, dashed=True, kind="data", below=True
    )
    _time(drawing, network)
    return drawing


def _ends(drawing: Drawing, found: Sizes, y: float, first: Box, last: Box) -> None:
    """The noisy picture that enters, and the noise that leaves."""
    for text, x, kind, shape in (
        ("$x_t$", 0.42, "data", found["first"][0]),
        (r"$\hat\epsilon$", WIDTH - 0.42, "noise", found["last"][1]),
    ):
        box = drawing.box(x, y, text, width=0.5, height=TALL, kind=kind)
        note = f"{shape[0]} × {shape[1]} × {shape[2]}"
        drawing.text(x, box.top[1] + 0.12, note, size=8)
        drawing.arrow(*((box, first) if kind == "data" else (last, box)))


def _time(drawing: Drawing, network: nn.Module) -> None:
    """How the time gets into every block."""
    waves, emb = network.conditioning.dim, network.conditioning.project[0].out_features
    y = 0.36
    t, e, vector = drawing.row(
        ["$t$", "waves $e(t)$", "emb"],
        y,
        0.6,
        4.2,
        kinds="words",
        width=1.0,
        height=0.34,
        notes=["", f"{waves} numbers", f"{emb} numbers"],
    )
    drawing.arrow(t, e)
    drawing.arrow(e, vector, "two layers")
    drawing.arrow(vector, (5.5, y))
    drawing.box(5.62, y, "", width=0.14, height=0.14, kind="words")
    drawing.text(5.78, y, "into every block", size=9, align="left")
