"""Classes that torch predicts for all test images with each level of a bundle.

Every sub-network is extracted, its BN statistics are re-calibrated on the first 2,000 training
images in file order (batches of 100), and the 10,000 test images are classified in float32.

python predictions.py work/fashion.safetensors fashion.dofa --out predictions.json
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch

import data
import subnet
from model import Config, macs

CALIBRATION_IMAGES, CALIBRATION_BATCH, BATCH = 2000, 100, 250


@torch.no_grad()
def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("weights", type=Path)
    p.add_argument("bundle", type=Path, help="bundle whose levels are meant")
    p.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    p.add_argument("--out", type=Path, default=Path("predictions.json"))
    args = p.parse_args()

    weights, header = subnet.load(args.weights)
    space = header["space"]
    _, library = subnet.load(args.bundle)
    levels = [Config.from_dict(level["subnet"]) for level in library["library"]]
    sides = sorted({c.r for c in levels})
    train = data.load(args.data, "train", sides).range(0, CALIBRATION_IMAGES)
    test = data.load(args.data, "test", sides)
    rows = []
    for cfg in levels:
        net = subnet.extract(weights, space, cfg)
        x = train.images[cfg.r]
        subnet.recalibrate(
            net,
            [
                data.normalise(x[i : i + CALIBRATION_BATCH], space)
                for i in range(0, len(x), CALIBRATION_BATCH)
            ],
        )
        x = test.images[cfg.r]
        classes = torch.cat(
            [
                net(data.normalise(x[i : i + BATCH], space)).argmax(1)
                for i in range(0, len(x), BATCH)
            ]
        )
        top1 = 100 * (classes == test.labels).double().mean().item()
        rows.append(
            cfg.as_dict()
            | {"macs": macs(space, cfg), "top1": round(top1, 2), "classes": classes.tolist()}
        )
        print(f"{cfg.as_dict()} {rows[-1]['macs'] / 1e6:.2f} M  {top1:.2f} %", flush=True)
    head = {
        "model": "fashion",
        "data": "test images in file order",
        "calibration": {"images": CALIBRATION_IMAGES, "batch": CALIBRATION_BATCH},
    }
    body = ",\n".join(json.dumps(r) for r in rows)
    args.out.write_text(json.dumps(head)[:-1] + ', "cases": [\n' + body + "\n]}\n")


if __name__ == "__main__":
    main()
