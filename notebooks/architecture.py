import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Architecture accounting")

with app.setup:
    import json
    import sys
    import typing
    from pathlib import Path

    import marimo as mo

    from core import accounting, charts
    from core.accounting import generation, growth, hardware, roofline, rows
    from core.accounting.formulas import SYMBOLS
    from core.accounting.summary import summary
    from core.accounting.summary import workload as workload_of
    from core.accounting.text import bytes_text, count, duration
    from core.config import ModelConfig, from_dict, to_dict, with_fields
    from core.presets import PRESETS, preset

    _WIDTHS = [*range(64, 1024, 64), *range(1024, 4096, 256), *range(4096, 20481, 1024)]
    _HEADS = [1, 2, 3, *range(4, 129, 4)]
    SIZES = {
        "num_layers": ("layers L", range(1, 129)),
        "d_model": ("width d", _WIDTHS),
        "num_heads": ("heads", _HEADS),
        "num_kv_heads": ("key/value heads", _HEADS),
        "head_dim": ("head width", range(16, 513, 16)),
        "d_ff": ("feed-forward f", [*_WIDTHS, *range(21_504, 65_537, 2048)]),
        "vocab_size": (
            "vocabulary V",
            [256, 1024, 4096, 10_000, 32_000, 50_257, 65_536, 100_256, 128_256, 151_936, 256_000],
        ),
        "experts.num_experts": ("experts", [2**power for power in range(11)]),
        "experts.experts_per_token": ("per token", range(1, 33)),
        "experts.d_ff": ("expert width", [*_WIDTHS]),
        "experts.num_shared": ("shared experts", range(9)),
        "latent.query_rank": ("query rank", range(64, 4097, 64)),
        "latent.key_value_rank": ("key/value rank", range(64, 2049, 64)),
    }
    CHOICES = {
        "attention": "attention",
        "feed_forward": "feed-forward",
        "norm": "norm",
        "norm_placement": "norms",
        "positions": "positions",
    }
    SWITCHES = {"tie_embeddings": "tied head", "bias": "biases", "qk_norm": "query/key norm"}
    RUN = {"tokens": 300_000_000, "mfu": 0.4, "devices": 1, "price": 2.5, "prompt": 1024, "new": 256}
    PINNED = "(pinned)"
    WORKLOAD = ("seq", "batch_size", "precision", "optimizer", "checkpointing")

    def choices(name):
        """The values that a field of a model may have."""
        return typing.get_args(ModelConfig.__dataclass_fields__[name].type)

    def value_at(model, name):
        """A field by its dotted name; None where the model has no such part."""
        if name == "num_kv_heads":
            return None if model.latent else model.kv_heads
        if name == "d_ff" and model.experts and not model.experts.num_dense_layers:
            return None  # every layer is a mixture
        part, _, field = name.rpartition(".")
        holder = getattr(model, part) if part else model
        return None if holder is None else getattr(holder, field)

    def changed(model, values):
        """The model with these fields replaced."""
        fields = {name: value for name, value in values.items() if name not in ("seq", "batch_size")}
        if model.num_kv_heads is None and fields.get("num_kv_heads") == model.kv_heads:
            fields["num_kv_heads"] = None  # as many as heads, however many these become
        return with_fields(model, {**fields, "context_length": max(values["seq"], model.context_length)})

    def beside(name):
        """The model that this one is compared with at first."""
        return "gpt2" if name == "llama-3-8b" else "llama-3-8b"

    def plain_table(rows):
        """A small table that needs no search and no pages."""
        titles = list(dict.fromkeys(title for row in rows for title in row))
        numbers = [any(letter.isdigit() for letter in str(rows[0].get(title, ""))) for title in titles]
        align = ["---:" if number else ":---" for number in numbers]
        lines = [titles, align, *([str(row.get(title, "")) for title in titles] for row in rows)]
        return mo.md("\n".join(f"| {' | '.join(line)} |" for line in lines))

    def long_table(rows, **options):
        """A table with pages; nothing to select."""
        hidden = {"selection": None, "show_download": False, "show_column_summaries": False, "show_data_types": False}
        return mo.ui.table(rows, show_search=False, **hidden, **options)


