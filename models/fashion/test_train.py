"""Tests on made-up images: every training phase, the extraction, sorting, resuming, export."""

from __future__ import annotations

import gzip
import random
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

import data
import subnet
import train
from depthwise import depthwise, library
from model import SPACE, BatchStats, RunningStats, Supernet, largest, macs, sample, uniform

SIDES = SPACE["resolutions"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder in the form of Fashion-MNIST: 400 training and 50 test images."""
    monkeypatch.setattr(data, "VALIDATION", 100)
    rng = np.random.default_rng(3)
    for name, n in (("train", 400), ("test", 50)):
        labels = rng.integers(0, 10, n, dtype=np.uint8)
        images = rng.integers(0, 40, (n, 28, 28), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):  # a bar whose place is the class
            image[:, 2 + 2 * label : 5 + 2 * label] += 200
        for file, array in zip(data.FILES[name], (images, labels), strict=True):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (tmp_path / file).write_bytes(gzip.compress(head + array.tobytes()))
    return tmp_path


def arguments(monkeypatch: pytest.MonkeyPatch, folder: Path, work: str, *more: str):
    argv = ["train.py", "--data", folder, "--work", folder / work, "--batch", 50, *more]
    monkeypatch.setattr(sys, "argv", [str(a) for a in argv])
    return train.parse()


def random_net(seed: int = 5) -> Supernet:
    """A supernet in which no tensor has a neutral value."""
    torch.manual_seed(seed)
    net = Supernet().eval()
    with torch.no_grad():
        for name, t in net.state_dict().items():
            if name.endswith("running_var"):
                t.uniform_(0.5, 2)
            elif name.endswith("_matrix"):
                t += 0.05 * torch.randn_like(t)
            elif t.ndim == 1:
                t.copy_(0.5 + torch.rand_like(t))
    return net


CONFIGS = [largest(SPACE), uniform(SPACE, 3, 2, 1, 16)] + [
    sample(random.Random(i), SPACE) for i in range(6)
]


@pytest.mark.parametrize("cfg", CONFIGS)
@torch.no_grad()
def test_elastic_equals_extracted(cfg):
    net = random_net().double()
    sub = subnet.extract(net.state_dict(), SPACE, cfg)
    x = torch.randn(4, 3, cfg.r, cfg.r, dtype=torch.float64)
    torch.testing.assert_close(net(x, cfg, RunningStats()), sub(x), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_recalibration_twice():
    net = random_net()
    cfg = CONFIGS[3]
    images = torch.randint(0, 256, (60, cfg.r, cfg.r), dtype=torch.uint8)
    split = data.Split({cfg.r: images}, torch.zeros(60, dtype=torch.int64))
    stats = train.calibrate(net, cfg, split, batch=25)  # batches of 25, 25 and 10
    sub = subnet.extract(net.state_dict(), SPACE, cfg)
    subnet.recalibrate(sub, [data.normalise(images[i : i + 25], SPACE) for i in (0, 25, 50)])
    x = data.normalise(images[:5], SPACE)
    torch.testing.assert_close(net(x, cfg, stats), sub(x), rtol=1e-4, atol=1e-4)


def test_macs_of_extracted():
    for cfg in CONFIGS:
        sub = subnet.extract(Supernet().state_dict(), SPACE, cfg)
        total = 0

        def count(m, _, out):
            nonlocal total
            total += m.weight.numel() * (out[0, 0].numel() if out.ndim == 4 else 1)

        for m in sub.modules():
            if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear)):
                m.register_forward_hook(count)
        sub(torch.zeros(1, 3, cfg.r, cfg.r))
        assert total == macs(SPACE, cfg)


@torch.no_grad()
def test_sorting_keeps_the_largest_network():
    net = random_net().double()
    cfg = largest(SPACE)
    x = torch.randn(2, 3, cfg.r, cfg.r, dtype=torch.float64)
    before = net(x, cfg, RunningStats())
    train.sort_channels(net, None, None)
    torch.testing.assert_close(net(x, cfg, RunningStats()), before)
    w = net.blocks[4].conv.point_linear.conv.conv.weight.abs().sum((0, 2, 3))
    assert (w[:-1] >= w[1:]).all()


@pytest.mark.skipif(library() is None, reason="no C compiler")
@pytest.mark.parametrize(
    "c, side, k, s", [(24, 9, 5, 2), (32, 14, 7, 1), (16, 13, 3, 2), (8, 4, 7, 2)]
)
def test_depthwise_backward(c, side, k, s):
    torch.manual_seed(1)
    x = torch.randn(6, c, side, side).bfloat16().to(memory_format=torch.channels_last)
    w = torch.randn(c, 1, k, k)
    a, b = x.clone().requires_grad_(), w.clone().requires_grad_()
    y = depthwise(a, b, s)
    dy = torch.randn_like(y)
    y.backward(dy)
    a64, b64 = x.double().requires_grad_(), w.double().requires_grad_()
    F.conv2d(a64, b64, None, s, k // 2, 1, c).backward(dy.double())
    torch.testing.assert_close(b.grad.double(), b64.grad, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(a.grad.double(), a64.grad, rtol=1e-2, atol=1e-2 * k)  # bfloat16


def test_every_phase_learns(folder, monkeypatch):
    args = arguments(monkeypatch, folder, "a", "--epochs", 2, 1, 1, 1, 1, 2, "--ema", 0.5)
    t = train.Trainer(args)
    while t.epoch < sum(args.epochs):
        t.run_epoch()
    assert [h["phase"] for h in t.history] == [
        "teacher", "teacher", "kernel", "depth 2-3", "depth 1-3", "expand 3-4",
        "expand 2-4", "expand 2-4",
    ]  # fmt: skip
    assert t.history[-1]["loss"] < t.history[0]["loss"]
    for name, p in t.net.named_parameters():
        assert p.isfinite().all(), name
        if name.endswith("_matrix"):
            assert not torch.equal(p, torch.eye(len(p))), name
    cfg = uniform(SPACE, 5, 3, 2, 20)
    assert 0 <= train.accuracy(t.net, cfg, t.train, t.val) <= 100


def test_resuming_changes_nothing(folder, monkeypatch):
    epochs = ("--epochs", 1, 0, 0, 0, 1, 0)
    args = arguments(monkeypatch, folder, "a", *epochs)
    t = train.Trainer(args)
    t.run_epoch()
    t.save()
    t.run_epoch()
    again = train.Trainer(args)
    assert again.epoch == 1
    again.run_epoch()
    for (name, p), q in zip(t.net.named_parameters(), again.net.parameters(), strict=True):
        assert torch.equal(p, q), name


def test_augmentation_is_the_same_at_every_side():
    gen = torch.Generator().manual_seed(2)
    a = data.Augmentation(64, gen)
    image = torch.full((64, 28, 28), 100, dtype=torch.uint8)
    small = torch.full((64, 16, 16), 100, dtype=torch.uint8)
    kept = a(image).double().mean((1, 2)) / 100
    kept_small = a(small).double().mean((1, 2)) / 100
    assert ((kept - kept_small).abs() < 0.12).all()
    one = torch.ones(64, dtype=torch.bool)
    a.shift, a.half, a.flip = 0 * a.shift, 0 * a.half, one
    image = torch.randint(0, 256, (64, 28, 28), dtype=torch.uint8)
    assert torch.equal(a(image), image.flip(2))


def test_export_round_trip(tmp_path):
    net = random_net()
    path = tmp_path / "a.safetensors"
    subnet.save(path, net.state_dict(), {"version": 1, "space": SPACE})
    weights, header = subnet.load(path)
    assert header["space"] == SPACE
    assert not any(k.endswith("num_batches_tracked") for k in weights)
    for name in (
        "first_conv.conv.weight",
        "blocks.0.conv.depth_conv.conv.weight",
        "blocks.0.conv.point_linear.bn.running_var",
        "blocks.1.conv.inverted_bottleneck.conv.conv.weight",
        "blocks.9.conv.depth_conv.conv.5to3_matrix",
        "blocks.9.conv.depth_conv.conv.7to5_matrix",
        "blocks.9.conv.depth_conv.conv.conv.weight",
        "blocks.9.conv.depth_conv.bn.bn.running_mean",
        "blocks.9.conv.depth_conv.se.fc.reduce.weight",
        "blocks.9.conv.point_linear.conv.conv.weight",
        "final_expand_layer.conv.weight",
        "feature_mix_layer.conv.weight",
        "classifier.linear.bias",
    ):
        assert torch.equal(weights[name], net.state_dict()[name]), name
    state = torch.load(path.with_suffix(".pth"), weights_only=True)["state_dict"]
    assert state.keys() == weights.keys()


def test_batch_statistics_train():
    net = Supernet()
    cfg = CONFIGS[2]
    loss = net(torch.randn(8, 3, cfg.r, cfg.r), cfg, BatchStats()).square().mean()
    loss.backward()
    assert net.first_conv.conv.weight.grad is not None
