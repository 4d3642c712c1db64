"""Exercises of lesson 10, words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ...latent.attention import attention_probabilities, split_heads
from .. import draw
from ..calls import as_numbers
from ..definition import Case, Exercise, Tolerance, WrongAnswer
from ..edits import edit

ROUNDED = Tolerance(rtol=1e-4, atol=1e-5)
Pair = tuple[int, int]


def _random_ids(generator: torch.Generator, length: int, kinds: int = 3) -> list[int]:
    return torch.randint(kinds, (length,), generator=generator).tolist()


def _merge_cases(generator: torch.Generator) -> Iterator[Case]:
    yield Case(([5, 1, 2, 7, 1, 2, 2, 1], (1, 2), 9), note="two places")
    yield Case(([4, 4, 4, 0, 4, 4, 4, 4, 1], (4, 4), 8), note="a symbol with itself")
    yield Case(([2, 1, 3, 0, 0, 2, 1], (1, 2), 9), note="only the other way round")
    yield Case(([1, 2], (1, 2), 3), note="nothing but the pair")
    yield Case(([6], (6, 6), 7), note="one symbol")
    yield Case(([1, 2, 2, 1, 2, 2, 3], (1, 2), 1), note="the new number is one of the pair")
    yield Case(([1, 12, 3, 11, 2, 1, 2, 23, 1, 12], (1, 2), 123), note="numbers of two digits")
    for length in (12, 40):
        yield Case((_random_ids(generator, length), (0, 1), 3), note=f"{length} random symbols")


def merge_ids(ids: list[int], pair: Pair, new: int) -> list[int]:
    """Return ids with every occurrence of the pair replaced, from left to right."""
    merged = []
    i = 0
    while i < len(ids):
        if tuple(ids[i : i + 2]) == tuple(pair):
            merged.append(new)
            i += 2
        else:
            merged.append(ids[i])
            i += 1
    return merged


def _merge_again(ids: list[int], pair: Pair, new: int) -> list[int]:
    merged: list[int] = []
    for symbol in ids:
        if merged and (merged[-1], symbol) == tuple(pair):
            merged[-1] = new
        else:
            merged.append(symbol)
    return merged


def _merge_in_twos(ids: list[int], pair: Pair, new: int) -> list[int]:
    parts = [ids[i : i + 2] for i in range(0, len(ids), 2)]
    return [one for part in parts for one in ([new] if tuple(part) == tuple(pair) else part)]


def _merge_as_text(ids: list[int], pair: Pair, new: int) -> list[int]:
    text = ", ".join(map(str, ids)).replace(f"{pair[0]}, {pair[1]}", str(new))
    return [int(one) for one in text.split(", ")]


def _merge_overlapping(ids: list[int], pair: Pair, new: int) -> list[int]:
    hits = [i for i in range(len(ids) - 1) if (ids[i], ids[i + 1]) == pair]
    return [new if i in hits else x for i, x in enumerate(ids) if i in hits or i - 1 not in hits]


MERGE = Exercise(
    id="10.1",
    lesson=10,
    title="One merge",
    statement="""A word is a list of symbols, here as numbers. Return a new list in which every
occurrence of the neighbours `pair` is replaced by the one number `new`. Go from left to right;
a symbol that has been merged is used up. `ids` is a list of int, `pair` a tuple of two int.""",
    stub="""def merge_ids(ids, pair, new):
    merged = []
    ...
    return ...
