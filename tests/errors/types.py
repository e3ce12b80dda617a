"""Programs whose tensors are of the wrong dtype, or on another device."""

from tests.errors.base import CLASSIFY, LABELS, Case, net

CASES = (
    Case(
        "double_input", "LD105", "double-input", "net",
        net("self.net = nn.Linear(10, 3)", "return self.net(x)", CLASSIFY,
            f"loader(torch.from_numpy(numpy.random.rand(16, 10)), {LABELS})"),
        "self.net(x)", "self.net(x.float())", r"\.float\(\)",
    ),
    Case(
        "double_images", "LD105", "double-input", "conv",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(4, 3)", "return self.head(self.conv(x).mean((2, 3)))", CLASSIFY,
            f"loader(torch.rand(16, 1, 8, 8, dtype=torch.float64), {LABELS})"),
        "self.conv(x)", "self.conv(x.float())", r"\.float\(\)",
    ),
    Case(
        "double_series", "LD105", "double-input", "rnn",
        net("self.rnn = nn.LSTM(5, 12, batch_first=True)\nself.head = nn.Linear(12, 3)",
            "out, _ = self.rnn(x)\nreturn self.head(out[:, -1])", CLASSIFY, f"loader(torch.rand(16, 6, 5).double(), {LABELS})"),
        "self.rnn(x)", "self.rnn(x.float())", r"\.float\(\)",
    ),
    Case(
        "bytes_into_convolution", "LD105", "integer-input", "conv",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(4, 3)", "return self.head(self.conv(x).mean((2, 3)))", CLASSIFY,
            f"loader(torch.randint(255, (16, 1, 8, 8), dtype=torch.uint8), {LABELS})"),
        "self.conv(x)", "self.conv(x.float() / 255)", r"\.float\(\)",
    ),
    Case(
        "integers_into_linear", "LD105", "integer-input", "net.0",
        net("self.net = nn.Sequential(nn.Linear(10, 8), nn.ReLU(), nn.Linear(8, 3))", "return self.net(x)", CLASSIFY,
            f"loader(torch.randint(9, (16, 10)), {LABELS})"),
        "self.net(x)", "self.net(x.float())", r"\.float\(\)",
    ),
    Case(
        "half_input", "LD105", "half-input", "net",
        net("self.net = nn.Linear(10, 3)", "return self.net(x)", CLASSIFY, f"loader(torch.randn(16, 10).half(), {LABELS})"),
        "self.net(x)", "self.net(x.float())", r"\.float\(\)",
    ),
    Case(
        "double_in_matmul", "LD105", "double-input", "",
        net("self.w = nn.Parameter(torch.randn(10, 3))", "return x @ self.w", CLASSIFY,
            f"loader(torch.randn(16, 10).double(), {LABELS})"),
        "x @ self.w", "x.float() @ self.w", r"\.float\(\)",
    ),
    Case(
        "mean_of_integers", "LD105", "integer-input", "",
        net("self.net = nn.Linear(10, 3)", "return self.net(x - x.mean(0))", CLASSIFY, f"loader(torch.randint(9, (16, 10)), {LABELS})"),
        "x - x.mean(0)", "x.float() - x.float().mean(0)", r"\.float\(\)",
    ),
    Case(
        "gather_floats", "LD105", "float-indices", "",
        net("self.net = nn.Linear(10, 3)", "return self.net(x).log_softmax(1)",
            "x, y = batch\nreturn -self(x).gather(1, y.unsqueeze(1)).mean()", f"loader(torch.randn(16, 10), {LABELS}.float())"),
        "y.unsqueeze(1)", "y.long().unsqueeze(1)", r"\.long\(\)",
    ),
    Case(
        "attribute_stays_behind", "LD104", "not-a-buffer", "",
        net("self.net = nn.Linear(10, 3)\nself.scale = torch.ones(10, device='meta')", "return self.net(x * self.scale)", CLASSIFY,
            f"loader(torch.randn(16, 10), {LABELS})"),
        "self.scale = torch.ones(10, device='meta')", "self.register_buffer('scale', torch.ones(10))", r'register_buffer\("scale"',
    ),
    Case(
        "list_stays_behind", "LD104", "not-a-buffer", "",
        net("self.net = nn.Linear(10, 3)\nself.scales = [torch.ones(10, device='meta')]", "return self.net(x * self.scales[0])",
            CLASSIFY, f"loader(torch.randn(16, 10), {LABELS})"),
        "device='meta'", "device='cpu'", r'each item of self\.scales.*register_buffer\(f"scales_\{i\}"',
    ),
    Case(
        "made_on_another_device", "LD104", "made-on-other-device", "",
        net("self.net = nn.Linear(10, 3)",
            "noise = torch.zeros(x.size(0), 10, device='meta')\nreturn self.net(x + noise)", CLASSIFY,
            f"loader(torch.randn(16, 10), {LABELS})"),
        "device='meta'", "device=self.device", r"device=self\.device",
    ),
    Case(
        "layers_in_a_list", "LD104", "unregistered-modules", "",
        net("self.first = nn.Linear(10, 10)\nself.layers = [nn.Linear(10, 10, device='meta')]\nself.head = nn.Linear(10, 3)",
            "x = self.first(x)\nfor one in self.layers:\n    x = one(x)\nreturn self.head(x)", CLASSIFY,
            f"loader(torch.randn(16, 10), {LABELS})"),
        "[nn.Linear(10, 10, device='meta')]", "nn.ModuleList([nn.Linear(10, 10)])", r"nn\.ModuleList",
    ),
    Case(
        "target_on_another_device", "LD104", "made-on-other-device", "",
        net("self.net = nn.Linear(10, 1)", "return self.net(x)",
            "x, y = batch\ny = y.to('meta')\nreturn ((self(x) - y) ** 2).mean()", "loader(torch.randn(16, 10), torch.randn(16, 1))"),
        "y = y.to('meta')", "y = y.to(self.device)", r"device",
    ),
    Case(
        "part_of_model_moved", "LD104", "part-of-model-moved", "net",
        net("self.net = nn.Linear(10, 3)", "return self.net.to('meta')(x)", CLASSIFY, f"loader(torch.randn(16, 10), {LABELS})"),
        ".to('meta')", "", r"no \.to",
    ),
)  # fmt: skip
