import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Benchmarks")

with app.setup:
    import tempfile
    from pathlib import Path

    import marimo as mo
    import polars as pl

    from core import benchmarks, charts, results
    from core.accounting.text import bytes_text, count
    from core.benchmarks.here import measure_here, point_costs
    from core.config.grid import SUBJECTS
    from core.experiments.benchmark_fits import predict_measured

    GRID = "workbook bench grid cpu"
    SCALING = {**benchmarks.AXES, "width": "width (d_model, heads and d_ff together)"}
    PREDICTIONS = {"fitted": "fitted, cross-validated", "bound": "roofline bound"}
    FILTERS = ["machine", "source", *benchmarks.AXES]
    TIMED = [pl.col("median_s") > 0, pl.col("median_s").is_finite()]
    QUIET = {"show_download": False, "show_column_summaries": False, "show_data_types": False}
    PLAIN = {"selection": None, "show_search": False, **QUIET}

    def section(heading, *parts):
        """A heading and what stands under it."""
        return mo.vstack([mo.md(f"## {heading}"), *parts])

    def choice(name, titles, default, label, **options):
        """A choice of keys by their titles; the address holds the key."""
        asked = mo.query_params().to_dict().get(name)
        shown = titles.get(asked if asked in titles else default)
        return mo.ui.dropdown({title: key for key, title in titles.items()}, value=shown, label=label, **options)

    def table(frame, columns=None, **options):
        """Rows with readable numbers and headings, at most as wide as the page."""
        shown, forms = benchmarks.readable(frame.select(columns) if columns else frame)
        return mo.ui.table(shown, format_mapping=forms, page_size=8, **PLAIN | options)


@app.cell(hide_code=True)
def title():
    mo.md("""
    # What does this machine deliver, and does the accounting predict it?

    Every point is one configuration, really timed. Choose what to compare: the frontier shows what is best for the memory
    it takes, the diagonal how well its time was foreseen, the roofline what stood in the way.
    """)
    return


@app.cell(hide_code=True)
def inputs_results():
    # `marimo run notebooks -- --results DIR` looks elsewhere
    results_dir = Path(mo.cli_args().get("results") or mo.notebook_dir().parent / "results")
    return (results_dir,)


@app.cell(hide_code=True)
def finished_state():
    get_finished, set_finished = mo.state(0)  # measurements made from this page
    get_process, set_process = mo.state(None)
    get_taken, set_taken = mo.state({})  # the selected row whose configuration is to be measured here
    return get_finished, get_process, get_taken, set_finished, set_process, set_taken


@app.cell(hide_code=True)
def inputs_sets():
    upload = mo.ui.file(filetypes=[".parquet"], multiple=True, label="more result sets (.parquet)")
    path = mo.ui.text(
        value=str(mo.query_params().to_dict().get("path", "")), label="or where they are", placeholder="file or folder"
    )
    mo.hstack([upload, path], wrap=True, justify="start", align="end", gap=2)
    return path, upload


@app.cell(hide_code=True)
def load(get_finished, path, results_dir, upload):
    get_finished()
    _others, _problem = {file.name: file.contents for file in upload.value}, []
    try:
        _others |= benchmarks.sets_at(path.value)
    except ValueError as _error:
        _problem.append(str(_error))
    rows, _problems = benchmarks.load_benchmarks(results_dir, _others)
    _devices, _more = results.read_table(results_dir, "devices")
    devices = _devices.to_dicts()
    _lines = [*_problem, *_problems, *_more]
    _notices = [mo.callout(mo.plain_text("\n".join(_lines)), kind="warn")] if _lines else []
    if rows.is_empty():
        _words = f"No benchmark rows in `{results_dir}`. This measures some on this machine: `{GRID}`"
        _notices.insert(0, mo.callout(mo.md(_words), kind="warn"))
    mo.vstack(_notices) if _notices else None
    return devices, rows


@app.cell(hide_code=True)
def subject_controls(rows):
    mo.stop(rows.is_empty())
    _pairs = rows.select("subject", "phase").unique(maintain_order=True).rows()
    _of = {f"{subject}, {phase}": f"{subject}, {phase}" for subject, phase in _pairs}
    of_what = choice("of", _of, "model, step" if "model, step" in _of else next(iter(_of)), "measured is")
    return (of_what,)


