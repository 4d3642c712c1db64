"""What samples and networks are worth: distances, neighbours, operations.

Imports datasets and models.
"""

from ..lazy import flat, lazily

EXPORTS = {
    "flops": ("count_flops", "count_parameters", "flops_by_module"),
    "metrics": (
        "FrechetFit", "Interval", "KernelDistance", "bootstrap_interval", "extract_features",
        "frechet_distance", "frechet_infinity", "kernel_distance", "mmd",
    ),
    "neighbours": (
        "Memorisation", "Nearest", "PrecisionRecall", "memorisation", "nearest_distances",
        "precision_recall",
    ),
    "judge": ("faithful", "read_scenes"),
}
__all__ = flat(EXPORTS)
__getattr__, __dir__ = lazily(__name__, EXPORTS)
