"""pa-anonymize as it searched before `next_search`: every other frame and the ends of shots alone.

    python benchmarks/every_other.py input=... [any setting of pa-anonymize]

For `rates.py`, which measures what the denser search costs.
"""

from __future__ import annotations

import numpy as np

from pa_lib.cli.anonymize import run
from pa_lib.people import find
from pa_lib.people.tracking import kalman

find.next_search = lambda *_: None
find.detail_view = lambda picture: np.zeros((8, 8), np.uint8)
kalman._DOUBT = 0.0

if __name__ == "__main__":
    run()
