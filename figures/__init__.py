"""Figures of the study, drawn from the committed results."""
