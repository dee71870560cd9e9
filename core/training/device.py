"""Which device a run uses, and what it is called."""

import platform
from pathlib import Path

import torch


def resolve_device(name: str) -> str:
    """The name of a device that is there; `auto` is the first of cuda, mps, cpu.

    Raises:
        ValueError: For a device that torch does not know or that this machine has not.
    """
    available = ["cpu"]
    if torch.backends.mps.is_available():
        available.insert(0, "mps")
    if torch.cuda.is_available():
        available = [f"cuda:{index}" for index in range(torch.cuda.device_count())] + available
    if name == "auto":
        return available[0].removesuffix(":0")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or (name not in available and f"{name}:0" not in available):
        raise ValueError(f"device is {name!r}: this machine has {', '.join(available)} (or say auto)")
    return name


def device_name(device: str) -> str:
    """The product name of a device, as its maker spells it."""
    kind = torch.device(device).type
    if kind == "cuda":
        return torch.cuda.get_device_name(device)
    if kind == "cpu" and Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    if platform.system() == "Darwin":
        import subprocess

        done = subprocess.run(["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.strip()
    return platform.processor() or platform.machine()
