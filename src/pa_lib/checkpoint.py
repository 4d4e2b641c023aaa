"""Checkpoints that rebuild themselves: weights with the resolved config and the version that wrote them."""
