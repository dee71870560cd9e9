"""Where a number comes from: the commit of the code and the time."""

import subprocess
from datetime import UTC, datetime
from pathlib import Path


def utc_now() -> str:
    """The time now, ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def git_commit() -> str | None:
    """The commit of this code, with `-dirty` if `core/` has uncommitted changes; None outside a checkout of it."""
    package = Path(__file__).parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", str(package), *arguments], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    # An installed copy may lie inside somebody else's repository (a virtual environment, say): not ours to name.
    if git("ls-files", "--error-unmatch", "provenance.py") is None:
        return None
    commit = git("rev-parse", "HEAD")
    return f"{commit}-dirty" if commit and git("status", "--porcelain", "--", ".") else commit
