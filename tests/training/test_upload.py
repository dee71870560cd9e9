"""A run in an object store: what lies where, what is skipped, what is said when it cannot be."""

import json
import re

import fsspec
import polars as pl
import pytest

from core import results
from core.inference.load import load_run
from core.records import RunRow, SampleRow, StepRow
from core.training.folder import RunFolder, run_folder
from core.training.run import train
from core.training.upload import check_upload, upload_run


def example(row_type: type, **values):
    """A row with something in every column."""
    columns = {pl.String: "text", pl.Int64: 3, pl.Float64: 0.5, pl.Boolean: True}
    return row_type(**{name: columns[type(kind)] for name, kind in results.schema(row_type).items()} | values)


@pytest.fixture(params=["memory", "s3"])
def url(request):
    name = re.sub(r"\W", "-", request.node.name)[-50:].strip("-").replace("_", "-").lower()
    if request.param == "s3":
        request.getfixturevalue("s3").mkdir(name)
    return f"{request.param}://{name}/prefix"


def contents(url: str) -> dict[str, bytes]:
    store, root = fsspec.url_to_fs(url)
    store.invalidate_cache()
    return {path.removeprefix(root).lstrip("/"): store.cat_file(path) for path in store.find(root)}


@pytest.fixture
def rows_dir(tmp_path):
    results.write_rows(tmp_path, "runs", "r", [example(RunRow, run_id="r", eval_loss_nats=1.25)])
    results.write_rows(tmp_path, "steps", "r", [example(StepRow, run_id="r", step=step) for step in range(5)])
    results.write_rows(tmp_path, "samples", "r", [example(SampleRow, run_id="r")])
    results.write_rows(tmp_path, "runs", "another", [example(RunRow, run_id="another")])
    return tmp_path


@pytest.fixture
def folder(tmp_path):
    folder = RunFolder(tmp_path / "data" / "runs" / "r")
    names = ["checkpoint.json", "model.safetensors", "optimizer.safetensors"]
    for name in [f"checkpoints/{step}/{name}" for step in ("step-00000002", "step-00000011") for name in names]:
        (folder.path / name).parent.mkdir(parents=True, exist_ok=True)
        (folder.path / name).write_text(f"{{}} {name}")
    folder.tokenizer.mkdir()
    (folder.tokenizer / "vocab.json").write_text(json.dumps({"a": 0}))
    folder.records.write_text("")
    (folder.path / "run.json").write_text("{}")
    (folder.path / "train.log").write_text("nobody asked for this")
    return folder


def test_rows_lie_as_they_do_here_and_the_run_comes_last(rows_dir, url):
    written = upload_run(url, "r", rows_dir, None)
    assert written == [f"{url}/results/{table}/r.parquet" for table in ("steps", "samples", "runs")]
    stored = contents(url)
    assert sorted(stored) == ["results/runs/r.parquet", "results/samples/r.parquet", "results/steps/r.parquet"]
    assert all(data == (rows_dir / name.removeprefix("results/")).read_bytes() for name, data in stored.items())
    assert pl.read_parquet(stored["results/runs/r.parquet"])["eval_loss_nats"].to_list() == [1.25]


def test_the_latest_checkpoint_goes_along_with_its_digests_after_its_tensors(rows_dir, folder, url):
    written = upload_run(url, "r", rows_dir, folder)
    assert [name.removeprefix(f"{url}/data/runs/r/") for name in written[:-3]] == [
        "checkpoints/step-00000011/model.safetensors",
        "checkpoints/step-00000011/optimizer.safetensors",
        "checkpoints/step-00000011/checkpoint.json",
        "tokenizer/vocab.json",
        "records.jsonl",
        "run.json",
    ]
    assert written[-1] == f"{url}/results/runs/r.parquet"


def test_content_decides_what_is_skipped(rows_dir, folder, url):
    upload_run(url, "r", rows_dir, folder)
    assert upload_run(url, "r", rows_dir, folder) == []

    steps = rows_dir / "steps" / "r.parquet"
    steps.touch()  # a new time, the old content
    assert upload_run(url, "r", rows_dir, folder) == []
    results.write_rows(rows_dir, "steps", "r", [example(StepRow, run_id="r", step=step) for step in range(6)])
    assert upload_run(url, "r", rows_dir, folder) == [f"{url}/results/steps/r.parquet"]
    assert contents(url)["results/steps/r.parquet"] == steps.read_bytes()

    store, root = fsspec.url_to_fs(url)
    model = f"{root}/data/runs/r/checkpoints/step-00000011/model.safetensors"
    wanted = store.cat_file(model)
    store.pipe_file(model, wanted[::-1])  # of the same size
    assert upload_run(url, "r", rows_dir, folder) == [f"{url}/{model.removeprefix(root).lstrip('/')}"]
    assert store.cat_file(model) == wanted


