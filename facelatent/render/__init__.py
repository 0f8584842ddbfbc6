"""Strips, grids and animations."""
