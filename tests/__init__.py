"""One thread of OpenMP for all tests and for what they start, set before torch is loaded.

Small layers in two threads wait for each other, spinning: on two busy cores the tests of the training loop took two and
a half times the CPU seconds.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
