"""Serving: packaging, the gate, releases and the prediction service. Nothing here trains models or imports DAGs."""
