"""LD601 on plain evidence: a loss that soars in every order is proof of its own."""

import math

import pytest

from lightning_debug.evidence import Unavailable
from lightning_debug.evidence.curves import CurveReading, LossKind, ReferenceLoss, TrainingCourse, ValidationCourse
from lightning_debug.evidence.lr_range import EarlyLosses, LRContest, LRRange, LRTrial
from lightning_debug.evidence.optimization import GroupUpdate, UpdateAudit
from lightning_debug.experiments.lr_contest import far_better, glance
from lightning_debug.experiments.lr_trials import Budget, Plan
from lightning_debug.finding import Claim, Skip
from lightning_debug.record import Record
from lightning_debug.rules.ld601_learning_rate_too_high import learning_rate_too_high
from lightning_debug.rules.ld602_learning_rate_too_low import learning_rate_too_low


def claims(**given):
    contest = LRContest(other=0.1, steps=33, start=2.3, **given)
    return list(learning_rate_too_high(Record([LRRange(in_use=1.0, name="AdamW", contest=contest)])))


@pytest.mark.parametrize(
    ("in_use", "highest", "claimed"),
    [
        ((1.68, 2.1, 2.02), (102.4, 240.5, 163.6), True),  # one group of two is far too fast
        ((1.68, 2.1, 2.02), (102.4, 9.0, 163.6), False),  # not in every order
        ((0.9, 1.1, 0.8), (102.4, 240.5, 163.6), False),  # it came back
        ((2.1, 2.1, 2.2), (3.0, 4.0, 3.5), True),
    ],
)
def test_a_loss_that_soars_in_every_order_needs_half_the_difference(in_use, highest, claimed):
    found = claims(in_use=in_use, others=(0.33, 0.73, 0.44), highest=highest)
    assert bool(found) is claimed
    assert all(("by way of 163.6 in training" in one.message) is (min(highest) > 23) for one in found)


@pytest.mark.parametrize(
    ("losses", "level", "claimed"),
    [
        ((0.7, -4.9, -7.4, -8.3, -8.8, -8.3, -7.7, -5.0, -2.0, -1.2), -7.6, False),  # a difference of energies
        ((0.7, -2.9, -8.3, -5.0, -4.0, -2.0, -1.2), -7.6, True),  # a single step
        ((2.3, 0.2, 0.1, 0.1, 0.2, 1.9, 2.0, 2.1), 0.3, True),  # a loss that has a floor
        ((0.7, -8.3, -8.8, -8.3, math.inf), -7.6, True),
    ],
)
def test_a_rate_that_had_the_loss_as_low_is_not_too_high(losses, level, claimed):
    in_use = (losses[-1],) * 3
    contest = LRContest(other=0.005, steps=27, start=0.77, in_use=in_use, others=(level + 0.01, level, level + 0.01))
    trials = (LRTrial(lr=0.005, losses=(0.7, level), score=level), LRTrial(lr=0.05, losses=losses, score=losses[-1]))
    seen = LRRange(in_use=0.05, name="SGD", contest=contest, trials=trials)
    [found] = learning_rate_too_high(Record([seen]))
    assert isinstance(found, Claim) is claimed


@pytest.mark.parametrize(("update", "claimed"), [(10.2, True), (0.3, False)])
def test_where_no_rate_does_well_the_run_is_asked(update, claimed):
    blown = (math.inf,) * 3
    contest = LRContest(other=0.01, steps=10, start=0.39, in_use=blown, others=(0.126, 0.125, 1.5), lasted=(2, 2, 2))
    early = EarlyLosses(losses=(0.4, math.inf, math.nan), update_ratio=update, in_use=1.0, name="Adam")
    assert bool(claimed_of(LRRange(in_use=1.0, name="Adam", contest=contest), early)) is claimed


@pytest.mark.parametrize(
    ("in_use", "highest", "resumed", "claimed"),
    [
        (2.2, 3.0, True, False),  # the fifth fit of the same weights
        (2.2, 3.0, False, True),
        (2.2, 90.0, True, True),
        (math.inf, math.inf, True, True),
    ],
)
def test_where_training_goes_on_a_lower_rate_is_better_for_a_while(in_use, highest, resumed, claimed):
    contest = LRContest(
        other=0.1, steps=33, start=2.3, in_use=(in_use,) * 3, others=(0.33, 0.73, 0.44), highest=(highest,) * 3
    )
    assert bool(claimed_of(LRRange(in_use=1.0, name="Adam", contest=contest, resumed=resumed))) is claimed


