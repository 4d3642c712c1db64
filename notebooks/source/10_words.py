# %% [markdown]
# # 10 · Words
#
# After this lesson you can:
#
# - learn byte-pair merges from captions and tokenise any text with them, as CLIP's tokenizer does,
# - compute attention by hand, and say why it is divided by $\sqrt d$,
# - rebuild the text model from its weights, and say what its causal mask does to every word,
# - compute what a pixel reads from a prompt, and draw where in the picture each word is read,
# - measure which positions of a prompt the U-Net uses.
#
# You need: lessons 05, 08 and 09.
#
# **Measured cost:** 1.4 min on 2 cores, 1.0 GB of memory at the peak.
#
# In formulas $t$ runs from 1 to $T$ as in the papers. In code `t` is the index $0..T-1$, one less.

# %%
from collections import Counter

import torch
from torch.testing import assert_close

from diffusion_course import (
    load_parts,
    make_generator,
    plotting,
    seed_everything,
    show,
    text_to_image,
)
from diffusion_course.notebook import figure

generator = seed_everything(0)
parts = load_parts()

# %% [markdown]
# ## Recall
#
# 1. From lesson 08: a guided step calls the network once, on a batch of $2B$. Which half is the conditional one?
# 2. From lesson 09: the shipped autoencoder turns $64 \times 64$ pixels into $16 \times 16$ places. How many pixels lie behind one place of a layer that works at $8 \times 8$?
#
# <details><summary>Answers</summary>
#
# 1. The second. The first half is unconditional.
# 2. $8 \times 8 = 64$. One place of the latents stands for $4 \times 4$ pixels, and $8 \times 8$ has half of the latents' side.
#
# </details>

# %% [markdown]
# ## Predict first
#
# Two prompts of the same words:

# %%
PROMPTS = [
    "a large red star above a small blue fish at night",
    "a small blue fish above a large red star at night",
]
drawn = text_to_image(parts, PROMPTS * 3, generator=make_generator(1))  # (6, 3, 64, 64)
fig = plotting.image_grid(
    drawn, columns=2, scale=1.6, titles=["star above fish", "fish above star"] * 3,
    title="The order of the words matters",
)
show(fig, alt=(
    "Three rows of two pictures before a night sky. Left column: a large red star "
    "above a small blue fish. Right column: a small blue fish above a large red star."
))

# %% [markdown]
# The U-Net does not see the words. It sees 32 vectors for each prompt, whatever its length: a start token, the prompt's own tokens, and end tokens up to the 32nd place.
# At every place of the picture it spreads its attention over these 32 vectors, in shares that add up to 1.
#
# The prompts above have 11 words. Which share of the attention goes to those 11 positions, and which to the start and the end tokens?

# %%
my_guess = 0.4  # the share of the prompt's own words, between 0 and 1

# %% [markdown]
# You will measure it below. First: where do the 32 vectors come from?

# %% [markdown]
# ## From a text to numbers
#
# A network reads numbers. Three ways to make them from a text:
#
# - One number for each **word**. There are too many words, and tomorrow somebody writes one that is not in the list.
# - One number for each **letter**. Every text is possible, but a caption has 50 of them, and a letter means nothing.
# - In between: frequent words in one piece, rare ones in several. This is what **byte-pair encoding** learns from a text.
#
# **Step 1: words.** CLIP's tokenizer normalises the text, makes it lower case, and cuts it into runs of letters, single digits, and runs of other signs.

# %%
from diffusion_course import split_words, word_symbols

print(split_words("A LARGE red star,   isn't it? 42 fish"))

# %% [markdown]
# **Step 2: bytes.** A word becomes its bytes in UTF-8, 256 different ones, so there is no text that cannot be written. Each byte is shown as one printable character.
# The last byte of a word carries the mark `</w>`: the `r` that ends "star" and the `r` inside "stripe" are two different symbols.

# %%
for word in ("star", "é", "звезда"):
    print(f"{word:8s}", word_symbols(word))

# %% [markdown]
# **Step 3: merges.** Count every pair of neighbours over all words, join the most frequent pair into a new symbol everywhere, and count again
# (Sennrich, Haddow & Birch 2015, [arXiv 1508.07909](https://arxiv.org/abs/1508.07909), algorithm 1). With $n_w$ the number of times that word $w$ occurs and $s^w$ its symbols:
#
# $$(a, b)^\star = \arg\max_{(a, b)} \sum_w n_w \cdot \#\{i : s^w_i = a,\ s^w_{i+1} = b\} \tag{10.1}$$
#
# ### Merging by hand
#
# Three words: star 5 times, tar twice, stay once.
#
# | pair | in star (5) | in tar (2) | in stay (1) | sum |
# |---|---|---|---|---|
# | `s t` | 5 | | 1 | 6 |
# | `t a` | 5 | 2 | 1 | **8** |
# | `a r</w>` | 5 | 2 | | 7 |
# | `a y</w>` | | | 1 | 1 |
#
# So `ta` is the first new symbol. Now star is `s ta r</w>`, tar is `ta r</w>`, stay is `s ta y</w>`. The pair `ta r</w>` occurs 7 times, `s ta` 6 times: the second new symbol is `tar</w>`.
# Then star is `s tar</w>`, 5 times, and the third is `star</w>`. What is the fourth?

# %%
from diffusion_course import learn_merges, merge_pair, show_source

