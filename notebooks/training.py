import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Training runs")

with app.setup:
    import json
    import math
    import shlex
    import textwrap
    from pathlib import Path
    from typing import get_args

    import marimo as mo
    import polars as pl

    from core import charts, results
    from core.accounting.runs import cost_numbers, memory_rows, memory_table, throughput_rows, throughput_table
    from core.accounting.text import count
    from core.cli.configuration import load_config
    from core.config import OptimizerConfig, RunConfig
    from core.config.difference import differences, recorded
    from core.files import read_json
    from core.presets import PRESETS
    from core.training import launch
    from core.training.folder import RunFolder
    from core.training.progress import progress, this_device

    QUIET = {"show_download": False, "show_column_summaries": False, "show_data_types": False}

    def plain_table(rows, first):
        """A table to read, nothing to select in it; its first column stays in sight."""
        look = {"selection": None, "pagination": False, "show_search": False, "freeze_columns_left": [first]}
        return mo.ui.table(rows, **look, **QUIET)

    def stats(numbers):
        """Numbers large, what they are small, as many in a line as there is room for."""
        shown = [mo.stat(value, label=name) for name, value in numbers.items()]
        return mo.hstack(shown, wrap=True, justify="start", gap=2)


@app.cell(hide_code=True)
def title():
    mo.md("""
    # How close does a run come to the floor?

    A language model's loss cannot fall below the entropy of its text. For real text nobody knows that floor; for the
    built-in stories it is known exactly, because their grammar is ours. Pick runs, choose what they are measured
    against, and see how far each one still has to go.
    """)
    return


@app.cell(hide_code=True)
def inputs_results():
    # `marimo run notebooks -- --results DIR` looks elsewhere
    results_dir = Path(mo.cli_args().get("results") or mo.notebook_dir().parent / "results")
    return (results_dir,)


@app.cell(hide_code=True)
def inputs_data():
    data_dir = Path(mo.cli_args().get("data") or mo.notebook_dir().parent / "data")
    return (data_dir,)


@app.cell(hide_code=True)
def finished_state():
    get_finished, set_finished = mo.state(())  # the runs started from here that have ended
    return get_finished, set_finished


@app.cell(hide_code=True)
def load(get_finished, results_dir):
    get_finished()
    _runs, _problems = results.read_table(results_dir, "runs")
    _devices, _more = results.read_table(results_dir, "devices")
    runs = _runs.sort("utc", "run_id", descending=True)
    devices = _devices.to_dicts()
    problems = _problems + _more
    return devices, problems, runs


@app.cell(hide_code=True)
def notice(problems, results_dir, runs):
    _empty = mo.callout(
        mo.md(
            f"No runs in `{results_dir}`. Make one with `workbook quickstart` (a few minutes on two CPU cores), "
            "or press Start below."
        ),
        kind="warn",
    )
    _unreadable = mo.callout(
        mo.md("Some result files could not be read:\n\n" + "\n".join(f"- `{line}`" for line in problems)), kind="danger"
    )
    _notices = ([_empty] if runs.is_empty() else []) + ([_unreadable] if problems else [])
    mo.vstack(_notices) if _notices else None
    return