@pytest.mark.parametrize(("in_use", "claimed"), [(2.252, True), (3.658, False)])
def test_a_loss_that_rises_is_no_sign_of_small_steps(in_use, claimed):
    contest = LRContest(other=0.19, steps=10, start=2.252, in_use=(in_use,) * 3, others=(0.36,) * 3)
    seen = LRRange(in_use=0.0019, name="Adam", contest=contest, planned_steps=240)
    [found] = learning_rate_too_low(Record([seen, EarlyLosses()]))
    assert isinstance(found, Claim) is claimed


def claimed_of(*evidence):
    return [item for item in learning_rate_too_high(Record(evidence)) if isinstance(item, Claim)]


@pytest.mark.parametrize(("lasted", "claimed"), [((2, 3, 2), True), ((2, 30, 2), False)])
def test_an_overflow_at_once_is_the_rates_whatever_operation_it_meets(lasted, claimed):
    blown = (math.inf,) * 3
    [found] = claims(in_use=blown, others=(0.33, 0.73, 0.44), highest=(2.3, 2.4, 2.3), lasted=lasted)
    assert isinstance(found, Claim) is claimed
    assert claimed or "an operation is at fault" in found.reason


def test_an_experiment_looks_for_a_lower_rate_where_the_loss_soared():
    assert not far_better(2.3, 1.6, 0.4)
    assert far_better(2.3, 1.6, 0.4, soared=True)

    class Leaps:
        """Above a rate of 0.5 the loss leaps and comes back halfway; below it falls."""

        def rewind(self, order):
            self.count, self.fast = 0, False

        def step(self, lr):
            self.count, self.fast = self.count + 1, lr > 0.5
            return 100.0 if self.fast and self.count == 3 else 2.3

        def held_out(self):
            return 2.3 if not self.count else 1.65 if self.fast else 0.4

    found = glance(Leaps(), Plan(trial_steps=10), 1.0, 100, budget=Budget())
    assert found.rival is not None
    assert found.rival.lr == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("start", "in_use", "others", "update", "early", "claimed"),
    [
        (88.0, 87.999, 52.0, 1e-6, 1e-7, True),
        (-0.2, -0.2001, -1.3, 1e-6, 1e-7, True),  # no floor at all
        (88.0, 87.999, 52.0, 1e-6, 1e-9, False),  # that step was a warm-up's
        (88.0, 87.999, 52.0, 1e-3, 1e-7, False),  # weights of 0.001 a step: a thousand steps go far
        (88.0, 87.9, 52.0, 1e-6, 1e-7, False),  # at this pace it gets somewhere
        (88.0, 87.999, 52.0, math.nan, 1e-7, False),
    ],
)
def test_a_loss_without_a_known_floor_needs_steps_that_cannot_move_the_weights(
    start, in_use, others, update, early, claimed
):
    contest = LRContest(other=0.01, steps=20, start=start, in_use=(in_use,) * 3, others=(others,) * 3)
    seen = LRRange(in_use=1e-7, name="Adam", contest=contest, planned_steps=400)
    kind = LossKind(reason="the loss has several terms")
    found = list(learning_rate_too_low(Record([seen, EarlyLosses(update_ratio=update, in_use=early), kind])))
    assert [type(one) for one in found] == ([Claim] if claimed else [] if in_use == 87.9 else [Skip])
    assert all("1000 steps like the first change the weights by 0.001" in one.message for one in found if claimed)


def test_where_all_rates_are_slow_longer_trials_decide():
    class Slow:
        """Falls by a hundredth a step at a rate of 1e-3 and above, not at all below."""

        def rewind(self, order):
            self.loss = 2.0

        def step(self, lr):
            before, self.loss = self.loss, self.loss * (0.99 if lr > 5e-4 else 1 - 1e-9)
            return before

        def held_out(self):
            return self.loss

    found = glance(Slow(), Plan(trial_steps=10), 1e-7, 500, budget=Budget())
    assert found.rival is not None
    assert (found.steps, len(found.trials)) == (40, 2)
    assert found.rival.lr == pytest.approx(1e-3)
    assert glance(Slow(), Plan(trial_steps=10), 1e-3, 500, budget=Budget()).rival is None


