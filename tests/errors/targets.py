"""Programs whose targets do not fit their loss."""

from tests.errors.base import CLASSIFY, LABELS, Case, net

ONE = "self.net = nn.Linear(10, 1)"
THREE = "self.net = nn.Linear(10, 3)"
FORWARD = "return self.net(x)"
TABLE = "torch.randn(16, 10)"
BINARY = "x, y = batch\nreturn F.binary_cross_entropy_with_logits(self(x), y)"

CASES = (
    Case(
        "one_hot_integers", "LD101", "one-hot-target", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, F.one_hot({LABELS}, 3))"),
        "self(x), y", "self(x), y.argmax(dim=1)", r"argmax\(dim=1\)",
    ),
    Case(
        "column_of_labels", "LD101", "target-extra-dimension", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, {LABELS}.unsqueeze(1))"),
        "self(x), y", "self(x), y.squeeze(1)", r"squeeze\(1\)",
    ),
    Case(
        "float_labels", "LD105", "float-labels", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, {LABELS}.float())"),
        "self(x), y", "self(x), y.long()", r"\.long\(\)",
    ),
    Case(
        "labels_cast_in_the_step", "LD105", "float-labels", "",
        net(THREE, FORWARD, CLASSIFY.replace("self(x), y", "self(x), y.float()"), f"loader({TABLE}, {LABELS})"),
        "y.float()", "y", r"Leave out the float\(\) at .*:\d+: class indices",
    ),
    Case(
        "float_column_of_labels", "LD105", "float-labels", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, {LABELS}.float().unsqueeze(1))"),
        "self(x), y", "self(x), y.squeeze(1).long()", r"squeeze\(1\)\.long\(\)",
    ),
    Case(
        "int32_labels", "LD105", "label-dtype", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, {LABELS}.int())"),
        "self(x), y", "self(x), y.long()", r"\.long\(\)",
    ),
    Case(
        "labels_from_one", "LD106", "labels-from-one", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, torch.arange(16) % 3 + 1)"),
        "self(x), y", "self(x), y - 1", r"- 1",
    ),
    Case(
        "more_classes_than_outputs", "LD106", "label-too-large", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, torch.arange(16) % 5)"),
        "nn.Linear(10, 3)", "nn.Linear(10, 5)", r"5 outputs",
    ),
    Case(
        "negative_label", "LD106", "negative-label", "",
        net(THREE, FORWARD, CLASSIFY, f"loader({TABLE}, torch.arange(16) % 4 - 1)"),
        "self(x), y)", "self(x), y, ignore_index=-1)", r"ignore_index=-1",
    ),
    Case(
        "signs_for_labels", "LD106", "negative-label", "",
        net("self.net = nn.Linear(10, 2)", FORWARD, CLASSIFY, f"loader({TABLE}, torch.arange(16) % 2 * 2 - 1)"),
        "self(x), y", "self(x), (y + 1) // 2", r"\(\w.* \+ 1\) // 2",
    ),
    Case(
        "double_class_weights", "LD105", "class-weights-dtype", "criterion",
        net(THREE + "\nself.criterion = nn.CrossEntropyLoss(torch.from_numpy(numpy.ones(3)))", FORWARD,
            "x, y = batch\nreturn self.criterion(self(x), y)", f"loader({TABLE}, {LABELS})"),
        "numpy.ones(3))", "numpy.ones(3)).float()", r"dtype=torch\.float32",
    ),
    Case(
        "nll_module_out_of_range", "LD106", "label-too-large", "criterion",
        net(THREE + "\nself.criterion = nn.NLLLoss()", "return self.net(x).log_softmax(1)",
            "x, y = batch\nreturn self.criterion(self(x), y)", f"loader({TABLE}, torch.arange(16) % 4)"),
        "nn.Linear(10, 3)", "nn.Linear(10, 4)", r"4 outputs",
    ),
    Case(
        "one_hot_function_range", "LD106", "label-too-large", "",
        net(THREE, FORWARD, "x, y = batch\nreturn F.mse_loss(self(x), F.one_hot(y, 3).float())",
            f"loader({TABLE}, torch.arange(16) % 4)"),
        "", "", r"num_classes=4",
    ),
    Case(
        "one_hot_from_one", "LD106", "labels-from-one", "",
        net(THREE, FORWARD, "x, y = batch\nreturn F.mse_loss(self(x), F.one_hot(y, 3).float())",
            f"loader({TABLE}, torch.arange(16) % 3 + 1)"),
        "one_hot(y, 3)", "one_hot(y - 1, 3)", r"batch\[1\] - 1",
    ),
    Case(
        "one_output_for_classes", "LD101", "one-output", "",
        net(ONE, "return self.net(x).squeeze(1)", CLASSIFY, f"loader({TABLE}, torch.randint(2, (16,)))"),
        "F.cross_entropy(self(x), y)", "F.binary_cross_entropy_with_logits(self(x), y.float())", r"binary_cross_entropy_with_logits",
    ),
    Case(
        "binary_column", "LD101", "target-extra-dimension", "",
        net(ONE, FORWARD, BINARY, f"loader({TABLE}, torch.randint(2, (16,)).float())"),
        "self(x), y", "self(x).squeeze(-1), y", r"squeeze\(-1\)",
    ),
    Case(
        "binary_integers", "LD105", "integer-target", "",
        net(ONE, "return self.net(x).squeeze(1)", BINARY, f"loader({TABLE}, torch.randint(2, (16,)))"),
        "self(x), y", "self(x), y.float()", r"\.float\(\)",
    ),
    Case(
        "multi_label_from_indices", "LD101", "indices-for-one-hot", "",
        net(THREE, FORWARD, BINARY, f"loader({TABLE}, {LABELS})"),
        "self(x), y", "self(x), F.one_hot(y, 3).float()", r"one_hot\(.*, 3\)\.float\(\)",
    ),
    Case(
        "bce_on_logits", "LD117", "logits-for-probabilities", "",
        net(ONE, "return 5 * self.net(x).squeeze(1)", "x, y = batch\nreturn F.binary_cross_entropy(self(x), y)",
            f"loader({TABLE}, torch.randint(2, (16,)).float())"),
        "F.binary_cross_entropy(", "F.binary_cross_entropy_with_logits(", r"with_logits",
    ),
    Case(
        "raw_output_for_variance", "LD117", "raw-output-for-variance", "",
        net("self.net = nn.Linear(10, 2)", "return self.net(x).unbind(1)",
            "x, y = batch\nmean, spread = self(x)\nreturn F.gaussian_nll_loss(mean, y, spread)",
            f"loader({TABLE}, torch.randn(16))"),
        "mean, y, spread)", "mean, y, torch.exp(spread))", r"torch\.exp\(spread\)",
    ),
    Case(
        "grey_values_into_bce", "LD117", "targets-outside-probabilities", "",
        net("self.net = nn.Linear(5, 5)", "return self.net(x).sigmoid()",
            "x, y = batch\nreturn F.binary_cross_entropy(self(x), x)",
            f"loader(255 * torch.rand(16, 5), {LABELS})"),
        "self(x), x)", "self(x / 255), x / 255)", r"Divide batch\[0\] by .*\(255\?\)",
    ),
    Case(
        "signs_into_bce", "LD117", "targets-outside-probabilities", "",
        net(ONE, "return self.net(x).squeeze(1).sigmoid()", "x, y = batch\nreturn F.binary_cross_entropy(self(x), y)",
            f"loader({TABLE}, 2.0 * torch.randint(2, (16,)) - 1)"),
        "self(x), y)", "self(x), (y + 1) / 2)", r"\(batch\[1\] \+ 1\) / 2",
    ),
    Case(
        "class_weights", "LD101", "class-weights", "",
        net(THREE + "\nself.register_buffer('weight', torch.ones(4))", FORWARD,
            "x, y = batch\nreturn F.cross_entropy(self(x), y, weight=self.weight)", f"loader({TABLE}, {LABELS})"),
        "torch.ones(4)", "torch.ones(3)", r"3 classes",
    ),
    Case(
        "unlabelled_pixels", "LD106", "label-too-large", "",
        net(THREE, FORWARD, "x, y = batch\nreturn F.cross_entropy(self(x), y)",
            f"loader({TABLE}, torch.where(torch.arange(16) % 5 == 1, 255, torch.arange(16) % 3))"),
        "self(x), y)", "self(x), y, ignore_index=255)", r"ignore_index=255",
    ),
    Case(
        "masks_of_0_and_255", "LD106", "label-too-large", "",
        net("self.net = nn.Linear(10, 2)", FORWARD, "x, y = batch\nreturn F.cross_entropy(self(x), y)",
            f"loader({TABLE}, 255 * (torch.arange(16) % 2))"),
        "self(x), y)", "self(x), (y == 255).long())", r"^Map the labels 0 and 255 to 0 and 1.*\(batch\[1\] == 255\)",
    ),
    Case(
        "labels_from_one_marked", "LD106", "labels-from-one", "",
        net(THREE, "return self.net(x)",
            "x, y = batch\nscores = self(x)\nhot = torch.zeros_like(scores).scatter_(1, y.view(-1, 1), 1)\n"
            "return -(hot * scores.log_softmax(1)).sum(1).mean()", f"loader({TABLE}, 1 + torch.arange(16) % 3)"),
        "1 + torch.arange(16) % 3", "torch.arange(16) % 3", r"- 1, best in the dataset",
    ),
    Case(
        "fewer_predictions", "LD102", "batch-dimension-changed", "",
        net(THREE, "return self.net(x)", "x, y = batch\nlogits = self(x)[::2]\nreturn F.cross_entropy(logits, y)",
            f"loader({TABLE}, {LABELS})"),
        "self(x)[::2]", "self(x)", r"dimension 0",
    ),
)  # fmt: skip
