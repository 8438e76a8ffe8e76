"""A library that is slow to import."""

import time

time.sleep(4)