print(learn_merges({"star": 5, "tar": 2, "stay": 1}, 3))
show_source(learn_merges, merge_pair)

# %% [markdown]
# After three merges only stay has neighbours left, `s ta` and `ta y</w>`, once each. The tie goes to the pair that sorts first.
#
# **Check.** The `tokenizers` library has a trainer of its own, written in Rust. Where no two pairs are equally frequent the merges have to be the same.

# %%
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

words = {"star": 1000, "start": 103, "tart": 11, "moon": 509, "mood": 53, "noon": 7}
library = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
trainer = trainers.BpeTrainer(
    vocab_size=22, end_of_word_suffix="</w>", show_progress=False
)
library.train_from_iterator(
    [" ".join([word] * n) for word, n in words.items()], trainer
)
made = [
    token
    for token, _ in sorted(library.get_vocab().items(), key=lambda item: item[1])
    if len(token.removesuffix("</w>")) > 1
]
ours = ["".join(pair) for pair in learn_merges(words, len(made))]
print(made, made == ours)
assert made == ours

# %% [markdown]
# **On captions.** The course's vocabulary was learned from captions of scenes. Learn it again from 3,000 of them. The first merges are the ends of frequent words:

# %%
from diffusion_course.datasets.scenes import captions, sample_scenes

texts = captions(sample_scenes(3000, generator=generator), generator=generator)
counts = Counter(word for text in texts for word in split_words(text))
merges = learn_merges(counts, 1000)
print(f"{len(counts)} different words, {len(merges)} merges until each is one symbol")
print("the first 16:", " ".join("".join(pair) for pair in merges[:16]))
print("the last 4:", " ".join("".join(pair) for pair in merges[-4:]))

# %% [markdown]
# The shipped vocabulary: 256 bytes, the same 256 with `</w>`, the merges, and two special tokens. A token's **id** is its place in that list.

# %%
from diffusion_course import load_vocabulary
from diffusion_course.files import data_dir

vocabulary = load_vocabulary(data_dir() / "mini-stable-diffusion" / "tokenizer")
ids = vocabulary.ids
print(
    f"{len(ids)} tokens, {len(vocabulary.ranks)} merges, prompts of at most "
    f"{vocabulary.max_length} tokens"
)
print({
    token: ids[token]
    for token in ("a", "a</w>", "star</w>", "<|startoftext|>", "<|endoftext|>")
})

# %% [markdown]
# **To tokenise** a word, start from its bytes and join neighbours. When several pairs could be joined, the one that was *learned first* goes first, wherever it stands. No counting is needed any more, only the list.

# %%
from diffusion_course import bpe, encode_text

show_source(bpe)
for word in ("star", "starfish", "reddish", "zeppelin", "звезда"):
    print(f"{word:9s}", bpe(word, vocabulary.ranks))

# %% [markdown]
# A word of the captions is one token. "starfish" was never seen and falls into known pieces, "zeppelin" nearly into letters, and a word in another script into bytes. Nothing is unknown, but what the pieces mean was never learned.

# %% [markdown]
# **Check.** The same ids as the tokenizer that Stable Diffusion uses: on 1,000 captions, and on 1,000 words made of random letters.

# %%
tokenizer = parts.tokenizer  # a transformers.CLIPTokenizer
letters = torch.tensor([ord(c) for c in "aaeeiorstlnhdg"])
strange = [
    "".join(map(chr, letters[torch.randint(14, (1 + i % 20,), generator=generator)]))
    for i in range(1000)
]
for name, samples in (("captions", texts[:1000]), ("strange words", strange)):
    same = [
        encode_text(text, vocabulary) == tokenizer(text)["input_ids"]
        for text in samples
    ]
    print(f"{name}: {sum(same)} of {len(same)} equal")
    assert all(same)

# %% [markdown]
# The check can fail. Many people expect the *longest* token that fits to be taken first, from left to right:

# %%
def longest_first(word):
    symbols, tokens = word_symbols(word), []
    while symbols:
        n = max(n for n in range(1, len(symbols) + 1) if "".join(symbols[:n]) in ids)
        tokens, symbols = [*tokens, "".join(symbols[:n])], symbols[n:]
    return tokens


differs = [
    word for word in strange if longest_first(word) != bpe(word, vocabulary.ranks)
]
print(
    f"{len(differs)} of 1000 strange words differ, such as {differs[0]!r}:",
    longest_first(differs[0]), "instead of", bpe(differs[0], vocabulary.ranks),
)
print(
    sum(longest_first(word) != bpe(word, vocabulary.ranks) for word in counts),
    "of the captions' words differ",
)

# %% [markdown]
# Both rules give tokens of the vocabulary, and for words of the captions the same ones. Only a rare word shows the difference, and the model has learned with one of the rules.
#
# ### Always 32
#
# The text model has 32 positions, so every prompt is brought to 32 tokens. The start token goes first, the end token last, and what is missing is filled with end tokens again.

# %%
prompt = PROMPTS[0]
prompt_ids = torch.tensor([encode_text(prompt, vocabulary, max_length=32)])  # (1, 32)
theirs = tokenizer([prompt], padding="max_length", truncation=True)["input_ids"]
assert prompt_ids.tolist() == theirs
tokens = [vocabulary.tokens[i].removesuffix("</w>") for i in prompt_ids[0].tolist()]
length = tokens.index("<|endoftext|>")  # the position of the first end token
print(prompt_ids[0].tolist())
print(" ".join(tokens[: length + 2]), "...")

