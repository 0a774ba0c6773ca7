"""The weights that an experiment loads: their names, their sources, and their copy in a folder that can be carried."""
