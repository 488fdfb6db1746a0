"""The demo from top to bottom: patients, consortium, calibration, training, one scan."""

from __future__ import annotations

import hashlib
import shutil
import socket
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scantwin import NOTICE, __version__
from scantwin.demo.beforehand import Groups
from scantwin.demo.comparison import compare
from scantwin.demo.plan import QC_MONTHS, SITES, DemoOptions, DemoSite
from scantwin.demo.progress import follow_rounds, read_rounds
from scantwin.demo.runner import Runner
from scantwin.demo.story import Story
from scantwin.errors import InputError
from scantwin.files import write_json, write_private

_CORES = 2
"""Commands that run side by side: the demo is sized for two cores."""


def run_demo(options: DemoOptions, groups: Groups, runner: Runner, story: Story) -> dict[str, Any]:
    """Runs every stage and returns what `demo.json` holds. Services stay up until `runner` ends.

    `groups`: the real studies by site; none for phantoms.
    """
    with story.stage(
        "patients", "Real patients" if groups else "Phantom patients are scanned at their sites"
    ):
        sites, new_patient = _real(groups, options, story) if groups else _phantoms(options, runner, story)
    with story.stage("consortium", "A consortium is set up and its sites are enrolled"):
        link = _found(sites, options, runner, story)
    with story.stage("ingest", "Each site reads its own studies"):
        counts = _ingest(sites, options, runner, story)
    calibration: dict[str, Any] = {}
    if options.data is None:
        with story.stage("calibration", "Each site measures its SUV calibration"):
            calibration = _calibrate(sites, options, runner, story)
    with story.stage("training", f"Federated training, {options.rounds} rounds; no scan leaves a site"):
        trained = _train(sites, link, options, runner, story)
    with story.stage("scan", "The twin service scans a new patient"):
        scan = _scan(trained["final_version"], new_patient, options, runner)
        story.say(f"{', '.join(scan['districts'])} scanned in {sum(scan['seconds'].values()):.0f} s")
        scan["beside_the_real_pet"] = compare(scan, new_patient.parent, options.out / "scan-and-truth.png")
    result: dict[str, Any] = {
        "notice": NOTICE, "scantwin": __version__, "seed": options.seed,
        "data": "phantoms" if options.data is None else str(options.data),
        "sites": [site.name for site in sites], "studies": counts, **read_rounds(runner.home, trained["run"]),
        "model_version": trained["final_version"], "scan": scan, "calibration": calibration,
        "seconds": dict(story.seconds),
    }  # fmt: skip
    write_json(options.out / "demo.json", result)
    return result


def _phantoms(options: DemoOptions, runner: Runner, story: Story) -> tuple[list[DemoSite], Path]:
    sites = [
        site if options.patients is None else site.model_copy(update={"patients": options.patients})
        for site in SITES[: options.sites]
    ]
    total = sum(site.patients for site in sites) + 1
    calls: list[tuple[str, ...]] = [
        ("phantom", "cohort", "--out", str(options.out / "studies" / site.name), "--n", str(site.patients),
         "--site", site.preset, "--seed", str(options.seed + 100 * number), "--voxels", "coarse",
         "--suv-scale", str(site.shown[-1]))
        for number, site in enumerate(sites)
    ]  # fmt: skip
    new = options.out / "new-patient"
    calls.append(
        ("phantom", "cohort", "--out", str(new), "--n", "1", "--site", "university",
         "--seed", str(options.seed + 99), "--condition", "lung-cancer", "--voxels", "coarse")
    )  # fmt: skip
    story.say(f"{total} phantom patients")
    runner.call_all(
        calls, _CORES, lambda done: story.say(f"{total} phantom patients, {done} of {len(calls)} cohorts")
    )
    return sites, _only_ct(next(path for path in sorted(new.iterdir()) if path.is_dir()))


def _real(groups: Groups, options: DemoOptions, story: Story) -> tuple[list[DemoSite], Path]:
    """Copies the studies; the originals are not touched."""
    # The new patient belongs to no site: the last of the largest, taken out before anyone trains.
    (_, largest), *_rest = groups
    new, sites = largest[-1], []
    for name, patients in groups:
        kept = [patient for patient in patients if patient is not new]
        for number, path in enumerate(path for patient in kept for path in patient):
            shutil.copytree(path, options.out / "studies" / name / _whose(path, number))
        sites.append(DemoSite(name=name, preset="", patients=len(kept)))
    story.say(", ".join(f"{site.name}: {site.patients}" for site in sites))
    shutil.copytree(new[-1], options.out / "new-patient" / "patient")
    return sites, _only_ct(options.out / "new-patient" / "patient")


def _whose(path: Path, number: int) -> Path:
    """Where a study's copy goes: below a folder that names the patient, as in FDG-PET-CT-Lesions."""
    whose = next((part for part in reversed(path.parts[:-1]) if part.startswith("PETCT_")), "")
    return Path(whose) / f"{number:04d}-{path.name}"


