"""Draws curves.svg from curves.json (the history of a training run).

python curves.py work/history.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt


def main() -> None:
    history = json.loads(Path(sys.argv[1]).read_text())
    rows = ",\n".join(json.dumps(h) for h in history)
    Path("curves.json").write_text(f"[\n{rows}\n]\n")

    plt.switch_backend("svg")
    plt.rcParams.update({"svg.hashsalt": "dynofa", "font.size": 9})
    fig, (top, bottom) = plt.subplots(
        2, 1, figsize=(7.5, 5.6), sharex=True, height_ratios=[2, 1], layout="constrained"
    )
    for key, label, colour in (
        ("val_largest", "largest sub-network, 28x28", "tab:blue"),
        ("val_smallest", "smallest of the phase, 16x16", "tab:orange"),
    ):
        points = [(h["epoch"], h[key]) for h in history if key in h]
        top.plot(*zip(*points, strict=True), ".-", color=colour, label=label)
    top.set_ylim(84, 95)
    top.set_ylabel("validation top-1, %")
    bottom.plot([h["epoch"] for h in history], [h["loss"] for h in history], ".-", color="tab:blue")
    bottom.set_ylabel("training loss,\nlargest sub-network")
    bottom.set_xlabel("epoch")
    phases: dict[str, list[int]] = {}
    for h in history:
        phases.setdefault(h["phase"], []).append(h["epoch"])
    for phase, epochs in phases.items():
        for ax in (top, bottom):
            ax.axvline(epochs[0] - 0.5, color="0.8", lw=0.8, zorder=0)
        middle = (epochs[0] + epochs[-1]) / 2
        bottom.text(middle, 1.05, phase, rotation=90, ha="center", va="top", fontsize=8, c="0.35")
    top.legend(loc="lower right")
    for ax in (top, bottom):
        ax.grid(axis="y", color="0.9")
        ax.spines[["top", "right"]].set_visible(False)
    fig.savefig("curves.svg", metadata={"Date": None})


if __name__ == "__main__":
    main()
