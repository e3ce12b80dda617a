"""Programs about sequences: recurrent nets, attention, embeddings."""

from tests.errors.base import CLASSIFY, LABELS, REGRESS, Case, net

TOKENS = "torch.randint(20, (16, 6))"
SERIES = "torch.randn(16, 6, 5)"

CASES = (
    Case(
        "lstm_features", "LD101", "input-size", "rnn",
        net("self.rnn = nn.LSTM(8, 12, batch_first=True)\nself.head = nn.Linear(12, 3)",
            "out, _ = self.rnn(x)\nreturn self.head(out[:, -1])", CLASSIFY, f"loader({SERIES}, {LABELS})"),
        "nn.LSTM(8, 12", "nn.LSTM(5, 12", r"nn\.LSTM\(5, 12",
    ),
    Case(
        "lstm_time_and_features_swapped", "LD101", "dimensions-swapped", "rnn",
        net("self.rnn = nn.GRU(6, 12, batch_first=True)\nself.head = nn.Linear(12, 3)",
            "out, _ = self.rnn(x)\nreturn self.head(out[:, -1])", CLASSIFY, f"loader(torch.randn(16, 6, 9), {LABELS})"),
        "self.rnn(x)", "self.rnn(x.transpose(1, 2))", r"transpose\(1, 2\)",
    ),
    Case(
        "lstm_univariate", "LD101", "feature-dimension-missing", "rnn",
        net("self.rnn = nn.LSTM(1, 12, batch_first=True)\nself.head = nn.Linear(12, 3)",
            "out, _ = self.rnn(x)\nreturn self.head(out[:, -1])", CLASSIFY, f"loader(torch.randn(16, 6), {LABELS})"),
        "self.rnn(x)", "self.rnn(x.unsqueeze(-1))", r"unsqueeze\(-1\)",
    ),
    Case(
        "lstm_batch_first", "LD101", "batch-first-missing", "rnn",
        net("self.rnn = nn.LSTM(5, 12)\nself.head = nn.Linear(12, 3)",
            "h = torch.zeros(1, x.size(0), 12)\nout, _ = self.rnn(x, (h, h))\nreturn self.head(out[:, -1])", CLASSIFY,
            f"loader({SERIES}, {LABELS})"),
        "nn.LSTM(5, 12)", "nn.LSTM(5, 12, batch_first=True)", r"batch_first=True",
    ),
    Case(
        "gru_hidden_size", "LD101", "hidden-size", "rnn",
        net("self.rnn = nn.GRU(5, 12, num_layers=2, batch_first=True)\nself.head = nn.Linear(12, 3)",
            "h = torch.zeros(1, x.size(0), 12)\nout, _ = self.rnn(x, h)\nreturn self.head(out[:, -1])", CLASSIFY,
            f"loader({SERIES}, {LABELS})"),
        "torch.zeros(1, x.size(0), 12)", "torch.zeros(2, x.size(0), 12)", r"torch\.zeros\(2, 8, 12\)",
    ),
    Case(
        "gru_hidden_of_full_batch", "LD103", "hard-coded-batch-size", "rnn",
        net("self.rnn = nn.GRU(5, 12, batch_first=True)\nself.head = nn.Linear(12, 3)",
            "h = torch.zeros(1, 8, 12)\nout, _ = self.rnn(x, h)\nreturn self.head(out[:, -1])", CLASSIFY,
            "loader(torch.randn(19, 6, 5), torch.randint(3, (19,)))"),
        "torch.zeros(1, 8, 12)", "torch.zeros(1, x.size(0), 12)", r"x\.size\(0\)",
    ),
    Case(
        "batch_first_on_time_first", "LD101", "target-shape", "",
        net("self.rnn = nn.GRU(5, 4, batch_first=True)",
            "return self.rnn(x)[0][:6]", "x, y = batch\nreturn F.mse_loss(self(x.flip(0)).transpose(0, 1)[:6], y)",
            "DataLoader(TensorDataset(torch.randn(32, 9, 5), torch.randn(32, 6, 4)), 16,"
            " collate_fn=lambda rows: [torch.stack(part, 1) for part in zip(*rows)])"),
    ),
    Case(
        "domain_of_full_batch", "LD103", "hard-coded-batch-size", "",
        net("self.net = nn.Linear(10, 2)", "return self.net(x)",
            "(x, _), (z, _) = batch\ndomain = torch.zeros(8, dtype=torch.long)\nreturn F.cross_entropy(self(x), domain)"
            " + self(z).square().mean()",
            "CombinedLoader([loader(torch.randn(19, 10), torch.zeros(19)), loader(torch.randn(64, 10), torch.zeros(64))],"
            " 'min_size')", extra="from pytorch_lightning.utilities import CombinedLoader"),
        "torch.zeros(8,", "torch.zeros(len(x),", r"x\.size\(0\)",
    ),
    Case(
        "channels_for_steps", "LD101", "output-size", "",
        net("self.rnn = nn.GRU(5, 8, batch_first=True)\nself.head = nn.Linear(8, 1)",
            "out, _ = self.rnn(x.flatten(0, 1))\nreturn self.head(out[:, -1]).view(x.shape[0], x.shape[1])", REGRESS,
            "loader(torch.randn(16, 6, 9, 5), torch.randn(16, 9))"),
        "out, _ = self.rnn(x.flatten", "x = x.transpose(1, 2)\n        out, _ = self.rnn(x.flatten",
        r"batch\[0\]\.transpose\(1, 2\)",
    ),
    Case(
        "scores_of_another_vocabulary", "LD101", "last-size", "",
        net("self.embedding, self.head = nn.Embedding(20, 8), nn.Linear(8, 19)",
            "return self.head(self.embedding(x))", "x, y = batch\nreturn F.cross_entropy(self(x).view(-1, 20), y.view(-1))",
            "loader(torch.randint(20, (16, 6)), torch.randint(20, (16, 6)))"),
        "nn.Linear(8, 19)", "nn.Linear(8, 20)", r"20 outputs",
    ),
    Case(
        "bias_of_size_1", "LD101", "sizes-do-not-broadcast", "",
        net("self.one, self.bias = nn.Embedding(20, 8), nn.Embedding(20, 1)",
            "return self.one(x).sum(-1) + self.bias(x)", "x, y = batch\nreturn F.mse_loss(self(x), y)",
            "loader(torch.randint(20, (16, 6)), torch.randn(16, 6))"),
        "self.bias(x)", "self.bias(x).squeeze(-1)", r"squeeze\(-1\)",
    ),
    Case(
        "class_token_of_full_batch", "LD103", "hard-coded-batch-size", "",
        net("self.token = nn.Parameter(torch.zeros(1, 1, 5))\nself.head = nn.Linear(5, 3)",
            "token = self.token.expand(8, -1, -1)\nx = torch.cat([token, x], dim=1)\nreturn self.head(x.mean(1))",
            CLASSIFY, "loader(torch.randn(19, 6, 5), torch.randint(3, (19,)))"),
        "expand(8, -1, -1)", "expand(x.size(0), -1, -1)", r"x\.size\(0\)",
    ),
    Case(
        "hidden_kept_across_steps", "LD112", "kept-across-steps", "",
        net("self.cell = nn.GRUCell(5, 12)\nself.head = nn.Linear(12, 3)\nself.state = torch.zeros(8, 12)",
            "for t in range(x.size(1)):\n    self.state = self.cell(x[:, t], self.state)\nreturn self.head(self.state)",
            CLASSIFY, f"loader({SERIES}, {LABELS})"),
        "return self.head(self.state)", "out = self.head(self.state)\n        self.state = self.state.detach()\n        return out",
        r"self\.state\.detach\(\)",
    ),
    Case(
        "vocabulary_too_small", "LD107", "index-too-large", "embedding",
        net("self.embedding = nn.Embedding(10, 8)\nself.head = nn.Linear(8, 3)",
            "return self.head(self.embedding(x).mean(1))", CLASSIFY, f"loader({TOKENS}, {LABELS})"),
        "nn.Embedding(10, 8)", "nn.Embedding(20, 8)", r"nn\.Embedding\((18|19|20), ",
    ),
    Case(
        "tokens_from_one", "LD107", "index-from-one", "embedding",
        net("self.embedding = nn.Embedding(20, 8)\nself.head = nn.Linear(8, 3)",
            "return self.head(self.embedding(x).mean(1))", CLASSIFY,
            f"loader(torch.arange(96).view(16, 6) % 20 + 1, {LABELS})"),
        "% 20 + 1", "% 20", r"take 1 away",
    ),
    Case(
        "negative_padding", "LD107", "negative-index", "embedding",
        net("self.embedding = nn.Embedding(20, 8)\nself.head = nn.Linear(8, 3)",
            "return self.head(self.embedding(x).mean(1))", CLASSIFY, f"loader({TOKENS} - 1, {LABELS})"),
        "self.embedding(x)", "self.embedding(x.masked_fill(x < 0, 19))",
        r"nn\.Embedding\(21, \.\.\., padding_idx=20\), and batch\[0\]\.masked_fill\(batch\[0\] < 0, 20\)",
    ),
    Case(
        "float_tokens", "LD105", "float-indices", "embedding",
        net("self.embedding = nn.Embedding(20, 8)\nself.head = nn.Linear(8, 3)",
            "return self.head(self.embedding(x).mean(1))", CLASSIFY, f"loader({TOKENS}.float(), {LABELS})"),
        "self.embedding(x)", "self.embedding(x.long())", r"\.long\(\)",
    ),
    Case(
        "sequence_longer_than_positions", "LD107", "positional-length", "position",
        net("self.embedding = nn.Embedding(20, 8)\nself.position = nn.Embedding(4, 8)\nself.head = nn.Linear(8, 3)",
            "at = torch.arange(x.size(1))\nreturn self.head((self.embedding(x) + self.position(at)).mean(1))", CLASSIFY,
            f"loader({TOKENS}, {LABELS})"),
        "nn.Embedding(4, 8)", "nn.Embedding(6, 8)", r"6 positions",
    ),
    Case(
        "learned_positions_too_short", "LD101", "positional-length", "",
        net("self.embedding = nn.Embedding(20, 8)\nself.position = nn.Parameter(torch.zeros(1, 4, 8))\nself.head = nn.Linear(8, 3)",
            "return self.head((self.embedding(x) + self.position).mean(1))", CLASSIFY, f"loader({TOKENS}, {LABELS})"),
        "torch.zeros(1, 4, 8)", "torch.zeros(1, 6, 8)", r"position for 6 positions",
    ),
    Case(
        "learned_positions_too_long", "LD101", "positional-length", "",
        net("self.embedding = nn.Embedding(20, 8)\nself.position = nn.Parameter(torch.zeros(1, 9, 8))\nself.head = nn.Linear(8, 3)",
            "return self.head((self.embedding(x) + self.position).mean(1))", CLASSIFY, f"loader({TOKENS}, {LABELS})"),
        "+ self.position)", "+ self.position[:, :x.size(1)])", r"position\[\.\.\., :",
    ),
    Case(
        "attention_features", "LD101", "embedding-size", "attention",
        net("self.attention = nn.MultiheadAttention(8, 2, batch_first=True)\nself.head = nn.Linear(5, 3)",
            "out, _ = self.attention(x, x, x)\nreturn self.head(out.mean(1))", CLASSIFY, f"loader(torch.randn(16, 6, 4), {LABELS})"),
        "nn.MultiheadAttention(8, 2, batch_first=True)\n        self.head = nn.Linear(5, 3)",
        "nn.MultiheadAttention(4, 2, batch_first=True)\n        self.head = nn.Linear(4, 3)", r"nn\.MultiheadAttention\(4,",
    ),
    Case(
        "attention_mask_shape", "LD101", "attention-mask-shape", "attention",
        net("self.attention = nn.MultiheadAttention(8, 2, batch_first=True)\nself.head = nn.Linear(8, 3)",
            "mask = torch.ones(5, 5).triu(1).bool()\nout, _ = self.attention(x, x, x, attn_mask=mask)\nreturn self.head(out.mean(1))",
            CLASSIFY, f"loader(torch.randn(16, 6, 8), {LABELS})"),
        "torch.ones(5, 5)", "torch.ones(6, 6)", r"\(6, 6\)",
    ),
    Case(
        "attention_mask_dtype", "LD105", "mask-dtype", "attention",
        net("self.attention = nn.MultiheadAttention(8, 2, batch_first=True)\nself.head = nn.Linear(8, 3)",
            "mask = torch.ones(6, 6).triu(1).long()\nout, _ = self.attention(x, x, x, attn_mask=mask)\nreturn self.head(out.mean(1))",
            CLASSIFY, f"loader(torch.randn(16, 6, 8), {LABELS})"),
        ".triu(1).long()", ".triu(1).bool()", r"mask\.bool\(\)",
    ),
    Case(
        "padding_mask_batch_first", "LD101", "batch-first-missing", "attention",
        net("self.attention = nn.MultiheadAttention(8, 2)\nself.head = nn.Linear(8, 3)",
            "mask = torch.zeros(x.size(0), x.size(1)).bool()\nout, _ = self.attention(x, x, x, key_padding_mask=mask)\nreturn self.head(out.mean(1))",
            CLASSIFY, f"loader(torch.randn(16, 6, 8), {LABELS})"),
        "nn.MultiheadAttention(8, 2)", "nn.MultiheadAttention(8, 2, batch_first=True)", r"batch_first=True",
    ),
    Case(
        "scores_of_attention", "LD101", "second-not-transposed", "",
        net("self.q, self.k = nn.Linear(5, 8), nn.Linear(5, 8)\nself.head = nn.Linear(5, 3)",
            "weights = (self.q(x) @ self.k(x)).softmax(-1)\nreturn self.head((weights @ x).mean(1))", CLASSIFY,
            f"loader({SERIES}, {LABELS})"),
        "@ self.k(x)", "@ self.k(x).transpose(-1, -2)", r"transpose\(-1, -2\)",
    ),
    Case(
        "einsum_letters", "LD101", "einsum-sizes", "",
        net("self.w = nn.Parameter(torch.randn(8, 5))\nself.head = nn.Linear(8, 3)",
            "x = torch.einsum('btf,fh->bth', x, self.w)\nreturn self.head(x.mean(1))", CLASSIFY, f"loader({SERIES}, {LABELS})"),
        "btf,fh->bth", "btf,hf->bth", r"letters",
    ),
    Case(
        "logits_over_time", "LD101", "classes-not-in-dimension-1", "",
        net("self.embedding = nn.Embedding(20, 8)\nself.head = nn.Linear(8, 20)", "return self.head(self.embedding(x))",
            "x, y = batch\nreturn F.cross_entropy(self(x), y)", f"loader({TOKENS}, {TOKENS})"),
        "self(x), y", "self(x).transpose(1, 2), y", r"transpose\(1, 2\)",
    ),
    Case(
        "logits_flat_targets_not", "LD101", "target-not-flattened", "",
        net("self.embedding = nn.Embedding(20, 8)\nself.head = nn.Linear(8, 20)", "return self.head(self.embedding(x))",
            "x, y = batch\nlogits = self(x).flatten(0, 1)\nreturn F.cross_entropy(logits, y)", f"loader({TOKENS}, {TOKENS})"),
        "(logits, y)", "(logits, y.flatten())", r"\.flatten\(\)",
    ),
    Case(
        "layer_norm_over_channels", "LD101", "normalised-shape", "norm",
        net("self.norm = nn.LayerNorm(8)\nself.head = nn.Linear(5, 3)", "return self.head(self.norm(x).mean(1))", CLASSIFY,
            f"loader({SERIES}, {LABELS})"),
        "nn.LayerNorm(8)", "nn.LayerNorm(5)", r"nn\.LayerNorm\(5\)",
    ),
    Case(
        "batch_norm_over_time", "LD101", "dimensions-swapped", "norm",
        net("self.norm = nn.BatchNorm1d(5)\nself.head = nn.Linear(5, 3)", "return self.head(self.norm(x).mean(1))", CLASSIFY,
            f"loader({SERIES}, {LABELS})"),
        "self.norm(x)", "self.norm(x.transpose(1, 2)).transpose(1, 2)", r"transpose\(1, 2\)",
    ),
)  # fmt: skip
