"""Learning-curve arithmetic on plain numbers: noise, trends, stages, the choice of the epoch. No torch here."""
