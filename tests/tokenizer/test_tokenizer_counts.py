import json
import re
from collections import Counter

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from core.corpus.parts import split_inputs
from core.tokenizer import train_bpe
from core.tokenizer.counts import CountsInfo, count_texts, merge_counts, read_counts_info, train_on_counts
from core.tokenizer.train import count_pre_tokens

END = "<|endoftext|>"
PIECES = ["the", "then ", "thé", " ", "\n", "\r\n", "漢", "\x00", "12345", "'S", END, "<pad>", "x" * 40]
TEXTS = st.lists(st.lists(st.sampled_from(PIECES), min_size=1).map("".join), min_size=1, max_size=4)


def written(path, text):
    path.write_bytes(text.encode())
    return path


def rows(path):
    frame = pl.read_parquet(path)
    assert frame.schema == {"pre_token": pl.Binary, "count": pl.Int64}
    return frame.rows()


def counted(folder, name, text, special_tokens=(END,), pattern="gpt2", shard=None):
    paths = [written(folder / f"{name}.txt", text)]
    count_texts(paths, folder / name, special_tokens, pattern, engine="reference", shard=shard)
    return folder / name


@settings(deadline=None, derandomize=True, max_examples=25)
@given(texts=TEXTS)
@pytest.mark.parametrize("pattern", ["gpt2", "cl100k"])
@pytest.mark.parametrize("special_tokens", [[], [END, "<pad>"]])
def test_both_engines_count_what_the_regex_finds(tmp_path_factory, texts, pattern, special_tokens):
    folder = tmp_path_factory.mktemp("counts")
    paths = [written(folder / f"{place}.txt", text) for place, text in enumerate(texts)]
    expected = Counter()
    for text in texts:
        expected += count_pre_tokens([text], special_tokens, pattern)
    for engine in ("reference", "fast"):
        done = []
        info = count_texts(paths, folder / engine, special_tokens, pattern, done.append, engine=engine, threads=2)
        assert rows(folder / engine) == sorted((word.encode(), number) for word, number in expected.items())
        assert (info.num_pre_tokens, info.num_distinct) == (expected.total(), len(expected))
        assert info.num_bytes == done[-1] == sum(len(text.encode()) for text in texts)
    assert (folder / "fast").read_bytes() == (folder / "reference").read_bytes()
    assert (folder / "fast.json").read_bytes() == (folder / "reference.json").read_bytes()


def test_the_sidecar_says_how_the_text_was_cut(tmp_path):
    path = counted(tmp_path, "a", f"the the{END}x", [END], "cl100k")
    content = json.loads((tmp_path / "a.json").read_bytes())
    assert content.pop("sha256")
    assert content == {
        "pattern": "cl100k",
        "special_tokens": [END],
        "num_bytes": 21,
        "num_pre_tokens": 3,
        "num_distinct": 3,
        "shard": None,
    }
    assert isinstance(read_counts_info(path), CountsInfo)
    assert rows(path) == [(b" the", 1), (b"the", 1), (b"x", 1)]


@pytest.mark.parametrize("of", [1, 3, 5])
def test_counts_of_parts_add_up_to_those_of_the_whole(tmp_path, of):
    texts = [f"the {place} then{END}" * 20 + "théthé" for place in range(4)]
    paths = [written(tmp_path / f"{place}.txt", text) for place, text in enumerate(texts)]
    whole = count_texts(paths, tmp_path / "whole", [END])
    for number in range(of):
        part = split_inputs(paths, number, of, [END])
        engine = ("reference", "fast")[number % 2]
        shard = {"number": number, "of": of, "text": "t"}
        count_texts(part, tmp_path / f"part-{number}", [END], engine=engine, shard=shard)
    merged = merge_counts([tmp_path / f"part-{number}" for number in reversed(range(of))], tmp_path / "merged")
    assert merged == whole
    assert (tmp_path / "merged").read_bytes() == (tmp_path / "whole").read_bytes()


def test_an_empty_part_counts_nothing(tmp_path):
    info = count_texts([], tmp_path / "none", [END])
    assert (info.num_bytes, info.num_pre_tokens, info.num_distinct) == (0, 0, 0)
    some = counted(tmp_path, "some", "the the")
    assert merge_counts([tmp_path / "none", some], tmp_path / "all") == read_counts_info(some)


