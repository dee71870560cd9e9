"""Runs: what the accounting says of one, and which share of its device's arithmetic it used."""

from collections.abc import Iterable, Mapping
from typing import Any

from core.accounting.account import Account, account
from core.accounting.memory import peak
from core.accounting.policies import PRECISIONS, choose
from core.accounting.text import bytes_text, count
from core.config import RunConfig
from core.config.difference import recorded, recorded_config
from core.curves import speed


def run_account(config: RunConfig, world_size: int = 1) -> Account:
    """What passes through the model of one device at once: its share of a batch, or a micro-batch of that.

    Args:
        config: The run.
        world_size: Devices that share a batch.

    Raises:
        ValueError: If the accounting does not know the optimizer, or the devices cannot share a batch evenly.
    """
    if config.batch_size % world_size:
        raise ValueError(f"batch_size {config.batch_size} cannot be shared evenly by {world_size} devices")
    share = config.batch_size // world_size
    at_once = min(config.micro_batch_size or share, share)
    return account(
        config.model,
        batch_size=at_once,
        precision=config.precision,
        optimizer=config.optimizer.kind,
        checkpointing=config.activation_checkpointing,
        loss_chunk=config.loss_chunk,
        accumulated=at_once < share,
    )


def cost_numbers(config: RunConfig) -> dict[str, str]:
    """What a run will cost, by what it is called, as text."""
    try:
        memory = bytes_text(peak(run_account(config)).total)
    except ValueError:  # an optimizer that the accounting does not know
        memory = "not known"
    step = account(config.model, batch_size=config.batch_size)
    return {
        "parameters": count(step.parameters),
        "tokens": count(config.num_steps * config.batch_tokens),
        "training FLOP": count(config.num_steps * step.training_step_flop),
        "memory at the peak": memory,
    }


def gemm_flop_per_s(
    rows: Iterable[Mapping[str, Any]], *, device: str, device_name: str, num_threads: int, precision: str
) -> float:
    """The best rate of a square matrix product that was measured on the device of a run, in its precision.

    Args:
        rows: Of table `devices`.
        device: As torch names it.
        device_name: As its maker spells it.
        num_threads: Of torch; a CPU with other threads is another device.
        precision: One of `PRECISIONS`.

    Raises:
        ValueError: If there is no such row; it names the command that makes one.
    """
    dtype = choose("precision", precision, PRECISIONS).product_dtype
    kind = device.partition(":")[0]
    is_cpu = kind == "cpu"
    products = [
        row
        for row in rows
        if row["quantity"] == "gemm"
        and (row["device"].partition(":")[0], row["device_name"]) == (kind, device_name)
        and (not is_cpu or row["num_threads"] == num_threads)
    ]
    rates = [row["value"] for row in products if row["dtype"] == dtype]
    if rates:
        return max(rates)
    threads = f" with {num_threads} thread{'s' if num_threads != 1 else ''}" if is_cpu else ""
    if products:
        there = ", ".join(dict.fromkeys(row["dtype"] for row in products))
        raise ValueError(f"{device_name}{threads} has been measured in {there}, but not in {dtype}")
    command = f"OMP_NUM_THREADS={num_threads} workbook device measure" if is_cpu else "workbook device measure"
    raise ValueError(f"{device_name}{threads} has not been measured: run `{command}` there")


def mfu_noncausal(flop_per_s: float, gemm_flop_per_s: float, world_size: int | None = None) -> float:
    """Model FLOP utilisation: training FLOP per second over what the devices do in plain matrix products.

        mfu = flop_per_s / (devices * gemm_flop_per_s)

    Args:
        flop_per_s: Of the run, forward and backward, every pair of query and key counted (non-causal), nothing that is
            computed twice.
        gemm_flop_per_s: Of one device.
        world_size: Devices; None (not recorded) is one.

    Reference:
        Chowdhery et al. (2022), "PaLM", appendix B, arXiv:2204.02311, where the peak is the maker's figure.
    """
    return flop_per_s / (gemm_flop_per_s * (world_size or 1))


