"""Byte-pair encoding by hand against transformers' CLIPTokenizer and the tokenizers library's trainer."""

import json
import random
import sys
import unicodedata
import warnings
from collections import Counter

import pytest
import torch

from diffusion_course.latent import (
    Vocabulary,
    bpe,
    byte_alphabet,
    decode_text,
    encode_text,
    learn_merges,
    load_vocabulary,
    merge_pair,
    split_words,
    train_vocabulary,
    word_symbols,
)
from diffusion_course.latent.tokenization import END, START

NOUNS = "ball square triangle star heart moon fish house tree mushroom boat flower umbrella cat".split()
COLOURS = "red orange yellow green blue purple pink brown black white".split()
PLACES = ["on a meadow", "at night", "on the sea", "in the snow", "to the left of a pink heart", "above a dotted house"]


def random_captions(n, seed=0):
    r = random.Random(seed)
    return [
        f"{r.choice(['a', 'one', 'A picture of a'])} {r.choice(['small', 'large', ''])} {r.choice(['striped', 'dotted', ''])} "
        f"{r.choice(COLOURS)} {r.choice(NOUNS)} {r.choice(PLACES)}{r.choice(['', '.', ', please'])}"
        for _ in range(n)
    ]


HOSTILE = [
    "", " ", "\n\t \u3000\xa0", "?", "a", "a" * 300, "the zeppelin's wheels aren't RED, they're blue-ish!?", "3 stars, 42 fish; 1/2 moon",
    "''s 't'll x'd 'S", "it’s", "Straße ÉCOLE e\u0301 ﬁ İstanbul ΣΟΦΟΣ ǅ", "звезда над морем", "一颗红色的星星", "赤い星", "نجمة حمراء", "तारा",
    "⭐️🐟 a star🌟 👩‍👩‍👧", "x²  Ⅷ ٣ ½", "\x00\x1c\x85\u200b\ufeff", "</w> a</w>", "<|endoftext|>", "a <|startoftext|> star<|endoftext|>fish",
    "<|ENDOFTEXT|>!!", "!!<|StartOfText|>??", "_under_score_", "#@£%", "a\u0000b", "\U0001f3fd", " ".join(["star"] * 1000),
    " ".join(f"wörd{i}" for i in range(1000)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizer")
    train_vocabulary(random_captions(500), folder)
    return folder


@pytest.fixture(scope="module")
def vocabulary(folder):
    return load_vocabulary(folder)


@pytest.fixture(scope="module")
def tokenizer(folder):
    from transformers import CLIPTokenizer

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)


def test_the_tokenizer_loads_as_stable_diffusion_needs_it(tokenizer, vocabulary):
    assert tokenizer.model_max_length == vocabulary.max_length == 32
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token, tokenizer.unk_token) == (START, END, END, END)
    assert tokenizer.eos_token_id == len(tokenizer) - 1 == len(vocabulary.ids) - 1  # the text model finds it by argmax or by id
    batch = tokenizer(["a red star", "", "x " * 1000], padding="max_length", truncation=True, return_tensors="pt")
    assert batch.input_ids.shape == (3, 32)
    assert batch.input_ids[:, 0].tolist() == [tokenizer.bos_token_id] * 3
    assert batch.input_ids[:, -1].tolist() == [tokenizer.eos_token_id] * 3


