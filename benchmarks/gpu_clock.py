"""A device and the clock for it: times, memory, launches, and what the device could do at best."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from gpu_stages import Facts, Stage

__all__ = ["Bench"]


class Bench:
    """A device and the clock for it."""

    def __init__(self, device: torch.device, small: bool) -> None:
        self.device, self.cuda = device, device.type == "cuda"
        side = 512 if small else 8192 if self.cuda else 2048
        matrix = torch.ones(side, side, device=device)
        product, copy = (self.timed(call, 10)[0]["least"] for call in (lambda: matrix @ matrix, matrix.clone))
        self.flops, self.bandwidth = 2.0 * side**3 / product, 8.0 * side**2 / copy

    def wait(self) -> None:
        if self.cuda:
            torch.cuda.synchronize(self.device)

    def timed(self, call: Callable[[], Any], repeats: int, warm: bool = True) -> tuple[Facts, Any]:
        result = call() if warm else None
        self.wait()
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            result = call()
            self.wait()
            taken.append(time.perf_counter() - start)
        q1, q3 = np.quantile(taken, [0.25, 0.75])
        return {
            "seconds": statistics.median(taken),
            "iqr": float(q3 - q1),
            "least": min(taken),
            "runs": repeats,
        }, result

    def measured(self, stage: Stage, repeats: int, warm: bool = True) -> tuple[Facts, Any]:
        """Times of a stage, its share of the roof, and on a GPU its memory and launches."""
        call = stage.prepare(self.device)
        if self.cuda:
            torch.cuda.reset_peak_memory_stats(self.device)
            before = torch.cuda.memory_allocated(self.device)
        facts, result = self.timed(call, repeats, warm)
        roof = max(stage.flops / self.flops, stage.traffic / self.bandwidth)
        if roof:
            facts["share_of_roof"] = roof / facts["seconds"]
        if self.cuda:
            facts["peak_mib"] = (torch.cuda.max_memory_allocated(self.device) - before) / 2**20
            facts |= self.launches(call)
        return facts, result

    def launches(self, call: Callable[[], Any]) -> Facts:
        from torch.profiler import ProfilerActivity, profile

        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as seen:
            call()
            self.wait()
        events = {event.key: event.count for event in seen.key_averages()}
        kinds = {"launches": "LaunchKernel", "copies": "MemcpyAsync", "waits": "Synchronize"}
        return {name: sum(n for key, n in events.items() if part in key) for name, part in kinds.items()}
