"""The one way from pixels to motifs: survey, columns and moments, seams, motifs, labels, assemblies, one after the other."""

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchmotif._files import plain
from torchmotif.analysis import plan as plans
from torchmotif.analysis import store as stores
from torchmotif.analysis.assemblies import count_assemblies, end_of_shell
from torchmotif.analysis.engine import Engine, device_of_worker, engine_for
from torchmotif.analysis.field_result import FieldResult, load
from torchmotif.analysis.finish import gathered, publish, summaries
from torchmotif.analysis.learn import learn, sample_level, spread_evenly
from torchmotif.analysis.plan import Batch, Image, Survey, batches_of, unfit, with_patches
from torchmotif.analysis.record import electrons, known_before, plan_of, record_of, warn, without_columns
from torchmotif.analysis.sources import Source, spilled
from torchmotif.analysis.stages import find_columns_of, label_columns_of
from torchmotif.analysis.survey import calibrated, look
from torchmotif.columns.grid import keep_at_seams
from torchmotif.columns.tiled import ImageModel
from torchmotif.errors import InputError, OutputError, TorchMotifError

__all__ = ["Given", "run"]

_PROBES = 9  # batches in which the end of the first shell is looked for

Given = tuple[ImageModel, np.ndarray]  # what columns have in common, and where they are


def run(
    sources: Sequence[Source],
    options: dict[str, Any],
    root: Path | None = None,
    *,
    tolerant: bool = False,
    failures: Sequence[dict[str, str]] = (),
    restart: bool = False,
    tile: int = 2048,
    progress: bool = True,
    given: Given | None = None,
    **engine: Any,
) -> FieldResult:
    """Analyse images, in memory or into a store; or go on with what was begun there.

    Parameters
    ----------
    sources : sequence of Source
    options : dict
        What the result depends on: spacing, threshold, polarity, patch_size, n_max, n_motifs, motifs, equivalence,
        calibration, hierarchy, random_state, device.
    root : Path, optional
        The store; by default the result is kept in memory.
    tolerant : bool
        Whether images that cannot be analysed are listed in the record rather than raised.
    failures : sequence of dict
        Of sources that could not even be opened: name, reason.
    restart, tile, progress, **engine
        See `torchmotif.field.analyze`.
    given : (ImageModel, array of shape (n, 2)), optional
        The columns of every image, which then are not looked for.
    """
    pixels = sum(int(np.prod(source.shape)) for source in sources)
    engines = engine_for(pixels=pixels, device=options["device"], progress=progress, **engine)
    about: dict[str, Any] = {"tolerant": tolerant, "failures": list(failures), "tile": tile, "given": given}
    if root is None:
        with engines as made:
            return _Run(sources, options, None, made, **about).done()
    stores.check_root(root, restart=restart)
    with stores.claimed(root):
        try:
            # Without a run that was begun, what is there is left over from a restart that was killed.
            if restart or stores.begun(root) is None:
                stores.remove_results(root)
            with engines as made:
                return _Run(sources, options, root, made, **about).done()
        finally:
            shutil.rmtree(root / ".spill", ignore_errors=True)


