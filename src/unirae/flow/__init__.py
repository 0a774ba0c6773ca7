"""Flow matching on the straight path from data (t = 0) to noise (t = 1): path, times, solvers, guidance."""