@app.cell(hide_code=True)
def controls(runs):
    mo.stop(runs.is_empty())

    def _with(form):
        return lambda value: "" if value is None else form(value)

    _url = mo.query_params().to_dict()
    _wanted = str(_url.get("runs", "")).split(",")
    _listed = runs.select(
        pl.col("run_id").alias("run"),
        pl.col("eval_loss_nats").alias("loss"),
        (pl.col("eval_loss_nats") - pl.col("floor_loss_nats")).alias("to floor"),
        pl.col("eval_bits_per_byte").alias("bits/byte"),
        "status",
        "parameters",
        "tokens",
        pl.col("elapsed_s").alias("seconds"),
        pl.col("config_json").str.json_path_match("$.data.dataset").alias("data set"),
    )
    _asked = [place for place, run_id in enumerate(_listed["run"]) if run_id in _wanted]

    def _one_of(name, choices, default):
        return _url[name] if _url.get(name) in choices else default

    _forms = {
        **{name: _with(count) for name in ("parameters", "tokens")},
        **{name: _with("{:.4f}".format) for name in ("loss", "to floor", "bits/byte")},
        "seconds": _with("{:,.0f}".format),
    }
    table = mo.ui.table(
        _listed,
        selection="multi",
        initial_selection=_asked or [0],
        page_size=8,
        freeze_columns_left=["run"],
        column_widths={"loss": 56, "to floor": 66},  # on a phone, both beside the run
        format_mapping=_forms,
        label="Runs, the newest first; it is shown unless you select others (evaluation losses in nats per token)",
        **QUIET,
    )
    _half_widths = {str(steps): steps for steps in (0, 5, 10, 20, 50, 100, 200, 500)}
    options = mo.ui.dictionary(
        {
            "x": mo.ui.dropdown(
                {title: column for column, title in charts.X_AXES.items()},
                value=charts.X_AXES[_one_of("x", charts.X_AXES, "step")],
                label="against",
            ),
            "loss": mo.ui.dropdown(charts.LOSSES, value=_one_of("loss", charts.LOSSES, charts.LOSSES[0]), label="loss"),
            "unit": mo.ui.dropdown(
                charts.LOSS_UNITS, value=_one_of("unit", charts.LOSS_UNITS, charts.LOSS_UNITS[0]), label="in"
            ),
            "smooth": mo.ui.slider(
                steps=list(_half_widths.values()),
                value=_half_widths[_one_of("smooth", _half_widths, "20")],
                label="smoothing (steps to either side)",
                show_value=True,
            ),
            "log": mo.ui.switch(value=_url.get("log") != "0", label="logarithmic loss"),
            "logx": mo.ui.switch(value=_url.get("logx") == "1", label="logarithmic across"),
        }
    )
    mo.vstack([table, mo.hstack(list(options.elements.values()), wrap=True, justify="start", gap=2)])
    return options, table


@app.cell(hide_code=True)
def chosen(options, results_dir, runs, table):
    _ids = table.value["run"].to_list()
    mo.stop(not _ids, mo.callout(mo.md("Select at least one run in the table above."), kind="neutral"))
    x, log_x = options.value["x"], options.value["logx"]
    chosen_runs = runs.filter(pl.col("run_id").is_in(_ids)).to_dicts()
    _ids = [run["run_id"] for run in chosen_runs]
    steps, samples, _unreadable = [], [], []
    for _run_id in _ids:
        for _table, _rows in (("steps", steps), ("samples", samples)):
            try:
                _rows += results.read_rows(results_dir, _table, _run_id)
            except ValueError as _error:
                _unreadable.append(str(_error))
    _url = mo.query_params()
    _state = {name: int(value) if isinstance(value, bool) else value for name, value in options.value.items()}
    for _name, _value in {"runs": ",".join(_ids), **_state}.items():
        if _url.get(_name) != str(_value):
            _url.set(_name, str(_value))
    mo.callout(mo.plain_text("\n".join(_unreadable)), kind="danger") if _unreadable else None
    return chosen_runs, log_x, samples, steps, x


@app.cell(hide_code=True)
def loss_figure(chosen_runs, log_x, options, steps, x):
    _show, _unit = options.value["loss"], options.value["unit"]
    loss_chart = charts.loss_chart(
        steps,
        chosen_runs,
        x,
        options.value["smooth"],
        show=_show,
        unit=_unit,
        log_loss=options.value["log"],
        log_x=log_x,
    )
    _note = (
        "Pale: the loss of every batch. Line: the same, smoothed by straight lines fitted to the batches around each "
        "step, to fewer near the start. Points: the fixed evaluation set. Dashed: the entropy floor where it is known, in "
        "the colour of its run, grey where runs share it. Of curves that coincide only the last is seen."
    )
    if _unit == "bits per byte":
        _note += " Bits of a training batch are reckoned with the evaluation set's bytes per token."
    mo.vstack([mo.md("## Loss"), loss_chart, mo.md(_note)])
    return (loss_chart,)


