"""The diffusion process on paper and in tensors: schedules, kernels, losses, guidance.

Imports validation.
"""

from ..lazy import flat, lazily

EXPORTS = {
    "schedules": (
        "NoiseSchedule", "alpha_bar_at", "cosine_betas", "linear_betas", "make_schedule",
        "previous_alpha_bar", "rescale_zero_terminal_snr", "scaled_linear_betas", "sigmoid_betas",
        "snr",
    ),
    "kernels": (
        "Posterior", "convert_prediction", "from_x0_and_noise", "posterior_coefficients",
        "q_posterior", "q_sample", "q_step", "to_x0_and_noise",
    ),
    "losses": (
        "ElboTerms", "bits_per_dim", "diffusion_loss", "elbo_terms", "gaussian_kl", "loss_weight",
        "prediction_target",
    ),
    "guidance": (
        "ClassifierFreeGuidance", "drop_condition", "guided_prediction", "scale_from_w",
        "w_from_scale",
    ),
}
# Offered by this folder alone.
ALSO = {"kernels": ("noise_like",)}
__all__ = [*flat(EXPORTS), *flat(ALSO)]
__getattr__, __dir__ = lazily(__name__, EXPORTS, ALSO)
