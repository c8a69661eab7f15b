"""Explanations of one answer: which past events and features it depends on, and whether the explanation is faithful."""
