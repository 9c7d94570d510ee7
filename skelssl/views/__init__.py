"""Random draws and the augmented views made from them."""
