"""Lightning modules, data modules, EMA, optimisation and callbacks."""
