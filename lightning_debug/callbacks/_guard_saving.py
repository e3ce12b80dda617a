"""Saves a bad step to a file of plain values, with a script that replays it."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lightning_debug.callbacks._guard_state import Batch
from lightning_debug.callbacks._lightning import LightningModule, Trainer, batches_seen
from lightning_debug.callbacks._ranks import is_sharded

SCRIPT = '''"""Replays the step of batch {index} whose loss or gradient was not finite: python {script}"""
import sys, torch{imports}
sys.path.insert(0, {folder!r})
from {module} import {name}  # a script needs its if __name__ == "__main__": around the training
held = torch.load({file!r}, map_location={device!r}, weights_only=True)
model = {name}(**held["arguments"]).to({device!r})  # add the arguments that save_hyperparameters() has not kept
model.load_state_dict(held["weights"], assign=True)
[setattr(part, "training", held["training"][path]) for path, part in model.named_modules()]
model.log = model.log_dict = lambda *_, **__: None{extra}
torch.set_rng_state(held["rng"].cpu()){cuda}
with torch.autocast({device!r}, {dtype}, enabled={mixed}):
    loss = model.training_step({batch}, held["index"])
{backward}
'''
BACKWARD = """loss = loss["loss"] if isinstance(loss, dict) else loss
loss.backward() if loss.isfinite() else None
bad = [name for name, item in model.named_parameters() if item.grad is not None and not item.grad.isfinite().all()]
print("loss:", loss.item(), "gradients that are not finite:", bad)"""
MANUAL = """
losses, model.optimizers = [], lambda *_, **__: {optimizers}
model.manual_backward = lambda loss, *a, **k: (losses.append(loss.item()), loss.backward(*a, **k))"""
MANUAL_END = """print("losses:", losses)"""


def save_step(trainer: Trainer, module: LightningModule, batch: Batch, folder: str, *, late: bool) -> str:
    """Writes batch, weights and random state to a file that ``torch.load(weights_only=True)`` reads, and a script.

    Args:
        trainer: The Trainer, before the update of that step.
        module: Its module.
        batch: The batch of the step.
        folder: Where to write.
        late: Whether the weights were updated since.

    Returns:
        Path of the script, or why there is none.
    """
    if late:
        return "not saved: the weights were updated before it was seen; action='skip' saves it"
    if is_sharded(trainer):
        return "not saved: ranks hold parts of the model"
    try:
        value = plain(batch.value)
    except TypeError as error:
        return f"not saved: {error}"
    rank = f"_rank{trainer.global_rank}" if trainer.world_size > 1 else ""
    path = Path(folder).absolute() / f"bad_step_{batches_seen(trainer)}{rank}.pt"
    held = {
        "arguments": _arguments(module),
        "weights": {name: plain(item) for name, item in module.state_dict().items() if isinstance(item, Tensor)},
        "training": {name: part.training for name, part in module.named_modules()},
        "batch": value,
        "index": batch.index,
        "rng": batch.cpu,
        "cuda": batch.cuda,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(held, path)
        if "<locals>" in type(module).__qualname__:
            return f"{path} (no script: {type(module).__name__} is made in a function, and cannot be imported)"
        script = path.with_suffix(".py")
        script.write_text(_script(trainer, module, batch, path), encoding="utf-8")
    except OSError as error:
        return f"not saved: {error}"
    return str(script)


def plain(value: Any) -> Any:
    """A value as tensors, numbers, strings, lists, tuples and dicts on the CPU.

    Raises:
        TypeError: If it holds anything else.

    >>> plain({"x": (torch.tensor([1]), None)})
    {'x': (tensor([1]), None)}
    """
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return value
    if isinstance(value, Tensor):
        return value.detach().to("cpu", copy=True)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return {name: plain(item) for name, item in value._asdict().items()}
    if isinstance(value, Mapping):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        items = [plain(item) for item in value]
        return items if isinstance(value, list) else tuple(items)
    if type(value).__module__ == "numpy":
        return plain(torch.as_tensor(value))
    raise TypeError(f"a batch that holds a {type(value).__name__} is not made of plain values")


def _arguments(module: LightningModule) -> dict[str, Any]:
    """What the module was made with, as far as it is known and plain."""
    found = {}
    for name, item in dict(getattr(module, "hparams", {})).items():
        try:
            found[name] = plain(item)
        except TypeError:
            continue
    return found


def _import_of(kind: type) -> tuple[str, str]:
    """Folder and module that a class is imported from."""
    source = Path(inspect.getsourcefile(kind) or "").absolute()
    name = kind.__module__
    if name == "__main__":
        return str(source.parent), source.stem
    return str(source.parents[min(name.count("."), len(source.parents) - 1)]), name


def _script(trainer: Trainer, module: LightningModule, batch: Batch, path: Path) -> str:
    kind, whole = type(module), batch.value
    folder, source = _import_of(kind)
    structured = dataclasses.is_dataclass(whole) or hasattr(whole, "_asdict")
    given, imports = 'held["batch"]', ""
    if structured:
        where, place = _import_of(type(whole))
        imports = f"\nsys.path.insert(0, {where!r})\nfrom {place} import {type(whole).__name__}"
        given = f'{type(whole).__name__}(**held["batch"])'
    manual = not module.automatic_optimization
    many = len(trainer.optimizers)
    mocks = "unittest.mock.MagicMock()" if many == 1 else f"[unittest.mock.MagicMock() for _ in range({many})]"
    precision = str(trainer.precision)
    return SCRIPT.format(
        index=batch.index,
        script=path.with_suffix(".py").name,
        imports=imports if not manual else f"\nimport unittest.mock{imports}",
        folder=folder,
        module=source,
        name=kind.__name__,
        file=str(path),
        device=trainer.strategy.root_device.type,
        extra=MANUAL.format(optimizers=mocks) if manual else "",
        cuda='\ntorch.cuda.set_rng_state(held["cuda"].cpu())' if batch.cuda is not None else "",
        dtype="torch.float16" if precision == "16-mixed" else "torch.bfloat16",
        mixed=precision in ("16-mixed", "bf16-mixed"),
        batch=given,
        backward=MANUAL_END if manual else BACKWARD,
    )
