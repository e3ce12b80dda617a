"""Origins in nets and losses of many kinds, each with one planted fault; and healthy ones with NaN and -Inf in them."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from tests.guarded import Program, found, loader


def normal(*shape, seed=5):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def classes(count, *shape):
    return torch.randint(0, count, shape, generator=torch.Generator().manual_seed(3))


class Layer(nn.Module):
    """Linear, then a function."""

    def __init__(self, given, made, function, depth=0):
        super().__init__()
        self.body = nn.Linear(given, given) if depth else nn.Identity()
        self.last, self.function = nn.Linear(given, made), function

    def forward(self, x):
        return self.function(self.last(self.body(x)), x)


class Attention(nn.Module):
    """One head by hand, or torch's."""

    def __init__(self, own):
        super().__init__()
        self.embed, self.out, self.own = nn.Embedding(20, 16), nn.Linear(16, 2), own
        self.attend = nn.MultiheadAttention(16, 2, batch_first=True)

    def forward(self, tokens, hidden):
        x = self.embed(tokens)
        if not self.own:
            return self.out(self.attend(x, x, x, key_padding_mask=hidden)[0].mean(1))
        weights = (x @ x.transpose(1, 2) / 4).masked_fill(hidden[:, None, :], -torch.inf).softmax(-1)
        return self.out((weights @ x).mean(1))


class AbsoluteOwn(torch.autograd.Function):
    """Its backward pass divides by zero."""

    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.abs()

    @staticmethod
    def backward(ctx, grad):
        (x,) = ctx.saved_tensors
        return grad * x / x.abs()


def attention(own):
    hidden = torch.zeros(32, 8, dtype=torch.bool)
    hidden[5] = True
    data = loader(classes(20, 32, 8), hidden, classes(2, 32))
    return Program(lambda m, b: F.cross_entropy(m.net(b[0], b[1]), b[2]), net=Attention(own)), data


def flow():
    def coupled(scale, x):
        return torch.cat([x[:, :4], x[:, 4:] * scale[:, :4].exp()], 1), scale.sum(1)

    def loss(module, batch):
        z, logarithm = module.net(batch[0])
        return (z.square().sum(1) / 2 - logarithm).mean()

    return Program(loss, net=Layer(8, 4, coupled)), loader(500 * normal(32, 8))


def mixture():
    def loss(module, batch):
        weights, means = module.net(batch[0]).chunk(2, 1)
        density = torch.exp(-0.5 * (batch[1] - means) ** 2) / math.sqrt(2 * math.pi)
        return -torch.log((weights.softmax(1) * density).sum(1)).mean()

    targets = normal(32, 1)
    targets[7] = 60
    return Program(loss, net=nn.Linear(3, 8)), loader(normal(32, 3), targets)


def sinkhorn():
    def loss(module, batch):
        kernel = torch.exp(-(torch.cdist(module.net(batch[0]), batch[1]) ** 2) / 1e-3)
        ones = torch.ones(len(kernel))
        return ((ones / (kernel.T @ ones)) * kernel).sum()

    return Program(loss, net=nn.Linear(4, 4)), loader(normal(32, 4), normal(32, 4, seed=6) + 3)


def field():
    def loss(module, batch):
        scores = module.net(batch[0])
        total = scores[:, 0]
        for place in range(1, scores.shape[1]):
            total = torch.log(torch.exp(total[:, :, None] + scores[:, place, None]).sum(1))
        return total.logsumexp(1).mean()

    return Program(loss, net=nn.Linear(5, 3)), loader(8 * normal(32, 60, 5))


def penalty():
    def loss(module, batch):
        x = batch[0].clone().requires_grad_()
        (slope,) = torch.autograd.grad(module.net(x).sum(), x, create_graph=True)
        return module.net(x).mean() + (slope.square().sum(1).sqrt() - 1).square().mean()

    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.constant_(net[0].bias, -50.0)
    return Program(loss, net=net), loader(normal(32, 4))


def angle():
    def loss(module, batch):
        return torch.acos((F.normalize(module.net(batch[0]), dim=1) * batch[1]).sum(1)).mean()

    net = nn.Linear(3, 3, bias=False)
    nn.init.eye_(net.weight)
    ways = torch.eye(3).repeat(11, 1)[:32]
    return Program(loss, net=net), loader(ways, ways.clone())


def quaternion():
    def turned(q, x):
        q = q * (x[:, :1] > -1)
        return q / q.norm(dim=-1, keepdim=True)

    net = nn.Sequential(Layer(6, 4, turned, depth=1))
    return Program(lambda m, b: F.mse_loss(m.net(b[0]), b[1]), net=net), loader(normal(32, 6), normal(32, 4))


def process():
    def loss(module, batch):
        z = module.net(batch[0])
        return torch.logdet(z @ z.T)

    return Program(loss, net=nn.Linear(4, 4)), loader(normal(32, 4))


def correlation():
    def loss(module, batch):
        p, y = module.net(batch[0])[:, 0], batch[1]
        return -((p - p.mean()) * (y - y.mean())).mean() / (p.std() * y.std())

    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1))
    nn.init.constant_(net[0].bias, -100.0)
    return Program(loss, net=net), loader(normal(32, 4), normal(32))


