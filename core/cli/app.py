"""The root of the command line: groups of commands, and errors as one line."""

import os
import sys
from pathlib import Path

import typer
from typer.exceptions import TyperException

from core.cli import account, bench, data, device, generate, publish, quickstart, tokenizer, train

app = typer.Typer(
    name="workbook",
    help="The LM workbook: text to tokens to a trained Transformer to results, each step a command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.command("quickstart")(quickstart.quickstart)
app.add_typer(data.app, name="data")
app.add_typer(tokenizer.app, name="tokenizer")
app.command("account")(account.account)
app.add_typer(bench.app, name="bench")
app.add_typer(device.app, name="device")
app.command("publish")(publish.publish)
app.command("train")(train.train)
app.command("generate")(generate.generate)


def main() -> None:
    """Run the command line; what the user got wrong becomes one line and exit code 2."""
    # GNU OpenMP's threads spin while they wait, and where another process wants the core they spin against it: with one
    # busy neighbour on two cores a quickstart step took 181 ms; spinning less, 116 ms (alone 47 and 52 ms). Benchmarks
    # are run alone, and there it would cost the smallest models half of their speed.
    if sys.argv[1:2] != ["bench"]:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        message = error.format_message()
        if message.lstrip().startswith("Usage:"):  # a group without a command: its help, as it is
            print(message, file=sys.stderr)
            sys.exit(2)
        _refuse(message.replace("Value error, ", ""))
    except OSError as error:
        _fail(_os_error_text(error))
    except ValueError as error:
        _refuse(str(error))
    except (MemoryError, RuntimeError) as error:
        if not _is_out_of_memory(error):
            raise
        _fail(f"out of memory ({str(error).splitlines()[0]}): a smaller batch_size or model would fit")
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    if code == 130:  # Ctrl-C inside a command
        print("interrupted", file=sys.stderr)
    sys.exit(code or 0)


def _os_error_text(error: OSError) -> str:
    """What the operating system refused, in words, and where; a file in the place of a folder is named itself."""
    if error.filename is None or error.strerror is None:
        return str(error)
    path = Path(os.fsdecode(error.filename))
    if isinstance(error, (NotADirectoryError, FileExistsError)):
        for place in (path, *path.parents):
            if place.is_file():
                return f"{place} is a file: a folder is needed there"
    return f"{path}: {error.strerror[:1].lower()}{error.strerror[1:]}"


def _is_out_of_memory(error: Exception) -> bool:
    # torch raises RuntimeErrors for it, on CUDA a subclass that cannot be named here without loading torch.
    return isinstance(error, MemoryError) or "out of memory" in str(error) or "can't allocate memory" in str(error)


def _fail(message: str) -> None:
    print(f"workbook: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)


def _refuse(message: str) -> None:
    """Fail for what every process of a run under torchrun finds wrong alike: one of them says so."""
    if os.environ.get("RANK", "0") != "0":
        sys.exit(2)
    _fail(message)
