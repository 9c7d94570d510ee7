"""What setup.py builds with."""
