"""An MLP and a ResNet of deeptab (formerly mambular) on the diabetes and wine tables."""

import numpy
import torch
from deeptab.models import MLPRegressor, ResNetClassifier
from result import told
from sklearn.datasets import load_diabetes, load_wine

NEEDS = "deeptab sklearn"


def main():
    modules, numbers = torch.nn.ModuleDict(), {}
    for kind, load in ((MLPRegressor, load_diabetes), (ResNetClassifier, load_wine)):
        torch.manual_seed(1)
        numpy.random.seed(1)
        inputs, targets = load(return_X_y=True, as_frame=True)
        model = kind()
        model.fit(inputs, targets.to_numpy(), max_epochs=5, batch_size=32, accelerator="cpu", enable_progress_bar=False)
        modules[kind.__name__] = model.task_model
        numbers[kind.__name__] = model.predict(inputs)[:20]
    told(modules, **numbers)


if __name__ == "__main__":
    main()
