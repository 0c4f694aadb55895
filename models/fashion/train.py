"""Trains the Fashion-MNIST supernet by progressive shrinking (Once-for-All, Cai et al. 2020).

    python train.py --data /usr/share/datasets/fashion-mnist --work work

Phases: the largest network alone (the teacher), then elastic kernel size, elastic depth and
elastic expand ratio, each with what came before, the resolution elastic throughout. From the
second phase on a step trains three sub-networks on the same batch (the sandwich rule of Yu and
Huang 2019): the largest at full resolution on the labels, the smallest of the phase and random
ones on the soft labels of the largest.

Every epoch ends with a checkpoint `last.pt` in the work folder; the same command goes on from
there. `--epochs` gives the length of each phase and may be changed when going on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn.functional as F
from torch import Tensor, nn

import data
from depthwise import library
from model import (
    SPACE,
    BatchStats,
    Calibration,
    Config,
    FixedStats,
    Supernet,
    largest,
    max_depths,
    sample,
)

# name, kernels, smallest depth, expand ratios: what a random sub-network of the phase may take
PHASES = [
    ("teacher", [7], 3, [4]),
    ("kernel", [3, 5, 7], 3, [4]),
    ("depth 2-3", [3, 5, 7], 2, [4]),
    ("depth 1-3", [3, 5, 7], 1, [4]),
    ("expand 3-4", [3, 5, 7], 1, [3, 4]),
    ("expand 2-4", [3, 5, 7], 1, [2, 3, 4]),
]
SANDWICH_RATE = 0.5
FULL_RESOLUTION_SHARE = 0.5  # of the teacher's steps; the rest is spread over the resolutions


def parse() -> argparse.Namespace:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    p.add_argument("--work", type=Path, default=Path("work"))
    p.add_argument("--epochs", type=int, nargs=6, default=[10, 3, 3, 3, 5, 29])
    p.add_argument("--batch", type=int, default=128)
    p.add_argument("--lr", type=float, default=0.3)
    p.add_argument("--warmup", type=float, default=1.0, help="epochs")
    p.add_argument("--decay", type=float, default=2e-4, help="weight decay")
    p.add_argument("--smooth", type=float, default=0.05, help="label smoothing")
    p.add_argument("--ema", type=float, default=0.999, help="decay of the averaged weights")
    p.add_argument("--gentle", type=int, default=10, help="last epochs with little augmentation")
    p.add_argument("--random", type=int, default=1, help="random sub-networks of a step")
    p.add_argument("--images", type=int, default=None, help="use only the first training images")
    p.add_argument("--workers", type=int, default=2, help="processes of one thread (CPU only)")
    p.add_argument("--port", type=int, default=29511, help="where the workers meet, local")
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--stop-after", type=int, default=None, help="end after this many epochs")
    return p.parse_args()


# --- evaluation ------------------------------------------------------------------------------


@torch.no_grad()
def calibrate(
    net: Supernet, cfg: Config, train: data.Split, images: int = 2000, batch: int = 100
) -> FixedStats:
    """BN statistics of a sub-network from the first training images in file order."""
    norm = Calibration()
    for i in range(0, min(images, len(train)), batch):
        net(data.normalise(train.images[cfg.r][i : i + batch], net.space), cfg, norm)
    return norm.result()


@torch.no_grad()
def logits(net: Supernet, cfg: Config, split: data.Split, norm, batch: int = 250) -> Tensor:
    """Logits [N, classes] of all images of the split."""
    x = split.images[cfg.r]
    return torch.cat(
        [
            net(data.normalise(x[i : i + batch], net.space), cfg, norm)
            for i in range(0, len(x), batch)
        ]
    )


def accuracy(
    net: Supernet, cfg: Config, train: data.Split, split: data.Split, images: int = 2000
) -> float:
    """Top-1 accuracy in percent after re-calibration on training images."""
    out = logits(net, cfg, split, calibrate(net, cfg, train, images))
    return 100 * (out.argmax(1) == split.labels).float().mean().item()


# --- training --------------------------------------------------------------------------------


def channel_orders(net: Supernet) -> list[tuple[str, int, Tensor]]:
    """How to sort each block's channels: (parameter or buffer, dimension, order).

    The importance of an expanded channel is the L1 norm of the weights that read it in the
    projecting 1x1 convolution; that of a squeeze unit the L1 norm of its column of `expand`.
    """
    orders = []
    for i, block in enumerate(net.blocks[1:], 1):
        b, conv = f"blocks.{i}.conv.", block.conv
        mid = conv.point_linear.conv.conv.weight.abs().sum((0, 2, 3)).argsort(descending=True)
        orders += [
            (b + "inverted_bottleneck.conv.conv.weight", 0, mid),
            (b + "depth_conv.conv.conv.weight", 0, mid),
            (b + "point_linear.conv.conv.weight", 1, mid),
        ]
        for bn in ("inverted_bottleneck.bn.bn.", "depth_conv.bn.bn."):
            orders += [
                (b + bn + part, 0, mid)
                for part in ("weight", "bias", "running_mean", "running_var")
            ]
        if conv.se:
            fc = b + "depth_conv.se.fc."
            q = conv.depth_conv.se.fc.expand.weight.abs().sum((0, 2, 3)).argsort(descending=True)
            orders += [
                (fc + "reduce.weight", 1, mid),
                (fc + "reduce.weight", 0, q),
                (fc + "reduce.bias", 0, q),
                (fc + "expand.weight", 1, q),
                (fc + "expand.weight", 0, mid),
                (fc + "expand.bias", 0, mid),
            ]
    return orders


@torch.no_grad()
def sort_channels(net: Supernet, opt: torch.optim.Optimizer | None, ema: dict | None) -> None:
    """Puts the most important expanded channels first; the largest network does not change.

    The optimiser's momentum and the averaged weights are permuted with the weights.
    """
    state = net.state_dict(keep_vars=True)
    for name, dim, order in channel_orders(net):
        t = state[name]
        t.data.copy_(t.data.index_select(dim, order))
        if ema and name in ema:
            ema[name].copy_(ema[name].index_select(dim, order))
        if opt and t in opt.state:
            m = opt.state[t]["momentum_buffer"]
            m.copy_(m.index_select(dim, order))


def optimiser(net: Supernet, args: argparse.Namespace) -> torch.optim.Optimizer:
    """SGD with Nesterov momentum; convolution and classifier weights decay, the rest does not."""
    decay, rest = [], []
    for name, p in net.named_parameters():
        plain = p.ndim > 1 and not name.endswith("_matrix")
        (decay if plain else rest).append(p)
    groups = [
        {"params": decay, "weight_decay": args.decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, args.lr, momentum=0.9, nesterov=True)


def sandwich(rng: random.Random, phase: tuple, extra: int) -> list[Config]:
    """The students of one step: the smallest of the phase and `extra` random ones."""
    _, kernels, depth, expands = phase
    slots = sum(max_depths(SPACE))
    small = Config(
        (min(kernels),) * slots,
        (min(expands),) * slots,
        tuple(min(d for d in s["depths"] if d >= depth) for s in SPACE["stages"]),
        rng.choice(SPACE["resolutions"]),
    )
    return [small] + [sample(rng, SPACE, kernels, expands, depth) for _ in range(extra)]


class Trainer:
    """Owns the weights and the schedule. With several workers each has a share of every batch
    and its own copy of the state; averaged gradients keep the copies equal."""

    def __init__(self, args: argparse.Namespace, rank: int = 0, world: int = 1) -> None:
        self.args, self.rank, self.world = args, rank, world
        torch.manual_seed(args.seed)
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        args.work.mkdir(parents=True, exist_ok=True)
        full = data.load(args.data, "train", SPACE["resolutions"], args.work / "cache")
        n = len(full) - data.VALIDATION
        self.train = full.range(0, min(n, args.images or n)).to(self.device)
        self.val = full.range(n).to(self.device)
        self.net = Supernet().to(self.device, memory_format=torch.channels_last)
        self.opt = optimiser(self.net, args)
        self.ema = {k: p.detach().clone() for k, p in self.net.named_parameters()}
        self.epoch = 0
        self.history: list[dict] = []
        self.steps = len(self.train) // args.batch
        path = args.work / "last.pt"
        if path.exists():
            self.restore(torch.load(path, map_location=self.device, weights_only=True))

    def restore(self, c: dict) -> None:
        self.net.load_state_dict(c["net"])
        self.opt.load_state_dict(c["opt"])
        self.ema = c["ema"]
        self.epoch, self.history = c["epoch"], c["history"]

    def save(self) -> None:
        c = {
            "net": self.net.state_dict(),
            "opt": self.opt.state_dict(),
            "ema": self.ema,
            "epoch": self.epoch,
            "history": self.history,
        }
        tmp = self.args.work / "last.tmp"
        torch.save(c, tmp)
        tmp.replace(self.args.work / "last.pt")

    def phase(self, epoch: int) -> int:
        """Index of the phase that an epoch belongs to."""
        for i, n in enumerate(self.args.epochs):
            if epoch < n:
                return i
            epoch -= n
        raise IndexError("after the last phase")

    def rate(self, epoch: float) -> float:
        """One cosine over all phases after a linear warm-up; after the teacher's phase half of it,
        because a step then adds up the gradients of several sub-networks."""
        a = self.args
        share = 1.0 if epoch < a.epochs[0] else SANDWICH_RATE
        if epoch < a.warmup:
            return a.lr * max(epoch, 0.02) / a.warmup
        t = (epoch - a.warmup) / (sum(a.epochs) - a.warmup)
        return share * a.lr * (0.5 + 0.5 * math.cos(math.pi * min(t, 1.0)))

    def step(self, index: Tensor, phase: tuple, rng: random.Random, gen: torch.Generator) -> Tensor:
        """One update; returns the loss of the largest network."""
        a, net, norm = self.args, self.net, BatchStats()
        gentle = self.epoch >= sum(a.epochs) - a.gentle
        augment = data.Augmentation(len(index), gen, gentle)
        batches: dict[int, Tensor] = {}

        def inputs(r: int) -> Tensor:
            if r not in batches:
                batches[r] = data.normalise(augment(self.train.images[r][index]), SPACE)
            return batches[r]

        def forward(cfg: Config) -> Tensor:
            with torch.autocast(self.device.type, torch.bfloat16):
                return net(inputs(cfg.r), cfg, norm).float()

        big = largest(SPACE)
        teacher_only = phase[0] == "teacher"
        if teacher_only and rng.random() > FULL_RESOLUTION_SHARE:
            big = Config(big.ks, big.e, big.d, rng.choice(SPACE["resolutions"]))
        out = forward(big)
        loss = F.cross_entropy(out, self.train.labels[index], label_smoothing=a.smooth)
        loss.backward()
        if not teacher_only:
            soft = out.detach().softmax(1)
            for cfg in sandwich(rng, phase, a.random):
                F.cross_entropy(forward(cfg), soft).backward()
        self.average_gradients()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        self.opt.step()
        self.opt.zero_grad()
        params = [p.detach() for p in net.parameters()]
        torch._foreach_lerp_(list(self.ema.values()), params, 1 - a.ema)
        return loss.detach()

    def average_gradients(self) -> None:
        if self.world == 1:
            return
        grads = [p.grad for p in self.net.parameters() if p.grad is not None]
        flat = torch.cat([g.flatten() for g in grads])
        dist.all_reduce(flat)
        parts = flat.div_(self.world).split([g.numel() for g in grads])
        torch._foreach_copy_(grads, [f.view(g.shape) for f, g in zip(parts, grads, strict=True)])

    def run_epoch(self) -> None:
        a = self.args
        started = time.time()
        index = self.phase(self.epoch)
        phase = PHASES[index]
        rng = random.Random(f"{a.seed}/{self.epoch}")
        gen = torch.Generator().manual_seed(a.seed * 100_003 + self.epoch)
        order = torch.randperm(len(self.train), generator=gen)
        gen.manual_seed((a.seed * 100_003 + self.epoch) * self.world + self.rank)
        first_of_phase = self.epoch == sum(a.epochs[:index])
        if first_of_phase and phase[0] == "expand 3-4":
            sort_channels(self.net, self.opt, self.ema)
        total = torch.zeros((), device=self.device)
        share = a.batch // self.world
        for i in range(self.steps):
            for group in self.opt.param_groups:
                group["lr"] = self.rate(self.epoch + i / self.steps)
            start = i * a.batch + self.rank * share
            batch = order[start : start + share].to(self.device)
            total += self.step(batch, phase, rng, gen)
            if i % 100 == 99 and self.rank == 0:
                print(
                    f"  step {i + 1}/{self.steps} loss {total.item() / (i + 1):.4f} "
                    f"{time.time() - started:.0f} s",
                    flush=True,
                )
        row = {"epoch": self.epoch + 1, "phase": phase[0], "loss": total.item() / self.steps}
        row |= self.evaluate(phase)
        row["seconds"] = round(time.time() - started, 1)
        self.history.append(row)
        self.epoch += 1
        if self.rank == 0:
            print(json.dumps(row), flush=True)

    def evaluate(self, phase: tuple) -> dict:
        """Validation accuracy of the averaged weights: the largest network at full resolution,
        and the smallest of the phase at the lowest."""
        averaged = with_weights(self.ema, self.device)
        small = sandwich(random.Random(0), phase, 0)[0]
        small = Config(small.ks, small.e, small.d, min(SPACE["resolutions"]))
        todo = [("val_largest", largest(SPACE)), ("val_smallest", small)]
        row = {}
        for i, (name, cfg) in enumerate(todo[: 1 if phase[0] == "teacher" else 2]):
            value = torch.zeros(1)
            if i % self.world == self.rank:
                value[0] = accuracy(averaged, cfg, self.train, self.val, 500)
            if self.world > 1:
                dist.broadcast(value, i % self.world)
            row[name] = round(value.item(), 2)
        return row


def with_weights(params: dict, device: torch.device | str = "cpu") -> Supernet:
    """A supernet with these parameters, in evaluation form."""
    net = Supernet()
    net.load_state_dict(params, strict=False)
    return net.to(device, memory_format=torch.channels_last).eval()


def work(rank: int, world: int, args: argparse.Namespace) -> None:
    if world > 1:
        torch.set_num_threads(1)
        dist.init_process_group(
            "gloo", init_method=f"tcp://127.0.0.1:{args.port}", rank=rank, world_size=world
        )
    t = Trainer(args, rank, world)
    end = sum(args.epochs)
    if args.stop_after:
        end = min(end, t.epoch + args.stop_after)
    if rank == 0:
        print(f"device {t.device}, {len(t.train)} images, epochs {t.epoch} to {end}", flush=True)
    while t.epoch < end:
        t.run_epoch()
        if rank == 0:
            t.save()
    if rank == 0:
        (args.work / "history.json").write_text(json.dumps(t.history, indent=1) + "\n")
    if world > 1:
        dist.destroy_process_group()


def main() -> None:
    args = parse()
    world = 1 if torch.cuda.is_available() else args.workers
    if world == 1:
        work(0, 1, args)
        return
    library()  # compiled once, before the workers start
    mp.spawn(work, (world, args), world)


if __name__ == "__main__":
    main()