@app.cell(hide_code=True)
def title():
    mo.md("""
    # What does an architecture cost?

    Every parameter, floating-point operation and byte of a Transformer, exact: each number below is one formula of one
    table, and tests hold the table to what torch really computes, keeps and allocates. Start from a model you know, move
    a slider, and see what changes.
    """)
    return


@app.cell(hide_code=True)
def inputs_devices():
    def _read(location):
        if "pyodide" in sys.modules:  # in the reader's browser files come over HTTP
            from pyodide.http import open_url

            return open_url(str(location)).read()
        return Path(location).read_text() if Path(location).exists() else "[]"

    try:
        _measured = json.loads(_read(mo.notebook_location() / "public" / "devices.json"))
    except (OSError, ValueError):
        _measured = []
    devices = {**hardware.DEVICES, **{entry["id"]: hardware.device_from_dict(entry) for entry in _measured}}
    return (devices,)


@app.cell(hide_code=True)
def start_from():
    _asked = str(mo.query_params().to_dict().get("model", ""))
    model_name = mo.ui.dropdown(
        list(PRESETS), value=_asked if _asked in PRESETS else "tinystories", label="start from", searchable=True
    )
    upload = mo.ui.file(filetypes=[".json"], label="or a configuration (JSON)")
    mo.hstack([model_name, upload], wrap=True, justify="start", align="end", gap=2)
    return model_name, upload


@app.cell(hide_code=True)
def base(model_name, upload):
    uploaded = {}
    _problem = None
    if upload.value:
        try:
            uploaded = json.loads(upload.value[0].contents)
            base_model = from_dict(ModelConfig, uploaded.get("model", uploaded))
        except (ValueError, TypeError, AttributeError) as _error:
            _problem, uploaded = f"{upload.value[0].name}: {_error}", {}
    if not uploaded:
        base_model = preset(model_name.value).model
    mo.callout(mo.plain_text(_problem), kind="danger") if _problem else None
    return base_model, uploaded


@app.cell(hide_code=True)
def controls(base_model, devices, model_name, uploaded):
    _url = mo.query_params().to_dict()
    # What the address says belongs to the model it names; another model starts from its own values.
    _given = {} if uploaded or _url.get("model", model_name.value) != model_name.value else _url
    _given = {**{name: uploaded[name] for name in WORKLOAD if name in uploaded}, **_given}

    def _slider(name, label, value, choices):
        asked = str(_given.get(name, ""))
        value = int(asked) if asked.isdigit() and 0 < int(asked) < 2**63 else value
        return mo.ui.slider(steps=sorted({*choices, value}), value=value, label=label, show_value=True)

    def _choice(name, label, value, choices):
        return mo.ui.dropdown(list(choices), value=_given[name] if _given.get(name) in choices else value, label=label)

    def _switch(name, label, value):
        return mo.ui.switch(value=str(_given[name]) in ("1", "True") if name in _given else value, label=label)

    _sizes = {name: (label, value_at(base_model, name), steps) for name, (label, steps) in SIZES.items()}
    defaults = {
        **{name: value for name, (_, value, _) in _sizes.items() if value is not None},
        **{"seq": base_model.context_length, "batch_size": 1},
        **{name: getattr(base_model, name) for name in (*CHOICES, *SWITCHES)},
        **{"precision": "float32", "optimizer": "adamw", "device": "h100-sxm", "checkpointing": False},
    }
    shape = mo.ui.dictionary(
        {
            **{n: _slider(n, label, value, steps) for n, (label, value, steps) in _sizes.items() if value is not None},
            "seq": _slider("seq", "context T", defaults["seq"], [2**power for power in range(3, 21)]),
            "batch_size": _slider("batch_size", "batch B", 1, [*range(1, 17), *(2**power for power in range(5, 13))]),
        }
    )
    variants = mo.ui.dictionary(
        {
            **{name: _choice(name, label, defaults[name], choices(name)) for name, label in CHOICES.items()},
            **{name: _switch(name, label, defaults[name]) for name, label in SWITCHES.items()},
        }
    )
    training = mo.ui.dictionary(
        {
            "precision": _choice("precision", "precision", "float32", accounting.PRECISIONS),
            "optimizer": _choice("optimizer", "optimizer", "adamw", accounting.OPTIMIZERS),
            "device": _choice("device", "device", "h100-sxm", devices),
            "checkpointing": _switch("checkpointing", "activation checkpointing", False),
        }
    )

    def _side_by_side(group):
        return mo.hstack(list(group.elements.values()), wrap=True, justify="start", align="end", gap=1.5)

    _more = mo.accordion({"Variants: attention, feed-forward, norms, positions, biases": _side_by_side(variants)})
    mo.vstack([_side_by_side(shape), _side_by_side(training), _more], gap=1)
    return defaults, shape, training, variants


