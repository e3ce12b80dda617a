"""WHAT: torch in, evidence out. No Lightning, no threshold."""
