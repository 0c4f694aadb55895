"""Fashion-MNIST: files, resizing as the engine does it, and augmentation of whole batches."""

from __future__ import annotations

import gzip
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

SIDE = 28
VALIDATION = 5_000  # the last training images; the test images are for final numbers only
FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}


def read_idx(path: Path) -> np.ndarray:
    """Reads a gzip-compressed IDX file of unsigned bytes."""
    raw = gzip.decompress(path.read_bytes())
    zero, kind, ndim = struct.unpack(">HBB", raw[:4])
    if (zero, kind) != (0, 8):
        raise ValueError(f"{path}: not an IDX file of bytes")
    shape = struct.unpack(f">{ndim}I", raw[4 : 4 + 4 * ndim])
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * ndim).reshape(shape)


def resize(images: np.ndarray, r: int) -> np.ndarray:
    """uint8 [N, 28, 28] -> [N, r, r] by Pillow's bilinear filter (crop ratio 1: no crop)."""
    if images.shape[1:] == (r, r):
        return images
    return np.stack(
        [np.asarray(Image.fromarray(im).resize((r, r), Image.Resampling.BILINEAR)) for im in images]
    )


@dataclass
class Split:
    """Images by resolution (uint8 [N, r, r]) and labels (int64 [N])."""

    images: dict[int, Tensor]
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def range(self, start: int, stop: int | None = None) -> Split:
        return Split({r: x[start:stop] for r, x in self.images.items()}, self.labels[start:stop])

    def to(self, device: torch.device | str) -> Split:
        return Split({r: x.to(device) for r, x in self.images.items()}, self.labels.to(device))


def load(folder: str | Path, name: str, resolutions: list[int], cache: Path | None = None) -> Split:
    """The split `name` ("train" or "test"); resized images are kept in the cache folder."""
    image_file, label_file = FILES[name]
    raw = read_idx(Path(folder) / image_file)
    labels = read_idx(Path(folder) / label_file)
    images = {}
    for r in resolutions:
        path = cache / f"{name}-{r}.npy" if cache else None
        if path and path.exists():
            images[r] = torch.from_numpy(np.load(path))
            continue
        resized = resize(raw, r)
        images[r] = torch.from_numpy(resized.copy())
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.save(path, resized)
    return Split(images, torch.from_numpy(labels.astype(np.int64)))


def normalise(x: Tensor, space: dict) -> Tensor:
    """uint8 [N, r, r] -> float32 [N, 3, r, r]: (x/255 - mean)/std, the grey channel three times."""
    p = space["preprocess"]
    mean = torch.tensor(p["mean"], dtype=torch.float32, device=x.device)[:, None, None]
    std = torch.tensor(p["std"], dtype=torch.float32, device=x.device)[:, None, None]
    y = (x.to(torch.float32) / 255)[:, None] - mean
    return (y / std).contiguous(memory_format=torch.channels_last)


class Augmentation:
    """One random shift, flip and erased square for each image of a batch.

    All numbers are fractions of the image side, so that the same change can be applied to the
    batch at several resolutions: the teacher sees what its students see.
    """

    def __init__(self, n: int, gen: torch.Generator, gentle: bool = False) -> None:
        """Numbers for n images; gentle: half the shift and nothing erased."""
        shift = (1.25 if gentle else 2.5) / SIDE
        erased = 0.0 if gentle else 0.5

        def rand(*shape: int) -> Tensor:
            return torch.rand(*shape, generator=gen)

        self.shift = (rand(n, 2) * 2 - 1) * shift
        self.flip = rand(n) < 0.5
        self.centre = rand(n, 2)
        self.half = (0.08 + 0.14 * rand(n)) * (rand(n) < erased)  # half the square's side, 0: none

    def __call__(self, x: Tensor) -> Tensor:
        """uint8 [N, r, r] -> the same shape; what is shifted in or erased is 0 (background)."""
        n, r, _ = x.shape
        grid = torch.arange(r)
        move = torch.round(self.shift * r).long()
        ys, xs = grid + move[:, :1], grid + move[:, 1:]
        xs = torch.where(self.flip[:, None], r - 1 - xs, xs)
        pos = (grid + 0.5) / r
        out_y = (pos - self.centre[:, :1]).abs() < self.half[:, None]
        out_x = (pos - self.centre[:, 1:]).abs() < self.half[:, None]
        ok_y, ok_x = (ys >= 0) & (ys < r), (xs >= 0) & (xs < r)
        keep = (ok_y[:, :, None] & ok_x[:, None, :]) & ~(out_y[:, :, None] & out_x[:, None, :])
        index = ys.clamp(0, r - 1)[:, :, None] * r + xs.clamp(0, r - 1)[:, None, :]
        moved = x.reshape(n, -1).gather(1, index.view(n, -1).to(x.device)).view(n, r, r)
        return moved * keep.to(x.device)
