"""The tool, and all that it imports, with the rigged clock: loaded once for all children that are forked.

Where none can be, each child is `python -m tests.preloaded`.
"""

import gc

from tests.launcher import Clock, started

Clock.install()  # the tool is to take this one for the true one

import rich.progress  # noqa: E402, F401  # it is loaded late

import bulk_delete  # noqa: E402, F401

gc.freeze()  # no collection touches, hence copies, what the children share

if __name__ == "__main__":
    started()
