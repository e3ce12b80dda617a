"""What the experiments may take: the setting, a share of the plan, a floor; and what is spent is spent."""

import time

import pytest

from lightning_debug import Debugger
from lightning_debug.callbacks._experiment_budget import remaining, spending, spent
from lightning_debug.evidence import RunContext
from lightning_debug.experiments.clock import working_time
from lightning_debug.session import Session
from lightning_debug.settings import Settings, SettingsError


def session(planned=None, **settings):
    made = Session(Settings(**settings))
    made.observe(RunContext(planned_steps=planned))
    return made


@pytest.mark.parametrize(
    ("planned", "step", "seconds"),
    [
        (100, 0.01, 1.0),
        (1000, 0.1, 10.0),
        (10_000, 0.1, 30.0),
        (None, 0.1, 20.0),
        (None, 0.001, 1.0),
        (10_000, None, 1.0),
    ],
)
def test_a_share_of_the_plan_between_floor_and_setting(planned, step, seconds):
    assert remaining(session(planned), step) == pytest.approx(seconds)


def test_what_one_experiment_takes_the_next_has_less_of():
    one = session(100)
    with spending(one):
        with spending(one):
            time.sleep(0.06)
        assert remaining(one, 0.01) <= 0.98
    assert 0.02 <= spent(one) < 0.1
    assert remaining(one, 0.01, keep=0.4) == pytest.approx(0.6 - spent(one))
    assert spent(session(100)) == 0


def test_the_setting(monkeypatch):
    assert remaining(session(experiment_seconds=0), 1.0) == 0
    monkeypatch.setenv("LIGHTNING_DEBUG_EXPERIMENT_SECONDS", "2.5")
    assert Settings.resolve().experiment_seconds == 2.5
    assert Debugger(experiment_seconds=4).settings.experiment_seconds == 4
    for value in ("soon", -1, float("nan"), True, None):
        with pytest.raises(SettingsError, match=r"experiment_seconds=.* must be a number of seconds, 0 or more"):
            Settings(experiment_seconds=value)


def test_what_waits_is_charged_a_third_and_what_computes_is_charged_whole():
    begun, computed = working_time(), time.thread_time()
    while time.thread_time() - computed < 0.05:
        pass
    assert working_time() - begun >= 0.05
    begun = working_time()
    wall = time.monotonic()
    time.sleep(0.1)
    waited = time.monotonic() - wall
    assert waited * 0.3 <= working_time() - begun <= waited * 0.6
