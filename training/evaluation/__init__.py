"""Evaluation: metrics, full ranking, confidence intervals over users, plots."""
