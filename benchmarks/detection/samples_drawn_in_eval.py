# expect: LD401
"""A language model writes a sample at the start of each epoch, in eval mode, and stays there."""

import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

FAULT = "--repaired" not in sys.argv
TEXT = " ".join(f"{a} plus {b} makes {a + b}." for a in range(30) for b in range(0, 30, 3))
LETTERS = sorted(set(TEXT))


class Characters(Dataset):
    def __init__(self, length=24):
        self.ids, self.length = torch.tensor([LETTERS.index(letter) for letter in TEXT]), length

    def __len__(self):
        return (len(self.ids) - 1) // self.length

    def __getitem__(self, index):
        piece = self.ids[index * self.length : (index + 1) * self.length + 1]
        return piece[:-1], piece[1:]


class CharModel(pl.LightningModule):
    def __init__(self, width=48):
        super().__init__()
        self.embed = nn.Embedding(len(LETTERS), width)
        self.gru = nn.GRU(width, width, num_layers=2, dropout=0.2, batch_first=True)
        self.drop = nn.Dropout(0.2)
        self.head = nn.Linear(width, len(LETTERS))

    def forward(self, ids, state=None):
        h, state = self.gru(self.embed(ids), state)
        return self.head(self.drop(h)), state

    @torch.no_grad()
    def generate(self, start, count):
        self.eval()
        ids, state = torch.tensor([[LETTERS.index(start)]], device=self.device), None
        text = start
        for _ in range(count):
            scores, state = self(ids, state)
            ids = scores[:, -1].argmax(-1, keepdim=True)
            text += LETTERS[int(ids)]
        if not FAULT:
            self.train()
        return text

    def on_train_epoch_start(self):
        print(self.generate("1", 20))

    def training_step(self, batch, batch_idx):
        scores, _ = self(batch[0])
        loss = F.cross_entropy(scores.flatten(0, 1), batch[1].flatten())
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=3e-3)


trainer = pl.Trainer(max_epochs=5, accelerator="cpu", logger=False, enable_checkpointing=False, gradient_clip_val=1.0)
trainer.fit(CharModel(), DataLoader(Characters(), 16, shuffle=True))
