"""Chooses the levels: sub-networks from fast to accurate, by search on the validation images.

Random sub-networks, then mutants of the best so far, are measured: BN re-calibration on the first
2,000 training images, accuracy on the 5,000 validation images. One measurement has a standard
error of about 0.3 points, and the best of hundreds is partly luck, so the choice uses the mean of
the measured accuracy and of a linear fit over all measurements. Test images play no part.

    python levels.py work/fashion.safetensors --work work --out levels.json
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

import data
import subnet
from model import Config, Supernet, largest, macs, max_depths, sample, uniform
from train import accuracy, with_weights

GENERATION = 24  # mutants between two looks at the front


def canonical(space: dict, cfg: Config) -> Config:
    """Gives slots without effect the smallest values, so that equal networks compare equal."""
    ks, e, slot = list(cfg.ks), list(cfg.e), 0
    for d, m in zip(cfg.d, max_depths(space), strict=True):
        for i in range(slot + d, slot + m):
            ks[i], e[i] = min(space["kernels"]), min(space["expands"])
        slot += m
    return Config(tuple(ks), tuple(e), cfg.d, cfg.r)


def mutate(rng: random.Random, space: dict, cfg: Config, p: float = 0.2) -> Config:
    """Draws each field again with probability p."""
    other = sample(rng, space)

    def mix(a: tuple, b: tuple) -> tuple:
        return tuple(y if rng.random() < p else x for x, y in zip(a, b, strict=True))

    (r,) = mix((cfg.r,), (other.r,))
    return Config(mix(cfg.ks, other.ks), mix(cfg.e, other.e), mix(cfg.d, other.d), r)


def features(space: dict, cfg: Config) -> np.ndarray:
    """0/1 features of the active slots' kernels and expand ratios, of depths and resolution."""
    out, slot = [1.0], 0
    for d, m in zip(cfg.d, max_depths(space), strict=True):
        for i in range(m):
            on = i < d
            out += [float(on and cfg.ks[slot + i] == k) for k in space["kernels"]]
            out += [float(on and cfg.e[slot + i] == e) for e in space["expands"]]
        slot += m
    return np.array(out + [float(cfg.r == r) for r in space["resolutions"]])


def smooth(space: dict, seen: dict[Config, float]) -> dict[Config, float]:
    """Mean of each measured accuracy and a ridge fit of log(error) on the features."""
    x = np.stack([features(space, c) for c in seen])
    y = np.log(100 - np.array(list(seen.values())))
    ridge = np.eye(x.shape[1])
    ridge[0, 0] = 1e-6
    w = np.linalg.solve(x.T @ x + ridge, x.T @ y)
    fit = 100 - np.exp(x @ w)
    return {c: (a + float(f)) / 2 for (c, a), f in zip(seen.items(), fit, strict=True)}


def pareto(space: dict, score: dict[Config, float]) -> list[Config]:
    """The sub-networks that no cheaper one matches, from cheap to dear."""
    front: list[Config] = []
    for c in sorted(score, key=lambda c: (macs(space, c), -score[c])):
        if not front or score[c] > score[front[-1]]:
            front.append(c)
    return front


def choose(
    space: dict, seen: dict[Config, float], count: int, gap: float, floor: float
) -> list[Config]:
    """At most `count` levels from the front, evenly spread in accuracy.

    The first is the cheapest of at least `floor` percent, the last the most accurate; in between
    the one that is nearest to an even step, and both the measured and the smoothed accuracy rise
    by at least `gap` from level to level.
    """
    score = smooth(space, seen)
    front = [c for c in pareto(space, score) if min(score[c], seen[c]) >= floor]
    top = front[-1]
    levels = [front[0]]
    while len(levels) < count - 1:
        last = levels[-1]
        step = (score[top] - score[last]) / (count - len(levels))
        fit = [
            c
            for c in front
            if min(score[c] - score[last], seen[c] - seen[last]) >= gap
            and min(score[top] - score[c], seen[top] - seen[c]) >= gap
        ]
        if not fit:
            break
        levels.append(min(fit, key=lambda c: abs(score[c] - score[last] - step)))
    return levels + [top]


class Measure:
    """Validation accuracy of sub-networks; one copy in each worker process."""

    net: Supernet
    train: data.Split
    val: data.Split

    @classmethod
    def open(cls, args: argparse.Namespace) -> None:
        torch.set_num_threads(1)
        weights, header = subnet.load(args.weights)
        cls.net = with_weights(weights)
        sides = header["space"]["resolutions"]
        cls.train = data.load(args.data, "train", sides, args.work / "cache")
        cls.val = cls.train.range(len(cls.train) - data.VALIDATION)

    @classmethod
    def run(cls, cfg: Config) -> float:
        return accuracy(cls.net, cfg, cls.train, cls.val)


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("weights", type=Path)
    p.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    p.add_argument("--work", type=Path, default=Path("work"), help="for resized images")
    p.add_argument("--out", type=Path, default=Path("levels.json"))
    p.add_argument("--log", type=Path, help="keeps all measurements; goes on from them")
    p.add_argument("--random", type=int, default=100)
    p.add_argument("--minutes", type=float, default=4, help="of search after the random ones")
    p.add_argument("--mutants", type=int, default=200, help="at most")
    p.add_argument("--levels", type=int, default=9)
    p.add_argument("--gap", type=float, default=0.25, help="points between levels, at least")
    p.add_argument("--floor", type=float, default=91.5, help="accuracy of the fastest, at least")
    p.add_argument("--workers", type=int, default=2)
    p.add_argument("--seed", type=int, default=1)
    args = p.parse_args()

    space = subnet.load(args.weights)[1]["space"]
    rng = random.Random(args.seed)
    seen: dict[Config, float] = {}
    if args.log and args.log.exists():
        seen = {Config.from_dict(c): c["val"] for c in json.loads(args.log.read_text())}
    pool = multiprocessing.get_context("spawn").Pool(args.workers, Measure.open, (args,))

    def measure(configs: list[Config]) -> None:
        new = list(dict.fromkeys(canonical(space, c) for c in configs))
        new = [c for c in new if c not in seen]
        seen.update(zip(new, pool.map(Measure.run, new, 1), strict=True))

    big = largest(space)
    small = uniform(space, min(space["kernels"]), min(space["expands"]), 1, 16)
    first = [replace(c, r=r) for c in (small, big) for r in space["resolutions"]]
    measure(first + [sample(rng, space) for _ in range(args.random - len(first))])
    print(f"{len(seen)} measured", flush=True)
    end = time.time() + 60 * args.minutes
    limit = len(seen) + args.mutants
    while time.time() < end and len(seen) < limit:
        front = pareto(space, smooth(space, seen))
        measure([mutate(rng, space, rng.choice(front)) for _ in range(GENERATION)])
        print(f"{len(seen)} measured, {len(front)} in front", flush=True)
    pool.terminate()

    if args.log:
        rows = [c.as_dict() | {"macs": macs(space, c), "val": a} for c, a in seen.items()]
        args.log.write_text(",\n".join(map(json.dumps, rows)).join(["[\n", "\n]\n"]))
    levels = choose(space, seen, args.levels, args.gap, args.floor)
    rows = [c.as_dict() | {"macs": macs(space, c), "val": round(seen[c], 2)} for c in levels]
    args.out.write_text('{"cases": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]}\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    main()
