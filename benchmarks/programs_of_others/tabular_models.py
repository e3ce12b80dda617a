"""pytorch-tabular on mixed columns: a classifier and a regressor."""

import numpy
import pandas
import torch
from pytorch_tabular import TabularModel
from pytorch_tabular.config import DataConfig, OptimizerConfig, TrainerConfig
from pytorch_tabular.models import CategoryEmbeddingModelConfig, FTTransformerConfig
from result import told

NEEDS = "pytorch_tabular"


def table(task):
    source = numpy.random.default_rng(0)
    frame = pandas.DataFrame(source.normal(size=(800, 4)), columns=list("abcd"))
    frame["kind"] = source.choice(["red", "green", "blue"], size=800)
    frame["size"] = source.choice(["small", "large"], size=800)
    score = (
        frame.a
        - 0.5 * frame.b
        + (frame.kind == "red") * 1.5
        - (frame["size"] == "small")
        + source.normal(size=800) * 0.3
    )
    frame["target"] = score if task == "regression" else (score > score.median()).astype(int)
    return frame


def main():
    modules, numbers = torch.nn.ModuleDict(), {}
    for task, config in (("classification", CategoryEmbeddingModelConfig), ("regression", CategoryEmbeddingModelConfig),
                         ("classification", FTTransformerConfig)):  # fmt: skip
        frame = table(task)
        small = (
            {"num_heads": 2, "num_attn_blocks": 1, "input_embed_dim": 8}
            if config is FTTransformerConfig
            else {"layers": "32-16"}
        )
        model = TabularModel(
            data_config=DataConfig(target=["target"], continuous_cols=list("abcd"), categorical_cols=["kind", "size"]),
            model_config=config(task=task, learning_rate=1e-2, **small),
            optimizer_config=OptimizerConfig(),
            trainer_config=TrainerConfig(
                batch_size=64, max_epochs=4, accelerator="cpu", progress_bar="none", load_best=False
            ),
            verbose=False,
        )
        model.fit(train=frame[:600], validation=frame[600:], seed=5)
        name = f"{task} {config.__name__}"
        modules[name.replace(" ", "_")] = model.model
        numbers[name] = model.predict(frame[600:]).select_dtypes("number").to_numpy()
    told(modules, **numbers)


if __name__ == "__main__":
    main()
