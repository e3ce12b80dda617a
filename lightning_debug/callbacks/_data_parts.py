"""The parts of DataAuditor, in the order in which they see a batch."""

from __future__ import annotations

from lightning_debug.callbacks._data_collate import DataCollate
from lightning_debug.callbacks._data_draws import DataDraws
from lightning_debug.callbacks._data_language import DataLanguage
from lightning_debug.callbacks._data_part import DataPart
from lightning_debug.callbacks._data_relations import DataRelations
from lightning_debug.callbacks._data_values import ValuesInData

PARTS_OF_DATA: tuple[type[DataPart], ...] = (ValuesInData, DataRelations, DataDraws, DataLanguage, DataCollate)
"""Add a class here and DataAuditor hands it every batch, and produces its evidence."""
