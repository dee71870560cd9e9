import gzip
import json
import os
import re
from collections import Counter
from pathlib import Path

import pytest

from core.corpus.dataset import (
    dataset_folder,
    open_dataset,
    prepare_files,
    prepare_stories,
    read_documents,
)
from core.corpus.stories import floor_nats, grammar_id
from core.tokenizer import Tokenizer, train_bpe

END = "<|endoftext|>"
DOCUMENTS = [f"Tale {number}:\nthe {number * number} hats, the café.\n" for number in range(90)]
BYTES_ONLY = Tokenizer({value: bytes([value]) for value in range(256)}, [], [END])


@pytest.fixture
def many(tmp_path):
    return written(tmp_path / "many.txt", END.join(DOCUMENTS))


def written(path, text):
    path.write_bytes(text.encode())
    return path


def text_of(dataset, part):
    return dataset.tokenizer.decode(getattr(dataset, part).tokens.tolist())


def documents_of(dataset, part):
    text = text_of(dataset, part)
    assert text.endswith(END)
    return text.split(END)[:-1]


def state(folder):
    return {str(path.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# --- the split ---


@pytest.mark.parametrize(("fraction", "period"), [(0.05, 20), (0.1, 10), (0.3, 3), (0.5, 2)])
def test_every_nth_document_goes_to_validation(tmp_path, many, fraction, period):
    dataset, new = prepare_files(tmp_path / "set", [many], valid_fraction=fraction, vocab_size=280)
    assert new
    assert documents_of(dataset, "valid") == DOCUMENTS[period - 1 :: period]
    assert Counter(documents_of(dataset, "train")) + Counter(documents_of(dataset, "valid")) == Counter(DOCUMENTS)
    rest = [document for place, document in enumerate(DOCUMENTS) if place % period != period - 1]
    assert documents_of(dataset, "train") == rest


def test_documents_of_several_files_are_dealt_out_together(tmp_path):
    first = written(tmp_path / "1.txt", END.join(DOCUMENTS[:31]))
    second = tmp_path / "2.txt.gz"
    second.write_bytes(gzip.compress((END.join(DOCUMENTS[31:]) + END + "\n").encode()))
    dataset, _ = prepare_files(tmp_path / "set", [first, second], valid_fraction=0.1, vocab_size=280)
    assert documents_of(dataset, "valid") == DOCUMENTS[9::10]
    assert dataset.train.info.num_documents == 81
    assert dataset.valid.info.num_documents == 9


@pytest.mark.parametrize("num_documents", [1, 2, 39])
def test_too_few_documents_are_split_near_the_end(tmp_path, num_documents):
    text = END.join(DOCUMENTS[:num_documents]) + "\nlast words\n"
    dataset, _ = prepare_files(tmp_path / "set", [written(tmp_path / "a.txt", text)], vocab_size=270)
    train, valid = text_of(dataset, "train"), text_of(dataset, "valid")
    assert train + valid == text
    assert train[-1].isspace()
    assert len(valid) >= 0.05 * len(text)


def test_a_line_without_end_is_split_at_a_space(tmp_path):
    text = "word " * 400
    dataset, _ = prepare_files(tmp_path / "set", [written(tmp_path / "a.txt", text)], vocab_size=260)
    assert (text_of(dataset, "train"), text_of(dataset, "valid")) == ("word " * 380, "word " * 20)


def test_a_text_without_breaks_is_split_where_it_must(tmp_path):
    text = "漢" * 100
    dataset, _ = prepare_files(tmp_path / "set", [written(tmp_path / "a.txt", text)], vocab_size=260)
    assert (text_of(dataset, "train"), text_of(dataset, "valid")) == ("漢" * 95, "漢" * 5)


def test_a_line_end_far_from_the_place_does_not_move_the_split(tmp_path):
    """A title and one long paragraph: the nearest space is the place, not the only line end."""
    text = "The title\n" + "word " * 400
    dataset, _ = prepare_files(tmp_path / "set", [written(tmp_path / "a.txt", text)], vocab_size=260)
    assert text_of(dataset, "train") + text_of(dataset, "valid") == text
    assert dataset.valid.info.num_bytes < 0.1 * len(text)


def test_given_validation_files_are_used_as_they_are(tmp_path, many):
    valid = written(tmp_path / "valid.txt", f"the one{END}the other")
    dataset, _ = prepare_files(tmp_path / "set", [many], valid_files=[valid], vocab_size=280)
    assert text_of(dataset, "train") == END.join(DOCUMENTS)
    assert text_of(dataset, "valid") == f"the one{END}the other"
    assert dataset.recipe["valid_fraction"] is None
    assert not (tmp_path / "set" / "train.txt").exists()


# --- the tokenizer ---


def test_the_tokenizer_is_trained_on_the_training_part(tmp_path, many):
    dataset, _ = prepare_files(tmp_path / "set", [many], vocab_size=290)
    expected = Tokenizer(*train_bpe(tmp_path / "set" / "train.txt", 290, [END]), [END])
    assert dataset.tokenizer.tokenizer_id == expected.tokenizer_id
    assert dataset.tokenizer.vocab_size == 290
    assert dataset.train.tokens.tolist() == expected.encode(text_of(dataset, "train"))


def test_a_given_tokenizer_is_used(tmp_path, many):
    other = written(tmp_path / "other.txt", "hats hats hats tale")
    tokenizer = Tokenizer(*train_bpe(other, 263, [END]), [END])
    dataset, _ = prepare_files(tmp_path / "set", [many], vocab_size=290, tokenizer=tokenizer)
    assert dataset.tokenizer.tokenizer_id == tokenizer.tokenizer_id
    assert dataset.train.tokens.tolist() == tokenizer.encode(text_of(dataset, "train"))
    assert dataset.recipe["vocab_size"] is None
    assert dataset.recipe["tokenizer_id"] == tokenizer.tokenizer_id


def test_a_given_tokenizer_may_have_a_special_token_of_one_byte(tmp_path, many):
    tokenizer = Tokenizer(*train_bpe(many, 280, [END, "\n"]), [END, "\n"])
    dataset, _ = prepare_files(tmp_path / "set", [many], tokenizer=tokenizer)
    assert Counter(documents_of(dataset, "train")) + Counter(documents_of(dataset, "valid")) == Counter(DOCUMENTS)


# --- again ---


def test_the_second_time_nothing_is_made(tmp_path, many):
    folder = tmp_path / "set"
    dataset, _ = prepare_files(folder, [many], vocab_size=280)
    before = state(folder)
    stages = []
    again, new = prepare_files(folder, [many], vocab_size=280, progress=lambda *call: stages.append(call))
    assert not new
    assert stages == []
    assert state(folder) == before
    assert again.dataset_id == dataset.dataset_id == open_dataset(folder).dataset_id
    assert {"dataset.json", "train.bin", "train.bin.json", "valid.bin", "tokenizer/vocab.json"} <= set(before)


@pytest.mark.parametrize("change", [{"vocab_size": 270}, {"valid_fraction": 0.1}, {"tokenizer": BYTES_ONLY}])
def test_another_recipe_is_refused_or_replaces(tmp_path, many, change):
    folder = tmp_path / "set"
    dataset, _ = prepare_files(folder, [many], vocab_size=280)
    before = state(folder)
    with pytest.raises(ValueError, match="made from other text or in another way stands there"):
        prepare_files(folder, [many], **{"vocab_size": 280, **change})
    assert state(folder) == before
    changed, new = prepare_files(folder, [many], replace=True, **{"vocab_size": 280, **change})
    assert new
    assert changed.dataset_id != dataset.dataset_id
    assert changed.recipe != dataset.recipe
    assert Counter(documents_of(changed, "train")) + Counter(documents_of(changed, "valid")) == Counter(DOCUMENTS)
    back, new = prepare_files(folder, [many], vocab_size=280, replace=True)
    assert new
    assert back.dataset_id == dataset.dataset_id


def test_a_changed_file_is_made_anew(tmp_path, many):
    folder = tmp_path / "set"
    prepare_files(folder, [many], vocab_size=280)
    size = many.stat().st_size
    many.write_bytes(many.read_bytes().replace(b"Tale", b"Tail"))
    os.utime(many, ns=(1, 1))
    assert many.stat().st_size == size
    dataset, new = prepare_files(folder, [many], vocab_size=280, replace=True)
    assert new
    assert text_of(dataset, "train").startswith("Tail 0")


def test_a_failed_preparation_leaves_what_stood(tmp_path, many):
    folder = tmp_path / "sets" / "mine"
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"\xff")
    failures = [
        ({"valid_files": [bad], "vocab_size": 280}, f"{bad}: not UTF-8 at byte 0"),
        ({"vocab_size": 100}, "vocab_size is 100"),
    ]
    for options, message in failures:
        with pytest.raises(ValueError, match=re.escape(message)):
            prepare_files(folder, [many], **options)
        assert list(folder.parent.iterdir()) == []
    prepare_files(folder, [many], vocab_size=280)
    before = state(folder)
    for options, message in failures:
        with pytest.raises(ValueError, match=re.escape(message)):
            prepare_files(folder, [many], replace=True, **options)
        assert [path.name for path in folder.parent.iterdir()] == ["mine"]
        assert state(folder) == before


def test_progress_tells_every_stage_to_its_end(tmp_path, many):
    calls = []
    dataset, _ = prepare_files(tmp_path / "set", [many], vocab_size=280, progress=lambda *call: calls.append(call))
    assert list(dict.fromkeys(stage for stage, _, _ in calls)) == ["merges", "encode train", "encode valid"]
    last = {stage: (done, total) for stage, done, total in calls}
    train, valid = dataset.train.info.num_bytes, dataset.valid.info.num_bytes
    assert last == {"merges": (23, 23), "encode train": (train, train), "encode valid": (valid, valid)}


# --- stories ---


def test_stories_are_made_once(tmp_path):
    folder = dataset_folder(tmp_path, "tales")
    assert folder == tmp_path / "datasets" / "tales"
    dataset, new = prepare_stories(folder, train_bytes=30_000, valid_bytes=5_000, vocab_size=300, seed=3)
    assert new
    assert dataset.is_stories
    assert dataset.recipe["grammar_id"] == grammar_id()
    assert (dataset.train.info.num_bytes >= 30_000, dataset.valid.info.num_bytes >= 5_000) == (True, True)
    train, valid = documents_of(dataset, "train"), documents_of(dataset, "valid")
    assert len(floor_nats(train + valid)) == dataset.train.info.num_documents + dataset.valid.info.num_documents
    assert not set(train) & set(valid)
    before = state(folder)
    again, new = prepare_stories(folder, train_bytes=30_000, valid_bytes=5_000, vocab_size=300, seed=3)
    assert not new
    assert state(folder) == before
    assert again.dataset_id == dataset.dataset_id
    other, new = prepare_stories(folder, train_bytes=30_000, valid_bytes=5_000, vocab_size=300, seed=4, replace=True)
    assert new
    assert not (set(train) | set(valid)) & set(documents_of(other, "train"))
    smaller, new = prepare_stories(folder, train_bytes=30_000, valid_bytes=5_000, vocab_size=290, seed=3, replace=True)
    assert new
    assert smaller.tokenizer.vocab_size == 290
    assert documents_of(smaller, "valid") == valid


def test_files_are_not_stories(tmp_path, many):
    assert not prepare_files(tmp_path / "set", [many], vocab_size=260)[0].is_stories


# --- documents ---


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["a"], ["a"]),
        ([f"a{END}"], ["a"]),
        ([f"a{END}b"], ["a", "b"]),
        ([f"a{END}\nb{END}\n"], ["a", "\nb"]),
        ([f"a{END} \n\t "], ["a"]),
        ([f"{END}{END}a"], ["", "", "a"]),
        (["\n \n"], []),
        (["a", f"b{END}c", f"d{END}\n"], ["a", "b", "c", "d"]),
        ([" a \r\n"], [" a \r\n"]),
    ],
)
def test_documents_end_at_the_marker(tmp_path, texts, expected):
    paths = [written(tmp_path / f"{place}.txt", text) for place, text in enumerate(texts)]
    assert list(read_documents(paths)) == expected


