"""SCVI and SCANVI on synthetic counts, as scvi-tools' tests have them."""

import scvi
import torch
from result import told

NEEDS = "scvi"


def main():
    scvi.settings.seed = 1
    data = scvi.data.synthetic_iid(batch_size=200, n_genes=60)
    scvi.model.SCVI.setup_anndata(data, batch_key="batch", labels_key="labels")
    model = scvi.model.SCVI(data, n_latent=5, n_hidden=32)
    model.train(6, train_size=0.8, check_val_every_n_epoch=1, accelerator="cpu", enable_progress_bar=False)
    labelled = scvi.model.SCANVI.from_scvi_model(model, "label_0", labels_key="labels")
    labelled.train(4, train_size=0.8, check_val_every_n_epoch=1, accelerator="cpu", enable_progress_bar=False)
    modules = torch.nn.ModuleDict({"SCVI": model.module, "SCANVI": labelled.module})
    told(
        modules,
        elbo=model.history["elbo_validation"].to_numpy().astype(float),
        latent=model.get_latent_representation()[:3],
    )


if __name__ == "__main__":
    main()
