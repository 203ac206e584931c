"""timm's models and transforms over a store.

largeds pack photos/train train.lds && largeds pack photos/val val.lds
python examples/timm_training.py train.lds val.lds
"""

from __future__ import annotations

import sys

import timm
import torch
from timm.data import create_transform, resolve_model_data_config
from timm.loss import LabelSmoothingCrossEntropy
from timm.optim import create_optimizer_v2
from torch.utils.data import DataLoader

import largeds_native as lds


def main(
    train: str, val: str, model_name: str = "resnet18", epochs: int = 1, side: int = 224, workers: int = 2
) -> float:
    store, val_store = lds.open(train), lds.open(val)
    model = timm.create_model(model_name, num_classes=len(store.classes))
    config = resolve_model_data_config(model, {"img_size": side})  # includes the mean and std for the model

    # RandAugment and random erasing work on single images, in workers
    per_image = create_transform(**config, is_training=True, auto_augment="rand-m9-mstd0.5", re_prob=0.25)
    dataset = lds.StoreDataset(store, per_image, image="pil")
    train_loader = DataLoader(dataset, 32, shuffle=True, num_workers=workers)
    # validation needs no such transforms: the Loader crops and normalises
    crop = lds.Augment(center_crop=side)
    normalise = {"mean": config["mean"], "std": config["std"]}
    val_loader = lds.Loader(val_store, 64, augment=crop, **normalise)

    optimizer = create_optimizer_v2(model, opt="adamw", lr=1e-3, weight_decay=0.05)
    criterion = LabelSmoothingCrossEntropy()
    for _ in range(epochs):
        model.train()
        for images, labels in train_loader:
            loss = criterion(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    model.eval()
    with torch.inference_mode():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in val_loader)
    print(f"{model_name}: {right} of {len(val_store)} right")
    return right / len(val_store)


if __name__ == "__main__":
    main(*sys.argv[1:])
