"""Explanations of the service's answers, in a separate process: shap alone takes as much memory as the service."""
