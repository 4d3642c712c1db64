"""Maps of where a U-Net looks for each word of its prompt, recorded while it draws."""

import math
from collections.abc import Collection, Sequence
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...door import checked, one_of
from ...validation import check_choice, check_floating, describe
from .formula import attention_probabilities, check_plain, split_heads

HALVES = ("conditional", "unconditional")


def _a_tokenizer(name: str, tokenizer: object, given: dict) -> None:
    if not (callable(tokenizer) and hasattr(tokenizer, "model_max_length")):
        got = describe(tokenizer)
        raise TypeError(f"tokenizer must be one of transformers', as parts.tokenizer, got {got}.")


@checked(tokenizer=_a_tokenizer)
def word_positions(tokenizer: Any, prompt: str, word: str) -> list[list[int]]:
    """Return the token positions of each occurrence of a word or phrase in the prompt.

    Positions are those that the model reads, start token = 0. Whole words only: "art" is not found
    in "start". Raises ValueError, naming the words there are, if it does not occur.
    """
    ids = tokenizer(prompt, truncation=True, max_length=tokenizer.model_max_length)["input_ids"]
    wanted = tokenizer(word, add_special_tokens=False)["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(ids)
    begins = [i for i in range(1, len(ids) - 1) if i == 1 or tokens[i - 1].endswith("</w>")]
    n = len(wanted)
    found = [list(range(i, i + n)) for i in begins if wanted and ids[i : i + n] == wanted]
    if not found:
        read = tokenizer.decode(ids, skip_special_tokens=True)
        reads = f"as the model reads it ({tokenizer.model_max_length} tokens): {read!r}"
        raise ValueError(f"word must be one of the prompt {reads}, got {word!r}.")
    return found


def _parts_to_keep(name: str, keep: Collection[str], given: dict) -> None:
    if isinstance(keep, (str, Tensor, dict)) or not isinstance(keep, Collection):
        raise TypeError(f"keep must be a list of 'step' and 'head', got {describe(keep)}.")
    for one in keep:
        check_choice(name, one, ("step", "head"))


def _list(name: str, prompts: object, given: dict) -> None:
    texts = isinstance(prompts, (list, tuple)) and all(isinstance(one, str) for one in prompts)
    if not texts or not prompts:
        got = describe(prompts)
        raise TypeError(f"prompts must be a list with one prompt for each picture, got {got}.")


_parts_to_keep.typed = _list.typed = True


def _a_size(name: str, size: tuple[int, int], given: dict) -> None:
    if min(size) < 1:
        raise ValueError(f"size must be (height, width), both at least 1, got {size}.")


def _with_parts(name: str, parts: object, given: dict) -> None:
    if not hasattr(parts, "unet"):
        got = describe(parts)
        raise TypeError(f"parts must have a unet, a tokenizer and a vae, got {got}. load_parts().")


class AttentionMaps:
    """Records cross-attention while a U-Net draws.

    ``with AttentionMaps(parts, prompts) as maps: ...``, then ``maps.of("star")``. parts: anything
    with ``unet``, ``tokenizer`` and ``vae``: ``LatentParts`` or a ``StableDiffusionPipeline``.
    prompts: one for each picture, B in all. The U-Net may be called on B rows (the condition alone)
    or on 2B, unconditional half first, as guided loops do; ``half`` says which half is recorded,
    and calls on B are skipped for "unconditional". ``keep`` may name "step" and "head": then these
    are kept apart, at the cost of so much more memory; else running sums over both are all that is
    held.

    The old processors do the drawing, so the picture does not change; they are put back at the end,
    also after an error. Raises ValueError for a U-Net without plain cross-attention, or one that is
    called on another number of rows.
    """

    @checked(half=one_of(*HALVES), keep=_parts_to_keep, prompts=_list, parts=_with_parts)
    def __init__(
        self, parts: Any, prompts: Sequence[str], *, half: str = "conditional",
        keep: Collection[str] = (),
    ) -> None:
        self.parts, self.prompts, self.half, self.keep = parts, list(prompts), half, frozenset(keep)
        self.picture_size, self.layers, self.steps = (0, 0), {}, 0
        self._sums: dict[tuple[str, int], list] = {}
        self._old: list[tuple[nn.Module, Any]] = []
        self._hook: Any = None

    def __enter__(self) -> Self:
        if self._hook is not None:
            raise RuntimeError("these maps are recording already. Make a second AttentionMaps.")
        every = self.parts.unet.named_modules()
        modules = {name: m for name, m in every if getattr(m, "is_cross_attention", False)}
        if not modules:
            raise ValueError(f"{type(self.parts.unet).__name__} has no cross-attention to record.")
        for module in modules.values():
            check_plain(module)
        self._hook = self.parts.unet.register_forward_pre_hook(self._on_call, with_kwargs=True)
        for name, module in modules.items():
            self._old.append((module, module.processor))
            module.set_processor(_Recorder(name, module.processor, self))
        return self

    def __exit__(self, *_: object) -> None:
        for module, processor in self._old:
            module.set_processor(processor)
        self._old.clear()
        self._hook.remove()
        self._hook = None

    @checked(size=_a_size)
    def of(
        self, word: str | int, *, picture: int = 0, occurrence: int | None = None, layers: str = "",
        step: int | None = None, head: int | None = None, size: tuple[int, int] | None = None,
    ) -> Tensor:
        """Return the share of each pixel's attention that goes to a word, (H, W) in [0, 1].

        The tokens of a word are summed, and so are its occurrences unless one is chosen: shares of
        all positions add up to 1. An int is a token position. Layers whose name contains ``layers``
        are each enlarged to the picture (or to ``size``) and averaged with equal weight, over heads
        and steps unless one is chosen. Raises ValueError or IndexError for what is not there.
        """
        if isinstance(word, int):
            places = [word]
        else:
            found = word_positions(self.parts.tokenizer, self.prompts[picture], word)
            found = found if occurrence is None else [found[occurrence]]
            places = [i for group in found for i in group]
        maps = []
        for name, shares in self._means(layers, step, head).items():
            grid = shares[picture, :, places].sum(-1).reshape(1, 1, *self.layers[name])
            maps.append(F.interpolate(grid, size=size or self.picture_size, mode="bilinear")[0, 0])
        return torch.stack(maps).mean(0)

    @checked()
    def mass(
        self, *, picture: int = 0, layers: str = "", step: int | None = None,
        head: int | None = None,
    ) -> Tensor:
        """Return the share of all attention that each token position gets, (L,); it sums to 1.

        It is averaged as in ``of``.
        """
        means = self._means(layers, step, head)
        return torch.stack([shares[picture].mean(0) for shares in means.values()]).mean(0)

    @checked()
    def tokens(self, picture: int = 0) -> list[str]:
        """Return the token at each position of a picture's prompt, padding included."""
        tokenizer = self.parts.tokenizer
        ids = tokenizer(self.prompts[picture], padding="max_length", truncation=True)["input_ids"]
        return tokenizer.convert_ids_to_tokens(ids)

    def _means(self, layers: str, step: int | None, head: int | None) -> dict[str, Tensor]:
        """Return (B, N, L) for each layer asked for."""
        for name, value in (("step", step), ("head", head)):
            if value is not None and name not in self.keep:
                advice = f"Record with keep=({name!r},)"
                raise ValueError(f"{name}={value} was not kept apart. {advice}.")
        if step is not None and not -self.steps <= step < self.steps:
            raise IndexError(f"step={step} is outside the {self.steps} steps recorded.")
        chosen: dict[str, list] = {}
        for (name, index), total in self._sums.items():
            if layers in name and (step is None or index == step % self.steps):
                chosen.setdefault(name, []).append(total)
        if not chosen:
            recorded = ", ".join(self.layers) or "none"
            raise ValueError(f"nothing was recorded in layers {layers!r}; recorded are {recorded}.")
        means = {}
        for name, parts in chosen.items():
            mean = sum(total for total, _ in parts) / sum(n for _, n in parts)
            means[name] = mean.mean(1) if head is None else mean[:, head]
        return means

    def _on_call(self, _: nn.Module, args: tuple, kwargs: dict) -> None:
        sample, n = args[0] if args else kwargs["sample"], len(self.prompts)
        if len(sample) not in (n, 2 * n):
            raise ValueError(
                f"the U-Net was called on {len(sample)} rows, but there are {n} prompts: expected"
                f" {n}, or twice that with guidance. Pass one prompt for each picture."
            )
        self._grid = tuple(sample.shape[-2:])
        factor = 2 ** (len(self.parts.vae.config.block_out_channels) - 1)
        self.picture_size = tuple(factor * side for side in self._grid)
        self.steps += 1

    def _record(self, name: str, queries: Tensor, keys: Tensor, mask: Tensor | None) -> None:
        n = len(self.prompts)
        if self.half == "unconditional" and len(queries) == n:
            return
        rows = slice(n) if self.half == "unconditional" else slice(len(queries) - n, None)
        mask = None if mask is None else mask[rows]
        shares = attention_probabilities(queries[rows], keys[rows], mask).float()
        shares = shares if "head" in self.keep else shares.mean(1, keepdim=True)
        height, width = self._grid
        while height * width > shares.shape[2]:
            height, width = math.ceil(height / 2), math.ceil(width / 2)
        self.layers[name] = (height, width)
        slot = self._sums.setdefault((name, self.steps - 1 if "step" in self.keep else 0), [0.0, 0])
        slot[0], slot[1] = slot[0] + shares, slot[1] + 1


class _Recorder:
    """Reads the probabilities and leaves the work to the attention processor that was there."""

    def __init__(self, name: str, processor: Any, maps: AttentionMaps) -> None:
        self.name, self.processor, self.maps = name, processor, maps

    def __call__(
        self, attn: nn.Module, hidden_states: Tensor, encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None, temb: Tensor | None = None,
    ) -> Tensor:
        with torch.no_grad():
            check_floating("encoder_hidden_states", encoder_hidden_states)
            queries = split_heads(attn.to_q(hidden_states), attn.heads)
            keys = split_heads(attn.to_k(encoder_hidden_states), attn.heads)
            mask = None if attention_mask is None else attention_mask[:, None]
            self.maps._record(self.name, queries, keys, mask)
        return self.processor(attn, hidden_states, encoder_hidden_states, attention_mask, temb)