@pytest.mark.parametrize("engine", ["reference", "fast"])
@pytest.mark.parametrize("pattern", ["gpt2", "cl100k"])
def test_training_on_counts_is_training_on_the_text(tmp_path, engine, pattern):
    text = f"the then thé 12345 the\r\n{END} thethe aaaa aaa bbb" * 3
    path = written(tmp_path / "a.txt", text)
    counts = counted(tmp_path, "c", text, [END], pattern)
    calls = []
    vocab, merges, info = train_on_counts(counts, 275, engine=engine, on_merge=lambda *call: calls.append(call))
    assert (vocab, merges) == train_bpe(path, 275, [END], pattern=pattern, engine="reference")
    assert (info.special_tokens, info.pattern) == ([END], pattern)
    assert (len(merges), calls[-1]) == (18, (18, 18))


def test_a_vocabulary_too_small_for_the_counts_special_tokens_is_named(tmp_path):
    with pytest.raises(ValueError, match="vocab_size is 257: it must be at least 258"):
        train_on_counts(counted(tmp_path, "c", "the", [END, "<pad>"]), 257)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"pattern": "cl100k"}, "b: counted with pattern 'cl100k', but "),
        ({"special_tokens": ()}, "b: counted with special_tokens [], but "),
    ],
)
def test_counts_of_text_cut_in_another_way_are_refused(tmp_path, other, message):
    paths = [counted(tmp_path, "a", "the"), counted(tmp_path, "b", "then", **other)]
    with pytest.raises(ValueError, match=re.escape(message)):
        merge_counts(paths, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_parts_without_the_others_or_twice_are_refused(tmp_path):
    parts = [
        counted(tmp_path, f"p{number}", "the", shard={"number": number, "of": 3, "text": "t"}) for number in range(3)
    ]
    again = counted(tmp_path, "again", "the", shard={"number": 1, "of": 3, "text": "t"})
    other = counted(tmp_path, "other", "the")
    with pytest.raises(ValueError, match="of its text these parts are missing: 0/3, 2/3"):
        merge_counts([parts[1], other], tmp_path / "c")
    with pytest.raises(ValueError, match=re.escape(f"again: part 1/3 of a text that {parts[1]} holds already")):
        merge_counts([*parts, again], tmp_path / "c")
    link = tmp_path / "link"
    link.symlink_to(other)
    for first, second in ((other, other), (other, link)):
        with pytest.raises(ValueError, match=re.escape(f"{second}: named twice")):
            merge_counts([first, second], tmp_path / "c")
    with pytest.raises(ValueError, match=r"p1: of its text these parts are missing: 0/3, 2/3 \(merge-counts"):
        train_on_counts(parts[1], 300)
    assert rows(merge_counts([*parts, other], tmp_path / "c") and tmp_path / "c") == [(b"the", 4)]


def test_what_is_merged_is_not_merged_into(tmp_path):
    paths = [counted(tmp_path, "a", "the"), counted(tmp_path, "b", "the")]
    with pytest.raises(ValueError, match="a: to be read and to be written"):
        merge_counts(paths, paths[0])
    with pytest.raises(ValueError, match="no files of counts were given"):
        merge_counts([], tmp_path / "c")


def test_what_is_no_file_of_counts_is_named(tmp_path):
    path = counted(tmp_path, "a", "the")
    (tmp_path / "b").write_bytes(path.read_bytes()[:-1])
    (tmp_path / "b.json").write_bytes((tmp_path / "a.json").read_bytes())
    with pytest.raises(ValueError, match="b: not the file that its sidecar describes"):
        train_on_counts(tmp_path / "b", 300)
    (tmp_path / "b.json").write_text("{}")
    with pytest.raises(ValueError, match=r"b\.json: not the sidecar of a file of counts"):
        train_on_counts(tmp_path / "b", 300)
    with pytest.raises(ValueError, match=r"nosuch: no such file"):
        merge_counts([tmp_path / "nosuch"], tmp_path / "c")
    (tmp_path / "b.json").unlink()
    with pytest.raises(ValueError, match=r"b: not a file of counts: it has no b\.json beside it"):
        merge_counts([tmp_path / "b"], tmp_path / "c")


def test_bad_specials_patterns_and_texts_are_refused(tmp_path):
    path = written(tmp_path / "a.txt", "the")
    for arguments, message in (
        (([path], tmp_path / "c", [""]), "special token ''"),
        (([path], tmp_path / "c", [], "gpt9"), "pattern is 'gpt9'"),
        (([tmp_path / "absent"], tmp_path / "c", []), "absent: no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            count_texts(*arguments)
    assert not (tmp_path / "c").exists()
