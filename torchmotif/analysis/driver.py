"""The one way from pixels to motifs: survey, columns and moments, seams, motifs, labels, assemblies, one after the other."""

import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from torchmotif._files import plain
from torchmotif._threads import in_threads
from torchmotif.analysis import store as stores
from torchmotif.analysis.assemblies import count_assemblies, end_of_shell
from torchmotif.analysis.checks import findings
from torchmotif.analysis.engine import Engine, device_of_worker, engine_for
from torchmotif.analysis.field_result import FieldResult, load
from torchmotif.analysis.finish import gathered, publish, summaries
from torchmotif.analysis.frames import frames_to_look_at
from torchmotif.analysis.learn import learn, sample_level, spread_evenly
from torchmotif.analysis.looked import looked_at
from torchmotif.analysis.plan import Batch, Image, batches_of
from torchmotif.analysis.record import note_speckle, plan_of, record_of, warn, warn_of_findings
from torchmotif.analysis.seams import rows_to_keep, touching
from torchmotif.analysis.sources import Source, spilled
from torchmotif.analysis.stages import find_columns_of, label_columns_of
from torchmotif.analysis.survey import surveyed
from torchmotif.columns.model import ImageModel

__all__ = ["Given", "run"]

_PROBES = 9  # batches in which the end of the first shell is looked for

Given = tuple[ImageModel, np.ndarray]  # what columns have in common, and where they are


def run(
    sources: Sequence[Source],
    options: dict[str, Any],
    root: Path | None = None,
    *,
    restart: bool = False,
    given: Given | None = None,
    **engine: Any,
) -> FieldResult:
    """Analyse images, in memory or into a store; or go on with what was begun there.

    Parameters
    ----------
    sources : sequence of Source
    options : dict
        What the result depends on: spacing, threshold, polarity, patch_size, n_max, n_motifs, learn, equivalence,
        calibration, hierarchy, random_state, device.
    root : Path, optional
        The store; by default the result is kept in memory.
    restart : bool
        Throw away what the store holds, where it belongs to another source or other parameters.
    **engine
        Who does the work, and how: see `engine_for`.
    given : (ImageModel, array of shape (n, 2)), optional
        The columns of every image, which then are not looked for.
    """
    pixels = sum(int(np.prod(source.shape)) for source in sources)
    engines = engine_for(pixels=pixels, device=options["device"], **engine)
    with nullcontext() if root is None else _claimed(root, restart), engines as made:
        return _Run(sources, options, root, made, given).done()