@pytest.mark.parametrize(("in_use", "claimed"), [(2.1395, True), (2.13, False)])
def test_falls_of_different_size_are_no_noise_where_nothing_else_moves(in_use, claimed):
    contest = LRContest(other=0.003, steps=10, start=2.1395, in_use=(in_use,) * 3, others=(1.70, 1.71, 1.87))
    found = list(learning_rate_too_low(Record([LRRange(in_use=3e-8, name="AdamW", contest=contest)])))
    assert bool(found) is claimed


@pytest.mark.parametrize(
    ("losses", "claimed"),
    [
        ((0.5, 0.3, 40.0, 41.0, 2e5, 2e9, 3e14, 6e20, math.inf, math.nan), True),
        ((0.5, 0.4, 0.6, 0.4, 5e12, math.inf, math.nan), False),  # at once: an operation's doing
        ((0.5, 0.3, 40.0, 41.0, 2e5, 2e9, 3e14, 6e20, 1e3, 0.4), False),  # it comes back
    ],
)
def test_a_run_that_grows_without_end_from_its_first_steps_needs_no_other_rate_tried(losses, claimed):
    early = EarlyLosses(losses=losses, update_ratio=0.1, in_use=20.0, name="SGD")
    found = list(learning_rate_too_high(Record([early])))
    assert [one.subject for one in found] == (["lr of SGD"] if claimed else [])


@pytest.mark.parametrize(("update", "claimed"), [(17.5, True), (0.8, False)])
def test_a_first_update_of_many_times_the_weights_is_to_blame_for_what_overflows(update, claimed):
    early = EarlyLosses(losses=(12.3, math.nan, math.nan), update_ratio=update, in_use=3.0, name="Adam")
    found = list(learning_rate_too_high(Record([early])))
    assert [one.subject for one in found] == (["lr of Adam"] if claimed else [])
    assert all("no longer finite" in one.message and "rises" not in one.message for one in found)


@pytest.mark.parametrize(
    ("update", "end", "neighbours", "claimed"),
    [
        (6e-8, 1.38, 0.4, True),
        (6e-4, 1.38, 0.4, False),  # it could have moved: something else is wrong
        (6e-8, 1.1, 0.4, False),  # fine-tuning at a low rate
        (6e-8, 1.38, 1.3, False),  # there is nothing to learn
        (math.nan, 1.38, 0.4, False),
    ],
)
def test_steps_that_go_nowhere_need_no_other_rate_tried(update, end, neighbours, claimed):
    early = EarlyLosses(losses=(1.4,) * 60, update_ratio=update, in_use=1e-6, name="SGD")
    course = TrainingCourse(steps=150, start=1.4, end=end, lowest=end - 0.01)
    reading = CurveReading(final=True, epochs=5, training=course, learning_rates=(1e-6, 1e-6, 1e-6))
    reference = ReferenceLoss(function="cross_entropy", samples=256, baseline=1.39, neighbours=neighbours, error=0.02)
    gap = Unavailable(evidence="LRRange", reason="there is no time for it")
    [found] = learning_rate_too_low(Record([early, gap, LossKind(supervised=True), reference, reading]))
    assert isinstance(found, Claim) is claimed
    assert claimed or found.reason == "there is no time for it"


@pytest.mark.parametrize(("end", "nonfinite", "claimed"), [(0.1, 0.0, False), (1.9, 0.0, True), (0.1, 0.01, True)])
def test_a_run_that_learns_at_its_rate_contradicts_the_trials(end, nonfinite, claimed):
    contest = LRContest(other=0.1, steps=33, start=2.3, in_use=(math.inf,) * 3, others=(0.5,) * 3, highest=(9e4,) * 3)
    reading = CurveReading(final=True, training=TrainingCourse(steps=300, start=2.3, end=end, nonfinite=nonfinite))
    found = list(learning_rate_too_high(Record([LRRange(in_use=1.0, name="RMSprop", contest=contest), reading])))
    assert [isinstance(one, Claim) for one in found] == [claimed]


