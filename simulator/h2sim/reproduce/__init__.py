"""The source's evaluation (chapter 3), regenerated from simulation: claims, assumptions, report."""
