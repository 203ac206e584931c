"""Checkpoints of sharded models: complete or not there, loaded by any number of ranks, and they run no code."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

import largeds_native as lds
from largeds_native.errors import StateError, StorageError
from largeds_native.trainer import EMA, CheckpointFolder, Trainer, checkpoint_file, part_files, read_checkpoint
from tests.trainer.helpers import Stop, StopAt, numbers
from tests.trainer.processes import run
from tests.trainer.test_ranks import accuracy

fsdp = pytest.importorskip("torch.distributed.fsdp")
if not hasattr(fsdp, "fully_shard"):
    pytest.skip("fully_shard is in torch 2.6", allow_module_level=True)


class Flat(nn.Module):
    """A picture of 1x2x3 pixels as a row of 6 numbers."""

    def forward(self, x):
        return x.double().flatten(1)


def make(folder: Path, name: str, callbacks=(), *, sharded=True, seed=0, dropout=0.0, width=8, **options) -> Trainer:
    torch.manual_seed(seed)
    layers = [Flat(), nn.Linear(6, width), nn.BatchNorm1d(width), nn.Tanh(), nn.Dropout(dropout), nn.Linear(width, 3)]
    model = nn.Sequential(*layers).double()
    if sharded:
        fsdp.fully_shard(model[1])
        fsdp.fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01)
    kwargs = {"accumulate": 2, "clip_grad_norm": 0.5, "checkpoint_every": 1, "progress": False} | options
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 9)
    metrics = {"accuracy": accuracy}
    folder = kwargs.pop("checkpoint_dir", folder / name)
    callbacks = [EMA(0.9), *callbacks]
    return Trainer(
        model,
        optimizer,
        nn.CrossEntropyLoss(),
        scheduler=scheduler,
        metrics=metrics,
        checkpoint_dir=folder,
        callbacks=callbacks,
        **kwargs,
    )


def fit(trainer: Trainer, folder: Path, epochs: int = 2, **options):
    store = lds.open(folder / "s.lds")
    train, val = lds.Loader(store, 4, shuffle=True, seed=1), lds.Loader(store, 6)
    return numbers(trainer.fit(train, epochs, val, **options))


def weights(trainer: Trainer) -> torch.Tensor:
    full = [getattr(p.detach(), "full_tensor", lambda p=p: p.detach())() for p in trainer.model.parameters()]
    return torch.cat([p.flatten() for p in full])


def average(trainer: Trainer) -> torch.Tensor:
    full = [getattr(v, "full_tensor", lambda v=v: v)() for v in trainer.callbacks[0].average.values()]
    return torch.cat([value.flatten() for value in full])


def stopped(trainer: Trainer, folder: Path, **options) -> None:
    with pytest.raises(Stop):
        fit(trainer, folder, **options)


def check_resume(rank: int, folder: Path) -> None:
    """Bit-identical on as many ranks, from within an epoch; the last, the best, and what was abandoned."""
    torch.manual_seed(5 + rank)
    whole = make(folder, "whole", dropout=0.3)
    torch.manual_seed(5 + rank)
    history = fit(whole, folder)
    for stop in (2, 6):
        cut = make(folder, f"cut-{stop}", [StopAt(stop)], dropout=0.3)
        torch.manual_seed(5 + rank)
        stopped(cut, folder)
        again = make(folder, f"cut-{stop}", dropout=0.3, seed=9)
        torch.manual_seed(99 + rank)
        assert fit(again, folder) == history
        assert torch.equal(weights(again), weights(whole))
        assert torch.equal(average(again), average(whole))
    if rank == 0:
        names = sorted(path.name for path in (folder / "whole").iterdir())
        steps = [name for name in names if name.startswith("step-")]
        (best,) = [name for name in names if name.startswith("best-")]
        assert len(names) == 3, names
        assert len(steps) == 2
        state = read_checkpoint(folder / "whole" / steps[-1])
        saved = torch.cat([value.flatten() for name, value in state["model"].items() if value.is_floating_point()])
        assert state["progress"]["step"] == whole.step
        assert len(saved) == sum(p.numel() for p in whole.model.parameters()) + 2 * 8  # with BatchNorm's
        assert "training_model" in read_checkpoint(folder / "whole" / best)
    dist.barrier()
    back = make(folder, "whole", dropout=0.3)
    first = min((folder / "whole").glob("step-*"))
    with pytest.warns(UserWarning, match="abandoned-") if rank == 0 else _nothing():
        fit(back, folder, epochs=3, resume=first)
    if rank == 0:
        assert list((folder / "whole").glob("abandoned-step-*"))


class _nothing:
    def __enter__(self):
        pass

    def __exit__(self, *_):
        pass


def check_save(rank: int, folder: Path) -> None:
    """Stopped within the second epoch, of three ranks: for other processes to go on."""
    stopped(make(folder, "run", [StopAt(5)]), folder)
    fit(make(folder, "finished"), folder, epochs=1)


def check_load(rank: int, folder: Path) -> None:
    """Other ranks go on, sharded and with DistributedDataParallel: both have the same numbers."""
    found = []
    for name, sharded in (("sharded", True), ("ddp", False)):
        if rank == 0:
            shutil.copytree(folder / "run", folder / f"run-{name}")
        dist.barrier()
        trainer = make(folder, f"run-{name}", sharded=sharded, seed=9)
        history = fit(trainer, folder)
        found.append((weights(trainer), average(trainer), history))
    for ours, theirs in zip(found[0][:2], found[1][:2], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-9)  # AdamW enlarges what rounding leaves of a zero
    assert [sorted(logs) for logs in found[0][2]] == [sorted(logs) for logs in found[1][2]]
    plain = make(folder, "run-ddp", seed=9)  # whole tensors into a sharded model
    with pytest.warns(UserWarning, match="nothing was trained"):
        fit(plain, folder)
    assert torch.equal(weights(plain), found[1][0])
    torch.testing.assert_close(average(plain), found[1][1], rtol=0, atol=0)


def check_refused(rank: int, folder: Path) -> None:
    """Another model; damaged and hostile files: the same sentence on all ranks, and nothing is changed."""
    source = max((folder / "finished").glob("step-*"))
    before = weights(make(folder, "-", seed=3, checkpoint_dir=None))

    def refused(match, path=source, **options):
        trainer = make(folder, "-", seed=3, checkpoint_dir=None, **options)
        with pytest.raises(StateError, match=match):
            fit(trainer, folder, resume=path)
        if not options:
            assert torch.equal(weights(trainer), before)

    refused(r"another model: 1\.weight is \(9, 6\) here, \(8, 6\) in the file", width=9)
    refused("no such checkpoint", folder / "none")
    for number, (change, match) in enumerate(HOSTILE):
        copy = folder / f"copy-{number}"
        if rank == 0:
            shutil.copytree(source, copy)
            change(copy)
        dist.barrier()
        refused(match, copy)
    assert not (folder / "pwned").exists()
    if rank == 0:  # the newest is passed over
        flip(max((folder / "run").glob("step-*")) / "__1_0.distcp")
    dist.barrier()
    with pytest.warns(UserWarning, match=r"step-0000000003 is used.*bytes of __1_0.distcp are not those"):
        fit(make(folder, "run"), folder, epochs=1)
    refusing = make(folder, "full", keep_last=1)
    if rank == 1:
        part_files.FileSystemWriter.write_data = _disk_full
    with pytest.raises(StorageError, match="No space left"):
        fit(refusing, folder, epochs=1)
    if rank == 0:
        assert not [path for path in (folder / "full").iterdir() if not path.name.startswith(".")]


def _disk_full(*_):
    raise OSError(28, "No space left on device")


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


class Evil:
    def __init__(self, folder: Path) -> None:
        self.target = str(folder.parent / "pwned")

    def __reduce__(self):
        return (os.mkdir, (self.target,))


def sign(folder: Path) -> None:
    """As an attacker would, who knows how the hashes are made."""
    state = torch.load(folder / "run.pt", weights_only=True)
    from largeds_native.trainer.sharded_checkpoint import hash_of

    state["files"] = {name: hash_of(folder / name) for name in state["files"]}
    checkpoint_file.write(folder / "run.pt", {k: v for k, v in state.items() if k not in ("format", "version")})


def change_metadata(folder: Path, function) -> None:
    metadata = pickle.loads((folder / ".metadata").read_bytes())
    function(metadata)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    sign(folder)


def evil_metadata(folder: Path) -> None:
    change_metadata(folder, lambda metadata: setattr(metadata, "planner_data", Evil(folder)))


def evil_bytes(folder: Path) -> None:
    """A value that torch would unpickle."""
    from torch.distributed.checkpoint.metadata import BytesStorageMetadata

    (folder / "__0_0.distcp").write_bytes(pickle.dumps(Evil(folder)))
    change_metadata(folder, lambda m: m.state_dict_metadata.update({"model/1.weight": BytesStorageMetadata()}))


def evil_tensor(folder: Path) -> None:
    torch.save(Evil(folder), folder / "__0_0.distcp")
    size = (folder / "__0_0.distcp").stat().st_size

    def function(metadata):
        for info in metadata.storage_data.values():
            info.offset, info.length = 0, size

    change_metadata(folder, function)


def other_file(folder: Path) -> None:
    change_metadata(folder, lambda m: [setattr(i, "relative_path", "../../secret") for i in m.storage_data.values()])


def other_shape(folder: Path) -> None:
    change_metadata(
        folder, lambda m: setattr(m.state_dict_metadata["model/1.weight"], "size", torch.Size((1 << 40, 6)))
    )


HOSTILE = [
    (lambda folder: flip(folder / "__1_0.distcp"), "bytes of __1_0.distcp are not those that were written"),
    (lambda folder: flip(folder / "run.pt"), "not a complete checkpoint"),
    (lambda folder: (folder / "run.pt").unlink(), "no such checkpoint"),
    (lambda folder: (folder / "__1_0.distcp").unlink(), "No such file"),
    (evil_metadata, r"found posix\.mkdir"),
    (evil_bytes, "expected model/1.weight to be .* found BytesStorageMetadata"),
    (evil_tensor, "not a complete checkpoint"),
    (other_file, "names the file '../../secret', which is not the checkpoint's"),
    (other_shape, r"found TensorStorageMetadata torch.Size\(\[1099511627776, 6\]\)"),
]


def check_two(rank: int, folder: Path) -> None:
    for check in (check_resume, check_save, check_refused):
        check(rank, folder)


def pack(folder: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (52, 1, 2, 3), np.uint8)
    lds.pack((images, np.arange(52) % 3), folder / "s.lds", resize=None, crop=None, progress=False)


def test_two_ranks(tmp_path):
    pack(tmp_path)
    run(2, check_two, tmp_path)


def test_other_numbers_of_ranks(tmp_path):
    """Saved by three; loaded by two, and by this process alone, which has no torch.distributed."""
    pack(tmp_path)
    run(3, check_save, tmp_path)
    (tmp_path / "two").mkdir()
    for name in ("s.lds", "run"):
        shutil.copytree(tmp_path / name, tmp_path / "two" / name)
    run(2, check_load, tmp_path / "two")
    alone = make(tmp_path, "run", sharded=False, seed=9)
    state = read_checkpoint(max((tmp_path / "run").glob("step-*")))
    alone.fit(lds.Loader(lds.open(tmp_path / "s.lds"), 4, shuffle=True, seed=1), 0)
    own = alone.model.state_dict()
    assert alone.step == state["progress"]["step"] == 4
    assert all(torch.equal(own[name], value) for name, value in state["model"].items())
    moments = alone.optimizer.state_dict()["state"]
    assert all(torch.equal(moments[i]["exp_avg"], saved["exp_avg"]) for i, saved in state["optimizer"]["state"].items())
    fit(alone, tmp_path)
    assert (tmp_path / "run" / f"step-{alone.step:010d}.pt").exists()
    path, _ = CheckpointFolder(tmp_path / "run").newest()
    assert path.suffix == ".pt"
