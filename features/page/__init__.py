"""The feature catalogue: one HTML file on what every feature means, whom to ask, and how it is distributed.

It is made of `features.json` and the tables beside it, by the stage that wrote them. Nothing here computes a feature,
and no text that a person typed or stated is shown.
"""
