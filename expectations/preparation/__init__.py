"""Preparation of valid rows before features are computed: missing values, outliers, bots, in this order.

`params.yaml` declares the steps; a report states what each did. Limits and medians are fitted on the first part of the
log's time span and applied to all of it, so later events never change earlier values. Scaling is not a step: it is
fitted on training rows and stored with the model (`training.models.scaler`).
"""
