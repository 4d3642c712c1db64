"""How much a submission may take."""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """What one submission may take, in seconds of wall time, mebibytes and processes.

    Importing torch is not counted. Raises ValueError, with the name and the value, for one that is
    not positive.
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
        """The seconds after which nothing more is begun for a submission, whatever happened.

        It has its own time once more, and a minute, for starting workers and cleaning up.
        """
        return 2 * self.seconds + 60
