"""Experiment planning from predictions: optimizers, plans, and the worth of a further measurement."""

from bluesky_xpdml.planning.advice import Advice, Gain, advise
from bluesky_xpdml.planning.advice_table import AdviceTable, load_table

__all__ = ["Advice", "AdviceTable", "Gain", "advise", "load_table"]
