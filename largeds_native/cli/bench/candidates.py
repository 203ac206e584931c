"""Who is measured: ours, the limit, and those peers that are installed and can do the work here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from largeds_native._internal.measure import Contender, Measured, Role, take_turns

Note = Callable[[str], object]
OURS = "largeds_native"
PACKAGES = {"cv2": "opencv-python-headless", "nvidia": "nvidia-dali-cuda120", "ffcv": "ffcv", "h5py": "h5py"}


@dataclass
class Candidate:
    """`make` gives what does the work once; it may say by ImportError that something isn't installed."""

    name: str
    make: Callable[[], Callable[[], int]]
    role: Role = "peer"
    before: Callable[[], object] | None = None


@dataclass
class Answer:
    """To one question: rates, and the peers that were not measured, with the reason."""

    name: str
    title: str
    results: list[Measured]
    missing: dict[str, str] = field(default_factory=dict)


def answered(name: str, title: str, candidates: Sequence[Candidate], rounds: int, note: Note) -> Answer:
    """Everybody once, which shows who can, once more to warm up, and then in turns."""
    contenders, missing = [], {}
    for candidate in candidates:
        note(f"{name}: {candidate.name} (warm-up)")
        try:
            contenders.append(_warmed_up(candidate))
        except Exception as error:
            if candidate.role != "peer":
                raise
            missing[candidate.name] = reason(error)
    # and once more: peers have forked their workers meanwhile, after which a process copies each page that it writes to
    results = take_turns(contenders, rounds=rounds, warmup=1, progress=lambda text: note(f"{name}: {text}"))
    note("")
    results.sort(key=lambda measured: (measured.role != "limit", -measured.median))
    return Answer(name, title, results, missing)


def _warmed_up(candidate: Candidate) -> Contender:
    run = candidate.make()
    if candidate.before:
        candidate.before()
    run()
    return Contender(candidate.name, run, candidate.role, before=candidate.before)


def reason(error: Exception) -> str:
    """Why a peer is left out, in a line."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0][:120]
    if isinstance(error, ModuleNotFoundError) and error.name:
        package = error.name.partition(".")[0]
        return f"not installed (pip install {PACKAGES.get(package, package)})"
    return f"{type(error).__name__}: {text}"
