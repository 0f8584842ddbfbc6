"""Attribute scorers, boundaries and edits."""