@app.cell(hide_code=True)
def address(defaults, degree, growth_axis, model_name, other_name, run, shape, show, training, uploaded, variants):
    # The address carries the model and what differs from it, so that a link shows the same page.
    _values = {**shape.value, **variants.value, **training.value, **run.value}
    _values |= {"show": show.value, "grow": growth_axis.value, "beside": other_name.value, "degree": degree.value}
    _known = {**defaults, **RUN, "show": "parameters", "grow": "seq", "beside": beside(model_name.value), "degree": 8}
    _changed = {name: str(value) for name, value in _values.items() if value != _known[name]}
    _changed = {name: value for name, value in _changed.items() if value != PINNED}
    _wanted = {**({} if uploaded else {"model": model_name.value}), **_changed}
    _url = mo.query_params()
    for _name in [name for name in _url.to_dict() if name in ("model", *_values) and name not in _wanted]:
        _url.remove(_name)
    for _name, _value in _wanted.items():
        if _url.get(_name) != _value:
            _url.set(_name, _value)
    return


@app.cell(hide_code=True)
def evaluate(base_model, devices, shape, training, variants):
    workload = {name: shape.value[name] for name in ("seq", "batch_size")}
    workload |= {name: training.value[name] for name in ("precision", "optimizer", "checkpointing")}
    device = devices[training.value["device"]]
    _problem = None
    try:
        model = changed(base_model, {**shape.value, **variants.value})
        costs = accounting.account(model, **workload)
        step_time = roofline.training_time(costs, device)
    except ValueError as _error:
        _problem = str(_error)
    mo.stop(_problem is not None, mo.callout(mo.plain_text(f"This does not go together: {_problem}"), kind="warn"))
    peak = accounting.peak(costs)
    return costs, device, model, peak, step_time, workload


@app.cell(hide_code=True)
def headline(costs, device, peak, step_time):
    _fits = peak.total <= device.memory_bytes
    _active = "" if costs.active_parameters == costs.parameters else f", {count(costs.active_parameters)} active"
    _ratio = costs.training_step_flop_6nd / costs.training_step_flop
    _stats = [
        mo.stat(count(costs.parameters), label="parameters", caption=f"{costs.parameters:,}{_active}"),
        mo.stat(count(costs.forward_flop, "FLOP"), label="forward", caption=f"{costs.forward_flop:,}"),
        mo.stat(
            count(costs.training_step_flop, "FLOP"),
            label="training step (non-causal)",
            caption=f"6ND is {_ratio:.3f} of it",
        ),
        mo.stat(bytes_text(costs.saved_bytes), label="saved for backward", caption=f"{costs.saved_bytes:,} bytes"),
        mo.stat(bytes_text(peak.total), label="memory at the peak", caption=f"in {peak}"),
        mo.stat(
            duration(step_time.roofline_s),
            label="a step, roofline",
            caption=f"{costs.tokens / step_time.roofline_s:,.0f} tokens/s at best",
        ),
    ]
    _verdict = (
        f"**Fits** {device.name}: {bytes_text(peak.total)} of {bytes_text(device.memory_bytes)}."
        if _fits
        else f"**Does not fit** {device.name}: {bytes_text(peak.total)} needed, {bytes_text(device.memory_bytes)} there."
    )
    mo.vstack(
        [
            mo.hstack(_stats, wrap=True, justify="start", gap=1),
            mo.callout(mo.md(_verdict), kind="success" if _fits else "danger"),
        ]
    )
    return


@app.cell(hide_code=True)
def picture(costs):
    diagram = charts.diagram(
        rows.diagram_rows(costs, lambda name: f"#{charts.anchor('operation', name)}"),
        title="The forward pass",
        bytes_are="the bytes that it keeps for the backward",
    )
    mo.vstack([mo.md("## The forward pass"), mo.Html(diagram)])
    return (diagram,)


