"""What follows from the tokenizer tables and from runs with several vocabularies: losses, laws, sizes, times."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any

from core.accounting.text import duration
from core.corpus.tokens import token_dtype
from core.experiments.tokenizer_ratios import case, ratios
from core.records import TokenizerSpeedRow

Rows = Sequence[dict[str, Any]]

PILE_BYTES = 825e9
"""The Pile (Gao et al. 2020, arXiv:2101.00027)."""
DAY_S = 86_400
RUN_PREFIX = "tok-"
"""The names of the runs that differ in their vocabulary begin so."""

_BITS = {"uint16": 16, "uint32": 32}
_TOO_SHORT_BYTES = 50e6


def bytes_per_token(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows of `tokenizer_compression` with `bytes_per_token` and `used_share`, that of the vocabulary which occurs."""
    return [
        row
        | {
            "bytes_per_token": row["text_bytes"] / row["tokens"],
            "used_share": row["used_tokens"] / row["vocab_size"],
        }
        for row in rows
    ]


def studies(rows: Rows) -> dict[str, list[str]]:
    """The texts of each study of `tokenizer_compression`; first the study with the most texts, then the most rows."""
    texts: dict[str, set[str]] = {}
    for row in rows:
        texts.setdefault(row["study_id"], set()).add(row["encoded"])
    sizes = Counter(row["study_id"] for row in rows)
    return {
        name: sorted(texts[name]) for name in sorted(texts, key=lambda name: (-len(texts[name]), -sizes[name], name))
    }


def transfer(rows: Rows, vocab_size: int) -> list[dict[str, Any]]:
    """Every vocabulary on every held-out text, beside the vocabulary of the text's own corpus.

    Args:
        rows: Of `tokenizer_compression`, of one study.
        vocab_size: Wanted; a vocabulary that ended before counts with its last size.

    Returns:
        For each pair `trained_on`, `encoded`, `vocab_size`, `bytes_per_token` and `loss`, the fraction by which the
        bytes per token are below those of the own vocabulary.
    """
    chosen: dict[tuple[str, str], dict[str, Any]] = {}
    for row in sorted(rows, key=lambda row: row["vocab_size"]):
        if row["part"] == "held-out" and row["vocab_size"] <= vocab_size:
            chosen[row["trained_on"], row["encoded"]] = row
    found = []
    for row in bytes_per_token(chosen.values()):
        own = chosen.get((row["encoded"], row["encoded"]))
        if own is not None:
            loss = 1 - row["bytes_per_token"] * own["tokens"] / own["text_bytes"]
            names = ("trained_on", "encoded", "vocab_size", "bytes_per_token")
            found.append({name: row[name] for name in names} | {"loss": loss})
    return found


def power_law(points: Iterable[tuple[float, float]]) -> tuple[float, float]:
    """Exponent and factor of y = factor * x^exponent, by least squares on the logarithms.

    Raises:
        ValueError: If there are fewer than two different x.
    """
    logs = [(math.log(x), math.log(y)) for x, y in points]
    if len({x for x, _ in logs}) < 2:
        raise ValueError(f"{len(logs)} points: a power law needs at least two different x")
    mean_x, mean_y = (math.fsum(values) / len(logs) for values in zip(*logs, strict=True))
    covariance = math.fsum((x - mean_x) * (y - mean_y) for x, y in logs)
    exponent = covariance / math.fsum((x - mean_x) ** 2 for x, _ in logs)
    return exponent, math.exp(mean_y - exponent * mean_x)


def own_size(rows: Iterable[dict[str, Any]], vocab_size: int | None) -> dict[str, list[dict[str, Any]]]:
    """By corpus, the rows of `tokenizer_frequency` for its own vocabulary of that size, or its last before it.

    Args:
        rows: Of one study and kind.
        vocab_size: None for pre-tokens.
    """
    sizes: dict[str, dict[int | None, list[dict[str, Any]]]] = {}
    for row in sorted(rows, key=lambda row: row["rank"]):
        sizes.setdefault(row["corpus"], {}).setdefault(row["vocab_size"], []).append(row)
    found = {}
    for corpus, by_size in sizes.items():
        below = [size for size in by_size if size is not None and vocab_size is not None and size <= vocab_size]
        chosen = by_size.get(max(below) if below else None)
        if chosen:
            found[corpus] = chosen
    return found


def zipf_exponent(rows: Rows, first: int = 10, last: int = 1000) -> float | None:
    """The slope of count against rank on logarithmic scales, between two ranks; None where there are too few."""
    points = [(row["rank"], row["count"]) for row in rows if first <= row["rank"] <= last]
    return power_law(points)[0] if len(points) > 2 else None


def heaps_exponent(rows: Rows, factor: float = 16) -> float | None:
    """The slope of distinct pre-tokens against bytes read, over the last so much of one corpus; None of too few."""
    end = max((row["read_bytes"] for row in rows), default=0)
    points = [(row["read_bytes"], row["distinct_pre_tokens"]) for row in rows if row["read_bytes"] >= end / factor]
    return power_law(points)[0] if len(points) > 2 else None


