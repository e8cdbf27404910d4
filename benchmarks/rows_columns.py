"""Rows of the page of results from pixels on: columns, what says that it is doubtful, precision."""

import numpy as np
from results import ANALYSIS, COLUMNS, Found, listed, row

import torchmotif as tm

PIXELS, SOUND, PRECISION = "From pixels on", "What is doubtful says so", "Precision of columns"


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
    COLUMNS,
    target="all",
)
def spacing() -> Found:
    from spacing import KINDS, judged

    said, met = [], True
    for kind in ("square", "rectangular", "two_sublattices", "hexagonal", "compounds", "disturbed"):
        ratios = [judged(image, truth, find=True)[0] for _, image, truth in KINDS[kind]()]
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
    for kind, _, recall, precision, said in results(6, right=False):
        good = kind == "right" or (recall >= ENOUGH and precision >= ENOUGH)
        if (
            good and kind == "spacing wrong"
        ):  # of which is said that the image shows another, whatever came out
            continue
        (right if good else wrong).append(bool(said))
    alarms, silent = sum(right), len(wrong) - sum(wrong)
    values = {"alarms": alarms, "right": len(right), "silent": silent, "wrong": len(wrong)}
    met = alarms <= 0.02 * len(right) and silent == 0
    return Found(
        f"{alarms} of {len(right)}; {silent} of {len(wrong)}", met, {k: float(v) for k, v in values.items()}
    )


@row(SOUND, "Crystals of nine kinds drawn at random, each image disturbed in one of 23 ways, 100 draws at 100 to 1 e/px: recall and precision >= 0.95; "
     "such that carry a warning; others that carry none", ANALYSIS, target="all; <= 2 %; none", readme=True)  # fmt: skip
def disturbed() -> Found:
    import warnings
    from collections import Counter

    from disturbed import results

    warnings.simplefilter("ignore")
    count = Counter(group for group, _ in results(0, 100))
    right = count["good and silent"] + count["good and warned of"]
    alarms, silent = count["good and warned of"], count["bad and silent"]
    met = right == 100 and alarms <= 0.02 * right and silent == 0
    values = {"right": right, "alarms": alarms, "silent": silent}
    return Found(
        f"{right} of 100; {alarms} of {right}; {silent} of {100 - right}",
        met,
        {key: float(value) for key, value in values.items()},
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
