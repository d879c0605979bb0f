"""What can be said of a network beyond its accuracy; formulas first, and what calls them during training."""
