"""Pretrained networks in one uniform view: logits, pooled features, the head, and the frozen reference."""