@app.cell(hide_code=True)
def verdict(chosen_runs):
    _lines = []
    for _run in sorted(chosen_runs, key=lambda run: run["eval_bits_per_byte"] or float("inf")):
        if _run["eval_loss_nats"] is None or not math.isfinite(_run["eval_loss_nats"]):
            _lines.append(f"- **{_run['run_id']}** ({_run['status']} after {_run['steps']:,} steps): no finite loss.")
            continue
        _loss, _floor = _run["eval_loss_nats"], _run["floor_loss_nats"]
        _to_go = (
            f", **{_loss - _floor:.4f} above the floor** of {_floor:.4f}"
            if _floor is not None
            else ", floor unknown (real text)"
        )
        _lines.append(
            f"- **{_run['run_id']}** ({_run['status']}): {_loss:.4f} nats per token, "
            f"{_run['eval_bits_per_byte']:.4f} bits per byte{_to_go}, evaluated at step {_run['eval_step']:,} of "
            f"{_run['steps']:,} ({_run['tokens']:,} tokens, {_run['elapsed_s']:,.0f} s on {_run['device_name']})."
        )
    _caution = (
        "\n\nA small difference between two single runs may be the luck of a seed. Losses per token compare runs with the "
        "same data and tokenizer; bits per byte also those with another tokenizer, as far as their evaluation sets "
        "(so many tokens each) cover the same text."
        if len(chosen_runs) > 1
        else ""
    )
    mo.md("## Verdict\n\n" + "\n".join(_lines) + _caution)
    return


@app.cell(hide_code=True)
def what_differs(chosen_runs):
    _configs = {run["run_id"]: recorded(run["config_json"]) for run in chosen_runs}
    differing_fields = differences(_configs)

    def _table(rows):
        return plain_table(
            [{"field": row["field"], **{k: _text(v) for k, v in row["values"].items()}} for row in rows], "field"
        )

    def _text(value):
        return "none" if value is None else value if isinstance(value, str) else json.dumps(value)

    _told = [row for row in differing_fields if row["recorded"]]
    _partly = [row for row in differing_fields if not row["recorded"]]
    if len(chosen_runs) == 1:
        _shown = [mo.md("Select a second run in the table above to see in which fields the two differ.")]
    elif _told:
        _shown = [_table(_told)]
    else:
        _shown = [mo.md("In no field that all of them recorded: the same configuration.")]
    if _partly:
        _shown.append(
            mo.accordion({f"{len(_partly)} fields that not all of them recorded (older rows)": _table(_partly)})
        )
    mo.vstack([mo.md("## Where their configurations differ"), *_shown])
    return (differing_fields,)


@app.cell(hide_code=True)
def throughput(chosen_runs, devices, log_x, steps, x):
    throughputs = throughput_rows(chosen_runs, steps, devices)
    mo.stop(not throughputs, mo.md("## Throughput\n\nThese runs timed no step."))
    throughput_chart = charts.throughput_chart(steps, x, log_x=log_x)
    _shares = {
        row["run_id"]: row["mfu_noncausal"] / row["speed"].tokens_per_s
        for row in throughputs
        if row["mfu_noncausal"] is not None
    }
    _mfu_chart = (
        charts.throughput_chart(steps, x, log_x=log_x, factors=_shares, title="MFU (non-causal)", number_format=".0%")
        if _shares
        else mo.md("*No device of these runs has been measured.*")
    )
    _note = (
        "Line: the median step; band: the middle half of the steps; dotted: a resume. MFU is the median step's training "
        "FLOP per second (non-causal) over the best matrix product measured on the same device in the same precision."
    )
    _unmeasured = dict.fromkeys(f"{row['unmeasured']}." for row in throughputs if row["unmeasured"])
    _tabs = mo.ui.tabs({"tokens per second": throughput_chart, "MFU": _mfu_chart})
    _table = plain_table(throughput_table(throughputs), "run")
    mo.vstack([mo.md("## Throughput"), _table, _tabs, mo.md(" ".join([_note, *_unmeasured]))])
    return throughput_chart, throughputs


@app.cell(hide_code=True)
def memory(chosen_runs):
    memories, _problems = memory_rows(chosen_runs)
    _problems = [f"{sentence}." for sentence in _problems]
    mo.stop(not memories, mo.md("## Memory\n\n" + " ".join(_problems)))
    run_memory_chart = charts.run_memory_chart(memories)
    _note = (
        "Bars: what the accounting expects each device to hold at the fullest moment of a step (compilation and an "
        "average of the weights are not in it). Tick: the most that was allocated at once, where the device can tell; a "
        "CPU cannot."
    )
    _table = plain_table(memory_table(memories), "run")
    mo.vstack([mo.md("## Memory"), _table, run_memory_chart, mo.md(" ".join([_note, *_problems]))])
    return memories, run_memory_chart


