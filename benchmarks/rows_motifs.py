"""Rows of the page of results about motifs at given positions, and about what columns do inside them."""

from typing import Any

import numpy as np
from results import ANALYSIS, Found, listed, row

import torchmotif as tm

SORTING, INSIDE = "Motifs at given positions", "Inside a motif"


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
        every = []
        for seed in (
            (1,) if dose == 1 else (1, 2, 3, 4)
        ):  # one draw at 1 e/px has an error of 0.2 pm by itself
            field = analysed(specimen, dose, seed).polarisation()
            which, near = matched(specimen, field.positions)
            kept = near & field.known
            off = field.values[kept] - specimen.truth.more["shift_px"][which[kept]]
            every.append(off * np.where(specimen.truth.grains[which[kept]] == 0, -1.0, 1.0)[:, None])
            z += (off / field.errors[kept]).std(0).tolist()
        bias.append(float(np.abs(np.concatenate(every).mean(0)).max()) * 15)
    text = ", ".join(f"{one:.2f} pm" for one in bias) + f"; {min(z):.2f} to {max(z):.2f}"
    return Found(text, max(bias) <= 0.3 and min(z) >= 0.9 and max(z) <= 1.1)


@row(INSIDE, "Strain of MoSe2: none, 1 %, gradient of +-2 %, 10 and 1 e/px: largest bias, errors over stated errors", ANALYSIS,
     "torchmotif.lattice.strain", target="<= 0.02 %, 0.9 to 1.1")  # fmt: skip
def strain() -> Found:
    from inside_motifs import DOSES, SEEDS, strain_off

    made = tm.datasets.homogeneous([[0.01, 0], [0, 0]], centre=(299.5, 299.5))
    bias, z = [], []
    for displacement in (None, made, tm.datasets.strain_gradient(0.04 / 600, 299.5)):
        specimen = tm.datasets.mose2((600, 600), vacancy_rate=0.0, displacement=displacement)
        for name, dose in DOSES.items():
            off, _, _, scores = strain_off(specimen, dose, SEEDS[name])
            bias.append(float(np.abs(off).max()) * 100)
            z += scores.std(0).tolist()
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
