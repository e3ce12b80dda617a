"""What is said inside an isolation is neither heard nor missing later, whatever the program's own filters are."""

import logging
import warnings

import pytest

from lightning_debug.experiments._surroundings import silence

FILTERS = {
    "default": [("default", UserWarning)],
    "once": [("once", UserWarning)],
    "errors of others": [("default", UserWarning), ("error", DeprecationWarning)],
    "once, and errors of others": [("error", DeprecationWarning), ("once", UserWarning)],
}


def speak(kind=UserWarning):
    warnings.warn("as always", kind, stacklevel=1)


def heard(calls):
    """How many of some calls show a warning, by a program that has not shown it before."""
    globals().get("__warningregistry__", {}).clear()
    getattr(warnings, "onceregistry", {}).clear()
    shown = []
    show, warnings.showwarning = warnings.showwarning, lambda *arguments, **_: shown.append(arguments)
    try:
        for call in calls:
            call()
    finally:
        warnings.showwarning = show
    return len(shown)


def silently():
    with silence():
        print("nobody sees this")
        logging.getLogger("program").error("nor this")
        speak()


@pytest.mark.parametrize("name", FILTERS)
def test_a_warning_is_shown_as_if_nothing_had_run(name, capsys, caplog):
    with warnings.catch_warnings():
        warnings.resetwarnings()
        for action, category in FILTERS[name]:
            warnings.simplefilter(action, category)
        before = list(warnings.filters)
        assert heard([silently]) == 0
        assert heard([silently, speak, speak]) == heard([speak, speak]) == 1
        assert heard([speak, silently, speak]) == 1
        assert list(warnings.filters) == before
    assert capsys.readouterr().out == ""
    assert not caplog.records


def test_a_warning_that_the_program_makes_an_error_of_is_one_inside_too():
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)
        with pytest.raises(DeprecationWarning), silence():
            speak(DeprecationWarning)


class Loud(logging.Logger):
    """A logger that handles records its own way, as absl's does."""

    def handle(self, record):
        self.heard = [*getattr(self, "heard", ()), record.getMessage()]
        super().handle(record)


def test_loggers_of_any_class_are_heard_again_afterwards(caplog):
    own, plain = Loud("of a class of its own"), logging.getLogger("plain")
    own.addHandler(caplog.handler)
    for logger in (own, plain):
        logger.warning("before")
    with silence():
        own.critical("inside")
        plain.critical("inside")
        logging.disable(logging.ERROR)
    for logger in (own, plain):
        logger.warning("after")
    assert own.heard == ["before", "after"]
    assert [record.getMessage() for record in caplog.records] == ["before", "before", "after", "after"]
    assert logging.root.manager.disable == logging.NOTSET