@app.cell(hide_code=True)
def filter_controls(of_what, rows):
    of_phase = rows.filter(pl.format("{}, {}", "subject", "phase") == of_what.value)
    _url = mo.query_params().to_dict()

    def _filter(name):
        values = of_phase[name].drop_nulls().unique().sort().cast(pl.String).to_list()
        asked = [value for value in str(_url.get(name, "")).split("|") if value in values]
        return (
            mo.ui.multiselect(values, value=asked, label=benchmarks.AXES.get(name, name)) if len(values) > 1 else None
        )

    filters = mo.ui.dictionary({name: made for name in FILTERS if (made := _filter(name)) is not None})
    _shown = mo.hstack(list(filters.elements.values()), wrap=True, justify="start", gap=1)
    mo.vstack([of_what, mo.accordion({"Filters: only these values (none chosen means all)": _shown})])
    return filters, of_phase


@app.cell(hide_code=True)
def chosen(filters, of_phase, of_what, path):
    _url = mo.query_params()
    _state = {name: "|".join(values) for name, values in filters.value.items()}
    for _name, _value in {**_state, "of": of_what.value, "path": path.value}.items():
        if (_url.get(_name) or "") != _value:
            _url.set(_name, _value)
    _chosen = [pl.col(name).cast(pl.String).is_in(values) for name, values in filters.value.items() if values]
    wanted = [*TIMED, *_chosen]
    _selected = of_phase.filter(*_chosen)
    measured = _selected.filter(*TIMED)
    _line = mo.md(benchmarks.status_line(_selected))
    mo.stop(measured.is_empty(), mo.callout(_line, kind="neutral"))
    _line
    return measured, wanted


@app.cell(hide_code=True)
def figure_controls(measured):
    _axes = benchmarks.scaling_axes(measured)
    _titles = {axis: f"{SCALING[axis].partition(' (')[0]} ({number} lines)" for axis, number in _axes.items()}
    _longest = max(_axes, key=lambda axis: _axes[axis], default=None)
    pairs = benchmarks.comparable(measured)
    options = mo.ui.dictionary(
        {
            "gain": choice("gain", charts.GAINS, "tokens_per_s", "more of"),
            "axis": choice("axis", _titles, _longest, "along"),
            "quantity": choice("quantity", charts.SCALED, "tokens_per_s", "of"),
            "prediction": choice("prediction", PREDICTIONS, "fitted", "prediction"),
            "pair": choice("pair", {name: name for name in pairs}, next(iter(pairs), None), "compare", full_width=True),
        }
    )
    _asked = str(mo.query_params().to_dict().get("top", ""))
    top = mo.ui.slider(
        3, 30, value=min(max(int(_asked), 3), 30) if _asked.isdecimal() else 5, label="best", show_value=True
    )
    return options, pairs, top


@app.cell(hide_code=True)
def memory_control():
    memory_gib = mo.ui.number(1, 4096, value=24, label="memory of machines whose rows do not say, GiB")
    return (memory_gib,)


@app.cell(hide_code=True)
def address(options, top):
    _url = mo.query_params()
    for _name, _value in (options.value | {"top": str(top.value)}).items():
        if _value is not None and _url.get(_name) != _value:
            _url.set(_name, _value)
    return


@app.cell(hide_code=True)
def rows_table(measured):
    numbered = measured.sort("tokens_per_s", descending=True, nulls_last=True).with_row_index("no", 1)
    columns = ["no", "machine", *(name for name in benchmarks.AXES if measured[name].n_unique() > 1)]
    columns += ["median_s", "iqr_s", "tokens_per_s", "used_bytes", "source"]
    _look = {"selection": "multi", "show_search": True, "freeze_columns_left": ["no"]}
    row_table = table(numbered, columns, label="Configurations (select some to see where they lie)", **_look)
    return columns, numbered, row_table


@app.cell(hide_code=True)
def best(measured, numbered, options, row_table):
    picked = numbered.filter(pl.col("no").is_in(row_table.value["no"].to_list()))
    _gain = options.value["gain"]
    _known = measured.drop_nulls(["used_bytes", _gain])
    frontier = benchmarks.pareto(_known, gain=_gain)
    if _known.is_empty():
        pareto_view, _shown = None, [mo.md("Nothing is known of the memory of these rows.")]
    else:
        _picked = picked.drop_nulls(["used_bytes", _gain]).to_dicts()
        pareto_chart = charts.pareto_chart(_known.to_dicts(), frontier.to_dicts(), _gain, _picked)
        pareto_view = mo.ui.altair_chart(pareto_chart)
        _most = benchmarks.top_k(_known, 1, _gain).row(0, named=True)
        _note = (
            f"**{frontier.height} of {_known.height}** are on the frontier (large): no other of the same machine has as much "
            f"for as little memory. The most is {count(_most[_gain])} {charts.GAINS[_gain]} ({_most['label']}) with "
            f"{bytes_text(_most['used_bytes'])}. Memory is the measured peak, or the predicted one where the device "
            "could not tell. Draw a rectangle over points to see their rows."
        )
        _shown = [options["gain"], pareto_view, mo.md(_note)]
    section("What is best for its memory", *_shown)
    return frontier, pareto_chart, pareto_view, picked


