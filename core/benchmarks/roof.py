"""Which share of a machine's arithmetic benchmark rows used, and what its roofline is."""

from collections.abc import Iterable, Mapping
from typing import Any

from core.accounting.runs import gemm_flop_per_s, mfu_noncausal


def utilisation(
    rows: Iterable[Mapping[str, Any]], devices: Iterable[Mapping[str, Any]]
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Rows with their MFU, by machine and precision.

        mfu_noncausal = FLOP of the matrix products (non-causal) / median time / best measured matrix product

    Args:
        rows: As `core.benchmarks.load_benchmarks` has them; those without a time or without products are left out.
        devices: Rows of table `devices`.

    Returns:
        By "machine, precision": `rows` (each with `mfu_noncausal`), `flop_per_s` (of the best matrix product) and
        `bytes_per_s` (of a copy); and a line about each machine that has not been measured.
    """
    devices = list(devices)
    found: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for row in rows:
        if not row["flop_per_s"]:
            continue
        name = f"{row['machine']}, {row['precision']}"
        if name not in found and name not in missing:
            try:
                found[name] = {"rows": [], **_roof(row, devices)}
            except ValueError as error:
                missing[name] = str(error)
        if name in found:
            mfu = mfu_noncausal(row["flop_per_s"], found[name]["flop_per_s"])
            found[name]["rows"].append({**row, "mfu_noncausal": mfu})
    return found, list(dict.fromkeys(missing.values()))


def _roof(row: Mapping[str, Any], devices: list[Mapping[str, Any]]) -> dict[str, float]:
    machine = {name: row[name] for name in ("device", "device_name", "num_threads")}
    peak = gemm_flop_per_s(devices, precision=row["precision"], **machine)
    kind = row["device"].partition(":")[0]
    copies = [
        other["value"]
        for other in devices
        if other["quantity"] == "copy"
        and (other["device"].partition(":")[0], other["device_name"]) == (kind, row["device_name"])
        and (kind != "cpu" or other["num_threads"] == row["num_threads"])
    ]
    if not copies:
        raise ValueError(f"no copy has been measured on {row['machine']}: run `workbook device measure` there")
    return {"flop_per_s": peak, "bytes_per_s": max(copies)}
