"""Programs about images."""

from tests.errors.base import CLASSIFY, LABELS, Case, net

CASES = (
    Case(
        "flatten_missing", "LD101", "flatten-missing", "net.0",
        net("self.net = nn.Sequential(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 3))", "return self.net(x)", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "return self.net(x)", "return self.net(x.flatten(1))", r"flatten\(1\)",
    ),
    Case(
        "flatten_missing_functional", "LD101", "flatten-missing", "",
        net("self.w = nn.Parameter(torch.randn(3, 192))", "return F.linear(x, self.w)", CLASSIFY,
            f"loader(torch.randn(16, 3, 8, 8), {LABELS})"),
        "F.linear(x, self.w)", "F.linear(x.flatten(1), self.w)", r"flatten\(1\)",
    ),
    Case(
        "flatten_missing_and_features_too_many", "LD101", "flatten-missing", "net.2",
        net("self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.MaxPool2d(2), nn.Linear(40, 3))", "return self.net(x)", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.Linear(40, 3)", "nn.Flatten(), nn.Linear(36, 3)", r"flatten\(1\).*nn\.Linear\(36, 3\)",
    ),
    Case(
        "wrong_features_after_convolution", "LD101", "in-features", "head",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(100, 3)",
            "x = F.relu(self.conv(x)).flatten(1)\nreturn self.head(x)", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.Linear(100, 3)", "nn.Linear(144, 3)", r"nn\.Linear\(144, 3\)",
    ),
    Case(
        "channels_last", "LD101", "channels-last", "conv",
        net("self.conv = nn.Conv2d(3, 4, 3)\nself.head = nn.Linear(4, 3)",
            "x = self.conv(x)\nreturn self.head(x.mean((2, 3)))", CLASSIFY,
            f"loader(torch.randn(16, 8, 8, 3), {LABELS})"),
        "self.conv(x)", "self.conv(x.permute(0, 3, 1, 2))", r"permute\(0, 3, 1, 2\)",
    ),
    Case(
        "channel_dimension_missing", "LD101", "channel-dimension-missing", "features.0",
        net("self.features = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())\n"
            "self.head = nn.Linear(4, 3)", "return self.head(self.features(x))", CLASSIFY,
            f"loader(torch.randn(16, 8, 8), {LABELS})"),
        "self.features(x)", "self.features(x.unsqueeze(1))", r"unsqueeze\(1\)",
    ),
    Case(
        "in_channels", "LD101", "in-channels", "second",
        net("self.first = nn.Conv2d(1, 4, 3)\nself.second = nn.Conv2d(8, 8, 3)\nself.head = nn.Linear(8, 3)",
            "x = self.second(self.first(x))\nreturn self.head(x.mean((2, 3)))", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.Conv2d(8, 8, 3)", "nn.Conv2d(4, 8, 3)", r"nn\.Conv2d\(4, 8, 3\)",
    ),
    Case(
        "grey_into_rgb", "LD101", "in-channels", "conv",
        net("self.conv = nn.Conv2d(3, 4, 3)\nself.head = nn.Linear(4, 3)",
            "return self.head(self.conv(x).amax((2, 3)))", CLASSIFY, f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.Conv2d(3, 4, 3)", "nn.Conv2d(1, 4, 3)", r"nn\.Conv2d\(1, 4, 3\)",
    ),
    Case(
        "flattened_too_early", "LD101", "flattened-too-early", "conv",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(4, 3)",
            "x = x.flatten(1)\nreturn self.head(self.conv(x).mean((2, 3)))", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "x = x.flatten(1)\n", "pass\n", r"flatten",
    ),
    Case(
        "video_into_conv2d", "LD101", "too-many-dimensions", "conv",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(4, 3)",
            "x = self.conv(x)\nreturn self.head(x.mean((2, 3)))", CLASSIFY,
            f"loader(torch.randn(16, 5, 1, 8, 8), {LABELS})"),
        "x = self.conv(x)", "x = self.conv(x.flatten(0, 1)).unflatten(0, (-1, 5)).mean(1)", r"flatten\(0, 1\)",
    ),
    Case(
        "pooled_away", "LD101", "input-too-small", "conv2",
        net("self.conv1 = nn.Conv2d(1, 4, 3)\nself.conv2 = nn.Conv2d(4, 4, 5)\nself.head = nn.Linear(4, 3)",
            "x = F.max_pool2d(self.conv1(x), 2)\nreturn self.head(self.conv2(x).mean((2, 3)))", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.Conv2d(4, 4, 5)", "nn.Conv2d(4, 4, 5, padding=2)", r"padding",
    ),
    Case(
        "conv1d_without_channel", "LD101", "channel-dimension-missing", "conv",
        net("self.conv = nn.Conv1d(1, 4, 3)\nself.head = nn.Linear(4, 3)",
            "return self.head(self.conv(x).mean(2))", CLASSIFY, f"loader(torch.randn(16, 20), {LABELS})"),
        "self.conv(x)", "self.conv(x.unsqueeze(1))", r"unsqueeze\(1\)",
    ),
    Case(
        "conv1d_time_first", "LD101", "channels-last", "conv",
        net("self.conv = nn.Conv1d(6, 4, 3)\nself.head = nn.Linear(4, 3)",
            "return self.head(self.conv(x).mean(2))", CLASSIFY, f"loader(torch.randn(16, 20, 6), {LABELS})"),
        "self.conv(x)", "self.conv(x.transpose(1, 2))", r"transpose\(1, 2\)",
    ),
    Case(
        "batch_norm_features", "LD101", "norm-features", "body.1",
        net("self.body = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(8), nn.ReLU())\nself.head = nn.Linear(4, 3)",
            "return self.head(self.body(x).mean((2, 3)))", CLASSIFY, f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.BatchNorm2d(8)", "nn.BatchNorm2d(4)", r"nn\.BatchNorm2d\(4\)",
    ),
    Case(
        "batch_norm_2d_after_flatten", "LD101", "norm-dimensions", "norm",
        net("self.norm = nn.BatchNorm2d(64)\nself.head = nn.Linear(64, 3)",
            "return self.head(self.norm(x.flatten(1)))", CLASSIFY, f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.BatchNorm2d(64)", "nn.BatchNorm1d(64)", r"nn\.BatchNorm1d\(64\)",
    ),
    Case(
        "skip_connection", "LD101", "sizes-do-not-broadcast", "",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.skip = nn.Conv2d(1, 4, 1)\nself.head = nn.Linear(4, 3)",
            "x = self.conv(x) + self.skip(x)\nreturn self.head(x.mean((2, 3)))", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "nn.Conv2d(1, 4, 3)", "nn.Conv2d(1, 4, 3, padding=1)", r"one size in dimension 2: 6 and 8",
    ),
    Case(
        "unet_join", "LD101", "unequal-parts", "",
        net("self.down = nn.Conv2d(1, 4, 3, stride=2, padding=1)\nself.up = nn.ConvTranspose2d(4, 4, 2, stride=2)\n"
            "self.head = nn.Linear(5, 3)",
            "low = self.up(self.down(x))\nx = torch.cat([x, low], dim=1)\nreturn self.head(x.mean((2, 3)))", CLASSIFY,
            f"loader(torch.randn(16, 1, 9, 9), {LABELS})"),
        "torch.cat([x, low], dim=1)", "torch.cat([x, low[:, :, :9, :9]], dim=1)", r"crop",
    ),
    Case(
        "view_changes_batch", "LD102", "batch-dimension-changed", "",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(72, 3)",
            "x = F.relu(self.conv(x))\nx = x.view(-1, 72)\nreturn self.head(x)", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "x.view(-1, 72)\n        return self.head(x)", "x.flatten(1)\n        return self.head(x.view(-1, 2, 72).mean(1))",
        r"flatten\(1\)",
    ),
    Case(
        "view_does_not_divide", "LD101", "features-per-sample", "",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(144, 3)",
            "x = F.relu(self.conv(x))\nx = x.view(-1, 100)\nreturn self.head(x)", CLASSIFY,
            "loader(torch.randn(14, 1, 8, 8), torch.randint(3, (14,)), batch_size=7)"),
        "x.view(-1, 100)", "x.view(x.size(0), -1)", r"x\.size\(0\), -1",
    ),
    Case(
        "view_hard_coded", "LD103", "hard-coded-batch-size", "",
        net("self.conv = nn.Conv2d(1, 4, 3)\nself.head = nn.Linear(144, 3)",
            "x = F.relu(self.conv(x))\nx = x.view(32, 144)\nreturn self.head(x)", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "x.view(32, 144)", "x.view(x.size(0), 144)", r"size\(0\)",
    ),
    Case(
        "view_after_permute", "LD101", "not-contiguous", "",
        net("self.head = nn.Linear(192, 3)", "return self.head(x.permute(0, 3, 1, 2).view(x.size(0), -1))", CLASSIFY,
            f"loader(torch.randn(16, 8, 8, 3), {LABELS})"),
        ".view(x.size(0), -1)", ".reshape(x.size(0), -1)", r"reshape",
    ),
    Case(
        "views_joined_along_batch", "LD102", "batch-dimension-changed", "",
        net("self.a = nn.Linear(64, 8)\nself.b = nn.Linear(64, 8)\nself.head = nn.LazyLinear(3)",
            "x = x.flatten(1)\nx = torch.cat([self.a(x), self.b(x)])\nreturn self.head(x)", CLASSIFY,
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})").replace("fit(Net()", "model = Net()\nmodel(torch.randn(2, 1, 8, 8))\nfit(model"),
        "torch.cat([self.a(x), self.b(x)])", "torch.cat([self.a(x), self.b(x)], dim=1)", r"dim=1",
    ),
    Case(
        "validation_only", "LD101", "flatten-missing", "net",
        net("self.net = nn.Linear(64, 3)", "return self.net(x)",
            "x, y = batch\nreturn F.cross_entropy(self(x.flatten(1)), y)",
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})",
            "    def validation_step(self, batch, batch_idx):\n        x, y = batch\n"
            "        self.log('val_loss', F.cross_entropy(self(x), y))\n",
            f"loader(torch.randn(16, 1, 8, 8), {LABELS})"),
        "F.cross_entropy(self(x), y))", "F.cross_entropy(self(x.flatten(1)), y))", r"flatten\(1\)",
    ),
)  # fmt: skip
