"""Who stands where: which words of a caption name a place, and an attention that learns to look
there.

A text encoder with a causal mask writes "a red star" in "a red star left of a blue fish" before it
has read "left of", and a U-Net of convolutions has only the picture's border to tell left from
right. Trained on pictures alone, ours drew both things and put them either way round
(data/mini-stable-diffusion/README.md has the shares). So the words said last are marked with their
place, and the U-Net's attention is taught to follow the words of each side.
"""

import copy
from typing import NamedTuple

import torch
from diffusers.models.attention import Attention
from torch import Tensor, nn
from transformers import CLIPTextModel, CLIPTokenizer

from diffusion_course.datasets.scenes import captions
from diffusion_course.datasets.scenes.captions import BACKWARD, FORWARD, KIND_WORDS
from diffusion_course.training.run import TrainConfig, Trainer
from tools.scene_runs import SceneRun, TextDenoiser, token_ids

AXES = ("side by side", "stacked")  # the layouts with two sides
SUPERVISED_HEADS = 2  # of each layer's heads; the others stay free
MARK = 0.8  # root mean square of a place's mark; the text encoder's output has 1
PLACE_WEIGHT = 0.05  # of the attention's loss beside the denoiser's


class Mentions(NamedTuple):
    """What N captions of L tokens say of places: axis (N,) -1 where they say nothing, else 0 or 1
    of ``AXES``; phrases (N, 2, L) bool, the tokens of the first and of the second thing; later (N,)
    0 or 1, which of the two is said last.
    """

    axis: Tensor
    phrases: Tensor
    later: Tensor


class PlaceWords(nn.Module):
    """Finds the words of two things in token ids. Every word in question must be one token of the
    vocabulary.
    """

    def __init__(self, tokenizer: CLIPTokenizer) -> None:
        super().__init__()
        words = {"kinds": [w for ws in KIND_WORDS.values() for w in ws], "articles": ["a", "an"]}
        for axis in AXES:  # "to the left of" -> left
            ahead, back = (
                [w.removeprefix("to the ").split()[0] for w in ws[axis]]
                for ws in (FORWARD, BACKWARD)
            )
            words |= {axis: ahead + back, "backward": words.get("backward", []) + back}
        for name, some in words.items():
            ids = tokenizer(some, add_special_tokens=False).input_ids
            if split := [w for w, i in zip(some, ids, strict=True) if len(i) != 1]:
                raise ValueError(
                    "each of these words must be one token of the vocabulary, but is more:"
                    f" {split}."
                )
            self.register_buffer(name.replace(" ", "_"), torch.tensor(ids)[:, 0], persistent=False)

    def forward(self, ids: Tensor) -> Mentions:
        """Return what token ids (N, L) say; a caption of one thing, of nested things or of nothing
        has no axis.
        """
        position = torch.arange(ids.shape[1], device=ids.device)
        kind, article = torch.isin(ids, self.kinds), torch.isin(ids, self.articles)
        axis = torch.full((len(ids),), -1, device=ids.device)
        for i, name in enumerate(AXES):
            axis[torch.isin(ids, getattr(self, name.replace(" ", "_"))).any(1)] = i
        noun = torch.where(kind, position, -1)
        phrases = []  # in the order in which they are said
        for end in (torch.where(kind, position, ids.shape[1]).amin(1), noun.amax(1)):
            start = torch.where(article & (position < end[:, None]), position, -1).amax(1)
            phrases.append(
                (position > start[:, None]) & (position <= end[:, None]) & (axis >= 0)[:, None]
            )
        backward = torch.isin(ids, self.backward).any(1)
        said = torch.stack(phrases, 1)
        return Mentions(
            axis, torch.where(backward[:, None, None], said.flip(1), said), (~backward).long()
        )


