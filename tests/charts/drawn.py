"""What a chart draws: its layers with their rows, as Vega-Lite is given them."""


def layers(chart) -> list[tuple[dict, list[dict]]]:
    """(encoding, rows) of every layer."""
    content = chart.to_dict()
    found = []
    for layer in content.get("layer", [content]):
        data = layer.get("data", content.get("data"))
        rows = data.get("values") or content["datasets"][data["name"]]
        found.append((layer["encoding"], rows))
    return found


def fields(encoding: dict) -> set[str]:
    channels = [channel for value in encoding.values() for channel in (value if isinstance(value, list) else [value])]
    return {channel["field"] for channel in channels if "field" in channel}


def marked(chart, mark: str) -> list[list[dict]]:
    """The rows of every layer with this kind of mark."""
    content = chart.to_dict()
    kinds = [layer["mark"]["type"] for layer in content["layer"]]
    return [rows for kind, (_, rows) in zip(kinds, layers(chart), strict=True) if kind == mark]


def check(chart) -> None:
    """Every field is a column of every row, and every layer draws something."""
    for encoding, rows in layers(chart):
        assert len(rows) > 0
        for row in rows:
            assert fields(encoding) <= set(row)
