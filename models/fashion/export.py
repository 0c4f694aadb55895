"""Exports the averaged weights of a checkpoint as safetensors under the public OFA key names.

python export.py --work work --out work/fashion.safetensors
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
from pathlib import Path

import numpy
import PIL
import torch

import data
import subnet
from model import SPACE, largest
from train import calibrate, with_weights

CALIBRATION_IMAGES = 10_000


def main() -> None:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    p.add_argument("--work", type=Path, default=Path("work"))
    p.add_argument("--out", type=Path, default=Path("work/fashion.safetensors"))
    p.add_argument("--command", default="python train.py", help="for the provenance entry")
    args = p.parse_args()

    checkpoint = torch.load(args.work / "last.pt", map_location="cpu", weights_only=True)
    net = with_weights(checkpoint["ema"])
    train = data.load(args.data, "train", [max(SPACE["resolutions"])], args.work / "cache")
    net.set_running_stats(calibrate(net, largest(SPACE), train, CALIBRATION_IMAGES))
    history = checkpoint["history"]
    header = {
        "version": 1,
        "space": SPACE,
        "provenance": {
            "data": "Fashion-MNIST (Zalando Research, MIT licence), training images 0 to 54,999",
            "method": "progressive shrinking (Once-for-All, Cai et al. 2020), weights trained "
            "from random initialisation",
            "bn": "running statistics of the largest network at full resolution over the first "
            f"{CALIBRATION_IMAGES:,} training images, batches of 100",
            "command": args.command,
            "epochs": checkpoint["epoch"],
            "phases": [
                [name, sum(h["phase"] == name for h in history)]
                for name in dict.fromkeys(h["phase"] for h in history)
            ],
            "versions": {
                "python": platform.python_version(),
                "torch": torch.__version__.split("+")[0],
                "numpy": numpy.__version__,
                "pillow": PIL.__version__,
            },
            "date": datetime.date.today().isoformat(),
        },
    }
    subnet.save(args.out, net.state_dict(), header)
    (args.out.parent / "space.json").write_text(json.dumps(SPACE, indent=1) + "\n")
    print(f"{args.out}: {args.out.stat().st_size} bytes, epoch {checkpoint['epoch']}")


if __name__ == "__main__":
    main()