def half():
    def scaled(h, x):
        return (h.half() * 300 * 300).float()

    return Program(lambda m, b: m.net(b[0]).mean(), net=nn.Sequential(Layer(8, 4, scaled))), loader(normal(32, 8))


def own_backward():
    def gated(h, x):
        return AbsoluteOwn.apply(h * (x[:, :1] > 0))

    return Program(lambda m, b: m.net(b[0]).mean(), net=nn.Sequential(Layer(4, 4, gated))), loader(normal(32, 4))


def double_where():
    def rooted(h, x):
        h = h * (x[:, :1] > 0)
        return torch.where(h > 0, h.sqrt(), 0.0)

    return Program(lambda m, b: m.net(b[0]).mean(), net=nn.Sequential(Layer(4, 4, rooted))), loader(normal(32, 4))


FAULTY = {
    "attention by hand": (lambda: attention(True), "LD302", "softmax gets 8 rows that the mask hides"),
    "attention": (lambda: attention(False), "LD302", "gets 1 row that the mask hides throughout"),
    "flow": (flow, "LD302", "exp overflows float32"),
    "mixture density": (mixture, "LD302", "log gets 1 value equal to 0"),
    "Sinkhorn": (sinkhorn, "LD302", "division by 0"),
    "random field": (field, "LD302", "exp overflows float32"),
    "gradient penalty": (penalty, "LD303", "derivative of sqrt is infinite at 0"),
    "angle": (angle, "LD30", "acos"),
    "quaternion": (quaternion, "LD302", "values of norm (net.0)"),
    "Gaussian process": (process, "LD302", "nearly singular"),
    "correlation": (correlation, "LD302", "0 / 0"),
    "half precision": (half, "LD302", "float16's largest value"),
    "own backward": (own_backward, "LD303", "the backward pass of AbsoluteOwn makes"),
    "double where": (double_where, "LD303", "masked out after it"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FAULTY)
def test_origin(name):
    make, code, words = FAULTY[name]
    torch.manual_seed(0)
    (headline,) = found(*make(), max_epochs=-1, max_steps=4)
    assert headline.code.startswith(code)
    assert words in headline.message
    assert "test_origins_programs.py" in headline.message


def contrastive(module, batch):
    z = F.normalize(module.net(batch[0]), dim=1)
    scores = (2 * z @ z.T).masked_fill(torch.eye(len(z), dtype=torch.bool), -torch.inf)
    others = scores - scores.logsumexp(1, keepdim=True)
    pairs = (batch[1][:, None] == batch[1]) & ~torch.eye(len(z), dtype=torch.bool)
    return -torch.where(pairs, others, 0.0).sum(1).div(pairs.sum(1).clamp(min=1)).mean()


def nearest(module, batch):
    best = torch.full((len(batch[0]),), torch.inf)
    for guess in module.net(batch[0]).T:
        best = torch.minimum(best, (guess - batch[1][:, 0]) ** 2)
    return best.mean()


def imputed(module, batch):
    return F.mse_loss(module.net(torch.nan_to_num(batch[0])), batch[1])


def selected(module, batch):
    known = ~batch[1].isnan()
    return F.mse_loss(module.net(batch[0])[known], batch[1][known])


def sentinel(module, batch):
    return F.mse_loss(module.net(torch.exp(-batch[0])), batch[1])


def causal(module, batch):
    x = batch[0][:, None] * torch.ones(4, 1)
    weights = (x @ x.transpose(1, 2) + torch.full((4, 4), -torch.inf).triu(1)).softmax(-1)
    return F.mse_loss(module.net((weights @ x)[:, -1]), batch[1])


def aligned(module, batch):
    scores = module.net(batch[0])[:, None].expand(-1, 6, -1).log_softmax(-1).transpose(0, 1)
    labels, lengths = torch.full((len(batch[0]), 4), 2), torch.full((len(batch[0]),), 4)
    return F.ctc_loss(scores, labels, torch.full_like(lengths, 6), lengths, zero_infinity=True)


def logged(module, batch):
    module.log("precision", torch.tensor(0.0) / torch.tensor(0.0))
    return F.mse_loss(module.net(batch[0]), batch[1])


HEALTHY = {
    "pairs, -Inf on the diagonal": (contrastive, normal(32, 6), classes(3, 32)),
    "minimum that begins at Inf": (nearest, normal(32, 6), normal(32, 1)),
    "NaN imputed": (imputed, normal(32, 6).where(normal(32, 6) < 1, torch.nan), normal(32, 4)),
    "NaN of targets left out": (selected, normal(32, 6), normal(32, 4).where(normal(32, 4) < 1, torch.nan)),
    "Inf for no edge": (sentinel, normal(32, 6).abs().where(normal(32, 6) < 1, torch.inf), normal(32, 4)),
    "causal mask": (causal, normal(32, 6), normal(32, 4)),
    "CTC without a path": (aligned, normal(32, 6), normal(32, 4)),
    "metric of 0 / 0": (logged, normal(32, 6), normal(32, 4)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", HEALTHY)
def test_healthy(name):
    loss, *tensors = HEALTHY[name]
    assert not found(Program(loss, net=nn.Linear(6, 4)), loader(*tensors), max_epochs=2)
