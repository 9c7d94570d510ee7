"""Skeleton sequences on disk: the store, readers of published formats, checks, a generator."""
