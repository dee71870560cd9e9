"""`workbook account`: what an architecture costs, as tables or JSON."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from core.cli.options import DEFAULT_RESULTS, ResultsDir

if TYPE_CHECKING:
    from rich.table import Table

    from core.accounting import Account
    from core.accounting.hardware import Device

NARROWEST = 80
"""Columns of a terminal in which every table here has room."""


def account(
    source: Annotated[str, typer.Argument(metavar="PRESET|FILE", help="A preset's name, or a YAML or JSON file.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="FIELD=VALUE", help="Fields to change, such as model.num_kv_heads=2.", show_default=False
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="The same, as an option.", show_default=False),
    ] = None,
    batch_size: Annotated[int, typer.Option(help="Sequences of a step.")] = 1,
    seq: Annotated[
        int | None, typer.Option(help="Tokens of a sequence; the full context if not given.", show_default=False)
    ] = None,
    precision: Annotated[str, typer.Option(help="float32, tf32, float64, bfloat16-autocast or bfloat16.")] = "float32",
    optimizer: Annotated[
        str, typer.Option(help="adamw, muon, adamw-foreach, adamw-fused, sgd-momentum or sgd.")
    ] = "adamw",
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Keep each block's input alone and compute it twice.")
    ] = False,
    device: Annotated[
        str | None,
        typer.Option(help="What it would take there: h100-sxm, m4 ... (workbook device list).", show_default=False),
    ] = None,
    tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens of the whole run; the preset's if not given.", show_default=False)
    ] = None,
    devices: Annotated[int, typer.Option(min=1, help="How many devices train together.")] = 1,
    mfu_noncausal: Annotated[
        float | None,
        typer.Option(help="Utilisation of the whole run, 0 to 1; the roofline's if not given.", show_default=False),
    ] = None,
    price: Annotated[
        float | None, typer.Option(min=0.0, help="US dollars an hour and device.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")] = False,
    results: ResultsDir = DEFAULT_RESULTS,
) -> None:
    """Count the parameters, FLOPs, bytes and memory of an architecture, exactly."""
    from core import accounting
    from core.accounting.summary import summary
    from core.cli.configuration import load_config

    config = load_config(source, [*(overrides or ()), *(set_ or ())])
    costs = accounting.account(
        config.model,
        batch_size=batch_size,
        seq=seq,
        precision=precision,
        optimizer=optimizer,
        checkpointing=checkpointing,
    )
    several = devices if devices > 1 else None
    for name, value in {"--mfu-noncausal": mfu_noncausal, "--price": price, "--devices": several}.items():
        if value is not None and device is None:
            raise ValueError(f"{name} is {value}: it needs a --device")
    if price == math.inf:
        raise ValueError(f"--price is {price}: it must be finite")
    chosen = None if device is None else find_device(device, results)
    answers = {"name": config.name, **summary(costs, chosen)}
    total_tokens = tokens or config.num_steps * config.batch_tokens
    answers["run"] = _run(costs, total_tokens, chosen, devices, mfu_noncausal, price)
    if as_json:
        print(json.dumps(answers, indent=1))
        return
    _print_tables(costs, answers)


def find_device(name: str, results: Path) -> Device:
    """A known device, or one that was measured into the results folder.

    Raises:
        ValueError: If there is neither.
    """
    from core.accounting import hardware

    if name in hardware.DEVICES:
        return hardware.DEVICES[name]
    measured = {}
    if (results / "devices").is_dir():
        from core.experiments.device_measure import read_measured_devices

        measured = read_measured_devices(results)
    return measured[name] if name in measured else hardware.device(name)


def _run(
    costs: Account, tokens: int, device: Device | None, devices: int, utilisation: float | None, price: float | None
) -> dict[str, float | int | None]:
    """The whole run: operations, and on a device its time and price."""
    from core.accounting.roofline import training_seconds, training_time

    flop = costs.training_step_flop * tokens // costs.tokens
    run: dict[str, float | int | None] = {"tokens": tokens, "training_flop": flop}
    if device is not None:
        time = training_time(costs, device)
        if utilisation is None:
            used, seconds = time.mfu_noncausal, time.roofline_s * tokens / costs.tokens / devices
        else:
            used, seconds = utilisation, training_seconds(flop, devices * time.peak_flop_per_s, utilisation)
        run |= {"devices": devices, "mfu_noncausal": used, "seconds": seconds}
        run["cost_usd"] = None if price is None else price * devices * seconds / 3600
    return run


def _print_tables(costs: Account, answers: dict) -> None:
    from core.accounting.text import bytes_text, count
    from core.cli.console import console, say

    model, parts = costs.model, answers["peak_parts_bytes"]
    kind = f"{model.num_layers} layers, d_model {model.d_model}, {model.num_heads} heads"
    say(f"{answers['name']}: {kind}, vocabulary {model.vocab_size:,}, attention {model.attention}")
    again = ", activation checkpointing" if costs.checkpointing else ""
    say(f"a step of {costs.batch_size:,} x {costs.seq:,} tokens, {costs.precision}, {costs.optimizer}{again}")
    if costs.seq > model.context_length:
        say(f"these sequences are longer than the model's context of {model.context_length:,} tokens")
    say()
    table = _operations_table(costs)
    if console.width < NARROWEST:  # there the terminal folds lines, rather than digits be cut off
        table.width = NARROWEST
    console.print(table, crop=False, soft_wrap=True)
    active = f" ({costs.active_parameters:,} active)" if costs.active_parameters != costs.parameters else ""
    say(f"\nparameters            {costs.parameters:,}{active}")
    say(f"forward FLOP          {costs.forward_flop:,} (non-causal)")
    step = costs.training_step_flop
    say(f"training step FLOP    {step:,} non-causal")
    say(f"                      {costs.training_step_flop_causal:,} causal")
    say(f"                      {costs.training_step_flop_hardware:,} on the hardware")
    say(f"6 N D                 {costs.training_step_flop_6nd:,} ({costs.training_step_flop_6nd / step:.4f} of it)")
    say(f"saved for backward    {bytes_text(costs.saved_bytes)} ({costs.saved_bytes:,} bytes)")
    say(f"memory at the peak    {bytes_text(answers['peak_bytes'])}, in {answers['peak_moment']}:")
    words = [f"{name} {bytes_text(size)}" for name, size in parts.items()]
    say(f"                      {', '.join(words[:3])},\n                      {', '.join(words[3:])}")
    textbook = sum(answers["textbook_memory_bytes"].values())
    say(f"a textbook would say  {bytes_text(textbook)}: each tensor stored once in float32, four times the weights")
    say(f"key/value cache       {bytes_text(answers['kv_cache_bytes_per_token'])} a token in bfloat16")
    run = answers["run"]
    say(f"a run of {count(run['tokens'])} tokens  {run['training_flop']:.4g} FLOP")
    if "device" in answers:
        _say_device(costs, answers["device"], run, answers["peak_bytes"])


def _say_device(costs: Account, found: dict, run: dict, needed: int) -> None:
    from core.accounting.text import bytes_text, duration
    from core.cli.console import say

    say(f"\non {found['name']} ({bytes_text(found['memory_bytes'])}):")
    largest, longest = found["largest_batch_size"], found["largest_seq"]
    if found["fits"]:
        say("fits                  yes")
    else:
        say(f"fits                  no: this step does not fit ({bytes_text(needed)} at the peak)")
    say(
        f"largest batch         {largest:,} x {costs.seq:,} tokens"
        if largest
        else f"largest batch         none: even one sequence of {costs.seq:,} tokens does not fit"
    )
    say(
        f"longest sequence      {longest:,} tokens at batch {costs.batch_size:,}"
        if longest
        else f"longest sequence      none: even one token does not fit at batch {costs.batch_size:,}"
    )
    say(f"step, at least        {duration(found['step_arithmetic_s'])} of arithmetic at the peak")
    say(
        f"step, roofline        {duration(found['step_roofline_s'])} with one kernel an operation: "
        f"{found['tokens_per_s_roofline']:,.0f} tokens/s,\n                      "
        f"MFU {found['mfu_noncausal_roofline']:.1%} non-causal, {found['mfu_causal_roofline']:.1%} causal"
    )
    price = f", {run['cost_usd']:,.2f} USD" if run["cost_usd"] is not None else ""
    many = f" on {run['devices']} devices" if run["devices"] > 1 else ""
    say(f"the run               {duration(run['seconds'])}{many} at MFU {run['mfu_noncausal']:.1%} (non-causal){price}")


def _operations_table(costs: Account) -> Table:
    from rich.table import Table

    from core.accounting.text import bytes_text, count

    table = Table(box=None, pad_edge=False)
    table.add_column("operation")
    for title in ("times", "parameters", "forward FLOP", "share", "saved"):
        table.add_column(title, justify="right")
    checkpointed = [row for row in costs.rows if costs.checkpointing and row.operation.in_block]
    for row in costs.rows:
        flop, weights, saved = (row.total(cell) for cell in ("forward_flop", "parameters", "saved_bytes"))
        kept = saved and row not in checkpointed
        if row in checkpointed[:1]:
            layers = costs.model.num_layers
            table.add_row("block inputs", str(layers), "", "", "", bytes_text(layers * costs.block_input_bytes))
        table.add_row(
            row.name,
            str(row.times),
            f"{weights:,}" if weights else "",
            count(flop) if flop else "",
            f"{flop / costs.forward_flop:.1%}" if flop else "",
            bytes_text(saved) if kept else "",
        )
    return table
