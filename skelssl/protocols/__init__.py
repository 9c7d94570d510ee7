"""Evaluation protocols on frozen encoders, and the numbers that go with them."""
