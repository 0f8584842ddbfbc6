"""What inversion is worth, in numbers; above ``inversion`` and ``boundaries``, which do not know each other."""

from facelatent.evaluation.cases import FIRST_SEED, Case, Source, generated_cases, mixed_ws, photo_cases
from facelatent.evaluation.consistency import Inverted, Inverter, editing_consistency
from facelatent.evaluation.edits import (
    EditEffect,
    EditSummary,
    Probe,
    edit_effects,
    edit_table,
    generated_effects,
    load_probes,
    summarise_edits,
)
from facelatent.evaluation.inversion import Evaluation, EvaluationSettings, PictureResult, evaluate_inversion

__all__ = [
    "FIRST_SEED",
    "Case",
    "EditEffect",
    "EditSummary",
    "Evaluation",
    "EvaluationSettings",
    "Inverted",
    "Inverter",
    "PictureResult",
    "Probe",
    "Source",
    "edit_effects",
    "edit_table",
    "editing_consistency",
    "evaluate_inversion",
    "generated_cases",
    "generated_effects",
    "load_probes",
    "mixed_ws",
    "photo_cases",
    "summarise_edits",
]
