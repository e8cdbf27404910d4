"""The way from sources to a store: survey, columns, seams, motifs, labels, assemblies, one after the other."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from torchmotif.errors import InputError, OutputError, TorchMotifError
from torchmotif.field import store as stores
from torchmotif.field.assemblies import count_assemblies, end_of_shell
from torchmotif.field.blocks import find_columns_of, label_columns_of
from torchmotif.field.engine import Engine, engine_for
from torchmotif.field.finish import finish
from torchmotif.field.motifs import learn, sample_level, spread_evenly
from torchmotif.field.plan import Job, Survey, survey, unfit, with_patches
from torchmotif.field.record import begun, electrons_per_count, options_of, record_of, without_columns
from torchmotif.field.result import FieldResult, load
from torchmotif.field.seams import rows_to_keep
from torchmotif.field.sources import Source, spilled
from torchmotif.patches import first_shell

__all__ = ["Options", "run"]

_LEARNT = 50_000  # columns that motifs are learnt on
_SMALL = 2048 * 2048  # pixels that one process is done with before workers have started
_PROBES = 9  # blocks in which the end of the first shell is looked for

Options = dict[str, Any]


def run(
    sources: Sequence[Source],
    root: Path,
    options: Options,
    *,
    tolerant: bool = False,
    failures: Sequence[dict[str, str]] = (),
    restart: bool = False,
    tile: int = 2048,
    progress: bool = True,
    **engine: Any,
) -> FieldResult:
    """Analyse images into a store, or go on with what was begun there.

    Parameters
    ----------
    sources : sequence of Source
    root : Path
    options : dict
        What the result depends on: spacing, threshold, polarity, patch_size, n_max, n_motifs, motifs, hierarchy,
        random_state, device.
    tolerant : bool
        Whether images that cannot be analysed are listed in the record rather than raised.
    failures : sequence of dict
        Of sources that could not even be opened: name, reason.
    restart, tile, progress, **engine
        See `torchmotif.field.analyze`.
    """
    stores.check_root(root, restart=restart)
    with stores.claimed(root):
        try:
            if restart or begun(root) is None:  # what is there is left over from a restart that was killed
                stores.remove_results(root)
            pixels = sum(int(np.prod(source.shape)) for source in sources)
            with engine_for(
                pixels=pixels, device=options["device"], progress=progress, small=_SMALL, **engine
            ) as made:
                return _Run(
                    sources, root, options, made, tolerant=tolerant, failures=list(failures), tile=tile
                ).done()
        finally:
            shutil.rmtree(root / ".spill", ignore_errors=True)


class _Run:
    """One run, stage by stage."""

    def __init__(
        self,
        sources: Sequence[Source],
        root: Path,
        options: Options,
        engine: Engine,
        *,
        tolerant: bool,
        failures: list[dict[str, str]],
        tile: int,
    ) -> None:
        self.root, self.options, self.engine, self.tolerant = root, options, engine, tolerant
        self.failures, self.tile = failures, tile
        self.sources = list(sources)
        if engine.client is not None:
            self._spill()
        self.timings: dict[str, float] = {}

    def done(self) -> FieldResult:
        """Do what is left to do."""
        started = begun(self.root)
        with self._timed("survey"):
            kept, surveys = self._surveyed(started)
        plan, names = self._plan(kept, surveys), [source.name for source in kept]
        if started is not None and started["plan"] != plan:
            raise stores.differing(
                {"input": started["plan"]["input"], **options_of(started["plan"])},
                {"input": plan["input"], **options_of(plan)},
                started.get("names", []),
                names,
            )
        if stores.read_record(self.root) is not None:
            stores.Work(self.root, "").clear()  # of a run that was killed once its record was there
            return load(self.root)
        identity = stores.identity_of(plan)
        jobs = [
            Job(self.root, identity, i, source, one, self.options["n_max"], self.options["device"])
            for i, (source, one) in enumerate(zip(kept, surveys, strict=True))
        ]
        jobs[0].work.begin()
        told = {"plan": plan, "surveys": [one.as_dict() for one in surveys], "names": names}
        jobs[0].work.write_json("plan.json", told)
        jobs, groups = self._with_columns(jobs)
        with self._timed("seams"):
            rows = [rows_to_keep(job) for job in jobs]
        record = record_of(plan, jobs, surveys, self.failures, names=names, options=self.options)
        for number, group in enumerate(groups):
            record["motif_groups"].append(self._labelled(jobs, rows, group, number))
        self._assembled(jobs)
        with self._timed("store"):
            record["timings_s"] = self.timings
            finish(jobs, groups, record, self.options["hierarchy"])
        jobs[0].work.clear()
        return load(self.root)

    def _spill(self) -> None:
        """Let the workers read what lies in this process's memory."""
        folder = self.root / ".spill"
        try:
            folder.mkdir(exist_ok=True)
            self.sources = [spilled(source, folder, i) for i, source in enumerate(self.sources)]
        except OSError as error:
            if isinstance(error, TorchMotifError):
                raise
            raise stores.unwritable(self.root, error) from error

    def _surveyed(self, started: dict[str, Any] | None) -> tuple[list[Source], list[Survey]]:
        """The images that can be analysed, and what is common to each."""
        known = _known(started, [source.name for source in self.sources])
        tasks = [(source, self.options, one) for source, one in zip(self.sources, known, strict=True)]
        found: dict[int, Survey] = {}
        for number, value in self._map(survey, tasks, [s.name for s in self.sources], "survey"):
            found[number] = Survey.from_dict(value)
        kept = [source for i, source in enumerate(self.sources) if i in found]
        surveys = [found[i] for i in sorted(found)]
        every = list(range(len(kept)))
        groups = [[i] for i in every] if self.options["motifs"] == "each" else [every]
        ready: dict[int, Survey] = {}
        for group in groups:
            good = self._fitting(group, kept, surveys)
            mine = [surveys[i] for i in good], [kept[i] for i in good]
            if good:
                ready |= zip(good, with_patches(*mine, self.options["patch_size"], first_shell), strict=True)
        if not ready:
            raise self._nothing()
        return [kept[i] for i in sorted(ready)], [ready[i] for i in sorted(ready)]

    def _fitting(self, group: list[int], sources: list[Source], surveys: list[Survey]) -> list[int]:
        """The images of a group that can be learnt together; where that is tolerated, the others are noted."""
        while self.tolerant and group:
            mine = [surveys[i] for i in group], [sources[i] for i in group]
            bad = unfit(*mine, self.options["patch_size"], first_shell)
            if not bad:
                break
            self.failures += [{"name": sources[group[i]].name, "reason": reason} for i, reason in bad.items()]
            # Without them others may be bad, too.
            group = [image for i, image in enumerate(group) if i not in bad]
        return group

    def _nothing(self) -> InputError:
        reasons = "; ".join(f"{one['name']}: {one['reason']}" for one in self.failures)
        return InputError(f"no image could be analysed: {reasons or 'the source holds none'}")

    def _plan(self, sources: Sequence[Source], surveys: Sequence[Survey]) -> dict[str, Any]:
        """All that the result depends on."""
        return {
            "format": stores.FORMAT,
            "versions": {name: version(name) for name in ("torchmotif", "torch", "numpy")},
            "options": {key: self.options[key] for key in sorted(self.options)} | {"device": self._device()},
            "input": [one.fingerprint for one in surveys],
            "pixel_size_nm": [None if s.pixel_size_nm is None else list(s.pixel_size_nm) for s in sources],
        }

    def _device(self) -> str | None:
        """What kind of device the result is computed on; None is the CPU."""
        kind = (self.options["device"] or "cpu").partition(":")[0]
        return None if kind == "cpu" else kind

    def _with_columns(self, jobs: list[Job]) -> tuple[list[Job], list[list[int]]]:
        """First pass. Returns the images that did not fail in it, and which of them are learnt together."""
        with self._timed("columns"):
            tasks, names = self._pending(jobs, "columns")
            bad: set[str] = set()
            for _ in self._map(find_columns_of, tasks, names, "columns", bad):
                pass
        left = [job for job in jobs if job.source.name not in bad]
        if not left:
            raise self._nothing()
        each = self.options["motifs"] == "each"
        return left, [[i] for i in range(len(left))] if each else [list(range(len(left)))]

    def _labelled(
        self, jobs: Sequence[Job], rows: Sequence[list[np.ndarray]], group: Sequence[int], number: int
    ) -> dict[str, Any]:
        """Learn the motifs of a group of images, and label their columns."""
        mine = [jobs[i] for i in group]
        with self._timed("motifs"):
            classifier = learn(
                mine,
                [rows[i] for i in group],
                n_motifs=self.options["n_motifs"],
                most=_LEARNT,
                electrons_per_count=electrons_per_count(mine),
                offset=None,
                random_state=self.options["random_state"],
            )
        level = sample_level(mine)
        with self._timed("labels"):
            light = without_columns(classifier)
            tasks, names = self._pending(mine, "labels")
            by_image = {jobs[i].image: rows[i] for i in group}
            full = [
                (job, blocks, light, level, [by_image[job.image][b] for b in blocks]) for job, blocks in tasks
            ]
            for _ in self._map(label_columns_of, full, names, "labels"):
                pass
        return {
            "images": list(group),
            "n_motifs": classifier.n_motifs_,
            "patch_size_px": mine[0].survey.patch_size,
            "level": level,
            "electrons_per_count": classifier.electrons_per_count_,
            "resolutions": [asdict(one) for one in classifier.resolutions_],
            "number": number,
        }

    def _assembled(self, jobs: Sequence[Job]) -> None:
        """Count the assemblies of all images."""
        size = self.options["hierarchy"]
        if not size:
            return
        with self._timed("assemblies"):
            ends = {
                job.image: end_of_shell(job, spread_evenly(len(job.survey.grid), _PROBES, 0).tolist())
                for job in jobs
            }
            tasks, names = self._pending(jobs, "assemblies")
            full = [(job, blocks, size, ends[job.image]) for job, blocks in tasks]
            for _ in self._map(count_assemblies, full, names, "assemblies"):
                pass

    def _pending(self, jobs: Sequence[Job], kind: str) -> tuple[list[tuple[Job, list[int]]], list[str]]:
        """Tiles with the blocks in them that are not finished, and the names of their images."""
        tasks = []
        for job in jobs:
            whole = job.work.read_json if kind == "assemblies" else job.work.has
            for tile in job.survey.grid.tiles(self.tile):
                left = [block for block in tile if not whole(job.name(kind, block))]
                if left:
                    tasks.append((job, left))
        return tasks, [job.source.name for job, _ in tasks]

    def _map(
        self,
        function: Callable[..., Any],
        tasks: Sequence[tuple[Any, ...]],
        names: Sequence[str],
        what: str,
        bad: set[str] | None = None,
    ) -> Iterator[tuple[int, Any]]:
        """Results of tasks; where that is tolerated, a failure is noted with the name of its image."""
        if not self.tolerant or (bad is None and what != "survey"):
            yield from self.engine.map(function, tasks, what)
            return
        for number, (value, reason) in self.engine.map(
            _attempted, [(function, *task) for task in tasks], what
        ):
            if reason is None:
                yield number, value
            elif bad is None or names[number] not in bad:
                self.failures.append({"name": names[number], "reason": reason})
                if bad is not None:
                    bad.add(names[number])

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.perf_counter() - start, 3)


def _known(started: dict[str, Any] | None, names: list[str]) -> list[Any]:
    """For each image the survey that an earlier run made of it, None where there is none."""
    if started is None:
        return [None] * len(names)
    surveys, before = started["surveys"], started.get("names", [])
    if len(surveys) == len(names):
        return list(surveys)
    by_name = dict(zip(before, surveys, strict=False)) if len(set(before)) == len(before) else {}
    return [by_name.get(name) for name in names]


def _attempted(function: Callable[..., Any], *task: Any) -> tuple[Any, str | None]:
    """The result, or why there is none; a store that cannot be written is nobody's fault but its own."""
    try:
        return function(*task), None
    except (OutputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  # readers fail on damaged files in whatever way they meet the damage
        return None, str(error).strip() or type(error).__name__