def sides(axis: Tensor, n: int) -> Tensor:
    """Return (N, n) of a square of n positions: -1 on the left or upper half, 1 on the other, by
    each picture's axis.
    """
    width = round(n**0.5)
    place = torch.arange(n, device=axis.device)
    across = torch.stack([place % width, place // width]) - (width - 1) / 2
    return across.sign()[axis.clamp(min=0)]


def place_loss(scores: Tensor, mentions: Mentions) -> Tensor:
    """Return the cross-entropy () of scores (N, heads, n, L): does a position look at the words of
    its own side?

    Of the two phrases, the odds of the first are exp(logsumexp of its scores - that of the second);
    pictures without an axis have no part in the mean.
    """
    first, second = (
        scores.masked_fill(~m[:, None, None], -1e4).logsumexp(-1)
        for m in mentions.phrases.unbind(1)
    )
    wrong = nn.functional.softplus(
        sides(mentions.axis, scores.shape[2])[:, None] * (first - second)
    )
    asked = (mentions.axis >= 0)[:, None, None].to(wrong.dtype)
    return (wrong * asked).mean() / asked.mean().clamp(min=1 / len(asked))


class PlacedAttention:
    """diffusers' attention in plain steps that, while ``mentions`` is set, keeps its place loss in
    ``losses``.
    """

    def __init__(self) -> None:
        self.mentions: Mentions | None = None
        self.losses: list[Tensor] = []

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        **_: object,
    ) -> Tensor:
        words = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        split = (len(words), -1, attn.heads, attn.inner_dim // attn.heads)
        projected = attn.to_q(hidden_states), attn.to_k(words), attn.to_v(words)
        q, k, v = (x.view(split).transpose(1, 2) for x in projected)
        scores = q @ k.transpose(2, 3) * attn.scale
        if self.mentions is not None and encoder_hidden_states is not None:
            self.losses.append(place_loss(scores[:, :SUPERVISED_HEADS].float(), self.mentions))
        mixed = scores.softmax(-1).to(v.dtype) @ v
        return attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))


class PlacedDenoiser(TextDenoiser):
    """A ``TextDenoiser`` that keeps, after each forward pass on captions, the mean ``place_loss``
    of its layers.
    """

    def __init__(
        self,
        text_encoder: CLIPTextModel,
        tokenizer: CLIPTokenizer,
        unet: nn.Module,
        null_ids: Tensor,
    ) -> None:
        super().__init__(unet, text_encoder, null_ids)
        self.place_words, self.attention = PlaceWords(tokenizer), PlacedAttention()
        unet.set_attn_processor(self.attention)

    def forward(self, xt: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        self.attention.losses, self.attention.mentions = [], self.place_words(cond)
        out = super().forward(xt, t, cond)
        self.attention.mentions = None
        self.loss_of_places = torch.stack(self.attention.losses).mean()
        return out


class PlacedTrainer(Trainer):
    """The run of a ``PlacedDenoiser``: the denoiser's loss and a little of its attention's."""

    def loss(self) -> Tensor:
        """Return both losses' weighted sum ()."""
        return super().loss() + PLACE_WEIGHT * self.model.loss_of_places


class MarkRun(SceneRun):
    """The text encoder learns to add a fixed vector, one for left, right, above and below, to the
    words of the thing said last.

    Everything else has to stay as it was: the U-Net knows it so.
    """

    def __init__(
        self,
        model: CLIPTextModel,
        config: TrainConfig,
        device: torch.device,
        accelerator: object,
        tokenizer: CLIPTokenizer,
    ):
        super().__init__(model, config, device, accelerator)
        self.tokenizer, self.place_words = tokenizer, PlaceWords(tokenizer).to(device)
        self.before = copy.deepcopy(model).eval().requires_grad_(False)
        generator = torch.Generator().manual_seed(config.seed)
        self.marks = MARK * torch.randn(4, model.config.hidden_size, generator=generator).to(device)

    def loss(self) -> Tensor:
        """Return the mean squared error () of the marked words, plus twice that of the others."""
        g = self.generator_of_step()
        ids = token_ids(self.tokenizer, captions(self.codes(g), generator=g)).to(self.device)
        mentions = self.place_words(ids)
        marked = mentions.phrases[torch.arange(len(ids)), mentions.later]
        with torch.no_grad():
            target = self.before(ids).last_hidden_state
        target = (
            target
            + marked[..., None]
            * self.marks[2 * mentions.axis.clamp(min=0) + mentions.later][:, None]
        )
        error = (self.network(ids).last_hidden_state - target).square().mean(2)
        return error[marked].mean() + 2 * error[~marked].mean()
