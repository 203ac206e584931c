"""Batches and samples as dicts, images of other kinds, and transforms of samples, in real trainers too."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, default_collate

import largeds_native as lds
from largeds_native.errors import ArgumentError
from largeds_native.loading.collate import NamedSample
from tests.builders.masks import make_mask_tree
from tests.builders.stores import make_jpeg_store, make_random_store

NAMES = {"image": "pixel_values", "label": "labels"}
TRAIN = lds.Augment(resized_crop=16, flip=0.5)


@pytest.fixture(scope="module")
def fields_store(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Rows of three fields."""
    fields = {"label": np.arange(11), "weight": np.linspace(0, 1, 11), "box": np.arange(44).reshape(11, 4)}
    return make_random_store(tmp_path_factory.mktemp("fields") / "s", 11, fields=fields, classes=())


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A raw and a JPEG store with masks."""
    folder = tmp_path_factory.mktemp("masked")
    tree = make_mask_tree(folder, each=3)
    kwargs: dict[str, Any] = {"masks": tree.masks, "progress": False}
    raw = lds.pack(tree.images, folder / "raw", resize=32, crop=30, layout="HWC", **kwargs)
    return {"raw": raw, "jpeg": lds.pack(tree.images, folder / "jpeg", codec="jpeg", **kwargs)}


def with_names(keys: tuple[str, ...], batch: Any) -> dict[str, Any]:
    return dict(zip(keys, batch, strict=True))


def assert_same(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        assert list(one) == list(other)
        one, other = list(one.values()), list(other.values())
    if isinstance(one, (list, tuple)):
        assert len(one) == len(other)
        for a, b in zip(one, other, strict=True):
            assert_same(a, b)
    elif isinstance(one, torch.Tensor):
        other = other if isinstance(other, torch.Tensor) else torch.as_tensor(np.array(other))
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


# ---- batches of a Loader -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("fields", [(), ("label",), ("box", "label", "weight")])
def test_batches_of_a_loader(fields_store: Any, fields: tuple[str, ...]) -> None:
    kwargs: dict[str, Any] = {"shuffle": True, "seed": 3, "fields": fields}
    names = {name: key for name, key in NAMES.items() if name == "image" or name in fields}
    keys = ("pixel_values", *(names.get(name, name) for name in fields))
    found = list(lds.Loader(fields_store, 4, names=names, **kwargs))
    assert_same(found, [with_names(keys, batch) for batch in lds.Loader(fields_store, 4, **kwargs)])
    assert set(next(iter(lds.Loader(fields_store, 4, names={}, **kwargs)))) == {"image", *fields}


def test_views_and_masks_of_a_loader(masked: dict[str, Any]) -> None:
    for store in masked.values():
        kwargs: dict[str, Any] = {"augment": [TRAIN, lds.Augment(resized_crop=8)], "fields": ("mask", "label")}
        [found] = list(lds.Loader(store, 6, names=NAMES, **kwargs))
        [expected] = list(lds.Loader(store, 6, **kwargs))
        assert_same(found, with_names(("pixel_values", "mask", "labels"), expected))
        assert [view.shape[2] for view in found["pixel_values"]] == [16, 8]


def test_a_loader_with_names_resumes(fields_store: Any) -> None:
    loader = lds.Loader(fields_store, 4, shuffle=True, names=NAMES)
    whole = list(loader)
    again = lds.Loader(fields_store, 4, shuffle=True, names=NAMES)
    next(iter(again))
    state = again.state_dict()
    rest = lds.Loader(fields_store, 4, shuffle=True)  # names don't change the order
    rest.load_state_dict(state)
    assert_same([with_names(("pixel_values", "labels"), batch) for batch in rest], whole[1:])


@pytest.mark.parametrize("make", [lambda store, **kwargs: lds.Loader(store, 2, **kwargs), lds.StoreDataset])
def test_names_that_do_not_fit(fields_store: Any, tmp_path: Path, make: Any) -> None:
    for names, message in (
        ({"lable": "labels"}, "names: expected some of 'image', 'label', found 'lable'"),
        ({"box": "boxes"}, "found 'box'"),
        ({"image": "label"}, r"expected a different key for each of 'image', 'label', found \('label', 'label'\)"),
        ({"image": 3}, "expected a string for 'image', found 3"),
        ("pixel_values", "expected a dict"),
    ):
        with pytest.raises(ArgumentError, match=message):
            make(fields_store, names=names)
    store = make_random_store(tmp_path / "s", 2, fields={"image": np.arange(2)}, classes=())
    with pytest.raises(ArgumentError, match="'image' may be the image or the field of that name"):
        make(store, fields=("image",), names={})


def test_a_trainer_says_what_it_expects(fields_store: Any) -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(60, 11))
    trainer = lds.Trainer(model, torch.optim.SGD(model.parameters(), 0.1), nn.CrossEntropyLoss(), progress=False)
    with pytest.raises(ArgumentError, match=r"found dict with .*leave out names="):
        trainer.fit(lds.Loader(fields_store, 4, names=NAMES), epochs=1)


# ---- samples of a StoreDataset -----------------------------------------------------------------------------------
@pytest.mark.parametrize("fields", [(), ("label",), ("box", "label", "weight")])
@pytest.mark.parametrize("named", [False, True])
def test_samples_have_the_fields(fields_store: Any, fields: tuple[str, ...], named: bool) -> None:
    dataset = lds.StoreDataset(fields_store, fields=fields, names={"image": "x"} if named else None)
    expected: list[Any] = []
    for row in range(11):
        members = [fields_store.images[row], *(fields_store[name][row] for name in fields)]
        expected.append(with_names(("x", *fields), members) if named else members if fields else members[0])
    assert_same([dataset[row] for row in range(11)], expected)
    assert_same(dataset.__getitems__(range(11)), expected)
    batch = default_collate(dataset.__getitems__([3, 9]))
    assert_same(batch, default_collate([dataset[3], dataset[9]]))
    whole = dataset.__getitems__([3, 9])
    if named:  # without a copy
        assert batch["x"].shape[0] == 2
        assert default_collate(whole)["x"].data_ptr() == whole[0]["x"].data_ptr()


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_named_samples_collate_as_dicts(fields_store: Any, data: st.DataObject) -> None:
    """Whole batches without a copy; parts of them, mixtures and changed samples as any dicts."""
    dataset = lds.StoreDataset(fields_store, names=NAMES)
    rows = data.draw(st.lists(st.integers(0, 10), min_size=1, max_size=5))
    samples = dataset.__getitems__(rows) + dataset.__getitems__(rows[::-1])
    order = data.draw(st.permutations(range(len(samples))))
    chosen = [samples[i] for i in order[: data.draw(st.integers(1, len(samples)))]]
    if data.draw(st.booleans()):
        chosen[0]["pixel_values"] = chosen[0]["pixel_values"] + 1
    if data.draw(st.booleans()):
        for sample in chosen:
            sample.pop("labels", None)
    assert_same(default_collate(chosen), default_collate([dict(sample) for sample in chosen]))
    assert type(pickle.loads(pickle.dumps(chosen[0]))) is dict
    assert isinstance(chosen[0], NamedSample)


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_send_dicts(store: Any, context: str) -> None:
    dataset = lds.StoreDataset(store, names=NAMES)
    loader = DataLoader(dataset, 16, num_workers=1, multiprocessing_context=context)
    assert_same(list(loader), list(DataLoader(dataset, 16)))
    assert_same(next(iter(loader))["pixel_values"], store.gather(range(16)))


@pytest.mark.parametrize("kind", ["raw", "jpeg"])
def test_images_of_each_kind(masked: dict[str, Any], kind: str) -> None:
    store = masked[kind]
    for row in (0, 5):
        pixels, mask = np.asarray(store[row][0]), np.asarray(store["mask"][row])
        pixels = pixels if store.layout == "HWC" else pixels.transpose(1, 2, 0)
        found = {
            image: lds.StoreDataset(store, fields=("mask", "label"), image=image)[row]  # type: ignore[arg-type]
            for image in ("tensor", "pil", "numpy")
        }
        np.testing.assert_array_equal(found["tensor"][0].permute(1, 2, 0), pixels)
        assert isinstance(found["numpy"][0], np.ndarray)
        assert found["numpy"][0].flags.c_contiguous
        assert isinstance(found["pil"][0], Image.Image)
        assert found["pil"][0].mode == "RGB"
        assert (found["numpy"][1].dtype, found["pil"][1].mode) == (np.uint8, "L")
        for image in ("numpy", "pil"):
            np.testing.assert_array_equal(np.asarray(found[image][0]), pixels)
        for image in found:
            np.testing.assert_array_equal(np.asarray(found[image][1]), mask)
            assert found[image][2] == row // 3


def test_gray_images_of_each_kind(tmp_path: Path) -> None:
    store = make_random_store(tmp_path / "g", 3, (1, 4, 5), fields={}, classes=())
    assert lds.StoreDataset(store, image="numpy")[1].shape == (4, 5, 1)
    assert lds.StoreDataset(store, image="pil")[1].mode == "L"
    np.testing.assert_array_equal(np.asarray(lds.StoreDataset(store, image="pil")[1]), store.images[1][0])
    floats = make_random_store(tmp_path / "f", 3, (1, 4, 5), "float32", fields={}, classes=())
    assert lds.StoreDataset(floats, image="numpy")[1].dtype == np.float32
    with pytest.raises(ArgumentError, match="image='pil': expected uint8 images"):
        lds.StoreDataset(floats, image="pil")
    for channels in (2, 5):
        wide = make_random_store(tmp_path / f"w{channels}", 3, (channels, 4, 5), fields={}, classes=())
        with pytest.raises(ArgumentError, match=f"of 1 or 3 channels, and those of .* are uint8 of {channels}"):
            lds.StoreDataset(wide, image="pil")


def test_transforms_of_the_parts_and_of_the_sample(fields_store: Any) -> None:
    dataset = lds.StoreDataset(fields_store, lambda image: image.float() + 1, lambda label: label * 10)
    image, label = dataset[4]
    assert torch.equal(image, torch.from_numpy(np.array(fields_store[4][0])).float() + 1)
    assert label == 40
    seen = lds.StoreDataset(
        fields_store,
        transforms=lambda image, box, label: (image.flip(2), box + label, label),
        fields=("box", "label"),
        names={"box": "boxes"},
    )[4]
    assert list(seen) == ["image", "boxes", "label"]
    assert seen["boxes"].tolist() == [20, 21, 22, 23]
    only = lds.StoreDataset(fields_store, transforms=lambda image: image.sum(), fields=())
    assert only[2] == fields_store.images[2].sum()
    dataset.transform = None  # as timm sets it
    assert torch.equal(dataset[4][0], torch.from_numpy(np.array(fields_store[4][0])))


def test_transforms_that_do_not_fit(fields_store: Any) -> None:
    with pytest.raises(ArgumentError, match="transforms: expected it alone"):
        lds.StoreDataset(fields_store, transform=abs, transforms=abs)
    with pytest.raises(ArgumentError, match="target_transform: expected one field, found box, label"):
        lds.StoreDataset(fields_store, target_transform=abs, fields=("box", "label"))
    with pytest.raises(ArgumentError, match="transform: expected a function, found 3"):
        lds.StoreDataset(fields_store, 3)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="image: expected one of 'tensor', 'pil', 'numpy', found 'cv2'"):
        lds.StoreDataset(fields_store, image="cv2")  # type: ignore[arg-type]
    with pytest.raises(ArgumentError, match="has no field 'lable'"):
        lds.StoreDataset(fields_store, fields="lable")
    for result, found in (
        ([0], "1"),
        (None, "one NoneType"),
        (torch.zeros(2, 4), "one Tensor"),
        ({0: 1, 2: 3}, "one dict"),
    ):
        with pytest.raises(ArgumentError, match=f"transforms: expected 2 values, found {found}"):
            lds.StoreDataset(fields_store, transforms=lambda *_, result=result: result)[0]


def test_torchvision_transforms_samples_with_masks(masked: dict[str, Any]) -> None:
    v2 = pytest.importorskip("torchvision.transforms.v2")
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")

    def transforms(image: Any, mask: Any) -> Any:
        crop = v2.Compose([v2.RandomCrop(20), v2.RandomHorizontalFlip(1.0)])
        return crop(tv_tensors.Image(image), tv_tensors.Mask(mask))

    dataset = lds.StoreDataset(masked["jpeg"], transforms=transforms, fields=("mask",))
    images, masks = next(iter(DataLoader(dataset, 6)))
    assert images.shape == (6, 3, 20, 20)
    assert masks.shape == (6, 20, 20)


# ---- trainers of other libraries -----------------------------------------------------------------------------------
@pytest.mark.parametrize("source", ["dataset", "loader"])
@pytest.mark.filterwarnings("ignore")  # its own
def test_hugging_face_trainer(tmp_path: Path, source: str) -> None:
    """A Trainer learns from dicts: of a StoreDataset, or of a Loader in place of its own DataLoader."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    store = make_jpeg_store(tmp_path)
    config = transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=16, patch_size=8,
        num_labels=2,
    )  # fmt: skip
    model = transformers.ViTForImageClassification(config)

    def transform(image: Image.Image) -> torch.Tensor:
        return torch.from_numpy(np.array(image.resize((16, 16)))).permute(2, 0, 1) / 255

    seen: list[int] = []

    class FromLoader(transformers.Trainer):  # type: ignore[misc,name-defined]
        def get_train_dataloader(self) -> Any:
            return lds.Loader(store, 4, shuffle=True, augment=TRAIN, names=NAMES)

        def compute_loss(self, model: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
            assert set(inputs) == {"pixel_values", "labels"}
            seen.extend(inputs["labels"].tolist())
            return super().compute_loss(model, inputs, *args, **kwargs)

    kind = FromLoader if source == "loader" else transformers.Trainer
    arguments = transformers.TrainingArguments(
        output_dir=tmp_path / "out", num_train_epochs=2, per_device_train_batch_size=4, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True, logging_steps=1,
    )  # fmt: skip
    dataset = lds.StoreDataset(store, transform, image="pil", names=NAMES)
    trainer = kind(model=model, args=arguments, train_dataset=dataset, eval_dataset=dataset)
    result = trainer.train()
    assert result.global_step == 6
    assert np.isfinite(result.training_loss)
    assert 0 < trainer.evaluate()["eval_loss"] < 10
    if source == "loader":
        assert len(seen) >= 24


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("augment", ["rand-m9-mstd0.5", "augmix-m3-w2"])
def test_timm_create_loader(tmp_path: Path, augment: str) -> None:
    pytest.importorskip("timm")
    from timm.data import AugMixDataset, FastCollateMixup, Mixup, create_loader

    store = make_jpeg_store(tmp_path)
    dataset: Any = lds.StoreDataset(store, image="pil")
    splits = 3 if augment.startswith("augmix") else 0
    if splits:
        dataset = AugMixDataset(dataset, num_splits=splits)
    options: dict[str, Any] = {"input_size": (3, 24, 24), "batch_size": 4, "is_training": True, "num_workers": 0}
    loader = create_loader(dataset, auto_augment=augment, num_aug_splits=splits, use_prefetcher=False, **options)
    mixup = Mixup(mixup_alpha=0.2, cutmix_alpha=1.0, num_classes=2)
    for images, labels in loader:
        if splits:
            images, labels = torch.cat([*images]) if isinstance(images, (list, tuple)) else images, labels
        assert images.shape[1:] == (3, 24, 24)
        if not splits:
            images, targets = mixup(images, labels)
            assert targets.shape == (4, 2)
    if not splits:
        collate = FastCollateMixup(mixup_alpha=0.2, cutmix_alpha=1.0, num_classes=2)
        dataset.transform = None
        fast = create_loader(
            dataset, auto_augment=augment, use_prefetcher=True, collate_fn=collate, device=torch.device("cpu"),
            persistent_workers=False, **options,
        )  # fmt: skip
        for images, targets in fast:
            assert images.shape == (4, 3, 24, 24)
            assert targets.shape == (4, 2)
