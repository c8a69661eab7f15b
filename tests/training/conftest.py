"""Models learn a tiny world."""

from tiny_world import catalogue, make, recipe, rows

__all__ = ["catalogue", "make", "recipe", "rows"]
