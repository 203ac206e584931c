"""The weight of a micro-batch: the denominator of its mean loss."""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from largeds_native.errors import ArgumentError
from largeds_native.trainer import batches, readback

Loss = Callable[[Any, Any], Tensor]
Weight = Callable[[Any, Any], "float | Tensor"]

# the mean is over the elements, whose number per sample may differ between batches
_ELEMENTWISE: tuple[Any, ...] = (
    nn.L1Loss, nn.MSELoss, nn.SmoothL1Loss, nn.HuberLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.SoftMarginLoss,
    nn.PoissonNLLLoss, nn.HingeEmbeddingLoss, nn.KLDivLoss,
)  # fmt: skip
_ELEMENTWISE_FUNCTIONS = (
    F.l1_loss, F.mse_loss, F.smooth_l1_loss, F.huber_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits,
    F.soft_margin_loss, F.poisson_nll_loss, F.hinge_embedding_loss, F.kl_div,
)  # fmt: skip
_WEIGHT_NAMES = ("weight", "weights", "class_weight", "class_weights", "ignore_index")
IGNORED = -100  # torch's own `ignore_index`


def reduction_of(loss: Loss) -> str:
    """ "mean" or "sum": the loss's own `reduction`, else "mean", the default of every loss in torch."""
    function, options = _called(loss)
    given = options.get("reduction", getattr(function, "reduction", None))
    reduction = {None: "mean", "batchmean": "mean"}.get(given, given)  # KLDivLoss's batchmean is a mean over samples
    if reduction not in ("mean", "sum"):
        raise ArgumentError(f"expected a loss with reduction 'mean' or 'sum', found {reduction!r}")
    if options.get("size_average") is not None or options.get("reduce") is not None:
        raise ArgumentError(
            "the loss has size_average or reduce, which torch gave up: give it reduction='mean' or 'sum'"
        )
    return str(reduction)


def weight_of(loss: Loss) -> Weight | None:
    """The denominator of a mean loss, if it isn't the number of samples; None: it is.

    torch's modules and functions are known, also in a functools.partial: cross_entropy and nll_loss with class-index
    targets divide by the sum of the class weights of all targets that are not `ignore_index`; mse_loss,
    binary_cross_entropy and similar ones by the number of elements. For any other loss the samples are counted, and a
    warning says so if it seems to have weights.
    """
    if reduction_of(loss) != "mean":
        return None
    function, options = _called(loss)
    if not _is_torchs(function):
        return Counted(_sign_of_weights(function, options))
    if of_class_numbers(function):
        weight = options.get("weight", getattr(function, "weight", None))
        ignored = options.get("ignore_index", getattr(function, "ignore_index", IGNORED))
        return ClassWeight(weight, ignored)
    if isinstance(function, _ELEMENTWISE) or function in _ELEMENTWISE_FUNCTIONS:
        batchmean = "batchmean" in (options.get("reduction"), getattr(function, "reduction", None))
        return None if batchmean else _elements
    return None


def is_torchs(loss: Loss) -> bool:
    """Whether this is a loss of torch's own, also in a functools.partial or compiled."""
    return _is_torchs(_called(loss)[0])


def of_class_numbers(loss: Loss) -> bool:
    """Whether this is a loss of torch's own whose targets are class numbers."""
    function = _called(loss)[0]
    return isinstance(function, (nn.CrossEntropyLoss, nn.NLLLoss)) or function in (F.cross_entropy, F.nll_loss)


def _called(loss: Loss) -> tuple[Any, Mapping[str, Any]]:
    """The loss itself, out of functools.partial, torch.compile and a module's bound `forward` and `__call__`, in any
    order; and the options of the partials."""
    options: Mapping[str, Any] = {}
    function: Any = loss
    while True:
        owner = getattr(function, "__self__", None)
        if isinstance(function, functools.partial):
            if function.args:
                return function, options  # what it is called with are other arguments
            function, options = function.func, {**function.keywords, **options}
        elif hasattr(function, "_orig_mod"):
            function = function._orig_mod
        elif isinstance(owner, nn.Module) and function.__func__ in (type(owner).forward, type(owner).__call__):
            function = owner
        elif (compiled := _in_compiled(function)) is not None:
            function = compiled
        else:
            return function, options


def _in_compiled(function: Any) -> Any:
    """What torch.compile made this function of; None: it did not."""
    if inspect.ismethod(function):
        return None  # a method, whose object would be lost
    original = getattr(function, "_torchdynamo_orig_callable", None)
    # functools.wraps copies the attribute to a function around a compiled one, and then `__wrapped__` is that one
    if original is None or getattr(function, "__wrapped__", original) is not original:
        return None
    # around functions of torch's own and partials, it first puts a function of this module
    helper = getattr(original, "__globals__", {}).get("__name__") == "torch._dynamo.external_utils"
    return getattr(original, "__wrapped__", original) if helper else original


def _is_torchs(function: Any) -> bool:
    """Whether this is a loss of torch's own; a subclass with its own forward, or a function around one, is not."""
    if isinstance(function, nn.Module):
        return type(function).forward.__module__ == nn.MSELoss.__module__ and "forward" not in vars(function)
    return getattr(F, getattr(function, "__name__", ""), None) is function