@app.cell(hide_code=True)
def brushed_rows(columns, numbered, pareto_view):
    brushed = pareto_view.apply_selection(numbered) if pareto_view is not None and pareto_view.selections else None
    table(brushed, columns, label=f"{brushed.height} in the rectangle") if brushed is not None else None
    return (brushed,)


@app.cell(hide_code=True)
def all_rows(row_table):
    row_table
    return


@app.cell(hide_code=True)
def take_over(picked, set_taken):
    _models = picked.filter(subject="model")
    if _models.height:
        set_taken(_models.row(0, named=True))
    return


@app.cell(hide_code=True)
def picked_rows(picked):
    _details = {f"{row['no']}: {row['label']}": mo.json(row) for row in picked.to_dicts()}
    mo.accordion(_details) if _details else None
    return


@app.cell(hide_code=True)
def best_tables(measured, top):
    _axes = [name for name in benchmarks.AXES if measured[name].n_unique() > 1]

    def _best(by):
        rows = benchmarks.top_k(measured, top.value, by)
        return table(rows, ["machine", by, *_axes, "used_bytes", "median_s"], pagination=False)

    _tabs = {charts.GAINS[name]: _best(name) for name in ("tokens_per_s", "tokens_per_s_per_gib")}
    section("The best", top, mo.ui.tabs(_tabs))
    return


@app.cell(hide_code=True)
def scaling(measured, options):
    _axis, _quantity = options.value["axis"], options.value["quantity"]
    _alone = "No two of these configurations differ in one axis alone, so there is no line to draw."
    mo.stop(_axis is None, section("How it scales", mo.md(_alone)))
    groups = benchmarks.scaling_groups(measured, _axis).drop_nulls(_quantity)
    _controls = mo.hstack([options["axis"], options["quantity"]], wrap=True, justify="start", gap=2)
    mo.stop(groups.is_empty(), section("How it scales", _controls, mo.md("Not known of these rows.")))
    scaling_chart = charts.scaling_chart(groups.to_dicts(), SCALING[_axis], _quantity)
    _note = (
        f"{groups.select('source', 'group').n_unique()} lines through {groups.height} configurations; a line joins those "
        f"that are equal in all else, nothing is averaged. {groups['iqr_s'].count()} have a bar: the interquartile range."
    )
    section("How it scales", _controls, scaling_chart, mo.md(_note))
    return (groups,)


@app.cell(hide_code=True)
def fits(memory_gib, of_phase):
    # to all rows, whatever the filters: those left out help to foresee the others
    foreseeable, unfitted = predict_measured(of_phase.filter(*TIMED), int(memory_gib.value * 2**30))
    return foreseeable, unfitted


@app.cell(hide_code=True)
def predicted_rows(foreseeable, wanted):
    predictions = foreseeable.filter(*wanted)
    return (predictions,)