# %% [markdown]
# Stable Diffusion 1.5 does the same with 77 positions and 49,408 tokens.

# %% [markdown]
# ## One query reads three tokens
#
# Both the text model and the U-Net read tokens by **attention**. Here is the smallest case, with numbers.
#
# Each of three tokens offers a *key* $k_j$, which says what it has, and a *value* $v_j$, which is what is read from it. A reader asks with a *query* $q$:
#
# | token | key | value | $q \cdot k_j$ with $q = (2, 0, 0, 0)$ |
# |---|---|---|---|
# | star | $(2, 0, 0, 0)$ | 6 | 4 |
# | on | $(0, 2, 0, 0)$ | 0 | 0 |
# | red | $(1, 1, 0, 0)$ | 3 | 2 |
#
# - Divide by $\sqrt d = \sqrt 4 = 2$: the scores are $2$, $0$, $1$.
# - Exponentials: $7.389$, $1$, $2.718$, together $11.107$.
# - Shares: $0.665$, $0.090$, $0.245$. They are positive and add up to 1.
# - The reader gets $0.665 \cdot 6 + 0.090 \cdot 0 + 0.245 \cdot 3 = 4.726$.
#
# For $N$ readers and $L$ tokens, with queries, keys and values in the rows of $Q$ ($N \times d$), $K$ and $V$ ($L$ rows):
#
# $$O = P\,V, \qquad P_{ij} = \frac{e^{q_i \cdot k_j / \sqrt d}}{\sum_{m=1}^{L} e^{q_i \cdot k_m / \sqrt d}} \tag{10.2}$$
#
# This is eq. 1 of Vaswani et al. 2017 ([arXiv 1706.03762](https://arxiv.org/abs/1706.03762)).

# %%
from diffusion_course import attention_probabilities, split_heads

q = torch.tensor([[[[2.0, 0, 0, 0]]]])  # (1, 1, 1, 4): batch, head, reader, channel
k = torch.tensor([[[[2.0, 0, 0, 0], [0, 2, 0, 0], [1, 1, 0, 0]]]])  # (1, 1, 3, 4)
v = torch.tensor([[[[6.0], [0], [3]]]])  # (1, 1, 3, 1)
shares = attention_probabilities(q, k)  # (1, 1, 1, 3)
print(
    [round(share, 3) for share in shares.flatten().tolist()],
    round((shares @ v).item(), 3),
)

# %% [markdown]
# **Why $\sqrt d$?** If the numbers in $q$ and $k$ are independent with variance 1, each product $q_c k_c$ has variance 1, and the sum over $d$ channels has variance $d$.
# Dividing by $\sqrt d$ brings the scores back to variance 1. Without it, the softmax of a wide layer gives everything to one token, and its gradient vanishes.

# %%
for d in (4, 64, 1024):
    q, k = torch.randn(2, 1, 1, 500, d, generator=generator)
    scores = q @ k.mT  # (1, 1, 500, 500)
    largest = [
        (scores / scale).softmax(-1).amax(-1).mean().item() for scale in (1.0, d**0.5)
    ]
    print(
        f"d = {d:4d}: deviation of the scores {scores.std():5.1f}; "
        f"largest of 500 shares {largest[0]:.2f} undivided, {largest[1]:.2f} divided"
    )

# %% [markdown]
# **Heads.** One softmax reads one mixture. To read several things at once, cut the channels into $h$ groups of $d = C/h$ neighbours, attend in each group for itself, and put the results side by side.
# With maps $W_Q, W_K, W_V$ before and $W_O$ after:
#
# $$\begin{gathered}
# \operatorname{Attention}(x, c) = \big[\,O^{(1)} \,\big|\, \cdots \,\big|\, O^{(h)}\,\big]\,W_O, \\
# Q = x\,W_Q,\quad K = c\,W_K,\quad V = c\,W_V
# \end{gathered} \tag{10.3}$$
#
# $x$ ($N \times C$) are those who read and $c$ ($L \times D$) what is read. If both are the same it is **self-attention**, else **cross-attention**. The package's lines:

# %%
from diffusion_course import AttentionWeights, attend

show_source(attention_probabilities, split_heads, attend)

# %% [markdown]
# ## The text model, opened
#
# `CLIPTextModel` turns 32 ids into 32 vectors of 192 numbers. Three pieces.
#
# **Embeddings.** A table $E$ with one row for each token, a table $S$ with one row for each position, added:
#
# $$h_i = E_{\mathrm{id}_i} + S_i \tag{10.4}$$
#
# **Blocks**, four of them here and twelve in Stable Diffusion 1.5. Each adds to every vector what it reads from the others, then what a small network makes of it.
# $\mathrm{LN}$ is layer normalisation, and $\phi(x) = x\,\sigma(1.702\,x)$ with the logistic function $\sigma$ is a cheap stand-in for the GELU (Hendrycks & Gimpel 2016, [arXiv 1606.08415](https://arxiv.org/abs/1606.08415), section 2):
#
# $$\begin{aligned}
# h &\leftarrow h + \operatorname{Attention}(\mathrm{LN}_1(h), \mathrm{LN}_1(h)), \\
# h &\leftarrow h + W_2\,\phi(W_1\,\mathrm{LN}_2(h))
# \end{aligned} \tag{10.5}$$
#
# **The causal mask.** Before the softmax, $-\infty$ is added to the score of every token that comes later, so that its share becomes 0:
#
# $$M_{ij} = \begin{cases} 0 & j \le i \\ -\infty & j > i \end{cases} \tag{10.6}$$
#
# After the last block a final layer normalisation. Written down, from the model's own weights:

