"""From noise to data and back: ancestral steps, solvers, one loop for all, the likelihood.

Imports process.
"""

from ..lazy import flat, lazily

EXPORTS = {
    "reverse": ("DDPMStep", "ddpm_step"),
    "ancestral": ("p_sample_iter", "p_sample_loop"),
    "timesteps": ("CLEAN", "Level", "inference_timesteps", "noise_levels"),
    "solvers": (
        "Estimate", "SamplerStep", "Step", "Transition", "ddim_step", "dpmpp_2m_step",
        "euler_ancestral_step", "euler_step", "heun_step",
    ),
    "loop": (
        "SAMPLERS", "SampleState", "iterate_levels", "make_denoise", "sample_iter", "sample_loop"
    ),
    "likelihood": ("OdeTerms", "ode_log_likelihood", "ode_terms"),
}
__all__ = flat(EXPORTS)
__getattr__, __dir__ = lazily(__name__, EXPORTS)
