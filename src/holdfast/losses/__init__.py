"""Task losses: what a network is trained for."""
