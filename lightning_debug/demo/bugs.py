"""The bugs that the demo can plant: edits of healthy programs, as somebody would make them by mistake."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PROGRAMS = Path(__file__).parent / "programs"


class CannotPlant(ValueError):
    """An edit that does not fit its program."""


@dataclass(frozen=True)
class Bug:
    """One way to spoil a program.

    Args:
        name: The name of the rule that should find it.
        code: That rule's code.
        line: What was done, in one line.
        program: The module in ``programs/`` it is planted in.
        edits: What is replaced by what, wherever it stands.
    """

    name: str
    code: str
    line: str
    program: str
    edits: tuple[tuple[str, str], ...]


HEALTHY = Bug("healthy", "", "nothing is planted: nothing should be found", "classify", ())

_CROSS_ENTROPY = "nn.functional.cross_entropy(scores, labels)"
_HEAD = "scores: Tensor = self.head(features)"
_PARITY_LOSS = "nn.functional.binary_cross_entropy_with_logits(scores, is_odd)"
_PARITY_HEAD = "self.head(self.hidden(images))"
_GUESS = "self.head(self.hidden(upper))"

_SOFTMAX_BY_HAND = """likelihoods = (scores / 0.01).exp()
        shares = likelihoods / likelihoods.sum(dim=1, keepdim=True)
        loss = nn.functional.nll_loss(shares.log(), labels)"""

_SPREAD = f"""features = self.encoder(images)
        distances = (features[:, None] - features[None]).pow(2).sum(dim=2).sqrt()
        loss = {_CROSS_ENTROPY} + 0.1 * (-distances).exp().mean()
