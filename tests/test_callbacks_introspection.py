"""Every public callback, found by introspection, through everything that happens to a callback."""

import copy
import gc
import inspect
import json
import pickle
import types
import typing
import weakref

import docstring_parser
import lightning.pytorch
import pytest
import pytorch_lightning
import torch

import lightning_debug
from lightning_debug import DebugCallback, Debugger
from lightning_debug.debugger import PARTS
from tests.healthy import assert_same, fit, instruments, make_loaders, make_model, make_trainer, seed, trace_of
from tests.helpers import alarms

CALLBACKS = [
    kind
    for name in lightning_debug.__all__
    if isinstance(kind := getattr(lightning_debug, name), type)
    and issubclass(kind, DebugCallback)
    and kind is not DebugCallback
]
ALWAYS = (Debugger, lightning_debug.NonFiniteGuard)
"""Callbacks that run by default: all parts as one, and one of them. The others by themselves are slow."""

every_callback = pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, marks=() if kind in ALWAYS else pytest.mark.slow) for kind in CALLBACKS],
    ids=lambda kind: kind.__name__,
)


@pytest.fixture(autouse=True)
def _strict(monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_STRICT", "1")
    monkeypatch.setenv("LIGHTNING_DEBUG_CONSOLE", "0")


@pytest.fixture(scope="module")
def bare():
    """The run without any callback of ours."""
    return fit()


def test_every_part_is_public():
    assert set(PARTS) < set(CALLBACKS)


@every_callback
def test_alone_it_changes_nothing_and_finds_nothing(kind, bare):
    callback = kind()
    assert callback.report.findings == ()
    assert_same(bare, fit(callback))
    assert callback.report.status == "finished"
    assert not alarms(callback.report)
    assert callback.report.context.optimizers == ("Adam",)


@every_callback
@pytest.mark.parametrize("first", [True, False])
def test_beside_a_debugger_it_takes_its_part(kind, first, bare):
    callback, debugger = kind(), Debugger()
    assert_same(bare, fit(*([callback, debugger] if first else [debugger, callback])))
    leader = callback if kind is Debugger and first else debugger
    assert leader.report.status == "finished"
    assert not alarms(leader.report)
    assert kind is Debugger or callback.session is debugger.session
    assert not any(isinstance(part, kind) for part in debugger._active if kind in PARTS)


@every_callback
def test_two_instances(kind, bare):
    first, second = kind(), kind()
    assert_same(bare, fit(first, second))
    assert not alarms(first.report)
    assert not alarms(second.report)


@every_callback
def test_under_the_other_package(kind):
    callback = kind()
    assert_same(fit(package=lightning.pytorch), fit(callback, package=lightning.pytorch))
    assert callback.report.status == "finished"
    assert not alarms(callback.report)


@every_callback
def test_fit_twice_and_in_a_second_trainer(kind):
    callback = kind()
    model, loaders = make_model(), make_loaders()
    trainer = make_trainer(callback, max_epochs=1)
    trainer.fit(model, *loaders)
    before, session = instruments(trainer, model), callback.session
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, *loaders)
    assert callback.session is not session
    assert callback.report.status == "finished"
    assert callback.report.context.resumed
    make_trainer(callback, max_epochs=1).fit(make_model(), *make_loaders())
    assert callback.report.status == "finished"
    assert not callback.report.context.resumed
    assert not alarms(callback.report)
    assert instruments(trainer, model) == before


@every_callback
@pytest.mark.parametrize("stage", ["validate", "test", "predict"])
def test_without_fit(kind, stage):
    model, (train, val) = make_model(), make_loaders()
    callback = kind()
    trainer, plain, other = make_trainer(callback), make_trainer(), make_model()
    options = {} if stage == "predict" else {"verbose": False}
    seed()
    outcome = getattr(trainer, stage)(model, val, **options)
    seed()
    assert_same(outcome, getattr(plain, stage)(other, val, **options))
    assert_same({**instruments(trainer, model), "callbacks": 0}, {**instruments(plain, other), "callbacks": 0})
    assert callback.report.status == "finished"
    assert not alarms(callback.report)
    trainer.fit(model, train, val)
    assert callback.report.status == "finished"
    assert not alarms(callback.report)


@pytest.mark.filterwarnings("ignore:LRRangeFinder makes no experiment")
@every_callback
@pytest.mark.parametrize("at", [0, 3], ids=["first batch", "fourth batch"])
def test_an_exception_in_training_is_the_users_own(kind, at, tmp_path, monkeypatch):
    monkeypatch.setenv("LIGHTNING_DEBUG_REPORT_DIR", str(tmp_path / "report"))
    error = ArithmeticError("of the user")
    model = make_model(fail_at=at, error=error)
    callback = kind()
    trainer, plain, other = make_trainer(callback), make_trainer(), make_model(fail_at=at, error=error)
    with pytest.raises(ArithmeticError, match="of the user"):
        plain.fit(other, *make_loaders())
    with pytest.raises(ArithmeticError, match="of the user") as caught:
        trainer.fit(model, *make_loaders())
    assert caught.value is error
    assert callback.report.status == "failed: ArithmeticError: of the user"
    report = json.loads((tmp_path / "report" / "report.json").read_text(encoding="utf-8"))
    assert "of the user" in json.dumps(report)
    assert "of the user" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert_same({**instruments(trainer, model), "callbacks": 0}, {**instruments(plain, other), "callbacks": 0})