def test_a_marker_may_lie_across_file_blocks(tmp_path):
    documents = ["x" * ((1 << 20) - 7), "y" * ((1 << 20) - 20), "z"]
    assert list(read_documents([written(tmp_path / "a.txt", END.join(documents))])) == documents


# --- errors ---


def test_no_data_set_is_named_with_the_commands_that_make_one(tmp_path):
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'none'}: no data set there")) as raised:
        open_dataset(tmp_path / "none")
    assert "`workbook data prepare FILE --name none`" in str(raised.value)
    assert "`workbook data stories --name none`" in str(raised.value)


@pytest.mark.parametrize("text", ["a", "漢"])
def test_too_little_text_is_refused(tmp_path, text):
    path = written(tmp_path / "a.txt", text)
    with pytest.raises(ValueError, match=re.escape(f"{path}: too little text to split off a validation part of 0.05")):
        prepare_files(tmp_path / "set", [path])
    with pytest.raises(ValueError, match="no data set there"):
        open_dataset(tmp_path / "set")


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 1.5])
def test_a_fraction_out_of_range_is_named(tmp_path, many, fraction):
    with pytest.raises(
        ValueError, match=re.escape(f"valid_fraction is {fraction}: it must be above 0 and at most 0.5")
    ):
        prepare_files(tmp_path / "set", [many], valid_fraction=fraction)


