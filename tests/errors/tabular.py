"""Programs about tables, and nets of custom modules."""

from tests.errors.base import CLASSIFY, LABELS, REGRESS, Case, net

TABLE = "torch.randn(16, 10)"

CASES = (
    Case(
        "in_features", "LD101", "in-features", "net.0",
        net("self.net = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))", "return self.net(x)", CLASSIFY,
            f"loader({TABLE}, {LABELS})"),
        "nn.Linear(12, 8)", "nn.Linear(10, 8)", r"nn\.Linear\(10, 8\)",
    ),
    Case(
        "hidden_sizes_do_not_meet", "LD101", "in-features", "net.2",
        net("self.net = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(16, 3))", "return self.net(x)", CLASSIFY,
            f"loader({TABLE}, {LABELS})"),
        "nn.Linear(16, 3)", "nn.Linear(8, 3)", r"nn\.Linear\(8, 3\)",
    ),
    Case(
        "nested_block", "LD101", "in-features", "blocks.1.inner.project",
        """
class Block(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.inner = nn.ModuleDict({"project": nn.Linear(inputs, outputs)})

    def forward(self, x):
        return torch.relu(self.inner["project"](x))


class Net(Base):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(10, 8), Block(6, 3)])

    def training_step(self, batch, batch_idx):
        x, y = batch
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(x, y)

fit(Net(), loader(torch.randn(16, 10), torch.randint(3, (16,))))
""",
        "Block(6, 3)", "Block(8, 3)", r"nn\.Linear\(8, 3\)",
    ),
    Case(
        "raw_matmul", "LD101", "second-not-transposed", "",
        net("self.w = nn.Parameter(torch.randn(3, 10))", "return x @ self.w", CLASSIFY, f"loader({TABLE}, {LABELS})"),
        "x @ self.w", "x @ self.w.T", r"w\.T",
    ),
    Case(
        "cat_over_batch_before_an_activation", "LD101", "concatenated-over-batch", "head.1",
        net("self.a = nn.Linear(10, 8)\nself.b = nn.Linear(10, 8)\nself.head = nn.Sequential(nn.ReLU(), nn.Linear(16, 3))",
            "return self.head(torch.cat([self.a(x), self.b(x)], dim=0))", CLASSIFY, f"loader({TABLE}, {LABELS})"),
        "dim=0", "dim=1", r"torch\.cat\(\.\.\., dim=-1\)",
    ),
    Case(
        "cat_wrong_dimension", "LD101", "wrong-dimension", "",
        net("self.a, self.b = nn.Linear(10, 4), nn.Linear(10, 6)\nself.head = nn.Linear(10, 3)",
            "return self.head(torch.cat([self.a(x), self.b(x)], dim=0))", CLASSIFY, f"loader({TABLE}, {LABELS})"),
        "dim=0", "dim=1", r"dim=1",
    ),
    Case(
        "stack_unequal", "LD101", "unequal-parts", "",
        net("self.a, self.b = nn.Linear(10, 4), nn.Linear(10, 6)\nself.head = nn.Linear(10, 3)",
            "return self.head(torch.stack([self.a(x), self.b(x)]))", CLASSIFY, f"loader({TABLE}, {LABELS})"),
        "torch.stack([self.a(x), self.b(x)])", "torch.cat([self.a(x), self.b(x)], dim=1)", r"torch\.cat\(\.\.\., dim=1\)",
    ),
    Case(
        "gate_without_dimension", "LD101", "sizes-do-not-broadcast", "",
        net("self.gate = nn.Linear(10, 1)\nself.head = nn.Linear(10, 3)",
            "gate = self.gate(x).squeeze(1)\nx = x * gate\nreturn self.head(x)", CLASSIFY, f"loader({TABLE}, {LABELS})"),
        "x * gate", "x * gate[:, None]", r"gate\[:, None\]",
    ),
    Case(
        "regression_pairs", "LD101", "target-shape", "",
        net("self.net = nn.Linear(10, 3)", "return self.net(x)", REGRESS, f"loader({TABLE}, torch.randn(16, 2, 4))"),
    ),
    Case(
        "outputs_for_targets", "LD101", "output-size", "",
        net("self.net = nn.Linear(10, 3)", "return self.net(x)", REGRESS, f"loader({TABLE}, torch.randn(16, 2))"),
        "nn.Linear(10, 3)", "nn.Linear(10, 2)", r"2 outputs",
    ),
    Case(
        "one_feature_dimension_missing", "LD101", "feature-dimension-missing", "net",
        net("self.net = nn.Linear(1, 1)", "return self.net(x)", REGRESS, "loader(torch.randn(16), torch.randn(16, 1))"),
        "self.net(x)", "self.net(x.unsqueeze(1))", r"unsqueeze\(1\)",
    ),
    Case(
        "batch_norm_on_one_sample", "LD116", "one-value", "net.1",
        net("self.net = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))", "return self.net(x)", CLASSIFY,
            "loader(torch.randn(17, 10), torch.randint(3, (17,)))"),
        "torch.randint(3, (17,))", "torch.randint(3, (17,)), drop_last=True", r"drop_last=True",
    ),
    Case(
        "batch_norm_on_batches_of_one", "LD116", "one-value", "net.1",
        net("self.net = nn.Sequential(nn.Linear(10, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))", "return self.net(x)", CLASSIFY,
            f"loader({TABLE}, {LABELS}, batch_size=1)"),
        "nn.BatchNorm1d(8)", "nn.LayerNorm(8)", r"nn\.LayerNorm",
    ),
    Case(
        "metric_shapes", "LD101", "metric-shape", "accuracy",
        "import torchmetrics\n"
        + net("self.net = nn.Linear(10, 1)\nself.accuracy = torchmetrics.classification.BinaryAccuracy()", "return self.net(x)",
              "x, y = batch\nscores = self(x)\nself.accuracy(scores, y)\n"
              "return F.binary_cross_entropy_with_logits(scores.squeeze(1), y.float())",
              f"loader({TABLE}, torch.randint(2, (16,)))"),
        "self.accuracy(scores, y)", "self.accuracy(scores.squeeze(1), y)", r"squeeze\(1\)",
    ),
    Case(
        "metric_classes", "LD106", "metric-classes", "accuracy",
        "import torchmetrics\n"
        + net("self.net = nn.Linear(10, 4)\nself.accuracy = torchmetrics.classification.MulticlassAccuracy(2)", "return self.net(x)",
              "x, y = batch\nscores = self(x)\nself.accuracy(scores.argmax(1), y)\nreturn F.cross_entropy(scores, y)",
              f"loader({TABLE}, torch.arange(16) % 4)"),
        "MulticlassAccuracy(2)", "MulticlassAccuracy(4)", r"num_classes=4",
    ),
    Case(
        "no_such_dimension", "LD101", "no-such-dimension", "",
        net("self.net = nn.Linear(10, 3)", "return self.net(x.transpose(1, 2))", CLASSIFY, f"loader({TABLE}, {LABELS})"),
        "x.transpose(1, 2)", "x", r"dimensions that there are",
    ),
    Case(
        "rows_of_full_batch_picked", "LD103", "hard-coded-batch-size", "",
        net("self.net = nn.Linear(10, 3)", "return self.net(x).log_softmax(1)",
            "x, y = batch\nreturn -self(x)[range(8), y].mean()", "loader(torch.randn(20, 10), torch.randint(3, (20,)))"),
        "range(8)", "range(len(y))", r"range\(len\(y\)\).* instead of 8",
    ),
    Case(
        "hard_coded_repeat", "LD103", "hard-coded-batch-size", "",
        net("self.query = nn.Parameter(torch.randn(1, 10))\nself.head = nn.Linear(10, 3)",
            "return self.head(x * self.query.repeat(8, 1))", CLASSIFY, "loader(torch.randn(19, 10), torch.randint(3, (19,)))"),
        "repeat(8, 1)", "repeat(x.size(0), 1)", r"x\.size\(0\)",
    ),
)  # fmt: skip