def file_sizes(rows: Rows) -> list[dict[str, Any]]:
    """Bytes of a token file per byte of text, by type and vocabulary size; where an id does not fit there is no row.

    One more id than `vocab_size` says is needed, for the marker that ends a document. `fewest bits` packs each id into
    as many bits as the largest needs.

    Args:
        rows: As `bytes_per_token` gives them.
    """
    found = []
    for row in rows:
        smallest = _BITS[token_dtype(row["vocab_size"] + 1)]
        widths = {"fewest bits": row["vocab_size"].bit_length()} | {
            dtype: bits for dtype, bits in _BITS.items() if bits >= smallest
        }
        found += [
            {
                "vocab_size": row["vocab_size"],
                "dtype": dtype,
                "bits": bits,
                "file_share": bits / 8 / row["bytes_per_token"],
            }
            for dtype, bits in widths.items()
        ]
    return found


def vocabulary_name(config_json: str) -> str:
    """What a run's model reads, from its configuration."""
    model = json.loads(config_json)["model"]
    size, context = model["vocab_size"], model["context_length"]
    return f"{'bytes' if size <= 257 else f'BPE, {size:,} tokens'}, context {context:,}"


def overrides(config_json: str) -> str:
    """In what runs with several vocabularies differ, as fields for `workbook train quickstart`."""
    config = json.loads(config_json)
    fields = "name", "data.dataset", "model.vocab_size", "model.context_length", "batch_size", "num_steps", "seed"
    found = []
    for field in (*fields, "data.eval_tokens"):
        value: Any = config
        for part in field.split("."):
            value = value.get(part) if isinstance(value, dict) else None
        if value is not None:
            found.append(f"{field}={value}")
    return " ".join(found)


def learning_rows(runs: Rows, steps: Rows) -> list[dict[str, Any]]:
    """The evaluations of runs in bits per byte, which compare vocabularies, against what they had cost by then.

    Args:
        runs: Rows of `runs`; those without an evaluation in bytes are left out.
        steps: Rows of `steps`.

    Returns:
        `run_id`, `model` (as `vocabulary_name`), `seed`, `step`, `read_bytes` (the tokens so far, at the evaluation
        set's bytes per token), `model_flop`, `elapsed_s`, `bits_per_byte`; the untrained model is left out.
    """
    known = {run["run_id"]: run for run in runs if run["eval_bytes"] and run["eval_bits_per_byte"] is not None}
    found = []
    for step in steps:
        run = known.get(step["run_id"])
        if run is None or step["eval_loss_nats"] is None or step["step"] == 0:
            continue
        tokens_per_byte = run["eval_tokens"] / run["eval_bytes"]
        found.append(
            {
                "run_id": run["run_id"],
                "model": vocabulary_name(run["config_json"]),
                "seed": run["seed"],
                "step": step["step"],
                "read_bytes": step["tokens"] / tokens_per_byte,
                "model_flop": step["model_flop"],
                "elapsed_s": step["elapsed_s"],
                "bits_per_byte": step["eval_loss_nats"] * tokens_per_byte / math.log(2),
            }
        )
    return sorted(found, key=lambda row: (row["run_id"], row["step"]))


def model_rows(runs: Rows, curves: Rows) -> list[dict[str, Any]]:
    """What became of each vocabulary's runs, the best first.

    Args:
        runs: Rows of `runs`.
        curves: As `learning_rows` makes them of these runs.

    Returns:
        `model`, `parameters`, `model_flop` and `read_bytes` (means of the runs' ends), `runs`, and of bits per byte
        `mean`, `least` and `most`.
    """
    ends = {row["run_id"]: row for row in curves}
    groups: dict[str, list[dict[str, Any]]] = {}
    for run in runs:
        if run["run_id"] in ends:
            groups.setdefault(ends[run["run_id"]]["model"], []).append(run | ends[run["run_id"]])
    found = []
    for model, group in groups.items():
        means = {name: math.fsum(run[name] for run in group) / len(group) for name in ("model_flop", "read_bytes")}
        bits = [run["eval_bits_per_byte"] for run in group]
        found.append(
            {"model": model, "parameters": group[0]["parameters"]}
            | means
            | {"runs": len(bits), "mean": math.fsum(bits) / len(bits), "least": min(bits), "most": max(bits)}
        )
    return sorted(found, key=lambda row: row["mean"])


def floor_bits_per_byte(runs: Rows) -> float | None:
    """The entropy floor of the runs' evaluation text; None where it is not known or not the same for all."""
    floors = {
        run["floor_loss_nats"] and run["floor_loss_nats"] * run["eval_tokens"] / run["eval_bytes"] / math.log(2)
        for run in runs
    }
    known = [floor for floor in floors if floor is not None]
    same = len(known) == len(floors) > 0 and math.isclose(min(known), max(known), rel_tol=1e-6)
    return known[0] if same else None


