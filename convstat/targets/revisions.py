"""Texts as they were: the files of a git repository at a revision, and where a branch left another.

git is asked for names and objects, by commands that run nothing of the repository's: no hook, filter, monitor, diff,
pager or transport that its configuration names. So a working tree is compared with a commit by its bytes, and an
object that a partial clone does not have is missing.
What cannot be answered is an error that says what to type.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from convstat.errors import SourceError, UsageError, did_you_mean

SECONDS = 60
"""How long git may take."""

_OPTIONS = (
    "-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=false",
    "-c", "protocol.allow=never", "--no-pager", "--literal-pathspecs",
)  # fmt: skip
_OWN = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY")
_ENVIRONMENT = {
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C",
    # Older versions of git know only the second of these: then fetching a missing object is refused.
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_ALLOW_PROTOCOL": "none",
}
_NO_FETCH = re.compile(r"lazy fetching disabled|transport '.*' not allowed|promisor remote|missing blob")
_ENTRY = re.compile(r"(\d+) (\w+) ([0-9a-f]{40}|[0-9a-f]{64})\t(.+)", re.DOTALL)
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_BLOB = re.compile(rb"[0-9a-f]{40,64} (\w+) (\d+)")
_OTHER = re.compile(rb"(symlink|dangling|loop|notdir) (\d+)")
_ENDINGS = (".yaml", ".yml")


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
        environment = {name: value for name, value in os.environ.items() if name not in _OWN} | _ENVIRONMENT
        try:
            answer = subprocess.run(
                ["git", *_OPTIONS, "-C", self.top, f"--work-tree={self.top}", *arguments],
                input=given,
                stdin=subprocess.DEVNULL if given is None else None,
                capture_output=True,
                env=environment,
                timeout=SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise SourceError("a revision needs git, which is not installed") from None
        except subprocess.TimeoutExpired:
            raise SourceError(f"git {arguments[0]} took more than {SECONDS} seconds in {self.top}") from None
        except (OSError, ValueError) as error:
            raise SourceError(f"git does not respond: {getattr(error, 'strerror', None) or error}") from None
        if answer.returncode == 0:
            return answer.stdout
        said = answer.stderr.decode("utf-8", "replace").strip()
        if "dubious ownership" in said:
            raise SourceError(
                f"git does not trust {self.top}: it belongs to another user",
                help=f"git config --global --add safe.directory {self.top}",
            )
        if _NO_FETCH.search(said):
            raise self._missing("an object")
        if not fails:
            return None
        raise SourceError(f"git {arguments[0]}: {said.splitlines()[0] if said else f'failed in {self.top}'}")

    def _missing(self, what: str, place: str = "") -> SourceError:
        get = f"git show {place} >/dev/null" if place else "git fetch --refetch --no-filter"
        return SourceError(
            f"this clone does not have {what}, and nothing is fetched: it is a partial clone, or damaged",
            help=f"to fetch it: {get}",
        )

    def one(self, *arguments: str) -> str | None:
        """Run git for one commit, the first where there are several; None where it has none."""
        answer = self.ask(*arguments, fails=False)
        if answer is None:
            return None
        found = answer.decode("utf-8", "replace").split("\n", 1)[0]
        if not _COMMIT.fullmatch(found):
            raise _garbled(arguments[0])
        return found

    @property
    def is_shallow(self) -> bool:
        """Whether history is cut off: a clone with a depth."""
        return (self.ask("rev-parse", "--is-shallow-repository") or b"").strip() == b"true"

    def commit(self, revision: str) -> str:
        """Give the commit that a revision names; raises UsageError for one that git does not know."""
        found = None
        # What starts with a dash would be an option.
        if revision and not revision.startswith("-") and "\0" not in revision:
            found = self.one("rev-parse", "--verify", "--quiet", f"{revision}^{{commit}}")
        if found is not None:
            return found
        if self.ask("rev-parse", "--verify", "--quiet", "HEAD^{commit}", fails=False) is None:
            raise UsageError(f"unknown git revision '{revision}': there is no commit yet")
        names = self.names()
        help = list(did_you_mean(revision, names))
        if not help and names:
            help.append(f"branches and tags here: {', '.join(names[:5])}{', ...' if len(names) > 5 else ''}")
        remote, slash, branch = revision.partition("/")
        remotes = (self.ask("remote", fails=False) or b"").decode("utf-8", "replace").split()
        if slash and branch and remote in remotes:
            help.append(f"fetch it: git fetch {remote} {branch}:refs/remotes/{revision}")
        if self.is_shallow:
            help.append(SHALLOW)
        raise UsageError(f"unknown git revision '{revision}'", help=help)

    def merge_base(self, revision: str) -> str:
        """Give the commit at which HEAD left a revision."""
        theirs = self.commit(revision)
        found = self.one("merge-base", "HEAD", theirs)
        if found is not None:
            return found
        if self.is_shallow:
            raise UsageError(
                f"HEAD and '{revision}' have no common commit here: this is a shallow clone with truncated history",
                help=SHALLOW,
            )
        raise UsageError(
            f"HEAD and '{revision}' have no common commit",
            help="name an ancestor of HEAD, or compare with a saved report: --base report.json",
        )

    def names(self) -> list[str]:
        """The branches and tags, for messages."""
        found = self.ask("for-each-ref", "--count=500", "--format=%(refname:short)", fails=False) or b""
        return found.decode("utf-8", "replace").split()

    def read(self, commit: str, paths: Iterable[str]) -> dict[str, bytes | None]:
        """Read files as they are in a commit, all with one process; None for one that is not there."""
        wanted = list(dict.fromkeys(paths))
        simple = [path for path in wanted if "\n" not in path]
        found = dict(zip(simple, self._objects([f"{commit}:{path}" for path in simple]), strict=True))
        # A question takes a line, so a name of two lines is looked up first.
        if odd := [path for path in wanted if "\n" in path]:
            entries = self.tree(commit, odd)
            there = [path for path in odd if path in entries]
            found |= dict.fromkeys(odd)
            found |= zip(there, self._objects([entries[path].object for path in there]), strict=True)
        absent = [path for path, data in found.items() if data is None]
        for path, entry in self.tree(commit, absent).items() if absent else ():
            # A link may lead to nothing; a file that is listed has a text.
            if not entry.is_link and path in absent:
                raise self._missing(f"the text of {path}", f"{commit[:12]}:{path}")
        return {path: found[path] for path in wanted}

    def _objects(self, names: Sequence[str]) -> list[bytes | None]:
        """Read objects; links are followed inside the commit. None for what is no file, or not there."""
        if not names:
            return []
        asked = "".join(f"{name}\n" for name in names).encode("utf-8", "surrogateescape")
        answer = self.ask("cat-file", "--batch", "--follow-symlinks", given=asked) or b""
        found: list[bytes | None] = []
        at = 0
        for _ in names:
            end = answer.find(b"\n", at)
            if end < 0:
                raise _garbled("cat-file")
            head, at = answer[at:end], end + 1
            data = None
            if match := _BLOB.fullmatch(head) or _OTHER.fullmatch(head):
                size = int(match[2][:12])
                if len(answer) < at + size:
                    raise _garbled("cat-file")
                if match[1] == b"blob":
                    data = answer[at : at + size]
                at += size + 1
            elif not head.endswith((b" missing", b" ambiguous")):
                raise _garbled("cat-file")
            found.append(data)
        return found

    def tree(self, commit: str, paths: Sequence[str] = ()) -> dict[str, File]:
        """List the files of a commit, all or some."""
        asked = ("--", *paths) if paths else ()
        # A path that cannot be in a tree, such as one that leads out of it, is not there.
        answer = self.ask("ls-tree", "-r", "-z", "--full-tree", commit, *asked, fails=not paths) or b""
        found = {}
        for line in answer.decode("utf-8", "surrogateescape").split("\0")[:-1]:
            match = _ENTRY.fullmatch(line)
            if match is None:
                raise _garbled("ls-tree")
            if match[2] == "blob":
                found[match[4]] = File(match[3], match[1] == "120000")
        return found

    def _working(self, like: str, *, untracked: bool) -> dict[str, File]:
        """Give the specs of the working tree, with the objects that their bytes would be."""
        names = self.ask("ls-files", "-z", "--cached", "--full-name") or b""
        if untracked:
            names += self.ask("ls-files", "-z", "--others", "--exclude-standard", "--full-name") or b""
        found = {}
        for name in dict.fromkeys(names.decode("utf-8", "surrogateescape").split("\0")):
            if is_spec_path(name) and (file := self._hashed(name, like)) is not None:
                found[name] = file
        return found

    def _hashed(self, name: str, like: str) -> File | None:
        """Name the object that a file of the working tree would be; None where there is no file."""
        import hashlib

        path = os.path.join(self.top, name)
        try:
            about = os.lstat(path)
            digest = hashlib.new("sha256" if len(like) == 64 else "sha1", usedforsecurity=False)
            digest.update(b"blob %d\0" % about.st_size)
            if stat.S_ISLNK(about.st_mode):
                digest.update(os.fsencode(os.readlink(path)))
            elif stat.S_ISREG(about.st_mode):
                with open(path, "rb") as stream:
                    while piece := stream.read(1 << 20):
                        digest.update(piece)
            else:
                return None
        except (OSError, ValueError):
            return None
        return File(digest.hexdigest(), stat.S_ISLNK(about.st_mode))

    def moved(self, old: str, new: str | None = None, *, untracked: bool = False) -> list[Moved]:
        """List the specs that differ between two commits, or a commit and the working tree, with renames followed.

        What git does not track is no part of that, unless ``untracked`` asks for it.
        """
        before = {path: file for path, file in self.tree(old).items() if is_spec_path(path)}
        if new is None:
            after = self._working(old, untracked=untracked)
        else:
            after = {path: file for path, file in self.tree(new).items() if is_spec_path(path)}
        gone = {path: file for path, file in before.items() if path not in after}
        come = {path: file for path, file in after.items() if path not in before}
        renamed = self._renamed(gone, come, new)
        found = [Moved("M", path, path) for path in before if path in after and before[path] != after[path]]
        found += [Moved("R", was, path) for path, was in renamed.items()]
        found += [Moved("D", path, path) for path in gone if path not in renamed.values()]
        found += [Moved("A", path, path) for path in come if path not in renamed]
        return sorted(found, key=lambda move: move.new)

    def _renamed(self, gone: Mapping[str, File], come: Mapping[str, File], new: str | None) -> dict[str, str]:
        """Pair files that are new with those that are gone: with the same text, or with most of it, as git does."""
        pairs: list[tuple[float, bool, str, str]] = []
        if 0 < len(gone) * len(come) <= MOST_PAIRS:
            texts = dict(zip(gone, self._objects([file.object for file in gone.values()]), strict=True))
            if new is None:
                now = {path: self.here(path) for path in come}
            else:
                now = dict(zip(come, self._objects([file.object for file in come.values()]), strict=True))
            for path, data in now.items():
                for was, text in texts.items():
                    if data is None or text is None or not (is_spec(data) and is_spec(text)):
                        continue
                    alike = 1.0 if come[path] == gone[was] else likeness(text, data)
                    if alike >= ALIKE:
                        pairs.append((alike, os.path.basename(path) == os.path.basename(was), path, was))
        found: dict[str, str] = {}
        for _, _, path, was in sorted(pairs, key=lambda pair: (-pair[0], not pair[1], pair[2:])):
            if path not in found and was not in found.values():
                found[path] = was
        return found

    def here(self, path: str) -> bytes | None:
        """Read a file of the working tree, up to what is too large for a spec; None where there is none to read."""
        from convstat.spec.load import MAX_BYTES
        from convstat.text.reading import read_file

        try:
            return read_file(os.path.join(self.top, path), MAX_BYTES)
        except (OSError, ValueError):
            return None


class File(NamedTuple):
    """A file as git sees it: the object that its bytes are, and whether those are where a link leads."""

    object: str
    is_link: bool


ALIKE = 0.5
"""The part of two texts that is the same where one is taken for the other renamed: git's own threshold."""

