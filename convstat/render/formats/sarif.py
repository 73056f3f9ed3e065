"""The format for code scanning: SARIF 2.1.0, one result for each finding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from convstat.render.base import Options, Renderer, Result
from convstat.render.findings import Finding, findings, repository_path
from convstat.render.formats.gitlab import fingerprints

SCHEMA = "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"

MOST = 5_000
"""GitHub shows no more results of one run than these; a further one counts the rest."""

RULES = {
    "budget": "A model costs more, or less, than its budget allows.",
    "diff": "A model does not cost what it cost before.",
    "compare": "A point of a sweep cannot be built.",
    "report": "A count has a part that is not counted, or not explained.",
}
"""What the kinds of rules say; the part after the slash is the metric, or the case."""


class SarifRenderer(Renderer):
    """One run with its rules and results."""

    name = "sarif"
    suffixes = (".sarif", ".sarif.json")
    about = "for code scanning: SARIF 2.1.0"
    expresses = ("check", "diff", "comparison", "report")
    is_view = False

    def render(self, results: Sequence[Result], options: Options) -> str:
        """Write the log; a run without results says that nothing was found."""
        from convstat import __version__
        from convstat.render.formats.json import to_json

        found = findings(results)
        kept = found[:MOST]
        rules = sorted({finding.rule for finding in kept})
        written = [
            _result(finding, rules.index(finding.rule), key)
            for finding, key in zip(kept, fingerprints(kept), strict=True)
        ]
        if len(found) > MOST:
            more = f"{len(found) - MOST:,} more findings are omitted: code scanning shows no more than {MOST:,}"
            written.append({"ruleId": "convstat/more", "level": "note", "message": {"text": more}})
        kinds = "+".join(dict.fromkeys(result.kind for result in results))
        run = {
            "tool": {"driver": {"name": "convstat", "version": __version__, "rules": list(map(_rule, rules))}},
            "automationDetails": {"id": "/".join(filter(None, ("convstat", kinds, options.title))) + "/"},
            "columnKind": "unicodeCodePoints",
            "results": written,
        }
        return to_json({"$schema": SCHEMA, "version": "2.1.0", "runs": [run]})


def _rule(rule: str) -> dict[str, Any]:
    kind, _, about = rule.partition("/")
    return {
        "id": rule,
        "name": "".join(part.capitalize() for part in f"{kind}_{about}".split("_")),
        "shortDescription": {"text": RULES[kind]},
        "properties": {"tags": ["model-cost", about]},
    }


def _result(finding: Finding, rule: int, fingerprint: str) -> dict[str, Any]:
    result: dict[str, Any] = {
        "ruleId": finding.rule,
        "ruleIndex": rule,
        "level": finding.level,
        # Brackets are links in a message, and a backslash takes that meaning from them.
        "message": {"text": _plain("\n".join([finding.text, *finding.details]))},
        "partialFingerprints": {"convstat/v1": fingerprint},
    }
    location: dict[str, Any] = {}
    if finding.file is not None:
        from urllib.parse import quote

        uri = quote(repository_path(finding.file).encode("utf-8", "surrogateescape"))
        location["physicalLocation"] = {
            "artifactLocation": {"uri": uri, "uriBaseId": "%SRCROOT%"},
            "region": {"startLine": finding.line},
        }
    if finding.layer is not None:
        location["logicalLocations"] = [{"fullyQualifiedName": finding.layer, "kind": "element"}]
    if location:
        result["locations"] = [location]
    return result


def _plain(text: str) -> str:
    r"""Take from a message what SARIF would read as a link.

    >>> print(_plain("x[/b](c)"))
    x\[/b\](c)
    """
    return text.replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
