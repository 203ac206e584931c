"""What a Trainer is given in another form than it expects: a sentence says what to give instead, before any step."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, Subset, TensorDataset

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.trainer import EMA, Trainer
from largeds_native.trainer.memory import is_out_of_memory
from tests.builders.stores import make_random_store
from tests.trainer.helpers import data_loader, samples, small_model


def make(**options):
    model = small_model()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    parts = {"optimizer": optimizer, "loss": nn.CrossEntropyLoss(), "progress": False}
    return Trainer(model, **parts | {name: f(optimizer) if name in PARTS else f for name, f in options.items()})


PARTS = ("optimizer", "scheduler")


def step_lr(optimizer):
    return lr_scheduler.StepLR(optimizer, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": lambda o: [o]}, "one optimizer of torch.optim, found a list of 1: give its element"),
        ({"optimizer": lambda o: ([o], [step_lr(o)])}, "found a tuple of 2: a Trainer works with one"),
        ({"optimizer": lambda o: torch.optim.SGD}, "found the class SGD: give an object of it"),
        ({"scheduler": lambda o: [step_lr(o)]}, "one learning rate scheduler, found a list of 1: give its element"),
        ({"scheduler": lambda o: {"scheduler": step_lr(o), "interval": "step"}}, r'give dict\["scheduler"\]'),
        ({"scheduler": lambda o: step_lr(torch.optim.SGD(small_model().parameters(), 0.1))}, "for another optimizer"),
        ({"loss": nn.CrossEntropyLoss}, r"found the class CrossEntropyLoss: give CrossEntropyLoss\(\)"),
        ({"loss": "mse"}, "expected a loss function of .*, found str"),
        ({"callbacks": EMA()}, "callbacks as a list of Callback objects, found EMA"),
        ({"callbacks": [EMA]}, "found the class EMA: give an object of it"),
        ({"metrics": [len]}, "expected metrics as a dict, name -> metric, found list"),
        ({"keep_last": 1.5, "checkpoint_dir": "unused"}, "keep_last to be a whole number of at least 1, found 1.5"),
        ({"keep_last": "2", "checkpoint_dir": "unused"}, "keep_last to be a whole number of at least 1, found '2'"),
        ({"checkpoint_every": 1.5}, "checkpoint_every to be a whole number of at least 1, found 1.5"),
        ({"weight": 5}, r"expected weight as a function of \(inputs, targets\), found int"),
        ({"clip_grad_norm": "a"}, "expected clip_grad_norm above 0, found 'a'"),
        ({"device": "xyz"}, "device: expected 'cpu', 'cuda' or 'cuda:0', found 'xyz'"),
        ({"metrics": {"len": dict}}, "expected metric 'len' to be an object, found a class"),
    ],
)
def test_parts_of_a_trainer(options, message):
    with pytest.raises(ArgumentError, match=message):
        make(**options)


def test_a_scheduler_of_this_optimizer_is_taken():
    make(scheduler=step_lr).fit(data_loader(), 1)


def test_what_is_no_loader(tmp_path):
    store = lds.open(make_random_store(tmp_path / "s.lds").path)
    cases = [
        (tmp_path / "s.lds", r"the path '.*s\.lds': give lds\.Loader\(lds\.open\(path\), batch_size\)"),
        (str(tmp_path / "s.lds"), "the path"),
        (store, r"a Store, which gives single samples: give lds\.Loader\(store, batch_size\)"),
        (lds.StoreDataset(store), r"a StoreDataset, .*DataLoader\(dataset, batch_size\)"),
        (TensorDataset(*samples(8)), "a TensorDataset, which gives single samples"),
        (small_model(), r"the module Sequential: the model is given to Trainer, and fit gets \(train_loader, epochs\)"),
        (7, "expected a loader of batches .*, found int"),
    ]
    trainer = make()
    for loader, message in cases:
        with pytest.raises(ArgumentError, match=f"train_loader: .*{message}"):
            trainer.fit(loader, 1)
        with pytest.raises(ArgumentError, match=f"val_loader: .*{message}"):
            trainer.fit(data_loader(), 1, loader)
        with pytest.raises(ArgumentError, match=message):
            trainer.evaluate(loader)
    assert trainer.step == 0


def test_epochs_and_loaders_in_another_order():
    with pytest.raises(ArgumentError, match=r"whole number, found DataLoader: fit\(train_loader, epochs, val_loader\)"):
        make().fit(data_loader(), data_loader(), 1)


def test_validation_data_with_other_classes(tmp_path):
    def store(name, classes):
        return lds.open(make_random_store(tmp_path / name, classes=classes).path)

    train = store("train", ("cat", "dog", "fox"))
    same = store("same", ("cat", "dog", "fox"))
    none = store("none", ())
    cases = [
        (store("other", ("cat", "cow", "fox")), "only in training: 'dog'; only in validation: 'cow'"),
        (store("fewer", ("cat", "fox")), "only in training: 'dog'"),
        (store("order", ("cat", "fox", "dog")), "class 1 is 'dog' in training and 'fox' in validation"),
    ]

    def loaders(it):
        dataset = lds.StoreDataset(it, lambda image: image.float())
        return [lds.Loader(it, 4), DataLoader(dataset, 4), DataLoader(Subset(dataset, [0, 1]), 4)]

    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), progress=False)
    for other, message in cases:
        for train_loader in loaders(train):
            for val_loader in loaders(other):
                with pytest.raises(ArgumentError, match=message):
                    trainer.fit(train_loader, 1, val_loader)
    assert trainer.step == 0
    for epochs, other in enumerate((same, none), 1):
        trainer.fit(lds.Loader(train, 4), epochs, lds.Loader(other, 4))


def test_validation_data_that_lacks_the_highest_numbers(tmp_path):
    """Names that pack made of numbers say nothing of classes without a sample."""

    def store(name, classes):
        return lds.open(make_random_store(tmp_path / name, classes=classes).path)

    train, fewer, names = store("train", ("0", "1", "2")), store("fewer", ("0", "1")), store("names", ("0", "2"))
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 3))
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), progress=False)
    trainer.fit(lds.Loader(train, 4), 1, lds.Loader(fewer, 4))
    with pytest.raises(ArgumentError, match="only in training: '1'"):
        trainer.fit(lds.Loader(train, 4), 2, lds.Loader(names, 4))
    with pytest.raises(ArgumentError, match="only in validation: '2'"):
        trainer.fit(lds.Loader(fewer, 4), 2, lds.Loader(train, 4))


def test_onednn_s_lack_of_memory():
    assert is_out_of_memory(RuntimeError("could not create a primitive"))

    class Wide(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.limit = nn.Linear(6, 3), 4

        def forward(self, x):
            if len(x) > self.limit:
                raise RuntimeError("could not create a primitive")
            return self.layer(x)

    model = Wide()
    options = {"micro_batch": "auto", "progress": False}
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), **options)
    trainer.fit(data_loader(16, 8), 1)
    assert trainer.accumulator.micro_batch == 4
    model.limit = 0
    with pytest.raises(torch.OutOfMemoryError, match="one sample does not fit: could not create a primitive"):
        trainer.fit(data_loader(16, 8), 2)
