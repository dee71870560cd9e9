"""What several tests share: a tiny data set, a tiny run."""

import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

# Before torch is loaded, and inherited by what tests start: on busy cores two threads spin against each other, and
# tests of tiny tensors take a hundred times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest

from core.config import DataConfig, ModelConfig, OptimizerConfig, RunConfig, ScheduleConfig

ROOT = Path(__file__).parents[1]
SHARED_TEXT = ROOT.parent / "shared" / "data" / "text"


@pytest.fixture(scope="session")
def shared_text() -> Path:
    """Real text beside the checkout, where there is some."""
    if not SHARED_TEXT.is_dir():
        pytest.skip("no real text beside the checkout")
    return SHARED_TEXT


@pytest.fixture(scope="session")
def stories_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder that holds a small `stories` data set (do not write into it)."""
    from core.corpus.dataset import dataset_folder, prepare_stories

    data = tmp_path_factory.mktemp("stories-data")
    prepare_stories(dataset_folder(data, "stories"), train_bytes=60_000, valid_bytes=9_000, vocab_size=400)
    return data


@pytest.fixture
def own_data(stories_folder: Path, tmp_path: Path) -> Path:
    """A copy of it to train in."""
    return Path(shutil.copytree(stories_folder, tmp_path / "data"))


@pytest.fixture(scope="session")
def dataset(stories_folder: Path):
    from core.corpus.dataset import dataset_folder, open_dataset

    return open_dataset(dataset_folder(stories_folder, "stories"))


@pytest.fixture
def tiny_config() -> RunConfig:
    """A run of seconds: distinct small primes where sizes allow."""
    return RunConfig(
        name="tiny",
        model=ModelConfig(vocab_size=401, context_length=37, d_model=22, num_layers=2, num_heads=11, d_ff=29),
        data=DataConfig(dataset="stories", eval_tokens=700),
        optimizer=OptimizerConfig(lr=1e-2),
        schedule=ScheduleConfig(warmup_steps=3, final_lr=1e-3),
        batch_size=5,
        num_steps=12,
        eval_every=5,
        checkpoint_every=4,
        device="cpu",
        precision="float64",
    )


@pytest.fixture
def replace():
    """`dataclasses.replace`, also of nested fields: `replace(config, optimizer__lr=1.0)`."""

    def change(config, **changes):
        for name, value in changes.items():
            head, _, rest = name.partition("__")
            value = change(getattr(config, head), **{rest: value}) if rest else value
            config = dataclasses.replace(config, **{head: value})
        return config

    return change


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """The address of a local server that speaks S3. One for all: fsspec keeps the store that it first made."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch):
    """The store `s3://` of fsspec, on that server."""
    import fsspec

    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    for variable in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(variable, "any")
    return fsspec.filesystem("s3")