@app.cell(hide_code=True)
def other_figures(log_x, steps, x):
    lr_chart = charts.step_chart(steps, "lr", "learning rate", x, log_x=log_x, number_format="~g")
    grad_norm_chart = charts.step_chart(
        steps, "grad_norm", "gradient norm before clipping", x, log=True, log_x=log_x, number_format="~g"
    )
    mo.vstack(
        [
            mo.md("## Learning rate and gradient norm"),
            mo.ui.tabs({"learning rate": lr_chart, "gradient norm": grad_norm_chart}),
        ]
    )
    return grad_norm_chart, lr_chart


@app.cell(hide_code=True)
def written(chosen_runs, samples):
    def _card(row):
        _how = f"{row['run_id']}, sample {row['sample']}, temperature {row['temperature']:g}, seed {row['seed']}"
        # As plain text: what a model writes is not markup.
        return mo.vstack([mo.md(f"*{_how}*"), mo.plain_text(_wrap(row["prompt"] + row["text"]))])

    def _wrap(text):
        return "\n".join(textwrap.fill(line, 92) for line in text.strip().splitlines())

    def _absent(run):
        if run["status"] != "finished":
            return f"- {run['run_id']} is {run['status']}: a run writes texts when it finishes."
        return (
            f"- {run['run_id']} has finished, and no text of it is recorded, as after `--samples 0`; the same command "
            "without that writes some."
        )

    _cards = {f"{row['run_id']}: “{' '.join(row['text'].split())[:48]}…”": _card(row) for row in samples}
    _sampled = {row["run_id"] for row in samples}
    _lines = [_absent(run) for run in chosen_runs if run["run_id"] not in _sampled]
    mo.vstack(
        [
            mo.md("## What the models write"),
            *([mo.accordion(_cards)] if _cards else []),
            *([mo.md("\n".join(_lines))] if _lines else []),
        ]
    )
    return


@app.cell(hide_code=True)
def live_controls():
    _as_is = "as in the preset"

    def _choice(field, label, choices):
        return mo.ui.dropdown({_as_is: "", **{name: f"{field}={name}" for name in choices}}, value=_as_is, label=label)

    _fields = {"optimizer.kind": OptimizerConfig, "precision": RunConfig}
    _names = {field: get_args(kind.__annotations__[field.rpartition(".")[2]]) for field, kind in _fields.items()}
    live_form = mo.ui.dictionary(
        {
            "preset": mo.ui.dropdown(list(PRESETS), value="quickstart", label="preset"),
            "optimizer": _choice("optimizer.kind", "optimizer", _names["optimizer.kind"]),
            "precision": _choice("precision", "precision", _names["precision"]),
            "micro_batch": _choice("micro_batch_size", "micro-batch", ["1", "2", "4", "8", "16", "32"]),
            "overrides": mo.ui.text(
                value="num_steps=300 eval_every=50", label="fields to change, as on the command line", full_width=True
            ),
        }
    )
    start = mo.ui.run_button(label="Start", kind="success")
    _choices = [live_form[name] for name in ("preset", "optimizer", "precision", "micro_batch")]
    mo.vstack(
        [
            mo.md(
                "## Train here\n\nStarts `workbook train` in a process of its own: it goes on if this page is closed, and "
                "Stop saves a checkpoint first."
            ),
            mo.hstack(_choices, wrap=True, justify="start"),
            live_form["overrides"],
            start,
        ]
    )
    return live_form, start


@app.cell(hide_code=True)
def stop_button():
    stop = mo.ui.run_button(label="Stop", kind="danger")  # shown beside the run that it stops, while there is one
    return (stop,)


@app.cell(hide_code=True)
def planned(live_form):
    plan_words, plan_error = [], ""
    try:
        _choices = [live_form.value[name] for name in ("optimizer", "precision", "micro_batch")]
        plan_words = [*filter(None, _choices), *shlex.split(live_form.value["overrides"])]
        _numbers = cost_numbers(load_config(live_form.value["preset"], plan_words))
    except ValueError as _error:
        plan_error = str(_error)
        _shown = mo.callout(mo.plain_text(plan_error), kind="danger")
    else:
        _command = shlex.join(["workbook", "train", live_form.value["preset"], *plan_words])
        _told = (
            f"On the command line: `{_command}`. Start adds a run id with the time, so that each press is a new run."
        )
        _shown = mo.vstack([stats(_numbers), mo.md(_told)])
    _shown
    return plan_error, plan_words


