"""DeepAR and a feed-forward network of GluonTS on generated hourly series."""

import numpy
import pandas
import torch
from gluonts.dataset.pandas import PandasDataset
from gluonts.torch import DeepAREstimator, PatchTSTEstimator, SimpleFeedForwardEstimator
from result import told

NEEDS = "gluonts torch"


def main():
    source = numpy.random.default_rng(0)
    frames = []
    for item in range(8):
        time = numpy.arange(300)
        values = 20 + item + 5 * numpy.sin(time * 2 * numpy.pi / 24) + source.normal(size=300)
        frames.append(
            pandas.DataFrame(
                {"target": values.astype("float32"), "item_id": f"s{item}"},
                index=pandas.date_range("2020-01-01", periods=300, freq="h"),
            )
        )
    data = PandasDataset.from_long_dataframe(pandas.concat(frames), target="target", item_id="item_id")
    trainer = {"max_epochs": 4, "accelerator": "cpu", "enable_progress_bar": False}
    modules, numbers = torch.nn.ModuleDict(), {}
    for estimator in (
        DeepAREstimator(prediction_length=12, freq="h", context_length=24, hidden_size=16, num_batches_per_epoch=15, trainer_kwargs=trainer),
        SimpleFeedForwardEstimator(prediction_length=12, context_length=24, hidden_dimensions=[32], num_batches_per_epoch=15, trainer_kwargs=trainer),
        PatchTSTEstimator(prediction_length=12, context_length=24, patch_len=8, num_batches_per_epoch=15, trainer_kwargs=trainer),
    ):  # fmt: skip
        torch.manual_seed(1)
        numpy.random.seed(1)
        predictor = estimator.train(data)
        name = type(estimator).__name__
        modules[name] = predictor.prediction_net
        numbers[name] = next(iter(predictor.predict(data))).mean
    told(modules, **numbers)


if __name__ == "__main__":
    main()