@app.cell(hide_code=True)
def foreseen(memory_gib, options, predictions, unfitted):
    _which = options.value["prediction"]
    _column = {"fitted": "fitted_s", "bound": "predicted_s"}[_which]
    _known = predictions.drop_nulls([_column]).filter(pl.col(_column) > 0)
    _heading = "Does the accounting predict it?"
    _why = "; ".join(unfitted) if _which == "fitted" else "run `workbook device measure` on the machine first"
    mo.stop(_known.is_empty(), section(_heading, options["prediction"], mo.md(f"No prediction of these rows: {_why}.")))
    _none = pl.lit(None, pl.Float64)
    _interval = {} if _which == "fitted" else {"low_s": _none, "high_s": _none}
    _drawn = _known.with_columns(
        predicted=_column, error=pl.col(_column) / pl.col("median_s") - 1, **_interval
    ).to_dicts()
    diagonal_chart = charts.diagonal_chart(_drawn, PREDICTIONS[_which])
    residual_chart = charts.residual_chart(_drawn, PREDICTIONS[_which])
    errors = benchmarks.error_table(_known, _column)
    _note = {
        "fitted": "Each prediction comes from a fit without the row (only how wide the correction by shape reaches was found with all); bars hold 80 %. Flagged are rows so near the "
        "memory's limit that they may have been swapping.",
        "bound": "The roofline is a bound: no point may lie above the line. What is missing to the line is what overhead, "
        "caches and kernels cost.",
    }[_which]
    _peaks = _known.drop_nulls(["peak_bytes", "predicted_peak_bytes"])
    _off = (_peaks["predicted_peak_bytes"] / _peaks["peak_bytes"] - 1).abs()
    _memory = f"Of {len(_off)} measured memory peaks the prediction is off by {_off.median() or 0:.2%} in the median."
    _floor = benchmarks.noise_floor([benchmarks.repeat_error(row) for row in _known.to_dicts()])
    _repeats = f"Repeats of these rows differ so much that a perfect prediction has a mean error of {_floor or 0:.1%}."
    _note = " ".join([_note, _repeats * (_floor is not None)])
    _words = " ".join([_note, _memory * bool(len(_off)), *(f"{line}." for line in unfitted * (_which == "fitted"))])
    _silent = _known["memory_bytes"].null_count() and _which == "fitted"
    _controls = [options["prediction"], *([memory_gib] if _silent else [])]
    section(
        _heading,
        mo.hstack(_controls, wrap=True, justify="start", gap=2),
        table(errors, pagination=False),
        mo.ui.tabs({"predicted against measured": diagonal_chart, "errors": residual_chart}),
        mo.md(_words),
    )
    return diagonal_chart, errors, residual_chart


@app.cell(hide_code=True)
def roofline(devices, predictions):
    _machines, _unmeasured = benchmarks.utilisation(
        predictions.filter(pl.col("predicted_flop") > 0).to_dicts(), devices
    )
    mo.stop(not _machines, section("How near the roof", mo.md("; ".join(_unmeasured))))
    roofs = {
        name: charts.mfu_chart(
            found["rows"], device=name, flop_per_s=found["flop_per_s"], bytes_per_s=found["bytes_per_s"]
        )
        for name, found in _machines.items()
    }
    mfu_chart = next(iter(roofs.values()))
    _highest = max((row for found in _machines.values() for row in found["rows"]), key=lambda row: row["mfu_noncausal"])
    _note = (
        f"The highest MFU is **{_highest['mfu_noncausal']:.1%}** ({_highest['label']}): FLOP of the matrix products per "
        "second, masked pairs counted (non-causal), over the best matrix product measured on the machine in that "
        "precision. The slope is the bandwidth of a copy; what stays in a cache can lie above it."
    )
    section("How near the roof", mo.ui.tabs(roofs), mo.md(" ".join([_note, *(f"{line}." for line in _unmeasured)])))
    return mfu_chart, roofs


@app.cell(hide_code=True)
def limits(predictions, unfitted):
    shares = benchmarks.shares(predictions)
    mo.stop(not shares, section("What limits", mo.md(f"Nothing fitted: {'; '.join(unfitted)}.")))
    limits_chart = charts.limits_chart(shares)
    _known = predictions.drop_nulls("compute")
    _counts = _known.group_by("regime").len().sort("len", descending=True).rows()
    _note = (
        "; ".join(f"**{name}** limits {number} of {_known.height}" for name, number in _counts)
        + ". Each fitted term is a price times an amount of the operation table: FLOP are compute, bytes bandwidth, all "
        "that is counted (operations, calls, rows) launches. Prices of amounts that grow together are told apart only "
        "as far as the rows do."
    )
    section("What limits", limits_chart, mo.md(_note))
    return limits_chart, shares


@app.cell(hide_code=True)
def comparison(measured, options, pairs):
    _none = "No configuration is there twice: on two machines, in two result sets, precisions or kinds of attention."
    mo.stop(not pairs, section("The same in two ways", mo.md(_none)))
    _by, _one, _other = pairs[options.value["pair"]]
    both = benchmarks.compare(measured, _by, _one, _other)
    _called = [f"{_by} {value}" if value in ("true", "false") else value for value in (_one, _other)]
    pairs_chart = charts.pairs_chart(both.to_dicts(), *_called)
    _note = (
        f"Of {both.height} configurations {_called[1]} is faster in {(both['times'] > 1).sum()}; the median is "
        f"{both['times'].median():.2f} times as fast, the range {both['times'].min():.2f} to {both['times'].max():.2f}."
    )
    _varying = [name for name in benchmarks.AXES if name != _by and both[name].n_unique() > 1]
    _table = table(both, ["times", *_varying, "one_s", "other_s"])
    section("The same in two ways", options["pair"], mo.md(_note), pairs_chart, _table)
    return both, pairs_chart


