"""FSDP2 on a CUDA device, alone on it: streams, flags on the device, running out of memory, checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from largeds_native.errors import NonFiniteError
from largeds_native.trainer import EMA, Trainer
from tests.trainer.helpers import samples, small_model

fsdp = pytest.importorskip("torch.distributed.fsdp")
pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.skipif(not hasattr(fsdp, "fully_shard"), reason="fully_shard is in torch 2.6"),
]


@pytest.fixture(scope="module", autouse=True)
def alone():
    dist.init_process_group("cuda:nccl,cpu:gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def make(sharded: bool, fused: bool = True, folder=None, callbacks=(), layer=None, **options) -> Trainer:
    model = small_model(norm=True)
    if layer is not None:
        model.insert(2, layer)
    model = model.double().cuda()
    if sharded:
        fsdp.fully_shard(model[0])
        fsdp.fully_shard(model)
    optimizer = torch.optim.AdamW(model.parameters(), 0.01, fused=fused)
    kwargs = {"accumulate": 2, "clip_grad_norm": 0.5, "progress": False, "checkpoint_dir": folder} | options
    return Trainer(model, optimizer, nn.CrossEntropyLoss(), callbacks=[EMA(0.9), *callbacks], **kwargs)


def batches(bad: int = -1):
    inputs, targets = samples(48, torch.float64)
    inputs[bad * 8 if bad >= 0 else 0] *= float("nan") if bad >= 0 else 1
    return [(inputs[i : i + 8], targets[i : i + 8]) for i in range(0, 48, 8)]


def weights(trainer: Trainer) -> torch.Tensor:
    whole = [getattr(p.detach(), "full_tensor", lambda p=p: p.detach())() for p in trainer.model.parameters()]
    return torch.cat([p.flatten() for p in whole])


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("sync", ["each", "last"])
def test_equals_a_model_that_is_not_sharded(fused: bool, sync: str) -> None:
    found = [make(True, fused, sync=sync, micro_batch=4), make(False, fused, micro_batch=4)]
    for trainer in found:
        trainer.fit(batches(), 3, batches())
    torch.testing.assert_close(weights(found[0]), weights(found[1]), rtol=0, atol=1e-10)


@pytest.mark.parametrize("fused", [True, False])
def test_not_finite(fused: bool) -> None:
    found = [make(sharded, fused, on_nonfinite="skip") for sharded in (True, False)]
    for trainer in found:
        trainer.fit(batches(bad=3), 2)
        assert trainer.skipped == 2
    torch.testing.assert_close(weights(found[0]), weights(found[1]), rtol=0, atol=1e-10)
    trainer = make(True, fused)
    with pytest.raises(NonFiniteError, match="at step 1"):
        trainer.fit(batches(bad=3), 1)
    assert torch.isfinite(weights(trainer)).all()


class Large(nn.Module):
    """More memory than any device has, for more than 2 samples."""

    def forward(self, x):
        if len(x) > 2 and self.training:
            torch.empty(1 << 45, dtype=torch.uint8, device=x.device)
        return x


@pytest.mark.skipif(not hasattr(getattr(fsdp, "FSDPModule", None), "reset_iter_state"), reason="needs torch 2.14")
def test_out_of_memory() -> None:
    found = [make(True, layer=Large(), micro_batch="auto"), make(True, layer=Large(), micro_batch=2)]
    for trainer in found:
        trainer.fit(batches(), 2)
    assert found[0].accumulator.micro_batch == 2
    assert torch.equal(weights(found[0]), weights(found[1]))


def test_resume(tmp_path: Path) -> None:
    whole = make(True, folder=tmp_path / "whole")
    whole.fit(batches(), 3, batches())
    make(True, folder=tmp_path / "cut").fit(batches(), 2, batches())
    resumed = make(True, folder=tmp_path / "cut")
    resumed.fit(batches(), 3, batches())
    assert torch.equal(weights(resumed), weights(whole))
    alone = make(False, folder=tmp_path / "cut")  # sharded checkpoints into a model that is not
    alone.fit(batches(), 4, batches())
    assert alone.epoch == 4
