"""The sites' training statistics of a run, kept beside its ticket until the run is finished.

A run resumed after a kill can still sum those of sites that no longer answer. Model versions hold only sums
over all sites: they are copied to clinics, which have no business with the statistics of a single site.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from scantwin.federation.codec import PartsError, pack, unpack
from scantwin.federation.layouts import Layout
from scantwin.federation.wire import Statistics
from scantwin.files import whole_file

log = logging.getLogger("scantwin.federation")


def keep_statistics(path: Path, by_site: Mapping[str, Statistics]) -> None:
    """Writes the file as a whole; without any site's statistics, writes none."""
    if by_site:
        with whole_file(path, private=True) as aside:
            aside.write_bytes(pack({site: {**statistics} for site, statistics in by_site.items()}, {}))


def kept_statistics(path: Path, layout: Layout) -> dict[str, Statistics]:
    """What `keep_statistics` wrote, by site, except those of another layout, kept by an older ScanTwin."""
    try:
        by_site, _ = unpack(path.read_bytes())
    except FileNotFoundError:
        return {}
    except PartsError as error:
        log.warning(
            "%s is damaged (%s): sites that answer no more are missing in the references", path, error
        )
        return {}
    return {
        site: {name: array.astype("float64") for name, array in statistics.items()}
        for site, statistics in by_site.items()
        if {name: array.shape for name, array in statistics.items()} == layout
    }