@app.cell(hide_code=True)
def act(data_dir, live_form, plan_error, plan_words, results_dir, start):
    _answer = None
    if start.value:
        try:
            if plan_error:
                raise ValueError(plan_error)
            launch.launch(live_form.value["preset"], plan_words, data_dir, results_dir)
        except (ValueError, OSError) as _error:
            _answer = mo.callout(mo.plain_text(f"not started: {_error}"), kind="danger")
    _answer
    return


@app.cell(hide_code=True)
def clock(start):
    start.value  # a press starts the clock anew
    tick = mo.ui.refresh(options=["1s", "2s", "10s"], default_interval="2s", label="look again every")
    return (tick,)


@app.cell(hide_code=True)
def live(data_dir, devices, get_finished, results_dir, runs, set_finished, start, stop, tick):
    start.value, tick.value
    _launched = sorted((data_dir / "runs").glob("*/launch.json"), key=lambda path: path.stat().st_mtime)
    mo.stop(not _launched, mo.md("*Nothing has been started from here yet.*"))
    _folders = [RunFolder(path.parent) for path in _launched]
    _going = [folder for folder in _folders if launch.is_running(folder)]
    _ended = tuple(folder.path.name for folder in _folders if folder not in _going)
    if get_finished() != _ended:
        set_finished(_ended)
    _folder, _running = (_going or _folders)[-1], bool(_going)
    if stop.value and _running:
        launch.stop(_folder)
    live_rows = [{name: getattr(row, name) for name in row.__slots__} for row in _folder.rows()]
    _about = _folder.description()
    _known = dict(zip(runs["run_id"], runs["status"], strict=True))
    _state = ("stopping" if stop.value else "running") if _running else _known.get(_folder.path.name, "ended")
    _head = [mo.md(f"**{_folder.path.name}**: {_state}"), *([stop] if _running else []), tick]
    _shown = [mo.hstack(_head, wrap=True, align="center")]
    if _command := read_json(_folder.path / "launch.json").get("command"):
        _shown.append(mo.md(f"Started as `{shlex.join(_command)}`"))
    if live_rows and _about:
        _config = recorded(json.dumps(_about["config"]))
        _floors = [{"run_id": _folder.path.name, "floor_loss_nats": _about["floor_loss_nats"]}]
        _numbers, _unmeasured = progress(
            live_rows,
            num_steps=_config["num_steps"],
            precision=_config["precision"],
            device=this_device(_config["device"]),
            devices=devices,
        )
        _shown += [stats(_numbers), *([mo.md(f"{_unmeasured}.")] if _unmeasured else [])]
        _shown.append(charts.loss_chart(live_rows, _floors, "step", 10))
    elif _running:
        _shown.append(mo.md("*starting …*"))
    if not _running and not results.table_path(results_dir, "runs", _folder.path.name).exists():
        _log = launch.log_path(_folder).read_text(errors="replace").strip().splitlines()
        _last_words = "\n".join(_log[-5:]) or "the process ended without a word"
        _shown.append(mo.callout(mo.plain_text(_last_words), kind="danger"))
    mo.vstack(_shown)
    return (live_rows,)


@app.cell(hide_code=True)
def details(chosen_runs):
    def _row(run):
        return mo.json({**run, "config_json": json.loads(run["config_json"] or "{}")})

    mo.vstack(
        [
            mo.md("## Details"),
            mo.accordion(
                {
                    "What the numbers mean": mo.md(
                        r"""
    - loss: $-\frac{1}{n}\sum_t \ln p(\text{token}_t \mid \text{tokens before})$ in nats per token, on a fixed set of whole
      documents, each seen from its beginning where it fits the context;
    - bits per byte: the same total divided by $\ln 2$ and by the bytes of text, comparable across tokenizers;
    - floor: the same mean with the true probabilities of the grammar that wrote the text, end markers counted;
    - training FLOP: three times the forward matrix products, all $T \times T$ attention scores counted (non-causal);
    - training time: seconds in training steps; evaluation and checkpoints are left out.
    """
                    ),
                    **{f"{run['run_id']}: configuration and provenance": _row(run) for run in chosen_runs},
                }
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
