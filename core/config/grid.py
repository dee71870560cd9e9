"""A benchmark grid: which points are measured, as axes whose values are combined and constraints on them."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, get_args

from core.config.checks import check_name, did_you_mean, normalise, require, require_at_least
from core.config.run import RunConfig

SIZES = ("batch_size", "context_length", "d_model", "num_heads", "d_head", "num_layers", "d_ff", "vocab_size")
"""Axes of positive whole numbers."""
MODEL_PRECISIONS: tuple[str, ...] = get_args(RunConfig.__annotations__["precision"])
MICRO_PRECISIONS = ("float32", "tf32", "float64", "bfloat16")
BOTH_WAYS = ("forward", "backward")


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a grid can measure: its axes and phases."""

    sizes: tuple[str, ...]
    """Axes that must be given; of `num_heads` and `d_head` a model needs one and derives the other."""
    phases: tuple[str, ...]
    """In the order in which they are measured."""
    precisions: tuple[str, ...] = MICRO_PRECISIONS
    attention: tuple[str, ...] = ()
    """Implementations, the first unless others are asked for."""
    optimizer: bool = False
    """Whether there is an axis of optimizers; their names are those of `core.accounting`."""

    @property
    def axes(self) -> tuple[str, ...]:
        """The names of all axes."""
        words = ["attention"] * bool(self.attention) + ["optimizer"] * self.optimizer
        return (*self.sizes, "precision", "compile", *words)

    def default(self, axis: str) -> str | bool:
        """The value of an axis that is not given."""
        if axis == "attention":
            return self.attention[0]
        return {"precision": "float32", "compile": False, "optimizer": "adamw"}[axis]


SUBJECTS: dict[str, Subject] = {
    "model": Subject(
        sizes=SIZES,
        phases=("forward", "forward_loss", "backward", "optimizer", "step"),
        precisions=MODEL_PRECISIONS,
        attention=("sdpa", "written_out"),
        optimizer=True,
    ),
    "gemm": Subject(sizes=("batch_size", "context_length", "d_model", "d_ff"), phases=BOTH_WAYS),
    "attention": Subject(
        sizes=("batch_size", "num_heads", "d_head", "context_length"),
        phases=BOTH_WAYS,
        attention=("sdpa", "written_out", "flash"),
    ),
    "softmax": Subject(sizes=("batch_size", "num_heads", "context_length"), phases=BOTH_WAYS),
    "rms_norm": Subject(sizes=("batch_size", "context_length", "d_model"), phases=BOTH_WAYS),
    "cross_entropy": Subject(sizes=("batch_size", "context_length", "vocab_size"), phases=BOTH_WAYS),
    "optimizer": Subject(
        sizes=("d_model", "d_ff", "num_layers"), phases=("optimizer",), precisions=("float32",), optimizer=True
    ),
}
"""`gemm`: (batch_size context_length, d_model) x (d_model, d_ff). `softmax`: over scores, `batch head query key`.
`optimizer`: one update of `num_layers` matrices, d_model x d_ff. `attention: flash` is torch's own fused kernel alone;
`sdpa` lets torch choose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GridPart:
    """Every combination of its axes' values that its constraints admit, or a random sample of those."""

    axes: dict[str, Any]
    """Values by axis: several, or one alone. Axes of a subject that are left out keep their defaults; sizes have none.
    """
    subject: str = "model"
    """One of `SUBJECTS`."""
    constraints: tuple[str, ...] = ()
    """SQL expressions over the axes and `step_flop` and `peak_bytes`, of a model also `parameters`; all must hold."""
    phases: tuple[str, ...] | None = None
    """Which are measured; None: all that the subject has."""
    sample: int | None = None
    """How many of the feasible points are kept, drawn by the grid's seed; None: all."""

    def __post_init__(self) -> None:
        normalise(self)
        subject = SUBJECTS[_known("subject", self.subject, SUBJECTS)]
        require_at_least(self, 1, "sample")
        require(isinstance(self.axes, dict), f"axes is {self.axes!r}: names of axes and their values were expected")
        axes = {}
        for axis, given in self.axes.items():
            _known(f"axis of {self.subject}", axis, subject.axes)
            values = tuple(given) if isinstance(given, list | tuple) else (given,)
            require(bool(values), f"{axis} is empty: an axis needs at least one value")
            axes[axis] = tuple(dict.fromkeys(_checked(subject, axis, value) for value in values))
        object.__setattr__(self, "axes", axes)
        for axis in subject.sizes:
            if self.subject == "model" and axis in ("num_heads", "d_head"):
                continue
            require(axis in axes, f"axis {axis} is missing: {self.subject} needs {', '.join(subject.sizes)}")
        if self.subject == "model":
            given = [axis for axis in ("num_heads", "d_head") if axis in axes]
            require(len(given) == 1, f"{' and '.join(given) or 'neither num_heads nor d_head'} given: one decides both")
        require(
            isinstance(self.constraints, list | tuple) and all(type(text) is str for text in self.constraints),
            f"constraints is {self.constraints!r}: a list of expressions was expected",
        )
        object.__setattr__(self, "constraints", tuple(self.constraints))
        if self.phases is not None:
            require(bool(self.phases), "phases is empty: leave it out for all")
            chosen = {_known(f"phase of {self.subject}", phase, subject.phases) for phase in self.phases}
            object.__setattr__(self, "phases", tuple(phase for phase in subject.phases if phase in chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class GridConfig:
    """A benchmark grid: parts of different subjects or ranges; a point in several of them is measured once."""

    name: str
    parts: tuple[GridPart, ...] = field(default_factory=tuple)
    seed: int = 0
    """Decides samples and the order of measuring."""
    memory_fraction: float = 0.8
    """What is predicted to need more of the device's memory than this is not tried."""
    visits: int = 2
    """How often each point is measured, once in each pass over the grid."""
    more_visits: int = 3
    """At most, to what spreads too much."""

    def __post_init__(self) -> None:
        normalise(self)
        check_name(self.name, "name")
        object.__setattr__(self, "parts", tuple(self.parts))
        require(bool(self.parts), f"grid {self.name} has no parts")
        require_at_least(self, 1, "visits")
        require_at_least(self, 0, "more_visits")
        require(self.seed >= 0, f"seed is {self.seed}: it must not be negative")
        require(
            0 < self.memory_fraction <= 1,
            f"memory_fraction is {self.memory_fraction}: it must be above 0 and at most 1",
        )


def _checked(subject: Subject, axis: str, value: Any) -> Any:
    """A value of an axis, refused unless it is of its kind."""
    if axis in SIZES:
        ok = type(value) is int and 1 <= value < 2**31
        require(ok, f"{axis} is {value!r}: it must be a whole number, at least 1")
    elif axis == "compile":
        require(type(value) is bool, f"compile is {value!r}: it must be true or false")
    elif axis == "precision":
        _known("precision", value, subject.precisions)
    elif axis == "attention":
        _known("attention", value, subject.attention)
    else:
        require(type(value) is str, f"{axis} is {value!r}: it must be a name")
    return value


def _known(what: str, name: Any, among: Iterable[str]) -> str:
    """The name, refused with the nearest one unless it is among these."""
    names = list(among)
    require(name in names, f"{what} is {name!r}: there is {', '.join(names)}{did_you_mean(name, names)}")
    return name
