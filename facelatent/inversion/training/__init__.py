"""Training of encoders."""

from facelatent.inversion.training.settings import EncoderTraining
from facelatent.inversion.training.train import LOG, train_encoder

__all__ = ["LOG", "EncoderTraining", "train_encoder"]
