"""The self-check where the background steps or slopes: what its noise hides, and what a step makes doubtful."""

from torchmotif.columns._rest import Rest

__all__ = ["doubts_of_uneven"]

# Times the height of the columns, by which the background steps: of 72 images with steps of 1 to 10 times and edges of 1 to 40 px at most one column in
# twenty is missing, with 30 times one in six, or a sublattice.
_STEP = 15.0
# Where no mean cell tells of columns that are missing or none: of twelve images with steps of 5 and more four are right, of 17 with lower ones or none 14
# (`benchmarks/columns/disturbed.py`, steps, patches and slopes, seeds 500 to 559 and 600 to 659).
_STEP_ALONE = 5.0
# Of the places of mean cells, that hold no column where noise is more and do where it is less. Of the same images those with a recall below 0.95 have 0.087 to
# 0.74, others up to 0.080, and one of 0.953 0.10; MgO on a step whose noise hides a seventh of its columns (tests/analysis/test_checks.py) has just below 0.085.
_LOST = 0.083
# Of the columns, those that noise hides where it is more, by those where it is less. Of the images of `benchmarks/columns/disturbed.py` (steps, patches, slopes, seeds 700 to 735 and 800 to 859)
# those with a recall of 0.95 and more have up to 0.022; of those with less, two of which nothing else was said have 0.092 and 0.099.
_DROWNED = 0.05
# Of the columns, those at places of mean cells of which noise hides whether they are. Of 238 images with steps and slopes (six crystals with light columns on steps of 3 to 30 times the contrast, `benchmarks/columns/background_steps.py`,
# and `disturbed.py`, seeds 1000 to 1129) right ones have up to 0.30, and one 0.35, whose step of 33 times is said anyway;
# wrong ones of which nothing else is said 0.35, others 0.32 to 0.66.
_ASSUMED = 0.33

_REMEDY = "leave the bright part out with mask=, or take an image of a higher dose"


def doubts_of_uneven(rest: Rest, *, guided: bool) -> list[str]:
    """What of a result is doubtful where its background is uneven, in sentences that say what to do; `guided` by mean cells or not."""
    noisy = rest.noisy
    doubts = (
        (
            noisy.lost > _LOST,
            (
                f"where the background is bright {noisy.lost:.0%} more of the lattice's places hold no column than where it is dark: its noise hides faint columns there, or "
                "the crystal ends and columns at its end may be false; leave it out with mask=, or take an image of a higher dose"
            ),
        ),
        (
            noisy.drowned > _DROWNED,
            (
                f"where the background is bright its noise hides about {noisy.drowned:.0%} of all columns: so many would not stand out there, if they are like those found where it is dark; "
                f"{_REMEDY}"
            ),
        ),
        (
            noisy.assumed > _ASSUMED,
            (
                f"{noisy.assumed:.0%} of the columns are where the lattice has them elsewhere: where the background is bright its noise hides whether they are, and a domain in which they lie "
                f"otherwise would not be seen; {_REMEDY}"
            ),
        ),
        (
            rest.step > (_STEP if guided else _STEP_ALONE),
            (
                f"the background steps by {rest.step:.0f} times the height of the columns: beside the step columns may be missing or false, and "
                "their places and intensities are not known well; leave its brighter side out with mask=, or analyse the sides by themselves"
            ),
        ),
    )
    return [said for doubtful, said in doubts if doubtful]
