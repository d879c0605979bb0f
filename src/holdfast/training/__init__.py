"""The one training loop, on Accelerate, and what it saves."""
