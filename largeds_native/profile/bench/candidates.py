"""The candidates of a stage: largeds_native, a limit or a reference, and the installed peers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from largeds_native._internal.measure import Contender, Measured, Role, take_turns
from largeds_native.profile.peer_packages import command_for

Progress = Callable[[str], object]
OURS = "largeds_native"
FIRST: dict[Role, bool] = {"limit": True, "reference": True, "ours": False, "peer": False}


@dataclass
class Candidate:
    """`make` returns a function that does the work once, or raises ImportError if a package is not installed."""

    name: str
    make: Callable[[], Callable[[], int]]
    role: Role = "peer"
    before: Callable[[], object] | None = None


@dataclass
class StageResult:
    """The rates of one stage. missing: peers that were not measured, with the reason."""

    name: str
    title: str
    results: list[Measured]
    missing: dict[str, str] = field(default_factory=dict)


def compare(name: str, title: str, candidates: Sequence[Candidate], rounds: int, progress: Progress) -> StageResult:
    """Runs every candidate once to find those that fail, then all in rounds, after another round of warm-up."""
    contenders, missing = [], {}
    for candidate in candidates:
        progress(f"{name}: {candidate.name} (warm-up)")
        try:
            contenders.append(_warmed_up(candidate))
        except Exception as error:
            if candidate.role != "peer":
                raise
            missing[candidate.name] = reason(error)
    # Some peers have forked workers by now. After a fork, this process copies each page on its first write; the second
    # warm-up keeps these copies out of the measured rounds.
    results = take_turns(contenders, rounds=rounds, warmup=1, progress=lambda text: progress(f"{name}: {text}"))
    progress("")
    results.sort(key=lambda measured: (not FIRST[measured.role], -measured.median))
    return StageResult(name, title, results, missing)


def _warmed_up(candidate: Candidate) -> Contender:
    run = candidate.make()
    if candidate.before:
        candidate.before()
    run()
    return Contender(candidate.name, run, candidate.role, before=candidate.before)


def reason(error: Exception) -> str:
    """The reason why a peer is not measured, in one line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"not installed ({command_for(error.name)})"
    return f"{type(error).__name__}: {text}"