@every_callback
def test_interrupted(kind):
    callback = kind()
    with pytest.raises(SystemExit):
        make_trainer(callback).fit(make_model(fail_at=2, error=KeyboardInterrupt()), *make_loaders())
    assert callback.report.status == "interrupted"


@every_callback
def test_resumed_from_a_checkpoint(kind, tmp_path):
    def resumed(*callbacks):
        model = make_model()
        seed()
        trainer = make_trainer(*callbacks, max_epochs=2)
        trainer.fit(model, *make_loaders(), ckpt_path=path)
        return trace_of(trainer, model)

    model, callback = make_model(), kind()
    trainer = make_trainer(callback, max_epochs=1)
    trainer.fit(model, *make_loaders())
    path = str(tmp_path / "one.ckpt")
    trainer.save_checkpoint(path)
    saved = torch.load(path, weights_only=False)
    own = {"lightning_debug.EarlyStoppingSelector"} if kind is lightning_debug.EarlyStoppingSelector else set()
    assert {key for key in saved if "lightning_debug" in key} == own
    assert "lightning_debug" not in str({key: saved[key] for key in saved.keys() - {"state_dict", *own}})
    assert callback.state_dict() == {}
    again = kind()
    assert_same(resumed(), resumed(again))
    assert again.report.context.resumed
    assert not alarms(again.report)


@every_callback
def test_pickled_before_and_after(kind, bare):
    callback = pickle.loads(pickle.dumps(kind()))
    assert_same(bare, fit(callback))
    again = pickle.loads(pickle.dumps(callback))
    assert again.report == callback.report
    assert again.report.status == "finished"
    assert_same(bare, fit(again))


@every_callback
def test_copied_with_its_trainer(kind, bare):
    trainer = make_trainer(kind())
    copied = copy.deepcopy(trainer.callbacks)
    assert_same(bare, fit(*copied))
    trainer.fit(make_model(), *make_loaders())
    assert_same(bare, fit(*copy.deepcopy(trainer.callbacks)))
    assert [type(item) for item in copy.copy(trainer.callbacks)] == [kind]


@every_callback
def test_pickled_in_the_middle_of_training(kind):
    class Spawner(pytorch_lightning.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            pickle.loads(pickle.dumps([item for item in trainer.callbacks if isinstance(item, DebugCallback)]))
            copy.deepcopy(pl_module)

    callback = kind()
    make_trainer(callback, Spawner(), max_epochs=1).fit(make_model(), *make_loaders())
    assert callback.report.status == "finished"


@every_callback
def test_nothing_is_left_behind(kind):
    callback, model = kind(), make_model()
    trainer, plain = make_trainer(callback), make_trainer()
    trainer.fit(model, *make_loaders())
    other = make_model()
    plain.fit(other, *make_loaders())
    left, expected = instruments(trainer, model), instruments(plain, other)
    assert left.pop("callbacks") == [kind.__name__]
    expected.pop("callbacks")
    assert_same(left, expected)
    dead = [weakref.ref(model), weakref.ref(trainer), weakref.ref(model.net[0].weight)]
    del trainer, model
    gc.collect()
    assert [item() for item in dead] == [None] * 3, "the callback keeps the run's objects alive"
    assert callback.report.status == "finished"


@pytest.mark.filterwarnings("ignore:LRRangeFinder makes no experiment")
@every_callback
@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
@pytest.mark.parametrize("option", ["fast_dev_run", "barebones"])
def test_where_nothing_may_be_written(kind, option, tmp_path, capsys):
    callback = kind()
    quiet = {} if option == "fast_dev_run" else dict.fromkeys(
        ("enable_progress_bar", "enable_checkpointing", "enable_model_summary", "logger"))  # fmt: skip
    capsys.readouterr()
    trainer = make_trainer(callback, default_root_dir=str(tmp_path), **{option: True}, **quiet)
    trainer.fit(make_model(), *make_loaders())
    assert not list(tmp_path.rglob("report.*"))
    assert not alarms(callback.report)


PRIMITIVES = (bool, int, float, str, type(None))


def is_primitive(annotation):
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return all(isinstance(item, PRIMITIVES) for item in arguments)
    if origin in (typing.Union, types.UnionType, list, dict, tuple):
        return all(item is Ellipsis or is_primitive(item) for item in arguments)
    return annotation in PRIMITIVES


@every_callback
def test_a_command_line_can_set_every_argument(kind):
    hints = typing.get_type_hints(kind.__init__)
    parameters = [item for item in inspect.signature(kind).parameters.values() if item.name != "self"]
    documented = {item.arg_name: item.description for item in docstring_parser.parse(kind.__doc__).params}
    assert [item.name for item in parameters] == list(documented), "Args in the class docstring, in order"
    for item in parameters:
        assert item.kind is item.POSITIONAL_OR_KEYWORD or item.kind is item.KEYWORD_ONLY, item
        assert is_primitive(hints[item.name]), f"{item.name}: {hints[item.name]}"
        assert is_primitive(type(item.default)) or item.default in ((), {}), (
            f"{item.name} has a default that is no literal"
        )
        assert documented[item.name], item.name


@pytest.mark.parametrize("annotation", [torch.Tensor, list[torch.Tensor], typing.Callable, object])
def test_the_annotation_check_can_fail(annotation):
    assert not is_primitive(annotation)
