# expect: none
"""CTC on inputs and targets of any length."""

import pytorch_lightning as pl
import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence


class Rec(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.r = nn.LSTM(6, 32, batch_first=True, bidirectional=True)
        self.o = nn.Linear(64, 7)

    def training_step(self, batch, i):
        lp = self.o(self.r(batch["frames"])[0]).log_softmax(2).transpose(0, 1)
        loss = nn.functional.ctc_loss(lp, batch["text"], batch["flen"], batch["tlen"], zero_infinity=True)
        self.log("ctc", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.Adam(self.parameters(), 3e-3)


class DS(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 400

    def __getitem__(self, i):
        g = torch.Generator().manual_seed(i)
        t = torch.randint(1, 7, (int(torch.randint(2, 6, (1,), generator=g)),), generator=g)
        f = torch.nn.functional.one_hot(t - 1, 6).float().repeat_interleave(3, 0) + 0.1 * torch.randn(
            len(t) * 3, 6, generator=g
        )
        return f, t


def col(it):
    return {
        "frames": pad_sequence([a for a, _ in it], True),
        "text": torch.cat([batch for _, batch in it]),
        "flen": torch.tensor([len(a) for a, _ in it]),
        "tlen": torch.tensor([len(batch) for _, batch in it]),
        "meta": None,
    }


pl.Trainer(max_epochs=2, enable_progress_bar=False, logger=False, gradient_clip_val=5.0).fit(
    Rec(), torch.utils.data.DataLoader(DS(), 20, shuffle=True, collate_fn=col)
)
