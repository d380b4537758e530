"""Importance: one score per coupled channel, larger = more important.

A criterion, its normalisation and its cost regularisation are three separate choices.
"""

from pipeline.importance.criteria import CRITERIA, Criterion, Scores, default_criterion, score
from pipeline.importance.normalise import NORMALISATIONS, default_normalisation, normalise
from pipeline.importance.regularise import regularise

__all__ = [
    "CRITERIA",
    "NORMALISATIONS",
    "Criterion",
    "Scores",
    "default_criterion",
    "default_normalisation",
    "normalise",
    "regularise",
    "score",
]
