"""How many cases a law is tried on: 1,000, or 100,000 with HYPOTHESIS_PROFILE=long.

HYPOTHESIS_PROFILE=long .venv/bin/python -m pytest --timeout=0 tests/property
"""

import os
from typing import Final

from hypothesis import HealthCheck, Phase, settings

settings.register_profile("short", max_examples=1_000, deadline=None)
settings.register_profile(
    "long",
    max_examples=100_000,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)

# For programs that are known to be wrong: it ends at the first case that shows it.
settings.register_profile(
    "mutants",
    max_examples=10_000,
    deadline=None,
    phases=[Phase.generate],
    report_multiple_bugs=False,
    database=None,
)

LAW: Final = settings.get_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))
