"""Predicts a property of molecules with message passing, as chemprop's notebook on training has it."""

import numpy
from chemprop import data, featurizers, models, nn
from lightning import pytorch as pl
from result import metrics, told

NEEDS = "chemprop"

PARTS = [
    "C",
    "CC",
    "CCC",
    "CCO",
    "CCN",
    "C(=O)O",
    "C(=O)N",
    "c1ccccc1",
    "C1CCCCC1",
    "CCl",
    "CBr",
    "OC",
    "NC",
    "CF",
    "C#N",
]


def molecules():
    """Chains of two or three groups, with a property that is additive in them."""
    source = numpy.random.default_rng(0)
    smiles, values = [], []
    for _ in range(240):
        chosen = source.integers(0, len(PARTS), size=source.integers(2, 4))
        smiles.append(
            "C" + "C".join(f"({PARTS[item]})" if not PARTS[item].startswith("(") else PARTS[item] for item in chosen)
        )
        values.append([sum(0.3 * item - 1.5 for item in chosen) + source.normal() * 0.2])
    return smiles, numpy.array(values)


def main():
    pl.seed_everything(3)
    smiles, values = molecules()
    points = [data.MoleculeDatapoint.from_smi(one, value) for one, value in zip(smiles, values, strict=True)]
    train, validation, test = data.split_data_by_indices(
        points, *data.make_split_indices([point.mol for point in points], "random", (0.7, 0.15, 0.15))
    )
    featurizer = featurizers.SimpleMoleculeMolGraphFeaturizer()
    train_set = data.MoleculeDataset(train[0], featurizer)
    scaler = train_set.normalize_targets()
    validation_set = data.MoleculeDataset(validation[0], featurizer)
    validation_set.normalize_targets(scaler)
    test_set = data.MoleculeDataset(test[0], featurizer)
    network = nn.RegressionFFN(output_transform=nn.UnscaleTransform.from_standard_scaler(scaler))
    model = models.MPNN(
        nn.BondMessagePassing(), nn.MeanAggregation(), network, True, [nn.metrics.RMSE(), nn.metrics.MAE()]
    )
    trainer = pl.Trainer(
        logger=False, enable_checkpointing=True, enable_progress_bar=False, accelerator="cpu", max_epochs=8
    )
    trainer.fit(
        model,
        data.build_dataloader(train_set, num_workers=0),
        data.build_dataloader(validation_set, num_workers=0, shuffle=False),
    )
    fitted = metrics(trainer)
    tested = trainer.test(model, data.build_dataloader(test_set, num_workers=0, shuffle=False), verbose=False)
    told(model, **fitted, **{f"end {name}": value for name, value in tested[0].items()})


if __name__ == "__main__":
    main()
