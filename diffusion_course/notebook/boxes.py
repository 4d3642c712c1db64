"""The boxes of a drawing: their sides, and their kinds, each with a colour of its own."""

from __future__ import annotations

from typing import NamedTuple

from ..door import one_of

INK, QUIET = "#222222", "#595959"
# Kind of a box: its ground and its edge. The course's palette, paled.
KINDS = {
    "data": ("#E1EEF7", "#0072B2"),  # pictures, points, latents
    "noise": ("#EBEBEB", "#777777"),
    "network": ("#FBE6DA", "#D55E00"),
    "words": ("#DFF3EC", "#009E73"),  # prompts, classes, steps: what a network is told
    "formula": ("#FFFFFF", "#222222"),
    "bad": ("#F8E8F1", "#CC79A7"),  # what goes wrong
}
kind_of_box = one_of(*KINDS)
Place = tuple[float, float]


class Box(NamedTuple):
    """A box on a drawing: its middle and its size, in inches. Its sides are places for arrows."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> Place:
        """The middle of the left side."""
        return self.x - self.width / 2, self.y

    @property
    def right(self) -> Place:
        """The middle of the right side."""
        return self.x + self.width / 2, self.y

    @property
    def top(self) -> Place:
        """The middle of the upper side."""
        return self.x, self.y + self.height / 2

    @property
    def bottom(self) -> Place:
        """The middle of the lower side."""
        return self.x, self.y - self.height / 2

    def edge(self, place: Place) -> Place:
        """Where the line from the middle to `place` leaves the box."""
        dx, dy = place[0] - self.x, place[1] - self.y
        reach = [self.width / 2 / abs(dx)] if dx else []
        reach += [self.height / 2 / abs(dy)] if dy else []
        share = min(reach, default=0.0)
        return self.x + share * dx, self.y + share * dy
