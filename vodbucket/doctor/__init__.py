"""`vodbucket doctor`: tests the configured store and this machine for all that vodbucket relies on.

Each module yields `Check`s; what cannot be asked is a failed check as well. Nothing here changes anything for
good but `fixes`.
"""

from vodbucket.doctor.examination import examine, examine_machine
from vodbucket.doctor.fixes import fix

__all__ = ["examine", "examine_machine", "fix"]
