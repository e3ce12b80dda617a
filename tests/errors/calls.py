"""Programs about calls that refuse in words of their own: packing, bags, CTC, signs of pairs, sizes, metrics."""

from tests.errors.base import CLASSIFY, LABELS, Case, net

RAGGED = "DataLoader([(torch.randn(n, 5), n % 3) for n in (3, 6, 2, 7, 4, 5, 9, 2)], batch_size=4, collate_fn=coll)"
COLLATE = """
def coll(items):
    xs = nn.utils.rnn.pad_sequence([x for x, _ in items], batch_first=True)
    return xs, torch.tensor([len(x) for x, _ in items]), torch.tensor([y for _, y in items])
"""
PACKED = "x, n, y = batch\n{}\nreturn F.cross_entropy(self.head(h[-1]), y)"
RNN = "self.rnn = nn.GRU(5, 12, batch_first=True)\nself.head = nn.Linear(12, 3)"
PAIRS = "fit(Net(), loader(torch.randn(16, 4), torch.randn(16, 4), torch.ones(16, 1)))"
CTC = """x, y, n = batch
logs = self(x).log_softmax(-1)
frames = torch.full((x.size(0),), x.size(1))
return F.ctc_loss(logs, y, frames, n)"""
METRIC = "x, y = batch\nscores = self(x)\nself.f1(scores.softmax(-1), y)\nreturn F.cross_entropy(scores, y)"

