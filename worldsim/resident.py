"""How much memory this process has."""

from __future__ import annotations

import sys
from pathlib import Path


def resident_mb() -> float:
    """Megabytes of this process in memory; where the system does not tell (other than Linux), the most it ever had."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
        return int(line.split()[1]) / 1024
    import resource  # not there on Windows

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 1024)
