"""Transforms from arrays to arrays. Every spatial step has an exact inverse."""
