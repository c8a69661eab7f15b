"""Analyses for people: profiles, funnels, demand, campaigns, and the dashboard.

This package reads the output of the other folders. Nothing imports it, and no stage reads its output.
"""