@contextmanager
def _claimed(root: Path, restart: bool) -> Iterator[None]:
    """A store for oneself, without what is left over of another run."""
    stores.check_root(root, restart=restart)
    with stores.claimed(root):
        try:
            # Without a run that was begun, what is there is left over from a restart that was killed.
            if restart or stores.begun(root) is None:
                stores.remove_results(root)
            yield
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
        given: Given | None,
    ) -> None:
        self.options, self.root, self.engine = options, root, engine
        self.model: ImageModel | None = None if given is None else given[0]
        self.given: np.ndarray | None = None if given is None else given[1]
        self.asked, self.sources = list(sources), list(sources)
        self.parts: stores.Parts = stores.Memory()
        self.timings: dict[str, float] = {}
        if engine.client is not None and root is not None:
            folder = root / ".spill"  # where the workers read what lies in this process's memory
            folder.mkdir(exist_ok=True)
            self.sources = [spilled(source, folder, i) for i, source in enumerate(sources)]

    def done(self) -> FieldResult:
        """Do what is left to do."""
        each = self.options["learn"] == "each"
        started = None if self.root is None else stores.begun(self.root)
        with self._timed("columns"):
            images = surveyed(self.engine, self.sources, self.options, started, self.model)
        plan = plan_of(images, self.options)
        if self.root is not None:
            finished = self._begun(self.root, started, plan, images)
            if finished:
                return self._loaded(self.root, images)
        batches = list(
            batches_of(
                images,
                (lambda number: number) if each else (lambda _: 0),
                parts=self.parts,
                given=self.given,
                **{name: self.options[name] for name in ("n_max", "threshold", "device")},
            )
        )
        with self._timed("columns"):
            batches = self._with_columns(batches)
            rows, speckle = rows_to_keep(batches)
        found = {image.number for batch in batches for image in batch.images}
        left = [image for image in images if image.number in found]
        if not left:
            raise self.engine.nothing()
        record = record_of(plan, images, left, self.options) | {"failures": self.engine.failures}
        note_speckle(record, [speckle.get(image.number, 0) for image in left])
        templates, every = {}, list(range(len(left)))
        for number, group in enumerate([[i] for i in every] if each else [every]):
            known, turned = self._labelled([left[i] for i in group], batches, rows)
            record["motif_groups"].append({"images": group, "number": number, **known})
            if turned is not None:
                templates[number] = turned
        self._assembled(left, batches)
        others = summaries(batches, left, record, templates)
        with self._timed("checks"):
            warnings = self._checked(left, batches)
            for known, found_in in zip(record["images"], warnings, strict=True):
                known["warnings"] = found_in
        record["timings_s"] = self.timings
        warn(left)
        warn_of_findings(record)
        if self.root is None or isinstance(self.parts, stores.Memory):
            parts = list(gathered(batches))
            arrays = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
            return FieldResult(None, record, arrays | others, [self.asked[image.number] for image in left])
        with self._timed("store"):
            publish(batches, self.parts, record, others)
        return self._loaded(self.root, left)

    def _loaded(self, root: Path, images: Sequence[Image]) -> FieldResult:
        record = load(root).record
        same = len(record["images"]) == len(images)  # none failed in a run before
        return FieldResult(
            root, record, None, [self.asked[image.number] for image in images] if same else None
        )

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
        self.parts.folder.mkdir(parents=True, exist_ok=True)
        told = {"plan": plan, "surveys": [image.survey.as_dict() for image in images], "names": names}
        self.parts.write_json("plan.json", told)
        return False

    def _with_columns(self, batches: list[Batch]) -> list[Batch]:
        """First pass. Returns the batches without the images that failed in it."""
        while True:
            todo = [batch for batch in batches if not batch.has("columns")]
            _, reasons = self.engine.map(find_columns_of, [(batch,) for batch in todo], "columns")
            if not reasons:
                return batches
            failed = {todo[number].name(""): reason for number, reason in reasons.items()}
            bad: dict[int, Image] = {}
            for batch in batches:
                if batch.name("") in failed and len(batch.images) == 1 and batch.images[0].number not in bad:
                    bad[batch.images[0].number] = batch.images[0]
                    self.engine.fail(batch.images[0].source.name, failed[batch.name("")])
            apart: list[Batch] = []
            for batch in batches:
                whole = batch.name("") not in failed and not any(one.number in bad for one in batch.images)
                apart += [batch] if whole else batch.of_each_image()
            batches = [batch for batch in apart if batch.images[0].number not in bad]

    def _labelled(
        self, group: Sequence[Image], batches: Sequence[Batch], rows: Sequence[np.ndarray]
    ) -> tuple[dict[str, Any], np.ndarray | None]:
        """Learn the motifs of a group of images, and label their columns; templates where they are no means of patches."""
        numbers = {image.number for image in group}
        mine = [i for i, batch in enumerate(batches) if batch.images[0].number in numbers]
        device = None if self.engine.client is not None else device_of_worker(self.options["device"])
        with self._timed("motifs"):
            classifier = learn([batches[i] for i in mine], [rows[i] for i in mine], self.options, device)
        level = sample_level(group)
        with self._timed("patches"):
            todo = [i for i in mine if not batches[i].has("labels")]
            calls = [(batches[i], rows[i], classifier, level, device) for i in todo]
            self.engine.map(label_columns_of, calls, "labels", tolerant=False)
        known = {
            "n_motifs": classifier.n_motifs_,
            "patch_size_px": group[0].survey.patch_size,
            "n_max": classifier.basis_.n_max,
            "level": level,
            "electrons_per_count": classifier.electrons_per_count_,
            "expected_counts": classifier.expected_counts_.tolist(),
            "resolutions": [plain(asdict(one)) for one in classifier.resolutions_],
            "unresolved": [plain(asdict(one)) for one in classifier.unresolved_],
        }
        if classifier.equivalence is None:
            return known, None
        return known, torch.as_tensor(classifier.reconstructions_).cpu().numpy()

    def _checked(self, images: Sequence[Image], batches: Sequence[Batch]) -> list[list[str]]:
        """What is doubtful in each image, unless its columns were given."""
        of_image: dict[int, list[Batch]] = {}
        for batch in batches if self.given is None else []:
            for one in batch.images:
                of_image.setdefault(one.number, []).append(batch)
        looked = frames_to_look_at(images, of_image) & of_image.keys()
        calls = [(of_image[image.number], image) for image in images if image.number in looked]
        said = in_threads(lambda call: findings(looked_at(*call)), calls, torch.device("cpu"))
        doubts = {image.number: one for (_, image), one in zip(calls, said, strict=True)}
        return [doubts.get(image.number, []) for image in images]

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
            calls = [
                (batch, [batches[j] for j in around], size, ends)
                for batch, around in zip(batches, touching(batches), strict=True)
                if batch.parts.read_json(batch.name("assemblies")) is None
            ]
            self.engine.map(count_assemblies, calls, "assemblies", tolerant=False)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.timings[stage] = round(self.timings.get(stage, 0.0) + time.perf_counter() - start, 4)
