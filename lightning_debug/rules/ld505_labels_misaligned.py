"""Labels do not belong to their inputs.

What it sees: nearest neighbours, single columns and linear guesses tell nothing of the labels (each p-value against
    permuted labels, and corrected for the tests before it, above ``independent``), and either labels fit once they
    are moved by a number of rows (p below ``shift_p`` after correction for all shifts tried), or the trained net
    knows no more of them than chance does: after at least ``epochs`` epochs and ``steps`` batches (or ``steps_once``
    batches of fewer epochs, as of a stream), its outputs have nothing to do with the labels of ``samples`` samples
    (p above ``knows_nothing``). Where the nearest validation samples do tell their labels, by ``told`` of the way
    from chance to certainty, while those of training tell nothing, it is enough that the net knows less than half
    of that. Where no known loss function compares outputs with labels, the loss itself is asked: it is no lower than
    with labels that changed places among the samples. Silent where the validation loss still falls
    when the run ends, by ``falls`` of itself and ``sigmas`` standard errors, as where a step adapts the net to each
    sample before it is asked.
Why it hurts: the net can only learn the share of each label, or memorise. This is what a shuffle of inputs without
    labels, a sort of one of two arrays, or an index off by one leaves behind.
How to fix: shuffle, sort and filter inputs and labels together, with one index (``x[order], y[order]``), and look at
    a few pairs right before the loss.
When to ignore: when labels are random on purpose. Silent on tasks that are hard but learned, on labels
    that are more than numbers a sample (one, several classes at once, a vector, a small map), and on fewer than
    ``samples`` samples unless a shift fits. Of samples that differ in length (padded text, sound), moments, spectra and
    shares of tokens are compared, and only moved labels are told. No shift is told of samples that follow each other
    at that distance (states of an agent, or of several in turn), which may follow from the labels. Training
    labels alone are not judged by what the net has learned where the dataset holds the net (its own play, with other
    policies from epoch to epoch) or loaders are made anew.
Broken:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels.roll(1)), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)
Repaired:
    class Classifier(LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 4))

        def training_step(self, batch, batch_idx):
            inputs, labels = batch
            loss = F.cross_entropy(self.net(inputs), labels)
            self.log("train_loss", loss)
            return loss

        def configure_optimizers(self):
            return torch.optim.Adam(self.parameters(), lr=5e-3)

    centres = torch.randn(4, 8)
    labels = torch.randint(0, 4, (600,))
    inputs = centres[labels] + 0.5 * torch.randn(len(labels), 8)
    loader = DataLoader(TensorDataset(inputs, labels), batch_size=16, shuffle=True)
    trainer = Trainer(max_epochs=3)
    trainer.fit(Classifier(), loader)

Example:
    >>> from lightning_debug.evidence.data_relations import LabelAlignment
    >>> from lightning_debug.record import Record
    >>> found = LabelAlignment(field="1", samples=600, classes=4, p_values={"neighbours of values": 0.4},
    ...                        agreement=0.25, by_chance=0.25, shift=1, shifted_agreement=0.98, shifted_p=1e-40)
    >>> for claim in labels_misaligned(Record([found])):
    ...     print(claim.message)
    Labels are off by 1 row: moved back by 1, they agree with the nearest samples in 98%, and as they are in 25% (chance
    gives 25%).
"""

from __future__ import annotations

from collections.abc import Iterator

from lightning_debug.evidence.curves import CurveReading
from lightning_debug.evidence.data_relations import LabelAlignment, LabelLearning
from lightning_debug.finding import ERROR, Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rule import rule


