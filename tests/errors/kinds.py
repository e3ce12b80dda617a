"""Programs that pass a value of another kind."""

from tests.errors.base import CLASSIFY, LABELS, Case, net

DATA = f"loader(torch.randn(16, 5), {LABELS})"
LAYER = "self.net = nn.Linear(5, 3)"
ARRAYS = """
def coll(items):
    return numpy.stack([x.numpy() for x, _ in items]), torch.tensor([y for _, y in items])
"""

CASES = (
    Case(
        "loss_made_of_tensors", "LD120", "module-made-for-called", "",
        net(LAYER, "return self.net(x)", "x, y = batch\nreturn nn.CrossEntropyLoss(self(x), y)", DATA),
        "nn.CrossEntropyLoss(self(x), y)", "nn.CrossEntropyLoss()(self(x), y)", r"nn\.CrossEntropyLoss\(\)\(self\(x\), y\)",
    ),
    Case(
        "parameters_not_called", "LD120", "method-for-value", "",
        net(LAYER, "return self.net(x)",
            CLASSIFY + "\n\ndef configure_optimizers(self):\n    return torch.optim.SGD(self.net.parameters, lr=0.1)",
            DATA).replace("        def configure_optimizers", "    def configure_optimizers").replace(
                "            return torch.optim", "        return torch.optim"),
        "self.net.parameters,", "self.net.parameters(),", r"self\.net\.parameters\(\)",
    ),
    Case(
        "arrays_in_the_batch", "LD120", "array-for-tensor", "net",
        net(LAYER, "return self.net(x)", CLASSIFY,
            "DataLoader([(torch.randn(5), n % 3) for n in range(8)], batch_size=4, collate_fn=coll)", ARRAYS),
        "numpy.stack([x.numpy() for x, _ in items])", "torch.as_tensor(numpy.stack([x.numpy() for x, _ in items]))",
        r"torch\.as_tensor",
    ),
    Case(
        "shape_called", "LD120", "shape-called", "",
        net(LAYER, "return self.net(x.reshape(x.shape(0), -1))", CLASSIFY, DATA),
        "x.shape(0)", "x.shape[0]", r"x\.shape\[0\]",
    ),
    Case(
        "size_indexed", "LD120", "size-indexed", "",
        net(LAYER, "return self.net(x.reshape(x.size[0], -1))", CLASSIFY, DATA),
        "x.size[0]", "x.size(0)", r"x\.size\(0\)",
    ),
)  # fmt: skip