@app.cell(hide_code=True)
def breakdown_controls():
    _asked = mo.query_params().to_dict().get("show")
    show = mo.ui.radio(list(rows.BREAKDOWNS), value=_asked if _asked in rows.BREAKDOWNS else "parameters", inline=True)
    mo.vstack([mo.md("## Where it goes, in a training step"), show])
    return (show,)


@app.cell(hide_code=True)
def breakdown(costs, show):
    breakdown_chart = charts.breakdown_chart(rows.breakdown_rows(costs, show.value), show.value)
    breakdown_chart
    return (breakdown_chart,)


@app.cell(hide_code=True)
def memory_figure(costs, device, peak):
    memory_chart = charts.memory_walk_chart(rows.memory_rows(costs), device.memory_bytes, device.name)
    _parts = ", ".join(f"{kind} {bytes_text(getattr(peak, kind))}" for kind in peak.KINDS)
    _text = mo.md(
        f"The peak is in **{peak}**: {bytes_text(peak.total)} ({_parts}). Each point is the worst moment of one layer in "
        "one phase. On a CPU this is what the allocator hands out, to within half a percent; a GPU adds its context, "
        "workspaces and the allocator's slack."
    )
    mo.vstack([mo.md("## Memory over a training step"), memory_chart, _text])
    return (memory_chart,)


@app.cell(hide_code=True)
def roofline_figure(costs, device, step_time):
    roofline_chart = charts.roofline_chart(
        rows.roofline_points(step_time),
        peak_flop_per_s=step_time.peak_flop_per_s,
        bytes_per_s=device.memory_bytes_per_s,
        device=device.name,
    )
    _causal = costs.training_step_flop_causal / step_time.roofline_s / step_time.peak_flop_per_s
    _memory_s = sum(bound.seconds for bound in step_time.operations if bound.limit == "memory")
    _text = mo.md(
        f"Operations left of the ridge wait for memory: {_memory_s / step_time.roofline_s:.0%} of the step's time at best. "
        f"Nothing is faster than the arithmetic, {duration(step_time.arithmetic_s)}; if every operation is a kernel of its "
        f"own, nothing is faster than {duration(step_time.roofline_s)}, an MFU of {step_time.mfu_noncausal:.1%} "
        f"(non-causal; {_causal:.1%} causal) at {count(step_time.peak_flop_per_s, 'FLOP/s')} in {costs.precision}."
    )
    mo.vstack([mo.md(f"## What bounds it on {device.name}"), roofline_chart, _text])
    return (roofline_chart,)


@app.cell(hide_code=True)
def growth_controls():
    _asked = mo.query_params().to_dict().get("grow")
    growth_axis = mo.ui.dropdown(
        {label: axis for axis, label in growth.AXES.items()},
        value=growth.AXES[_asked if _asked in growth.AXES else "seq"],
        label="multiply",
    )
    mo.vstack([mo.md("## How it grows"), growth_axis])
    return (growth_axis,)


@app.cell(hide_code=True)
def growth_figure(growth_axis, model, workload):
    _axis = growth_axis.value
    growth_chart = charts.growth_chart(
        rows.growth_rows(model, _axis, **workload),
        x_title=f"factor on {growth.AXES[_axis]}",
        y_title="factor on the cost",
        log_x=True,
        log_y=True,
    )
    _powers = ", ".join(
        f"{label} with power **{growth.exponent(model, _axis, name, **workload):.2f}**"
        for name, label in growth.QUANTITIES.items()
    )
    mo.vstack([growth_chart, mo.md(f"From here to twice as much grow: {_powers}.")])
    return (growth_chart,)


@app.cell(hide_code=True)
def pinned_state():
    get_pinned, set_pinned = mo.state(None)
    return get_pinned, set_pinned


@app.cell(hide_code=True)
def compare_controls(get_pinned, model_name):
    _asked = mo.query_params().to_dict().get("beside")
    _names = [*([PINNED] if get_pinned() else []), *PRESETS]
    _default = PINNED if get_pinned() else _asked if _asked in PRESETS else beside(model_name.value)
    other_name = mo.ui.dropdown(_names, value=_default, label="with", searchable=True)
    pin = mo.ui.run_button(label="pin this configuration, then change it")
    mo.vstack(
        [mo.md("## Beside another"), mo.hstack([other_name, pin], wrap=True, justify="start", align="end", gap=1.5)]
    )
    return other_name, pin