def test_no_files_and_missing_files_are_named(tmp_path, many):
    with pytest.raises(ValueError, match="no files were given"):
        prepare_files(tmp_path / "set", [])
    for files, valid_files in (([tmp_path / "absent"], []), ([many], [tmp_path / "absent"])):
        with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 'absent'}: no such file")):
            prepare_files(tmp_path / "set", files, valid_files=valid_files)
    assert not (tmp_path / "set").exists()


def test_another_tokenizer_in_the_folder_is_refused(tmp_path, many):
    prepare_files(tmp_path / "set", [many], vocab_size=280)
    BYTES_ONLY.save(tmp_path / "set" / "tokenizer")
    with pytest.raises(ValueError, match=r"train\.bin: encoded with another tokenizer"):
        open_dataset(tmp_path / "set")


def test_a_missing_part_is_refused(tmp_path, many):
    prepare_files(tmp_path / "set", [many], vocab_size=280)
    Path(tmp_path / "set" / "valid.bin.json").unlink()
    with pytest.raises(ValueError, match=re.escape("valid.bin: not a token file: it has no valid.bin.json beside it")):
        open_dataset(tmp_path / "set")


def test_files_without_markers_stay_apart(tmp_path):
    files = [written(tmp_path / "a.txt", "one two three. " * 40), written(tmp_path / "b.txt", "four five six. " * 40)]
    dataset, _ = prepare_files(tmp_path / "set", files, vocab_size=270)
    whole = text_of(dataset, "train") + text_of(dataset, "valid")
    assert whole == "one two three. " * 40 + END + "four five six. " * 40


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden"])
def test_a_name_that_is_a_path_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match=re.escape(f"data set is {name!r}")):
        dataset_folder(tmp_path, name)


def test_the_floor_belongs_to_the_grammar_that_wrote_the_text(tmp_path):
    dataset, _ = prepare_stories(tmp_path / "old", train_bytes=20_000, valid_bytes=3_000, vocab_size=300)
    recipe = json.loads((tmp_path / "old" / "dataset.json").read_text())
    (tmp_path / "old" / "dataset.json").write_text(json.dumps(recipe | {"grammar_id": "another"}))
    assert (dataset.is_stories, open_dataset(tmp_path / "old").is_stories) == (True, False)
