"""Decoders: features (N, F) in, what the encoder has seen out."""
