"""Texts as they were: the files of a git repository at a revision, and where a branch left another.

git is asked, never changed: no hook, no filter of a diff and no pager of the user's runs.
What cannot be answered is an error that says what to type.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from convstat.errors import SourceError, UsageError, did_you_mean

SECONDS = 60
"""How long git may take."""

_OPTIONS = ("-c", "core.fsmonitor=false", "-c", "core.quotePath=false", "--no-pager")
_OWN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
_SPECS = ("--", "*.yaml", "*.yml")
_BLOB = re.compile(rb"[0-9a-f]{40,64} (\w+) (\d+)")
_OTHER = re.compile(rb"(symlink|dangling|loop|notdir) (\d+)")


class Moved(NamedTuple):
    """A file that is not what it was: ``status`` is A, D, M or R; ``old`` and ``new`` are its paths."""

    status: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Repository:
    """A git repository, by the top of its working tree."""

    top: str

    def relative(self, path: str) -> str | None:
        """Give a path as git calls it; None for one that is not in the working tree."""
        found = os.path.relpath(os.path.realpath(path), self.top)
        return None if found == os.pardir or found.startswith(os.pardir + os.sep) else found.replace(os.sep, "/")

    def shown(self, path: str) -> str:
        """Give a path of git's as one from the working directory."""
        return os.path.relpath(os.path.join(self.top, path))

    def ask(self, *arguments: str, given: bytes | None = None, fails: bool = True) -> bytes | None:
        """Run git; where it fails, raise SourceError, or give None where that is an answer."""
        import subprocess

        # A hook of git is told its repository by the environment, and this may be another.
        environment = {name: value for name, value in os.environ.items() if name not in _OWN}
        environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
        try:
            answer = subprocess.run(
                ["git", *_OPTIONS, "-C", self.top, *arguments],
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                env=environment,
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise SourceError("git is not installed, and a revision is asked for") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SourceError(f"git does not answer: {error}") from None
        if answer.returncode == 0:
            return answer.stdout
        said = answer.stderr.decode("utf-8", "replace").strip()
        if "dubious ownership" in said:
            raise SourceError(
                f"git does not trust {self.top}: it belongs to another user",
                help=f"git config --global --add safe.directory {self.top}",
            )
        if not fails:
            return None
        raise SourceError(f"git {arguments[0]}: {said.splitlines()[0] if said else f'failed in {self.top}'}")

    @property
    def is_shallow(self) -> bool:
        """Whether history is cut off: a clone with a depth."""
        return (self.ask("rev-parse", "--is-shallow-repository") or b"").strip() == b"true"

    def commit(self, revision: str) -> str:
        """Give the commit that a revision names; raises UsageError for one that git does not know."""
        found = None
        # What starts with a dash would be an option.
        if revision and not revision.startswith("-") and "\0" not in revision:
            found = self.ask("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}", fails=False)
        if found is not None:
            return found.decode().strip()
        if self.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}", fails=False) is None:
            raise UsageError(f"git knows no revision '{revision}': there is no commit yet")
        names = self.names()
        help = list(did_you_mean(revision, names))
        if not help and names:
            help.append(f"branches and tags here: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
        remote, slash, branch = revision.partition("/")
        if slash and branch and remote in self._remotes():
            help.append(f"fetch it: git fetch {remote} {branch}:refs/remotes/{revision}")
        if self.is_shallow:
            help.append(SHALLOW)
        raise UsageError(f"git knows no revision '{revision}'", help=help)

    def merge_base(self, revision: str) -> str:
        """Give the commit at which HEAD left a revision."""
        theirs = self.commit(revision)
        found = self.ask("merge-base", "HEAD", theirs, fails=False)
        if found:
            return found.decode().split()[0]
        if self.is_shallow:
            raise UsageError(
                f"HEAD and '{revision}' have no common commit here: this is a shallow clone, its history is cut off",
                help=SHALLOW,
            )
        raise UsageError(
            f"HEAD and '{revision}' have no common commit",
            help="name a base that HEAD comes from, or compare with a saved report: --base report.json",
        )

    def names(self) -> list[str]:
        """The branches and tags, for messages."""
        found = self.ask("for-each-ref", "--count=500", "--format=%(refname:short)", fails=False) or b""
        return found.decode("utf-8", "replace").split()

    def _remotes(self) -> list[str]:
        return (self.ask("remote", fails=False) or b"").decode("utf-8", "replace").split()

    def read(self, commit: str, paths: Iterable[str]) -> dict[str, bytes | None]:
        """Read files as they are in a commit, all with one process; None for one that is not there."""
        wanted = [path for path in dict.fromkeys(paths) if "\n" not in path]
        if not wanted:
            return {}
        asked = "".join(f"{commit}:{path}\n" for path in wanted).encode("utf-8", "surrogateescape")
        answer = self.ask("cat-file", "--batch", "--follow-symlinks", given=asked) or b""
        found: dict[str, bytes | None] = {}
        at = 0
        for path in wanted:
            end = answer.index(b"\n", at)
            head, at = answer[at:end], end + 1
            found[path] = None
            if match := _BLOB.fullmatch(head) or _OTHER.fullmatch(head):
                size = int(match[2])
                if match[1] == b"blob":
                    found[path] = answer[at : at + size]
                at += size + 1
        return found

    def moved(self, old: str, new: str | None = None, *, untracked: bool = False) -> list[Moved]:
        """List the specs that differ between two commits, or a commit and the working tree, with renames followed.

        What git does not track is no part of that, unless ``untracked`` asks for it.
        """
        ends = [old] if new is None else [old, new]
        answer = self.ask(
            "diff", "--name-status", "-z", "--find-renames", "--no-ext-diff", "--no-textconv", *ends, *_SPECS
        )
        parts = (answer or b"").decode("utf-8", "surrogateescape").split("\0")
        found = []
        position = 0
        while position + 1 < len(parts):
            status = parts[position][:1]
            paths = parts[position + 1 : position + (3 if status in "RC" else 2)]
            position += 1 + len(paths)
            if is_spec_path(paths[-1]) or is_spec_path(paths[0]):
                found.append(Moved("A" if status == "C" else status, paths[0], paths[-1]))
        if untracked and new is None:
            others = self.ask("ls-files", "--others", "--exclude-standard", "-z", "--full-name", *_SPECS, fails=False)
            names = (others or b"").decode("utf-8", "surrogateescape").split("\0")
            found += [Moved("A", name, name) for name in names if is_spec_path(name)]
        return found


SHALLOW = (
    "fetch all history: git fetch --unshallow, or in GitHub Actions: uses: actions/checkout with fetch-depth: 0"
    " (GitLab: GIT_DEPTH: 0)"
)


def is_spec_path(path: str) -> bool:
    """Whether a file can be a spec, by its name."""
    return path.endswith((".yaml", ".yml"))


def is_spec(data: bytes | None) -> bool:
    """Whether a text starts as specs do, and is not some other YAML."""
    return data is not None and re.search(rb"^(\xef\xbb\xbf)?[\"']?convstat[\"']?\s*:", data, re.MULTILINE) is not None


def find(path: str = ".") -> Repository | None:
    """Find the repository that a file or folder is in; None where there is none."""
    folder = os.path.realpath(path)
    if not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    while True:
        if os.path.exists(os.path.join(folder, ".git")):
            return Repository(folder)
        above = os.path.dirname(folder)
        if above == folder:
            return None
        folder = above


def here(what: str) -> Repository:
    """Find the repository of the working directory; raises UsageError where there is none."""
    found = find()
    if found is None:
        raise UsageError(
            f"{what} is a revision, and this is not a git repository",
            help=(
                "run it in the repository",
                "or compare two targets or saved reports: convstat diff old.yaml new.yaml",
            ),
        )
    return found


def split(argument: str) -> tuple[str, str] | None:
    """Take ``REV:path`` apart, by its form; None for a path alone.

    >>> split("main:configs/net.yaml"), split("net.yaml"), split("./a:b.yaml")
    (('main', 'configs/net.yaml'), None, None)
    """
    revision, colon, path = argument.partition(":")
    if not colon or not revision or not path or revision.startswith((".", "/", "-")) or "\\" in path[:1]:
        return None
    return revision, path


def read(revision: str, path: str) -> bytes:
    """Read one file at a revision; ``path`` is from the top of the repository, as in git, or starts with a dot."""
    repository = here(f"'{revision}:{path}'")
    commit = repository.commit(revision)
    place = path
    if path.startswith("."):
        inside = repository.relative(path)
        if inside is None:
            raise UsageError(f"'{path}' is not in the repository at {repository.top}")
        place = inside
    data = repository.read(commit, [place]).get(place)
    if data is not None:
        return data
    known = files_at(repository, commit)
    near = did_you_mean(place, known)
    help = [line for line in near if line] or [
        "paths at a revision are from the top of the repository; ./path from here"
    ]
    inside = repository.relative(path)
    if inside in known:
        help = [f"from here it is {revision}:./{path}"]
    raise UsageError(f"there is no file '{place}' at {revision}", help=help)


def files_at(repository: Repository, commit: str) -> Sequence[str]:
    """The specs and saved reports of a commit."""
    listed = repository.ask("ls-tree", "-r", "-z", "--name-only", "--full-tree", commit) or b""
    names = listed.decode("utf-8", "surrogateescape").split("\0")
    return [name for name in names if name.endswith((".yaml", ".yml", ".json"))][:10_000]
