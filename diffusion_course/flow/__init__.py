"""Flow matching: straight paths between data and noise, their velocity, and a way along it.

Imports process.
"""

from ..lazy import flat, lazily

EXPORTS = {
    "paths": ("flow_interpolate", "flow_level", "flow_loss", "flow_schedule", "flow_time"),
    "times": ("flow_times", "logit_normal_times", "shift_time"),
    "sampler": ("FlowState", "as_velocity", "flow_iter", "flow_loop"),
}
__all__ = flat(EXPORTS)
__getattr__, __dir__ = lazily(__name__, EXPORTS)
