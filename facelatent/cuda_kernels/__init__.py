"""Compiled kernels: C++ for the CPU and CUDA for NVIDIA GPUs, built by ninja at first use and kept in the cache.

Nothing is compiled or loaded when this package is imported.
"""

from facelatent.cuda_kernels.compiling import build, build_cpu
from facelatent.cuda_kernels.load import State, available, library, state, status
from facelatent.cuda_kernels.toolchain import Kind

__all__ = ["Kind", "State", "available", "build", "build_cpu", "library", "state", "status"]
