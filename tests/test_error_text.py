"""A pasted traceback, explained as far as its text allows."""

import io

import pytest

from lightning_debug.cli import main
from lightning_debug.explained import explain_error

TRACEBACK = """Epoch 0:   0%|          | 0/10
Traceback (most recent call last):
  File "examples/train.py", line 30, in <module>
    trainer.fit(model, loader)
  File "/venv/lib/python3.11/site-packages/pytorch_lightning/trainer/trainer.py", line 5, in fit
    call()
  File "examples/train.py", line 20, in training_step
    return F.cross_entropy(self.net(x), y)
  File "/venv/lib/python3.11/site-packages/torch/nn/modules/linear.py", line 125, in forward
    return F.linear(input, self.weight, self.bias)
RuntimeError: mat1 and mat2 shapes cannot be multiplied (896x28 and 784x10)
"""

LAST_LINES = {
    "IndexError: Target 10 is out of bounds.": ("LD106", "0..C-1"),
    "IndexError: index out of range in self": ("LD107", "num_embeddings"),
    "RuntimeError: CUDA error: device-side assert triggered": ("LD106", "CPU"),
    "torch.cuda.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": ("LD108", "batch size"),
    "RuntimeError: element 0 of tensors does not require grad and does not have a grad_fn": ("LD109", "detach"),
    "RuntimeError: grad can be implicitly created only for scalar outputs": ("LD110", "mean()"),
    "RuntimeError: Trying to backward through the graph a second time": ("LD112", "retain_graph"),
    "RuntimeError: stack expects each tensor to be equal size, but got [3] at entry 0 and [5] at entry 1": ("LD101", "pad"),
    "RuntimeError: Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!":
        ("LD104", "device=x.device"),
    "RuntimeError: mat1 and mat2 must have the same dtype, but got Double and Float": ("LD105", ".float()"),
    "RuntimeError: expected scalar type Long but found Float": ("LD105", ".long()"),
    "RuntimeError: Input type (double) and bias type (float) should be the same": ("LD105", ".float()"),
    "ValueError: Expected input batch_size (64) to match target batch_size (32).": ("LD101", "flatten(1)"),
    "ValueError: optimizer got an empty parameter list": ("LD115", "self.parameters()"),
    "RuntimeError: The size of tensor a (8) must match the size of tensor b (9) at non-singleton dimension 1":
        ("LD101", "unsqueeze"),
    "RuntimeError: Given groups=1, weight of size [8, 3, 3, 3], expected input[32, 28, 28, 3] to have 3 channels, but "
    "got 28 channels instead": ("LD101", "permute(0, 3, 1, 2)"),
    "RuntimeError: shape '[32, -1]' is invalid for input of size 999": ("LD101", "999"),
    "RuntimeError: view size is not compatible with input tensor's size and stride": ("LD101", "reshape"),
    "RuntimeError: Found dtype Long but expected Float": ("LD105", "y.float()"),
    "RuntimeError: input.size(-1) must be equal to input_size. Expected 2, got 48": ("LD101", "x.transpose(1, 2)"),
}  # fmt: skip


@pytest.mark.parametrize("line", LAST_LINES, ids=lambda line: line[:50])
def test_a_last_line_is_enough_for_many(line):
    code, words = LAST_LINES[line]
    told = explain_error(line)
    assert code in told
    assert words in told


def test_a_traceback_names_the_users_line():
    told = explain_error(TRACEBACK)
    assert "LD101" in told
    assert "examples/train.py:20: return F.cross_entropy(self.net(x), y)" in told
    assert "flatten(1)" in told


def test_an_unknown_exception_says_so():
    assert "cannot be explained" in explain_error("MyError: no").replace("not one that can be", "cannot be")


def test_from_a_file_and_from_standard_input(tmp_path, capsys, monkeypatch):
    file = tmp_path / "error.txt"
    file.write_text(TRACEBACK, encoding="utf-8")
    assert main(["explain-error", str(file)]) == 0
    first = capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.StringIO(TRACEBACK))
    assert main(["explain-error"]) == 0
    assert capsys.readouterr().out == first
    assert "LD101" in first


@pytest.mark.parametrize("text", ["", "nothing here"])
def test_a_text_without_an_exception_is_refused(text, tmp_path, capsys):
    file = tmp_path / "error.txt"
    file.write_text(text, encoding="utf-8")
    assert main(["explain-error", str(file)]) == 2
    assert "no exception" in capsys.readouterr().err


def test_a_missing_file_is_refused(capsys):
    assert main(["explain-error", "/nowhere/error.txt"]) == 2
    assert "nowhere" in capsys.readouterr().err
