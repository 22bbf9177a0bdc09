"""Cores and memory that this process may use, limits of its container included."""

import os
from pathlib import Path

_ASSUMED_MEMORY = 4 * 1024**3  # where the system does not say


def usable_cores() -> int:
    """The cores this process may use: its affinity, capped by the container's CPU quota."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota_cores()
    return max(1, min(cores, round(quota))) if quota else cores


def _quota_cores() -> float | None:
    """The cgroup's CPU quota in cores, version 2 or 1; None where there is none."""
    two = Path("/sys/fs/cgroup/cpu.max")
    one = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
    if two.exists():
        quota, period = two.read_text().split()
        return None if quota == "max" else float(quota) / float(period)
    if one.exists():
        quota_us = int(one.read_text())
        period_us = int(one.with_name("cpu.cfs_period_us").read_text())
        return quota_us / period_us if quota_us > 0 else None
    return None


def usable_memory() -> int:
    """The bytes this process may use: the machine's, capped by the container's limit."""
    limits = [_ASSUMED_MEMORY]
    if hasattr(os, "sysconf"):
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    # The cgroup's limit, version 2 or 1.
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        path = Path("/sys/fs/cgroup") / name
        if path.exists() and (limit := path.read_text().strip()) != "max":
            limits.append(int(limit))
    return min(limits)