def test_transformers_says_nothing_while_it_loads(folder):
    import subprocess

    script = (
        f"from transformers import CLIPTokenizer; t = CLIPTokenizer.from_pretrained({str(folder)!r}); t('a star', padding=True)"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_every_word_of_the_captions_is_one_token(vocabulary):
    words = {word for caption in random_captions(500) for word in split_words(caption)}
    assert {len(bpe(word, vocabulary.ranks)) for word in words} == {1}
    assert len(vocabulary.ids) <= 1000


def test_every_byte_has_a_symbol_inside_and_at_the_end_of_a_word(vocabulary, tokenizer):
    assert len(set(byte_alphabet())) == 256
    assert not any(c.isspace() or unicodedata.category(c) == "Cc" for c in byte_alphabet())
    for symbol in byte_alphabet():
        assert {symbol, symbol + "</w>"} <= vocabulary.ids.keys()
    assert sorted(vocabulary.ids.values()) == list(range(len(vocabulary.ids)))
    assert tokenizer.get_vocab() == vocabulary.ids


@pytest.mark.parametrize("text", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_texts_are_encoded_and_decoded_as_by_transformers(text, vocabulary, tokenizer):
    ids = tokenizer(text)["input_ids"]
    assert encode_text(text, vocabulary) == ids
    assert decode_text(ids, vocabulary) == tokenizer.decode(ids, skip_special_tokens=True)
    assert encode_text(text, vocabulary, max_length=32) == tokenizer(text, padding="max_length", truncation=True)["input_ids"]


def test_a_thousand_captions_are_encoded_and_decoded_as_by_transformers(vocabulary, tokenizer):
    texts = random_captions(1000, seed=1)
    ids = tokenizer(texts)["input_ids"]
    assert [encode_text(text, vocabulary) for text in texts] == ids
    assert [decode_text(i, vocabulary) for i in ids] == tokenizer.batch_decode(ids, skip_special_tokens=True)


def test_random_strings_of_any_script_are_encoded_as_by_transformers(vocabulary, tokenizer):
    r = random.Random(2)
    blocks = [(0x20, 0x7F), (0x20, 0x250), (0x370, 0x530), (0x600, 0x700), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0x1F300, 0x1F6FF)]
    for _ in range(1000):
        low, high = r.choice(blocks)
        text = "".join(chr(r.randrange(low, high)) if r.random() < 0.8 else r.choice(" '\n.9as") for _ in range(r.randrange(40)))
        assert encode_text(text, vocabulary) == tokenizer(text)["input_ids"], ascii(text)


def test_words_never_seen_are_encoded_as_by_transformers(vocabulary, tokenizer):
    r = random.Random(3)
    for _ in range(1000):
        word = "".join(r.choice("aaeeiorsthlnstfgubmw") for _ in range(r.randrange(1, 30)))
        assert bpe(word, vocabulary.ranks) == tokenizer.tokenize(word), word


def test_ids_come_as_a_tensor_too(vocabulary):
    assert decode_text(torch.tensor(encode_text("a red star", vocabulary, max_length=32)), vocabulary) == "a red star"


def test_the_merges_are_those_of_the_tokenizers_library_where_counts_do_not_tie():
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    words = {"star": 1000, "start": 103, "tart": 11, "moon": 509, "mood": 53, "noon": 7}  # no two pairs equally frequent
    library = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    trainer = trainers.BpeTrainer(vocab_size=40, end_of_word_suffix="</w>", show_progress=False)
    library.train_from_iterator([" ".join([word] * n) for word, n in words.items()], trainer)
    theirs = [tuple(pair) for pair in json.loads(library.to_str())["model"]["merges"]]
    ours = learn_merges(words, len(theirs))
    counts = []
    for i in range(len(ours)):
        done = {w: word_symbols(w) for w in words}
        for pair in ours[:i]:
            done = {w: merge_pair(s, pair) for w, s in done.items()}
        pairs = Counter()
        for w, s in done.items():
            for pair in zip(s, s[1:], strict=False):
                pairs[pair] += words[w]
        counts.append(sorted(pairs.values(), reverse=True)[:2])
    tied = next((i for i, c in enumerate(counts) if len(c) == 2 and c[0] == c[1]), len(ours))
    assert ours[:tied] == theirs[:tied]
    assert tied >= 3


def test_the_first_merge_by_hand():
    assert learn_merges({"star": 3, "tar": 2, "at": 4}, 1) == [("a", "r</w>")]  # 5 against 5 of ("t", "a"), 4 of ("a", "t</w>")
    assert learn_merges({}, 5) == learn_merges({"a": 9}, 5) == []
    assert merge_pair(["a", "a", "a", "b", "a", "a"], ("a", "a")) == ["aa", "a", "b", "aa"]


def test_training_depends_on_the_captions_alone_not_on_their_order(tmp_path):
    captions = random_captions(200)
    one = train_vocabulary(captions, tmp_path / "one")
    two = train_vocabulary(captions[::-1], tmp_path / "two", max_length=32)
    assert one == two == load_vocabulary(tmp_path / "one")
    for name in ("vocab.json", "merges.txt", "tokenizer_config.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_small_vocabulary_still_encodes_everything(tmp_path):
    from transformers import CLIPTokenizer

    vocabulary = train_vocabulary(random_captions(50), tmp_path, vocab_size=520, max_length=16)
    assert (len(vocabulary.ids), len(vocabulary.ranks), vocabulary.max_length) == (520, 6, 16)
    tokenizer = CLIPTokenizer.from_pretrained(tmp_path)
    for text in (text for text in HOSTILE if len(text) < 100):
        assert encode_text(text, vocabulary) == tokenizer(text)["input_ids"]


def test_a_folder_saved_by_transformers_is_read(tmp_path, tokenizer, vocabulary):
    tokenizer.save_pretrained(tmp_path)
    assert not (tmp_path / "vocab.json").exists()
    assert load_vocabulary(tmp_path) == vocabulary


def test_wrong_input_is_named(tmp_path, vocabulary):
    with pytest.raises(TypeError, match="captions must be a list of strings, got str 'a star'"):
        train_vocabulary("a star", tmp_path)
    with pytest.raises(TypeError, match="captions must hold strings, got int 3 at index 1"):
        train_vocabulary(["a star", 3], tmp_path)
    with pytest.raises(ValueError, match="at least 514 .* got 300"):
        train_vocabulary(["a star"], tmp_path, vocab_size=300)
    with pytest.raises(ValueError, match="at least 3, .* got 2"):
        train_vocabulary(["a star"], tmp_path, max_length=2)
    with pytest.raises(TypeError, match=r"text must be one string, got list \['a star'\]"):
        encode_text(["a star"], vocabulary)
    with pytest.raises(ValueError, match="at least 2, .* got 1"):
        encode_text("a star", vocabulary, max_length=1)
    with pytest.raises(ValueError, match=f"vocabulary of {len(vocabulary.ids)} tokens, got 100000"):
        decode_text([1, 100000], vocabulary)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_or_damaged_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no tokenizer folder: .*tokenizer.json is missing"):
        load_vocabulary(tmp_path)
    train_vocabulary(["a star"], tmp_path)
    (tmp_path / "merges.txt").write_text("#version: 0.2\ns t a\n", encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        load_vocabulary(tmp_path)
    (tmp_path / "vocab.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="damaged"):
        load_vocabulary(tmp_path)


def test_a_vocabulary_maps_back():
    assert Vocabulary({"a": 0, "b": 1}, {}, 8).tokens == {0: "a", 1: "b"}