@pytest.mark.parametrize(
    ("lowest", "steps", "validation", "claimed"),
    [
        (2.05, 132, None, True),  # it learns how often each class is, and no more
        (1.9, 132, None, False),  # half as far as the lower rate came in a quarter of the steps
        (2.05, 40, None, False),
        (2.05, 132, 2.06, True),
        (2.05, 132, 1.6, False),  # its samples are mixed, those of validation are not
    ],
)
def test_a_whole_run_that_stays_above_short_trials_needs_half_the_difference(lowest, steps, validation, claimed):
    contest = LRContest(other=0.3, steps=32, start=2.3, in_use=(2.13, 2.13, 2.07), others=(1.76, 1.77, 1.73),
                        held_out=validation is not None)  # fmt: skip
    course = TrainingCourse(steps=steps, start=2.3, end=lowest, lowest=lowest)
    seen = None if validation is None else ValidationCourse(name="val_loss", count=6, lowest=validation)
    evidence = (
        LRRange(in_use=3.0, name="SGD", contest=contest),
        CurveReading(final=True, training=course, validation=seen),
    )
    assert bool(claimed_of(*evidence, LossKind(supervised=True))) is claimed
    assert not claimed_of(*evidence, LossKind(supervised=False))


def test_a_whole_run_that_learns_nothing_needs_most_orders_only():
    """Of three orders one goes badly at the lower rate as well, which is still too high for it."""
    contest = LRContest(other=0.5, steps=10, start=1.54, in_use=(math.inf, 355.4, 224.2), others=(0.58, 1.62, 0.21),
                        highest=(49049.0, 371.0, 18012.0), lasted=(7, 10, 10), held_out=True)  # fmt: skip
    seen = LRRange(in_use=5.0, name="SGD", contest=contest)
    course = TrainingCourse(steps=120, start=400.0, end=2.31, lowest=2.3)
    reading = CurveReading(
        final=True, training=course, validation=ValidationCourse(name="val_loss", count=6, lowest=2.3)
    )
    assert claimed_of(seen, reading, LossKind(supervised=True))
    assert not claimed_of(seen, LossKind(supervised=True))


@pytest.mark.parametrize(("name", "claimed"), [("AdamW", True), ("RAdam", False)])
def test_an_optimizer_that_warms_up_by_itself_is_not_judged_by_its_first_steps(name, claimed):
    contest = LRContest(other=0.3, steps=20, start=0.69, in_use=(0.6896,) * 3, others=(0.3,) * 3)
    found = list(learning_rate_too_low(Record([LRRange(in_use=3e-3, name=name, contest=contest, planned_steps=300)])))
    assert [isinstance(one, Claim) for one in found] == [claimed]


@pytest.mark.parametrize(("end", "steps", "claimed"), [(0.688, 300, True), (0.5, 300, False), (0.688, 90, False)])
def test_an_optimizer_that_warms_up_by_itself_is_judged_by_a_whole_run(end, steps, claimed):
    contest = LRContest(other=0.3, steps=20, start=0.69, in_use=(0.6899,) * 3, others=(0.3,) * 3)
    trial = LRRange(in_use=3e-7, name="RAdam", contest=contest, planned_steps=300)
    reading = CurveReading(final=True, training=TrainingCourse(steps=steps, start=0.69, end=end))
    found = list(learning_rate_too_low(Record([trial, LossKind(supervised=True), reading])))
    assert [isinstance(one, Claim) for one in found] == [claimed]


def test_a_rate_that_nobody_measured_is_not_told():
    early = EarlyLosses(losses=(0.5, 40.0, 2e5, 2e9, 3e14, 6e20, math.inf), name="SGD")
    [found] = learning_rate_too_high(Record([early]))
    assert found.message.startswith("The loss rises from 0.5 to 6e+20")
    assert "nan" not in found.message + found.fix


@pytest.mark.parametrize(
    ("moved", "end", "claimed"),
    [(1e-9, 4.5, True), (1e-9, 3.0, False), (1e-5, 4.5, False)],  # a loss that fell; steps that do count
)
def test_a_run_whose_steps_move_nothing_whatever_its_loss_means(moved, end, claimed):
    groups = (GroupUpdate(optimizer="Adam", rate=1e-8, weight_norm=8.0, update_norm=8.0 * moved, gradient_norm=1.0),)
    audits = [UpdateAudit(steps=steps, groups=groups) for steps in (1, 2, 40)]
    course = TrainingCourse(steps=600, start=4.5, start_error=0.1, end=end, end_error=0.1)
    kind = LossKind(reason="the loss has several terms")
    reading = CurveReading(training=course, final=True)
    found = list(learning_rate_too_low(Record([EarlyLosses(), *audits, kind, reading])))
    assert any(isinstance(item, Claim) for item in found) is claimed
