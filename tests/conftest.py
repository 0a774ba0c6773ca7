"""For every test: offline, and one thread each, because tiny tensors only wait for one another on many."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