class _Run:
    """One run, stage by stage."""

    def __init__(
        self,
        sources: Sequence[Source],
        options: dict[str, Any],
        root: Path | None,
        engine: Engine,
        *,
        tolerant: bool,
        failures: list[dict[str, str]],
        tile: int,
        given: Given | None,
    ) -> None:
        self.options, self.root, self.engine, self.tolerant = options, root, engine, tolerant
        self.failures, self.tile, self.given = failures, tile, given
        self.asked, self.sources = list(sources), list(sources)
        self.parts: stores.Parts = stores.Memory()
        self.timings: dict[str, float] = {}
        self.each = options["motifs"] == "each"
        if engine.client is not None and root is not None:
            self._spill(root / ".spill")

    def done(self) -> FieldResult:
        """Do what is left to do."""
        started = None if self.root is None else stores.begun(self.root)
        with self._timed("columns"):
            images = self._surveyed(started)
        plan = plan_of(images, self.options)
        if self.root is not None:
            finished = self._begun(self.root, started, plan, images)
            if finished:
                return self._loaded(self.root, images)
        batches = list(
            batches_of(
                images,
                (lambda number: number) if self.each else (lambda _: 0),
                parts=self.parts,
                n_max=self.options["n_max"],
                threshold=self.options["threshold"],
                device=self.options["device"],
                given=None if self.given is None else self.given[1],
            )
        )
        with self._timed("columns"):
            batches = self._with_columns(batches)
            rows = _rows_to_keep(batches)
        found = {image.number for batch in batches for image in batch.images}
        left = [image for image in images if image.number in found]
        if not left:
            raise self._nothing()
        record = record_of(plan, images, left, self.options) | {"failures": self.failures}
        templates, every = {}, list(range(len(left)))
        for number, group in enumerate([[i] for i in every] if self.each else [every]):
            known, turned = self._labelled([left[i] for i in group], batches, rows)
            record["motif_groups"].append({"images": group, "number": number, **known})
            if turned is not None:
                templates[number] = turned
        self._assembled(left, batches)
        others = summaries(batches, left, record, templates)
        record["timings_s"] = self.timings
        warn(left)
        if self.root is None or isinstance(self.parts, stores.Memory):
            parts = list(gathered(batches))
            arrays = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
            return FieldResult(None, record, arrays | others, [self.asked[image.number] for image in left])
        with self._timed("store"):
            publish(batches, self.parts, record, others)
        self.parts.clear()
        return self._loaded(self.root, left)

    def _loaded(self, root: Path, images: Sequence[Image]) -> FieldResult:
        record = load(root).record
        same = len(record["images"]) == len(images)  # none failed in a run before
        return FieldResult(
            root, record, None, [self.asked[image.number] for image in images] if same else None
        )

    def _spill(self, folder: Path) -> None:
        """Let the workers read what lies in this process's memory."""
        try:
            folder.mkdir(exist_ok=True)
            self.sources = [spilled(source, folder, i) for i, source in enumerate(self.sources)]
        except OSError as error:
            if isinstance(error, TorchMotifError):
                raise
            raise stores.unwritable(folder.parent, error) from error

    def _surveyed(self, started: dict[str, Any] | None) -> list[Image]:
        """The images that can be analysed, and what is common to each."""
        names = [source.name for source in self.sources]
        known = known_before(started, names)
        calls = [(source, self.options, one) for source, one in zip(self.sources, known, strict=True)]
        looks, reasons = self._map(look, calls, "survey")
        sets: dict[Any, list[int]] = {}
        for i, source in enumerate(self.sources):
            if i in looks and known[i] is None:
                shared = (
                    source.stack is not None and self.options["calibration"] == "shared" and not self.each
                )
                sets.setdefault(("stack", source.stack) if shared or self.given else i, []).append(i)
        model = None if self.given is None else self.given[0]
        sets_of = [
            ([self.sources[i] for i in one], [looks[i] for i in one], self.options, model)
            for one in sets.values()
        ]
        measured, failed = self._map(calibrated, sets_of, "calibration")
        members = list(sets.values())
        reasons |= {i: reason for number, reason in failed.items() for i in members[number]}
        looks |= {
            i: one
            for number, values in measured.items()
            for i, one in zip(members[number], values, strict=True)
        }
        self.failures += [{"name": names[i], "reason": reasons[i]} for i in sorted(reasons)]
        images = [
            Image(i, self.sources[i], Survey.from_dict(looks[i])) for i in sorted(looks) if i not in reasons
        ]
        ready: list[Image] = []
        for group in [[image] for image in images] if self.each else [images]:
            good = self._fitting(group)
            if good:
                surveys = with_patches(
                    [one.survey for one in good], [one.source for one in good], self.options["patch_size"]
                )
                if self.given is not None:  # the model is that of another dose
                    surveys = [replace(one, level=one.mean) for one in surveys]
                ready += [replace(image, survey=one) for image, one in zip(good, surveys, strict=True)]
        if not ready:
            raise self._nothing()
        return ready

    def _fitting(self, group: list[Image]) -> list[Image]:
        """The images of a group that can be learnt together; where that is tolerated, the others are noted."""
        while self.tolerant and group:
            surveys, sources = [one.survey for one in group], [one.source for one in group]
            bad = unfit(surveys, sources, self.options["patch_size"])
            if not bad:
                break
            self.failures += [{"name": sources[i].name, "reason": reason} for i, reason in bad.items()]
            # Without them others may be bad, too.
            group = [image for i, image in enumerate(group) if i not in bad]
        return group

    def _nothing(self) -> InputError:
        reasons = "; ".join(f"{one['name']}: {one['reason']}" for one in self.failures)
        return InputError(f"no image could be analysed: {reasons or 'the source holds none'}")

    def _begun(
        self, root: Path, started: dict[str, Any] | None, plan: dict[str, Any], images: Sequence[Image]
    ) -> bool:
        """Begin or go on in a store; whether there is nothing left to do."""
        names = [image.source.name for image in images]
        if started is not None and started["plan"] != plan:
            raise stores.differing(started["plan"], plan, started.get("names", []), names)
        if stores.read_record(root) is not None:
            stores.Work(root, "").clear()  # of a run that was killed once its record was there
            return True
        self.parts = stores.Work(root, stores.identity_of(plan))
        self.parts.begin()
        told = {"plan": plan, "surveys": [image.survey.as_dict() for image in images], "names": names}
        self.parts.write_json("plan.json", told)
        return False

    def _with_columns(self, batches: list[Batch]) -> list[Batch]:
        """First pass. Returns the batches without the images that failed in it."""
        bad: dict[int, str] = {}
        while True:
            todo = [batch for batch in batches if not batch.has("columns")]
            _, reasons = self._map(find_columns_of, [(batch,) for batch in todo], "columns")
            if not reasons:
                return batches
            failed = {todo[number].name(""): reason for number, reason in reasons.items()}
            for batch in batches:
                image = batch.images[0]
                if batch.name("") in failed and len(batch.images) == 1 and image.number not in bad:
                    bad[image.number] = failed[batch.name("")]
                    self.failures.append({"name": image.source.name, "reason": bad[image.number]})
            again = set(failed) | {
                one.name("") for one in batches if any(image.number in bad for image in one.images)
            }
            apart = [
                part for one in batches for part in (one.of_each_image() if one.name("") in again else [one])
            ]
            batches = [batch for batch in apart if batch.images[0].number not in bad]

    def _labelled(
        self, group: Sequence[Image], batches: Sequence[Batch], rows: Sequence[np.ndarray]
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """Learn the motifs of a group of images, and label their columns; templates where they are no means of patches."""
        numbers = {image.number for image in group}
        mine = [i for i, batch in enumerate(batches) if batch.images[0].number in numbers]
        gain, dark = electrons(group)
        device = None if self.engine.client is not None else device_of_worker(self.options["device"])
        with self._timed("motifs"):
            classifier = learn(
                [batches[i] for i in mine],
                [rows[i] for i in mine],
                n_motifs=self.options["n_motifs"],
                n_max=self.options["n_max"],
                equivalence=self.options["equivalence"],
                electrons_per_count=gain,
                offset=dark,
                random_state=self.options["random_state"],
                device=device,
            )
        level = sample_level(group)
        with self._timed("patches"):
            light = without_columns(classifier)
            calls = [
                (batches[i], rows[i], light, level, device) for i in mine if not batches[i].has("labels")
            ]
            self._map(label_columns_of, calls, "labels", tolerant=False)
        known = {
            "n_motifs": classifier.n_motifs_,
            "patch_size_px": group[0].survey.patch_size,
            "n_max": classifier.basis_.n_max,
            "level": level,
            "electrons_per_count": classifier.electrons_per_count_,
            "resolutions": [plain(asdict(one)) for one in classifier.resolutions_],
            "unresolved": [plain(asdict(one)) for one in classifier.unresolved_],
        }
        turned = (
            None
            if classifier.equivalence is None
            else torch.as_tensor(classifier.reconstructions_).cpu().numpy()
        )
        return known, turned

    def _assembled(self, images: Sequence[Image], batches: Sequence[Batch]) -> None:
        """Count the assemblies of all images."""
        size = self.options["hierarchy"]
        if not size:
            return
        with self._timed("assemblies"):
            of: dict[int, list[int]] = {image.number: [] for image in images}
            for i, batch in enumerate(batches):
                for image in batch.images:
                    of[image.number].append(i)
            ends = {}
            for number, mine in of.items():
                if len(mine) > 1:
                    probes = spread_evenly(len(mine), _PROBES, 0)
                    ends[number] = end_of_shell([batches[mine[i]] for i in probes], number)
            calls = []
            for i, batch in enumerate(batches):
                if batch.parts.read_json(batch.name("assemblies")) is None:
                    touching = {i} | set(_touching(batch, batches, of))
                    calls.append((batch, [batches[j] for j in sorted(touching)], size, ends))
            self._map(count_assemblies, calls, "assemblies", tolerant=False)

    def _map(
        self,
        function: Callable[..., Any],
        calls: Sequence[tuple[Any, ...]],
        what: str,
        *,
        tolerant: bool = True,
    ) -> tuple[dict[int, Any], dict[int, str]]:
        """Results of calls by their number, and, where that is tolerated, why the others have none."""
        tolerant = tolerant and self.tolerant
        # Of all calls but those on batches, each is a task.
        each = max(1, self.tile**2 // plans.BATCH) if calls and isinstance(calls[0][0], Batch) else 1
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

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.perf_counter() - start, 4)


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


def _rows_to_keep(batches: Sequence[Batch]) -> list[np.ndarray]:
    """For every batch the rows of its part that are columns of the images, ascending."""
    names = ("image", "tile", "positions", "owned")
    parts = [batch.load("columns") for batch in batches]
    image, tile, positions, keep = (np.concatenate([part[name] for part in parts]) for name in names)
    for one in {image.number: image for batch in batches for image in batch.images}.values():
        survey = one.survey
        if len(survey.grid) > 1 and "intensities" in parts[0]:
            here = slice(*np.searchsorted(image, [one.number, one.number + 1]))
            keep[here] = keep_at_seams(
                survey.grid,
                tile[here],
                positions[here],
                np.concatenate([part["intensities"][part["image"] == one.number] for part in parts]),
                keep[here],
                spacing=survey.model.spacing,
                axes=survey.model.axes,
            )
    edges = np.cumsum([len(part["owned"]) for part in parts])[:-1]
    return [np.flatnonzero(part) for part in np.split(keep, edges)]


def _touching(batch: Batch, batches: Sequence[Batch], of: dict[int, list[int]]) -> Iterator[int]:
    """The batches with tiles that touch those of one, in the same image."""
    grid = batch.survey.grid
    for place, image in enumerate(batch.images):
        around = {other for at, number in batch.tiles if at == place for other in grid.around(number)}
        for i in of[image.number]:
            other = batches[i]
            if any(other.images[at] == image and number in around for at, number in other.tiles):
                yield i
