"""Modules are trained while they are in eval mode.

What it sees: dropout, batch-norm, recurrent nets and attention with dropout, and other modules that read
    ``self.training``, which were in eval mode when ``training_step`` called them. Each was called with gradients
    enabled, a gradient came back through it, and an optimizer stepped on the parameters it acts on. The finding
    says who left it there (a line, a hook, ``from_pretrained``) and when.
Why it hurts: dropout is off and batch-norm uses its old statistics and never updates them, so the network
    overfits or trains on statistics that are not its own. Nothing fails. Lightning never calls ``.train()``, and
    since version 2.2 it notes every module's mode before a validation and puts it back afterwards, wrong or not.
How to fix: call ``.train()`` where the model is made (``from_pretrained`` returns it in eval mode), after
    sampling or measuring with ``.eval()``, or remove the ``.eval()``. ``ModeChecker(action="fix")`` puts the
    culprits back before the next step. What is meant to be frozen: ``requires_grad_(False)`` or ``no_grad``.
When to ignore: when a part is fine-tuned with dropout off on purpose. It is silent on frozen parts, teachers,
    baselines, networks called under ``no_grad`` or detached, batch-norms put into eval one by one or by an
    overridden ``train()``, and parts that are switched to eval and back within ``training_step``.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            if batch_idx % 10 == 0:
                self.net.eval()
                with torch.no_grad():
                    accuracy = (self.net(inputs).argmax(dim=1) == labels).float().mean()
                self.log("train_accuracy", accuracy)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Dropout(0.2), nn.Linear(64, 2))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            if batch_idx % 10 == 0:
                self.net.eval()
                with torch.no_grad():
                    accuracy = (self.net(inputs).argmax(dim=1) == labels).float().mean()
                self.net.train()
                self.log("train_accuracy", accuracy)
            return loss

        def validation_step(self, batch, batch_idx):
            inputs, labels = batch
            scores = self.net(inputs)
            self.log("val_loss", F.cross_entropy(scores, labels))
            self.log("val_accuracy", (scores.argmax(dim=1) == labels).float().mean())

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=1e-2)

    inputs = torch.randn(640, 8)
    labels = (inputs[:, 0] + inputs[:, 1] > 0).long()
    train = DataLoader(TensorDataset(inputs[:512], labels[:512]), batch_size=32, shuffle=True)
    val = DataLoader(TensorDataset(inputs[512:], labels[512:]), batch_size=32)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), train, val)

Example:
    >>> from lightning_debug.evidence.modes import EvalModule, ModeChange, TrainingModes
    >>> from lightning_debug.record import Record
    >>> drop = EvalModule(path="net.2", class_name="Dropout", role="dropout", root="net", root_class="Sequential",
    ...                   eval_calls=1, gradient=True, stepped=True, change=ModeChange(phase="before fit"))
    >>> for claim in eval_mode_in_training(Record([TrainingModes(model="Net", watched=2, in_eval=(drop,))])):
    ...     print(claim.subject, "|", claim.message)
    net | 1 of 2 modules whose mode matters trains in eval mode (`net.2` (Dropout)): `net` is in eval mode
    when trainer.fit is called, and Lightning never calls .train().

References:
    https://lightning.ai/docs/pytorch/stable/common/evaluation_basic.html
    https://github.com/Lightning-AI/pytorch-lightning/pull/18951
    https://huggingface.co/docs/transformers/main_classes/model (from_pretrained: "set in evaluation mode by default")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lightning_debug.evidence.modes import EvalModule, TrainingModes
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule
from lightning_debug.rules._modes import at_line, by_class, common_prefix, listed, moment_of


@rule("LD401", severity=ERROR, needs=TrainingModes, explains=("LD413",))
def eval_mode_in_training(record: Record) -> Iterator[Claim | Skip]:
    """Claims one finding for each way in which modules came into eval mode."""
    history = record.of(TrainingModes)
    claimed: set[str] = set()
    for evidence in history:
        groups: dict[tuple[str, str], list[EvalModule]] = {}
        for item in _at_fault(evidence):
            if item.path not in claimed:
                claimed.add(item.path)
                groups.setdefault(_cause(item), []).append(item)
        for group in groups.values():
            yield _claim(evidence, group)
    unseen = [evidence.unseen for evidence in history if evidence.unseen]
    if unseen and not claimed:
        yield Skip(unseen[-1])


def _at_fault(evidence: TrainingModes) -> list[EvalModule]:
    """Modules that take part, less those that somebody evidently put into eval mode on purpose."""
    found = [item for item in evidence.in_eval if item.takes_part and not item.pinned]
    switched_off = [item for item in found if item.role == "dropout" and item.alone and _before(item)]
    all_dropouts = len(switched_off) > 1 and not evidence.in_train.get("dropout")
    return [
        item
        for item in found
        if not (item.role == "batch-norm" and item.alone)  # frozen batch-norm, one by one
        and not item.hollow  # its own flag was set by hand
        and not (item.role == "custom" and item.alone and _before(item))
        and not (all_dropouts and item in switched_off)  # `for m in modules: if isinstance(m, Dropout): m.eval()`
    ]


def _before(item: EvalModule) -> bool:
    return item.change.phase == "before fit"


def _cause(item: EvalModule) -> tuple[str, str]:
    if item.change.line:
        return item.change.hook, item.change.line
    return item.change.phase, item.root if _before(item) else ""


def _claim(evidence: TrainingModes, group: Sequence[EvalModule]) -> Claim:
    first = group[0]
    change = first.change
    root = common_prefix([item.root for item in group])
    place = f"`{root}`" if root else f"the whole {evidence.model}"
    who, fix = _who(group, root, place)
    kept = change.restored and not _before(first)
    names = listed((item.path, item.class_name) for item in group)
    return Claim(
        message=f"{len(group)} of {evidence.watched} modules whose mode matters train{'s' * (len(group) == 1)} in eval "
        f"mode ({names}): {who}{', and Lightning puts that mode back after every validation' if kept else ''}.",
        subject=change.line or root or evidence.model,
        measured={
            "modules": tuple(item.path for item in group),
            "classes": by_class(item.class_name for item in group),
            "modules_whose_mode_matters": evidence.watched,
            "in_eval_mode_since": "before trainer.fit" if _before(first) else moment_of(change),
            "set_by": change.hook or change.phase,
            "put_back_by_mode_checker": evidence.fixed,
        },
        fix=fix + (" ModeChecker puts them into train mode from the next step on." if evidence.fixed else ""),
        at=evidence.at,
    )


def _who(group: Sequence[EvalModule], root: str, place: str) -> tuple[str, str]:
    """Who left them in eval mode, and what to do about it."""
    first = group[0]
    change = first.change
    kinds = {item.pretrained_class for item in group}
    kind = first.pretrained_class if len(kinds) == 1 and _before(first) else ""
    never = "and Lightning never calls .train()"
    frozen = "or freeze it on purpose: .requires_grad_(False)."
    if kind and f"{root}.".startswith(f"{first.pretrained}."):
        path = f"`{first.pretrained}`" if first.pretrained else f"the {kind}"
        return (
            f"{path} is a {kind}, which from_pretrained returns in eval mode, {never}",
            f"Call .train() on {path} right after from_pretrained, {frozen}",
        )
    if _before(first):
        source = f" (from_pretrained returns its {kind} in eval mode)" if kind else ""
        return (
            f"{place} is in eval mode when trainer.fit is called{source}, {never}",
            f"Call .train() on {place} before trainer.fit, {frozen}",
        )
    if change.override:
        return (
            f"{change.hook} is overridden{at_line(change)} and does not put the modes back after validation",
            f"Delete {change.hook}: without it Lightning puts every mode back.",
        )
    fix = f"Call .train() on {place} after that line, or remove the .eval()."
    if change.watched:
        return f"{change.hook} calls .eval(){at_line(change)} and nothing calls .train() after it", fix
    if change.line:
        return f"{change.hook} sets eval mode{at_line(change)}, first seen at {moment_of(change)}", fix
    return (
        f"they leave train mode in {change.phase} ({moment_of(change)})",
        f"Find the .eval() in {change.phase} that reaches {place}, and call .train() after it.",
    )
