"""The recipe that the course enters into the comparison: its network, the arguments of ``train``,
and the schedule.
"""

from dataclasses import dataclass, field

from torch import nn

from diffusion_course import make_schedule, models
from diffusion_course.process.schedules import NoiseSchedule


@dataclass(frozen=True)
class Recipe:
    """What is trained and how; everything that ``train`` takes beyond the data, the length and the
    seed.
    """

    network: str
    config: dict
    schedule: dict
    train: dict = field(default_factory=dict)

    def build(self) -> nn.Module:
        """Return the network with fresh weights."""
        return getattr(models, self.network)(**self.config)

    def noise_schedule(self) -> NoiseSchedule:
        """Return the schedule."""
        return make_schedule(**self.schedule)

    @property
    def prediction_type(self) -> str:
        """What the network predicts."""
        return self.train.get("prediction_type", "epsilon")


def ours(seconds: float, device: str = "cpu") -> Recipe:
    """Return the course's recipe for a training budget of this many seconds of wall clock."""
    return Recipe(
        network="UNet",
        config={"channels": 64, "channel_mult": [1, 2], "patch_size": 2},
        schedule={"name": "linear", "num_train_timesteps": 1000},
        train={
            "prediction_type": "v_prediction",
            "learning_rate": 3e-3,
            "warmup_steps": 50,
            "ema_decay": 0.99 if seconds < 200 else 0.995,
            "compile": device.startswith("cuda"),
        },
    )


def small_course_network(device: str = "cpu") -> Recipe:
    """Return the network that the lessons train, with the arguments of ``train`` that are fastest
    for it.
    """
    return Recipe(
        "UNet",
        {"channels": 32, "channel_mult": [1, 2]},
        {"name": "linear"},
        {"compile": device.startswith("cuda")},
    )


def wide(device: str) -> tuple[int, int]:
    """Return (channels, batch) of a network that fills the device."""
    return (256, 1024) if device.startswith("cuda") else (256, 64)