""",
    reference=merge_ids,
    cases=_merge_cases,
    call=as_numbers,
    hints=(
        (
            "Stand at place i. Either the pair starts here, or it does not. By how much "
            "does i grow in each case?"
        ),
        (
            "If ids[i] and ids[i + 1] are the pair, append new and go on at i + 2. Else append "
            "ids[i] and go on at i + 1."
        ),
        (
            "At the last place there is no i + 1: compare the slice ids[i:i + 2] with "
            "list(pair), it may be shorter."
        ),
    ),
    derivation="lesson 10, 'Merging by hand'; Sennrich, Haddow & Birch 2015, algorithm 1",
    wrong_answers=(
        WrongAnswer(
            "only the first occurrence",
            edit("== tuple(pair):", "== tuple(pair) and new not in merged:"),
            "You stop after the first pair. A word may hold it several times.",
        ),
        WrongAnswer(
            "overlapping pairs",
            _merge_overlapping,
            "Three equal symbols hold the pair once, with one symbol left over. "
            "You use the middle one twice.",
        ),
        WrongAnswer(
            "the second symbol stays",
            edit("i += 2", "i += 1"),
            "The new symbol replaces both. You replace the first and keep the second.",
        ),
        WrongAnswer(
            "the pair in either order",
            lambda ids, pair, new: merge_ids(merge_ids(ids, pair, new), (pair[1], pair[0]), new),
            "The order of a pair matters: the merge of t and h makes th, not ht.",
        ),
        WrongAnswer(
            "the caller's list is changed",
            edit("return merged", "ids[:] = merged\n    return ids"),
            "You write into `ids`. The caller still counts with it.",
        ),
        WrongAnswer(
            "each symbol of the pair is replaced",
            lambda ids, pair, new: [new if i in pair else i for i in ids],
            "You replace the two symbols wherever they are. They have to be "
            "neighbours, in this order.",
        ),
        WrongAnswer(
            "the last symbol is lost",
            edit("while i < len(ids):", "while i < len(ids) - 1:"),
            "Your loop ends before the last symbol. Where that is not part of a pair it has to be"
            " kept.",
        ),
        WrongAnswer(
            "the pair turned round",
            edit("== tuple(pair):", "== tuple(pair)[::-1]:"),
            "You look for the second symbol before the first.",
        ),
        WrongAnswer(
            "the first symbol is kept beside the new one",
            edit("            merged.append(new)", "            merged += [ids[i], new]"),
            "The new symbol stands for both of them.",
        ),
        WrongAnswer(
            "one symbol too many is used up",
            edit("i += 2", "i += 3"),
            "A pair uses up two symbols. Yours swallows the one after it.",
        ),
        WrongAnswer(
            "only the first symbol is compared",
            edit("tuple(ids[i : i + 2]) == tuple(pair)", "ids[i] == pair[0]"),
            "The neighbour has to be the pair's second symbol.",
        ),
        WrongAnswer(
            "nothing is merged",
            edit("== tuple(pair):", "== list(pair):"),
            "You return the symbols as they were. Is a list compared with a tuple? They are never"
            " equal.",
        ),
        WrongAnswer(
            "a merged symbol is merged again",
            _merge_again,
            "In your loop the symbol that was just made can be part of the next pair. It is used"
            " up.",
        ),
        WrongAnswer(
            "every second place only",
            _merge_in_twos,
            "You go on by two symbols everywhere, so a pair at an odd place is missed.",
        ),
        WrongAnswer(
            "found in the text of the numbers",
            _merge_as_text,
            "In a text 1 is found inside 12 too. Compare the numbers themselves.",
        ),
        WrongAnswer(
            "from right to left",
            lambda ids, pair, new: merge_ids(ids[::-1], pair[::-1], new)[::-1],
            "Where three equal symbols stand in a row it matters: the pair on the left goes first.",
        ),
    ),
)


def _tokenize_cases(generator: torch.Generator) -> Iterator[Case]:
    # Symbols 0, 1, 2; merge number k makes the symbol 3 + k.
    yield Case(([0, 1, 2], [(1, 2), (0, 1)]), note="two merges want the same symbol")
    yield Case(([0, 1, 2], [(0, 1), (1, 2), (3, 2)]), note="a merge of a merge")
    yield Case(([0, 0, 0, 0, 0], [(0, 0), (3, 3), (3, 0)]), note="one symbol five times")
    yield Case(([2, 2, 1], [(0, 1)]), note="nothing to merge")
    yield Case(([1], [(0, 1), (1, 1)]), note="one symbol")
    yield Case(
        ([0, 1, 2, 2, 0, 1], [(2, 2), (1, 2), (2, 0), (0, 1), (6, 3), (7, 6)]),
        note="a late merge of two early ones",
    )
    # First, last, earliest, latest and most frequent all lead to another end.
    around = [(0, 1), (1, 2), (2, 0), (2, 2)]
    yield Case(([0, 1, 2, 2, 0, 2, 1, 2, 0], around), note="every order ends elsewhere")
    chain = [(1, 2), (3, 0), (0, 0), (2, 2), (4, 1), (1, 1), (2, 0), (5, 5), (7, 2), (11, 0)]
    yield Case(([1, 2, 0, 1, 2, 0, 0, 0], chain), note="symbols of two digits")
    for length in (8, 25):
        merges = [(0, 1), (2, 0), (1, 1), (3, 2), (4, 3), (3, 3), (0, 0)]
        yield Case((_random_ids(generator, length), merges), note=f"{length} random symbols")


def tokenize(ids: list[int], merges: Sequence[Pair], first: int = 3) -> list[int]:
    """Return ids after merging, the pair that stands earliest in merges first."""
    ids, rank = list(ids), {pair: k for k, pair in enumerate(merges)}
    while True:
        found = [(rank[pair], pair) for pair in zip(ids, ids[1:], strict=False) if pair in rank]
        if not found:
            return ids
        k, pair = min(found)
        ids = merge_ids(ids, pair, first + k)


def _in_one_pass(ids: list[int], merges: Sequence[Pair]) -> list[int]:
    out: list[int] = []
    i = 0
    while i < len(ids):
        pair = tuple(ids[i : i + 2])
        out.append(3 + merges.index(pair) if pair in merges else ids[i])
        i += 2 if pair in merges else 1
    return out


def _once_each(ids: list[int], merges: Sequence[Pair]) -> list[int]:
    ids = list(ids)
    for k, pair in enumerate(merges):
        places = [i for i in range(len(ids) - 1) if (ids[i], ids[i + 1]) == pair]
        if places:
            ids[places[0] : places[0] + 2] = [3 + k]
    return ids


def _list_backwards(ids: list[int], merges: Sequence[Pair]) -> list[int]:
    for k in reversed(range(len(merges))):
        ids = merge_ids(ids, merges[k], 3 + k)
    return list(ids)


def _leftmost_first(ids: list[int], merges: Sequence[Pair]) -> list[int]:
    ids, i = list(ids), 0
    while i < len(ids) - 1:
        if (ids[i], ids[i + 1]) in merges:
            ids[i : i + 2] = [3 + merges.index((ids[i], ids[i + 1]))]
            i = 0
        else:
            i += 1
    return ids


TOKENIZE = Exercise(
    id="10.2",
    lesson=10,
    title="The earliest merge first",
    statement="""Tokenise a word. `ids` is a list of symbols 0, 1, 2; `merges` the learned list of
