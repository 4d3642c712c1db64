"""How much a submission may take."""

from __future__ import annotations

import dataclasses

WALL = 5  # so many times its own time a submission may take on the clock on the wall


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one submission may take, in seconds of its own time, mebibytes and processes.

    Its own time (`clock`) is that of the processors. Importing torch is not counted. Raises
    ValueError, with the name and the value, for one that is not positive.
    """

    seconds: float = 60.0
    seconds_per_cell: float = 20.0
    seconds_per_call: float = 10.0
    memory_mib: int = 2048
    processes: int = 48
    disk_mib: int = 64

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if not getattr(self, field.name) > 0:
                raise ValueError(
                    f"Limits: {field.name} must be positive, got {getattr(self, field.name)!r}."
                )

    @property
    def ceiling(self) -> float:
        """The seconds on the wall after which nothing more is begun, whatever happened.

        That is several times its own time, and a minute for starting workers and cleaning up.
        """
        return WALL * self.seconds + 60
