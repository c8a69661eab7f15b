"""Explanations of the service's answers, computed in a process of their own: shap alone takes as much memory as it."""