pairs. The pair at place $k$ of the list becomes the symbol $3 + k$, which later pairs may
contain. Join neighbours until no pair of the list is left. When several can be joined, the one
that stands **earliest in `merges`** goes first, wherever it is in the word. Return the new
list.""",
    stub="""def tokenize(ids, merges):
    ids = list(ids)
    pairs = zip(ids[:-1], ids[1:], strict=True)
    known = [merges.index(pair) for pair in pairs if pair in merges]
    ...
    return ...
""",
    reference=tokenize,
    cases=_tokenize_cases,
    call=as_numbers,
    hints=(
        (
            "known holds the places in the list of all pairs that could be joined now. "
            "If it is empty, you are done."
        ),
        (
            "The smallest number in known is the merge to do. Do it at every "
            "place of the word: exercise 10.1."
        ),
        (
            "Its new symbol is 3 + min(known). Then look again, because "
            "the new symbol makes new pairs."
        ),
    ),
    derivation="lesson 10, 'To tokenise'; Sennrich, Haddow & Birch 2015, section 3.2",
    solution="""def tokenize(ids, merges):
    ids = list(ids)
    while True:
        pairs = zip(ids[:-1], ids[1:], strict=True)
        known = [merges.index(pair) for pair in pairs if pair in merges]
        if not known:
            return ids
        k, i = min(known), 0
        while i < len(ids) - 1:
            if (ids[i], ids[i + 1]) == merges[k]:
                ids[i : i + 2] = [3 + k]
            i += 1
