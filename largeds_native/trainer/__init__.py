"""Training: the Trainer's loop, and its parts for hand-written loops."""

from largeds_native.trainer.accumulation import Accumulator
from largeds_native.trainer.callbacks import Callback, TrainingRun
from largeds_native.trainer.checkpoint import read_checkpoint
from largeds_native.trainer.checkpoint_folder import CheckpointFolder
from largeds_native.trainer.early_stopping import EarlyStopping
from largeds_native.trainer.ema import EMA
from largeds_native.trainer.freezing import Freeze
from largeds_native.trainer.group import Group
from largeds_native.trainer.logging import CSVLogger, TensorBoardLogger
from largeds_native.trainer.progress import ProgressBar
from largeds_native.trainer.step_result import StepResult
from largeds_native.trainer.stopping import StoppedBySignal
from largeds_native.trainer.trainer import Trainer

__all__ = [
    "EMA",
    "Accumulator",
    "CSVLogger",
    "Callback",
    "CheckpointFolder",
    "EarlyStopping",
    "Freeze",
    "Group",
    "ProgressBar",
    "StepResult",
    "StoppedBySignal",
    "TensorBoardLogger",
    "Trainer",
    "TrainingRun",
    "read_checkpoint",
]