@app.cell(hide_code=True)
def pinning(costs, pin, set_pinned):
    if pin.value:
        set_pinned(costs)
    return


@app.cell(hide_code=True)
def comparison(costs, get_pinned, other_name, workload):
    if other_name.value == PINNED:
        _other = get_pinned()
    else:
        _model = preset(other_name.value).model
        _other = accounting.account(_model, **{**workload, "seq": min(workload["seq"], _model.context_length)})
    compared = rows.comparison_rows(costs, _other)
    _table = [
        {
            "": row["quantity"],
            "this": row["this_text"],
            other_name.value: row["other_text"],
            "factor": f"× {row['ratio']:.3g}",
        }
        for row in compared
    ]
    comparison_chart = charts.comparison_chart(
        [
            {"quantity": row["quantity"], "side": side, "value": row[which], "ratio": row["ratio"]}
            for row in compared
            for side, which in (("A", "this"), ("B", "other"))
        ]
    )
    _here, _there = ({**to_dict(each.model), **workload_of(each)} for each in (costs, _other))
    _fields = [
        {"field": name, "this": str(_here[name]), other_name.value: str(_there[name])}
        for name in _here
        if _here[name] != _there[name]
    ]
    _differ = (
        mo.accordion({f"{len(_fields)} fields differ": plain_table(_fields)}) if _fields else mo.md("*The same model.*")
    )
    _key = mo.md(f"A is this configuration, B is {other_name.value}.")
    mo.vstack([plain_table(_table), comparison_chart, _key, _differ])
    return compared, comparison_chart


@app.cell(hide_code=True)
def budgets(devices, model, workload):
    _text = (
        f"## What fits\n\nThe largest batch of {workload['seq']:,} tokens each, and the longest sequence at batch "
        f"{workload['batch_size']}, of which a whole training step fits."
    )
    budget_rows = rows.budget_rows(model, devices.values(), workload)
    mo.vstack([mo.md(_text), long_table(budget_rows, page_size=8)])
    return (budget_rows,)


@app.cell(hide_code=True)
def many_devices_controls():
    _asked = str(mo.query_params().to_dict().get("degree", ""))
    _steps = [1, 2, 4, 8, 16, 32, 64, 128]
    degree = mo.ui.slider(
        steps=_steps,
        value=int(_asked) if _asked.isdigit() and int(_asked) in _steps else 8,
        label="devices",
        show_value=True,
    )
    mo.vstack([mo.md("## On many devices"), degree])
    return (degree,)


@app.cell(hide_code=True)
def many_devices(costs, degree, device):
    _text = "Each device works on the batch above. An upper bound: as if all gradients lived at the activations' peak."
    mo.vstack([plain_table(rows.shard_rows(costs, degree.value, device)), mo.md(_text)])
    return


@app.cell(hide_code=True)
def run_controls():
    _url = mo.query_params().to_dict()

    def _asked(name, low, high, kind=int):
        try:
            number = kind(_url.get(name, RUN[name]))
        except ValueError:
            return RUN[name]
        return number if low <= number <= high else RUN[name]

    def _powers(name, label, most):
        steps = sorted({*(2**power for power in range(most + 1)), _asked(name, 1, 2**most)})
        return mo.ui.slider(steps=steps, value=_asked(name, 1, 2**most), label=label, show_value=True)

    run = mo.ui.dictionary(
        {
            "tokens": mo.ui.number(1, 10**15, step=1, value=_asked("tokens", 1, 10**15), label="tokens"),
            "mfu": mo.ui.slider(
                0.05, 1.0, step=0.05, value=_asked("mfu", 0.05, 1.0, float), label="MFU (non-causal)", show_value=True
            ),
            "devices": mo.ui.number(1, 100_000, step=1, value=_asked("devices", 1, 100_000), label="devices"),
            "price": mo.ui.number(0, 1000, value=_asked("price", 0, 1000, float), label="USD per device and hour"),
            "prompt": _powers("prompt", "prompt", 17),
            "new": _powers("new", "new tokens", 14),
        }
    )
    mo.vstack(
        [
            mo.md("## A whole run, and its use"),
            mo.hstack(list(run.elements.values()), wrap=True, justify="start", align="end", gap=1.5),
        ]
    )
    return (run,)


