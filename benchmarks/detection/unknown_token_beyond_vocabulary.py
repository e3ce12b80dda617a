# expect: LD107
"""Words that are not in the vocabulary get the next free number, for which the embedding has no row."""

import random
import sys

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader

FAULT = "--repaired" not in sys.argv
GOOD, BAD = "lovely fine warm bright kind".split(), "awful cold dull broken rude".split()
OTHER = "the room host street view breakfast was and very we found".split()
names = random.Random(1)


def sentence(positive):
    words = names.choices(OTHER, k=names.randint(4, 9)) + names.choices(GOOD if positive else BAD, k=2)
    if names.random() < 0.2:
        words.append(f"no{names.randint(0, 999)}")
    names.shuffle(words)
    return words


vocabulary = {word: index for index, word in enumerate(["<pad>", *GOOD, *BAD, *OTHER])}
UNKNOWN = len(vocabulary)


class Bag(pl.LightningModule):
    def __init__(self, size):
        super().__init__()
        self.embed = nn.Embedding(size, 16, padding_idx=0)
        self.rnn = nn.GRU(16, 24, batch_first=True, bidirectional=True)
        self.score = nn.Linear(48, 1)

    def forward(self, tokens):
        return self.score(self.rnn(self.embed(tokens))[0].amax(1)).squeeze(-1)

    def training_step(self, batch, batch_idx):
        tokens, labels = batch
        loss = F.binary_cross_entropy_with_logits(self(tokens), labels)
        self.log("train_loss", loss, batch_size=len(labels))
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), lr=3e-3)


def collate(samples):
    ids = [torch.tensor([vocabulary.get(word, UNKNOWN) for word in words]) for words, _ in samples]
    return pad_sequence(ids, batch_first=True), torch.tensor([float(label) for _, label in samples])


reviews = [(sentence(positive), positive) for positive in [0, 1] * 300]
trainer = pl.Trainer(max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False)
model = Bag(len(vocabulary) + (0 if FAULT else 1))
trainer.fit(model, DataLoader(reviews, 25, shuffle=True, collate_fn=collate))