"""

BUGS: tuple[Bug, ...] = (
    Bug(
        "softmax-before-cross-entropy",
        "LD201",
        "the network ends with softmax, and cross_entropy applies its own",
        "classify",
        ((_HEAD, f"{_HEAD}.softmax(dim=1)"),),
    ),
    Bug(
        "softmax-over-wrong-dim",
        "LD202",
        "log_softmax runs over the batch instead of the classes",
        "classify",
        ((_HEAD, f"{_HEAD}.log_softmax(dim=0)"), (_CROSS_ENTROPY, "nn.functional.nll_loss(scores, labels)")),
    ),
    Bug(
        "sigmoid-before-bce-with-logits",
        "LD203",
        "the network ends with sigmoid, and the loss applies its own",
        "even_or_odd",
        ((_PARITY_HEAD, f"{_PARITY_HEAD}.sigmoid()"), ("scores.sigmoid(), is_odd", "scores, is_odd")),
    ),
    Bug(
        "wrong-input-to-nll-loss",
        "LD204",
        "nll_loss gets raw scores: the log_softmax is missing",
        "classify",
        ((_CROSS_ENTROPY, "nn.functional.nll_loss(scores, labels)"),),
    ),
    Bug(
        "softmax-on-single-unit",
        "LD205",
        "softmax over the only output: it is always 1",
        "even_or_odd",
        (
            (_PARITY_HEAD, f"{_PARITY_HEAD}.softmax(dim=1)"),
            (_PARITY_LOSS, "nn.functional.binary_cross_entropy(scores, is_odd)"),
            ("scores.sigmoid(), is_odd", "scores, is_odd"),
        ),
    ),
    Bug(
        "loss-broadcasts",
        "LD206",
        "the target lost its last dimension: (N, 1) against (N) is N x N pairs",
        "lower_half",
        (("lower.mean(dim=1, keepdim=True)", "lower.mean(dim=1)"),),
    ),
    Bug(
        "relu-before-loss",
        "LD207",
        "a ReLU after the last layer clamps the scores",
        "classify",
        (("self.head = nn.Linear(64, 10)", "self.head = nn.Sequential(nn.Linear(64, 10), nn.ReLU())"),),
    ),
    Bug(
        "output-cannot-reach-target",
        "LD208",
        "a sigmoid at the end, and targets from -3 to 3",
        "lower_half",
        ((_GUESS, f"{_GUESS}.sigmoid()"),),
    ),
    Bug(
        "loss-does-not-fit-task",
        "LD209",
        "the digit is regressed as a number, though 8 is no nearer to 9 than to 1",
        "classify",
        (
            ("self.head = nn.Linear(64, 10)", "self.head = nn.Linear(64, 1)"),
            (_CROSS_ENTROPY, "nn.functional.mse_loss(scores.squeeze(1), labels.float())"),
            ("scores.argmax(dim=1)", "scores.squeeze(1).round().clamp(0, 9).long()"),
        ),
    ),
    Bug(
        "initial-loss-off",
        "LD210",
        "the head is initialised with a standard deviation of 5",
        "classify",
        (
            (
                "self.head = nn.Linear(64, 10)",
                "self.head = nn.Linear(64, 10)\n        nn.init.normal_(self.head.weight, std=5.0)",
            ),
        ),
    ),
    Bug(
        "loss-summed-over-batch",
        "LD211",
        "the loss is summed over the batch, so its gradient grows with the batch",
        "classify",
        ((_CROSS_ENTROPY, 'nn.functional.cross_entropy(scores, labels, reduction="sum")'),),
    ),
    Bug(
        "validation-loss-differs",
        "LD212",
        "validation takes the softmax before the loss, training does not",
        "classify",
        (
            (
                f"{_CROSS_ENTROPY}\n        self.accuracy",
                "nn.functional.cross_entropy(scores.softmax(dim=1), labels)\n        self.accuracy",
            ),
        ),
    ),
    Bug(
        "loss-averaged-over-uneven-counts",
        "LD213",
        "a mean over the digits of a micro-batch, averaged over micro-batches of two digits or of fifty",
        "strings",
        (
            (
                'nn.functional.cross_entropy(scores, labels, ignore_index=NONE, reduction="sum") / TYPICAL_COUNT',
                "nn.functional.cross_entropy(scores, labels, ignore_index=NONE)",
            ),
        ),
    ),
    Bug(
        "nonfinite-input",
        "LD301",
        "each pixel is divided by its standard deviation, which is 0 at the border",
        "classify",
        (("(images - images.mean()) / images.std()", "(images - images.mean(dim=0)) / images.std(dim=0)"),),
    ),
    Bug(
        "nonfinite-loss",
        "LD302",
        "a softmax by hand: exp overflows at a temperature of 0.01",
        "classify",
        (
            (
                f"loss = {_CROSS_ENTROPY}",
                _SOFTMAX_BY_HAND,
            ),
        ),
    ),
    Bug(
        "nonfinite-gradient",
        "LD303",
        "distances between all images of a batch by hand: from an image to itself it is sqrt(0), of infinite slope",
        "classify",
        ((f'loss = {_CROSS_ENTROPY}\n        self.log("train_loss"', _SPREAD + '        self.log("train_loss"'),),
    ),
    Bug(
        "nonfinite-parameter",
        "LD304",
        "Adam with eps=0 divides 0 by 0 at the pixels that are always black",
        "lower_half",
        (("lr=2e-3)", "lr=2e-3, eps=0.0)"),),
    ),
    Bug(
        "clipping-always-active",
        "LD310",
        "gradients are clipped at a norm of 0.001, which each of them exceeds",
        "classify",
        (("max_epochs=6,", "max_epochs=6,\n        gradient_clip_val=0.001,"),),
    ),
    Bug(
        "eval-mode-in-training",
        "LD401",
        "the encoder comes in eval mode, as from Hugging Face's from_pretrained, and nobody calls train()",
        "classify",
        (("    return encoder\n", "    return encoder.eval()\n"),),
    ),
    Bug(
        "train-mode-in-validation",
        "LD402",
        "train() is called where validation starts: dropout stays on, batch-norm learns from validation data",
        "classify",
        (
            (
                "    def validation_step(",
                "    def on_validation_start(self) -> None:\n        self.train()\n\n    def validation_step(",
            ),
        ),
    ),
    Bug(
        "frozen-batchnorm-drifts",
        "LD403",
        "the encoder is frozen with requires_grad only: its batch-norm goes on averaging",
        "classify",
        (
            (
                "        self.encoder = load_encoder()\n",
                "        self.encoder = load_encoder()\n        self.encoder.requires_grad_(False)\n",
            ),
        ),
    ),
    Bug(
        "dropout-ignores-mode",
        "LD404",
        "functional dropout without training=self.training is on in validation too",
        "classify",
        (
            (
                "features = self.encoder(images)",
                "features = nn.functional.dropout(self.encoder(images), 0.3)",
            ),
        ),
    ),
)
"""By code."""

DEFAULT = ("softmax-before-cross-entropy", "eval-mode-in-training")
"""What is planted when nobody asks for a bug by name."""


def source(program: str) -> str:
    """The healthy program."""
    return (PROGRAMS / f"{program}.py").read_text(encoding="utf-8")


def plant(bugs: Iterable[Bug]) -> str:
    """A program with bugs in it.

    Raises:
        CannotPlant: If the bugs belong to several programs, or what should be replaced is not there.
    """
    chosen = list(bugs)
    programs = {bug.program for bug in chosen}
    if len(programs) != 1:
        raise CannotPlant(f"bugs of different programs: {', '.join(sorted(programs))}")
    text = source(programs.pop())
    for bug in chosen:
        for old, new in bug.edits:
            if old not in text:
                raise CannotPlant(f"{bug.name}: {bug.program}.py has no {old!r}")
            text = text.replace(old, new)
    return text


def difference(program: str, planted: str) -> str:
    """What was planted, as a unified diff without its headers."""
    lines = difflib.unified_diff(source(program).splitlines(), planted.splitlines(), n=1, lineterm="")
    return "\n".join("..." if line.startswith("@@") else line for line in list(lines)[3:])
