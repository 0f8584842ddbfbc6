"""Weights that exist, their licences, and a checked local cache of them."""

from facelatent.assets.cache import asset_files, asset_path, cache_dir, find_asset, is_cached, pull
from facelatent.assets.convert import converted
from facelatent.assets.manifest import ASSETS, Asset, AssetFile
from facelatent.assets.numpy_pickle import load_numpy_pickle

__all__ = [
    "ASSETS",
    "Asset",
    "AssetFile",
    "asset_files",
    "asset_path",
    "cache_dir",
    "converted",
    "find_asset",
    "is_cached",
    "load_numpy_pickle",
    "pull",
]