def _only_ct(folder: Path) -> Path:
    """The CT of the new patient; the PET beside it is what the clinic does not have."""
    for name in ("CTres.nii.gz", "CT.nii.gz"):
        if (folder / name).is_file():
            return folder / name
    raise InputError(f"There is no NIfTI CT in {folder}.", hint="The demo reads studies in NIfTI layout.")


def _found(sites: list[DemoSite], options: DemoOptions, runner: Runner, story: Story) -> dict[str, Any]:
    port, *site_ports = free_ports(1 + len(sites))
    runner.call("consortium", "init", "--name", "demo", "--port", str(port))
    ready = runner.serve("service-consortium", "consortium", "start")
    # The secret depends on the seed: pseudonyms, and so the held-out patients, are the same each time.
    secrets = [
        write_private(
            options.out / "secrets" / site.name,
            hashlib.sha256(f"{options.seed}:{site.name}".encode()).digest(),
        )
        for site in sites
    ]
    made = runner.call_all(
        [("site", "init", site.name, "--kind", site.kind, "--secret-file", str(secret))
         for site, secret in zip(sites, secrets, strict=True)],
        _CORES, lambda done: story.say(f"{done} of {len(sites)} sites made their keys"),
    )  # fmt: skip
    runner.call_all(
        [("consortium", "enrol", site.name, "--key", one["key"], "--kind", site.kind)
         for site, one in zip(sites, made, strict=True)],
        _CORES, lambda done: story.say(f"{done} of {len(sites)} sites enrolled"),
    )  # fmt: skip
    ready.update({site.name: own_port for site, own_port in zip(sites, site_ports, strict=True)})
    return ready


def _ingest(sites: list[DemoSite], options: DemoOptions, runner: Runner, story: Story) -> dict[str, Any]:
    calls: list[tuple[str, ...]] = [
        ("site", "ingest", str(options.out / "studies" / site.name), "--site", site.name, "--workers", "1")
        for site in sites
    ]
    answers = runner.call_all(calls, _CORES, lambda done: story.say(f"{done} of {len(calls)} sites"))
    counts = {site.name: answer["counts"] for site, answer in zip(sites, answers, strict=True)}
    usable = sum(c.get("accepted", 0) + c.get("warned", 0) for c in counts.values())
    story.say(f"{usable} studies accepted")
    return counts


def _calibrate(sites: list[DemoSite], options: DemoOptions, runner: Runner, story: Story) -> dict[str, Any]:
    """Each site scans a uniform cylinder over some months; what it measures travels with its updates."""
    today = datetime.now(UTC).date()
    made: list[tuple[str, ...]] = []
    for site in sites:
        for month, shown in zip(QC_MONTHS, site.shown, strict=True):
            when = (today - timedelta(days=30 * month)).isoformat()
            folder = options.out / "qc" / site.name / when
            made.append(
                ("phantom", "qc", "--kind", "cylinder", "--out", str(folder), "--site", site.preset,
                 "--when", when, "--seed", str(options.seed + month), "--voxels", "coarse",
                 "--suv-scale", str(shown))
            )  # fmt: skip
    true = runner.call_all(made, _CORES, lambda done: story.say(f"{done} of {len(made)} cylinders scanned"))
    measured = runner.call_all(
        [("site", "qc", w[5], "--site", Path(w[5]).parent.name, "--when", w[9]) for w in made],
        _CORES, lambda done: story.say(f"{done} of {len(made)} cylinders measured"),
    )  # fmt: skip
    out = {}
    for number, site in enumerate(sites):
        last = (number + 1) * len(QC_MONTHS) - 1
        out[site.name] = {"true_bias": true[last]["true_bias"], "measured_bias": measured[last]["bias"]}
    worst = max(out, key=lambda name: abs(out[name]["measured_bias"]))
    story.say(f"largest SUV bias: {100 * out[worst]['measured_bias']:+.1f} % at {worst}")
    return out


def _train(
    sites: list[DemoSite], link: dict[str, Any], options: DemoOptions, runner: Runner, story: Story
) -> dict[str, Any]:
    for site in sites:
        runner.start_service(
            f"service-{site.name}", "site", "run", "--site", site.name, "--superlink", link["superlink"],
            "--ca", link["ca"], "--port", str(link[site.name]),
        )  # fmt: skip
    return runner.call(
        "consortium", "train", "--recipe", options.recipe, "--rounds", str(options.rounds),
        "--seed", str(options.seed),
        "--min-sites", str(len(sites)), "--name", "demo",
        meanwhile=lambda: follow_rounds(runner, story, options.rounds),
    )  # fmt: skip


def _scan(version: str, ct: Path, options: DemoOptions, runner: Runner) -> dict[str, Any]:
    (port,) = free_ports(1)
    ready = runner.serve("service-twin", "twin", "serve", "--port", str(port))
    return runner.call(
        "twin", "submit", str(ct), "--model", version, "--out", str(options.out / "scan"),
        "--address", ready["address"], "--seed", str(options.seed),
    )  # fmt: skip


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody holds right now, all different."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()
