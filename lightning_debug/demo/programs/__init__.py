"""Healthy programs on scikit-learn's digits, into which the demo plants its bugs."""
