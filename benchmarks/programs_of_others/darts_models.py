"""Forecasts sunspots and a seasonal series with several of darts' networks, one training after another."""

import numpy
import torch
from darts import TimeSeries
from darts.dataprocessing.transformers import Scaler
from darts.models import BlockRNNModel, NBEATSModel, TCNModel, TFTModel, TransformerModel, TSMixerModel
from result import told

NEEDS = "darts"


def series():
    source = numpy.random.default_rng(0)
    time = numpy.arange(400)
    values = 50 + 0.05 * time + 12 * numpy.sin(time * 2 * numpy.pi / 12) + source.normal(size=400) * 2
    return TimeSeries.from_values(values.astype("float32"))


QUIET = {
    "n_epochs": 4,
    "batch_size": 32,
    "random_state": 1,
    "pl_trainer_kwargs": {"accelerator": "cpu", "enable_progress_bar": False, "enable_model_summary": False},
}


def main():
    whole = series()
    train, validation = whole.split_after(0.75)
    scaler = Scaler()
    train, validation = scaler.fit_transform(train), scaler.transform(validation)
    rest = [
        NBEATSModel(24, 12, num_stacks=3, num_blocks=1, num_layers=2, layer_widths=32, **QUIET),
        BlockRNNModel(24, 12, model="LSTM", hidden_dim=16, n_rnn_layers=1, dropout=0.0, **QUIET),
        TCNModel(24, 12, num_filters=4, dropout=0.1, **QUIET),
        TransformerModel(
            24, 12, d_model=16, nhead=2, num_encoder_layers=1, num_decoder_layers=1, dim_feedforward=32, **QUIET
        ),
        TFTModel(24, 12, hidden_size=8, lstm_layers=1, num_attention_heads=2, add_relative_index=True, **QUIET),
        TSMixerModel(24, 12, hidden_size=8, ff_size=8, num_blocks=1, **QUIET),
    ]
    modules, forecasts = torch.nn.ModuleDict(), {}
    for model in rest:
        model.fit(train, val_series=validation)
        name = type(model).__name__
        forecasts[name] = model.predict(12, random_state=3).values()
        modules[name] = model.model
    told(modules, **forecasts)


if __name__ == "__main__":
    main()
