import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Training runs")

with app.setup:
    import json
    import math
    import shlex
    from pathlib import Path

    import marimo as mo
    import polars as pl

    from core import charts, results
    from core.presets import PRESETS
    from core.training import launch
    from core.training.folder import RunFolder


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
    get_finished, set_finished = mo.state("")  # the run that ended last while this page was open
    return get_finished, set_finished


@app.cell(hide_code=True)
def load(get_finished, results_dir):
    get_finished()
    _runs, _problems = results.read_table(results_dir, "runs")
    runs = _runs.sort("utc", descending=True)
    problems = _problems
    return problems, runs


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
        pl.col("config_json").str.json_path_match("$.data.dataset").alias("data set"),
        "status",
        "parameters",
        "tokens",
        pl.col("eval_loss_nats").alias("loss"),
        pl.col("floor_loss_nats").alias("floor"),
        (pl.col("eval_loss_nats") - pl.col("floor_loss_nats")).alias("to go"),
        pl.col("eval_bits_per_byte").alias("bits/byte"),
    )
    _asked = [place for place, run_id in enumerate(_listed["run"]) if run_id in _wanted]
    _floored = [place for place, floor in enumerate(_listed["floor"]) if floor is not None]
    _first = [place for place, name in enumerate(runs["name"]) if name == "quickstart"]
    # The reader's own latest quickstart, else the latest run that has a floor to show.
    _selected = _asked or _first[:1] or _floored[:1] or [0]
    _half_lives = [0, 5, 10, 20, 50, 100, 200]
    _half_life = int(_url["smooth"]) if str(_url.get("smooth", "")).isdigit() else 20
    table = mo.ui.table(
        _listed,
        selection="multi",
        initial_selection=_selected,
        page_size=8,
        show_download=False,
        show_column_summaries=False,
        show_data_types=False,
        format_mapping={
            **{name: _with("{:,}".format) for name in ("parameters", "tokens")},
            **{name: _with("{:.4f}".format) for name in ("loss", "floor", "to go", "bits/byte")},
        },
        label="Runs (losses in nats per token; select one or more)",
    )
    options = mo.ui.dictionary(
        {
            "x": mo.ui.dropdown(
                {title: column for column, title in charts.X_AXES.items()},
                value=charts.X_AXES[_url["x"] if _url.get("x") in charts.X_AXES else "step"],
                label="against",
            ),
            "smooth": mo.ui.slider(
                steps=_half_lives,
                value=_half_life if _half_life in _half_lives else 20,
                label="smoothing (half-life, steps)",
                show_value=True,
            ),
            "log": mo.ui.switch(value=_url.get("log") != "0", label="logarithmic loss"),
        }
    )
    mo.vstack([table, mo.hstack(list(options.elements.values()), wrap=True, justify="start", gap=2)])
    return options, table


@app.cell(hide_code=True)
def chosen(options, results_dir, runs, table):
    _ids = table.value["run"].to_list()
    mo.stop(not _ids, mo.callout(mo.md("Select at least one run in the table above."), kind="neutral"))
    x, half_life, log_loss = options.value["x"], options.value["smooth"], options.value["log"]
    chosen_runs = runs.filter(pl.col("run_id").is_in(_ids)).to_dicts()
    steps, samples, _unreadable = [], [], []
    for _run_id in _ids:
        for _table, _rows in (("steps", steps), ("samples", samples)):
            try:
                _rows += results.read_rows(results_dir, _table, _run_id)
            except ValueError as _error:
                _unreadable.append(str(_error))
    _url = mo.query_params()
    for _name, _value in {"runs": ",".join(_ids), "x": x, "smooth": half_life, "log": int(log_loss)}.items():
        if _url.get(_name) != str(_value):
            _url.set(_name, str(_value))
    mo.callout(mo.plain_text("\n".join(_unreadable)), kind="danger") if _unreadable else None
    return chosen_runs, half_life, log_loss, samples, steps, x


@app.cell(hide_code=True)
def loss_figure(chosen_runs, half_life, log_loss, steps, x):
    loss_chart = charts.loss_chart(steps, chosen_runs, x, half_life, log_loss)
    mo.vstack(
        [
            mo.md("## Loss"),
            loss_chart,
            mo.md(
                "Thin: the loss of every batch. Thick: the same, smoothed. Points: the fixed evaluation set. "
                "Dashed: the entropy floor, in the colour of its run."
            ),
        ]
    )
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
def other_figures(steps, x):
    lr_chart = charts.step_chart(steps, "lr", "learning rate", x, number_format="~g")
    grad_norm_chart = charts.step_chart(
        steps, "grad_norm", "gradient norm before clipping", x, log=True, number_format="~g"
    )
    throughput_chart = charts.step_chart(steps, "tokens_per_s", "tokens per second", x)
    mo.vstack(
        [
            mo.md("## Learning rate, gradient norm, throughput"),
            mo.ui.tabs({"learning rate": lr_chart, "gradient norm": grad_norm_chart, "throughput": throughput_chart}),
        ]
    )
    return grad_norm_chart, lr_chart, throughput_chart