# %%
# older versions of transformers nest it
text_model = getattr(parts.text_encoder, "text_model", parts.text_encoder)
causal = torch.full((32, 32), -torch.inf).triu(1)


def text_block(h, block, mask):
    weights = AttentionWeights.of(block.self_attn)
    h = h + attend(block.layer_norm1(h), None, weights, mask=mask).output
    wide = block.mlp.fc1(block.layer_norm2(h))  # (B, L, 512)
    return h + block.mlp.fc2(wide * torch.sigmoid(1.702 * wide))


# %%
@torch.no_grad()
def text_by_hand(ids, mask=causal, positions=True, final_norm=True):
    h = text_model.embeddings.token_embedding(ids)  # (B, L, 192)
    if positions:
        h = h + text_model.embeddings.position_embedding.weight
    for block in text_model.encoder.layers:
        h = text_block(h, block, mask)
    return text_model.final_layer_norm(h) if final_norm else h


# %% [markdown]
# **Check.** The 32 vectors equal those of the library's model. Leave out one piece, and they do not:

# %%
with torch.no_grad():
    theirs = parts.text_encoder(prompt_ids).last_hidden_state  # (1, 32, 192)
assert_close(text_by_hand(prompt_ids), theirs, rtol=1e-4, atol=1e-5)
print("equal, shape", tuple(theirs.shape))
for name, options in (
    ("no mask", {"mask": None}), ("no positions", {"positions": False}),
    ("no final norm", {"final_norm": False}),
):
    error = (text_by_hand(prompt_ids, **options) - theirs).norm() / theirs.norm()
    print(f"{name:13s} relative error {error:.2f}")

# %% [markdown]
# The last one is a known trap: some models are trained on the vectors *before* the final normalisation or on those of an earlier block ("clip skip"), and nothing in their shape tells.

# %% [markdown]
# ### What the mask does
#
# By (10.6) vector $i$ is computed from tokens $1..i$ alone. Check it: replace one word of the prompt at a time by "purple", and see which of the 32 vectors change.

# %%
changed = prompt_ids.repeat(length, 1)  # (length, 32), one row for each position
changed[range(length), range(length)] = ids["purple</w>"]
# (length - 1, 32)
moved = (text_by_hand(changed[1:]) - theirs).norm(dim=-1) / theirs.norm(dim=-1)
assert moved.tril(0).max() < 1e-4  # before the word's own position
fig, ax = figure(7.0, 3.4)
shown = ax.imshow(moved, vmin=0, vmax=1.5, cmap="viridis", aspect="auto")
ax.set_yticks(range(length - 1), tokens[1:length])
ax.set(
    xlabel="position", ylabel="replaced word",
    title="A word changes its own vector and all later ones",
)
ax.grid(False)
fig.colorbar(shown, label="relative change")
show(fig, alt=(
    "A table of 11 replaced words by 32 positions. Each row is zero left of the word's "
    "own position, largest at it, and above zero at all later positions up to the 32nd."
))

# %% [markdown]
# Three things follow.
#
# - The **start token's** vector is the same for every prompt. It cannot know a word.
# - The vector of a word knows what came before it and nothing of what comes after. At "red", the first adjective, the model has not read what is red.
# - The vectors of the **end tokens**, the first one and all of the padding, have seen the whole prompt.
#
# ### Why order matters at all
#
# Take the mask and the positions away. Then every token asks the same set of tokens, and a sum does not depend on the order of its terms. So exchanging two tokens exchanges their vectors and changes nothing else:
#
# $$f(\Pi h) = \Pi f(h) \quad\text{for every permutation } \Pi \text{ of the rows} \tag{10.7}$$
#
# The U-Net reads these vectors by attention, which is a sum over tokens again. So for it both prompts would be one and the same. Check it, in the order of ids, so that equal words meet:

# %%
def by_id(ids, vectors):
    return vectors[0, ids[0].argsort(stable=True)]


both = [
    torch.tensor([encode_text(text, vocabulary, max_length=32)]) for text in PROMPTS
]
for name, options in (
    ("neither", {"mask": None, "positions": False}),
    ("mask only", {"positions": False}),
    ("positions only", {"mask": None}), ("both", {}),
):
    a, b = (by_id(x, text_by_hand(x, **options)) for x in both)
    print(
        f"{name:14s} the two prompts' vectors differ by {(a - b).norm() / a.norm():.3f}"
    )

# %% [markdown]
# Without both, the star above the fish and the fish above the star are one prompt. The mask alone tells them apart, because "a fish after a star" has seen a star. The positions tell them apart more.
# Nothing here demands a causal mask. CLIP's authors kept it so that the text model could be started from a language model or trained as one besides, and left both for later
# (Radford et al. 2021, [arXiv 2103.00020](https://arxiv.org/abs/2103.00020), section 2.4). Stable Diffusion took the text model over as it was.

# %% [markdown]
# ## A pixel reads the prompt
#
# Inside the U-Net the readers are the places of a feature map, $N = 8 \times 8$ or $4 \times 4$ of them, and what is read are the 32 vectors: (10.3) with the picture as $x$ and the text as $c$. Find these layers, and let them remember what they see in one call:

