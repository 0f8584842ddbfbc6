"""How an encoder is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderTraining:
    """Settings of :func:`~facelatent.inversion.training.train_encoder`.

    Attributes:
        pairs: drawn faces with known codes that the map is fitted to; rounded up to whole shards.
        rank: of the map.
        components: principal components of w that codes are made of; the others are too faint to be seen.
        ridge: regularisation of the map; descriptions are scaled so that their mean square is about one.
        damaged: share of the pairs whose picture is damaged as photos are.
        looks: how often the encoder looks at what it found and moves.
        steps: of the map's descent through the generator; 0 for none.
        batch: pictures a step and process.
        learning_rate: of Adam.
        lpips: weight of LPIPS (VGG16) at 256 px.
        pixels: of the mean squared error on [-1, 1] at 256 px.
        identity: of the squared distance of dlib's embeddings.
        codes: of the mean squared distance to the true codes, in standard deviations, where they are known.
        delta: of e4e's penalty on what the layers' codes differ by (Tov et al., 2021, equation 3); 2e-4 in e4e.
        discriminator: of e4e's latent discriminator (equation 5); 0.1 in e4e.
        scenes: share of the pictures of the descent that get another crop and other light.
        save_every: steps between checkpoints, measurements and sheets.
        seed: of everything.
    """

    pairs: int = 20480
    rank: int = 400
    components: int = 160
    ridge: float = 1.0
    damaged: float = 0.3
    looks: int = 3
    steps: int = 0
    batch: int = 8
    learning_rate: float = 1e-5
    lpips: float = 0.8
    pixels: float = 1.0
    identity: float = 0.1
    codes: float = 0.01
    delta: float = 0.0
    discriminator: float = 0.0
    scenes: float = 0.3
    save_every: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.pairs, self.rank, self.components, self.batch, self.save_every) < 1:
            raise ValueError("pairs, rank, components, batch and save_every are at least 1")
        if self.ridge <= 0 or not 0 <= self.damaged <= 1 or not 0 <= self.scenes <= 1:
            raise ValueError("ridge is positive, damaged and scenes lie between 0 and 1")
