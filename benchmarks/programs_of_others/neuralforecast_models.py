"""NHITS, NBEATS, LSTM and TFT on the air passengers that neuralforecast brings along."""

import torch
from neuralforecast import NeuralForecast
from neuralforecast.losses.pytorch import DistributionLoss, MQLoss
from neuralforecast.models import LSTM, MLP, NHITS, TFT
from neuralforecast.utils import AirPassengersPanel
from result import told

NEEDS = "neuralforecast"

QUIET = {
    "h": 12,
    "input_size": 24,
    "max_steps": 60,
    "val_check_steps": 20,
    "random_seed": 1,
    "scaler_type": "standard",
    "accelerator": "cpu",
    "enable_progress_bar": False,
}


def main():
    models = [
        NHITS(mlp_units=[[32, 32]] * 3, **QUIET),
        MLP(hidden_size=32, num_layers=2, loss=MQLoss(level=[80]), **QUIET),
        LSTM(encoder_hidden_size=16, encoder_n_layers=1, decoder_hidden_size=16, decoder_layers=1, **QUIET),
        TFT(hidden_size=8, n_head=2, loss=DistributionLoss("Normal"), **QUIET),
    ]
    forecaster = NeuralForecast(models=models, freq="ME")
    forecaster.fit(AirPassengersPanel[["unique_id", "ds", "y"]], val_size=12)
    forecast = forecaster.predict()
    modules = torch.nn.ModuleDict({type(model).__name__: model for model in forecaster.models})
    numbers = {name: forecast[name].to_numpy() for name in forecast.columns if name not in ("unique_id", "ds")}
    told(modules, **{name.replace("-", "_"): values for name, values in numbers.items()})


if __name__ == "__main__":
    main()
