"""Encoders: clips (N, C, T, V, M) float32 in, features (N, F) out."""

from skelssl.encoders.zoo import create, names

__all__ = ["create", "names"]
