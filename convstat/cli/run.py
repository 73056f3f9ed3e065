"""One run: whatever happens ends in an exit code, and never in a traceback on the screen."""

from __future__ import annotations

import errno
import os
import re
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from convstat.errors import ConvstatError, Diagnostic, ExitCode, InternalError, torch_is_missing

MOST_PROBLEMS = 20
"""More problems than this are only counted."""


def run(arguments: Sequence[str]) -> int:
    """Run a command and give its exit code: what it returns, or what its error says."""
    try:
        return _call(list(arguments))
    except ConvstatError as error:
        show_problems(error.diagnostics)
        return int(error.exit_code)
    except KeyboardInterrupt:
        _say("interrupted")
        return int(ExitCode.INTERRUPTED)
    except Exception as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "torch":
            show_problems(torch_is_missing("this").diagnostics)
            return int(ExitCode.USAGE)
        if (reason := _outside(error)) is not None:
            _discard_what_cannot_be_written()
            show_problems([Diagnostic(reason)])
            return int(ExitCode.USAGE)
        return _crash(error, arguments)
    except SystemExit:
        # Of ours, and what answers the shell: that of foreign code does not come so far.
        raise
    except BaseException as error:
        # No exception leaves in another way, whoever raised it where nobody thought of it.
        return _crash(error, arguments)


OUTSIDE = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.EIO, errno.EROFS, errno.ENOMEM, errno.ENOBUFS,
     errno.EPIPE, errno.ESTALE, errno.EFBIG, errno.EAGAIN, errno.ETXTBSY}
)  # fmt: skip
"""What the system refuses, whatever it is that is asked for: no fault of the program's."""


def _outside(error: BaseException) -> str | None:
    """Say in a sentence what of the surroundings is the cause of an error; None where it is a fault of ours."""
    if os.environ.get("_CONVSTAT_COMPLETE") and isinstance(error, (KeyError, ValueError)):
        return "not a completion request: the shell sets COMP_WORDS and COMP_CWORD, or _TYPER_COMPLETE_ARGS"
    if isinstance(error, FileNotFoundError) and not _is_somewhere():
        return "the working directory no longer exists"
    refused = {os.strerror(number) for number in OUTSIDE}
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, OSError) and found.errno in OUTSIDE:
            more = f": {found.filename}" if found.filename else ""
            return f"cannot continue: {os.strerror(found.errno).lower()}{more}"
        # The loader of libraries says it in a text alone.
        if isinstance(found, ImportError) and (said := [text for text in refused if str(found).endswith(text)]):
            return f"cannot continue: {said[0].lower()}"
        found = found.__cause__
    return None


def _is_somewhere() -> bool:
    try:
        os.getcwd()
    except OSError:
        return False
    return True


def _discard_what_cannot_be_written() -> None:
    """Whatever is left in a stream that is full would make a second error as the process ends."""
    from convstat.patches.streams import result_stream
    from convstat.render.console import discard

    for stream in (result_stream(), sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            discard(stream)
        except AttributeError:
            continue


def _call(arguments: list[str]) -> int:
    import typer

    from convstat.cli.app import app_for

    command = typer.main.get_command(app_for(arguments, os.environ))
    try:
        result: Any = command.main(args=arguments, prog_name="convstat", standalone_mode=False)
    except typer.Exit as error:
        return error.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except Exception as error:
        # Typer's mistakes in arguments have no public base; this is what they all can do.
        if not callable(getattr(error, "format_message", None)):
            raise
        return _usage(error)
    if result == ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    return int(result or 0)


def _usage(error: Any) -> int:
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
        return int(ExitCode.USAGE)
    message = error.format_message().rstrip(".")
    first, *rest = [line for line in message.splitlines() if line.strip()] or ["cannot read the arguments"]
    # Typer puts its suggestion behind the message, in the same line.
    text, *suggestions = re.split(r" Did you mean | \(Possible options: ", first, maxsplit=1)
    help = [f"did you mean {words.rstrip(').?').replace(', ', ' or ')}?" for words in suggestions]
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "convstat"
    help.append(f"see: {where} --help")
    text = text.rstrip(".")
    show_problems([Diagnostic(text[:1].lower() + text[1:], notes=tuple(rest), help=tuple(help))])
    return int(error.exit_code)


def show_problems(problems: Sequence[Diagnostic]) -> None:
    """Write problems to standard error, a blank line between two, the number of them at the end."""
    from convstat.render.console import standard_error
    from convstat.render.problems import safe_lines

    errors = sum(problem.severity == "error" for problem in problems)
    more = f", the first {MOST_PROBLEMS} are shown" if len(problems) > MOST_PROBLEMS else ""
    count = [f"{errors:,} errors{more}"] if errors > 1 else []
    # Where nobody listens on standard error, the exit code says it too.
    with suppress(ConvstatError):
        terminal = standard_error()
        if problems and terminal.colour:
            from rich.text import Text

            from convstat.render.problems import drawn

            parts = [drawn(problem, ascii=terminal.ascii) for problem in problems[:MOST_PROBLEMS]]
            parts += [Text(text, "bold") for text in count]
            terminal.draw([Text("\n\n").join(parts)], wrap=False)
        elif problems:
            texts = ["\n".join(safe_lines(problem)) for problem in problems[:MOST_PROBLEMS]]
            terminal.write("\n\n".join([*texts, *count]) + "\n")


def _say(text: str) -> None:
    from convstat.render.console import standard_error

    with suppress(ConvstatError):
        standard_error().write(f"{text}\n")


def verbosity(arguments: Sequence[str]) -> int:
    """Count the ``-v`` of a command line, wherever they are."""
    return sum(
        argument.count("v") if re.fullmatch("-[qv]+", argument) else argument == "--verbose" for argument in arguments
    )


def _crash(error: BaseException, arguments: Sequence[str]) -> int:
    import traceback

    text = "".join(traceback.format_exception(error))
    name = "" if isinstance(error, InternalError) else f"{type(error).__name__}: "
    summary = f"{name}{' '.join(str(error).split())}"[:300]
    try:
        place = _write_log(text, arguments)
        note = f"the details are in {place}"
    except OSError as failure:
        note = f"the details could not be saved: {failure.strerror}; show them with -vv"
    show_problems([Diagnostic(f"internal error: {summary}", notes=(note,))])
    if verbosity(arguments) >= 2:
        _say(text.rstrip())
    return int(ExitCode.INTERNAL)


def _write_log(text: str, arguments: Sequence[str]) -> str:
    import platform
    import shlex
    import tempfile
    from importlib import metadata

    versions = [f"python {platform.python_version()} on {platform.platform()}"]
    for name in ("convstat", "torch", "ptflops", "torchsummary", "typer", "rich", "pyyaml"):
        try:
            versions.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            versions.append(f"{name} is not installed")
    handle, path = tempfile.mkstemp(prefix="convstat-", suffix=".log", text=True)
    with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as log:
        log.write("\n".join([f"$ convstat {shlex.join(arguments)}", "", *versions, "", text]))
    return path
