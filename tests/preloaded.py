"""Imported by the fork server alone: the tool, and all that it imports, loaded once for all children."""

import gc

from tests.launcher import Clock

Clock.install()  # the tool is to take this one for the true one

import rich.progress  # noqa: E402, F401  # it is loaded late

import bulk_delete  # noqa: E402, F401

gc.freeze()  # no collection touches, hence copies, what the children share
