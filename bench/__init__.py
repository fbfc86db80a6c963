"""The benchmark: pgtasks against what users would type instead, in one run, as ratios."""
