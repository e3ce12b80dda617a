"""Which calls of dropout obey the mode as they are written, and which code is read."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.functional import dropout as drop

from lightning_debug.probes.bytecode import mentions, reached
from lightning_debug.probes.dropout_source import mode_ignoring_call
from lightning_debug.probes.modes import mode_role


def shared(x, p, training):
    return F.dropout(x, p, training)


class Obeying(nn.Module):
    def __init__(self):
        super().__init__()
        self.dropout = nn.Dropout(0.1)
        self.p = 0.1

    def forward(self, x):
        p = self.p if self.training else 0.0
        if self.training:
            rate = 0.2
        else:
            rate = 0.0
        x = self.dropout(x)
        x = F.dropout(x, self.p, self.training)
        x = nn.functional.dropout(x, p=self.p, training=self.training)
        x = drop(x, training=self.training and True)
        x = torch.dropout(x, 0.1, self.training)
        x = F.alpha_dropout(x, 0.1)
        x = F.scaled_dot_product_attention(x, x, x)
        x = F.scaled_dot_product_attention(x, x, x, dropout_p=0.0)
        x = F.scaled_dot_product_attention(x, x, x, None, p)
        return F.scaled_dot_product_attention(x, x, x, dropout_p=rate)


class Default(nn.Module):
    def forward(self, x):
        return F.dropout(x, 0.1)


class Aliased(nn.Module):
    def forward(self, x):
        return drop(x)


class Constant(nn.Module):
    def forward(self, x):
        return torch.nn.functional.dropout2d(x, training=True)


class Passed(nn.Module):
    def forward(self, x):
        return shared(x, 0.1, True)


class Attention(nn.Module):
    p = 0.1

    def forward(self, x):
        return F.scaled_dot_product_attention(x, x, x, dropout_p=self.p)


class Inside(nn.Module):
    def forward(self, x):
        import torch.nn.functional as functional

        return functional.dropout(x)


class Unpacked(nn.Module):
    def forward(self, x, **options):
        return F.dropout(x, **options)


def test_calls_that_obey():
    assert mode_ignoring_call(nn.Sequential(Obeying(), nn.Linear(2, 2))) == ""
    layer = nn.TransformerEncoderLayer(8, 2)
    assert mode_ignoring_call(layer) == ""


@pytest.mark.parametrize("kind", [Default, Aliased, Constant, Passed, Attention, Inside, Unpacked])
def test_calls_that_may_not(kind):
    assert mode_ignoring_call(nn.Sequential(Obeying(), kind())).startswith(__file__[-20:-3]) or ".py:" in (
        mode_ignoring_call(nn.Sequential(Obeying(), kind()))
    )


def test_code_without_source_counts_as_ignoring():
    space = {"nn": nn, "F": F}
    text = "class Typed(nn.Module):\n    def forward(self, x):\n        return F.dropout(x, 0.1)"
    exec(compile(text, "typed.py", "exec"), space)
    assert mode_ignoring_call(space["Typed"]())


def test_hugging_face_models_obey():
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)
    assert mode_ignoring_call(transformers.BertModel(config)) == ""


def test_functions_are_followed_in_a_circle():
    def first():
        return second()

    def second():
        return first().eval()

    assert set(reached(first)) == {first, second}
    assert mentions(first, {"eval"})


class Silent(nn.Dropout):
    def forward(self, x):
        return x


class Louder(nn.Dropout):
    def forward(self, x):
        return super().forward(x) * 2


class Path(nn.Module):
    def __init__(self, drop_prob):
        super().__init__()
        self.drop_prob = drop_prob

    def forward(self, x):
        return x * torch.bernoulli(torch.full_like(x, 1 - self.drop_prob)) if self.training else x


class Recomputing(nn.Module):
    def forward(self, x):
        return torch.utils.checkpoint.checkpoint(torch.relu, x) if self.training else torch.relu(x)


class OfTheBatch(nn.Module):
    def forward(self, batch):
        return batch.training


@pytest.mark.parametrize(
    ("module", "role"),
    [
        (nn.Dropout(0.1), "dropout"),
        (nn.Dropout(0), ""),
        (nn.AlphaDropout(0.1), "dropout"),
        (Silent(0.1), ""),
        (Louder(0.1), "dropout"),
        (nn.BatchNorm2d(2, track_running_stats=False), ""),
        (nn.SyncBatchNorm(2), "batch-norm"),
        (nn.InstanceNorm1d(2), ""),
        (nn.GRU(2, 2, 1), ""),
        (nn.GRU(2, 2, 2, dropout=0.1), "recurrent"),
        (nn.MultiheadAttention(2, 1), ""),
        (nn.RReLU(0.1, 0.1), ""),
        (nn.TransformerEncoderLayer(2, 1), ""),
        (Path(0.1), "custom"),
        (Path(0.0), ""),
        (Recomputing(), ""),
        (OfTheBatch(), ""),
    ],
    ids=lambda item: type(item).__name__ if isinstance(item, nn.Module) else item,
)
@pytest.mark.filterwarnings("ignore:dropout option adds dropout")
def test_roles(module, role):
    assert mode_role(module) == role
