"""Load the tool and its imports once for all children, with the rigged clock.

Without fork, each child is `python -m tests.preloaded`.
"""

import gc

from tests.launcher import Clock, started

Clock.install()  # before the tool is imported, so that it uses this clock

import bulk_delete  # noqa: E402, F401

gc.freeze()  # a collection would copy the memory that the children share

if __name__ == "__main__":
    started()
