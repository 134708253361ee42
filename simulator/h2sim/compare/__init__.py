"""Systems side by side: measurements, their ratios, published rows, and the back-of-envelope estimate."""