# %%
layers = {
    name: module
    for name, module in parts.unet.named_modules()
    if getattr(module, "is_cross_attention", False)
}
seen = {}


def remember(name):
    return lambda module, args, kwargs, output: seen.update({
        name: (args[0], kwargs["encoder_hidden_states"], output)
    })


hooks = [
    module.register_forward_hook(remember(name), with_kwargs=True)
    for name, module in layers.items()
]
noisy = torch.randn(1, *parts.latent_shape(), generator=generator)
with torch.no_grad():
    parts.predict(noisy, torch.tensor([600]), theirs)
for hook in hooks:
    hook.remove()

# %% [markdown]
# `seen` holds what went into each layer and what came out. **Check**: compute the output by hand, with the layer's weights.

# %%
for name, (x, c, output) in seen.items():
    weights = AttentionWeights.of(layers[name])
    ours = attend(x, c, weights)
    assert_close(ours.output, output, rtol=1e-4, atol=1e-5)
    print(
        f"{name.removesuffix('.attn2'):52s} x {tuple(x.shape)}, c {tuple(c.shape)}, "
        f"{weights.heads} heads: equal"
    )

# %% [markdown]
# Only $Q$ comes from the picture. $K$ and $V$ depend on the prompt alone and stay the same in all steps.
# The result is added to the features at that place. A place that reads "red" gets the red value's direction added, in as much as it asked for it.

# %% [markdown]
# ## Where it looks
#
# The shares $P$ of (10.2) are numbers between 0 and 1 for each place and each token: a picture for every word. Average them over heads, layers and steps, enlarged to the picture's size:
#
# $$A_w(x, y) = \operatorname{mean}_{\text{layers, steps, heads}} \sum_{j \in w} P_{(x, y), j} \tag{10.8}$$
#
# $j \in w$ are the positions of word $w$; the shares of a word's tokens add up. `AttentionMaps` records them while the U-Net draws. It replaces each layer's *attention processor* by one that first reads the shares and then calls the old one, so the picture does not change.
# Of a guided batch it takes the conditional half.

# %%
from diffusion_course import AttentionMaps

with AttentionMaps(parts, PROMPTS, keep=("step",)) as maps:
    recorded = text_to_image(parts, PROMPTS, generator=make_generator(2))
assert_close(
    recorded, text_to_image(parts, PROMPTS, generator=make_generator(2)), rtol=0,
    atol=1e-5,
)
print(
    f"{maps.steps} steps; layers at", sorted(set(maps.layers.values())),
    "; maps of", maps.picture_size,
)


# %% [markdown]
# White is where a word is read most, black where it is not read at all. First row: all seven layers. Then those at $4 \times 4$ and those at $8 \times 8$, on the way down and on the way up.

# %%
def grey(word_map):
    return (word_map / word_map.amax() * 2 - 1).expand(3, -1, -1)


# 0 and 31: the start token, the last end token
shown_words = ["red", "star", "above", "blue", "fish", "night", 0, 31]
chosen = {
    "all layers": "",
    "4 x 4, mid": "mid",
    "4 x 4, up": "up_blocks.0",
    "8 x 8, down": "down_blocks.1",
    "8 x 8, up": "up_blocks.1",
}
rows = [
    torch.stack([
        recorded[0], *[grey(maps.of(word, layers=part)) for word in shown_words]
    ])
    for part in chosen.values()
]

# %%
columns = ["picture", *shown_words[:-2], "start", "last end"]
fig = plotting.image_strip(
    rows, column_labels=columns, row_labels=list(chosen),
    title="Where each word is read, by layer",
)
show(fig, alt=(
    "Five rows of layers by eight tokens. In the last row, 8 x 8 on the way up, "
    "the maps of red and star are bright on the red thing, those of blue and "
    "fish on the blue thing, that of above around the lower thing, and those of "
    "night and of the end tokens everywhere around both. At 4 x 4 on the way up, "
    "red and star are bright in the upper half. The other rows are coarse patches."
))

# %% [markdown]
# The layers do different work. On the way up at $8 \times 8$, where details are drawn, the words are read where their things are, and the background reads "night", the start and the end tokens. At $4 \times 4$ on the way up, the words of the star belong to the upper half of the picture: there it is decided which thing goes where.
#
# **Are these maps right?** Test them where the answer is known. Sixteen prompts with one thing left of another: the place that reads a word of the first thing most should lie further left than the place that reads the second's.
# Take the mean horizontal position of the tenth of the pixels with the largest share.

# %%
from diffusion_course import encode_prompt, load_pretrained
from diffusion_course.datasets.scenes import parse_caption
from diffusion_course.measures import faithful, read_scenes

