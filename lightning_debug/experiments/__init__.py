"""Runs that leave no trace."""
