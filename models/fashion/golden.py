"""Writes golden.json: logits of extracted sub-networks in float64, the oracle of the engine tests.

Inputs are test images, resized by Pillow and normalised in float32, then widened. The weights are
the exported float32 ones, widened. BN statistics are the supernet's first channels (no
re-calibration).

python golden.py work/fashion.safetensors
"""

from __future__ import annotations

import argparse
import json
import random
from dataclasses import replace
from pathlib import Path

import torch

import data
import subnet
from model import Config, sample, uniform

PER_CASE = 16


def cases(space: dict) -> list[tuple[str, Config]]:
    """Smallest, largest, one extreme at a time, every resolution, mixed and random ones."""
    rng = random.Random(7)
    ks, es, rs = space["kernels"], space["expands"], space["resolutions"]
    hi = uniform(space, max(ks), max(es), 9, max(rs))
    lo = uniform(space, min(ks), min(es), 1, min(rs))
    n = len(hi.ks)
    out = [
        ("smallest", lo),
        ("largest", hi),
        ("largest_k5", replace(hi, ks=(5,) * n)),
        ("largest_k3", replace(hi, ks=(3,) * n)),
        ("largest_e_min", replace(hi, e=lo.e)),
        ("largest_d_min", replace(hi, d=lo.d)),
        ("largest_r_min", replace(hi, r=min(rs))),
        ("smallest_k7", replace(lo, ks=hi.ks)),
        ("smallest_e_max", replace(lo, e=hi.e)),
        ("smallest_d_max", replace(lo, d=hi.d)),
        ("smallest_r_max", replace(lo, r=max(rs))),
        (
            "mixed",
            Config(
                tuple(ks[i % len(ks)] for i in range(n)),
                tuple(es[(i + i // 3) % len(es)] for i in range(n)),
                hi.d,
                rs[-2],
            ),
        ),
    ]
    return out + [(f"random_{r}", sample(rng, space, r=r)) for r in rs]


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("weights", type=Path)
    p.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    p.add_argument("--out", type=Path, default=Path("golden.json"))
    args = p.parse_args()

    weights32, header = subnet.load(args.weights)
    weights64 = {k: v.double() for k, v in weights32.items()}
    space = header["space"]
    test = data.load(args.data, "test", space["resolutions"]).range(0, 1000)
    rng = random.Random(11)
    rows = []
    for name, cfg in cases(space):
        images = sorted(rng.sample(range(1000), PER_CASE))
        x = data.normalise(test.images[cfg.r][images], space)
        out64 = subnet.extract(weights64, space, cfg)(x.double())
        out32 = subnet.extract(weights32, space, cfg)(x)
        rows.append(
            {"name": name}
            | cfg.as_dict()
            | {
                "images": images,
                "logits64": out64.tolist(),
                "max_abs_diff_32_64": (out32.double() - out64).abs().max().item(),
            }
        )
        print(f"{name:16} float32 differs by {rows[-1]['max_abs_diff_32_64']:.2e}")
    head = {"model": "fashion", "data": "test"}
    body = ",\n".join(json.dumps(r) for r in rows)
    args.out.write_text(json.dumps(head)[:-1] + ', "cases": [\n' + body + "\n]}\n")


if __name__ == "__main__":
    main()
