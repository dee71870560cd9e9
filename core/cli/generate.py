"""`workbook generate`: text from a trained run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from core.cli.options import DEFAULT_DATA, DataDir, Device


def generate(
    run_id: Annotated[
        str | None, typer.Argument(metavar="RUN", help="A run's id; the latest one if not given.", show_default=False)
    ] = None,
    prompt: Annotated[str, typer.Option(help="Text to continue; empty starts a new document.")] = "",
    max_new_tokens: Annotated[int, typer.Option(help="Stop after so many tokens.")] = 256,
    temperature: Annotated[float, typer.Option(help="0 is greedy, below 1 sharper, above 1 flatter.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw among the k most probable only.", show_default=False)] = None,
    top_p: Annotated[
        float | None,
        typer.Option(help="Draw among the fewest that hold this much probability.", show_default=False),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**62, help="Other seeds, other texts.")] = 0,
    num_samples: Annotated[int, typer.Option(min=1, help="How many texts.")] = 1,
    checkpoint: Annotated[
        Literal["latest", "best"], typer.Option(help="Which one: the latest, or the one that evaluated best.")
    ] = "latest",
    data: DataDir = DEFAULT_DATA,
    device: Device = "auto",
) -> None:
    """Generate text; it ends at <|endoftext|>. Of a prompt longer than the context only the end is seen."""
    import codecs

    from core.cli.console import say
    from core.inference.load import load_run
    from core.training.device import resolve_device

    run = load_run(data, run_id or _latest(data), resolve_device(device), checkpoint)
    for sample in range(num_samples):
        if num_samples > 1:
            say(f"--- sample {sample} ---")
        ids = run.complete(
            prompt, max_new_tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed + sample
        )
        # A character may be spread over several tokens: hold its bytes back until it is whole.
        decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        print(prompt, end="", flush=True)
        for token_id in ids:
            print(decoder.decode(run.tokenizer.decode_bytes([token_id])), end="", flush=True)
        print(decoder.decode(b"", final=True))


def _latest(data: Path) -> str:
    runs = [path for path in (data / "runs").glob("*") if (path / "checkpoints").is_dir()]
    if not runs:
        raise ValueError(f"{data / 'runs'}: no trained run there; `workbook quickstart` makes one")
    return max(runs, key=lambda path: path.stat().st_mtime).name
