"""The calls of a stage as tasks for an engine, and what becomes of those that fail."""

from collections.abc import Callable, Sequence
from typing import Any

from torchmotif.analysis.engine import Engine
from torchmotif.analysis.plan import Batch
from torchmotif.columns import grid
from torchmotif.errors import InputError, OutputError

__all__ = ["Tasks"]


class Tasks:
    """Hands calls to an engine. Where failures are tolerated they are noted, each with the name of its image."""

    def __init__(
        self, engine: Engine, tile: int, failures: Sequence[dict[str, str]], *, tolerant: bool
    ) -> None:
        self.engine, self.tile, self.tolerant = engine, tile, tolerant
        self.failures = list(failures)

    def fail(self, name: str, reason: str) -> None:
        """Note a failure."""
        self.failures.append({"name": name, "reason": reason})

    def nothing(self) -> InputError:
        """What to raise where no image is left."""
        reasons = "; ".join(f"{one['name']}: {one['reason']}" for one in self.failures)
        return InputError(f"no image could be analysed: {reasons or 'the source holds none'}")

    def map(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        what: str,
        *,
        tolerant: bool = True,
    ) -> tuple[dict[int, Any], dict[int, str]]:
        """Results of calls by their number, and, where that is tolerated, why the others have none."""
        tolerant = tolerant and self.tolerant
        # Only on workers is it worth the while to hand out several batches at once.
        batched = calls and isinstance(calls[0][0], Batch) and self.engine.client is not None
        each = max(1, self.tile**2 // grid.BATCH) if batched else 1
        tasks = [(function, calls[first : first + each], tolerant) for first in range(0, len(calls), each)]
        values: dict[int, Any] = {}
        reasons: dict[int, str] = {}
        for number, found in self.engine.map(_in_turn, tasks, what):
            for i, (value, reason) in enumerate(found, start=each * number):
                if reason is None:
                    values[i] = value
                else:
                    reasons[i] = reason
        return values, reasons


def _in_turn(
    function: Callable[..., Any], calls: Sequence[tuple[Any, ...]], tolerant: bool
) -> list[tuple[Any, str | None]]:
    """The results, each with why there is none; a store that cannot be written is nobody's fault but its own."""
    found: list[tuple[Any, str | None]] = []
    for call in calls:
        try:
            found.append((function(*call), None))
        except (OutputError, MemoryError):
            raise
        except Exception as error:  # readers fail on damaged files in whatever way they meet the damage
            if not tolerant:
                raise
            found.append((None, str(error).strip() or type(error).__name__))
    return found
