"""A text to run commands on, and how they ended: well, or with one line that says what is wrong."""

END = "<|endoftext|>"
TEXT = f"the cat and the dog{END}then a café\r\n{END}\n" * 30


def said(result: tuple[int, str, str]) -> str:
    """What a command that did its work printed."""
    code, out, error = result
    # The first use of the fast engine on a machine says that it compiles.
    error = "".join(line for line in error.splitlines(keepends=True) if not line.startswith("compiling the fast"))
    assert (code, error) == (0, "")
    return out


def refused(result: tuple[int, str, str]) -> str:
    """The one line of a command that refused."""
    code, out, error = result
    assert (code, out) == (2, "")
    assert error.startswith("workbook: ")
    assert error.count("\n") == 1
    return error
