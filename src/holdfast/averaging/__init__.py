"""One network from the weights of several finished runs: interpolation, soups and Model Stock, chosen on validation."""
