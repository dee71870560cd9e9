"""A mirror of a run that can neither stop nor slow it, whatever becomes of the mirror."""

import contextlib
import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from core.records import RunRow, StepRow
from core.training.sinks.protocol import Sink


class QueuedSink:
    """Opens and feeds a sink in a thread of its own, from a queue of bounded length.

    A row that finds the queue full is dropped and counted. Whatever the sink raises becomes one warning, and it gets
    nothing more. The rows on disk know nothing of either.

    Args:
        name: What warnings call the mirror.
        make: Opens the sink. A ValueError is a wrong use: it is raised here, where it comes within `open_timeout_s`.
        warn: Takes a line of text, also from the thread.
        capacity: Rows that may wait.
        open_timeout_s: How long to wait for `make`; after that rows queue while it goes on.
        finish_timeout_s: How long `finish` waits for the sink to take what waits, and to finish.

    Raises:
        ValueError: What `make` raised.
    """

    def __init__(
        self,
        name: str,
        make: Callable[[], Sink],
        warn: Callable[[str], None],
        *,
        capacity: int = 10_000,
        open_timeout_s: float = 15.0,
        finish_timeout_s: float = 60.0,
    ) -> None:
        self._name = name
        self._tell = warn
        self._finish_timeout_s = finish_timeout_s
        self._queue: queue.Queue[StepRow | RunRow] = queue.Queue(capacity)
        self._closed = threading.Event()
        self._dropped = 0
        self._opening: Future[None] = Future()
        # A daemon: a sink that hangs does not keep the process from ending.
        self._thread = threading.Thread(target=self._follow, args=[make], name=f"{name} mirror", daemon=True)
        self._thread.start()
        try:
            error = self._opening.exception(open_timeout_s)
        except TimeoutError:
            self._warn(f"has not started after {open_timeout_s:g} s; training goes on, rows wait")
            self._opening.add_done_callback(lambda opening: self._fail(opening.exception()))
        else:
            if isinstance(error, ValueError):
                raise error
            self._fail(error)

    def row(self, row: StepRow) -> None:
        """Queue a row; never waits."""
        if self._closed.is_set():
            return
        try:
            self._queue.put_nowait(row)
        except queue.Full:
            self._dropped += 1
            if self._dropped == 1:
                self._warn(f"is too slow: {self._queue.maxsize} rows wait, further ones are dropped")

    def finish(self, run: RunRow) -> None:
        """Let the sink take what waits, and finish; give up after the stated time."""
        deadline = time.monotonic() + self._finish_timeout_s
        if not self._closed.is_set():
            with contextlib.suppress(queue.Full):
                self._queue.put(run, timeout=self._finish_timeout_s)
        self._thread.join(max(0.0, deadline - time.monotonic()))
        if self._thread.is_alive() and not self._closed.is_set():
            self._closed.set()
            waiting = sum(isinstance(row, StepRow) for row in list(self._queue.queue))
            self._warn(f"has not finished after {self._finish_timeout_s:g} s; {waiting} rows still wait, left behind")
        if self._dropped:
            self._warn(f"lacks {self._dropped} rows that were dropped while it was too slow")

    def _follow(self, make: Callable[[], Sink]) -> None:
        try:
            sink = make()
        except BaseException as error:  # the thread is ours: whatever a library does in it, SystemExit too, ends here
            self._opening.set_exception(error)
            return
        self._opening.set_result(None)
        try:
            while isinstance(row := self._queue.get(), StepRow):
                sink.row(row)
            sink.finish(row)
        except BaseException as error:
            self._fail(error)

    def _fail(self, error: BaseException | None) -> None:
        if error is None or self._closed.is_set():  # what a sink that was left behind raises is no news
            return
        self._closed.set()
        with contextlib.suppress(queue.Empty):  # so that `finish`, where it waits for room, finds some
            while True:
                self._queue.get_nowait()
        what = " ".join(str(error).split()) or type(error).__name__
        self._warn(f"has failed ({what}); it gets no more rows, training goes on")

    def _warn(self, text: str) -> None:
        with contextlib.suppress(Exception):  # a closed terminal, say
            self._tell(f"warning: {self._name} {text}")
