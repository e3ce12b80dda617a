"""Small training programs whose loss is the point: healthy ones that look faulty, and faulty ones."""
