"""A DataLoader with workers over the store argv[1], with a torch without the private names that we use."""

import sys
from types import ModuleType

import torch
from torch.utils.data import DataLoader

COLLATE = "torch.utils.data._utils.collate"
if "_disabled_torch_function_impl" in sys.argv[2:]:
    del torch._C._disabled_torch_function_impl
if "default_collate_fn_map" in sys.argv[2:]:
    sys.modules[COLLATE] = ModuleType(COLLATE)  # torch itself goes on with the module that it has

import largeds_native as lds  # noqa: E402

store = lds.open(sys.argv[1])
for workers in (0, 2):
    seen = []
    for images, labels in DataLoader(lds.StoreDataset(store), 16, num_workers=workers):
        assert type(images) is torch.Tensor
        assert torch.equal(images, store.gather(labels))
        seen += labels.tolist()
    assert seen == list(range(len(store))), seen
