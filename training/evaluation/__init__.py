"""How good a model is, and how sure we are: metrics, intervals by resampling users, full ranking, plots."""
