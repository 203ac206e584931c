"""One rank of torchrun: writes the batches of its loader.

torchrun ... -m tests.programs.load_on_ranks STORE FOLDER STATE_AS_JSON STOP_AFTER
"""

import json
import sys

import torch.distributed as dist

import largeds_native as lds

store, out, state, stop = lds.open(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3]), int(sys.argv[4])
loader = lds.Loader(store, 8, shuffle=True, seed=2)
dist.init_process_group("gloo")  # after the loader was made: it finds rank and world_size when an epoch begins
if state:
    loader.load_state_dict(state)
batches = []
for _, labels in loader:
    batches.append(labels.tolist())
    if len(batches) == stop:
        break
result = {"length": len(loader), "batches": batches, "state": loader.state_dict()}
with open(f"{out}/{dist.get_rank()}.json", "w") as file:
    json.dump(result, file)
dist.barrier()  # a rank that leaves early may break off another's connection
dist.destroy_process_group()
