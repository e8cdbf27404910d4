"""The rows of the page of results: what a user or a referee asks for. `python benchmarks/results.py --list` names them.

A row is a function that returns what it found. It takes what it needs from the scripts beside it, so that a number has one home.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from results import ROOT, ROWS, Found, row

import torchmotif as tm

__all__ = ["ROWS"]

COLUMNS, ANALYSIS = "torchmotif.columns.find", "torchmotif.analysis.analyze"
PIXELS, SORTING, INSIDE = "From pixels on", "Motifs at given positions", "Inside a motif"
PRECISION, PRICE, SOUND = "Precision of columns", "Time and memory", "What is doubtful says so"


def listed(values: dict[str, float], digits: int = 3) -> str:
    return ", ".join(f"{name} {value:.{digits}f}" for name, value in values.items())


def end_to_end(
    key: str, name: str, what: str, doses: tuple[str, ...], least: float, *, readme: bool = False
) -> None:
    """A row of end_to_end.py: recall of every kind of column and precision."""

    @row(PIXELS, what, COLUMNS, key=key, target=f">= {least:g}", readme=readme)
    def measure() -> Found:
        from end_to_end import means

        found = means(name, doses)
        text = "; ".join(f"at {dose}: {listed(values)}" for dose, values in found.items())
        return Found(text, all(value >= least for values in found.values() for value in values.values()))


SAME = ", the same"
for made in (
    ("mose2", "MoSe2", "MoSe2, 1024 x 1024 px, probe of 0.50 A, fractions of 10 e/px: recall of every kind of column, precision", ("1/50", "1/100"), 0.98),
    ("mos2", "MoS2", "MoS2" + SAME, ("1/50", "1/100"), 0.98),
    ("ws2", "WS2", "WS2" + SAME, ("1/50", "1/100"), 0.98),
    ("mote2", "MoTe2", "MoTe2" + SAME, ("1/50", "1/100"), 0.98),
    ("perovskite", "perovskite", "SrTiO3-like perovskite, O a fourteenth of Sr" + SAME, ("1", "1/50"), 0.98),
    ("four-grains", "grains", "Four grains of MoSe2" + SAME, ("1", "1/50"), 0.97),
    ("bilayer", "bilayer", "Twisted bilayer of MoS2" + SAME, ("1", "1/50"), 0.97),
    ("strained-hole", "gradient", "MoSe2 with 5 % gradient of strain and a hole" + SAME, ("1", "1/50"), 0.97),
):  # fmt: skip
    end_to_end(*made, readme=made[0] in {"mose2", "mos2", "ws2", "perovskite"})


@row(
    PIXELS,
    "Four real WSe2 images, columns labelled by their authors: recall, precision",
    COLUMNS,
    target=">= 0.98",
    readme=True,
)
def real_wse2() -> Found:
    from occupancy import DATA, TIWSE2
    from scipy.spatial import cKDTree

    recall, precision = [], []
    for number, detector in TIWSE2:
        at = np.loadtxt(DATA / f"TiWSe2_1028_{number}_columns.csv", delimiter=",", skiprows=1)[:, :2]
        found = np.asarray(tm.find_columns(tm.read(DATA / f"TiWSe2_1028_{number}_{detector}.dm4")).positions)
        judged = ((found >= at.min(axis=0) - 1.6) & (found <= at.max(axis=0) + 1.6)).all(axis=1)
        recall.append(float((cKDTree(found).query(at)[0] <= 1.6).mean()))
        precision.append(float((cKDTree(at).query(found[judged])[0] <= 1.6).mean()))
    text = f"{min(recall):.3f} to {max(recall):.3f}, {min(precision):.3f} to {max(precision):.3f}"
    return Found(text, min(recall + precision) >= 0.98, {"recall": min(recall), "precision": min(precision)})


@row(PIXELS, "The same images: labelled Se vacancies that are a site; F1 of the vacancies by motif", ANALYSIS,
     "torchmotif.lattice.occupancy", target="site >= 0.97")  # fmt: skip
def real_vacancies() -> Found:
    from occupancy import tiwse2

    rows = list(tiwse2())
    sites, f1 = ([one[name] for one in rows] for name in ("a site", "F1 by motif"))
    text = f"{min(sites):.3f} to {max(sites):.3f}; {min(f1):.2f} to {max(f1):.2f}"
    return Found(text, min(sites) >= 0.97, {"site": min(sites), "f1": min(f1)})


@row(PIXELS, "Fills of zeros around, in and between measured pixels, 9 kinds, 7 offsets, 2 lattices: recall and precision >= 0.97",
     COLUMNS, target="all of 126")  # fmt: skip
def fills() -> Found:
    import warnings

    from fills import FILLS, LATTICES, OFFSETS, score

    warnings.simplefilter("ignore")
    scores = []
    for make in LATTICES.values():
        specimen = make()
        contrast = float(np.ptp(np.asarray(specimen.image)))
        for fill in FILLS.values():
            scores += [min(score(fill(specimen, -high), high)) for high in contrast * np.array(OFFSETS)]
    good = sum(one >= 0.97 for one in scores)
    return Found(
        f"{good} of {len(scores)}, least {min(scores):.2f}",
        good == len(scores),
        {"share": good / len(scores)},
    )


@row(PIXELS, "Steps of the background, 5 heights, 4 widths, 3 kinds, 2 lattices: recall and precision >= 0.97", COLUMNS,
     target="all of 120")  # fmt: skip
def steps() -> Found:
    import warnings

    from background_steps import rows as all_steps

    warnings.simplefilter("ignore")
    scores = [min(one["recall"], one["precision"]) for one in all_steps(1)]
    good = sum(one >= 0.97 for one in scores)
    return Found(
        f"{good} of {len(scores)}, least {min(scores):.2f}",
        good == len(scores),
        {"share": good / len(scores)},
    )


@row(
    PIXELS,
    "Spacing of square, rectangular and other lattices within 5 % of the truth",
    "torchmotif.columns.spacing",
    target="all",
)
def spacing() -> Found:
    from spacing import KINDS, judged

    said, met = [], True
    for kind in ("square", "rectangular", "two_sublattices", "hexagonal", "compounds", "disturbed"):
        ratios = [judged(image, truth, find=False)[0] for _, image, truth in KINDS[kind]()]
        good = sum(abs(ratio - 1) <= 0.05 for ratio in ratios)
        said.append(f"{kind.replace('_', ' ')} {good} of {len(ratios)}")
        met &= good == len(ratios)
    return Found(", ".join(said), met)


@row(SOUND, "Self-check of draws of 13 kinds of specimen, three doses: right results that carry a warning; wrong ones that carry none",
     ANALYSIS, target="<= 2 %; none", readme=True)  # fmt: skip
def false_alarms() -> Found:
    import warnings

    from false_alarms import ENOUGH, results

    warnings.simplefilter("ignore")
    right, wrong = [], []
    for kind, _, recall, precision, said in results(6):
        good = kind == "right" or (recall >= ENOUGH and precision >= ENOUGH)
        (right if good else wrong).append(bool(said))
    alarms, silent = sum(right), len(wrong) - sum(wrong)
    values = {"alarms": alarms, "right": len(right), "silent": silent, "wrong": len(wrong)}
    met = alarms <= 0.02 * len(right) and silent == 0
    return Found(
        f"{alarms} of {len(right)}; {silent} of {len(wrong)}", met, {k: float(v) for k, v in values.items()}
    )


@row(
    SOUND,
    "Polarity told from the image: bright columns taken for dark, dark ones taken for bright",
    "torchmotif.columns.polarity",
    target="none",
)
def polarity() -> Found:
    import warnings

    from polarity import SIDE, images

    from torchmotif.columns.polarity import polarity_of

    warnings.simplefilter("ignore")
    wrong = {True: [0, 0], False: [0, 0]}
    for *_, dark, pixels in images():
        told = polarity_of(lambda box, p=pixels: p[box[0] : box[2], box[1] : box[3]], SIDE).dark
        wrong[dark][0] += told != dark
        wrong[dark][1] += 1
    (bright, all_bright), (dark_ones, all_dark) = wrong[False], wrong[True]
    return Found(f"{bright} of {all_bright}, {dark_ones} of {all_dark}", bright + dark_ones == 0)


@row(SOUND, "Columns in images without any: 20 draws of counted noise, 20 of speckle", COLUMNS, target="none")
def nothing_there() -> Found:
    from scipy.ndimage import gaussian_filter

    found = []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        speckle = gaussian_filter(rng.standard_normal((256, 256)), 2.0)
        for pixels in (
            rng.poisson(5.0, (256, 256)),
            rng.poisson((5 + 2 * speckle / speckle.std()).clip(0)),
        ):
            try:
                found.append(len(tm.find_columns(pixels.astype(np.float32))))
            except tm.errors.InputError:
                found.append(0)
    return Found(f"{sum(found)} in all, in {sum(map(bool, found))} of {len(found)} images", sum(found) == 0)


@row(
    PRECISION,
    "Position error over the Cramer-Rao bound, full columns, relative dose 1, 1/10, 1/50",
    COLUMNS,
    target="<= 1.25",
    readme=True,
)
def cramer_rao() -> Found:
    from columns_precision import honeycomb, measure

    rows = [
        next(r for r in measure(honeycomb(), dose, None, 10) if r["group"] == "full columns")
        for dose in (1.0, 0.1, 0.02)
    ]
    ratios, z = ([float(one[name]) for one in rows] for name in ("position_ratio", "z_position"))
    text = (
        ", ".join(f"{one:.2f}" for one in ratios)
        + "; errors over stated errors "
        + ", ".join(f"{one:.2f}" for one in z)
    )
    return Found(text, max(ratios) <= 1.25 and min(z) >= 0.9 and max(z) <= 1.1)


@row(SORTING, "F1 of the Se vacancies in MoSe2, 4,700 columns, relative dose 1, 1/10, 1/20, 1/50, 1/100; an oracle that knows the true patches",
     "torchmotif.motifs.classifier", target="0.95 of the oracle", readme=True)  # fmt: skip
def vacancies() -> Found:
    from dose_sweep import labelled, simulated

    from torchmotif.metrics import site_f1

    wanted, ours, best = (1.0, 1 / 10, 1 / 20, 1 / 50, 1 / 100), [], []
    for dose, case in simulated(0):
        if dose in wanted:
            score = {
                name: site_f1(case.kinds, labels)["V_Se"]
                for name, labels, _ in labelled(case, ["oracle", "MotifClassifier"])
            }
            ours.append(score["MotifClassifier"])
            best.append(score["oracle"])
    text = ", ".join(f"{one:.2f}" for one in ours) + "; oracle " + ", ".join(f"{one:.2f}" for one in best)
    return Found(text, all(a >= 0.95 * b for a, b in zip(ours, best, strict=True)))


@row(SORTING, "Real MoSe2, its authors' labels: AMI at full dose and 1/50; k-means on Zernike moments, on 66 principal components",
     "torchmotif.motifs.classifier", target="more than either", readme=True)  # fmt: skip
def real_mose2() -> Found:
    from dose_sweep import labelled, real

    from torchmotif.metrics import ami

    methods = ("MotifClassifier", "Zernike + k-means", "PCA 66 + k-means")
    score: dict[str, list[float]] = {name: [] for name in methods}
    for dose, case in real(0):
        if dose in {1.0, 1 / 50}:
            for name, labels, _ in labelled(case, methods):
                score[name].append(ami(case.classes, labels))
    text = "; ".join(", ".join(f"{one:.2f}" for one in score[name]) for name in methods)
    ours, *others = score.values()
    return Found(text, all(a > max(b) for a, *b in zip(ours, *others, strict=True)))


@row(
    SORTING,
    "Perfect crystals of MoSe2, 3 seeds at 8 doses: draws with two motifs",
    "torchmotif.motifs.classifier",
    target="24 of 24",
)
def perfect_crystals() -> Found:
    from itertools import islice

    from motifs_more import perfect

    numbers = [n for one in islice(perfect(), 3) for key, n in one.items() if key != "seed"]
    good = sum(n == 2 for n in numbers)
    return Found(f"{good} of {len(numbers)}", good == len(numbers))


@row(SORTING, "Occupancy of 44,393 sites, Se vacancies at 1/20, 1/50, 1/100: F1; oracle", "torchmotif.lattice.occupancy",
     target="0.85 of the oracle", readme=True)  # fmt: skip
def occupancy() -> Found:
    from itertools import islice

    from occupancy import vacancies as at_doses

    rows = list(islice(at_doses(), 3))
    ours, best = ([one[name] for one in rows] for name in ("F1 of vacancies", "oracle"))
    text = ", ".join(f"{one:.2f}" for one in ours) + "; " + ", ".join(f"{one:.2f}" for one in best)
    return Found(text, all(a >= 0.85 * b for a, b in zip(ours, best, strict=True)))


@row(
    SORTING,
    "10,006 pentagon centres of a Mo-V-Te-Nb oxide: faces other than triangles and squares; figures",
    "torchmotif.plane_graph",
    target="none",
)
def oxide_tiling() -> Found:
    from hierarchy import pentagons

    found = pentagons()
    rings: dict[Any, int] = found["rings"]
    other = sum(n for size, n in rings.items() if int(size) not in {3, 4})
    figures = sorted(found["figures"].items(), key=lambda one: -one[1])[:2]
    return Found(f"{other}; " + ", ".join(f"{name} {n:,}" for name, n in figures), other == 0)


@row(INSIDE, "Names by composition, MoS2 with W, 3 % vacancies and rare defects, 10 and 1 e/px, 4 draws: columns named right of kinds of 20 and more; a wrong formula refused",
     ANALYSIS, "torchmotif.names.identify", target=">= 0.95", readme=True)  # fmt: skip
def names() -> Found:
    from names import tally_of

    said, least = [], 1.0
    for electrons in (10.0, 1.0):
        got = tally_of("MoS2", "W", electrons, 4, 512)
        shares = {
            kind: found[kind] / found.total() for kind, found in got.words.items() if found.total() >= 20
        }
        least = min(least, *shares.values())
        said.append(f"at {electrons:g}: {listed(shares, 2)}, refused {got.refused} of 4")
    return Found("; ".join(said), least >= 0.95)


@row(INSIDE, "Displacement of Ti by 10 pm in its cage of Pb, two domains, 10 and 1 e/px: bias, errors over stated errors", ANALYSIS,
     "torchmotif.lattice.displacement", target="<= 0.3 pm, 0.9 to 1.1", readme=True)  # fmt: skip
def polarisation() -> Found:
    from inside_motifs import DOSES, analysed, matched

    specimen = tm.datasets.polar_perovskite((768, 768), displacement_pm=10.0)
    bias, z = [], []
    for dose in DOSES.values():
        field = analysed(specimen, dose, 1).polarisation()
        which, near = matched(specimen, field.positions)
        kept = near & field.known
        off = field.values[kept] - specimen.truth.more["shift_px"][which[kept]]
        sign = np.where(specimen.truth.grains[which[kept]] == 0, -1.0, 1.0)[:, None]
        bias.append(float(np.abs((off * sign).mean(0)).max()) * 15)
        z += (off / field.errors[kept]).std(0).tolist()
    text = ", ".join(f"{one:.2f} pm" for one in bias) + f"; {min(z):.2f} to {max(z):.2f}"
    return Found(text, max(bias) <= 0.3 and min(z) >= 0.9 and max(z) <= 1.1)


@row(INSIDE, "Strain of MoSe2: none, 1 %, gradient of +-2 %, 10 and 1 e/px: largest bias, errors over stated errors", ANALYSIS,
     "torchmotif.lattice.strain", target="<= 0.02 %, 0.9 to 1.1")  # fmt: skip
def strain() -> Found:
    from inside_motifs import A_MOSE2, DOSES, analysed, matched

    made = tm.datasets.homogeneous([[0.01, 0], [0, 0]], centre=(299.5, 299.5))
    bias, z = [], []
    for displacement in (None, made, tm.datasets.strain_gradient(0.04 / 600, 299.5)):
        specimen = tm.datasets.mose2((600, 600), vacancy_rate=0.0, displacement=displacement)
        for dose in DOSES.values():
            field = analysed(specimen, dose).strain({"a_nm": A_MOSE2, "gamma_deg": 120})
            which, near = matched(specimen, field.positions)
            kept = near & field.known
            true = specimen.truth.strain.numpy()[which[kept]]
            off = field.values[kept, :3] - np.stack([true[:, 0, 0], true[:, 1, 1], true[:, 0, 1]], axis=1)
            bias.append(float(np.abs(off.mean(0)).max()) * 100)
            z += (off / field.errors[kept, :3]).std(0).tolist()
    return Found(
        f"{max(bias):.3f} %; {min(z):.2f} to {max(z):.2f}",
        max(bias) <= 0.02 and min(z) >= 0.9 and max(z) <= 1.1,
    )


@row(
    INSIDE,
    "Lattice constants of 20 draws of MoSe2 within 1.96 stated errors of the truth",
    ANALYSIS,
    "torchmotif.lattice.grains",
    target="95 %",
)
def lattice_constants() -> Found:
    from inside_motifs import A_MOSE2, analysed

    specimen = tm.datasets.mose2((400, 400), vacancy_rate=0.0)
    z = []
    for seed in range(20):
        grain = analysed(specimen, 1.0 if seed % 2 else 0.1, seed).grains[0]
        z += [(value - A_MOSE2) / error for value, error in (grain.a_nm, grain.b_nm)]
    share = float(np.mean(np.abs(z) < 1.96))
    return Found(f"{share:.0%} of {len(z)}", share >= 0.95)


@row(
    PRICE,
    "find_columns, 2048 x 2048 px, one thread: processor time, peak memory above that before",
    COLUMNS,
    readme=True,
)
def find_2048() -> Found:
    from columns_speed import find

    got = find(2048)
    more = got["peak_gib"] - got["before_gib"]
    text = f"{got['cpu_seconds']:.1f} s for {got['columns']:,} columns, {more:.2f} GiB"
    return Found(text, None, {"cpu_seconds": got["cpu_seconds"], "gib": more})


@row(
    PRICE,
    "find_columns with guidance over that without, MoSe2 and four grains, 1024 x 1024 px",
    COLUMNS,
    target="<= 1.5",
)
def price_of_guidance() -> Found:
    from end_to_end import row as scored

    ratios = {}
    for name in ("MoSe2", "grains"):
        times = [
            [scored(name, 0.50, "1", 1024, 0, blind=blind, with_oracle=False)["seconds"] for _ in range(2)]
            for blind in (False, True)
        ]
        ratios[name] = min(times[0]) / min(times[1])
    return Found(listed(ratios, 2), max(ratios.values()) <= 1.5, ratios)


@row(PRICE, "From 100,000 patches of 33 px to labels, relative dose 1 and 1/50: time over that of PCA(20) and k-means told the number, AMI of both",
     "torchmotif.motifs.classifier", target="<= 1.5", readme=True)  # fmt: skip
def price_of_motifs() -> Found:
    from motifs_price import raced

    rows = [raced(100_000, 33, 10, dose, 1) for dose in (1.0, 1 / 50)]
    text = "; ".join(
        f"{one['ratio']:.2f} times, AMI {one['ami']:.2f} and {one['ami of k-means']:.2f}" for one in rows
    )
    return Found(text, max(one["ratio"] for one in rows) <= 1.5)


@row(
    PRICE,
    "60 frames of 256 x 256 px from pixels to labels, one thread: frames a second; F1 of every kind",
    ANALYSIS,
)
def stack() -> Found:
    from stack import measured

    got = measured(60)
    return Found(f"{got['frames_per_cpu_second']:.2f}; {listed(got['f1'])}", None)


@row(
    PRICE,
    "A field of 4096 x 4096 px with two workers: wall clock, memory of all processes; recall, precision",
    ANALYSIS,
    threads=2,
)
def field_4096() -> Found:
    from field import scaling

    got = scaling([4096])["runs"][0]
    memory = got["peak USS, all processes MiB"]
    return Found(f"{got['seconds']:.0f} s, {memory:,} MiB; {got['recall']:.4f}, {got['precision']:.4f}", None)


@row(
    PRICE,
    "10,000 patches cut out and projected, 33 px to order 10, 65 px to order 20: time of motif-learn over ours",
    "torchmotif.zernike",
)
def zernike_speed() -> Found:
    from zernike_speed import measure

    rows = measure(1, 7)
    got = [rows[f"extract + project 10,000, {name}"] for name in ("33/10", "65/20")]
    ours = ", ".join(f"{1e3 * one['torchmotif']:.0f} ms" for one in got)
    theirs = [one["motif-learn"] / one["torchmotif"] for one in got if "motif-learn" in one]
    return Found(
        ", ".join(f"{one:.1f}" for one in theirs) + f" ({ours})"
        if theirs
        else f"{ours}; motif-learn is not installed",
        None,
    )


@row(
    PRICE,
    "Largest error of the radial polynomials to order 200 against exact fractions",
    "torchmotif.zernike",
    target="< 1e-14",
)
def radial_error() -> Found:
    from zernike_accuracy import radial_error as error_of

    worst = error_of(200, 20)
    return Found(f"{worst:.1e}", worst < 1e-14)


@row(
    PRICE,
    "torchmotif analyze of 512 x 512 px from the shell: wall clock on two cores",
    "torchmotif.cli",
    threads=2,
    target="<= 6 s",
)
def from_the_shell() -> Found:
    specimen = tm.datasets.mose2((512, 512))
    with tempfile.TemporaryDirectory() as name:
        np.save(f"{name}/scan.npy", specimen.draw(1.0, torch.Generator().manual_seed(0)).numpy())
        times = []
        for turn in range(3):
            start = time.perf_counter()
            command = [
                sys.executable,
                "-m",
                "torchmotif",
                "analyze",
                f"{name}/scan.npy",
                "--out",
                f"{name}/{turn}",
            ]
            subprocess.run(command, check=True, capture_output=True)
            times.append(time.perf_counter() - start)
    return Found(f"{sorted(times)[1]:.1f} s", sorted(times)[1] <= 6)


@row(PRICE, "What a GPU is asked for, counted on a stand-in: operations and waits of the host of find_columns at 2048 x 2048 px, of fit of 1,088 patches",
     COLUMNS, "torchmotif.motifs.classifier", target="30,000 and 150; 20,000 and 100")  # fmt: skip
def operations() -> Found:
    from operations import FOLDER, output_of

    got = [
        json.loads(output_of(str(FOLDER / "stages.py"), *stage).splitlines()[-1])
        for stage in (("find_columns", "2048"), ("fit", "512"))
    ]
    text = "; ".join(f"{one['operations']:,} and {one['waits']}" for one in got)
    met = all(
        one["operations"] <= a and one["waits"] <= b
        for one, a, b in zip(got, (30_000, 20_000), (150, 100), strict=True)
    )
    return Found(text, met)


@row(PRICE, "On a GPU", "torchmotif.zernike", target="see gpu.py")
def gpu() -> Found:
    path = ROOT / "benchmarks" / "results" / "gpu.json"
    if not path.exists():
        return Found("not measured: no CUDA device was at hand; `python benchmarks/gpu.py` measures it", None)
    about = json.loads(Path(path).read_text())["machine"]
    return Found(f"see results/gpu.json, {about}", None)