@app.cell(hide_code=True)
def whole_run(costs, device, model, run, step_time):
    _flop = costs.training_step_flop / costs.tokens * run.value["tokens"]
    _seconds = roofline.training_seconds(_flop, step_time.peak_flop_per_s * run.value["devices"], run.value["mfu"])
    _price = run.value["price"] * run.value["devices"] * _seconds / 3600
    answer = generation.generation(model, prompt_tokens=run.value["prompt"], new_tokens=run.value["new"])
    try:
        _prefill, _decode = (time.roofline_s for time in answer.times(device))
        _speed = (
            f"on {device.name} the prompt takes at least {duration(_prefill)} and each new token {duration(_decode)}, "
            f"so {1 / _decode:,.0f} tokens/s at best"
        )
    except ValueError as _error:
        _speed = str(_error)
    mo.md(
        f"""
    - **Training** on {count(run.value["tokens"])} tokens is {count(_flop, "FLOP")}: **{duration(_seconds)}** on
      {run.value["devices"]} × {device.name} at an MFU of {run.value["mfu"]:.0%} (non-causal), **{_price:,.0f} USD**.
    - **Generation** in bfloat16, one prompt of {run.value["prompt"]:,} tokens and {run.value["new"]:,} new ones: weights
      and cache take {bytes_text(answer.memory_bytes)} (the cache grows by
      {bytes_text(generation.kv_cache_bytes_per_token(model))} a token); {_speed}.
    """
    )
    return (answer,)


@app.cell(hide_code=True)
def conventions(costs):
    mo.vstack([mo.md("## One step, four ways to count"), plain_table(rows.convention_rows(costs))])
    return


@app.cell(hide_code=True)
def details(costs, device, model, model_name, uploaded, workload):
    _symbols = "\n".join(
        f"| ${symbol}$ | {meaning} | {costs.symbols[name]:,} |"
        for name, (symbol, meaning) in SYMBOLS.items()
        if costs.symbols.get(name)
    )
    _textbook = accounting.textbook_memory_bytes(model, workload["batch_size"], workload["seq"])
    _sources = "\n".join(
        f"| {peak.input_dtype} in {peak.accumulate_dtype} | {count(peak.flop_per_s, 'FLOP/s')} | {peak.status} | {peak.source} |"
        for peak in device.peaks
    )
    # As `workbook train` and `workbook account` read it.
    configuration_file = json.dumps(
        {
            "preset": uploaded.get("preset", model_name.value),
            "model": to_dict(model),
            "batch_size": workload["batch_size"],
        },
        indent=1,
    )
    _downloads = [
        mo.download(configuration_file.encode(), filename=f"{model_name.value}.json", label="configuration (JSON)"),
        mo.download(
            lambda: json.dumps(summary(costs, device), indent=1).encode(),
            filename=f"{model_name.value}-account.json",
            label="all numbers (JSON)",
        ),
    ]
    operation_rows = rows.operation_rows(costs)
    _table = mo.Html(charts.linked_table(operation_rows, "operation"))
    _more = {
        "Formulas": mo.accordion(
            {row.name: lambda row=row: mo.md(rows.formula_markdown(row)) for row in costs.rows},
            multiple=True,
            lazy=True,
        ),
        "Symbols": mo.md(f"| symbol | meaning | here |\n|---|---|---|\n{_symbols}"),
        "The textbook's memory": mo.md(
            "Every tensor of the forward stored once in float32, and a state of four times the weights: "
            f"{_textbook['activations']:,} + {_textbook['state']:,} = {sum(_textbook.values()):,} bytes."
        ),
        f"Peaks of {device.name}, and where they come from": mo.md(
            f"| product | peak | | source |\n|---|---|---|---|\n{_sources}\n\nMemory {bytes_text(device.memory_bytes)} "
            f"at {count(device.memory_bytes_per_s, 'B/s')} ({device.memory_status}: {device.memory_source})."
        ),
    }
    mo.vstack(
        [
            mo.md("## Details"),
            mo.hstack(_downloads, wrap=True, justify="start"),
            mo.md("One occurrence of each operation; how often it occurs is the second column."),
            _table,
            mo.accordion(_more),
        ]
    )
    return configuration_file, operation_rows


if __name__ == "__main__":
    app.run()
