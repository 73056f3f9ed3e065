"""The format for merge requests on GitLab: a Code Quality report, one entry for each finding.

GitLab compares the reports of two branches by fingerprint, so an entry keeps its own while figures and lines move.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convstat.render.base import Options, Renderer, Result
from convstat.render.findings import Finding, findings, repository_path

SEVERITIES = {"error": "major", "warning": "minor", "note": "info"}

MOST = 5_000
"""More entries than these are counted in the last one: the widget shows them one by one."""

LONGEST = 1_000
"""The characters of one description, which is shown as one line."""


class GitlabRenderer(Renderer):
    """A list of objects with a description, a name, a fingerprint, a severity and a place."""

    name = "gitlab"
    suffixes = ("gl-code-quality-report.json", ".codequality.json")
    about = "for merge requests on GitLab: a Code Quality report"
    expresses = ("check", "diff", "comparison", "report")
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Write the report; an empty list where there is nothing to look at."""
        from convstat.render.formats.json import to_json

        found = findings(results)
        kept = found if len(found) <= MOST else found[:MOST]
        entries = [_entry(finding, key) for finding, key in zip(kept, fingerprints(kept), strict=True)]
        if len(found) > len(kept):
            entries[-1]["description"] += f" (and {len(found) - MOST:,} more)"
        return to_json(entries)


def _entry(finding: Finding, fingerprint: str) -> dict[str, Any]:
    description = finding.text[:LONGEST]
    for detail in finding.details:
        if len(description) + len(detail) + 2 > LONGEST:
            break
        description += f"; {detail}"
    return {
        "description": description,
        "check_name": f"convstat/{finding.rule}",
        "fingerprint": fingerprint,
        "severity": SEVERITIES[finding.level],
        # A path is required: without a file, it is what the finding is about.
        "location": {
            "path": repository_path(finding.file) if finding.file else finding.key.partition("|")[0],
            "lines": {"begin": finding.line},
        },
    }


def fingerprints(found: Sequence[Finding]) -> list[str]:
    """Give each finding a number of its own that does not depend on figures or lines."""
    import hashlib

    seen: dict[str, int] = {}
    written = []
    for finding in found:
        key = f"{finding.rule}\0{finding.key}"
        seen[key] = seen.get(key, 0) + 1
        text = f"{key}\0{seen[key]}".encode("utf-8", "backslashreplace")
        written.append(hashlib.sha256(text).hexdigest()[:32])
    return written
