"""Programs that load weights which do not fit."""

from tests.errors.base import CLASSIFY, LABELS, Case, net

WEIGHTS = """
saved = {"epoch": 3, "state_dict": {f"net.{key}": value for key, value in nn.Linear(5, 3).state_dict().items()}}
"""


def loading(state: str) -> str:
    """A program that loads weights in its setup hook."""
    return WEIGHTS + net(
        "self.net = nn.Linear(5, 3)", "return self.net(x)", CLASSIFY, f"loader(torch.randn(16, 5), {LABELS})"
    ).replace(
        "    def forward", f"    def setup(self, stage):\n        self.net.load_state_dict({state})\n\n    def forward"
    )


CASES = (
    Case(
        "weights_of_the_whole_module",
        "LD119",
        "names-with-prefix",
        "net",
        loading("saved['state_dict']"),
        "saved['state_dict']",
        "{k.removeprefix('net.'): v for k, v in saved['state_dict'].items()}",
        r"removeprefix\('net\.'\)",
    ),
    Case(
        "whole_checkpoint",
        "LD119",
        "whole-checkpoint",
        "",
        loading("saved").replace("self.net.load", "self.load"),
        "load_state_dict(saved)",
        "load_state_dict(saved['state_dict'])",
        r"checkpoint\['state_dict'\]",
    ),
    Case(
        "weights_of_a_part",
        "LD119",
        "names-of-a-part",
        "",
        loading("nn.Linear(5, 3).state_dict()").replace("self.net.load", "self.load"),
        "self.load_state",
        "self.net.load_state",
        r"net\.load_state_dict",
    ),
    Case(
        "head_of_other_classes",
        "LD119",
        "other-shapes",
        "net",
        loading("nn.Linear(5, 4).state_dict()"),
        "nn.Linear(5, 4)",
        "nn.Linear(5, 3)",
        "sizes it was saved with",
    ),
    Case(
        "other_architecture",
        "LD119",
        "other-names",
        "net",
        loading("nn.GRUCell(5, 3).state_dict()"),
        "nn.GRUCell(5, 3)",
        "nn.Linear(5, 3)",
        "strict=False",
    ),
)
