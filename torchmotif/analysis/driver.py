"""The one way from pixels to motifs: survey, columns and moments, seams, motifs, labels, assemblies, one after the other."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchmotif._files import plain
from torchmotif.analysis import store as stores
from torchmotif.analysis.assemblies import count_assemblies, end_of_shell
from torchmotif.analysis.checks import findings, looked_at
from torchmotif.analysis.engine import Engine, device_of_worker, engine_for
from torchmotif.analysis.field_result import FieldResult, load
from torchmotif.analysis.finish import gathered, publish, summaries
from torchmotif.analysis.learn import learn, sample_level, spread_evenly
from torchmotif.analysis.plan import Batch, Image, batches_of
from torchmotif.analysis.record import electrons, plan_of, record_of, warn, warn_of_findings, without_columns
from torchmotif.analysis.seams import rows_to_keep, touching
from torchmotif.analysis.sources import Source, spilled
from torchmotif.analysis.stages import find_columns_of, label_columns_of
from torchmotif.analysis.survey import surveyed
from torchmotif.analysis.tasks import Tasks
from torchmotif.columns.model import ImageModel
from torchmotif.errors import TorchMotifError

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

    def done(made: Engine) -> FieldResult:
        return _Run(sources, options, root, Tasks(made, tile, failures, tolerant=tolerant), given).done()

    if root is None:
        with engines as made:
            return done(made)
    stores.check_root(root, restart=restart)
    with stores.claimed(root):
        try:
            # Without a run that was begun, what is there is left over from a restart that was killed.
            if restart or stores.begun(root) is None:
                stores.remove_results(root)
            with engines as made:
                return done(made)
        finally:
            shutil.rmtree(root / ".spill", ignore_errors=True)


class _Run:
    """One run, stage by stage."""

    def __init__(
        self,
        sources: Sequence[Source],
        options: dict[str, Any],
        root: Path | None,
        tasks: Tasks,
        given: Given | None,
    ) -> None:
        self.options, self.root, self.tasks, self.given = options, root, tasks, given
        self.asked, self.sources = list(sources), list(sources)
        self.parts: stores.Parts = stores.Memory()
        self.timings: dict[str, float] = {}
        self.each = options["motifs"] == "each"
        if tasks.engine.client is not None and root is not None:
            self._spill(root / ".spill")

    def done(self) -> FieldResult:
        """Do what is left to do."""
        started = None if self.root is None else stores.begun(self.root)
        with self._timed("columns"):
            images = surveyed(
                self.tasks, self.sources, self.options, started, None if self.given is None else self.given[0]
            )
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
            rows = rows_to_keep(batches)
        found = {image.number for batch in batches for image in batch.images}
        left = [image for image in images if image.number in found]
        if not left:
            raise self.tasks.nothing()
        record = record_of(plan, images, left, self.options) | {"failures": self.tasks.failures}
        templates, every = {}, list(range(len(left)))
        for number, group in enumerate([[i] for i in every] if self.each else [every]):
            known, turned = self._labelled([left[i] for i in group], batches, rows)
            record["motif_groups"].append({"images": group, "number": number, **known})
            if turned is not None:
                templates[number] = turned
        self._assembled(left, batches)
        others = summaries(batches, left, record, templates)
        with self._timed("checks"):
            for image, known in zip(left, record["images"], strict=True):
                mine = [batch for batch in batches if any(one.number == image.number for one in batch.images)]
                known["warnings"] = findings(looked_at(mine, image)) if self.given is None else []
        record["timings_s"] = self.timings
        warn(left)
        warn_of_findings(record)
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
            _, reasons = self.tasks.map(find_columns_of, [(batch,) for batch in todo], "columns")
            if not reasons:
                return batches
            failed = {todo[number].name(""): reason for number, reason in reasons.items()}
            for batch in batches:
                image = batch.images[0]
                if batch.name("") in failed and len(batch.images) == 1 and image.number not in bad:
                    bad[image.number] = failed[batch.name("")]
                    self.tasks.fail(image.source.name, bad[image.number])
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
        device = None if self.tasks.engine.client is not None else device_of_worker(self.options["device"])
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
            self.tasks.map(label_columns_of, calls, "labels", tolerant=False)
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
                    around = sorted({i, *touching(batch, batches, of)})
                    calls.append((batch, [batches[j] for j in around], size, ends))
            self.tasks.map(count_assemblies, calls, "assemblies", tolerant=False)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.perf_counter() - start, 4)