def throughput_rows(
    runs: Iterable[Mapping[str, Any]], steps: Iterable[Mapping[str, Any]], devices: Iterable[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """How fast runs went, and against which rate of their devices.

    Args:
        runs: Of table `runs`.
        steps: Of table `steps`, theirs, each run's in order.
        devices: Of table `devices`.

    Returns:
        For each run of which a step was timed `run_id`, `speed`, `mfu_noncausal` and `unmeasured`: a sentence about why
        there is no utilisation, or None.
    """
    devices, by_run = list(devices), {}
    for row in steps:
        by_run.setdefault(row["run_id"], []).append(row)
    rows = []
    for run in runs:
        went = speed(by_run.get(run["run_id"], []))
        if went is None:
            continue
        mfu, unmeasured = None, None
        try:
            rate = gemm_flop_per_s(
                devices,
                precision=recorded(run["config_json"]).get("precision", "float32"),
                **{name: run[name] for name in ("device", "device_name", "num_threads")},
            )
            mfu = mfu_noncausal(went.flop_per_s, rate, run["world_size"])
        except ValueError as error:
            unmeasured = str(error)
        rows.append({"run_id": run["run_id"], "speed": went, "mfu_noncausal": mfu, "unmeasured": unmeasured})
    return rows


def memory_rows(runs: Iterable[Mapping[str, Any]]) -> tuple[list[dict[str, Any]], list[str]]:
    """What the accounting says of the memory of runs, and what was measured.

    Args:
        runs: Of table `runs`.

    Returns:
        For each run `run_id`, the bytes of each of `Moment.KINDS` at the peak and its name (`moment`), as they are
        reckoned now; `predicted`, as it was reckoned for the run where that was recorded; `measured` and `off`,
        measured / predicted - 1, None where nothing was measured. And a sentence about each run that the accounting
        cannot describe.
    """
    rows, problems = [], []
    for run in runs:
        if run["parallel"] == "fsdp":
            problems.append(
                f"{run['run_id']}: its weights were divided among {run['world_size']} devices, whose memory is not "
                "predicted"
            )
            continue
        try:
            worst = peak(run_account(recorded_config(run["config_json"]), run["world_size"] or 1))
        except ValueError as error:
            problems.append(f"{run['run_id']}: {error}")
            continue
        predicted, measured = run["predicted_peak_bytes"] or worst.total, run["peak_bytes"]
        rows.append(
            {
                "run_id": run["run_id"],
                **{part: getattr(worst, part) for part in worst.KINDS},
                "moment": str(worst),
                "predicted": predicted,
                "measured": measured,
                "off": None if measured is None else measured / predicted - 1,
            }
        )
    return rows, problems


def throughput_table(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows of `throughput_rows` as text."""

    def share(value: float | None, missing: str, digits: int) -> str:
        return missing if value is None else f"{value:.{digits}%}"

    return [
        {
            "run": row["run_id"],
            "tokens/s": f"{row['speed'].tokens_per_s:,.0f}",
            "half of the steps": f"{row['speed'].low:,.0f} – {row['speed'].high:,.0f}",
            "training FLOP/s": count(row["speed"].flop_per_s),
            "MFU": share(row["mfu_noncausal"], "not known", 1),
            "waiting for data": share(row["speed"].stall_share, "not recorded", 2),
            "resumed": f"{len(row['speed'].resumes)} times",
        }
        for row in rows
    ]


def memory_table(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The rows of `memory_rows` as text."""
    return [
        {
            "run": row["run_id"],
            "predicted": bytes_text(row["predicted"]),
            "measured": "not recorded" if row["measured"] is None else bytes_text(row["measured"]),
            "difference": "–" if row["off"] is None else f"{row['off']:+.1%}",
            "fullest in": row["moment"],
        }
        for row in rows
    ]
