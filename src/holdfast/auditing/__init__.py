"""Auditing a fine-tuned network: how far it moved, how sharp the loss is along the way, what bounds give. No torch at import."""