@app.cell(hide_code=True)
def written(samples):
    def _card(row):
        _how = f"{row['run_id']}, sample {row['sample']}, temperature {row['temperature']:g}, seed {row['seed']}"
        # As plain text: what a model writes is not markup.
        return mo.vstack([mo.md(f"*{_how}*"), mo.plain_text(_wrap(row["prompt"] + row["text"]))])

    def _wrap(text, width=92):
        import textwrap

        return "\n".join(textwrap.fill(line, width) for line in text.strip().splitlines())

    mo.vstack(
        [
            mo.md("## What the models write"),
            mo.accordion({f"{row['run_id']}: “{' '.join(row['text'].split())[:48]}…”": _card(row) for row in samples})
            if samples
            else mo.md("These runs have no samples yet: they are written when a run finishes."),
        ]
    )
    return


@app.cell(hide_code=True)
def live_controls():
    live_form = mo.ui.dictionary(
        {
            "preset": mo.ui.dropdown(list(PRESETS), value="quickstart", label="preset"),
            "overrides": mo.ui.text(
                value="num_steps=300 eval_every=50", label="fields to change, as on the command line", full_width=True
            ),
        }
    )
    start = mo.ui.run_button(label="Start", kind="success")
    stop = mo.ui.run_button(label="Stop", kind="danger")
    mo.vstack(
        [
            mo.md(
                "## Train here\n\nStarts `workbook train` in a process of its own: it goes on if this page is closed, and "
                "Stop saves a checkpoint first."
            ),
            live_form["overrides"],
            mo.hstack([live_form["preset"], start, stop], wrap=True, justify="start"),
        ]
    )
    return live_form, start, stop


@app.cell(hide_code=True)
def act(data_dir, live_form, results_dir, start, stop):
    _answer = None
    if start.value:
        try:
            _words = shlex.split(live_form.value["overrides"])
            launch.launch(live_form.value["preset"], _words, data_dir, results_dir)
        except (ValueError, OSError) as _error:
            _answer = mo.callout(mo.plain_text(f"not started: {_error}"), kind="danger")
    if stop.value:
        for _folder in launch.running(data_dir)[-1:]:
            launch.stop(_folder)
    _answer
    return


@app.cell(hide_code=True)
def clock(start):
    start.value  # a press starts the clock anew
    tick = mo.ui.refresh(options=["1s", "2s", "10s"], default_interval="2s", label="look again every")
    return (tick,)


@app.cell(hide_code=True)
def live(data_dir, get_finished, results_dir, set_finished, start, stop, tick):
    start.value, stop.value, tick.value
    _launched = sorted((data_dir / "runs").glob("*/launch.json"), key=lambda path: path.stat().st_mtime)
    mo.stop(not _launched, mo.md("*Nothing has been started from here yet.*"))
    _folder = RunFolder(_launched[-1].parent)
    _running = launch.is_running(_folder)
    if not _running and get_finished() != _folder.path.name:
        set_finished(_folder.path.name)
    live_rows = [{name: getattr(row, name) for name in row.__slots__} for row in _folder.rows()]
    _log = (
        launch.log_path(_folder).read_text(errors="replace").strip().splitlines()
        if launch.log_path(_folder).exists()
        else []
    )
    _about = _folder.description()
    _num_steps = _about["config"]["num_steps"] if _about else None
    _floors = [{"run_id": _folder.path.name, "floor_loss_nats": _about["floor_loss_nats"]}] if _about else []
    _shown = [mo.hstack([mo.md(f"**{_folder.path.name}**: {'running' if _running else 'ended'}"), tick], wrap=True)]
    if live_rows:
        _last = live_rows[-1]
        _rates = [row["tokens_per_s"] for row in live_rows[-20:] if row["tokens_per_s"]]
        _evaluations = [row["eval_loss_nats"] for row in live_rows if row["eval_loss_nats"] is not None]
        _stats = [
            mo.stat(f"{_last['step']:,}" + (f" / {_num_steps:,}" if _num_steps else ""), label="step"),
            mo.stat("–" if _last["train_loss_nats"] is None else f"{_last['train_loss_nats']:.3f}", label="batch loss"),
            mo.stat(f"{_evaluations[-1]:.4f}" if _evaluations else "–", label="evaluation loss"),
            mo.stat(f"{sum(_rates) / len(_rates):,.0f}" if _rates else "–", label="tokens/s"),
        ]
        _shown += [
            mo.hstack(_stats, wrap=True, justify="start", gap=2),
            charts.loss_chart(live_rows, _floors, "step", 10),
        ]
    elif _running:
        _shown.append(mo.md("*starting …*"))
    if not _running and not results.table_path(results_dir, "runs", _folder.path.name).exists():
        _last_words = "\n".join(_log[-5:]) or "the process ended without a word"
        _shown.append(mo.callout(mo.plain_text(_last_words), kind="danger"))
    mo.vstack(_shown)
    return (live_rows,)


@app.cell(hide_code=True)
def details(chosen_runs):
    def _provenance(run):
        _fields = (
            "device",
            "device_name",
            "num_threads",
            "torch_version",
            "git_commit",
            "utc",
            "seed",
            "config_id",
            "dataset_id",
        )
        return mo.md("\n".join(f"- {name.replace('_', ' ')}: `{run[name]}`" for name in _fields))

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
                    **{
                        f"{run['run_id']}: configuration and provenance": mo.vstack(
                            [_provenance(run), mo.json(json.loads(run["config_json"] or "{}"))]
                        )
                        for run in chosen_runs
                    },
                }
            ),
        ]
    )
    return


if __name__ == "__main__":
    app.run()