def _sign_of_weights(function: Any, options: Mapping[str, Any]) -> str:
    """Why an unknown loss seems to have weights; "" if it doesn't."""
    for name in _WEIGHT_NAMES:
        value = options.get(name, getattr(function, name, None))
        if value is not None and not (name == "ignore_index" and value == IGNORED):
            return f"has {name!r}"
    owner = getattr(function, "__self__", function)  # of a method
    for part in owner.modules() if isinstance(owner, nn.Module) else ():
        if isinstance(part, (nn.CrossEntropyLoss, nn.NLLLoss)) and (
            part.weight is not None or part.ignore_index != IGNORED
        ):
            return f"holds a {type(part).__name__} with weights or an ignore_index"
    return ""


class Counted:
    """The number of samples, as the weight of an unknown loss; warns once if that may be wrong."""

    def __init__(self, sign: str = "") -> None:
        self._warned = self._on_device_seen = self._graph_seen = False
        self._looked: readback.Readback | None = None  # on a device, at the first targets
        if sign:
            self._warn(sign)

    def __call__(self, inputs: Any, targets: Any) -> float:
        if not self._warned and self._finds_ignored(targets):
            self._warn(f"gets targets of {IGNORED}, which torch's losses leave out")
        return float(batches.length((inputs, targets)))

    def _finds_ignored(self, targets: Any) -> bool:
        """On a device whose numbers are read later, this is that of the first targets, at the next ones."""
        looked, self._looked = self._looked, None
        if looked is not None:
            return bool(looked.read()[0])
        if not self._may_look(targets):
            return False
        found = (targets == IGNORED).any()
        if not readback.defers(found.device):
            return bool(found)
        self._looked = readback.Readback(found.reshape(1), readback.PinnedBuffers())
        return False

    def look_at(self, loss: Tensor) -> None:
        """Whether the first loss comes straight from torch's cross entropy with weights or an ignore_index: its graph
        has them. Call it before `backward`, which frees them."""
        node, seen, self._graph_seen = loss.grad_fn, self._graph_seen, True
        if seen or self._warned or node is None or not node.name().startswith("NllLoss"):
            return
        if getattr(node, "_saved_weight", None) is not None:
            self._warn("has class weights")
        elif (ignored := _signed(getattr(node, "_saved_ignore_index", IGNORED))) != IGNORED:
            self._warn(f"has ignore_index={ignored}")

    def _may_look(self, targets: Any) -> bool:
        """Whether to search the targets: only class numbers; on a GPU only once, since it costs two calls."""
        if not isinstance(targets, Tensor) or targets.is_floating_point():
            return False
        if targets.device.type == "cpu" and not readback.defers(targets.device):
            return True
        first, self._on_device_seen = not self._on_device_seen, True
        return first

    def _warn(self, sign: str) -> None:
        self._warned = True
        warnings.warn(
            f"the loss {sign}: if its mean does not divide by the number of samples, gradients and epoch means are "
            "wrong. Give Trainer or Accumulator weight=lambda inputs, targets: <what the mean divides by>",
            stacklevel=4,
        )


def _signed(number: int) -> int:
    """torch tells a negative number in a graph as one of 64 bits without a sign."""
    return number - (1 << 64) if number >= 1 << 63 else number


def _elements(inputs: Any, targets: Any) -> float:
    return float(targets.numel() if isinstance(targets, Tensor) else batches.length((inputs, targets)))


class _OnDevices:
    """Class weights as float64 on the devices of the targets, copied again only when they have changed: a copy from a
    GPU for each micro-batch would wait for it."""

    def __init__(self, weight: Tensor | None) -> None:
        self.weight = weight
        self._copies: dict[torch.device, tuple[int, Tensor]] = {}

    def on(self, device: torch.device) -> Tensor:
        assert self.weight is not None
        version, copied = self._copies.get(device, (-1, self.weight))
        if version != self.weight._version:
            version, copied = self.weight._version, self.weight.to(device, torch.float64)
            self._copies[device] = (version, copied)
        return copied


class ClassWeight:
    """The weight of torch's losses of class numbers: the sum of the class weights of all targets that are not
    `ignored`.

    Attributes:
        none_ignored: it is known that no target of class numbers is `ignored`, so that they need not be looked at: on a
            device that takes five calls for each micro-batch.
    """

    def __init__(self, class_weight: Tensor | None, ignored: int) -> None:
        self._classes, self.ignored = _OnDevices(class_weight), ignored
        self.none_ignored = False

    def __call__(self, inputs: Any, targets: Any) -> float | Tensor:
        if not isinstance(targets, Tensor):
            return float(batches.length((inputs, targets)))
        if targets.is_floating_point():  # class probabilities (N, C, ...): a mean over N and all that follows C
            whole = targets.ndim > 1 and targets.numel()
            return float(targets.numel() / targets.shape[1]) if whole else float(len(targets))
        plain = self._classes.weight is None
        if plain and self.none_ignored:
            return float(targets.numel())
        if plain and targets.device.type == "cpu" and not readback.defers(targets.device):
            return float(np.count_nonzero(targets.numpy() != self.ignored))  # for each micro-batch; numpy is faster
        counted = targets != self.ignored
        if plain:
            return counted.sum(dtype=torch.float64)
        safe = torch.where(counted, targets, torch.zeros_like(targets))
        return (self._classes.on(targets.device)[safe] * counted).sum()


def check_scalar_loss(loss: Any) -> None:
    """Raises ArgumentError unless `loss` is a tensor of one element, as `backward` needs it."""
    if not isinstance(loss, Tensor):
        raise ArgumentError(f"expected the loss to be a tensor of one element, found {type(loss).__name__}")
    if loss.numel() != 1:
        raise ArgumentError(f"expected the loss to be a tensor of one element, found shape {tuple(loss.shape)}")
