"""The rules. One file, one rule, one page; found by walking this folder."""
