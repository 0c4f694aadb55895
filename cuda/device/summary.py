"""What results.jsonl of run.sh says, in plain numbers: each claim, whether it holds, and where the time goes.

    python summary.py results.jsonl

The least time of a kernel is the longer of its bytes at the rate of a copy within the device's memory and its
operations at the peak of its precision; that of a network is their sum and one launch that does nothing. A network
whose weights stay in the second-level cache may be faster than its bytes say.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterator

Row = dict
SWITCH_US, FIRST, SPEEDUP, ROOFLINE = 10.0, 1.05, 2.0, 1.3
SAME_LOGITS = 1e-4  # between two programs in float32; each is within 1e-5 of exact arithmetic


def holds(fine: bool) -> str:
    return "  ok" if fine else "  NO"


def least_us(kernel: Row, precision: str, top: Row) -> float:
    tensor = "tf32" in kernel["entry"] or "fp16" in kernel["entry"]
    peak = top[f"{precision}_gflops" if tensor else "fma_gflops"]
    return max(1e-3 * kernel["bytes"] / top["copy_gb_s"], 1e-3 * kernel["flops"] / peak)


def largest_difference(a: list[float], b: list[float]) -> float:
    return max(abs(x - y) for x, y in zip(a, b, strict=True)) / max(map(abs, b))


class Results:
    def __init__(self, path: str) -> None:
        with open(path) as file:
            self.rows = [json.loads(line) for line in file]
        self.top = next((r for r in self.rows if r.get("of") == "ceilings"), None)
        self.levels: dict[tuple, Row] = {}
        self.logits: dict[tuple, list[float]] = {}
        self.kernels: dict[tuple, list[Row]] = defaultdict(list)
        self.peers: dict[tuple, list[Row]] = defaultdict(list)
        for r in self.rows:
            key = (r.get("of"), r.get("precision"), r.get("level"))
            if "logits" in r and "level" in r:
                self.logits[key] = r["logits"]
            elif "select_p99_us" in r:
                self.levels[key] = r
            elif "kernel" in r:
                self.kernels[key].append(r)
            elif r.get("of") == "torch":
                net, level, _ = r["network"].split(".")
                self.peers[net, int(level)].append(r)

    def golden(self) -> Iterator[str]:
        for r in self.rows:
            if "verify" in r:
                v = r["verify"]
                yield f"golden {r['of']} {r['precision']}: {v['worst_relative']:.2e} of the largest logit"
        for (net, level), peers in self.peers.items():
            own = self.logits.get((net, "fp32", level))
            for p in peers:
                if own and p.get("logits"):
                    off = largest_difference(p["logits"], own)
                    yield f"logits {net} level {level}: {p['engine']} within {off:.1e}{holds(off <= SAME_LOGITS)}"

    def switches(self) -> Iterator[str]:
        if self.levels:
            yield f"switch: host time p99 <= {SWITCH_US:.0f} us, first run after it / p50 <= {FIRST}"
        for (of, precision, level), r in self.levels.items():
            p99, first = r["select_p99_us"], r["first_after_switch_p50_us"] / r["p50_us"]
            fine = holds(p99 <= SWITCH_US and first <= FIRST)
            yield f"  {of:8} {precision} level {level}: {p99:7.2f} us {first:6.3f}{fine}"

    def against_torch(self) -> Iterator[str]:
        if self.peers:
            yield f"batch 1, float32, p50 in us beside PyTorch's best CUDA graph: wall clock >= {SPEEDUP:.0f} times"
        for (net, level), peers in self.peers.items():
            own, graphs = self.levels.get((net, "fp32", level)), [p for p in peers if "cuda graph" in p["engine"]]
            for p in peers:
                said = p.get("missing") or f"{1e3 * p['p50_ms']:.1f} on the device, {1e3 * p['wall_p50_ms']:.1f} wall"
                yield f"  {net:8} level {level}: {p['engine']}: {said}"
            graphs = [p for p in graphs if "p50_ms" in p]
            if own and graphs:
                wall = 1e3 * min(p["wall_p50_ms"] for p in graphs) / own["p50_us"]
                device = 1e3 * min(p["p50_ms"] for p in graphs) / own["device_p50_us"]
                yield (
                    f"  {net:8} level {level}: own: {own['device_p50_us']:.1f} on the device, {own['p50_us']:.1f} wall;"
                    f" {device:.2f} times on the device, {wall:.2f} times{holds(wall >= SPEEDUP)}"
                )

    def against_roofline(self) -> Iterator[str]:
        top = self.top
        yield (
            f"ceilings: {top['fma_gflops']:.0f} GFLOP/s, tf32 {top['tf32_gflops']:.0f}, fp16 {top['fp16_gflops']:.0f};"
            f" {top['copy_gb_s']:.0f} GB/s; {top['multiprocessors']} multiprocessors;"
            f" a launch {top['launch_us']:.1f} us, one more kernel of a graph {top['kernel_us']:.2f} us"
        )
        yield f"p50 / bound, the sum of the kernels' least times and one launch, <= {ROOFLINE}; times in us"
        yield "  network  precision level kernels      sum    alone    empty     p50   device device/bound p50/bound"
        for key, r in self.levels.items():
            of, precision, level = key
            kernels = self.kernels[key]
            bound = sum(least_us(k, precision, top) for k in kernels)
            whole = bound + top["launch_us"]
            yield (
                f"  {of:8} {precision:9} {level:5} {len(kernels):7} {bound:8.1f} {sum(k['us'] for k in kernels):8.1f}"
                f" {len(kernels) * top['kernel_us']:8.1f} {r['p50_us']:7.1f} {r['device_p50_us']:8.1f}"
                f" {r['device_p50_us'] / whole:12.2f} {r['p50_us'] / whole:9.2f}"
                + holds(r["p50_us"] <= ROOFLINE * whole)
            )

    def where(self) -> Iterator[str]:
        yield "time above the least, by kind of kernel; and what another tile would gain, where it is a tenth faster"
        for (of, precision, level), kernels in self.kernels.items():
            above: dict[str, float] = defaultdict(float)
            gain, others = 0.0, 0
            for k in kernels:
                above[k["entry"].removeprefix("dync_")] += k["us"] - least_us(k, precision, self.top)
                if min(k.get("tiles_us", [k["us"]])) < 0.9 * k["us"]:
                    gain, others = gain + k["us"] - min(k["tiles_us"]), others + 1
            worst = ", ".join(f"{n} {us:.1f}" for n, us in sorted(above.items(), key=lambda e: -e[1])[:4])
            yield f"  {of:8} {precision} level {level}: {worst}; tiles {gain:.1f} us of {others} kernels"

    def batches(self) -> Iterator[str]:
        found: dict[tuple, list[str]] = defaultdict(list)
        for r in self.rows:
            if "image_us" in r:
                key = r["of"], r["precision"], r["level"]
                found[key].append(f"{r['batch']}: {r['image_us']:.1f} ({r['gflops']:.0f})")
        if found:
            yield "batches: us an image (GFLOP/s)"
        for (of, precision, level), values in found.items():
            yield f"  {of:8} {precision} level {level}: {', '.join(values)}"

    def steps(self) -> Iterator[str]:
        for r in self.rows:
            if r.get("status"):
                yield f"FAILED: {r['step']} with {r['status']} after {r['seconds']} s"


def main() -> None:
    results = Results(sys.argv[1])
    parts = [results.steps, results.golden, results.switches, results.against_torch]
    if results.top:
        parts += [results.against_roofline, results.where]
    for part in [*parts, results.batches]:
        for line in part():
            print(line)


if __name__ == "__main__":
    main()