""",
    wrong_answers=(
        WrongAnswer(
            "the leftmost pair first",
            _leftmost_first,
            "You join what comes first in the word. What comes first in "
            "the list of merges has priority.",
        ),
        WrongAnswer(
            "the latest merge first",
            edit("min(known)", "max(known)"),
            "Early merges are the frequent ones. You begin at the end of the list.",
        ),
        WrongAnswer(
            "one merge only",
            edit("            i += 1\n", "            i += 1\n        return ids\n"),
            "After a merge there are new neighbours. Look again.",
        ),
        WrongAnswer(
            "the pair that is most frequent in the word",
            edit("min(known)", "max(known, key=known.count)"),
            "Counting is how merges are learned. To apply them, only their order counts.",
        ),
        WrongAnswer(
            "numbered from the wrong place",
            edit("return ids", "return [i if i < 3 else i + 1 for i in ids]"),
            "The first merge makes the symbol 3, one after the symbols 0, 1 and 2.",
        ),
        WrongAnswer(
            "numbered from 0",
            edit("[3 + k]", "[k]"),
            "0, 1 and 2 are the symbols of the word. The first merge makes 3.",
        ),
        WrongAnswer(
            "numbered one too high",
            edit("[3 + k]", "[4 + k]"),
            "The first pair of the list becomes the symbol 3.",
        ),
        WrongAnswer(
            "numbered by what is in the word",
            edit("[3 + k]", "[max(3, max(ids) + 1)]"),
            "The new symbol's number is the pair's place in the list, plus 3, whatever is in the"
            " word.",
        ),
        WrongAnswer(
            "one pass over the word",
            _in_one_pass,
            "You join from left to right and never look back. A new symbol may form a pair with"
            " the one before it.",
        ),
        WrongAnswer(
            "one place for each pair",
            _once_each,
            "You go through the list once and join each pair at its first place only. Join it"
            " wherever it stands.",
        ),
        WrongAnswer(
            "the list from its end",
            _list_backwards,
            "You go through the list of merges backwards. The earliest has priority.",
        ),
        WrongAnswer(
            "the last symbol is lost",
            edit("            return ids", "            return ids[:-1]"),
            "One symbol is missing at the end.",
        ),
    ),
)


def _score_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, shape, dtype in (
        ("two texts, three heads", (2, 3, 5, 5), torch.float64),
        ("float32", (1, 2, 4, 4), torch.float32),
        ("one token", (2, 1, 1, 1), torch.float64),
        ("a long text", (1, 1, 12, 12), torch.float64),
        ("bfloat16", (2, 2, 5, 5), torch.bfloat16),
    ):
        yield Case((draw.normal(generator, *shape).to(dtype),), note=note)
    # There exp(score) is infinite, or a large negative number does not stand for minus infinity.
    for sign in (1, -1):
        large = sign * (800 + 40 * draw.normal(generator, 1, 2, 6, 6))
        yield Case((large,), note=f"large scores, all {'positive' if sign > 0 else 'negative'}")


def _causal(scores: Tensor) -> Tensor:
    return torch.full(scores.shape[-2:], -torch.inf, dtype=scores.dtype).triu(1)


def causal_shares(scores: Tensor) -> Tensor:
    """Return the shares (B, heads, L, L): a softmax over this token and the earlier ones."""
    return (scores + _causal(scores)).softmax(-1)


CAUSAL = Exercise(
    id="10.3",
    lesson=10,
    title="Only look back",
    statement="""`scores` (B, heads, L, L) say how well the key of token $j$ (last axis) fits the
