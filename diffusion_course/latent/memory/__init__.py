"""The memory of a Stable Diffusion: counted, measured, and predicted from its configuration."""

from .counting import LiveBytes, Peak, free_memory, measure_peak
from .prediction import HEADROOM, OFFLOADS, MemoryEstimate, predict_memory, shortage
from .rehearsal import STABLE_DIFFUSION_15, dry_run

__all__ = [
    "HEADROOM", "OFFLOADS", "STABLE_DIFFUSION_15", "LiveBytes", "MemoryEstimate", "Peak", "dry_run",
    "free_memory", "measure_peak", "predict_memory", "shortage",
]