MOST_PAIRS = 250_000
"""With more pairs of files that are new and gone, none is taken for a renamed one."""


def likeness(one: bytes, other: bytes) -> float:
    r"""Give the part of the larger of two texts that is in lines which both have.

    >>> likeness(b"a\nb\n", b"b\nc\n"), likeness(b"a\n", b"a\n")
    (0.5, 1.0)
    """
    from collections import Counter

    shared = Counter(one.splitlines(keepends=True)) & Counter(other.splitlines(keepends=True))
    return sum(len(line) * times for line, times in shared.items()) / max(len(one), len(other), 1)


def _garbled(command: str) -> SourceError:
    return SourceError(f"git {command} gave unreadable output", help="is the git in PATH the real one?")


SHALLOW = (
    "fetch all history: git fetch --unshallow, or in GitHub Actions: uses: actions/checkout with fetch-depth: 0"
    " (GitLab: GIT_DEPTH: 0)"
)


def is_spec_path(path: str) -> bool:
    """Whether a file can be a spec, by its name."""
    return path.endswith(_ENDINGS)


def is_spec(data: bytes | None) -> bool:
    """Whether a text starts as specs do, and is not some other YAML."""
    return data is not None and re.search(rb"^(\xef\xbb\xbf)?[\"']?convstat[\"']?\s*:", data, re.MULTILINE) is not None


def find(path: str = ".") -> Repository | None:
    """Find the repository that a file or folder is in; None where there is none."""
    place = Path(os.path.realpath(path))
    tops = (folder for folder in (place, *place.parents) if os.path.exists(folder / ".git"))
    return next((Repository(str(top)) for top in tops), None)


def here(what: str) -> Repository:
    """Find the repository of the working directory; raises UsageError where there is none."""
    found = find()
    if found is None:
        raise UsageError(
            f"{what} is a revision, but this is not a git repository",
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
        "paths at a revision are relative to the top of the repository; ./path is relative to the working directory"
    ]
    inside = repository.relative(path)
    if inside in known:
        help = [f"relative to the working directory: {revision}:./{path}"]
    raise UsageError(f"there is no file '{place}' at {revision}", help=help)


def files_at(repository: Repository, commit: str) -> Sequence[str]:
    """The specs and saved reports of a commit."""
    return [name for name in repository.tree(commit) if name.endswith((*_ENDINGS, ".json"))][:10_000]