query of token $i$ (the axis before). Return the shares that the text transformer computes from
them: each token looks at itself and at earlier tokens only, and its shares add up to 1. Scores
may be as large as 1000, and in bfloat16, which numpy does not have.""",
    stub="""def causal_shares(scores):
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return ...
""",
    reference=causal_shares,
    cases=_score_cases,
    hints=(
        "later[i, j] is True where j > i. Those scores must end as a share of exactly 0.",
        "A share is exp(score) over a sum. Which score has the exponential 0?",
        (
            "Put -inf into the forbidden scores with masked_fill, then take the "
            "softmax over the last axis."
        ),
    ),
    solution="""def causal_shares(scores):
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return scores.masked_fill(later, -torch.inf).softmax(dim=-1)
""",
    derivation="lesson 10, 'The text model, opened', (10.6)",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "no mask",
            edit(".masked_fill(later, -torch.inf)", ""),
            "Every token sees the whole text, later words included.",
        ),
        WrongAnswer(
            "masked after the softmax",
            edit(
                "scores.masked_fill(later, -torch.inf).softmax(dim=-1)",
                "scores.softmax(dim=-1).masked_fill(later, 0)",
            ),
            "The shares that are left do not add up to 1: the later tokens have taken "
            "theirs before you removed them.",
        ),
        WrongAnswer(
            "zero instead of minus infinity",
            edit("-torch.inf", "0"),
            "A score of 0 is a score like any other, and its exponential is 1. The later "
            "tokens still get a share.",
        ),
        WrongAnswer(
            "looks ahead",
            edit("triu(1)", "tril(-1)"),
            "Your tokens look at themselves and at later ones. The mask is transposed.",
        ),
        WrongAnswer(
            "not at itself",
            edit("triu(1)", "triu(0)"),
            "A token may look at itself. The first one has nothing else to look at.",
        ),
        WrongAnswer(
            "softmax over the queries",
            edit("dim=-1", "dim=-2"),
            "The shares of one query add up over the keys, the last "
            "axis. Yours add up over the queries.",
        ),
    ),
)


def _attention_cases(
    generator: torch.Generator, batch: Sequence[int] = (2, 1, 3, 1)
) -> Iterator[tuple[str, list[Tensor]]]:
    """Yield queries, keys and values. N = L once: there the wrong axis raises nothing."""
    for note, b, n, tokens, d, dtype in (
        ("12 pixels, 5 tokens", batch[0], 12, 5, 8, torch.float64),
        ("as many pixels as tokens", batch[1], 6, 6, 4, torch.float32),
        ("one pixel", batch[2], 1, 7, 16, torch.float64),
        ("one token", batch[3], 4, 1, 12, torch.float64),
        ("large scores", 1, 3, 4, 6, torch.float64),  # there exp(score) is infinite
    ):
        size = 50.0 if note == "large scores" else 1.0
        lengths = ((n, size), (tokens, size), (tokens, 1.0))
        yield note, [(s * draw.normal(generator, b, length, d)).to(dtype) for length, s in lengths]


def read_tokens(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) V, (B, N, d): the package's probabilities with one head."""
    return attention_probabilities(queries[:, None], keys[:, None])[:, 0] @ values


READ = Exercise(
    id="10.4",
    lesson=10,
    title="A pixel reads the prompt",
    statement="""Cross-attention with one head. `queries` (B, N, d) come from N pixels, `keys` and
`values` (B, L, d) from L tokens. Return what each pixel reads, (B, N, d):
$\\mathrm{softmax}(QK^\\top/\\sqrt d)\\,V$, where each pixel's shares add up to 1 over the
tokens.""",
    stub="""def read_tokens(queries, keys, values):
    scores = queries @ keys.transpose(-1, -2)   # (B, N, L)
    return ...
""",
    reference=read_tokens,
    cases=lambda generator: (
        Case(tuple(inputs), note=note) for note, inputs in _attention_cases(generator)
    ),
    hints=(
        "Divide the scores, turn them into shares, and average the values with the shares.",
        "d is the number of channels of a query, queries.shape[-1].",
        (
            "The softmax goes over the tokens, the last axis of the "
            "scores. Then (B, N, L) @ (B, L, d)."
        ),
    ),
    derivation="lesson 10, 'One query reads three tokens', (10.2); Vaswani et al. 2017, eq. 1",
    tolerance=ROUNDED,
    solution="""def read_tokens(queries, keys, values):
    scores = queries @ keys.transpose(-1, -2)
    shares = (scores / queries.shape[-1] ** 0.5).softmax(dim=-1)
    return shares @ values
""",
    wrong_answers=(
        WrongAnswer(
            "no scale",
            edit(" / queries.shape[-1] ** 0.5", ""),
            "A product of d channels has the standard deviation sqrt(d). Undivided, the "
            "largest score takes nearly all.",
        ),
        WrongAnswer(
            "divided by d",
            edit("queries.shape[-1] ** 0.5", "queries.shape[-1]"),
            "The square root is missing: you divide by d, and all tokens get about the same share.",
        ),
        WrongAnswer(
            "divided by the number of tokens",
            edit("queries.shape[-1]", "keys.shape[-2]"),
            "The root is that of the channels, which were added up, not of the tokens.",
        ),
        WrongAnswer(
            "softmax over the pixels",
            edit("dim=-1", "dim=-2"),
            "Your shares add up to 1 over the pixels. A pixel that no token "
            "wants would read nothing.",
        ),
        WrongAnswer(
            "no softmax",
            edit(".softmax(dim=-1)", " / keys.shape[-2]"),
            "You average with the scores themselves. They are negative half of the time.",
        ),
        WrongAnswer(
            "keys where the values belong",
            edit("shares @ values", "shares @ keys"),
            "The key says where to look, the value what to read. You read the keys.",
        ),
    ),
)


