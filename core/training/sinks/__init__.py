"""Where the rows of a run go while it trains. The loop knows none of them."""

from core.training.sinks.protocol import Sink
from core.training.sinks.queued import QueuedSink
from core.training.sinks.tracking import TrackioSink, WandbSink

__all__ = ["QueuedSink", "Sink", "TrackioSink", "WandbSink"]
