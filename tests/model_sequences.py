"""Healthy programs on sequences of tokens, of which no future may be seen."""

import torch
from torch import nn
from torch.nn import functional as F

from tests.model_programs import COUNT, Program


class Causal(Program):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(9, 16), nn.Linear(16, 9)
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def training_step(self, batch, batch_idx):
        tokens = batch[0]
        mask = nn.Transformer.generate_square_subsequent_mask(tokens.shape[1] - 1)
        scores = self.head(self.block(self.embed(tokens[:, :-1]), src_mask=mask, is_causal=True))
        return F.cross_entropy(scores.transpose(1, 2), tokens[:, 1:])

    @staticmethod
    def data():
        return (torch.randint(0, 9, (COUNT, 10)),)


class MaskedLanguageModel(Causal):
    def training_step(self, batch, batch_idx):
        hidden = torch.rand(batch[0].shape) < 0.3
        scores = self.head(self.block(self.embed(batch[0].masked_fill(hidden, 8))))
        return F.cross_entropy(scores.flatten(0, 1), batch[0].masked_fill(~hidden, -100).flatten())


class CopyTask(Causal):
    """The encoder reads the whole of what the decoder writes."""

    def __init__(self):
        super().__init__()
        self.model = nn.Transformer(16, 2, 1, 1, 32, batch_first=True)

    def training_step(self, batch, batch_idx):
        source, target = batch[0], batch[0][:, :-1]
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1])
        hidden = self.model(self.embed(source), self.embed(target), tgt_mask=mask)
        return F.cross_entropy(self.head(hidden).transpose(1, 2), batch[0][:, 1:])


class Pairs(CopyTask):
    """The same tokens in two fields, of which the encoder may see all."""

    def training_step(self, batch, batch_idx):
        source, target = batch
        mask = nn.Transformer.generate_square_subsequent_mask(target.shape[1] - 1)
        hidden = self.model(self.embed(source), self.embed(target[:, :-1]), tgt_mask=mask)
        return F.cross_entropy(self.head(hidden).transpose(1, 2), target[:, 1:])

    @staticmethod
    def data():
        tokens = torch.randint(0, 9, (COUNT, 10))
        return tokens, tokens.clone()
