"""Programs whose backward pass fails."""

from tests.errors.base import CLASSIFY, LABELS, Case, net

NET = "self.net = nn.Linear(10, 3)"
FORWARD = "return self.net(x)"
DATA = f"loader(torch.randn(16, 10), {LABELS})"

CASES = (
    Case(
        "detached_loss", "LD109", "detached", "",
        net(NET, FORWARD, "x, y = batch\nlogits = self(x).detach()\nreturn F.cross_entropy(logits, y)", DATA),
        "self(x).detach()", "self(x)", r"detach\(\)",
    ),
    Case(
        "loss_of_item", "LD109", "rebuilt", "",
        net(NET, FORWARD, "x, y = batch\nloss = F.cross_entropy(self(x), y)\nreturn torch.tensor(loss.item())", DATA),
        "torch.tensor(loss.item())", "loss", r"no \.item\(\)",
    ),
    Case(
        "under_no_grad", "LD109", "under-no-grad", "",
        net(NET, "with torch.no_grad():\n    return self.net(x)", CLASSIFY, DATA),
        "with torch.no_grad():", "if True:", r"no_grad",
    ),
    Case(
        "argmax_in_loss", "LD109", "not-differentiable", "",
        net(NET, FORWARD, "x, y = batch\nguess = self(x).argmax(1)\nreturn F.mse_loss(guess.float(), y.float())", DATA),
        "self(x).argmax(1)", "self(x).mean(1)", r"argmax",
    ),
    Case(
        "all_frozen", "LD109", "all-frozen", "",
        net(NET + "\nself.net.requires_grad_(False)", FORWARD, CLASSIFY, DATA),
        ".requires_grad_(False)", ".requires_grad_(True)", r"requires_grad = True",
    ),
    Case(
        "vector_loss", "LD110", "no-reduction", "",
        net(NET, FORWARD, "x, y = batch\nreturn F.cross_entropy(self(x), y, reduction='none')", DATA),
        ", reduction='none'", "", r"reduction='none'",
    ),
    Case(
        "squares_not_averaged", "LD110", "vector", "",
        net("self.net = nn.Linear(10, 1)", FORWARD, "x, y = batch\nreturn (self(x) - y) ** 2",
            "loader(torch.randn(16, 10), torch.randn(16, 1))"),
        "(self(x) - y) ** 2", "((self(x) - y) ** 2).mean()", r"loss\.mean\(\)",
    ),
    Case(
        "loss_kept", "LD112", "kept-across-steps", "",
        net(NET + "\nself.running = 0.0", FORWARD,
            "x, y = batch\nloss = F.cross_entropy(self(x), y)\nself.running = 0.9 * self.running + loss\nreturn self.running", DATA),
        "return self.running", "self.running = self.running.detach()\n        return loss", r"self\.running\.detach\(\)",
    ),
    Case(
        "two_backwards", "LD112", "backward-twice", "",
        """
class Net(Base):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.body, self.a, self.b = nn.Linear(10, 8), nn.Linear(8, 3), nn.Linear(8, 3)

    def training_step(self, batch, batch_idx):
        x, y = batch
        optimizer = self.optimizers()
        optimizer.zero_grad()
        hidden = torch.tanh(self.body(x))
        self.manual_backward(F.cross_entropy(self.a(hidden), y))
        self.manual_backward(F.cross_entropy(self.b(hidden), y))
        optimizer.step()

fit(Net(), loader(torch.randn(16, 10), torch.randint(3, (16,))))
""",
        "self.manual_backward(F.cross_entropy(self.a(hidden), y))\n        self.manual_backward(F.cross_entropy(self.b(hidden), y))",
        "self.manual_backward(F.cross_entropy(self.a(hidden), y) + F.cross_entropy(self.b(hidden), y))", r"Add the losses up",
    ),
    Case(
        "weighted_unreduced", "LD110", "no-reduction", "",
        net(NET, FORWARD, "x, y = batch\nloss = F.cross_entropy(self(x), y, reduction='none') * x[:, 0].abs()\nreturn loss", DATA),
        "return loss", "return loss.mean()", r"loss\.mean\(\)\.$",
    ),
    Case(
        "logged_unreduced", "LD110", "logged-vector", "",
        net(NET, FORWARD, "x, y = batch\nloss = F.cross_entropy(self(x), y, reduction='none')\nself.log('train_loss', loss)\nreturn loss", DATA),
        ", reduction='none'", "", r"loss\.mean\(\).*reduction='none' out",
    ),
    Case(
        "added_in_place", "LD113", "in-place", "",
        net("self.a, self.b = nn.Linear(10, 10), nn.Linear(10, 3)", "x = torch.sigmoid(self.a(x))\nx += 1\nreturn self.b(x)", CLASSIFY, DATA),
        "x += 1", "x = x + 1", r"x = x \+ y",
    ),
    Case(
        "relu_in_place", "LD113", "in-place", "act",
        net("self.a, self.b = nn.Linear(10, 10), nn.Linear(10, 3)\nself.act = nn.ReLU(inplace=True)",
            "gate = torch.sigmoid(self.a(x))\nreturn self.b(self.act(gate) * x)", CLASSIFY, DATA),
        "inplace=True", "inplace=False", r"without inplace=True",
    ),
    Case(
        "item_assignment", "LD113", "in-place", "",
        net("self.a, self.b = nn.Linear(10, 10), nn.Linear(10, 3)",
            "h = torch.exp(self.a(x))\nh[:, 0] = 0\nreturn self.b(h)", CLASSIFY, DATA),
        "h[:, 0] = 0", "h = h * (torch.arange(10) > 0)", r"clone\(\)",
    ),
    Case(
        "queue_written_before_backward", "LD113", "in-place", "",
        net("self.net, self.norm = nn.Linear(10, 6), nn.BatchNorm1d(6)\nself.register_buffer('queue', torch.randn(8, 6))",
            "return self.norm(self.net(x))",
            "x, y = batch\nkey = self(x)\nloss = F.cross_entropy(key @ self.queue.T, y)\nself.queue[:4] = key[:4].detach()\nreturn loss",
            DATA),
        "key @ self.queue.T", "key @ self.queue.clone().T", r"clone\(\)",
    ),
    Case(
        "parameter_in_place", "LD113", "leaf-in-place", "",
        net(NET + "\nself.scale = nn.Parameter(torch.ones(10))", "self.scale *= 0.9\nreturn self.net(x * self.scale)", CLASSIFY, DATA),
        "self.scale *= 0.9", "self.scale.data = self.scale.data * 0.9", r"no_grad",
    ),
)  # fmt: skip
