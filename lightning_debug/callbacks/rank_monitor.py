"""RankMonitor: compares the processes of one training with each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from lightning_debug.callbacks._base import DebugCallback
from lightning_debug.callbacks._data_tap import HOOK, BatchTap
from lightning_debug.callbacks._lightning import (
    LightningModule,
    Trainer,
    batch_hook_owner,
    is_compiled,
    moment,
)
from lightning_debug.callbacks._rank_lookup import is_replicated, logged_values, sampler_of, users_of_values, why_not
from lightning_debug.callbacks._ranks import Board
from lightning_debug.evidence import Evidence, Moment
from lightning_debug.evidence.ranks import RankBatches, RankNorms, RankValues, RankWeights
from lightning_debug.experiments.isolation import in_sandbox
from lightning_debug.probes.deferred import Deferred
from lightning_debug.probes.rank_comparison import rank_batches, rank_value, rank_weights
from lightning_debug.probes.rank_norms import NormWatch
from lightning_debug.probes.rank_payloads import (
    BatchKeys,
    batch_keys,
    chosen_parameters,
    signature,
    weight_numbers,
)
from lightning_debug.schedule import at, either, first

AUDITED = either(first(3), at(*(2**power for power in range(2, 20))))
"""Epochs, and validations, in which ranks are compared."""

COLLECTED = either(first(2), at(*(2**power for power in range(3, 24))))
"""Batches of an epoch after which rank 0 looks whether something was told."""

BATCHES = 8
"""Batches of an epoch that are compared."""

SECONDS = 5.0
"""How long rank 0 waits, once, at the end of training, for ranks that have not told yet."""

Kind = type[RankBatches] | type[RankWeights] | type[RankValues]
COMPARED: tuple[Kind, ...] = (RankBatches, RankWeights, RankValues)


@dataclass(frozen=True)
class _Told:
    """Something that every rank tells under one name."""

    what: str
    kind: Kind
    names: tuple[str, ...] = ()
    at: Moment = field(default_factory=Moment)


class RankMonitor(DebugCallback):
    """Compares what ranks see and hold: samples, replicated weights, logged values, batch-norms. Idle with one rank.

    No collective at all: each rank leaves its numbers in the store in which the ranks have met (a TCP server beside
    rank 0), and rank 0 compares once all are there. So a rank that dies, or trains on fewer batches, keeps nobody
    waiting; rank 0 alone waits, 5 seconds at most, at the end of training. Nothing is done in an exception's hook.

    In the epochs that are looked at (0, 1, 2, 4, 8, 16 ...) a rank tells, in bytes as sent:

    | what | bytes a rank | collectives |
    |---|---|---|
    | fingerprints of 16 samples of each of 8 batches | at most 1500 | 0 |
    | checksum and 5 values of up to 512 parameters (64 at 1024 ranks) | at most 64 each | 0 |
    | up to 16 values of a validation | at most 190 | 0 |

    At 1024 ranks that is 6 MB to rank 0 in such an epoch. A step costs nothing but at the batches 0, 1, 8, 16, 32 ...
    of an epoch, when rank 0 asks the store whether something has arrived. Weights and logged values are copied from
    the device without waiting for it.

    Records :class:`~lightning_debug.evidence.ranks.RankBatches`, :class:`~lightning_debug.evidence.ranks.RankWeights`,
    :class:`~lightning_debug.evidence.ranks.RankValues` and :class:`~lightning_debug.evidence.ranks.RankNorms`.
    """

    produces = (RankBatches, RankWeights, RankValues, RankNorms)

    _board: Board | None = None
    _reads: Deferred[_Told] | None = None
    _tap: BatchTap | None = None
    _norms: NormWatch | None = None
    _keys: list[BatchKeys] | None = None
    _weights: bool = False
    _validations: int = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the board, where there are several ranks."""
        self._release()
        self._waiting: list[_Told] = []
        self._groups: list[float] = []
        self._validations = 0
        if trainer.world_size == 1:
            self._none("one process", trainer, *self.produces)
            return
        if is_compiled(pl_module):
            self._none("the model is compiled", trainer, RankNorms)
        else:
            self._norms = NormWatch(pl_module, in_sandbox)
        try:
            self._board = Board(trainer)
        except Exception:  # no process group, or a backend without a store
            self._none("the ranks have no store in which they meet", trainer, *COMPARED)
            return
        self._reads = Deferred()
        own = (trainer.distributed_sampler_kwargs or {}).get("rank", trainer.global_rank)
        self._board.post("share", [float(own)])
        if trainer.global_rank:
            self._none("rank 0 compares the ranks", trainer, *COMPARED)
        self._weights = is_replicated(trainer)
        if not self._weights:
            self._none("ranks do not hold equal weights by design", trainer, RankWeights)
        self._tap = BatchTap(batch_hook_owner(trainer, HOOK), self._see(trainer))

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins to note batches, in the epochs that are looked at."""
        self._keys = [] if self._board is not None and AUDITED(trainer.current_epoch) else None
        self.rest()

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Takes the weights with which an epoch begins, after what others do at the end of the last."""
        if batch_idx == 0 and trainer.current_epoch and AUDITED(trainer.current_epoch):
            self._take_weights(trainer, pl_module, str(trainer.current_epoch))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Says over what batch-norms averaged; tells what has arrived."""
        if self._norms is not None:
            found, norms = tuple(self._norms.found.values()), self._norms
            self._norms = None
            norms.release()
            self.session.observe(RankNorms(at=moment(trainer, batch_idx), ranks=trainer.world_size, norms=found))
        if self._board is not None and COLLECTED(batch_idx):
            if self._keys is not None and len(self._keys) >= BATCHES:
                self._tell_batches(trainer)
            self._collect(trainer)
        if self._board is None:
            self.rest("on_train_batch_start", "on_train_batch_end")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Takes the values that the validation logged; all ranks have computed them by now."""
        if self._reads is None or trainer.sanity_checking or getattr(trainer.state.fn, "value", "") != "fit":
            return
        number, self._validations = self._validations, self._validations + 1
        if AUDITED(number):
            values = logged_values(trainer)
            if values:
                told = _Told(f"values {number}", RankValues, tuple(values), moment(trainer))
                self._reads.put(told, list(values.values()))
        self._collect(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tells the epoch's batches, if that was not done before."""
        if self._board is not None:
            self._tell_batches(trainer)
            self._collect(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Compares what is left; rank 0 waits a little for the others."""
        if self._board is not None:
            self._take_weights(trainer, pl_module, "at the end")
            self._collect(trainer, last=True)
            for kind in COMPARED if trainer.global_rank == 0 else ():
                if not self.session.record.seen(kind) and (kind is not RankWeights or self._weights):
                    self._none(why_not(kind, [item.kind for item in self._waiting]), trainer, kind)
        self._release()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leaves the module as it was; asks nobody anything."""
        self._release()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Leaves the module as it was; asks nobody anything."""
        self._release()

    def __getstate__(self) -> dict[str, Any]:
        state = super().__getstate__()
        for name in ("_board", "_reads", "_tap", "_norms"):  # they hold the run
            state.pop(name, None)
        return state

    def _see(self, trainer: Trainer) -> Callable[[Any, int], None]:
        def see(batch: Any, _: int) -> None:
            if self._keys is None or len(self._keys) >= BATCHES or not trainer.training or in_sandbox():
                return
            with self.attempt("batches", trainer):
                known, self._keys = self._keys, None  # given up, should this raise
                keys = batch_keys(batch)
                self._keys = known if keys is None else [*known, keys]

        return see

    def _tell_batches(self, trainer: Trainer) -> None:
        keys, self._keys = self._keys, None
        if keys and self._board is not None:
            numbers = [float(keys[0].values), float(keys[0].floating)]
            for batch in keys:
                numbers += [float(len(batch.keys)), *batch.keys]
            self._post(_Told(f"batches {trainer.current_epoch}", RankBatches, at=moment(trainer)), numbers, trainer)

    def _take_weights(self, trainer: Trainer, pl_module: LightningModule, when: str) -> None:
        if self._reads is None or not self._weights:
            return
        most = max(32, min(512, 2**16 // trainer.world_size))
        turn = trainer.current_epoch.bit_length()  # the same on every rank
        parameters = chosen_parameters(pl_module, most, turn)
        if parameters:
            names = tuple(name for name, _ in parameters)
            told = _Told(f"weights {when}", RankWeights, names, moment(trainer))
            self._reads.put(told, weight_numbers([item for _, item in parameters]))

    def _post(self, told: _Told, numbers: list[float], trainer: Trainer) -> None:
        assert self._board is not None
        self._board.post(told.what, [signature(told.names), *numbers])
        if trainer.global_rank == 0:
            self._waiting.append(told)

    def _collect(self, trainer: Trainer, *, last: bool = False) -> None:
        """Tells what has come from the device; on rank 0, compares what all ranks have told."""
        board, reads = self._board, self._reads
        if board is None or reads is None:
            return
        for told, values in reads.wait() if last else reads.arrived():
            self._post(told, list(values), trainer)
        if trainer.global_rank or not self._waiting:
            return
        if not self._groups and board.has("share"):
            self._groups = [numbers[0] for numbers in board.take("share")]
        seconds = SECONDS if last and self._groups else 0.0  # a rank without this callback is not waited for
        for told in list(self._waiting):
            if self._groups and board.has(told.what, seconds):
                self._waiting.remove(told)
                for evidence in self._compared(told, board.take(told.what), trainer):
                    self.session.observe(evidence)
            else:
                seconds = 0.0

    def _compared(self, told: _Told, numbers: list[list[float]], trainer: Trainer) -> Iterator[Evidence]:
        if len({one[0] for one in numbers}) > 1:
            return  # ranks do not speak of the same things
        rest = [one[1:] for one in numbers]
        if told.kind is RankWeights:
            yield replace(rank_weights(rest, told.names), at=told.at)
        elif told.kind is RankBatches:
            sampler, iterable = sampler_of(trainer)
            yield replace(rank_batches(rest, self._groups), at=told.at, sampler=sampler, iterable=iterable)
        else:
            users = users_of_values(trainer)
            values = [
                rank_value(name, [one[index] for one in rest], users.get(name, ()))
                for index, name in enumerate(told.names)
            ]
            yield RankValues(at=told.at, ranks=len(rest), values=tuple(values))

    def _none(self, reason: str, trainer: Trainer, *kinds: type[Evidence]) -> None:
        for kind in kinds:
            self.unavailable(kind, reason, trainer)

    def _release(self) -> None:
        if self._tap is not None:
            self._tap.remove()
        if self._norms is not None:
            self._norms.release()
        self._board = self._reads = self._tap = self._norms = self._keys = None
