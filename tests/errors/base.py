"""A program that raises, and what should be said of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One program.

    Args:
        name: Its name, unique in the corpus.
        code: The code it should be given.
        cause: The cause in kebab case.
        module: Path of the module it should name; ``""`` for the LightningModule itself.
        program: Its text. It finds torch, nn, F, pl, math, DataLoader, Dataset, TensorDataset, Base (a LightningModule
            with an optimizer), ``loader(*tensors, batch_size=8)`` and ``fit(model, train, val=None, **options)``.
        old: Text to replace in the program, as the printed edit says.
        new: What to replace it by: the program then trains.
        fix: A regular expression that the printed edit fits.
    """

    name: str
    code: str
    cause: str
    module: str
    program: str
    old: str = ""
    new: str = ""
    fix: str = ""


def net(layers: str, forward: str, step: str, data: str, extra: str = "", options: str = "") -> str:
    """A LightningModule of the usual style: layers in ``__init__``, a ``forward``, a ``training_step``."""

    def block(text: str, indent: int) -> str:
        return "\n".join(" " * indent + line for line in text.strip("\n").splitlines())

    return f"""
class Net(Base):
    def __init__(self):
        super().__init__()
{block(layers, 8)}

    def forward(self, x):
{block(forward, 8)}

    def training_step(self, batch, batch_idx):
{block(step, 8)}

{extra}
fit(Net(), {data}{", " + options if options else ""})
"""


CLASSIFY = "x, y = batch\nreturn F.cross_entropy(self(x), y)"
REGRESS = "x, y = batch\nreturn F.mse_loss(self(x), y)"
LABELS = "torch.randint(3, (16,))"
