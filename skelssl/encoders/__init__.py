"""Encoders: clips (N, C, T, V, M) float32 in, features (N, F) out."""
