"""WHEN: Lightning in, probes called. One callback a file; no callback imports another."""
