"""What inversion, edits and styles are worth, in numbers."""

from facelatent.evaluation.adaptation import (
    AdaptationSettings,
    adaptation_table,
    evaluate_adaptation,
    reference_picture,
)
from facelatent.evaluation.cases import FIRST_SEED, Case, Source, generated_cases, mixed_ws, photo_cases
from facelatent.evaluation.consistency import Inverted, Inverter, editing_consistency
from facelatent.evaluation.directions import Direction, DirectionResult, evaluate_directions, heat_map, matrix_table
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
    "AdaptationSettings",
    "Case",
    "Direction",
    "DirectionResult",
    "EditEffect",
    "EditSummary",
    "Evaluation",
    "EvaluationSettings",
    "Inverted",
    "Inverter",
    "PictureResult",
    "Probe",
    "Source",
    "adaptation_table",
    "edit_effects",
    "edit_table",
    "editing_consistency",
    "evaluate_adaptation",
    "evaluate_directions",
    "evaluate_inversion",
    "generated_cases",
    "generated_effects",
    "heat_map",
    "load_probes",
    "matrix_table",
    "mixed_ws",
    "photo_cases",
    "reference_picture",
    "summarise_edits",
]
