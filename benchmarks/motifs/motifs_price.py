"""What learning motifs costs beside principal components and k-means: both in turn in one process, on one thread.

    python benchmarks/motifs/motifs_price.py [--columns 100000] [--size 33] [--n-max 10] [--rounds 1] [--doses 1 0.1 0.02 0.005]

prints, for each dose, the processor seconds of `MotifClassifier.fit_predict` and of scikit-learn's PCA(20) + KMeans(6, n_init=4) on the
same patches (the least of the rounds), and the ratio of both; then the peak memory beyond the patches.
"""

import argparse
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from threadpoolctl import threadpool_limits

sys.path.insert(0, str(Path(__file__).parents[1]))
from test_throughput import field

import torchmotif as tm
from torchmotif.metrics import ami


def raced(columns: int, size: int, n_max: int, dose: float, rounds: int) -> dict[str, float]:
    """Processor seconds of both, the least of the rounds, their ratio and AMI, GiB beyond the patches; on one thread."""
    torch.set_num_threads(1)
    case = field(columns, size, dose, "cpu")
    flat = case.patches.flatten(1).numpy()
    taken = {"motifs": np.inf, "k-means": np.inf}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        start = time.process_time()
        model = tm.MotifClassifier(n_max=n_max).fit(case.patches, case.offsets)
        taken["motifs"] = min(taken["motifs"], time.process_time() - start)
        more = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        with threadpool_limits(1):
            start = time.process_time()
            parts = PCA(20, random_state=0).fit_transform(flat)
            labels = KMeans(6, n_init=4, random_state=0).fit_predict(parts)
            taken["k-means"] = min(taken["k-means"], time.process_time() - start)
    return {
        **taken,
        "patches": len(flat),
        "ratio": taken["motifs"] / taken["k-means"],
        "ami": ami(case.classes, model.labels_),
        "ami of k-means": ami(case.classes, labels),
        "n_motifs": model.n_motifs_,
        "gib": more / 2**20,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="price of motifs in units of that of k-means")
    parser.add_argument("--columns", type=int, default=100_000)
    parser.add_argument("--size", type=int, default=33)
    parser.add_argument("--n-max", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--doses", type=float, nargs="+", default=[1.0, 1 / 10, 1 / 50, 1 / 200])
    given = parser.parse_args()
    for dose in given.doses:
        one = raced(given.columns, given.size, given.n_max, dose, given.rounds)
        print(
            f"1/{1 / dose:<4.0f} {one['patches']:,} of {given.size} px: motifs {one['motifs']:.2f} s, k-means "
            f"{one['k-means']:.2f} s, {one['ratio']:.2f} times; AMI {one['ami']:.3f} ({one['n_motifs']} motifs) and "
            f"{one['ami of k-means']:.3f}; peak {one['gib']:+.2f} GiB",
            flush=True,
        )


if __name__ == "__main__":
    main()
