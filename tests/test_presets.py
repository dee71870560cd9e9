import pytest

from core.config import RunConfig
from core.presets import PRESETS, preset
from core.presets.published import PUBLISHED


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_the_run_of_its_name(name):
    config = preset(name)
    assert isinstance(config, RunConfig)
    assert config.name == name
    assert preset(name) == config
    assert config.schedule.warmup_steps < config.num_steps


def test_the_names():
    assert list(PRESETS) == [
        "quickstart",
        "tinystories",
        *(f"owt-{size}" for size in ("tiny", "small", "medium", "large")),
        *(f"cs336-gpt2-{size}" for size in ("small", "medium", "large", "xl")),
        "leaderboard",
        "gpt2",
        *(f"gpt2-{size}" for size in ("medium", "large", "xl")),
        *(f"llama-2-{size}" for size in ("7b", "13b", "70b")),
        *(f"llama-3-{size}" for size in ("8b", "70b", "405b")),
        *(f"llama-3.2-{size}" for size in ("1b", "3b")),
        "mixtral-8x7b",
        "qwen3-30b-a3b",
        "qwen3-235b-a22b",
        "deepseek-v3",
    ]


def shape(name):
    model = preset(name).model
    return model.d_model, model.d_ff, model.num_layers, model.num_heads


OWT = {
    "tiny": (512, 1344, 4, 16),
    "small": (768, 3072, 12, 12),
    "medium": (1024, 4096, 24, 16),
    "large": (1280, 5120, 36, 20),
}
GPT2 = {
    "small": (768, 3072, 12, 12),
    "medium": (1024, 4096, 24, 16),
    "large": (1280, 5120, 36, 20),
    "xl": (1600, 6400, 48, 25),
}


@pytest.mark.parametrize("size", OWT)
def test_owt(size):
    model = preset(f"owt-{size}").model
    assert shape(f"owt-{size}") == OWT[size]
    assert (model.vocab_size, model.context_length) == (32_000, 256)
    assert (model.feed_forward, model.tie_embeddings, model.rope_theta) == ("swiglu", False, 10_000.0)


@pytest.mark.parametrize("size", GPT2)
def test_cs336_gpt2(size):
    model = preset(f"cs336-gpt2-{size}").model
    assert shape(f"cs336-gpt2-{size}") == GPT2[size]
    assert (model.vocab_size, model.context_length) == (50_257, 1024)
    assert (model.feed_forward, model.tie_embeddings) == ("silu", False)


def test_leaderboard():
    model = preset("leaderboard").model
    assert shape("leaderboard") == (1280, 3456, 12, 16)
    assert (model.vocab_size, model.context_length, model.tie_embeddings) == (32_000, 512, True)


def test_tinystories():
    config = preset("tinystories")
    assert shape("tinystories") == (512, 1344, 4, 16)
    assert (config.model.vocab_size, config.model.context_length) == (10_000, 256)
    assert config.batch_tokens * config.num_steps == 327_680_000


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_the_recipe_of_the_larger_runs(name):
    config, larger = preset(name), preset("leaderboard")
    assert config.model == PUBLISHED[name]
    assert (config.optimizer, config.schedule) == (larger.optimizer, larger.schedule)
    assert config.batch_tokens == config.model.context_length


@pytest.mark.parametrize(
    ("name", "nearest"),
    [
        ("quikstart", "quickstart"),
        ("owt_small", "owt-small"),
        ("gpt2_xl", "gpt2-xl"),
        ("cs336-gpt-xl", "cs336-gpt2-xl"),
        ("llama3-8b", "llama-3-8b"),
        ("deepseek", "deepseek-v3"),
    ],
)
def test_an_unknown_preset_is_answered_with_the_nearest(name, nearest):
    with pytest.raises(ValueError, match=rf"{name!r} .*did you mean {nearest}\?"):
        preset(name)


def test_a_name_like_none_is_answered_with_all():
    with pytest.raises(ValueError, match=r"'zzzzz'.*presets: quickstart, tinystories, .*leaderboard") as error:
        preset("zzzzz")
    assert "did you mean" not in str(error.value)
