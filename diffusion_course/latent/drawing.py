"""The settings of a drawing under one name, and how a task takes them."""

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from ..kinds import held_to
from ..sampling.loop import SAMPLERS, SampleState
from ..sampling.solvers import Step
from ..validation import describe
from .coding import check_texts
from .starts import Prompts


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """How a picture is drawn: the settings that all tasks share.

    negative_prompt, guidance_scale, rescale: as in ``sample_latents``. Unlike in diffusers,
    guidance also acts at scales up to 1: at 0 the prompt is ignored.
    num_inference_steps, sampler, spacing: as in ``latent_levels``.
    generator: draws all noise, in float32, so that a seed means one picture in every dtype.
    callback: ``callback(state)`` is called after each step.
    options: what else the sampler's step takes, such as ``eta``.
    """

    negative_prompt: Prompts | None = ""
    guidance_scale: float = 4.0
    rescale: float = 0.0
    num_inference_steps: int = 20
    sampler: str | Step = "dpmpp_2m"
    spacing: str | None = None
    generator: torch.Generator | None = None
    callback: Callable[[SampleState], None] | None = None
    options: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Hold each setting to its annotation, as the door does with arguments."""
        for one in fields(self):
            if one.name == "negative_prompt":  # texts are told from words by their own check
                if not (self.negative_prompt is None or isinstance(self.negative_prompt, Tensor)):
                    check_texts(one.name, self.negative_prompt)
                continue
            if (kind := held_to(one.type, one.default is None)) is not None:
                object.__setattr__(self, one.name, kind.of(one.name, getattr(self, one.name)))


def _options_of(step: Callable) -> list[inspect.Parameter]:
    """Return the parameters of a step after denoise, xt and move."""
    try:
        parameters = list(inspect.signature(step).parameters.values())
    except ValueError:  # some of Python's own functions tell nothing
        parameters = []
    by_position = [p for p in parameters if p.kind <= inspect.Parameter.VAR_POSITIONAL]
    if not by_position:
        raise TypeError(
            "sampler must be a step, called as sampler(denoise, xt, move, ...), got"
            f" {describe(step)}, which does not say that it takes these."
        )
    given = by_position[: 1 if by_position[0].kind is by_position[0].VAR_POSITIONAL else 3]
    return [p for p in parameters if p not in given and p.kind is not p.VAR_POSITIONAL]


def step_options(sampler: object) -> set[str] | None:
    """Return the names of the options that a sampler's step takes; None if it takes any.

    For a name, those of all named samplers: the step itself says which of them it can use.
    """
    steps = [sampler] if callable(sampler) else SAMPLERS.values()
    taken = [p for step in steps for p in _options_of(step)]
    if callable(sampler) and any(p.kind is p.VAR_KEYWORD for p in taken):
        return None
    return {p.name for p in taken}


def with_settings(task: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Give a task the settings of ``Drawing`` as keywords of its own, in place of ``drawing``.

    So a task is written with one argument and called with all of them, which its signature shows.
    Raises TypeError for a setting that neither the task, nor ``Drawing``, nor the step has.
    """
    signature = inspect.signature(task)
    own = [p for p in signature.parameters.values() if p.name != "drawing"]
    mine = {p.name for p in own}
    keyword = inspect.Parameter.KEYWORD_ONLY
    shared = [
        inspect.Parameter(one.name, keyword, default=one.default, annotation=one.type)
        for one in fields(Drawing)
        if one.name != "options"
    ]
    names = [p.name for p in shared]

    @functools.wraps(task)
    def call(*args: object, **kwargs: object) -> Tensor:
        settings = {name: kwargs.pop(name) for name in names if name in kwargs}
        options = {name: kwargs.pop(name) for name in [*kwargs] if name not in mine}
        known = step_options(settings.get("sampler", Drawing.sampler)) if options else None
        if known is not None and (strange := [name for name in options if name not in known]):
            keywords = [p.name for p in own if p.kind is keyword]
            listed = ", ".join([*keywords, *names, *sorted(known)])
            raise TypeError(f"{task.__name__} has no setting {strange[0]!r}; it has {listed}.")
        return task(*args, drawing=Drawing(**settings, options=options), **kwargs)

    options = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD, annotation=object)
    call.__signature__ = signature.replace(parameters=[*own, *shared, options])
    return call