@app.cell(hide_code=True)
def here_controls(get_taken):
    _first = {"batch_size": 4, "context_length": 128, "d_model": 128, "num_heads": 4, "num_layers": 2, "d_ff": 384}
    _first |= {"vocab_size": 512, "attention": "sdpa", "precision": "float32"}
    _at_hand = {**_first, **get_taken()}  # of the rows selected in the table the first
    _numbers = {
        name: mo.ui.number(1, 1_000_000, value=_at_hand[name], label=benchmarks.AXES[name])
        for name in _first
        if name not in ("attention", "precision")
    }
    _words = {"attention": SUBJECTS["model"].attention, "precision": SUBJECTS["model"].precisions}
    _choices = {name: mo.ui.dropdown(values, value=_at_hand[name], label=name) for name, values in _words.items()}
    at_hand = mo.ui.dictionary(_numbers | _choices)
    measure, stop = mo.ui.run_button(label="Measure", kind="success"), mo.ui.run_button(label="Stop", kind="danger")
    section(
        "Measure here",
        mo.md(
            "Times one configuration on this machine, in a process of its own, and adds its point to every figure. A row "
            "selected in the table above is taken over."
        ),
        mo.hstack(list(at_hand.elements.values()), wrap=True, justify="start"),
        mo.hstack([measure, stop], wrap=True, justify="start"),
    )
    return at_hand, measure, stop


@app.cell(hide_code=True)
def planned(at_hand):
    plan_error = ""
    try:
        _numbers = point_costs(at_hand.value)
    except ValueError as _error:
        plan_error = str(_error)
        _shown = mo.callout(mo.plain_text(plan_error), kind="danger")
    else:
        _stats = [mo.stat(value, label=name) for name, value in _numbers.items()]
        _shown = mo.hstack(_stats, wrap=True, justify="start", gap=2)
    _shown
    return (plan_error,)


@app.cell(hide_code=True)
def act(at_hand, get_process, measure, plan_error, results_dir, set_process, stop):
    _running = get_process()
    if measure.value and not plan_error and (_running is None or _running[0].poll() is not None):
        _folder = Path(tempfile.mkdtemp(prefix="bench-here-"))
        set_process((measure_here(at_hand.value, results_dir, _folder), _folder))
    if stop.value and _running is not None:
        _running[0].kill()  # rows are written whole or not at all
    return


@app.cell(hide_code=True)
def clock(measure):
    measure.value  # a press starts the clock anew
    tick = mo.ui.refresh(options=["1s", "5s"], default_interval="1s", label="look again every")
    return (tick,)


@app.cell(hide_code=True)
def live(get_process, set_finished, set_process, tick):
    tick.value
    mo.stop(get_process() is None)
    _process, _folder = get_process()
    _said = (_folder / "log.txt").read_text(errors="replace").strip().splitlines()
    _last = "\n".join(_said[-5:]) or "starting …"
    if _process.poll() is None:
        _shown = mo.vstack([mo.hstack([mo.md("**measuring**"), tick], wrap=True), mo.plain_text(_last)])
    else:
        set_process(None)
        set_finished(lambda before: before + 1)
        _shown = mo.callout(mo.plain_text(_last), kind="success" if _process.returncode == 0 else "danger")
    _shown
    return


@app.cell(hide_code=True)
def details(measured):
    _made = measured.group_by("source", "machine", "torch_version", "git_commit").agg(
        rows=pl.len(), first=pl.col("utc").min(), last=pl.col("utc").max()
    )
    _words = r"""
    - throughput: tokens of a batch / median time; a bar is the interquartile range over rounds of measuring, and there
      is none for fewer than five;
    - time: of our own rows at the speed that the machine usually had, told by a matrix product timed beside each round
      (`relative_median` times the usual `reference_s`); `clock_s` is what the clock said;
    - FLOP: matrix products, all $T \times T$ scores counted (non-causal); bytes: read and written if each operation is one
      kernel (ideal);
    - error: |predicted - measured| / measured; p90: nine tenths of the rows are below;
    - rows of other programs (`batch_size seq_len d_model num_heads num_layers d_ff median_s`) are taken for whole training
      steps in float32 with AdamW, written-out attention and a vocabulary of 10,000 unless they say otherwise.
    """
    section(
        "Details",
        mo.accordion({"What the numbers mean": mo.md(_words), "Where the rows come from": table(_made.sort("source"))}),
    )
    return


if __name__ == "__main__":
    app.run()
