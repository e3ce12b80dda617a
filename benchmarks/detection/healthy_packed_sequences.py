# expect: none
"""Sequences of unequal length, packed; the loss ignores the padding and divides by the number of tokens."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence, pad_sequence
from torch.utils.data import DataLoader


class Tagger(pl.LightningModule):
    def __init__(self, words=40):
        super().__init__()
        self.embed = nn.Embedding(words, 24, padding_idx=0)
        self.lstm = nn.LSTM(24, 24, batch_first=True, bidirectional=True)
        self.tag = nn.Linear(48, 4)

    def forward(self, words, lengths):
        packed = pack_padded_sequence(self.embed(words), lengths.cpu(), batch_first=True, enforce_sorted=False)
        h, _ = pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
        return self.tag(h)

    def shared(self, batch, stage):
        scores = self(batch["words"], batch["lengths"])
        loss = F.cross_entropy(scores.transpose(1, 2), batch["tags"], ignore_index=-100)
        mask = batch["tags"] != -100
        right = (scores.argmax(-1) == batch["tags"])[mask].float().mean()
        self.log_dict({f"{stage}_loss": loss, f"{stage}_token_acc": right}, batch_size=int(mask.sum()))
        return loss

    def training_step(self, batch, batch_idx):
        return self.shared(batch, "train")

    def validation_step(self, batch, batch_idx):
        self.shared(batch, "val")

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=5e-3)


def sentence():
    words = torch.randint(1, 40, (int(torch.randint(3, 20, ())),))
    before = torch.cat([words[:1], words[:-1]])
    return words, (words % 2) * 2 + (before > 20).long()


def collate(rows):
    words, tags = zip(*rows, strict=True)
    return {
        "words": pad_sequence(words, batch_first=True),
        "tags": pad_sequence(tags, batch_first=True, padding_value=-100),
        "lengths": torch.tensor([len(row) for row in words]),
        "extra": None,
    }


rows = [sentence() for _ in range(1000)]
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
train = DataLoader(rows[:800], 25, shuffle=True, collate_fn=collate)
trainer.fit(Tagger(), train, DataLoader(rows[800:], 50, collate_fn=collate))