def _head_cases(generator: torch.Generator) -> Iterator[Case]:
    for (note, inputs), heads in zip(_attention_cases(generator), (2, 1, 8, 3, 2), strict=True):
        yield Case((*inputs, heads), note=f"{note}, {heads} heads")


def multi_head(queries: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """Return attention in several heads side by side, (B, N, C), without the output map."""
    queries, keys, values = (split_heads(x, heads) for x in (queries, keys, values))
    return (attention_probabilities(queries, keys) @ values).transpose(1, 2).flatten(2)


HEADS = Exercise(
    id="10.5",
    lesson=10,
    title="Several heads",
    statement="""The same with `heads` heads. `queries` (B, N, C), `keys` and `values` (B, L, C) are
projected already. Head $h$ has the $d = C/\\text{heads}$ neighbouring channels from $h\\,d$ on
and attends for itself, with its own $\\sqrt d$. The heads' results are put side by side again.
Return (B, N, C).""",
    stub="""def multi_head(queries, keys, values, heads):
    def split(x):                                   # (B, N, C) -> (B, heads, N, d)
        return ...
""",
    reference=multi_head,
    cases=_head_cases,
    hints=(
        (
            "unflatten(-1, (heads, -1)) turns (B, N, C) into (B, N, heads, d). Which two "
            "axes have to change places?"
        ),
        (
            "Matrix products and softmax work on the last two axes and leave (B, heads) alone: "
            "exercise 10.4 goes through unchanged."
        ),
        (
            "Back: transpose(1, 2) makes (B, N, heads, d), flatten(2) puts the heads side by "
            "side. d is x.shape[-1] after the split."
        ),
    ),
    derivation=(
        "lesson 10, 'One query reads three tokens', (10.3); Vaswani et al. 2017, section 3.2.2"
    ),
    tolerance=ROUNDED,
    solution="""def multi_head(queries, keys, values, heads):
    def split(x):
        return x.unflatten(-1, (heads, -1)).transpose(1, 2)

    q, k, v = split(queries), split(keys), split(values)
    shares = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
    return (shares @ v).transpose(1, 2).flatten(2)
""",
    wrong_answers=(
        WrongAnswer(
            "one head",
            edit("(heads, -1)", "(1, -1)"),
            "All channels attend together. Each head has shares of its own.",
        ),
        WrongAnswer(
            "heads is taken for the size of a head",
            edit("(heads, -1)", "(-1, heads)"),
            "You make heads of `heads` channels each. It is the number of heads.",
        ),
        WrongAnswer(
            "reshaped without a transpose",
            edit(
                "x.unflatten(-1, (heads, -1)).transpose(1, 2)",
                "x.reshape(len(x), heads, x.shape[1], -1)",
            ).then(".transpose(1, 2).flatten(2)", ".reshape(queries.shape)"),
            "A reshape to (B, heads, N, d) keeps the order in memory: your head 0 holds all "
            "channels of the first pixels.",
        ),
        WrongAnswer(
            "the heads are not put back",
            edit(".transpose(1, 2).flatten(2)", ".reshape(queries.shape)"),
            "The result is (B, heads, N, d). A reshape alone mixes "
            "pixels with heads: transpose first.",
        ),
        WrongAnswer(
            "channels dealt out in turn",
            edit("(heads, -1)).transpose(1, 2)", "(-1, heads)).permute(0, 3, 1, 2)").then(
                "(shares @ v).transpose(1, 2)", "(shares @ v).permute(0, 2, 3, 1)"
            ),
            "You give channel 0 to head 0, channel 1 to head 1, and so on. A "
            "head has neighbouring channels.",
        ),
        WrongAnswer(
            "scaled by all channels",
            edit("q.shape[-1]", "queries.shape[-1]"),
            "Each head's products add up d channels, not C. Its scale is the root of d.",
        ),
    ),
)


def _map_cases(generator: torch.Generator) -> Iterator[Case]:
    for note, batch, heads, height, width, tokens, positions, dtype in (
        ("two pictures, 3 x 4", 2, 2, 3, 4, 6, [2, 4], torch.float64),
        ("a word of one token", 1, 3, 2, 5, 5, [1], torch.float32),
        ("a word of three tokens", 3, 1, 4, 2, 8, [5, 6, 7], torch.float64),
        ("one row", 1, 2, 1, 3, 4, [0, 3], torch.float64),
    ):
        shares = (
            draw.normal(generator, 2 * batch, heads, height * width, tokens).softmax(-1).to(dtype)
        )
        yield Case((shares, positions, height), note=note)


def word_map(shares: Tensor, positions: list[int], height: int) -> Tensor:
    """Return the conditional half's share for the tokens, (B, height, width)."""
    cond = shares[len(shares) // 2 :]
    return cond[..., positions].sum(-1).mean(1).unflatten(1, (height, -1))


WORD_MAP = Exercise(
    id="10.6",
    lesson=10,
    title="The map of a word",
    statement="""A guided loop calls the U-Net on 2B rows, the unconditional half first. `shares`
(2B, heads, N, L) are the attention probabilities of one layer in such a call, its N pixels row
by row. Return the map of one word, (B, height, width), for the **conditional** pictures: the
share of each pixel's attention that goes to the tokens at `positions` (a list of int) together,
averaged over heads.""",
    stub="""def word_map(shares, positions, height):
    cond = ...
    return ...
""",
    reference=word_map,
    cases=_map_cases,
    hints=(
        "chunk(2) cuts the batch into its halves. Which one has read the prompt?",
        (
            "shares[..., positions] keeps the word's tokens. Shares of several tokens "
            "add up; heads are averaged."
        ),
        "The N pixels are height rows of width each: unflatten(1, (height, -1)).",
    ),
    derivation="lesson 10, 'Where it looks', (10.8)",
    tolerance=ROUNDED,
    wrong_answers=(
        WrongAnswer(
            "the unconditional half",
            edit("len(shares) // 2 :", ": len(shares) // 2"),
            "The first half has read the empty prompt. At these "
            "positions it has padding, not your word.",
        ),
        WrongAnswer(
            "both halves averaged",
            edit("shares[len(shares) // 2 :]", "torch.stack(shares.chunk(2)).mean(0)"),
            "Half of your map comes from the empty prompt. Only the "
            "conditional half has read the word.",
        ),
        WrongAnswer(
            "every other row",
            edit("len(shares) // 2 :", "1::2"),
            "The halves lie one after the other, not in turn.",
        ),
        WrongAnswer(
            "tokens averaged",
            edit(".sum(-1)", ".mean(-1)"),
            "A pixel that looks at a word's two tokens looks at the word with both shares. "
            "Averaging makes long words weak.",
        ),
        WrongAnswer(
            "heads added up",
            edit(".mean(1)", ".sum(1)"),
            "Each head's shares add up to 1 already. The sum over heads is no share any more.",
        ),
        WrongAnswer(
            "columns first",
            edit("(height, -1))", "(-1, height)).mT"),
            "The pixels are stored row by row. Your map is filled column by column.",
        ),
    ),
)

EXERCISES = (MERGE, TOKENIZE, CAUSAL, READ, HEADS, WORD_MAP)
