"""pytorch-forecasting's own example: TFT, N-BEATS and DeepAR on generated autoregressive series."""

import lightning.pytorch as pl
import torch
from pytorch_forecasting import DeepAR, NBeats, TemporalFusionTransformer, TimeSeriesDataSet
from pytorch_forecasting.data import NaNLabelEncoder
from pytorch_forecasting.data.examples import generate_ar_data
from pytorch_forecasting.metrics import SMAPE, NormalDistributionLoss, QuantileLoss
from result import metrics, told

NEEDS = "pytorch_forecasting"


def main():
    pl.seed_everything(42)
    data = generate_ar_data(seasonality=10.0, timesteps=120, n_series=10, seed=42)
    data["series"] = data["series"].astype(str)
    cutoff = data["time_idx"].max() - 10
    options = {
        "time_idx": "time_idx", "target": "value", "group_ids": ["series"], "max_encoder_length": 30, "max_prediction_length": 10,
        "time_varying_unknown_reals": ["value"], "categorical_encoders": {"series": NaNLabelEncoder().fit(data.series)},
    }  # fmt: skip
    modules, told_metrics = torch.nn.ModuleDict(), {}
    for kind, own, more in (
        (TemporalFusionTransformer, {"hidden_size": 8, "attention_head_size": 1, "dropout": 0.1, "hidden_continuous_size": 8,
                                     "loss": QuantileLoss(), "learning_rate": 0.03}, {"static_categoricals": ["series"]}),
        (NBeats, {"widths": [16, 64], "num_blocks": [1, 1], "num_block_layers": [2, 2], "learning_rate": 1e-2, "loss": SMAPE()}, {}),
        (DeepAR, {"hidden_size": 16, "rnn_layers": 1, "loss": NormalDistributionLoss(), "learning_rate": 0.01},
         {"static_categoricals": ["series"], "time_varying_known_reals": ["time_idx"]}),
    ):  # fmt: skip
        training = TimeSeriesDataSet(data[data.time_idx <= cutoff], **options, **more)
        validation = TimeSeriesDataSet.from_dataset(training, data, min_prediction_idx=cutoff + 1)
        model = kind.from_dataset(training, **own)
        trainer = pl.Trainer(
            max_epochs=3, accelerator="cpu", gradient_clip_val=0.1, limit_train_batches=12, enable_progress_bar=False
        )
        trainer.fit(model, training.to_dataloader(train=True, batch_size=32, num_workers=0),
                    validation.to_dataloader(train=False, batch_size=32, num_workers=0))  # fmt: skip
        told_metrics |= {f"{kind.__name__} {name}": value for name, value in metrics(trainer).items()}
        modules[kind.__name__] = model
    told(modules, **told_metrics)


if __name__ == "__main__":
    main()