judge = load_pretrained("judge")
KINDS = ["star", "heart", "moon", "fish", "house", "tree", "boat", "flower"]
pairs = [(KINDS[i % 8], KINDS[(i + 1 + i // 8) % 8]) for i in range(16)]
beside = [
    f"a large red {a} to the left of a large blue {b} on white paper" for a, b in pairs
]


def column_of(word_map):
    brightest = word_map.flatten().topk(word_map.numel() // 10).indices
    return brightest.remainder(word_map.shape[1]).double().mean()


def share_in_order(recorder, words, part):
    columns = [
        [column_of(recorder.of(word, picture=i, layers=part)) for word in words[i]]
        for i in range(16)
    ]
    return sum((a < b).item() for a, b in columns) / 16


# %% tags=["nbval-ignore-output"]
with (
    AttentionMaps(parts, beside) as cond_maps,
    AttentionMaps(parts, beside, half="unconditional") as uncond_maps,
):
    text_to_image(parts, beside, num_inference_steps=10, generator=make_generator(3))
for what, words in (
    ("names of the things", pairs), ("colours", [("red", "blue")] * 16)
):
    for name, chosen_part in (("all layers", ""), ("8 x 8, up", "up_blocks.1")):
        right = [
            share_in_order(recorder, words, chosen_part)
            for recorder in (cond_maps, uncond_maps)
        ]
        print(
            f"{what:19s} {name:10s} in the right order: {right[0]:.2f} of the "
            f"pictures; in the unconditional half: {right[1]:.2f}"
        )

# %% [markdown]
# The unconditional half has read the empty prompt. At the position of a word it has an end token, and its maps know nothing of the word.
#
# ### Who knows left from right?
#
# Look at two prompts that differ in one word. By (10.6) everything before that word has the same vectors in both:

# %%
LEFT, RIGHT = (
    f"a large red star {side} of a large blue fish on white paper"
    for side in ("left", "right")
)
a, b = encode_prompt(parts, [LEFT, RIGHT])  # (32, 192) each
differ = (a - b).norm(dim=-1) / a.norm(dim=-1)
side_tokens = [
    vocabulary.tokens[i].removesuffix("</w>") for i in encode_text(LEFT, vocabulary)
]
print(
    ", ".join(
        f"{token} {x:.2f}"
        for token, x in zip(side_tokens[1:-1], differ[1:].tolist(), strict=False)
    )
)
assert differ[:5].max() < 1e-4  # start, a, large, red, star

# %% [markdown]
# So "star" cannot say where the star goes. Only the words after "left" can, and the U-Net has to conclude: the fish is on the right, so the star is on the left.
#
# It does not learn this by itself, at least not soon. After 14,000 steps this miniature drew nearly every colour and background as asked, and two things about as often in the wrong order as in the right one (the model card has the shares).
# Two changes of the training mended it (`tools/places.py`):
#
# - The text model learned to *mark* the words said last: to add a fixed vector to them, one for left, right, above and below.
# - Two heads of each layer were taught where to look. For a place on one side, let $O$ be the positions of its own thing's words and $R$ those of the other's, with the scores $s_j = q \cdot k_j / \sqrt d$. The extra loss is a cross-entropy:
#
# $$L_{\text{place}} = -\log \frac{\sum_{j \in O} e^{s_j}}{\sum_{j \in O \cup R} e^{s_j}} \tag{10.9}$$
#
# Measure what came of it. Sixteen pairs of prompts, the same noise for both of a pair: do the two things change places with the word?

# %% tags=["nbval-ignore-output"]
turned = [text.replace("to the left of", "to the right of") for text in beside]
seats = torch.randn(16, *parts.latent_shape(), generator=make_generator(6))
for texts in (beside, turned):
    # (16, 4): kind and colour, left and right
    asked = torch.stack([parse_caption(text) for text in texts])[:, [2, 3, 6, 7]]
    read = read_scenes(
        judge, text_to_image(parts, texts, latents=seats, num_inference_steps=10)
    )[:, [2, 3, 6, 7]]
    as_asked, mirrored = (
        (read == way).all(1).double().mean() for way in (asked, asked.roll(2, 1))
    )
    print(
        f"{texts[0]!r}: in the order asked {as_asked:.2f}, the other way "
        f"round {mirrored:.2f}"
    )

# %% [markdown]
# Large models have the same difficulty: Gokhale et al. 2022 ([arXiv 2212.10015](https://arxiv.org/abs/2212.10015)) asked several, Stable Diffusion among them, for two objects and a relation,
# and found them "severely limited" in both. So judge pictures by the relation too, not only by the things.
#
# **Task.** Move through the steps. At which step does the map of "star" become a compact patch, and is the star visible in the estimate of $x_0$ by then?

# %%
from diffusion_course import Explorer, decode_latents

estimates = []
text_to_image(
    parts, PROMPTS, generator=make_generator(2),
    callback=lambda state: estimates.append(decode_latents(parts, state.x0_pred)),
)


def at_step(step, word):
    picture = estimates[step][:1]
    word_map = maps.of(word, step=step, layers="up_blocks.1")
    fig = plotting.image_strip(
        torch.cat([picture, grey(word_map)[None]]),
        column_labels=["estimate of x_0", word],
        title=f"Step {step + 1} of {maps.steps}", scale=1.8,
    )
    return fig, (
        f"Step {step + 1}: the estimated picture, and the map of {word!r}, "
        f"between {word_map.min():.3f} and {word_map.max():.3f}."
    )


Explorer(at_step, step=(0, 19), word=["star", "fish", "red", "blue", "above", "night"])

# %% [markdown]
# ## Which positions does it read?
#
# `mass()` is the share of all attention that each of the 32 positions gets.

# %% tags=["nbval-ignore-output"]
mass = maps.mass()
groups = {
    "start": mass[0],
    "words": mass[1:length].sum(),
    "first end": mass[length],
    "padding": mass[length + 1 :].sum(),
}
print(", ".join(f"{name} {share.item():.2f}" for name, share in groups.items()))
miss = abs(groups["words"].item() - my_guess)
print(
    f"the words: {groups['words']:.2f}; you guessed {my_guess:.2f}, "
    f"{'close' if miss < 0.1 else 'off by ' + format(miss, '.2f')}"
)
fig = plotting.lines(
    torch.arange(32), {"share": mass, "even shares": 1 / 32}, xlabel="position",
    ylabel="share of attention", title="Attention over the positions of a prompt",
)
show(fig, alt=(
    "The share of attention at each of the 32 positions of the prompt, "
    "with a dashed line at 1/32."
))

# %% [markdown]
# A share is not yet a use. To find out what the picture *needs*, take vectors away: replace them by those that the empty prompt has at the same positions, draw, and let the judge count.
# Twelve prompts with two things each, 10 steps. There are ten attributes: the layout, the background, and four for each thing.

# %%
asked = sample_scenes(12, generator=make_generator(4), split="train", things=2)
asked_texts = captions(asked, generator=make_generator(4), complete=True)
noise = torch.randn(12, *parts.latent_shape(), generator=make_generator(5))


def how_right(images):
    right = faithful(read_scenes(judge, images), asked).double()
    return (
        f"everything right in {right.all(1).double().mean():.2f} of the pictures, "
        f"{right.mean():.2f} of the attributes"
    )


# %%
# (12, 32)
all_ids = torch.tensor([
    encode_text(text, vocabulary, max_length=32) for text in asked_texts
])
is_end = all_ids == ids["<|endoftext|>"]
first_end = is_end & (is_end.cumsum(1) == 1)
start = torch.arange(32).expand(12, 32) == 0
keep = {
    "everything": ~is_end | is_end,
    "words": ~is_end & ~start,
    "first end token": first_end,
    "all end tokens": is_end,
    "words and first end": ~is_end & ~start | first_end,
    "start": start,
}
cond, empty = encode_prompt(parts, asked_texts), encode_prompt(parts, "")

# %% tags=["nbval-ignore-output"]
for name, mask in keep.items():
    images = text_to_image(
        parts, torch.where(mask[..., None], cond, empty),
        latents=noise, num_inference_steps=10,
    )
    print(f"kept: {name:20s} {how_right(images)}")

# %% [markdown]
# Read the table against the attention above. Where a row is right about as often as "everything", the vectors that were taken away were not needed, however much attention they get. Where a row is near 0, they were.
#
# By (10.6) the end tokens have read the whole prompt, so a U-Net could live on them alone. This one does not: it learned to read the words.
# The start token alone is the empty prompt, and its row is what chance gives.

# %% [markdown]
# ## Where people go wrong
#
# ### The end of a long prompt is not read
#
# The tokenizer cuts what does not fit and says nothing.

# %%
long_prompt = (
    "masterpiece, best quality, highly detailed, a large red star above a small "
    "blue fish at night"
)
cut = tokenizer([long_prompt], padding="max_length", truncation=True)["input_ids"][0]
print(
    f"{len(tokenizer(long_prompt, verbose=False)['input_ids'])} tokens; "
    f"the model reads: {tokenizer.decode(cut, skip_special_tokens=True)!r}"
)

# %% [markdown]
# Words like "masterpiece" are not in the vocabulary, take many tokens, and push what you wanted out at the end. `encode_prompt` warns and names what is not read; diffusers' pipeline logs a warning.
# In a loop of your own, compare the number of tokens with `tokenizer.model_max_length`.

# %%
import warnings

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    encode_prompt(parts, long_prompt)
print(caught[0].message)

# %% [markdown]
# ### The padding is left out
#
# Without `padding="max_length"` a prompt of 11 words has 13 vectors instead of 32. The U-Net takes any number: the shares of (10.2) add up to 1 over whatever there is. But it was trained with 32.
# Or it is padded with another token. Stable Diffusion 1 pads with the end token; the tokenizer of Stable Diffusion 2 pads with id 0, which is the exclamation mark,
# and users found the other padding to draw other pictures ([diffusers#2201](https://github.com/huggingface/diffusers/issues/2201)). Neither is right in itself. It has to be the one of the training. Measured below, together with the next ones.

# %% [markdown]
# ### `attention_head_dim` is the number of heads
#
# `UNet2DConditionModel` has a setting called `attention_head_dim`. Its documentation says "the dimension of the attention heads". Look at what the layers do with it:

# %%
name, (x, c, output) = next(iter(seen.items()))
print(
    "attention_head_dim =", parts.unet.config.attention_head_dim,
    "; channels", x.shape[-1], "; heads", layers[name].heads,
)

# %% [markdown]
# It is the *number* of heads, and has stayed so because tens of thousands of configurations on the hub rely on it ([diffusers#2011](https://github.com/huggingface/diffusers/issues/2011), and a comment in the code).
# If you build the layer yourself with that many channels *per head*, all weights fit: their shapes do not depend on the number of heads.

# %%
from dataclasses import replace

right = AttentionWeights.of(layers[name])
for heads in (right.heads, x.shape[-1] // right.heads, 1):
    wrong = attend(x, c, replace(right, heads=heads)).output
    print(
        f"{heads:3d} heads: relative error of the layer "
        f"{(wrong - output).norm() / output.norm():.2f}"
    )

# %% [markdown]
# ### Three wrong softmaxes
#
# To see the damage on pictures, a processor that computes the shares in another way, in all cross-attention layers:

# %%
class Processor:
    def __init__(self, share_of_scores, heads_of=lambda attn: attn.heads):
        self.share_of_scores, self.heads_of = share_of_scores, heads_of

    def __call__(
        self, attn, x, encoder_hidden_states=None, attention_mask=None, temb=None
    ):
        heads, c = self.heads_of(attn), encoder_hidden_states
        q = split_heads(attn.to_q(x), heads)
        k = split_heads(attn.to_k(c), heads)
        v = split_heads(attn.to_v(c), heads)
        mixed = self.share_of_scores(q @ k.mT, q.shape[-1]) @ v
        return attn.to_out[0](mixed.transpose(1, 2).flatten(2))


def right_share(scores, d):
    return (scores / d**0.5).softmax(-1)


# %%
def with_processor(processor, words):
    old = {module: module.processor for module in layers.values()}
    try:
        for module in old:
            module.set_processor(processor)
        return text_to_image(parts, words, latents=noise, num_inference_steps=10)
    finally:
        for module, processor in old.items():
            module.set_processor(processor)


def per_head(attn):
    return attn.to_q.out_features // attn.heads


# %% tags=["nbval-ignore-output"]
with torch.no_grad():
    # padded with id 0
    short = parts.text_encoder(
        torch.where(is_end & ~first_end, 0, all_ids)
    ).last_hidden_state
right_processor = Processor(right_share)
gallery = {
    "right": with_processor(right_processor, cond),
    "padded with id 0": with_processor(right_processor, short),
    "no sqrt: / 1": with_processor(Processor(lambda s, d: s.softmax(-1)), cond),
    "no sqrt: / d": with_processor(Processor(lambda s, d: (s / d).softmax(-1)), cond),
    "softmax over pixels": with_processor(
        Processor(lambda s, d: (s / d**0.5).softmax(-2)), cond
    ),
    "wrong heads": with_processor(Processor(right_share, per_head), cond),
}

# %% tags=["nbval-ignore-output"]
for name, images in gallery.items():
    print(f"{name:20s} {how_right(images)}")
fig = plotting.image_strip(
    [x[:6] for x in gallery.values()], row_labels=list(gallery),
    title="One mistake in each row, the same noise and prompts",
)
show(fig, alt=(
    "Six rows of six pictures: the right ones, and those of five mistakes in the "
    "attention layers or the padding."
))

# %% [markdown]
# None of these mistakes raises an error, and each draws pictures. Two of them are the same formula with one symbol changed, one is a setting, one is the padding.
# A picture does not tell which of them you have made. An equality with a known implementation, on random numbers, does: every check of this lesson ended in `assert_close`.

# %% [markdown]
# ## Your turn
#
# Each check runs your function on several cases and names the mistake if it is a known one. `hint("10.1")` helps in steps, `solution("10.1")` comes after a try.

# %%
from diffusion_course import check, exercise

exercise("10.1")

# %%
def merge_ids(ids, pair, new):
    merged = []
    ...
    return ...


check("10.1", merge_ids)

# %%
exercise("10.2")

# %%
def tokenize(ids, merges):
    ids = list(ids)
    pairs = zip(ids[:-1], ids[1:], strict=True)
    known = [merges.index(pair) for pair in pairs if pair in merges]
    ...
    return ...


check("10.2", tokenize)

# %%
exercise("10.3")

# %%
def causal_shares(scores):
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    return ...


check("10.3", causal_shares)

# %%
exercise("10.4")

# %%
def read_tokens(queries, keys, values):
    scores = queries @ keys.transpose(-1, -2)   # (B, N, L)
    return ...


check("10.4", read_tokens)

# %%
exercise("10.5")

# %%
def multi_head(queries, keys, values, heads):
    def split(x):                                   # (B, N, C) -> (B, heads, N, d)
        return ...


check("10.5", multi_head)

# %%
exercise("10.6")

# %%
def word_map(shares, positions, height):
    cond = ...
    return ...


check("10.6", word_map)

# %% [markdown]
# ## What you now have
#
# | symbol | code | equation |
# |---|---|---|
# | words, bytes | `split_words`, `word_symbols` | |
# | merges | `learn_merges`, `train_vocabulary` | (10.1) |
# | tokens, ids | `bpe`, `encode_text`, `decode_text` | |
# | $P$ | `attention_probabilities(queries, keys, mask)` | (10.2), (10.6) |
# | $\operatorname{Attention}(x, c)$ | `attend(x, c, weights)`, `AttentionWeights.of(layer)` | (10.3) |
# | the 32 vectors of a prompt | `encode_prompt(parts, prompts)` | (10.4), (10.5) |
# | $A_w$ | `AttentionMaps(parts, prompts)`, `.of(word)`, `.mass()` | (10.8) |
#
# You have both halves of a text-to-image model: the latents of lesson 09, and now the words. Lesson 11 puts them together and measures how often the picture is what the words asked for.
#
# To read next:
#
# - Sennrich, Haddow & Birch 2015, https://arxiv.org/abs/1508.07909: byte-pair encoding for words.
# - Hertz et al. 2022, https://arxiv.org/abs/2208.01626: pictures edited by changing the attention maps.
# - Tang et al. 2022, https://arxiv.org/abs/2210.04885: attention maps of Stable Diffusion, measured against segmentations.