CASES = (
    Case(
        "lengths_not_sorted",
        "LD101",
        "lengths-not-sorted",
        "",
        net(
            RNN,
            "return x",
            PACKED.format("p = nn.utils.rnn.pack_padded_sequence(x, n, batch_first=True)\n_, h = self.rnn(p)"),
            RAGGED,
            COLLATE,
        ),
        "x, n, batch_first=True",
        "x, n, batch_first=True, enforce_sorted=False",
        "enforce_sorted=False",
    ),
    Case(
        "length_of_zero",
        "LD101",
        "empty-sequence",
        "",
        net(
            RNN,
            "return x",
            PACKED.format(
                "p = nn.utils.rnn.pack_padded_sequence(x, n - 2, batch_first=True, enforce_sorted=False)\n"
                "_, h = self.rnn(p)"
            ),
            RAGGED,
            COLLATE,
        ),
        "n - 2",
        "(n - 2).clamp(min=1)",
        r"clamp\(min=1\)",
    ),
    Case(
        "offsets_beside_padded_rows",
        "LD101",
        "offsets-beside-rows",
        "bag",
        net(
            "self.bag = nn.EmbeddingBag(20, 8)\nself.head = nn.Linear(8, 3)",
            "return self.head(self.bag(x, torch.arange(0, x.numel(), x.size(1))))",
            CLASSIFY,
            f"loader(torch.randint(20, (16, 6)), {LABELS})",
        ),
        "self.bag(x, torch.arange(0, x.numel(), x.size(1)))",
        "self.bag(x)",
        "Leave offsets out",
    ),
    Case(
        "grey_images_resized",
        "LD101",
        "channel-dimension-missing",
        "",
        net(
            "self.head = nn.Linear(64, 3)",
            "x = F.interpolate(x, size=(8, 8), mode='bilinear')\nreturn self.head(x.flatten(1))",
            CLASSIFY,
            f"loader(torch.randn(16, 12, 12), {LABELS})",
        ),
        "interpolate(x,",
        "interpolate(x.unsqueeze(1),",
        r"x\.unsqueeze\(1\)",
    ),
    Case(
        "signs_in_a_column",
        "LD101",
        "target-extra-dimension",
        "",
        net(
            "self.net = nn.Linear(4, 8)",
            "return self.net(x)",
            "a, b, sign = batch\nreturn F.cosine_embedding_loss(self(a), self(b), sign)",
            "0",
        ).replace("fit(Net(), 0)", PAIRS),
        "self(b), sign)",
        "self(b), sign.squeeze(1))",
        r"squeeze\(1\)",
    ),
    Case(
        "ctc_batch_first",
        "LD101",
        "batch-first",
        "",
        net(
            "self.net = nn.Linear(5, 6)",
            "return self.net(x)",
            CTC,
            "loader(torch.randn(16, 12, 5), torch.randint(1, 6, (16, 3)), torch.full((16,), 3))",
        ),
        "ctc_loss(logs,",
        "ctc_loss(logs.transpose(0, 1),",
        r"transpose\(0, 1\)",
    ),
    Case(
        "lstm_in_sequential",
        "LD120",
        "tuple-for-tensor",
        "net.1",
        net(
            "self.net = nn.Sequential(nn.LSTM(5, 12, batch_first=True), nn.Linear(12, 3))",
            "return self.net(x)[:, -1]",
            CLASSIFY,
            f"loader(torch.randn(16, 6, 5), {LABELS})",
        ),
        "self.net(x)[:, -1]",
        "self.net[1](self.net[0](x)[0])[:, -1]",
        r"out, _ = self\.net\[0\]\(x\)",
    ),
    Case(
        "forward_without_return",
        "LD120",
        "nothing-for-tensor",
        "head",
        net(
            "self.body = nn.Linear(5, 8)\nself.head = nn.Linear(8, 3)",
            "def features(x):\n    h = self.body(x).relu()\nreturn self.head(features(x))",
            CLASSIFY,
            f"loader(torch.randn(16, 5), {LABELS})",
        ),
        "h = self.body(x).relu()",
        "return self.body(x).relu()",
        "return",
    ),
    Case(
        "padding_mask_transposed",
        "LD101",
        "attention-mask-transposed",
        "attend",
        net(
            "self.attend = nn.MultiheadAttention(8, 2, batch_first=True)\nself.head = nn.Linear(8, 3)",
            "pad = (x[..., 0] > 9).T\nh, _ = self.attend(x, x, x, key_padding_mask=pad)\nreturn self.head(h.mean(1))",
            CLASSIFY,
            f"loader(torch.randn(16, 6, 8), {LABELS})",
        ),
        "key_padding_mask=pad",
        "key_padding_mask=pad.T",
        r"pad\.T",
    ),
    Case(
        "padding_mask_turned_by_mistake",
        "LD101",
        "attention-mask-transposed",
        "attend",
        net(
            "self.attend = nn.MultiheadAttention(8, 2, batch_first=True)\nself.head = nn.Linear(8, 3)",
            "pad = x[..., 0] > 9\nh, _ = self.attend(x, x, x, key_padding_mask=pad.t())\nreturn self.head(h.mean(1))",
            CLASSIFY,
            f"loader(torch.randn(16, 6, 8), {LABELS})",
        ),
        "key_padding_mask=pad.t()",
        "key_padding_mask=pad",
        r"key_padding_mask=pad\.$",
    ),
    Case(
        "multilabel_metric_of_classes",
        "LD101",
        "metric-shape",
        "f1",
        net(
            "import torchmetrics.classification as tm\nself.net = nn.Linear(5, 3)\nself.f1 = tm.MultilabelF1Score(3)",
            "return self.net(x)",
            METRIC,
            f"loader(torch.randn(16, 5), {LABELS})",
        ),
        "MultilabelF1Score(3)",
        "MulticlassF1Score(num_classes=3)",
        r"MulticlassF1Score\(num_classes=3\)",
    ),
    Case(
        "losses_in_a_new_tensor",
        "LD109",
        "rebuilt",
        "",
        net(
            "self.one, self.two = nn.Linear(5, 3), nn.Linear(5, 3)",
            "return self.one(x), self.two(x)",
            "x, y = batch\nreturn torch.tensor([F.cross_entropy(item, y) for item in self(x)]).mean()",
            f"loader(torch.randn(16, 5), {LABELS})",
        ),
        "torch.tensor([",
        "torch.stack([",
        r"torch\.stack",
    ),
    Case(
        "picked_by_rows",
        "LD101",
        "index-dimension-missing",
        "",
        net(
            "self.net = nn.Linear(5, 3)",
            "return self.net(x)",
            "x, y = batch\nreturn -self(x).log_softmax(1).gather(1, y).mean()",
            f"loader(torch.randn(16, 5), {LABELS})",
        ),
        ".gather(1, y)",
        ".gather(1, y.unsqueeze(1)).squeeze(1)",
        r"unsqueeze\(1\)\)\.squeeze\(1\)",
    ),
    Case(
        "grades_from_three",
        "LD106",
        "labels-from-another-number",
        "",
        net(
            "self.net = nn.Linear(5, 4)",
            "return self.net(x)",
            CLASSIFY,
            "loader(torch.randn(16, 5), torch.arange(16) % 4 + 3)",
        ),
        "F.cross_entropy(self(x), y)",
        "F.cross_entropy(self(x), y - 3)",
        r"batch\[1\] - 3",
    ),
    Case(
        "decoder_of_other_size",
        "LD101",
        "target-shape",
        "",
        net(
            "self.up = nn.ConvTranspose2d(1, 1, 4, stride=2)",
            "return self.up(x)",
            "x, y = batch\nreturn F.mse_loss(self(x), y)",
            "loader(torch.randn(16, 1, 4, 4), torch.randn(16, 1, 8, 8))",
        ),
        "F.mse_loss(self(x), y)",
        "F.mse_loss(F.interpolate(self(x), size=(8, 8)), y)",
        r"size=\(8, 8\)",
    ),
    Case(
        "padded_at_the_features",
        "LD114",
        "unequal-sizes",
        "",
        net(
            "self.rnn = nn.GRU(5, 12, batch_first=True)\nself.head = nn.Linear(12, 3)",
            "return self.head(self.rnn(x)[1][-1])",
            CLASSIFY,
            RAGGED,
            "def coll(items):\n    most = max(len(x) for x, _ in items)\n"
            "    xs = torch.stack([F.pad(x, (0, most - len(x))) for x, _ in items])\n"
            "    return xs, torch.tensor([y for _, y in items])",
        ),
        "(0, most - len(x))",
        "(0, 0, 0, most - len(x))",
        r"F\.pad\(x, \(0, 0, 0, n\)\)",
    ),
    Case(
        "popped_by_another_key",
        "LD111",
        "missing-key",
        "",
        net(
            "self.net = nn.Linear(5, 3)",
            "return self.net(x)",
            "y = batch.pop('labels')\nreturn F.cross_entropy(self(batch['x']), y)",
            "DataLoader([{'x': torch.randn(5), 'label': n % 3} for n in range(8)], batch_size=4)",
        ),
        "pop('labels')",
        "pop('label')",
        r"batch\['label'\]",
    ),
    Case(
        "two_doubles",
        "LD105",
        "double-input",
        "net",
        net(
            "self.net = nn.Bilinear(4, 4, 3)",
            "return self.net(*x)",
            "a, b, y = batch\nreturn F.cross_entropy(self((a, b)), y)",
            "loader(torch.randn(16, 4).double(), torch.randn(16, 4).double(), torch.randint(3, (16,)))",
        ),
        "self((a, b))",
        "self((a.float(), b.float()))",
        r"batch\[0\]\.float\(\) and batch\[1\]\.float\(\)",
    ),
)
