"""The ground floor: conventions, image conversions, keyed randomness, safe I/O, logging, processes."""