@rule("LD505", severity=ERROR, needs=LabelAlignment, explains=("LD512", "LD712"))
def labels_misaligned(
    record: Record,
    *,
    independent: float = 0.01,
    shift_p: float = 1e-6,
    epochs: int = 2,
    steps: int = 60,
    steps_once: int = 480,
    samples: int = 200,
    knows_nothing: float = 0.05,
    told: float = 0.3,
    falls: float = 0.1,
    sigmas: float = 4.0,
) -> Iterator[Claim | Skip]:
    """Claims one finding if a shift fits, or if nothing does and nothing was learned."""
    found = record.last(LabelAlignment)
    if found is None:
        return
    measured = {f"p of {name}": value for name, value in found.p_values.items()}
    gain, here_gain = found.shifted_agreement - found.by_chance, found.agreement - found.by_chance
    if found.shift and found.shifted_p < shift_p and here_gain < 0.25 * gain:
        rows = f"{abs(found.shift)} row{'s' * (abs(found.shift) > 1)}"
        where = "" if found.order == "dataset" else " of the batches"
        number = "{:.0%}" if found.kind == "classes" else "{:.2f}"
        moved, here, chance = map(number.format, (found.shifted_agreement, found.agreement, found.by_chance))
        yield Claim(
            message=f"Labels are off by {rows}{where}: moved {'back' if found.shift > 0 else 'on'} by "
            f"{abs(found.shift)}, they agree with the nearest samples in {moved}, and as they are in {here} "
            f"(chance gives {chance}).",
            subject=f"labels {found.field}",
            measured={
                **measured,
                "shift": found.shift,
                "agreement": found.agreement,
                "shifted_agreement": found.shifted_agreement,
                "shifted_p": found.shifted_p,
            },
            fix=f"Find where inputs and labels part: label i + {found.shift} belongs to sample i."
            if found.shift > 0
            else f"Find where inputs and labels part: label i - {-found.shift} belongs to sample i.",
            at=found.at,
        )
        return
    if min(found.p_values.values(), default=0.0) <= independent:
        return
    if found.pooled:
        yield Skip("samples differ in length: of what is common to them, labels may well be independent")
        return
    if found.samples < samples:
        yield Skip(f"fewer than {samples} samples were compared")
        return
    learned = record.last(LabelLearning)
    if learned is None:
        yield Skip("what the trained net knows of the labels is not known")
        return
    least = steps if learned.epochs >= epochs else max(steps, steps_once)
    if learned.steps < least or learned.samples < samples // 2:
        yield Skip("training was too short to tell labels that are hard from labels that are wrong")
        return
    parted = learned.neighbours >= told * (1 - learned.by_chance)
    parted = parted and learned.agreement - learned.by_chance < 0.5 * learned.neighbours
    if (learned.p_value <= knows_nothing and not parted) or _is_learning(record, falls, sigmas):
        return
    name = min(found.p_values, key=lambda key: found.p_values[key])
    what = "validation" if learned.held_out else "training"
    agreement, by_chance = round(learned.agreement, 2) + 0.0, round(learned.by_chance, 2) + 0.0  # no -0.00
    ignorance = f"the net knows no more of {learned.samples} {what} labels than chance ({agreement:.2f} against "
    ignorance += f"{by_chance:.2f}, p = {learned.p_value:.2g})"
    if learned.by_loss:
        ignorance = f"the loss of {learned.samples} {what} samples is no lower with their own labels than with each "
        ignorance += f"other's (by {learned.agreement:.1%}, p = {learned.p_value:.2g})"
    yield Claim(
        message=f"{'Training l' if parted else 'L'}abels tell nothing about their inputs: of {len(found.p_values)} "
        f"tests on {found.samples} samples the smallest p-value is {found.p_values[name]:.2g} ({name}), and after "
        f"{learned.epochs} epoch{'s' * (learned.epochs != 1)} "
        + (
            f"the net agrees with {learned.samples} validation labels by {agreement:.2f} (chance {by_chance:.2f}), "
            f"where the nearest samples agree by {learned.neighbours + learned.by_chance:.2f}."
            if parted
            else f"{ignorance}."
        ),
        subject=f"labels {found.field}",
        measured={
            **measured,
            "agreement": found.agreement,
            "by_chance": found.by_chance,
            "trained_agreement": learned.agreement,
            "trained_chance": learned.by_chance,
            "trained_p": learned.p_value,
            "neighbours_of_validation": learned.neighbours,
        },
        fix="Shuffle, sort and filter inputs and labels with one index: x[order], y[order].",
        at=learned.at,
    )


def _is_learning(record: Record, falls: float, sigmas: float) -> bool:
    """Whether held-out samples are still predicted better and better, however the step does it."""
    reading = record.last(CurveReading)
    seen = None if reading is None else reading.validation
    return seen is not None and seen.late.sigmas < -sigmas and -seen.late.amount > falls * abs(seen.end)
