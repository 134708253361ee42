"""Neuroevolution of layer thresholds (Lu & Sengupta): which thresholds make a converted network fast.

cost: what is minimised. search: differential evolution over layer thresholds, and its control, one scale for all
layers. significance: how much of a layer's activity is signal, and how far an attack moves it.
"""
