"""Small programs that raise, as data: what each should be told."""