def test_progress_counts_every_byte_once(rows_dir, folder, url):
    told = []
    upload_run(url, "r", rows_dir, folder, progress=lambda done, total: told.append((done, total)))
    total = sum(len(data) for data in contents(url).values())
    done = [bytes_done for bytes_done, _ in told]
    assert {bytes_in_all for _, bytes_in_all in told} == {total}
    assert done == sorted(done)
    assert done[-1] == total
    told.clear()
    upload_run(url, "r", rows_dir, folder, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (total, total)


def test_an_upload_that_fails_leaves_no_row_of_a_run_and_can_be_repeated(rows_dir, folder, monkeypatch):
    url, store = "memory://broken/prefix", fsspec.filesystem("memory")
    put = type(store).put_file

    def fail_at_steps(self, lpath, rpath, **options):
        if "steps" in rpath:
            raise RuntimeError("the line\nis dead")
        put(self, lpath, rpath, **options)

    with monkeypatch.context() as patched:
        patched.setattr(type(store), "put_file", fail_at_steps)
        with pytest.raises(OSError, match=r"^memory://broken/prefix/results/steps/r.parquet: the line is dead$"):
            upload_run(url, "r", rows_dir, folder)
    assert not any(name.startswith("results/") for name in contents(url))
    assert upload_run(url, "r", rows_dir, folder) == [
        f"{url}/results/{table}/r.parquet" for table in ("steps", "samples", "runs")
    ]


def test_what_cannot_be_uploaded_is_named(rows_dir, tmp_path):
    with pytest.raises(ValueError, match=r"upload is '/mnt/runs': name a folder of an object store"):
        upload_run("/mnt/runs", "r", rows_dir, None)
    with pytest.raises(ValueError, match=r"runs/nosuch\.parquet: no such file"):
        upload_run("memory://a/b", "nosuch", rows_dir, None)
    with pytest.raises(ValueError, match=r"empty: this run has no checkpoint to upload"):
        upload_run("memory://a/b", "r", rows_dir, run_folder(tmp_path, "empty"))
    with pytest.raises(ValueError, match=r"^nosuch://a/b: Protocol not known: nosuch"):
        check_upload("nosuch://a/b")


def test_whether_a_store_takes_anything_is_asked_beforehand(url, s3, monkeypatch):
    check_upload(url)
    assert contents(url) == {}
    with pytest.raises(OSError, match=r"^s3://there-is-no-such-bucket/prefix: .*bucket does not exist"):
        check_upload("s3://there-is-no-such-bucket/prefix")
    with pytest.raises(ValueError, match=r"upload is 'bucket/prefix': name a folder"):
        check_upload("bucket/prefix")

    def refuse(self, path, value, **options):
        raise PermissionError

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "pipe_file", refuse)
    with pytest.raises(OSError, match=r"^memory://a/b: PermissionError$"):
        check_upload("memory://a/b")


def test_a_folder_of_a_disk_is_made(rows_dir, folder, tmp_path):
    url = (tmp_path / "store" / "deep").as_uri()
    check_upload(url)
    written = upload_run(url, "r", rows_dir, folder)
    assert (tmp_path / "store" / "deep" / "results" / "runs" / "r.parquet").exists()
    assert len(written) == len([path for path in (tmp_path / "store").rglob("*") if path.is_file()]) > 4
    assert upload_run(url, "r", rows_dir, folder) == []


def test_a_copy_of_it_generates(tiny_config, dataset, url, tmp_path):
    here = run_folder(tmp_path / "here", "r")
    train(tiny_config, dataset, here, tmp_path / "results")
    upload_run(url, "r", tmp_path / "results", here)
    store, root = fsspec.url_to_fs(f"{url}/data")
    store.get(root, str(tmp_path / "copy"), recursive=True)
    texts = [list(load_run(tmp_path / where, "r").complete("", 13, seed=5)) for where in ("here", "copy")]
    assert texts[0] == texts[1]
    assert run_folder(tmp_path / "copy", "r").rows() == here.rows()