def bits_at(curves: Rows, model: str, read_bytes: float) -> float | None:
    """Mean bits per byte of a model's runs after so much text, by straight lines between evaluations; None outside."""
    found = []
    for run_id in dict.fromkeys(row["run_id"] for row in curves if row["model"] == model):
        for before, after in pairwise([row for row in curves if row["run_id"] == run_id]):
            if before["read_bytes"] <= read_bytes <= after["read_bytes"]:
                share = (read_bytes - before["read_bytes"]) / (after["read_bytes"] - before["read_bytes"])
                found.append((1 - share) * before["bits_per_byte"] + share * after["bits_per_byte"])
    return math.fsum(found) / len(found) if found else None


def is_short(row: dict[str, Any]) -> bool:
    """Whether starting up takes a share of the time that a large corpus would not notice."""
    return row["corpus_bytes"] < _TOO_SHORT_BYTES


def measurements(rows: Rows, work: str) -> dict[str, list[dict[str, Any]]]:
    """The rows of `tokenizer_speed` that can be compared with each other: of this work, by a title.

    First what compares engines at all, and on a text that is not short; then what compares the most of them, on the
    largest corpus, with the largest vocabulary.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["work"] == work:
            title = f"{row['corpus']}, {row['vocab_size']:,} tokens ({row['bench_id']})"
            found.setdefault(title, []).append(row)

    def worth(title: str) -> tuple[Any, ...]:
        one, engines = found[title][0], len({row["engine"] for row in found[title]})
        return engines == 1, is_short(one), -engines, -one["corpus_bytes"], -one["vocab_size"], title

    return {title: found[title] for title in sorted(found, key=worth)}


def speeds(rows: Rows) -> list[dict[str, Any]]:
    """Rates of engines over their repeats, with their times against ours.

    Args:
        rows: Of `tokenizer_speed`: one work on one corpus with one vocabulary, of one measurement.

    Returns:
        Fastest first: `engine`, `median_rate`, `lowest_rate`, `highest_rate` (bytes per second), `median_us`,
        `lowest_us`, `highest_us` (microseconds per call), `repeats`, `agrees`
        (whether every result was ours), `num_threads`, `times`, `lowest_times`, `highest_times` (of ours; None without
        ours) and `pile_s`.
    """
    typed = [TokenizerSpeedRow(**row) for row in rows]
    compared = ratios(typed)
    by_engine: dict[str, list[TokenizerSpeedRow]] = {}
    for row in typed:
        by_engine.setdefault(row.engine, []).append(row)
    found = []
    for engine, repeated in by_engine.items():
        rates = [row.text_bytes / row.wall_s for row in repeated]
        calls_us = [1e6 * row.wall_s / row.calls for row in repeated]
        median_rate = statistics.median(rates)
        ratio = compared.get(case(repeated[0]))
        found.append(
            {
                "engine": engine,
                "median_rate": median_rate,
                "lowest_rate": min(rates),
                "highest_rate": max(rates),
                "median_us": statistics.median(calls_us),
                "lowest_us": min(calls_us),
                "highest_us": max(calls_us),
                "repeats": len(rates),
                "agrees": all(row.agrees is not False for row in repeated),
                "num_threads": repeated[0].num_threads,
                "times": ratio and ratio.median,
                "lowest_times": ratio and ratio.lowest,
                "highest_times": ratio and ratio.highest,
                "pile_s": PILE_BYTES / median_rate,
            }
        )
    return sorted(found, key=lambda row: -row["median_rate"])


def speed_table(engines: Rows, *, per_call: bool, pile: bool) -> list[dict[str, str]]:
    """What `speeds` found, for a reader; an engine that was measured alone is compared with none.

    Args:
        engines: As `speeds` gives them.
        per_call: The time of a call rather than a rate.
        pile: How long the Pile would take.
    """
    found = []
    for row in engines:
        cells = {"engine": row["engine"]}
        cells |= (
            {"µs per call": f"{row['median_us']:,.1f}"} if per_call else {"MB/s": f"{row['median_rate'] / 1e6:,.1f}"}
        )
        if len(engines) > 1:
            times = row["times"]
            spread = f"{row['lowest_times']:.2f}–{row['highest_times']:.2f} (n = {row['repeats']})" if times else ""
            cells |= {"time / ours": f"{times:.2f}" if times else "", "range": spread}
            cells["same result"] = "yes" if row["agrees"] else "no"
        if pile:
            cells |= {"the Pile": duration(row["pile_s"]), "machines for a day": str(machines_for_a_day(row["pile_s"]))}
        found.append(cells)
    return found


def machines_for_a_day(seconds: float) -> int:
    """How many machines do within a day what takes one of them so long.

    >>> machines_for_a_day(86_400), machines_for_a_day(86_401)
    (1, 2)
    """
    return max(1, math.ceil(seconds / DAY_S))
